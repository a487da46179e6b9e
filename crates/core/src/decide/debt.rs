//! Paying debts, a bounded part at a time.

use std::collections::BTreeSet;

use crate::debt::{Debt, Task};
use crate::decide::ledger::OutboxState;
use crate::decide::{Judged, Ledger, Outcome};
use crate::ids::{ConversationId, Incarnation, Timestamp, UserId};
use crate::rows::{Missing, Part, Range, Row, RowKey, Span};

/// Rows that one commit removes at most.
pub(crate) const ROWS_PER_PART: usize = 256;

/// How soon events are looked at again at the earliest.
const TRIM_AGAIN_MILLIS: u64 = 10 * 60 * 1000;

pub(super) fn decide(ledger: &mut Ledger<'_>, debt: &Debt, told: &[UserId]) -> Judged {
    // Somebody else was faster. Without this look every second payment would leave a second trimming behind.
    if ledger.rows.0.row(&RowKey::Debt(debt.clone()))?.is_none() {
        return Ok(Ok(Outcome::Paid { more: false }));
    }
    let rest = match &debt.task {
        // What these owe are commands to other homes; they have been carried out by whoever pays.
        Task::Announce(..) | Task::Forsake(..) => Rest::Nothing,
        Task::Reap(_, incarnation) => {
            let told: BTreeSet<_> = told.iter().collect();
            // Another payer may have removed those whom this one told, and then others come first.
            let may_go = |key: &RowKey| match key {
                RowKey::Within(_, Part::Member(user)) => told.contains(user),
                _ => true,
            };
            sweep(ledger, Span::Within(*incarnation), may_go)?
        }
        Task::Strip(_, incarnation, message) => sweep(ledger, Span::Pairs(*incarnation, *message), |_| true)?,
        Task::ForgetSend(_, incarnation, fingerprint) => {
            // The same message may have been sent again since; that send has a debt of its own.
            let sent = ledger.rows.repeat((*incarnation, *fingerprint))?;
            if sent.is_some_and(|sent| sent.forgotten_at() <= debt.due) {
                ledger.remove(RowKey::Within(*incarnation, Part::Repeat(*fingerprint)));
            }
            Rest::Nothing
        }
        Task::TrimEvents(id, incarnation) => trim(ledger, id, *incarnation)?,
    };
    // The order matters: what is owed again may be the very same debt, where it was paid before it was due.
    if rest != Rest::More {
        ledger.remove(RowKey::Debt(debt.clone()));
    }
    if let Rest::Later(due) = rest {
        ledger.owe(due, debt.task.clone());
    }
    Ok(Ok(Outcome::Paid { more: rest == Rest::More }))
}

/// What is left of a debt after a part of it was paid.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Nothing,
    /// More of the same, at once.
    More,
    /// The same again then.
    Later(Timestamp),
}

/// Removes those of the first rows of a span that may go.
fn sweep(ledger: &mut Ledger<'_>, span: Span, may_go: impl Fn(&RowKey) -> bool) -> Result<Rest, Missing> {
    let rows = ledger.rows.0.range(&Range { span, after: None, limit: ROWS_PER_PART })?;
    let mut more = rows.len() == ROWS_PER_PART;
    for (key, _) in rows {
        if may_go(&key) {
            ledger.remove(key);
        } else {
            more = true;
        }
    }
    Ok(if more { Rest::More } else { Rest::Nothing })
}

/// Removes events beyond the retention, and comes back for as long as there are any or may be.
fn trim(ledger: &mut Ledger<'_>, id: &ConversationId, incarnation: Incarnation) -> Result<Rest, Missing> {
    let lives = ledger.rows.incarnation(id)? == Some(incarnation);
    let span = Span::Events(incarnation);
    let rows = ledger.rows.0.range(&Range { span, after: None, limit: ROWS_PER_PART })?;
    let (kept_millis, kept, now) =
        (ledger.limits.events_kept_millis, ledger.limits.events_kept, ledger.now());
    let last =
        if lives { ledger.rows.counters(incarnation)?.map(|counters| counters.last_event) } else { None };
    let outbox = ledger.outbox(id, incarnation)?;
    let most_untold = ledger.limits.most_untold();
    let mut oldest_kept = None;
    let full = rows.len() == ROWS_PER_PART;
    for (key, row) in rows {
        let Row::Event(event) = row else { continue };
        let too_old = event.at.plus_millis(kept_millis) <= now;
        let too_many = last.is_some_and(|last| event.number.get().saturating_add(kept) <= last.get());
        // What is left to tell by webhook is kept longer: until it is told, or there is too much of it.
        let is_needed = match &outbox {
            OutboxState::Holds(outbox) if event.number > outbox.after => {
                last.is_none_or(|last| event.number.get().saturating_add(most_untold) > last.get())
            }
            _ => false,
        };
        if is_needed || (!too_old && !too_many) {
            oldest_kept = Some(event.at);
            break;
        }
        ledger.remove(key);
    }
    if oldest_kept.is_none() && full {
        return Ok(Rest::More);
    }
    if lives || oldest_kept.is_some() {
        // Where none is left, the next one to come will be that old at the earliest.
        let due = oldest_kept.unwrap_or(now).plus_millis(kept_millis);
        return Ok(Rest::Later(due.max(now.plus_millis(TRIM_AGAIN_MILLIS))));
    }
    Ok(Rest::Nothing)
}
