//! Tools that break a server on purpose, and judge what is left.
//!
//! Everything here speaks to the real binary through sockets. It is test code: where something is not as it must
//! be, it panics with what it saw.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

pub mod server;

pub mod broker;
pub mod cluster;
pub mod patroni;

pub mod caller;
pub mod long;
pub mod model;

pub mod disk;
mod power;

pub mod crash;
pub mod linear;
