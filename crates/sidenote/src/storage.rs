//! The one place that names a storage engine.

use std::sync::Arc;

use sidenote_server::config::Config;
use sidenote_server::rule_limits;
use sidenote_store::Store;
use sidenote_store::memory::MemoryStore;

/// Opens the store that the configuration asks for.
pub(crate) fn open(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    Ok(Arc::new(MemoryStore::new(rule_limits(config))))
}
