//! Several hosts, of which one takes writes; and a primary that answers and takes no commits.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sidenote_core::ids::AccountId;
use sidenote_postgres_for_tests::{Postgres, Settings};
use sidenote_store::shared::{Login, LoginNumber};
use sidenote_store::{Store, StoreError};
use sidenote_store_postgres::{Heart, PostgresOptions, schema};
use tokio::time::Instant;

use crate::scene::{APP, commit, found, group, import, latest, open, options, set, user};

/// Longer than anything here takes on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_takes_connections_and_says_nothing_is_passed_by() {
    let test = "a_host_that_takes_connections_and_says_nothing_is_passed_by";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    // The system takes connections for it, and nobody ever looks at them.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let silent = format!("127.0.0.1:{}", silent.local_addr().unwrap().port());
    let dsn = postgres.new_schema();
    let both = dsn.replace("@127.0.0.1", &format!("@{silent},127.0.0.1"));
    assert!(both.contains(&silent));
    let began = Instant::now();
    // Migrating, opening, and every connection of the pool.
    let store = open(PostgresOptions { connections: 4, ..options(&both) }).await;
    found(&store, "room").await;
    let sets = (0..8).map(|number| {
        let (store, value) = (&store, number.to_string());
        async move { commit(store, set("room", &[("a", &*value)])).await.map(drop) }
    });
    for result in futures_util::future::join_all(sets).await {
        result.unwrap();
    }
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_hosts_only_one_that_takes_writes_is_used() {
    let test = "of_several_hosts_only_one_that_takes_writes_is_used";
    let Some(standby) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let Some(primary) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let (there, here) = (standby.new_database(), primary.new_database());
    standby.psql("postgres", "ALTER DATABASE test0 SET default_transaction_read_only = on");
    // Whether that is asked for or not.
    for attributes in ["", "&target_session_attrs=read-write"] {
        let hosts = format!("127.0.0.1:{},127.0.0.1:{}", standby.port(), primary.port());
        let both = here.replace(&format!("127.0.0.1:{}", primary.port()), &hosts) + attributes;
        let store = open(options(&both)).await;
        if attributes.is_empty() {
            found(&store, "room").await;
        }
        commit(&store, set("room", &[("a", "x")])).await.unwrap();
        assert!(latest(&store, "room").await > 0);
        store.close().await;
    }
    // Nobody takes writes: nothing is made of it.
    let nobody = there.replace("127.0.0.1:", &format!("127.0.0.1:{},127.0.0.1:", standby.port()));
    let refused = schema::migrate(&options(&nobody)).await.unwrap_err().to_string();
    assert!(refused.contains("host 1") && refused.contains("host 2"), "{refused}");
}

/// Which standby commits wait for; empty for none. There is none.
fn wait_for_standby(postgres: &Postgres, name: &str) {
    postgres.psql("postgres", &format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'"));
    postgres.psql("postgres", "SELECT pg_reload_conf()");
}

/// Processes of the server that wait for a standby.
fn hanging(postgres: &Postgres) -> usize {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    tokio::task::block_in_place(|| postgres.psql("postgres", waiting)).trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_hang_leave_connections_to_pulls_before_anybody_knows() {
    let test = "commits_that_hang_leave_connections_to_pulls_before_anybody_knows";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    // No probe looks, and nobody gives up a commit while this lasts.
    let store = open(PostgresOptions {
        connections: 4,
        statement_timeout: PATIENCE * 2,
        ..options(&postgres.new_schema())
    })
    .await;
    found(&store, "room").await;
    let is_over = AtomicBool::new(false);
    // Each of another home than all others, so that nobody waits for anybody.
    let writers = (0..8).map(|writer| {
        let (store, is_over) = (&store, &is_over);
        async move {
            let mut number = 0;
            while !is_over.load(Ordering::SeqCst) {
                number += 1;
                match commit(store, import(&format!("writer{writer}-{number}"))).await {
                    Ok(_) | Err(StoreError::Busy { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        }
    });
    let reader = async {
        wait_for_standby(&postgres, "nobody");
        let begun = Instant::now();
        while hanging(&postgres) < 3 {
            assert!(begun.elapsed() < PATIENCE, "as many hang as may write");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let begun = Instant::now();
        // Longer than a writer waits for a connection, and has patience for.
        while begun.elapsed() < Duration::from_secs(4) {
            let asked = Instant::now();
            assert!(latest(&store, "room").await > 0);
            assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(hanging(&postgres), 3);
        is_over.store(true, Ordering::SeqCst);
        wait_for_standby(&postgres, "");
    };
    tokio::join!(futures_util::future::join_all(writers), reader);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_commits_hang_writes_are_refused_at_once_and_pulls_go_on() {
    let test = "where_commits_hang_writes_are_refused_at_once_and_pulls_go_on";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let store = open(PostgresOptions {
        connections: 4,
        probe_interval: Duration::from_millis(100),
        statement_timeout: Duration::from_millis(500),
        ..options(&postgres.new_schema())
    })
    .await;
    found(&store, "room").await;
    let becomes = async |well: bool| {
        let so = async {
            while store.health().is_ok() != well {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, so).await.expect("the probe notices");
    };
    becomes(true).await;
    wait_for_standby(&postgres, "nobody");
    becomes(false).await;
    let said = store.health().unwrap_err().to_string();
    assert!(said.contains("takes no commits"), "{said}");
    let before = latest(&store, "room").await;
    let began = Instant::now();
    for _ in 0..200 {
        let refused = commit(&store, set("room", &[("a", "x")])).await.unwrap_err();
        assert!(matches!(refused, StoreError::Busy { .. }), "nothing was sent: {refused}");
        assert_eq!(latest(&store, "room").await, before, "pulls go on");
    }
    assert!(began.elapsed() < PATIENCE);
    // Nor is anything written that nodes agree on.
    for _ in 0..9 {
        let claimed = store.claim(&group("room"), 1, 10).await.unwrap_err();
        let login = Login {
            account: AccountId { app: APP, user: user("ann") },
            number: LoginNumber::from_random(2),
            instance: 1,
        };
        let entered = store.enter_login(&login, 9, 1).await.unwrap_err();
        let removed = store.remove_logins(&[login]).await.unwrap_err();
        for refused in [claimed, entered, removed] {
            assert!(refused.to_string().contains("takes no commits"), "{refused}");
        }
    }
    // What waits for the standby is the probe and nobody else, however many ask.
    let waiting = hanging(&postgres);
    assert!((1..=2).contains(&waiting), "{waiting} processes of the server wait");
    wait_for_standby(&postgres, "");
    becomes(true).await;
    commit(&store, set("room", &[("a", "again")])).await.unwrap();
    assert_eq!(latest(&store, "room").await, before + 1);
    store.close().await;
}

/// Waits until a session of the store whose last statement looks like this is another than that one.
async fn session_other_than(postgres: &Postgres, before: &str, statement: &str) -> String {
    let sql = format!(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'sidenote' AND query LIKE '{statement}%'"
    );
    let other = async {
        loop {
            let found = tokio::task::block_in_place(|| postgres.psql("postgres", &sql)).trim().to_owned();
            if !found.is_empty() && found != before {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, other).await.expect("there is another session")
}

const COMMIT: &str = "SELECT pg_logical_emit_message";

#[tokio::test(flavor = "multi_thread")]
async fn what_looks_at_commits_does_not_stay_with_a_server_that_others_have_left() {
    let test = "what_looks_at_commits_does_not_stay_with_a_server_that_others_have_left";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let probe_interval = Duration::from_millis(100);
    let store = open(PostgresOptions { probe_interval, ..options(&postgres.new_schema()) }).await;
    let before = session_other_than(&postgres, "", COMMIT).await;
    // Another connection is lost, as all are to a primary that has failed.
    let lost = session_other_than(&postgres, "", "SHOW transaction_read_only").await;
    postgres.psql("postgres", &format!("SELECT pg_terminate_backend({lost})"));
    session_other_than(&postgres, &before, COMMIT).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_looks_at_commits_goes_on_when_it_is_refused_once() {
    let test = "what_looks_at_commits_goes_on_when_it_is_refused_once";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let dsn = postgres.new_schema().replace("search_path%3Dtest0", "search_path%3Dtest0%2Cpg_catalog");
    assert!(dsn.contains("pg_catalog"));
    postgres.psql(
        "postgres",
        "CREATE SEQUENCE test0.tries; \
         CREATE FUNCTION test0.pg_logical_emit_message(a boolean, b text, c text) RETURNS pg_lsn \
         LANGUAGE plpgsql AS $$ BEGIN IF nextval('test0.tries') = 1 \
         THEN RAISE EXCEPTION 'out of memory' USING ERRCODE = '53200'; END IF; \
         RETURN pg_catalog.pg_logical_emit_message(a, b, c); END $$",
    );
    let probe_interval = Duration::from_millis(100);
    let statement_timeout = Duration::from_millis(500);
    let store = open(PostgresOptions { probe_interval, statement_timeout, ..options(&dsn) }).await;
    let tries = || postgres.psql("postgres", "SELECT last_value FROM test0.tries").trim().parse::<u32>();
    let goes_on = async {
        while tokio::task::block_in_place(tries).unwrap() < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        wait_for_standby(&postgres, "nobody");
        while store.health().is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, goes_on).await.expect("it still looks");
    wait_for_standby(&postgres, "");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_that_it_lives_where_the_store_writes() {
    let test = "a_node_says_that_it_lives_where_the_store_writes";
    let Some(before) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let Some(after) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let (first, second) = (before.new_database(), after.new_database());
    for dsn in [&first, &second] {
        schema::migrate(&options(dsn)).await.unwrap();
    }
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", before.port(), after.port());
    let both = first.replace(&format!("127.0.0.1:{}", before.port()), &hosts);
    let store = open(options(&both)).await;
    let mut heart = Heart::new(1, Duration::from_mins(1));
    heart.beat(&store).await.unwrap();
    found(&store, "room").await;
    // Another server is made the primary. Whoever is connected to the one before can still write there, and the store has
    // lost its connection.
    before.psql("postgres", "ALTER DATABASE test0 SET default_transaction_read_only = on");
    before.psql(
        "postgres",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE application_name = 'sidenote' AND query NOT LIKE '%alive_until%'",
    );
    found(&store, "room").await;
    assert_eq!(after.psql("test0", "SELECT count(*) FROM conversations").trim(), "1");
    heart.beat(&store).await.unwrap();
    assert_eq!(after.psql("test0", "SELECT node FROM nodes").trim(), "1");
    store.close().await;
}
