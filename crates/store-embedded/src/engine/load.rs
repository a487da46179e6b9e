//! Filling a store with rows from elsewhere, in many batches that count as one piece of work: until it is finished
//! the folder is marked, and [`Engine::open`] refuses it.

use std::path::Path;

use super::folder::{self, FILLING, Folder, Purpose};
use super::{Engine, OpenError, Settings, recovery};

impl Engine {
    /// Makes a store in `path`, which must be an empty folder, one that does not exist, or what an earlier attempt
    /// left. It cannot be opened by anybody before [`finish_load`](Self::finish_load).
    pub fn fill(path: &Path, settings: &Settings) -> Result<Self, OpenError> {
        let folder = Folder::acquire(path, Purpose::Fill)?;
        folder.mark(FILLING)?;
        folder.forget_format()?;
        folder.begin_creation()?;
        let (database, keyspace) = recovery::open_database(&folder, settings)?;
        let witness = recovery::start_witness(&folder, 0)?;
        Self::assemble(folder, database, keyspace, witness, 0)
    }

    /// Whether [`fill`](Self::fill) would take this folder, as far as can be seen from outside.
    pub fn is_vacant(path: &Path) -> bool {
        folder::is_vacant(path)
    }

    /// Opens the store in `path` to bring something in. If an earlier attempt at the same `work` was interrupted,
    /// this one takes its place. Nothing is marked before [`begin_load`](Self::begin_load).
    pub fn open_to_add(path: &Path, settings: &Settings, work: &str) -> Result<Self, OpenError> {
        if !folder::holds_store(path) {
            return Err(OpenError::NoStore { folder: path.to_path_buf() });
        }
        Self::recover(Folder::acquire(path, Purpose::Add(work))?, settings)
    }

    /// The work in this folder that was interrupted, in the words that it was begun with.
    pub fn unfinished_work(path: &Path) -> Result<Option<String>, OpenError> {
        folder::mark(path)
    }

    /// Marks the folder. A crash from here on leaves a store that can only be opened to do the same `work` again.
    pub fn begin_load(&self, work: &str) -> Result<(), OpenError> {
        self.shared.folder.mark(work)
    }

    /// Whether an earlier attempt at some work was interrupted.
    pub fn is_unfinished(&self) -> bool {
        self.shared.folder.is_marked()
    }

    /// All batches are durable and the store is whole: takes the mark away.
    pub fn finish_load(&self) -> Result<(), OpenError> {
        let folder = &self.shared.folder;
        if folder.is_new() {
            folder.finish_creation()?;
        }
        folder.unmark()
    }
}
