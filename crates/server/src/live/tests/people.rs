//! Who is meant by a name: accounts that come and go under it, and messages for some only.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use sidenote_core::command::{DirectAction, NewDirectMessage};
use sidenote_core::direct::{Party, Peers};
use sidenote_core::event::Event;
use sidenote_core::query::{Answer, Query};
use sidenote_store::decorator::Decorator;
use sidenote_store::{News, StoreError};

use super::super::followers::Followers;
use super::super::hub::Burst;
use super::super::mailbox::Mailbox;
use super::*;

/// The number of whoever comes under a name after the account that the tests give it first.
const ANOTHER: TinyId = TinyId::from_random(99);

impl Scene {
    async fn delete(&self, name: &str) {
        self.act(Action::Account(account(name), AccountAction::Delete)).await;
    }

    pub(super) async fn write(&self, from: &str, to: (&str, TinyId), random: u32) {
        self.write_further(from, to, random, "").await;
    }

    async fn write_further(&self, from: &str, to: (&str, TinyId), random: u32, further: &str) {
        let party = |name: &str, tiny_id| Party { user: user(name), tiny_id };
        let peers = Peers { app: APP, from: party(from, tiny_id(from)), to: party(to.0, to.1) };
        let new = NewDirectMessage {
            incarnation: Incarnation::from_random(u64::from(random)),
            seq: 1,
            random,
            client_time: None,
            supports_extension: true,
            online_only: false,
            body: MessageBody {
                elements: format!("[{random}]"),
                further: further.to_owned(),
                ..MessageBody::default()
            },
            fingerprint: Fingerprint(u128::from(random).to_le_bytes()),
        };
        self.act(Action::Direct(Box::new(peers), DirectAction::Send(Box::new(new)))).await;
    }
}

async fn body(inbox: &mut Inbox) -> String {
    inbox.next().await.unwrap().body().unwrap().elements.clone()
}

#[tokio::test]
async fn a_deleted_account_is_cut_off_at_once_and_hears_nothing_of_whoever_has_its_name_then() {
    let scene = Scene::new(Limits::default());
    for name in ["ann", "bob"] {
        scene.import(name).await;
    }
    scene.create("a", 1, &["ann", "bob"]).await;
    let mut old = [scene.connect("bob").await, scene.connect("bob").await];
    scene.delete("bob").await;
    for inbox in &mut old {
        assert_eq!(inbox.next().await.unwrap_err(), Ended::Removed);
    }
    // Somebody else comes under the name, with connections of its own.
    scene.import_as("bob", ANOTHER).await;
    let mut new = scene.hub.connect(&account("bob"), ANOTHER).await.unwrap();
    let mut ann = scene.connect("ann").await;
    scene.send("a", 1).await;
    scene.add_member("a", NewMember { tiny_id: ANOTHER, ..member("bob") }).await;
    scene.send("a", 2).await;
    scene.write("ann", ("bob", ANOTHER), 3).await;
    assert_eq!(body(&mut ann).await, "[1]");
    // It is told of its joining, which has no body, and of what comes after.
    let mut heard = Vec::new();
    for _ in 0..3 {
        let delivery = new.next().await.unwrap();
        heard.push(delivery.body().map_or_else(String::new, |body| body.elements.clone()));
    }
    heard.sort();
    assert_eq!(heard, ["", "[2]", "[3]"]);
    for inbox in &mut old {
        assert_eq!(inbox.next().await.unwrap_err(), Ended::Removed);
    }
}

#[tokio::test]
async fn whoever_connects_for_an_account_that_is_gone_hears_nothing() {
    let scene = Scene::new(Limits::default());
    scene.import("ann").await;
    scene.import_as("bob", ANOTHER).await;
    for name in ["bob", "nobody"] {
        assert_eq!(scene.connect(name).await.next().await.unwrap_err(), Ended::Removed, "{name}");
    }
}

#[tokio::test]
async fn a_conversation_of_two_is_told_to_both_and_to_nobody_else() {
    let scene = Scene::new(Limits::default());
    for name in ["ann", "bob", "cid"] {
        scene.import(name).await;
    }
    let [mut ann, mut bob, mut cid] =
        [scene.connect("ann").await, scene.connect("bob").await, scene.connect("cid").await];
    scene.write("ann", ("bob", tiny_id("bob")), 1).await;
    scene.write("ann", ("ann", tiny_id("ann")), 2).await;
    scene.write("ann", ("cid", tiny_id("cid")), 3).await;
    let mut heard = [body(&mut ann).await, body(&mut ann).await, body(&mut ann).await];
    heard.sort();
    assert_eq!(heard, ["[1]", "[2]", "[3]"], "each once");
    assert_eq!((body(&mut bob).await, body(&mut cid).await), ("[1]".to_owned(), "[3]".to_owned()));
    assert!(bob.next().now_or_never().is_none() && cid.next().now_or_never().is_none());
}

#[tokio::test]
async fn a_sender_who_does_not_want_it_is_not_told_of_its_own_message() {
    let scene = Scene::new(Limits::default());
    for name in ["ann", "bob"] {
        scene.import(name).await;
    }
    let (mut ann, mut bob) = (scene.connect("ann").await, scene.connect("bob").await);
    let not_back = r#"{"SyncOtherMachine":2}"#;
    scene.write_further("ann", ("bob", tiny_id("bob")), 1, not_back).await;
    scene.write("ann", ("bob", tiny_id("bob")), 2).await;
    // Whoever writes to itself is the recipient too.
    scene.write_further("ann", ("ann", tiny_id("ann")), 3, not_back).await;
    assert_eq!((body(&mut bob).await, body(&mut bob).await), ("[1]".to_owned(), "[2]".to_owned()));
    let mut heard = [body(&mut ann).await, body(&mut ann).await];
    heard.sort();
    assert_eq!(heard, ["[2]", "[3]"]);
}

/// Nothing remembers what was told of a conversation of two, so the log must not be read beyond the news.
#[tokio::test]
async fn news_without_events_tells_what_it_is_about_and_no_more() {
    let scene = Scene::new(Limits::default());
    for name in ["ann", "bob"] {
        scene.import(name).await;
    }
    let bobs_number = tiny_id("bob");
    for random in 1..=3 {
        scene.write("ann", ("bob", bobs_number), random).await;
    }
    let mut bob = scene.connect("bob").await;
    for number in [1, 2].map(EventNumber::new) {
        let news = News {
            conversation: ConversationId::direct(APP, user("ann"), user("bob")),
            incarnation: Incarnation::from_random(1),
            first: number,
            last: number,
            events: Vec::new(),
        };
        scene.hub.pass_on(&news, &mut Burst::default()).await;
    }
    assert_eq!((body(&mut bob).await, body(&mut bob).await), ("[1]".to_owned(), "[2]".to_owned()));
    assert!(bob.next().now_or_never().is_none());
}

/// A store in which messages cannot be found for a while.
struct Unreadable {
    inner: Arc<dyn Store>,
    is_broken: AtomicBool,
}

#[async_trait]
impl Decorator for Unreadable {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    async fn answer(&self, query: Query) -> Result<Answer, StoreError> {
        if matches!(query, Query::FindMessage(_)) && self.is_broken.load(Ordering::Relaxed) {
            return Err(StoreError::Busy { reason: "the test says so".to_owned() });
        }
        self.inner.answer(query).await
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_cannot_be_told_what_a_message_says_is_cut_off_and_not_left_in_the_dark() {
    let inner = Arc::new(MemoryStore::new(Limits::default()));
    let store = Arc::new(Unreadable { inner, is_broken: AtomicBool::new(false) });
    let scene = Scene::over(Arc::clone(&store) as Arc<dyn Store>);
    for name in ["ann", "bob"] {
        scene.import(name).await;
    }
    scene.create("a", 1, &["ann"]).await;
    let (mut ann, mut bob) = (scene.connect("ann").await, scene.connect("bob").await);
    store.is_broken.store(true, Ordering::Relaxed);
    scene.send("a", 1).await;
    assert_eq!(ann.next().await.unwrap_err(), Ended::Lost);
    scene.write("ann", ("bob", tiny_id("bob")), 2).await;
    assert_eq!(bob.next().await.unwrap_err(), Ended::Lost);
}

/// Another node may have deleted the account, and news of that may come late.
#[test]
fn what_means_another_account_of_the_name_is_put_to_that_one_alone() {
    let mut followers = Followers::default();
    let mut open = |tiny_id| {
        let id = followers.new_id();
        let (mailbox, inbox) = Mailbox::open(id, std::sync::Weak::new(), Some(user("bob")));
        followers.add_account(&account("bob"), tiny_id, mailbox);
        inbox
    };
    let (mut old, mut new) = (open(tiny_id("bob")), open(ANOTHER));
    let event = |number, what| {
        let operator = Operator::server(user("ann"));
        Arc::new(Event { number: EventNumber::new(number), at: Timestamp::from_millis(1), operator, what })
    };
    let delivery = |conversation: &ConversationId, number, what, tiny_id| {
        let people = vec![(user("bob"), tiny_id)];
        let incarnation = Incarnation::from_random(1);
        Delivery::new(conversation.clone(), incarnation, event(number, what), None, people)
    };
    let changed = Happening::GroupChanged;
    let joined = || Happening::MembersJoined { users: vec![user("bob")], imported: false };
    let a = group("a");
    // The old account is in the group, then another has its name and takes its place, without an event of leaving.
    let (life, last) = (Incarnation::from_random(1), EventNumber::new(4));
    let doubt = followers.attach(&account("bob"), tiny_id("bob"), (&a, life), last).unwrap();
    followers.settle(&account("bob"), (&a, life), doubt, Some(last));
    followers.hand_out(&[
        delivery(&a, 5, changed.clone(), ANOTHER),
        delivery(&a, 6, joined(), ANOTHER),
        delivery(&a, 7, changed.clone(), ANOTHER),
    ]);
    let direct = ConversationId::direct(APP, user("ann"), user("bob"));
    followers.hand_out(&[delivery(&direct, 1, changed, ANOTHER)]);
    let numbers = |inbox: &mut Inbox| -> Vec<u64> {
        std::iter::from_fn(|| Some(inbox.next().now_or_never()?.unwrap().event().number.get())).collect()
    };
    assert_eq!((numbers(&mut old), numbers(&mut new)), (vec![5], vec![6, 7, 1]));
}

#[tokio::test]
async fn a_message_for_some_members_is_told_to_these_and_to_its_sender() {
    let scene = Scene::new(Limits::default());
    for name in ["ann", "bob", "cid"] {
        scene.import(name).await;
    }
    scene.create("a", 1, &["ann", "bob", "cid"]).await;
    // From the log, and as it happens.
    let start = Some((1, 2));
    let mut inboxes = Vec::new();
    for name in ["ann", "bob", "cid"] {
        inboxes.push((name, scene.connect(name).await));
    }
    let mut live = scene.follow("a", Some("cid"), start).await.unwrap();
    assert!(live.next().now_or_never().is_none());
    scene.send_further("a", 1, r#"{"To_Account":["bob"]}"#).await;
    scene.send("a", 2).await;
    for (name, inbox) in &mut inboxes {
        let expected: &[u64] = if *name == "cid" { &[4] } else { &[3, 4] };
        for number in expected {
            assert_eq!(next(inbox).await, ("a".to_owned(), *number), "{name}");
        }
    }
    assert_eq!(number(&mut live).await, Ok(4));
    for who in [Some("ann"), Some("bob"), Some("cid"), None] {
        let mut follow = scene.follow("a", who, start).await.unwrap();
        let expected: &[u64] = if who == Some("cid") { &[4] } else { &[3, 4] };
        for event in expected {
            assert_eq!(number(&mut follow).await, Ok(*event), "{who:?}");
        }
    }
    let mut everything = scene.hub.follow_app(APP).await;
    let secret = scene.send_further("a", 3, r#"{"To_Account":["bob"]}"#).await;
    assert_eq!(next(&mut everything).await, ("a".to_owned(), secret.get() + 2));
}

#[tokio::test]
async fn a_stream_ends_when_another_account_takes_the_place_of_its_reader() {
    let scene = Scene::new(Limits::default());
    for name in ["ann", "bob"] {
        scene.import(name).await;
    }
    scene.create("a", 1, &["ann", "bob"]).await;
    let mut bob = scene.follow("a", Some("bob"), None).await.unwrap();
    // The group learns of the new account before it learns that the old one is gone.
    scene.add_member("a", NewMember { tiny_id: ANOTHER, ..member("bob") }).await;
    scene.send("a", 1).await;
    assert_eq!(number(&mut bob).await, Ok(3));
    assert_eq!(bob.next().await.unwrap().unwrap_err(), Ended::Removed);
}
