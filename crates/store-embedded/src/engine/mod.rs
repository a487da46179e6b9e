//! Bytes in, bytes out: atomic durable batches on one folder, and snapshots of them.
//!
//! One thread commits; any number of threads read snapshots. Keys and values mean nothing here.
//!
//! # What the safety rests on
//!
//! Facts of fjall 3.1.13 and lsm-tree 3.1.10, read in their sources. Read them again before raising a version.
//!
//! * `WriteBatch::commit` writes the batch to the journal, syncs it (`PersistMode::SyncData`), and only then
//!   inserts the rows into the memtable (`batch/mod.rs`). **Nothing can be read before it is durable**, and a
//!   write or sync that fails leaves no row to read; fjall then refuses every later batch, as we do.
//! * A batch takes its sequence number before its sync. A flush or compaction that ends during the sync takes
//!   the next number and makes it visible (`lsm-tree`, `version/super_version.rs`), so a fjall snapshot opened
//!   then sees that batch appear row by row. **Hence no reader opens a fjall snapshot:** the committing thread
//!   opens one after each batch, and readers get clones of it.
//! * Replaying a damaged journal ends in silence; modules `journal` and `recovery` say how damage is noticed all
//!   the same.
//! * After each batch fjall waits for its flush in a loop that has no way out if the flush has failed. The
//!   same wait therefore comes first here, and ends when fjall reports that it is poisoned.
//! * fjall locks its folder too. Our own lock comes before it and covers all files, the witness included.
//!
//! # Compression
//!
//! Tables from the third level down use LZ4. The choice is fixed when a store is made. It costs commits nothing
//! that could be measured, for compaction threads pay; rows of 100 random bytes shrink by a tenth at most
//! (tables already leave out what a key shares with the one before it), long texts by more. The journal is not
//! compressed: replay checks a batch by compressing it again, so a new release of the compressor could make old
//! batches look damaged.

mod error;
mod folder;
mod journal;
mod keeper;
mod load;
mod recovery;
mod snapshot;
mod witness;

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fjall::{Database, Keyspace, OwnedWriteBatch, PersistMode};

pub use error::{EngineError, OpenError};
pub use snapshot::{Order, Row, Snapshot};

use folder::{Folder, Purpose};
use keeper::Keeper;
use recovery::read_number;
use witness::Witness;

/// A shared run of bytes; cloning copies no data.
pub type Bytes = fjall::Slice;

/// Keys that begin with this byte belong to the engine.
pub const RESERVED_PREFIX: u8 = 0;

/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 4096;

/// Longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 16 * MIB_USIZE;

/// Largest batch: the sum of its keys and values, in bytes.
pub const MAX_BATCH_BYTES: usize = 64 * MIB_USIZE;

const MIB: u64 = 1024 * 1024;
const MIB_USIZE: usize = 1024 * 1024;

/// Row whose value is the number of the last batch; every batch writes it, as its first row.
const NUMBER_KEY: &[u8] = &[RESERVED_PREFIX, b'n'];

/// A commit waits while this many full memtables wait for their flush. One below fjall's own limit, which it
/// checks every 100 ms only. With the memtable being filled: at most 64 MiB, and one batch.
const SEALED_MEMTABLES: usize = 3;

/// A commit waits while level 0 holds this many tables; fjall's own limit.
const LEVEL_0_TABLES: usize = 30;

/// How often a waiting commit looks again.
const WAIT_STEP: Duration = Duration::from_millis(1);

/// What an operator may choose.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Memory for blocks of rows read from disk, in bytes. Memory for rows not yet flushed comes on top, about
    /// 80 MiB while batches are small.
    pub block_cache_bytes: u64,
}

impl Default for Settings {
    /// 64 MiB of block cache.
    fn default() -> Self {
        Self { block_cache_bytes: 64 * MIB }
    }
}

/// One row to write or to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Writes a row, in place of one with the same key.
    Put {
        /// 1 to [`MAX_KEY_BYTES`] bytes, not beginning with [`RESERVED_PREFIX`].
        key: Bytes,
        /// At most [`MAX_VALUE_BYTES`].
        value: Bytes,
    },
    /// Deletes a row, if there is one.
    Delete {
        /// As for a put.
        key: Bytes,
    },
}

impl Change {
    /// The key of the row.
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// An open store folder. Dropping it, and every [`Snapshot`] of it, closes the folder.
pub struct Engine {
    // Dropped first, so that nothing is freed any more when the folder is left to others.
    keeper: Keeper,
    // Dropped before `shared`, which holds the database.
    latest: RwLock<Latest>,
    writer: Mutex<Witness>,
    poisoned: AtomicBool,
    #[cfg(test)]
    pub(crate) fail_next_sync: AtomicBool,
    shared: Arc<Shared>,
}

/// The state that readers are given.
struct Latest {
    view: fjall::Snapshot,
    number: u64,
    /// The state one batch before, since this engine was opened.
    before: Option<fjall::Snapshot>,
}

/// What an engine and its snapshots hold together. Dropped in this order: the lock goes last.
struct Shared {
    keyspace: Keyspace,
    database: Database,
    folder: Folder,
}

impl Engine {
    /// Opens the store in `path`, or makes one in a folder that is empty or does not exist.
    ///
    /// The journals are read and checked before anything is changed; see [`OpenError`] for what is refused.
    pub fn open(path: &Path, settings: &Settings) -> Result<Self, OpenError> {
        let folder = Folder::acquire(path, Purpose::Use)?;
        if folder.is_new() {
            folder.begin_creation()?;
            let (database, keyspace) = recovery::open_database(&folder, settings)?;
            folder.sync_engine_names()?;
            let witness = recovery::start_witness(&folder, 0)?;
            folder.finish_creation()?;
            return Self::assemble(folder, database, keyspace, witness, 0);
        }
        Self::recover(folder, settings)
    }

    /// The same for a folder that must hold a store.
    pub fn open_existing(path: &Path, settings: &Settings) -> Result<Self, OpenError> {
        if !folder::holds_store(path) {
            return Err(OpenError::NoStore { folder: path.to_path_buf() });
        }
        Self::open(path, settings)
    }

    /// Makes `changes` durable as one batch and shows them to snapshots taken from now on. Answers the number
    /// of the batch: one more than that of the batch before it. `Ok` means on disk.
    ///
    /// If a key occurs twice, the later change holds. A batch without changes is a batch too.
    ///
    /// To be called by one thread; others would wait for it. It also waits while the flush of earlier rows is
    /// behind. Errors that begin with "a key", "a value" or "a batch of" wrote nothing; every other
    /// error poisons the engine.
    pub fn commit(&self, changes: impl IntoIterator<Item = Change>) -> Result<u64, EngineError> {
        // A panic inside an earlier commit poisons this mutex; what it wrote is unknown.
        let Ok(witness) = self.writer.lock() else { return Err(self.poison(EngineError::Poisoned)) };
        if self.poisoned.load(Ordering::Acquire) {
            return Err(EngineError::Poisoned);
        }
        let number = self.read_latest().number + 1;
        let batch = self.batch(number, changes)?;
        self.wait_for_flush().map_err(|error| self.poison(write_error(error)))?;

        #[cfg(test)]
        if self.fail_next_sync.swap(false, Ordering::AcqRel) {
            let error = fjall::Error::Io(std::io::Error::other("a sync that fails on purpose"));
            return Err(self.poison(EngineError::Write(error)));
        }
        batch.commit().map_err(|error| self.poison(write_error(error)))?;
        witness.record(number).map_err(|error| self.poison(EngineError::Witness(error)))?;
        let view = self.shared.database.snapshot();
        let shown = read_number(&view, &self.shared.keyspace)
            .map_err(|error| self.poison(EngineError::Read(error)))?;
        if shown != number {
            // The rule that one thread commits was broken from outside; nobody may see this state.
            return Err(self.poison(EngineError::Poisoned));
        }
        let oldest = {
            let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
            latest.number = number;
            let before = std::mem::replace(&mut latest.view, view);
            latest.before.replace(before)
        };
        // Closed only now, so that nobody who wants a snapshot waits for it.
        drop(oldest);
        self.keeper.committed();
        Ok(number)
    }

    /// The state after the last batch. Does not wait for a commit that is under way.
    pub fn snapshot(&self) -> Snapshot {
        let latest = self.read_latest();
        Snapshot { view: latest.view.clone(), number: latest.number, shared: Arc::clone(&self.shared) }
    }

    /// The last state that shows no later batch than `number`, for those who may not see the newest batch yet.
    /// `None` if that is older than the last two states.
    pub fn snapshot_by(&self, number: u64) -> Option<Snapshot> {
        let latest = self.read_latest();
        let shared = || Arc::clone(&self.shared);
        if latest.number <= number {
            return Some(Snapshot { view: latest.view.clone(), number: latest.number, shared: shared() });
        }
        let view = latest.before.as_ref().filter(|_| latest.number - 1 <= number)?.clone();
        Some(Snapshot { view, number: latest.number - 1, shared: shared() })
    }

    /// Whether an earlier write failed, so that every commit answers [`EngineError::Poisoned`]. Notices a
    /// failed flush in the background too; to do so it may wait for a commit's sync.
    pub fn is_poisoned(&self) -> bool {
        if !self.poisoned.load(Ordering::Acquire)
            && self.shared.database.persist(PersistMode::Buffer).is_err()
        {
            self.poisoned.store(true, Ordering::Release);
        }
        self.poisoned.load(Ordering::Acquire)
    }

    /// Disk space of tables and journals in bytes, preallocated space included. May wait for a commit's sync.
    pub fn disk_bytes(&self) -> Result<u64, EngineError> {
        self.shared.database.disk_space().map_err(EngineError::Read)
    }

    fn recover(folder: Folder, settings: &Settings) -> Result<Self, OpenError> {
        let (database, keyspace, number) = recovery::recover(&folder, settings)?;
        let witness = recovery::start_witness(&folder, number)?;
        Self::assemble(folder, database, keyspace, witness, number)
    }

    fn assemble(
        folder: Folder,
        database: Database,
        keyspace: Keyspace,
        witness: Witness,
        number: u64,
    ) -> Result<Self, OpenError> {
        Ok(Self {
            keeper: Keeper::start(keyspace.clone()).map_err(|source| OpenError::Threads { source })?,
            latest: RwLock::new(Latest { view: database.snapshot(), number, before: None }),
            writer: Mutex::new(witness),
            poisoned: AtomicBool::new(false),
            #[cfg(test)]
            fail_next_sync: AtomicBool::new(false),
            shared: Arc::new(Shared { keyspace, database, folder }),
        })
    }

    fn read_latest(&self) -> RwLockReadGuard<'_, Latest> {
        self.latest.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gathers and checks a batch; writes nothing.
    fn batch(
        &self,
        number: u64,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<OwnedWriteBatch, EngineError> {
        let keyspace = &self.shared.keyspace;
        let mut batch = self.shared.database.batch().durability(Some(PersistMode::SyncData));
        batch.insert(keyspace, NUMBER_KEY, number.to_le_bytes());
        let mut bytes = 0;
        for change in changes {
            let (key, value_bytes) = match &change {
                Change::Put { key, value } => (key, value.len()),
                Change::Delete { key } => (key, 0),
            };
            if !(1..=MAX_KEY_BYTES).contains(&key.len()) {
                return Err(EngineError::KeyLength { bytes: key.len() });
            }
            if key[0] == RESERVED_PREFIX {
                return Err(EngineError::ReservedKey);
            }
            if value_bytes > MAX_VALUE_BYTES {
                return Err(EngineError::ValueTooLong { bytes: value_bytes });
            }
            bytes += key.len() + value_bytes;
            if bytes > MAX_BATCH_BYTES {
                return Err(EngineError::BatchTooLarge);
            }
            match change {
                Change::Put { key, value } => batch.insert(keyspace, key, value),
                Change::Delete { key } => batch.remove(keyspace, key),
            }
        }
        Ok(batch)
    }

    fn wait_for_flush(&self) -> fjall::Result<()> {
        let keyspace = &self.shared.keyspace;
        while keyspace.sealed_memtable_count() >= SEALED_MEMTABLES
            || keyspace.l0_table_count() >= LEVEL_0_TABLES
        {
            self.shared.database.persist(PersistMode::Buffer)?;
            std::thread::sleep(WAIT_STEP);
        }
        Ok(())
    }

    fn poison(&self, error: EngineError) -> EngineError {
        self.poisoned.store(true, Ordering::Release);
        error
    }
}

/// fjall refuses a batch before it writes anything if one of its own threads has failed.
fn write_error(error: fjall::Error) -> EngineError {
    match error {
        fjall::Error::Poisoned => EngineError::Background,
        error => EngineError::Write(error),
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("folder", &self.shared.folder.path()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str) -> Change {
        Change::Put { key: key.into(), value: value.into() }
    }

    #[test]
    fn a_failed_sync_poisons_until_the_folder_is_reopened() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::open(folder.path(), &Settings::default()).unwrap();
        engine.commit([put("a", "1")]).unwrap();
        assert!(!engine.is_poisoned());

        engine.fail_next_sync.store(true, Ordering::Release);
        assert!(matches!(engine.commit([put("a", "2")]), Err(EngineError::Write(_))));
        assert!(engine.is_poisoned());
        assert!(matches!(engine.commit([put("a", "3")]), Err(EngineError::Poisoned)));
        let snapshot = engine.snapshot();
        assert_eq!((snapshot.number(), snapshot.get(b"a").unwrap().as_deref()), (1, Some(&b"1"[..])));

        drop((snapshot, engine));
        let engine = Engine::open(folder.path(), &Settings::default()).unwrap();
        assert!(!engine.is_poisoned());
        assert_eq!(engine.commit([put("a", "2")]).unwrap(), 2);
    }

    #[test]
    fn a_panic_within_a_commit_poisons() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::open(folder.path(), &Settings::default()).unwrap();
        let changes = std::iter::from_fn(|| -> Option<Change> { panic!("the caller's iterator fails") });
        std::thread::scope(|scope| scope.spawn(|| engine.commit(changes)).join().unwrap_err());
        assert!(matches!(engine.commit([put("a", "1")]), Err(EngineError::Poisoned)));
        assert!(engine.is_poisoned());
    }

    #[test]
    fn the_number_of_a_snapshot_is_the_one_in_its_rows() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::open(folder.path(), &Settings::default()).unwrap();
        let mut snapshots = vec![engine.snapshot()];
        assert_eq!(engine.snapshot_by(0).unwrap().number(), 0);
        for number in 1..=20 {
            assert_eq!(engine.commit([put("a", "1")]).unwrap(), number);
            snapshots.push(engine.snapshot());
            // And so is that of the state before it.
            let before = engine.snapshot_by(number - 1).unwrap();
            assert_eq!(read_number(&before.view, &engine.shared.keyspace).unwrap(), before.number());
            assert_eq!(before.number(), number - 1);
            assert_eq!(engine.snapshot_by(number + 1).unwrap().number(), number);
            assert!(number < 2 || engine.snapshot_by(number - 2).is_none());
        }
        for (number, snapshot) in (0..).zip(&snapshots) {
            assert_eq!(snapshot.number(), number);
            assert_eq!(read_number(&snapshot.view, &engine.shared.keyspace).unwrap(), number);
        }
    }
}
