//! The writer: one thread that decides commands, one after the other, and commits what they change, many at once.
//!
//! It takes all commands that wait, decides each against the state that the one before left, gathers their changes
//! into one batch, makes the batch durable with one sync, shows it to readers, and then answers all of them. So
//! **nobody is answered, and nobody can read, before it is durable**; that goes for refusals too, which may rest
//! on changes of the same batch.
//!
//! It never reads a file. A command whose rows are not at hand is set aside and fetched for (module `readers`)
//! once its batch is published, and comes back with what it needs.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use sidenote_core::command::Command;
use sidenote_core::rows::Change;
use sidenote_core::{Limits, decide};
use sidenote_store::figures::Figures;
use sidenote_store::news::{Gathered, Newsroom};
use sidenote_store::{Committed, StoreError};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::answers::{Answers, Reply, answer, deliver};
use crate::cache::{Cache, Changes};
use crate::condition::Condition;
use crate::desk::{Desk, Recent};
use crate::engine::{self, EngineError, MAX_BATCH_BYTES, MAX_VALUE_BYTES};
use crate::inner_engine::InnerEngine;
use crate::schema::{encode_key, encode_row};
use crate::views::{Attached, guarded, in_full};
use crate::weight::{key_bytes, row_bytes};

/// How often a command is fetched for before it is given up. Every time but the first, what it needs has changed
/// from under it: another group under the same name, say.
const MAX_FETCHES: u32 = 16;

/// No further command joins a batch that has grown to so many bytes.
const FULL_BATCH_BYTES: usize = MAX_BATCH_BYTES / 8;

/// The most that one command may change, in bytes. Leaves a batch room for it whatever came before.
const MAX_COMMAND_BYTES: usize = MAX_BATCH_BYTES / 2;

/// A command under way.
pub(crate) struct Job {
    pub(crate) command: Command,
    pub(crate) reply: Reply,
    /// A place among the commands that the store has accepted; given back with the answer.
    pub(crate) place: OwnedSemaphorePermit,
    /// How often it was fetched for.
    pub(crate) fetches: u32,
    /// The newest batch when its last fetch began.
    pub(crate) fetch_began: u64,
    /// What its last fetch brought.
    pub(crate) fetched: Option<Result<Attached, StoreError>>,
}

impl Job {
    pub(crate) fn new(command: Command, reply: Reply, place: OwnedSemaphorePermit) -> Box<Self> {
        Box::new(Self { command, reply, place, fetches: 0, fetch_began: 0, fetched: None })
    }
}

/// What reaches the writer.
pub(crate) enum Input {
    /// A command, new or fetched for.
    Job(Box<Job>),
    /// Finish what is under way, then end.
    Close,
}

/// What the writer works with.
pub(crate) struct Writer<E> {
    pub(crate) engine: Arc<E>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) condition: Arc<Condition>,
    pub(crate) figures: Arc<Figures>,
    pub(crate) limits: Limits,
    /// Commands that share a commit, at most.
    pub(crate) batch: usize,
    /// Has room for every command that was accepted, so nobody ever waits to put one in.
    pub(crate) inbox: Receiver<Input>,
    /// Likewise.
    pub(crate) fetches: Sender<Box<Job>>,
    /// Where followers are told of what was committed.
    pub(crate) newsroom: Newsroom,
    /// Set once it was told to close.
    pub(crate) closing: Cell<bool>,
}

/// Commands that share a commit.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) staged: Changes,
    bytes: usize,
    pub(crate) decided: Answers,
    news: Gathered,
    #[expect(clippy::vec_box, reason = "jobs stay where they are while they pass through the queues")]
    to_fetch: Vec<Box<Job>>,
}

impl<E: InnerEngine> Writer<E> {
    /// Runs until it is told to close.
    pub(crate) fn run(self) {
        let mut state = State::new(self);
        let run = std::panic::AssertUnwindSafe(|| state.run());
        if std::panic::catch_unwind(run).is_ok() {
            return;
        }
        // Whatever was half-done is unknown. Nothing is written any more, but nobody is left waiting.
        state.writer.answer_rest();
    }

    fn answer_rest(&self) {
        self.condition.poison("the writer panicked, which is a bug; see the log".to_owned());
        while !self.closing.get() {
            match self.inbox.recv() {
                Ok(Input::Job(job)) => answer(job, self.condition.writable().and(Err(StoreError::Closed))),
                Ok(Input::Close) | Err(_) => return,
            }
        }
    }
}

impl Batch {
    pub(crate) fn commands(&self) -> usize {
        self.decided.len() + self.to_fetch.len()
    }
}

/// How long a batch waits for more commands.
///
/// The callers of a large batch send their next commands all at about the same time, but the first of them is here
/// while most are still on their way. To commit that one alone would let all others wait for a whole sync. So after
/// a large batch the next one waits until it is half as large, but never longer than a part of what a commit takes,
/// by which it could at most be late. After a batch of up to three commands nothing ever waits.
struct Gathering {
    enough: usize,
    until: Option<Instant>,
}

impl Gathering {
    /// How often it looks, roughly; the system may take twice as long.
    const STEP: Duration = Duration::from_micros(50);
    /// The longest wait, however slow the disk is.
    const LONGEST: Duration = Duration::from_millis(1);

    fn after(last: usize, commit_takes: Duration) -> Self {
        let wait = (commit_takes / 2).min(Self::LONGEST);
        Self { enough: last / 2, until: (last > 3).then(|| Instant::now() + wait) }
    }

    fn goes_on(&mut self, commands: usize) -> bool {
        commands < self.enough && self.until.is_some_and(|until| Instant::now() < until)
    }
}

/// The writer at work. Each method is one step; [`State::run`] takes them in turn.
pub(crate) struct State<E> {
    pub(crate) writer: Writer<E>,
    /// The last batch. It is published.
    pub(crate) newest: u64,
    pub(crate) recent: Recent,
    /// How many commands the last batch answered.
    last: usize,
    /// What a commit took lately, on average.
    commit_takes: Duration,
}

impl<E: InnerEngine> State<E> {
    pub(crate) fn new(writer: Writer<E>) -> Self {
        let newest = writer.cache.published();
        Self { writer, newest, recent: Recent::new(newest), last: 0, commit_takes: Duration::ZERO }
    }

    fn run(&mut self) {
        while let Some(first) = self.next() {
            let mut batch = Batch::default();
            self.take(first, &mut batch);
            let mut gathering = Gathering::after(self.last, self.commit_takes);
            while batch.commands() < self.writer.batch && batch.bytes < FULL_BATCH_BYTES {
                match self.writer.inbox.try_recv() {
                    Ok(input) => self.take(input, &mut batch),
                    Err(TryRecvError::Empty) if gathering.goes_on(batch.commands()) => {
                        std::thread::sleep(Gathering::STEP);
                    }
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            self.finish(batch);
        }
    }

    fn next(&self) -> Option<Input> {
        if self.writer.closing.get() && !self.recent.has_fetches() {
            return self.writer.inbox.try_recv().ok();
        }
        self.writer.inbox.recv().ok()
    }

    /// Decides one command, on top of what the batch holds already, or sets it aside to be fetched for.
    pub(crate) fn take(&mut self, input: Input, batch: &mut Batch) {
        let mut job = match input {
            Input::Job(job) => job,
            Input::Close => {
                self.writer.closing.set(true);
                return;
            }
        };
        if job.fetched.is_some() {
            self.recent.fetch_ends(job.fetch_began);
        }
        if let Err(error) = self.writer.condition.writable() {
            answer(job, Err(error));
            return;
        }
        let attached = match job.fetched.take() {
            Some(Err(error)) => return batch.decided.push((job, Err(error))),
            Some(Ok(attached)) if !self.recent.reaches(attached.number) => return set_aside(job, batch),
            Some(Ok(attached)) => Some(attached),
            None => None,
        };
        let desk = Desk {
            staged: &batch.staged,
            cache: &self.writer.cache,
            newest: self.newest,
            recent: &self.recent,
            attached: attached.as_ref(),
            hits: Cell::new(0),
            misses: Cell::new(0),
        };
        let decision = guarded(|| decide(&desk, &job.command, &self.writer.limits));
        self.writer.cache.count(desk.hits.get(), desk.misses.get());
        match decision {
            Err(panicked) => batch.decided.push((job, Err(panicked))),
            Ok(Err(_missing)) => set_aside(job, batch),
            Ok(Ok(decision)) => {
                let verdict = match measure(&decision.changes) {
                    Err(too_large) => Err(too_large),
                    Ok(bytes) => {
                        batch.bytes += bytes;
                        // Also while nobody follows: whoever comes before the batch is published must be told of it.
                        batch.news.add(&job.command, &decision.changes);
                        batch.staged.extend(decision.changes.into_iter().map(|it| (it.key, it.row)));
                        Ok(Committed { verdict: decision.verdict, prompt_debts: decision.prompt_debts })
                    }
                };
                batch.decided.push((job, verdict));
            }
        }
    }

    fn finish(&mut self, mut batch: Batch) {
        if let Some(number) = self.commit(&mut batch) {
            self.publish(number, &mut batch);
        }
        self.conclude(batch);
    }

    /// Makes a batch durable; its number. `None` if it changes nothing, or could not be made durable, which is then
    /// what everybody is told.
    pub(crate) fn commit(&mut self, batch: &mut Batch) -> Option<u64> {
        if batch.staged.is_empty() {
            return None;
        }
        let encoded = batch.staged.iter().map(|(key, row)| {
            let key = encode_key(key).into();
            match row {
                Some(row) => engine::Change::Put { key, value: encode_row(row).into() },
                None => engine::Change::Delete { key },
            }
        });
        // Neighbours are put into the engine's memory one after the other, along a path that is in the processor's
        // caches from the one before.
        let mut changes: Vec<_> = encoded.collect();
        changes.sort_unstable_by(|one, other| one.key().cmp(other.key()));
        let began = Instant::now();
        let failed = match self.writer.engine.commit(changes) {
            Ok(number) => {
                let took = began.elapsed();
                self.writer.figures.committed(batch.decided.len() as u64, took);
                self.commit_takes = (self.commit_takes * 7 + took) / 8;
                return Some(number);
            }
            // Nothing was written, and the engine goes on.
            Err(
                error @ (EngineError::KeyLength { .. }
                | EngineError::ReservedKey
                | EngineError::ValueTooLong { .. }
                | EngineError::BatchTooLarge),
            ) => StoreError::Busy { reason: in_full(&error) },
            Err(error) => self.writer.condition.poison(in_full(&error)),
        };
        for (_, answer) in &mut batch.decided {
            *answer = Err(failed.clone());
        }
        None
    }

    /// Shows a batch that is durable.
    pub(crate) fn publish(&mut self, number: u64, batch: &mut Batch) {
        let staged = std::mem::take(&mut batch.staged);
        self.writer.cache.publish(number, &staged);
        self.newest = number;
        self.recent.keep(number, staged);
        // After it can be read: a follower that finds a gap reads the log at once.
        self.writer.newsroom.tell(&batch.news);
    }

    /// Answers, and has fetched what was missing.
    pub(crate) fn conclude(&mut self, batch: Batch) {
        self.last = batch.decided.len();
        deliver(batch.decided);
        for mut job in batch.to_fetch {
            job.fetches += 1;
            job.fetch_began = self.newest;
            self.recent.fetch_begins(self.newest);
            self.writer.figures.fetch();
            self.writer.fetches.send(job).expect("readers live for as long as they may be sent something");
        }
        self.recent.prune();
    }
}

fn set_aside(job: Box<Job>, batch: &mut Batch) {
    if job.fetches < MAX_FETCHES {
        batch.to_fetch.push(job);
    } else {
        let reason = "what the command needs kept changing while it was fetched".to_owned();
        batch.decided.push((job, Err(StoreError::Busy { reason })));
    }
}

/// How large these changes are, unless they are larger than a batch can be.
fn measure(changes: &[Change]) -> Result<usize, StoreError> {
    let mut bytes = 0;
    for Change { key, row } in changes {
        let row = row.as_ref().map_or(0, row_bytes);
        bytes += key_bytes(key) + row;
        if row > MAX_VALUE_BYTES || bytes > MAX_COMMAND_BYTES {
            let reason = "the command changes more bytes at once than the store can commit".to_owned();
            return Err(StoreError::Busy { reason });
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sidenote_core::command::{AccountAction, Action};
    use sidenote_core::event::Operator;
    use sidenote_core::ids::{AccountId, AppId, Timestamp, TinyId, UserId};
    use sidenote_core::rows::RowKey;
    use tokio::sync::{Semaphore, oneshot};

    use super::*;
    use crate::engine::Engine;

    /// A writer whose inputs a test takes by itself, over a store in a folder.
    fn state(folder: &tempfile::TempDir) -> State<Engine> {
        let engine = Arc::new(Engine::open(folder.path(), &engine::Settings::default()).unwrap());
        State::new(Writer {
            cache: Arc::new(Cache::new(0, engine.snapshot().number())),
            engine,
            condition: Arc::default(),
            figures: Arc::default(),
            limits: Limits::default(),
            batch: 1,
            inbox: crossbeam_channel::bounded(1).1,
            fetches: crossbeam_channel::bounded(1).0,
            newsroom: Newsroom::default(),
            closing: Cell::new(false),
        })
    }

    #[test]
    fn whoever_follows_before_a_batch_can_be_read_is_told_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = state(&folder);
        let user = UserId::new("ann").unwrap();
        let account = AccountId { app: AppId::new(1), user: user.clone() };
        let tiny_id = TinyId::from_random(7);
        let mut commit = |action, fetched: Option<Attached>| {
            let command = Command {
                operator: Operator::server(user.clone()),
                at: Timestamp::from_millis(1),
                action: Action::Account(account.clone(), action),
            };
            let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
            let mut job = Job::new(command, oneshot::channel().0, place);
            job.fetched = fetched.map(Ok);
            let mut batch = Batch::default();
            state.take(Input::Job(job), &mut batch);
            assert_eq!(batch.to_fetch.len(), 0);
            let number = state.commit(&mut batch).unwrap();
            // It is durable, and nobody can read it yet.
            let mut follower = state.writer.newsroom.follow();
            state.publish(number, &mut batch);
            follower.take().deleted
        };
        let mut nobody = Attached::default();
        nobody.rows.insert(RowKey::Account(account.clone()), None);
        let import = AccountAction::Import { tiny_id, nick: None, face_url: None };
        assert_eq!(commit(import, Some(nobody)), []);
        assert_eq!(commit(AccountAction::Delete, None), [(account.clone(), tiny_id)]);
    }

    #[test]
    fn a_command_that_never_finds_its_rows_is_given_up_after_so_many_fetches() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = state(&folder);
        let user = UserId::new("ann").unwrap();
        let account = AccountId { app: AppId::new(1), user: user.clone() };
        let command = Command {
            operator: Operator::server(user),
            at: Timestamp::from_millis(1),
            action: Action::Account(account, AccountAction::Delete),
        };
        for (fetched, given_up) in [(0, false), (1, false), (MAX_FETCHES - 1, false), (MAX_FETCHES, true)] {
            let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
            let mut job = Job::new(command.clone(), oneshot::channel().0, place);
            job.fetches = fetched;
            // What it brought is not what the rule asks for.
            job.fetched = (fetched > 0).then(|| Ok(Attached { number: state.newest, ..Attached::default() }));
            let mut batch = Batch::default();
            state.take(Input::Job(job), &mut batch);
            assert_eq!(batch.to_fetch.is_empty(), given_up, "after {fetched}");
            let answer = batch.decided.pop().map(|(_, answer)| answer);
            assert_eq!(matches!(answer, Some(Err(StoreError::Busy { .. }))), given_up, "after {fetched}");
        }
    }
}
