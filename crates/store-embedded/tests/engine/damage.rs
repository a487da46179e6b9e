//! Damage to the files of a store that is closed: noticed at open, and the files are left as they were.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sidenote_store_embedded::engine::OpenError;

use crate::{assert_whole_batches, four_rows, open, put, refusal};

const BATCHES: u64 = 20;

/// The only journal of a small store.
pub(crate) fn journal(folder: &Path) -> PathBuf {
    folder.join("engine/0.jnl")
}

/// Where each batch of a journal ends, in bytes.
pub(crate) fn batch_ends(journal: &[u8]) -> Vec<usize> {
    journal.windows(4).enumerate().filter(|(_, bytes)| bytes == b"FJL\x03").map(|(at, _)| at + 4).collect()
}

/// A closed store of [`BATCHES`] batches, reopened once so that the journal has no preallocated tail.
pub(crate) fn store() -> (tempfile::TempDir, Vec<usize>) {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    for number in 1..=BATCHES {
        engine.commit(four_rows(number)).unwrap();
    }
    drop(engine);
    drop(open(folder.path()));
    let ends = batch_ends(&fs::read(journal(folder.path())).unwrap());
    assert_eq!(ends.len() as u64, BATCHES);
    (folder, ends)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What a loss of power leaves that came just before batch [`BATCHES`] was acknowledged: the witness of the
/// batch before it, and whatever of the last batch's bytes reached the disk.
fn store_before_the_last_acknowledgement() -> (tempfile::TempDir, Vec<usize>) {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    for number in 1..BATCHES {
        engine.commit(four_rows(number)).unwrap();
    }
    let witness = fs::read(folder.path().join("witness")).unwrap();
    engine.commit(four_rows(BATCHES)).unwrap();
    drop(engine);
    fs::write(folder.path().join("witness"), witness).unwrap();
    let ends = batch_ends(&fs::read(journal(folder.path())).unwrap());
    (folder, ends)
}

#[test]
fn a_damaged_acknowledged_batch_is_refused_and_nothing_is_changed() {
    let (original, ends) = store();
    let (start, end) = (ends[9], ends[10]);
    // The start tag, the count, a row's tag and its key length and value length, a value, the checksum, the end.
    for at in [start, start + 1, start + 13, start + 24, start + 26, end - 20, end - 12, end - 13, end - 1] {
        let folder = tempfile::tempdir().unwrap();
        copy(original.path(), folder.path());
        let journal = journal(folder.path());
        let mut bytes = fs::read(&journal).unwrap();
        bytes[at] ^= 0x40;
        fs::write(&journal, &bytes).unwrap();

        for _ in 0..2 {
            let error = refusal(folder.path());
            let OpenError::AcknowledgedMissing { acknowledged, recovered, .. } = &error else {
                panic!("{error}")
            };
            assert_eq!((*acknowledged, *recovered), (BATCHES, 10), "{error}");
            assert!(error.to_string().contains("restore the folder from a copy"), "{error}");
            assert!(fs::read(&journal).unwrap() == bytes, "the journal was changed");
        }

        // The operator accepts the loss: a prefix of the batches is served, and the store goes on from there.
        fs::remove_file(folder.path().join("witness")).unwrap();
        let engine = open(folder.path());
        assert_eq!(engine.snapshot().number(), 10);
        assert_whole_batches(&engine.snapshot());
        assert_eq!(engine.commit(four_rows(11)).unwrap(), 11);
        drop(engine);
        assert_whole_batches(&open(folder.path()).snapshot());
    }
}

/// No whole batch is left to compare with the witness, so the tables must be asked.
#[test]
fn a_damaged_first_batch_is_refused_and_nothing_is_changed() {
    let (folder, _) = store();
    let journal = journal(folder.path());
    let mut bytes = fs::read(&journal).unwrap();
    bytes[0] ^= 0x40;
    fs::write(&journal, &bytes).unwrap();
    for _ in 0..2 {
        let error = refusal(folder.path());
        assert!(matches!(error, OpenError::AcknowledgedMissing { recovered: 0, .. }), "{error}");
        assert!(fs::read(&journal).unwrap() == bytes, "the journal was changed");
    }
    bytes[0] ^= 0x40;
    fs::write(&journal, &bytes).unwrap();
    assert_eq!(open(folder.path()).snapshot().number(), BATCHES);
    assert!(!folder.path().join("aside").exists());
}

/// A crash while a cut journal was being tried: the copy that was set aside is what counts.
#[test]
fn a_trial_that_was_interrupted_is_undone() {
    let (folder, ends) = store();
    let journal = journal(folder.path());
    fs::create_dir(folder.path().join("aside")).unwrap();
    fs::copy(&journal, folder.path().join("aside/0.jnl")).unwrap();
    fs::write(folder.path().join("aside/copy"), "a draft").unwrap();
    fs::OpenOptions::new().write(true).open(&journal).unwrap().set_len(ends[3] as u64).unwrap();
    assert_whole_batches(&open(folder.path()).snapshot());
    assert!(!folder.path().join("aside").exists());
}

/// The bytes of a batch that is in the tables too are not needed any more.
#[test]
fn damage_to_batches_that_were_flushed_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    let value = vec![b'x'; 1024 * 1024];
    let tables = folder.path().join("engine/keyspaces/1/tables");
    let mut early_witness = Vec::new();
    let mut last = 0;
    let mut flushed = false;
    while !flushed {
        flushed = fs::read_dir(&tables).unwrap().count() > 0;
        last = engine.commit(four_rows(last + 1).into_iter().chain([put("large", &value)])).unwrap();
        if last == 5 {
            early_witness = fs::read(folder.path().join("witness")).unwrap();
        }
        assert!(last < 200, "nothing was flushed");
    }
    drop(engine);
    let mut bytes = fs::read(journal(folder.path())).unwrap();
    bytes[2 * 1024 * 1024 + 5000] ^= 1;
    fs::write(journal(folder.path()), &bytes).unwrap();

    let error = refusal(folder.path());
    let OpenError::AcknowledgedMissing { acknowledged, recovered, .. } = error else { panic!("{error}") };
    assert!(acknowledged == last && (6..last).contains(&recovered), "{recovered} of {last}");
    assert!(fs::read(journal(folder.path())).unwrap() == bytes, "the journal was changed");

    fs::write(folder.path().join("witness"), early_witness).unwrap();
    for number in recovered..recovered + 3 {
        let engine = open(folder.path());
        assert_eq!(engine.snapshot().number(), number);
        assert_whole_batches(&engine.snapshot());
        engine.commit(four_rows(number + 1)).unwrap();
    }
}

#[test]
fn a_torn_first_batch_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    let witness = fs::read(folder.path().join("witness")).unwrap();
    engine.commit(four_rows(1)).unwrap();
    drop(engine);
    fs::write(folder.path().join("witness"), witness).unwrap();
    let mut bytes = fs::read(journal(folder.path())).unwrap();
    bytes[30..].fill(0);
    fs::write(journal(folder.path()), bytes).unwrap();

    let engine = open(folder.path());
    assert_eq!(engine.commit(four_rows(1)).unwrap(), 1);
    assert!(!folder.path().join("aside").exists());
}

#[test]
fn a_journal_cut_short_within_acknowledged_batches_is_refused() {
    let (folder, ends) = store();
    let journal = journal(folder.path());
    // Also where it is cut between two batches, so that what is left looks whole.
    for kept in [ends[17] + 5, ends[17], ends[3], 0] {
        fs::OpenOptions::new().write(true).open(&journal).unwrap().set_len(kept as u64).unwrap();
        let error = refusal(folder.path());
        assert!(matches!(error, OpenError::AcknowledgedMissing { acknowledged: BATCHES, .. }), "{error}");
    }
}

#[test]
fn a_torn_last_batch_that_nobody_was_told_of_is_dropped() {
    let (original, ends) = store_before_the_last_acknowledgement();
    let (start, end) = (ends[ends.len() - 2], ends[ends.len() - 1]);
    let torn_in_length = (start..end).step_by(29).map(|kept| (kept, end));
    // Pages of one write may reach the disk in any order: a hole, with the end of the batch behind it.
    let with_a_hole =
        [(start, start + 1), (start, start + 60), (start + 40, start + 48), (end - 30, end - 13)];
    for (from, to) in torn_in_length.chain(with_a_hole) {
        let folder = tempfile::tempdir().unwrap();
        copy(original.path(), folder.path());
        let journal = journal(folder.path());
        let mut bytes = fs::read(&journal).unwrap();
        bytes[from..to].fill(0);
        fs::write(&journal, &bytes).unwrap();

        let engine = open(folder.path());
        assert_eq!(engine.snapshot().number(), BATCHES - 1, "zeros from {from} to {to}");
        assert_whole_batches(&engine.snapshot());
        assert_eq!(engine.commit(four_rows(BATCHES)).unwrap(), BATCHES);
        drop(engine);
        assert_whole_batches(&open(folder.path()).snapshot());
    }
}

#[test]
fn a_last_batch_that_reached_the_disk_unacknowledged_is_kept() {
    let (folder, _) = store_before_the_last_acknowledgement();
    let engine = open(folder.path());
    assert_eq!(engine.snapshot().number(), BATCHES);
    assert_whole_batches(&engine.snapshot());
}

#[test]
fn a_damaged_witness_is_refused_until_it_is_removed() {
    let (folder, _) = store();
    fs::write(folder.path().join("witness"), [7; 8192]).unwrap();
    let error = refusal(folder.path());
    assert!(matches!(error, OpenError::WitnessDamaged { .. }));
    assert!(error.to_string().contains("remove that file"), "{error}");
    fs::remove_file(folder.path().join("witness")).unwrap();
    assert_eq!(open(folder.path()).snapshot().number(), BATCHES);
}

#[test]
fn an_older_copy_of_the_engines_files_is_refused() {
    let (folder, _) = store();
    let older = tempfile::tempdir().unwrap();
    copy(&folder.path().join("engine"), older.path());
    open(folder.path()).commit(four_rows(BATCHES + 1)).unwrap();
    fs::remove_dir_all(folder.path().join("engine")).unwrap();
    copy(older.path(), &folder.path().join("engine"));
    let error = refusal(folder.path());
    assert!(matches!(error, OpenError::AcknowledgedMissing { recovered: BATCHES, .. }), "{error}");
}

/// fjall goes on with the next journal after a damaged one, which would serve a state with a hole in it.
#[test]
fn a_hole_between_two_journals_is_refused_even_without_a_witness() {
    let (original, ends) = store();
    let bytes = fs::read(journal(original.path())).unwrap();
    let (older, newer) = bytes.split_at(ends[9]);
    let with_older = |older: &[u8]| {
        let folder = tempfile::tempdir().unwrap();
        copy(original.path(), folder.path());
        fs::remove_file(folder.path().join("witness")).unwrap();
        fs::write(folder.path().join("engine/0.jnl"), older).unwrap();
        fs::write(folder.path().join("engine/1.jnl"), newer).unwrap();
        folder
    };

    let whole = with_older(older);
    let engine = open(whole.path());
    assert_eq!(engine.snapshot().number(), BATCHES);
    assert_whole_batches(&engine.snapshot());

    let mut flipped = older.to_vec();
    flipped[ends[4] + 1] ^= 1;
    for damaged in [&flipped[..], &older[..ends[8]], &older[..ends[8] + 30]] {
        let folder = with_older(damaged);
        for _ in 0..2 {
            let error = refusal(folder.path());
            assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
            assert!(
                fs::read(folder.path().join("engine/0.jnl")).unwrap() == damaged,
                "the journal was changed"
            );
        }
    }
}
