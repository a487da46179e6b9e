//! What the server is told at start.

mod secret;

pub use secret::{EmptySecret, Secret};
