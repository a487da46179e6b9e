//! The folder of a store: which files it holds, who may use it, and which format they have.
//!
//! ```text
//! format     text; written last when a store is made, so its presence says that the store is whole
//! creating   present only while a store is being made
//! lock       empty; an advisory lock is held on it while the store is open
//! witness    the last acknowledged batch number (module `witness`)
//! engine/    the files of the storage engine
//! aside/     present only while a journal is tried without its end (module `recovery`)
//! unfinished present while rows are brought in from elsewhere (module `load`); says which work that is
//! ```

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

use super::error::OpenError;

/// The newest format that this release reads, and the one that it writes.
pub(super) const NEWEST_FORMAT: u32 = 1;

const TITLE: &str = "sidenote embedded store";
const LOCK: &str = "lock";
const FORMAT: &str = "format";
const CREATING: &str = "creating";
const ASIDE: &str = "aside";
const UNFINISHED: &str = "unfinished";

/// The mark of a folder that is being filled from nothing.
pub(super) const FILLING: &str = "restore or import";

/// Longest mark that is read; ours are far shorter.
const MAX_MARK_BYTES: usize = 200;

/// What a folder is opened for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose<'a> {
    /// To be used: a whole store, or an empty folder for a new one.
    Use,
    /// To be filled from elsewhere: an empty folder, or what is left of an earlier attempt.
    Fill,
    /// To bring something into a whole store; an earlier attempt at the same work (by its mark) may go on.
    Add(&'a str),
}

/// What a folder holds.
#[derive(Debug, PartialEq, Eq)]
enum Contents {
    /// A whole store in a format that this release reads.
    Store,
    /// Nothing, or what is left of a creation that was interrupted before anything could be committed.
    Nothing,
}

/// A folder that this process holds alone for as long as the value lives. The operating system lets go of the
/// lock when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    is_new: bool,
    lock: File,
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that was just started from this one has a copy of the handle
        // until it runs its own program, and would keep the folder locked. If this fails, closing has to do.
        drop(self.lock.unlock());
    }
}

impl Folder {
    /// Makes the folder if need be, refuses what is not ours before writing anything into it, and locks it.
    pub(super) fn acquire(path: &Path, purpose: Purpose<'_>) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { path: path.to_path_buf(), source };
        if !path.try_exists().map_err(io)? {
            fs::create_dir_all(path).map_err(io)?;
            if let Some(parent) = path.canonicalize().map_err(io)?.parent() {
                sync_folder(parent)?;
            }
        }
        contents(path, purpose)?;

        let lock_path = path.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(OpenError::io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { folder: path.to_path_buf() }),
            Err(TryLockError::Error(source)) => return Err(OpenError::Io { path: lock_path, source }),
        }
        // Looked at again under the lock: another process may have made a store here in between.
        let is_new = contents(path, purpose)? == Contents::Nothing;
        if !is_new {
            // Left over if a creation was interrupted at its very last step. It must not outlive that step:
            // beside a lost `format` file it would allow the store to be cleared away.
            remove_if_present(&path.join(CREATING))?;
        }
        Ok(Self { path: path.to_path_buf(), is_new, lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn witness(&self) -> PathBuf {
        self.path.join("witness")
    }

    pub(super) fn engine(&self) -> PathBuf {
        self.path.join("engine")
    }

    /// Whether there is no whole store yet.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Keeps a copy of a journal that is about to be cut.
    pub(super) fn set_journal_aside(&self, journal: &Path) -> Result<(), OpenError> {
        let aside = self.path.join(ASIDE);
        fs::create_dir_all(&aside).map_err(OpenError::io(&aside))?;
        let draft = aside.join("copy");
        let name = journal.file_name().expect("a journal was found by its name in a folder");
        fs::copy(journal, &draft)
            .and_then(|_| File::open(&draft)?.sync_all())
            .and_then(|()| fs::rename(&draft, aside.join(name)))
            .map_err(OpenError::io(&draft))?;
        sync_folder(&aside)?;
        sync_folder(&self.path)
    }

    /// Undoes the cut, if there was one.
    pub(super) fn put_back_journal(&self) -> Result<(), OpenError> {
        let aside = self.path.join(ASIDE);
        let io = |source| OpenError::Io { path: aside.clone(), source };
        if !aside.try_exists().map_err(io)? {
            return Ok(());
        }
        for entry in fs::read_dir(&aside).map_err(io)? {
            let copy = entry.map_err(io)?;
            // A draft is not whole; the journal that it was to preserve was not cut yet.
            if copy.path().extension().is_some() {
                fs::rename(copy.path(), self.engine().join(copy.file_name())).map_err(io)?;
            }
        }
        sync_folder(&self.engine())?;
        self.drop_set_aside_journal()
    }

    /// Ends the trial: the cut stays.
    pub(super) fn drop_set_aside_journal(&self) -> Result<(), OpenError> {
        remove_folder_if_present(&self.path.join(ASIDE))
    }

    /// Marks the folder as unfinished: from here on it can only be opened to go on with, or begin again, the work
    /// that the mark names.
    pub(super) fn mark(&self, mark: &str) -> Result<(), OpenError> {
        let draft = self.path.join("unfinished.new");
        fs::write(&draft, mark)
            .and_then(|()| File::open(&draft)?.sync_all())
            .and_then(|()| fs::rename(&draft, self.path.join(UNFINISHED)))
            .map_err(OpenError::io(&draft))?;
        sync_folder(&self.path)
    }

    /// Whether there is a mark.
    pub(super) fn is_marked(&self) -> bool {
        self.path.join(UNFINISHED).exists()
    }

    /// The work is done.
    pub(super) fn unmark(&self) -> Result<(), OpenError> {
        remove_if_present(&self.path.join(UNFINISHED))?;
        sync_folder(&self.path)
    }

    /// Makes a store of a marked folder that an earlier attempt has finished no store.
    pub(super) fn forget_format(&self) -> Result<(), OpenError> {
        remove_if_present(&self.path.join(FORMAT))
    }

    /// Announces that a store is being made, and clears away an earlier attempt that was cut short. Nothing was
    /// ever committed there: commits begin after [`Self::finish_creation`].
    pub(super) fn begin_creation(&self) -> Result<(), OpenError> {
        let creating = self.path.join(CREATING);
        File::create(&creating).and_then(|file| file.sync_all()).map_err(OpenError::io(&creating))?;
        sync_folder(&self.path)?;
        remove_folder_if_present(&self.engine())
    }

    /// Makes the names of all files of the storage engine durable. fjall 3.1.13 leaves out the folders of its
    /// keyspaces, and what it did before a kill it may not have come to sync.
    pub(super) fn sync_engine_names(&self) -> Result<(), OpenError> {
        sync_folders(&self.engine())
    }

    /// Names the format: from here on the folder is a store.
    pub(super) fn finish_creation(&self) -> Result<(), OpenError> {
        sync_folder(&self.path)?;
        let draft = self.path.join("format.new");
        let text = format!("{TITLE}\nformat = {NEWEST_FORMAT}\n");
        fs::write(&draft, text)
            .and_then(|()| File::open(&draft)?.sync_all())
            .and_then(|()| fs::rename(&draft, self.path.join(FORMAT)))
            .map_err(OpenError::io(&draft))?;
        sync_folder(&self.path)?;
        remove_if_present(&self.path.join(CREATING))
    }
}

fn remove_folder_if_present(folder: &Path) -> Result<(), OpenError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(OpenError::io(folder)(error)),
        _ => Ok(()),
    }
}

fn remove_if_present(file: &Path) -> Result<(), OpenError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(OpenError::io(file)(error)),
        _ => Ok(()),
    }
}

/// Makes the entries of a folder durable.
pub(super) fn sync_folder(path: &Path) -> Result<(), OpenError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(OpenError::io(path))
}

/// The same for a folder and all folders in it.
fn sync_folders(path: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { path: path.to_path_buf(), source };
    for entry in fs::read_dir(path).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.file_type().map_err(io)?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    sync_folder(path)
}

/// Whether a folder holds a store, whole or not.
pub(super) fn holds_store(path: &Path) -> bool {
    path.join(FORMAT).is_file() || path.join(UNFINISHED).is_file()
}

/// Whether a folder can be filled: it holds no store, or one that was being made when its making was interrupted.
pub(super) fn is_vacant(path: &Path) -> bool {
    !path.join(FORMAT).is_file() || matches!(mark(path), Ok(Some(mark)) if mark == FILLING)
}

fn contents(path: &Path, purpose: Purpose<'_>) -> Result<Contents, OpenError> {
    let mark = mark(path)?;
    match (purpose, &mark) {
        (Purpose::Fill, Some(mark)) if mark == FILLING => return Ok(Contents::Nothing),
        (Purpose::Add(work), Some(mark)) if mark == work => {}
        (_, None) => {}
        (_, Some(mark)) => {
            return Err(OpenError::Unfinished { folder: path.to_path_buf(), work: mark.clone() });
        }
    }
    let format = path.join(FORMAT);
    match fs::read(&format) {
        Ok(_) if matches!(purpose, Purpose::Fill) => Err(OpenError::NotEmpty { folder: path.to_path_buf() }),
        Ok(text) => check_format(path, &format, &text).map(|()| Contents::Store),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            check_empty(path).map(|()| Contents::Nothing)
        }
        Err(source) => Err(OpenError::Io { path: format, source }),
    }
}

/// The mark of unfinished work, if there is one.
pub(super) fn mark(folder: &Path) -> Result<Option<String>, OpenError> {
    let path = folder.join(UNFINISHED);
    match fs::read(&path) {
        Ok(bytes) => {
            let bytes = &bytes[..bytes.len().min(MAX_MARK_BYTES)];
            Ok(Some(String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).collect()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OpenError::Io { path, source }),
    }
}

fn check_format(folder: &Path, file: &Path, text: &[u8]) -> Result<(), OpenError> {
    let named = std::str::from_utf8(text).ok().and_then(|text| {
        let mut lines = text.lines();
        let version = lines.next().filter(|title| *title == TITLE).and(lines.next())?;
        version.strip_prefix("format = ")?.parse::<u32>().ok()
    });
    match named {
        Some(1..=NEWEST_FORMAT) => Ok(()),
        Some(found) if found > NEWEST_FORMAT => {
            Err(OpenError::NewerFormat { folder: folder.to_path_buf(), found, newest: NEWEST_FORMAT })
        }
        _ => Err(OpenError::Damaged {
            folder: folder.to_path_buf(),
            file: file.to_path_buf(),
            detail: format!("it should read `{TITLE}` and `format = {NEWEST_FORMAT}`"),
        }),
    }
}

/// A folder without a `format` file is usable if it is empty (but for our lock), or if it says itself that a
/// store was being made. A store that merely lost its `format` file is neither, and is not overwritten.
fn check_empty(folder: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { path: folder.to_path_buf(), source };
    if folder.join(CREATING).try_exists().map_err(io)? {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        if name != LOCK {
            let found = name.to_string_lossy().into_owned();
            return Err(OpenError::Foreign { folder: folder.to_path_buf(), found });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_free_at_once_though_a_child_process_has_a_copy_of_the_handle() {
        let path = tempfile::tempdir().unwrap();
        let folder = Folder::acquire(path.path(), Purpose::Use).unwrap();
        let inherited = folder.lock.try_clone().unwrap();
        assert!(matches!(Folder::acquire(path.path(), Purpose::Use), Err(OpenError::InUse { .. })));
        drop(folder);
        Folder::acquire(path.path(), Purpose::Use).unwrap();
        drop(inherited);
    }
}
