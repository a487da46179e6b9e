//! The store as its callers see it: admission, answers from memory, opening and closing.

use std::cell::Cell;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use sidenote_core::Limits;
use sidenote_core::command::Command;
use sidenote_core::query::{self, Answer, Query};
use sidenote_store::figures::Figures;
use sidenote_store::news::{Follower, Newsroom};
use sidenote_store::{Committed, Statistics, Store, StoreError};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, oneshot};

use crate::answers::Delivery;
use crate::backup::Snapshots;
use crate::cache::Cache;
use crate::condition::Condition;
use crate::engine::{self, Engine, EngineError, OpenError};
use crate::inner_engine::{InnerEngine, InnerSnapshot};
use crate::readers::{Question, Reader};
use crate::views::{Warm, guarded, in_full};
use crate::writer::{Input, Job, Writer};

/// The most commands or questions that may be accepted at once, whatever is asked for.
const MAX_QUEUE: usize = 1 << 20;

/// How often the size of the files is looked at, and whether the engine still takes writes.
const WATCH_EVERY: Duration = Duration::from_secs(5);

/// How often a question tries memory again, when rows changed under its hands, before a thread reads files for it.
const WARM_TRIES: usize = 3;

/// What an operator may choose. A number of 0 counts as 1, except for the cache.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the engine may choose from.
    pub engine: engine::Settings,
    /// Commands that are accepted and not answered yet, and likewise questions that need files; further callers
    /// wait. At most 1,048,576.
    pub queue: usize,
    /// Commands that share one commit, at most.
    pub batch: usize,
    /// Threads that read files.
    pub reader_threads: usize,
    /// Memory for rows, in bytes; 0 keeps none.
    pub row_cache_bytes: u64,
}

impl Default for Settings {
    /// 4,096 commands and as many questions, 512 commands a commit, 4 reader threads, 256 MiB of rows.
    fn default() -> Self {
        Self {
            engine: engine::Settings::default(),
            queue: 4096,
            batch: 512,
            reader_threads: 4,
            row_cache_bytes: 256 * 1024 * 1024,
        }
    }
}

/// A store in a folder on a local disk, owned by this process.
///
/// Every method is to be called within any async runtime or none; the store's own threads do the work. A future of
/// [`commit`](Store::commit) that was woken must be polled or dropped: it may carry the answers of others.
///
/// Dropping the store without [`close`](Store::close) loses nothing that was answered, and lets go of the folder a moment later.
pub struct EmbeddedStore {
    limits: Limits,
    pub(crate) cache: Arc<Cache>,
    condition: Arc<Condition>,
    figures: Arc<Figures>,
    queue: usize,
    /// Places for commands. The channels behind them have room for all, so that sending never blocks.
    places: Arc<Semaphore>,
    writer: Sender<Input>,
    /// Places for questions that need files, likewise.
    question_places: Arc<Semaphore>,
    /// `None` once closed: the readers end when nobody can ask any more.
    questions: RwLock<Option<Sender<Box<Question>>>>,
    /// Dropped to end the watch.
    watched: RwLock<Option<Sender<()>>>,
    threads: Mutex<Vec<Thread>>,
    engine: Weak<Engine>,
    newsroom: Newsroom,
}

/// A thread of the store, and the sign that it has let go of everything.
struct Thread {
    ended: oneshot::Receiver<()>,
    handle: JoinHandle<()>,
}

impl EmbeddedStore {
    /// Opens the store in `path`, or makes one in a folder that is empty or does not exist. Reads and checks the
    /// journals, so it may take a second, and blocks meanwhile.
    pub fn open(path: &Path, settings: &Settings, limits: Limits) -> Result<Self, OpenError> {
        let engine = Arc::new(Engine::open(path, &settings.engine)?);
        Self::start(engine, settings, limits).map_err(|source| OpenError::Threads { source })
    }

    pub(crate) fn start(engine: Arc<Engine>, settings: &Settings, limits: Limits) -> std::io::Result<Self> {
        // What is started before a failure ends by itself when the channels are dropped here, the writer included:
        // it is started last.
        let snapshots = Arc::downgrade(&engine);
        let Parts { mut store, reader, watch, writer } = Parts::new(engine, settings, limits);
        store.engine = snapshots;
        let mut threads = Vec::new();
        for number in 0..settings.reader_threads.max(1) {
            let reader = reader.clone();
            threads.push(Thread::spawn(format!("store-reader-{number}"), || reader.run())?);
        }
        drop(reader);
        threads.push(Thread::spawn("store-watch".to_owned(), || watch.run())?);
        threads.push(Thread::spawn("store-writer".to_owned(), || writer.run())?);
        store.threads = Mutex::new(threads);
        Ok(store)
    }

    /// The way to the rows of the store as of one batch, for backups while it is in use.
    pub fn snapshots(&self) -> Snapshots {
        Snapshots(Weak::clone(&self.engine))
    }

    /// Answers from memory, if all that the question needs is there.
    fn answer_warm(&self, query: &Query) -> Result<Option<Answer>, StoreError> {
        for _ in 0..WARM_TRIES {
            let view = Warm::new(&self.cache);
            if let Ok(answer) = guarded(|| query::answer(&view, query, &self.limits))? {
                return Ok(Some(answer));
            }
            if view.is_of_newest_batch() {
                break;
            }
        }
        Ok(None)
    }

    async fn place_in(&self, places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, StoreError> {
        Arc::clone(places).acquire_owned().await.map_err(|_| StoreError::Closed)
    }

    /// Why an answer never came: a thread ended by a bug.
    fn deserted(&self) -> StoreError {
        self.condition.poison("a thread of the store ended, which is a bug; see the log".to_owned())
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn commit(&self, command: Command) -> Result<Committed, StoreError> {
        self.condition.open()?;
        self.condition.writable()?;
        let place = self.place_in(&self.places).await?;
        let (reply, answer) = oneshot::channel();
        if self.writer.send(Input::Job(Job::new(command, reply, place))).is_err() {
            return Err(self.deserted());
        }
        answer.await.map_or_else(|_| Err(self.deserted()), Delivery::take)
    }

    async fn answer(&self, query: Query) -> Result<Answer, StoreError> {
        self.condition.open()?;
        if let Some(answer) = self.answer_warm(&query)? {
            return Ok(answer);
        }
        let place = self.place_in(&self.question_places).await?;
        let (reply, answer) = oneshot::channel();
        let question = Box::new(Question { query, reply, place });
        match &*self.questions.read().unwrap_or_else(PoisonError::into_inner) {
            None => return Err(StoreError::Closed),
            Some(questions) if questions.send(question).is_err() => return Err(self.deserted()),
            Some(_) => {}
        }
        answer.await.unwrap_or_else(|_| Err(self.deserted()))
    }

    fn news(&self) -> Follower {
        self.newsroom.follow()
    }

    fn health(&self) -> Result<(), StoreError> {
        self.condition.writable()?;
        self.condition.open()
    }

    fn statistics(&self) -> Statistics {
        Statistics {
            queue_depth: self.queue.saturating_sub(self.places.available_permits()) as u64,
            cache_hits: self.cache.hits(),
            cache_misses: self.cache.misses(),
            cache_bytes: self.cache.bytes(),
            ..self.figures.read()
        }
    }

    async fn close(&self) {
        self.condition.begin_closing();
        // Holding all places means that everything accepted was answered. Whoever waits for a place behind us is
        // refused.
        for places in [&self.places, &self.question_places] {
            let all = u32::try_from(self.queue).expect("a queue is clamped to far less");
            if let Ok(all) = places.acquire_many(all).await {
                places.close();
                all.forget();
            }
        }
        let mut threads = self.threads.lock().await;
        self.let_go();
        for Thread { ended, handle } in threads.drain(..) {
            // The thread says nothing; it ends, and its end of the channel with it.
            drop(ended.await);
            drop(handle.join());
        }
    }
}

impl EmbeddedStore {
    /// Lets the threads end.
    fn let_go(&self) {
        // Fails where the word has been given already.
        drop(self.writer.try_send(Input::Close));
        drop(self.questions.write().unwrap_or_else(PoisonError::into_inner).take());
        drop(self.watched.write().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedStore").field("health", &self.health()).finish_non_exhaustive()
    }
}

/// A store and those who do its work, each for a thread of its own (readers: any number of clones).
pub(crate) struct Parts<E> {
    pub(crate) store: EmbeddedStore,
    pub(crate) reader: Reader<E>,
    pub(crate) watch: Watch<E>,
    pub(crate) writer: Writer<E>,
}

impl<E: InnerEngine> Parts<E> {
    pub(crate) fn new(engine: Arc<E>, settings: &Settings, limits: Limits) -> Self {
        let queue = settings.queue.clamp(1, MAX_QUEUE);
        let cache = Arc::new(Cache::new(settings.row_cache_bytes, engine.snapshot().number()));
        let condition = Arc::new(Condition::default());
        let figures = Arc::new(Figures::default());
        let newsroom = Newsroom::default();
        // One more, so that the word to close never waits either.
        let (writer, inbox) = bounded(queue + 1);
        let (fetches, to_fetch) = bounded(queue);
        let (questions, asked) = bounded(queue);
        let (watched, watch_ends) = bounded(0);
        Self {
            reader: Reader {
                engine: Arc::clone(&engine),
                cache: Arc::clone(&cache),
                limits,
                fetches: to_fetch,
                writer: writer.clone(),
                questions: asked,
            },
            watch: Watch {
                engine: Arc::clone(&engine),
                condition: Arc::clone(&condition),
                figures: Arc::clone(&figures),
                ends: watch_ends,
            },
            writer: Writer {
                engine,
                cache: Arc::clone(&cache),
                condition: Arc::clone(&condition),
                figures: Arc::clone(&figures),
                limits,
                batch: settings.batch.max(1),
                inbox,
                fetches,
                newsroom: newsroom.clone(),
                closing: Cell::new(false),
            },
            store: EmbeddedStore {
                limits,
                cache,
                condition,
                figures,
                queue,
                places: Arc::new(Semaphore::new(queue)),
                writer,
                question_places: Arc::new(Semaphore::new(queue)),
                questions: RwLock::new(Some(questions)),
                watched: RwLock::new(Some(watched)),
                threads: Mutex::default(),
                engine: Weak::new(),
                newsroom,
            },
        }
    }
}

impl Thread {
    fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> std::io::Result<Self> {
        let (alive, ended) = oneshot::channel::<()>();
        let handle = Builder::new().name(name).spawn(move || {
            // Dropped after all that the work holds, the folder's lock included.
            let _alive = alive;
            work();
        })?;
        Ok(Self { ended, handle })
    }
}

/// Looks at what may take a while to look at, so that nobody who serves a request has to.
pub(crate) struct Watch<E> {
    engine: Arc<E>,
    condition: Arc<Condition>,
    figures: Arc<Figures>,
    ends: Receiver<()>,
}

impl<E: InnerEngine> Watch<E> {
    fn run(self) {
        loop {
            if let Ok(bytes) = self.engine.disk_bytes() {
                self.figures.disk_bytes(bytes);
            }
            if self.engine.is_poisoned() {
                // A commit that fails gives its own reason; this is for a flush between commits.
                drop(self.condition.poison(in_full(&EngineError::Background)));
            }
            if self.ends.recv_timeout(WATCH_EVERY) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }
}
