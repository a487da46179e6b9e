//! The server: HTTP and JSON in front, a store behind, the rules of `sidenote-core` in between.

pub mod auth;
pub mod config;
pub mod wire;

pub mod listener;
pub mod ops;

pub mod clock;
pub mod tasks;
pub mod telemetry;
