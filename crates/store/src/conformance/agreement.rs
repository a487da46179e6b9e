//! The plain store in memory and a backend are told the same, and must say the same.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use sidenote_core::Limits;
use sidenote_core::command::{
    AccountAction, Action, Claim, Command, DirectAction, Extend, GroupAction, GroupPatch, Items,
    NewDirectMessage, NewGroup, NewMember, NewMessage,
};
use sidenote_core::direct::{Party, Peers};
use sidenote_core::event::{CallerKind, Operator, Platform};
use sidenote_core::extension::{Seq, Value};
use sidenote_core::group::{ApplyJoin, GroupProfile, GroupType, InviteJoin, Role};
use sidenote_core::ids::{
    AccountId, AppId, ConversationId, EventNumber, GroupId, Incarnation, MsgKey, Timestamp, TinyId,
};
use sidenote_core::message::{Fingerprint, MessageBody, Priority};
use sidenote_core::query::{
    Accounts, Ask, DescribeDirect, DescribeGroup, DirectHistory, DirectPull, DueDebts, Events, FindMembers,
    History, JoinedGroups, ListMembers, NextReaped, Pull, Query,
};

use super::world::{key, msg_seq as msg, user};
use crate::memory::MemoryStore;
use crate::{Store, debts};

const APP: AppId = AppId::new(1_400_000_001);
const PEOPLE: [&str; 3] = ["ann", "bob", "cem"];
const GROUPS: [&str; 2] = ["@TGS#1", "@TGS#2"];
const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];
const MESSAGES: std::ops::RangeInclusive<u64> = 1..=3;

/// Plays `cases` random sequences of commands, each on a store in a new place and on the plain one, and asks both
/// everything that can be asked after each of them. A store may be opened several times in its place, and must find what
/// was there. Builds a runtime of its own.
///
/// # Panics
///
/// If they disagree; the message shows the shortest sequence that was found.
pub fn check_agreement<O: AsyncFn(Limits) -> Arc<dyn Store>>(new_place: impl Fn() -> O, cases: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime for tests");
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&steps(), |steps| runtime.block_on(run(steps, new_place())));
    if let Err(error) = outcome {
        panic!("the store and the plain one disagree: {error}");
    }
}

/// Limits so low that a few commands meet them.
pub fn limits() -> Limits {
    Limits {
        pairs_per_message: 3,
        tombstones_per_message: 2,
        pairs_per_pull: 2,
        attempts_per_minute: 12,
        events_kept: 12,
        ..Limits::default()
    }
}

/// One step of random use.
#[derive(Clone, Debug)]
pub enum Step {
    /// A person does something; `None`: an administrator does.
    Do(Option<&'static str>, Box<Action>),
    /// Some of the debts that are due are paid.
    PayDebts,
    /// The store is closed and opened again.
    Reopen,
    /// Lets so much time pass, in milliseconds.
    Wait(u64),
}

/// Each person has one of two numbers, as if the account had been deleted and made again.
pub fn tiny(name: &str, second: bool) -> TinyId {
    TinyId::from_random(tiny_id(name).get() + u64::from(second))
}

fn claim() -> BoxedStrategy<Claim> {
    let saw = (0..6_u64).prop_map(|seq| Claim::Saw(Seq::new(seq).expect("tests use sound values")));
    prop_oneof![3 => Just(Claim::Unchecked), 2 => saw].boxed()
}

fn extend() -> BoxedStrategy<Extend> {
    let keys = || proptest::sample::subsequence(&KEYS[..], 1..=3);
    let set = (keys(), claim(), "[xy]{1,3}").prop_map(|(keys, claim, value)| {
        let items =
            keys.iter().map(|name| ((key(name), Value::new(&value).expect("tests use sound values")), claim));
        Extend::Set(Items::new(items.collect()).expect("tests use sound values"))
    });
    let delete = (keys(), claim()).prop_map(|(keys, claim)| {
        Extend::Delete(
            Items::new(keys.iter().map(|name| (key(name), claim)).collect()).expect("tests use sound values"),
        )
    });
    prop_oneof![5 => set, 4 => delete, 1 => Just(Extend::Clear)].boxed()
}

fn group_action() -> BoxedStrategy<GroupAction> {
    let person = || select(&PEOPLE[..]);
    let members = vec((person(), any::<bool>()), 1..3).prop_map(|who| GroupAction::AddMembers {
        members: who.into_iter().map(|(name, second)| member(name, tiny(name, second))).collect(),
        imported: false,
    });
    let remove = person()
        .prop_map(|name| GroupAction::RemoveMembers { users: vec![user(name)], reason: "why".to_owned() });
    let recall = MESSAGES.prop_map(|seq| GroupAction::Recall { seqs: vec![msg(seq)], reason: String::new() });
    let rename = "[a-c]{1,2}".prop_map(|name| GroupPatch { name: Some(name), ..GroupPatch::default() });
    prop_oneof![
        5 => (person(), 0..4_u32).prop_map(|(name, random)| GroupAction::Send(Box::new(message(name, random)))),
        12 => (MESSAGES, extend()).prop_map(|(seq, extend)| GroupAction::Extend(msg(seq), extend)),
        2 => members,
        1 => remove,
        1 => recall,
        1 => rename.prop_map(|patch| GroupAction::Modify(Box::new(patch))),
        1 => person().prop_map(|name| GroupAction::ChangeOwner(user(name))),
        1 => Just(GroupAction::Destroy),
    ]
    .boxed()
}

/// Two people who write to each other. Ann has one of two numbers.
fn peers(from: &str, to: &str, second: bool) -> Peers {
    let party = |name: &str| Party { user: user(name), tiny_id: tiny(name, second && name == "ann") };
    Peers { app: APP, from: party(from), to: party(to) }
}

/// Keys that messages of the first seconds may have.
fn letter_key() -> BoxedStrategy<MsgKey> {
    (0..2_u32, 1_700_000_000..1_700_000_002_u64)
        .prop_map(|(seq, time)| MsgKey { seq, random: 7, time })
        .boxed()
}

fn letter() -> BoxedStrategy<NewDirectMessage> {
    (any::<u64>(), 0..2_u32, 0..3_u8, prop::bool::weighted(0.1))
        .prop_map(|(number, seq, text, online_only)| NewDirectMessage {
            incarnation: Incarnation::from_random(number),
            seq,
            random: 7,
            client_time: None,
            supports_extension: true,
            online_only,
            body: MessageBody { elements: format!("[{text}]"), ..MessageBody::default() },
            fingerprint: Fingerprint([text; 16]),
        })
        .boxed()
}

fn direct_action() -> BoxedStrategy<Action> {
    let action = prop_oneof![
        5 => letter().prop_map(|letter| DirectAction::Send(Box::new(letter))),
        8 => (letter_key(), extend()).prop_map(|(key, extend)| DirectAction::Extend(key, extend)),
        1 => letter_key().prop_map(DirectAction::Recall),
    ];
    let two = (select(&PEOPLE[..2]), select(&PEOPLE[..2]), prop::bool::weighted(0.2));
    (two, action)
        .prop_map(|((from, to, second), action)| Action::Direct(Box::new(peers(from, to, second)), action))
        .boxed()
}

fn step() -> BoxedStrategy<Step> {
    let person = || select(&PEOPLE[..]);
    let caller = || prop_oneof![2 => Just(None), 1 => person().prop_map(Some)];
    let home = || select(&GROUPS[..]);
    let account_action =
        (person(), any::<bool>()).prop_map(|(name, second)| import(name, tiny(name, second)));
    let delete = person().prop_map(|name| Action::Account(account(name), AccountAction::Delete));
    let made = (home(), any::<u64>(), person())
        .prop_map(|(id, number, name)| create(id, number, 0, member(name, tiny(name, false))));
    let other = (home(), group_action()).prop_map(|(id, action)| Action::Group(group(id), action));
    let action = prop_oneof![2 => account_action, 1 => delete, 3 => made, 20 => other, 12 => direct_action()];
    prop_oneof![
        30 => (caller(), action).prop_map(|(caller, action)| Step::Do(caller, Box::new(action))),
        2 => Just(Step::PayDebts),
        1 => Just(Step::Reopen),
        1 => select(vec![1_000, 60_000, 10 * 60 * 1000, 8 * 24 * 60 * 60 * 1000]).prop_map(Step::Wait),
    ]
    .boxed()
}

/// Everything that anybody could ask.
fn questions(now: u64, lives: &[(ConversationId, Incarnation)]) -> Vec<Query> {
    let mut all = vec![
        Accounts { ids: PEOPLE.map(account).into() }.into_query(),
        DueDebts { by: at(now), after: None, limit: 100 }.into_query(),
        DueDebts { by: at(u64::MAX / 2), after: None, limit: 3 }.into_query(),
    ];
    for name in PEOPLE {
        all.push(JoinedGroups { account: account(name), after: None, limit: 1 }.into_query());
        all.push(JoinedGroups { account: account(name), after: None, limit: 9 }.into_query());
    }
    for (id, incarnation) in lives {
        let (id, incarnation) = (id.clone(), *incarnation);
        let events = |after, limit| {
            let (id, after) = (id.clone(), EventNumber::new(after));
            Events { id, incarnation, after, limit }
        };
        all.extend([events(0, 100), events(5, 2), events(1000, 1)].map(Ask::into_query));
        all.push(NextReaped { id: id.clone(), incarnation }.into_query());
    }
    for second in [false, true] {
        let (peers, operator) = (peers("ann", "bob", second), administrator());
        let history = |from, after, limit| {
            let (peers, operator) = (peers.clone(), operator.clone());
            DirectHistory { peers, operator, from, to: u64::MAX, after, limit }
        };
        let key = MsgKey { seq: 1, random: 7, time: 1_700_000_000 };
        let histories = [history(0, None, 100), history(1_700_000_001, None, 1), history(0, Some(key), 2)];
        all.extend(histories.map(Ask::into_query));
        for (start, tombstones) in [(0, false), (1, true)] {
            let (peers, operator) = (peers.clone(), operator.clone());
            let start = Seq::new(start).expect("tests use sound values");
            all.push(DirectPull { peers, key, operator, start, tombstones }.into_query());
        }
    }
    for (one, other) in [("ann", "bob"), ("ann", "ann")] {
        let id = ConversationId::direct(APP, user(one), user(other));
        all.push(DescribeDirect { id }.into_query());
    }
    for id in GROUPS.map(group) {
        all.push(DescribeGroup { id: id.clone() }.into_query());
        all.push(ListMembers { id: id.clone() }.into_query());
        all.push(FindMembers { id: id.clone(), users: PEOPLE.map(user).into() }.into_query());
        all.push(History { id: id.clone(), up_to: None, count: 5 }.into_query());
        for seq in MESSAGES.map(msg) {
            for (start, tombstones) in [(0, false), (0, true), (2, true)] {
                let (id, operator, start) =
                    (id.clone(), administrator(), Seq::new(start).expect("tests use sound values"));
                all.push(Pull { id, seq, operator, start, tombstones }.into_query());
            }
        }
    }
    all
}

async fn run(steps: Vec<Step>, open: impl AsyncFn(Limits) -> Arc<dyn Store>) -> Result<(), TestCaseError> {
    let plain: Arc<dyn Store> = Arc::new(MemoryStore::new(limits()));
    let mut store = open(limits()).await;
    let mut now = 0;
    let mut lives = Vec::new();
    for step in steps {
        now += 1;
        match step {
            Step::Wait(millis) => now += millis,
            Step::Reopen => {
                store.close().await;
                store = open(limits()).await;
            }
            Step::PayDebts => {
                let paid = debts::pay_due(&*plain, at(now), None, 20).await;
                prop_assert_eq!(debts::pay_due(&*store, at(now), None, 20).await, paid);
            }
            Step::Do(caller, action) => {
                if let Action::Group(id, GroupAction::Create(new)) = &*action {
                    lives.push((id.clone(), new.incarnation));
                }
                if let Action::Direct(peers, DirectAction::Send(new)) = &*action {
                    lives.push((peers.id(), new.incarnation));
                }
                let mut command = command(now, *action);
                if let Some(name) = caller {
                    let (user, tiny_id) = (user(name), Some(tiny(name, false)));
                    command.operator =
                        Operator { user, tiny_id, kind: CallerKind::Member, ..command.operator };
                }
                let expected = plain.commit(command.clone()).await.expect("the store works");
                let found = store.commit(command).await.expect("the store works");
                prop_assert_eq!(found.verdict, expected.verdict);
                prop_assert_eq!(found.prompt_debts, expected.prompt_debts);
            }
        }
        for question in questions(now, &lives) {
            let expected = plain.answer(question.clone()).await.expect("the store works");
            let found = store.answer(question.clone()).await.expect("the store works");
            prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{:?}", question);
        }
    }
    store.close().await;
    Ok(())
}

/// First accounts and a group, so that most commands find something.
pub fn steps() -> BoxedStrategy<Vec<Step>> {
    let founding =
        |id, number| Step::Do(None, Box::new(create(id, number, 0, member("ann", tiny("ann", false)))));
    let accounts = PEOPLE.map(|name| Step::Do(None, Box::new(import(name, tiny(name, false)))));
    let beginning: Vec<_> = accounts.into_iter().chain([founding(GROUPS[0], 1)]).collect();
    vec(step(), 1..50).prop_map(move |rest| beginning.iter().cloned().chain(rest).collect()).boxed()
}

fn account(name: &str) -> AccountId {
    AccountId { app: APP, user: user(name) }
}

fn tiny_id(name: &str) -> TinyId {
    TinyId::from_random(name.bytes().fold(7, |sum, byte| sum * 31 + u64::from(byte)))
}

fn group(id: &str) -> ConversationId {
    ConversationId::group(APP, GroupId::new(id).expect("tests use sound names"))
}

fn at(step: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + step)
}

fn administrator() -> Operator {
    Operator {
        user: user("administrator"),
        tiny_id: None,
        kind: CallerKind::Administrator,
        platform: Platform::RestApi,
        address: Some([127, 0, 0, 1].into()),
    }
}

fn command(step: u64, action: Action) -> Command {
    Command { operator: administrator(), at: at(step), action }
}

fn import(name: &str, tiny_id: TinyId) -> Action {
    let action = AccountAction::Import { tiny_id, nick: Some(name.to_uppercase()), face_url: None };
    Action::Account(account(name), action)
}

fn member(name: &str, tiny_id: TinyId) -> NewMember {
    NewMember {
        user: user(name),
        tiny_id,
        role: Role::Member,
        joined_at: None,
        unread: 0,
        custom: Vec::new(),
    }
}

fn create(id: &str, incarnation: u64, step: u64, owner: NewMember) -> Action {
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

fn message(sender: &str, random: u32) -> NewMessage {
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
