//! A load that waits for those who are told of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Lets requests pass as long as their pushes are not too far behind. A server may cut off who is told faster than it
/// listens; with a gate a closed loop finds the highest rate at which everybody still hears everything.
pub(crate) struct Gate {
    /// Pushes that one request leads to.
    pushes: u64,
    /// Requests that may have passed and not been heard of by all.
    ahead: u64,
    passed: AtomicU64,
    /// Pushes that were heard, and how many there were before.
    heard: Arc<AtomicU64>,
    before: u64,
}

impl Gate {
    /// Each request leads to `pushes` pushes, which whoever hears them counts in `heard`.
    pub(crate) fn new(pushes: u64, ahead: u64, heard: Arc<AtomicU64>) -> Self {
        let before = heard.load(Ordering::Acquire);
        Self { pushes: pushes.max(1), ahead, passed: AtomicU64::new(0), heard, before }
    }

    /// Whether one more request may be sent; if so, it counts as sent.
    pub(crate) fn pass(&self) -> bool {
        let heard = self.heard.load(Ordering::Acquire).saturating_sub(self.before) / self.pushes;
        let may = |passed: u64| (passed < heard + self.ahead).then_some(passed + 1);
        self.passed.fetch_update(Ordering::AcqRel, Ordering::Acquire, may).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_pass_until_those_before_them_were_heard() {
        let heard = Arc::new(AtomicU64::new(7));
        let gate = Gate::new(10, 2, Arc::clone(&heard));
        assert_eq!([gate.pass(), gate.pass(), gate.pass()], [true, true, false]);
        heard.fetch_add(9, Ordering::Release);
        assert!(!gate.pass());
        heard.fetch_add(1, Ordering::Release);
        assert_eq!([gate.pass(), gate.pass()], [true, false]);
    }
}
