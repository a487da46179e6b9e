//! Tests through the front door: the real binary, real sockets, real files.
#![expect(clippy::unwrap_used, reason = "in a test a failure is a panic, also in the functions it calls")]

mod server;

mod cli;
mod demo;
mod serve;
