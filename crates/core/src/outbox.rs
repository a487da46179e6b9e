//! What a conversation still has to tell by webhook. The events themselves stay in the log; beside them there is
//! one row, written with the first event that nobody outside has heard of and removed when all have been told.

use std::sync::Arc;

use crate::group::Group;
use crate::ids::{EventNumber, Timestamp};

/// How far an incarnation of a conversation has been told. There is one only where something is left to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbox {
    /// The last event that needs no more telling.
    pub after: EventNumber,
    /// Since when there has always been something to tell.
    pub since: Timestamp,
    /// What its events can no longer be asked of the group, because it was destroyed.
    pub gone: Option<Gone>,
}

/// What is left of a group that was destroyed, for the events that are told afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Its last description.
    pub group: Arc<Group>,
    /// Its last event.
    pub last: EventNumber,
}

/// An event that could not be told, or several in a row that fell out of the log before they were. It holds what
/// would have been sent, as opaque text: JSON and URLs stop at the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The first event it stands for. The last one is the number it is stored under.
    pub first: EventNumber,
    /// When the last of them happened, as far as that is known.
    pub happened_at: Timestamp,
    /// When it was given up.
    pub given_up_at: Timestamp,
    /// How often it was tried.
    pub tries: u32,
    /// Why the last try failed.
    pub reason: String,
    /// What is to be sent; `None` if that is not known any more.
    pub request: Option<LetterRequest>,
}

/// A webhook's request as it would have been sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterRequest {
    /// The command of the webhook, such as `Group.CallbackAfterSendMsg`.
    pub command: String,
    /// Further parameters of its URL: where the change came from.
    pub origin: String,
    /// Its body.
    pub body: String,
}

impl DeadLetter {
    /// Longest reason, in bytes.
    pub const MAX_REASON_BYTES: usize = 300;
}
