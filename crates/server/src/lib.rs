//! The server: HTTP and JSON in front, a store behind, the rules of `sidenote-core` in between.
//!
//! It is given a configuration, a store and a clock, and names no backend. See [`Server::start`].

pub mod config;

pub mod auth;
pub mod wire;

pub mod webhooks;

mod api;
mod gateway;
mod live;
mod long_connection;
mod router;
mod stream;
mod web_socket;

pub mod clock;
pub mod listener;
pub mod ops;
pub mod tasks;
pub mod telemetry;

mod server;

pub use api::commands;
pub use router::Page;
pub use server::{Drained, Server, StartError, rule_limits};
