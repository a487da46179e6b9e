//! Whether a store holds what a file does, row by row.

use std::cmp::Ordering;

use anyhow::bail;
use sidenote_core::rows::{Row, RowKey};
use sidenote_export::{Ledger, Summary};
use sidenote_store::audit::{Place, Position};

use super::MOST_FINDINGS;
use crate::progress::count;
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
                "the store does not hold what the file does, in {}: {}; the file has {file}; the store has {store}; if \
                 somebody serves these apps, stop that, and import into an empty store",
                count(self.count, "row", "rows"),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sidenote_core::account::Account;
    use sidenote_core::ids::{AccountId, AppId, Timestamp, TinyId, UserId};

    use super::*;

    fn account(name: &str, nick: &str) -> (RowKey, Row) {
        let id = AccountId { app: AppId::new(1), user: UserId::new(name).unwrap() };
        let account = Account {
            tiny_id: TinyId::from_random(7),
            nick: nick.to_owned(),
            face_url: String::new(),
            imported_at: Timestamp::default(),
        };
        (RowKey::Account(id), Row::Account(Arc::new(account)))
    }

    /// What is said of these rows in a file and those in a store.
    fn said(file: &[(RowKey, Row)], store: Vec<Entry>) -> Result<Summary, String> {
        let mut store = store.into_iter();
        let mut comparison = Comparison::new(|| Ok(store.next()));
        for (key, row) in file {
            comparison.row(key, row).unwrap();
        }
        comparison.finish().map_err(|error| error.to_string())
    }

    #[test]
    fn every_difference_is_found_and_named() {
        let [ann, bob, eve] = ["ann", "bob", "eve"].map(|name| account(name, "x"));
        let file = [ann.clone(), bob.clone()];
        let same = said(&file, vec![Ok(ann.clone()), Ok(bob.clone())]).unwrap();
        assert_eq!(same.rows(), 2);
        assert!(same.to_string().contains("account 2") && !same.to_string().contains("pair 1"), "{same}");

        let unreadable = Undecodable { key: Some(bob.0.clone()), reason: "it is damaged".to_owned() };
        let other = account("bob", "another");
        for (store, count, says) in [
            (vec![], 2, "account \"ann\": is missing in the store; app 1, account \"bob\": is missing"),
            (vec![Ok(bob.clone())], 1, "account \"ann\": is missing in the store"),
            (vec![Ok(ann.clone())], 1, "account \"bob\": is missing in the store"),
            (vec![Ok(ann.clone()), Ok(other)], 1, "account \"bob\": is not the same in the store"),
            (
                vec![Ok(ann.clone()), Ok(bob), Ok(eve)],
                1,
                "account \"eve\": is in the store, but not in the file",
            ),
            (vec![Ok(ann), Err(unreadable)], 2, "account \"bob\": cannot be read: it is damaged"),
        ] {
            let said = said(&file, store).unwrap_err();
            assert!(
                said.contains(says)
                    && said.contains(&format!(" in {}: ", super::count(count, "row", "rows"))),
                "{says}: {said}"
            );
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }
}
