//! What a store keeps, and how the rules look at it.
//!
//! The rules never fetch: they ask a [`Rows`] for what they need, and where that is not at hand they stop with
//! [`Missing`]. The shell then loads what was asked for and runs the rule again. The rules are pure, so running
//! one again does no harm, and no second list of "what a command needs" can fall behind them.

use std::sync::Arc;

use crate::account::{Account, Membership};
use crate::debt::Debt;
use crate::direct::Direct;
use crate::event::Event;
use crate::extension::{Entry, ExtensionState, Key};
use crate::group::{Counters, Group, Member};
use crate::ids::{
    AccountId, AppId, Conversation, ConversationId, EventNumber, GroupId, Incarnation, MessageName, Recency,
    Timestamp, UserId,
};
use crate::message::{Fingerprint, Message, MessageBody, Sent};
use crate::outbox::{DeadLetter, Outbox};
use crate::pairs::Pairs;

/// The name of a row. The order of the variants and their fields is the order of the rows, so that what belongs
/// together lies together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKey {
    /// An account.
    Account(AccountId),
    /// A line of an account's list of groups.
    Membership(AccountId, GroupId, Incarnation),
    /// A conversation's own row.
    Conversation(ConversationId),
    /// Something inside a conversation.
    Within(Incarnation, Part),
    /// An event of a conversation.
    Event(Incarnation, EventNumber),
    /// Work that is owed.
    Debt(Debt),
    /// How far a conversation has been told by webhook.
    Outbox(ConversationId, Incarnation),
    /// Events that could not be told by webhook, by the last of them.
    DeadLetter(ConversationId, Incarnation, EventNumber),
}

/// The rows inside a conversation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Its counters.
    Counters,
    /// A member.
    Member(UserId),
    /// A send that is remembered for the duplicate check.
    Repeat(Fingerprint),
    /// Something of a message.
    Message(MessageName, MessagePart),
    /// "There is a message here in the history of a one-to-one conversation."
    Recent(Recency),
}

/// The rows of a message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessagePart {
    /// Its header.
    Header,
    /// Its body.
    Body,
    /// The state of its extension set.
    Extension,
    /// A pair or tombstone of its extension set.
    Pair(Key),
}

/// A row. Large ones are shared, so that handing one out copies nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// Under [`RowKey::Account`].
    Account(Arc<Account>),
    /// Under [`RowKey::Membership`].
    Membership(Membership),
    /// Under [`RowKey::Conversation`] of a group.
    Group(Arc<Group>),
    /// Under [`RowKey::Conversation`] of two accounts.
    Direct(Direct),
    /// Under [`Part::Counters`].
    Counters(Counters),
    /// Under [`Part::Member`].
    Member(Arc<Member>),
    /// Under [`Part::Repeat`].
    Repeat(Sent),
    /// Under [`MessagePart::Header`].
    Message(Arc<Message>),
    /// Under [`MessagePart::Body`].
    Body(Arc<MessageBody>),
    /// Under [`MessagePart::Extension`].
    Extension(ExtensionState),
    /// Under [`MessagePart::Pair`].
    Pair(Entry),
    /// Under [`Part::Recent`]: the key says it all.
    Recent,
    /// Under [`RowKey::Event`].
    Event(Arc<Event>),
    /// Under [`RowKey::Debt`]: the key says it all.
    Debt,
    /// Under [`RowKey::Outbox`].
    Outbox(Outbox),
    /// Under [`RowKey::DeadLetter`].
    DeadLetter(Arc<DeadLetter>),
}

/// A change of one row. The changes of one decision are committed together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which row.
    pub key: RowKey,
    /// What it becomes; `None` removes it.
    pub row: Option<Row>,
}

/// A bounded run of rows in key order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    /// Which rows.
    pub span: Span,
    /// Where to go on: only rows after this one.
    pub after: Option<Box<RowKey>>,
    /// At most so many.
    pub limit: usize,
}

impl Range {
    /// All pairs and tombstones of a message.
    pub const fn pairs(incarnation: Incarnation, message: MessageName) -> Self {
        Self { span: Span::Pairs(incarnation, message), after: None, limit: usize::MAX }
    }
}

/// The runs of rows that anything asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Span {
    /// The list of an account's groups.
    Memberships(AccountId),
    /// The members of a conversation.
    Members(Incarnation),
    /// The pairs and tombstones of a message.
    Pairs(Incarnation, MessageName),
    /// The history of a one-to-one conversation, newest first.
    Recent(Incarnation),
    /// Everything inside a conversation (its events lie elsewhere).
    Within(Incarnation),
    /// The events of a conversation.
    Events(Incarnation),
    /// Work that is due by then.
    Debts(Timestamp),
    /// The outboxes of an app.
    Outboxes(AppId),
    /// The outboxes of a conversation, one for each incarnation that has something to tell.
    OutboxesOf(ConversationId),
    /// The dead letters of an app.
    DeadLetters(AppId),
    /// The dead letters of one incarnation of a conversation.
    DeadLettersOf(ConversationId, Incarnation),
}

impl Span {
    /// Does this row belong to the span?
    pub fn contains(&self, key: &RowKey) -> bool {
        match (self, key) {
            (Self::Memberships(account), RowKey::Membership(of, ..)) => account == of,
            (Self::Members(inc), RowKey::Within(of, Part::Member(_)))
            | (Self::Recent(inc), RowKey::Within(of, Part::Recent(_)))
            | (Self::Within(inc), RowKey::Within(of, _))
            | (Self::Events(inc), RowKey::Event(of, _)) => inc == of,
            (Self::Pairs(inc, message), RowKey::Within(of, Part::Message(name, MessagePart::Pair(_)))) => {
                inc == of && message == name
            }
            (Self::Debts(by), RowKey::Debt(debt)) => debt.due <= *by,
            (Self::Outboxes(app), RowKey::Outbox(id, _))
            | (Self::DeadLetters(app), RowKey::DeadLetter(id, ..)) => id.app == *app,
            (Self::OutboxesOf(of), RowKey::Outbox(id, _)) => id == of,
            (Self::DeadLettersOf(of, inc), RowKey::DeadLetter(id, incarnation, _)) => {
                id == of && incarnation == inc
            }
            _ => false,
        }
    }
}

/// The rule needs something that is not at hand; the shell knows what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing;

/// A view of the store as of one instant.
pub trait Rows {
    /// One row; `None` if there is none under this key.
    fn row(&self, key: &RowKey) -> Result<Option<Row>, Missing>;

    /// The first rows of a range, in key order.
    fn range(&self, range: &Range) -> Result<Vec<(RowKey, Row)>, Missing>;

    /// All pairs and tombstones of a message. Bounded by rule 3.7, so no limit is needed here. A store that keeps
    /// whole sets in memory shares them.
    fn pairs(&self, incarnation: Incarnation, message: MessageName) -> Result<Arc<Pairs>, Missing> {
        Ok(Arc::new(Pairs::of_rows(self.range(&Range::pairs(incarnation, message))?)))
    }
}

/// Reads rows by what they are. A key fixes the kind of its row, so a row of another kind can only be a bug of
/// the store, which must not go on.
pub(crate) struct Typed<'a>(pub(crate) &'a dyn Rows);

macro_rules! reads {
    ($($(#[$doc:meta])* $name:ident($key:ident: $key_type:ty => $row_key:expr) -> $kind:ident($type:ty);)*) => {
        impl Typed<'_> {
            $($(#[$doc])* pub(crate) fn $name(&self, $key: $key_type) -> Result<Option<$type>, Missing> {
                Ok(self.0.row(&$row_key)?.map(|row| match row {
                    Row::$kind(it) => it,
                    // Neither key nor row is told: panics are logged, and logs hold no values.
                    _ => panic!("a key fixes the kind of its row, but the store gave no {}", stringify!($kind)),
                }))
            })*
        }
    };
}

reads! {
    account(id: &AccountId => RowKey::Account(id.clone())) -> Account(Arc<Account>);
    membership(of: (&AccountId, &GroupId, Incarnation)
        => RowKey::Membership(of.0.clone(), of.1.clone(), of.2)) -> Membership(Membership);
    group_row(id: &ConversationId => RowKey::Conversation(id.clone())) -> Group(Arc<Group>);
    direct_row(id: &ConversationId => RowKey::Conversation(id.clone())) -> Direct(Direct);
    counters(inc: Incarnation => RowKey::Within(inc, Part::Counters)) -> Counters(Counters);
    member(of: (Incarnation, &UserId) => RowKey::Within(of.0, Part::Member(of.1.clone()))) -> Member(Arc<Member>);
    repeat(of: (Incarnation, Fingerprint) => RowKey::Within(of.0, Part::Repeat(of.1))) -> Repeat(Sent);
    message(of: (Incarnation, MessageName)
        => RowKey::Within(of.0, Part::Message(of.1, MessagePart::Header))) -> Message(Arc<Message>);
    body(of: (Incarnation, MessageName)
        => RowKey::Within(of.0, Part::Message(of.1, MessagePart::Body))) -> Body(Arc<MessageBody>);
    extension(of: (Incarnation, MessageName)
        => RowKey::Within(of.0, Part::Message(of.1, MessagePart::Extension))) -> Extension(ExtensionState);
    outbox(of: (&ConversationId, Incarnation) => RowKey::Outbox(of.0.clone(), of.1)) -> Outbox(Outbox);
    pair(of: (Incarnation, MessageName, &Key)
        => RowKey::Within(of.0, Part::Message(of.1, MessagePart::Pair(of.2.clone())))) -> Pair(Entry);
}

impl Typed<'_> {
    /// A group; `None` for a conversation of two accounts too.
    pub(crate) fn group(&self, id: &ConversationId) -> Result<Option<Arc<Group>>, Missing> {
        match id.conversation {
            Conversation::Group(_) => self.group_row(id),
            Conversation::Direct(..) => Ok(None),
        }
    }

    /// A conversation of two accounts; `None` for a group too.
    pub(crate) fn direct(&self, id: &ConversationId) -> Result<Option<Direct>, Missing> {
        match id.conversation {
            Conversation::Group(_) => Ok(None),
            Conversation::Direct(..) => self.direct_row(id),
        }
    }

    /// The incarnation of a conversation that there is now.
    pub(crate) fn incarnation(&self, id: &ConversationId) -> Result<Option<Incarnation>, Missing> {
        Ok(match id.conversation {
            Conversation::Group(_) => self.group_row(id)?.map(|group| group.incarnation),
            Conversation::Direct(..) => self.direct_row(id)?.map(|direct| direct.incarnation),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::AppId;

    /// A store with a bug: every row is a membership.
    struct Mistaken;

    impl Rows for Mistaken {
        fn row(&self, _: &RowKey) -> Result<Option<Row>, Missing> {
            Ok(Some(Row::Membership(Membership { since: EventNumber::new(4711) })))
        }

        fn range(&self, _: &Range) -> Result<Vec<(RowKey, Row)>, Missing> {
            Err(Missing)
        }
    }

    #[test]
    fn a_row_of_another_kind_stops_the_rule_and_is_not_shown() {
        let id = AccountId { app: AppId::new(1), user: UserId::new("hunter2").unwrap() };
        let panic = std::panic::catch_unwind(|| Typed(&Mistaken).account(&id)).unwrap_err();
        let text =
            panic.downcast_ref::<String>().map_or(*panic.downcast_ref().unwrap_or(&""), String::as_str);
        assert!(text.contains("no Account"), "{text}");
        assert!(!text.contains("hunter2") && !text.contains("4711"), "{text}");
    }
}
