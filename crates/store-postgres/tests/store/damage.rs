//! Rows that somebody else has written to, and locks that somebody else holds.

use std::time::Duration;

use sidenote_core::ids::AccountId;
use sidenote_core::query::{Accounts, Ask, DescribeGroup};
use sidenote_postgres_for_tests::{Postgres, Settings};
use sidenote_store::{Store, StoreError};
use sidenote_store_postgres::PostgresOptions;

use crate::scene::{
    APP, commit, create, events_are_whole, found, group, import, latest, open, options, send, set, user,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_makes_no_sense_is_told_and_hurts_nobody_else() {
    let test = "a_row_that_makes_no_sense_is_told_and_hurts_nobody_else";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let store = open(options(&postgres.new_database())).await;
    found(&store, "room").await;
    for damage in [
        "UPDATE messages SET data = '\\x00'",
        "UPDATE extension_sets SET latest_seq = -1",
        "UPDATE pairs SET key = E'\\u0001x' WHERE key = 'a'",
    ] {
        postgres.psql(
            "test0",
            &format!("CREATE TABLE kept AS SELECT * FROM {}", damage.split(' ').nth(1).unwrap()),
        );
        postgres.psql("test0", damage);
        // They wait together and share a transaction, at least some of the time.
        let (damaged, first, second) = tokio::join!(
            commit(&store, clear("room")),
            commit(&store, send("room", 100)),
            commit(&store, send("room", 101)),
        );
        assert!(matches!(damaged, Err(StoreError::Unreadable { .. })), "{damage}: {damaged:?}");
        assert!(first.is_ok() && second.is_ok(), "{damage}: {first:?} {second:?}");
        let table = damage.split(' ').nth(1).unwrap();
        postgres.psql(
            "test0",
            &format!("TRUNCATE {table}; INSERT INTO {table} SELECT * FROM kept; DROP TABLE kept"),
        );
    }
    assert_eq!(store.health(), Ok(()));
    commit(&store, set("room", &[("a", "whole again")])).await.unwrap();
    events_are_whole(&store, "room").await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_that_nobody_can_have_reached_are_told_and_not_counted_on() {
    let test = "counters_that_nobody_can_have_reached_are_told_and_not_counted_on";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let store = open(options(&postgres.new_database())).await;
    found(&store, "room").await;
    for (column, damaged) in [("last_msg_seq", "9007199254740991"), ("members", "4294967295")] {
        let kept = postgres.psql("test0", &format!("SELECT {column} FROM counters"));
        postgres.psql("test0", &format!("UPDATE counters SET {column} = {damaged}"));
        let refused = commit(&store, send("room", 100)).await;
        assert!(matches!(refused, Err(StoreError::Unreadable { .. })), "{column}: {refused:?}");
        postgres.psql("test0", &format!("UPDATE counters SET {column} = {}", kept.trim()));
    }
    commit(&store, send("room", 100)).await.unwrap();
    events_are_whole(&store, "room").await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_the_server_no_longer_takes_are_prepared_again() {
    let test = "statements_that_the_server_no_longer_takes_are_prepared_again";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let store = open(PostgresOptions { connections: 2, ..options(&postgres.new_database()) }).await;
    found(&store, "room").await;
    let questions: &dyn Store = &store;
    let ann = || Accounts { ids: vec![AccountId { app: APP, user: user("ann") }] };
    assert!(questions.ask(ann()).await.unwrap()[0].is_some());
    for kind in ["varchar", "text"] {
        postgres.psql("test0", &format!("ALTER TABLE accounts ALTER COLUMN user_id TYPE {kind}"));
        assert!(questions.ask(ann()).await.unwrap()[0].is_some(), "{kind}");
        commit(&store, import("ann")).await.unwrap();
    }
    assert_eq!(store.health(), Ok(()));
    store.close().await;
}

/// Clears the set, for which all of it is read.
fn clear(id: &str) -> sidenote_core::command::Action {
    use sidenote_core::command::{Action, Extend, GroupAction};
    let seq = sidenote_core::ids::MsgSeq::new(1).unwrap();
    Action::Group(group(id), GroupAction::Extend(seq, Extend::Clear))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_held_for_long_is_not_waited_for_for_ever() {
    let test = "a_lock_that_is_held_for_long_is_not_waited_for_for_ever";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let lock_timeout = Duration::from_millis(200);
    let options = PostgresOptions { connections: 2, lock_timeout, ..options(&postgres.new_database()) };
    let store = open(options).await;
    found(&store, "room").await;
    commit(&store, create("other", 78)).await.unwrap();
    let before = latest(&store, "room").await;
    let mut holder = postgres.session("test0");
    holder.run("BEGIN; SELECT name FROM conversations WHERE name = 'groom' FOR UPDATE;");

    let refused = commit(&store, set("room", &[("a", "late")])).await;
    assert!(matches!(&refused, Err(StoreError::Busy { reason }) if reason.contains("55P03")), "{refused:?}");
    // Neither readers nor other groups wait for it.
    assert_eq!(latest(&store, "room").await, before);
    commit(&store, send("other", 5)).await.unwrap();
    assert_eq!(store.health(), Ok(()));

    // Many that wait together are refused together, and not each after a wait of its own.
    let before = store.statistics().round_trips;
    let many = (0..40).map(|_| commit(&store, set("room", &[("a", "late")])));
    for refused in futures_util::future::join_all(many).await {
        assert!(matches!(&refused, Err(StoreError::Busy { .. })), "{refused:?}");
    }
    let tries = store.statistics().round_trips - before;
    assert!(tries <= 12, "{tries} round trips for 40 commands in a few sets");

    holder.run("COMMIT;");
    commit(&store, set("room", &[("a", "in time")])).await.unwrap();
    let view = store.answer(DescribeGroup { id: group("room") }.into_query()).await;
    assert!(view.is_ok());
    store.close().await;
}
