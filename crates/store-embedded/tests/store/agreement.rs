//! The plain store in memory and this one are told the same, and must say the same, also after it was opened again.

use std::sync::Arc;

use sidenote_core::Limits;
use sidenote_store::Store;
use sidenote_store::conformance::check_agreement;
use sidenote_store_embedded::Settings;

use crate::scene::{open, tiny_cache};

fn agrees(settings: &Settings) {
    let new_place = || {
        let folder = tempfile::tempdir().unwrap();
        async move |limits: Limits| Arc::new(open(folder.path(), settings, limits)) as Arc<dyn Store>
    };
    check_agreement(new_place, 16);
}

#[test]
fn without_any_cache() {
    agrees(&Settings { row_cache_bytes: 0, reader_threads: 1, ..Settings::default() });
}

#[test]
fn with_a_tiny_cache() {
    agrees(&tiny_cache());
}

#[test]
fn with_a_large_cache() {
    agrees(&Settings::default());
}
