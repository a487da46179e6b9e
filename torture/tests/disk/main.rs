//! The real server on a disk that loses power, that is full, and that breaks.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod bench;
mod faults;
mod model;
mod order;
mod power;
