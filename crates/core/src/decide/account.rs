//! Accounts and the list of an account's groups.

use std::sync::Arc;

use crate::account::{Account, Membership};
use crate::command::AccountAction;
use crate::debt::Task;
use crate::decide::{Judged, Ledger, Outcome};
use crate::ids::AccountId;
use crate::refusal::Refusal;
use crate::rows::{Row, RowKey};

pub(super) fn decide(ledger: &mut Ledger<'_>, id: &AccountId, action: &AccountAction) -> Judged {
    match action {
        AccountAction::Import { tiny_id, nick, face_url } => {
            let known = ledger.rows.account(id)?;
            let mut account = known.as_deref().cloned().unwrap_or_else(|| Account {
                tiny_id: *tiny_id,
                nick: String::new(),
                face_url: String::new(),
                imported_at: ledger.now(),
            });
            if let Some(nick) = nick {
                account.nick.clone_from(nick);
            }
            if let Some(face_url) = face_url {
                account.face_url.clone_from(face_url);
            }
            if known.as_deref() != Some(&account) {
                ledger.put(RowKey::Account(id.clone()), Row::Account(Arc::new(account)));
            }
        }
        AccountAction::Delete => {
            let Some(account) = ledger.rows.account(id)? else {
                return Ok(Err(Refusal::NoSuchAccount));
            };
            ledger.remove(RowKey::Account(id.clone()));
            ledger.owe(ledger.now(), Task::Forsake(id.clone(), account.tiny_id));
        }
        AccountAction::Joined(group, incarnation, number) => {
            let known = ledger.rows.membership((id, group, *incarnation))?;
            if known.is_none_or(|known| known.since < *number) {
                ledger.put(
                    RowKey::Membership(id.clone(), group.clone(), *incarnation),
                    Row::Membership(Membership { since: *number }),
                );
            }
        }
        AccountAction::Left(group, incarnation, number) => {
            let known = ledger.rows.membership((id, group, *incarnation))?;
            if known.is_some_and(|known| known.since <= *number) {
                ledger.remove(RowKey::Membership(id.clone(), group.clone(), *incarnation));
            }
        }
    }
    Ok(Ok(Outcome::Done))
}
