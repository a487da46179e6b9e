//! What the layers above need of the engine, so that they can be run over another one: the simulation's.

use std::ops::Bound;

use crate::engine::{Bytes, Change, Engine, EngineError, Order, Row, Snapshot};

/// Atomic durable batches of bytes. The methods promise what those of [`Engine`] promise.
pub(crate) trait InnerEngine: Send + Sync + 'static {
    type Snapshot: InnerSnapshot;

    fn commit(&self, changes: Vec<Change>) -> Result<u64, EngineError>;

    fn snapshot(&self) -> Self::Snapshot;

    fn snapshot_by(&self, number: u64) -> Option<Self::Snapshot>;

    fn is_poisoned(&self) -> bool;

    fn disk_bytes(&self) -> Result<u64, EngineError>;
}

/// The rows as they were after one batch. The methods promise what those of [`Snapshot`] promise.
pub(crate) trait InnerSnapshot {
    fn number(&self) -> u64;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Row>, EngineError>;
}

impl InnerEngine for Engine {
    type Snapshot = Snapshot;

    fn commit(&self, changes: Vec<Change>) -> Result<u64, EngineError> {
        self.commit(changes)
    }

    fn snapshot(&self) -> Snapshot {
        self.snapshot()
    }

    fn snapshot_by(&self, number: u64) -> Option<Snapshot> {
        self.snapshot_by(number)
    }

    fn is_poisoned(&self) -> bool {
        self.is_poisoned()
    }

    fn disk_bytes(&self) -> Result<u64, EngineError> {
        self.disk_bytes()
    }
}

impl InnerSnapshot for Snapshot {
    fn number(&self) -> u64 {
        self.number()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.get(key)
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Row>, EngineError> {
        self.scan(from, to, order, limit)
    }
}
