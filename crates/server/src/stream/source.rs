//! Where the events of a stream come from, and how it ends.

use super::event::{self, Cursor, Notice};
use crate::live::{Delivery, Ended, Follow, Followed, Inbox};

/// What one reader is told.
pub(super) enum Source {
    /// A group, as the follower may see it.
    Group(Box<Follow>),
    /// All conversations of an app.
    App {
        inbox: Inbox,
        /// The reader has named a cursor, and there is no place here to go on from.
        starts_over: bool,
    },
}

/// What is told next.
pub(super) enum Step {
    /// An event.
    Event(Delivery),
    /// The reader has to look at the state, and goes on after this event; `None` if there is no single one.
    StartOver(Option<Cursor>),
    /// Nothing more is told.
    End(Why),
}

/// Why a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Removed,
    Closing,
    Overrun,
    Lost,
    Failed,
}

impl Source {
    pub(super) fn group(follow: Follow) -> Self {
        Self::Group(Box::new(follow))
    }

    pub(super) fn app(inbox: Inbox, starts_over: bool) -> Self {
        Self::App { inbox, starts_over }
    }

    /// Waits for what comes next. Nothing is lost if the future is dropped before it is done.
    pub(super) async fn next(&mut self) -> Step {
        let ended = match self {
            Self::Group(follow) => match follow.next().await {
                Ok(Ok(Followed::Event(delivery))) => return Step::Event(delivery),
                Ok(Ok(Followed::StartOver(incarnation, number))) => {
                    return Step::StartOver(Some((incarnation, number)));
                }
                Ok(Err(ended)) => ended,
                Err(error) => {
                    tracing::error!(%error, "an event stream ends because events could not be read");
                    return Step::End(Why::Failed);
                }
            },
            Self::App { inbox, starts_over } => {
                if std::mem::take(starts_over) {
                    return Step::StartOver(None);
                }
                match inbox.next().await {
                    Ok(delivery) => return Step::Event(delivery),
                    Err(ended) => ended,
                }
            }
        };
        Step::End(match ended {
            Ended::Overrun => Why::Overrun,
            Ended::Lost => Why::Lost,
            Ended::Removed => Why::Removed,
            Ended::Closing => Why::Closing,
        })
    }
}

impl Why {
    /// For programs.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Closing => "closing",
            Self::Overrun => "overrun",
            Self::Lost => "lost",
            Self::Failed => "failed",
        }
    }

    /// For people.
    pub(super) const fn info(self) -> &'static str {
        match self {
            Self::Removed => "the group is gone, or the caller is no longer a member of it",
            Self::Closing => "the server stops, connect again",
            Self::Overrun => "events were not taken in time, connect again and read the state",
            Self::Lost => "events were forgotten before they were told, connect again and read the state",
            Self::Failed => "the server could not read the events, connect again later",
        }
    }

    pub(super) fn notice(self) -> Notice<'static> {
        Notice { event_id: None, kind: "End", reason: self.word(), info: self.info() }
    }
}

/// What is said where events are missing.
pub(super) fn start_over(from: Option<Cursor>) -> Notice<'static> {
    let info = "events after the given cursor are no longer kept, or it belongs to something else; read the state \
                (group_get_key_values, group_msg_get_simple) and go on with the events that follow";
    Notice { event_id: from.map(event::id), kind: "StartOver", reason: "cursor", info }
}
