//! What is the PostgreSQL store's own: round trips, nodes side by side, lost connections, schemas.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking, and so may the functions it calls")]

mod proxy;
mod scene;

mod damage;
mod faults;
mod hosts;
mod nodes;
mod round_trips;
mod schemas;
mod tls;
