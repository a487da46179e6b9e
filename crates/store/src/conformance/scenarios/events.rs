//! Events of a conversation.

use std::collections::BTreeMap;

use sidenote_core::command::{Claim, Extend, GroupAction, Items};
use sidenote_core::event::Happening;
use sidenote_core::extension::Key;
use sidenote_core::ids::EventNumber;
use sidenote_core::query::Events;

use crate::News;
use crate::conformance::world::{World, administrator, caller, key, set, value};

pub(super) async fn events_are_numbered_without_gaps(world: World) {
    let ann = caller("ann", world.import("ann").await);
    world.create("room", &["ann"]).await;
    world.create("other", &["ann"]).await;
    let poll = world.send("room", true).await;
    for _ in 0..10 {
        world.extend(ann.clone(), "room", poll, Extend::Clear).await.expect("she may");
        world.send("other", true).await;
    }
    for (group, expected) in [("room", 13), ("other", 12)] {
        let incarnation = world.incarnation(group).await;
        let events = world.events(incarnation, 0).await;
        let numbers: Vec<_> = events.iter().map(|event| event.number.get()).collect();
        assert_eq!(numbers, (1..=expected).collect::<Vec<_>>(), "{group}");
        assert_eq!(world.events(incarnation, expected - 2).await.len(), 2);
        assert!(world.events(incarnation, expected).await.is_empty());
    }
    let events = world.events(world.incarnation("room").await, 3).await;
    assert!(events.iter().all(|event| event.operator == ann && event.at == world.now()));
}

pub(super) async fn events_of_a_compaction_share_a_commit(world: World) {
    world.create("room", &[]).await;
    let poll = world.send("room", true).await;
    let keys: Vec<_> = (0..150).map(|number| key(&format!("k{number}"))).collect();
    // Seven times 150 pairs written and deleted again pass 1000 tombstones once.
    for round in 0..7 {
        let named = |name: &Key| key(&format!("{round}{}", name.as_str()));
        let pairs = keys.iter().map(|key| ((named(key), value("x")), Claim::Unchecked)).collect();
        let set = Extend::Set(Items::new(pairs).expect("no key twice"));
        world.extend(administrator(), "room", poll, set).await.expect("it may carry pairs");
        let all = keys.iter().map(|key| (named(key), Claim::Unchecked)).collect();
        let delete = Extend::Delete(Items::new(all).expect("no key twice"));
        world.extend(administrator(), "room", poll, delete).await.expect("it may carry pairs");
    }
    let events = world.events(world.incarnation("room").await, 0).await;
    assert!((1..).zip(&events).all(|(number, event)| event.number == EventNumber::new(number)));
    let compactions = events.iter().filter(|event| match &event.what {
        Happening::Extension(change) => change.compaction,
        _ => false,
    });
    assert_eq!(compactions.count(), 1, "a clear, and nothing that lives to be set again");
    let page = world.pull(administrator(), "room", poll, 0, true).await.expect("it may be read");
    assert_eq!((page.pairs.len(), page.latest.get(), page.clear.get()), (0, 15, 15));
    assert_eq!(world.set("room", poll, "a", "x").await, Ok(16));
}

pub(super) async fn followers_are_told_of_every_event(world: World) {
    let mut follower = world.store.news();
    let ann = caller("ann", world.import("ann").await);
    world.create("room", &["ann"]).await;
    world.create("other", &["ann"]).await;
    let poll = world.send("room", true).await;
    for _ in 0..10 {
        world.extend(ann.clone(), "room", poll, Extend::Clear).await.expect("she may");
        world.send("other", true).await;
    }
    let mut told = BTreeMap::new();
    // Whoever is answered finds that followers were told.
    for News { conversation, incarnation, first, last, events } in follower.take().news {
        let ends = [events.first(), events.last()].map(|event| event.map(|event| event.number));
        assert_eq!(ends, [Some(first), Some(last)], "small events are handed over");
        told.insert((conversation, incarnation), events);
    }
    for group in ["room", "other"] {
        let incarnation = world.incarnation(group).await;
        let told = told.remove(&(world.group_id(group), incarnation));
        assert_eq!(told, Some(world.events(incarnation, 0).await), "{group}");
    }
    assert!(told.is_empty());
}

/// With five events kept.
pub(super) async fn a_cursor_too_old_is_told(world: World) {
    world.create("room", &[]).await;
    let poll = world.send("room", true).await;
    for _ in 0..8 {
        let clear = set("a", "x", Claim::Unchecked);
        world.extend(administrator(), "room", poll, clear).await.expect("it may carry pairs");
    }
    let incarnation = world.incarnation("room").await;
    for (after, expected, cursor_too_old) in
        [(0, 5, true), (4, 5, true), (5, 5, false), (6, 4, false), (10, 0, false)]
    {
        let (id, after_number) = (world.group_id("room"), EventNumber::new(after));
        let question = Events { id, incarnation, after: after_number, limit: 100 };
        let page = world.store.ask(question).await.expect("the store works");
        assert_eq!((page.events.len(), page.cursor_too_old), (expected, cursor_too_old), "after {after}");
    }
}

pub(super) async fn old_events_are_trimmed(world: World) {
    let week = sidenote_core::Limits::default().events_kept_millis;
    world.create("room", &[]).await;
    let incarnation = world.incarnation("room").await;
    for _ in 0..300 {
        world.send("room", true).await;
    }
    world.wait(week - 1);
    world.settle().await;
    assert_eq!(world.events(incarnation, 0).await.len(), 301);
    world.send("room", true).await;
    world.wait(1);
    world.settle().await;
    let left = world.events(incarnation, 0).await;
    assert_eq!(left.iter().map(|event| event.number.get()).collect::<Vec<_>>(), [302]);
    // It goes on for as long as the group lives, and to the end once it is gone.
    for _ in 0..3 {
        world.wait(week);
        world.settle().await;
        assert!(world.events(incarnation, 0).await.is_empty());
        world.send("room", true).await;
    }
    world.act_on("room", GroupAction::Destroy).await.expect("it is there");
    world.wait(2 * week);
    world.settle().await;
    assert!(world.events(incarnation, 0).await.is_empty());
    assert_eq!(world.owed().await, []);
}
