//! Rows as bytes: CBOR arrays of numbered fields. The structs here mirror those of the core, which know nothing of
//! bytes; texts are borrowed from the row while it is taken apart.
//!
//! **A number is never given another meaning.** A new field takes the next number and is an `Option`.

use std::sync::Arc;

use minicbor::{Decode, Encode};
use sidenote_core::account::{Account, Membership};
use sidenote_core::extension::{Attempts, Entry, ExtensionState, Seq, Value};
use sidenote_core::group::{ApplyJoin, Counters, CustomField, Group, GroupProfile, GroupType, InviteJoin};
use sidenote_core::group::{Member, Role};
use sidenote_core::ids::{Conversation, EventNumber, Incarnation, Timestamp, TinyId, UserId};
use sidenote_core::message::{Message, MessageBody, Priority};
use sidenote_core::rows::{MessagePart, Part, Row, RowKey};
use sidenote_store::StoreError;

use super::direct::{DirectRow, SentRow};
use super::events::{decode_event, encode_event};
use super::outboxes::{decode_dead_letter, decode_outbox, encode_dead_letter, encode_outbox};
use super::unreadable;

/// The bytes of a row.
pub fn encode_row(row: &Row) -> Vec<u8> {
    match row {
        Row::Account(it) => bytes(AccountRow::from(&**it)),
        Row::Membership(it) => bytes(MembershipRow { since: it.since.get() }),
        Row::Group(it) => bytes(GroupRow::from(&**it)),
        Row::Direct(it) => bytes(DirectRow::from(it)),
        Row::Counters(it) => bytes(CountersRow::from(it)),
        Row::Member(it) => bytes(MemberRow::from(&**it)),
        Row::Repeat(it) => bytes(SentRow::from(it)),
        Row::Message(it) => bytes(MessageRow::from(&**it)),
        Row::Body(it) => bytes(BodyRow::from(&**it)),
        Row::Extension(it) => bytes(ExtensionRow::from(it)),
        Row::Pair(it) => bytes(PairRow { value: it.value().map(Value::as_str), seq: it.seq().get() }),
        Row::Event(it) => encode_event(it),
        Row::Recent | Row::Debt => bytes(BareRow {}),
        Row::Outbox(it) => encode_outbox(it),
        Row::DeadLetter(it) => encode_dead_letter(it),
    }
}

/// The row under a key. The key says which kind it is.
pub fn decode_row(key: &RowKey, bytes: &[u8]) -> Result<Row, StoreError> {
    match key {
        RowKey::Account(_) => {
            take(bytes, "an account", |row: AccountRow<'_>| row.read().map(Arc::new).map(Row::Account))
        }
        RowKey::Membership(..) => take(bytes, "a membership", |row: MembershipRow| {
            Some(Row::Membership(Membership { since: EventNumber::new(row.since) }))
        }),
        RowKey::Conversation(id) => match id.conversation {
            Conversation::Group(_) => {
                take(bytes, "a group", |row: GroupRow<'_>| row.read().map(Arc::new).map(Row::Group))
            }
            Conversation::Direct(..) => {
                take(bytes, "a one-to-one conversation", |row: DirectRow| row.read().map(Row::Direct))
            }
        },
        RowKey::Event(..) => decode_event(bytes).map(Arc::new).map(Row::Event),
        RowKey::Debt(_) => take(bytes, "a debt", |_: BareRow| Some(Row::Debt)),
        RowKey::Outbox(..) => decode_outbox(bytes).map(Row::Outbox),
        RowKey::DeadLetter(..) => decode_dead_letter(bytes).map(Arc::new).map(Row::DeadLetter),
        RowKey::Within(_, part) => match part {
            Part::Counters => take(bytes, "the counters of a conversation", |row: CountersRow| {
                Some(Row::Counters(row.read()))
            }),
            Part::Member(_) => {
                take(bytes, "a member", |row: MemberRow<'_>| row.read().map(Arc::new).map(Row::Member))
            }
            Part::Repeat(_) => take(bytes, "a remembered send", |row: SentRow| row.read().map(Row::Repeat)),
            Part::Message(_, part) => match part {
                MessagePart::Header => {
                    take(bytes, "a message", |row: MessageRow<'_>| row.read().map(Arc::new).map(Row::Message))
                }
                MessagePart::Body => take(bytes, "the body of a message", |row: BodyRow<'_>| {
                    Some(Row::Body(Arc::new(row.read())))
                }),
                MessagePart::Extension => {
                    take(bytes, "the state of an extension set", |row: ExtensionRow| {
                        row.read().map(Row::Extension)
                    })
                }
                MessagePart::Pair(_) => take(bytes, "a pair", |row: PairRow<'_>| row.read().map(Row::Pair)),
            },
            Part::Recent(_) => take(bytes, "a place in history", |_: BareRow| Some(Row::Recent)),
        },
    }
}

pub(super) fn bytes(row: impl Encode<()>) -> Vec<u8> {
    minicbor::to_vec(row).expect("memory takes all bytes, and no encoding here refuses a value")
}

/// Takes a row apart, all of it.
pub(super) fn take<'b, Raw: Decode<'b, ()>, T>(
    bytes: &'b [u8],
    kind: &str,
    read: impl FnOnce(Raw) -> Option<T>,
) -> Result<T, StoreError> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let raw = decoder.decode().map_err(|error| unreadable(kind, error))?;
    if decoder.position() != bytes.len() {
        return Err(unreadable(kind, "bytes are left over"));
    }
    read(raw).ok_or_else(|| unreadable(kind, "it holds a value that none can have"))
}

pub(super) fn tiny_id(raw: u64) -> Option<TinyId> {
    Some(TinyId::from_random(raw)).filter(|tiny_id| tiny_id.get() == raw)
}

pub(super) fn user(raw: &str) -> Option<UserId> {
    UserId::new(raw).ok()
}

pub(super) fn seq(raw: u64) -> Option<Seq> {
    Seq::new(raw).ok()
}

/// An optional part: absent is fine, damaged is not.
#[expect(clippy::option_option, reason = "the outer one says whether the bytes were sound")]
pub(super) fn optional<T, U>(raw: Option<T>, read: impl FnOnce(T) -> Option<U>) -> Option<Option<U>> {
    raw.map_or(Some(None), |raw| read(raw).map(Some))
}

/// Enums that are one number, and never another.
macro_rules! codes {
    ($($mirror:ident of $core:ident { $($number:literal $name:ident,)* })*) => {$(
        #[derive(Clone, Copy, Encode, Decode)]
        #[cbor(index_only)]
        pub(super) enum $mirror { $(#[n($number)] $name,)* }

        impl From<$core> for $mirror {
            fn from(it: $core) -> Self {
                match it { $($core::$name => Self::$name,)* }
            }
        }

        impl From<$mirror> for $core {
            fn from(it: $mirror) -> Self {
                match it { $($mirror::$name => Self::$name,)* }
            }
        }
    )*};
}
pub(super) use codes;

codes! {
    GroupTypeCode of GroupType { 0 Private, 1 Public, 2 ChatRoom, 3 AvChatRoom, 4 Community, }
    ApplyJoinCode of ApplyJoin { 0 FreeAccess, 1 NeedPermission, 2 DisableApply, }
    InviteJoinCode of InviteJoin { 0 FreeAccess, 1 NeedPermission, 2 DisableInvite, }
    RoleCode of Role { 0 Owner, 1 Admin, 2 Member, }
    PriorityCode of Priority { 0 High, 1 Normal, 2 Low, }
}

#[derive(Encode, Decode)]
struct AccountRow<'a> {
    #[n(0)]
    tiny_id: u64,
    #[b(1)]
    nick: &'a str,
    #[b(2)]
    face_url: &'a str,
    #[n(3)]
    imported_at: u64,
}

impl<'a> From<&'a Account> for AccountRow<'a> {
    fn from(it: &'a Account) -> Self {
        Self {
            tiny_id: it.tiny_id.get(),
            nick: &it.nick,
            face_url: &it.face_url,
            imported_at: it.imported_at.millis(),
        }
    }
}

impl AccountRow<'_> {
    fn read(self) -> Option<Account> {
        Some(Account {
            tiny_id: tiny_id(self.tiny_id)?,
            nick: self.nick.to_owned(),
            face_url: self.face_url.to_owned(),
            imported_at: Timestamp::from_millis(self.imported_at),
        })
    }
}

#[derive(Encode, Decode)]
struct MembershipRow {
    #[n(0)]
    since: u64,
}

#[derive(Encode, Decode)]
struct CustomRow<'a> {
    #[b(0)]
    key: &'a str,
    #[b(1)]
    value: &'a str,
}

fn customs(fields: &[CustomField]) -> Vec<CustomRow<'_>> {
    fields.iter().map(|field| CustomRow { key: &field.key, value: &field.value }).collect()
}

fn read_customs(rows: Vec<CustomRow<'_>>) -> Vec<CustomField> {
    let read = |row: CustomRow<'_>| CustomField { key: row.key.to_owned(), value: row.value.to_owned() };
    rows.into_iter().map(read).collect()
}

#[derive(Encode, Decode)]
pub(super) struct GroupRow<'a> {
    #[n(0)]
    incarnation: u64,
    #[n(1)]
    kind: GroupTypeCode,
    #[b(2)]
    owner: Option<&'a str>,
    #[n(3)]
    created_at: u64,
    #[n(4)]
    info_seq: u64,
    #[n(5)]
    info_changed_at: u64,
    #[b(6)]
    name: &'a str,
    #[b(7)]
    introduction: &'a str,
    #[b(8)]
    notification: &'a str,
    #[b(9)]
    face_url: &'a str,
    #[n(10)]
    max_members: Option<u32>,
    #[n(11)]
    apply_join: ApplyJoinCode,
    #[n(12)]
    invite_join: InviteJoinCode,
    #[n(13)]
    mute_all: bool,
    #[n(14)]
    history_before_join: bool,
    #[b(15)]
    custom: Vec<CustomRow<'a>>,
}

impl<'a> From<&'a Group> for GroupRow<'a> {
    fn from(it: &'a Group) -> Self {
        Self {
            incarnation: it.incarnation.get(),
            kind: it.kind.into(),
            owner: it.owner.as_ref().map(UserId::as_str),
            created_at: it.created_at.millis(),
            info_seq: it.info_seq,
            info_changed_at: it.info_changed_at.millis(),
            name: &it.profile.name,
            introduction: &it.profile.introduction,
            notification: &it.profile.notification,
            face_url: &it.profile.face_url,
            max_members: it.profile.max_members,
            apply_join: it.profile.apply_join.into(),
            invite_join: it.profile.invite_join.into(),
            mute_all: it.profile.mute_all,
            history_before_join: it.profile.history_before_join,
            custom: customs(&it.profile.custom),
        }
    }
}

impl GroupRow<'_> {
    pub(super) fn read(self) -> Option<Group> {
        Some(Group {
            incarnation: Incarnation::from_random(self.incarnation),
            kind: self.kind.into(),
            owner: optional(self.owner, user)?,
            profile: GroupProfile {
                name: self.name.to_owned(),
                introduction: self.introduction.to_owned(),
                notification: self.notification.to_owned(),
                face_url: self.face_url.to_owned(),
                max_members: self.max_members,
                apply_join: self.apply_join.into(),
                invite_join: self.invite_join.into(),
                mute_all: self.mute_all,
                history_before_join: self.history_before_join,
                custom: read_customs(self.custom),
            },
            created_at: Timestamp::from_millis(self.created_at),
            info_seq: self.info_seq,
            info_changed_at: Timestamp::from_millis(self.info_changed_at),
        })
    }
}

#[derive(Encode, Decode)]
struct CountersRow {
    #[n(0)]
    last_msg_seq: u64,
    #[n(1)]
    last_msg_at: u64,
    #[n(2)]
    members: u32,
    #[n(3)]
    last_event: u64,
}

impl From<&Counters> for CountersRow {
    fn from(it: &Counters) -> Self {
        Self {
            last_msg_seq: it.last_msg_seq,
            last_msg_at: it.last_msg_at.millis(),
            members: it.members,
            last_event: it.last_event.get(),
        }
    }
}

impl CountersRow {
    fn read(&self) -> Counters {
        Counters {
            last_msg_seq: self.last_msg_seq,
            last_msg_at: Timestamp::from_millis(self.last_msg_at),
            members: self.members,
            last_event: EventNumber::new(self.last_event),
        }
    }
}

#[derive(Encode, Decode)]
struct MemberRow<'a> {
    #[n(0)]
    tiny_id: u64,
    #[n(1)]
    role: RoleCode,
    #[n(2)]
    joined_at: u64,
    #[n(3)]
    read_seq: u64,
    #[n(4)]
    last_sent_at: u64,
    #[n(5)]
    muted_until: u64,
    #[b(6)]
    name_card: &'a str,
    #[b(7)]
    custom: Vec<CustomRow<'a>>,
}

impl<'a> From<&'a Member> for MemberRow<'a> {
    fn from(it: &'a Member) -> Self {
        Self {
            tiny_id: it.tiny_id.get(),
            role: it.role.into(),
            joined_at: it.joined_at.millis(),
            read_seq: it.read_seq,
            last_sent_at: it.last_sent_at.millis(),
            muted_until: it.muted_until.millis(),
            name_card: &it.name_card,
            custom: customs(&it.custom),
        }
    }
}

impl MemberRow<'_> {
    fn read(self) -> Option<Member> {
        Some(Member {
            tiny_id: tiny_id(self.tiny_id)?,
            role: self.role.into(),
            joined_at: Timestamp::from_millis(self.joined_at),
            read_seq: self.read_seq,
            last_sent_at: Timestamp::from_millis(self.last_sent_at),
            muted_until: Timestamp::from_millis(self.muted_until),
            name_card: self.name_card.to_owned(),
            custom: read_customs(self.custom),
        })
    }
}

#[derive(Encode, Decode)]
pub(super) struct MessageRow<'a> {
    #[b(0)]
    sender: &'a str,
    #[n(1)]
    sender_tiny_id: u64,
    #[n(2)]
    random: u32,
    #[n(3)]
    client_time: u64,
    #[n(4)]
    sent_at: u64,
    #[n(5)]
    priority: PriorityCode,
    #[n(6)]
    supports_extension: bool,
    #[n(7)]
    imported: bool,
    #[n(8)]
    recalled: bool,
}

impl<'a> From<&'a Message> for MessageRow<'a> {
    fn from(it: &'a Message) -> Self {
        Self {
            sender: it.sender.as_str(),
            sender_tiny_id: it.sender_tiny_id.get(),
            random: it.random,
            client_time: it.client_time,
            sent_at: it.sent_at.millis(),
            priority: it.priority.into(),
            supports_extension: it.supports_extension,
            imported: it.imported,
            recalled: it.recalled,
        }
    }
}

impl MessageRow<'_> {
    pub(super) fn read(self) -> Option<Message> {
        Some(Message {
            sender: user(self.sender)?,
            sender_tiny_id: tiny_id(self.sender_tiny_id)?,
            random: self.random,
            client_time: self.client_time,
            sent_at: Timestamp::from_millis(self.sent_at),
            priority: self.priority.into(),
            supports_extension: self.supports_extension,
            imported: self.imported,
            recalled: self.recalled,
        })
    }
}

#[derive(Encode, Decode)]
pub(super) struct BodyRow<'a> {
    #[b(0)]
    elements: &'a str,
    #[b(1)]
    cloud_custom_data: &'a str,
    #[b(2)]
    further: &'a str,
}

impl<'a> From<&'a MessageBody> for BodyRow<'a> {
    fn from(it: &'a MessageBody) -> Self {
        Self { elements: &it.elements, cloud_custom_data: &it.cloud_custom_data, further: &it.further }
    }
}

impl BodyRow<'_> {
    pub(super) fn read(&self) -> MessageBody {
        MessageBody {
            elements: self.elements.to_owned(),
            cloud_custom_data: self.cloud_custom_data.to_owned(),
            further: self.further.to_owned(),
        }
    }
}

#[derive(Encode, Decode)]
struct ExtensionRow {
    #[n(0)]
    latest: u64,
    #[n(1)]
    clear: u64,
    #[n(2)]
    live: u32,
    #[n(3)]
    tombstones: u32,
    #[n(4)]
    attempts_since: u64,
    #[n(5)]
    attempts: u32,
}

impl From<&ExtensionState> for ExtensionRow {
    fn from(it: &ExtensionState) -> Self {
        Self {
            latest: it.latest.get(),
            clear: it.clear.get(),
            live: it.live,
            tombstones: it.tombstones,
            attempts_since: it.attempts.since.millis(),
            attempts: it.attempts.count,
        }
    }
}

impl ExtensionRow {
    fn read(self) -> Option<ExtensionState> {
        let since = Timestamp::from_millis(self.attempts_since);
        Some(ExtensionState {
            latest: seq(self.latest)?,
            clear: seq(self.clear)?,
            live: self.live,
            tombstones: self.tombstones,
            attempts: Attempts { since, count: self.attempts },
        })
    }
}

/// A live pair, or a tombstone if it has no value.
#[derive(Encode, Decode)]
struct PairRow<'a> {
    #[b(0)]
    value: Option<&'a str>,
    #[n(1)]
    seq: u64,
}

impl PairRow<'_> {
    fn read(self) -> Option<Entry> {
        let seq = seq(self.seq)?;
        Some(match optional(self.value, |value| Value::new(value).ok())? {
            Some(value) => Entry::Live { value, seq },
            None => Entry::Deleted { seq },
        })
    }
}

/// A row whose key says it all.
#[derive(Encode, Decode)]
struct BareRow {}
