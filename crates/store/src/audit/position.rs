use sidenote_core::ids::Incarnation;
use sidenote_core::rows::RowKey;

/// Where a row stands in a walk over a whole store: first what is owed, then accounts, their lists of groups and
/// conversations, then one incarnation after the other, its events before its other rows, then what is left to tell by
/// webhook and what could not be told; within each by key.
///
/// In this order every row comes after those that explain it, so that whoever walks has to remember little.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position<'a>(u8, Option<Incarnation>, u8, &'a RowKey);

impl<'a> Position<'a> {
    /// The place of the row under this key.
    pub const fn of(key: &'a RowKey) -> Self {
        match key {
            RowKey::Debt(_) => Self(0, None, 0, key),
            RowKey::Account(_) | RowKey::Membership(..) | RowKey::Conversation(_) => Self(1, None, 0, key),
            RowKey::Event(incarnation, _) => Self(2, Some(*incarnation), 0, key),
            RowKey::Within(incarnation, _) => Self(2, Some(*incarnation), 1, key),
            RowKey::Outbox(..) | RowKey::DeadLetter(..) => Self(3, None, 0, key),
        }
    }
}
