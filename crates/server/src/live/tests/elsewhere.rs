//! What other nodes commit: news of it comes early, late, twice or never.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, Weak};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use sidenote_core::event::Event;
use sidenote_core::query::{Answer, Query};
use sidenote_store::audience::{Audience, Followed, FollowedConversation};
use sidenote_store::decorator::Decorator;
use sidenote_store::news::{Follower, Gathered, Newsroom};
use sidenote_store::{News, StoreError};
use tokio::task::yield_now;

use super::*;

/// A store of which nothing is heard but what the test tells.
struct Far {
    inner: MemoryStore,
    newsroom: Newsroom,
    /// Whether logs can't be read.
    is_broken: AtomicBool,
    /// How many questions for the groups of an account are answered; all that come after them fail.
    joined_left: AtomicUsize,
    audience: Mutex<Option<Weak<dyn Audience>>>,
}

impl Far {
    fn new() -> Arc<Self> {
        let inner = MemoryStore::new(Limits::default());
        let (newsroom, is_broken) = (Newsroom::remembering(), AtomicBool::new(false));
        let joined_left = AtomicUsize::new(usize::MAX);
        Arc::new(Self { inner, newsroom, is_broken, joined_left, audience: Mutex::default() })
    }

    /// Another node tells that a group has had these events.
    fn tell(&self, name: &str, numbers: (u64, u64)) {
        self.tell_by(Gathered::add_heard, group(name), 1, numbers);
    }

    /// The store finds that whoever follows does not know of them.
    fn tell_missed(&self, name: &str, numbers: (u64, u64)) {
        self.tell_by(Gathered::add_missed, group(name), 1, numbers);
    }

    fn tell_by(
        &self,
        add: fn(&mut Gathered, &News),
        conversation: ConversationId,
        life: u64,
        numbers: (u64, u64),
    ) {
        let (first, last) = (EventNumber::new(numbers.0), EventNumber::new(numbers.1));
        let incarnation = Incarnation::from_random(life);
        let mut gathered = Gathered::default();
        add(&mut gathered, &News { conversation, incarnation, first, last, events: Vec::new() });
        self.newsroom.tell(&gathered);
    }

    fn audience(&self) -> Arc<dyn Audience> {
        self.audience.lock().unwrap().as_ref().unwrap().upgrade().unwrap()
    }
}

#[async_trait]
impl Decorator for Far {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    async fn answer(&self, query: Query) -> Result<Answer, StoreError> {
        if self.is_broken.load(Ordering::Relaxed) && matches!(query, Query::Events(_)) {
            return Err(StoreError::Busy { reason: "for the test".to_owned() });
        }
        let is_one_less = |left: usize| left.checked_sub(1);
        if matches!(query, Query::JoinedGroups(_))
            && self.joined_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_one_less).is_err()
        {
            return Err(StoreError::Busy { reason: "for the test".to_owned() });
        }
        self.inner.answer(query).await
    }

    fn news(&self) -> Follower {
        self.newsroom.follow()
    }

    fn attend(&self, audience: Weak<dyn Audience>) {
        *self.audience.lock().unwrap() = Some(audience);
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

/// The numbers of all events that wait, once the task has handed out all there is.
async fn waiting(inbox: &mut Inbox) -> Vec<u64> {
    let mut numbers = Vec::new();
    for _ in 0..100 {
        yield_now().await;
        while let Some(delivery) = inbox.next().now_or_never() {
            numbers.push(delivery.unwrap().event().number.get());
        }
    }
    numbers
}

#[tokio::test]
async fn what_two_write_to_each_other_is_told_once_whatever_is_heard_twice_or_late() {
    let far = Far::new();
    let scene = scene(&far).await;
    scene.import("bob").await;
    let mut bob = scene.connect("bob").await;
    let both = ConversationId::direct(APP, user("ann"), user("bob"));
    for random in 1..=8 {
        scene.write("ann", ("bob", tiny_id("bob")), random).await;
    }
    let tell = |add, numbers| far.tell_by(add, both.clone(), 1, numbers);
    tell(Gathered::add_heard, (3, 4));
    assert_eq!(waiting(&mut bob).await, [3, 4]);
    // More at both ends: the middle is not told again.
    tell(Gathered::add_heard, (2, 5));
    assert_eq!(waiting(&mut bob).await, [2, 5]);
    // Two nodes have written, and the second is heard first.
    tell(Gathered::add_heard, (7, 7));
    assert_eq!(waiting(&mut bob).await, [6, 7]);
    tell(Gathered::add_heard, (6, 6));
    // What the broker has kept for long, and nobody remembers.
    for _ in 0..2 {
        far.newsroom.forget_old();
    }
    tell(Gathered::add_heard, (2, 5));
    assert!(waiting(&mut bob).await.is_empty());
    // Before all that was told.
    tell(Gathered::add_missed, (1, 1));
    assert_eq!(waiting(&mut bob).await, [1]);
    tell(Gathered::add_missed, (1, 8));
    assert_eq!(waiting(&mut bob).await, [8]);
}

#[tokio::test]
async fn what_is_heard_late_while_a_log_can_t_be_read_is_told_when_it_can() {
    let far = Far::new();
    let scene = scene(&far).await;
    scene.import("bob").await;
    let mut bob = scene.connect("bob").await;
    let both = ConversationId::direct(APP, user("ann"), user("bob"));
    for random in 1..=3 {
        scene.write("ann", ("bob", tiny_id("bob")), random).await;
    }
    let tell = |numbers| far.tell_by(Gathered::add_heard, both.clone(), 1, numbers);
    tell((2, 2));
    assert_eq!(waiting(&mut bob).await, [2]);
    far.is_broken.store(true, Ordering::Relaxed);
    // Two nodes have written, and the second was heard first.
    tell((1, 1));
    assert!(waiting(&mut bob).await.is_empty());
    far.is_broken.store(false, Ordering::Relaxed);
    let late = tokio::time::timeout(std::time::Duration::from_secs(10), next(&mut bob)).await;
    assert_eq!(late.expect("it is told late, and not never").1, 1);
    tell((3, 3));
    assert_eq!(next(&mut bob).await.1, 3);
}

#[tokio::test]
async fn whoever_was_told_what_the_log_does_not_have_is_cut_off_and_hears_what_comes() {
    let far = Far::new();
    let scene = scene(&far).await;
    scene.import("bob").await;
    let mut bob = scene.connect("bob").await;
    let (both, life) = (ConversationId::direct(APP, user("ann"), user("bob")), Incarnation::from_random(7));
    scene.write("ann", ("bob", tiny_id("bob")), 7).await;
    far.tell_by(Gathered::add_heard, both.clone(), 7, (1, 1));
    assert_eq!(waiting(&mut bob).await, [1]);
    let ends_at = |last| far.audience().ends_here(&both, life, EventNumber::new(last));
    // A false number without the events: the log is read, and has none of them.
    far.tell_by(Gathered::add_heard, both.clone(), 7, (1000, 1000));
    assert!(waiting(&mut bob).await.is_empty());
    ends_at(1);
    assert!(waiting(&mut bob).await.is_empty());
    // One with an event that nobody committed.
    for _ in 0..2 {
        far.newsroom.forget_old();
    }
    let number = EventNumber::new(2);
    let (at, operator) = (Timestamp::from_millis(1), Operator::server(user("administrator")));
    let events = vec![Arc::new(Event { number, at, operator, what: Happening::GroupChanged })];
    let mut gathered = Gathered::default();
    let (conversation, incarnation) = (both.clone(), life);
    gathered.add_heard(&News { conversation, incarnation, first: number, last: number, events });
    far.newsroom.tell(&gathered);
    assert_eq!(waiting(&mut bob).await, [2]);
    ends_at(1);
    assert_eq!(bob.next().await.unwrap_err(), Ended::Lost);
    // Whoever comes back before the connection that is over has gone.
    let mut again = scene.connect("bob").await;
    drop(bob);
    scene.write("ann", ("bob", tiny_id("bob")), 8).await;
    far.tell_by(Gathered::add_missed, both.clone(), 7, (2, 2));
    assert_eq!(waiting(&mut again).await, [2]);
}

#[tokio::test]
async fn a_reader_who_was_told_what_the_log_does_not_have_starts_over_and_misses_nothing() {
    let far = Far::new();
    let scene = scene(&far).await;
    let _everything = scene.hub.follow_app(APP).await;
    let mut reader = scene.follow("a", None, None).await.unwrap();
    let is_known = || scene.hub.followed().conversations.iter().any(|followed| followed.known.is_some());
    while !is_known() {
        assert!(reader.next().now_or_never().is_none());
        yield_now().await;
    }
    // Told, and then lost by the database.
    let number_3 = EventNumber::new(3);
    let (at, operator) = (Timestamp::from_millis(1), Operator::server(user("administrator")));
    let events = vec![Arc::new(Event { number: number_3, at, operator, what: Happening::GroupChanged })];
    let (conversation, incarnation) = (group("a"), Incarnation::from_random(1));
    let mut gathered = Gathered::default();
    gathered.add_heard(&News { conversation, incarnation, first: number_3, last: number_3, events });
    far.newsroom.tell(&gathered);
    assert_eq!(number(&mut reader).await, Ok(3));
    far.audience().ends_here(&group("a"), incarnation, EventNumber::new(2));
    let told = tokio::time::timeout(std::time::Duration::from_secs(10), number(&mut reader)).await;
    assert_eq!(told.expect("it is told that it has to look at the state"), Err(2));
    // The number is given out again.
    scene.send("a", 1).await;
    far.tell_missed("a", (3, 3));
    assert_eq!(number(&mut reader).await, Ok(3));
}

#[tokio::test]
async fn a_group_of_which_nothing_is_left_is_over_for_its_readers_and_forgotten() {
    let far = Far::new();
    let scene = scene(&far).await;
    scene.create("b", 2, &["ann"]).await;
    let mut ann = scene.connect("ann").await;
    let mut reader = scene.follow("a", None, None).await.unwrap();
    assert!(reader.next().now_or_never().is_none());
    // Another node destroys it, and nobody tells.
    scene.on("a", GroupAction::Destroy).await;
    far.audience().is_gone(&group("a"), Incarnation::from_random(1));
    let followed = scene.hub.followed().conversations;
    assert_eq!(followed.into_iter().map(|followed| followed.conversation).collect::<Vec<_>>(), [group("b")]);
    let ended = tokio::time::timeout(std::time::Duration::from_secs(10), async {
        loop {
            if let Err(ended) = reader.next().await.unwrap() {
                return ended;
            }
        }
    });
    assert_eq!(ended.await.expect("it ends"), Ended::Removed);
    // Ann stays connected, for what else she is in.
    scene.send("b", 1).await;
    far.tell_by(Gathered::add_heard, group("b"), 2, (3, 3));
    assert_eq!(next(&mut ann).await, ("b".into(), 3));
}

#[tokio::test]
async fn a_reader_says_what_it_knows_so_that_nobody_is_told_it_again() {
    let far = Far::new();
    let scene = scene(&far).await;
    let mut everything = scene.hub.follow_app(APP).await;
    let mut reader = scene.follow("a", None, None).await.unwrap();
    let is_known = || scene.hub.followed().conversations.iter().any(|followed| followed.known.is_some());
    while !is_known() {
        assert!(reader.next().now_or_never().is_none());
        yield_now().await;
    }
    let followed = scene.hub.followed().conversations;
    assert_eq!((followed.len(), followed[0].known), (1, Some(EventNumber::new(2))));
    assert!(waiting(&mut everything).await.is_empty());
    scene.send("a", 1).await;
    far.tell("a", (3, 3));
    assert_eq!((waiting(&mut everything).await, number(&mut reader).await), (vec![3], Ok(3)));
}

#[tokio::test]
async fn nobody_is_cut_off_while_a_log_can_t_be_read_for_a_moment() {
    let far = Far::new();
    let scene = scene(&far).await;
    scene.import("bob").await;
    let (mut ann, mut bob) = (scene.connect("ann").await, scene.connect("bob").await);
    let both = ConversationId::direct(APP, user("ann"), user("bob"));
    scene.add("a", "bob").await;
    // The first number is that of the life, too.
    for random in 7..=8 {
        scene.write("ann", ("bob", tiny_id("bob")), random).await;
    }
    far.is_broken.store(true, Ordering::Relaxed);
    far.tell("a", (3, 3));
    far.tell_by(Gathered::add_heard, both.clone(), 7, (1, 1));
    assert!(waiting(&mut ann).await.is_empty() && waiting(&mut bob).await.is_empty());
    // What comes meanwhile waits with it.
    scene.send("a", 1).await;
    far.tell("a", (4, 4));
    far.tell_by(Gathered::add_heard, both, 7, (2, 2));
    assert!(waiting(&mut ann).await.is_empty() && waiting(&mut bob).await.is_empty());
    far.is_broken.store(false, Ordering::Relaxed);
    for inbox in [&mut ann, &mut bob] {
        let mut told = Vec::new();
        for _ in 0..4 {
            told.push(next(inbox).await.1);
        }
        assert!(told == [1, 2, 3, 4] || told == [3, 4, 1, 2], "{told:?}");
    }
    scene.send("a", 2).await;
    far.tell("a", (5, 5));
    assert_eq!((next(&mut ann).await.1, next(&mut bob).await.1), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn whoever_follows_is_cut_off_when_a_log_can_t_be_read_for_long_and_a_joining_is_heard_of_even_then() {
    let far = Far::new();
    let scene = scene(&far).await;
    scene.import("bob").await;
    let (mut ann, mut bob) = (scene.connect("ann").await, scene.connect("bob").await);
    let mut everything = scene.hub.follow_app(APP).await;
    scene.add("a", "bob").await;
    scene.create("b", 2, &[]).await;
    far.is_broken.store(true, Ordering::Relaxed);
    let began = tokio::time::Instant::now();
    far.tell("a", (3, 3));
    // Nobody knows how much they know, so that later events could be told first.
    far.tell_by(Gathered::add_heard, group("b"), 2, (1, 1));
    assert_eq!(everything.next().await.unwrap_err(), Ended::Lost);
    assert!(began.elapsed().as_secs() < 30);
    assert_eq!(ann.next().await.unwrap_err(), Ended::Lost);
    assert!((30..60).contains(&began.elapsed().as_secs()));
    tokio::time::sleep(std::time::Duration::from_mins(5)).await;
    far.is_broken.store(false, Ordering::Relaxed);
    assert_eq!(next(&mut bob).await.1, 3);
    scene.send("a", 1).await;
    far.tell("a", (4, 4));
    assert_eq!(next(&mut bob).await.1, 4);
}

#[tokio::test]
async fn late_news_of_an_older_life_does_not_end_the_newer_one() {
    let far = Far::new();
    let scene = scene(&far).await;
    scene.on("a", GroupAction::Destroy).await;
    scene.create("a", 2, &["ann"]).await;
    let mut ann = scene.connect("ann").await;
    scene.send("a", 1).await;
    let tell = |life, numbers| far.tell_by(Gathered::add_heard, group("a"), life, numbers);
    tell(2, (3, 3));
    assert_eq!(waiting(&mut ann).await, [3]);
    tell(1, (2, 3));
    scene.send("a", 2).await;
    tell(2, (4, 4));
    assert_eq!(waiting(&mut ann).await, [4]);
}

#[tokio::test]
async fn a_connection_that_fails_to_be_made_leaves_no_other_one_deaf() {
    let far = Far::new();
    let scene = scene(&far).await;
    scene.import("bob").await;
    let mut bob = scene.connect("bob").await;
    // Another node lets him join, which is not heard of yet.
    scene.add("a", "bob").await;
    far.joined_left.store(1, Ordering::Relaxed);
    scene.hub.connect(&account("bob"), tiny_id("bob")).await.unwrap_err();
    far.joined_left.store(usize::MAX, Ordering::Relaxed);
    scene.send("a", 1).await;
    far.tell("a", (3, 4));
    // He is told, or has to connect again.
    let told = tokio::time::timeout(std::time::Duration::from_secs(10), bob.next()).await;
    let ended = told.expect("he hears nothing, and does not know it").unwrap_err();
    assert_eq!(ended, Ended::Lost);
    drop(bob);
    let mut bob = scene.connect("bob").await;
    scene.send("a", 2).await;
    far.tell("a", (5, 5));
    assert_eq!(next(&mut bob).await.1, 5);
}

#[tokio::test]
async fn what_is_found_concerns_those_who_are_in_it_or_may_join() {
    let far = Far::new();
    let scene = scene(&far).await;
    scene.create("b", 2, &[]).await;
    let direct = |one: &str, other: &str| ConversationId::direct(APP, user(one), user(other));
    let audience = far.audience();
    let wants =
        |conversation: &ConversationId| [false, true].map(|joins| audience.may_want(conversation, joins));
    assert_eq!(wants(&group("a")), [false; 2]);
    let ann = scene.connect("ann").await;
    assert_eq!((wants(&group("a")), wants(&group("b"))), ([true; 2], [false, true]));
    assert_eq!((wants(&direct("ann", "bob")), wants(&direct("bob", "cid"))), ([true; 2], [false; 2]));
    let everything = scene.hub.follow_app(APP).await;
    assert_eq!((wants(&group("b")), wants(&direct("bob", "cid"))), ([true; 2], [true; 2]));
    drop((ann, everything));
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
