//! Servers whose data is in PostgreSQL. Where that is not installed each test is named as skipped, unless
//! `SIDENOTE_REQUIRE_POSTGRES` is set, as `make soak` does.

mod neighbours;
mod nodes;
mod start;

mod faults;
mod load;
mod patroni;

mod broker;
mod hearsay;
mod pushes;

mod counted;
mod leader;
mod logins;
mod webhooks;

mod giving_up;
mod moving;

use sidenote_postgres_for_tests::{Postgres, Settings};
use sidenote_torture::cluster::migrate;

use crate::concurrency::race_through;
use crate::protocol::play_all;
use crate::server::{ConfigOptions, Running};

/// What a server of the tests is configured with, beyond the database.
fn few_connections() -> String {
    "connections = 4".to_owned()
}

#[test]
fn every_transcript_is_what_a_server_on_postgresql_says() {
    let test = "every_transcript_is_what_a_server_on_postgresql_says";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let database = || {
        let url = postgres.new_schema();
        migrate(&url);
        Some(url)
    };
    play_all(&database, false);
}

#[test]
fn of_all_who_saw_the_same_version_one_wins_on_postgresql() {
    let test = "of_all_who_saw_the_same_version_one_wins_on_postgresql";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let url = postgres.new_database();
    migrate(&url);
    let server = Running::start(&ConfigOptions {
        limits: "attempts_per_minute = 0".to_owned(),
        store: few_connections(),
        database: Some(url),
        ..ConfigOptions::default()
    });
    race_through(&[server.address]);
}
