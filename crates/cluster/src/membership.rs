//! One node among others: it says that it lives, and knows what that entitles it to.
//!
//! What is known here is careful: a lease counts from the moment at which the database was asked for it, so that it ends
//! here before it ends there. Whoever finds that its own has ended, because it was stopped or cut off, begins a new epoch,
//! in which nothing that was claimed before counts.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use sidenote_core::command::Command;
use sidenote_core::ids::{AccountId, AppId, ConversationId, Incarnation};
use sidenote_store::news::Follower;
use sidenote_store::shared::{Claim, Claimed, Leave, Login, LoginNumber, Logins};
use sidenote_store::{Committed, StoreError};
use sidenote_store_postgres::{Beat, Departure, Heart, Outboxes, PostgresStore};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::clock::now;
use crate::message::Message;
use crate::subject::subjects_of;

/// A node says that it lives so many times while a lease lasts.
const BEATS_PER_LEASE: u32 = 4;

/// How often the leader clears away what dead nodes left behind.
const SWEEP_PAUSE: Duration = Duration::from_mins(1);

/// Logins that are written down, or removed, at a time.
const LOGINS_AT_A_TIME: usize = 256;

/// How long a node that ends tries to say so.
const GOODBYE: Duration = Duration::from_secs(2);

pub(crate) struct Membership {
    store: Arc<PostgresStore>,
    broker: Option<Arc<Broker>>,
    /// Drawn when the process starts; never 0.
    node: i64,
    lease: Duration,
    state: Mutex<State>,
    departures: watch::Sender<u64>,
    logins: Mutex<Option<Weak<dyn Logins>>>,
    joined: Notify,
    /// Logins that are over and still written down. Each was entered before, so there are no more than of those.
    leaving: Mutex<Vec<Login>>,
    left: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Until when this node counts as alive.
    alive_until: Option<Instant>,
    /// How often it may have counted as dead.
    epoch: u64,
    leads_until: Option<Instant>,
    /// All nodes that were alive when this one said that it is.
    alive: HashSet<i64>,
}

impl State {
    /// What a beat means that was begun then and is answered now. Says whether this node may have counted as dead before,
    /// and whether another one has gone.
    fn beaten(&mut self, began: Instant, now: Instant, lease: Duration, beat: Beat) -> (bool, bool) {
        let was_dead = self.alive_until.is_some_and(|until| until <= now);
        if was_dead {
            self.epoch += 1;
        }
        let until = began + lease;
        self.alive_until = Some(until);
        self.leads_until = beat.leads.then_some(until);
        let alive: HashSet<i64> = beat.alive.into_iter().collect();
        let has_gone = self.alive.iter().any(|node| !alive.contains(node));
        self.alive = alive;
        (was_dead, has_gone)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Membership {
    pub(crate) fn new(store: Arc<PostgresStore>, broker: Option<Arc<Broker>>, lease: Duration) -> Self {
        Self {
            store,
            broker,
            node: random(),
            lease,
            state: Mutex::default(),
            departures: watch::Sender::new(0),
            logins: Mutex::default(),
            joined: Notify::new(),
            leaving: Mutex::default(),
            left: Notify::new(),
        }
    }

    pub(crate) fn join(&self, logins: Weak<dyn Logins>) {
        *lock(&self.logins) = Some(logins);
        self.joined.notify_one();
    }

    pub(crate) fn leads(&self) -> bool {
        lock(&self.state).leads_until.is_some_and(|until| Instant::now() < until)
    }

    pub(crate) fn node_count(&self) -> u64 {
        lock(&self.state).alive.len() as u64
    }

    pub(crate) fn departures(&self) -> watch::Receiver<u64> {
        self.departures.subscribe()
    }

    fn logins(&self) -> Option<Arc<dyn Logins>> {
        lock(&self.logins).as_ref().and_then(Weak::upgrade)
    }

    /// Says again and again that this node lives, once it has joined, until it is stopped, and at last that it does no more.
    pub(crate) async fn live(&self, stop: CancellationToken) {
        if stop.run_until_cancelled(self.joined.notified()).await.is_none() {
            return;
        }
        let mut heart = Heart::new(self.node, self.lease);
        let _ = stop.run_until_cancelled(self.beat_on(&mut heart)).await;
        let last = Instant::now() + GOODBYE;
        // A heart that was interrupted may have a connection that nobody can use.
        let mut heart = Heart::new(self.node, self.lease);
        if let Ok(Err(error)) = tokio::time::timeout_at(last, heart.end(&self.store)).await {
            tracing::debug!(%error, "others will notice by themselves that this node is gone");
        }
        *lock(&self.state) = State::default();
    }

    async fn beat_on(&self, heart: &mut Heart) {
        let mut next_sweep = Instant::now() + SWEEP_PAUSE;
        let mut complained = false;
        loop {
            let began = Instant::now();
            // A connection that hangs is given up while there is time for another one.
            let beat = tokio::time::timeout(self.lease / 2, heart.beat(&self.store)).await;
            let failure = match beat {
                Ok(Ok(beat)) => {
                    self.after(heart, began, beat).await;
                    None
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("the database did not answer in time".to_owned()),
            };
            let has_failed = failure.is_some();
            if let Some(reason) = failure.filter(|_| !complained) {
                tracing::warn!(reason, "this node could not say that it lives; others may take its work");
            }
            complained = has_failed;
            if self.leads() && next_sweep <= began {
                next_sweep = began + SWEEP_PAUSE;
                if let Err(error) = heart.sweep(&self.store).await {
                    tracing::debug!(%error, "what dead nodes left behind could not be cleared away");
                }
            }
            let next = began + self.lease / BEATS_PER_LEASE;
            loop {
                tokio::select! {
                    () = sleep_until(next) => break,
                    () = self.left.notified() => {}
                }
                self.let_leave(heart).await;
            }
            self.let_leave(heart).await;
        }
    }

    async fn after(&self, heart: &mut Heart, began: Instant, beat: Beat) {
        let (was_dead, has_gone, leads) = {
            let mut state = lock(&self.state);
            let led = state.leads_until.is_some();
            let (was_dead, has_gone) = state.beaten(began, Instant::now(), self.lease, beat);
            (was_dead, has_gone, state.leads_until.is_some().then_some(!led))
        };
        if leads == Some(true) {
            tracing::info!("this node does the background work from now on");
        }
        if was_dead {
            tracing::warn!("this node may have counted as dead; others may have taken its work");
            for some in self.logins().map(|logins| logins.all()).unwrap_or_default().chunks(LOGINS_AT_A_TIME)
            {
                if let Err(error) = heart.stay(&self.store, some).await {
                    tracing::debug!(%error, "logins could not be written down again");
                }
            }
        }
        if has_gone {
            self.departures.send_modify(|count| *count += 1);
        }
    }

    /// Removes logins that are over. What can't be removed now is later.
    async fn let_leave(&self, heart: &mut Heart) {
        loop {
            let some: Vec<_> = {
                let mut leaving = lock(&self.leaving);
                let count = leaving.len().min(LOGINS_AT_A_TIME);
                leaving.drain(..count).collect()
            };
            if some.is_empty() {
                return;
            }
            if let Err(error) = heart.leave(&self.store, &some).await {
                tracing::debug!(%error, "logins that are over could not be removed");
                lock(&self.leaving).extend(some);
                return;
            }
        }
    }

    pub(crate) async fn claim(&self, id: &ConversationId) -> Result<Claimed, StoreError> {
        let (token, epoch) = {
            let state = lock(&self.state);
            if state.alive_until.is_none_or(|until| until <= Instant::now()) {
                return Ok(Claimed::Later);
            }
            (random(), state.epoch)
        };
        Ok(match self.store.claim(id, self.node, token).await? {
            Outboxes::Mine(lives) => Claimed::Mine(Claim { token: token.unsigned_abs(), epoch }, lives),
            Outboxes::None => Claimed::Nothing,
            Outboxes::Others => Claimed::Others,
            Outboxes::Locked => Claimed::Later,
        })
    }

    pub(crate) fn holds_until(&self, claim: Claim) -> Option<Instant> {
        let state = lock(&self.state);
        state.alive_until.filter(|until| claim.epoch == state.epoch && Instant::now() < *until)
    }

    pub(crate) async fn commit_claimed(
        &self,
        claim: Claim,
        command: Command,
    ) -> Result<Option<Committed>, StoreError> {
        // There are no larger numbers.
        let token = i64::try_from(claim.token).unwrap_or(i64::MAX);
        self.store.commit_claimed(token, command).await
    }

    pub(crate) async fn unclaimed(
        &self,
        app: AppId,
        after: Option<&(ConversationId, Incarnation)>,
        limit: usize,
    ) -> Result<Vec<(ConversationId, Incarnation)>, StoreError> {
        self.store.unclaimed(app, after, limit, self.node).await
    }

    pub(crate) async fn enter(&self, login: &Login, most: usize) -> Result<(), StoreError> {
        for departure in self.store.enter_login(login, most, self.node).await? {
            let Departure { account, number, why } = departure;
            self.leave(&account, number, why);
            let Some(broker) = &self.broker else { continue };
            let message = Message::Leave(account, number, why);
            // In vain if the broker is away: then nodes find it by looking.
            drop(broker.publish(&subjects_of(&message), message.encode(Some(now()))).await);
        }
        Ok(())
    }

    /// A login of this node is over.
    pub(crate) fn left(&self, login: Login) {
        lock(&self.leaving).push(login);
        self.left.notify_one();
    }

    /// Ends a login, if it is one of this node's; whether it is.
    pub(crate) fn leave(&self, account: &AccountId, number: LoginNumber, why: Leave) -> bool {
        self.logins().is_some_and(|logins| logins.leave(account, number, why))
    }

    /// Looks for logins that have to go.
    pub(crate) async fn look(&self) -> Result<(), StoreError> {
        if self.logins().is_none_or(|logins| logins.is_empty()) {
            return Ok(());
        }
        for Departure { account, number, why } in self.store.departures(self.node).await? {
            if !self.leave(&account, number, why) {
                // Whoever it was has gone before it was written down that it came.
                self.left(Login { account, number, instance: 0 });
            }
        }
        Ok(())
    }

    pub(crate) fn own_news(&self) -> Follower {
        self.store.own_commits()
    }
}

/// A number that nobody else has drawn, above 0.
fn random() -> i64 {
    i64::try_from(fastrand::u64(1..1 << 62)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    fn beat(leads: bool, alive: &[i64]) -> Beat {
        Beat { leads, alive: alive.to_vec() }
    }

    #[test]
    fn a_lease_counts_from_when_it_was_asked_for_and_a_late_answer_begins_an_epoch() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut state = State::default();
        assert_eq!(state.beaten(at(0), at(1), LEASE, beat(true, &[1])), (false, false));
        assert_eq!((state.alive_until, state.leads_until, state.epoch), (Some(at(10)), Some(at(10)), 0));
        assert_eq!(state.beaten(at(3), at(4), LEASE, beat(false, &[1, 2])), (false, false));
        assert_eq!((state.alive_until, state.leads_until, state.epoch), (Some(at(13)), None, 0));
        // Asked in time, but who knows when it was heard.
        assert_eq!(state.beaten(at(5), at(13), LEASE, beat(false, &[1])), (true, true));
        assert_eq!((state.alive_until, state.epoch), (Some(at(15)), 1));
        assert_eq!(state.beaten(at(14), at(14), LEASE, beat(true, &[1])), (false, false));
        assert_eq!((state.leads_until, state.epoch), (Some(at(24)), 1));
    }
}
