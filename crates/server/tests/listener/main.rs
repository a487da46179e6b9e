//! What a client meets below the API, over real sockets.

#![expect(clippy::unwrap_used, reason = "in a test a failure is a panic")]

mod drain;
mod ops;
mod refusals;
mod server;
mod tls;
