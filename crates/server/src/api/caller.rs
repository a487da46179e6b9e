//! Who calls, as far as the store has to say whether there is such an account.

use std::sync::atomic::{AtomicBool, Ordering};

use sidenote_core::ids::TinyId;
use sidenote_store::Store;
use sidenote_store::caller::Caller;

use crate::api::Fault;
use crate::wire::error_code::ErrorCode;

/// A caller that is yet to be looked up. That is done along with the first thing that the store is asked, which costs it
/// no round trip; or by itself where something comes before that.
#[derive(Debug)]
pub(crate) struct Pending {
    caller: Caller,
    is_looked_up: AtomicBool,
}

impl Pending {
    pub(crate) const fn new(caller: Caller) -> Self {
        Self { caller, is_looked_up: AtomicBool::new(false) }
    }

    /// The caller, for whoever looks it up now; `None` if somebody has before.
    pub(super) fn take(&self) -> Option<&Caller> {
        let was_looked_up = self.is_looked_up.swap(true, Ordering::Relaxed);
        (!was_looked_up).then_some(&self.caller)
    }

    /// Looks it up by itself unless that was done; its number if it was done now.
    ///
    /// # Errors
    ///
    /// 70107 if there is no such account (rule 3.12).
    pub(crate) async fn look_up(&self, store: &dyn Store) -> Result<Option<TinyId>, Fault> {
        let Some(caller) = self.take() else { return Ok(None) };
        let found = caller.find(store).await?;
        found.map(Some).ok_or(Fault::Plain(ErrorCode::CallerUnknown))
    }
}
