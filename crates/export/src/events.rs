//! An event as a line.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sidenote_core::event::{
    CallerKind, ChangedPair, Event, ExtensionChange, Happening, Operation, Operator, Platform, Previous,
};
use sidenote_core::extension::{Key, Value};
use sidenote_core::ids::{EventNumber, Incarnation, MessageName, Timestamp, UserId};
use sidenote_core::rows::{Row, RowKey};

use crate::lines::{BodyPart, HeaderPart, seq};
use crate::names::{IncarnationText, NameText, Read, TinyIdText, msg_seq, unfit, user, words};

words! {
    CallerKindWord of CallerKind { Administrator, Member, Connected, Server }
    PlatformWord of Platform { RestApi, Web, Android, Ios, Windows, Mac, Ipad, Unknown }
    OperationWord of Operation { Set, Delete, Clear }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventLine<'a> {
    incarnation: IncarnationText,
    /// The one it is stored under.
    number: u64,
    /// The one that it says itself, where that is another: such an event is damaged.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    says_number: Option<u64>,
    at: u64,
    operator: OperatorPart<'a>,
    what: HappeningPart<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OperatorPart<'a> {
    user: Cow<'a, str>,
    tiny_id: Option<TinyIdText>,
    kind: CallerKindWord,
    platform: PlatformWord,
    address: Option<IpAddr>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum HappeningPart<'a> {
    GroupCreated { imported: bool },
    GroupChanged {},
    GroupDestroyed {},
    OwnerChanged { from: Option<Cow<'a, str>>, to: Cow<'a, str> },
    MembersJoined { users: Vec<Cow<'a, str>>, imported: bool },
    MembersLeft { users: Vec<Cow<'a, str>>, reason: Cow<'a, str> },
    MessageSent { message: u64, header: HeaderPart<'a> },
    TransientMessage { header: HeaderPart<'a>, body: BodyPart<'a> },
    MessagesRecalled { messages: Vec<u64>, reason: Cow<'a, str> },
    Extension(ChangePart<'a>),
    DirectSent { message: NameText, header: HeaderPart<'a> },
    DirectTransient { message: NameText, header: HeaderPart<'a>, body: BodyPart<'a> },
    DirectRecalled { message: NameText },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangePart<'a> {
    message: NameText,
    sender_tiny_id: TinyIdText,
    client_time: u64,
    random: u32,
    operation: OperationWord,
    compaction: bool,
    pairs: Vec<ChangedPart<'a>>,
    latest_seq: u64,
    clear_seq: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangedPart<'a> {
    key: Cow<'a, str>,
    value: Option<Cow<'a, str>>,
    seq: u64,
    previous: Option<PreviousPart<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PreviousPart<'a> {
    value: Option<Cow<'a, str>>,
    seq: u64,
}

impl<'a> EventLine<'a> {
    pub(crate) fn of(incarnation: Incarnation, number: EventNumber, event: &'a Event) -> Self {
        let operator = &event.operator;
        Self {
            incarnation: IncarnationText(incarnation),
            number: number.get(),
            says_number: (event.number != number).then_some(event.number.get()),
            at: event.at.millis(),
            operator: OperatorPart {
                user: operator.user.as_str().into(),
                tiny_id: operator.tiny_id.map(TinyIdText),
                kind: operator.kind.into(),
                platform: operator.platform.into(),
                address: operator.address,
            },
            what: HappeningPart::from(&event.what),
        }
    }

    pub(crate) fn read(self) -> Read<(RowKey, Row)> {
        let number = EventNumber::new(self.number);
        let event = Event {
            number: self.says_number.map_or(number, EventNumber::new),
            at: Timestamp::from_millis(self.at),
            operator: Operator {
                user: user(&self.operator.user)?,
                tiny_id: self.operator.tiny_id.map(|tiny_id| tiny_id.0),
                kind: self.operator.kind.into(),
                platform: self.operator.platform.into(),
                address: self.operator.address,
            },
            what: self.what.read()?,
        };
        Ok((RowKey::Event(self.incarnation.0, number), Row::Event(Arc::new(event))))
    }
}

impl<'a> From<&'a Happening> for HappeningPart<'a> {
    fn from(it: &'a Happening) -> Self {
        let names = |users: &'a [UserId]| users.iter().map(|user| user.as_str().into()).collect();
        match it {
            Happening::GroupCreated { imported } => Self::GroupCreated { imported: *imported },
            Happening::GroupChanged => Self::GroupChanged {},
            Happening::GroupDestroyed => Self::GroupDestroyed {},
            Happening::OwnerChanged { from, to } => Self::OwnerChanged {
                from: from.as_ref().map(|from| from.as_str().into()),
                to: to.as_str().into(),
            },
            Happening::MembersJoined { users, imported } => {
                Self::MembersJoined { users: names(users), imported: *imported }
            }
            Happening::MembersLeft { users, reason } => {
                Self::MembersLeft { users: names(users), reason: reason.into() }
            }
            Happening::MessageSent { seq, message } => {
                Self::MessageSent { message: seq.get(), header: message.into() }
            }
            Happening::TransientMessage { message, body } => {
                Self::TransientMessage { header: message.into(), body: body.into() }
            }
            Happening::MessagesRecalled { seqs, reason } => Self::MessagesRecalled {
                messages: seqs.iter().map(|seq| seq.get()).collect(),
                reason: reason.into(),
            },
            Happening::Extension(change) => Self::Extension(change.into()),
            Happening::DirectSent { key, message } => {
                Self::DirectSent { message: MessageName::Key(*key).into(), header: message.into() }
            }
            Happening::DirectTransient { key, message, body } => Self::DirectTransient {
                message: MessageName::Key(*key).into(),
                header: message.into(),
                body: body.into(),
            },
            Happening::DirectRecalled { key } => {
                Self::DirectRecalled { message: MessageName::Key(*key).into() }
            }
        }
    }
}

impl HappeningPart<'_> {
    fn read(self) -> Read<Happening> {
        let names = |users: Vec<Cow<'_, str>>| users.iter().map(|name| user(name)).collect::<Read<Vec<_>>>();
        Ok(match self {
            Self::GroupCreated { imported } => Happening::GroupCreated { imported },
            Self::GroupChanged {} => Happening::GroupChanged,
            Self::GroupDestroyed {} => Happening::GroupDestroyed,
            Self::OwnerChanged { from, to } => {
                Happening::OwnerChanged { from: from.map(|from| user(&from)).transpose()?, to: user(&to)? }
            }
            Self::MembersJoined { users, imported } => {
                Happening::MembersJoined { users: names(users)?, imported }
            }
            Self::MembersLeft { users, reason } => {
                Happening::MembersLeft { users: names(users)?, reason: reason.into_owned() }
            }
            Self::MessageSent { message, header } => {
                Happening::MessageSent { seq: msg_seq(message)?, message: header.read()? }
            }
            Self::TransientMessage { header, body } => {
                Happening::TransientMessage { message: header.read()?, body: body.read() }
            }
            Self::MessagesRecalled { messages, reason } => Happening::MessagesRecalled {
                seqs: messages.into_iter().map(msg_seq).collect::<Read<_>>()?,
                reason: reason.into_owned(),
            },
            Self::Extension(change) => Happening::Extension(change.read()?),
            Self::DirectSent { message, header } => {
                Happening::DirectSent { key: message.read_key()?, message: header.read()? }
            }
            Self::DirectTransient { message, header, body } => Happening::DirectTransient {
                key: message.read_key()?,
                message: header.read()?,
                body: body.read(),
            },
            Self::DirectRecalled { message } => Happening::DirectRecalled { key: message.read_key()? },
        })
    }
}

impl<'a> From<&'a ExtensionChange> for ChangePart<'a> {
    fn from(it: &'a ExtensionChange) -> Self {
        Self {
            message: it.message.into(),
            sender_tiny_id: TinyIdText(it.sender_tiny_id),
            client_time: it.client_time,
            random: it.random,
            operation: it.operation.into(),
            compaction: it.compaction,
            pairs: it.pairs.iter().map(ChangedPart::from).collect(),
            latest_seq: it.latest.get(),
            clear_seq: it.clear.get(),
        }
    }
}

impl ChangePart<'_> {
    fn read(self) -> Read<ExtensionChange> {
        Ok(ExtensionChange {
            message: self.message.read()?,
            sender_tiny_id: self.sender_tiny_id.0,
            client_time: self.client_time,
            random: self.random,
            operation: self.operation.into(),
            compaction: self.compaction,
            pairs: self.pairs.into_iter().map(ChangedPart::read).collect::<Read<_>>()?,
            latest: seq(self.latest_seq)?,
            clear: seq(self.clear_seq)?,
        })
    }
}

impl<'a> From<&'a ChangedPair> for ChangedPart<'a> {
    fn from(it: &'a ChangedPair) -> Self {
        let text = |value: &'a Option<Value>| value.as_ref().map(|value| value.as_str().into());
        Self {
            key: it.key.as_str().into(),
            value: text(&it.value),
            seq: it.seq.get(),
            previous: it
                .previous
                .as_ref()
                .map(|previous| PreviousPart { value: text(&previous.value), seq: previous.seq.get() }),
        }
    }
}

impl ChangedPart<'_> {
    fn read(self) -> Read<ChangedPair> {
        let value =
            |raw: Option<Cow<'_, str>>| raw.map(|raw| Value::new(&raw).map_err(unfit("value"))).transpose();
        let previous = self.previous.map(|previous| -> Read<Previous> {
            Ok(Previous { value: value(previous.value)?, seq: seq(previous.seq)? })
        });
        Ok(ChangedPair {
            key: Key::new(&self.key).map_err(unfit("key"))?,
            value: value(self.value)?,
            seq: seq(self.seq)?,
            previous: previous.transpose()?,
        })
    }
}
