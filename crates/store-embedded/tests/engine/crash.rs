use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use sidenote_store_embedded::engine::EngineError;

use crate::{FOLDER, assert_whole_batches, child, folder_of_child, four_rows, get, open, put};

/// The number in a line `acknowledged N`.
fn acknowledged(line: &str) -> Option<u64> {
    line.strip_prefix("acknowledged ")?.parse().ok()
}

#[test]
fn acknowledged_batches_survive_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 0..10 {
        let mut process =
            child("crash::child_commits_until_killed", folder.path()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        // Killed after a different count each round, at whatever point of the next commits it has reached.
        let enough = last + 20 + round * 37;
        while last < enough {
            let line = lines.next().expect("the child runs until it is killed");
            last = acknowledged(&line).unwrap_or(last);
        }
        process.kill().unwrap();
        last = lines.filter_map(|line| acknowledged(&line)).last().unwrap_or(last);
        process.wait().unwrap();

        let snapshot = open(folder.path()).snapshot();
        let number = snapshot.number();
        assert!((last..=last + 1).contains(&number), "batch {last} was answered, the files end at {number}");
        assert_whole_batches(&snapshot);
        last = number;
    }
}

#[test]
#[ignore = "run by acknowledged_batches_survive_kill_9"]
fn child_commits_until_killed() {
    let engine = open(&folder_of_child());
    let mut out = std::io::stdout().lock();
    let first = engine.snapshot().number() + 1;
    for number in first.. {
        // Large enough that flushes run, and a journal is closed, within a few rounds.
        let large = put("large", vec![b'x'; 64 * 1024]);
        assert_eq!(engine.commit(four_rows(number).into_iter().chain([large])).unwrap(), number);
        writeln!(out, "acknowledged {number}").unwrap();
    }
}

/// A limit on the size of files makes the operating system refuse a write in the middle of a batch.
#[test]
fn a_write_that_the_disk_refuses_poisons_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path());
    // Reopened, so that the journal has no preallocated space beyond the limit.
    drop(open(folder.path()));
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 400; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["crash::child_meets_a_full_disk", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let last = text.lines().filter_map(acknowledged).next_back().unwrap();

    let engine = open(folder.path());
    let snapshot = engine.snapshot();
    assert_eq!(snapshot.number(), last);
    for number in 1..=last {
        assert!(
            get(&snapshot, &format!("row/{number}/a")).is_some()
                && get(&snapshot, &format!("row/{number}/b")).is_some()
        );
    }
    let beyond = last + 1;
    assert_eq!(
        (get(&snapshot, &format!("row/{beyond}/a")), get(&snapshot, &format!("row/{beyond}/b"))),
        (None, None)
    );
    assert_eq!(engine.commit([put("a", "1")]).unwrap(), beyond);
}

#[test]
#[ignore = "run by a_write_that_the_disk_refuses_poisons_and_loses_nothing"]
fn child_meets_a_full_disk() {
    let engine = open(&folder_of_child());
    let value = "x".repeat(10_000);
    let mut last = 0;
    let error = loop {
        let next = last + 1;
        match engine.commit([put(format!("row/{next}/a"), &value), put(format!("row/{next}/b"), &value)]) {
            Ok(number) => {
                println!("acknowledged {number}");
                last = number;
            }
            Err(error) => break error,
        }
        assert!(last < 1000, "the limit was never met");
    };
    assert!(matches!(error, EngineError::Write(_)), "{error}");
    assert!(engine.is_poisoned());
    assert!(matches!(engine.commit([put("a", "1")]), Err(EngineError::Poisoned)));
    let snapshot = engine.snapshot();
    assert_eq!(snapshot.number(), last);
    assert_eq!(get(&snapshot, &format!("row/{}/a", last + 1)), None);
}

#[test]
fn a_flush_that_fails_in_the_background_poisons() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    let tables = folder.path().join("engine/keyspaces/1/tables");
    std::fs::rename(&tables, folder.path().join("engine/keyspaces/1/elsewhere")).unwrap();
    let value = "x".repeat(1024 * 1024);
    let mut last = 0;
    let error = loop {
        match engine.commit([put("row", &value), put("batch", (last + 1).to_string())]) {
            Ok(number) => last = number,
            Err(error) => break error,
        }
        assert!(last < 500, "no flush has failed");
    };
    assert!(matches!(error, EngineError::Write(_) | EngineError::Background), "{error}");
    assert!(engine.is_poisoned());
    drop(engine);

    std::fs::rename(folder.path().join("engine/keyspaces/1/elsewhere"), &tables).unwrap();
    let snapshot = open(folder.path()).snapshot();
    assert_eq!((snapshot.number(), get(&snapshot, "batch")), (last, Some(last.to_string())));
}
