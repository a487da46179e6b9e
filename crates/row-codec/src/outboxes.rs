//! What is left to tell by webhook, and what could not be told, as bytes. See [`super::rows`] for how rows are written.

use std::sync::Arc;

use minicbor::{Decode, Encode};
use sidenote_core::ids::{EventNumber, Timestamp};
use sidenote_core::outbox::{DeadLetter, Gone, LetterRequest, Outbox};
use sidenote_store::StoreError;

use super::rows::{GroupRow, bytes, optional, take};

pub(super) fn encode_outbox(outbox: &Outbox) -> Vec<u8> {
    bytes(OutboxRow::from(outbox))
}

pub(super) fn decode_outbox(bytes: &[u8]) -> Result<Outbox, StoreError> {
    take(bytes, "an outbox", OutboxRow::read)
}

pub(super) fn encode_dead_letter(letter: &DeadLetter) -> Vec<u8> {
    bytes(DeadLetterRow::from(letter))
}

pub(super) fn decode_dead_letter(bytes: &[u8]) -> Result<DeadLetter, StoreError> {
    take(bytes, "a dead letter", |row: DeadLetterRow<'_>| Some(row.read()))
}

#[derive(Encode, Decode)]
struct OutboxRow<'a> {
    #[n(0)]
    after: u64,
    #[n(1)]
    since: u64,
    #[b(2)]
    gone: Option<GoneRow<'a>>,
}

#[derive(Encode, Decode)]
struct GoneRow<'a> {
    #[b(0)]
    group: GroupRow<'a>,
    #[n(1)]
    last: u64,
}

impl<'a> From<&'a Outbox> for OutboxRow<'a> {
    fn from(it: &'a Outbox) -> Self {
        let gone = |gone: &'a Gone| GoneRow { group: GroupRow::from(&*gone.group), last: gone.last.get() };
        Self { after: it.after.get(), since: it.since.millis(), gone: it.gone.as_ref().map(gone) }
    }
}

impl OutboxRow<'_> {
    fn read(self) -> Option<Outbox> {
        let gone = optional(self.gone, |gone| {
            let last = EventNumber::new(gone.last);
            gone.group.read().map(|group| Gone { group: Arc::new(group), last })
        })?;
        let (after, since) = (EventNumber::new(self.after), Timestamp::from_millis(self.since));
        Some(Outbox { after, since, gone })
    }
}

#[derive(Encode, Decode)]
struct DeadLetterRow<'a> {
    #[n(0)]
    first: u64,
    #[n(1)]
    happened_at: u64,
    #[n(2)]
    given_up_at: u64,
    #[n(3)]
    tries: u32,
    #[b(4)]
    reason: &'a str,
    #[b(5)]
    request: Option<LetterRequestRow<'a>>,
}

#[derive(Encode, Decode)]
struct LetterRequestRow<'a> {
    #[b(0)]
    command: &'a str,
    #[b(1)]
    origin: &'a str,
    #[b(2)]
    body: &'a str,
}

impl<'a> From<&'a DeadLetter> for DeadLetterRow<'a> {
    fn from(it: &'a DeadLetter) -> Self {
        let request = |it: &'a LetterRequest| LetterRequestRow {
            command: &it.command,
            origin: &it.origin,
            body: &it.body,
        };
        Self {
            first: it.first.get(),
            happened_at: it.happened_at.millis(),
            given_up_at: it.given_up_at.millis(),
            tries: it.tries,
            reason: &it.reason,
            request: it.request.as_ref().map(request),
        }
    }
}

impl DeadLetterRow<'_> {
    fn read(self) -> DeadLetter {
        let request = |it: LetterRequestRow<'_>| LetterRequest {
            command: it.command.to_owned(),
            origin: it.origin.to_owned(),
            body: it.body.to_owned(),
        };
        DeadLetter {
            first: EventNumber::new(self.first),
            happened_at: Timestamp::from_millis(self.happened_at),
            given_up_at: Timestamp::from_millis(self.given_up_at),
            tries: self.tries,
            reason: self.reason.to_owned(),
            request: self.request.map(request),
        }
    }
}
