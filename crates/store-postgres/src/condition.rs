//! Whether the database can be reached, and why not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use sidenote_store::StoreError;

#[derive(Debug, Default)]
pub(crate) struct Condition {
    trouble: Mutex<Option<String>>,
    closing: AtomicBool,
}

impl Condition {
    /// It can't be reached. Logged when it begins.
    pub(crate) fn trouble(&self, reason: String) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.is_none() {
            tracing::error!(reason, "the database can't be used");
        }
        *trouble = Some(reason);
    }

    /// It can.
    pub(crate) fn well(&self) {
        let ended = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
        if ended.is_some() {
            tracing::info!("the database can be used again");
        }
    }

    /// Nothing new is taken from now on.
    pub(crate) fn begin_closing(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Whether anything new is taken.
    pub(crate) fn open(&self) -> Result<(), StoreError> {
        if self.closing.load(Ordering::Acquire) { Err(StoreError::Closed) } else { Ok(()) }
    }

    /// Whether commands can be carried out.
    pub(crate) fn health(&self) -> Result<(), StoreError> {
        self.open()?;
        match &*self.trouble.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(reason) => Err(StoreError::Busy { reason: format!("the database can't be used: {reason}") }),
            None => Ok(()),
        }
    }
}
