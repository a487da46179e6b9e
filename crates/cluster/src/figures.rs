//! What a node counts.

use std::sync::atomic::{AtomicU64, Ordering};

use sidenote_store::ClusterStatistics;

#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) published: Count,
    pub(crate) unpublished: Count,
    pub(crate) heard: Count,
    pub(crate) refused: Count,
    pub(crate) looks: Count,
    pub(crate) failed_looks: Count,
    pub(crate) found: Count,
}

#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Figures {
    pub(crate) fn read(&self, connected: Option<bool>, leads: bool, nodes: u64) -> ClusterStatistics {
        ClusterStatistics {
            published: self.published.get(),
            unpublished: self.unpublished.get(),
            heard: self.heard.get(),
            refused: self.refused.get(),
            looks: self.looks.get(),
            failed_looks: self.failed_looks.get(),
            found: self.found.get(),
            connected,
            leads,
            nodes,
        }
    }
}
