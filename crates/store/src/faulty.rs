//! A store that fails when it is told to, around any other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use sidenote_core::command::Command;

use crate::decorator::Decorator;
use crate::{Committed, Store, StoreError};

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
impl Decorator for FaultyStore {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    async fn commit(&self, command: Command) -> Result<Committed, StoreError> {
        let failed = || StoreError::Busy { reason: "the schedule says so".to_owned() };
        match self.next() {
            Fault::None => self.inner.commit(command).await,
            Fault::Before => Err(failed()),
            Fault::After => self.inner.commit(command).await.and_then(|_| Err(failed())),
        }
    }
}
