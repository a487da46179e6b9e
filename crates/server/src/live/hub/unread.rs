//! News whose events can't be read just now. They are read again every so often, and only who would wait too long for them
//! is cut off: whoever is has to ask the same store for the state.

use std::collections::HashMap;
use std::time::Duration;

use sidenote_core::ids::{Conversation, ConversationId, EventNumber, Incarnation};
use sidenote_store::{News, StoreError};
use tokio::time::Instant;

use super::{Burst, Hub};

/// When what could not be read is read again.
pub(super) const AGAIN: Duration = Duration::from_millis(500);

/// So many conversations are kept; of further ones whoever follows is cut off, and all that are connected in their apps.
const MOST_UNREAD: usize = 1024;

/// How long whoever follows waits for events that can't be read. Longer than a database takes to be replaced, as a rule.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Unread(HashMap<Incarnation, Waiting>);

#[derive(Debug)]
struct Waiting {
    news: News,
    /// Since when, or since whoever followed then was cut off.
    since: Instant,
    failures: u64,
}

impl Unread {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes news of what waits already: it is read with the rest.
    pub(super) fn takes(&mut self, news: &News) -> bool {
        let waiting = self.0.get_mut(&news.incarnation);
        waiting.map(|waiting| waiting.extend((news.first, news.last))).is_some()
    }

    pub(super) fn remove(&mut self, incarnation: Incarnation) {
        self.0.remove(&incarnation);
    }

    pub(super) fn forget(&mut self) {
        self.0 = HashMap::new();
    }
}

impl Hub {
    /// Reads again what could not be read.
    pub(super) async fn read_again(&self, burst: &mut Burst) {
        let waiting: Vec<_> =
            self.unread().0.values().map(|waiting| (waiting.news.clone(), waiting.failures)).collect();
        for (news, failures) in waiting {
            self.pass_on(&news, burst).await;
            let mut unread = self.unread();
            if unread.0.get(&news.incarnation).is_some_and(|waiting| waiting.failures == failures) {
                unread.0.remove(&news.incarnation);
            }
        }
    }

    /// Events could not be read or told. Where that may be over soon, and nothing later can be told before them, they are
    /// kept for later. Otherwise those who follow are cut off, and what is kept is for those who may have joined by one of
    /// the events and hear nothing else.
    pub(super) fn put_off(
        &self,
        conversation: &ConversationId,
        incarnation: Incarnation,
        (first, last): (EventNumber, EventNumber),
        error: &StoreError,
    ) {
        let mut state = self.state();
        let mut unread = self.unread();
        let is_full = unread.0.len() >= MOST_UNREAD && !unread.0.contains_key(&incarnation);
        let may_pass = matches!(error, StoreError::Busy { .. });
        if may_pass && !is_full && state.tells_in_order(conversation, incarnation) {
            let is_patient = |waiting: &Waiting| waiting.since.elapsed() < PATIENCE;
            let waiting = unread.0.entry(incarnation).or_insert_with(|| {
                tracing::warn!(%error, "events could not be read for those who follow them; they are read again");
                Waiting::new(conversation, incarnation, (first, last))
            });
            waiting.add((first, last));
            if is_patient(waiting) {
                return;
            }
            waiting.since = Instant::now();
        }
        tracing::error!(%error, "events could not be read for those who follow them; they are cut off");
        state.lose_events(conversation, incarnation);
        if matches!(conversation.conversation, Conversation::Direct(..)) {
            unread.0.remove(&incarnation);
        } else if is_full {
            state.lose_app(conversation.app);
        } else {
            let new = || Waiting::new(conversation, incarnation, (first, last));
            unread.0.entry(incarnation).or_insert_with(new).add((first, last));
        }
    }
}

impl Waiting {
    fn new(
        conversation: &ConversationId,
        incarnation: Incarnation,
        (first, last): (EventNumber, EventNumber),
    ) -> Self {
        let news = News { conversation: conversation.clone(), incarnation, first, last, events: Vec::new() };
        Self { news, since: Instant::now(), failures: 0 }
    }

    /// These could not be read either.
    fn add(&mut self, (first, last): (EventNumber, EventNumber)) {
        self.failures += 1;
        self.extend((first, last));
    }

    fn extend(&mut self, (first, last): (EventNumber, EventNumber)) {
        self.news.first = self.news.first.min(first);
        self.news.last = self.news.last.max(last);
    }
}
