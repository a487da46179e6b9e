//! Tests through the front door: the real binary, real sockets, real files.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

use sidenote_torture::{caller, server};

mod chromium;
mod cli;
mod demo;
mod deploy;
mod protocol;
mod serve;
mod stock_client;
mod stream;

mod backup;
mod capacity;
mod codes;
mod concurrency;
mod crash;
mod hostile;
mod killed;
mod linear;
mod long_connection;
mod memory;
mod postgres;
mod webhooks;
