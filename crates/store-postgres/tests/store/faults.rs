//! Lost connections: at every step of a transaction, and for a while.

use std::time::Duration;

use sidenote_core::query::{Ask, DescribeGroup};
use sidenote_postgres_for_tests::{Postgres, Settings};
use sidenote_store::{Store, StoreError};
use sidenote_store_postgres::PostgresOptions;

use crate::proxy::{Cut, Proxy};
use crate::scene::{commit, events_are_whole, found, group, latest, latest_of, open, options, set};

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_at_any_step_is_no_false_success() {
    let test = "a_connection_lost_at_any_step_is_no_false_success";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let proxy = Proxy::before(postgres.port()).await;
    let dsn = postgres.new_schema();
    let store = open(options(&proxy.dsn(&dsn, postgres.port()))).await;
    // Looks at the database past the proxy.
    let witness = open(options(&dsn)).await;
    found(&store, "room").await;
    // Before and after the first round trip nothing has happened, so the command is carried out on another connection.
    // What becomes of the second is known only if it was answered.
    for (nth, cut, expected) in [
        (1, Cut::Before, Some(1)),
        (1, Cut::Within, Some(1)),
        (1, Cut::Answering, Some(1)),
        (2, Cut::Before, None),
        (2, Cut::Within, None),
        (2, Cut::Ended, None),
    ] {
        // A connection that is used already, so that the steps are those of the transaction.
        commit(&store, set("room", &[("a", "0"), ("b", "0"), ("c", "0")])).await.unwrap();
        let before = latest(&witness, "room").await;
        proxy.cut(nth, cut);
        let answered = commit(&store, set("room", &[("a", "1"), ("b", "2"), ("c", "3")])).await;
        assert!(!proxy.is_armed(), "{nth} {cut:?} was never reached");
        // What the server got before the cut it may still be busy with.
        let after = settled(&postgres, &witness).await;
        match (&answered, expected) {
            (Ok(outcome), Some(changes)) => {
                assert_eq!(
                    (latest_of(outcome), after),
                    (before + changes, before + changes),
                    "{nth} {cut:?}"
                );
            }
            (Err(StoreError::Unknown { .. }), None) => {
                let happened = u64::from(cut == Cut::Ended);
                assert_eq!(after, before + happened, "{nth} {cut:?}");
            }
            other => panic!("{nth} {cut:?}: {other:?}"),
        }
        assert_eq!(latest(&store, "room").await, after, "it goes on, on another connection");
        events_are_whole(&witness, "room").await;
    }
    store.close().await;
    witness.close().await;
}

/// `LatestSeq` once no transaction is under way any more.
async fn settled(postgres: &Postgres, witness: &dyn Store) -> u64 {
    let open =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sidenote' AND state <> 'idle'";
    for _ in 0..1000 {
        if postgres.psql("postgres", open).trim() == "0" {
            return latest(witness, "room").await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a transaction stays open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_whose_connection_is_lost_is_asked_again() {
    let test = "a_pull_whose_connection_is_lost_is_asked_again";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let proxy = Proxy::before(postgres.port()).await;
    let store = open(options(&proxy.dsn(&postgres.new_schema(), postgres.port()))).await;
    found(&store, "room").await;
    for cut in [Cut::Before, Cut::Within, Cut::Ended] {
        proxy.cut(1, cut);
        assert_eq!(latest(&store, "room").await, 2, "{cut:?}");
        assert!(!proxy.is_armed());
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_refused_for_now_is_asked_again_on_the_same_connection() {
    let test = "a_pull_that_is_refused_for_now_is_asked_again_on_the_same_connection";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let store = open(options(&postgres.new_schema())).await;
    found(&store, "room").await;
    postgres.psql(
        "postgres",
        "SET search_path = test0; CREATE SEQUENCE tries; ALTER TABLE pairs RENAME TO kept; \
         CREATE FUNCTION may_be_read() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN \
         IF nextval('test0.tries') = 1 THEN RAISE EXCEPTION 'not now' USING ERRCODE = '40001'; END IF; \
         RETURN true; END $$; CREATE VIEW pairs AS SELECT * FROM kept WHERE may_be_read()",
    );
    let sessions = || {
        let sql =
            "SELECT array_agg(pid ORDER BY pid) FROM pg_stat_activity WHERE application_name = 'sidenote'";
        postgres.psql("postgres", sql)
    };
    let before = sessions();
    assert_eq!(latest(&store, "room").await, 2);
    assert_ne!(postgres.psql("postgres", "SELECT last_value FROM test0.tries").trim(), "1", "it was refused");
    assert_eq!(sessions(), before, "nothing was lost, so nobody is suspected");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_hangs_does_not_hold_its_locks_in_the_pool() {
    let test = "a_transaction_that_hangs_does_not_hold_its_locks_in_the_pool";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let proxy = Proxy::before(postgres.port()).await;
    let dsn = postgres.new_schema();
    let slow = PostgresOptions {
        statement_timeout: Duration::from_millis(200),
        // Over with the first try, so that no second one looks into the pool.
        patience: Duration::from_secs(1),
        ..options(&proxy.dsn(&dsn, postgres.port()))
    };
    let store = open(slow).await;
    let witness = open(PostgresOptions { lock_timeout: Duration::from_millis(500), ..options(&dsn) }).await;
    found(&store, "room").await;
    // So that its statements are prepared.
    commit(&store, set("room", &[("a", "before")])).await.unwrap();
    // What the server answers to BEGIN, the lock and the reading never comes.
    proxy.cut(1, Cut::Ended);
    let refused = commit(&store, set("room", &[("a", "lost")])).await;
    assert!(matches!(refused, Err(StoreError::Busy { .. })), "{refused:?}");
    commit(&witness, set("room", &[("a", "free")])).await.unwrap();
    store.close().await;
    witness.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_those_before_who_wait_in_vain() {
    let test = "nobody_waits_for_those_before_who_wait_in_vain";
    let Some(mut postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let patience = Duration::from_millis(500);
    let store = open(PostgresOptions { patience, ..options(&postgres.new_schema()) }).await;
    found(&store, "room").await;
    postgres.kill();
    let began = tokio::time::Instant::now();
    // As many as sixteen transactions take.
    let many =
        (0..16 * PostgresOptions::MOST_TOGETHER).map(|_| commit(&store, set("room", &[("a", "late")])));
    let all = async {
        let (refused, ()) = tokio::join!(futures_util::future::join_all(many), store.close());
        refused
    };
    for refused in all.await {
        assert!(matches!(refused, Err(StoreError::Busy { .. } | StoreError::Closed)), "{refused:?}");
    }
    assert!(began.elapsed() < patience * 8, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_says_so_holds_nobody_for_ever_and_recovers() {
    let test = "a_node_that_is_cut_off_says_so_holds_nobody_for_ever_and_recovers";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let proxy = Proxy::before(postgres.port()).await;
    let store = open(PostgresOptions {
        probe_interval: Duration::from_millis(100),
        statement_timeout: Duration::from_millis(500),
        connect_timeout: Duration::from_secs(1),
        ..options(&proxy.dsn(&postgres.new_schema(), postgres.port()))
    })
    .await;
    found(&store, "room").await;
    assert_eq!(store.health(), Ok(()));

    proxy.hold();
    let patience = Duration::from_secs(10);
    let both = async {
        let (set, pulled) = tokio::join!(
            commit(&store, set("room", &[("a", "held")])),
            store.answer(DescribeGroup { id: group("room") }.into_query()),
        );
        assert!(matches!(set, Err(StoreError::Busy { .. } | StoreError::Unknown { .. })), "{set:?}");
        assert!(matches!(pulled, Err(StoreError::Busy { .. })), "{pulled:?}");
    };
    tokio::time::timeout(patience, both).await.expect("nobody is held for ever");
    assert!(matches!(store.health(), Err(StoreError::Busy { .. })), "{:?}", store.health());

    proxy.release();
    let recovered = async {
        while store.health().is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(patience, recovered).await.expect("it recovers by itself");
    commit(&store, set("room", &[("a", "again")])).await.unwrap();
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_a_server_that_is_killed_under_load() {
    let test = "what_was_answered_survives_a_server_that_is_killed_under_load";
    let Some(mut postgres) = Postgres::start_or_skip(test, Settings { durable: true, ..Settings::default() })
    else {
        return;
    };
    let options = PostgresOptions { connections: 4, ..options(&postgres.new_schema()) };
    let store = open(options).await;
    found(&store, "room").await;
    let before = latest(&store, "room").await;
    let (mut answered, mut unknown, mut newest) = (0, 0, 0);
    for round in 0..3 {
        let load = async {
            let mut results = Vec::new();
            for number in 0..40 {
                let value = format!("{round}-{number}");
                let both = (0..4).map(|_| commit(&store, set("room", &[("a", &*value)])));
                results.extend(futures_util::future::join_all(both).await);
                if results.iter().any(Result::is_err) {
                    break;
                }
            }
            results
        };
        let kill = async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            tokio::task::block_in_place(|| {
                postgres.kill();
                postgres.start();
            });
        };
        let (results, ()) = tokio::join!(load, kill);
        for result in results {
            match result {
                Ok(outcome) => {
                    answered += 1;
                    newest = newest.max(latest_of(&outcome));
                }
                Err(StoreError::Unknown { .. }) => unknown += 1,
                Err(StoreError::Busy { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }
    let changes = latest(&store, "room").await - before;
    assert!(answered > 0);
    assert!((answered..=answered + unknown).contains(&changes), "{answered} {unknown} {changes}");
    assert!(latest(&store, "room").await >= newest);
    events_are_whole(&store, "room").await;
    store.close().await;
}
