//! Looks into the tables for what was not heard of: all that there is without a broker, and what a broker lost.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use sidenote_core::ids::{AccountId, EventNumber, Incarnation, TinyId};
use sidenote_core::query::Accounts;
use sidenote_store::audience::{Audience, Followed, FollowedConversation};
use sidenote_store::news::Doubt;
use sidenote_store::{News, Store, StoreError};
use sidenote_store_postgres::{Looked, PostgresStore, Recent};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::broker::Broker;
use crate::figures::Figures;
use crate::membership::Membership;

/// How often a node looks while the broker is there: the last message that was lost leaves no gap.
const COMPARE: Duration = Duration::from_secs(3);

/// How soon everything that is followed was compared once while the broker is there.
const ROUND: Duration = Duration::from_secs(30);

/// Conversations whose numbers are asked for in one round trip.
const AT_A_TIME: usize = 500;

/// Conversations that are asked for in one look because more was heard of them than was found.
const MOST_DOUBTS: usize = 10 * AT_A_TIME;

/// How often a node looks whether accounts that are connected are still there.
const ACCOUNTS: Duration = Duration::from_secs(5);

/// Accounts that are asked for at a time.
const ACCOUNTS_AT_A_TIME: usize = 100;

/// What was found is remembered so long, at least: longer than a look goes back beyond the one before.
pub(crate) const MEMORY: Duration = Duration::from_mins(1);

/// How long the broker may take to be there at the start.
const GRACE: Duration = Duration::from_secs(3);

/// Whoever rings waits for so long after the last look, and so many times as long as that took. Others may ring then too.
const LEAST_REST: Duration = Duration::from_millis(200);
const REST_FACTOR: u32 = 5;

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
}

impl Found {
    /// What of this is new.
    fn new_of(&mut self, mut news: News) -> Option<News> {
        let known = self.newer.get(&news.incarnation).or_else(|| self.older.get(&news.incarnation)).copied();
        self.newer.insert(news.incarnation, known.map_or(news.last, |known| known.max(news.last)));
        if let Some(known) = known {
            if known >= news.last {
                return None;
            }
            // Numbers have no gaps, so what is between was committed late.
            news.first = known.next();
        }
        Some(news)
    }

    fn forget_old(&mut self) {
        self.older = std::mem::take(&mut self.newer);
    }
}

/// What one look leaves for the next.
struct Course {
    found: Found,
    /// When the look began that last saw what had happened recently; before the first, when the node began.
    last_seen: Instant,
    has_seen: bool,
    /// Up to where what is followed was compared, in the order of the numbers of lives.
    compared: Option<u64>,
    last_accounts: Instant,
    last_forgotten: Instant,
    /// Whether the log says that looking fails.
    is_failing: bool,
    told_of_broker: Option<bool>,
}

impl Watcher {
    pub(crate) async fn watch(self) {
        let began = Instant::now();
        let mut course = Course {
            found: Found::default(),
            last_seen: began,
            has_seen: false,
            compared: None,
            last_accounts: began,
            last_forgotten: began,
            is_failing: false,
            told_of_broker: None,
        };
        loop {
            let looked_at = Instant::now();
            let is_heard = self.broker.as_ref().map(|broker| broker.is_connected());
            let pause = if is_heard == Some(true) { COMPARE.max(self.poll) } else { self.poll };
            match self.look_around(&mut course, pause, is_heard == Some(true)).await {
                Ok(()) => {
                    if std::mem::take(&mut course.is_failing) {
                        tracing::info!("what other nodes commit is looked for again");
                    }
                }
                Err(StoreError::Closed) => return,
                Err(error) => {
                    self.figures.failed_looks.add(1);
                    if !std::mem::replace(&mut course.is_failing, true) {
                        tracing::warn!(%error, "what other nodes commit can't be looked for; pushes may come late");
                    }
                }
            }
            if began.elapsed() > GRACE || is_heard == Some(true) {
                self.say(&mut course.told_of_broker, is_heard);
            }
            // From the start of a look to that of the next, but with a rest in between.
            let ended = Instant::now();
            let rest = (looked_at + pause).max(ended + pause / 10);
            let least = ended + ((ended - looked_at) * REST_FACTOR).max(LEAST_REST);
            tokio::select! {
                () = tokio::time::sleep_until(rest) => {}
                () = self.look.notified() => tokio::time::sleep_until(least.min(rest)).await,
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
            Some(false) => {
                let reason = self.broker.as_ref().and_then(|broker| broker.trouble());
                tracing::warn!(
                    poll_ms = u64::try_from(self.poll.as_millis()).unwrap_or(u64::MAX),
                    reason = reason.as_deref().unwrap_or("no answer"),
                    "NATS is away; what other nodes commit is found by looking into the tables until it is back"
                );
            }
            None => {}
        }
        *told = is_heard;
    }

    /// Looks in every way, also where one of them fails. The first error.
    async fn look_around(
        &self,
        course: &mut Course,
        pause: Duration,
        is_heard: bool,
    ) -> Result<(), StoreError> {
        self.figures.looks.add(1);
        let departed = self.membership.look().await;
        let looked_at = Instant::now();
        // Before the numbers are asked for, so that what comes in between is no surprise.
        let audience = self.audience.borrow().as_ref().and_then(Weak::upgrade);
        let Followed { conversations, accounts, .. } =
            audience.as_ref().map(|audience| audience.followed()).unwrap_or_default();
        let seen = self.see_what_is_recent(course, looked_at, audience.as_deref()).await;
        // Without the broker all of it, each time. With it, little is lost, and less haste is needed.
        let count = if is_heard { at_a_time(conversations.len(), pause) } else { conversations.len() };
        let part = part_of(conversations, &mut course.compared, count);
        let compared = self.compare(part, audience.as_deref()).await;
        // What the looks before have not shown.
        let settled = self.settle(audience.as_deref()).await;
        let mut looked_for = Ok(());
        if looked_at - course.last_accounts >= ACCOUNTS {
            for some in accounts.chunks(ACCOUNTS_AT_A_TIME) {
                looked_for = looked_for.and(self.look_for(some).await);
            }
            if looked_for.is_ok() {
                course.last_accounts = looked_at;
            }
        }
        departed.and(seen).and(compared).and(settled).and(looked_for)
    }

    /// Tells what happened since the last look, wherever it did.
    async fn see_what_is_recent(
        &self,
        course: &mut Course,
        looked_at: Instant,
        audience: Option<&dyn Audience>,
    ) -> Result<(), StoreError> {
        let ago = looked_at - course.last_seen;
        let Looked { found, back } = self.store.recent_news(how_far_back(ago)).await?;
        if found.len() >= PostgresStore::MOST_RECENT || back.duration() < ago {
            tracing::warn!(
                seconds = back.duration().as_secs(),
                "so far back was looked for what other nodes committed, and not further; messages between two accounts and news of joined groups may be missing"
            );
        }
        // What was there when the node began is old for all who follow; what came while it could not look may be new.
        let is_old = !course.has_seen && !course.is_failing;
        let mut count = 0;
        for (news, joins) in found {
            let Some(news) = course.found.new_of(news) else { continue };
            if is_old || !audience.is_some_and(|audience| audience.may_want(&news.conversation, joins)) {
                self.store.pass_over(&news);
            } else {
                count += u64::from(self.store.find_news(&news));
            }
        }
        self.figures.found.add(count);
        (course.last_seen, course.has_seen) = (looked_at, true);
        // Never while looks fail: the next one goes back to the last that did not.
        if looked_at - course.last_forgotten >= MEMORY {
            course.last_forgotten = looked_at;
            course.found.forget_old();
            self.store.forget_old_news();
        }
        Ok(())
    }

    /// Compares what whoever follows knows with what is there.
    async fn compare(
        &self,
        followed: Vec<FollowedConversation>,
        audience: Option<&dyn Audience>,
    ) -> Result<(), StoreError> {
        for some in followed.chunks(AT_A_TIME) {
            let lives: Vec<_> = some.iter().map(|of| (of.conversation.clone(), of.incarnation)).collect();
            let last = self.store.last_events(&lives).await?;
            for (followed, last) in some.iter().zip(&last) {
                let FollowedConversation { conversation, incarnation, known } = followed.clone();
                if let Some(heard) = known.filter(|known| known > last) {
                    self.decide(&Doubt { conversation, incarnation, heard }, *last, audience);
                }
            }
            let missed = some.iter().zip(last).filter_map(|(followed, last)| missed(followed, last));
            let new = missed.filter(|news| self.store.hear_missed(news)).count();
            self.figures.found.add(new as u64);
        }
        Ok(())
    }

    /// Asks the log for what was only heard. As a rule that is what came while this node looked.
    async fn settle(&self, audience: Option<&dyn Audience>) -> Result<(), StoreError> {
        for some in self.store.doubts(MOST_DOUBTS).chunks(AT_A_TIME) {
            let lives: Vec<_> = some.iter().map(|of| (of.conversation.clone(), of.incarnation)).collect();
            let last = self.store.last_events(&lives).await?;
            for (doubt, last) in some.iter().zip(last) {
                self.decide(doubt, last, audience);
            }
        }
        Ok(())
    }

    /// Takes what the log says, which was read after the doubt came up.
    fn decide(&self, doubt: &Doubt, last: EventNumber, audience: Option<&dyn Audience>) {
        let Doubt { conversation, incarnation, .. } = doubt;
        if self.store.settle(doubt, last)
            && let Some(audience) = audience
        {
            if last > EventNumber::START {
                audience.ends_here(conversation, *incarnation, last);
            } else {
                // Whoever follows was told how it ended, or that was not heard of in time.
                audience.is_gone(conversation, *incarnation);
            }
        }
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

/// How far a look goes back if the last one was so long ago. Clocks and commits have what is left of a moment.
fn how_far_back(ago: Duration) -> Recent {
    if ago <= COMPARE * 2 { Recent::MOMENT } else { Recent::since(ago) }
}

/// How many to compare in each look, so that all are in the time of a [`ROUND`].
fn at_a_time(all: usize, pause: Duration) -> usize {
    let looks = usize::try_from(ROUND.as_millis() / pause.as_millis().max(1)).unwrap_or(usize::MAX).max(1);
    all.div_ceil(looks).max(AT_A_TIME)
}

/// The next so many of them, and up to where that is; after the last the first again.
fn part_of(
    mut all: Vec<FollowedConversation>,
    compared: &mut Option<u64>,
    count: usize,
) -> Vec<FollowedConversation> {
    if all.len() <= count {
        return all;
    }
    all.sort_unstable_by_key(|followed| followed.incarnation.get());
    let is_done = |followed: &FollowedConversation| Some(followed.incarnation.get()) <= *compared;
    let from = all.partition_point(is_done);
    let from = if from == all.len() { 0 } else { from };
    let part: Vec<_> = all.drain(from..).take(count).collect();
    *compared = part.last().map(|followed| followed.incarnation.get());
    part
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
    fn each_event_is_found_once() {
        let mut found = Found::default();
        assert_eq!(found.new_of(news(1, 3, 5)), Some(news(1, 3, 5)));
        assert_eq!(found.new_of(news(1, 3, 5)), None);
        // Number 6 was committed by a clock that is behind.
        assert_eq!(found.new_of(news(1, 7, 8)), Some(news(1, 6, 8)));
        found.forget_old();
        assert_eq!(found.new_of(news(1, 7, 8)), None);
        found.forget_old();
        found.forget_old();
        assert_eq!(found.new_of(news(1, 7, 8)), Some(news(1, 7, 8)));
        // A database that shows less than before is no reason to tell it again.
        assert_eq!(found.new_of(news(1, 7, 7)), None);
    }

    #[test]
    fn whatever_comes_and_goes_all_that_is_followed_is_compared_in_turn() {
        let followed = |life: u64| {
            let News { conversation, incarnation, .. } = news(life, 1, 1);
            FollowedConversation { conversation, incarnation, known: None }
        };
        let all = |but: u64| (0..10).rev().filter(|life| *life != but).map(followed).collect::<Vec<_>>();
        let mut compared = None;
        let mut part = |but, count| {
            let part = part_of(all(but), &mut compared, count);
            part.iter().map(|followed| followed.incarnation.get()).collect::<Vec<_>>()
        };
        assert_eq!(part(99, 4), [0, 1, 2, 3]);
        assert_eq!(part(3, 4), [4, 5, 6, 7]);
        assert_eq!(part(7, 4), [8, 9]);
        assert_eq!(part(0, 4), [1, 2, 3, 4]);
        assert_eq!(part(99, 10).len(), 10);
        let half_a_minute = Duration::from_secs(30);
        assert_eq!((at_a_time(10_000, COMPARE), at_a_time(10_000, half_a_minute)), (1000, 10_000));
        assert_eq!((at_a_time(10, COMPARE), at_a_time(10_000, half_a_minute * 9)), (500, 10_000));
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
    fn a_look_goes_back_to_the_last_one_and_no_further_than_anybody_remembers() {
        for ago in (0..1000).map(Duration::from_secs) {
            let back = how_far_back(ago).duration();
            assert!(back + COMPARE * 2 >= ago + Recent::MOMENT.duration(), "{ago:?}");
            assert!(back <= ago + MEMORY, "{ago:?}");
        }
    }
}
