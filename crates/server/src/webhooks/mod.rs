//! Telling an app what happens, by requests to a server of its own (webhooks.md).
//!
//! Events are told from the log that the store keeps, so nothing is told that a crash undoes, and nothing that is durable
//! goes untold: a conversation with something left to tell has an outbox, a row that was written in the same commit.
//! `Webhooks` finds these and tells, [`DeadLetters`] is what could not be told, and `before` asks an app before
//! something happens.

mod callback;
mod networks;
mod url;

mod addresses;
mod receiver;

mod body;
mod figures;
mod schedule;
mod teller;

mod before;
mod letters;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use sidenote_core::ids::{AppId, ConversationId};
use sidenote_store::Store;
use sidenote_store::shared::Shared;

use crate::clock::Clock;
use crate::config::Config;
use crate::ops::metrics::WebhookStatistics;
use crate::tasks::{Tasks, TooManyTasks};

pub(crate) use before::{Before, Verdict};
pub use callback::Callback;
pub use letters::{DeadLetters, LetterId, NotReplayed};
pub use networks::{BadNetwork, Network};
pub use receiver::ReceiverError;
pub use url::{BadUrl, ReceiverUrl};

use figures::Figures;
use receiver::Receiver;
use teller::Teller;

/// Tasks that apps are told by. Where there are more apps, some share one.
const MAX_TASKS: usize = 64;

/// The webhooks of all apps that have some.
pub(crate) struct Webhooks {
    /// By app.
    tellers: Vec<Teller>,
    before: Arc<Before>,
    store: Arc<dyn Store>,
}

impl Webhooks {
    /// Reads what is needed to send requests; none is sent yet.
    pub(crate) fn new(
        config: &Config,
        store: &Arc<dyn Store>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, ReceiverError> {
        let (mut tellers, mut before) = (Vec::new(), Vec::new());
        for app in &config.apps {
            let Some(policy) = &app.webhook else { continue };
            let (id, figures) = (AppId::new(app.sdk_app_id), Arc::new(Figures::default()));
            let receiver = Arc::new(Receiver::new(app.sdk_app_id, policy)?);
            before.push(before::Asking::new(id, policy, Arc::clone(&receiver), Arc::clone(&figures)));
            let (store, clock) = (Arc::clone(store), Arc::clone(clock));
            tellers.push(Teller::new(id, policy.clone(), receiver, figures, store, clock));
        }
        tellers.sort_by_key(Teller::app);
        Ok(Self { tellers, before: Arc::new(Before::new(before)), store: Arc::clone(store) })
    }

    /// Who asks before something happens; `None` if nobody is ever asked.
    pub(crate) fn before(&self) -> Option<Arc<Before>> {
        self.before.asks_anybody().then(|| Arc::clone(&self.before))
    }

    /// Something happened in this conversation, and is durable.
    fn look(&self, id: &ConversationId) {
        if let Ok(place) = self.tellers.binary_search_by_key(&id.app, Teller::app) {
            self.tellers[place].look(&id.conversation);
        }
    }

    /// Tells in tasks of its own until they are stopped.
    pub(crate) fn start(self: &Arc<Self>, tasks: &Tasks) -> Result<(), TooManyTasks> {
        if self.tellers.is_empty() {
            return Ok(());
        }
        // News only wakes: what is left to tell is in the store, and is found there sooner or later without any. What
        // another process committed, that process tells, or whoever has claimed the conversation.
        let mut news = self.store.shared().map_or_else(|| self.store.news(), Shared::own_news);
        let webhooks = Arc::clone(self);
        tasks.spawn("news for webhooks", move |stop| async move {
            while let Some(told) = stop.run_until_cancelled(news.next()).await {
                for news in told.news {
                    webhooks.look(&news.conversation);
                }
            }
        })?;
        let count = self.tellers.len().min(MAX_TASKS);
        for first in 0..count {
            let webhooks = Arc::clone(self);
            tasks.spawn("webhooks", move |stop| async move {
                let tellers = webhooks.tellers.iter().skip(first).step_by(count);
                join_all(tellers.map(|teller| teller.run(&stop))).await;
            })?;
        }
        Ok(())
    }

    /// What was counted, by app.
    pub(crate) fn statistics(&self) -> Vec<WebhookStatistics> {
        let of_app = |teller: &Teller| {
            let (conversations, age) = teller.backlog();
            let figures = &teller.figures;
            let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
            WebhookStatistics {
                app: teller.app().get(),
                told: count(&figures.told),
                failed: count(&figures.failed),
                given_up: count(&figures.given_up),
                lost: count(&figures.lost),
                asked: count(&figures.asked),
                unasked: count(&figures.unasked),
                delay_seconds: std::time::Duration::from_millis(count(&figures.delay_millis)).as_secs_f64(),
                conversations: conversations as u64,
                oldest_seconds: age.as_secs(),
                failing: figures.is_failing(),
            }
        };
        self.tellers.iter().map(of_app).collect()
    }
}

#[cfg(test)]
mod tests;
