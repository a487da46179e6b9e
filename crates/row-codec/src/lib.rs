//! How keys and rows are written as bytes.
//!
//! A key's bytes sort exactly as the [`RowKey`](sidenote_core::rows::RowKey)s themselves do, so that every
//! [`Span`](sidenote_core::rows::Span) is one stretch of bytes and rows read from disk can be merged with rows
//! still in memory without sorting anything again. A key fixes the kind of its row, so a row carries no tag of
//! its own kind. Its fields are numbered (CBOR, RFC 8949): a later release may add fields, and must go on reading
//! files without them. What may never change is written down in `tests/old_formats.rs`.

mod direct;
mod events;
mod keys;
mod outboxes;
mod rows;
mod walk;

use sidenote_store::StoreError;

pub use keys::{decode_key, encode_key, span_bounds};
pub use rows::{decode_row, encode_row};
pub use walk::{Stretch, WALK, WalkPosition};

/// What a failed decoding says: which kind of row, and what was wrong with its bytes.
fn unreadable(kind: &str, what: impl std::fmt::Display) -> StoreError {
    StoreError::Unreadable { reason: format!("{kind}: {what}") }
}
