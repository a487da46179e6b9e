//! On whose behalf a store is asked. That an account exists is not for the rules of a conversation to say, which lies
//! elsewhere; but a store that is far away need not be asked for it by itself.

use sidenote_core::account::Account;
use sidenote_core::command::Command;
use sidenote_core::ids::{AccountId, TinyId};
use sidenote_core::query::{Accounts, Ask, Query};

use crate::{Store, StoreError};

/// An account that has to exist when the store is asked on its behalf (rule 3.12: who does not is told so before anything
/// else).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// Its name.
    pub account: AccountId,
    /// Whoever has the name now may be somebody else: the number that the account must have; `None`: any.
    pub tiny_id: Option<TinyId>,
}

impl Caller {
    /// The caller's number, if this is what is found under its name.
    pub fn recognize(&self, found: Option<&Account>) -> Option<TinyId> {
        let found = found?.tiny_id;
        self.tiny_id.is_none_or(|expected| expected == found).then_some(found)
    }

    /// Asks a store for the caller alone; `None` if there is no such account.
    ///
    /// # Errors
    ///
    /// Those of any question.
    pub async fn find(&self, store: &(impl Store + ?Sized)) -> Result<Option<TinyId>, StoreError> {
        let answer = store.answer(Accounts { ids: vec![self.account.clone()] }.into_query()).await?;
        let found = Accounts::from_answer(answer).and_then(|accounts| accounts.into_iter().next().flatten());
        Ok(self.recognize(found.as_deref()))
    }
}

/// What is asked on behalf of a caller, and is told its number before a rule looks at it.
pub trait OnBehalf {
    /// Notes the caller's number where the rules compare it.
    fn note_caller(&mut self, tiny_id: TinyId);
}

impl OnBehalf for Command {
    fn note_caller(&mut self, tiny_id: TinyId) {
        self.operator.tiny_id = Some(tiny_id);
    }
}

impl OnBehalf for Query {
    fn note_caller(&mut self, tiny_id: TinyId) {
        if let Some(operator) = self.operator_mut() {
            operator.tiny_id = Some(tiny_id);
        }
    }
}
