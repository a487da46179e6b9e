//! The PostgreSQL store passes the suite of every backend, on a server of its own.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking, and so may the functions it calls")]

use std::sync::Arc;

use sidenote_core::Limits;
use sidenote_postgres_for_tests::{Postgres, Settings};
use sidenote_store::{Store, conformance};
use sidenote_store_postgres::{PostgresOptions, PostgresStore, schema};

/// An empty store. Each has a schema of its own in one database.
async fn open(postgres: &Postgres, limits: Limits) -> Arc<dyn Store> {
    let options = PostgresOptions { connections: 4, ..PostgresOptions::new(postgres.new_schema()) };
    schema::migrate(&options).await.unwrap();
    Arc::new(PostgresStore::open(options, limits).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_scenario() {
    let Some(postgres) = Postgres::start_or_skip("every_scenario", Settings::default()) else { return };
    conformance::run(async |limits| open(&postgres, limits).await).await;
}

#[test]
fn random_requests_agree_with_the_model() {
    let test = "random_requests_agree_with_the_model";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    conformance::check_property(async |limits| open(&postgres, limits).await, 12);
}

#[test]
fn random_letters_agree_with_a_list_of_them() {
    let test = "random_letters_agree_with_a_list_of_them";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    conformance::check_letters(async |limits| open(&postgres, limits).await, 12);
}
