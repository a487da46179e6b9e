//! What subscribers learn. Events are written in the same commit as the change, numbered per conversation.

use std::net::IpAddr;

use crate::extension::{Key, Pair, Seq, Value};
use crate::ids::{EventNumber, MessageName, MsgKey, MsgSeq, Timestamp, TinyId, UserId};
use crate::message::{Message, MessageBody};

/// How a caller reached the server, which decides what it may do (rule 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallerKind {
    /// An administrator of the app, over REST.
    Administrator,
    /// An account with its own signature, over REST.
    Member,
    /// An account on the long connection.
    Connected,
    /// The server itself, paying a debt.
    Server,
}

/// The kind of client that a caller uses (`OptPlatform`, webhooks.md section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Platform {
    /// The REST API.
    RestApi,
    /// A browser.
    Web,
    /// Android.
    Android,
    /// iOS.
    Ios,
    /// Windows.
    Windows,
    /// macOS.
    Mac,
    /// iPad.
    Ipad,
    /// Not told.
    Unknown,
}

/// Who did something, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// The account. For the server's own work the account that caused it.
    pub user: UserId,
    /// Its number; `None` for an administrator, who acts for the app and not for an account.
    pub tiny_id: Option<TinyId>,
    /// How it reached the server.
    pub kind: CallerKind,
    /// On what.
    pub platform: Platform,
    /// From which address.
    pub address: Option<IpAddr>,
}

impl Operator {
    /// The server itself, working on behalf of this account.
    pub const fn server(user: UserId) -> Self {
        Self { user, tiny_id: None, kind: CallerKind::Server, platform: Platform::Unknown, address: None }
    }
}

/// One committed change of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number in the conversation.
    pub number: EventNumber,
    /// When it happened.
    pub at: Timestamp,
    /// Who did it.
    pub operator: Operator,
    /// What happened.
    pub what: Happening,
}

/// What an event tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// The group was created or imported.
    GroupCreated {
        /// True for an import, which is silent (webhooks.md section 1).
        imported: bool,
    },
    /// The group's description changed.
    GroupChanged,
    /// The group was destroyed; its last event.
    GroupDestroyed,
    /// The group has another owner.
    OwnerChanged {
        /// Who owned it before.
        from: Option<UserId>,
        /// Who owns it now.
        to: UserId,
    },
    /// Accounts joined.
    MembersJoined {
        /// Who.
        users: Vec<UserId>,
        /// True for an import, which is silent.
        imported: bool,
    },
    /// Accounts left or were removed.
    MembersLeft {
        /// Who.
        users: Vec<UserId>,
        /// Why, or empty.
        reason: String,
    },
    /// A message was stored.
    MessageSent {
        /// Its number.
        seq: MsgSeq,
        /// Its header. The body is read from the message.
        message: Message,
    },
    /// A message for those who are online, which is not stored.
    TransientMessage {
        /// Its header.
        message: Message,
        /// Its body.
        body: MessageBody,
    },
    /// Messages were recalled.
    MessagesRecalled {
        /// Which.
        seqs: Vec<MsgSeq>,
        /// Why, or empty.
        reason: String,
    },
    /// The extension set of a message changed.
    Extension(ExtensionChange),
    /// A one-to-one message was stored.
    DirectSent {
        /// Its key.
        key: MsgKey,
        /// Its header. The body is read from the message.
        message: Message,
    },
    /// A one-to-one message for those who are online, which is not stored.
    DirectTransient {
        /// The key that its sender was told, under which nothing is kept.
        key: MsgKey,
        /// Its header.
        message: Message,
        /// Its body.
        body: MessageBody,
    },
    /// A one-to-one message was recalled.
    DirectRecalled {
        /// Which.
        key: MsgKey,
    },
}

/// What happened to an extension set. Several may come of one request: a compaction tells a clear and then sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionChange {
    /// The message.
    pub message: MessageName,
    /// Its sender's number, the client time and the random number: the id that clients know it by.
    pub sender_tiny_id: TinyId,
    /// See above.
    pub client_time: u64,
    /// See above.
    pub random: u32,
    /// What was done.
    pub operation: Operation,
    /// True where the server did it to keep tombstones bounded (rule 3.7).
    pub compaction: bool,
    /// The pairs that changed. For a clear: the live pairs that it dropped; none for a compaction's, because the
    /// sets that follow name them all, with what they were before as `previous`.
    pub pairs: Vec<ChangedPair>,
    /// `LatestSeq` afterwards.
    pub latest: Seq,
    /// `ClearSeq` afterwards.
    pub clear: Seq,
}

/// The wire's OperateType.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// 1.
    Set,
    /// 2.
    Delete,
    /// 3.
    Clear,
}

/// A pair after and before a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedPair {
    /// Its key.
    pub key: Key,
    /// Its value now; `None` if it was deleted or cleared.
    pub value: Option<Value>,
    /// Its version now. For a pair that a clear dropped: the clear's.
    pub seq: Seq,
    /// What the set held before: value and version of a live pair or tombstone.
    pub previous: Option<Previous>,
}

/// The state of a pair before a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous {
    /// Its value; `None` for a tombstone.
    pub value: Option<Value>,
    /// Its version.
    pub seq: Seq,
}

impl ChangedPair {
    /// The pair as readers see it now.
    pub fn pair(&self) -> Pair {
        Pair { key: self.key.clone(), value: self.value.clone(), seq: self.seq }
    }
}
