//! The engine under test from outside: what it keeps, what it refuses, and what a crash leaves.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking, and so may the functions it calls")]

mod batches;
mod crash;
mod damage;
mod folder;
mod losses;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use sidenote_store_embedded::engine::{Change, Engine, OpenError, Order, Settings, Snapshot};

const FOLDER: &str = "SIDENOTE_ENGINE_TEST_FOLDER";

fn open(folder: &Path) -> Engine {
    Engine::open(folder, &Settings::default()).unwrap()
}

fn refusal(folder: &Path) -> OpenError {
    Engine::open(folder, &Settings::default()).unwrap_err()
}

fn put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Change {
    Change::Put { key: key.as_ref().into(), value: value.as_ref().into() }
}

fn delete(key: impl AsRef<[u8]>) -> Change {
    Change::Delete { key: key.as_ref().into() }
}

fn get(snapshot: &Snapshot, key: &str) -> Option<String> {
    snapshot.get(key.as_bytes()).unwrap().map(|value| String::from_utf8(value.to_vec()).unwrap())
}

/// Batch `number` of the tests that crash: four rows that name it.
fn four_rows(number: u64) -> Vec<Change> {
    (0..4).map(|row| put(format!("batch/{number:08}/{row}"), format!("value of batch {number:08}"))).collect()
}

/// All of the batches up to the snapshot's number are there, whole, and nothing of any other.
fn assert_whole_batches(snapshot: &Snapshot) {
    let rows = snapshot.scan_prefix(b"batch/", Order::Ascending, usize::MAX).unwrap();
    let expected = (1..=snapshot.number()).flat_map(four_rows);
    let found = rows.into_iter().map(|(key, value)| Change::Put { key, value });
    assert!(found.eq(expected), "the rows are not those of batches 1 to {}", snapshot.number());
}

/// This test binary again, to run one ignored test in a process of its own.
fn child(test: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"]).env(FOLDER, folder);
    command
}

fn folder_of_child() -> PathBuf {
    std::env::var_os(FOLDER).expect("this test is run by another test, as a child process").into()
}
