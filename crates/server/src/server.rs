//! Putting the parts together, and taking them apart again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sidenote_core::command::{AccountAction, Action, Command};
use sidenote_core::event::Operator;
use sidenote_core::ids::{AccountId, AppId, Timestamp, TinyId, UserId};
use sidenote_core::{Limits, Malformed};
use sidenote_store::shared::{Logins, Shared};
use sidenote_store::{Store, StoreError, debts};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::App;
use crate::auth::VerifiedSignatures;
use crate::clock::Clock;
use crate::config::Config;
use crate::gateway::Gateway;
use crate::listener::{ListenError, Listener, Tls, TlsError};
use crate::live::Hub;
use crate::long_connection::{LongConnections, Presence};
use crate::ops::health::Health;
use crate::ops::metrics::{CacheStatistics, Distribution, Metrics, Statistics, StoreStatistics};
use crate::router::{Front, Page};
use crate::stream::Streams;
use crate::tasks::{Tasks, TooManyTasks};
use crate::webhooks::{ReceiverError, Webhooks};

pub use crate::listener::Drained;

/// How long the server rests between two looks at the work that is owed.
const HOUSEKEEPING_PAUSE: Duration = Duration::from_secs(1);

/// Debts that are paid before the server looks whether it should stop.
const DEBTS_AT_A_TIME: usize = 64;

/// How long background work may take to end once it was asked to.
const TASKS_PATIENCE: Duration = Duration::from_secs(5);

/// A running server.
pub struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<Drained>,
    tasks: Tasks,
    store: Arc<dyn Store>,
}

/// Why a server can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port is not to be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Certificate or key can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The store does not take the accounts of the administrators.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An administrator's name can be no account.
    #[error("the administrator {name:?} {malformed}")]
    Administrator {
        /// The name.
        name: String,
        /// What is wrong with it.
        malformed: Malformed,
    },
    /// Webhooks can't be sent.
    #[error(transparent)]
    Webhook(#[from] ReceiverError),
    /// Too many background tasks.
    #[error(transparent)]
    Tasks(#[from] TooManyTasks),
}

/// The limits that the rules apply, for whoever opens the store.
pub fn rule_limits(config: &Config) -> Limits {
    Limits {
        pairs_per_message: config.limits.pairs_per_message,
        tombstones_per_message: config.limits.tombstones_per_message,
        pairs_per_pull: usize::try_from(config.limits.pairs_per_pull).unwrap_or(usize::MAX),
        attempts_per_minute: config.limits.attempts_per_minute.unwrap_or(0),
        community_extensions: config.groups.community_extensions,
        events_kept: config.events.keep_per_conversation,
        events_kept_millis: u64::try_from(config.events.keep.as_millis()).unwrap_or(u64::MAX),
        webhook_apps: webhook_apps(config),
        untold_events_kept: config.events.keep_untold_per_conversation,
        dead_letters_kept: config.events.keep_dead_letters_per_conversation,
    }
}

/// The apps that are told what happens. The list is as old as the process and as small as the configuration, and every
/// thread that decides has a copy of the limits, so it is never taken down.
fn webhook_apps(config: &Config) -> &'static [AppId] {
    let apps = config.apps.iter().filter(|app| app.webhook.is_some());
    apps.map(|app| AppId::new(app.sdk_app_id)).collect::<Vec<_>>().leak()
}

impl Server {
    /// Takes the port and serves until [`stop`](Self::stop) is called. Configured administrators are accounts
    /// without being imported, so their accounts are made here.
    pub async fn start(
        config: &Config,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        Self::start_with_pages(config, store, clock, Vec::new()).await
    }

    /// The same, with pages beside the API.
    pub async fn start_with_pages(
        config: &Config,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        pages: Vec<Page>,
    ) -> Result<Self, StartError> {
        let tls = config.tls.as_ref().map(Tls::load).transpose()?;
        let listener = Listener::bind(config.listen, &config.http, tls).await?;
        let apps = apps(config)?;
        make_administrators(&*store, &apps, &*clock).await?;
        let webhooks = Arc::new(Webhooks::new(config, &store, &clock)?);

        let tasks = Tasks::new();
        let signatures = Arc::new(VerifiedSignatures::new(config.http.signature_cache));
        let presence = Presence::new(config.long_connection.logins_per_account, &store);
        let metrics = Arc::new(Metrics::new({
            let (store, signatures) = (Arc::clone(&store), Arc::clone(&signatures));
            let (connections, presence) = (listener.connections(), Arc::clone(&presence));
            let webhooks = Arc::clone(&webhooks);
            move || Statistics {
                webhooks: webhooks.statistics(),
                ..statistics(&*store, &signatures, connections.open(), presence.count())
            }
        }));
        let health = Health::new(vec![
            Box::new({
                let store = Arc::clone(&store);
                move || store.health().map_err(|error| error.to_string())
            }),
            Box::new({
                let tasks = tasks.clone();
                move || match tasks.failed() {
                    Some(task) => Err(format!("the background task {task:?} panicked, restart the server")),
                    None => Ok(()),
                }
            }),
        ]);
        if let Some(shared) = store.shared() {
            let logins: Arc<dyn Logins> = Arc::clone(&presence) as Arc<dyn Logins>;
            shared.join(Arc::downgrade(&logins));
        }
        tasks.spawn("housekeeping", {
            let (store, clock) = (Arc::clone(&store), Arc::clone(&clock));
            move |stop| keep_house(store, clock, stop)
        })?;
        let before = webhooks.before();
        webhooks.start(&tasks)?;
        let gateway = Gateway::new(config, apps, Arc::clone(&store), clock, signatures, &metrics, before);
        let (gateway, stop) = (Arc::new(gateway), CancellationToken::new());
        let hub = Hub::new(Arc::clone(&store));
        tasks.spawn("hub", {
            // It ends with the listener, for the requests of those who follow end with it.
            let (hub, stop) = (Arc::clone(&hub), stop.clone());
            move |_| hub.run(stop)
        })?;
        let long_connections =
            LongConnections::new(Arc::clone(&gateway), Arc::clone(&hub), presence, config.long_connection);
        let streams = Arc::new(Streams::new(Arc::clone(&gateway), hub, &config.http));
        let front = Front::new(gateway, long_connections, streams, health, metrics, pages);
        let address = listener.local_addr();
        #[expect(clippy::disallowed_methods, reason = "stop waits for it and sees its panic")]
        let serving = tokio::spawn(listener.serve(front, stop.clone()));
        Ok(Self { address, stop, serving, tasks, store })
    }

    /// Where it listens.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, finishes what runs, ends the background work and closes the store, in this order.
    pub async fn stop(self) -> Drained {
        self.stop.cancel();
        let drained = self.serving.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the listener panicked");
            Drained { cut: 0 }
        });
        if !self.tasks.stop(TASKS_PATIENCE).await {
            tracing::warn!("background work did not end in time");
        }
        self.store.close().await;
        drained
    }
}

fn apps(config: &Config) -> Result<Vec<App>, StartError> {
    let app = |app: &crate::config::App| {
        let administrator = |name: &String| {
            UserId::new(name).map_err(|malformed| StartError::Administrator { name: name.clone(), malformed })
        };
        Ok(App {
            id: AppId::new(app.sdk_app_id),
            keys: app.keys.clone(),
            administrators: app.admins.iter().map(administrator).collect::<Result<_, _>>()?,
            ultimate: app.ultimate,
        })
    };
    config.apps.iter().map(app).collect()
}

/// Imports the configured administrators; one that exists stays as it is.
async fn make_administrators(store: &dyn Store, apps: &[App], clock: &dyn Clock) -> Result<(), StoreError> {
    for app in apps {
        for user in &app.administrators {
            let import = AccountAction::Import {
                tiny_id: TinyId::from_random(rand::random()),
                nick: None,
                face_url: None,
            };
            let account = AccountId { app: app.id, user: user.clone() };
            let command = Command {
                operator: Operator::server(user.clone()),
                at: Timestamp::from_millis(clock.now_millis()),
                action: Action::Account(account, import),
            };
            // An import is never refused, so there is no verdict to look at.
            let _ = store.execute(command).await?;
        }
    }
    Ok(())
}

/// Pays debts as they fall due: those that a crash left behind, and those that wait for their time.
async fn keep_house(store: Arc<dyn Store>, clock: Arc<dyn Clock>, stop: CancellationToken) {
    let mut rounds = tokio::time::interval(HOUSEKEEPING_PAUSE);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut complained = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = rounds.tick() => {}
        }
        // Where there are several servers, one does this for all. Whoever does it for a moment too long does no harm: each
        // payment is decided anew.
        let leads = || store.shared().is_none_or(Shared::leads);
        if !leads() {
            continue;
        }
        // A debt that fails is met again in the next walk; the others are paid all the same.
        let now = Timestamp::from_millis(clock.now_millis());
        let (mut after, mut failure) = (None, None);
        while !stop.is_cancelled() {
            match debts::pay_due(&*store, now, after, DEBTS_AT_A_TIME).await {
                Ok(round) => {
                    failure = failure.or(round.failure);
                    after = round.next;
                }
                Err(error) => {
                    failure = Some(error);
                    after = None;
                }
            }
            if after.is_none() || store.health().is_err() || !leads() {
                break;
            }
        }
        if let Some(error) = failure.as_ref().filter(|_| !complained) {
            tracing::error!(%error, "housekeeping could not do all its work and keeps trying");
        }
        complained = failure.is_some();
    }
}

fn statistics(
    store: &dyn Store,
    signatures: &VerifiedSignatures,
    connections: usize,
    logins: usize,
) -> Statistics {
    let (ready, store) = (store.health().is_ok(), store.statistics());
    #[expect(clippy::cast_precision_loss, reason = "a figure for people, exact up to 2^53")]
    let float = |count: u64| count as f64;
    // What lies above the last bound is a class of its own in the text format.
    let batches: Vec<_> = store.batch_sizes.iter().filter(|(bound, _)| *bound < u64::MAX).collect();
    let syncs: Vec<_> = store.commit_times.iter().filter(|(bound, _)| *bound < Duration::MAX).collect();
    let above = |counted: u64| store.commits.saturating_sub(counted);
    let store_statistics = StoreStatistics {
        batch_commands: Distribution {
            above: above(batches.iter().map(|(_, count)| count).sum()),
            buckets: batches.iter().map(|(bound, count)| (float(*bound), *count)).collect(),
            sum: float(store.commands),
        },
        sync_seconds: Distribution {
            above: above(syncs.iter().map(|(_, count)| count).sum()),
            buckets: syncs.iter().map(|(bound, count)| (bound.as_secs_f64(), *count)).collect(),
            sum: store.commit_time_total.as_secs_f64(),
        },
        queued_commands: store.queue_depth,
        stored_bytes: store.disk_bytes,
        ready,
        round_trips: store.round_trips,
        statements: store.statements,
    };
    let caches = vec![
        CacheStatistics { name: "signatures", hits: signatures.hits(), misses: signatures.misses() },
        CacheStatistics { name: "rows", hits: store.cache_hits, misses: store.cache_misses },
    ];
    Statistics {
        store: store_statistics,
        caches,
        connections: u64::try_from(connections).unwrap_or(u64::MAX),
        logins: u64::try_from(logins).unwrap_or(u64::MAX),
        webhooks: Vec::new(),
        cluster: store.cluster,
    }
}
