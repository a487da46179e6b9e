//! Keys and rows as bytes: what is written is read back, byte order is key order, and damage is told.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking, and so may the functions it calls")]

mod arbitrary;
mod keys;
mod lines;
mod rows;

fn is_unreadable(error: &sidenote_store::StoreError) -> bool {
    matches!(error, sidenote_store::StoreError::Unreadable { .. })
}
