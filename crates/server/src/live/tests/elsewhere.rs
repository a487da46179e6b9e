//! What other nodes commit: news of it comes early, late, twice or never.

use std::sync::{Mutex, Weak};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use sidenote_core::query::{Answer, Query};
use sidenote_store::audience::{Audience, Followed, FollowedConversation};
use sidenote_store::news::{Follower, Gathered, Newsroom};
use sidenote_store::{Committed, News, Statistics, StoreError};
use tokio::task::yield_now;

use super::*;

/// A store of which nothing is heard but what the test tells.
struct Far {
    inner: MemoryStore,
    newsroom: Newsroom,
    audience: Mutex<Option<Weak<dyn Audience>>>,
}

impl Far {
    fn new() -> Arc<Self> {
        let inner = MemoryStore::new(Limits::default());
        Arc::new(Self { inner, newsroom: Newsroom::remembering(), audience: Mutex::default() })
    }

    /// Another node tells that a group has had these events.
    fn tell(&self, name: &str, numbers: (u64, u64)) {
        self.tell_by(Gathered::add_heard, name, numbers);
    }

    /// The store finds that whoever follows does not know of them.
    fn tell_missed(&self, name: &str, numbers: (u64, u64)) {
        self.tell_by(Gathered::add_missed, name, numbers);
    }

    fn tell_by(&self, add: fn(&mut Gathered, &News), name: &str, numbers: (u64, u64)) {
        let (first, last) = (EventNumber::new(numbers.0), EventNumber::new(numbers.1));
        let (conversation, incarnation) = (group(name), Incarnation::from_random(1));
        let mut gathered = Gathered::default();
        add(&mut gathered, &News { conversation, incarnation, first, last, events: Vec::new() });
        self.newsroom.tell(&gathered);
    }

    fn audience(&self) -> Arc<dyn Audience> {
        self.audience.lock().unwrap().as_ref().unwrap().upgrade().unwrap()
    }
}

#[async_trait]
impl Store for Far {
    async fn commit(&self, command: Command) -> Result<Committed, StoreError> {
        self.inner.commit(command).await
    }

    async fn answer(&self, query: Query) -> Result<Answer, StoreError> {
        self.inner.answer(query).await
    }

    fn news(&self) -> Follower {
        self.newsroom.follow()
    }

    fn attend(&self, audience: Weak<dyn Audience>) {
        *self.audience.lock().unwrap() = Some(audience);
    }

    fn health(&self) -> Result<(), StoreError> {
        self.inner.health()
    }

    fn statistics(&self) -> Statistics {
        self.inner.statistics()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

async fn scene(far: &Arc<Far>) -> Scene {
    let store: Arc<dyn Store> = Arc::<Far>::clone(far);
    let scene = Scene::over(store);
    scene.import("ann").await;
    // Created, joined.
    scene.create("a", 1, &["ann"]).await;
    scene
}

#[tokio::test]
async fn news_of_a_later_event_that_comes_first_tells_the_earlier_ones_too() {
    let far = Far::new();
    let scene = scene(&far).await;
    let mut ann = scene.connect("ann").await;
    for random in 1..=3 {
        scene.send("a", random).await;
    }
    far.tell("a", (4, 4));
    assert_eq!((next(&mut ann).await.1, next(&mut ann).await.1), (3, 4));
    for late in [(3, 3), (4, 4), (3, 4)] {
        far.tell("a", late);
    }
    far.tell("a", (5, 5));
    assert_eq!(next(&mut ann).await.1, 5);
    assert!(ann.next().now_or_never().is_none());
}

#[tokio::test]
async fn what_was_passed_over_before_a_joining_was_heard_of_is_told_when_the_store_looks() {
    let far = Far::new();
    let scene = scene(&far).await;
    scene.import("bob").await;
    let mut bob = scene.connect("bob").await;
    scene.add("a", "bob").await;
    scene.send("a", 1).await;
    // Two nodes have written, and the second is heard first.
    far.tell("a", (4, 4));
    // The task that hands events out runs when this test waits.
    for _ in 0..20 {
        yield_now().await;
    }
    far.tell("a", (3, 3));
    assert_eq!(next(&mut bob).await.1, 3);
    let known = scene.hub.followed().conversations[0].known;
    assert_eq!(known, Some(EventNumber::new(3)));
    far.tell("a", (4, 4));
    far.tell_missed("a", (4, 4));
    assert_eq!(next(&mut bob).await.1, 4);
    assert!(bob.next().now_or_never().is_none());
}

#[tokio::test]
async fn news_of_a_joining_that_comes_after_the_login_tells_nothing_that_is_older() {
    let far = Far::new();
    let scene = scene(&far).await;
    scene.send("a", 1).await;
    let mut ann = scene.connect("ann").await;
    far.tell("a", (1, 3));
    scene.send("a", 2).await;
    far.tell("a", (4, 4));
    assert_eq!(next(&mut ann).await.1, 4);
    // And where it comes while she connects, however far the task gets.
    for turns in 0..30 {
        drop(ann);
        let last = 4 + turns;
        let (hub, account, number) = (Arc::clone(&scene.hub), account("ann"), tiny_id("ann"));
        let connecting = async move { hub.connect(&account, number).await.unwrap() };
        let telling = async {
            for _ in 0..turns {
                yield_now().await;
            }
            far.tell_missed("a", (1, last));
        };
        ann = tokio::join!(connecting, telling).0;
        scene.send("a", 3 + u32::try_from(turns).unwrap()).await;
        far.tell("a", (last + 1, last + 1));
        assert_eq!(next(&mut ann).await.1, last + 1, "{turns}");
    }
    assert!(ann.next().now_or_never().is_none());
}

#[tokio::test]
async fn the_store_learns_what_is_followed_and_up_to_where_it_is_known() {
    let far = Far::new();
    let scene = scene(&far).await;
    let audience = far.audience();
    let mut changes = audience.changes();
    let is_nothing = |followed: Followed| {
        followed.conversations.is_empty() && followed.accounts.is_empty() && !followed.has_apps
    };
    assert!(is_nothing(audience.followed()));
    changes.mark_unchanged();
    let mut ann = scene.connect("ann").await;
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    let known = || {
        let Followed { conversations, accounts, has_apps } = audience.followed();
        assert_eq!((accounts, has_apps), (vec![(account("ann"), tiny_id("ann"))], false));
        let [FollowedConversation { conversation, incarnation, known }] = &conversations[..] else {
            panic!("{conversations:?}");
        };
        assert_eq!((conversation, incarnation.get()), (&group("a"), 1));
        known.unwrap().get()
    };
    assert_eq!(known(), 2);
    scene.send("a", 1).await;
    assert_eq!(known(), 2);
    far.tell("a", (3, 3));
    assert_eq!((next(&mut ann).await.1, known()), (3, 3));
    drop(ann);
    assert!(changes.has_changed().unwrap() && is_nothing(audience.followed()));
    let everything = scene.hub.follow_app(APP).await;
    assert!(audience.followed().has_apps);
    drop(everything);
    while !is_nothing(audience.followed()) {
        yield_now().await;
    }
}
