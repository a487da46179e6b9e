//! How often an app may call a command (rest-overview.md section 3, code 60007). Off unless configured, because
//! the server is one's own.

use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// The limits of one app: one for each command.
pub(super) struct Frequency(Option<Vec<DefaultDirectRateLimiter>>);

impl Frequency {
    /// So many calls a second of each of so many commands; `None` is without limit.
    pub(super) fn new(calls_per_second: Option<u32>, commands: usize) -> Self {
        let quota = calls_per_second.and_then(NonZeroU32::new).map(Quota::per_second);
        Self(quota.map(|quota| (0..commands).map(|_| RateLimiter::direct(quota)).collect()))
    }

    /// Counts a call of a command, by its place in the list of commands.
    pub(super) fn admits(&self, command: usize) -> bool {
        self.0.as_ref().is_none_or(|limits| limits[command].check().is_ok())
    }
}
