//! What a rule looks at when the writer runs it: the state that the last staged command left. Nothing here reads
//! a file. In this order: the changes staged for the batch being gathered; memory; the changes of recent batches
//! over what a fetch attached to the command.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use sidenote_core::ids::{Incarnation, MessageName};
use sidenote_core::pairs::Pairs;
use sidenote_core::rows::{MessagePart, Missing, Part, Range, Row, RowKey, Rows};

use crate::cache::{Cache, Changes};
use crate::views::Attached;

/// Changed rows that are kept for fetches under way, at most (beside the newest batch). A fetch that took so long
/// that its changes are gone is made again.
const KEPT_ROWS: usize = 64 * 1024;

/// The changes of recent batches, for as long as a fetch under way may have missed them. With them whatever a fetch
/// attached is brought up to date in memory: a command need not be fetched again only because its rows have moved
/// on, however often its message is written.
pub(crate) struct Recent {
    /// Ascending.
    batches: VecDeque<(u64, Changes)>,
    rows: usize,
    /// Rows that are kept at most, beside the newest batch.
    pub(crate) most_rows: usize,
    /// Every change of a later batch than this is here.
    complete_after: u64,
    /// How many fetches under way began when a batch was the newest.
    fetches: BTreeMap<u64, usize>,
}

impl Recent {
    pub(crate) fn new(newest: u64) -> Self {
        Self {
            batches: VecDeque::new(),
            rows: 0,
            most_rows: KEPT_ROWS,
            complete_after: newest,
            fetches: BTreeMap::new(),
        }
    }

    /// A fetch begins; its snapshot will show `newest` or a later batch.
    pub(crate) fn fetch_begins(&mut self, newest: u64) {
        *self.fetches.entry(newest).or_default() += 1;
    }

    /// A fetch that began then is back.
    pub(crate) fn fetch_ends(&mut self, began: u64) {
        if let Some(count) = self.fetches.get_mut(&began) {
            *count -= 1;
            if *count == 0 {
                self.fetches.remove(&began);
            }
        }
    }

    pub(crate) fn has_fetches(&self) -> bool {
        !self.fetches.is_empty()
    }

    /// Whether rows of that batch can be brought up to date.
    pub(crate) fn reaches(&self, number: u64) -> bool {
        number >= self.complete_after
    }

    /// Takes the changes of a batch that was published.
    pub(crate) fn keep(&mut self, number: u64, changes: Changes) {
        self.rows += changes.len();
        self.batches.push_back((number, changes));
    }

    /// Forgets what no fetch under way can need.
    pub(crate) fn prune(&mut self) {
        let oldest = self.fetches.first_key_value().map_or(u64::MAX, |(began, _)| *began);
        while let Some((number, changes)) = self.batches.front() {
            let is_too_much = self.rows > self.most_rows && self.batches.len() > 1;
            if *number > oldest && !is_too_much {
                break;
            }
            self.complete_after = *number;
            self.rows -= changes.len();
            self.batches.pop_front();
        }
    }

    fn newest(&self, key: &RowKey) -> Option<&Option<Row>> {
        self.batches.iter().rev().find_map(|(_, changes)| changes.get(key))
    }

    fn after(&self, number: u64) -> impl Iterator<Item = &Changes> {
        self.batches.iter().filter(move |(of, _)| *of > number).map(|(_, changes)| changes)
    }
}

pub(crate) struct Desk<'a> {
    pub(crate) staged: &'a Changes,
    pub(crate) cache: &'a Cache,
    /// The last batch, which is published.
    pub(crate) newest: u64,
    pub(crate) recent: &'a Recent,
    pub(crate) attached: Option<&'a Attached>,
    pub(crate) hits: Cell<u64>,
    pub(crate) misses: Cell<u64>,
}

impl Rows for Desk<'_> {
    fn row(&self, key: &RowKey) -> Result<Option<Row>, Missing> {
        if let Some(row) = self.staged.get(key) {
            return Ok(row.clone());
        }
        if let Ok(row) = self.cache.row(key, self.newest) {
            self.hits.set(self.hits.get() + 1);
            return Ok(row);
        }
        let at_hand = self.recent.newest(key).or_else(|| self.attached?.rows.get(key));
        if at_hand.is_none() {
            self.misses.set(self.misses.get() + 1);
        }
        at_hand.cloned().ok_or(Missing)
    }

    fn range(&self, range: &Range) -> Result<Vec<(RowKey, Row)>, Missing> {
        self.misses.set(self.misses.get() + 1);
        let attached = self.attached.ok_or(Missing)?;
        let is_asked_for = |base: &&crate::views::AttachedRange| {
            base.span == range.span
                && base.after == range.after
                && (base.whole || base.rows.len() >= range.limit)
        };
        let base = attached.ranges.iter().find(is_asked_for).ok_or(Missing)?;
        let changes = self.recent.after(attached.number).chain(std::iter::once(self.staged));
        overlaid(&base.rows, base.whole, range, changes).ok_or(Missing)
    }

    fn pairs(&self, incarnation: Incarnation, message: MessageName) -> Result<Arc<Pairs>, Missing> {
        let Ok(mut pairs) = self.cache.pairs((incarnation, message), self.newest) else {
            let rows = self.range(&Range::pairs(incarnation, message))?;
            return Ok(Arc::new(Pairs::of_rows(rows)));
        };
        self.hits.set(self.hits.get() + 1);
        for (key, row) in self.staged {
            if let RowKey::Within(of, Part::Message(name, MessagePart::Pair(key))) = key
                && (*of, *name) == (incarnation, message)
            {
                let entry = match row {
                    Some(Row::Pair(entry)) => Some(entry.clone()),
                    _ => None,
                };
                Arc::make_mut(&mut pairs).put(key.clone(), entry);
            }
        }
        Ok(pairs)
    }
}

/// The first rows of a range: those of `base` with later changes laid over them, oldest first. If `base` is not
/// whole then rows behind its last one are unknown. `None`: so many of its rows are gone that too few are left.
fn overlaid<'a>(
    base: &[(RowKey, Row)],
    whole: bool,
    range: &Range,
    changes: impl Iterator<Item = &'a Changes>,
) -> Option<Vec<(RowKey, Row)>> {
    let last_known = if whole { None } else { base.last().map(|(key, _)| key) };
    let concerns = |key: &RowKey| {
        range.span.contains(key)
            && range.after.as_deref().is_none_or(|after| key > after)
            && last_known.is_none_or(|last| key <= last)
    };
    let mut newer = BTreeMap::new();
    for changes in changes {
        newer.extend(changes.iter().filter(|(key, _)| concerns(key)));
    }
    let mut rows = Vec::with_capacity(base.len().min(range.limit));
    let mut base = base.iter().peekable();
    let mut newer = newer.into_iter().peekable();
    while rows.len() < range.limit {
        let is_newer_next = match (base.peek(), newer.peek()) {
            (None, None) => return (whole || rows.len() >= range.limit).then_some(rows),
            (Some(_), None) => false,
            (None, Some(_)) => true,
            (Some((key, _)), Some((newer, _))) => {
                let (is_same, is_newer_next) = (*newer == key, *newer <= key);
                if is_same {
                    base.next();
                }
                is_newer_next
            }
        };
        if is_newer_next {
            if let Some((key, Some(row))) = newer.next() {
                rows.push((key.clone(), row.clone()));
            }
        } else if let Some(row) = base.next() {
            rows.push(row.clone());
        }
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use sidenote_core::account::Membership;
    use sidenote_core::ids::{AccountId, AppId, EventNumber, GroupId, Incarnation, UserId};
    use sidenote_core::rows::Span;

    use super::*;

    fn account() -> AccountId {
        AccountId { app: AppId::new(1), user: UserId::new("ann").unwrap() }
    }

    fn key(name: u64) -> RowKey {
        let group = GroupId::new(&format!("{name:03}")).unwrap();
        RowKey::Membership(account(), group, Incarnation::from_random(0))
    }

    fn row(since: u64) -> Row {
        Row::Membership(Membership { since: EventNumber::new(since) })
    }

    fn changes(of: &[(u64, Option<u64>)]) -> Changes {
        of.iter().map(|(name, since)| (key(*name), since.map(row))).collect()
    }

    fn range(after: Option<u64>, limit: usize) -> Range {
        Range { span: Span::Memberships(account()), after: after.map(|name| Box::new(key(name))), limit }
    }

    /// The rows 10, 20, 30, 40 with these changes over them.
    fn over(whole: bool, range: &Range, changes: &[Changes]) -> Option<Vec<(RowKey, Row)>> {
        let base: Vec<_> = [10, 20, 30, 40].map(|name| (key(name), row(0))).into();
        overlaid(&base, whole, range, changes.iter())
    }

    fn rows(of: &[(u64, u64)]) -> Vec<(RowKey, Row)> {
        of.iter().map(|(name, since)| (key(*name), row(*since))).collect()
    }

    #[test]
    fn later_changes_win_and_the_order_stays() {
        let changes =
            [changes(&[(15, Some(1)), (20, Some(1)), (50, Some(1))]), changes(&[(20, Some(2)), (30, None)])];
        let all = over(true, &range(None, usize::MAX), &changes);
        assert_eq!(all, Some(rows(&[(10, 0), (15, 1), (20, 2), (40, 0), (50, 1)])));
        assert_eq!(over(true, &range(None, 3), &changes), Some(rows(&[(10, 0), (15, 1), (20, 2)])));
    }

    #[test]
    fn what_lies_behind_the_last_row_of_a_partial_base_is_unknown() {
        let more = [changes(&[(50, Some(1))])];
        assert_eq!(over(false, &range(None, 4), &more), Some(rows(&[(10, 0), (20, 0), (30, 0), (40, 0)])));
        assert_eq!(over(false, &range(None, 5), &more), None);
        let fewer = [changes(&[(10, None), (40, None)])];
        assert_eq!(over(false, &range(None, 2), &fewer), Some(rows(&[(20, 0), (30, 0)])));
        assert_eq!(over(false, &range(None, 3), &fewer), None);
        assert_eq!(over(true, &range(None, 3), &fewer), Some(rows(&[(20, 0), (30, 0)])));
    }

    #[test]
    fn changes_outside_of_the_range_do_not_count() {
        let stranger = AccountId { app: AppId::new(2), ..account() };
        let foreign = RowKey::Membership(stranger, GroupId::new("015").unwrap(), Incarnation::from_random(0));
        let mut changes = changes(&[(5, Some(1))]);
        changes.insert(foreign, Some(row(1)));
        let base = [(key(20), row(0))];
        assert_eq!(overlaid(&base, true, &range(Some(10), 9), [changes].iter()), Some(rows(&[(20, 0)])));
    }

    #[test]
    fn changes_are_kept_for_the_oldest_fetch_under_way() {
        let mut recent = Recent::new(7);
        recent.fetch_begins(7);
        recent.keep(8, changes(&[(1, Some(8))]));
        recent.fetch_begins(8);
        recent.keep(9, changes(&[(1, Some(9))]));
        recent.prune();
        assert!(recent.reaches(7));
        recent.fetch_ends(7);
        recent.prune();
        assert!(!recent.reaches(7) && recent.reaches(8));
        assert_eq!(recent.newest(&key(1)), Some(&Some(row(9))));
        recent.fetch_ends(8);
        recent.prune();
        assert!(recent.reaches(9) && !recent.has_fetches());
        assert_eq!(recent.newest(&key(1)), None);
    }

    #[test]
    fn the_changes_that_are_kept_are_bounded() {
        let mut recent = Recent::new(0);
        recent.fetch_begins(0);
        let many: Vec<_> = (0..999).map(|name| (name, None)).collect();
        for number in 1..=200 {
            recent.keep(number, changes(&many));
            recent.prune();
            assert!(recent.rows <= KEPT_ROWS);
        }
        assert!(!recent.reaches(0) && recent.reaches(199));
    }
}
