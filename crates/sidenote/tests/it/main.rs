//! Tests through the front door: the real binary, real sockets, real files.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

mod caller;
mod server;

mod cli;
mod demo;
mod protocol;
mod serve;

mod capacity;
mod codes;
mod concurrency;
mod crash;
mod hostile;
