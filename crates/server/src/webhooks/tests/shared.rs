//! Webhooks over a store that says whose turn it is, as one does that several processes share.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, Weak};

use async_trait::async_trait;
use sidenote_core::command::{Action, Command};
use sidenote_core::ids::{ConversationId, Incarnation};
use sidenote_core::outbox::Outbox;
use sidenote_store::decorator::Decorator;
use sidenote_store::news::Follower;
use sidenote_store::shared::{Claim, Claimed, Login, Logins, Shared};
use sidenote_store::{Committed, StoreError};
use tokio::sync::watch;
use tokio::time::Instant;

use super::*;

/// What this process is told of others.
struct World {
    inner: MemoryStore,
    /// Whether another process has claimed everything.
    others: AtomicBool,
    /// The lease of this process, by its epoch.
    holds: Mutex<(u64, bool)>,
    departures: watch::Sender<u64>,
    /// Whether the answer to the next settlement is lost.
    loses: AtomicBool,
    asked: AtomicUsize,
    claims: AtomicUsize,
    deposed: AtomicUsize,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryStore::new(limits()),
            others: AtomicBool::new(false),
            holds: Mutex::new((0, true)),
            departures: watch::Sender::new(0),
            loses: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
            claims: AtomicUsize::new(0),
            deposed: AtomicUsize::new(0),
        })
    }

    async fn scene(self: &Arc<Self>, script: &Script, more: &str) -> Scene {
        let store: Arc<dyn Store> = Arc::clone(self) as Arc<dyn Store>;
        Scene::over(store, config(&script.url(), &format!("{LOOPBACK}\ntimeout_ms = 60000\n{more}"))).await
    }

    async fn outboxes(&self, id: &ConversationId) -> Vec<(Incarnation, Outbox)> {
        let store: &dyn Store = &self.inner;
        let conversation = Some(id.conversation.clone());
        let question = Outboxes { app: id.app, conversation, after: None, limit: 9 };
        store.ask(question).await.unwrap().into_iter().map(|(_, life, outbox)| (life, outbox)).collect()
    }

    fn count(count: &AtomicUsize) -> usize {
        count.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Decorator for World {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    fn shared(&self) -> Option<&dyn Shared> {
        Some(self)
    }
}

#[async_trait]
impl Shared for World {
    fn join(&self, _: Weak<dyn Logins>) {}

    fn own_news(&self) -> Follower {
        self.inner.news()
    }

    fn lives(&self) -> bool {
        self.holds.lock().unwrap().1
    }

    fn leads(&self) -> bool {
        true
    }

    fn departures(&self) -> watch::Receiver<u64> {
        self.departures.subscribe()
    }

    async fn claim(&self, id: &ConversationId) -> Result<Claimed, StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let (epoch, holds) = *self.holds.lock().unwrap();
        if !holds {
            return Ok(Claimed::Later);
        }
        if self.others.load(Ordering::SeqCst) {
            return Ok(Claimed::Others);
        }
        self.claims.fetch_add(1, Ordering::SeqCst);
        let lives = self.outboxes(id).await;
        let claim = Claim { token: 1, epoch };
        Ok(if lives.is_empty() { Claimed::Nothing } else { Claimed::Mine(claim, lives) })
    }

    fn holds_until(&self, claim: Claim) -> Option<Instant> {
        let (epoch, holds) = *self.holds.lock().unwrap();
        (holds && claim.epoch == epoch).then(|| Instant::now() + Duration::from_millis(5))
    }

    async fn commit_claimed(&self, _: Claim, command: Command) -> Result<Option<Committed>, StoreError> {
        let Action::Outbox(id, ..) = &command.action else { panic!("{command:?}") };
        if self.others.load(Ordering::SeqCst) || self.outboxes(id).await.is_empty() {
            self.deposed.fetch_add(1, Ordering::SeqCst);
            return Ok(None);
        }
        let committed = self.inner.commit(command).await.map(Some);
        if self.loses.swap(false, Ordering::SeqCst) {
            return Err(StoreError::Unknown { reason: "the answer was lost".to_owned() });
        }
        committed
    }

    async fn unclaimed(
        &self,
        app: AppId,
        _: Option<(ConversationId, Incarnation)>,
        limit: usize,
    ) -> Result<Vec<(ConversationId, Incarnation)>, StoreError> {
        if self.others.load(Ordering::SeqCst) {
            return Ok(Vec::new());
        }
        let store: &dyn Store = &self.inner;
        let all = store.ask(Outboxes { app, conversation: None, after: None, limit }).await?;
        Ok(all.into_iter().map(|(id, life, _)| (id, life)).collect())
    }

    async fn enter(&self, _: &Login, _: usize) -> Result<(), StoreError> {
        Ok(())
    }

    fn left(&self, _: Login) {}
}

#[tokio::test]
async fn what_others_tell_is_left_to_them_until_one_of_them_is_gone() {
    let (script, world) = (Script::ok().await, World::new());
    world.others.store(true, Ordering::SeqCst);
    let scene = world.scene(&script, "").await;
    scene.poll("room").await;
    scene.set_often("room", 3).await;
    world.others.store(false, Ordering::SeqCst);
    // Nobody looks by himself so soon, and nothing new happens.
    assert_eq!(script.got().len(), 0);
    world.departures.send_modify(|count| *count += 1);
    until("all is settled", async || scene.outboxes().await == 0).await;
    assert_eq!(seqs(&script.got(), "room"), [1, 2, 3]);
    scene.stop().await;
}

#[tokio::test]
async fn a_request_is_given_up_with_the_lease_and_tried_again_with_a_claim_of_its_own() {
    let script = Script::new(|_, before| if before == 1 { Reply::Hang } else { Reply::Ok }).await;
    let world = World::new();
    let scene = world.scene(&script, "").await;
    scene.poll("room").await;
    until("the second event is under way", async || script.got().len() == 2).await;
    let claims = World::count(&world.claims);
    *world.holds.lock().unwrap() = (0, false);
    scene.set_often("room", 2).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let asked = World::count(&world.asked);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(script.got().len(), 2, "it tells without a lease");
    assert_eq!(World::count(&world.asked), asked, "it asks for claims without a lease");
    // The lease is back, but what was claimed before is not.
    *world.holds.lock().unwrap() = (1, true);
    until("all is settled", async || scene.outboxes().await == 0).await;
    assert!(World::count(&world.claims) > claims);
    assert_eq!(seqs(&script.got(), "room"), [1, 2]);
    scene.stop().await;
}

#[tokio::test]
async fn whoever_was_deposed_writes_nothing_down_and_lets_go() {
    let (script, world) = (Script::ok().await, World::new());
    let scene = world.scene(&script, "").await;
    scene.poll("room").await;
    until("both events were told", async || script.got().len() == 2).await;
    world.others.store(true, Ordering::SeqCst);
    until("a settlement was refused", async || World::count(&world.deposed) > 0).await;
    scene.set_often("room", 2).await;
    // The others are gone: it begins where they had written down that they were, which is nowhere.
    world.others.store(false, Ordering::SeqCst);
    world.departures.send_modify(|count| *count += 1);
    until("all is settled", async || scene.outboxes().await == 0).await;
    assert_eq!(seqs(&script.got(), "room"), [1, 2]);
    assert_eq!(script.got().len(), 6);
    scene.stop().await;
}

#[tokio::test]
async fn with_the_last_event_that_was_given_up_the_claim_is_gone() {
    let script = Script::new(|_, _| Reply::Status(500)).await;
    let world = World::new();
    let scene = world.scene(&script, "give_up_tries = 1").await;
    scene.poll("room").await;
    until("both events are letters", async || scene.outboxes().await == 0).await;
    assert_eq!(script.got().len(), 2);
    // What comes now makes a new outbox, and somebody else has claimed that.
    world.others.store(true, Ordering::SeqCst);
    scene.set_often("room", 1).await;
    until("it has noticed", async || World::count(&world.deposed) > 0).await;
    assert_eq!(script.got().len(), 2, "it tells what somebody else tells");
    scene.stop().await;
}

#[tokio::test]
async fn after_a_settlement_whose_answer_was_lost_nothing_is_told_before_it_is_clear_who_tells() {
    let (script, world) = (Script::ok().await, World::new());
    let scene = world.scene(&script, "").await;
    world.loses.store(true, Ordering::SeqCst);
    scene.poll("room").await;
    until("a settlement was lost", async || !world.loses.load(Ordering::SeqCst)).await;
    assert_eq!((script.got().len(), scene.outboxes().await), (2, 0));
    world.others.store(true, Ordering::SeqCst);
    scene.set_often("room", 1).await;
    until("it has noticed", async || World::count(&world.deposed) > 0).await;
    assert_eq!(script.got().len(), 2, "it tells what somebody else tells");
    world.others.store(false, Ordering::SeqCst);
    world.departures.send_modify(|count| *count += 1);
    until("all is settled", async || scene.outboxes().await == 0).await;
    assert_eq!((seqs(&script.got(), "room"), script.got().len()), (vec![1], 3));
    scene.stop().await;
}
