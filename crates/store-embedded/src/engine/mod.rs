//! Bytes in, bytes out: atomic durable batches on one folder, and snapshots of them.
//!
//! One thread commits; any number of threads read snapshots. Keys and values mean nothing here.
//!
//! # What the safety rests on
//!
//! Facts of fjall 3.1.13, read in its source; the version is pinned, read them again before raising it.
//!
//! * `WriteBatch::commit` writes the batch to the journal, syncs it (`PersistMode::SyncData`), and only then
//!   inserts the rows into the memtable (`batch/mod.rs`). **Nothing can be read before it is durable**, and a
//!   write or sync that fails leaves no row to read; fjall then refuses every later batch, as we do.
//! * A batch takes its sequence number before its sync. A flush or compaction that ends during the sync takes
//!   the next number and makes it visible (`lsm-tree`, `version/super_version.rs`), so a fjall snapshot opened
//!   then sees that batch appear row by row. **Hence no reader opens a fjall snapshot:** the committing thread
//!   opens one after each batch, and readers get clones of it.
//! * Replaying a damaged journal ends in silence; module [`journal`] says how damage is noticed all the same.
//! * After each batch fjall waits for its flush in a loop that has no way out if the flush has failed. The
//!   same wait therefore comes first here, and ends when fjall reports that it is poisoned.
//! * fjall locks its folder too. Our own lock comes before it and covers all files, the witness included.
//!
//! # Compression
//!
//! Tables from the third level down use LZ4: the bulk of the data (texts that repeat) shrinks to about half, and the
//! cost falls on the compaction threads, not on a commit; the block cache holds plain blocks. The journal is
//! not compressed: replay checks a batch by compressing it again, so a new release of the compressor could make
//! old batches look damaged.

mod error;
mod folder;
mod journal;
mod snapshot;
mod witness;

use std::{
    fs::{self, File},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable,
};

pub use error::{EngineError, OpenError};
pub use snapshot::{Order, Row, Snapshot};

use folder::Folder;
use journal::{Broken, Journals};
use witness::{Testimony, Witness};

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

const KEYSPACE: &str = "rows";

/// Rows gather in memory up to this size before they are flushed into a table. Fixed when the store is made.
const MEMTABLE_BYTES: u64 = 16 * MIB;

/// fjall's floor. It bounds the disk space of the journals, and with it the time to reopen.
const JOURNAL_BYTES: u64 = 64 * MIB;

/// A commit waits while this many full memtables wait for their flush. One below fjall's own limit, which it
/// checks every 100 ms only. With the memtable being filled: at most 64 MiB, and one batch.
const SEALED_MEMTABLES: usize = 3;

/// A commit waits while level 0 holds this many tables; fjall's own limit.
const LEVEL_0_TABLES: usize = 30;

/// How often a waiting commit looks again.
const WAIT_STEP: Duration = Duration::from_millis(1);

/// Open table files; the operating system's usual limit for a process is 1024.
const OPEN_FILES: usize = 256;

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

/// An open store folder. Dropping it, and every [`Snapshot`] of it, closes the folder.
pub struct Engine {
    // Dropped before `shared`, which holds the database.
    latest: RwLock<Latest>,
    writer: Mutex<Witness>,
    poisoned: AtomicBool,
    #[cfg(test)]
    fail_next_sync: AtomicBool,
    shared: Arc<Shared>,
}

/// The state that readers are given.
struct Latest {
    view: fjall::Snapshot,
    number: u64,
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
        let folder = Folder::acquire(path)?;
        if folder.is_new() {
            folder.begin_creation()?;
            let (database, keyspace) = open_database(&folder, settings)?;
            let witness = start_witness(&folder, 0)?;
            folder.finish_creation()?;
            return Ok(Self::assemble(folder, database, keyspace, witness, 0));
        }

        let acknowledged = match witness::read(&folder.witness()).map_err(OpenError::io(&folder.witness()))? {
            Testimony::Absent => None,
            Testimony::Acknowledged(number) => Some(number),
            Testimony::Unreadable => return Err(OpenError::WitnessDamaged { witness: folder.witness() }),
        };
        if !folder.engine().join("version").is_file() {
            // Without this file fjall would make an empty database in the place of the lost one.
            return Err(damaged(&folder, &folder.engine(), "its files are missing".to_owned()));
        }
        let journals = check_journals(&folder, acknowledged)?;
        give_up_tail(&folder, &journals)?;
        let (database, keyspace) = open_database(&folder, settings)?;
        let recovered = read_number(&database.snapshot(), &keyspace)
            .map_err(|source| OpenError::Engine { folder: folder.path().to_path_buf(), source })?;
        if let Some(last) = journals.last.filter(|last| *last != recovered) {
            let detail = format!("the journals end at batch {last}, but the tables show batch {recovered}");
            return Err(damaged(&folder, &folder.engine(), detail));
        }
        if let Some(acknowledged) = acknowledged.filter(|acknowledged| *acknowledged > recovered) {
            drop((keyspace, database));
            let copy = folder.set_aside();
            if let (Some(broken), true) = (&journals.broken, journals.last.is_none()) {
                fs::rename(&copy, &broken.file).map_err(OpenError::io(&copy))?;
            }
            let detail = journals.broken.as_ref().map(Broken::describe);
            let detail = detail.unwrap_or_else(|| "they end there without a fault".to_owned());
            return Err(missing(&folder, acknowledged, recovered, detail));
        }
        folder::remove_if_present(&folder.set_aside())?;
        let witness = start_witness(&folder, recovered)?;
        Ok(Self::assemble(folder, database, keyspace, witness, recovered))
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
        self.wait_for_flush().map_err(|error| self.poison(EngineError::Write(error)))?;

        #[cfg(test)]
        if self.fail_next_sync.swap(false, Ordering::AcqRel) {
            let error = fjall::Error::Io(std::io::Error::other("a sync that fails on purpose"));
            return Err(self.poison(EngineError::Write(error)));
        }
        batch.commit().map_err(|error| self.poison(EngineError::Write(error)))?;
        witness.record(number).map_err(|error| self.poison(EngineError::Witness(error)))?;
        let view = self.shared.database.snapshot();
        let shown = read_number(&view, &self.shared.keyspace)
            .map_err(|error| self.poison(EngineError::Read(error)))?;
        if shown != number {
            // The rule that one thread commits was broken from outside; nobody may see this state.
            return Err(self.poison(EngineError::Poisoned));
        }
        let latest = Latest { view, number };
        *self.latest.write().unwrap_or_else(PoisonError::into_inner) = latest;
        Ok(number)
    }

    /// The state after the last batch. Does not wait for a commit that is under way.
    pub fn snapshot(&self) -> Snapshot {
        let latest = self.read_latest();
        Snapshot { view: latest.view.clone(), number: latest.number, shared: Arc::clone(&self.shared) }
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

    fn assemble(
        folder: Folder,
        database: Database,
        keyspace: Keyspace,
        witness: Witness,
        number: u64,
    ) -> Self {
        Self {
            latest: RwLock::new(Latest { view: database.snapshot(), number }),
            writer: Mutex::new(witness),
            poisoned: AtomicBool::new(false),
            #[cfg(test)]
            fail_next_sync: AtomicBool::new(false),
            shared: Arc::new(Shared { keyspace, database, folder }),
        }
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

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("folder", &self.shared.folder.path()).finish_non_exhaustive()
    }
}

/// Refuses what is damaged; changes nothing.
fn check_journals(folder: &Folder, acknowledged: Option<u64>) -> Result<Journals, OpenError> {
    let journals = journal::check(folder.path(), &folder.engine())?;
    if let (Some(broken), Some(acknowledged), Some(last)) = (&journals.broken, acknowledged, journals.last)
        && acknowledged > last
    {
        return Err(missing(folder, acknowledged, last, broken.describe()));
    }
    Ok(journals)
}

/// Cuts off the tail that [`check_journals`] let pass. If no journal holds a whole batch, only the tables can
/// tell whether that tail was acknowledged, and they can be read only after the cut: then the journal is copied first.
fn give_up_tail(folder: &Folder, journals: &Journals) -> Result<(), OpenError> {
    let Some(broken) = &journals.broken else { return Ok(()) };
    if journals.last.is_none() {
        let copy = folder.set_aside();
        fs::copy(&broken.file, &copy)
            .and_then(|_| File::open(&copy)?.sync_all())
            .map_err(OpenError::io(&copy))?;
    }
    broken.cut_off()
}

fn open_database(folder: &Folder, settings: &Settings) -> Result<(Database, Keyspace), OpenError> {
    let failed = |error| match error {
        fjall::Error::Locked => OpenError::InUse { folder: folder.path().to_path_buf() },
        source => OpenError::Engine { folder: folder.path().to_path_buf(), source },
    };
    let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4));
    let database = Database::builder(folder.engine())
        .cache_size(settings.block_cache_bytes)
        .journal_compression(CompressionType::None)
        .max_journaling_size(JOURNAL_BYTES)
        .max_cached_files(Some(OPEN_FILES))
        // Of two or more, one leaves compaction to the others and is there for flushes.
        .worker_threads(workers)
        .open()
        .map_err(failed)?;
    if !folder.is_new() && !database.keyspace_exists(KEYSPACE) {
        return Err(damaged(folder, &folder.engine(), "it holds no rows".to_owned()));
    }
    let keyspace = database
        .keyspace(KEYSPACE, || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES))
        .map_err(failed)?;
    Ok((database, keyspace))
}

fn start_witness(folder: &Folder, number: u64) -> Result<Witness, OpenError> {
    let path = folder.witness();
    let witness = Witness::start(&path, number).map_err(OpenError::io(&path))?;
    folder::sync_folder(folder.path())?;
    Ok(witness)
}

fn read_number(view: &fjall::Snapshot, keyspace: &Keyspace) -> fjall::Result<u64> {
    let Some(row) = view.get(keyspace, NUMBER_KEY)? else { return Ok(0) };
    <[u8; 8]>::try_from(&*row).map(u64::from_le_bytes).map_err(|_| fjall::Error::Unrecoverable)
}

fn damaged(folder: &Folder, file: &Path, detail: String) -> OpenError {
    OpenError::Damaged { folder: folder.path().to_path_buf(), file: file.to_path_buf(), detail }
}

fn missing(folder: &Folder, acknowledged: u64, recovered: u64, detail: String) -> OpenError {
    OpenError::AcknowledgedMissing {
        folder: folder.path().to_path_buf(),
        witness: folder.witness(),
        acknowledged,
        recovered,
        detail,
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
        for number in 1..=20 {
            assert_eq!(engine.commit([put("a", "1")]).unwrap(), number);
            snapshots.push(engine.snapshot());
        }
        for (number, snapshot) in (0..).zip(&snapshots) {
            assert_eq!(snapshot.number(), number);
            assert_eq!(read_number(&snapshot.view, &engine.shared.keyspace).unwrap(), number);
        }
    }
}
