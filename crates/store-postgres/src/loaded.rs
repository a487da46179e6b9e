//! What was read of the database in one transaction, as a rule looks at it, and what commands have changed since.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};

use sidenote_core::command::Command;
use sidenote_core::query::{self, Answer, Query};
use sidenote_core::rows::{Change, Missing, Range, Row, RowKey, Rows, Span};
use sidenote_core::{Decision, Limits, decide};

/// Something that a rule asked for and that was not read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Row(RowKey),
    Range(Range),
}

/// The rows of one instant, as far as they were read, with what was decided since laid over them.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    rows: HashMap<RowKey, Option<Row>>,
    ranges: HashMap<Range, Vec<(RowKey, Row)>>,
    /// Of rows that two nodes may make at the same time: those that the database holds.
    stored: HashSet<RowKey>,
    /// What was decided and is not written yet.
    unwritten: BTreeMap<RowKey, Option<Row>>,
}

impl Loaded {
    /// What the database holds under a key.
    pub(crate) fn take_row(&mut self, key: RowKey, row: Option<Row>) {
        if row.is_some() && is_contested(&key) {
            self.stored.insert(key.clone());
        }
        // What was decided since is newer than what is read.
        if !self.unwritten.contains_key(&key) {
            self.rows.insert(key, row);
        }
    }

    /// The database holds nothing under a key, unless it was read before.
    pub(crate) fn take_absence(&mut self, key: RowKey) {
        self.rows.entry(key).or_insert(None);
    }

    /// What the database holds of a range. Nothing may be unwritten. A row that was asked for twice, for itself and with its
    /// set, comes twice, and would be left over once where a command removes it.
    pub(crate) fn take_range(&mut self, range: Range, mut rows: Vec<(RowKey, Row)>) {
        rows.sort_by(|(one, _), (other, _)| one.cmp(other));
        rows.dedup_by(|(one, _), (other, _)| one == other);
        self.ranges.insert(range, rows);
    }

    pub(crate) fn get(&self, key: &RowKey) -> Option<&Row> {
        self.rows.get(key)?.as_ref()
    }

    /// What was read of any range of this span.
    pub(crate) fn ranges_of(&self, span: Span) -> impl Iterator<Item = &(RowKey, Row)> {
        self.ranges.iter().filter(move |(range, _)| range.span == span).flat_map(|(_, rows)| rows)
    }

    /// Whether the database holds a row of a kind that two nodes may make at the same time.
    pub(crate) fn is_stored(&self, key: &RowKey) -> bool {
        self.stored.contains(key)
    }

    /// Lets a rule judge a command, or says what it needs first.
    pub(crate) fn decide(&self, command: &Command, limits: &Limits) -> Result<Decision, Wish> {
        self.look(|rows| decide(rows, command, limits))
    }

    /// Lets a rule answer a question, or says what it needs first.
    pub(crate) fn answer(&self, query: &Query, limits: &Limits) -> Result<Answer, Wish> {
        self.look(|rows| query::answer(rows, query, limits))
    }

    fn look<T>(&self, rule: impl FnOnce(&dyn Rows) -> Result<T, Missing>) -> Result<T, Wish> {
        let sight = Sight { loaded: self, wish: RefCell::new(None) };
        rule(&sight)
            .map_err(|Missing| sight.wish.into_inner().expect("a rule stops only where it missed something"))
    }

    /// What a command changed is what the next one finds.
    pub(crate) fn apply(&mut self, changes: Vec<Change>) {
        for Change { key, row } in changes {
            self.ranges.retain(|range, rows| {
                !range.span.contains(&key) || {
                    let is_whole = range.after.is_none() && range.limit == usize::MAX;
                    if is_whole {
                        put(rows, &key, row.as_ref());
                    }
                    is_whole
                }
            });
            self.rows.insert(key.clone(), row.clone());
            self.unwritten.insert(key, row);
        }
    }

    /// What has to be written, the last change of each row.
    pub(crate) fn unwritten(&self) -> &BTreeMap<RowKey, Option<Row>> {
        &self.unwritten
    }

    /// It was.
    pub(crate) fn written(&mut self) {
        for (key, row) in std::mem::take(&mut self.unwritten) {
            match row {
                Some(_) if is_contested(&key) => drop(self.stored.insert(key)),
                Some(_) => {}
                None => drop(self.stored.remove(&key)),
            }
        }
    }
}

/// Rows that are no lock's business while there are none of them: whoever makes one has to be the first.
pub(crate) fn is_contested(key: &RowKey) -> bool {
    matches!(key, RowKey::Account(_) | RowKey::Membership(..) | RowKey::Conversation(_))
}

fn put(rows: &mut Vec<(RowKey, Row)>, key: &RowKey, row: Option<&Row>) {
    match (rows.binary_search_by(|(held, _)| held.cmp(key)), row) {
        (Ok(at), Some(row)) => rows[at].1 = row.clone(),
        (Ok(at), None) => drop(rows.remove(at)),
        (Err(at), Some(row)) => rows.insert(at, (key.clone(), row.clone())),
        (Err(_), None) => {}
    }
}

struct Sight<'a> {
    loaded: &'a Loaded,
    wish: RefCell<Option<Wish>>,
}

impl Rows for Sight<'_> {
    fn row(&self, key: &RowKey) -> Result<Option<Row>, Missing> {
        self.loaded.rows.get(key).cloned().ok_or_else(|| {
            *self.wish.borrow_mut() = Some(Wish::Row(key.clone()));
            Missing
        })
    }

    fn range(&self, range: &Range) -> Result<Vec<(RowKey, Row)>, Missing> {
        self.loaded.ranges.get(range).cloned().ok_or_else(|| {
            *self.wish.borrow_mut() = Some(Wish::Range(range.clone()));
            Missing
        })
    }
}
