//! Each thing that can be wrong with a one-to-one conversation is found, and named.

use std::sync::Arc;

use sidenote_core::command::{Action, Claim, DirectAction, Extend, Items, NewDirectMessage};
use sidenote_core::debt::{Debt, Task};
use sidenote_core::direct::{Direct, Party, Peers};
use sidenote_core::extension::Value;
use sidenote_core::group::Counters;
use sidenote_core::ids::{ConversationId, EventNumber, Incarnation, MessageName, MsgKey, Recency, TinyId};
use sidenote_core::message::{Fingerprint, Message, MessageBody, Sent};
use sidenote_core::rows::{MessagePart, Part, Row, RowKey};
use sidenote_store::Store;
use sidenote_store::audit::Position;
use sidenote_store_embedded::Settings;

use crate::scene::{APP, at, command, key, open, runtime, tiny_id, unlimited, user};
use crate::whole::{Rows, audit, damage, rows};

const LIFE: Incarnation = Incarnation::from_random(77);
const OLD_LIFE: Incarnation = Incarnation::from_random(76);

const SECOND: u64 = 1_700_000_000;

/// Ann's message that carries a pair, Bob's answer, and the one that Ann recalled.
const POLL: MsgKey = MsgKey { seq: 1, random: 9, time: SECOND };
const ANSWER: MsgKey = MsgKey { seq: 2, random: 8, time: SECOND };
const GONE: MsgKey = MsgKey { seq: 3, random: 7, time: SECOND };

fn id() -> ConversationId {
    ConversationId::direct(APP, user("bob"), user("ann"))
}

fn peers(from: &str, to: &str) -> Peers {
    let party = |name: &str| Party { user: user(name), tiny_id: tiny_id(name) };
    Peers { app: APP, from: party(from), to: party(to) }
}

fn send(peers: &Peers, life: Incarnation, of: MsgKey) -> Action {
    let new = NewDirectMessage {
        incarnation: life,
        seq: of.seq,
        random: of.random,
        client_time: None,
        supports_extension: true,
        online_only: false,
        body: MessageBody { elements: "[]".to_owned(), ..MessageBody::default() },
        fingerprint: Fingerprint([u8::try_from(of.seq).unwrap(); 16]),
    };
    Action::Direct(Box::new(peers.clone()), DirectAction::Send(Box::new(new)))
}

fn set(peers: &Peers, of: MsgKey) -> Action {
    let pair = ((key("a"), Value::new("v").unwrap()), Claim::Unchecked);
    let extend = Extend::Set(Items::new(vec![pair]).unwrap());
    Action::Direct(Box::new(peers.clone()), DirectAction::Extend(of, extend))
}

/// Two who exchanged messages, after an older conversation under the same names, which is on its way out.
fn sound() -> Rows {
    let home = tempfile::tempdir().unwrap();
    let (forth, back) = (peers("ann", "bob"), peers("bob", "ann"));
    let mut before = forth.clone();
    before.from.tiny_id = TinyId::from_random(1);
    let actions = [
        send(&before, OLD_LIFE, POLL),
        send(&forth, LIFE, POLL),
        send(&back, LIFE, ANSWER),
        send(&forth, LIFE, GONE),
        set(&forth, POLL),
        set(&forth, GONE),
        Action::Direct(Box::new(forth.clone()), DirectAction::Recall(GONE)),
    ];
    runtime().block_on(async {
        let opened = open(home.path(), &Settings::default(), unlimited());
        let store: &dyn Store = &opened;
        for (step, action) in (1..).zip(actions) {
            let committed = store.commit(command(step, action)).await.unwrap();
            assert!(committed.verdict.is_ok(), "step {step}: {committed:?}");
        }
        store.close().await;
    });
    rows(home.path())
}

fn within(part: Part) -> RowKey {
    RowKey::Within(LIFE, part)
}

fn of_message(of: MsgKey, part: MessagePart) -> RowKey {
    within(Part::Message(MessageName::Key(of), part))
}

fn place(of: MsgKey) -> RowKey {
    within(Part::Recent(Recency::of(of)))
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

fn header(rows: &mut Rows, of: MsgKey, change: impl FnOnce(&mut Message)) {
    let key = of_message(of, MessagePart::Header);
    let Row::Message(message) = find(rows, &key) else { unreachable!() };
    let mut message = Message::clone(message);
    change(&mut message);
    put(rows, key, Row::Message(Arc::new(message)));
}

fn counters(rows: &mut Rows, change: impl FnOnce(&mut Counters)) {
    let Row::Counters(mut counters) = *find(rows, &within(Part::Counters)) else { unreachable!() };
    change(&mut counters);
    put(rows, within(Part::Counters), Row::Counters(counters));
}

fn home(rows: &mut Rows, change: impl FnOnce(&mut Direct)) {
    let Row::Direct(mut direct) = *find(rows, &RowKey::Conversation(id())) else { unreachable!() };
    change(&mut direct);
    put(rows, RowKey::Conversation(id()), Row::Direct(direct));
}

/// A change to the rows of [`sound`].
type Corruption = fn(&mut Rows);

/// What is changed, how, and what is said of it.
const CORRUPTIONS: &[(&str, Corruption, &[&str])] = &[
    (
        "the conversation is missing",
        |rows| remove(rows, &RowKey::Conversation(id())),
        &["incarnation 77: ", "rows belong to no conversation, and no debt removes them"],
    ),
    (
        "its counters are missing",
        |rows| remove(rows, &within(Part::Counters)),
        &[r#"app 1400000001, conversation of "ann" and "bob": the conversation has no counters"#],
    ),
    (
        "one account has two numbers",
        |rows| {
            let alone = ConversationId::direct(APP, user("ann"), user("ann"));
            let tiny_ids = [1, 2].map(TinyId::from_random);
            let direct = Direct { incarnation: Incarnation::from_random(5), tiny_ids, begun_at: at(0) };
            put(rows, RowKey::Conversation(alone), Row::Direct(direct));
        },
        &["has the numbers of other accounts than its own", "the conversation has no counters"],
    ),
    (
        "two accounts have one number",
        |rows| home(rows, |direct| direct.tiny_ids[1] = direct.tiny_ids[0]),
        &["has the numbers of other accounts than its own"],
    ),
    (
        "two conversations have one incarnation",
        |rows| {
            let other = ConversationId::direct(APP, user("ann"), user("cem"));
            let Row::Direct(direct) = *find(rows, &RowKey::Conversation(id())) else { unreachable!() };
            put(rows, RowKey::Conversation(other), Row::Direct(direct));
        },
        &["has the same incarnation number as"],
    ),
    (
        "the old conversation is not reaped",
        |rows| rows.retain(|(key, _)| !matches!(key, RowKey::Debt(Debt { task: Task::Reap(..), .. }))),
        &["incarnation 76: ", "rows belong to no conversation, and no debt removes them"],
    ),
    (
        "the new conversation is reaped",
        |rows| put(rows, RowKey::Debt(Debt { due: at(0), task: Task::Reap(id(), LIFE) }), Row::Debt),
        &["would remove this conversation"],
    ),
    (
        "nobody trims its events",
        |rows| {
            let trims = |key: &RowKey| matches!(key, RowKey::Debt(Debt { task: Task::TrimEvents(_, of), .. }) if *of == LIFE);
            rows.retain(|(key, _)| !trims(key));
        },
        &["no debt looks after the age of its events"],
    ),
    (
        "a message is missing",
        |rows| {
            let is_part = |key: &RowKey| matches!(key, RowKey::Within(_, Part::Message(MessageName::Key(of), _)) if *of == ANSWER);
            rows.retain(|(key, _)| !is_part(key));
        },
        &[
            "message 2_8_1700000000: is missing, but an event tells that it was sent",
            "has 2 messages, but its history names 3",
            "counts 3 messages, but there are 2",
        ],
    ),
    (
        "a message is missing in its history",
        |rows| remove(rows, &place(POLL)),
        &["has 3 messages, but its history names 2"],
    ),
    (
        "its history names another message",
        |rows| {
            remove(rows, &place(POLL));
            put(rows, place(MsgKey { seq: 99, ..POLL }), Row::Recent);
        },
        &["has 3 messages, but its history names 3, others among them"],
    ),
    (
        "a message of a group",
        |rows| {
            let name = MessageName::Seq(crate::scene::msg(4));
            let Row::Message(message) = find(rows, &of_message(POLL, MessagePart::Header)) else {
                unreachable!()
            };
            let row = Row::Message(Arc::clone(message));
            put(rows, within(Part::Message(name, MessagePart::Header)), row);
        },
        &["message 4: has a name that no message of such a conversation has"],
    ),
    (
        "a stranger's message",
        |rows| header(rows, POLL, |message| message.sender = user("eve")),
        &["message 1_9_1700000000: was sent by neither of the two accounts"],
    ),
    (
        "another random number",
        |rows| header(rows, POLL, |message| message.random = 1),
        &["message 1_9_1700000000: has another random number than its key"],
    ),
    (
        "another sender than was told",
        |rows| header(rows, POLL, |message| message.sender = user("bob")),
        &["message 1_9_1700000000: is not what the event of its sending tells"],
    ),
    (
        "a message that was recalled lives",
        |rows| header(rows, GONE, |message| message.recalled = false),
        &["message 3_7_1700000000: is not recalled, but an event tells that it was"],
    ),
    (
        "pairs of a recalled message stay",
        |rows| rows.retain(|(key, _)| !matches!(key, RowKey::Debt(Debt { task: Task::Strip(..), .. }))),
        &["message 3_7_1700000000: is recalled, but has pairs and no debt that removes them"],
    ),
    (
        "another count of messages",
        |rows| counters(rows, |counters| counters.last_msg_seq = 9),
        &["counts 9 messages, but there are 3"],
    ),
    (
        "another latest second",
        |rows| counters(rows, |counters| counters.last_msg_at = at(5)),
        &["says that its last message was sent at 1700000000005 ms"],
    ),
    (
        "another count of events",
        |rows| counters(rows, |counters| counters.last_event = EventNumber::new(9)),
        &["counts 9 events, but the last one is 6"],
    ),
    (
        "a send is never forgotten",
        |rows| {
            let forgets = |key: &RowKey| matches!(key, RowKey::Debt(Debt { task: Task::ForgetSend(..), .. }));
            rows.retain(|(key, _)| !forgets(key));
        },
        &["remembers a send that no debt will forget"],
    ),
    (
        "a send of a group is remembered",
        |rows| {
            let sent = Sent { name: Some(MessageName::Seq(crate::scene::msg(1))), at: at(2) };
            put(rows, within(Part::Repeat(Fingerprint([1; 16]))), Row::Repeat(sent));
        },
        &["remembers the send of a message that was never stored"],
    ),
    (
        "a member of a conversation of two",
        |rows| counters(rows, |counters| counters.members = 1),
        &["counts 1 members, but has 0"],
    ),
];

#[test]
fn every_corruption_is_found_and_named() {
    let sound = sound();
    assert_eq!(damage(&sound), Vec::<String>::new());
    let totals = audit(&sound).0;
    assert_eq!((totals.directs, totals.groups, totals.messages, totals.pairs), (1, 0, 4, 2));
    for (name, corrupt, says) in CORRUPTIONS {
        let mut rows = sound.clone();
        corrupt(&mut rows);
        let found = damage(&rows);
        for text in *says {
            assert!(found.iter().any(|line| line.contains(text)), "{name}: {text:?} is not in {found:#?}");
        }
    }
}

#[test]
fn no_row_can_vanish_unnoticed_but_what_goes_anyway() {
    let sound = sound();
    for (index, (key, _)) in sound.iter().enumerate() {
        let mut rows = sound.clone();
        rows.remove(index);
        let may_vanish = match key {
            // The oldest events go with time, and so do the rows of a conversation that is over.
            RowKey::Event(of, number) => number.get() == 1 || *of != LIFE,
            RowKey::Within(of, part) => {
                let is_stripped =
                    matches!(part, Part::Message(MessageName::Key(of), MessagePart::Pair(_)) if *of == GONE);
                *of != LIFE || is_stripped || matches!(part, Part::Repeat(_))
            }
            // Nobody misses what is owed to a conversation that has nothing left.
            RowKey::Debt(Debt { task: Task::ForgetSend(_, of, _), .. }) => *of != LIFE,
            _ => false,
        };
        assert!(may_vanish || !damage(&rows).is_empty(), "nobody misses {key:?}");
    }
}
