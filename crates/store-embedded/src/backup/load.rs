use std::path::Path;

use super::Row;
use crate::engine::{Bytes, Change, Engine, EngineError, OpenError, Settings, Snapshot};

/// A commit is made for each so many bytes of rows.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// And for each so many rows, which cost memory of their own.
const BATCH_ROWS: usize = 32 * 1024;

/// Why rows could not be brought in.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The folder.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A commit.
    #[error("the store could not be written")]
    Commit(#[from] EngineError),
}

/// Brings rows into a folder, all of them or none: until [`finish`](Self::finish) the folder is marked, and nobody
/// can open it but another loader that begins the same work again. Holds one batch of rows.
pub struct Loader {
    engine: Engine,
    batch: Vec<Change>,
    bytes: usize,
}

impl Loader {
    /// Into a new store: `path` is an empty folder, one that does not exist, or what an interrupted loader left.
    pub fn fill(path: &Path, settings: &Settings) -> Result<Self, OpenError> {
        Ok(Self::over(Engine::fill(path, settings)?))
    }

    /// Into a store that exists. `work` names what is brought in, in a few words: if it was interrupted, only a
    /// loader of the same work may go on. Nothing is changed before [`mark`](Self::mark).
    pub fn add(path: &Path, settings: &Settings, work: &str) -> Result<Self, OpenError> {
        Ok(Self::over(Engine::open_to_add(path, settings, work)?))
    }

    fn over(engine: Engine) -> Self {
        Self { engine, batch: Vec::new(), bytes: 0 }
    }

    /// What the store holds now.
    pub fn snapshot(&self) -> Snapshot {
        self.engine.snapshot()
    }

    /// Whether this goes on with work that was interrupted.
    pub fn is_resumed(&self) -> bool {
        self.engine.is_unfinished()
    }

    /// Marks a store that existed before, so that it cannot be opened until the work is done.
    pub fn mark(&self, work: &str) -> Result<(), OpenError> {
        self.engine.begin_load(work)
    }

    /// Writes a row, in place of one with the same key.
    pub fn put(&mut self, (key, value): Row) -> Result<(), EngineError> {
        self.bytes += key.len() + value.len();
        self.batch.push(Change::Put { key, value });
        if self.bytes >= BATCH_BYTES || self.batch.len() >= BATCH_ROWS { self.commit() } else { Ok(()) }
    }

    /// Removes a row, if there is one with this key.
    pub fn remove(&mut self, key: Bytes) -> Result<(), EngineError> {
        self.bytes += key.len();
        self.batch.push(Change::Delete { key });
        if self.batch.len() >= BATCH_ROWS { self.commit() } else { Ok(()) }
    }

    /// Commits what was put so far, so that a snapshot holds it.
    pub fn flush(&mut self) -> Result<(), EngineError> {
        self.commit()
    }

    /// Makes everything durable and takes the mark away.
    pub fn finish(mut self) -> Result<(), LoadError> {
        self.commit()?;
        Ok(self.engine.finish_load()?)
    }

    fn commit(&mut self) -> Result<(), EngineError> {
        self.bytes = 0;
        self.engine.commit(self.batch.drain(..)).map(|_| ())
    }
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("engine", &self.engine).finish_non_exhaustive()
    }
}
