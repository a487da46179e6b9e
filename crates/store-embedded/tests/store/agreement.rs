//! The plain store in memory and this one are told the same, and must say the same.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use sidenote_core::Limits;
use sidenote_core::command::{
    AccountAction, Action, Claim, DirectAction, Extend, GroupAction, GroupPatch, Items, NewDirectMessage,
};
use sidenote_core::direct::{Party, Peers};
use sidenote_core::event::{CallerKind, Operator};
use sidenote_core::extension::{Seq, Value};
use sidenote_core::ids::{ConversationId, EventNumber, Incarnation, MsgKey, TinyId};
use sidenote_core::message::{Fingerprint, MessageBody};
use sidenote_core::query::{
    Accounts, Ask, DescribeDirect, DescribeGroup, DirectHistory, DirectPull, DueDebts, Events, FindMembers,
    History, JoinedGroups, ListMembers, NextReaped, Pull, Query,
};
use sidenote_store::memory::MemoryStore;
use sidenote_store::{Store, debts};
use sidenote_store_embedded::Settings;

use crate::scene::{
    account, administrator, at, command, create, group, import, key, member, message, msg, open, tiny_cache,
    user,
};

const PEOPLE: [&str; 3] = ["ann", "bob", "cem"];
const GROUPS: [&str; 2] = ["@TGS#1", "@TGS#2"];
const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];
const MESSAGES: std::ops::RangeInclusive<u64> = 1..=3;

/// Limits so low that a few commands meet them.
pub(crate) fn limits() -> Limits {
    Limits {
        pairs_per_message: 3,
        tombstones_per_message: 2,
        pairs_per_pull: 2,
        attempts_per_minute: 12,
        events_kept: 12,
        ..Limits::default()
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Do(Option<&'static str>, Box<Action>),
    PayDebts,
    Reopen,
    /// Lets so much time pass, in milliseconds.
    Wait(u64),
}

/// Each person has one of two numbers, as if the account had been deleted and made again.
pub(crate) fn tiny(name: &str, second: bool) -> TinyId {
    TinyId::from_random(crate::scene::tiny_id(name).get() + u64::from(second))
}

fn claim() -> BoxedStrategy<Claim> {
    let saw = (0..6_u64).prop_map(|seq| Claim::Saw(Seq::new(seq).unwrap()));
    prop_oneof![3 => Just(Claim::Unchecked), 2 => saw].boxed()
}

fn extend() -> BoxedStrategy<Extend> {
    let keys = || proptest::sample::subsequence(&KEYS[..], 1..=3);
    let set = (keys(), claim(), "[xy]{1,3}").prop_map(|(keys, claim, value)| {
        let items = keys.iter().map(|name| ((key(name), Value::new(&value).unwrap()), claim));
        Extend::Set(Items::new(items.collect()).unwrap())
    });
    let delete = (keys(), claim()).prop_map(|(keys, claim)| {
        Extend::Delete(Items::new(keys.iter().map(|name| (key(name), claim)).collect()).unwrap())
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
    Peers { app: crate::scene::APP, from: party(from), to: party(to) }
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
            let start = Seq::new(start).unwrap();
            all.push(DirectPull { peers, key, operator, start, tombstones }.into_query());
        }
    }
    for (one, other) in [("ann", "bob"), ("ann", "ann")] {
        let id = ConversationId::direct(crate::scene::APP, user(one), user(other));
        all.push(DescribeDirect { id }.into_query());
    }
    for id in GROUPS.map(group) {
        all.push(DescribeGroup { id: id.clone() }.into_query());
        all.push(ListMembers { id: id.clone() }.into_query());
        all.push(FindMembers { id: id.clone(), users: PEOPLE.map(user).into() }.into_query());
        all.push(History { id: id.clone(), up_to: None, count: 5 }.into_query());
        for seq in MESSAGES.map(msg) {
            for (start, tombstones) in [(0, false), (0, true), (2, true)] {
                let (id, operator, start) = (id.clone(), administrator(), Seq::new(start).unwrap());
                all.push(Pull { id, seq, operator, start, tombstones }.into_query());
            }
        }
    }
    all
}

async fn run(steps: Vec<Step>, settings: &Settings) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let plain: Arc<dyn Store> = Arc::new(MemoryStore::new(limits()));
    let mut store: Arc<dyn Store> = Arc::new(open(folder.path(), settings, limits()));
    let mut now = 0;
    let mut lives = Vec::new();
    for step in steps {
        now += 1;
        match step {
            Step::Wait(millis) => now += millis,
            Step::Reopen => {
                store.close().await;
                store = Arc::new(open(folder.path(), settings, limits()));
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
                let expected = plain.commit(command.clone()).await.unwrap();
                let found = store.commit(command).await.unwrap();
                prop_assert_eq!(found.verdict, expected.verdict);
                prop_assert_eq!(found.prompt_debts, expected.prompt_debts);
            }
        }
        for question in questions(now, &lives) {
            let expected = plain.answer(question.clone()).await.unwrap();
            let found = store.answer(question.clone()).await.unwrap();
            prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{:?}", question);
        }
    }
    store.close().await;
    Ok(())
}

fn agree(steps: Vec<Step>, settings: &Settings) -> Result<(), TestCaseError> {
    crate::scene::runtime().block_on(run(steps, settings))
}

/// First accounts and a group, so that most commands find something.
pub(crate) fn steps() -> BoxedStrategy<Vec<Step>> {
    let founding =
        |id, number| Step::Do(None, Box::new(create(id, number, 0, member("ann", tiny("ann", false)))));
    let accounts = PEOPLE.map(|name| Step::Do(None, Box::new(import(name, tiny(name, false)))));
    let beginning: Vec<_> = accounts.into_iter().chain([founding(GROUPS[0], 1)]).collect();
    vec(step(), 1..50).prop_map(move |rest| beginning.iter().cloned().chain(rest).collect()).boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn without_any_cache(steps in steps()) {
        agree(steps, &Settings { row_cache_bytes: 0, reader_threads: 1, ..Settings::default() })?;
    }

    #[test]
    fn with_a_tiny_cache(steps in steps()) {
        agree(steps, &tiny_cache())?;
    }

    #[test]
    fn with_a_large_cache(steps in steps()) {
        agree(steps, &Settings::default())?;
    }
}
