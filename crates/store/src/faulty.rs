//! A store that fails when it is told to, around any other. Thirty lines, because the trait is narrow.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use sidenote_core::command::Command;
use sidenote_core::query::{Answer, Query};

use crate::news::Follower;
use crate::shared::Shared;
use crate::{Committed, Statistics, Store, StoreError};

/// How a commit fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does not fail.
    None,
    /// Nothing happened.
    Before,
    /// It happened, but the answer was lost.
    After,
}

/// A store whose commits fail on a schedule.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    schedule: Mutex<VecDeque<Fault>>,
}

impl FaultyStore {
    /// Wraps a store; commit number n meets the n-th fault of the schedule, and all after its end succeed.
    pub fn new(inner: Arc<dyn Store>, schedule: impl IntoIterator<Item = Fault>) -> Self {
        Self { inner, schedule: Mutex::new(schedule.into_iter().collect()) }
    }

    fn next(&self) -> Fault {
        let mut schedule = self.schedule.lock().unwrap_or_else(PoisonError::into_inner);
        schedule.pop_front().unwrap_or(Fault::None)
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn commit(&self, command: Command) -> Result<Committed, StoreError> {
        let failed = || StoreError::Busy { reason: "the schedule says so".to_owned() };
        match self.next() {
            Fault::None => self.inner.commit(command).await,
            Fault::Before => Err(failed()),
            Fault::After => self.inner.commit(command).await.and_then(|_| Err(failed())),
        }
    }

    async fn answer(&self, query: Query) -> Result<Answer, StoreError> {
        self.inner.answer(query).await
    }

    fn news(&self) -> Follower {
        self.inner.news()
    }

    fn shared(&self) -> Option<&dyn Shared> {
        self.inner.shared()
    }

    fn health(&self) -> Result<(), StoreError> {
        self.inner.health()
    }

    fn statistics(&self) -> Statistics {
        self.inner.statistics()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
