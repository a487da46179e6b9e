//! Limits that the rules themselves apply. Limits on the shape of a request are the edge's business.

use crate::ids::AppId;

/// The configurable numbers of rules 3.7, 3.9 and 3.10, and of event retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Live pairs a message may hold (rule 3.7).
    pub pairs_per_message: u32,
    /// Tombstones a message may hold before it is compacted (rule 3.7).
    pub tombstones_per_message: u32,
    /// Pairs a pull answers at most (rule 3.9); also the most pairs that compaction gives one number.
    pub pairs_per_pull: usize,
    /// Attempts a minute for one message (rule 3.10); 0 switches the limit off.
    pub attempts_per_minute: u32,
    /// Whether Community groups support extensions, which the seed page denies (message-extensions.md section 1).
    pub community_extensions: bool,
    /// Events kept for one conversation.
    pub events_kept: u64,
    /// How long events are kept, in milliseconds.
    pub events_kept_millis: u64,
    /// Apps whose events are told by webhook. Only their conversations keep an outbox.
    pub webhook_apps: &'static [AppId],
    /// Events kept for one conversation as long as they are not told by webhook, if that is more.
    pub untold_events_kept: u64,
    /// Dead letters kept for one incarnation of a conversation.
    pub dead_letters_kept: usize,
}

impl Limits {
    /// Whether the events of this app are told by webhook.
    pub fn tells_by_webhook(&self, app: AppId) -> bool {
        self.webhook_apps.contains(&app)
    }

    /// How many events of a conversation are kept at most if none of them was told yet.
    pub(crate) fn most_untold(&self) -> u64 {
        self.untold_events_kept.max(self.events_kept)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pairs_per_message: 300,
            tombstones_per_message: 1000,
            pairs_per_pull: 200,
            attempts_per_minute: 200,
            community_extensions: false,
            events_kept: 10_000,
            events_kept_millis: 7 * 24 * 60 * 60 * 1000,
            webhook_apps: &[],
            untold_events_kept: 100_000,
            dead_letters_kept: 1000,
        }
    }
}
