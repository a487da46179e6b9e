//! What a rule looks at when it runs away from the writer: memory alone, or a snapshot.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::error::Error;
use std::ops::Bound;
use std::sync::Arc;

use sidenote_core::ids::{Incarnation, MessageName};
use sidenote_core::pairs::Pairs;
use sidenote_core::rows::{MessagePart, Missing, Part, Range, Row, RowKey, Rows, Span};
use sidenote_store::StoreError;

use crate::cache::{Cache, Hashing, Lent};
use crate::engine::{EngineError, Order};
use crate::inner_engine::InnerSnapshot;
use crate::schema::{decode_key, decode_row, encode_key, span_bounds};
#[cfg(test)]
use crate::simulation::{Defect, is_broken};

/// Runs a rule. A rule that panics is a bug, but no reason to stop serving others.
pub(crate) fn guarded<T>(rule: impl FnOnce() -> T) -> Result<T, StoreError> {
    // Rules are pure and their views are dropped afterwards, so nothing half-done can be seen later.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(rule))
        .map_err(|_| StoreError::Busy { reason: "a rule panicked, which is a bug; see the log".to_owned() })
}

/// An error and its causes in one line.
pub(crate) fn in_full(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn unread(error: &EngineError) -> StoreError {
    StoreError::Unreadable { reason: in_full(error) }
}

/// Rows in memory as of one published batch. Touches no file and waits for nobody.
pub(crate) struct Warm<'a> {
    cache: &'a Cache,
    by: u64,
    hits: Cell<u64>,
    lent: Cell<Option<Lent>>,
}

impl<'a> Warm<'a> {
    pub(crate) fn new(cache: &'a Cache) -> Self {
        let by = cache.published();
        #[cfg(test)]
        let by = if is_broken(Defect::TakesRowsTooEarly) { u64::MAX } else { by };
        Self { cache, by, hits: Cell::new(0), lent: Cell::new(None) }
    }

    /// Whether no later batch was published since this view was made.
    pub(crate) fn is_of_newest_batch(&self) -> bool {
        self.by == self.cache.published()
    }

    fn found<T>(&self, it: Result<T, Missing>) -> Result<T, Missing> {
        self.hits.set(self.hits.get() + u64::from(it.is_ok()));
        it
    }
}

impl Drop for Warm<'_> {
    fn drop(&mut self) {
        // What was missing is looked for again in a snapshot's view, and counted there.
        self.cache.count(self.hits.get(), 0);
        if let Some(lent) = self.lent.take() {
            self.cache.take_back(lent);
        }
    }
}

impl Rows for Warm<'_> {
    fn row(&self, key: &RowKey) -> Result<Option<Row>, Missing> {
        self.found(self.cache.row(key, self.by))
    }

    fn range(&self, _: &Range) -> Result<Vec<(RowKey, Row)>, Missing> {
        Err(Missing)
    }

    fn pairs(&self, incarnation: Incarnation, message: MessageName) -> Result<Arc<Pairs>, Missing> {
        let lent = self.found(self.cache.lend_pairs((incarnation, message), self.by))?;
        let pairs = Arc::clone(&lent.pairs);
        self.lent.set(Some(lent));
        Ok(pairs)
    }
}

/// A set of so many entries is read whole when one of them is asked for.
const SMALL_SET: u32 = 64;

/// Rows as of one batch, read from its snapshot or found in memory. What is read is kept in memory. The batch must
/// have been published: only then may entries of the cache stand for the snapshot's rows.
pub(crate) struct Loading<'a, S> {
    snapshot: S,
    cache: &'a Cache,
    hits: Cell<u64>,
    misses: Cell<u64>,
    failed: RefCell<Option<StoreError>>,
    lent: Cell<Option<Lent>>,
    /// What was looked at; stays empty unless it is `attaching`.
    attached: RefCell<Attached>,
    attaching: bool,
}

/// The rows that a rule looked at, as of a batch.
#[derive(Default)]
pub(crate) struct Attached {
    pub(crate) number: u64,
    pub(crate) rows: HashMap<RowKey, Option<Row>, Hashing>,
    pub(crate) ranges: Vec<AttachedRange>,
}

/// A range that a rule looked at.
pub(crate) struct AttachedRange {
    pub(crate) span: Span,
    pub(crate) after: Option<Box<RowKey>>,
    /// More than were asked for, so that the range still does when some are gone by the time it is used.
    pub(crate) rows: Vec<(RowKey, Row)>,
    /// Whether no rows follow.
    pub(crate) whole: bool,
}

impl<'a, S: InnerSnapshot> Loading<'a, S> {
    /// For a question: answers and forgets.
    pub(crate) fn new(snapshot: S, cache: &'a Cache) -> Self {
        let number = snapshot.number();
        Self {
            snapshot,
            cache,
            hits: Cell::new(0),
            misses: Cell::new(0),
            failed: RefCell::new(None),
            lent: Cell::new(None),
            attached: RefCell::new(Attached { number, rows: HashMap::default(), ranges: Vec::new() }),
            attaching: false,
        }
    }

    /// For a command: remembers all that is looked at.
    pub(crate) fn attaching(snapshot: S, cache: &'a Cache) -> Self {
        let mut view = Self::new(snapshot, cache);
        view.attaching = true;
        view
    }

    /// What was looked at, or why something could not be read.
    pub(crate) fn finish(self) -> Result<Attached, StoreError> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => Ok(self.attached.take()),
        }
    }

    /// A set goes back once the view is done with it. A question looks at one at most.
    fn keep_lent(&self, lent: Lent) -> Arc<Pairs> {
        let pairs = Arc::clone(&lent.pairs);
        self.lent.set(Some(lent));
        pairs
    }

    fn fail(&self, error: StoreError) -> Missing {
        *self.failed.borrow_mut() = Some(error);
        Missing
    }

    fn read_row(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        let bytes = self.snapshot.get(&encode_key(key)).map_err(|error| unread(&error))?;
        bytes.map(|bytes| decode_row(key, &bytes)).transpose()
    }

    /// Reads all pairs of a small set where one is asked for: they lie together, so it costs one look into the same
    /// block, and the next writer of another key finds that it is new without a look.
    fn read_pair(&self, key: &RowKey) -> Option<Result<Option<Row>, Missing>> {
        let RowKey::Within(incarnation, Part::Message(message, MessagePart::Pair(name))) = key else {
            return None;
        };
        let state = RowKey::Within(*incarnation, Part::Message(*message, MessagePart::Extension));
        let number = self.snapshot.number();
        let Ok(Some(Row::Extension(state))) = self.cache.row(&state, number) else { return None };
        if state.live.saturating_add(state.tombstones) > SMALL_SET {
            return None;
        }
        let rows = self.read_range(&Range::pairs(*incarnation, *message), usize::MAX);
        let pairs = match rows {
            Ok(rows) => Arc::new(Pairs::of_rows(rows)),
            Err(error) => return Some(Err(self.fail(error))),
        };
        let row = pairs.get(name).cloned().map(Row::Pair);
        // Nobody pulls here, so no page can be made of it.
        drop(self.cache.fill_pairs((*incarnation, *message), pairs, number));
        Some(Ok(row))
    }

    fn read_range(&self, range: &Range, limit: usize) -> Result<Vec<(RowKey, Row)>, StoreError> {
        let (start, end) = span_bounds(&range.span);
        let after = range.after.as_deref().map(encode_key);
        let from = match &after {
            Some(after) if *after >= start => Bound::Excluded(&after[..]),
            _ => Bound::Included(&start[..]),
        };
        let rows = self.snapshot.scan(from, Bound::Excluded(&end), Order::Ascending, limit);
        let decode = |(key, row): (crate::engine::Bytes, crate::engine::Bytes)| {
            let key = decode_key(&key)?;
            let row = decode_row(&key, &row)?;
            Ok((key, row))
        };
        rows.map_err(|error| unread(&error))?.into_iter().map(decode).collect()
    }
}

impl<S> Drop for Loading<'_, S> {
    fn drop(&mut self) {
        self.cache.count(self.hits.get(), self.misses.get());
        if let Some(lent) = self.lent.take() {
            self.cache.take_back(lent);
        }
    }
}

impl<S: InnerSnapshot> Rows for Loading<'_, S> {
    fn row(&self, key: &RowKey) -> Result<Option<Row>, Missing> {
        let number = self.snapshot.number();
        let row = if let Ok(row) = self.cache.row(key, number) {
            self.hits.set(self.hits.get() + 1);
            row
        } else {
            self.misses.set(self.misses.get() + 1);
            if let Some(row) = self.read_pair(key) {
                row?
            } else {
                let row = self.read_row(key).map_err(|error| self.fail(error))?;
                self.cache.fill_row(key, row.clone(), number);
                row
            }
        };
        if self.attaching {
            self.attached.borrow_mut().rows.insert(key.clone(), row.clone());
        }
        Ok(row)
    }

    fn range(&self, range: &Range) -> Result<Vec<(RowKey, Row)>, Missing> {
        let limit =
            if self.attaching { range.limit.saturating_mul(2).saturating_add(64) } else { range.limit };
        self.misses.set(self.misses.get() + 1);
        let mut rows = self.read_range(range, limit).map_err(|error| self.fail(error))?;
        if self.attaching {
            self.attached.borrow_mut().ranges.push(AttachedRange {
                span: range.span.clone(),
                after: range.after.clone(),
                rows: rows.clone(),
                whole: rows.len() < limit,
            });
            rows.truncate(range.limit);
        }
        Ok(rows)
    }

    fn pairs(&self, incarnation: Incarnation, message: MessageName) -> Result<Arc<Pairs>, Missing> {
        let (of, number) = ((incarnation, message), self.snapshot.number());
        // A command takes the rows along, for by the time it is decided memory may have lost them.
        if !self.attaching
            && let Ok(lent) = self.cache.lend_pairs(of, number)
        {
            self.hits.set(self.hits.get() + 1);
            return Ok(self.keep_lent(lent));
        }
        let pairs = Arc::new(Pairs::of_rows(self.range(&Range::pairs(incarnation, message))?));
        Ok(self.keep_lent(self.cache.fill_pairs(of, pairs, number)))
    }
}
