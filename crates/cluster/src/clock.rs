//! When messages were sent, and which of them are too old to be pushed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sidenote_core::ids::Timestamp;
use sidenote_store_postgres::Recent;

/// A message that was sent longer ago was held up, by a broker or a connection that hung, and what it tells was found
/// meanwhile. It is less than the memory of what was told holds by as much as the clocks of two nodes may differ: what is
/// younger is told once because it is remembered.
const LATE: Duration = Duration::from_secs(45);

/// What time it is by the clock of this machine.
#[expect(clippy::disallowed_methods, reason = "the one place of this crate that reads a clock")]
pub(crate) fn now() -> Timestamp {
    // A machine whose clock is before 1970 is taken to be at its beginning.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(millis(since))
}

/// Whether a message is too old to be pushed by a node that began then. One that does not say when it was sent is not, nor
/// one that comes from a clock that is ahead.
pub(crate) fn is_late(sent: Option<Timestamp>, now: Timestamp, began: Timestamp) -> bool {
    let Some(sent) = sent else { return false };
    let too_old = now.millis().saturating_sub(millis(LATE));
    // What was there before a node began is old for all who follow, and the node remembers so much of it.
    let before = began.millis().saturating_sub(millis(Recent::MOMENT.duration()));
    sent.millis() < too_old.max(before)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_up_is_late_whichever_of_two_clocks_is_ahead_a_little() {
        let at = |seconds: u64| Timestamp::from_secs(1_700_000_000 + seconds);
        let late = |sent, now, began| is_late(Some(at(sent)), at(now), at(began));
        assert!(!late(100, 145, 0) && late(99, 145, 0));
        // By a clock that is ahead of this one.
        assert!(!late(160, 100, 0) && !is_late(Some(Timestamp::from_millis(u64::MAX)), at(0), at(0)));
        // Sent before this node was there.
        assert!(!late(85, 101, 100) && late(84, 101, 100));
        assert!(!is_late(None, at(1000), at(0)));
        assert!(is_late(Some(Timestamp::from_millis(0)), at(1000), at(0)));
        assert!(!is_late(
            Some(Timestamp::from_millis(0)),
            Timestamp::from_millis(7),
            Timestamp::from_millis(3)
        ));
        assert!(now() > at(0));
        assert!(LATE + Recent::MOMENT.duration() <= crate::watcher::MEMORY);
    }
}
