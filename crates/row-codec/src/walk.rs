//! The order in which all rows of a store are walked, by the bytes of their keys: that of
//! [`Position`](sidenote_store::audit::Position). It is defined for any bytes, so that a damaged key has a place too.

use super::keys::{DEBT, EVENT, WITHIN};

/// A part of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stretch {
    /// Keys from this kind up to, not including, that one; `None`: to the end.
    Kinds(u8, Option<u8>),
    /// Two kinds whose keys go on with the number of an incarnation, merged by it, the first before the second.
    Merged(u8, u8),
}

/// A walk, part after part. Together they hold every key that begins with 1 or more.
pub const WALK: [Stretch; 4] = [
    Stretch::Kinds(DEBT, Some(DEBT + 1)),
    Stretch::Kinds(1, Some(WITHIN)),
    Stretch::Merged(EVENT, WITHIN),
    Stretch::Kinds(DEBT + 1, None),
];

/// Where the row under a key stands in a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WalkPosition<'a>(u8, &'a [u8], u8, &'a [u8]);

impl<'a> WalkPosition<'a> {
    /// The place of the row under these bytes.
    pub fn of(key: &'a [u8]) -> Self {
        match key.first() {
            Some(&DEBT) => Self(0, &[], 0, key),
            Some(&EVENT) => Self(2, Self::incarnation(key), 0, key),
            Some(&WITHIN) => Self(2, Self::incarnation(key), 1, key),
            Some(kind) if *kind > DEBT => Self(3, &[], 0, key),
            _ => Self(1, &[], 0, key),
        }
    }

    /// The incarnation's bytes in a key that holds one; fewer than 8 in a damaged key.
    pub fn incarnation(key: &'a [u8]) -> &'a [u8] {
        &key[1.min(key.len())..9.min(key.len())]
    }
}
