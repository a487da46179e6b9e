//! What webhooks count, and what of it is worth a line in the log.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::webhooks::receiver::Failure;

/// Failures one after the other, of whichever conversations, that make a receiver one that does not answer.
const FAILURES_IN_A_ROW: u32 = 3;

/// How often it is told at most that events were given up.
const COMPLAINT_PAUSE: Duration = Duration::from_mins(1);

/// Counters of one app, from the start of the process.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) told: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) given_up: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) asked: AtomicU64,
    pub(super) unasked: AtomicU64,
    /// From the event to the receiver's answer, in milliseconds, all added up.
    pub(super) delay_millis: AtomicU64,
    in_a_row: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failing_since: Option<Instant>,
    complained: Option<Instant>,
    untold: u64,
}

impl Figures {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the receiver did not answer lately.
    pub(super) fn is_failing(&self) -> bool {
        self.in_a_row.load(Ordering::Relaxed) >= FAILURES_IN_A_ROW
    }

    /// The receiver answered. True if it had not for a while.
    pub(super) fn answered(&self, app: u32) -> bool {
        if self.in_a_row.swap(0, Ordering::Relaxed) == 0 {
            return false;
        }
        if let Some(since) = self.state().failing_since.take() {
            let seconds = since.elapsed().as_secs();
            tracing::info!(app, seconds, "the webhook's receiver answers again");
        }
        true
    }

    /// The receiver did not answer as it should.
    pub(super) fn failed(&self, app: u32, failure: &Failure) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        if self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1 == FAILURES_IN_A_ROW {
            self.state().failing_since.get_or_insert_with(Instant::now);
            tracing::warn!(app, %failure, "the webhook's receiver does not answer; it is tried again and again");
        }
    }

    /// So many events were given up, and so many earlier ones forgotten for it.
    pub(super) fn gave_up(&self, app: u32, events: u64, dropped: usize) {
        self.given_up.fetch_add(events, Ordering::Relaxed);
        self.lost.fetch_add(dropped as u64, Ordering::Relaxed);
        let mut state = self.state();
        state.untold += events;
        if state.complained.is_none_or(|at| at.elapsed() >= COMPLAINT_PAUSE) {
            state.complained = Some(Instant::now());
            let events = std::mem::take(&mut state.untold);
            tracing::warn!(app, events, "events could not be told by webhook; see `sidenote webhooks list`");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_receiver_fails_after_three_failures_in_a_row() {
        let figures = Figures::default();
        let failure = Failure::NotJson;
        for _ in 0..2 {
            figures.failed(1, &failure);
            figures.failed(1, &failure);
            assert!(!figures.is_failing());
            assert!(figures.answered(1) && !figures.answered(1));
        }
        for _ in 0..3 {
            figures.failed(1, &failure);
        }
        assert!(figures.is_failing() && figures.answered(1) && !figures.is_failing());
        assert_eq!(figures.failed.load(Ordering::Relaxed), 7);
    }
}
