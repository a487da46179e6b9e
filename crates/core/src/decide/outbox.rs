//! What was told by webhook: moving on, giving up, forgetting.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::command::OutboxAction;
use crate::decide::{Judged, Ledger, Outcome};
use crate::ids::{ConversationId, EventNumber, Incarnation};
use crate::outbox::{DeadLetter, Outbox};
use crate::rows::{Missing, Range, Row, RowKey, Span};

/// How far one commit moves on at most, because it removes what was kept only for being told.
const MOST_SETTLED: u64 = 1024;

pub(super) fn decide(
    ledger: &mut Ledger<'_>,
    id: &ConversationId,
    incarnation: Incarnation,
    action: &OutboxAction,
) -> Judged {
    match action {
        OutboxAction::Settle { through, dead } => settle(ledger, id, incarnation, *through, dead),
        OutboxAction::Discard(number) => {
            ledger.remove(RowKey::DeadLetter(id.clone(), incarnation, *number));
            Ok(Ok(Outcome::Done))
        }
    }
}

fn settle(
    ledger: &mut Ledger<'_>,
    id: &ConversationId,
    incarnation: Incarnation,
    through: EventNumber,
    dead: &[(EventNumber, DeadLetter)],
) -> Judged {
    let dropped = bury(ledger, id, incarnation, dead)?;
    let Some(outbox) = ledger.rows.outbox((id, incarnation))? else {
        return Ok(Ok(Outcome::Settled { after: through, empty: true, dropped }));
    };
    // A number may come twice, but never leads back.
    let furthest = EventNumber::new(outbox.after.get().saturating_add(MOST_SETTLED));
    let after = outbox.after.max(through.min(furthest));
    let last = match &outbox.gone {
        Some(gone) => Some(gone.last),
        None => ledger.rows.counters(incarnation)?.map(|counters| counters.last_event),
    };
    release(ledger, incarnation, outbox.after, after, last);
    let key = RowKey::Outbox(id.clone(), incarnation);
    let empty = last.is_none_or(|last| after >= last);
    if empty {
        ledger.remove(key);
    } else if after > outbox.after {
        ledger.put(key, Row::Outbox(Outbox { after, ..outbox }));
    }
    Ok(Ok(Outcome::Settled { after, empty, dropped }))
}

/// Removes events that were kept longer than others only because they were not told yet.
fn release(
    ledger: &mut Ledger<'_>,
    incarnation: Incarnation,
    before: EventNumber,
    after: EventNumber,
    last: Option<EventNumber>,
) {
    let Some(last) = last else { return };
    let end = after.get().min(last.get().saturating_sub(ledger.limits.events_kept));
    for number in before.get().saturating_add(1)..=end {
        ledger.remove(RowKey::Event(incarnation, EventNumber::new(number)));
    }
}

/// Keeps what was given up, and lets go of the oldest where there are too many. Says how many of those there were.
fn bury(
    ledger: &mut Ledger<'_>,
    id: &ConversationId,
    incarnation: Incarnation,
    dead: &[(EventNumber, DeadLetter)],
) -> Result<usize, Missing> {
    if dead.is_empty() {
        return Ok(0);
    }
    let span = Span::DeadLettersOf(id.clone(), incarnation);
    let kept = ledger.rows.0.range(&Range { span, after: None, limit: usize::MAX })?;
    let key = |number: &EventNumber| RowKey::DeadLetter(id.clone(), incarnation, *number);
    let mut keys: BTreeSet<_> = kept.into_iter().map(|(key, _)| key).collect();
    for (number, letter) in dead {
        keys.insert(key(number));
        ledger.put(key(number), Row::DeadLetter(Arc::new(letter.clone())));
    }
    let too_many = keys.len().saturating_sub(ledger.limits.dead_letters_kept.max(1));
    for key in keys.into_iter().take(too_many) {
        ledger.remove(key);
    }
    Ok(too_many)
}
