//! One row as one line.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sidenote_core::account::{Account, Membership};
use sidenote_core::direct::Direct;
use sidenote_core::extension::{Attempts, Entry, ExtensionState, Key, Seq, Value};
use sidenote_core::group::{
    ApplyJoin, Counters, CustomField, Group, GroupProfile, GroupType, InviteJoin, Member, Role,
};
use sidenote_core::ids::{
    AccountId, AppId, Conversation, ConversationId, EventNumber, GroupId, Incarnation, MessageName, Recency,
    Timestamp, UserId,
};
use sidenote_core::message::{Message, MessageBody, Priority, Sent};
use sidenote_core::rows::{MessagePart, Part, Row, RowKey};

use crate::debts::DebtLine;
use crate::events::EventLine;
use crate::names::{
    ConversationText, FingerprintText, IncarnationText, NameText, Read, TinyIdText, unfit, user, words,
};
use crate::outboxes::{DeadLetterLine, OutboxLine};
use crate::{End, Header};

/// Any line of a file. The one member of its object names its kind.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line<'a> {
    SidenoteExport(Header),
    Debt(DebtLine<'a>),
    Account(AccountLine<'a>),
    Membership(MembershipLine<'a>),
    Group(Box<GroupLine<'a>>),
    Direct(DirectLine),
    Event(Box<EventLine<'a>>),
    Counters(CountersLine),
    Member(MemberLine<'a>),
    Repeat(RepeatLine),
    Message(Box<MessageLine<'a>>),
    Body(BodyLine<'a>),
    Set(SetLine),
    Pair(PairLine<'a>),
    Recent(RecentLine),
    Outbox(Box<OutboxLine<'a>>),
    DeadLetter(Box<DeadLetterLine<'a>>),
    End(End),
}

impl<'a> Line<'a> {
    /// The line of a row; `None` if the row is of another kind than its key says.
    pub(crate) fn of(key: &'a RowKey, row: &'a Row) -> Option<Self> {
        Some(match (key, row) {
            (RowKey::Debt(debt), Row::Debt) => Self::Debt(DebtLine::of(debt)),
            (RowKey::Account(id), Row::Account(it)) => Self::Account(AccountLine::of(id, it)),
            (RowKey::Membership(id, group, incarnation), Row::Membership(it)) => {
                Self::Membership(MembershipLine {
                    app: id.app.get(),
                    user: id.user.as_str().into(),
                    group: group.as_str().into(),
                    incarnation: IncarnationText(*incarnation),
                    since: it.since.get(),
                })
            }
            (RowKey::Conversation(id), Row::Group(it)) => Self::Group(Box::new(GroupLine::of(id, it))),
            (RowKey::Conversation(id), Row::Direct(it)) => Self::Direct(DirectLine::of(id, it)),
            (RowKey::Event(incarnation, number), Row::Event(event)) => {
                Self::Event(Box::new(EventLine::of(*incarnation, *number, event)))
            }
            (RowKey::Within(incarnation, part), row) => Self::within(*incarnation, part, row)?,
            (RowKey::Outbox(id, incarnation), Row::Outbox(it)) => {
                Self::Outbox(Box::new(OutboxLine::of(id, *incarnation, it)))
            }
            (RowKey::DeadLetter(id, incarnation, number), Row::DeadLetter(it)) => {
                Self::DeadLetter(Box::new(DeadLetterLine::of(id, *incarnation, *number, it)))
            }
            _ => return None,
        })
    }

    fn within(incarnation: Incarnation, part: &'a Part, row: &'a Row) -> Option<Self> {
        let of = IncarnationText(incarnation);
        Some(match (part, row) {
            (Part::Counters, Row::Counters(it)) => Self::Counters(CountersLine {
                incarnation: of,
                last_msg_seq: it.last_msg_seq,
                last_msg_at: it.last_msg_at.millis(),
                members: it.members,
                last_event: it.last_event.get(),
            }),
            (Part::Member(user), Row::Member(it)) => Self::Member(MemberLine::of(of, user, it)),
            (Part::Repeat(fingerprint), Row::Repeat(it)) => Self::Repeat(RepeatLine {
                incarnation: of,
                fingerprint: FingerprintText(*fingerprint),
                message: it.name.map(NameText::from),
                at: it.at.millis(),
            }),
            (Part::Message(name, MessagePart::Header), Row::Message(it)) => {
                Self::Message(Box::new(MessageLine {
                    incarnation: of,
                    message: (*name).into(),
                    header: HeaderPart::from(&**it),
                }))
            }
            (Part::Message(name, MessagePart::Body), Row::Body(it)) => {
                Self::Body(BodyLine { incarnation: of, message: (*name).into(), body: BodyPart::from(&**it) })
            }
            (Part::Message(name, MessagePart::Extension), Row::Extension(it)) => Self::Set(SetLine {
                incarnation: of,
                message: (*name).into(),
                latest_seq: it.latest.get(),
                clear_seq: it.clear.get(),
                live: it.live,
                tombstones: it.tombstones,
                attempts_since: it.attempts.since.millis(),
                attempts: it.attempts.count,
            }),
            (Part::Message(name, MessagePart::Pair(key)), Row::Pair(it)) => Self::Pair(PairLine {
                incarnation: of,
                message: (*name).into(),
                key: key.as_str().into(),
                value: it.value().map(|value| value.as_str().into()),
                seq: it.seq().get(),
            }),
            (Part::Recent(place), Row::Recent) => {
                Self::Recent(RecentLine { incarnation: of, message: MessageName::Key(place.key()).into() })
            }
            _ => return None,
        })
    }

    /// The row of a line; `Ok(None)` for the first and the last line of a file.
    pub(crate) fn read(self) -> Read<Option<(RowKey, Row)>> {
        Ok(Some(match self {
            Self::SidenoteExport(_) | Self::End(_) => return Ok(None),
            Self::Debt(it) => (RowKey::Debt(it.read()?), Row::Debt),
            Self::Account(it) => it.read()?,
            Self::Membership(it) => {
                let id = AccountId { app: AppId::new(it.app), user: user(&it.user)? };
                let group = GroupId::new(&it.group).map_err(unfit("group"))?;
                let row = Row::Membership(Membership { since: EventNumber::new(it.since) });
                (RowKey::Membership(id, group, it.incarnation.0), row)
            }
            Self::Group(it) => it.read()?,
            Self::Direct(it) => it.read()?,
            Self::Event(it) => it.read()?,
            Self::Counters(it) => {
                let counters = Counters {
                    last_msg_seq: it.last_msg_seq,
                    last_msg_at: Timestamp::from_millis(it.last_msg_at),
                    members: it.members,
                    last_event: EventNumber::new(it.last_event),
                };
                (RowKey::Within(it.incarnation.0, Part::Counters), Row::Counters(counters))
            }
            Self::Member(it) => it.read()?,
            Self::Repeat(it) => {
                let name = it.message.map(|name| name.read()).transpose()?;
                let sent = Sent { name, at: Timestamp::from_millis(it.at) };
                (RowKey::Within(it.incarnation.0, Part::Repeat(it.fingerprint.0)), Row::Repeat(sent))
            }
            Self::Message(it) => {
                let row = Row::Message(Arc::new(it.header.read()?));
                (part_key(it.incarnation, it.message.read()?, MessagePart::Header), row)
            }
            Self::Body(it) => {
                let row = Row::Body(Arc::new(it.body.read()));
                (part_key(it.incarnation, it.message.read()?, MessagePart::Body), row)
            }
            Self::Set(it) => it.read()?,
            Self::Pair(it) => it.read()?,
            Self::Recent(it) => it.read()?,
            Self::Outbox(it) => it.read()?,
            Self::DeadLetter(it) => it.read()?,
        }))
    }
}

fn part_key(incarnation: IncarnationText, name: MessageName, part: MessagePart) -> RowKey {
    RowKey::Within(incarnation.0, Part::Message(name, part))
}

pub(crate) fn seq(raw: u64) -> Read<Seq> {
    Seq::new(raw).map_err(unfit("seq"))
}

words! {
    GroupTypeWord of GroupType { Private, Public, ChatRoom, AvChatRoom, Community }
    ApplyJoinWord of ApplyJoin { FreeAccess, NeedPermission, DisableApply }
    InviteJoinWord of InviteJoin { FreeAccess, NeedPermission, DisableInvite }
    RoleWord of Role { Owner, Admin, Member }
    PriorityWord of Priority { High, Normal, Low }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccountLine<'a> {
    app: u32,
    user: Cow<'a, str>,
    tiny_id: TinyIdText,
    nick: Cow<'a, str>,
    face_url: Cow<'a, str>,
    imported_at: u64,
}

impl<'a> AccountLine<'a> {
    fn of(id: &'a AccountId, it: &'a Account) -> Self {
        Self {
            app: id.app.get(),
            user: id.user.as_str().into(),
            tiny_id: TinyIdText(it.tiny_id),
            nick: (&it.nick).into(),
            face_url: (&it.face_url).into(),
            imported_at: it.imported_at.millis(),
        }
    }

    fn read(self) -> Read<(RowKey, Row)> {
        let id = AccountId { app: AppId::new(self.app), user: user(&self.user)? };
        let account = Account {
            tiny_id: self.tiny_id.0,
            nick: self.nick.into_owned(),
            face_url: self.face_url.into_owned(),
            imported_at: Timestamp::from_millis(self.imported_at),
        };
        Ok((RowKey::Account(id), Row::Account(Arc::new(account))))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MembershipLine<'a> {
    app: u32,
    user: Cow<'a, str>,
    group: Cow<'a, str>,
    incarnation: IncarnationText,
    since: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CustomPart<'a> {
    key: Cow<'a, str>,
    value: Cow<'a, str>,
}

fn customs(fields: &[CustomField]) -> Vec<CustomPart<'_>> {
    fields.iter().map(|field| CustomPart { key: (&field.key).into(), value: (&field.value).into() }).collect()
}

fn read_customs(parts: Vec<CustomPart<'_>>) -> Vec<CustomField> {
    let read =
        |part: CustomPart<'_>| CustomField { key: part.key.into_owned(), value: part.value.into_owned() };
    parts.into_iter().map(read).collect()
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupLine<'a> {
    app: u32,
    conversation: ConversationText,
    incarnation: IncarnationText,
    r#type: GroupTypeWord,
    owner: Option<Cow<'a, str>>,
    created_at: u64,
    info_seq: u64,
    info_changed_at: u64,
    name: Cow<'a, str>,
    introduction: Cow<'a, str>,
    notification: Cow<'a, str>,
    face_url: Cow<'a, str>,
    max_members: Option<u32>,
    apply_join: ApplyJoinWord,
    invite_join: InviteJoinWord,
    mute_all: bool,
    history_before_join: bool,
    custom: Vec<CustomPart<'a>>,
}

impl<'a> GroupLine<'a> {
    pub(crate) fn of(id: &'a ConversationId, it: &'a Group) -> Self {
        let profile = &it.profile;
        Self {
            app: id.app.get(),
            conversation: (&id.conversation).into(),
            incarnation: IncarnationText(it.incarnation),
            r#type: it.kind.into(),
            owner: it.owner.as_ref().map(|owner| owner.as_str().into()),
            created_at: it.created_at.millis(),
            info_seq: it.info_seq,
            info_changed_at: it.info_changed_at.millis(),
            name: (&profile.name).into(),
            introduction: (&profile.introduction).into(),
            notification: (&profile.notification).into(),
            face_url: (&profile.face_url).into(),
            max_members: profile.max_members,
            apply_join: profile.apply_join.into(),
            invite_join: profile.invite_join.into(),
            mute_all: profile.mute_all,
            history_before_join: profile.history_before_join,
            custom: customs(&profile.custom),
        }
    }

    pub(crate) fn read(self) -> Read<(RowKey, Row)> {
        let id = ConversationId { app: AppId::new(self.app), conversation: self.conversation.read()? };
        let group = Group {
            incarnation: self.incarnation.0,
            kind: self.r#type.into(),
            owner: self.owner.map(|owner| user(&owner)).transpose()?,
            profile: GroupProfile {
                name: self.name.into_owned(),
                introduction: self.introduction.into_owned(),
                notification: self.notification.into_owned(),
                face_url: self.face_url.into_owned(),
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
        };
        Ok((RowKey::Conversation(id), Row::Group(Arc::new(group))))
    }
}

/// A one-to-one conversation.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DirectLine {
    app: u32,
    conversation: ConversationText,
    incarnation: IncarnationText,
    /// In the order of the accounts.
    tiny_ids: [TinyIdText; 2],
    begun_at: u64,
}

impl DirectLine {
    fn of(id: &ConversationId, it: &Direct) -> Self {
        Self {
            app: id.app.get(),
            conversation: (&id.conversation).into(),
            incarnation: IncarnationText(it.incarnation),
            tiny_ids: it.tiny_ids.map(TinyIdText),
            begun_at: it.begun_at.millis(),
        }
    }

    fn read(&self) -> Read<(RowKey, Row)> {
        let conversation = self.conversation.read()?;
        if let Conversation::Group(_) = conversation {
            return Err("`conversation` must be a list of two accounts".to_owned());
        }
        let id = ConversationId { app: AppId::new(self.app), conversation };
        let direct = Direct {
            incarnation: self.incarnation.0,
            tiny_ids: self.tiny_ids.map(|text| text.0),
            begun_at: Timestamp::from_millis(self.begun_at),
        };
        Ok((RowKey::Conversation(id), Row::Direct(direct)))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CountersLine {
    incarnation: IncarnationText,
    last_msg_seq: u64,
    last_msg_at: u64,
    members: u32,
    last_event: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemberLine<'a> {
    incarnation: IncarnationText,
    user: Cow<'a, str>,
    tiny_id: TinyIdText,
    role: RoleWord,
    joined_at: u64,
    read_seq: u64,
    last_sent_at: u64,
    muted_until: u64,
    name_card: Cow<'a, str>,
    custom: Vec<CustomPart<'a>>,
}

impl<'a> MemberLine<'a> {
    fn of(incarnation: IncarnationText, user: &'a UserId, it: &'a Member) -> Self {
        Self {
            incarnation,
            user: user.as_str().into(),
            tiny_id: TinyIdText(it.tiny_id),
            role: it.role.into(),
            joined_at: it.joined_at.millis(),
            read_seq: it.read_seq,
            last_sent_at: it.last_sent_at.millis(),
            muted_until: it.muted_until.millis(),
            name_card: (&it.name_card).into(),
            custom: customs(&it.custom),
        }
    }

    fn read(self) -> Read<(RowKey, Row)> {
        let member = Member {
            tiny_id: self.tiny_id.0,
            role: self.role.into(),
            joined_at: Timestamp::from_millis(self.joined_at),
            read_seq: self.read_seq,
            last_sent_at: Timestamp::from_millis(self.last_sent_at),
            muted_until: Timestamp::from_millis(self.muted_until),
            name_card: self.name_card.into_owned(),
            custom: read_customs(self.custom),
        };
        let key = RowKey::Within(self.incarnation.0, Part::Member(user(&self.user)?));
        Ok((key, Row::Member(Arc::new(member))))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RepeatLine {
    incarnation: IncarnationText,
    fingerprint: FingerprintText,
    message: Option<NameText>,
    at: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessageLine<'a> {
    incarnation: IncarnationText,
    message: NameText,
    header: HeaderPart<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeaderPart<'a> {
    sender: Cow<'a, str>,
    sender_tiny_id: TinyIdText,
    random: u32,
    client_time: u64,
    sent_at: u64,
    priority: PriorityWord,
    supports_extension: bool,
    imported: bool,
    recalled: bool,
}

impl<'a> From<&'a Message> for HeaderPart<'a> {
    fn from(it: &'a Message) -> Self {
        Self {
            sender: it.sender.as_str().into(),
            sender_tiny_id: TinyIdText(it.sender_tiny_id),
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

impl HeaderPart<'_> {
    pub(crate) fn read(self) -> Read<Message> {
        Ok(Message {
            sender: user(&self.sender)?,
            sender_tiny_id: self.sender_tiny_id.0,
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

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BodyLine<'a> {
    incarnation: IncarnationText,
    message: NameText,
    body: BodyPart<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BodyPart<'a> {
    elements: Cow<'a, str>,
    cloud_custom_data: Cow<'a, str>,
    further: Cow<'a, str>,
}

impl<'a> From<&'a MessageBody> for BodyPart<'a> {
    fn from(it: &'a MessageBody) -> Self {
        Self {
            elements: (&it.elements).into(),
            cloud_custom_data: (&it.cloud_custom_data).into(),
            further: (&it.further).into(),
        }
    }
}

impl BodyPart<'_> {
    pub(crate) fn read(self) -> MessageBody {
        MessageBody {
            elements: self.elements.into_owned(),
            cloud_custom_data: self.cloud_custom_data.into_owned(),
            further: self.further.into_owned(),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetLine {
    incarnation: IncarnationText,
    message: NameText,
    latest_seq: u64,
    clear_seq: u64,
    live: u32,
    tombstones: u32,
    attempts_since: u64,
    attempts: u32,
}

impl SetLine {
    fn read(&self) -> Read<(RowKey, Row)> {
        let state = ExtensionState {
            latest: seq(self.latest_seq)?,
            clear: seq(self.clear_seq)?,
            live: self.live,
            tombstones: self.tombstones,
            attempts: Attempts { since: Timestamp::from_millis(self.attempts_since), count: self.attempts },
        };
        let key = part_key(self.incarnation, self.message.read()?, MessagePart::Extension);
        Ok((key, Row::Extension(state)))
    }
}

/// A live pair, or a tombstone if it has no value.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PairLine<'a> {
    incarnation: IncarnationText,
    message: NameText,
    key: Cow<'a, str>,
    value: Option<Cow<'a, str>>,
    seq: u64,
}

impl PairLine<'_> {
    fn read(self) -> Read<(RowKey, Row)> {
        let seq = seq(self.seq)?;
        let entry = match self.value {
            Some(value) => Entry::Live { value: Value::new(&value).map_err(unfit("value"))?, seq },
            None => Entry::Deleted { seq },
        };
        let key = MessagePart::Pair(Key::new(&self.key).map_err(unfit("key"))?);
        Ok((part_key(self.incarnation, self.message.read()?, key), Row::Pair(entry)))
    }
}

/// A place in the history of a one-to-one conversation.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecentLine {
    incarnation: IncarnationText,
    message: NameText,
}

impl RecentLine {
    fn read(&self) -> Read<(RowKey, Row)> {
        let place = Recency::of(self.message.read_key()?);
        Ok((RowKey::Within(self.incarnation.0, Part::Recent(place)), Row::Recent))
    }
}
