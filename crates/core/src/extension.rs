//! The extension set of a message: its keys, values, version numbers and the two counters beside them.

use std::fmt;
use std::sync::Arc;

use crate::ids::Timestamp;
use crate::{MAX_SAFE_INTEGER, Malformed};

/// A version number of an extension set or of a pair in it (rules 3.1 and 3.2).
///
/// `LatestSeq`, `ClearSeq` and the Seq of a pair all stand on this one scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(u64);

impl Seq {
    /// "There is no such pair", and the state of a set that nobody ever wrote. The wire's 0.
    pub const NEVER: Self = Self(0);

    /// The largest version.
    pub const MAX: Self = Self(MAX_SAFE_INTEGER);

    /// Takes a number; larger than 2^53 - 1 cannot be a version.
    pub const fn new(raw: u64) -> Result<Self, Malformed> {
        if raw > MAX_SAFE_INTEGER { Err(Malformed::OutOfRange) } else { Ok(Self(raw)) }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The version that follows this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An extension key: UTF-8 text, compared byte by byte. The configured limit (rule 3.7, 100 bytes by default) is
/// checked at the edge; the type holds the hard maximum.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// No configuration can allow longer keys.
    pub const MAX_BYTES: usize = 512;

    /// Checks and takes a key.
    pub fn new(raw: &str) -> Result<Self, Malformed> {
        match raw.len() {
            0 => Err(Malformed::Empty),
            bytes if bytes > Self::MAX_BYTES => Err(Malformed::TooLong { bytes, limit: Self::MAX_BYTES }),
            _ => Ok(Self(raw.into())),
        }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The value of a live pair: UTF-8 text, never empty, because an empty value means "deleted" on the wire. The
/// configured limit (rule 3.7, 1000 bytes by default) is checked at the edge; the type holds the hard maximum.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(Arc<str>);

impl Value {
    /// No configuration can allow longer values.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// Checks and takes a value.
    pub fn new(raw: &str) -> Result<Self, Malformed> {
        match raw.len() {
            0 => Err(Malformed::Empty),
            bytes if bytes > Self::MAX_BYTES => Err(Malformed::TooLong { bytes, limit: Self::MAX_BYTES }),
            _ => Ok(Self(raw.into())),
        }
    }

    /// The value as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a set remembers of one key. A key that was never written, or was dropped by a clear, has no entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A live pair.
    Live {
        /// Its value.
        value: Value,
        /// `LatestSeq` when it was last changed.
        seq: Seq,
    },
    /// A tombstone: what a deleted pair leaves (rule 3.6).
    Deleted {
        /// `LatestSeq` when it was deleted.
        seq: Seq,
    },
}

impl Entry {
    /// The version of the pair or tombstone.
    pub const fn seq(&self) -> Seq {
        match self {
            Self::Live { seq, .. } | Self::Deleted { seq } => *seq,
        }
    }

    /// The value, if the pair lives.
    pub const fn value(&self) -> Option<&Value> {
        match self {
            Self::Live { value, .. } => Some(value),
            Self::Deleted { .. } => None,
        }
    }
}

/// Everything of an extension set that is not a pair. A message that nobody ever wrote to has the default
/// (rule 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtensionState {
    /// Version of the set and cursor of its readers (rule 3.2).
    pub latest: Seq,
    /// Version of the last clear (rule 3.6).
    pub clear: Seq,
    /// Live pairs, bounded by rule 3.7.
    pub live: u32,
    /// Tombstones, bounded by rule 3.7.
    pub tombstones: u32,
    /// The window of rule 3.10.
    pub attempts: Attempts,
}

/// A window of 60 seconds that counts attempts from its first one (rule 3.10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// When the first attempt of the window came.
    pub since: Timestamp,
    /// Attempts in it so far.
    pub count: u32,
}

impl Attempts {
    /// Length of the window in milliseconds.
    pub const WINDOW_MILLIS: u64 = 60_000;

    /// Counts one more attempt at `now`. `None`: the window is full, nothing changes until it is over. A clock
    /// that was set back by more than the window starts a new one, so that nobody is locked out for longer.
    #[must_use]
    pub fn one_more(self, now: Timestamp, limit: u32) -> Option<Self> {
        let over = now.millis().abs_diff(self.since.millis()) >= Self::WINDOW_MILLIS;
        if self.count == 0 || over {
            return Some(Self { since: now, count: 1 });
        }
        (self.count < limit).then_some(Self { count: self.count + 1, ..self })
    }
}

/// One pair as readers see it: an empty value is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Its key.
    pub key: Key,
    /// Its value; `None` is a tombstone.
    pub value: Option<Value>,
    /// Its version; [`Seq::NEVER`] where the key has no entry.
    pub seq: Seq,
}

impl Pair {
    /// The pair that an entry stands for; no entry: no value, [`Seq::NEVER`].
    pub fn of(key: Key, entry: Option<&Entry>) -> Self {
        Self { key, value: entry.and_then(Entry::value).cloned(), seq: entry.map_or(Seq::NEVER, Entry::seq) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_text_of_bounded_length() {
        assert_eq!(Key::new(""), Err(Malformed::Empty));
        assert!(Key::new("nul\0 is text").is_ok());
        assert!(Key::new(&"k".repeat(Key::MAX_BYTES + 1)).is_err());
        assert_eq!(Value::new(""), Err(Malformed::Empty));
        assert!(Value::new(&"v".repeat(Value::MAX_BYTES)).is_ok());
        assert!(Value::new(&"v".repeat(Value::MAX_BYTES + 1)).is_err());
    }

    #[test]
    fn rule_3_10_a_window_starts_with_its_first_attempt_and_lasts_60_seconds() {
        let at = Timestamp::from_millis;
        let mut attempts = Attempts::default();
        for n in 0..200 {
            attempts = attempts.one_more(at(1_000_000 + n), 200).expect("200 fit");
        }
        assert_eq!(attempts.one_more(at(1_000_200), 200), None);
        assert_eq!(attempts.one_more(at(1_059_999), 200), None);
        assert_eq!(attempts.one_more(at(1_060_000), 200), Some(Attempts { since: at(1_060_000), count: 1 }));
    }

    #[test]
    fn a_clock_set_back_does_not_lock_a_message_for_long() {
        let full = Attempts { since: Timestamp::from_millis(10_000_000), count: 200 };
        assert!(full.one_more(Timestamp::from_millis(5_000_000), 200).is_some());
    }
}
