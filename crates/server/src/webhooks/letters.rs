//! What could not be told, for the operator: to look at, to send again, to forget.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sidenote_core::command::{Action, Command, OutboxAction};
use sidenote_core::event::Operator;
use sidenote_core::ids::{AppId, ConversationId, EventNumber, Incarnation, Timestamp};
use sidenote_core::query::{DeadLetterAt, DeadLetters as Question};
use sidenote_store::{Store, StoreError};

use crate::clock::Clock;
use crate::config::Config;
use crate::webhooks::receiver::{Letter, Receiver, ReceiverError};
use crate::webhooks::teller::someone;

/// The dead letters of a store and the way to their receivers.
pub struct DeadLetters {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    receivers: BTreeMap<AppId, Receiver>,
}

/// The name of a dead letter: the life of the conversation and the last event that it stands for. Receivers get it as
/// `X-Sidenote-Event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId {
    incarnation: Incarnation,
    number: EventNumber,
}

/// Why a letter was not sent again. It is still there.
#[derive(Debug, thiserror::Error)]
pub enum NotReplayed {
    /// The app has no webhook any more.
    #[error("the app has no webhook in the configuration")]
    NoReceiver,
    /// What it stands for is not known any more.
    #[error("its events are gone from the log; there is nothing to send, only to discard")]
    Empty,
    /// The receiver failed again.
    #[error("{0}")]
    Failed(String),
    /// The store can't be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LetterId {
    /// The name of this letter.
    pub const fn of(letter: &DeadLetterAt) -> Self {
        Self { incarnation: letter.incarnation, number: letter.number }
    }
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.incarnation.get(), self.number.get())
    }
}

impl FromStr for LetterId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (incarnation, number) = text.split_once('-')?;
            let incarnation = u64::from_str_radix(incarnation, 16).ok()?;
            let id = Self {
                incarnation: Incarnation::from_random(incarnation),
                number: EventNumber::new(number.parse().ok()?),
            };
            (id.to_string() == text).then_some(id)
        };
        parse().ok_or("it is no name of a dead letter; `sidenote webhooks list` shows those")
    }
}

impl DeadLetters {
    /// Over this store. Reads the certificates that receivers are checked with.
    pub fn new(config: &Config, store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Self, ReceiverError> {
        let mut receivers = BTreeMap::new();
        for app in &config.apps {
            if let Some(webhook) = &app.webhook {
                receivers.insert(AppId::new(app.sdk_app_id), Receiver::new(app.sdk_app_id, webhook)?);
            }
        }
        Ok(Self { store, clock, receivers })
    }

    /// Up to `limit` letters of an app, by conversation and in the order of their events, after that one.
    pub async fn page(
        &self,
        app: u32,
        after: Option<&DeadLetterAt>,
        limit: usize,
    ) -> Result<Vec<DeadLetterAt>, StoreError> {
        let after = after.map(|at| (at.id.clone(), at.incarnation, at.number));
        self.store.ask(Question { app: AppId::new(app), after, limit }).await
    }

    /// Sends a letter again, and forgets it if the receiver answers as it should.
    pub async fn replay(&self, letter: &DeadLetterAt) -> Result<(), NotReplayed> {
        let receiver = self.receivers.get(&letter.id.app).ok_or(NotReplayed::NoReceiver)?;
        let request = letter.letter.request.as_ref().ok_or(NotReplayed::Empty)?;
        let name = LetterId::of(letter).to_string();
        let again = Letter {
            command: &request.command,
            origin: &request.origin,
            body: &request.body,
            id: Some(&name),
        };
        let now = Timestamp::from_millis(self.clock.now_millis()).secs();
        receiver.post(&again, now).await.map_err(|failure| NotReplayed::Failed(failure.to_string()))?;
        Ok(self.discard(letter).await?)
    }

    /// Forgets a letter; one that is gone already is as good.
    pub async fn discard(&self, letter: &DeadLetterAt) -> Result<(), StoreError> {
        let id: ConversationId = letter.id.clone();
        let command = Command {
            operator: Operator::server(someone()),
            at: Timestamp::from_millis(self.clock.now_millis()),
            action: Action::Outbox(id, letter.incarnation, OutboxAction::Discard(letter.number)),
        };
        self.store.commit(command).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_in_its_only_spelling() {
        let id: LetterId = "00000000000000ff-12".parse().unwrap();
        assert_eq!((id.incarnation.get(), id.number.get()), (255, 12));
        assert_eq!(id.to_string(), "00000000000000ff-12");
        for wrong in [
            "",
            "ff-12",
            "00000000000000ff",
            "00000000000000FF-1",
            "00000000000000ff-012",
            "00000000000000ff--1",
        ] {
            assert!(wrong.parse::<LetterId>().is_err(), "{wrong}");
        }
    }
}
