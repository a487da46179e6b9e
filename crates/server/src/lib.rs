//! The server: HTTP and JSON on one side, commands and decisions on the other.

pub mod wire;
