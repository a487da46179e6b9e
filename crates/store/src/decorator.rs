//! A store around another one, for whoever wants one thing to be different.

use std::sync::Weak;

use async_trait::async_trait;
use sidenote_core::command::Command;
use sidenote_core::query::{Answer, Query};

use crate::audience::Audience;
use crate::news::Follower;
use crate::shared::Shared;
use crate::{Committed, Statistics, Store, StoreError};

/// Passes everything on to the store inside, but for what is written anew. Whoever does this is a [`Store`]. What comes on
/// behalf of a caller is a question for the account and then [`commit`](Self::commit) or [`answer`](Self::answer).
#[async_trait]
pub trait Decorator: Send + Sync {
    /// The store inside.
    fn inner(&self) -> &dyn Store;

    /// See [`Store::commit`].
    async fn commit(&self, command: Command) -> Result<Committed, StoreError> {
        self.inner().commit(command).await
    }

    /// See [`Store::answer`].
    async fn answer(&self, query: Query) -> Result<Answer, StoreError> {
        self.inner().answer(query).await
    }

    /// See [`Store::news`].
    fn news(&self) -> Follower {
        self.inner().news()
    }

    /// See [`Store::attend`].
    fn attend(&self, audience: Weak<dyn Audience>) {
        self.inner().attend(audience);
    }

    /// See [`Store::shared`].
    fn shared(&self) -> Option<&dyn Shared> {
        self.inner().shared()
    }
}

#[async_trait]
impl<D: Decorator> Store for D {
    async fn commit(&self, command: Command) -> Result<Committed, StoreError> {
        Decorator::commit(self, command).await
    }

    async fn answer(&self, query: Query) -> Result<Answer, StoreError> {
        Decorator::answer(self, query).await
    }

    fn news(&self) -> Follower {
        Decorator::news(self)
    }

    fn attend(&self, audience: Weak<dyn Audience>) {
        Decorator::attend(self, audience);
    }

    fn shared(&self) -> Option<&dyn Shared> {
        Decorator::shared(self)
    }

    fn health(&self) -> Result<(), StoreError> {
        self.inner().health()
    }

    fn statistics(&self) -> Statistics {
        self.inner().statistics()
    }

    async fn close(&self) {
        self.inner().close().await;
    }
}
