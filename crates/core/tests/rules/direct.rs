//! Messages between two accounts: who may do what, what a message is named, and whose conversation it is.

use sidenote_core::command::{Action, Claim, DirectAction, Extend, Items, NewDirectMessage};
use sidenote_core::debt::Task;
use sidenote_core::direct::{Direct, Party, Peers};
use sidenote_core::event::Happening;
use sidenote_core::extension::{Key, Seq, Value};
use sidenote_core::ids::{ConversationId, Incarnation, MessageName, MsgKey, TinyId};
use sidenote_core::message::{Fingerprint, MessageBody, Sent};
use sidenote_core::query::{DescribeDirect, DescribeGroup, DirectHistory, DirectPull};
use sidenote_core::rows::{MessagePart, Part, Row, RowKey};
use sidenote_core::{Decision, Outcome, Refusal};

use crate::world::{APP, World, operator, tiny_id, user};

/// Who writes to whom, as the accounts are now.
fn peers(from: &str, to: &str) -> Peers {
    let party = |name: &str| Party { user: user(name), tiny_id: tiny_id(name) };
    Peers { app: APP, from: party(from), to: party(to) }
}

/// The same after Ann was deleted and imported again.
fn peers_with_a_new_ann(from: &str, to: &str) -> Peers {
    let mut peers = peers(from, to);
    for party in [&mut peers.from, &mut peers.to] {
        if party.user == user("ann") {
            party.tiny_id = TinyId::from_random(4711);
        }
    }
    peers
}

fn new(world: &World, seq: u32, random: u32) -> NewDirectMessage {
    NewDirectMessage {
        incarnation: Incarnation::from_random(world.now.millis()),
        seq,
        random,
        client_time: None,
        supports_extension: true,
        online_only: false,
        body: MessageBody { elements: format!("[{seq}]"), ..MessageBody::default() },
        fingerprint: Fingerprint((u128::from(seq) << 32 | u128::from(random)).to_be_bytes()),
    }
}

fn act(world: &mut World, who: &str, peers: &Peers, action: DirectAction) -> Decision {
    world.run(operator(who), Action::Direct(Box::new(peers.clone()), action))
}

/// Somebody has a message sent; its key.
fn try_send(world: &mut World, who: &str, peers: &Peers, new: NewDirectMessage) -> Result<MsgKey, Refusal> {
    match act(world, who, peers, DirectAction::Send(Box::new(new))).verdict? {
        Outcome::Sent(Sent { name: Some(MessageName::Key(key)), .. }) => Ok(key),
        other => panic!("a message is not answered by {other:?}"),
    }
}

fn send(world: &mut World, from: &str, to: &str, seq: u32) -> MsgKey {
    let new = new(world, seq, 7);
    try_send(world, "admin", &peers(from, to), new).unwrap()
}

fn set(seq: u64) -> Extend {
    let pair = (Key::new("vote").unwrap(), Value::new("yes").unwrap());
    Extend::Set(Items::new(vec![(pair, Claim::Saw(Seq::new(seq).unwrap()))]).unwrap())
}

fn extend(world: &mut World, who: &str, peers: &Peers, key: MsgKey, seq: u64) -> Result<u64, Refusal> {
    match act(world, who, peers, DirectAction::Extend(key, set(seq))).verdict? {
        Outcome::Extended(extended) => Ok(extended.latest.get()),
        other => panic!("a change of a set is not answered by {other:?}"),
    }
}

fn pull(world: &World, who: &str, peers: &Peers, key: MsgKey) -> Result<usize, Refusal> {
    let (peers, operator) = (peers.clone(), operator(who));
    let pull = DirectPull { peers, key, operator, start: Seq::NEVER, tombstones: false };
    world.ask(pull).map(|page| page.pairs.len())
}

fn recall(world: &mut World, who: &str, peers: &Peers, key: MsgKey) -> Result<Outcome, Refusal> {
    act(world, who, peers, DirectAction::Recall(key)).verdict
}

/// Keys of the history, newest first, and whether that was all.
fn history(world: &World, from: u64, to: u64, after: Option<MsgKey>, limit: usize) -> (Vec<u32>, bool) {
    let (peers, operator) = (peers("ann", "bob"), operator("bob"));
    let page = world.ask(DirectHistory { peers, operator, from, to, after, limit }).unwrap();
    (page.messages.iter().map(|message| message.key.seq).collect(), page.complete)
}

fn conversation(world: &World, one: &str, other: &str) -> Option<Direct> {
    let id = ConversationId::direct(APP, user(one), user(other));
    world.ask(DescribeDirect { id }).map(|view| view.direct)
}

fn what(world: &World) -> Vec<Happening> {
    world.events().iter().map(|event| event.what.clone()).collect()
}

#[test]
fn a_conversation_begins_with_its_first_message_and_numbers_its_events_from_one() {
    let mut world = World::empty();
    assert_eq!(conversation(&world, "ann", "bob"), None);
    let key = send(&mut world, "bob", "ann", 1);
    assert_eq!(key, MsgKey { seq: 1, random: 7, time: 1_700_000_000 });
    let begun = conversation(&world, "ann", "bob").unwrap();
    assert_eq!(begun.tiny_ids, [tiny_id("ann"), tiny_id("bob")]);
    assert_eq!(conversation(&world, "bob", "ann"), Some(begun), "it is one in both directions");
    extend(&mut world, "ann", &peers("bob", "ann"), key, 0).unwrap();
    recall(&mut world, "bob", &peers("bob", "ann"), key).unwrap();
    let numbers: Vec<_> = world.events().iter().map(|event| event.number.get()).collect();
    assert_eq!(numbers, [1, 2, 3]);
    let told = what(&world);
    assert!(
        matches!(&told[0], Happening::DirectSent { key: of, message } if *of == key && message.sender == user("bob"))
    );
    assert!(matches!(&told[1], Happening::Extension(change) if change.message == MessageName::Key(key)
        && change.sender_tiny_id == tiny_id("bob") && change.random == 7 && change.client_time == 1_700_000_000));
    assert_eq!(told[2], Happening::DirectRecalled { key });
    // A question about groups finds no group there.
    let id = ConversationId::direct(APP, user("ann"), user("bob"));
    assert_eq!(world.ask(DescribeGroup { id }), None);
}

#[test]
fn rule_3_12_the_first_check_that_fails_is_the_answer() {
    let mut world = World::empty();
    let there = peers("ann", "bob");
    let back = peers("bob", "ann");
    let nowhere = MsgKey { seq: 9, random: 9, time: 9 };
    assert_eq!(extend(&mut world, "eve", &there, nowhere, 0), Err(Refusal::NotAParty));
    assert_eq!(extend(&mut world, "ann", &there, nowhere, 0), Err(Refusal::NoSuchMessage));
    let key = send(&mut world, "ann", "bob", 1);
    assert_eq!(extend(&mut world, "eve", &there, key, 0), Err(Refusal::NotAParty));
    assert_eq!(extend(&mut world, "bob", &there, nowhere, 0), Err(Refusal::NoSuchMessage));
    assert_eq!(extend(&mut world, "bob", &back, key, 0), Err(Refusal::NotTheSender));
    let plain = NewDirectMessage { supports_extension: false, ..new(&world, 2, 7) };
    let plain = try_send(&mut world, "ann", &there, plain).unwrap();
    assert_eq!(extend(&mut world, "bob", &there, plain, 0), Err(Refusal::NoExtensions));
    world.limits.attempts_per_minute = 1;
    assert_eq!(extend(&mut world, "bob", &there, key, 0), Ok(1));
    assert_eq!(extend(&mut world, "ann", &there, key, 0), Err(Refusal::TooManyAttempts));
    for who in ["ann", "bob", "connected ann", "admin"] {
        assert_eq!(pull(&world, who, &there, key), Ok(1), "{who}");
    }
    assert_eq!(pull(&world, "eve", &there, key), Err(Refusal::NotAParty));
    assert_eq!(pull(&world, "ann", &there, nowhere), Err(Refusal::NoSuchMessage));
    assert_eq!(pull(&world, "ann", &back, key), Err(Refusal::NotTheSender));
    assert_eq!(pull(&world, "ann", &there, plain), Err(Refusal::NoExtensions));
}

#[test]
fn accounts_speak_for_themselves_and_administrators_for_everybody() {
    let mut world = World::empty();
    let there = peers("ann", "bob");
    for who in ["bob", "eve", "connected bob"] {
        let message = new(&world, 1, 1);
        assert_eq!(try_send(&mut world, who, &there, message), Err(Refusal::NotAParty), "{who}");
    }
    assert!(world.rows.0.is_empty(), "nothing was written");
    let message = new(&world, 1, 1);
    let key = try_send(&mut world, "connected ann", &there, message).unwrap();
    for who in ["bob", "eve"] {
        assert_eq!(recall(&mut world, who, &there, key), Err(Refusal::NotAParty), "{who}");
    }
    assert_eq!(recall(&mut world, "bob", &peers("bob", "ann"), key), Err(Refusal::NotTheSender));
    assert_eq!(recall(&mut world, "connected ann", &there, key), Ok(Outcome::Done));
    assert_eq!(recall(&mut world, "admin", &there, key), Err(Refusal::AlreadyRecalled));
    let nowhere = MsgKey { seq: 9, ..key };
    assert_eq!(recall(&mut world, "admin", &there, nowhere), Err(Refusal::NothingToRecall));
    assert_eq!(recall(&mut world, "admin", &peers("ann", "cat"), key), Err(Refusal::NothingToRecall));
}

#[test]
fn a_recalled_message_does_not_exist_and_its_pairs_are_freed() {
    let mut world = World::empty();
    let there = peers("ann", "bob");
    let key = send(&mut world, "ann", "bob", 1);
    extend(&mut world, "bob", &there, key, 0).unwrap();
    recall(&mut world, "ann", &there, key).unwrap();
    assert_eq!(extend(&mut world, "bob", &there, key, 1), Err(Refusal::NoSuchMessage));
    assert_eq!(pull(&world, "bob", &there, key), Err(Refusal::NoSuchMessage));
    let strip = world.debts().into_iter().find(|debt| matches!(debt.task, Task::Strip(..))).unwrap();
    assert_eq!(world.pay(&strip).verdict, Ok(Outcome::Paid { more: false }));
    let left = world.rows.0.keys().filter_map(|key| match key {
        RowKey::Within(_, Part::Message(_, part)) => Some(part.clone()),
        _ => None,
    });
    let left: Vec<_> = left.collect();
    assert_eq!(left, [MessagePart::Header], "that it was there is remembered");
    assert_eq!(history(&world, 0, u64::MAX, None, 9), (vec![1], true));
}

#[test]
fn a_message_to_oneself_is_a_message() {
    let mut world = World::empty();
    let alone = peers("ann", "ann");
    let key = send(&mut world, "ann", "ann", 1);
    assert_eq!(extend(&mut world, "ann", &alone, key, 0), Ok(1));
    assert_eq!(extend(&mut world, "bob", &alone, key, 0), Err(Refusal::NotAParty));
    assert_eq!(recall(&mut world, "ann", &alone, key), Ok(Outcome::Done));
}

#[test]
fn every_message_has_a_key_of_its_own() {
    let mut world = World::empty();
    let mut keys = Vec::new();
    let other_body = |world: &World, number: u8| NewDirectMessage {
        fingerprint: Fingerprint([number; 16]),
        ..new(world, 1, 7)
    };
    for number in 0..10 {
        let peers = if number % 2 == 0 { peers("ann", "bob") } else { peers("bob", "ann") };
        let message = other_body(&world, number);
        keys.push(try_send(&mut world, "admin", &peers, message).unwrap().time);
    }
    assert_eq!(keys, (1_700_000_000..1_700_000_010).collect::<Vec<_>>());
    let message = other_body(&world, 10);
    let full = try_send(&mut world, "admin", &peers("ann", "bob"), message);
    assert_eq!(full, Err(Refusal::MsgKeysTaken));
    // Other numbers are free, and so is a later second; a clock that was set back finds none.
    assert_eq!(send(&mut world, "ann", "bob", 2).time, 1_700_000_000);
    world.now = world.now.plus_millis(1000);
    let message = other_body(&world, 11);
    assert_eq!(try_send(&mut world, "admin", &peers("ann", "bob"), message).unwrap().time, 1_700_000_010);
    let view = world.ask(DescribeDirect { id: peers("ann", "bob").id() }).unwrap();
    assert_eq!((view.counters.last_msg_seq, view.counters.last_msg_at.secs()), (12, 1_700_000_010));
}

#[test]
fn the_same_message_twice_is_one_for_two_minutes() {
    let mut world = World::empty();
    let there = peers("ann", "bob");
    let first = send(&mut world, "ann", "bob", 1);
    let begun = conversation(&world, "ann", "bob");
    world.now = world.now.plus_millis(119_999);
    assert_eq!(send(&mut world, "ann", "bob", 1), first);
    assert_eq!(conversation(&world, "ann", "bob"), begun);
    world.now = world.now.plus_millis(1);
    let forget = world.debts().into_iter().find(|debt| matches!(debt.task, Task::ForgetSend(..))).unwrap();
    assert_eq!(forget.due, world.now);
    let second = send(&mut world, "ann", "bob", 1);
    assert_eq!(second, MsgKey { time: first.time + 120, ..first });
    world.pay(&forget);
    assert_eq!(send(&mut world, "ann", "bob", 1), second, "the first's debt spares the second");
    world.now = world.now.plus_millis(120_000);
    for debt in world.debts().into_iter().filter(|debt| matches!(debt.task, Task::ForgetSend(..))) {
        world.pay(&debt);
    }
    assert!(!world.rows.0.keys().any(|key| matches!(key, RowKey::Within(_, Part::Repeat(_)))));
    assert_eq!(pull(&world, "bob", &there, first), Ok(0));
}

#[test]
fn a_message_for_those_online_is_told_and_not_kept() {
    let mut world = World::empty();
    let there = peers("ann", "bob");
    let message = NewDirectMessage { online_only: true, ..new(&world, 1, 7) };
    let key = try_send(&mut world, "ann", &there, message.clone()).unwrap();
    assert_eq!(try_send(&mut world, "ann", &there, message), Ok(key));
    assert_eq!(what(&world).len(), 2, "it is told each time");
    assert!(matches!(&what(&world)[0], Happening::DirectTransient { key: of, body, .. }
        if *of == key && body.elements == "[1]"));
    assert_eq!(history(&world, 0, u64::MAX, None, 9), (vec![], true));
    assert_eq!(pull(&world, "bob", &there, key), Err(Refusal::NoSuchMessage));
}

#[test]
fn history_comes_newest_first_in_pages() {
    let mut world = World::empty();
    assert_eq!(history(&world, 0, u64::MAX, None, 9), (vec![], true));
    let mut keys = Vec::new();
    for seq in 1..=5 {
        keys.push(send(
            &mut world,
            if seq % 2 == 0 { "ann" } else { "bob" },
            if seq % 2 == 0 { "bob" } else { "ann" },
            seq,
        ));
        world.now = world.now.plus_millis(500);
    }
    let second = |number: u64| 1_700_000_000 + number;
    assert_eq!(history(&world, 0, u64::MAX, None, 9), (vec![5, 4, 3, 2, 1], true));
    assert_eq!(history(&world, 0, u64::MAX, None, 5), (vec![5, 4, 3, 2, 1], true));
    assert_eq!(history(&world, 0, u64::MAX, None, 4), (vec![5, 4, 3, 2], false));
    assert_eq!(history(&world, second(1), second(1), None, 9), (vec![4, 3], true));
    assert_eq!(history(&world, second(1), second(1), None, 1), (vec![4], false));
    assert_eq!(history(&world, 0, second(1), Some(keys[3]), 9), (vec![3, 2, 1], true));
    // The page goes on after the message even if that was recalled since, and after one that never was.
    recall(&mut world, "admin", &peers("ann", "bob"), keys[3]).unwrap();
    assert_eq!(history(&world, 0, u64::MAX, Some(keys[3]), 2), (vec![3, 2], false));
    let never = MsgKey { seq: 9, random: 9, time: second(0) };
    assert_eq!(history(&world, 0, u64::MAX, Some(never), 9), (vec![2, 1], true));
    // An older bound counts more than a newer message.
    assert_eq!(history(&world, 0, second(0), Some(keys[4]), 9), (vec![2, 1], true));
    let ask = |who| {
        let (peers, operator) = (peers("ann", "bob"), operator(who));
        world.ask(DirectHistory { peers, operator, from: 0, to: u64::MAX, after: None, limit: 1 })
    };
    assert_eq!(ask("eve"), Err(Refusal::NotAParty));
    assert!(ask("ann").is_ok() && ask("admin").is_ok());
}

#[test]
fn an_account_that_was_imported_again_begins_anew() {
    let mut world = World::empty();
    let key = send(&mut world, "ann", "bob", 1);
    extend(&mut world, "bob", &peers("ann", "bob"), key, 0).unwrap();
    let old = conversation(&world, "ann", "bob").unwrap();
    world.now = world.now.plus_millis(1);

    // Nobody sees anything of the old conversation, not even an administrator.
    let now = peers_with_a_new_ann("ann", "bob");
    assert_eq!(pull(&world, "admin", &now, key), Err(Refusal::NoSuchMessage));
    assert_eq!(extend(&mut world, "bob", &now, key, 1), Err(Refusal::NoSuchMessage));
    assert_eq!(recall(&mut world, "admin", &now, key), Err(Refusal::NothingToRecall));

    // The same message is a new one, in a conversation of its own.
    let same = NewDirectMessage { incarnation: Incarnation::from_random(99), ..new(&world, 1, 7) };
    assert_eq!(try_send(&mut world, "admin", &now, same).unwrap(), key);
    let new = conversation(&world, "ann", "bob").unwrap();
    assert_eq!(new.incarnation, Incarnation::from_random(99));
    assert_eq!(pull(&world, "admin", &now, key), Ok(0));
    let numbers = world.rows.0.keys().filter_map(|key| match key {
        RowKey::Event(of, number) if *of == new.incarnation => Some(number.get()),
        _ => None,
    });
    assert_eq!(numbers.collect::<Vec<_>>(), [1]);

    // What was before is on its way out.
    let reap = world.debts().into_iter().find(|debt| matches!(debt.task, Task::Reap(..))).unwrap();
    assert_eq!(world.pay(&reap).verdict, Ok(Outcome::Paid { more: false }));
    assert!(!world.rows.0.keys().any(|key| matches!(key, RowKey::Within(of, _) if *of == old.incarnation)));
    world.now = world.now.plus_millis(world.limits.events_kept_millis);
    for debt in world.debts() {
        world.pay(&debt);
    }
    assert!(!world.rows.0.keys().any(|key| matches!(key, RowKey::Event(of, _) if *of == old.incarnation)));
    let trims: Vec<_> =
        world.debts().into_iter().filter(|debt| matches!(debt.task, Task::TrimEvents(..))).collect();
    assert_eq!(trims.len(), 1, "that of the conversation that there is");
}

#[test]
fn events_are_kept_for_a_while() {
    let mut world = World::empty();
    world.limits.events_kept = 3;
    for seq in 0..5 {
        send(&mut world, "ann", "bob", seq);
    }
    let numbers = |world: &World| world.events().iter().map(|event| event.number.get()).collect::<Vec<_>>();
    assert_eq!(numbers(&world), [3, 4, 5]);
    world.now = world.now.plus_millis(world.limits.events_kept_millis);
    for debt in world.debts() {
        world.pay(&debt);
    }
    assert_eq!(numbers(&world), [0_u64; 0]);
    assert!(matches!(&world.debts()[..], [debt] if matches!(debt.task, Task::TrimEvents(..))));
    let places = world.rows.0.values().filter(|row| matches!(row, Row::Recent)).count();
    assert_eq!(places, 5, "history is not of events");
}
