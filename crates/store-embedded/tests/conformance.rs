//! The embedded store passes the suite of every backend, with caches large enough for everything and with none, so
//! that every command has to fetch its rows first.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking, and so may the functions it calls")]

use std::sync::Arc;

use async_trait::async_trait;
use sidenote_core::Limits;
use sidenote_core::command::Command;
use sidenote_core::query::{Answer, Query};
use sidenote_store::news::Follower;
use sidenote_store::{Committed, Statistics, Store, StoreError, conformance};
use sidenote_store_embedded::{EmbeddedStore, Settings};
use tempfile::TempDir;

/// A store with its folder, which is removed after it.
struct Temporary {
    store: EmbeddedStore,
    _folder: TempDir,
}

#[async_trait]
impl Store for Temporary {
    async fn commit(&self, command: Command) -> Result<Committed, StoreError> {
        self.store.commit(command).await
    }

    async fn answer(&self, query: Query) -> Result<Answer, StoreError> {
        self.store.answer(query).await
    }

    fn news(&self) -> Follower {
        self.store.news()
    }

    fn health(&self) -> Result<(), StoreError> {
        self.store.health()
    }

    fn statistics(&self) -> Statistics {
        self.store.statistics()
    }

    async fn close(&self) {
        self.store.close().await;
    }
}

fn open(limits: Limits, row_cache_bytes: u64) -> Arc<dyn Store> {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { row_cache_bytes, ..Settings::default() };
    let store = EmbeddedStore::open(folder.path(), &settings, limits).unwrap();
    Arc::new(Temporary { store, _folder: folder })
}

async fn warm(limits: Limits) -> Arc<dyn Store> {
    open(limits, 64 << 20)
}

async fn cold(limits: Limits) -> Arc<dyn Store> {
    open(limits, 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_scenario_with_a_warm_cache() {
    conformance::run(warm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_scenario_with_no_cache() {
    conformance::run(cold).await;
}

#[test]
fn random_requests_agree_with_the_model() {
    conformance::check_property(warm, 12);
    conformance::check_property(cold, 12);
}

#[test]
fn random_letters_agree_with_a_list_of_them() {
    conformance::check_letters(warm, 12);
    conformance::check_letters(cold, 12);
}
