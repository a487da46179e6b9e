use std::{
    ops::Bound::{self, Excluded, Included, Unbounded},
    sync::atomic::{AtomicBool, Ordering},
};

use sidenote_store_embedded::engine::{
    EngineError, MAX_BATCH_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES, Order, RESERVED_PREFIX, Snapshot,
};

use crate::{assert_whole_batches, delete, four_rows, get, open, put};

fn keys(rows: Vec<(impl AsRef<[u8]>, impl AsRef<[u8]>)>) -> Vec<String> {
    rows.into_iter().map(|(key, _)| String::from_utf8(key.as_ref().to_vec()).unwrap()).collect()
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    {
        let engine = open(folder.path());
        assert_eq!(engine.snapshot().number(), 0);
        assert_eq!(engine.commit([put("a", "1"), put("b", "2")]).unwrap(), 1);
        assert_eq!(engine.commit([delete("a"), put("b", "3")]).unwrap(), 2);
        assert_eq!(engine.commit([]).unwrap(), 3);
    }
    let engine = open(folder.path());
    let snapshot = engine.snapshot();
    assert_eq!(snapshot.number(), 3);
    assert_eq!((get(&snapshot, "a"), get(&snapshot, "b")), (None, Some("3".to_owned())));
    assert_eq!(engine.commit([put("a", "4")]).unwrap(), 4);
    assert!(engine.disk_bytes().unwrap() > 0);
}

#[test]
fn the_later_change_of_one_key_holds() {
    let folder = tempfile::tempdir().unwrap();
    {
        let engine = open(folder.path());
        engine
            .commit([put("a", "1"), put("a", "2"), put("b", "1"), delete("b"), delete("c"), put("c", "3")])
            .unwrap();
        let now = engine.snapshot();
        assert_eq!(
            (get(&now, "a").as_deref(), get(&now, "b"), get(&now, "c").as_deref()),
            (Some("2"), None, Some("3"))
        );
    }
    let again = open(folder.path()).snapshot();
    assert_eq!(
        (get(&again, "a").as_deref(), get(&again, "b"), get(&again, "c").as_deref()),
        (Some("2"), None, Some("3"))
    );
}

#[test]
fn a_refused_batch_writes_nothing_and_the_engine_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    let long_key = vec![b'k'; MAX_KEY_BYTES + 1];
    let long_value = vec![b'v'; MAX_VALUE_BYTES + 1];

    let refused = |change| engine.commit([put("a", "1"), change]).unwrap_err();
    assert!(matches!(refused(put("", "1")), EngineError::KeyLength { bytes: 0 }));
    assert!(matches!(refused(delete("")), EngineError::KeyLength { bytes: 0 }));
    assert!(
        matches!(refused(put(&long_key, "1")), EngineError::KeyLength { bytes } if bytes == MAX_KEY_BYTES + 1)
    );
    assert!(matches!(refused(put("b", &long_value)), EngineError::ValueTooLong { .. }));
    assert!(matches!(refused(put([RESERVED_PREFIX, b'n'], "1")), EngineError::ReservedKey));
    let most = vec![b'v'; MAX_VALUE_BYTES];
    let too_many = (0..=MAX_BATCH_BYTES / MAX_VALUE_BYTES).map(|row| put(row.to_string(), &most));
    assert!(matches!(engine.commit(too_many), Err(EngineError::BatchTooLarge)));

    assert!(!engine.is_poisoned());
    let snapshot = engine.snapshot();
    assert_eq!((snapshot.number(), get(&snapshot, "a")), (0, None));
    assert_eq!(engine.commit([put(&long_key[1..], &long_value[1..])]).unwrap(), 1);
    assert_eq!(engine.snapshot().get(&long_key[1..]).unwrap().unwrap().len(), MAX_VALUE_BYTES);
}

#[test]
fn a_snapshot_does_not_see_later_batches() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    engine.commit([put("a", "old"), put("b", "old")]).unwrap();
    let before = engine.snapshot();
    engine.commit([put("a", "new"), delete("b"), put("c", "new")]).unwrap();
    let after = engine.snapshot();

    assert_eq!((before.number(), after.number()), (1, 2));
    assert_eq!(keys(before.scan_prefix(b"", Order::Ascending, 10).unwrap()), ["a", "b"]);
    assert_eq!(get(&before, "a").as_deref(), Some("old"));
    assert_eq!(keys(after.scan_prefix(b"", Order::Ascending, 10).unwrap()), ["a", "c"]);
    assert_eq!(get(&after.clone(), "a").as_deref(), Some("new"));
}

#[test]
fn scans_go_both_ways_within_bounds_and_limits() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    engine.commit(["a1", "b1", "b2", "b3", "c1"].map(|key| put(key, "x"))).unwrap();
    engine.commit([put([b'z', 0xff], "x"), put([b'z', 0xff, 0xff], "x"), put([0xff], "x")]).unwrap();
    let snapshot = engine.snapshot();
    let up =
        |prefix: &str, limit| keys(snapshot.scan_prefix(prefix.as_bytes(), Order::Ascending, limit).unwrap());
    let down = |prefix: &str, limit| {
        keys(snapshot.scan_prefix(prefix.as_bytes(), Order::Descending, limit).unwrap())
    };

    assert_eq!(up("b", 10), ["b1", "b2", "b3"]);
    assert_eq!(down("b", 10), ["b3", "b2", "b1"]);
    assert_eq!(up("b", 2), ["b1", "b2"]);
    assert_eq!(down("b", 2), ["b3", "b2"]);
    assert!(up("b", 0).is_empty() && up("d", 10).is_empty() && down("bb", 10).is_empty());
    assert_eq!(up("", 1), ["a1"], "the engine's own row does not show");
    assert_eq!(snapshot.scan_prefix(&[b'z', 0xff], Order::Ascending, 10).unwrap().len(), 2);
    assert_eq!(snapshot.scan_prefix(&[0xff], Order::Descending, 10).unwrap().len(), 1);

    let range = |from: Bound<&str>, to: Bound<&str>, order| {
        let rows = snapshot.scan(from.map(str::as_bytes), to.map(str::as_bytes), order, 10).unwrap();
        keys(rows)
    };
    assert_eq!(range(Included("a1"), Excluded("b2"), Order::Ascending), ["a1", "b1"]);
    assert_eq!(range(Excluded("a1"), Included("b2"), Order::Descending), ["b2", "b1"]);
    assert_eq!(range(Unbounded, Excluded("b1"), Order::Ascending), ["a1"]);
    assert_eq!(range(Included("b2"), Included("b2"), Order::Ascending), ["b2"]);
    assert!(range(Included("b2"), Excluded("b2"), Order::Ascending).is_empty());
    assert!(range(Included("c"), Included("a"), Order::Descending).is_empty());
    assert!(range(Unbounded, Excluded(""), Order::Ascending).is_empty());
}

#[test]
fn the_engines_own_rows_do_not_show() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    engine.commit([put("a", "1")]).unwrap();
    let snapshot = engine.snapshot();
    assert_eq!(snapshot.get(&[RESERVED_PREFIX, b'n']).unwrap(), None);
    assert!(snapshot.scan_prefix(&[RESERVED_PREFIX], Order::Ascending, 10).unwrap().is_empty());
}

/// Flushes and compactions raise fjall's visible number while a batch is being synced; see the module's text.
/// Enough is written that many of them run.
#[test]
fn readers_see_whole_batches_while_flushes_and_compactions_run() {
    let folder = tempfile::tempdir().unwrap();
    let done = AtomicBool::new(false);
    let engine = open(folder.path());
    let check = |snapshot: &Snapshot| {
        let number = snapshot.number();
        for row in 0..4 {
            let found = snapshot.get(format!("row/{row}").as_bytes()).unwrap();
            let found = found.map_or(0, |value| u64::from_le_bytes(value[..8].try_into().unwrap()));
            assert_eq!(found, number, "row {row} in a snapshot of batch {number}");
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    let snapshot = engine.snapshot();
                    check(&snapshot);
                    std::thread::yield_now();
                    check(&snapshot);
                }
            });
        }
        for number in 1..=1500_u64 {
            let mut value = vec![b'x'; 32 * 1024];
            value[..8].copy_from_slice(&number.to_le_bytes());
            let batch = (0..4).map(|row| put(format!("row/{row}"), &value));
            assert_eq!(engine.commit(batch).unwrap(), number);
        }
        done.store(true, Ordering::Release);
    });

    // Far more than one journal holds: reopening reads tables and journals together.
    drop(engine);
    let engine = open(folder.path());
    assert_eq!(engine.snapshot().number(), 1500);
    check(&engine.snapshot());
    assert_eq!(engine.commit(four_rows(1501)).unwrap(), 1501);
}

#[test]
fn many_small_batches_survive_reopening_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let engine = open(folder.path());
        assert_eq!(engine.snapshot().number(), round * 40);
        assert_whole_batches(&engine.snapshot());
        for number in round * 40 + 1..=(round + 1) * 40 {
            assert_eq!(engine.commit(four_rows(number)).unwrap(), number);
        }
    }
}
