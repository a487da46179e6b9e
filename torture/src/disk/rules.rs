//! Which calls break, and how. The layer's side of it is at the head of `disk/shim.c`.

use std::fmt::Write as _;

pub(super) const CONTROL_BYTES: usize = 4096;
pub(super) const TEXT_AT: u64 = 64;
pub(super) const COUNTS_AT: u64 = 3072;
pub(super) const MAX_RULES: usize = 16;

/// Calls of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Reads of files.
    Read,
    /// Opening what exists, for reading.
    Open,
    /// Opening what exists, for writing.
    OpenToWrite,
    /// Making a file.
    Create,
    /// Writes of all kinds.
    Write,
    /// Setting the length of a file.
    Truncate,
    /// `fsync` and `fdatasync`, of files and folders.
    Sync,
    /// Giving a file another name.
    Rename,
    /// Removing a file or folder.
    Unlink,
    /// Making a folder.
    MakeFolder,
}

/// Everything that needs space on the disk.
pub const NEEDS_SPACE: &[Call] = &[Call::Write, Call::Create, Call::MakeFolder];

/// Everything that changes the disk.
pub const CHANGES: &[Call] = &[
    Call::OpenToWrite,
    Call::Create,
    Call::Write,
    Call::Truncate,
    Call::Rename,
    Call::Unlink,
    Call::MakeFolder,
];

/// What a call fails with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errno {
    /// EIO: the disk failed.
    Io = 5,
    /// EACCES: no permission.
    Access = 13,
    /// ENOSPC: the disk is full.
    NoSpace = 28,
    /// EROFS: the file system is mounted for reading only.
    ReadOnly = 30,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Fail(Errno),
    Short(Errno),
    KillBefore,
    KillHalfway,
    KillAfter,
    Delay(u64),
    Lie,
}

/// One rule: which calls it is about, on which paths, which of those it hits, and what it does to them.
#[derive(Clone, Debug)]
#[must_use = "a rule does nothing before a disk is told of it"]
pub struct Rule {
    calls: Vec<Call>,
    pattern: String,
    skip: u64,
    count: u64,
    action: Action,
}

impl Rule {
    /// Calls of these kinds on paths that match a glob, in which `*` matches slashes too. All of them, until
    /// [`Rule::skip`] and [`Rule::count`] say less; they fail with EIO until another word is spoken.
    pub fn on(calls: &[Call], pattern: &str) -> Self {
        assert!(!pattern.contains('\n') && pattern.len() < 127);
        let action = Action::Fail(Errno::Io);
        Self { calls: calls.to_vec(), pattern: pattern.to_owned(), skip: 0, count: 0, action }
    }

    /// Lets so many of them pass first.
    pub fn skip(self, skip: u64) -> Self {
        Self { skip, ..self }
    }

    /// Hits only so many.
    pub fn count(self, count: u64) -> Self {
        Self { count, ..self }
    }

    /// They do nothing and fail.
    pub fn fails(self, with: Errno) -> Self {
        Self { action: Action::Fail(with), ..self }
    }

    /// Half of the first write is written; what follows fails.
    pub fn falls_short(self, with: Errno) -> Self {
        Self { action: Action::Short(with), ..self }
    }

    /// The program is killed before the call.
    pub fn kills_before(self) -> Self {
        Self { action: Action::KillBefore, ..self }
    }

    /// The program is killed when half of a write is done.
    pub fn kills_halfway(self) -> Self {
        Self { action: Action::KillHalfway, ..self }
    }

    /// The program is killed when the call has been done.
    pub fn kills_after(self) -> Self {
        Self { action: Action::KillAfter, ..self }
    }

    /// They take longer, in microseconds.
    pub fn takes(self, micros: u64) -> Self {
        Self { action: Action::Delay(micros), ..self }
    }

    /// Syncs say that they have been done, and nothing was.
    pub fn lies(self) -> Self {
        assert_eq!(self.calls, [Call::Sync]);
        Self { action: Action::Lie, ..self }
    }

    fn line(&self) -> String {
        let mut line = match self.action {
            Action::Fail(errno) => format!("fail:{}", errno as i32),
            Action::Short(errno) => format!("short:{}", errno as i32),
            Action::KillBefore => "before".to_owned(),
            Action::KillHalfway => "half".to_owned(),
            Action::KillAfter => "after".to_owned(),
            Action::Delay(micros) => format!("delay:{micros}"),
            Action::Lie => "lie".to_owned(),
        };
        let calls: Vec<_> = self.calls.iter().map(|call| call.name()).collect();
        writeln!(line, " {} {} {} {}", calls.join(","), self.skip, self.count, self.pattern)
            .expect("a string takes what it is given");
        line
    }
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Open => "open",
            Self::OpenToWrite => "open-write",
            Self::Create => "create",
            Self::Write => "write",
            Self::Truncate => "truncate",
            Self::Sync => "sync",
            Self::Rename => "rename",
            Self::Unlink => "unlink",
            Self::MakeFolder => "mkdir",
        }
    }
}

/// What the layer reads, zeros up to its end.
pub(super) fn text(rules: &[Rule]) -> Vec<u8> {
    assert!(rules.len() <= MAX_RULES, "at most {MAX_RULES} rules");
    let mut text: Vec<u8> = rules.iter().map(Rule::line).collect::<String>().into_bytes();
    let room = usize::try_from(COUNTS_AT - TEXT_AT).expect("a page is small");
    assert!(text.len() < room, "the rules are too long");
    text.resize(room, 0);
    text
}
