//! What time it is. Everything that depends on the time asks a clock that it was given, so that a test can
//! say what time it is.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time in milliseconds since the beginning of 1970 (UTC). It may go backwards when the machine's
/// clock is set.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Milliseconds since the beginning of 1970.
    fn now_millis(&self) -> u64;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everything else asks")]
    fn now_millis(&self) -> u64 {
        // A machine whose clock is before 1970 is taken to be at its beginning.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug)]
pub struct TestClock(AtomicU64);

impl TestClock {
    /// A clock that stands at `millis`.
    pub fn at(millis: u64) -> Self {
        Self(AtomicU64::new(millis))
    }

    /// Sets the clock, forwards or backwards.
    pub fn set(&self, millis: u64) {
        self.0.store(millis, Ordering::SeqCst);
    }

    /// Moves the clock forwards.
    pub fn advance(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now_millis(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_clock_stands_where_it_was_put() {
        let clock = TestClock::at(1_000);
        assert_eq!((clock.now_millis(), clock.now_millis()), (1_000, 1_000));
        clock.advance(60_000);
        assert_eq!(clock.now_millis(), 61_000);
        clock.set(7);
        assert_eq!(clock.now_millis(), 7);
    }

    #[test]
    fn the_system_clock_counts_milliseconds_since_1970() {
        let now = SystemClock.now_millis();
        // From 2024 to 2100: seconds or microseconds would be far outside.
        assert!((1_704_067_200_000..4_102_444_800_000).contains(&now), "{now}");
    }
}
