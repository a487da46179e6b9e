//! Many at once. Tasks, so that a runtime of several threads runs them side by side.

use sidenote_core::command::{Claim, Extend, GroupAction, Items};
use sidenote_core::decide::ItemVerdict;
use sidenote_core::event::{ChangedPair, Happening, Operation};
use sidenote_core::extension::Value;
use sidenote_core::{Outcome, Refusal};
use tokio::task::JoinSet;

use crate::conformance::world::{World, administrator, caller, delete, key, saw, set, value};

/// Tasks in each race.
const TASKS: usize = 16;

pub(super) async fn one_of_many_writers_wins_each_round(world: World) {
    let ann = caller("ann", world.import("ann").await);
    world.create("room", &["ann"]).await;
    let poll = world.send("room", true).await;
    for round in 0..10_u64 {
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let (world, ann) = (world.clone(), ann.clone());
            tasks.spawn(async move {
                let name = format!("{round}/{task}");
                let extended = world.extend(ann, "room", poll, set("seat", &name, saw(round))).await;
                (name, extended.expect("she may"))
            });
        }
        let answers = tasks.join_all().await;
        let won = |verdict| answers.iter().filter(move |(_, answer)| answer.items[0].verdict == verdict);
        let winners: Vec<_> = won(ItemVerdict::Accepted).map(|(name, _)| name.as_str()).collect();
        assert_eq!((winners.len(), won(ItemVerdict::Conflict).count()), (1, TASKS - 1), "round {round}");
        for (_, answer) in &answers {
            let pair = &answer.items[0].pair;
            let shown = (pair.value.as_ref().map(Value::as_str), pair.seq.get());
            assert_eq!(shown, (Some(winners[0]), round + 1), "losers are shown the winner");
        }
    }
    assert_eq!(world.pairs("room", poll).await.len(), 1);
}

pub(super) async fn writers_of_many_keys_all_win(world: World) {
    world.create("room", &[]).await;
    let poll = world.send("room", true).await;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let world = world.clone();
        tasks.spawn(async move {
            let mut seqs = Vec::new();
            for round in 0..5 {
                let name = format!("{task}");
                seqs.push(world.set("room", poll, &name, &format!("{round}")).await.expect("80 attempts"));
            }
            seqs
        });
    }
    let mut seqs = tasks.join_all().await;
    assert!(seqs.iter().all(|seqs| seqs.is_sorted()));
    let mut all: Vec<_> = seqs.drain(..).flatten().collect();
    all.sort_unstable();
    assert_eq!(all, (1..=80).collect::<Vec<_>>(), "every change has a number of its own");
    let pairs = world.pairs("room", poll).await;
    assert!(pairs.len() == TASKS && pairs.iter().all(|(_, value, _)| value == "4"), "{pairs:?}");
    let events = world.events(world.incarnation("room").await, 0).await;
    assert!((1..).zip(&events).all(|(number, event)| event.number.get() == number));
    assert_eq!(events.len(), 82);
}

/// A store may decide those that wait together in one go, from rows that it has read once.
pub(super) async fn clears_side_by_side_tell_each_pair_once(world: World) {
    world.create("room", &[]).await;
    let poll = world.send("room", true).await;
    for _ in 0..5 {
        world.set("room", poll, "a", "x").await.expect("it may carry pairs");
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let world = world.clone();
            let extend = match task {
                // Those that come first find nobody to wait with, and leave a pair behind.
                0..6 => set("a", "y", Claim::Unchecked),
                6 | 9 => delete("a", Claim::Unchecked),
                _ => Extend::Clear,
            };
            tasks.spawn(async move {
                world.extend(administrator(), "room", poll, extend).await.expect("it may carry pairs");
            });
        }
        tasks.join_all().await;
        world.wait(60_000);
    }
    let mut held = None;
    for event in world.events(world.incarnation("room").await, 0).await {
        let Happening::Extension(change) = &event.what else { continue };
        let previous =
            |pair: &ChangedPair| pair.previous.as_ref().and_then(|previous| previous.value.clone());
        let before: Vec<_> = change.pairs.iter().map(previous).collect();
        if change.operation == Operation::Clear {
            let expected: Vec<_> = held.take().into_iter().map(Some).collect();
            assert_eq!(before, expected, "event {}: what a clear drops was there", event.number.get());
        } else {
            assert_eq!(before, [held.take()], "event {}", event.number.get());
            held = change.pairs.iter().find_map(|pair| pair.value.clone());
        }
    }
}

pub(super) async fn a_group_is_made_by_one_of_many(world: World) {
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let world = world.clone();
        tasks.spawn(async move {
            let new = world.creation(None, &["ann"]).await;
            world.act_on("room", GroupAction::Create(Box::new(new))).await
        });
    }
    let answers = tasks.join_all().await;
    let made = answers.iter().filter(|answer| **answer == Ok(Outcome::Done)).count();
    let taken = answers.iter().filter(|answer| **answer == Err(Refusal::GroupIdTaken)).count();
    assert_eq!((made, taken), (1, TASKS - 1));
    assert_eq!(world.members("room").await, Ok(vec!["ann".to_owned()]));
}

pub(super) async fn readers_see_no_half_request_and_no_step_back(world: World) {
    world.create("room", &[]).await;
    let poll = world.send("room", true).await;
    let mut tasks = JoinSet::new();
    for task in 0..4 {
        let (writer, reader) = (world.clone(), world.clone());
        tasks.spawn(async move {
            for round in 0..20 {
                let pair = |name| ((key(name), value(&format!("{task}/{round}"))), Claim::Unchecked);
                let both = Extend::Set(Items::new(vec![pair("left"), pair("right")]).expect("two keys"));
                let written = writer.extend(administrator(), "room", poll, both).await.expect("80 attempts");
                let page =
                    writer.pull(administrator(), "room", poll, 0, false).await.expect("it may be read");
                assert!(page.latest >= written.latest, "an answered write is seen by whoever asks next");
            }
        });
        tasks.spawn(async move {
            let mut latest = 0;
            while latest < 80 {
                let page =
                    reader.pull(administrator(), "room", poll, 0, false).await.expect("it may be read");
                assert!(page.latest.get() >= latest, "LatestSeq never goes back");
                latest = page.latest.get();
                if let [left, right] = &page.pairs[..] {
                    assert_eq!((&left.value, left.seq), (&right.value, right.seq), "both or none");
                } else {
                    assert!(page.pairs.is_empty() && latest == 0, "{page:?}");
                }
                tokio::task::yield_now().await;
            }
        });
    }
    tasks.join_all().await;
}
