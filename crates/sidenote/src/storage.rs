//! The one place that names a storage engine.

use std::sync::Arc;

use anyhow::Context as _;
use sidenote_server::config::{Config, Store as Options};
use sidenote_server::rule_limits;
use sidenote_store::Store;
use sidenote_store_embedded::{EmbeddedStore, Settings, engine};

/// Opens the store that the configuration asks for, which reads and checks its files.
pub(crate) fn open(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    let Options { path, block_cache_bytes, state_cache_bytes, queue_length, batch_commands, reader_threads } =
        &config.store;
    let settings = Settings {
        engine: engine::Settings { block_cache_bytes: *block_cache_bytes },
        queue: *queue_length,
        batch: *batch_commands,
        reader_threads: *reader_threads,
        row_cache_bytes: *state_cache_bytes,
    };
    let store = EmbeddedStore::open(path, &settings, rule_limits(config)).context("cannot open the store")?;
    Ok(Arc::new(store))
}
