//! Files of earlier releases stay readable. `old_formats.txt` holds a key and a row of every kind as they were
//! written by each format, in hexadecimal. Lines are added to it and never changed: a change of the schema that
//! breaks one breaks somebody's files.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking, and so may the functions it calls")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use sidenote_core::account::{Account, Membership};
use sidenote_core::debt::{Debt, Task};
use sidenote_core::direct::Direct;
use sidenote_core::event::{
    CallerKind, ChangedPair, Event, ExtensionChange, Happening, Operation, Operator, Platform, Previous,
};
use sidenote_core::extension::{Attempts, Entry, ExtensionState, Key, Seq, Value};
use sidenote_core::group::{
    ApplyJoin, Counters, CustomField, Group, GroupProfile, GroupType, InviteJoin, Member, Role,
};
use sidenote_core::ids::{
    AccountId, AppId, Conversation, ConversationId, EventNumber, GroupId, Incarnation, MessageName, MsgKey,
    MsgSeq, Recency, Timestamp, TinyId, UserId,
};
use sidenote_core::message::{Fingerprint, Message, MessageBody, Priority, Sent};
use sidenote_core::outbox::{DeadLetter, Gone, LetterRequest, Outbox};
use sidenote_core::rows::{MessagePart, Part, Row, RowKey};
use sidenote_store_embedded::schema::{decode_key, decode_row, encode_key, encode_row};

const WRITTEN: &str = include_str!("old_formats.txt");

const OF: Incarnation = Incarnation::from_random(0x0102_0304_0506_0708);

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn group() -> GroupId {
    GroupId::new("@TGS#1").unwrap()
}

fn account() -> AccountId {
    AccountId { app: AppId::new(1_400_000_001), user: user("ann") }
}

fn conversation() -> ConversationId {
    ConversationId::group(AppId::new(1_400_000_001), group())
}

fn time(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + secs)
}

fn seq(raw: u64) -> Seq {
    Seq::new(raw).unwrap()
}

fn value(text: &str) -> Value {
    Value::new(text).unwrap()
}

fn custom() -> Vec<CustomField> {
    vec![CustomField { key: "colour".to_owned(), value: "red".to_owned() }]
}

fn by_seq() -> MessageName {
    MessageName::Seq(MsgSeq::new(158).unwrap())
}

const KEY: MsgKey = MsgKey { seq: 1, random: 2, time: 3 };

fn by_key() -> MessageName {
    MessageName::Key(KEY)
}

fn message() -> Message {
    Message {
        sender: user("ann"),
        sender_tiny_id: TinyId::from_random(144_115_198_371_610_486),
        random: 4_294_967_295,
        client_time: 1_700_000_000,
        sent_at: time(1),
        priority: Priority::Low,
        supports_extension: true,
        imported: false,
        recalled: false,
    }
}

fn body() -> MessageBody {
    MessageBody { elements: "[{}]".to_owned(), cloud_custom_data: "c".to_owned(), further: "{}".to_owned() }
}

fn change(message: MessageName, operation: Operation) -> ExtensionChange {
    let previous = Some(Previous { value: Some(value("A")), seq: seq(1) });
    let gone = Some(Previous { value: None, seq: seq(2) });
    let key = |text| Key::new(text).unwrap();
    ExtensionChange {
        message,
        sender_tiny_id: TinyId::from_random(9),
        client_time: 8,
        random: 7,
        operation,
        compaction: true,
        pairs: vec![
            ChangedPair { key: key("a"), value: Some(value("B")), seq: seq(3), previous },
            ChangedPair { key: key("b"), value: None, seq: seq(3), previous: gone },
            ChangedPair { key: key("c"), value: Some(value("C")), seq: seq(3), previous: None },
        ],
        latest: seq(3),
        clear: seq(0),
    }
}

fn happenings() -> Vec<(&'static str, Happening)> {
    let users = vec![user("ann"), user("bob")];
    let reason = "why".to_owned();
    let seqs = vec![MsgSeq::new(1).unwrap(), MsgSeq::new(2).unwrap()];
    vec![
        ("group created", Happening::GroupCreated { imported: true }),
        ("group changed", Happening::GroupChanged),
        ("group destroyed", Happening::GroupDestroyed),
        ("owner changed", Happening::OwnerChanged { from: Some(user("ann")), to: user("bob") }),
        ("first owner", Happening::OwnerChanged { from: None, to: user("bob") }),
        ("members joined", Happening::MembersJoined { users: users.clone(), imported: false }),
        ("members left", Happening::MembersLeft { users, reason: reason.clone() }),
        ("message sent", Happening::MessageSent { seq: MsgSeq::new(158).unwrap(), message: message() }),
        ("transient message", Happening::TransientMessage { message: message(), body: body() }),
        ("messages recalled", Happening::MessagesRecalled { seqs, reason }),
        ("pairs set", Happening::Extension(change(by_seq(), Operation::Set))),
        ("pairs deleted", Happening::Extension(change(by_key(), Operation::Delete))),
        ("pairs cleared", Happening::Extension(change(by_seq(), Operation::Clear))),
    ]
}

fn events_of(
    happenings: Vec<(&'static str, Happening)>,
    first: u64,
) -> impl Iterator<Item = (String, RowKey, Row)> {
    happenings.into_iter().zip(first..).map(|((name, what), number)| {
        let address = match number % 3 {
            0 => None,
            1 => Some([127, 0, 0, 1].into()),
            _ => Some([7_u16; 8].into()),
        };
        let (number, by_server) = (EventNumber::new(number), number % 2 == 0);
        let operator = Operator {
            user: user("ann"),
            tiny_id: (!by_server).then(|| TinyId::from_random(5)),
            kind: if by_server { CallerKind::Server } else { CallerKind::Connected },
            platform: if by_server { Platform::Unknown } else { Platform::Ipad },
            address,
        };
        let event = Event { number, at: time(2), operator, what };
        (format!("event: {name}"), RowKey::Event(OF, number), Row::Event(Arc::new(event)))
    })
}

/// What came with one-to-one messages.
fn of_two_accounts() -> Vec<(String, RowKey, Row)> {
    let direct = Direct { incarnation: OF, tiny_ids: [5, 6].map(TinyId::from_random), begun_at: time(0) };
    let sent = Sent { name: Some(by_key()), at: time(1) };
    let within = |part| RowKey::Within(OF, part);
    let rows = [
        ("direct", RowKey::Conversation(of_ann_and_bob()), Row::Direct(direct)),
        ("direct repeat", within(Part::Repeat(Fingerprint([8; 16]))), Row::Repeat(sent)),
        ("recent", within(Part::Recent(Recency::of(KEY))), Row::Recent),
    ];
    let happenings = vec![
        ("direct sent", Happening::DirectSent { key: KEY, message: message() }),
        ("direct transient", Happening::DirectTransient { key: KEY, message: message(), body: body() }),
        ("direct recalled", Happening::DirectRecalled { key: KEY }),
    ];
    let rows = rows.into_iter().map(|(name, key, row)| (name.to_owned(), key, row));
    rows.chain(events_of(happenings, 14)).collect()
}

fn of_ann_and_bob() -> ConversationId {
    ConversationId {
        app: AppId::new(1_400_000_001),
        conversation: Conversation::between(user("bob"), user("ann")),
    }
}

fn debts() -> Vec<(String, RowKey, Row)> {
    let tasks = [
        ("announce", Task::Announce(conversation(), OF, EventNumber::new(3))),
        ("forsake", Task::Forsake(account(), TinyId::from_random(5))),
        ("reap", Task::Reap(of_ann_and_bob(), OF)),
        ("strip", Task::Strip(conversation(), OF, by_seq())),
        ("forget send", Task::ForgetSend(conversation(), OF, Fingerprint([9; 16]))),
        ("trim events", Task::TrimEvents(conversation(), OF)),
    ];
    let row = |(name, task)| (format!("debt: {name}"), RowKey::Debt(Debt { due: time(3), task }), Row::Debt);
    tasks.map(row).into()
}

fn outboxes() -> Vec<(String, RowKey, Row)> {
    let letter = |number| RowKey::DeadLetter(conversation(), OF, EventNumber::new(number));
    let outbox = |gone| Row::Outbox(Outbox { after: EventNumber::new(8), since: time(1), gone });
    let gone = Gone { group: Arc::new(group_row()), last: EventNumber::new(12) };
    let request = LetterRequest {
        command: "Group.CallbackAfterRecallMsg".to_owned(),
        origin: "&ClientIP=127.0.0.1&OptPlatform=RESTAPI".to_owned(),
        body: "{}".to_owned(),
    };
    let full = DeadLetter {
        first: EventNumber::new(9),
        happened_at: time(1),
        given_up_at: time(2),
        tries: 3,
        reason: "the receiver answered 500".to_owned(),
        request: Some(request),
    };
    let bare = DeadLetter { request: None, tries: 0, ..full.clone() };
    let rows = [
        ("outbox", RowKey::Outbox(conversation(), OF), outbox(None)),
        ("outbox of a group that is gone", RowKey::Outbox(conversation(), OF), outbox(Some(gone))),
        ("dead letter", letter(9), Row::DeadLetter(Arc::new(full))),
        ("dead letter without a request", letter(10), Row::DeadLetter(Arc::new(bare))),
    ];
    rows.map(|(name, key, row)| (name.to_owned(), key, row)).into()
}

fn group_row() -> Group {
    Group {
        incarnation: OF,
        kind: GroupType::Community,
        owner: Some(user("ann")),
        profile: GroupProfile {
            name: "name".to_owned(),
            introduction: "introduction".to_owned(),
            notification: "notification".to_owned(),
            face_url: "face".to_owned(),
            max_members: Some(200),
            apply_join: ApplyJoin::DisableApply,
            invite_join: InviteJoin::NeedPermission,
            mute_all: true,
            history_before_join: false,
            custom: custom(),
        },
        created_at: time(0),
        info_seq: 4,
        info_changed_at: time(1),
    }
}

/// One row of each kind, and more where a kind has several shapes.
fn samples() -> Vec<(String, RowKey, Row)> {
    let tiny_id = TinyId::from_random(144_115_198_371_610_486);
    let within = |part| RowKey::Within(OF, part);
    let of_message = |name, part| within(Part::Message(name, part));
    let pair = |text| MessagePart::Pair(Key::new(text).unwrap());
    let (nick, face_url) = ("Ann".to_owned(), "f".to_owned());
    let account_row = Account { tiny_id, nick, face_url, imported_at: time(0) };
    let counters =
        Counters { last_msg_seq: 158, last_msg_at: time(1), members: 3, last_event: EventNumber::new(170) };
    let member = Member {
        tiny_id,
        role: Role::Admin,
        joined_at: time(0),
        read_seq: 7,
        last_sent_at: time(1),
        muted_until: time(2),
        name_card: "card".to_owned(),
        custom: custom(),
    };
    let attempts = Attempts { since: time(1), count: 12 };
    let extension = ExtensionState { latest: seq(300), clear: seq(20), live: 2, tombstones: 1, attempts };
    let sent = Sent { name: Some(by_seq()), at: time(1) };
    let membership = RowKey::Membership(account(), group(), OF);
    let rows = vec![
        ("account", RowKey::Account(account()), Row::Account(Arc::new(account_row))),
        ("membership", membership, Row::Membership(Membership { since: EventNumber::new(2) })),
        ("group", RowKey::Conversation(conversation()), Row::Group(Arc::new(group_row()))),
        ("counters", within(Part::Counters), Row::Counters(counters)),
        ("member", within(Part::Member(user("ann"))), Row::Member(Arc::new(member))),
        ("repeat", within(Part::Repeat(Fingerprint([9; 16]))), Row::Repeat(sent)),
        ("message", of_message(by_seq(), MessagePart::Header), Row::Message(Arc::new(message()))),
        ("body", of_message(by_seq(), MessagePart::Body), Row::Body(Arc::new(body()))),
        ("extension", of_message(by_seq(), MessagePart::Extension), Row::Extension(extension)),
        (
            "live pair",
            of_message(by_seq(), pair("vote:ann")),
            Row::Pair(Entry::Live { value: value("B"), seq: seq(300) }),
        ),
        ("tombstone", of_message(by_key(), pair("vote")), Row::Pair(Entry::Deleted { seq: seq(2) })),
    ];
    let mut all: Vec<_> = rows.into_iter().map(|(name, key, row)| (name.to_owned(), key, row)).collect();
    all.extend(events_of(happenings(), 1));
    all.extend(debts());
    all.extend(of_two_accounts());
    all.extend(outboxes());
    all
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The lines of the file: name, key, row.
fn written() -> BTreeMap<&'static str, (Vec<u8>, Vec<u8>)> {
    let lines = WRITTEN.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut columns = line.split(" | ");
            let mut next = || columns.next().expect("a line is: name | key | row");
            (next(), (bytes(next()), bytes(next())))
        })
        .collect()
}

#[test]
fn what_format_1_wrote_is_read_as_it_was_meant() {
    let written = written();
    for (name, key, row) in samples() {
        let Some((key_bytes, row_bytes)) = written.get(&*format!("1 {name}")) else {
            panic!(
                "old_formats.txt lacks:\n1 {name} | {} | {}",
                hex(&encode_key(&key)),
                hex(&encode_row(&row))
            );
        };
        assert_eq!(decode_key(key_bytes), Ok(key.clone()), "{name}");
        assert_eq!(decode_row(&key, row_bytes), Ok(row), "{name}");
    }
}

#[test]
fn what_is_written_today_is_format_1() {
    let today: Vec<_> = samples()
        .iter()
        .map(|(name, key, row)| format!("1 {name} | {} | {}", hex(&encode_key(key)), hex(&encode_row(row))))
        .collect();
    let format_1: Vec<_> = WRITTEN.lines().filter(|line| line.starts_with("1 ")).collect();
    assert_eq!(today, format_1, "{}", today.join("\n"));
}
