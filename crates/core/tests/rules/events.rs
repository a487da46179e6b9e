//! What subscribers are told: in the commit of the change, numbered without gaps, with what was there before.

use sidenote_core::command::GroupAction;
use sidenote_core::event::{CallerKind, Happening};
use sidenote_core::ids::{EventNumber, Timestamp};
use sidenote_core::query::Events;
use sidenote_core::rows::{Row, RowKey};

use crate::world::{World, group, member, operator, poll, tiny_id, user};

#[test]
fn events_of_a_set_carry_the_pairs_before_and_after() {
    let mut world = World::new();
    world.say("ann: set a=x@0 b=y@0");
    world.say("bob: set a=z@1 b=no@7");
    world.say("admin: delete a");
    world.say("ann: set a=w@0");
    world.say("ann: delete b@1");
    world.say("bob: clear");
    world.say("bob: clear");
    assert_eq!(
        world.told(),
        [
            "1/0 set a=x@1 b=y@1",
            "2/0 set a=z@2 (x@1)",
            "3/0 delete -a@3 (z@2)",
            "4/0 set a=w@4 (-@3)",
            "5/0 delete -b@5 (y@1)",
            // A clear names the live pairs that it dropped.
            "6/6 clear -a@6 (w@4)",
            "7/7 clear",
        ]
    );
}

#[test]
fn an_event_names_its_operator_its_time_and_the_id_of_the_message() {
    let mut world = World::new();
    world.now = Timestamp::from_millis(1_700_000_123_456);
    world.say("connected bob: set a=x@0");
    let event = world.events().last().unwrap().clone();
    assert_eq!((event.at, event.operator.clone()), (world.now, operator("connected bob")));
    assert_eq!(event.operator.kind, CallerKind::Connected);
    let Happening::Extension(change) = &event.what else { panic!("{event:?}") };
    assert_eq!((change.message, change.sender_tiny_id), (poll(), tiny_id("ann")));
    assert_eq!((change.client_time, change.random), (1_700_000_000, 2));
}

#[test]
fn a_request_that_changes_nothing_tells_nothing() {
    let mut world = World::new();
    let before = world.events().len();
    for command in ["ann: set a=x@5", "ann: delete a@0", "eve: clear"] {
        world.say(command);
        assert_eq!(world.events().len(), before, "{command}");
    }
}

#[test]
fn events_are_numbered_from_one_without_gaps_several_in_one_commit() {
    let mut world = World::new();
    world.limits.tombstones_per_message = 0;
    world.say("ann: set a=x@0 b=y@0");
    world.act(GroupAction::AddMembers { members: vec![member("cat")], imported: false });
    world.say("ann: delete a@1");
    world.act(GroupAction::RemoveMembers { users: vec![user("cat")], reason: "bye".to_owned() });
    let numbers: Vec<_> = world.events().iter().map(|event| event.number.get()).collect();
    // Creation, joins, two messages; the set, a join; a delete with its compaction; a leave.
    assert_eq!(numbers, (1..=10).collect::<Vec<_>>());
    assert_eq!(last_event(&world), EventNumber::new(10));
}

#[test]
fn a_new_incarnation_numbers_its_events_from_one_again() {
    let mut world = World::new();
    world.say("ann: set a=x@0");
    let old = world.incarnation();
    world.expect_done(GroupAction::Destroy);
    world.found(sidenote_core::group::GroupType::Public);
    assert_ne!(world.incarnation(), old);
    assert_eq!(last_event(&world), EventNumber::new(4));
}

#[test]
fn events_beyond_the_count_that_is_kept_go_with_the_commit_that_brings_new_ones() {
    let mut world = World::new();
    world.limits.events_kept = 3;
    for _ in 0..5 {
        world.say("ann: clear");
    }
    let kept: Vec<_> = world.events().iter().map(|event| event.number.get()).collect();
    // The first four were written before the limit was lowered; each later one took one away.
    assert_eq!(kept.iter().rev().take(3).copied().collect::<Vec<_>>(), [9, 8, 7]);
    let page = |after| {
        let after = EventNumber::new(after);
        world.ask(Events { id: group(), incarnation: world.incarnation(), after, limit: 10 })
    };
    assert!(page(4).cursor_too_old);
    assert!(!page(8).cursor_too_old);
    assert_eq!(page(8).events.len(), 1);
    assert!(!page(9).cursor_too_old);
    // What is left of the time before is on the far side of a gap, and no page leads over it.
    assert_eq!(kept, [1, 7, 8, 9]);
    let before_the_gap: Vec<_> = page(0).events.iter().map(|event| event.number.get()).collect();
    assert_eq!((before_the_gap, page(0).ends_at_gap), (vec![1], true));
    assert!(!page(6).ends_at_gap);
}

fn last_event(world: &World) -> EventNumber {
    let counters = world.rows.0.iter().find_map(|(key, row)| match (key, row) {
        (RowKey::Within(of, _), Row::Counters(counters)) if *of == world.incarnation() => Some(counters),
        _ => None,
    });
    assert!(world.rows.0.contains_key(&RowKey::Conversation(group())));
    counters.unwrap().last_event
}
