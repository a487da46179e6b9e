//! A schema is brought up to date once, and one that does not fit is refused with a sentence that says what to do.

use std::time::Duration;

use sidenote_postgres_for_tests::{Postgres, Settings};
use sidenote_store::Store;
use sidenote_store_postgres::schema::{CITUS, KNOWN_SCHEMA, Migrated, NEEDED_SCHEMA, distribute, migrate};
use sidenote_store_postgres::{OpenError, PostgresOptions, PostgresStore};

use crate::scene::{found, latest, options, unlimited};

async fn refusal(options: &PostgresOptions) -> OpenError {
    PostgresStore::open(options.clone(), unlimited()).await.err().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_is_made_once_and_checked() {
    let Some(postgres) = Postgres::start_or_skip("a_schema_is_made_once_and_checked", Settings::default())
    else {
        return;
    };
    let options = options(&postgres.new_database());
    let database = "test0";
    assert_eq!(refusal(&options).await, OpenError::NoSchema);
    assert!(refusal(&options).await.to_string().contains("sidenote migrate"));

    // Several nodes that are started at once may all try.
    let all = futures_util::future::join_all((0..4).map(|_| migrate(&options))).await;
    let made: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    assert!(made.iter().all(|made| made.to == KNOWN_SCHEMA));
    assert_eq!(made.iter().filter(|made| made.from == 0).count(), 1, "{made:?}");
    let store = PostgresStore::open(options.clone(), unlimited()).await.unwrap();
    found(&store, "room").await;
    let again = migrate(&options).await;
    assert_eq!(again, Ok(Migrated { from: KNOWN_SCHEMA, to: KNOWN_SCHEMA }));
    assert_eq!(latest(&store, "room").await, 2);

    // A newer schema that only adds something is used; one that has taken something away is not.
    let newer = KNOWN_SCHEMA + 1;
    let note = |oldest: u32| {
        format!("INSERT INTO schema_version (version, oldest_program) VALUES ({newer}, {oldest})")
    };
    postgres.psql(database, &note(KNOWN_SCHEMA));
    PostgresStore::open(options.clone(), unlimited()).await.unwrap().close().await;
    postgres.psql(
        database,
        &format!("UPDATE schema_version SET oldest_program = {newer} WHERE version = {newer}"),
    );
    let expected = OpenError::NewerSchema { found: newer, oldest_known: newer, known: KNOWN_SCHEMA };
    assert_eq!(refusal(&options).await, expected);
    assert!(expected.to_string().contains("install the newer version"));
    assert_eq!(migrate(&options).await, Err(expected));

    postgres.psql(database, "DELETE FROM schema_version");
    assert_eq!(refusal(&options).await, OpenError::OlderSchema { found: 0, needed: NEEDED_SCHEMA });
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_may_take_longer_than_a_request_may() {
    let test = "a_step_may_take_longer_than_a_request_may";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let options = impatient(&postgres.new_database());
    let expected = Migrated { from: 0, to: KNOWN_SCHEMA };
    let mut other = postgres.session("test0");
    // As somebody who is at a long step of the same kind.
    other.run(
        "CREATE TABLE schema_version (version bigint PRIMARY KEY, oldest_program bigint NOT NULL, \
         applied_at timestamptz NOT NULL DEFAULT now()); BEGIN; LOCK TABLE schema_version IN EXCLUSIVE MODE;",
    );
    let waits = async {
        until(&postgres, "clock_timestamp() - backend_start > '1500 ms'").await;
        tokio::task::block_in_place(|| other.run("COMMIT;"));
    };
    let (migrated, ()) = tokio::join!(migrate(&options), waits);
    assert_eq!(migrated, Ok(expected));
}

/// As the steps after this one would find it.
fn back_to(postgres: &Postgres, version: u32) {
    let mut sql = "DROP TABLE nodes, leases, logins; \
         ALTER TABLE outboxes DROP COLUMN claimed_by, DROP COLUMN claim;"
        .to_owned();
    if version < 2 {
        sql.push_str("DROP INDEX IF EXISTS events_by_time;");
    }
    postgres.psql("test0", &format!("{sql} DELETE FROM schema_version WHERE version > {version}"));
}

/// Whether a writer gets a table at once.
fn is_written(postgres: &Postgres, table: &str) {
    let sql = format!("SET lock_timeout = '1s'; LOCK TABLE {table} IN ROW EXCLUSIVE MODE");
    tokio::task::block_in_place(|| postgres.psql("test0", &sql));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_made_while_nodes_write_and_made_again_if_that_was_broken_off() {
    let test = "an_index_is_made_while_nodes_write_and_made_again_if_that_was_broken_off";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let options = impatient(&postgres.new_database());
    migrate(&options).await.unwrap();
    back_to(&postgres, 1);
    let is_valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'events_by_time'::regclass";
    let expected = Ok(Migrated { from: 1, to: KNOWN_SCHEMA });

    let mut other = postgres.session("test0");
    other.run("BEGIN; LOCK TABLE events IN ROW EXCLUSIVE MODE;");
    let breaks = async {
        until(&postgres, &format!("wait_event = 'virtualxid' AND {AT_LENGTH}")).await;
        is_written(&postgres, "events");
        let making = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'virtualxid'";
        tokio::task::block_in_place(|| postgres.psql("test0", making));
    };
    let (broken, ()) = tokio::join!(migrate(&options), breaks);
    assert!(broken.is_err(), "{broken:?}");
    assert_eq!(postgres.psql("test0", is_valid).trim(), "f");

    // Two at once: the second one waits for the first, which waits for the writer.
    let ends = async {
        until(&postgres, &format!("wait_event = 'virtualxid' AND {AT_LENGTH}")).await;
        tokio::task::block_in_place(|| other.run("COMMIT;"));
    };
    let (first, second, ()) = tokio::join!(migrate(&options), migrate(&options), ends);
    let nothing = Ok(Migrated { from: KNOWN_SCHEMA, to: KNOWN_SCHEMA });
    assert!((&first, &second) == (&expected, &nothing) || (&first, &second) == (&nothing, &expected));
    assert_eq!(postgres.psql("test0", is_valid).trim(), "t");

    // It was made, and nobody could write that down any more.
    back_to(&postgres, 2);
    postgres.psql("test0", "DELETE FROM schema_version WHERE version = 2");
    assert_eq!(migrate(&options).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_waits_for_a_table_does_not_hold_up_those_who_write() {
    let test = "a_step_that_waits_for_a_table_does_not_hold_up_those_who_write";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let options =
        PostgresOptions { lock_timeout: Duration::from_secs(1), ..options(&postgres.new_database()) };
    migrate(&options).await.unwrap();
    back_to(&postgres, 2);
    // As somebody who reads all there is.
    let mut reader = postgres.session("test0");
    reader.run("BEGIN; LOCK TABLE outboxes IN ACCESS SHARE MODE;");
    let writes = async {
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'";
        for _ in 0..2 {
            while tokio::task::block_in_place(|| postgres.psql("test0", waits)).trim() != "1" {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            is_written(&postgres, "outboxes");
        }
        tokio::task::block_in_place(|| reader.run("COMMIT;"));
    };
    let (migrated, ()) = tokio::join!(migrate(&options), writes);
    assert_eq!(migrated, Ok(Migrated { from: 2, to: KNOWN_SCHEMA }));
}

/// A request would have no answer after 1.1 seconds.
fn impatient(dsn: &str) -> PostgresOptions {
    let short = Duration::from_millis(100);
    PostgresOptions { statement_timeout: short, lock_timeout: short, ..options(dsn) }
}

/// Much longer than a request may take for one statement.
const AT_LENGTH: &str = "state = 'active' AND clock_timestamp() - query_start > '1500 ms'";

/// Until one session of a program is like this.
async fn until(postgres: &Postgres, like: &str) {
    let sessions =
        format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sidenote' AND {like}");
    for _ in 0..500 {
        if tokio::task::block_in_place(|| postgres.psql("test0", &sessions)).trim() == "1" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nobody is like that");
}

/// What a coordinator has, as far as it is asked for here.
const COORDINATOR: &str = "\
    CREATE TABLE pg_dist_partition (logicalrelid regclass PRIMARY KEY); \
    CREATE FUNCTION create_distributed_table(t regclass, k text, colocate_with text DEFAULT 'default') \
    RETURNS void LANGUAGE plpgsql AS $$ BEGIN \
        IF t = 'pairs'::regclass THEN PERFORM pg_sleep(2); END IF; \
        INSERT INTO pg_dist_partition VALUES (t); \
    END $$; \
    CREATE FUNCTION create_reference_table(t regclass) RETURNS void LANGUAGE sql AS \
    $$ INSERT INTO pg_dist_partition VALUES (t) $$";

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_spread_over_workers_however_long_it_takes_and_once() {
    let test = "tables_are_spread_over_workers_however_long_it_takes_and_once";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let options = impatient(&postgres.new_database());
    migrate(&options).await.unwrap();
    let refused = distribute(&options).await.unwrap_err().to_string();
    assert!(refused.contains("no Citus coordinator"), "{refused}");

    postgres.psql("test0", COORDINATOR);
    let spread = || postgres.psql("test0", "SELECT count(*) FROM pg_dist_partition").trim().to_owned();
    assert_eq!(distribute(&options).await, Ok(()));
    let tables = CITUS.matches("_table('").count();
    assert_eq!(spread(), tables.to_string());
    // Again, where one table came later.
    postgres.psql("test0", "DELETE FROM pg_dist_partition WHERE logicalrelid = 'events'::regclass");
    assert_eq!(distribute(&options).await, Ok(()));
    assert_eq!(distribute(&options).await, Ok(()));
    assert_eq!(spread(), tables.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_would_break_a_promise_is_refused() {
    let test = "a_database_that_would_break_a_promise_is_refused";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let dsn = postgres.new_database();
    migrate(&options(&dsn)).await.unwrap();
    postgres.psql("test0", "ALTER DATABASE test0 SET synchronous_commit = off");
    let refused = refusal(&options(&dsn)).await;
    assert!(matches!(refused, OpenError::Unsuitable { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_lacks_characters_is_refused_before_anything_is_in_it() {
    let test = "a_database_that_lacks_characters_is_refused_before_anything_is_in_it";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let database = encoding.to_lowercase();
        postgres.psql(
            "postgres",
            &format!("CREATE DATABASE {database} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"),
        );
        let options = options(&postgres.dsn(&database));
        let refused = migrate(&options).await.unwrap_err();
        assert!(matches!(refused, OpenError::Unsuitable { .. }), "{refused}");
        assert!(refused.to_string().contains(encoding), "{refused}");
        assert_eq!(
            postgres.psql(&database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"),
            "0\n"
        );
        assert_eq!(refusal(&options).await, refused);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_leads_nowhere_is_told() {
    for (dsn, expected) in [("nonsense", "can't be used"), ("postgres://127.0.0.1:1/x", "can't be reached")] {
        let refused = refusal(&options(dsn)).await.to_string();
        assert!(refused.contains(expected), "{refused}");
        assert!(!refused.contains("lost"), "there never was a connection: {refused}");
    }
    let mut options = options("postgres://127.0.0.1:1/x");
    options.root_certificates = Some("/dev/null".into());
    assert!(matches!(refusal(&options).await, OpenError::Certificates { .. }));
    assert!(!format!("{:?}", PostgresOptions::new("postgres://u:hunter2@h/x")).contains("hunter2"));
}
