//! The embedded store: one folder on a local disk, owned by one process.
//!
//! [`engine`] is its lowest layer: atomic durable batches of bytes, and snapshots of them.

pub mod engine;
