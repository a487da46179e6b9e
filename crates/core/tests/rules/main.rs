//! The rules of `docs/protocol.md`, row by row. Each test names the rule that it shows.
//!
//! The tables are written in the notation of `notation.rs`: a state, a command, its answer, the state afterwards.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking, and so may the functions it calls")]

mod notation;
mod world;

mod admission;
mod compaction;
mod conversations;
mod direct;
mod events;
mod limits;
mod outboxes;
mod pulls;
mod versions;
