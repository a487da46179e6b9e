//! A store that says which conversations changed.

use std::sync::Arc;

use async_trait::async_trait;
use sidenote_core::command::{Action, Command};
use sidenote_core::query::{Answer, Query};
use sidenote_store::{Committed, Statistics, Store, StoreError};

use crate::webhooks::Webhooks;

/// Passes everything on, and wakes whoever tells of a conversation once a change of it is durable. A wake-up that is
/// missed costs time and loses nothing: what is left to tell is in the store.
pub(super) struct Watched {
    store: Arc<dyn Store>,
    webhooks: Arc<Webhooks>,
}

impl Watched {
    pub(super) const fn new(store: Arc<dyn Store>, webhooks: Arc<Webhooks>) -> Self {
        Self { store, webhooks }
    }
}

#[async_trait]
impl Store for Watched {
    async fn commit(&self, command: Command) -> Result<Committed, StoreError> {
        let changed = match &command.action {
            Action::Group(id, _) => Some(id.clone()),
            Action::Account(..) | Action::Pay(_) | Action::Outbox(..) => None,
        };
        let committed = self.store.commit(command).await;
        if let Some(id) = changed
            // After an error the change may have happened all the same.
            && committed.as_ref().map_or(true, |committed| committed.verdict.is_ok())
        {
            self.webhooks.look(&id);
        }
        committed
    }

    async fn answer(&self, query: Query) -> Result<Answer, StoreError> {
        self.store.answer(query).await
    }

    fn health(&self) -> Result<(), StoreError> {
        self.store.health()
    }

    fn statistics(&self) -> Statistics {
        self.store.statistics()
    }

    async fn close(&self) {
        self.store.close().await;
    }
}
