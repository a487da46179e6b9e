//! One set of commands of one home, decided and committed in one transaction of two round trips.
//!
//! The first begins, locks the home and reads what the commands need, in this order: a statement that reads after the
//! lock was taken sees what it waited for, the locking one itself may not. The second writes and commits. Between them
//! the rules decide, each command against what the ones before it left. Only where a rule asks for something that
//! could not be foreseen there is a round trip more.

use std::collections::HashMap;

use sidenote_core::command::{Action, Command};
use sidenote_core::debt::Debt;
use sidenote_core::ids::TinyId;
use sidenote_core::rows::RowKey;
use sidenote_core::{Limits, Outcome, Refusal};
use sidenote_store::StoreError;
use sidenote_store::caller::{Caller, OnBehalf};
use sidenote_store::news::Gathered;

use crate::callers;
use crate::changes;
use crate::fetch::Fetch;
use crate::home::{Home, signed};
use crate::loaded::{Loaded, Wish};
use crate::needs::Needs;
use crate::session::{Fault, Piece, Session};

/// Why a set was not committed, or may not have been.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing happened, and trying again may help.
    Again(String),
    /// Nothing happened, and trying again would end the same way. One command alone may be at fault.
    Refused(StoreError),
    /// Nothing happened, whichever command was tried: a lock was not to be had in time, or the server has too much to do.
    Busy(String),
    /// The connection was lost while it was committed.
    Unknown(String),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

/// What has to be so for a command to be decided at all.
#[derive(Debug)]
pub(crate) enum Guard {
    /// Nothing.
    None,
    /// The number under which its outbox must still be claimed.
    Claim(i64),
    /// Whose account must exist.
    Caller(Caller),
}

/// A command and its guard.
#[derive(Debug)]
pub(crate) struct Guarded<'a> {
    pub(crate) command: &'a mut Command,
    pub(crate) guard: &'a Guard,
}

impl<'a> Guarded<'a> {
    /// Whether it may be decided, if these outboxes are claimed under these numbers, and these callers were found.
    fn holds(&mut self, claims: &Claims, callers: &HashMap<&Caller, TinyId>) -> bool {
        match self.guard {
            Guard::None => true,
            Guard::Claim(claim) => match &self.command.action {
                Action::Outbox(_, life, _) => claims.get(&signed(*life)) == Some(claim),
                _ => true,
            },
            Guard::Caller(caller) => {
                let Some(tiny_id) = callers.get(caller) else { return false };
                self.command.note_caller(*tiny_id);
                true
            }
        }
    }

    fn caller(&self) -> Option<&'a Caller> {
        match self.guard {
            Guard::Caller(caller) => Some(caller),
            Guard::None | Guard::Claim(_) => None,
        }
    }
}

/// By life of the conversation the number under which its outbox is claimed.
type Claims = HashMap<i64, i64>;

/// The verdict on a command, and what is owed promptly.
pub(crate) type Decided = (Result<Outcome, Refusal>, Vec<Debt>);

/// A set that is committed.
#[derive(Debug)]
pub(crate) struct Done {
    /// For each command, in their order; `None` for one whose guard did not hold.
    pub(crate) verdicts: Vec<Option<Decided>>,
    /// What there is to tell.
    pub(crate) gathered: Gathered,
    /// Whether anything was written.
    pub(crate) has_written: bool,
}

/// Decides and commits commands of one home, in their order.
///
/// # Errors
///
/// All of them fail together.
pub(crate) async fn commit(
    session: &mut Session,
    home: &Home,
    commands: &mut [Guarded<'_>],
    limits: &Limits,
) -> Result<Done, Failure> {
    let result = attempt(session, home, commands, limits).await;
    if result.is_err() && session.is_open() {
        roll_back(session).await;
    }
    result
}

async fn attempt(
    session: &mut Session,
    home: &Home,
    commands: &mut [Guarded<'_>],
    limits: &Limits,
) -> Result<Done, Failure> {
    let Begun { mut loaded, claims, callers } = begin(session, home, commands, limits).await?;
    let mut done = Done {
        verdicts: Vec::with_capacity(commands.len()),
        gathered: Gathered::default(),
        has_written: false,
    };
    for guarded in commands {
        if !guarded.holds(&claims, &callers) {
            done.verdicts.push(None);
            continue;
        }
        let command = &*guarded.command;
        let mut last_wish = None;
        let decision = loop {
            match loaded.decide(command, limits) {
                Ok(decision) => break decision,
                Err(wish) if last_wish.as_ref() == Some(&wish) => {
                    let reason = "a rule asked for the same rows again".to_owned();
                    return Err(Failure::Refused(StoreError::Unreadable { reason }));
                }
                Err(wish) => {
                    last_wish = Some(wish.clone());
                    done.has_written |= fulfil(session, home, &mut loaded, wish).await?;
                }
            }
        };
        done.gathered.add(command, &decision.changes);
        loaded.apply(decision.changes);
        done.verdicts.push(Some((decision.verdict, decision.prompt_debts)));
    }
    let mut pieces = changes::pieces(home.key(), &loaded)?;
    done.has_written |= !pieces.is_empty();
    // A time-out that hits COMMIT while a standby is waited for would pass for success.
    pieces.push(Piece::Plain("SET LOCAL statement_timeout = 0; COMMIT".into()));
    session.prepare(&pieces).await.map_err(|fault| before_commit(&fault))?;
    let answers = session.flush(pieces).await.map_err(|fault| {
        let reason = fault.to_string();
        if done.has_written { Failure::Unknown(reason) } else { Failure::Again(reason) }
    })?;
    let last = answers.len() - 1;
    for (at, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(_) => {}
            // The transaction was over with the first refusal, and COMMIT could only roll back.
            Err(fault) if at < last || !done.has_written => return Err(before_commit(&fault)),
            Err(fault) => return Err(at_commit(&fault)),
        }
    }
    session.closed();
    Ok(done)
}

/// What the first round trip brings.
struct Begun<'a> {
    loaded: Loaded,
    claims: Claims,
    callers: HashMap<&'a Caller, TinyId>,
}

/// The first round trip. Accounts of callers lie elsewhere, so they are asked for in front of the transaction, each by a
/// statement of its own: none of them touches more than one shard.
async fn begin<'a>(
    session: &mut Session,
    home: &Home,
    commands: &[Guarded<'a>],
    limits: &Limits,
) -> Result<Begun<'a>, Failure> {
    let mut needs = Needs::default();
    for guarded in commands {
        needs.add(guarded.command, limits);
    }
    let (locks, fetches) = needs.into_fetches(home);
    let callers = callers::distinct(commands.iter().filter_map(Guarded::caller));
    let first_lock = callers.len() + 1;
    let first_fetch = first_lock + locks.len();
    let mut pieces: Vec<_> = callers.iter().map(|caller| callers::piece(caller)).collect();
    pieces.push(Piece::Plain("BEGIN ISOLATION LEVEL READ COMMITTED".into()));
    pieces.extend(locks);
    pieces.extend(fetches.iter().map(Fetch::piece));
    session.prepare(&pieces).await.map_err(|fault| before_commit(&fault))?;
    session.opened();
    let answers = session.flush(pieces).await.map_err(|fault| before_commit(&fault))?;
    let answers =
        answers.into_iter().collect::<Result<Vec<_>, _>>().map_err(|fault| before_commit(&fault))?;
    let mut loaded = Loaded::default();
    for (fetch, rows) in fetches.into_iter().zip(&answers[first_fetch..]) {
        fetch.take(rows, &mut loaded)?;
    }
    if let Home::Conversation(id) = home {
        let was_locked = !answers[first_lock].is_empty();
        let is_there = loaded.get(&RowKey::Conversation(id.clone())).is_some();
        if was_locked != is_there {
            // It was made between the two statements, so nothing guards what was read.
            return Err(Failure::Again("the conversation was made meanwhile".to_owned()));
        }
    }
    let mut claims = Claims::new();
    if commands.iter().any(|guarded| matches!(guarded.guard, Guard::Claim(_))) {
        // Behind the lock of the conversation.
        let behind = answers[first_lock..first_fetch].get(1);
        for row in behind.into_iter().flatten() {
            let read = || Some((row.try_get(0).ok()?, row.try_get::<_, Option<i64>>(1).ok()??));
            claims.extend(read());
        }
    }
    let mut found = HashMap::new();
    for (caller, rows) in callers.into_iter().zip(&answers) {
        found.extend(callers::found(caller, rows)?.map(|tiny_id| (caller, tiny_id)));
    }
    Ok(Begun { loaded, claims, callers: found })
}

/// Reads what a rule asked for. Says whether something had to be written for it.
async fn fulfil(
    session: &mut Session,
    home: &Home,
    loaded: &mut Loaded,
    wish: Wish,
) -> Result<bool, Failure> {
    let of = match home {
        Home::Conversation(id) => Some(id),
        Home::Account(_) => None,
    };
    // A range is read from the database alone, so what was decided has to be there first.
    let mut pieces = match &wish {
        Wish::Range(_) => changes::pieces(home.key(), loaded)?,
        Wish::Row(_) => Vec::new(),
    };
    let has_written = !pieces.is_empty();
    let fetch = Fetch::of_wish(wish, of)?;
    pieces.push(fetch.piece());
    let answers = session.flush(pieces).await.map_err(|fault| before_commit(&fault))?;
    let answers =
        answers.into_iter().collect::<Result<Vec<_>, _>>().map_err(|fault| before_commit(&fault))?;
    if has_written {
        loaded.written();
    }
    fetch.take(answers.last().map_or(&[], Vec::as_slice), loaded)?;
    Ok(has_written)
}

async fn roll_back(session: &mut Session) {
    let answers = session.flush(vec![Piece::Plain("ROLLBACK".into())]).await;
    match answers.map(|answers| answers.iter().all(Result::is_ok)) {
        Ok(true) => session.closed(),
        _ => session.spoil(),
    }
}

/// What a fault means as long as COMMIT was not sent, or can't have done anything.
pub(crate) fn before_commit(fault: &Fault) -> Failure {
    let reason = fault.to_string();
    match fault.code() {
        // The connection is gone, and with it what was not committed; serialization failure, deadlock, and another node
        // that made the row first.
        None | Some("40001" | "40P01" | "23505") => Failure::Again(reason),
        Some(_) if fault.is_stale() => Failure::Again(reason),
        Some(code) if code.starts_with("XX") => Failure::Refused(StoreError::Unreadable { reason }),
        // A value that the database does not take.
        Some(code) if code.starts_with("22") || code.starts_with("23") => {
            Failure::Refused(StoreError::Busy { reason })
        }
        Some(_) => Failure::Busy(reason),
    }
}

/// What it means if COMMIT itself was refused.
fn at_commit(fault: &Fault) -> Failure {
    match fault.code() {
        Some("40001" | "40P01" | "25P02" | "23505") => Failure::Again(fault.to_string()),
        _ => Failure::Unknown(fault.to_string()),
    }
}
