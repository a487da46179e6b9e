//! The judge of histories is tried on stores that are wrong, each in a way that a server could be: behind the real
//! gateway, spoken to through sockets.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sidenote_core::command::{Action, Claim, Command, Extend, GroupAction};
use sidenote_core::event::CallerKind;
use sidenote_core::extension::Seq;
use sidenote_core::query::{Answer, Pull, Query};
use sidenote_server::clock::SystemClock;
use sidenote_server::config::Config;
use sidenote_server::{Server, rule_limits};
use sidenote_store::memory::MemoryStore;
use sidenote_store::news::Follower;
use sidenote_store::{Committed, Statistics, Store, StoreError};
use sidenote_torture::linear::{self, CLIENTS};
use sidenote_torture::model::Set;
use tokio::runtime::Runtime;

/// A server of this process over a store of the test's choice.
struct InProcess {
    runtime: Runtime,
    config: Config,
    server: Option<Server>,
}

impl InProcess {
    fn start(store: Arc<dyn Store>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::from_toml(&linear::options().toml(&folder.path().join("unused"))).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut this = Self { runtime, config, server: None };
        this.serve(store);
        this
    }

    fn serve(&mut self, store: Arc<dyn Store>) {
        let server = Server::start(&self.config, store, Arc::new(SystemClock));
        self.server = Some(self.runtime.block_on(server).unwrap());
    }

    fn address(&self) -> std::net::SocketAddr {
        self.server.as_ref().unwrap().local_addr()
    }

    fn stop(&mut self) {
        self.runtime.block_on(self.server.take().unwrap().stop());
    }

    fn limits() -> sidenote_core::Limits {
        let text = linear::options().toml(std::path::Path::new("unused"));
        rule_limits(&Config::from_toml(&text).unwrap())
    }

    /// One history without a crash, and the verdict on it.
    fn judge(&self, before: &mut Vec<Set>, seed: u64) -> Result<(), String> {
        let history = linear::record(self.address(), before, seed, usize::MAX, || {});
        let after = linear::observe(self.address());
        let verdict = history.judge(before, &after);
        *before = after;
        verdict
    }
}

/// The control: nothing that the doubles below do is found where nothing is wrong.
#[test]
fn an_honest_store_is_linearizable() {
    let server = InProcess::start(Arc::new(MemoryStore::new(InProcess::limits())));
    linear::furnish(server.address());
    let mut before = linear::observe(server.address());
    for seed in 0..10 {
        server.judge(&mut before, seed).unwrap();
    }
}

/// Decides and shows at once, and is durable whenever the test says so: what a store without a sync would be.
struct AnswersBeforeTheSync {
    shown: MemoryStore,
    /// All commands in the order in which they were decided.
    log: tokio::sync::Mutex<Vec<Command>>,
    synced: AtomicUsize,
}

impl AnswersBeforeTheSync {
    fn new() -> Self {
        Self {
            shown: MemoryStore::new(InProcess::limits()),
            log: tokio::sync::Mutex::default(),
            synced: AtomicUsize::new(0),
        }
    }

    async fn sync(&self) {
        self.synced.store(self.log.lock().await.len(), Ordering::SeqCst);
    }

    /// What a loss of power leaves.
    async fn crash(&self) -> Self {
        let left = Self::new();
        for command in &self.log.lock().await[..self.synced.load(Ordering::SeqCst)] {
            left.commit(command.clone()).await.unwrap().verdict.ok();
        }
        left.sync().await;
        left
    }
}

#[async_trait]
impl Store for AnswersBeforeTheSync {
    async fn commit(&self, command: Command) -> Result<Committed, StoreError> {
        let mut log = self.log.lock().await;
        log.push(command.clone());
        self.shown.commit(command).await
    }

    async fn answer(&self, query: Query) -> Result<Answer, StoreError> {
        self.shown.answer(query).await
    }

    fn news(&self) -> Follower {
        self.shown.news()
    }

    fn health(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn statistics(&self) -> Statistics {
        self.shown.statistics()
    }

    async fn close(&self) {}
}

/// The verdict on one history and the loss of power after it.
fn lose_power(is_synced_before: bool) -> Result<(), String> {
    let store = Arc::new(AnswersBeforeTheSync::new());
    let mut server = InProcess::start(store.clone());
    linear::furnish(server.address());
    let before = linear::observe(server.address());
    server.runtime.block_on(store.sync());
    let history = linear::record(server.address(), &before, 7, usize::MAX, || {});
    if is_synced_before {
        server.runtime.block_on(store.sync());
    }
    server.stop();
    server.serve(Arc::new(server.runtime.block_on(store.crash())));
    history.judge(&before, &linear::observe(server.address()))
}

#[test]
fn a_store_that_answers_before_the_sync_is_caught() {
    lose_power(true).unwrap();
    let verdict = lose_power(false).unwrap_err();
    assert!(verdict.contains("is not linearizable"), "{verdict}");
}

/// Compares a member's Seq with what is stored, and only then asks the writer to write, whatever is stored by then.
struct ChecksOutsideTheWriter(MemoryStore);

impl ChecksOutsideTheWriter {
    async fn claims_fit(&self, command: &Command) -> bool {
        let Action::Group(id, GroupAction::Extend(seq, extend)) = &command.action else { return false };
        let claims: Vec<_> = match extend {
            Extend::Set(pairs) => pairs.iter().map(|((key, _), claim)| (key, claim)).collect(),
            Extend::Delete(keys) => keys.iter().map(|(key, claim)| (key, claim)).collect(),
            Extend::Clear => return false,
        };
        let pull = Pull {
            id: id.clone(),
            seq: *seq,
            operator: command.operator.clone(),
            start: Seq::NEVER,
            tombstones: true,
        };
        let store: &dyn Store = &self.0;
        let page = store.ask(pull).await.unwrap().unwrap();
        claims.into_iter().all(|(key, claim)| {
            let held = page.pairs.iter().find(|pair| pair.key == *key);
            *claim == Claim::Saw(held.map_or(Seq::NEVER, |pair| pair.seq))
        })
    }
}

#[async_trait]
impl Store for ChecksOutsideTheWriter {
    async fn commit(&self, mut command: Command) -> Result<Committed, StoreError> {
        if command.operator.kind == CallerKind::Member && self.claims_fit(&command).await {
            // The gap in which another writer passes the same check.
            tokio::time::sleep(Duration::from_millis(2)).await;
            command.operator.kind = CallerKind::Administrator;
        }
        self.0.commit(command).await
    }

    async fn answer(&self, query: Query) -> Result<Answer, StoreError> {
        self.0.answer(query).await
    }

    fn news(&self) -> Follower {
        self.0.news()
    }

    fn health(&self) -> Result<(), StoreError> {
        self.0.health()
    }

    fn statistics(&self) -> Statistics {
        self.0.statistics()
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

#[test]
fn a_store_that_checks_seq_outside_the_writer_is_caught() {
    let server = InProcess::start(Arc::new(ChecksOutsideTheWriter(MemoryStore::new(InProcess::limits()))));
    linear::furnish(server.address());
    let mut before = linear::observe(server.address());
    // Two of sixteen members must meet in the gap; one history is enough as a rule.
    let verdict = (0..20).find_map(|seed| server.judge(&mut before, seed).err());
    let verdict =
        verdict.unwrap_or_else(|| panic!("{CLIENTS} members in 20 histories, and no stale writer won"));
    assert!(verdict.contains("is not linearizable"), "{verdict}");
}
