use std::{cmp::Ordering, ops::Bound, sync::Arc};

use fjall::Readable;

use super::{Bytes, EngineError, RESERVED_PREFIX, Shared};

/// The rows as they were after one batch. Later batches do not show; cloning is cheap.
///
/// Rows that a snapshot can still see are kept on disk, and the folder stays locked while one lives: hold it
/// for a request, not for good.
#[derive(Clone)]
pub struct Snapshot {
    // Dropped before `shared`, which holds the database that it reads.
    pub(super) view: fjall::Snapshot,
    pub(super) number: u64,
    pub(super) shared: Arc<Shared>,
}

/// Which end of a range a scan begins at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Smallest key first.
    Ascending,
    /// Greatest key first.
    Descending,
}

/// A key and its value.
pub type Row = (Bytes, Bytes);

impl Snapshot {
    /// Number of the last batch that this snapshot shows, with all of its rows; 0 before the first.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The value of one key. Keys of the engine's own ([`RESERVED_PREFIX`]) have none.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        if key.first() == Some(&RESERVED_PREFIX) {
            return Ok(None);
        }
        self.view.get(&self.shared.keyspace, key).map_err(EngineError::Read)
    }

    /// At most `limit` rows whose keys begin with `prefix`.
    pub fn scan_prefix(&self, prefix: &[u8], order: Order, limit: usize) -> Result<Vec<Row>, EngineError> {
        // The first key after all keys with this prefix: its last byte that can be raised, raised.
        let end = prefix.iter().rposition(|byte| *byte != u8::MAX).map(|at| {
            let mut end = prefix[..=at].to_vec();
            end[at] += 1;
            end
        });
        let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.scan(Bound::Included(prefix), end, order, limit)
    }

    /// At most `limit` rows whose keys lie between two bounds. Bounds that cross hold no row.
    pub fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Row>, EngineError> {
        let from = behind_our_own(from);
        if is_empty(from, to) {
            return Ok(Vec::new());
        }
        let rows = self.view.range::<&[u8], _>(&self.shared.keyspace, (from, to));
        let collect = |rows: &mut dyn Iterator<Item = fjall::Guard>| {
            rows.take(limit)
                .map(fjall::Guard::into_inner)
                .collect::<Result<_, _>>()
                .map_err(EngineError::Read)
        };
        match order {
            Order::Ascending => collect(&mut { rows }),
            Order::Descending => collect(&mut rows.rev()),
        }
    }

    /// The first rows between two bounds, in ascending order, until their keys and values come to `bytes` or more.
    /// An empty page means that there are no rows.
    pub fn page(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, bytes: usize) -> Result<Vec<Row>, EngineError> {
        let from = behind_our_own(from);
        let mut rows = Vec::new();
        if is_empty(from, to) {
            return Ok(rows);
        }
        let mut gathered = 0;
        for row in self.view.range::<&[u8], _>(&self.shared.keyspace, (from, to)) {
            let (key, value) = row.into_inner().map_err(EngineError::Read)?;
            gathered += key.len() + value.len();
            rows.push((key, value));
            if gathered >= bytes {
                break;
            }
        }
        Ok(rows)
    }

    /// About how many rows there are; one that was written again since the last compaction counts twice.
    pub fn approximate_rows(&self) -> u64 {
        self.shared.keyspace.approximate_len() as u64
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("number", &self.number).finish_non_exhaustive()
    }
}

/// The same range without the rows of the engine's own.
fn behind_our_own(from: Bound<&[u8]>) -> Bound<&[u8]> {
    const FIRST_KEY: &[u8] = &[RESERVED_PREFIX + 1];
    match from {
        Bound::Included(key) | Bound::Excluded(key) if key >= FIRST_KEY => from,
        _ => Bound::Included(FIRST_KEY),
    }
}

fn is_empty(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    let (Bound::Included(first) | Bound::Excluded(first)) = from else { return false };
    let (Bound::Included(last) | Bound::Excluded(last)) = to else { return false };
    match first.cmp(last) {
        Ordering::Less => false,
        Ordering::Equal => !matches!((from, to), (Bound::Included(_), Bound::Included(_))),
        Ordering::Greater => true,
    }
}
