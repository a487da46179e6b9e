//! How nodes that share a database learn at once what others have committed.
//!
//! The tables are the truth. What nodes tell each other through NATS is a hint: it may be late, come twice or not at all.
//! So every node also looks into the tables, rarely while the broker is there and often while it is not. Both ways end in
//! the news of the store, which tells each event once ([`Newsroom::remembering`](sidenote_store::news::Newsroom)).
//!
//! * `message` is what is told, `subject` where;
//! * `broker` is the connection to NATS, `clock` says what comes too late, `teller` publishes what this node has committed, `listener` takes what others
//!   have, `watcher` looks;
//! * `membership` is what nodes agree on: which of them live, who does the background work, who tells which conversation,
//!   who is logged in where;
//! * `node` is the [`Store`](sidenote_store::Store) that does all of this around a
//!   [`PostgresStore`](sidenote_store_postgres::PostgresStore).

pub mod message;
mod subject;

mod broker;
mod clock;
mod figures;

mod listener;
mod membership;
mod teller;
mod watcher;

mod node;

pub use broker::BadAddress;
pub use node::{ClusterOptions, Node};
