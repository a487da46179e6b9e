//! What is left to tell by webhook: one row for a conversation, however many events there are.

use sidenote_core::command::{Action, GroupAction, OutboxAction};
use sidenote_core::decide::{Decision, Outcome};
use sidenote_core::ids::{EventNumber, Incarnation, Timestamp};
use sidenote_core::outbox::{DeadLetter, Gone, Outbox};
use sidenote_core::query::{DeadLetters, Outboxes};
use sidenote_core::rows::{Row, RowKey};

use crate::world::{World, group, operator};

/// The group of the other tests, in an app that is told by webhook. It has four events.
fn world() -> World {
    let mut world = World::empty();
    world.limits.webhook_apps = vec![group().app].leak();
    world.found(sidenote_core::group::GroupType::Public);
    world
}

fn outbox(world: &World) -> Option<Outbox> {
    let question = Outboxes { app: group().app, conversation: None, after: None, limit: 9 };
    let mut found = world.ask(question);
    assert!(found.len() <= 1, "there is one group");
    found.pop().map(|(id, _, outbox)| {
        assert_eq!(id, group());
        outbox
    })
}

fn told(world: &mut World, of: Incarnation, action: OutboxAction) -> Decision {
    world.run(operator("server"), Action::Outbox(group(), of, action))
}

fn settle(world: &mut World, through: u64) -> (u64, bool) {
    let of = world.incarnation();
    let action = OutboxAction::Settle { through: EventNumber::new(through), dead: Vec::new() };
    match told(world, of, action).verdict {
        Ok(Outcome::Settled { after, empty, dropped: 0 }) => (after.get(), empty),
        other => panic!("{other:?}"),
    }
}

fn numbers(world: &World) -> Vec<u64> {
    world.events().iter().map(|event| event.number.get()).collect()
}

fn clear_often(world: &mut World, times: usize) {
    world.limits.attempts_per_minute = 0;
    for _ in 0..times {
        world.say("ann: clear");
    }
}

fn letter(first: u64) -> DeadLetter {
    DeadLetter {
        first: EventNumber::new(first),
        happened_at: Timestamp::from_millis(1),
        given_up_at: Timestamp::from_millis(2),
        tries: 3,
        reason: "why".to_owned(),
        request: None,
    }
}

#[test]
fn the_first_event_that_is_not_told_costs_a_row_and_the_next_ones_none() {
    let mut world = world();
    let since = world.now;
    assert_eq!(outbox(&world), Some(Outbox { after: EventNumber::START, since, gone: None }));
    let decision = world.act(GroupAction::Modify(Box::default()));
    assert!(!decision.changes.iter().any(|change| matches!(change.key, RowKey::Outbox(..))));

    assert_eq!(settle(&mut world, 3), (3, false));
    assert_eq!(outbox(&world).unwrap().after, EventNumber::new(3));
    assert_eq!(settle(&mut world, 5), (5, true));
    assert_eq!(outbox(&world), None);

    world.now = world.now.plus_millis(1000);
    world.say("ann: clear");
    let since = world.now;
    assert_eq!(outbox(&world), Some(Outbox { after: EventNumber::new(5), since, gone: None }));
}

#[test]
fn an_app_that_is_not_told_has_no_outbox() {
    let mut world = World::new();
    world.say("ann: clear");
    assert_eq!(outbox(&world), None);
    world.expect_done(GroupAction::Destroy);
    assert!(!world.rows.0.values().any(|row| matches!(row, Row::Outbox(_))));
}

#[test]
fn a_refused_command_leaves_nothing_to_tell() {
    let mut world = world();
    settle(&mut world, 4);
    world.say("eve: clear");
    assert_eq!(outbox(&world), None);
}

#[test]
fn settling_never_leads_back_and_goes_a_bounded_way_at_a_time() {
    let mut world = world();
    clear_often(&mut world, 1500);
    assert_eq!(settle(&mut world, 2), (2, false));
    assert_eq!(settle(&mut world, 1), (2, false));
    assert_eq!(settle(&mut world, 1504), (1026, false));
    assert_eq!(settle(&mut world, 1504), (1504, true));
    // Somebody who was told the same by an earlier process.
    assert_eq!(settle(&mut world, 7), (7, true));
    assert_eq!(outbox(&world), None);
}

#[test]
fn events_beyond_the_retention_stay_until_they_are_told_but_not_without_bound() {
    let mut world = world();
    (world.limits.events_kept, world.limits.untold_events_kept) = (3, 8);
    clear_often(&mut world, 4);
    assert_eq!(numbers(&world), (1..=8).collect::<Vec<_>>());
    clear_often(&mut world, 2);
    assert_eq!(numbers(&world), (3..=10).collect::<Vec<_>>());

    assert_eq!(settle(&mut world, 5), (5, false));
    assert_eq!(numbers(&world), [6, 7, 8, 9, 10]);
    clear_often(&mut world, 1);
    assert_eq!(numbers(&world), [6, 7, 8, 9, 10, 11]);
    assert_eq!(settle(&mut world, 11), (11, true));
    assert_eq!(numbers(&world), [9, 10, 11]);
    clear_often(&mut world, 1);
    assert_eq!(numbers(&world), [10, 11, 12]);
}

#[test]
fn old_events_stay_until_they_are_told() {
    let mut world = world();
    let trim = |world: &mut World| {
        world.now = world.now.plus_millis(world.limits.events_kept_millis);
        let now = world.now;
        for debt in world.debts().into_iter().filter(|debt| debt.due <= now) {
            world.pay(&debt);
        }
    };
    trim(&mut world);
    assert_eq!(numbers(&world), [1, 2, 3, 4]);
    settle(&mut world, 2);
    trim(&mut world);
    assert_eq!(numbers(&world), [3, 4]);
    settle(&mut world, 4);
    trim(&mut world);
    assert_eq!(numbers(&world), []);
}

#[test]
fn a_destroyed_group_is_described_until_its_end_was_told() {
    let mut world = world();
    settle(&mut world, 4);
    let Some(Row::Group(description)) = world.rows.0.get(&RowKey::Conversation(group())).cloned() else {
        panic!("there is a group");
    };
    let of = description.incarnation;
    world.expect_done(GroupAction::Destroy);
    let since = world.now;
    let gone = Gone { group: description, last: EventNumber::new(5) };
    assert_eq!(outbox(&world), Some(Outbox { after: EventNumber::new(4), since, gone: Some(gone) }));
    for debt in world.debts() {
        world.now = world.now.max(debt.due);
        world.pay(&debt);
    }
    assert_eq!(numbers(&world), [5], "its counters are gone, what is left to tell is not");
    let action = OutboxAction::Settle { through: EventNumber::new(5), dead: Vec::new() };
    let settled = told(&mut world, of, action).verdict;
    assert_eq!(settled, Ok(Outcome::Settled { after: EventNumber::new(5), empty: true, dropped: 0 }));
    assert_eq!(outbox(&world), None);
}

#[test]
fn what_is_given_up_is_kept_in_the_commit_that_moves_on() {
    let mut world = world();
    world.limits.dead_letters_kept = 2;
    let of = world.incarnation();
    let dead = |numbers: &[u64]| {
        numbers.iter().map(|number| (EventNumber::new(*number), letter(*number))).collect::<Vec<_>>()
    };
    let letters = |world: &World| -> Vec<u64> {
        let question = DeadLetters { app: group().app, after: None, limit: 9 };
        world.ask(question).iter().map(|at| at.number.get()).collect()
    };
    let give_up = |world: &mut World, through: u64, numbers: &[u64]| {
        let action = OutboxAction::Settle { through: EventNumber::new(through), dead: dead(numbers) };
        told(world, of, action).verdict
    };
    let settled = |after: u64, empty: bool, dropped: usize| {
        Ok(Outcome::Settled { after: EventNumber::new(after), empty, dropped })
    };
    assert_eq!(give_up(&mut world, 1, &[1]), settled(1, false, 0));
    assert_eq!(give_up(&mut world, 3, &[2, 3]), settled(3, false, 1));
    assert_eq!(letters(&world), [2, 3]);

    let discarded = told(&mut world, of, OutboxAction::Discard(EventNumber::new(2))).verdict;
    assert_eq!((discarded, letters(&world)), (Ok(Outcome::Done), vec![3]));
    let again = told(&mut world, of, OutboxAction::Discard(EventNumber::new(2))).verdict;
    assert_eq!((again, letters(&world)), (Ok(Outcome::Done), vec![3]));
}
