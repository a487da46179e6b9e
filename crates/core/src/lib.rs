//! What a message extension is, and the rules it keeps.
//!
//! A chat message can carry an *extension set*: key-value pairs that many members of its group change at once. A
//! poll is a message whose pairs are the votes; a sign-up is a message whose pairs are the names. Each pair has a
//! version, its Seq, and the set has one too, its LatestSeq. A member who changes a pair says which version it
//! saw last; if somebody was faster the change is refused and the answer carries what is there now. So a writer
//! that saw an older version can never win, and nobody has to lock anything.
//!
//! This crate holds the types that cannot hold nonsense and the rules, numbered as in `docs/protocol.md`:
//!
//! * [`decide()`] judges a [`Command`](command::Command) against the [`Rows`](rows::Rows) of one instant and says
//!   what is to be written and answered;
//! * [`answer`](query::answer) answers a [`Query`](query::Query) from the rows of one instant.
//!
//! Both are pure. There is no input or output here, no clock, no randomness, no JSON and no async; whoever calls
//! brings the rows, the time and the random numbers. What they need and do not find they name, and are run again.

mod malformed;

pub mod ids;

pub mod extension;
pub mod pairs;

pub mod account;
pub mod direct;
pub mod group;
pub mod message;

pub mod command;
pub mod debt;
pub mod event;
pub mod limits;
pub mod outbox;
pub mod refusal;
pub mod rows;

pub mod decide;
pub mod query;

pub use decide::{Decision, Outcome, decide};
pub use ids::MAX_SAFE_INTEGER;
pub use limits::Limits;
pub use malformed::Malformed;
pub use refusal::Refusal;
