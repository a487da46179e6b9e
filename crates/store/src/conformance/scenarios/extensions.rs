//! Extension sets. The random requests of the property test go further; these show what they cannot reach.

use sidenote_core::Refusal;
use sidenote_core::command::{Claim, Extend, Items};
use sidenote_core::decide::ItemVerdict;
use sidenote_core::extension::{Key, Value};

use crate::conformance::world::{World, administrator, caller, delete, key, saw, set, value};

pub(super) async fn pairs_have_versions(world: World) {
    let ann = caller("ann", world.import("ann").await);
    world.create("room", &["ann"]).await;
    let poll = world.send("room", true).await;
    let rows = [
        (set("a", "x", saw(0)), ItemVerdict::Accepted, Some("x"), 1),
        (set("a", "y", saw(0)), ItemVerdict::Conflict, Some("x"), 1),
        (set("a", "y", saw(1)), ItemVerdict::Accepted, Some("y"), 2),
        (delete("b", saw(0)), ItemVerdict::NoSuchPair, None, 0),
        (delete("a", saw(1)), ItemVerdict::Conflict, Some("y"), 2),
        (delete("a", saw(2)), ItemVerdict::Accepted, None, 3),
        (set("a", "z", saw(2)), ItemVerdict::Conflict, None, 3),
        (set("a", "z", saw(3)), ItemVerdict::Accepted, Some("z"), 4),
    ];
    for (extend, verdict, held, seq) in rows {
        let extended = world.extend(ann.clone(), "room", poll, extend.clone()).await.expect("she may");
        let item = &extended.items[0];
        let holds = item.pair.value.as_ref().map(Value::as_str);
        assert_eq!((item.verdict, holds, item.pair.seq.get()), (verdict, held, seq), "{extend:?}");
    }
    let cleared = world.extend(ann.clone(), "room", poll, Extend::Clear).await.expect("she may");
    assert_eq!((cleared.latest.get(), cleared.items.len()), (5, 0));
    let page = world.pull(ann, "room", poll, 0, true).await.expect("she may");
    assert_eq!((page.pairs.len(), page.complete, page.latest.get(), page.clear.get()), (0, true, 5, 5));
}

pub(super) async fn keys_come_in_the_order_of_their_bytes(world: World) {
    world.create("room", &[]).await;
    let poll = world.send("room", true).await;
    let longest = "k".repeat(Key::MAX_BYTES);
    let mut keys = vec![
        "a",
        "A",
        "a\0",
        "a\0b",
        "ab",
        "\0",
        "é",
        "e\u{301}",
        "\u{ffff}",
        "\u{1f600}",
        "~",
        longest.as_str(),
    ];
    let large = "😀".repeat(Value::MAX_BYTES / 4);
    let items = keys.iter().map(|name| ((key(name), value(&large)), Claim::Unchecked)).collect();
    let all = Extend::Set(Items::new(items).expect("no key twice"));
    world.extend(administrator(), "room", poll, all).await.expect("it may carry pairs");
    // A neighbour whose rows lie right after.
    let next = world.send("room", true).await;
    world.set("room", next, "\0", "x").await.expect("it may carry pairs");
    let pairs = world.pairs("room", poll).await;
    keys.sort_unstable();
    assert_eq!(pairs.iter().map(|(key, ..)| key.as_str()).collect::<Vec<_>>(), keys);
    assert!(pairs.iter().all(|(_, value, seq)| *value == large && *seq == 1));
    assert_eq!(world.pairs("room", next).await.len(), 1);
}

pub(super) async fn three_hundred_pairs_come_in_two_pages(world: World) {
    world.create("room", &[]).await;
    let poll = world.send("room", true).await;
    for request in 0..15 {
        let items = (0..20).map(|pair| {
            let number = request * 20 + pair;
            ((key(&format!("k{number:03}")), value(&format!("v{number}"))), Claim::Unchecked)
        });
        let extend = Extend::Set(Items::new(items.collect()).expect("no key twice"));
        let extended = world.extend(administrator(), "room", poll, extend).await.expect("it may carry pairs");
        assert!(extended.items.iter().all(|item| item.verdict == ItemVerdict::Accepted));
    }
    let items = ["k000", "new"].map(|name| ((key(name), value("w")), Claim::Unchecked));
    let extend = Extend::Set(Items::new(items.to_vec()).expect("no key twice"));
    let extended = world.extend(administrator(), "room", poll, extend).await.expect("it may carry pairs");
    let verdicts: Vec<_> = extended.items.iter().map(|item| item.verdict).collect();
    assert_eq!(verdicts, [ItemVerdict::Accepted, ItemVerdict::Full]);

    let first = world.pull(administrator(), "room", poll, 0, false).await.expect("it may be read");
    assert_eq!((first.pairs.len(), first.complete, first.latest.get()), (199, false, 16));
    let pairs = world.pairs("room", poll).await;
    assert_eq!(pairs.len(), 300);
    assert_eq!(pairs.last(), Some(&("k000".to_owned(), "w".to_owned(), 16)));
}

pub(super) async fn attempts_are_counted_for_a_minute(world: World) {
    let ann = caller("ann", world.import("ann").await);
    world.create("room", &["ann"]).await;
    let poll = world.send("room", true).await;
    for attempt in 0..200_u64 {
        let who = if attempt % 2 == 0 { administrator() } else { ann.clone() };
        // Half of them are refused, and count all the same.
        let extended = world.extend(who, "room", poll, set("a", "x", saw(9999))).await.expect("200 are free");
        assert_eq!(extended.latest.get(), attempt / 2 + 1);
    }
    let clear = || world.extend(administrator(), "room", poll, Extend::Clear);
    assert_eq!(clear().await, Err(Refusal::TooManyAttempts));
    world.wait(59_999);
    assert_eq!(clear().await, Err(Refusal::TooManyAttempts));
    assert_eq!(world.pairs("room", poll).await, [("a".to_owned(), "x".to_owned(), 100)]);
    world.wait(1);
    assert!(clear().await.is_ok());
}

pub(super) async fn tombstones_are_compacted(world: World) {
    world.create("room", &[]).await;
    let poll = world.send("room", true).await;
    for name in ["a", "b", "c", "d"] {
        world.set("room", poll, name, "x").await.expect("it may carry pairs");
    }
    for (name, latest) in [("a", 5), ("b", 6), ("c", 9)] {
        let extend = delete(name, Claim::Unchecked);
        let extended = world.extend(administrator(), "room", poll, extend).await.expect("it may carry pairs");
        assert_eq!(extended.latest.get(), latest);
    }
    let page = world.pull(administrator(), "room", poll, 0, true).await.expect("it may be read");
    let pairs: Vec<_> = page.pairs.iter().map(|pair| (pair.key.as_str(), pair.seq.get())).collect();
    assert_eq!((pairs, page.latest.get(), page.clear.get()), (vec![("d", 9)], 9, 8));
}
