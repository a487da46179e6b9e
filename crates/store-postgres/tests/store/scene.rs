//! Names and commands that the tests speak in.

use std::time::Duration;

use sidenote_core::command::{
    AccountAction, Action, Claim, Command, Extend, GroupAction, Items, NewGroup, NewMember, NewMessage,
};
use sidenote_core::decide::Extended;
use sidenote_core::event::{CallerKind, Operator, Platform};
use sidenote_core::extension::{Key, Seq, Value};
use sidenote_core::group::{ApplyJoin, GroupProfile, GroupType, InviteJoin, Role};
use sidenote_core::ids::{
    AccountId, AppId, ConversationId, EventNumber, GroupId, Incarnation, MsgSeq, Timestamp, TinyId, UserId,
};
use sidenote_core::message::{Fingerprint, MessageBody, Priority};
use sidenote_core::query::{DescribeGroup, Events, Pull, PullPage};
use sidenote_core::{Limits, Outcome};
use sidenote_store::{Store, StoreError};
use sidenote_store_postgres::{PostgresOptions, PostgresStore, schema};

pub(crate) const APP: AppId = AppId::new(1_400_000_001);

/// No limit of attempts, which is the subject of none of these tests.
pub(crate) fn unlimited() -> Limits {
    Limits { attempts_per_minute: 0, ..Limits::default() }
}

/// Quick to give up, and a probe that keeps quiet.
pub(crate) fn options(dsn: &str) -> PostgresOptions {
    PostgresOptions {
        connections: 1,
        patience: Duration::from_secs(2),
        probe_interval: Duration::from_hours(1),
        ..PostgresOptions::new(dsn)
    }
}

/// A store on an up-to-date schema.
pub(crate) async fn open(options: PostgresOptions) -> PostgresStore {
    schema::migrate(&options).await.unwrap();
    PostgresStore::open(options, unlimited()).await.unwrap()
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(crate) fn tiny_id(name: &str) -> TinyId {
    TinyId::from_random(name.bytes().fold(7, |sum, byte| sum * 31 + u64::from(byte)))
}

pub(crate) fn group(id: &str) -> ConversationId {
    ConversationId::group(APP, GroupId::new(id).unwrap())
}

pub(crate) fn administrator() -> Operator {
    let (user, platform) = (user("admin"), Platform::RestApi);
    Operator { user, tiny_id: None, kind: CallerKind::Administrator, platform, address: None }
}

pub(crate) fn ann() -> Operator {
    let (user, tiny_id) = (user("ann"), Some(tiny_id("ann")));
    Operator { user, tiny_id, kind: CallerKind::Member, platform: Platform::RestApi, address: None }
}

pub(crate) fn command(action: Action) -> Command {
    Command { operator: administrator(), at: Timestamp::from_millis(1_700_000_000_000), action }
}

pub(crate) fn import(name: &str) -> Action {
    let account = AccountId { app: APP, user: user(name) };
    let tiny_id = tiny_id(name);
    Action::Account(account, AccountAction::Import { tiny_id, nick: None, face_url: None })
}

pub(crate) fn create(id: &str, incarnation: u64) -> Action {
    let profile = GroupProfile {
        name: "lunch".to_owned(),
        introduction: String::new(),
        notification: String::new(),
        face_url: String::new(),
        max_members: Some(6000),
        apply_join: ApplyJoin::FreeAccess,
        invite_join: InviteJoin::FreeAccess,
        mute_all: false,
        history_before_join: true,
        custom: Vec::new(),
    };
    let ann = NewMember {
        user: user("ann"),
        tiny_id: tiny_id("ann"),
        role: Role::Member,
        joined_at: None,
        unread: 0,
        custom: Vec::new(),
    };
    let new = NewGroup {
        incarnation: Incarnation::from_random(incarnation),
        kind: GroupType::Public,
        owner: None,
        profile,
        members: vec![ann],
        created_at: Timestamp::from_millis(1_700_000_000_000),
        imported: false,
    };
    Action::Group(group(id), GroupAction::Create(Box::new(new)))
}

pub(crate) fn send(id: &str, number: u64) -> Action {
    let message = NewMessage {
        sender: user("ann"),
        sender_tiny_id: tiny_id("ann"),
        sender_is_administrator: true,
        random: 1,
        client_time: None,
        sent_at: None,
        priority: Priority::Normal,
        supports_extension: true,
        online_only: false,
        body: MessageBody { elements: "[]".to_owned(), ..MessageBody::default() },
        fingerprint: Fingerprint(u128::from(number).to_be_bytes()),
    };
    Action::Group(group(id), GroupAction::Send(Box::new(message)))
}

/// Sets pairs of the first message, whatever they were before.
pub(crate) fn set(id: &str, pairs: &[(&str, &str)]) -> Action {
    let pairs = pairs
        .iter()
        .map(|(key, value)| ((Key::new(key).unwrap(), Value::new(value).unwrap()), Claim::Unchecked));
    let extend = Extend::Set(Items::new(pairs.collect()).unwrap());
    Action::Group(group(id), GroupAction::Extend(MsgSeq::new(1).unwrap(), extend))
}

/// An account, a group with one message, and a store that has used every statement of a set and a pull once.
pub(crate) async fn found(store: &dyn Store, id: &str) {
    for action in [import("ann"), create(id, 77), send(id, 1), set(id, &[("a", "1"), ("b", "1"), ("c", "1")])]
    {
        store.commit(command(action)).await.unwrap().verdict.unwrap();
    }
    store.commit(command(set(id, &[("a", "2"), ("b", "2"), ("c", "2")]))).await.unwrap().verdict.unwrap();
    pull(store, id, ann()).await;
}

pub(crate) async fn commit(store: &dyn Store, action: Action) -> Result<Outcome, StoreError> {
    Ok(store.commit(command(action)).await?.verdict.unwrap())
}

pub(crate) async fn pull(store: &dyn Store, id: &str, operator: Operator) -> PullPage {
    let (seq, start) = (MsgSeq::new(1).unwrap(), Seq::NEVER);
    store.ask(Pull { id: group(id), seq, operator, start, tombstones: true }).await.unwrap().unwrap()
}

/// `LatestSeq` as it is stored.
pub(crate) async fn latest(store: &dyn Store, id: &str) -> u64 {
    pull(store, id, administrator()).await.latest.get()
}

pub(crate) fn latest_of(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Extended(Extended { latest, .. }) => latest.get(),
        other => panic!("a change of a set is not answered by {other:?}"),
    }
}

/// Whether the numbers of the events run from 1 to the last one.
pub(crate) async fn events_are_whole(store: &dyn Store, id: &str) -> u64 {
    let view = store.ask(DescribeGroup { id: group(id) }).await.unwrap().unwrap();
    let mut after = EventNumber::START;
    loop {
        let (id, incarnation) = (group(id), view.group.incarnation);
        let page = store.ask(Events { id, incarnation, after, limit: 100 }).await.unwrap();
        assert!(!page.cursor_too_old, "an event is missing after {after:?}");
        for event in &page.events {
            assert_eq!(event.number, after.next());
            after = event.number;
        }
        if page.events.is_empty() {
            let counted = view.counters.last_event;
            assert!(after >= counted);
            return after.get();
        }
    }
}
