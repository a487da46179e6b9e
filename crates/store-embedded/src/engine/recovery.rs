//! Opening a store that exists: nothing acknowledged may be missing, and a folder that is refused is left as
//! it was found.
//!
//! 1. The witness tells how far batches were acknowledged.
//! 2. The names of the files are synced, which the process before may not have come to.
//! 3. The journals are read (module `journal`), and their last batch is written and synced once more: from here on
//!    all that was found is on the disk, and may be shown and built upon. If their end is broken, a copy of the
//!    broken file is set aside and the file is cut there: fjall would cut it too, or refuse a torn tail that
//!    nobody was told of.
//! 4. fjall opens the files. Tables and journals together show the last batch that can be served.
//! 5. If that reaches the witness, what was cut off was not acknowledged, or is in the tables; the copy is
//!    dropped. If not, the copy goes back to its place and the folder is refused.
//!
//! A crash in between leaves the copy, and the next open begins by putting it back: no batch is committed
//! before step 5 has ended.

use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, Readable};

use super::{
    MIB, NUMBER_KEY, Settings,
    error::OpenError,
    folder::{self, Folder},
    journal::{self, Broken, Journals},
    witness::{self, Testimony, Witness},
};

const KEYSPACE: &str = "rows";

/// Rows gather in memory up to this size before they are flushed into a table. Fixed when the store is made.
const MEMTABLE_BYTES: u64 = 16 * MIB;

/// fjall's floor. It bounds the disk space of the journals, and with it the time to reopen.
const JOURNAL_BYTES: u64 = 64 * MIB;

/// Open table files; the operating system's usual limit for a process is 1024.
const OPEN_FILES: usize = 256;

/// Opens the files and answers the number of the last batch in them.
pub(super) fn recover(folder: &Folder, settings: &Settings) -> Result<(Database, Keyspace, u64), OpenError> {
    let acknowledged = match witness::read(&folder.witness()).map_err(OpenError::io(&folder.witness()))? {
        Testimony::Absent => None,
        Testimony::Acknowledged(number) => Some(number),
        Testimony::Unreadable => return Err(OpenError::WitnessDamaged { witness: folder.witness() }),
    };
    if !folder.engine().join("version").is_file() {
        // Without this file fjall would make an empty database in the place of the lost one.
        return Err(damaged(folder, "its files are missing"));
    }
    folder.put_back_journal()?;
    folder.sync_engine_names()?;
    let journals = journal::check(folder.path(), &folder.engine())?;
    journals.write_last_again()?;
    if let Some(broken) = &journals.broken {
        folder.set_journal_aside(&broken.file)?;
        broken.cut_off()?;
    }
    match open_and_compare(folder, settings, &journals, acknowledged) {
        Ok(opened) => {
            folder.drop_set_aside_journal()?;
            Ok(opened)
        }
        Err(refusal) => {
            folder.put_back_journal()?;
            Err(refusal)
        }
    }
}

fn open_and_compare(
    folder: &Folder,
    settings: &Settings,
    journals: &Journals,
    acknowledged: Option<u64>,
) -> Result<(Database, Keyspace, u64), OpenError> {
    let engine_failed = |source| OpenError::Engine { folder: folder.path().to_path_buf(), source };
    let (database, keyspace) = open_database(folder, settings)?;
    let recovered = read_number(&database.snapshot(), &keyspace).map_err(engine_failed)?;
    if let Some(acknowledged) = acknowledged.filter(|acknowledged| *acknowledged > recovered) {
        return Err(OpenError::AcknowledgedMissing {
            folder: folder.path().to_path_buf(),
            witness: folder.witness(),
            acknowledged,
            recovered,
            detail: journals
                .broken
                .as_ref()
                .map_or_else(|| "they end there without a fault".to_owned(), Broken::describe),
        });
    }
    match journals.last {
        Some(last) if last > recovered => Err(damaged(folder, "batches of the journals do not show")),
        Some(last) if last < recovered => {
            // The journals lost their end, but tables hold every batch up to a later one: rows are flushed in
            // the order of batches. So the journals have nothing to add, and they are emptied, because the
            // next batch would not follow the last one in them.
            drop((keyspace, database));
            journal::empty(&folder.engine())?;
            let (database, keyspace) = open_database(folder, settings)?;
            let again = read_number(&database.snapshot(), &keyspace).map_err(engine_failed)?;
            if again == recovered {
                Ok((database, keyspace, recovered))
            } else {
                Err(damaged(folder, "its tables do not hold what they showed"))
            }
        }
        _ => Ok((database, keyspace, recovered)),
    }
}

/// Opens fjall's files, or makes them in a new store.
pub(super) fn open_database(folder: &Folder, settings: &Settings) -> Result<(Database, Keyspace), OpenError> {
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
        return Err(damaged(folder, "it holds no rows"));
    }
    let keyspace = database
        .keyspace(KEYSPACE, || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES))
        .map_err(failed)?;
    Ok((database, keyspace))
}

/// Starts the witness at what is on disk.
pub(super) fn start_witness(folder: &Folder, number: u64) -> Result<Witness, OpenError> {
    let path = folder.witness();
    let witness = Witness::start(&path, number).map_err(OpenError::io(&path))?;
    folder::sync_folder(folder.path())?;
    Ok(witness)
}

/// The number of the last batch that a view shows.
pub(super) fn read_number(view: &fjall::Snapshot, keyspace: &Keyspace) -> fjall::Result<u64> {
    let Some(row) = view.get(keyspace, NUMBER_KEY)? else { return Ok(0) };
    <[u8; 8]>::try_from(&*row).map(u64::from_le_bytes).map_err(|_| fjall::Error::Unrecoverable)
}

fn damaged(folder: &Folder, detail: &str) -> OpenError {
    OpenError::Damaged {
        folder: folder.path().to_path_buf(),
        file: folder.engine(),
        detail: detail.to_owned(),
    }
}
