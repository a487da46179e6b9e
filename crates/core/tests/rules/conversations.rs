//! Groups, members, messages and debts, as far as the sets hang on them.

use sidenote_core::command::{AccountAction, GroupAction, GroupPatch, NewMember};
use sidenote_core::debt::{Debt, Task};
use sidenote_core::decide::Added;
use sidenote_core::group::{GroupType, Role};
use sidenote_core::ids::{EventNumber, Incarnation, MsgSeq, Timestamp, TinyId};
use sidenote_core::query::{DescribeGroup, JoinedGroups, ListMembers};
use sidenote_core::rows::{MessagePart, Part, RowKey};
use sidenote_core::{Outcome, Refusal};

use crate::world::{POLL, World, account, group, lunch, member, tiny_id, user};

fn add(world: &mut World, members: Vec<NewMember>) -> Result<Outcome, Refusal> {
    world.act(GroupAction::AddMembers { members, imported: false }).verdict
}

fn members(world: &World) -> Vec<String> {
    let members = world.ask(ListMembers { id: group() }).unwrap();
    members.into_iter().map(|(user, _)| user.to_string()).collect()
}

#[test]
fn a_refused_command_changes_nothing() {
    let mut world = World::new();
    world.act(GroupAction::Modify(Box::new(GroupPatch { max_members: Some(3), ..GroupPatch::default() })));
    let before = world.rows.0.clone();
    assert_eq!(add(&mut world, vec![member("cat"), member("dan")]), Err(Refusal::GroupFull));
    assert!(world.rows.0 == before, "nobody joined");
    assert_eq!(
        add(&mut world, vec![member("cat")]),
        Ok(Outcome::MembersAdded(vec![(user("cat"), Added::Now)]))
    );

    let mut world = World::empty();
    let mut create = world.creation(GroupType::Public, &["ann", "bob"]);
    if let GroupAction::Create(new) = &mut create {
        new.profile.max_members = Some(1);
    }
    let refused = world.act(create);
    assert_eq!(
        (refused.verdict, refused.changes, refused.prompt_debts),
        (Err(Refusal::GroupFull), vec![], vec![])
    );
}

#[test]
fn a_recreated_group_shows_nothing_of_the_old_one() {
    let mut world = World::new();
    world.say("ann: set a=x@0");
    world.say("ann: clear");
    world.say("ann: set b=y@0");
    world.expect_done(GroupAction::Destroy);
    assert_eq!(world.say("ann: set b=y@3"), "NoSuchGroup");

    let create = world.creation(GroupType::Public, &["bob"]);
    world.expect_done(create);
    assert_eq!(members(&world), ["bob"]);
    assert_eq!(world.say("ann: set a=x@0"), "NotAMember");
    assert_eq!(world.say("bob: set a=x@0"), "NoSuchMessage", "its messages are numbered from 1 again");
    let message = world.message("bob", true);
    world.act(GroupAction::Send(Box::new(message)));
    assert_eq!(world.pull_as("bob"), "0/0");
    assert_eq!(world.say("bob: set a=x@0"), "1: ok a=x@1");
}

#[test]
fn a_destroyed_group_leaves_nothing_but_events_once_its_debt_is_paid() {
    let mut world = World::new();
    world.limits.pairs_per_message = 1000;
    for number in 0..600 {
        world.say(&format!("admin: set k{number}=v"));
        world.now = world.now.plus_millis(1000);
    }
    world.expect_done(GroupAction::Destroy);
    let reap = |debt: &Debt| matches!(debt.task, Task::Reap(..));
    let debt = world.debts().into_iter().find(reap).unwrap();
    let mut parts = 1;
    while world.pay(&debt).verdict == Ok(Outcome::Paid { more: true }) {
        parts += 1;
    }
    assert!(parts > 2, "bounded parts, not one large commit");
    let left = world.rows.0.keys().filter(|key| !matches!(key, RowKey::Event(..) | RowKey::Debt(_)));
    assert_eq!(left.count(), 0);
    assert!(!world.debts().iter().any(reap));
}

#[test]
fn members_are_reaped_only_by_whoever_told_their_accounts() {
    let mut world = World::new();
    let incarnation = world.incarnation();
    world.expect_done(GroupAction::Destroy);
    let debt = world.debts().into_iter().find(|debt| matches!(debt.task, Task::Reap(..))).unwrap();
    let members = |world: &World| world.next_reaped(&group(), incarnation);
    let all = members(&world);
    assert!(all.len() >= 2, "{all:?}");
    // Somebody who told one of them, and somebody late, who told the same one.
    for _ in 0..2 {
        let paid = world.pay_having_told(&debt, vec![all[0].clone()]);
        assert_eq!(paid.verdict, Ok(Outcome::Paid { more: true }));
        assert_eq!(members(&world), all[1..]);
    }
    assert_eq!(world.pay_having_told(&debt, all).verdict, Ok(Outcome::Paid { more: false }));
    assert_eq!(members(&world), []);
}

#[test]
fn a_recall_frees_body_state_and_pairs() {
    let mut world = World::new();
    world.say("ann: set a=x@0 b=y@0");
    let seqs = vec![MsgSeq::new(POLL).unwrap(), MsgSeq::new(77).unwrap(), MsgSeq::new(POLL).unwrap()];
    let recalled = world.act(GroupAction::Recall { seqs: seqs.clone(), reason: "oops".to_owned() }).verdict;
    assert_eq!(recalled, Ok(Outcome::Recalled(vec![(seqs[0], true), (seqs[1], false), (seqs[2], false)])));
    let debt = world.debts().into_iter().find(|debt| matches!(debt.task, Task::Strip(..))).unwrap();
    assert_eq!(world.pay(&debt).verdict, Ok(Outcome::Paid { more: false }));
    let parts: Vec<_> = world
        .rows
        .0
        .keys()
        .filter_map(|key| match key {
            RowKey::Within(_, Part::Message(name, part)) if *name == crate::world::poll() => {
                Some(part.clone())
            }
            _ => None,
        })
        .collect();
    assert_eq!(parts, [MessagePart::Header]);
}

#[test]
fn the_same_message_twice_within_five_minutes_is_one() {
    let mut world = World::new();
    let message = world.message("ann", true);
    let send = |world: &mut World| match world.act(GroupAction::Send(Box::new(message.clone()))).verdict {
        Ok(Outcome::Sent(sent)) => (sent.seq().unwrap().get(), sent.at),
        other => panic!("{other:?}"),
    };
    let start = world.now;
    assert_eq!(send(&mut world), (3, start));
    world.now = start.plus_millis(299_999);
    let events = world.events().len();
    assert_eq!(send(&mut world), (3, start), "the first one's number and time");
    assert_eq!(world.events().len(), events);
    world.now = start.plus_millis(300_000);
    assert_eq!(send(&mut world), (4, world.now));
    // The debt of the first send must not forget the second.
    let forget = |debt: &Debt| matches!(debt.task, Task::ForgetSend(..));
    let debts: Vec<_> =
        world.debts().into_iter().filter(forget).filter(|debt| debt.due <= world.now).collect();
    for debt in debts {
        world.pay(&debt);
    }
    assert_eq!(send(&mut world), (4, world.now));
}

#[test]
fn a_debt_that_was_paid_is_not_paid_again() {
    let mut world = World::new();
    let trims = |world: &World| -> Vec<Debt> {
        world.debts().into_iter().filter(|debt| matches!(debt.task, Task::TrimEvents(..))).collect()
    };
    let first = trims(&world).pop().unwrap();
    world.now = first.due;
    world.pay(&first);
    assert_eq!(trims(&world).len(), 1);
    world.now = world.now.plus_millis(1000);
    let again = world.pay(&first);
    assert_eq!((again.verdict, again.changes), (Ok(Outcome::Paid { more: false }), vec![]));
    assert_eq!(trims(&world).len(), 1, "one group, one trimming");
}

#[test]
fn trimming_comes_back_even_if_it_was_paid_too_early() {
    let mut world = World::new();
    world.limits.events_kept = u64::MAX;
    let trims =
        |world: &World| world.debts().iter().filter(|debt| matches!(debt.task, Task::TrimEvents(..))).count();
    let debt = world.debts().into_iter().find(|debt| matches!(debt.task, Task::TrimEvents(..))).unwrap();
    world.pay(&debt);
    assert_eq!((trims(&world), world.events().len()), (1, 4));
}

#[test]
fn a_group_without_events_is_left_alone_until_new_ones_can_be_old() {
    let mut world = World::new();
    let trim = |world: &World| -> Debt {
        let mut debts = world.debts().into_iter();
        debts.find(|debt| matches!(debt.task, Task::TrimEvents(..))).unwrap()
    };
    world.now = trim(&world).due;
    let debt = trim(&world);
    world.pay(&debt);
    assert!(world.events().is_empty());
    assert_eq!(trim(&world).due, world.now.plus_millis(world.limits.events_kept_millis));
}

#[test]
fn events_older_than_the_retention_are_trimmed_and_those_of_a_dead_group_all() {
    let mut world = World::new();
    world.now = world.now.plus_millis(world.limits.events_kept_millis - 1);
    world.say("ann: clear");
    world.now = world.now.plus_millis(1);
    let due = |world: &World| -> Vec<Debt> {
        let trims = world.debts().into_iter().filter(|debt| matches!(debt.task, Task::TrimEvents(..)));
        trims.filter(|debt| debt.due <= world.now).collect()
    };
    for debt in due(&world) {
        world.pay(&debt);
    }
    let kept: Vec<_> = world.events().iter().map(|event| event.number.get()).collect();
    assert_eq!(kept, [5]);
    world.expect_done(GroupAction::Destroy);
    world.now = world.now.plus_millis(2 * world.limits.events_kept_millis);
    for debt in due(&world) {
        world.pay(&debt);
    }
    assert!(world.events().is_empty());
    assert!(!world.debts().iter().any(|debt| matches!(debt.task, Task::TrimEvents(..))));
}

#[test]
fn a_namesake_of_a_deleted_owner_does_not_own_the_group() {
    let mut world = World::empty();
    let mut create = world.creation(GroupType::Public, &["bob"]);
    if let GroupAction::Create(new) = &mut create {
        new.owner = Some(NewMember { role: Role::Owner, ..member("ann") });
    }
    world.expect_done(create);
    // Ann's account is gone, but the group has not heard of it when a new ann joins.
    let namesake = NewMember { tiny_id: TinyId::from_random(99), ..member("ann") };
    assert_eq!(add(&mut world, vec![namesake]), Ok(Outcome::MembersAdded(vec![(user("ann"), Added::Now)])));
    let view = world.ask(DescribeGroup { id: group() }).unwrap();
    assert_eq!((view.group.owner.clone(), view.counters.members), (None, 2));
    // The news of the deletion comes late and takes nobody out.
    let forget = world.act(GroupAction::Forget(user("ann"), tiny_id("ann")));
    assert_eq!(forget.verdict, Err(Refusal::NotAMember));
    assert_eq!(members(&world), ["ann", "bob"]);
}

#[test]
fn a_namesake_takes_the_place_of_a_deleted_member() {
    let mut world = World::new();
    let namesake = NewMember { tiny_id: TinyId::from_random(99), ..member("ann") };
    let added = add(&mut world, vec![namesake.clone(), namesake, member("bob")]);
    let expected = [("ann", Added::Now), ("ann", Added::Already), ("bob", Added::Already)];
    assert_eq!(added, Ok(Outcome::MembersAdded(expected.map(|(name, it)| (user(name), it)).to_vec())));
    assert_eq!(members(&world), ["ann", "bob"]);
    assert_eq!(world.say("ann: set a=x@0"), "NotAMember", "the ann of before is out");
}

#[test]
fn late_news_of_joining_and_leaving_takes_no_line_away_that_is_right() {
    let told = |joined: bool, number| {
        let (group, life, number) = (lunch(), Incarnation::from_random(1), EventNumber::new(number));
        if joined {
            AccountAction::Joined(group, life, number)
        } else {
            AccountAction::Left(group, life, number)
        }
    };
    let rows: [(&[(bool, u64)], usize); 6] = [
        (&[(true, 2)], 1),
        (&[(true, 2), (false, 3)], 0),
        (&[(true, 2), (true, 4), (false, 3)], 1),
        (&[(true, 4), (false, 3), (true, 2)], 1),
        // Whoever found the line to lead nowhere takes it away under its own number.
        (&[(true, 2), (false, 2)], 0),
        (&[(true, 2), (false, 3), (false, 3)], 0),
    ];
    for (news, lines) in rows {
        let mut world = World::empty();
        for (joined, number) in news {
            assert_eq!(world.act_on_account("ann", told(*joined, *number)).verdict, Ok(Outcome::Done));
        }
        let list = JoinedGroups { account: account("ann"), after: None, limit: 10 };
        assert_eq!(world.ask(list).lines.len(), lines, "{news:?}");
    }
}

#[test]
fn a_deleted_account_owes_its_groups_a_farewell() {
    let mut world = World::new();
    world
        .act_on_account("ann", AccountAction::Import { tiny_id: tiny_id("ann"), nick: None, face_url: None });
    let deleted = world.act_on_account("ann", AccountAction::Delete);
    let task = Task::Forsake(account("ann"), tiny_id("ann"));
    assert_eq!(deleted.prompt_debts, [Debt { due: world.now, task }]);
    assert_eq!(world.act_on_account("ann", AccountAction::Delete).verdict, Err(Refusal::NoSuchAccount));
    assert_eq!(world.act(GroupAction::Forget(user("ann"), tiny_id("ann"))).verdict, Ok(Outcome::Done));
    assert_eq!(members(&world), ["bob"]);
}

#[test]
fn imported_messages_come_in_order_of_time_or_not_at_all() {
    let mut world = World::new();
    let start = world.now;
    let mut at = |offset: i64| {
        let millis = start.millis().checked_add_signed(offset * 1000).unwrap();
        let message = world.message("ann", false);
        sidenote_core::command::NewMessage { sent_at: Some(Timestamp::from_millis(millis)), ..message }
    };
    let messages = vec![at(-10), at(5), at(3), at(5), at(100)];
    world.now = start.plus_millis(50_000);
    let imported = world.act(GroupAction::Import(messages)).verdict;
    let Ok(Outcome::MessagesImported(results)) = imported else { panic!("{imported:?}") };
    let numbers: Vec<_> = results.iter().map(|sent| sent.map(|sent| sent.seq().unwrap().get())).collect();
    assert_eq!(numbers, [None, Some(3), None, Some(4), None]);
}
