//! What is the PostgreSQL store's own: round trips, nodes side by side, lost connections, schemas.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking, and so may the functions it calls")]

#[path = "../../../store-embedded/tests/schema/arbitrary.rs"]
mod arbitrary;
mod proxy;
mod scene;

mod claims;
mod damage;
mod faults;
mod hosts;
mod moving;
mod nodes;
mod round_trips;
mod schemas;
mod tls;
