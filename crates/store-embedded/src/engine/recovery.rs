//! Opening a store that exists: nothing acknowledged may be missing, and a folder that is refused is left as
//! it was found.
//!
//! 1. The witness tells how far batches were acknowledged. The files without which fjall would take the store for
//!    a new or an unfinished one must be there: it would clear the rest away.
//! 2. The names of the files are synced, which the process before may not have come to.
//! 3. The journals are read (module `journal`), and their last batch is written and synced once more: from here on
//!    all that was found is on the disk, and may be shown and built upon. If their end is broken, a copy of the
//!    broken file is set aside and the file is cut there: fjall would cut it too, or refuse a torn tail that
//!    nobody was told of.
//! 4. fjall opens the files. Tables and journals together show the last batch that can be served.
//!    They must meet: what the journals begin with may not come later than what the tables end with. Of several
//!    journals fjall begins to flush all but the last as soon as it is open, after which nobody can tell, and the
//!    folder is not what it was. Hence it is opened without its threads first, then and wherever it may come to be
//!    refused.
//! 5. If the last batch reaches the witness, what was cut off was not acknowledged, or is in the tables; the copy is
//!    dropped. If not, the copy goes back to its place and the folder is refused.
//!
//! A crash in between leaves the copy, and the next open begins by putting it back: no batch is committed
//! before step 5 has ended.

use std::sync::Arc;

use fjall::compaction::Leveled;
use fjall::{AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, Readable};

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

/// So many tables of level 0 are merged into level 1 at once. Twice fjall's default: keys are spread over
/// the whole store, so that each merge writes all of level 1 anew. docs/performance.md has what it brought. Fixed when
/// the store is made.
const LEVEL_0_MERGED: u8 = 8;

/// Size of the tables that a merge writes; a quarter of fjall's default. A table is synced in one go, beside the syncs
/// of commits, and the last one of a merge while commits wait. Fixed when the store is made.
const TABLE_BYTES: u64 = 16 * MIB;

/// fjall's floor. It bounds the disk space of the journals, and with it the time to reopen.
const JOURNAL_BYTES: u64 = 64 * MIB;

/// How much nicer the threads that flush and compact are than those that serve.
const NICENESS: i32 = 5;

/// Open table files; the operating system's usual limit for a process is 1024.
const OPEN_FILES: usize = 256;

/// Opens the files and answers the number of the last batch in them.
pub(super) fn recover(folder: &Folder, settings: &Settings) -> Result<(Database, Keyspace, u64), OpenError> {
    let acknowledged = match witness::read(&folder.witness()).map_err(OpenError::io(&folder.witness()))? {
        Testimony::Absent => None,
        Testimony::Acknowledged(number) => Some(number),
        Testimony::Unreadable => return Err(OpenError::WitnessDamaged { witness: folder.witness() }),
    };
    // Without the first of these fjall would make an empty database in the place of the lost one, and without
    // one of the others it would remove all tables as leftovers of a creation that never ended.
    for name in ["version", "keyspaces/0/current", "keyspaces/1/current"] {
        let file = folder.engine().join(name);
        if !file.is_file() {
            let (folder, detail) = (folder.path().to_path_buf(), "it is missing".to_owned());
            return Err(OpenError::Damaged { folder, file, detail });
        }
    }
    folder.put_back_journal()?;
    folder.sync_engine_names()?;
    let journals = journal::check(folder.path(), &folder.engine())?;
    if journals.files == 0 {
        // There is always one, be it empty. Without any, fjall would not show the rows in tables either.
        return Err(damaged(folder, "its journals are missing"));
    }
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
    let compare = |database: &Database, keyspace: &Keyspace| {
        let recovered = read_number(&database.snapshot(), keyspace).map_err(engine_failed)?;
        reaches_witness(folder, journals, acknowledged, recovered).map(|()| recovered)
    };
    let may_be_refused = journals.broken.is_some()
        || acknowledged.is_some_and(|number| journals.last.is_none_or(|last| last < number));
    let is_quiet = journals.files == 1 && !may_be_refused;
    if !is_quiet {
        let (database, keyspace) = open_with_threads(folder, settings, 0)?;
        meet(folder, journals, &keyspace)?;
        compare(&database, &keyspace)?;
    }
    let (database, keyspace) = open_database(folder, settings)?;
    if is_quiet {
        meet(folder, journals, &keyspace)?;
    }
    let recovered = compare(&database, &keyspace)?;
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

/// Whether the last batch that can be served is not before the last one that was acknowledged.
fn reaches_witness(
    folder: &Folder,
    journals: &Journals,
    acknowledged: Option<u64>,
    recovered: u64,
) -> Result<(), OpenError> {
    match acknowledged.filter(|acknowledged| *acknowledged > recovered) {
        None => Ok(()),
        Some(acknowledged) => Err(OpenError::AcknowledgedMissing {
            folder: folder.path().to_path_buf(),
            witness: folder.witness(),
            acknowledged,
            recovered,
            detail: journals
                .broken
                .as_ref()
                .map_or_else(|| "they end there without a fault".to_owned(), Broken::describe),
        }),
    }
}

/// Whether no batch is missing between those in tables and those that were replayed. Nothing may be flushed
/// meanwhile.
fn meet(folder: &Folder, journals: &Journals, keyspace: &Keyspace) -> Result<(), OpenError> {
    let newest = keyspace.tree.get_highest_persisted_seqno();
    let in_tables = match newest {
        None => None,
        Some(newest) => keyspace.tree.get(NUMBER_KEY, newest + 1).map_err(|source| OpenError::Engine {
            folder: folder.path().to_path_buf(),
            source: source.into(),
        })?,
    };
    let in_tables = in_tables.and_then(|number| (*number).try_into().ok()).map_or(0, u64::from_le_bytes);
    match journals.first_replayed(newest) {
        Some(first) if first > in_tables + 1 => {
            Err(damaged(folder, &format!("batches {} to {} are missing", in_tables + 1, first - 1)))
        }
        _ => Ok(()),
    }
}

/// Opens fjall's files, or makes them in a new store.
pub(super) fn open_database(folder: &Folder, settings: &Settings) -> Result<(Database, Keyspace), OpenError> {
    // One leaves merges to the others and is there for flushes. It hands on what it leaves, in a loop without a
    // pause while all others are merging, and each flush asks for as many merges as there are threads. With two
    // others that is rare: seldom is there more than one thing to merge.
    let threads = std::thread::available_parallelism().map_or(3, |cores| cores.get().clamp(3, 4));
    open_with_threads(folder, settings, threads)
}

/// The same with so many threads for flushes and compactions. Without any, nothing but the replay happens.
fn open_with_threads(
    folder: &Folder,
    settings: &Settings,
    threads: usize,
) -> Result<(Database, Keyspace), OpenError> {
    // Threads take their niceness from the thread that starts them, and one that has become nicer may not become
    // less so again. Hence fjall is opened on a thread of its own.
    let open = || {
        become_nicer();
        open_here(folder, settings, threads)
    };
    std::thread::scope(|scope| match std::thread::Builder::new().spawn_scoped(scope, open) {
        Ok(opened) => opened.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        Err(source) => Err(OpenError::Threads { source }),
    })
}

/// Lets requests go before flushes and compactions where there are too few processors for both. Not being able to
/// is no reason not to serve.
pub(super) fn become_nicer() {
    // Elsewhere this would change the whole process.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(NICENESS);
}

fn open_here(
    folder: &Folder,
    settings: &Settings,
    threads: usize,
) -> Result<(Database, Keyspace), OpenError> {
    let failed = |error| match error {
        fjall::Error::Locked => OpenError::InUse { folder: folder.path().to_path_buf() },
        source => OpenError::Engine { folder: folder.path().to_path_buf(), source },
    };
    let database = Database::builder(folder.engine())
        .cache_size(settings.block_cache_bytes)
        .journal_compression(CompressionType::None)
        .max_journaling_size(JOURNAL_BYTES)
        .max_cached_files(Some(OPEN_FILES))
        .worker_threads_unchecked(threads)
        .open()
        .map_err(failed)?;
    if !folder.is_new() && !database.keyspace_exists(KEYSPACE) {
        return Err(damaged(folder, "it holds no rows"));
    }
    let keyspace = database
        .keyspace(KEYSPACE, || {
            let compaction =
                Leveled::default().with_l0_threshold(LEVEL_0_MERGED).with_table_target_size(TABLE_BYTES);
            KeyspaceCreateOptions::default()
                .max_memtable_size(MEMTABLE_BYTES)
                .compaction_strategy(Arc::new(compaction))
        })
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::engine::Engine;

    /// Niceness of each thread of this process by its name.
    fn nicenesses() -> Vec<(String, i32)> {
        let threads = std::fs::read_dir("/proc/self/task").expect("Linux lists threads there");
        let of = |folder: std::path::PathBuf| {
            let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
            let (head, numbers) = stat.rsplit_once(')')?;
            let name = head.split_once('(')?.1.to_owned();
            // The 19th field; the two before the bracket closes are not among these.
            Some((name, numbers.split_whitespace().nth(16)?.parse().ok()?))
        };
        threads.filter_map(|thread| of(thread.ok()?.path())).collect()
    }

    #[test]
    fn threads_that_flush_and_compact_are_nicer_than_those_that_serve() {
        let folder = tempfile::tempdir().unwrap();
        let own = rustix::process::getpriority_process(None).unwrap();
        let engine = Engine::open(folder.path(), &Settings::default()).unwrap();
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), own);
        let of_fjall: Vec<_> =
            nicenesses().into_iter().filter(|(name, _)| name.starts_with("fjall")).collect();
        assert!(!of_fjall.is_empty());
        // 19 is the nicest that there is.
        let expected = (own + NICENESS).min(19);
        assert!(of_fjall.iter().all(|(_, niceness)| *niceness == expected), "{of_fjall:?} beside {own}");
        drop(engine);
    }
}
