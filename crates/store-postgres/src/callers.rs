//! On whose behalf a command or a question comes. Accounts lie elsewhere than conversations, perhaps on another shard, so
//! each is asked for by a statement of its own that stands alone, in front of a transaction and in the same flush.

use sidenote_core::ids::TinyId;
use sidenote_core::rows::{Row, RowKey};
use sidenote_store::StoreError;
use sidenote_store::caller::Caller;
use tokio_postgres::Row as Answered;

use crate::fetch::{Fetch, Lock};
use crate::loaded::Loaded;
use crate::session::Piece;

/// Each of them once, in the order of their first coming.
pub(crate) fn distinct<'a>(callers: impl Iterator<Item = &'a Caller>) -> Vec<&'a Caller> {
    let mut seen = std::collections::HashSet::new();
    callers.filter(|caller| seen.insert(*caller)).collect()
}

/// What asks for the account.
pub(crate) fn piece(caller: &Caller) -> Piece {
    fetch(caller).piece()
}

/// The caller's number, if the account was found.
///
/// # Errors
///
/// If the row makes no sense.
pub(crate) fn found(caller: &Caller, rows: &[Answered]) -> Result<Option<TinyId>, StoreError> {
    let mut loaded = Loaded::default();
    fetch(caller).take(rows, &mut loaded)?;
    let account = match loaded.get(&RowKey::Account(caller.account.clone())) {
        Some(Row::Account(account)) => Some(account),
        _ => None,
    };
    Ok(caller.recognize(account.map(|account| &**account)))
}

fn fetch(caller: &Caller) -> Fetch {
    Fetch::Accounts(vec![caller.account.clone()], Lock::Shared)
}
