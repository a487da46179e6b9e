//! What webhooks count, and what of it is worth a line in the log.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::webhooks::receiver::Failure;

/// Failures one after the other, of whichever conversations, that make a receiver one that does not answer.
const FAILURES_IN_A_ROW: u32 = 3;

/// How often it is told at most that events were given up.
const COMPLAINT_PAUSE: Duration = Duration::from_mins(1);

/// Counters of one app, from the start of the process, and how its receiver is.
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
    /// Changed only under the lock of the state, so that the two agree.
    in_a_row: AtomicU32,
    state: Mutex<State>,
    recovered: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// When the first of the failures in a row was.
    first_failure: Option<Instant>,
    /// The same, once there were so many of them that the receiver counts as one that does not answer.
    failing_since: Option<Instant>,
    /// When the last time began in which it did not answer, if that is over and nobody has heard of it yet.
    was_failing_since: Option<Instant>,
    complained: Option<Instant>,
    untold: u64,
}

impl Figures {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the receiver answers nobody at present.
    pub(super) fn is_failing(&self) -> bool {
        self.in_a_row.load(Ordering::Relaxed) >= FAILURES_IN_A_ROW
    }

    /// The receiver answered, whatever it was sent: an event or a question.
    pub(super) fn answered(&self, app: u32) {
        if self.in_a_row.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut state = self.state();
        self.in_a_row.store(0, Ordering::Relaxed);
        state.first_failure = None;
        if let Some(since) = state.failing_since.take() {
            state.was_failing_since = Some(since);
            self.recovered.notify_one();
            let seconds = since.elapsed().as_secs();
            tracing::info!(app, seconds, "the webhook's receiver answers again");
        }
    }

    /// The receiver did not answer as it should.
    pub(super) fn failed(&self, app: u32, failure: &Failure) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        let since = *state.first_failure.get_or_insert_with(Instant::now);
        let in_a_row = self.in_a_row.load(Ordering::Relaxed).saturating_add(1);
        self.in_a_row.store(in_a_row, Ordering::Relaxed);
        if in_a_row == FAILURES_IN_A_ROW {
            state.failing_since = Some(since);
            tracing::warn!(app, %failure, "the webhook's receiver does not answer; it is tried again and again");
        }
    }

    /// Waits until the receiver answers again after a time in which it answered nobody, and gives the start of that
    /// time. Each such time is told once, to one who waits.
    pub(super) async fn recovery(&self) -> Instant {
        loop {
            let since = self.state().was_failing_since.take();
            if let Some(since) = since {
                return since;
            }
            self.recovered.notified().await;
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
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_receiver_fails_after_three_failures_in_a_row_and_recovers_once() {
        let figures = Figures::default();
        let failure = Failure::NotJson;
        for _ in 0..2 {
            figures.failed(1, &failure);
            figures.failed(1, &failure);
            assert!(!figures.is_failing());
            figures.answered(1);
            // Nothing to recover from: others were answered all the time.
            assert_eq!(figures.recovery().now_or_never(), None);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        let first = Instant::now();
        for _ in 0..3 {
            figures.failed(1, &failure);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(figures.is_failing());
        assert_eq!(figures.recovery().now_or_never(), None);
        figures.answered(1);
        assert!(!figures.is_failing());
        assert_eq!(figures.recovery().now_or_never(), Some(first));
        figures.answered(1);
        assert_eq!(figures.recovery().now_or_never(), None);
        assert_eq!(figures.failed.load(Ordering::Relaxed), 7);
    }
}
