//! The store for many nodes: a PostgreSQL database that all of them use at the same time.
//!
//! [`PostgresStore`] is a [`Store`](sidenote_store::Store) made of layers, from the bottom up:
//!
//! * `session`: one connection; what is sent at once is one round trip; `hosts`: which server to connect to; `pool`: a bounded
//!   number of connections;
//! * `home`: keys of homes and names as the database holds them; `texts`: statements that are put together; `shape`, `fetch`,
//!   `ranges`: what can be read;
//!   `changes`: what is written;
//! * `loaded`: what was read in one transaction, as a rule looks at it; `needs`: what commands and questions will look at;
//! * `callers`: on whose behalf; `transaction`: a set of commands of one home; `answers`: a question;
//! * `condition`: whether the database can be used; `probe`: what finds out;
//! * `queue`: commands wait here for their home and are put together; `store`: the front;
//! * `claims`, `members`, `logins`: what nodes agree on, which of them tells, lives, leads, and has whom logged in.
//!
//! Beside them, for whoever moves or checks everything: `walk`, all rows in one snapshot, and `load`, the way back; `bulk`
//! is what both need of a connection.
//!
//! The rules run here, in the node, between two round trips. The database knows no rule: it holds rows and a lock.

mod error;
mod options;

mod session;

mod address;
mod hosts;
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

mod callers;

mod transaction;

mod answers;

mod condition;
mod probe;

mod queue;

mod store;

mod claims;
mod logins;
mod members;

mod abandon;
mod bulk;
mod load;
mod walk;

pub use abandon::{Abandoned, abandon};
pub use bulk::{MoveError, fits};
pub use claims::Outboxes;
pub use error::OpenError;
pub use load::{Begun, Load, Loaded, Loader, home_key};
pub use logins::Departure;
pub use members::{Beat, Heart};
pub use options::PostgresOptions;
pub use store::{Looked, PostgresStore, Recent, RoundTrips};
pub use walk::{Found, Unreadable, Walk};
