//! The store through its trait.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking, and so may the functions it calls")]

mod scene;

mod agreement;
mod behaviour;
mod concurrency;
mod corruptions;
mod direct;
mod whole;
