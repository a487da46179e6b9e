//! On whose behalf a store is asked. What the rules say to the caller otherwise, other scenarios show.

use std::sync::Arc;

use sidenote_core::command::{Action, Command, GroupAction};
use sidenote_core::decide::ItemVerdict;
use sidenote_core::event::Operator;
use sidenote_core::extension::Seq;
use sidenote_core::ids::TinyId;
use sidenote_core::query::{DescribeGroup, JoinedGroups, Pull};
use sidenote_core::{Outcome, Refusal};

use crate::caller::Caller;
use crate::conformance::world::{World, caller, msg_seq, saw, set};

/// Anybody of this name, or only this person.
fn behalf(world: &World, name: &str, tiny_id: Option<TinyId>) -> Caller {
    Caller { account: world.account_id(name), tiny_id }
}

/// An operator whose number nobody knows yet.
fn unnumbered(name: &str) -> Operator {
    Operator { tiny_id: None, ..caller(name, TinyId::from_random(0)) }
}

fn setting(world: &World, name: &str, poll: u64, key: &str) -> Command {
    let extend = GroupAction::Extend(msg_seq(poll), set(key, name, saw(0)));
    Command { operator: unnumbered(name), ..world.command(Action::Group(world.group_id("room"), extend)) }
}

fn pull(world: &World, name: &str, poll: u64) -> Pull {
    let (id, seq) = (world.group_id("room"), msg_seq(poll));
    Pull { id, seq, operator: unnumbered(name), start: Seq::NEVER, tombstones: false }
}

pub(super) async fn who_has_no_account_is_told_so_and_changes_nothing(world: World) {
    let ann = world.import("ann").await;
    world.create("room", &["ann"]).await;
    let poll = world.send("room", true).await;
    let store = &world.store;
    let eve = behalf(&world, "eve", None);
    assert!(store.execute_by(&eve, setting(&world, "eve", poll, "k")).await.expect("it answers").is_none());
    assert!(store.ask_by(&eve, pull(&world, "eve", poll)).await.expect("it answers").is_none());
    assert!(
        store.ask_by(&eve, DescribeGroup { id: world.group_id("none") }).await.expect("it answers").is_none()
    );
    // Nobody with that number, though with that name.
    let other = behalf(&world, "ann", Some(TinyId::from_random(ann.get() ^ 2)));
    assert!(store.execute_by(&other, setting(&world, "ann", poll, "k")).await.expect("it answers").is_none());
    assert!(store.ask_by(&other, pull(&world, "ann", poll)).await.expect("it answers").is_none());
    assert!(world.pairs("room", poll).await.is_empty());

    world.delete_account("ann").await;
    for ann in [behalf(&world, "ann", None), behalf(&world, "ann", Some(ann))] {
        let set = setting(&world, "ann", poll, "k");
        assert!(store.execute_by(&ann, set).await.expect("it answers").is_none());
        assert!(store.ask_by(&ann, pull(&world, "ann", poll)).await.expect("it answers").is_none());
    }
    assert!(world.pairs("room", poll).await.is_empty());
}

pub(super) async fn the_rules_learn_who_the_caller_is(world: World) {
    let ann = world.import("ann").await;
    world.import("bob").await;
    world.create("room", &["ann"]).await;
    let poll = world.send("room", true).await;
    let store = &world.store;
    for (key, tiny_id) in [("a", None), ("b", Some(ann))] {
        let ann = behalf(&world, "ann", tiny_id);
        let done = store.execute_by(&ann, setting(&world, "ann", poll, key)).await.expect("it answers");
        let Some(Ok(Outcome::Extended(extended))) = done else { panic!("she may: {done:?}") };
        assert_eq!(extended.items[0].verdict, ItemVerdict::Accepted);
        let page = store.ask_by(&ann, pull(&world, "ann", poll)).await.expect("it answers");
        assert_eq!(page.expect("she is known").expect("she may").latest, extended.latest);
    }
    // It stands in the log too.
    let events = world.events(world.incarnation("room").await, 0).await;
    assert_eq!(events.last().and_then(|event| event.operator.tiny_id), Some(ann));
    // An account that is there and no member is told that.
    let bob = behalf(&world, "bob", None);
    let refused = store.execute_by(&bob, setting(&world, "bob", poll, "k")).await.expect("it answers");
    assert_eq!(refused.expect("he is known").err(), Some(Refusal::NotAMember));
    let refused = store.ask_by(&bob, pull(&world, "bob", poll)).await.expect("it answers");
    assert_eq!(refused.expect("he is known").err(), Some(Refusal::NotAMember));
    // Questions that are answered in more than one step.
    let account = world.account_id("ann");
    let joined = JoinedGroups { account, after: None, limit: 10 };
    let groups = store.ask_by(&behalf(&world, "ann", None), joined).await.expect("it answers");
    assert_eq!(groups.expect("she is known").groups.len(), 1);
}

pub(super) async fn of_many_at_once_those_are_heard_who_are_somebody(world: World) {
    let names: Vec<_> = (0..8).map(|number| format!("member-{number}")).collect();
    for name in &names {
        world.import(name).await;
    }
    world.create("room", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let poll = world.send("room", true).await;
    let world = Arc::new(world);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..64 {
        let (world, is_known) = (Arc::clone(&world), number % 4 != 3);
        let name = if is_known { names[number % 8].clone() } else { format!("nobody-{number}") };
        tasks.spawn(async move {
            let behalf = behalf(&world, &name, None);
            let set = setting(&world, &name, poll, &format!("key-{number}"));
            let done = world.store.execute_by(&behalf, set).await.expect("it answers");
            assert_eq!(done.is_some(), is_known, "{name}");
            assert!(done.is_none_or(|verdict| verdict.is_ok()), "{name}");
        });
    }
    tasks.join_all().await;
    let pairs = world.pairs("room", poll).await;
    assert_eq!(pairs.len(), 48);
    assert!(pairs.iter().all(|(_, value, _)| value.starts_with("member-")));
}
