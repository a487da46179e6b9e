//! The volatile store passes the suite that it is the plainest example for.

use std::sync::Arc;

use sidenote_core::Limits;
use sidenote_store::memory::MemoryStore;
use sidenote_store::{Store, conformance};

async fn open(limits: Limits) -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(limits))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_scenario() {
    conformance::run(open).await;
}

#[test]
fn random_requests_agree_with_the_model() {
    conformance::check_property(open, 256);
}

#[test]
fn random_letters_agree_with_a_list_of_them() {
    conformance::check_letters(open, 256);
}
