//! Tests through the front door: the real binary, real sockets, real files.
#![expect(clippy::unwrap_used, reason = "in a test a failure is a panic, also in the functions it calls")]

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

mod server;

mod cli;
mod demo;
mod protocol;
mod serve;
