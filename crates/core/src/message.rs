//! Messages, as far as anything here needs to know them. The body is opaque text: JSON stops at the server.

use crate::ids::{MessageName, MsgKey, MsgSeq, Timestamp, TinyId, UserId};

/// Delivery priority (groups-and-messages.md sections 4.1 and 4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// First to be delivered under pressure.
    High,
    /// The default.
    #[default]
    Normal,
    /// First to be dropped under pressure.
    Low,
}

/// Everything of a message that never changes, but its body, and whether it was recalled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who sent it.
    pub sender: UserId,
    /// The sender's number when it was sent; part of the message id that every client computes
    /// (long-connection.md section 6).
    pub sender_tiny_id: TinyId,
    /// The sender's random number; part of that id.
    pub random: u32,
    /// When the client made it, whole seconds; part of that id. For a message sent over REST the server's time.
    pub client_time: u64,
    /// When the server took it.
    pub sent_at: Timestamp,
    /// Priority.
    pub priority: Priority,
    /// Whether it may carry key-value pairs; fixed for ever when it is sent.
    pub supports_extension: bool,
    /// Whether it came by import.
    pub imported: bool,
    /// Whether it was recalled. For every rule a recalled message does not exist (rule 3.11).
    pub recalled: bool,
}

/// What a message says, opaque to the rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageBody {
    /// The `MsgBody` array as it was sent.
    pub elements: String,
    /// `CloudCustomData`, or empty.
    pub cloud_custom_data: String,
    /// Further members of the request that readers get back or may need (`GroupAtInfo`, `OfflinePushInfo`, …), as
    /// one JSON object, or empty.
    pub further: String,
}

/// A message in history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its number.
    pub seq: MsgSeq,
    /// Its header.
    pub message: std::sync::Arc<Message>,
    /// Its body; `None` once it was recalled.
    pub body: Option<std::sync::Arc<MessageBody>>,
}

/// What the sender of a message is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The message's name; `None` for one of a group that was only for those online.
    pub name: Option<MessageName>,
    /// When the server took it.
    pub at: Timestamp,
}

impl Sent {
    /// The number of a message of a group.
    pub const fn seq(&self) -> Option<MsgSeq> {
        match self.name {
            Some(MessageName::Seq(seq)) => Some(seq),
            Some(MessageName::Key(_)) | None => None,
        }
    }

    /// The key of a one-to-one message.
    pub const fn key(&self) -> Option<MsgKey> {
        match self.name {
            Some(MessageName::Key(key)) => Some(key),
            Some(MessageName::Seq(_)) | None => None,
        }
    }

    /// From then on the same message is a new one.
    #[must_use]
    pub const fn forgotten_at(&self) -> Timestamp {
        self.at.plus_millis(match self.name {
            Some(MessageName::Key(_)) => Fingerprint::REMEMBERED_MILLIS_DIRECT,
            Some(MessageName::Seq(_)) | None => Fingerprint::REMEMBERED_MILLIS,
        })
    }
}

/// A message in the history of a one-to-one conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDirectMessage {
    /// Its key.
    pub key: MsgKey,
    /// Its header.
    pub message: std::sync::Arc<Message>,
    /// Its body; `None` once it was recalled.
    pub body: Option<std::sync::Arc<MessageBody>>,
}

/// Identity of a send for the duplicate check: the edge hashes sender, random number and body
/// (groups-and-messages.md section 4.1), and for a one-to-one message also its MsgSeq (section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 16]);

impl Fingerprint {
    /// How long a repeat is recognised in a group, in milliseconds.
    pub const REMEMBERED_MILLIS: u64 = 5 * 60 * 1000;

    /// How long a repeat is recognised between two accounts, in milliseconds.
    pub const REMEMBERED_MILLIS_DIRECT: u64 = 2 * 60 * 1000;
}
