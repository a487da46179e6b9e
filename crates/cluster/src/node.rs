//! One of several nodes: a store in PostgreSQL that tells and hears.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sidenote_core::command::Command;
use sidenote_core::ids::{AppId, ConversationId, Incarnation};
use sidenote_core::query::{Answer, Query};
use sidenote_store::audience::Audience;
use sidenote_store::caller::Caller;
use sidenote_store::news::Follower;
use sidenote_store::shared::{Claim, Claimed, Login, Logins, Shared};
use sidenote_store::{Committed, Statistics, Store, StoreError};
use sidenote_store_postgres::PostgresStore;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::{self, BadAddress, Broker};
use crate::clock::now;
use crate::figures::Figures;
use crate::listener::Listener;
use crate::membership::Membership;
use crate::teller::tell;
use crate::watcher::Watcher;

/// How a node learns what others have committed.
#[derive(Clone)]
pub struct ClusterOptions {
    /// Addresses of servers of NATS, which may hold passwords; none: the node only looks.
    pub nats: Vec<String>,
    /// How often a node looks while it can't hear.
    pub poll: Duration,
    /// How long a node that is not heard of counts as alive.
    pub lease: Duration,
}

impl ClusterOptions {
    /// Whether they can be used, as far as that can be said without connecting.
    ///
    /// # Errors
    ///
    /// If addresses make no sense, or do not go together.
    pub fn check(&self) -> Result<(), BadAddress> {
        broker::parse(&self.nats).map(drop)
    }
}

impl std::fmt::Debug for ClusterOptions {
    /// Without the addresses.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { nats, poll, lease } = self;
        let mut options = f.debug_struct("ClusterOptions");
        options.field("nats", &nats.len()).field("poll", poll).field("lease", lease).finish()
    }
}

/// A store that several nodes share.
pub struct Node {
    store: Arc<PostgresStore>,
    broker: Option<Arc<Broker>>,
    figures: Arc<Figures>,
    membership: Arc<Membership>,
    audience: watch::Sender<Option<Weak<dyn Audience>>>,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Ends before the store does, for it says goodbye there.
    life: (CancellationToken, TaskTracker),
    /// The first task that panicked, if any has.
    failed: Failed,
}

type Failed = Arc<OnceLock<&'static str>>;

/// What a background task holds while it works, so that a panic of it is noticed.
struct Alarm {
    failed: Failed,
    task: &'static str,
}

impl Alarm {
    async fn watch(failed: &Failed, task: &'static str, work: impl Future<Output = ()>) {
        let alarm = Self { failed: Arc::clone(failed), task };
        work.await;
        drop(alarm);
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.task, "a background task panicked; restart the server");
            // Only the first is kept: what follows is often a consequence of it.
            let _ = self.failed.set(self.task);
        }
    }
}

impl Node {
    /// Lets a store hear of other nodes. It does not wait for the broker, which may come later and go again.
    ///
    /// # Errors
    ///
    /// If addresses of the broker make no sense, or do not go together.
    pub async fn start(store: Arc<PostgresStore>, options: &ClusterOptions) -> Result<Self, BadAddress> {
        let servers = broker::parse(&options.nats)?;
        let broker = match servers {
            Some(servers) => Broker::connect(servers, store.database()).await.map(Arc::new),
            None => None,
        };
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (figures, audience) = (Arc::<Figures>::default(), watch::Sender::new(None));
        let look = broker.as_ref().map_or_else(Arc::<Notify>::default, |broker| Arc::clone(&broker.upset));
        let membership = Membership::new(Arc::clone(&store), broker.clone(), options.lease);
        let (membership, life) = (Arc::new(membership), (CancellationToken::new(), TaskTracker::new()));
        let failed = Failed::default();
        let spawn = |task, work: BoxFuture<'static, ()>| {
            let failed = Arc::clone(&failed);
            let work = async move { Alarm::watch(&failed, task, work).await };
            tasks.spawn(stop.clone().run_until_cancelled_owned(work));
        };
        life.1.spawn({
            let (membership, stop, failed) = (Arc::clone(&membership), life.0.clone(), Arc::clone(&failed));
            async move { Alarm::watch(&failed, "membership", membership.live(stop)).await }
        });
        if let Some(broker) = &broker {
            let broker = Arc::clone(broker);
            spawn("broker", Box::pin(async move { broker.keep().await }));
        }
        if let Some(broker) = &broker {
            let (own, broker, figures) = (store.own_commits(), Arc::clone(broker), Arc::clone(&figures));
            spawn("teller", Box::pin(async move { tell(own, &broker, &figures).await }));
        }
        if let Some(broker) = &broker {
            let (store, broker, figures) = (Arc::clone(&store), Arc::clone(broker), Arc::clone(&figures));
            let membership = Arc::clone(&membership);
            let (look, audience) = (Arc::clone(&look), audience.subscribe());
            let (began, complained) = (now(), None);
            let listener = Listener { store, membership, broker, figures, look, audience, began, complained };
            spawn("listener", Box::pin(listener.listen()));
        }
        let watcher = Watcher {
            store: Arc::clone(&store),
            membership: Arc::clone(&membership),
            broker: broker.clone(),
            figures: Arc::clone(&figures),
            look,
            audience: audience.subscribe(),
            poll: options.poll,
        };
        spawn("watcher", Box::pin(watcher.watch()));
        Ok(Self { store, broker, figures, membership, audience, stop, tasks, life, failed })
    }
}

#[async_trait]
impl Store for Node {
    async fn commit(&self, command: Command) -> Result<Committed, StoreError> {
        self.store.commit(command).await
    }

    async fn answer(&self, query: Query) -> Result<Answer, StoreError> {
        self.store.answer(query).await
    }

    async fn commit_by(&self, caller: &Caller, command: Command) -> Result<Option<Committed>, StoreError> {
        self.store.commit_by(caller, command).await
    }

    async fn answer_by(&self, caller: &Caller, query: Query) -> Result<Option<Answer>, StoreError> {
        self.store.answer_by(caller, query).await
    }

    fn news(&self) -> Follower {
        self.store.news()
    }

    fn attend(&self, audience: Weak<dyn Audience>) {
        self.audience.send_replace(Some(audience));
    }

    fn shared(&self) -> Option<&dyn Shared> {
        Some(self)
    }

    /// A broker that is away is no illness: everything works, only later.
    fn health(&self) -> Result<(), StoreError> {
        self.store.health()?;
        self.failed.get().map_or(Ok(()), |task| {
            let reason = format!("the background task {task:?} panicked, restart the server");
            Err(StoreError::Busy { reason })
        })
    }

    fn statistics(&self) -> Statistics {
        let connected = self.broker.as_ref().map(|broker| broker.is_connected());
        let (leads, nodes) = (self.membership.leads(), self.membership.node_count());
        let cluster = Some(self.figures.read(connected, leads, nodes));
        Statistics { cluster, ..self.store.statistics() }
    }

    async fn close(&self) {
        self.life.0.cancel();
        self.life.1.close();
        self.life.1.wait().await;
        // What was committed last is told as long as the store finishes its work; the rest others find.
        self.store.close().await;
        if let Some(broker) = &self.broker {
            // It may be away, and there is nothing else to do about it.
            drop(broker.flush().await);
        }
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Node {
    /// The tasks of a node that was not closed end too.
    fn drop(&mut self) {
        self.stop.cancel();
        self.life.0.cancel();
    }
}

#[async_trait]
impl Shared for Node {
    fn join(&self, logins: Weak<dyn Logins>) {
        self.membership.join(logins);
    }

    fn own_news(&self) -> Follower {
        self.membership.own_news()
    }

    fn lives(&self) -> bool {
        self.membership.lives()
    }

    fn leads(&self) -> bool {
        self.membership.leads()
    }

    fn departures(&self) -> watch::Receiver<u64> {
        self.membership.departures()
    }

    async fn claim(&self, id: &ConversationId) -> Result<Claimed, StoreError> {
        self.membership.claim(id).await
    }

    fn holds_until(&self, claim: Claim) -> Option<Instant> {
        self.membership.holds_until(claim)
    }

    async fn commit_claimed(&self, claim: Claim, command: Command) -> Result<Option<Committed>, StoreError> {
        self.membership.commit_claimed(claim, command).await
    }

    async fn unclaimed(
        &self,
        app: AppId,
        after: Option<(ConversationId, Incarnation)>,
        limit: usize,
    ) -> Result<Vec<(ConversationId, Incarnation)>, StoreError> {
        self.membership.unclaimed(app, after.as_ref(), limit).await
    }

    async fn enter(&self, login: &Login, most: usize) -> Result<(), StoreError> {
        self.membership.enter(login, most).await
    }

    fn left(&self, login: Login) {
        self.membership.left(login);
    }
}

#[cfg(test)]
mod tests;
