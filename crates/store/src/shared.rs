//! What processes that share a store have to agree on beyond its rows: who tells a conversation by webhook, who does the
//! background work, and who is logged in where. A store that one process owns has none of it.
//!
//! Whoever [joined](Shared::join) says again and again that it lives. Whoever does not for the time of a lease counts as
//! dead, and others take over what it had, whether it is dead or only slow. So everything that is claimed here ends by
//! itself, and what it guards does no harm when it is done twice.

use std::sync::Weak;

use async_trait::async_trait;
use sidenote_core::command::Command;
use sidenote_core::ids::{AccountId, AppId, ConversationId, Incarnation};
use sidenote_core::outbox::Outbox;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::news::Follower;
use crate::{Committed, StoreError};

/// The right to tell a conversation by webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Drawn at random for each claim, so that an older one of the same process is not this one.
    pub token: u64,
    /// How often the process had been taken for dead before.
    pub epoch: u64,
}

/// What became of the wish to tell a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// Nobody else tells it. This is what its lives have to tell, those that are over first, in their order; the first of
    /// them is claimed.
    Mine(Claim, Vec<(Incarnation, Outbox)>),
    /// There is nothing to tell.
    Nothing,
    /// Another process does, and sees what there is by now before it lets go.
    Others,
    /// It can't be said at this moment. Worth another try soon.
    Later,
}

/// The number of a login on the long connection, drawn at random; below 2^63.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoginNumber(u64);

impl LoginNumber {
    /// From a random number, of which one bit is dropped.
    pub const fn from_random(random: u64) -> Self {
        Self(random >> 1)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// A login on the long connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Whose.
    pub account: AccountId,
    /// Its number.
    pub number: LoginNumber,
    /// Which instance of the client.
    pub instance: u32,
}

/// Why a login is over although its connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// The account has too many connections, and this was the oldest (`KickType` 1).
    Kicked,
    /// The same instance has come back on another connection.
    Replaced,
}

/// The logins of this process.
pub trait Logins: Send + Sync {
    /// All of them.
    fn all(&self) -> Vec<Login>;

    /// Whether there are none.
    fn is_empty(&self) -> bool;

    /// Ends one of them. False if it is none of them: it is over already, or another process's.
    fn leave(&self, account: &AccountId, number: LoginNumber, why: Leave) -> bool;
}

/// A store that several processes share.
#[async_trait]
pub trait Shared: Send + Sync {
    /// Counts as one of them from now on, or soon: before, nothing can be claimed.
    fn join(&self, logins: Weak<dyn Logins>);

    /// News of what this process commits, and of nothing that it hears of others.
    fn own_news(&self) -> Follower;

    /// Whether this process counts as one of them at this moment. If not, it can claim nothing.
    fn lives(&self) -> bool;

    /// Whether the background work is this process's. At most one is told so at a time, as long as no clock runs wild.
    fn leads(&self) -> bool;

    /// Changes when a process that shared the store is gone, by itself or because it counts as dead.
    fn departures(&self) -> watch::Receiver<u64>;

    /// Claims what a conversation has to tell.
    async fn claim(&self, id: &ConversationId) -> Result<Claimed, StoreError>;

    /// Until when nobody else can have this claim; `None` if somebody may have it by now. What is known here, without
    /// asking anybody.
    fn holds_until(&self, claim: Claim) -> Option<Instant>;

    /// Commits a command about an outbox, unless the claim is somebody else's by now, or the outbox is gone; then `None`,
    /// and nothing happened.
    async fn commit_claimed(&self, claim: Claim, command: Command) -> Result<Option<Committed>, StoreError>;

    /// Lives of conversations of an app that have something to tell which no other process tells, by conversation, after
    /// that one.
    async fn unclaimed(
        &self,
        app: AppId,
        after: Option<(ConversationId, Incarnation)>,
        limit: usize,
    ) -> Result<Vec<(ConversationId, Incarnation)>, StoreError>;

    /// Writes a login down, and sends away whom that leaves no place for, here or elsewhere: an older one of the same
    /// instance, and the oldest where there are more than `most`.
    async fn enter(&self, login: &Login, most: usize) -> Result<(), StoreError>;

    /// A login is over.
    fn left(&self, login: Login);
}
