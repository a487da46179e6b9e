//! Looks into the tables for what was not heard of: all that there is without a broker, and what a broker lost.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use sidenote_core::ids::{AccountId, EventNumber, Incarnation, TinyId};
use sidenote_core::query::Accounts;
use sidenote_store::audience::{Audience, FollowedConversation};
use sidenote_store::{News, Store, StoreError};
use sidenote_store_postgres::{PostgresStore, Recent};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::broker::Broker;
use crate::figures::Figures;
use crate::membership::Membership;

/// How often a node looks while the broker is there: the last message that was lost leaves no gap.
const COMPARE: Duration = Duration::from_secs(3);

/// Conversations whose numbers are asked for in one round trip.
const AT_A_TIME: usize = 500;

/// How often a node looks whether accounts that are connected are still there.
const ACCOUNTS: Duration = Duration::from_secs(5);

/// Accounts that are asked for at a time.
const ACCOUNTS_AT_A_TIME: usize = 100;

/// What was found is remembered so long, at least: longer than a look goes back.
const MEMORY: Duration = Duration::from_mins(1);

/// How long the broker may take to be there at the start.
const GRACE: Duration = Duration::from_secs(3);

pub(crate) struct Watcher {
    pub(crate) store: Arc<PostgresStore>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) broker: Option<Arc<Broker>>,
    pub(crate) figures: Arc<Figures>,
    pub(crate) look: Arc<Notify>,
    pub(crate) audience: watch::Receiver<Option<Weak<dyn Audience>>>,
    pub(crate) poll: Duration,
}

/// The last events that were found of conversations, for looks that go back over the same time.
#[derive(Debug, Default)]
pub(crate) struct Found {
    newer: HashMap<Incarnation, EventNumber>,
    older: HashMap<Incarnation, EventNumber>,
    /// Whether anybody has looked before. What was there then is old for all who follow.
    has_begun: bool,
}

impl Found {
    /// What of this is new.
    pub(crate) fn new_of(&mut self, found: Vec<News>) -> Vec<News> {
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        let mut new = Vec::new();
        for mut news in found {
            let known =
                self.newer.get(&news.incarnation).or_else(|| self.older.get(&news.incarnation)).copied();
            self.newer.insert(news.incarnation, known.map_or(news.last, |known| known.max(news.last)));
            if is_first || known.is_some_and(|known| known >= news.last) {
                continue;
            }
            if let Some(known) = known {
                // Numbers have no gaps, so what is between was committed late.
                news.first = known.next();
            }
            new.push(news);
        }
        new
    }

    pub(crate) fn forget_old(&mut self) {
        self.older = std::mem::take(&mut self.newer);
    }
}

impl Watcher {
    pub(crate) async fn watch(self) {
        let began = Instant::now();
        let mut found = Found::default();
        let (mut last_look, mut last_forgotten) = (began, began);
        let mut last_accounts = began;
        let mut told = None;
        loop {
            let looked_at = Instant::now();
            let back = how_far_back(looked_at - last_look);
            let with_accounts = looked_at - last_accounts >= ACCOUNTS;
            match self.look_around(&mut found, back, with_accounts).await {
                Ok(()) => {
                    last_look = looked_at;
                    if with_accounts {
                        last_accounts = looked_at;
                    }
                    if looked_at - last_forgotten >= MEMORY {
                        last_forgotten = looked_at;
                        found.forget_old();
                        self.store.forget_old_news();
                    }
                }
                Err(StoreError::Closed) => return,
                // The store says by itself that its database is away.
                Err(error) => tracing::debug!(%error, "what other nodes committed could not be looked for"),
            }
            let is_heard = self.broker.as_ref().map(|broker| broker.is_connected());
            if began.elapsed() > GRACE || is_heard == Some(true) {
                self.say(&mut told, is_heard);
            }
            let pause = if is_heard == Some(true) { COMPARE.max(self.poll) } else { self.poll };
            // From the start of a look to that of the next, but with a rest in between.
            let rest = (looked_at + pause).max(Instant::now() + pause / 10);
            tokio::select! {
                () = tokio::time::sleep_until(rest) => {}
                () = self.look.notified() => {}
            }
        }
    }

    /// A line in the log when the broker comes or goes.
    fn say(&self, told: &mut Option<bool>, is_heard: Option<bool>) {
        if *told == is_heard {
            return;
        }
        match is_heard {
            Some(true) => tracing::info!("connected to NATS"),
            Some(false) => tracing::warn!(
                poll_ms = u64::try_from(self.poll.as_millis()).unwrap_or(u64::MAX),
                "NATS is away; what other nodes commit is found by looking into the tables until it is back"
            ),
            None => {}
        }
        *told = is_heard;
    }

    async fn look_around(
        &self,
        found: &mut Found,
        back: Recent,
        with_accounts: bool,
    ) -> Result<(), StoreError> {
        self.figures.looks.add(1);
        self.membership.look().await?;
        // Before the numbers are asked for, so that what comes in between is no surprise.
        let audience = self.audience.borrow().as_ref().and_then(Weak::upgrade);
        let followed = audience.map(|audience| audience.followed()).unwrap_or_default();
        let recent = self.store.recent_news(back).await?;
        if recent.len() >= PostgresStore::MOST_RECENT {
            tracing::warn!(
                "more conversations had events lately than are looked at; some pushes may be missing"
            );
        }
        let mut count = 0;
        for news in found.new_of(recent) {
            count += u64::from(self.store.hear_news(&news));
        }
        for some in followed.conversations.chunks(AT_A_TIME) {
            let lives: Vec<_> = some.iter().map(|of| (of.conversation.clone(), of.incarnation)).collect();
            let last = self.store.last_events(&lives).await?;
            for (followed, last) in some.iter().zip(last) {
                if let Some(news) = missed(followed, last) {
                    count += u64::from(self.store.hear_missed(&news));
                }
            }
        }
        self.figures.found.add(count);
        if with_accounts {
            for some in followed.accounts.chunks(ACCOUNTS_AT_A_TIME) {
                self.look_for(some).await?;
            }
        }
        Ok(())
    }

    /// Tells of those that are there no more, or are others by now.
    async fn look_for(&self, accounts: &[(AccountId, TinyId)]) -> Result<(), StoreError> {
        let store: &dyn Store = &*self.store;
        let ids = accounts.iter().map(|(account, _)| account.clone()).collect();
        let found = store.ask(Accounts { ids }).await?;
        for ((account, tiny_id), found) in accounts.iter().zip(found) {
            if found.is_none_or(|found| found.tiny_id != *tiny_id) {
                self.store.hear_deleted(account.clone(), *tiny_id);
            }
        }
        Ok(())
    }
}

/// What whoever follows a conversation may not know yet, if the last event is this one.
fn missed(followed: &FollowedConversation, last: EventNumber) -> Option<News> {
    let FollowedConversation { conversation, incarnation, known } = followed;
    // Where only they know, they notice themselves if it does not follow what they know.
    let first = known.map_or(last, EventNumber::next);
    (last > EventNumber::START && first <= last).then(|| News {
        conversation: conversation.clone(),
        incarnation: *incarnation,
        first,
        last,
        events: Vec::new(),
    })
}

/// How far a look goes back if the last one was so long ago.
fn how_far_back(since: Duration) -> Recent {
    let all = [Recent::Moment, Recent::While];
    let enough = |recent: &Recent| since + Recent::Moment.duration() <= recent.duration() + COMPARE * 2;
    all.into_iter().find(enough).unwrap_or(Recent::Long)
}

#[cfg(test)]
mod tests {
    use sidenote_core::ids::{AppId, ConversationId, GroupId};

    use super::*;

    fn news(life: u64, first: u64, last: u64) -> News {
        let conversation = ConversationId::group(AppId::new(1), GroupId::new("g").unwrap());
        let [first, last] = [first, last].map(EventNumber::new);
        News { conversation, incarnation: Incarnation::from_random(life), first, last, events: Vec::new() }
    }

    #[test]
    fn what_was_there_before_the_first_look_is_old_and_later_each_event_is_new_once() {
        let mut found = Found::default();
        assert_eq!(found.new_of(vec![news(1, 3, 5)]), []);
        assert_eq!(found.new_of(vec![news(1, 3, 5), news(2, 1, 1)]), [news(2, 1, 1)]);
        // Number 6 was committed by a clock that is behind.
        assert_eq!(found.new_of(vec![news(1, 7, 8), news(2, 1, 1)]), [news(1, 6, 8)]);
        found.forget_old();
        assert_eq!(found.new_of(vec![news(1, 7, 8)]), []);
        found.forget_old();
        found.forget_old();
        assert_eq!(found.new_of(vec![news(1, 7, 8)]), [news(1, 7, 8)]);
        // A database that shows less than before is no reason to tell it again.
        assert_eq!(found.new_of(vec![news(1, 7, 7)]), []);
    }

    #[test]
    fn what_is_followed_is_compared_with_what_is_there() {
        let followed = |known: Option<u64>| {
            let News { conversation, incarnation, .. } = news(1, 1, 1);
            FollowedConversation { conversation, incarnation, known: known.map(EventNumber::new) }
        };
        let missed = |known, last| missed(&followed(known), EventNumber::new(last));
        assert_eq!(missed(Some(4), 6), Some(news(1, 5, 6)));
        assert_eq!((missed(Some(6), 6), missed(Some(7), 6)), (None, None));
        assert_eq!(
            (missed(None, 6), missed(None, 0), missed(Some(0), 1)),
            (Some(news(1, 6, 6)), None, Some(news(1, 1, 1)))
        );
    }

    #[test]
    fn after_a_long_time_a_look_goes_back_further() {
        let back = |seconds| how_far_back(Duration::from_secs(seconds));
        assert_eq!(
            [back(0), back(3), back(10), back(100), back(200)],
            [Recent::Moment, Recent::Moment, Recent::While, Recent::While, Recent::Long,]
        );
    }
}
