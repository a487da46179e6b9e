use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Weak;

use crate::engine::{Engine, EngineError, Row, Snapshot};
use crate::schema::{Stretch, WALK, WalkPosition};

/// Rows are read from the files in pages of about so many bytes.
const PAGE_BYTES: usize = 256 * 1024;

/// The way to the snapshots of an open store, which it does not keep open.
#[derive(Clone, Debug)]
pub struct Snapshots(pub(crate) Weak<Engine>);

impl Snapshots {
    /// A walk over the rows as they are now; `None` once the store is closed.
    pub fn walk(&self) -> Option<Walk> {
        self.0.upgrade().map(|engine| Walk::new(engine.snapshot()))
    }
}

/// All rows of one snapshot, in the order of [`WalkPosition`]. Holds two pages at most.
///
/// What changes meanwhile does not show and waits for nothing. Rows that the snapshot still sees stay on disk until
/// the walk is dropped, and the folder stays locked.
#[derive(Debug)]
pub struct Walk {
    snapshot: Snapshot,
    stretches: std::slice::Iter<'static, Stretch>,
    one: Cursor,
    other: Cursor,
}

impl Walk {
    /// A walk over this snapshot.
    pub fn new(snapshot: Snapshot) -> Self {
        Self { snapshot, stretches: WALK.iter(), one: Cursor::default(), other: Cursor::default() }
    }

    /// Number of the batch whose state this is.
    pub fn batch(&self) -> u64 {
        self.snapshot.number()
    }

    /// About how many rows there are.
    pub fn approximate_rows(&self) -> u64 {
        self.snapshot.approximate_rows()
    }

    /// The next row; `None` behind the last one.
    pub fn next_row(&mut self) -> Result<Option<Row>, EngineError> {
        loop {
            let one = self.one.peek(&self.snapshot)?.map(|(key, _)| WalkPosition::of(key));
            let other = self.other.peek(&self.snapshot)?.map(|(key, _)| WalkPosition::of(key));
            let first = match (one, other) {
                (Some(one), Some(other)) if other < one => &mut self.other,
                (Some(_), _) => &mut self.one,
                (None, Some(_)) => &mut self.other,
                (None, None) => {
                    match self.stretches.next() {
                        None => return Ok(None),
                        Some(Stretch::Kinds(from, to)) => self.one = Cursor::over(*from, *to),
                        Some(Stretch::Merged(one, other)) => {
                            self.one = Cursor::over(*one, Some(one + 1));
                            self.other = Cursor::over(*other, Some(other + 1));
                        }
                    }
                    continue;
                }
            };
            return Ok(first.rows.pop_front());
        }
    }
}

/// Where a range of keys begins and ends.
type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// A range of keys, read page by page.
#[derive(Debug, Default)]
struct Cursor {
    rows: VecDeque<Row>,
    /// Where the next page begins and the range ends; `None` behind the last page.
    rest: Option<Bounds>,
}

impl Cursor {
    fn over(from: u8, to: Option<u8>) -> Self {
        let to = to.map_or(Bound::Unbounded, |to| Bound::Excluded(vec![to]));
        Self { rows: VecDeque::new(), rest: Some((Bound::Included(vec![from]), to)) }
    }

    fn peek(&mut self, snapshot: &Snapshot) -> Result<Option<&Row>, EngineError> {
        if self.rows.is_empty()
            && let Some((from, to)) = self.rest.take()
        {
            self.rows = snapshot
                .page(from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice), PAGE_BYTES)?
                .into();
            self.rest = self.rows.back().map(|(last, _)| (Bound::Excluded(last.to_vec()), to));
        }
        Ok(self.rows.front())
    }
}
