//! What is followed on this node, for a store that others write to as well: it looks for what they have committed where
//! somebody wants to know.

use sidenote_core::ids::{AccountId, ConversationId, EventNumber, Incarnation, TinyId};
use tokio::sync::watch;

/// What is followed at one moment.
#[derive(Clone, Debug, Default)]
pub struct Followed {
    /// Conversations that somebody follows by themselves or as a member.
    pub conversations: Vec<FollowedConversation>,
    /// Accounts that are connected, each with its number: they hear of groups that they join, of one-to-one
    /// conversations, and of their end.
    pub accounts: Vec<(AccountId, TinyId)>,
    /// Whether anybody follows whatever happens in an app.
    pub has_apps: bool,
}

/// A life of a conversation that somebody follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedConversation {
    /// Where.
    pub conversation: ConversationId,
    /// In which of its lives.
    pub incarnation: Incarnation,
    /// Whoever follows knows what happened up to this event; `None` where only they know.
    pub known: Option<EventNumber>,
}

/// Those who follow.
pub trait Audience: Send + Sync {
    /// What they follow now.
    fn followed(&self) -> Followed;

    /// Whether what happened in this conversation may concern anybody; `joins` if somebody joined a group by it.
    fn may_want(&self, conversation: &ConversationId, joins: bool) -> bool;

    /// The log of this life ends here, and somebody was told of later events: of what nobody committed, or what the
    /// database has lost. They have to look at the state.
    fn ends_here(&self, conversation: &ConversationId, incarnation: Incarnation, last: EventNumber);

    /// This life is over, and nothing is left of its log: what came last can't be told any more.
    fn is_gone(&self, conversation: &ConversationId, incarnation: Incarnation);

    /// Changes whenever what is followed does, or soon after.
    fn changes(&self) -> watch::Receiver<u64>;
}
