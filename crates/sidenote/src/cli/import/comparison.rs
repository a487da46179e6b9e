//! Whether a store holds what a file does, row by row.

use std::cmp::Ordering;

use anyhow::bail;
use sidenote_core::rows::{Row, RowKey};
use sidenote_export::{Ledger, Summary};
use sidenote_store::audit::{Place, Position};

use super::MOST_FINDINGS;
use crate::storage::{Entry, Undecodable};

/// Takes the rows of a file one after the other, and those of a store beside them.
pub(super) struct Comparison<F> {
    next: F,
    /// The next row of the store, if it was looked at.
    there: Option<(RowKey, Row)>,
    of_file: Ledger,
    of_store: Ledger,
    differences: Vec<String>,
    count: u64,
}

impl<F: FnMut() -> anyhow::Result<Option<Entry>>> Comparison<F> {
    /// `next` tells the rows of the store, in the order in which the file has them.
    pub(super) fn new(next: F) -> Self {
        let (of_file, of_store) = (Ledger::default(), Ledger::default());
        Self { next, there: None, of_file, of_store, differences: Vec::new(), count: 0 }
    }

    /// The next row of the file.
    pub(super) fn row(&mut self, key: &RowKey, row: &Row) -> anyhow::Result<()> {
        self.of_file.row(key, row)?;
        loop {
            let there = match self.there.take() {
                Some(there) => Some(there),
                None => self.look()?,
            };
            let Some((found, row_there)) = there else {
                self.differ(key, "is missing in the store");
                return Ok(());
            };
            match Position::of(&found).cmp(&Position::of(key)) {
                Ordering::Less => self.only_there(&found, &row_there)?,
                Ordering::Equal => {
                    self.of_store.row(&found, &row_there)?;
                    if row_there != *row {
                        self.differ(key, "is not the same in the store");
                    }
                    return Ok(());
                }
                Ordering::Greater => {
                    self.differ(key, "is missing in the store");
                    self.there = Some((found, row_there));
                    return Ok(());
                }
            }
        }
    }

    /// Behind the last row of the file.
    pub(super) fn finish(mut self) -> anyhow::Result<Summary> {
        while let Some((key, row)) = match self.there.take() {
            Some(there) => Some(there),
            None => self.look()?,
        } {
            self.only_there(&key, &row)?;
        }
        let (file, store) = (self.of_file.finish(), self.of_store.finish());
        if self.count > 0 || file != store {
            let [file, store] = [file, store].map(|summary| summary.to_string().replace('\n', ", "));
            bail!(
                "the store does not hold what the file does, in {} rows: {}; the file has {file}; the store has {store}; if \
                 somebody serves these apps, stop that, and import into an empty store",
                self.count,
                self.differences.join("; "),
            );
        }
        Ok(store)
    }

    /// The next row of the store that is one.
    fn look(&mut self) -> anyhow::Result<Option<(RowKey, Row)>> {
        loop {
            match (self.next)()? {
                None => return Ok(None),
                Some(Ok(row)) => return Ok(Some(row)),
                Some(Err(Undecodable { key, reason })) => {
                    let place = key.as_ref().map(Place::of).unwrap_or_default();
                    self.note(format!("{place}: cannot be read: {reason}"));
                }
            }
        }
    }

    fn only_there(&mut self, key: &RowKey, row: &Row) -> anyhow::Result<()> {
        self.of_store.row(key, row)?;
        self.differ(key, "is in the store, but not in the file");
        Ok(())
    }

    fn differ(&mut self, key: &RowKey, what: &str) {
        self.note(format!("{}: {what}", Place::of(key)));
    }

    fn note(&mut self, difference: String) {
        self.count += 1;
        if self.differences.len() < MOST_FINDINGS {
            self.differences.push(difference);
        }
    }
}
