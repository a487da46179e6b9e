//! The hub over a volatile store.

mod any_order;
mod arrivals;
mod elsewhere;
mod people;

use std::sync::Arc;

use sidenote_core::command::{
    AccountAction, Action, Claim, Command, Extend, GroupAction, Items, NewGroup, NewMember, NewMessage,
};
use sidenote_core::event::{CallerKind, Happening, Operator, Platform};
use sidenote_core::extension::{Key, Value};
use sidenote_core::group::{ApplyJoin, GroupProfile, GroupType, InviteJoin, Role};
use sidenote_core::ids::{
    AccountId, AppId, ConversationId, EventNumber, GroupId, Incarnation, MsgSeq, Timestamp, TinyId, UserId,
};
use sidenote_core::message::{Fingerprint, MessageBody, Priority};
use sidenote_core::{Limits, Outcome, Refusal};
use sidenote_store::Store;
use sidenote_store::memory::MemoryStore;
use tokio_util::sync::CancellationToken;

use super::mailbox::CAPACITY;
use super::{Delivery, Ended, Follow, Followed, Hub, Inbox};

const APP: AppId = AppId::new(1);

/// An app with one hub, whose task runs beside the test.
struct Scene {
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    stop: CancellationToken,
}

impl Scene {
    fn new(limits: Limits) -> Self {
        // How often one asks is the subject of none of these tests.
        let limits = Limits { attempts_per_minute: 0, ..limits };
        Self::over(Arc::new(MemoryStore::new(limits)))
    }

    fn over(store: Arc<dyn Store>) -> Self {
        let (hub, stop) = (Hub::new(Arc::clone(&store)), CancellationToken::new());
        beside(Arc::clone(&hub).run(stop.clone()));
        Self { store, hub, stop }
    }

    async fn act(&self, action: Action) -> Outcome {
        let kind = CallerKind::Administrator;
        let operator =
            Operator { user: user("admin"), tiny_id: None, kind, platform: Platform::RestApi, address: None };
        let command = Command { operator, at: Timestamp::from_millis(1_700_000_000_000), action };
        self.store.execute(command).await.unwrap().unwrap()
    }

    async fn on(&self, name: &str, action: GroupAction) -> Outcome {
        self.act(Action::Group(group(name), action)).await
    }

    async fn import(&self, name: &str) {
        self.import_as(name, tiny_id(name)).await;
    }

    async fn import_as(&self, name: &str, tiny_id: TinyId) {
        let import = AccountAction::Import { tiny_id, nick: None, face_url: None };
        self.act(Action::Account(account(name), import)).await;
    }

    async fn connect(&self, name: &str) -> Inbox {
        self.hub.connect(&account(name), tiny_id(name)).await.unwrap()
    }

    /// A group with these members, whose accounts exist.
    async fn create(&self, name: &str, incarnation: u64, members: &[&str]) {
        let new = NewGroup {
            incarnation: Incarnation::from_random(incarnation),
            kind: GroupType::Public,
            owner: None,
            profile: GroupProfile {
                name: name.to_owned(),
                introduction: String::new(),
                notification: String::new(),
                face_url: String::new(),
                max_members: None,
                apply_join: ApplyJoin::FreeAccess,
                invite_join: InviteJoin::FreeAccess,
                mute_all: false,
                history_before_join: true,
                custom: Vec::new(),
            },
            members: members.iter().map(|name| member(name)).collect(),
            created_at: Timestamp::from_millis(1_600_000_000_000),
            imported: false,
        };
        self.on(name, GroupAction::Create(Box::new(new))).await;
    }

    async fn send(&self, name: &str, random: u32) -> MsgSeq {
        self.send_further(name, random, "").await
    }

    async fn send_further(&self, name: &str, random: u32, further: &str) -> MsgSeq {
        let new = NewMessage {
            sender: user("ann"),
            sender_tiny_id: tiny_id("ann"),
            sender_is_administrator: false,
            random,
            client_time: None,
            sent_at: None,
            priority: Priority::Normal,
            supports_extension: true,
            online_only: false,
            body: MessageBody {
                elements: format!("[{random}]"),
                further: further.to_owned(),
                ..MessageBody::default()
            },
            fingerprint: Fingerprint(u128::from(random).to_le_bytes()),
        };
        match self.on(name, GroupAction::Send(Box::new(new))).await {
            Outcome::Sent(sent) => sent.seq().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    async fn vote(&self, name: &str, seq: MsgSeq, value: &str) {
        let pair = ((Key::new("k").unwrap(), Value::new(value).unwrap()), Claim::Unchecked);
        self.on(name, GroupAction::Extend(seq, Extend::Set(Items::new(vec![pair]).unwrap()))).await;
    }

    async fn add(&self, name: &str, who: &str) {
        self.add_member(name, member(who)).await;
    }

    async fn add_member(&self, name: &str, member: NewMember) {
        self.on(name, GroupAction::AddMembers { members: vec![member], imported: false }).await;
    }

    async fn remove(&self, name: &str, who: &str) {
        self.on(name, GroupAction::RemoveMembers { users: vec![user(who)], reason: String::new() }).await;
    }

    async fn follow(
        &self,
        name: &str,
        who: Option<&str>,
        after: Option<(u64, u64)>,
    ) -> Result<Follow, Refusal> {
        let member = who.map(|who| (user(who), tiny_id(who)));
        let after = after.map(|(of, number)| (Incarnation::from_random(of), EventNumber::new(number)));
        self.hub.follow(group(name), member, after).await.unwrap()
    }
}

#[expect(clippy::disallowed_methods, reason = "a panic of it lets the test wait for ever, which is noticed")]
fn beside(work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(work);
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn account(name: &str) -> AccountId {
    AccountId { app: APP, user: user(name) }
}

fn group(name: &str) -> ConversationId {
    ConversationId::group(APP, GroupId::new(name).unwrap())
}

fn tiny_id(name: &str) -> TinyId {
    TinyId::from_random(name.bytes().fold(7, |number, byte| number * 31 + u64::from(byte)))
}

fn member(name: &str) -> NewMember {
    let (user, tiny_id) = (user(name), tiny_id(name));
    NewMember { user, tiny_id, role: Role::Member, joined_at: None, unread: 0, custom: Vec::new() }
}

/// Where an event happened and its number.
fn at(delivery: &Delivery) -> (String, u64) {
    let conversation = &delivery.conversation().conversation;
    (format!("{conversation:?}").split('"').nth(1).unwrap().to_owned(), delivery.event().number.get())
}

async fn next(inbox: &mut Inbox) -> (String, u64) {
    at(&inbox.next().await.unwrap())
}

/// The number of the next event, or the one after which the reader has to start over.
async fn number(follow: &mut Follow) -> Result<u64, u64> {
    match follow.next().await.unwrap().unwrap() {
        Followed::Event(delivery) => Ok(delivery.event().number.get()),
        Followed::StartOver(_, number) => Err(number.get()),
    }
}

#[tokio::test]
async fn a_connected_account_hears_of_its_groups_and_of_no_other() {
    let scene = Scene::new(Limits::default());
    for name in ["ann", "bob"] {
        scene.import(name).await;
    }
    // Created, joined.
    scene.create("a", 1, &["ann", "bob"]).await;
    scene.create("b", 2, &["bob"]).await;
    let mut ann = scene.connect("ann").await;
    let mut bob = [scene.connect("bob").await, scene.connect("bob").await];
    scene.send("b", 1).await;
    let poll = scene.send("a", 2).await;
    scene.vote("a", poll, "x").await;
    assert_eq!((next(&mut ann).await, next(&mut ann).await), (("a".into(), 3), ("a".into(), 4)));
    for inbox in &mut bob {
        let mut heard = [next(inbox).await, next(inbox).await, next(inbox).await];
        heard.sort();
        assert_eq!(heard, [("a".into(), 3), ("a".into(), 4), ("b".into(), 3)]);
    }
}

#[tokio::test]
async fn a_message_comes_with_its_body() {
    let scene = Scene::new(Limits::default());
    scene.import("ann").await;
    scene.create("a", 1, &["ann"]).await;
    let mut ann = scene.connect("ann").await;
    scene.send("a", 42).await;
    assert_eq!(ann.next().await.unwrap().body().unwrap().elements, "[42]");
}

#[tokio::test]
async fn whoever_joins_hears_from_then_on_and_whoever_is_removed_nothing_more() {
    let scene = Scene::new(Limits::default());
    for name in ["ann", "bob"] {
        scene.import(name).await;
    }
    scene.create("a", 1, &["ann"]).await;
    let mut bob = scene.connect("bob").await;
    let poll = scene.send("a", 1).await;
    scene.add("a", "bob").await;
    scene.vote("a", poll, "x").await;
    assert_eq!((next(&mut bob).await, next(&mut bob).await), (("a".into(), 4), ("a".into(), 5)));
    scene.remove("a", "bob").await;
    scene.vote("a", poll, "y").await;
    scene.add("a", "bob").await;
    scene.vote("a", poll, "z").await;
    assert_eq!((next(&mut bob).await, next(&mut bob).await), (("a".into(), 8), ("a".into(), 9)));
}

#[tokio::test]
async fn a_receiver_that_takes_nothing_is_cut_off_and_others_hear_everything() {
    let scene = Scene::new(Limits::default());
    for name in ["ann", "bob"] {
        scene.import(name).await;
    }
    scene.create("a", 1, &["ann", "bob"]).await;
    let poll = scene.send("a", 1).await;
    let mut slow = scene.connect("ann").await;
    let mut quick = scene.connect("bob").await;
    for round in 0..=CAPACITY as u64 {
        scene.vote("a", poll, "x").await;
        assert_eq!(next(&mut quick).await, ("a".into(), 4 + round));
    }
    assert_eq!(slow.next().await.unwrap_err(), Ended::Overrun);
    // It connects again and goes on.
    drop(slow);
    let mut again = scene.connect("ann").await;
    scene.vote("a", poll, "y").await;
    assert_eq!(next(&mut again).await, next(&mut quick).await);
}

#[tokio::test]
async fn a_reader_goes_on_after_its_cursor_and_then_with_what_happens() {
    let scene = Scene::new(Limits::default());
    scene.import("ann").await;
    scene.create("a", 1, &["ann"]).await;
    let poll = scene.send("a", 1).await;
    for _ in 0..200 {
        scene.vote("a", poll, "x").await;
    }
    let mut follow = scene.follow("a", Some("ann"), Some((1, 2))).await.unwrap();
    let mut now = scene.follow("a", None, None).await.unwrap();
    for expected in 3..=203 {
        assert_eq!(number(&mut follow).await, Ok(expected));
    }
    for expected in 204..400 {
        scene.vote("a", poll, "y").await;
        assert_eq!((number(&mut follow).await, number(&mut now).await), (Ok(expected), Ok(expected)));
    }
    // A reader that is too slow for what happens goes on from the log.
    for _ in 0..2 * CAPACITY {
        scene.vote("a", poll, "z").await;
    }
    for expected in 400..400 + 2 * CAPACITY as u64 {
        assert_eq!((number(&mut follow).await, number(&mut now).await), (Ok(expected), Ok(expected)));
    }
}

#[tokio::test]
async fn a_reader_whose_cursor_is_too_old_or_of_another_life_starts_over() {
    let scene = Scene::new(Limits { events_kept: 5, ..Limits::default() });
    scene.import("ann").await;
    scene.create("a", 1, &["ann"]).await;
    let poll = scene.send("a", 1).await;
    for _ in 0..10 {
        scene.vote("a", poll, "x").await;
    }
    for too_old_or_foreign in [(1, 3), (2, 8), (1, 99)] {
        let mut follow = scene.follow("a", Some("ann"), Some(too_old_or_foreign)).await.unwrap();
        assert_eq!(number(&mut follow).await, Err(13), "{too_old_or_foreign:?}");
    }
    let mut follow = scene.follow("a", Some("ann"), Some((1, 8))).await.unwrap();
    for expected in 9..=13 {
        assert_eq!(number(&mut follow).await, Ok(expected));
    }
    scene.vote("a", poll, "y").await;
    assert_eq!(number(&mut follow).await, Ok(14));
}

#[tokio::test]
async fn only_members_follow_and_for_as_long_as_they_are_members() {
    let scene = Scene::new(Limits::default());
    for name in ["ann", "bob"] {
        scene.import(name).await;
    }
    scene.create("a", 1, &["ann"]).await;
    assert_eq!(scene.follow("a", Some("bob"), None).await.unwrap_err(), Refusal::NotAMember);
    assert_eq!(scene.follow("nowhere", Some("bob"), None).await.unwrap_err(), Refusal::NoSuchGroup);
    scene.add("a", "bob").await;
    scene.remove("a", "bob").await;
    scene.add("a", "bob").await;
    // That it left once, before it came back, does not end it.
    let mut bob = scene.follow("a", Some("bob"), Some((1, 0))).await.unwrap();
    let mut anybody = scene.follow("a", None, Some((1, 0))).await.unwrap();
    for expected in 1..=5 {
        assert_eq!((number(&mut bob).await, number(&mut anybody).await), (Ok(expected), Ok(expected)));
    }
    scene.remove("a", "bob").await;
    scene.send("a", 1).await;
    assert_eq!(number(&mut bob).await, Ok(6));
    assert_eq!(bob.next().await.unwrap().unwrap_err(), Ended::Removed);
    assert_eq!((number(&mut anybody).await, number(&mut anybody).await), (Ok(6), Ok(7)));
    scene.on("a", GroupAction::Destroy).await;
    assert_eq!(number(&mut anybody).await, Ok(8));
    assert_eq!(anybody.next().await.unwrap().unwrap_err(), Ended::Removed);
}

#[tokio::test]
async fn a_group_made_again_is_another_conversation() {
    let scene = Scene::new(Limits::default());
    scene.import("ann").await;
    scene.create("a", 1, &["ann"]).await;
    let mut ann = scene.connect("ann").await;
    scene.on("a", GroupAction::Destroy).await;
    let destroyed = ann.next().await.unwrap();
    assert_eq!(destroyed.event().what, Happening::GroupDestroyed);
    scene.create("a", 2, &["ann"]).await;
    scene.send("a", 1).await;
    for expected in [2, 3] {
        let delivery = ann.next().await.unwrap();
        assert_eq!((delivery.incarnation().get(), delivery.event().number.get()), (2, expected));
    }
}

#[tokio::test]
async fn whoever_follows_an_app_hears_of_all_its_groups_once() {
    let scene = Scene::new(Limits::default());
    scene.import("ann").await;
    scene.create("a", 1, &["ann"]).await;
    let mut everything = scene.hub.follow_app(APP).await;
    let mut stranger = scene.hub.follow_app(AppId::new(2)).await;
    scene.create("b", 2, &["ann"]).await;
    scene.send("a", 1).await;
    // A reader that has to be told what happened before it came.
    let mut follow = scene.follow("a", None, Some((1, 0))).await.unwrap();
    for expected in 1..=3 {
        assert_eq!(number(&mut follow).await, Ok(expected));
    }
    scene.send("a", 2).await;
    assert_eq!(number(&mut follow).await, Ok(4));
    let mut heard = Vec::new();
    for _ in 0..4 {
        heard.push(next(&mut everything).await);
    }
    heard.sort();
    assert_eq!(heard, [("a".into(), 3), ("a".into(), 4), ("b".into(), 1), ("b".into(), 2)]);
    scene.stop.cancel();
    assert_eq!(everything.next().await.unwrap_err(), Ended::Closing);
    assert_eq!(stranger.next().await.unwrap_err(), Ended::Closing);
    // Whoever comes then is told so at once.
    let mut late = scene.connect("ann").await;
    assert_eq!(late.next().await.unwrap_err(), Ended::Closing);
}

#[tokio::test]
async fn a_store_that_nobody_follows_gathers_nothing() {
    let scene = Scene::new(Limits::default());
    scene.import("ann").await;
    scene.create("a", 1, &["ann"]).await;
    for _ in 0..3 {
        let mut ann = scene.connect("ann").await;
        let mut follow = scene.follow("a", None, None).await.unwrap();
        let sent = scene.send("a", rand::random()).await;
        assert_eq!(next(&mut ann).await.1, sent.get() + 2);
        assert_eq!(number(&mut follow).await, Ok(sent.get() + 2));
        drop((ann, follow));
    }
}
