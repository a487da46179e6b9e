//! Any key and any row.

use std::net::IpAddr;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
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
    AccountId, AppId, Conversation, ConversationId, EventNumber, GroupId, Incarnation, MAX_SAFE_INTEGER,
    MessageName, MsgKey, MsgSeq, Recency, Timestamp, TinyId, UserId,
};
use sidenote_core::message::{Fingerprint, Message, MessageBody, Priority, Sent};
use sidenote_core::outbox::{DeadLetter, Gone, LetterRequest, Outbox};
use sidenote_core::rows::{MessagePart, Part, Row, RowKey};

/// Numbers that lie close together, or at the ends.
fn number() -> BoxedStrategy<u64> {
    prop_oneof![0..4_u64, Just(255), Just(256), Just(u64::MAX), any::<u64>()].boxed()
}

fn small() -> BoxedStrategy<u32> {
    prop_oneof![0..3_u32, Just(u32::MAX), any::<u32>()].boxed()
}

pub(crate) fn user() -> BoxedStrategy<UserId> {
    prop_oneof!["[ab]{1,3}", "\\PC{1,8}"].prop_map(|text| UserId::new(&text).unwrap()).boxed()
}

fn group_id() -> BoxedStrategy<GroupId> {
    prop_oneof!["[ab]{1,3}", "[ -~]{1,48}"].prop_map(|text| GroupId::new(&text).unwrap()).boxed()
}

fn account_id() -> BoxedStrategy<AccountId> {
    (small(), user()).prop_map(|(app, user)| AccountId { app: AppId::new(app), user }).boxed()
}

fn conversation() -> BoxedStrategy<ConversationId> {
    let conversation = prop_oneof![
        group_id().prop_map(Conversation::Group),
        (user(), user()).prop_map(|(one, other)| Conversation::between(one, other)),
    ];
    (small(), conversation)
        .prop_map(|(app, conversation)| ConversationId { app: AppId::new(app), conversation })
        .boxed()
}

pub(crate) fn incarnation() -> BoxedStrategy<Incarnation> {
    number().prop_map(Incarnation::from_random).boxed()
}

fn tiny_id() -> BoxedStrategy<TinyId> {
    number().prop_map(TinyId::from_random).boxed()
}

fn event_number() -> BoxedStrategy<EventNumber> {
    number().prop_map(EventNumber::new).boxed()
}

pub(crate) fn time() -> BoxedStrategy<Timestamp> {
    number().prop_map(Timestamp::from_millis).boxed()
}

fn fingerprint() -> BoxedStrategy<Fingerprint> {
    any::<[u8; 16]>().prop_map(Fingerprint).boxed()
}

fn msg_seq() -> BoxedStrategy<MsgSeq> {
    prop_oneof![1..4_u64, Just(MAX_SAFE_INTEGER), 1..=MAX_SAFE_INTEGER]
        .prop_map(|raw| MsgSeq::new(raw).unwrap())
        .boxed()
}

pub(crate) fn message_name() -> BoxedStrategy<MessageName> {
    prop_oneof![msg_seq().prop_map(MessageName::Seq), msg_key().prop_map(MessageName::Key),].boxed()
}

fn msg_key() -> BoxedStrategy<MsgKey> {
    (small(), small(), number()).prop_map(|(seq, random, time)| MsgKey { seq, random, time }).boxed()
}

fn extension_key() -> BoxedStrategy<Key> {
    let any_text = vec(any::<char>(), 1..20).prop_map(|chars| chars.into_iter().collect::<String>());
    prop_oneof!["[\u{0}ab]{1,3}".boxed(), any_text.boxed()].prop_map(|text| Key::new(&text).unwrap()).boxed()
}

fn task() -> BoxedStrategy<Task> {
    let home = || (conversation(), incarnation());
    prop_oneof![
        (home(), event_number()).prop_map(|((id, of), number)| Task::Announce(id, of, number)),
        (account_id(), tiny_id()).prop_map(|(account, tiny_id)| Task::Forsake(account, tiny_id)),
        home().prop_map(|(id, of)| Task::Reap(id, of)),
        (home(), message_name()).prop_map(|((id, of), name)| Task::Strip(id, of, name)),
        (home(), fingerprint()).prop_map(|((id, of), print)| Task::ForgetSend(id, of, print)),
        home().prop_map(|(id, of)| Task::TrimEvents(id, of)),
    ]
    .boxed()
}

fn part() -> BoxedStrategy<Part> {
    let of_message = prop_oneof![
        Just(MessagePart::Header),
        Just(MessagePart::Body),
        Just(MessagePart::Extension),
        extension_key().prop_map(MessagePart::Pair),
    ];
    prop_oneof![
        1 => Just(Part::Counters),
        2 => user().prop_map(Part::Member),
        1 => fingerprint().prop_map(Part::Repeat),
        4 => (message_name(), of_message).prop_map(|(name, part)| Part::Message(name, part)),
        2 => msg_key().prop_map(|key| Part::Recent(Recency::of(key))),
    ]
    .boxed()
}

pub(crate) fn key() -> BoxedStrategy<RowKey> {
    prop_oneof![
        account_id().prop_map(RowKey::Account),
        (account_id(), group_id(), incarnation())
            .prop_map(|(account, group, of)| RowKey::Membership(account, group, of)),
        conversation().prop_map(RowKey::Conversation),
        (incarnation(), part()).prop_map(|(of, part)| RowKey::Within(of, part)),
        (incarnation(), event_number()).prop_map(|(of, number)| RowKey::Event(of, number)),
        (time(), task()).prop_map(|(due, task)| RowKey::Debt(Debt { due, task })),
        (conversation(), incarnation()).prop_map(|(id, of)| RowKey::Outbox(id, of)),
        (conversation(), incarnation(), event_number())
            .prop_map(|(id, of, number)| RowKey::DeadLetter(id, of, number)),
    ]
    .boxed()
}

fn text() -> BoxedStrategy<String> {
    any::<String>().boxed()
}

fn customs() -> BoxedStrategy<Vec<CustomField>> {
    vec((text(), text()).prop_map(|(key, value)| CustomField { key, value }), 0..3).boxed()
}

fn seq() -> BoxedStrategy<Seq> {
    (0..=MAX_SAFE_INTEGER).prop_map(|raw| Seq::new(raw).unwrap()).boxed()
}

fn value() -> BoxedStrategy<Value> {
    "(?s).{1,40}".prop_map(|text: String| Value::new(&text).unwrap()).boxed()
}

fn account() -> BoxedStrategy<Account> {
    (tiny_id(), text(), text(), time())
        .prop_map(|(tiny_id, nick, face_url, imported_at)| Account { tiny_id, nick, face_url, imported_at })
        .boxed()
}

fn group() -> BoxedStrategy<Group> {
    use GroupType::{AvChatRoom, ChatRoom, Community, Private, Public};
    let kinds = vec![Private, Public, ChatRoom, AvChatRoom, Community];
    let apply = vec![ApplyJoin::FreeAccess, ApplyJoin::NeedPermission, ApplyJoin::DisableApply];
    let invite = vec![InviteJoin::FreeAccess, InviteJoin::NeedPermission, InviteJoin::DisableInvite];
    let texts = (text(), text(), text(), text());
    let choices =
        (option::of(small()), select(apply), select(invite), any::<bool>(), any::<bool>(), customs());
    let profile = (texts, choices).prop_map(|(texts, choices)| GroupProfile {
        name: texts.0,
        introduction: texts.1,
        notification: texts.2,
        face_url: texts.3,
        max_members: choices.0,
        apply_join: choices.1,
        invite_join: choices.2,
        mute_all: choices.3,
        history_before_join: choices.4,
        custom: choices.5,
    });
    (incarnation(), select(kinds), option::of(user()), profile, time(), number(), time())
        .prop_map(|(incarnation, kind, owner, profile, created_at, info_seq, info_changed_at)| Group {
            incarnation,
            kind,
            owner,
            profile,
            created_at,
            info_seq,
            info_changed_at,
        })
        .boxed()
}

fn direct() -> BoxedStrategy<Direct> {
    (incarnation(), tiny_id(), tiny_id(), time())
        .prop_map(|(incarnation, one, other, begun_at)| Direct {
            incarnation,
            tiny_ids: [one, other],
            begun_at,
        })
        .boxed()
}

fn counters() -> BoxedStrategy<Counters> {
    (number(), time(), small(), event_number())
        .prop_map(|(last_msg_seq, last_msg_at, members, last_event)| Counters {
            last_msg_seq,
            last_msg_at,
            members,
            last_event,
        })
        .boxed()
}

fn member() -> BoxedStrategy<Member> {
    let role = select(vec![Role::Owner, Role::Admin, Role::Member]);
    (tiny_id(), role, time(), number(), time(), time(), text(), customs())
        .prop_map(|(tiny_id, role, joined_at, read_seq, last_sent_at, muted_until, name_card, custom)| {
            Member { tiny_id, role, joined_at, read_seq, last_sent_at, muted_until, name_card, custom }
        })
        .boxed()
}

fn message() -> BoxedStrategy<Message> {
    let priority = select(vec![Priority::High, Priority::Normal, Priority::Low]);
    (user(), tiny_id(), small(), number(), time(), priority, any::<[bool; 3]>())
        .prop_map(|(sender, sender_tiny_id, random, client_time, sent_at, priority, flags)| Message {
            sender,
            sender_tiny_id,
            random,
            client_time,
            sent_at,
            priority,
            supports_extension: flags[0],
            imported: flags[1],
            recalled: flags[2],
        })
        .boxed()
}

fn body() -> BoxedStrategy<MessageBody> {
    (text(), text(), text())
        .prop_map(|(elements, cloud_custom_data, further)| MessageBody {
            elements,
            cloud_custom_data,
            further,
        })
        .boxed()
}

fn extension() -> BoxedStrategy<ExtensionState> {
    (seq(), seq(), small(), small(), time(), small())
        .prop_map(|(latest, clear, live, tombstones, since, count)| ExtensionState {
            latest,
            clear,
            live,
            tombstones,
            attempts: Attempts { since, count },
        })
        .boxed()
}

fn entry() -> BoxedStrategy<Entry> {
    prop_oneof![
        (value(), seq()).prop_map(|(value, seq)| Entry::Live { value, seq }),
        seq().prop_map(|seq| Entry::Deleted { seq }),
    ]
    .boxed()
}

fn operator() -> BoxedStrategy<Operator> {
    let kind = select(vec![
        CallerKind::Administrator,
        CallerKind::Member,
        CallerKind::Connected,
        CallerKind::Server,
    ]);
    let platform = select(vec![
        Platform::RestApi,
        Platform::Web,
        Platform::Android,
        Platform::Ios,
        Platform::Windows,
        Platform::Mac,
        Platform::Ipad,
        Platform::Unknown,
    ]);
    (user(), option::of(tiny_id()), kind, platform, option::of(any::<IpAddr>()))
        .prop_map(|(user, tiny_id, kind, platform, address)| Operator {
            user,
            tiny_id,
            kind,
            platform,
            address,
        })
        .boxed()
}

fn change() -> BoxedStrategy<ExtensionChange> {
    let previous =
        || option::of((option::of(value()), seq()).prop_map(|(value, seq)| Previous { value, seq }));
    let pair = (extension_key(), option::of(value()), seq(), previous())
        .prop_map(|(key, value, seq, previous)| ChangedPair { key, value, seq, previous });
    let operation = select(vec![Operation::Set, Operation::Delete, Operation::Clear]);
    let name = (message_name(), tiny_id(), number(), small());
    (name, operation, any::<bool>(), vec(pair, 0..4), seq(), seq())
        .prop_map(|(name, operation, compaction, pairs, latest, clear)| ExtensionChange {
            message: name.0,
            sender_tiny_id: name.1,
            client_time: name.2,
            random: name.3,
            operation,
            compaction,
            pairs,
            latest,
            clear,
        })
        .boxed()
}

fn happening() -> BoxedStrategy<Happening> {
    let users = || vec(user(), 0..4);
    prop_oneof![
        any::<bool>().prop_map(|imported| Happening::GroupCreated { imported }),
        Just(Happening::GroupChanged),
        Just(Happening::GroupDestroyed),
        (option::of(user()), user()).prop_map(|(from, to)| Happening::OwnerChanged { from, to }),
        (users(), any::<bool>()).prop_map(|(users, imported)| Happening::MembersJoined { users, imported }),
        (users(), text()).prop_map(|(users, reason)| Happening::MembersLeft { users, reason }),
        (msg_seq(), message()).prop_map(|(seq, message)| Happening::MessageSent { seq, message }),
        (message(), body()).prop_map(|(message, body)| Happening::TransientMessage { message, body }),
        (vec(msg_seq(), 0..4), text())
            .prop_map(|(seqs, reason)| Happening::MessagesRecalled { seqs, reason }),
        change().prop_map(Happening::Extension),
        (msg_key(), message()).prop_map(|(key, message)| Happening::DirectSent { key, message }),
        (msg_key(), message(), body()).prop_map(|(key, message, body)| Happening::DirectTransient {
            key,
            message,
            body
        }),
        msg_key().prop_map(|key| Happening::DirectRecalled { key }),
    ]
    .boxed()
}

fn event() -> BoxedStrategy<Event> {
    (event_number(), time(), operator(), happening())
        .prop_map(|(number, at, operator, what)| Event { number, at, operator, what })
        .boxed()
}

fn outbox(of: Incarnation) -> BoxedStrategy<Outbox> {
    let gone = (group(), event_number())
        .prop_map(move |(group, last)| Gone { group: Arc::new(Group { incarnation: of, ..group }), last });
    (event_number(), time(), option::of(gone))
        .prop_map(|(after, since, gone)| Outbox { after, since, gone })
        .boxed()
}

fn dead_letter() -> BoxedStrategy<DeadLetter> {
    let request =
        (text(), text(), text()).prop_map(|(command, origin, body)| LetterRequest { command, origin, body });
    (event_number(), time(), time(), small(), text(), option::of(request))
        .prop_map(|(first, happened_at, given_up_at, tries, reason, request)| DeadLetter {
            first,
            happened_at,
            given_up_at,
            tries,
            reason,
            request,
        })
        .boxed()
}

/// A key and a row of the kind that it fixes.
pub(crate) fn key_and_row() -> BoxedStrategy<(RowKey, Row)> {
    key()
        .prop_flat_map(|key| {
            let row = match &key {
                RowKey::Account(_) => account().prop_map(|it| Row::Account(Arc::new(it))).boxed(),
                RowKey::Membership(..) => {
                    event_number().prop_map(|since| Row::Membership(Membership { since })).boxed()
                }
                RowKey::Conversation(id) => match id.conversation {
                    Conversation::Group(_) => group().prop_map(|it| Row::Group(Arc::new(it))).boxed(),
                    Conversation::Direct(..) => direct().prop_map(Row::Direct).boxed(),
                },
                RowKey::Event(..) => event().prop_map(|it| Row::Event(Arc::new(it))).boxed(),
                RowKey::Debt(_) => Just(Row::Debt).boxed(),
                RowKey::Outbox(_, of) => outbox(*of).prop_map(Row::Outbox).boxed(),
                RowKey::DeadLetter(..) => dead_letter().prop_map(|it| Row::DeadLetter(Arc::new(it))).boxed(),
                RowKey::Within(_, part) => match part {
                    Part::Counters => counters().prop_map(Row::Counters).boxed(),
                    Part::Member(_) => member().prop_map(|it| Row::Member(Arc::new(it))).boxed(),
                    Part::Repeat(_) => (option::of(message_name()), time())
                        .prop_map(|(name, at)| Row::Repeat(Sent { name, at }))
                        .boxed(),
                    Part::Recent(_) => Just(Row::Recent).boxed(),
                    Part::Message(_, part) => match part {
                        MessagePart::Header => message().prop_map(|it| Row::Message(Arc::new(it))).boxed(),
                        MessagePart::Body => body().prop_map(|it| Row::Body(Arc::new(it))).boxed(),
                        MessagePart::Extension => extension().prop_map(Row::Extension).boxed(),
                        MessagePart::Pair(_) => entry().prop_map(Row::Pair).boxed(),
                    },
                },
            };
            (Just(key), row)
        })
        .boxed()
}

pub(crate) fn an_event() -> BoxedStrategy<(RowKey, Row)> {
    (key(), event())
        .prop_map(|(_, event)| {
            (RowKey::Event(Incarnation::from_random(1), event.number), Row::Event(Arc::new(event)))
        })
        .boxed()
}
