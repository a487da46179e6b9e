//! Names and commands that the tests speak in.

use std::path::Path;

use sidenote_core::command::{
    AccountAction, Action, Claim, Command, Extend, GroupAction, Items, NewGroup, NewMember, NewMessage,
};
use sidenote_core::event::{CallerKind, Operator, Platform};
use sidenote_core::extension::{Key, Seq, Value};
use sidenote_core::group::{ApplyJoin, GroupProfile, GroupType, InviteJoin, Role};
use sidenote_core::ids::{
    AccountId, AppId, ConversationId, GroupId, Incarnation, MsgSeq, Timestamp, TinyId, UserId,
};
use sidenote_core::message::{Fingerprint, MessageBody, Priority};
use sidenote_core::query::{Pull, PullPage};
use sidenote_core::{Limits, Outcome, decide::Extended};
use sidenote_store::Store;
use sidenote_store_embedded::{EmbeddedStore, Settings};

pub(crate) const APP: AppId = AppId::new(1_400_000_001);

pub(crate) fn open(folder: &Path, settings: &Settings, limits: Limits) -> EmbeddedStore {
    EmbeddedStore::open(folder, settings, limits).unwrap()
}

/// No limit of attempts, which is the subject of none of these tests.
pub(crate) fn unlimited() -> Limits {
    Limits { attempts_per_minute: 0, ..Limits::default() }
}

/// Small enough that rows are pushed out all the time.
pub(crate) fn tiny_cache() -> Settings {
    Settings { row_cache_bytes: 3000, ..Settings::default() }
}

/// A runtime of the kind that the server has.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(crate) fn account(name: &str) -> AccountId {
    AccountId { app: APP, user: user(name) }
}

pub(crate) fn tiny_id(name: &str) -> TinyId {
    TinyId::from_random(name.bytes().fold(7, |sum, byte| sum * 31 + u64::from(byte)))
}

pub(crate) fn group(id: &str) -> ConversationId {
    ConversationId::group(APP, GroupId::new(id).unwrap())
}

pub(crate) fn msg(seq: u64) -> MsgSeq {
    MsgSeq::new(seq).unwrap()
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

pub(crate) fn at(step: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + step)
}

pub(crate) fn administrator() -> Operator {
    Operator {
        user: user("administrator"),
        tiny_id: None,
        kind: CallerKind::Administrator,
        platform: Platform::RestApi,
        address: Some([127, 0, 0, 1].into()),
    }
}

pub(crate) fn command(step: u64, action: Action) -> Command {
    Command { operator: administrator(), at: at(step), action }
}

pub(crate) fn import(name: &str, tiny_id: TinyId) -> Action {
    let action = AccountAction::Import { tiny_id, nick: Some(name.to_uppercase()), face_url: None };
    Action::Account(account(name), action)
}

pub(crate) fn member(name: &str, tiny_id: TinyId) -> NewMember {
    NewMember {
        user: user(name),
        tiny_id,
        role: Role::Member,
        joined_at: None,
        unread: 0,
        custom: Vec::new(),
    }
}

pub(crate) fn create(id: &str, incarnation: u64, step: u64, owner: NewMember) -> Action {
    let profile = GroupProfile {
        name: "a group".to_owned(),
        introduction: String::new(),
        notification: String::new(),
        face_url: String::new(),
        max_members: Some(200),
        apply_join: ApplyJoin::NeedPermission,
        invite_join: InviteJoin::DisableInvite,
        mute_all: false,
        history_before_join: true,
        custom: Vec::new(),
    };
    let new = NewGroup {
        incarnation: Incarnation::from_random(incarnation),
        kind: GroupType::Public,
        owner: Some(NewMember { role: Role::Owner, ..owner }),
        profile,
        members: Vec::new(),
        created_at: at(step),
        imported: false,
    };
    Action::Group(group(id), GroupAction::Create(Box::new(new)))
}

pub(crate) fn message(sender: &str, random: u32) -> NewMessage {
    let mut fingerprint = [0; 16];
    fingerprint[..4].copy_from_slice(&random.to_be_bytes());
    NewMessage {
        sender: user(sender),
        sender_tiny_id: tiny_id(sender),
        sender_is_administrator: false,
        random,
        client_time: None,
        sent_at: None,
        priority: Priority::Normal,
        supports_extension: true,
        online_only: false,
        body: MessageBody { elements: format!("[\"{random}\"]"), ..MessageBody::default() },
        fingerprint: Fingerprint(fingerprint),
    }
}

pub(crate) fn send(id: &str, sender: &str, random: u32) -> Action {
    Action::Group(group(id), GroupAction::Send(Box::new(message(sender, random))))
}

/// Sets pairs as an administrator does, whatever is there.
pub(crate) fn set(id: &str, seq: u64, pairs: &[(&str, &str)]) -> Action {
    let pairs = pairs
        .iter()
        .map(|(name, value)| ((key(name), Value::new(value).unwrap()), Claim::Unchecked))
        .collect();
    Action::Group(group(id), GroupAction::Extend(msg(seq), Extend::Set(Items::new(pairs).unwrap())))
}

/// Deletes pairs as an administrator does.
pub(crate) fn delete(id: &str, seq: u64, keys: &[String]) -> Action {
    let keys = keys.iter().map(|name| (key(name), Claim::Unchecked)).collect();
    Action::Group(group(id), GroupAction::Extend(msg(seq), Extend::Delete(Items::new(keys).unwrap())))
}

pub(crate) fn clear(id: &str, seq: u64) -> Action {
    Action::Group(group(id), GroupAction::Extend(msg(seq), Extend::Clear))
}

pub(crate) async fn commit(store: &dyn Store, step: u64, action: Action) -> Outcome {
    store.execute(command(step, action)).await.unwrap().unwrap()
}

pub(crate) async fn extend(store: &dyn Store, step: u64, action: Action) -> Extended {
    match commit(store, step, action).await {
        Outcome::Extended(extended) => extended,
        other => panic!("not what an extension command answers: {other:?}"),
    }
}

pub(crate) async fn pull(store: &dyn Store, id: &str, seq: u64) -> PullPage {
    let operator = administrator();
    let pull = Pull { id: group(id), seq: msg(seq), operator, start: Seq::NEVER, tombstones: true };
    store.ask(pull).await.unwrap().unwrap()
}

/// The group `g` of ann's, with so many messages of hers.
pub(crate) async fn group_with_messages(store: &dyn Store, count: u32) {
    commit(store, 0, import("ann", tiny_id("ann"))).await;
    commit(store, 1, create("g", 77, 1, member("ann", tiny_id("ann")))).await;
    let sends = (0..count).map(|random| store.execute(command(2, send("g", "ann", random))));
    for sent in futures_util::future::join_all(sends).await {
        sent.unwrap().unwrap();
    }
}
