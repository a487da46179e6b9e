//! Who there is, and who moves next.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use sidenote_core::command::Command;
use sidenote_core::debt::Debt;
use sidenote_core::query::{Answer, Query};
use sidenote_store::{Committed, Store, StoreError};

use super::Defect;
use super::engine::{Disk, Fate, SimulatedEngine};
use super::judge::Judge;
use super::random::Random;
use super::workload::{
    Known, all_questions, any_command, any_question, founding, limits, number_of, payment,
};
use crate::answers::deliver;
use crate::desk::Recent;
use crate::readers::{Question, Reader};
use crate::store::Parts;
use crate::writer::{Batch, Input, Job, State};
use crate::{EmbeddedStore, Settings};

/// Steps of a run, beside those that lie within others.
const STEPS: usize = 1500;

/// Nobody waits longer than so many steps once everybody only finishes what was begun.
const PATIENCE: usize = 20_000;

thread_local! {
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

fn current() -> Option<Rc<World>> {
    WORLD.with_borrow(Clone::clone)
}

/// Lets others go on, if this thread runs a simulation.
pub(crate) fn pause() {
    if let Some(world) = current() {
        world.pause();
    }
}

/// Whether this is broken on purpose.
pub(crate) fn is_broken(by: Defect) -> bool {
    current().is_some_and(|world| world.defect == Some(by))
}

/// What becomes of the commit that begins now.
pub(super) fn fate() -> Fate {
    current().map_or(Fate::Succeeds, |world| world.fate())
}

/// Whether the read that is made now fails.
pub(super) fn read_fails() -> bool {
    current().is_some_and(|world| world.read_fails())
}

/// The commit that was under way is durable now, or has failed.
pub(super) fn commit_ended(is_durable: bool) {
    if let Some(world) = current() {
        world.commit_ended(is_durable);
    }
}

/// How a simulation went.
pub(super) struct Run {
    /// The first thing that somebody was told and that is not so.
    pub(super) wrong: Option<String>,
    /// All that happened.
    pub(super) story: Vec<String>,
}

/// Runs one simulation.
pub(super) fn run(seed: u64, defect: Option<Defect>) -> Run {
    let world = Rc::new(World::new(seed, defect));
    WORLD.set(Some(Rc::clone(&world)));
    let lived = catch_unwind(AssertUnwindSafe(|| world.live()));
    WORLD.set(None);
    if lived.is_err() {
        world.judge(Err("the store panicked".to_owned()));
    }
    Run { wrong: world.wrong.take(), story: world.story.take() }
}

/// The store from opening to crash or close.
struct Life {
    store: Arc<EmbeddedStore>,
    reader: Reader<SimulatedEngine>,
}

/// The writer between two steps.
struct WriterActor {
    state: State<SimulatedEngine>,
    phase: Phase,
}

enum Phase {
    Gathering(Batch),
    Committed(Option<u64>, Batch),
    Published(Batch),
}

type Later<T> = Pin<Box<dyn Future<Output = T>>>;

#[derive(Default)]
struct Client {
    operation: Option<Operation>,
    /// Its operation is being polled, further up on the stack.
    is_moving: bool,
}

/// Something a client waits for.
struct Operation {
    /// The floor when it began.
    since: u64,
    what: What,
    answer: Later<Told>,
}

enum What {
    Command(Command),
    Question(Query),
}

enum Told {
    Committed(Result<Committed, StoreError>),
    Answered(Result<Answer, StoreError>),
}

struct World {
    defect: Option<Defect>,
    random: RefCell<Random>,
    settings: Settings,
    /// Changed rows that the writer keeps for fetches under way.
    kept_rows: usize,
    disk: Arc<Mutex<Disk>>,
    life: RefCell<Option<Rc<Life>>>,
    /// `None` while it makes a step.
    writer: RefCell<Option<WriterActor>>,
    /// Commands and questions that readers have not begun with: readers overtake each other.
    #[expect(clippy::vec_box, reason = "that is how they come")]
    fetches: RefCell<Vec<Box<Job>>>,
    #[expect(clippy::vec_box, reason = "that is how they come")]
    questions: RefCell<Vec<Box<Question>>>,
    clients: RefCell<Vec<Client>>,
    closing: RefCell<Option<Later<()>>>,
    judge: RefCell<Judge>,
    known: RefCell<Known>,
    owed: RefCell<VecDeque<Debt>>,
    commands: Cell<u64>,
    depth: Cell<u32>,
    /// Nothing fails, and nobody begins anything.
    is_calm: Cell<bool>,
    wrong: RefCell<Option<String>>,
    story: RefCell<Vec<String>>,
}

impl World {
    fn new(seed: u64, defect: Option<Defect>) -> Self {
        let mut random = Random::new(seed);
        let settings = Settings {
            queue: random.pick(&[2, 4, 8]),
            batch: random.pick(&[1, 4, 8]),
            row_cache_bytes: random.pick(&[0, 4000, 10_000, 20_000]),
            ..Settings::default()
        };
        let clients = 2 + random.index(8);
        Self {
            defect,
            kept_rows: random.pick(&[8, 1000]),
            random: RefCell::new(random),
            settings,
            disk: Arc::default(),
            life: RefCell::default(),
            writer: RefCell::default(),
            fetches: RefCell::default(),
            questions: RefCell::default(),
            clients: RefCell::new((0..clients).map(|_| Client::default()).collect()),
            closing: RefCell::default(),
            judge: RefCell::new(Judge::new(limits())),
            known: RefCell::default(),
            owed: RefCell::default(),
            commands: Cell::new(0),
            depth: Cell::new(0),
            is_calm: Cell::new(true),
            wrong: RefCell::default(),
            story: RefCell::default(),
        }
    }

    fn live(&self) {
        self.open();
        for command in founding() {
            self.commands.set(number_of(&command));
            self.begin(0, What::Command(command));
            self.settle();
        }
        self.is_calm.set(false);
        for _ in 0..STEPS {
            if self.is_over() {
                return;
            }
            self.move_someone();
            self.move_fate();
        }
        self.is_calm.set(true);
        self.settle();
        let questions = all_questions(&self.known.borrow());
        for question in questions {
            self.begin(0, What::Question(question));
            self.settle();
        }
    }

    /// Everybody finishes what was begun.
    fn settle(&self) {
        for _ in 0..PATIENCE {
            let is_idle = self.clients.borrow().iter().all(|client| client.operation.is_none());
            if self.is_over() || is_idle && self.closing.borrow().is_none() {
                return;
            }
            self.move_someone();
            self.move_closing();
        }
        self.judge(Err("somebody waits for ever".to_owned()));
    }

    fn is_over(&self) -> bool {
        self.wrong.borrow().is_some()
    }

    fn judge(&self, judgement: Result<(), String>) {
        if let Err(wrong) = judgement {
            self.tell(&format!("WRONG: {wrong}"));
            self.wrong.borrow_mut().get_or_insert(wrong);
        }
    }

    fn tell(&self, what: &str) {
        let indent = "  ".repeat(self.depth.get() as usize);
        self.story.borrow_mut().push(format!("{indent}{what}"));
    }

    fn one_in(&self, count: u64) -> bool {
        self.random.borrow_mut().one_in(count)
    }

    fn pause(&self) {
        let is_open = self.life.borrow().is_some();
        if !is_open || self.depth.get() >= 3 || self.is_over() || !self.one_in(6) {
            return;
        }
        self.depth.set(self.depth.get() + 1);
        let moves = self.random.borrow_mut().within(1..20);
        for _ in 0..moves {
            self.move_someone();
        }
        self.depth.set(self.depth.get() - 1);
    }

    fn fate(&self) -> Fate {
        if self.is_calm.get() || !self.one_in(40) {
            return Fate::Succeeds;
        }
        let fate = self.random.borrow_mut().pick(&[Fate::FailsBefore, Fate::FailsAfter]);
        let is_before = fate == Fate::FailsBefore;
        self.tell(if is_before { "a commit fails before" } else { "a commit fails after" });
        fate
    }

    fn read_fails(&self) -> bool {
        let fails = !self.is_calm.get() && self.one_in(80);
        if fails {
            self.tell("a read fails");
        }
        fails
    }

    fn move_someone(&self) {
        let dice = self.random.borrow_mut().within(0..100);
        match dice {
            0..40 => self.move_client(),
            40..70 => self.move_writer(),
            70..85 => self.move_fetch(),
            _ => self.move_question(),
        }
    }

    /// What befalls the whole store.
    fn move_fate(&self) {
        let has_failed = self.judge.borrow().has_failed();
        let rarely = if has_failed { 15 } else { 400 };
        if self.one_in(rarely) {
            self.tell("crash");
            self.reopen();
        } else if self.closing.borrow().is_none() && self.one_in(rarely) {
            self.tell("close");
            let store = Arc::clone(&self.life().store);
            *self.closing.borrow_mut() = Some(Box::pin(async move { store.close().await }));
        }
        self.move_closing();
    }

    fn move_closing(&self) {
        let Some(mut closing) = self.closing.take() else { return };
        if closing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            *self.closing.borrow_mut() = Some(closing);
            return;
        }
        drop(closing);
        let count = self.clients.borrow().len();
        for client in 0..count {
            self.poll(client);
            if self.clients.borrow()[client].operation.is_some() {
                self.judge(Err(format!("the store was closed, and client {client} still waits")));
            }
        }
        // The writer finishes and hears that it is to end.
        for _ in 0..PATIENCE {
            let has_ended = self.writer.borrow().as_ref().is_some_and(|writer| {
                writer.state.writer.closing.get()
                    && matches!(&writer.phase, Phase::Gathering(batch) if batch.commands() == 0)
            });
            if has_ended {
                self.tell("closed");
                self.reopen();
                return;
            }
            self.move_writer();
        }
        self.judge(Err("the store was closed, and the writer goes on".to_owned()));
    }

    fn life(&self) -> Rc<Life> {
        Rc::clone(self.life.borrow().as_ref().expect("the store is open between steps"))
    }

    fn open(&self) {
        let engine = Arc::new(SimulatedEngine::open(Arc::clone(&self.disk)));
        let Parts { store, reader, watch: _, writer } = Parts::new(engine, &self.settings, limits());
        *self.life.borrow_mut() = Some(Rc::new(Life { store: Arc::new(store), reader }));
        let phase = Phase::Gathering(Batch::default());
        let mut state = State::new(writer);
        state.recent.most_rows = self.kept_rows;
        *self.writer.borrow_mut() = Some(WriterActor { state, phase });
    }

    /// Everything in memory is gone, and what was not synced, if luck is bad.
    fn reopen(&self) {
        for client in self.clients.borrow_mut().iter_mut() {
            client.operation = None;
        }
        drop((self.closing.take(), self.writer.take(), self.fetches.take(), self.questions.take()));
        drop(self.life.take());
        let is_lucky = self.one_in(2);
        let survived = self.disk.lock().unwrap().crash(is_lucky);
        if survived {
            self.tell("crash, and the batch that failed is there");
        }
        let judgement = self.judge.borrow_mut().reopened(survived, &self.disk.lock().unwrap());
        self.judge(judgement);
        self.open();
    }

    fn move_client(&self) {
        let count = self.clients.borrow().len();
        let client = self.random.borrow_mut().index(count);
        let (is_moving, is_idle) = {
            let client = &self.clients.borrow()[client];
            (client.is_moving, client.operation.is_none())
        };
        if is_moving || is_idle && self.is_calm.get() {
            return;
        }
        if is_idle {
            let what = self.wish();
            self.begin(client, what);
        } else if !self.is_calm.get() && self.one_in(40) {
            self.tell(&format!("client {client} goes away"));
            let operation = self.clients.borrow_mut()[client].operation.take();
            drop(operation);
        } else {
            self.poll(client);
        }
    }

    fn wish(&self) -> What {
        let mut random = self.random.borrow_mut();
        if !random.one_in(3) {
            return What::Question(any_question(&mut random, &self.known.borrow()));
        }
        let number = self.commands.get() + 1;
        self.commands.set(number);
        if random.one_in(6)
            && let Some(debt) = self.owed.borrow_mut().pop_front()
        {
            return What::Command(payment(number, debt));
        }
        What::Command(any_command(&mut random, number, &self.known.borrow()))
    }

    fn begin(&self, client: usize, what: What) {
        let store = Arc::clone(&self.life().store);
        let answer: Later<Told> = match &what {
            What::Command(command) => {
                self.known.borrow_mut().asked(command);
                self.tell(&format!("client {client}: command {} ({:?})", number_of(command), command.action));
                let command = command.clone();
                Box::pin(async move { Told::Committed(store.commit(command).await) })
            }
            What::Question(query) => {
                self.tell(&format!("client {client}: {query:?}"));
                let query = query.clone();
                Box::pin(async move { Told::Answered(store.answer(query).await) })
            }
        };
        let since = self.judge.borrow().floor();
        self.clients.borrow_mut()[client].operation = Some(Operation { since, what, answer });
        self.poll(client);
    }

    fn poll(&self, client: usize) {
        let Some(mut operation) = self.clients.borrow_mut()[client].operation.take() else { return };
        self.clients.borrow_mut()[client].is_moving = true;
        let polled = operation.answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        self.clients.borrow_mut()[client].is_moving = false;
        let Poll::Ready(told) = polled else {
            self.clients.borrow_mut()[client].operation = Some(operation);
            return;
        };
        let Operation { since, what, answer } = operation;
        drop(answer);
        let mut judge = self.judge.borrow_mut();
        let judgement = match (&what, &told) {
            (What::Command(command), Told::Committed(answer)) => {
                judge.command_answered(command, since, answer)
            }
            (What::Question(query), Told::Answered(answer)) => judge.question_answered(query, since, answer),
            _ => unreachable!("a command is committed and a question answered"),
        };
        drop(judge);
        match (&what, &told) {
            (What::Command(command), Told::Committed(Ok(committed))) => {
                self.known.borrow_mut().decided(command, &committed.verdict);
            }
            (What::Question(query), Told::Answered(Ok(answer))) => {
                self.known.borrow_mut().answered(query, answer);
            }
            _ => {}
        }
        match told {
            Told::Committed(Ok(committed)) => {
                self.tell(&format!("client {client} was told {:?}", committed.verdict));
                self.owed.borrow_mut().extend(committed.prompt_debts);
            }
            Told::Answered(Ok(answer)) => {
                self.tell(&format!("client {client} was told {answer:?}"));
                if let Answer::DueDebts(debts) = answer {
                    self.owed.borrow_mut().extend(debts);
                }
            }
            Told::Committed(Err(StoreError::Poisoned { .. })) => {
                self.tell(&format!("client {client} was told that the store is poisoned"));
            }
            Told::Committed(Err(error)) | Told::Answered(Err(error)) => {
                self.tell(&format!("client {client} was told {error}"));
            }
        }
        self.judge(judgement);
    }

    fn move_fetch(&self) {
        let life = self.life();
        let job = self.any_of(&self.fetches, life.reader.fetches.try_iter());
        if let Some(job) = job {
            self.tell(&format!("fetch for command {}", number_of(&job.command)));
            life.reader.fetch(job);
        }
    }

    fn move_question(&self) {
        let life = self.life();
        let question = self.any_of(&self.questions, life.reader.questions.try_iter());
        if let Some(question) = question {
            self.tell(&format!("cold {:?}", question.query));
            life.reader.answer(*question);
        }
    }

    fn any_of<T>(&self, waiting: &RefCell<Vec<T>>, new: impl Iterator<Item = T>) -> Option<T> {
        let mut waiting = waiting.borrow_mut();
        waiting.extend(new);
        if waiting.is_empty() {
            return None;
        }
        let index = self.random.borrow_mut().index(waiting.len());
        Some(waiting.swap_remove(index))
    }

    fn move_writer(&self) {
        let Some(WriterActor { mut state, phase }) = self.writer.take() else { return };
        let phase = match phase {
            Phase::Gathering(mut batch) => {
                let has_room = batch.commands() < state.writer.batch;
                let goes_on = batch.commands() == 0 || has_room && !self.one_in(3);
                let input = if goes_on { state.writer.inbox.try_recv().ok() } else { None };
                if let Some(input) = input {
                    self.take(&mut state, input, &mut batch);
                    Phase::Gathering(batch)
                } else if batch.commands() > 0 {
                    let number = self.commit(&mut state, &mut batch);
                    Phase::Committed(number, batch)
                } else {
                    Phase::Gathering(batch)
                }
            }
            // These moments are short. Here they last, so that much can happen in them.
            phase @ (Phase::Committed(..) | Phase::Published(_)) if !self.one_in(3) => phase,
            Phase::Committed(number, mut batch) => {
                if let Some(number) = number {
                    state.publish(number, &mut batch);
                    self.tell(&format!("the writer has published batch {number}"));
                }
                Phase::Published(batch)
            }
            Phase::Published(batch) => {
                state.conclude(batch);
                Phase::Gathering(Batch::default())
            }
        };
        *self.writer.borrow_mut() = Some(WriterActor { state, phase });
    }

    fn take(&self, state: &mut State<SimulatedEngine>, input: Input, batch: &mut Batch) {
        if let Input::Job(job) = &input {
            self.tell(&format!("the writer takes command {}", number_of(&job.command)));
        }
        match (self.defect, &input) {
            (Some(Defect::IgnoresStagedChanges), _) => {
                let mut staged = std::mem::take(&mut batch.staged);
                state.take(input, batch);
                staged.extend(batch.staged.drain());
                batch.staged = staged;
            }
            (Some(Defect::IgnoresRecentChanges), Input::Job(job)) if job.fetched.is_some() => {
                let began = job.fetch_began;
                let recent = std::mem::replace(&mut state.recent, Recent::new(0));
                state.take(input, batch);
                state.recent = recent;
                state.recent.fetch_ends(began);
            }
            _ => state.take(input, batch),
        }
    }

    fn commit(&self, state: &mut State<SimulatedEngine>, batch: &mut Batch) -> Option<u64> {
        let has_changes = !batch.staged.is_empty();
        let judgement = self.judge.borrow_mut().decided(&batch.decided, has_changes);
        self.judge(judgement);
        if self.is_over() {
            return None;
        }
        match self.defect {
            Some(Defect::AnswersBeforeCommit) => deliver(std::mem::take(&mut batch.decided)),
            Some(Defect::ShowsBeforeCommit) if has_changes => {
                state.writer.cache.publish(state.newest + 1, &batch.staged);
            }
            _ => {}
        }
        self.tell(&format!("the writer commits {} commands", batch.decided.len()));
        if !has_changes {
            self.commit_ended(true);
        }
        state.commit(batch)
    }

    fn commit_ended(&self, is_durable: bool) {
        let judgement = self.judge.borrow_mut().commit_ended(is_durable, &self.disk.lock().unwrap());
        self.judge(judgement);
    }
}
