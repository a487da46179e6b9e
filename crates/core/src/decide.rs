//! The rules: what a command does to the rows it finds.

mod account;
mod debt;
mod direct;
mod extension;
mod group;
mod ledger;
mod member;
mod message;
mod outbox;

use crate::command::{Action, Command, DirectAction, GroupAction};
use crate::debt::Debt;
use crate::extension::{Pair, Seq};
use crate::ids::{EventNumber, MsgSeq, UserId};
use crate::limits::Limits;
use crate::message::Sent;
use crate::refusal::Refusal;
use crate::rows::{Change, Missing, Rows};

use ledger::Ledger;

pub(crate) use debt::ROWS_PER_PART;
pub(crate) use direct::{admit as direct_extension_admission, find as find_direct};
pub(crate) use extension::admit as extension_admission;

/// What is to be committed and what is to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The answer.
    pub verdict: Result<Outcome, Refusal>,
    /// All of it or nothing, in one commit; a later change of a row replaces an earlier one. Events and debts are
    /// rows too. Empty for a refused command; an answer that refuses every pair may still hold an attempt count
    /// (rule 3.10).
    pub changes: Vec<Change>,
    /// Debts among the changes that the caller waits for, so that it reads its own writes.
    pub prompt_debts: Vec<Debt>,
}

/// What a command that was not refused did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What was asked.
    Done,
    /// Members were added, in the order of the request.
    MembersAdded(Vec<(UserId, Added)>),
    /// A message was stored, or had been.
    Sent(Sent),
    /// Messages were imported, in the order of the request; `None` has a time that does not fit.
    MessagesImported(Vec<Option<Sent>>),
    /// Messages were recalled, in the order of the request; `false`: there was no such message.
    Recalled(Vec<(MsgSeq, bool)>),
    /// Pairs were changed, or some of them.
    Extended(Extended),
    /// A part of a debt was paid.
    Paid {
        /// True if it is not paid in full yet.
        more: bool,
    },
    /// An outbox was settled.
    Settled {
        /// How far. One commit does not settle everything if that is much.
        after: EventNumber,
        /// Whether nothing is left to tell.
        empty: bool,
        /// Dead letters that had to go because there were too many.
        dropped: usize,
    },
}

/// What became of one account to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is a member now.
    Now,
    /// It was one before.
    Already,
}

/// The answer of a set, delete or clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extended {
    /// `LatestSeq` afterwards (rule 3.2).
    pub latest: Seq,
    /// One for each pair, in the order of the request; none for a clear.
    pub items: Vec<ItemOutcome>,
}

/// What became of one pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemOutcome {
    /// The verdict of rules 3.4, 3.6 and 3.7.
    pub verdict: ItemVerdict,
    /// The pair's state after the request; for a refused one what the set holds.
    pub pair: Pair,
}

/// The verdict on one pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemVerdict {
    /// Written.
    Accepted,
    /// Refused: the caller's Seq is not the pair's (rule 3.4, code 23001).
    Conflict,
    /// Refused: there is no live pair to delete (rule 3.6, code 23004).
    NoSuchPair,
    /// Refused: the message holds as many live pairs as it may (rule 3.7, code 10004).
    Full,
}

/// Decides a command against the rows of one instant. Pure: the same input gives the same decision.
pub fn decide(rows: &dyn Rows, command: &Command, limits: &Limits) -> Result<Decision, Missing> {
    let mut ledger = Ledger::new(rows, command, limits);
    let verdict = match &command.action {
        Action::Account(id, action) => account::decide(&mut ledger, id, action)?,
        Action::Pay(debt, told) => debt::decide(&mut ledger, debt, told)?,
        Action::Outbox(id, incarnation, action) => outbox::decide(&mut ledger, id, *incarnation, action)?,
        Action::Group(id, action) => match action {
            GroupAction::Create(new) => group::create(&mut ledger, id, new)?,
            GroupAction::Modify(patch) => group::modify(&mut ledger, id, patch)?,
            GroupAction::Destroy => group::destroy(&mut ledger, id)?,
            GroupAction::ChangeOwner(user) => group::change_owner(&mut ledger, id, user)?,
            GroupAction::AddMembers { members, imported } => {
                member::add(&mut ledger, id, members, *imported)?
            }
            GroupAction::RemoveMembers { users, reason } => member::remove(&mut ledger, id, users, reason)?,
            GroupAction::Forget(user, tiny_id) => member::forget(&mut ledger, id, user, *tiny_id)?,
            GroupAction::Send(new) => message::send(&mut ledger, id, new)?,
            GroupAction::Import(messages) => message::import(&mut ledger, id, messages)?,
            GroupAction::Recall { seqs, reason } => message::recall(&mut ledger, id, seqs, reason)?,
            GroupAction::Extend(seq, extend) => extension::extend(&mut ledger, id, *seq, extend)?,
        },
        Action::Direct(peers, action) => match action {
            DirectAction::Send(new) => direct::send(&mut ledger, peers, new)?,
            DirectAction::Recall(key) => direct::recall(&mut ledger, peers, *key)?,
            DirectAction::Extend(key, extend) => direct::extend(&mut ledger, peers, *key, extend)?,
        },
    };
    Ok(ledger.finish(verdict))
}

/// A rule's answer, or that it needs more rows.
type Judged<T = Outcome> = Result<Result<T, Refusal>, Missing>;
