//! What an extension set is, read from the rules in the plainest way: a map, and one function for each thing that
//! can be asked of it. It shares no code with the server, so that a mistake there is not repeated here.

use std::collections::BTreeMap;

use crate::caller::{Caller, Change, Changed, Operate, Page, Pair, Wish};

/// The limits of rule 3.7 that the model knows. More live pairs than a message may hold are never asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Tombstones that a message may hold before it is compacted.
    pub tombstones: usize,
    /// Pairs that a pull answers at most; also the most that compaction gives one number.
    pub page: usize,
}

/// The pairs of a message, tombstones included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Set {
    /// LatestSeq.
    pub latest: u64,
    /// ClearSeq.
    pub clear: u64,
    /// Value and Seq; a tombstone has an empty value.
    pub entries: BTreeMap<String, (String, u64)>,
}

impl Set {
    /// What the server holds, while nobody writes.
    pub fn observe(reader: &Caller, group: &str, message: u64) -> Self {
        let mut set = Self::default();
        for page in reader.walk(group, message, 1) {
            (set.latest, set.clear) = (page.latest, page.clear);
            for Pair { key, value, seq } in page.pairs {
                assert!(set.entries.insert(key.clone(), (value, seq)).is_none(), "{key} came twice");
            }
        }
        // A fresh pull begins without tombstones, and shows the same pairs that live.
        let fresh = reader.walk(group, message, 0);
        assert!(fresh[0].pairs.iter().all(|pair| !pair.value.is_empty()), "rule 3.8");
        let fresh: Vec<_> = fresh.into_iter().flat_map(|page| page.pairs).collect();
        let same = |pair: &Pair| set.entries[&pair.key] == (pair.value.clone(), pair.seq);
        assert!(fresh.iter().all(same), "the two pulls differ");
        let found = fresh.iter().filter(|pair| !pair.value.is_empty()).count();
        assert_eq!(found, set.entries.len() - set.tombstones());
        set
    }

    /// Does what a request asks, as rules 3.2 to 3.7 say, and answers as they say.
    pub fn apply(&mut self, change: &Change, limits: Limits) -> Changed {
        if change.operate == Operate::Clear {
            self.latest += 1;
            self.clear = self.latest;
            self.entries.clear();
            return Changed { seq: self.latest, items: Vec::new() };
        }
        // Rule 3.5: each is judged against the state before the request.
        let verdicts: Vec<u64> = change.wishes.iter().map(|wish| self.judge(change.operate, wish)).collect();
        let accepted = verdicts.iter().zip(&change.wishes).filter(|(verdict, _)| **verdict == 0);
        let accepted: Vec<_> = accepted.map(|(_, wish)| wish).collect();
        if !accepted.is_empty() {
            self.latest += 1;
            for wish in accepted {
                let value = if change.operate == Operate::Set { wish.value.clone() } else { String::new() };
                self.entries.insert(wish.key.clone(), (value, self.latest));
            }
            if self.tombstones() > limits.tombstones {
                self.compact(limits);
            }
        }
        let items = verdicts.into_iter().zip(&change.wishes).map(|(verdict, Wish { key, .. })| {
            let (value, seq) = self.entries.get(key).cloned().unwrap_or_default();
            (verdict, Pair { key: key.clone(), value, seq })
        });
        Changed { seq: self.latest, items: items.collect() }
    }

    /// Answers a pull, as rules 3.8 and 3.9 say.
    pub fn pull(&self, start: u64, limits: Limits) -> Page {
        let mut pairs: Vec<Pair> = self
            .entries
            .iter()
            .filter(|(_, (value, seq))| *seq >= start && (start > 0 || !value.is_empty()))
            .map(|(key, (value, seq))| Pair { key: key.clone(), value: value.clone(), seq: *seq })
            .collect();
        pairs.sort_by(|one, other| (one.seq, &one.key).cmp(&(other.seq, &other.key)));
        let complete = pairs.len() <= limits.page;
        if !complete {
            // The page ends where a Seq ends: what shares its Seq with the first pair beyond it goes too.
            let beyond = pairs[limits.page].seq;
            let whole = pairs.iter().take_while(|pair| pair.seq < beyond).count();
            pairs.truncate(whole);
        }
        Page { pairs, latest: self.latest, clear: self.clear, complete }
    }

    /// Keys that lived once.
    fn tombstones(&self) -> usize {
        self.entries.values().filter(|(value, _)| value.is_empty()).count()
    }

    /// The verdict on one pair (rules 3.4 and 3.6).
    fn judge(&self, operate: Operate, Wish { key, claim, .. }: &Wish) -> u64 {
        let held = self.entries.get(key);
        let lives = held.is_some_and(|(value, _)| !value.is_empty());
        let held_seq = held.map_or(0, |(_, seq)| *seq);
        let fits = claim.is_none_or(|seen| seen == held_seq || (seen == 0 && !lives));
        match (operate, lives, fits) {
            (Operate::Delete, false, _) => 23_004,
            (_, _, false) => 23_001,
            _ => 0,
        }
    }

    /// Rule 3.7: a clear, then the live pairs again in the order of their keys.
    fn compact(&mut self, limits: Limits) {
        self.latest += 1;
        self.clear = self.latest;
        self.entries.retain(|_, (value, _)| !value.is_empty());
        for (count, (_, seq)) in self.entries.values_mut().enumerate() {
            if count.is_multiple_of(limits.page.min(200)) {
                self.latest += 1;
            }
            *seq = self.latest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { tombstones: 2, page: 2 };

    fn set(keys: &[&str], value: &str, claim: Option<u64>) -> Change {
        Change::set(keys.iter().map(|key| (*key, value, claim)))
    }

    #[test]
    fn a_page_ends_where_a_seq_ends() {
        let mut model = Set::default();
        for keys in [&["a"][..], &["b", "c"], &["d"]] {
            model.apply(&set(keys, "1", None), LIMITS);
        }
        let page = model.pull(0, LIMITS);
        assert_eq!((page.pairs.len(), page.complete), (1, false));
        let page = model.pull(2, LIMITS);
        assert_eq!((page.pairs.len(), page.complete), (2, false));
        let page = model.pull(3, LIMITS);
        assert_eq!((page.pairs.len(), page.complete), (1, true));
    }

    #[test]
    fn one_tombstone_too_many_compacts() {
        let mut model = Set::default();
        model.apply(&set(&["a", "b", "c", "d", "e", "f"], "1", None), LIMITS);
        let delete = |keys: &[&str]| Change { operate: Operate::Delete, ..set(keys, "", None) };
        model.apply(&delete(&["a", "b"]), LIMITS);
        assert_eq!((model.latest, model.clear, model.entries.len()), (2, 0, 6));
        // The delete takes 3, the clear 4, two pairs 5 and the last one 6.
        let told = model.apply(&delete(&["c"]), LIMITS);
        assert_eq!((told.seq, model.clear), (6, 4));
        assert_eq!(told.items, [(0, Pair { key: "c".into(), value: String::new(), seq: 0 })]);
        let seqs: Vec<_> = model.entries.iter().map(|(key, (_, seq))| (key.as_str(), *seq)).collect();
        assert_eq!(seqs, [("d", 5), ("e", 5), ("f", 6)]);
    }
}
