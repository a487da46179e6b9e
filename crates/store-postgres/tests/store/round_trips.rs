//! A set takes two round trips and a pull one, as the store counts them and as a proxy sees them.

use sidenote_core::command::{Action, Command, DirectAction, GroupAction, NewDirectMessage, NewMember};
use sidenote_core::direct::{Party, Peers};
use sidenote_core::event::Operator;
use sidenote_core::extension::Seq;
use sidenote_core::group::Role;
use sidenote_core::ids::{AccountId, Incarnation, MsgSeq, Timestamp};
use sidenote_core::message::{Fingerprint, MessageBody};
use sidenote_core::query::{Answer, Ask, DirectHistory, History, JoinedGroups, ListMembers, Pull};
use sidenote_postgres_for_tests::{Postgres, Settings};
use sidenote_store::caller::Caller;
use sidenote_store::{Store, debts};
use sidenote_store_postgres::RoundTrips;

use crate::proxy::Proxy;
use crate::scene::{
    APP, administrator, ann, command, create, found, group, latest, open, options, pull, send, set, tiny_id,
    user,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_set_takes_two_round_trips_and_a_pull_one() {
    let test = "a_set_takes_two_round_trips_and_a_pull_one";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let proxy = Proxy::before(postgres.port()).await;
    let store = open(options(&proxy.dsn(&postgres.new_schema(), postgres.port()))).await;
    found(&store, "room").await;

    let before = (store.round_trips(), proxy.turns());
    let by_ann = Command { operator: ann(), ..command(set("room", &[("a", "3")])) };
    for number in 0..10 {
        let value = number.to_string();
        let pairs = [("a", &*value), ("b", &*value), ("c", &*value)];
        store.commit(command(set("room", &pairs))).await.unwrap().verdict.unwrap();
    }
    let after = (store.round_trips(), proxy.turns());
    assert_eq!(flushes(before.0, after.0), (20, 0));
    assert_eq!(after.1 - before.1, 20);

    // A member's request that is refused for its Seq reads and ends the transaction.
    let refused = store.commit(by_ann).await.unwrap().verdict.unwrap();
    assert_eq!(crate::scene::latest_of(&refused), latest(&store, "room").await);

    let before = (store.round_trips(), proxy.turns());
    for _ in 0..10 {
        assert_eq!(pull(&store, "room", ann()).await.pairs.len(), 3);
    }
    let after = (store.round_trips(), proxy.turns());
    assert_eq!(flushes(before.0, after.0), (10, 0));
    assert_eq!((after.1 - before.1, after.0.statements - before.0.statements), (10, 10));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_the_caller_has_an_account_is_asked_in_the_same_round_trips() {
    let test = "whether_the_caller_has_an_account_is_asked_in_the_same_round_trips";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let proxy = Proxy::before(postgres.port()).await;
    let opened = open(options(&proxy.dsn(&postgres.new_schema(), postgres.port()))).await;
    found(&opened, "room").await;
    let store: &dyn Store = &opened;
    let behalf = |name| Caller { account: AccountId { app: APP, user: user(name) }, tiny_id: None };
    let by = |name| Operator { user: user(name), tiny_id: None, ..ann() };
    let pull = |name| {
        let (id, seq) = (group("room"), MsgSeq::new(1).unwrap());
        Pull { id, seq, operator: by(name), start: Seq::NEVER, tombstones: false }
    };
    // Once for nothing, so that all is prepared.
    for round in 0..2 {
        for (name, is_known) in [("ann", true), ("nobody", false)] {
            let before = (opened.round_trips(), proxy.turns());
            let set = command(set("room", &[("a", "3")]));
            let done = store.execute_by(&behalf(name), Command { operator: by(name), ..set }).await.unwrap();
            let after = (opened.round_trips(), proxy.turns());
            assert_eq!(done.is_some(), is_known);
            assert!(round == 0 || flushes(before.0, after.0) == (2, 0) && after.1 - before.1 == 2);

            let before = (opened.round_trips(), proxy.turns());
            let page = store.ask_by(&behalf(name), pull(name)).await.unwrap();
            let after = (opened.round_trips(), proxy.turns());
            assert_eq!(page.is_some(), is_known);
            assert!(round == 0 || flushes(before.0, after.0) == (1, 0) && after.1 - before.1 == 1);
        }
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_with_many_members_is_made_in_two_round_trips() {
    let test = "a_group_with_many_members_is_made_in_two_round_trips";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let store = open(options(&postgres.new_schema())).await;
    found(&store, "room").await;
    for number in 0..2 {
        let before = store.round_trips();
        let Action::Group(id, GroupAction::Create(mut new)) = create(&format!("new-{number}"), 100 + number)
        else {
            panic!("a group is made");
        };
        let guest = |number| NewMember { user: user(&format!("guest-{number}")), ..new.members[0].clone() };
        new.owner = Some(NewMember { role: Role::Owner, ..guest(50) });
        new.members = (0..50).map(guest).collect();
        let create = command(Action::Group(id.clone(), GroupAction::Create(new)));
        store.commit(create).await.unwrap().verdict.unwrap();
        assert_eq!(flushes(before, store.round_trips()).0, 2);
        let store: &dyn Store = &store;
        assert_eq!(store.ask(ListMembers { id }).await.unwrap().unwrap().len(), 51);
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_and_lists_of_groups_take_two_round_trips_at_most() {
    let test = "histories_and_lists_of_groups_take_two_round_trips_at_most";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let store = open(options(&postgres.new_schema())).await;
    found(&store, "room").await;
    for number in 2..=9 {
        store.commit(command(send("room", number))).await.unwrap().verdict.unwrap();
        store.commit(command(letter(number))).await.unwrap().verdict.unwrap();
    }
    // The account hears that it joined.
    let now = Timestamp::from_millis(1_700_000_000_000);
    assert_eq!(debts::pay_due(&store, now, None, 100).await.unwrap().failure, None);
    let history = |up_to, count| History { id: group("room"), up_to, count }.into_query();
    let letters = |to, limit| {
        let (peers, operator, from, after) = (ann_and_bob(), administrator(), 0, None);
        DirectHistory { peers, operator, from, to, after, limit }.into_query()
    };
    let account = AccountId { app: APP, user: user("ann") };
    let groups = JoinedGroups { account, after: None, limit: 10 }.into_query();
    for (question, found, expected) in [
        (history(None, 5), 5, 2),
        (history(Some(7), 5), 5, 1),
        (history(Some(3), 5), 3, 1),
        // Numbers that there are not yet. What was guessed was wrong, and all is read again.
        (history(Some(12), 5), 5, 3),
        (letters(u64::MAX, 5), 5, 2),
        (letters(u64::MAX, 50), 8, 2),
        (letters(1, 5), 0, 2),
        (groups, 1, 2),
    ] {
        store.answer(question.clone()).await.unwrap();
        let before = store.round_trips();
        let count = match store.answer(question.clone()).await.unwrap() {
            Answer::History(page) => page.unwrap().messages.len(),
            Answer::DirectHistory(page) => page.unwrap().messages.len(),
            Answer::JoinedGroups(page) => page.groups.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!((count, flushes(before, store.round_trips())), (found, (expected, 0)), "{question:?}");
    }
    store.close().await;
}

fn ann_and_bob() -> Peers {
    let party = |name| Party { user: user(name), tiny_id: tiny_id(name) };
    Peers { app: APP, from: party("ann"), to: party("bob") }
}

fn letter(number: u64) -> Action {
    let letter = NewDirectMessage {
        incarnation: Incarnation::from_random(number),
        seq: u32::try_from(number).unwrap(),
        random: 1,
        client_time: None,
        supports_extension: true,
        online_only: false,
        body: MessageBody { elements: "[]".to_owned(), ..MessageBody::default() },
        fingerprint: Fingerprint(u128::from(number).to_be_bytes()),
    };
    Action::Direct(Box::new(ann_and_bob()), DirectAction::Send(Box::new(letter)))
}

fn flushes(before: RoundTrips, after: RoundTrips) -> (u64, u64) {
    (after.flushes - before.flushes, after.preparations - before.preparations)
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_wait_for_one_group_share_a_transaction() {
    let test = "commands_that_wait_for_one_group_share_a_transaction";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let store = open(options(&postgres.new_schema())).await;
    found(&store, "room").await;
    let (latest_before, before) = (latest(&store, "room").await, store.statistics());

    let commands = (0..64).map(|number| {
        let value = number.to_string();
        store.commit(command(set("room", &[("a", &*value)])))
    });
    let committed = futures_util::future::join_all(commands).await;
    let mut seqs: Vec<u64> = committed
        .into_iter()
        .map(|committed| crate::scene::latest_of(&committed.unwrap().verdict.unwrap()))
        .collect();
    seqs.sort_unstable();
    let expected: Vec<u64> = (latest_before + 1..=latest_before + 64).collect();
    assert_eq!(seqs, expected, "each of them was decided against what the one before it left");
    let after = store.statistics();
    assert_eq!(after.commands - before.commands, 64);
    let commits = after.commits - before.commits;
    assert!(commits <= 8, "{commits} transactions for 64 commands that wait at the same time");
    crate::scene::events_are_whole(&store, "room").await;
    store.close().await;
}
