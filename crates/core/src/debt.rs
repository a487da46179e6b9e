//! Work that a commit leaves behind: what one home owes another, and what is too large for one commit.
//!
//! A debt is written in the same commit as the change that causes it and removed when it is paid, so a crash in
//! between only means that it is paid later. Paying twice does no harm.

use crate::ids::{AccountId, ConversationId, EventNumber, Incarnation, MessageName, Timestamp, TinyId};
use crate::message::Fingerprint;

/// One entry of the list of work that is owed, ordered by when it is due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Debt {
    /// Not before.
    pub due: Timestamp,
    /// What is to be done.
    pub task: Task,
}

/// What is owed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Task {
    /// Tell the accounts named by this event that they joined or left the group.
    Announce(ConversationId, Incarnation, EventNumber),
    /// Take a deleted account out of its groups.
    Forsake(AccountId, TinyId),
    /// Remove everything but the events of a conversation that is gone.
    Reap(ConversationId, Incarnation),
    /// Remove the pairs of a recalled message.
    Strip(ConversationId, Incarnation, MessageName),
    /// Forget that a message was sent, so that the same one may come again.
    ForgetSend(ConversationId, Incarnation, Fingerprint),
    /// Remove events that are older than the retention.
    TrimEvents(ConversationId, Incarnation),
}

impl Task {
    /// True for work that the caller who caused it waits for, so that it reads its own writes.
    pub const fn is_prompt(&self) -> bool {
        matches!(self, Self::Announce(..) | Self::Forsake(..))
    }
}
