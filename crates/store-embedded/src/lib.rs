//! The embedded store: one folder on a local disk, owned by one process.
//!
//! [`EmbeddedStore`] is a [`Store`](sidenote_store::Store) made of layers, from the bottom up:
//!
//! * [`engine`]: atomic durable batches of bytes, and snapshots of them;
//! * [`schema`]: keys and rows as bytes, a crate of its own that other backends use too;
//! * `cache`: rows in memory, shared by all;
//! * `views` and `desk`: what a rule looks at, away from the writer and at it;
//! * `readers`: threads that read files;
//! * `writer`: the thread that decides and commits;
//! * `store`: admission, answers from memory, opening and closing;
//! * [`backup`]: all rows at once, out of a folder and into one.
//!
//! **Nobody is answered, and nobody can read, before it is durable.** The writer never reads a file, and readers
//! never wait for the writer. Every queue has a limit.

pub mod engine;

/// Keys and rows as bytes, in the form that every backend shares.
pub use sidenote_row_codec as schema;

mod inner_engine;

mod cache;
mod weight;

mod desk;
mod views;

mod answers;
mod condition;
mod readers;
mod writer;

mod store;

pub mod backup;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use engine::OpenError;
pub use store::{EmbeddedStore, Settings};
