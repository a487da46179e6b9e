//! Whether the store takes writes, and why not.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use sidenote_store::StoreError;

#[derive(Default)]
pub(crate) struct Condition {
    poisoned: OnceLock<String>,
    closing: AtomicBool,
}

impl Condition {
    /// No write is taken from now on. The first reason stays, and is logged.
    pub(crate) fn poison(&self, reason: String) -> StoreError {
        let mut is_first = false;
        let reason = self.poisoned.get_or_init(|| {
            is_first = true;
            reason
        });
        let error = StoreError::Poisoned { reason: reason.clone() };
        if is_first {
            tracing::error!("{error}");
        }
        error
    }

    /// Nothing new is taken from now on.
    pub(crate) fn begin_closing(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Whether what was accepted can be written.
    pub(crate) fn writable(&self) -> Result<(), StoreError> {
        match self.poisoned.get() {
            Some(reason) => Err(StoreError::Poisoned { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Whether anything new is taken.
    pub(crate) fn open(&self) -> Result<(), StoreError> {
        if self.closing.load(Ordering::Acquire) { Err(StoreError::Closed) } else { Ok(()) }
    }
}
