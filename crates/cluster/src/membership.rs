//! One node among others: it says that it lives, and knows what that entitles it to.
//!
//! What is known here is careful: a lease counts from the moment at which the database was asked for it, so that it ends
//! here before it ends there. Whoever finds that its own has ended, because it was stopped or cut off, begins a new epoch,
//! in which nothing that was claimed before counts.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use sidenote_core::command::Command;
use sidenote_core::ids::{AccountId, AppId, ConversationId, Incarnation};
use sidenote_store::news::Follower;
use sidenote_store::shared::{Claim, Claimed, Leave, Login, LoginNumber, Logins};
use sidenote_store::{Committed, StoreError};
use sidenote_store_postgres::{Beat, Departure, Heart, Outboxes, PostgresStore};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::clock::now;
use crate::message::Message;
use crate::subject::subjects_of;

/// A node says that it lives so many times while a lease lasts.
const BEATS_PER_LEASE: u32 = 4;

/// How often the leader clears away what dead nodes left behind.
const SWEEP_PAUSE: Duration = Duration::from_mins(1);

/// Logins that are written down, or removed, at a time. Each is a commit, and all together have the time of one statement.
const LOGINS_AT_A_TIME: usize = 64;

/// How soon what could not be written down about logins is tried again.
const ERRANDS_PAUSE: Duration = Duration::from_secs(1);

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
    errands: Mutex<Errands>,
    errand: Notify,
}

/// What is to be written down about logins. It may take any time, and is nothing that a node lives by.
#[derive(Debug, Default)]
struct Errands {
    /// Logins that are over and may still be written down. Each was entered before, so there are no more than of those.
    over: BTreeMap<LoginNumber, Over>,
    /// Those that stand may have been cleared away.
    stay: bool,
}

#[derive(Clone, Debug)]
struct Over {
    login: Login,
    /// It may only now be written down.
    in_doubt: bool,
}

impl Errands {
    fn is_over(&mut self, login: Login, in_doubt: bool) {
        let over = self.over.entry(login.number).or_insert(Over { login, in_doubt });
        over.in_doubt |= in_doubt;
    }
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
    /// What a beat means that was begun then and is answered now.
    fn beaten(&mut self, began: Instant, now: Instant, lease: Duration, beat: Beat) -> Beaten {
        let before = match self.alive_until {
            None => Before::Unborn,
            // By the clock of the database it may have been dead also if it was not by this one: that was set, or another
            // server has taken over, or this machine was asleep.
            Some(until) if until <= now || beat.was_dead => Before::Dead,
            Some(_) => Before::Alive,
        };
        self.epoch += u64::from(before == Before::Dead);
        let led = self.leads_until.is_some();
        let until = began + lease;
        self.alive_until = Some(until);
        self.leads_until = beat.leads.then_some(until);
        let alive: HashSet<i64> = beat.alive.into_iter().collect();
        let has_gone = self.alive.iter().any(|node| !alive.contains(node));
        self.alive = alive;
        Beaten { before, has_gone, begins_to_lead: beat.leads && !led }
    }
}

/// What a beat means.
#[derive(Debug, PartialEq, Eq)]
struct Beaten {
    /// What this node was before.
    before: Before,
    /// Another one has gone.
    has_gone: bool,
    begins_to_lead: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// It did not count as alive yet.
    Unborn,
    Alive,
    /// It may have counted as dead.
    Dead,
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
            errands: Mutex::default(),
            errand: Notify::new(),
        }
    }

    pub(crate) fn join(&self, logins: Weak<dyn Logins>) {
        *lock(&self.logins) = Some(logins);
        self.joined.notify_one();
    }

    /// Whether this node counts as alive.
    pub(crate) fn lives(&self) -> bool {
        lock(&self.state).alive_until.is_some_and(|until| Instant::now() < until)
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
        let _ = stop.run_until_cancelled(async { tokio::join!(self.beat_on(), self.run_errands()) }).await;
        // Nothing is this node's any more, before others are told so.
        *lock(&self.state) = State::default();
        let last = Instant::now() + GOODBYE;
        let mut heart = Heart::new(self.node, self.lease);
        if let Ok(Err(error)) = tokio::time::timeout_at(last, heart.end(&self.store)).await {
            tracing::debug!(%error, "others will notice by themselves that this node is gone");
        }
    }

    /// Does nothing else, so that nothing else can keep it from doing it in time.
    async fn beat_on(&self) {
        let mut heart = Heart::new(self.node, self.lease);
        let mut complained = false;
        loop {
            let began = Instant::now();
            // A connection that hangs is given up while there is time for another one.
            let beat = tokio::time::timeout(self.lease / 2, heart.beat(&self.store)).await;
            let failure = match beat {
                Ok(Ok(beat)) => {
                    self.after(began, beat);
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
            sleep_until(began + self.lease / BEATS_PER_LEASE).await;
        }
    }

    fn after(&self, began: Instant, beat: Beat) {
        let beaten = lock(&self.state).beaten(began, Instant::now(), self.lease, beat);
        if beaten.begins_to_lead {
            tracing::info!("this node does the background work from now on");
        }
        if beaten.before == Before::Dead {
            tracing::warn!("this node may have counted as dead; others may have taken its work");
        }
        // Logins that came before the node did are those of nobody who lives, until now.
        if beaten.before != Before::Alive {
            lock(&self.errands).stay = true;
            self.errand.notify_one();
        }
        if beaten.has_gone {
            self.departures.send_modify(|count| *count += 1);
        }
    }

    /// Writes down what is to be written down about logins, and clears away what dead nodes left behind if that is this
    /// node's work. What can't be done now is done later.
    async fn run_errands(&self) {
        let mut next_sweep = Instant::now() + SWEEP_PAUSE;
        loop {
            tokio::select! {
                () = self.errand.notified() => {}
                () = sleep(ERRANDS_PAUSE) => {}
            }
            // In this order: a login that ends while it is written down again is removed after that.
            if let Err(error) = self.let_stay().await {
                tracing::debug!(%error, "logins could not be written down again");
            }
            if let Err(error) = self.let_leave().await {
                tracing::debug!(%error, "logins that are over could not be removed");
                // Others may be over by now, and a failure is no reason for haste.
                sleep(ERRANDS_PAUSE).await;
            }
            if self.leads() && next_sweep <= Instant::now() {
                next_sweep = Instant::now() + SWEEP_PAUSE;
                if let Err(error) = self.store.sweep().await {
                    tracing::debug!(%error, "what dead nodes left behind could not be cleared away");
                }
            }
        }
    }

    /// Writes down again that logins stand, if they may have been cleared away.
    async fn let_stay(&self) -> Result<(), StoreError> {
        if !std::mem::take(&mut lock(&self.errands).stay) {
            return Ok(());
        }
        for some in self.logins().map(|logins| logins.all()).unwrap_or_default().chunks(LOGINS_AT_A_TIME) {
            if let Err(error) = self.store.keep_logins(some, self.node).await {
                lock(&self.errands).stay = true;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Removes logins that are over.
    async fn let_leave(&self) -> Result<(), StoreError> {
        loop {
            let some: Vec<Over> = {
                let mut errands = lock(&self.errands);
                std::iter::from_fn(|| errands.over.pop_first())
                    .map(|(_, over)| over)
                    .take(LOGINS_AT_A_TIME)
                    .collect()
            };
            if some.is_empty() {
                return Ok(());
            }
            if let Err(error) = self.remove(&some).await {
                let mut errands = lock(&self.errands);
                for Over { login, in_doubt } in some {
                    errands.is_over(login, in_doubt);
                }
                return Err(error);
            }
        }
    }

    async fn remove(&self, over: &[Over]) -> Result<(), StoreError> {
        let sure: Vec<_> = over.iter().filter(|over| !over.in_doubt).map(|over| over.login.clone()).collect();
        if !sure.is_empty() {
            self.store.remove_logins(&sure).await?;
        }
        for over in over.iter().filter(|over| over.in_doubt) {
            self.store.remove_login_in_doubt(&over.login).await?;
        }
        Ok(())
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
        let doubt = Doubt { membership: self, login };
        let departures = self.store.enter_login(login, most, self.node).await?;
        std::mem::forget(doubt);
        for departure in departures {
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
        self.is_over(login, false);
    }

    fn is_over(&self, login: Login, in_doubt: bool) {
        lock(&self.errands).is_over(login, in_doubt);
        self.errand.notify_one();
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

/// Whoever gives up to enter a login, or fails to, does not know whether it is written down, or will be in a moment.
struct Doubt<'a> {
    membership: &'a Membership,
    login: &'a Login,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        self.membership.is_over(self.login.clone(), true);
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
        Beat { was_dead: false, leads, alive: alive.to_vec() }
    }

    fn beaten(before: Before, has_gone: bool) -> Beaten {
        Beaten { before, has_gone, begins_to_lead: false }
    }

    #[test]
    fn a_lease_counts_from_when_it_was_asked_for_and_a_late_answer_begins_an_epoch() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut state = State::default();
        let first = Beaten { begins_to_lead: true, ..beaten(Before::Unborn, false) };
        assert_eq!(state.beaten(at(0), at(1), LEASE, Beat { was_dead: true, ..beat(true, &[1]) }), first);
        assert_eq!((state.alive_until, state.leads_until, state.epoch), (Some(at(10)), Some(at(10)), 0));
        assert_eq!(state.beaten(at(3), at(4), LEASE, beat(false, &[1, 2])), beaten(Before::Alive, false));
        assert_eq!((state.alive_until, state.leads_until, state.epoch), (Some(at(13)), None, 0));
        // Asked in time, but who knows when it was heard.
        assert_eq!(state.beaten(at(5), at(13), LEASE, beat(false, &[1])), beaten(Before::Dead, true));
        assert_eq!((state.alive_until, state.epoch), (Some(at(15)), 1));
        let leads = Beaten { begins_to_lead: true, ..beaten(Before::Alive, false) };
        assert_eq!(state.beaten(at(14), at(14), LEASE, beat(true, &[1])), leads);
        assert_eq!((state.leads_until, state.epoch), (Some(at(24)), 1));
        // In time by this clock, and not by that of the database.
        let set = Beat { was_dead: true, ..beat(true, &[1]) };
        assert_eq!(state.beaten(at(16), at(16), LEASE, set), beaten(Before::Dead, false));
        assert_eq!((state.alive_until, state.epoch), (Some(at(26)), 2));
    }
}
