//! One-to-one conversations: two accounts and the messages between them.

use crate::event::{CallerKind, Operator};
use crate::ids::{AppId, ConversationId, Incarnation, Timestamp, TinyId, UserId};

/// An account and its number, by which an account that was deleted and imported again is told from the one that had
/// the name before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// The account.
    pub user: UserId,
    /// Its number.
    pub tiny_id: TinyId,
}

impl Party {
    /// Is this who acts? Administrators act for everybody.
    pub fn is_or_serves(&self, operator: &Operator) -> bool {
        match operator.kind {
            CallerKind::Administrator | CallerKind::Server => true,
            CallerKind::Member | CallerKind::Connected => {
                operator.user == self.user && operator.tiny_id == Some(self.tiny_id)
            }
        }
    }
}

/// The two accounts of a one-to-one message, as they are now; the edge has looked both up. They say who sent it to
/// whom, not who asks (message-extensions.md section 4), and may be the same account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers {
    /// The application.
    pub app: AppId,
    /// Who sent the message.
    pub from: Party,
    /// Who it was sent to.
    pub to: Party,
}

impl Peers {
    /// Their conversation, which is the same in both directions.
    pub fn id(&self) -> ConversationId {
        ConversationId::direct(self.app, self.from.user.clone(), self.to.user.clone())
    }

    /// Their numbers, in the order in which the conversation names them.
    pub fn tiny_ids(&self) -> [TinyId; 2] {
        let [from, to] = [self.from.tiny_id, self.to.tiny_id];
        if self.from.user <= self.to.user { [from, to] } else { [to, from] }
    }

    /// May this caller see and change what lies between the two?
    pub fn admit(&self, operator: &Operator) -> bool {
        self.from.is_or_serves(operator) || self.to.is_or_serves(operator)
    }
}

/// The row of a one-to-one conversation, which comes into being with its first message.
///
/// It belongs to two accounts and not to their names: when one of them is deleted, imported again and writes, that is
/// the first message of a new conversation, in which nothing of the old one shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direct {
    /// Under which number everything else of the conversation is stored.
    pub incarnation: Incarnation,
    /// The numbers of the two accounts, in the order in which the conversation names them.
    pub tiny_ids: [TinyId; 2],
    /// When its first message was sent.
    pub begun_at: Timestamp,
}
