//! Bare server.
fn main() {}
