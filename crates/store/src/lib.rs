//! What a backend must do: one narrow trait, a volatile backend, a faulty one, and the suite that every backend
//! must pass.
//!
//! A backend holds rows and runs the pure functions of `sidenote-core` over them. It loads what they ask for,
//! commits what they decide, and knows no rule itself.

mod error;

pub mod audience;
pub mod audit;
pub mod caller;
pub mod debts;
pub mod decorator;
pub mod faulty;
pub mod figures;
pub mod memory;
pub mod news;
pub mod shared;

#[cfg(feature = "conformance")]
pub mod conformance;

use std::sync::Weak;
use std::time::Duration;

use async_trait::async_trait;
use sidenote_core::command::Command;
use sidenote_core::debt::Debt;
use sidenote_core::ids::Timestamp;
use sidenote_core::query::{Answer, Ask, Query};
use sidenote_core::{Outcome, Refusal};

use audience::Audience;
use caller::{Caller, OnBehalf};
pub use error::StoreError;
use news::Follower;
pub use news::News;
use shared::Shared;

/// A backend.
#[async_trait]
pub trait Store: Send + Sync {
    /// Decides one command and commits what it changes, all of it or nothing.
    ///
    /// `Ok` means durable: on disk, and from now on seen by every [`answer`](Self::answer). After an error the
    /// change may or may not have happened, as [`StoreError`] says. Commands of one conversation are decided one
    /// after the other, each against the state that the one before left.
    async fn commit(&self, command: Command) -> Result<Committed, StoreError>;

    /// Answers a question from the durable state of one instant, which is not older than any commit that was
    /// answered before the question came.
    async fn answer(&self, query: Query) -> Result<Answer, StoreError>;

    /// The same as [`commit`](Self::commit) for a caller whose account must exist right before; `None` if it does not,
    /// and then nothing happened. The operator's number becomes the caller's.
    async fn commit_by(
        &self,
        caller: &Caller,
        mut command: Command,
    ) -> Result<Option<Committed>, StoreError> {
        let Some(tiny_id) = caller.find(self).await? else { return Ok(None) };
        command.note_caller(tiny_id);
        self.commit(command).await.map(Some)
    }

    /// The same as [`answer`](Self::answer) for a caller whose account must exist right before; `None` if it does not.
    /// The operator's number becomes the caller's.
    async fn answer_by(&self, caller: &Caller, mut query: Query) -> Result<Option<Answer>, StoreError> {
        let Some(tiny_id) = caller.find(self).await? else { return Ok(None) };
        query.note_caller(tiny_id);
        self.answer(query).await.map(Some)
    }

    /// What is new from now on, after it is durable and readable. See [`news`] for what it is worth.
    fn news(&self) -> Follower;

    /// Who follows the [`news`](Self::news), and what they want to hear of. A store that is the only one to write to its
    /// rows knows all that is new, and need not ask; the others find what others have committed, sooner or later.
    fn attend(&self, _audience: Weak<dyn Audience>) {}

    /// What is to be agreed on with other processes; `None` where there are none.
    fn shared(&self) -> Option<&dyn Shared> {
        None
    }

    /// Whether the store takes writes, and why not.
    fn health(&self) -> Result<(), StoreError>;

    /// What an operator wants to see.
    fn statistics(&self) -> Statistics;

    /// Finishes what was accepted, refuses what comes later, and lets go of the files.
    async fn close(&self);
}

/// What a commit answers.
#[derive(Debug)]
pub struct Committed {
    /// The verdict of the rules.
    pub verdict: Result<Outcome, Refusal>,
    /// Debts that the caller should see paid before it answers, see [`debts`].
    pub prompt_debts: Vec<Debt>,
}

impl dyn Store + '_ {
    /// Commits a command and pays the debts that its caller would notice, so that it reads its own writes. A debt
    /// that can't be paid now stays in the store and is paid later, so it does not change the verdict.
    pub async fn execute(&self, command: Command) -> Result<Result<Outcome, Refusal>, StoreError> {
        let now = command.at;
        let committed = self.commit(command).await?;
        Ok(self.settle(committed, now).await)
    }

    /// The same on behalf of a caller; `None` if there is no such account, and then nothing happened.
    pub async fn execute_by(
        &self,
        caller: &Caller,
        command: Command,
    ) -> Result<Option<Result<Outcome, Refusal>>, StoreError> {
        let now = command.at;
        match self.commit_by(caller, command).await? {
            Some(committed) => Ok(Some(self.settle(committed, now).await)),
            None => Ok(None),
        }
    }

    async fn settle(&self, committed: Committed, now: Timestamp) -> Result<Outcome, Refusal> {
        for debt in committed.prompt_debts {
            if debts::pay(self, &debt, now).await.is_err() {
                break;
            }
        }
        committed.verdict
    }

    /// Asks a question and takes its typed answer.
    pub async fn ask<Q: Ask + Send>(&self, question: Q) -> Result<Q::Answer, StoreError> {
        let answer = self.answer(question.into_query()).await?;
        Ok(typed::<Q>(answer))
    }

    /// The same on behalf of a caller; `None` if there is no such account.
    pub async fn ask_by<Q: Ask + Send>(
        &self,
        caller: &Caller,
        question: Q,
    ) -> Result<Option<Q::Answer>, StoreError> {
        Ok(self.answer_by(caller, question.into_query()).await?.map(typed::<Q>))
    }
}

fn typed<Q: Ask>(answer: Answer) -> Q::Answer {
    Q::from_answer(answer).expect("a question is answered by the answer of the same name")
}

/// Figures for metrics. Counters run from the start of the process.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// Commits made durable (each carries the changes of one or more commands).
    pub commits: u64,
    /// Commands in them.
    pub commands: u64,
    /// How many commits carried up to so many commands: upper bound, count; not cumulative, ascending.
    pub batch_sizes: Vec<(u64, u64)>,
    /// How many commits took up to so long, from hand-over to durable; not cumulative, ascending.
    pub commit_times: Vec<(Duration, u64)>,
    /// Time spent in commits.
    pub commit_time_total: Duration,
    /// Commands that wait to be decided.
    pub queue_depth: u64,
    /// Commands that had to fetch rows before they could be decided.
    pub fetches: u64,
    /// Rows found in memory.
    pub cache_hits: u64,
    /// Rows not found in memory.
    pub cache_misses: u64,
    /// Bytes of rows held in memory.
    pub cache_bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Times that a database was asked, and answered; 0 where there is none.
    pub round_trips: u64,
    /// Statements that were sent with them.
    pub statements: u64,
    /// What nodes tell each other; `None` where there is one.
    pub cluster: Option<ClusterStatistics>,
}

/// What a node counts of those that it shares a store with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterStatistics {
    /// Messages that it sent.
    pub published: u64,
    /// Commits that it could tell nobody of, because the broker was away.
    pub unpublished: u64,
    /// Messages that it got.
    pub heard: u64,
    /// Of those, what it did not understand.
    pub refused: u64,
    /// Times that it looked into the tables for what it had not heard of.
    pub looks: u64,
    /// Of those, the ones that failed.
    pub failed_looks: u64,
    /// Conversations of which it found something new there.
    pub found: u64,
    /// Whether it is connected to the broker; `None` where none is configured.
    pub connected: Option<bool>,
    /// Whether the background work is its.
    pub leads: bool,
    /// Nodes that live, as far as it knows.
    pub nodes: u64,
}
