//! Each thing that can be wrong with a store is found, and named.

use std::sync::Arc;

use sidenote_core::command::{Action, Claim, Extend, GroupAction, Items};
use sidenote_core::debt::{Debt, Task};
use sidenote_core::event::{Event, Happening};
use sidenote_core::extension::{Entry, ExtensionState, Seq, Value};
use sidenote_core::group::{Counters, Group, Member, Role};
use sidenote_core::ids::{ConversationId, EventNumber, Incarnation, MessageName};
use sidenote_core::message::{Fingerprint, Message, MessageBody};
use sidenote_core::outbox::{Gone, Outbox};
use sidenote_core::rows::{MessagePart, Part, Row, RowKey};
use sidenote_store::audit::{Audit, Position};
use sidenote_store::{Store, debts};
use sidenote_store_embedded::Settings;

use crate::scene::{
    account, at, command, create, group, import, key, member, msg, open, runtime, send, set, tiny_id,
    unlimited, user,
};
use crate::whole::{Rows, damage, rows};

const ROOM: &str = "room";
const LIFE: Incarnation = Incarnation::from_random(77);

/// A store with a bit of everything: members, messages with pairs, tombstones and a clear, one recalled with its
/// pairs still there, a group on its way out.
fn sound() -> Rows {
    let home = tempfile::tempdir().unwrap();
    let delete = |seq, name: &str| {
        let keys = Items::new(vec![(key(name), Claim::Unchecked)]).unwrap();
        Action::Group(group(ROOM), GroupAction::Extend(msg(seq), Extend::Delete(keys)))
    };
    let others = GroupAction::AddMembers { members: vec![member("bob", tiny_id("bob"))], imported: false };
    let recall = GroupAction::Recall { seqs: vec![msg(4)], reason: String::new() };
    let clear = GroupAction::Extend(msg(2), Extend::Clear);
    let actions = [
        import("ann", tiny_id("ann")),
        import("bob", tiny_id("bob")),
        create(ROOM, LIFE.get(), 0, member("ann", tiny_id("ann"))),
        Action::Group(group(ROOM), others),
        send(ROOM, "ann", 1),
        send(ROOM, "bob", 2),
        send(ROOM, "ann", 3),
        send(ROOM, "ann", 4),
        set(ROOM, 1, &[("a", "1"), ("b", "2"), ("c", "3")]),
        delete(1, "b"),
        set(ROOM, 2, &[("old", "1")]),
        Action::Group(group(ROOM), clear),
        set(ROOM, 2, &[("new", "1")]),
        set(ROOM, 4, &[("gone", "1")]),
        Action::Group(group(ROOM), recall),
        create("doomed", 78, 0, member("ann", tiny_id("ann"))),
        Action::Group(group("doomed"), GroupAction::Destroy),
    ];
    runtime().block_on(async {
        let opened = open(home.path(), &Settings::default(), unlimited());
        let store: &dyn Store = &opened;
        for (step, action) in (1..).zip(actions) {
            let committed = store.commit(command(step, action)).await.unwrap();
            assert!(committed.verdict.is_ok(), "step {step}: {committed:?}");
            for debt in committed.prompt_debts {
                debts::pay(store, &debt, at(step)).await.unwrap();
            }
        }
        store.close().await;
    });
    rows(home.path())
}

/// A change to the rows of [`sound`].
type Corruption = fn(&mut Rows);

fn within(part: Part) -> RowKey {
    RowKey::Within(LIFE, part)
}

fn of_message(seq: u64, part: MessagePart) -> RowKey {
    within(Part::Message(MessageName::Seq(msg(seq)), part))
}

fn pair(seq: u64, name: &str) -> RowKey {
    of_message(seq, MessagePart::Pair(key(name)))
}

fn live(seq: u64) -> Row {
    Row::Pair(Entry::Live { value: Value::new("v").unwrap(), seq: Seq::new(seq).unwrap() })
}

fn remove(rows: &mut Rows, key: &RowKey) {
    let before = rows.len();
    rows.retain(|(of, _)| of != key);
    assert_eq!(rows.len(), before - 1, "{key:?} is there");
}

fn put(rows: &mut Rows, key: RowKey, row: Row) {
    rows.retain(|(of, _)| *of != key);
    rows.push((key, row));
    rows.sort_by(|(one, _), (other, _)| Position::of(one).cmp(&Position::of(other)));
}

fn find<'a>(rows: &'a Rows, key: &RowKey) -> &'a Row {
    &rows.iter().find(|(of, _)| of == key).unwrap_or_else(|| panic!("{key:?} is there")).1
}

fn state(rows: &mut Rows, seq: u64, change: impl FnOnce(&mut ExtensionState)) {
    let key = of_message(seq, MessagePart::Extension);
    let Row::Extension(mut state) = *find(rows, &key) else { unreachable!() };
    change(&mut state);
    put(rows, key, Row::Extension(state));
}

fn counters(rows: &mut Rows, change: impl FnOnce(&mut Counters)) {
    let Row::Counters(mut counters) = *find(rows, &within(Part::Counters)) else { unreachable!() };
    change(&mut counters);
    put(rows, within(Part::Counters), Row::Counters(counters));
}

fn header(rows: &mut Rows, seq: u64, change: impl FnOnce(&mut Message)) {
    let key = of_message(seq, MessagePart::Header);
    let Row::Message(message) = find(rows, &key) else { unreachable!() };
    let mut message = Message::clone(message);
    change(&mut message);
    put(rows, key, Row::Message(Arc::new(message)));
}

fn joined(rows: &mut Rows, name: &str, change: impl FnOnce(&mut Member)) {
    let key = within(Part::Member(user(name)));
    let Row::Member(member) = find(rows, &key) else { unreachable!() };
    let mut member = Member::clone(member);
    change(&mut member);
    put(rows, key, Row::Member(Arc::new(member)));
}

fn described(rows: &mut Rows, change: impl FnOnce(&mut Group)) {
    let key = RowKey::Conversation(group(ROOM));
    let Row::Group(it) = find(rows, &key) else { unreachable!() };
    let mut it = Group::clone(it);
    change(&mut it);
    put(rows, key, Row::Group(Arc::new(it)));
}

fn event(rows: &mut Rows, number: u64, change: impl FnOnce(&mut Event)) {
    let key = RowKey::Event(LIFE, EventNumber::new(number));
    let Row::Event(it) = find(rows, &key) else { unreachable!() };
    let mut it = Event::clone(it);
    change(&mut it);
    put(rows, key, Row::Event(Arc::new(it)));
}

fn owe(rows: &mut Rows, task: Task) {
    put(rows, RowKey::Debt(Debt { due: at(0), task }), Row::Debt);
}

fn settle(rows: &mut Rows, is: impl Fn(&Task) -> bool) {
    let before = rows.len();
    rows.retain(|(key, _)| !matches!(key, RowKey::Debt(debt) if is(&debt.task)));
    assert!(rows.len() < before);
}

fn line(name: &str) -> RowKey {
    let ConversationId { conversation: sidenote_core::ids::Conversation::Group(id), .. } = group(ROOM) else {
        unreachable!()
    };
    RowKey::Membership(account(name), id, LIFE)
}

/// Of message 1: a (Seq 1), b (tombstone, Seq 2), c (Seq 1). Of message 2: LatestSeq 3, ClearSeq 2, "new" with Seq 3.
/// Events: 1 created, 2 and 3 joined, 4 to 7 sent, 8 set, 9 delete, 10 set, 11 clear, 12 set, 13 set, 14 recalled.
const CORRUPTIONS: &[(&str, Corruption, &[&str])] = &[
    (
        "a pair is lost",
        |rows| remove(rows, &pair(1, "a")),
        &[
            r#"message 1, key "a": is missing"#,
            "message 1: counts 2 live pairs and 1 tombstones, but holds 1 and 1",
        ],
    ),
    (
        "a tombstone is lost",
        |rows| remove(rows, &pair(1, "b")),
        &["message 1: counts 2 live pairs and 1 tombstones, but holds 2 and 0"],
    ),
    (
        "a pair is too much",
        |rows| put(rows, pair(1, "d"), live(1)),
        &["message 1: counts 2 live pairs and 1 tombstones, but holds 3 and 1"],
    ),
    (
        "a cleared pair is back",
        |rows| put(rows, pair(2, "old"), live(1)),
        &[
            r#"message 2, key "old": has Seq 1, which the clear of Seq 2 dropped"#,
            r#"message 2, key "old": is there although no event since the last clear tells of it"#,
        ],
    ),
    (
        "a pair is of the future",
        |rows| put(rows, pair(1, "a"), live(9)),
        &[r#"message 1, key "a": has Seq 9 above LatestSeq 2"#],
    ),
    (
        "a value is another",
        |rows| put(rows, pair(1, "a"), live(1)),
        &[r#"message 1, key "a": is not what the last event about it tells"#],
    ),
    (
        "a deleted pair lives",
        |rows| put(rows, pair(1, "b"), live(2)),
        &[r#"message 1, key "b": is not what the last event about it tells"#],
    ),
    (
        "LatestSeq is behind",
        |rows| state(rows, 1, |state| state.latest = Seq::new(1).unwrap()),
        &["message 1: has LatestSeq 1 and ClearSeq 0, but the last event of its set tells 2 and 0"],
    ),
    (
        "ClearSeq is above LatestSeq",
        |rows| state(rows, 2, |state| state.clear = Seq::new(7).unwrap()),
        &["message 2: has ClearSeq 7 above LatestSeq 3"],
    ),
    (
        "more pairs are counted than may be",
        |rows| state(rows, 1, |state| state.live = 10_001),
        &["more than any configuration allows (rule 3.7)"],
    ),
    (
        "LatestSeq is lost",
        |rows| remove(rows, &of_message(1, MessagePart::Extension)),
        &["message 1: has pairs but no LatestSeq"],
    ),
    (
        "a header is lost",
        |rows| remove(rows, &of_message(2, MessagePart::Header)),
        &[
            "message 2: has a body but no header",
            "message 3: comes after message 1: those in between are missing",
        ],
    ),
    (
        "the last message is lost",
        |rows| {
            rows.retain(|(key, _)| {
                !matches!(key, RowKey::Within(_, Part::Message(name, _)) if *name == MessageName::Seq(msg(4)))
            });
        },
        &["counts 4 messages, but the last one is 3"],
    ),
    ("a body is lost", |rows| remove(rows, &of_message(3, MessagePart::Body)), &["message 3: has no body"]),
    (
        "a recalled message has a body",
        |rows| {
            put(rows, of_message(4, MessagePart::Body), Row::Body(Arc::new(MessageBody::default())));
        },
        &["message 4: is recalled but has a body"],
    ),
    (
        "a recall is undone",
        |rows| header(rows, 4, |message| message.recalled = false),
        &[
            "message 4: is not recalled, but an event tells that it was",
            "message 4: is not recalled, but a debt would remove its pairs",
        ],
    ),
    (
        "a recalled message keeps its pairs",
        |rows| settle(rows, |task| matches!(task, Task::Strip(..))),
        &["message 4: is recalled, but has pairs and no debt that removes them"],
    ),
    (
        "a message has another sender",
        |rows| header(rows, 3, |message| message.sender = user("bob")),
        &["message 3: is not what the event of its sending tells"],
    ),
    (
        "a message takes no extensions",
        |rows| header(rows, 1, |message| message.supports_extension = false),
        &["message 1: has an extension set but does not support extensions"],
    ),
    (
        "the time of the last message is another",
        |rows| counters(rows, |it| it.last_msg_at = at(99)),
        &["says that its last message was sent at"],
    ),
    (
        "counters are lost",
        |rows| remove(rows, &within(Part::Counters)),
        &[r#"group "room": the group has no counters"#],
    ),
    (
        "members are counted wrongly",
        |rows| counters(rows, |it| it.members = 5),
        &["counts 5 members, but has 2"],
    ),
    (
        "messages are counted wrongly",
        |rows| counters(rows, |it| it.last_msg_seq = 9),
        &["counts 9 messages, but the last one is 4"],
    ),
    (
        "events are counted wrongly",
        |rows| counters(rows, |it| it.last_event = EventNumber::new(20)),
        &["counts 20 events, but the last one is 14"],
    ),
    (
        "an event is lost",
        |rows| remove(rows, &RowKey::Event(LIFE, EventNumber::new(6))),
        &["event 7: comes after event 5: those in between are missing"],
    ),
    (
        "the last event is lost",
        |rows| remove(rows, &RowKey::Event(LIFE, EventNumber::new(14))),
        &["counts 14 events, but the last one is 13"],
    ),
    (
        "an event has another number",
        |rows| event(rows, 6, |it| it.number = EventNumber::new(60)),
        &["event 6: says itself that it is event 60"],
    ),
    (
        "an event skips a Seq",
        |rows| {
            event(rows, 9, |it| {
                if let Happening::Extension(change) = &mut it.what {
                    change.latest = Seq::new(8).unwrap();
                }
            });
        },
        &["event 9: raises LatestSeq from 1 to 8 (rule 3.2)"],
    ),
    (
        "an event tells another clear",
        |rows| {
            event(rows, 12, |it| {
                if let Happening::Extension(change) = &mut it.what {
                    change.clear = Seq::NEVER;
                }
            });
        },
        &["event 12: tells a ClearSeq of 0 (rule 3.6)"],
    ),
    (
        "a member is lost",
        |rows| remove(rows, &within(Part::Member(user("bob")))),
        &[
            r#"account "bob": is no member, but the last event about it tells that it joined"#,
            "counts 2 members, but has 1",
        ],
    ),
    (
        "an account does not know its group",
        |rows| remove(rows, &line("bob")),
        &["has 2 members, but accounts' lists of groups name it 1 times"],
    ),
    (
        "lists name other accounts",
        |rows| {
            remove(rows, &line("bob"));
            put(
                rows,
                line("eve"),
                Row::Membership(sidenote_core::account::Membership { since: EventNumber::new(1) }),
            );
        },
        &["accounts' lists of groups name it 2 times, for other members"],
    ),
    (
        "there is a second owner",
        |rows| joined(rows, "bob", |it| it.role = Role::Owner),
        &[r#"account "bob": is a second owner of the group"#],
    ),
    (
        "the owner is somebody else",
        |rows| described(rows, |it| it.owner = Some(user("bob"))),
        &[r#"is owned by "bob", but the owner among its members is "ann""#],
    ),
    (
        "somebody has read the future",
        |rows| joined(rows, "bob", |it| it.read_seq = 5),
        &[r#"account "bob": has read messages that were never sent"#],
    ),
    (
        "a group is lost",
        |rows| remove(rows, &RowKey::Conversation(group(ROOM))),
        &["incarnation 77: 21 rows belong to no conversation, and no debt removes them"],
    ),
    (
        "a destroyed group stays",
        |rows| settle(rows, |task| matches!(task, Task::Reap(..))),
        &["incarnation 78: 2 rows belong to no conversation, and no debt removes them"],
    ),
    (
        "events of a destroyed group stay",
        |rows| {
            settle(rows, |task| matches!(task, Task::TrimEvents(_, of) if of.get() == 78));
        },
        &["incarnation 78: 3 events belong to no conversation, and no debt removes them"],
    ),
    (
        "events are never trimmed",
        |rows| {
            settle(rows, |task| matches!(task, Task::TrimEvents(_, of) if *of == LIFE));
        },
        &[r#"group "room": no debt looks after the age of its events"#],
    ),
    (
        "a group that lives is to be removed",
        |rows| owe(rows, Task::Reap(group(ROOM), LIFE)),
        &[r#"group "room": a debt to app 1400000001, group "room" would remove this group"#],
    ),
    (
        "a debt is to another group",
        |rows| owe(rows, Task::Announce(group("other"), LIFE, EventNumber::new(1))),
        &[r#"group "room": a debt says that its rows are those of app 1400000001, group "other""#],
    ),
    (
        "a send is never forgotten",
        |rows| settle(rows, |task| matches!(task, Task::ForgetSend(..))),
        &["remembers a send that no debt will forget"],
    ),
    (
        "a send is of no message",
        |rows| {
            let print = Fingerprint([9; 16]);
            let sent = sidenote_core::message::Sent { name: Some(MessageName::Seq(msg(99))), at: at(1) };
            put(rows, within(Part::Repeat(print)), Row::Repeat(sent));
        },
        &["remembers the send of a message that was never stored"],
    ),
    (
        "two groups share an incarnation",
        |rows| {
            let Row::Group(it) = find(rows, &RowKey::Conversation(group(ROOM))) else { unreachable!() };
            let it = Row::Group(Arc::clone(it));
            put(rows, RowKey::Conversation(group("twin")), it);
        },
        &[r#"group "twin": has the same incarnation number as app 1400000001, group "room""#],
    ),
    (
        "a row is of another kind",
        |rows| put(rows, pair(1, "a"), Row::Debt),
        &[r#"message 1, key "a": the row is of another kind than its key says"#],
    ),
    (
        "something is to be told of a conversation that nobody knows",
        |rows| put(rows, RowKey::Outbox(group("nowhere"), Incarnation::from_random(5)), left_to_tell(None)),
        &[r#"group "nowhere": has something to tell of a conversation that does not exist"#],
    ),
    (
        "something is to be told of a life that is over as if it were not",
        |rows| put(rows, RowKey::Outbox(group(ROOM), Incarnation::from_random(5)), left_to_tell(None)),
        &[r#"group "room": has something to tell of a conversation that does not exist"#],
    ),
    (
        "something is to be told of a group as if it were gone",
        |rows| put(rows, RowKey::Outbox(group(ROOM), LIFE), left_to_tell(Some(9))),
        &[r#"group "room": says that a group is gone that exists"#],
    ),
    (
        "nothing is left to be told of a group that is gone",
        |rows| put(rows, RowKey::Outbox(group("gone"), Incarnation::from_random(5)), left_to_tell(Some(3))),
        &[r#"group "gone": has nothing left to tell but is still there"#],
    ),
];

/// What was told up to the third event, of a group that is still there or had this last event.
fn left_to_tell(last: Option<u64>) -> Row {
    let gone = last.map(|last| Gone { group: a_group(), last: EventNumber::new(last) });
    Row::Outbox(Outbox { after: EventNumber::new(3), since: at(1), gone })
}

fn a_group() -> Arc<Group> {
    let sound = sound();
    let group = sound.into_iter().find_map(|(_, row)| match row {
        Row::Group(group) => Some(group),
        _ => None,
    });
    group.expect("the sound store has a group")
}

#[test]
fn every_corruption_is_found_and_named() {
    let sound = sound();
    assert_eq!(damage(&sound), Vec::<String>::new());
    for (name, corrupt, says) in CORRUPTIONS {
        let mut rows = sound.clone();
        corrupt(&mut rows);
        let found = damage(&rows);
        for text in *says {
            assert!(found.iter().any(|line| line.contains(text)), "{name}: {text:?} is not in {found:#?}");
        }
        // Values are nobody's business.
        assert!(found.iter().all(|line| !line.contains("\"v\"") && !line.contains('[')), "{name}: {found:?}");
    }
}

#[test]
fn no_row_can_vanish_unnoticed_but_hints_and_accounts() {
    let sound = sound();
    for (index, (key, _)) in sound.iter().enumerate() {
        let mut rows = sound.clone();
        rows.remove(index);
        let is_found = !damage(&rows).is_empty();
        let may_vanish = match key {
            RowKey::Account(_) => true,
            // The oldest events go with time, those of a group that is gone too, and so do its rows.
            RowKey::Event(of, number) => number.get() == 1 || *of != LIFE,
            RowKey::Within(of, part) => {
                *of != LIFE || matches!(part, Part::Repeat(_)) || is_pair_of_recalled(part)
            }
            // What is owed to a message or group that has nothing left is never missed.
            RowKey::Membership(_, _, of) => *of != LIFE,
            RowKey::Debt(_) | RowKey::Conversation(_) => false,
            RowKey::Outbox(..) | RowKey::DeadLetter(..) => unreachable!("no app of this store has a webhook"),
        };
        assert!(is_found || may_vanish, "nobody misses {key:?}");
    }
}

fn is_pair_of_recalled(part: &Part) -> bool {
    matches!(part, Part::Message(name, MessagePart::Pair(_)) if *name == MessageName::Seq(msg(4)))
}

#[test]
fn what_cannot_be_read_is_named_by_its_place() {
    let sound = sound();
    let mut audit = Audit::new();
    for (key, row) in &sound {
        if *key == pair(1, "a") {
            audit.unreadable(Some(key), "a pair: bytes are left over");
        } else {
            audit.row(key, row);
        }
    }
    audit.unreadable(None, "a key: no kind of key has the number 9");
    let mut found = audit.take();
    found.extend(audit.finish().1);
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    let place =
        r#"app 1400000001, group "room", message 1, key "a": cannot be read: a pair: bytes are left over"#;
    assert!(found.iter().any(|line| line == place), "{found:#?}");
    assert!(
        found.contains(&"cannot be read: a key: no kind of key has the number 9".to_owned()),
        "{found:#?}"
    );
}
