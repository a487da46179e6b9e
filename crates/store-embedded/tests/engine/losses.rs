//! A file of a closed store that is lost, cut or changed: noticed at open, or when its rows are read, and never
//! served as if nothing were missing.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use sidenote_store_embedded::engine::{Engine, EngineError, OpenError, Order, Settings};

use crate::{
    damage::{batch_ends, journal, store},
    four_rows, open, put, refusal,
};

/// Keys and values.
type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// What happens to a file.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Removed,
    Emptied,
    CutInHalf,
    /// A bit is changed at this part of its length, in thousandths.
    Changed(usize),
}

/// What became of a store with one harmed file.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// It is refused with this sentence, and all files are as they were.
    Refused(String),
    /// It is refused with this sentence, but these files are not what they were.
    RefusedAndChanged(String, Vec<PathBuf>),
    /// It is open, and says so when rows are read that cannot be.
    Unreadable,
    /// It is open, and nothing is missing.
    Whole,
    /// It is open, and shows something else.
    Wrong,
    /// There was a panic.
    Panic,
}

/// A closed store with tables on disk and batches that are in a journal only.
fn store_with_tables() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    let value = vec![b'x'; 1024 * 1024];
    let tables = folder.path().join("engine/keyspaces/1/tables");
    let mut last = 0;
    while fs::read_dir(&tables).unwrap().count() < 2 {
        last = engine.commit(four_rows(last + 1).into_iter().chain([put("large", &value)])).unwrap();
        assert!(last < 400, "nothing was flushed");
    }
    for _ in 0..5 {
        last = engine.commit(four_rows(last + 1)).unwrap();
    }
    drop(engine);
    drop(open(folder.path()));

    // The journal loses what tables hold too: it begins with the latest batch that can be its first one.
    let path = journal(folder.path());
    let bytes = fs::read(&path).unwrap();
    let ends = batch_ends(&bytes);
    for start in ends.iter().rev().skip(1) {
        fs::write(&path, &bytes[*start..]).unwrap();
        match Engine::open(folder.path(), &Settings::default()) {
            Ok(engine) => {
                assert_eq!(engine.snapshot().number(), last);
                return folder;
            }
            Err(error) => {
                assert!(error.to_string().contains("are missing; nothing can be served"), "{error}");
            }
        }
    }
    panic!("the whole journal is refused");
}

/// All rows, or what stopped the reading.
fn rows(engine: &Engine) -> Result<Rows, EngineError> {
    let rows = engine.snapshot().scan_prefix(b"", Order::Ascending, usize::MAX)?;
    Ok(rows.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect())
}

/// Whether each of these rows is found by its key, which goes another way than a scan.
fn finds(engine: &Engine, expected: &Rows) -> Result<bool, EngineError> {
    let snapshot = engine.snapshot();
    for (key, value) in expected {
        if snapshot.get(key)?.as_deref() != Some(value) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// All files below a folder with their contents, by their path in it.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                let name = entry.path().strip_prefix(folder).unwrap().to_path_buf();
                found.insert(name, fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

fn harm(path: &Path, bytes: &[u8], harm: Harm) {
    match harm {
        Harm::Removed => fs::remove_file(path).unwrap(),
        Harm::Emptied => fs::write(path, []).unwrap(),
        Harm::CutInHalf => fs::write(path, &bytes[..bytes.len() / 2]).unwrap(),
        Harm::Changed(part) => {
            let mut bytes = bytes.to_vec();
            let at = (bytes.len() * part / 1000).min(bytes.len() - 1);
            bytes[at] ^= 0x10;
            fs::write(path, bytes).unwrap();
        }
    }
}

fn outcome(folder: &Path, expected: &Rows) -> Outcome {
    let before = files(folder);
    let opened = std::panic::catch_unwind(|| Engine::open(folder, &Settings::default()));
    match opened {
        Err(_) => Outcome::Panic,
        Ok(Err(refusal)) => {
            let after = files(folder);
            let differ = |name: &&PathBuf| before.get(*name) != after.get(*name);
            let names: std::collections::BTreeSet<_> =
                before.keys().chain(after.keys()).filter(differ).collect();
            if names.is_empty() {
                Outcome::Refused(refusal.to_string())
            } else {
                Outcome::RefusedAndChanged(refusal.to_string(), names.into_iter().cloned().collect())
            }
        }
        Ok(Ok(engine)) => match (rows(&engine), finds(&engine, expected)) {
            (Ok(found), _) if found != *expected => Outcome::Wrong,
            (_, Ok(false)) => Outcome::Wrong,
            (Err(_), _) | (_, Err(_)) => Outcome::Unreadable,
            (Ok(_), Ok(true)) => Outcome::Whole,
        },
    }
}

/// Makes the files of a folder what they were.
fn put_back(folder: &Path, before: &BTreeMap<PathBuf, Vec<u8>>) {
    for name in files(folder).into_keys().filter(|name| !before.contains_key(name)) {
        fs::remove_file(folder.join(name)).unwrap();
    }
    for (name, bytes) in before {
        let path = folder.join(name);
        if fs::read(&path).ok().as_ref() != Some(bytes) {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
}

#[test]
fn a_file_that_is_lost_or_damaged_is_noticed() {
    let folder = store_with_tables();
    let expected = rows(&open(folder.path())).unwrap();
    let before = files(folder.path());
    let harms = [Harm::Removed, Harm::Emptied, Harm::CutInHalf, Harm::Changed(300), Harm::Changed(700)];
    for (name, bytes) in before.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        for kind in harms {
            harm(&folder.path().join(name), bytes, kind);
            let found = outcome(folder.path(), &expected);
            let name = name.to_str().unwrap();
            let context = format!("{name}, {kind:?}: {found:?}");
            match (&found, kind, name) {
                // The witness is what the operator removes to accept a loss. Two records take turns in it, and
                // what it lacks makes it ask for less.
                (Outcome::Whole, _, "witness") => {}
                (Outcome::Refused(said), ..) => {
                    let tells = said.contains("restore") || said.contains("remove that file");
                    assert!(tells, "{context}");
                }
                // Tables are checked block by block, when a block is read.
                (Outcome::Unreadable, Harm::Changed(_), name) => {
                    assert!(name.contains("tables"), "{context}");
                }
                // Some bytes of a file mean nothing.
                (Outcome::Whole, Harm::CutInHalf | Harm::Changed(_), name) => {
                    assert!(name.ends_with("/current"), "{context}");
                }
                _ => panic!("{context}"),
            }
            put_back(folder.path(), &before);
        }
    }
}

/// Blocks of rows lie in front, and those that say where which row is at the end.
#[test]
fn a_changed_bit_in_a_table_never_hides_a_row() {
    let folder = store_with_tables();
    let expected = rows(&open(folder.path())).unwrap();
    let before = files(folder.path());
    let (name, bytes) = before.iter().find(|(name, _)| name.ends_with("keyspaces/1/tables/0")).unwrap();
    let in_front = (0..8).map(|part| part * bytes.len() / 8);
    let at_the_end = (bytes.len() - 6000..bytes.len()).step_by(149);
    let mut noticed = 0;
    for at in in_front.chain(at_the_end) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        fs::write(folder.path().join(name), changed).unwrap();
        match outcome(folder.path(), &expected) {
            Outcome::Refused(_) | Outcome::Unreadable => noticed += 1,
            Outcome::Whole => {}
            found => panic!("byte {at} of {}: {found:?}", bytes.len()),
        }
        put_back(folder.path(), &before);
    }
    assert!(noticed > 8, "{noticed}");
}

/// The older of two journals, which is not in tables yet.
#[test]
fn a_journal_that_is_missing_before_the_others_is_refused() {
    let (folder, ends) = store();
    let engine = folder.path().join("engine");
    let bytes = fs::read(journal(folder.path())).unwrap();
    let (_, newer) = bytes.split_at(ends[9]);
    fs::remove_file(journal(folder.path())).unwrap();
    fs::write(engine.join("1.jnl"), newer).unwrap();
    for _ in 0..2 {
        let before = files(folder.path());
        let error = refusal(folder.path());
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("batches 1 to 10"), "{error}");
        assert!(files(folder.path()) == before, "the folder was changed");
    }
}

/// Neither the rows nor the checksum of a batch tell of its place in the order of the engine.
#[test]
fn a_batch_out_of_its_order_is_refused() {
    let (folder, ends) = store();
    let journal = journal(folder.path());
    let bytes = fs::read(&journal).unwrap();
    for (batch, byte, bit) in [(5, 0, 3), (5, 0, 4), (10, 7, 7), (19, 0, 4), (19, 7, 7)] {
        let mut changed = bytes.clone();
        let seqno = ends[batch - 1] + 5;
        changed[seqno + byte] ^= 1 << bit;
        fs::write(&journal, &changed).unwrap();
        let opened = Engine::open(folder.path(), &Settings::default());
        let error = opened.expect_err(&format!("batch {}, bit {bit} of byte {byte}", batch + 1));
        assert!(error.to_string().contains("restore the folder from a copy"), "{error}");
        assert!(fs::read(&journal).unwrap() == changed, "the journal was changed");
    }
}

/// The only row that says so is the one that the engine skips.
#[test]
fn a_batch_that_seems_to_be_in_tables_is_refused() {
    let folder = store_with_tables();
    let path = journal(folder.path());
    let mut left = fs::read(&path).unwrap();
    left[5..13].copy_from_slice(&1_u64.to_le_bytes());
    fs::write(&path, left).unwrap();
    let error = refusal(folder.path());
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}
