//! The store for many nodes: a PostgreSQL database that all of them use at the same time.
//!
//! [`PostgresStore`] is a [`Store`](sidenote_store::Store) made of layers, from the bottom up:
//!
//! * `session`: one connection; what is sent at once is one round trip; `pool`: a bounded number of them;
//! * `home`: keys of homes and names as the database holds them; `texts`: statements that are put together; `shape`, `fetch`, `ranges`: what can be read;
//!   `changes`: what is written;
//! * `loaded`: what was read in one transaction, as a rule looks at it; `needs`: what commands and questions will look at;
//! * `transaction`: a set of commands of one home; `answers`: a question;
//! * `queue`: commands wait here for their home and are put together; `store`: the front.
//!
//! The rules run here, in the node, between two round trips. The database knows no rule: it holds rows and a lock.

mod error;
mod options;

mod session;

mod pool;

pub mod schema;

mod home;

mod texts;

mod shape;

mod fetch;
mod ranges;

mod changes;

mod loaded;
mod needs;

mod transaction;

mod answers;

mod condition;
mod queue;

mod store;

pub use error::OpenError;
pub use options::PostgresOptions;
pub use store::{PostgresStore, Recent, RoundTrips};
