//! What happens while others look: events of conversations, handed to everybody who follows them.
//!
//! The [`Hub`] follows the news of the store, and reads the event log wherever news leaves a gap. So nobody is told
//! what is not durable, each reader gets the events of a conversation in their order, none twice and none left out,
//! and a reader that is too slow is cut off instead of slowing down others: it catches up from the log.

mod channel;
mod delivery;
mod follow;
mod followers;
mod hub;
mod mailbox;

pub(crate) use delivery::{Delivery, Form};
pub(crate) use follow::{Follow, Followed};
pub(crate) use hub::Hub;
pub(crate) use mailbox::{Ended, Inbox};

#[cfg(test)]
mod tests;
