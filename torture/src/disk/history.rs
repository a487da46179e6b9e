//! The log of the layer, read back.

/// Something that was done to the disk. Paths are relative to its root, which is the empty path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A program began; files that an earlier one had open are closed.
    Start {
        /// Its process id.
        pid: u64,
    },
    /// A file or folder was opened.
    Open {
        /// Names it in the events that follow.
        handle: u32,
        /// Its path.
        path: String,
        /// It was made by this.
        created: bool,
        /// It lost its bytes by this.
        emptied: bool,
    },
    /// Bytes were written.
    Write {
        /// The file.
        handle: u32,
        /// Where, in bytes.
        offset: u64,
        /// What.
        data: Vec<u8>,
    },
    /// The length of a file was set.
    Truncate {
        /// The file.
        handle: u32,
        /// In bytes.
        length: u64,
    },
    /// A sync began.
    SyncBegin {
        /// The file or folder.
        handle: u32,
        /// Number of the sync.
        sync: u64,
    },
    /// A sync ended.
    SyncEnd {
        /// Number of the sync.
        sync: u64,
        /// Whether it succeeded.
        succeeded: bool,
    },
    /// A file or folder got another name; what had that name before is gone.
    Rename {
        /// The old path.
        from: String,
        /// The new one.
        to: String,
    },
    /// A file or an empty folder was removed.
    Unlink {
        /// Its path.
        path: String,
    },
    /// A folder was made.
    MakeFolder {
        /// Its path.
        path: String,
    },
    /// A file got a second name.
    Link {
        /// The first.
        from: String,
        /// The second.
        to: String,
    },
    /// A rule was obeyed.
    Fault {
        /// Index of the rule.
        rule: u64,
        /// The path that was touched.
        path: String,
        /// The call.
        call: String,
    },
    /// A call was made that the layer cannot follow; the model is worth nothing from here on.
    Unsupported {
        /// The path that was touched.
        path: String,
        /// The call.
        call: String,
    },
}

/// Reads a log. A record that is not whole ends it: the program died while it wrote.
pub(super) fn read(mut log: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(event) = next(&mut log) {
        events.push(event);
    }
    events
}

fn next(log: &mut &[u8]) -> Option<Event> {
    let mut rest = *log;
    let mut take = |length: usize| {
        let (taken, left) = rest.split_at_checked(length)?;
        rest = left;
        Some(taken)
    };
    let mut u32 = || Some(u32::from_ne_bytes(take(4)?.try_into().ok()?));
    let (operation, handle) = (u32()?, u32()?);
    let mut u64 = || Some(u64::from_ne_bytes(take(8)?.try_into().ok()?));
    let (a, b) = (u64()?, u64()?);
    let mut u32 = || Some(u32::from_ne_bytes(take(4)?.try_into().ok()?) as usize);
    let (length1, length2) = (u32()?, u32()?);
    let (one, two) = (take(length1)?, take(length2)?);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("a path below the root is UTF-8");
    *log = rest;
    Some(match operation {
        1 => Event::Start { pid: a },
        2 => Event::Open { handle, path: text(one), created: a & 1 != 0, emptied: a & 2 != 0 },
        3 => Event::Write { handle, offset: a, data: two.to_vec() },
        4 => Event::Truncate { handle, length: a },
        5 => Event::SyncBegin { handle, sync: a },
        6 => Event::SyncEnd { sync: a, succeeded: b == 0 },
        7 => Event::Rename { from: text(one), to: text(two) },
        8 => Event::Unlink { path: text(one) },
        9 => Event::MakeFolder { path: text(one) },
        10 => Event::Link { from: text(one), to: text(two) },
        11 => Event::Fault { rule: a, path: text(one), call: text(two) },
        12 => Event::Unsupported { path: text(one), call: text(two) },
        other => panic!("the log of the disk has a record of the unknown kind {other}"),
    })
}
