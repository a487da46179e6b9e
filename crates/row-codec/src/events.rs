//! Events as bytes, by the rules of module `rows`.

use std::net::IpAddr;

use minicbor::bytes::ByteSlice;
use minicbor::{Decode, Encode};
use sidenote_core::event::{
    CallerKind, ChangedPair, Event, ExtensionChange, Happening, Operation, Operator, Platform, Previous,
};
use sidenote_core::extension::{Key, Value};
use sidenote_core::ids::{EventNumber, MessageName, MsgKey, MsgSeq, Timestamp, TinyId, UserId};
use sidenote_store::StoreError;

use super::direct::MsgKeyRow;
use super::rows::{BodyRow, MessageRow, bytes, codes, optional, seq, take, tiny_id, user};

pub(super) fn encode_event(event: &Event) -> Vec<u8> {
    let address = event.operator.address.map(octets);
    bytes(EventRow {
        number: event.number.get(),
        at: event.at.millis(),
        operator: OperatorRow {
            user: event.operator.user.as_str(),
            tiny_id: event.operator.tiny_id.map(TinyId::get),
            kind: event.operator.kind.into(),
            platform: event.operator.platform.into(),
            address: address.as_ref().map(|octets| octets.as_slice().into()),
        },
        what: HappeningRow::from(&event.what),
    })
}

pub(super) fn decode_event(bytes: &[u8]) -> Result<Event, StoreError> {
    take(bytes, "an event", |row: EventRow<'_>| {
        Some(Event {
            number: EventNumber::new(row.number),
            at: Timestamp::from_millis(row.at),
            operator: row.operator.read()?,
            what: row.what.read()?,
        })
    })
}

codes! {
    CallerKindCode of CallerKind { 0 Administrator, 1 Member, 2 Connected, 3 Server, }
    PlatformCode of Platform {
        0 RestApi, 1 Web, 2 Android, 3 Ios, 4 Windows, 5 Mac, 6 Ipad, 7 Unknown,
    }
    OperationCode of Operation { 0 Set, 1 Delete, 2 Clear, }
}

#[derive(Encode, Decode)]
struct EventRow<'a> {
    #[n(0)]
    number: u64,
    #[n(1)]
    at: u64,
    #[b(2)]
    operator: OperatorRow<'a>,
    #[b(3)]
    what: HappeningRow<'a>,
}

#[derive(Encode, Decode)]
struct OperatorRow<'a> {
    #[b(0)]
    user: &'a str,
    #[n(1)]
    tiny_id: Option<u64>,
    #[n(2)]
    kind: CallerKindCode,
    #[n(3)]
    platform: PlatformCode,
    /// 4 or 16 bytes.
    #[b(4)]
    address: Option<&'a ByteSlice>,
}

impl OperatorRow<'_> {
    fn read(self) -> Option<Operator> {
        Some(Operator {
            user: user(self.user)?,
            tiny_id: optional(self.tiny_id, tiny_id)?,
            kind: self.kind.into(),
            platform: self.platform.into(),
            address: optional(self.address, |octets| {
                let octets: &[u8] = octets;
                let four = <[u8; 4]>::try_from(octets).map(IpAddr::from);
                four.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
            })?,
        })
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[derive(Encode, Decode)]
enum HappeningRow<'a> {
    #[n(0)]
    GroupCreated {
        #[n(0)]
        imported: bool,
    },
    #[n(1)]
    GroupChanged,
    #[n(2)]
    GroupDestroyed,
    #[n(3)]
    OwnerChanged {
        #[b(0)]
        from: Option<&'a str>,
        #[b(1)]
        to: &'a str,
    },
    #[n(4)]
    MembersJoined {
        #[b(0)]
        users: Vec<&'a str>,
        #[n(1)]
        imported: bool,
    },
    #[n(5)]
    MembersLeft {
        #[b(0)]
        users: Vec<&'a str>,
        #[b(1)]
        reason: &'a str,
    },
    #[n(6)]
    MessageSent {
        #[n(0)]
        seq: u64,
        #[b(1)]
        message: MessageRow<'a>,
    },
    #[n(7)]
    TransientMessage {
        #[b(0)]
        message: MessageRow<'a>,
        #[b(1)]
        body: BodyRow<'a>,
    },
    #[n(8)]
    MessagesRecalled {
        #[n(0)]
        seqs: Vec<u64>,
        #[b(1)]
        reason: &'a str,
    },
    #[n(9)]
    Extension(#[b(0)] ChangeRow<'a>),
    #[n(10)]
    DirectSent {
        #[n(0)]
        key: MsgKeyRow,
        #[b(1)]
        message: MessageRow<'a>,
    },
    #[n(11)]
    DirectTransient {
        #[n(0)]
        key: MsgKeyRow,
        #[b(1)]
        message: MessageRow<'a>,
        #[b(2)]
        body: BodyRow<'a>,
    },
    #[n(12)]
    DirectRecalled {
        #[n(0)]
        key: MsgKeyRow,
    },
}

impl<'a> From<&'a Happening> for HappeningRow<'a> {
    fn from(it: &'a Happening) -> Self {
        let names = |users: &'a [UserId]| users.iter().map(UserId::as_str).collect();
        match it {
            Happening::GroupCreated { imported } => Self::GroupCreated { imported: *imported },
            Happening::GroupChanged => Self::GroupChanged,
            Happening::GroupDestroyed => Self::GroupDestroyed,
            Happening::OwnerChanged { from, to } => {
                Self::OwnerChanged { from: from.as_ref().map(UserId::as_str), to: to.as_str() }
            }
            Happening::MembersJoined { users, imported } => {
                Self::MembersJoined { users: names(users), imported: *imported }
            }
            Happening::MembersLeft { users, reason } => Self::MembersLeft { users: names(users), reason },
            Happening::MessageSent { seq, message } => {
                Self::MessageSent { seq: seq.get(), message: message.into() }
            }
            Happening::TransientMessage { message, body } => {
                Self::TransientMessage { message: message.into(), body: body.into() }
            }
            Happening::MessagesRecalled { seqs, reason } => {
                Self::MessagesRecalled { seqs: seqs.iter().map(|seq| seq.get()).collect(), reason }
            }
            Happening::Extension(change) => Self::Extension(change.into()),
            Happening::DirectSent { key, message } => {
                Self::DirectSent { key: (*key).into(), message: message.into() }
            }
            Happening::DirectTransient { key, message, body } => {
                Self::DirectTransient { key: (*key).into(), message: message.into(), body: body.into() }
            }
            Happening::DirectRecalled { key } => Self::DirectRecalled { key: (*key).into() },
        }
    }
}

impl HappeningRow<'_> {
    fn read(self) -> Option<Happening> {
        let names = |users: Vec<&str>| users.into_iter().map(user).collect::<Option<Vec<_>>>();
        Some(match self {
            Self::GroupCreated { imported } => Happening::GroupCreated { imported },
            Self::GroupChanged => Happening::GroupChanged,
            Self::GroupDestroyed => Happening::GroupDestroyed,
            Self::OwnerChanged { from, to } => {
                Happening::OwnerChanged { from: optional(from, user)?, to: user(to)? }
            }
            Self::MembersJoined { users, imported } => {
                Happening::MembersJoined { users: names(users)?, imported }
            }
            Self::MembersLeft { users, reason } => {
                Happening::MembersLeft { users: names(users)?, reason: reason.to_owned() }
            }
            Self::MessageSent { seq, message } => {
                Happening::MessageSent { seq: MsgSeq::new(seq).ok()?, message: message.read()? }
            }
            Self::TransientMessage { message, body } => {
                Happening::TransientMessage { message: message.read()?, body: body.read() }
            }
            Self::MessagesRecalled { seqs, reason } => {
                let seqs = seqs.into_iter().map(|seq| MsgSeq::new(seq).ok()).collect::<Option<_>>()?;
                Happening::MessagesRecalled { seqs, reason: reason.to_owned() }
            }
            Self::Extension(change) => Happening::Extension(change.read()?),
            Self::DirectSent { key, message } => {
                Happening::DirectSent { key: key.into(), message: message.read()? }
            }
            Self::DirectTransient { key, message, body } => {
                Happening::DirectTransient { key: key.into(), message: message.read()?, body: body.read() }
            }
            Self::DirectRecalled { key } => Happening::DirectRecalled { key: key.into() },
        })
    }
}

#[derive(Encode, Decode)]
enum NameRow {
    #[n(0)]
    Seq(#[n(0)] u64),
    #[n(1)]
    Key {
        #[n(0)]
        seq: u32,
        #[n(1)]
        random: u32,
        #[n(2)]
        time: u64,
    },
}

impl From<MessageName> for NameRow {
    fn from(it: MessageName) -> Self {
        match it {
            MessageName::Seq(seq) => Self::Seq(seq.get()),
            MessageName::Key(MsgKey { seq, random, time }) => Self::Key { seq, random, time },
        }
    }
}

impl NameRow {
    fn read(self) -> Option<MessageName> {
        Some(match self {
            Self::Seq(seq) => MessageName::Seq(MsgSeq::new(seq).ok()?),
            Self::Key { seq, random, time } => MessageName::Key(MsgKey { seq, random, time }),
        })
    }
}

#[derive(Encode, Decode)]
struct ChangeRow<'a> {
    #[n(0)]
    message: NameRow,
    #[n(1)]
    sender_tiny_id: u64,
    #[n(2)]
    client_time: u64,
    #[n(3)]
    random: u32,
    #[n(4)]
    operation: OperationCode,
    #[n(5)]
    compaction: bool,
    #[b(6)]
    pairs: Vec<ChangedRow<'a>>,
    #[n(7)]
    latest: u64,
    #[n(8)]
    clear: u64,
}

impl<'a> From<&'a ExtensionChange> for ChangeRow<'a> {
    fn from(it: &'a ExtensionChange) -> Self {
        Self {
            message: it.message.into(),
            sender_tiny_id: it.sender_tiny_id.get(),
            client_time: it.client_time,
            random: it.random,
            operation: it.operation.into(),
            compaction: it.compaction,
            pairs: it.pairs.iter().map(ChangedRow::from).collect(),
            latest: it.latest.get(),
            clear: it.clear.get(),
        }
    }
}

impl ChangeRow<'_> {
    fn read(self) -> Option<ExtensionChange> {
        Some(ExtensionChange {
            message: self.message.read()?,
            sender_tiny_id: tiny_id(self.sender_tiny_id)?,
            client_time: self.client_time,
            random: self.random,
            operation: self.operation.into(),
            compaction: self.compaction,
            pairs: self.pairs.into_iter().map(ChangedRow::read).collect::<Option<_>>()?,
            latest: seq(self.latest)?,
            clear: seq(self.clear)?,
        })
    }
}

#[derive(Encode, Decode)]
struct ChangedRow<'a> {
    #[b(0)]
    key: &'a str,
    #[b(1)]
    value: Option<&'a str>,
    #[n(2)]
    seq: u64,
    #[b(3)]
    previous: Option<PreviousRow<'a>>,
}

impl<'a> From<&'a ChangedPair> for ChangedRow<'a> {
    fn from(it: &'a ChangedPair) -> Self {
        Self {
            key: it.key.as_str(),
            value: it.value.as_ref().map(Value::as_str),
            seq: it.seq.get(),
            previous: it.previous.as_ref().map(|previous| PreviousRow {
                value: previous.value.as_ref().map(Value::as_str),
                seq: previous.seq.get(),
            }),
        }
    }
}

impl ChangedRow<'_> {
    fn read(self) -> Option<ChangedPair> {
        let value = |raw| optional(raw, |raw: &str| Value::new(raw).ok());
        Some(ChangedPair {
            key: Key::new(self.key).ok()?,
            value: value(self.value)?,
            seq: seq(self.seq)?,
            previous: optional(self.previous, |previous| {
                Some(Previous { value: value(previous.value)?, seq: seq(previous.seq)? })
            })?,
        })
    }
}

#[derive(Encode, Decode)]
struct PreviousRow<'a> {
    #[b(0)]
    value: Option<&'a str>,
    #[n(1)]
    seq: u64,
}
