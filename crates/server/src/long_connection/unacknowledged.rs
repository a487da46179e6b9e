//! Pushes that a client was sent and has not acknowledged.
//!
//! The sheet leaves open how often a push is sent again. Here: a client reads what comes over one connection in order, so
//! an acknowledgement stands for all pushes before it too. While the oldest one waits longer than [`PATIENCE`], all that
//! are still open are sent again, in order, so that a client which takes every one of them as news still ends with the
//! newest state; a push that was sent again [`ROUNDS`] times is given up. So are the oldest when too many are open. Nothing
//! is lost by that: whoever missed a push learns of it by pulling.

use std::collections::VecDeque;
use std::time::Duration;

use axum::body::Bytes;
use tokio::time::Instant;

/// How long an acknowledgement may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How often a push is sent again.
pub(super) const ROUNDS: u32 = 3;

/// Most pushes that are kept for one connection.
const MAX_COUNT: usize = 64;

/// Most bytes of pushes that are kept for one connection. The bytes are shared by all connections that got the push.
const MAX_BYTES: usize = 256 * 1024;

/// Which push: an incarnation of a conversation, and an event of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PushName {
    pub(super) incarnation: u64,
    pub(super) event: u64,
}

impl PushName {
    /// As `SessionData`.
    pub(super) fn text(self) -> String {
        format!("{:x}-{:x}", self.incarnation, self.event)
    }

    /// The push that this `SessionData` names; `None` if it was never ours.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (incarnation, event) = text.split_once('-')?;
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        Some(Self { incarnation: number(incarnation)?, event: number(event)? })
    }
}

/// The open pushes of one connection.
#[derive(Debug, Default)]
pub(super) struct Unacknowledged {
    open: VecDeque<Open>,
    bytes: usize,
    /// When they are sent again.
    again: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    name: PushName,
    message: Bytes,
    /// How often it was sent again. Never more often than those before it.
    rounds: u32,
}

impl Unacknowledged {
    /// A push is about to be sent.
    pub(super) fn sent(&mut self, name: PushName, message: Bytes, now: Instant) {
        self.bytes += message.len();
        self.open.push_back(Open { name, message, rounds: 0 });
        while self.open.len() > MAX_COUNT || self.bytes > MAX_BYTES {
            self.give_up_oldest();
        }
        if self.open.is_empty() {
            self.again = None;
        } else if self.again.is_none() {
            self.again = Some(now + PATIENCE);
        }
    }

    /// The client has acknowledged a push. One that is not open is no matter.
    pub(super) fn acknowledged(&mut self, name: PushName, now: Instant) {
        let Some(place) = self.open.iter().position(|open| open.name == name) else { return };
        for _ in 0..=place {
            self.give_up_oldest();
        }
        self.wait(now);
    }

    fn give_up_oldest(&mut self) {
        if let Some(oldest) = self.open.pop_front() {
            self.bytes -= oldest.message.len();
        }
    }

    /// Gives the acknowledgement of what is open time from now on.
    fn wait(&mut self, now: Instant) {
        if self.open.is_empty() {
            // An idle connection keeps no room for pushes.
            *self = Self::default();
        } else {
            self.again = Some(now + PATIENCE);
        }
    }

    /// When to look at [`Self::due`] next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.again
    }

    /// What has to be sent again now, in order.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Bytes> {
        if self.again.is_none_or(|at| at > now) {
            return Vec::new();
        }
        while self.open.front().is_some_and(|oldest| oldest.rounds >= ROUNDS) {
            self.give_up_oldest();
        }
        self.wait(now);
        let again = self.open.iter_mut().map(|open| {
            open.rounds += 1;
            open.message.clone()
        });
        again.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(event: u64) -> PushName {
        PushName { incarnation: 0xabc, event }
    }

    fn message(event: u64) -> Bytes {
        format!("push {event}").into()
    }

    /// Pushes with these numbers, sent at once.
    fn sent(events: std::ops::RangeInclusive<u64>, now: Instant) -> Unacknowledged {
        let mut open = Unacknowledged::default();
        for event in events {
            open.sent(name(event), message(event), now);
        }
        open
    }

    #[tokio::test(start_paused = true)]
    async fn an_acknowledgement_stands_for_all_pushes_before_it() {
        let now = Instant::now();
        let mut open = sent(1..=3, now);
        open.acknowledged(name(2), now);
        assert_eq!(open.due(now + PATIENCE), [message(3)]);
        open.acknowledged(name(3), now + PATIENCE);
        assert_eq!((open.deadline(), open.bytes, open.open.capacity()), (None, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn open_pushes_are_sent_again_in_order_until_they_are_given_up() {
        let mut now = Instant::now();
        let mut open = sent(1..=2, now);
        for _ in 0..ROUNDS {
            assert!(open.due(now).is_empty());
            now += PATIENCE;
            assert_eq!(open.deadline(), Some(now));
            assert_eq!(open.due(now), [message(1), message(2)]);
        }
        now += PATIENCE;
        assert!(open.due(now).is_empty());
        assert_eq!(open.deadline(), None);
    }

    /// A client that is slow to acknowledge must not find that younger pushes were given up with the first ones.
    #[tokio::test(start_paused = true)]
    async fn every_push_has_rounds_of_its_own() {
        let mut now = Instant::now();
        let mut open = sent(1..=1, now);
        for _ in 0..ROUNDS {
            now += PATIENCE;
            assert_eq!(open.due(now), [message(1)]);
        }
        open.sent(name(2), message(2), now);
        for _ in 0..ROUNDS {
            now += PATIENCE;
            assert_eq!(open.due(now), [message(2)]);
        }
        assert!(open.due(now + PATIENCE).is_empty());
        assert_eq!((open.deadline(), open.bytes), (None, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_acknowledgement_gives_the_others_time_and_an_unknown_one_does_not() {
        let now = Instant::now();
        let mut open = sent(1..=2, now);
        let later = now + Duration::from_secs(3);
        open.acknowledged(name(7), later);
        assert_eq!(open.deadline(), Some(now + PATIENCE));
        open.acknowledged(name(1), later);
        assert_eq!(open.deadline(), Some(later + PATIENCE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_acknowledges_costs_bounded_memory() {
        let now = Instant::now();
        let mut open = sent(1..=1000, now);
        assert_eq!(open.open.len(), MAX_COUNT);
        assert_eq!(open.due(now + PATIENCE).first(), Some(&message(1000 - MAX_COUNT as u64 + 1)));
        open.sent(name(1001), vec![b'x'; MAX_BYTES].into(), now);
        assert_eq!((open.open.len(), open.bytes), (1, MAX_BYTES));
        open.sent(name(1002), vec![b'x'; MAX_BYTES + 1].into(), now);
        assert_eq!((open.open.len(), open.bytes, open.deadline()), (0, 0, None));
    }

    #[test]
    fn a_push_is_named_by_text_that_leads_back_to_it() {
        for push in [name(1), PushName { incarnation: u64::MAX, event: 0 }] {
            assert_eq!(PushName::read(&push.text()), Some(push));
        }
        for text in ["", "-", "1", "1-", "-1", "g-1", "1-1-1", "10000000000000000-1"] {
            assert_eq!(PushName::read(text), None, "{text}");
        }
    }
}
