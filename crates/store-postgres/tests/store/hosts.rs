//! Several hosts, of which one takes writes; and a primary that answers and takes no commits.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use sidenote_core::ids::AccountId;
use sidenote_postgres_for_tests::{Postgres, Settings};
use sidenote_store::shared::{Login, LoginNumber};
use sidenote_store::{Store, StoreError};
use sidenote_store_postgres::{Heart, PostgresOptions, schema};
use tokio::time::Instant;

use crate::scene::{APP, commit, found, group, latest, open, options, set, user};

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
    let standby = |names: &str| {
        postgres.psql("postgres", &format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'"));
        postgres.psql("postgres", "SELECT pg_reload_conf()");
    };
    let becomes = async |well: bool| {
        let so = async {
            while store.health().is_ok() != well {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, so).await.expect("the probe notices");
    };
    becomes(true).await;
    standby("nobody");
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
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let waiting: u32 = postgres.psql("postgres", waiting).trim().parse().unwrap();
    assert!((1..=2).contains(&waiting), "{waiting} processes of the server wait");
    standby("");
    becomes(true).await;
    commit(&store, set("room", &[("a", "again")])).await.unwrap();
    assert_eq!(latest(&store, "room").await, before + 1);
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
