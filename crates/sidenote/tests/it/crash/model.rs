//! What the pairs of a message can be after a crash, found by replaying everything that was asked.
//!
//! Changes that were answered took effect in the order of the numbers that they were told. What was in flight may
//! have taken effect at any number that nobody was told, or not at all. The server is right if there is one such
//! history in which every answer, and the state in the end, come out as they were seen.

use std::collections::BTreeMap;

use crate::caller::{Caller, Change, Changed, Operate, Pair, Wish};

/// The pairs of a message, tombstones included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) latest: u64,
    pub(crate) clear: u64,
    /// Value and Seq; a tombstone has an empty value.
    pub(crate) entries: BTreeMap<String, (String, u64)>,
}

impl Set {
    /// What the server holds, while nobody writes.
    pub(crate) fn observe(reader: &Caller, group: &str, message: u64) -> Self {
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
        let live = |value: &String| !value.is_empty();
        let found = fresh.iter().filter(|pair| live(&pair.value)).count();
        assert_eq!(found, set.entries.values().filter(|(value, _)| live(value)).count());
        set
    }

    /// Does what a request asks, as rules 3.2 to 3.6 say, and answers as they say.
    fn apply(&mut self, change: &Change) -> Changed {
        if change.operate == Operate::Clear {
            self.latest += 1;
            self.clear = self.latest;
            self.entries.clear();
            return Changed { seq: self.latest, items: Vec::new() };
        }
        let mut accepted = Vec::new();
        let verdicts = change.wishes.iter().map(|Wish { key, claim, value }| {
            let held = self.entries.get(key);
            let lives = held.is_some_and(|(value, _)| !value.is_empty());
            let held_seq = held.map_or(0, |(_, seq)| *seq);
            let fits = claim.is_none_or(|seen| seen == held_seq || (seen == 0 && !lives));
            match (change.operate, lives, fits) {
                (Operate::Delete, false, _) => 23_004,
                (_, _, false) => 23_001,
                _ => {
                    accepted.push((key.clone(), value.clone()));
                    0
                }
            }
        });
        let verdicts: Vec<u64> = verdicts.collect();
        if !accepted.is_empty() {
            self.latest += 1;
        }
        for (key, value) in accepted {
            self.entries.insert(key, (value, self.latest));
        }
        let items = verdicts.into_iter().zip(&change.wishes).map(|(verdict, Wish { key, .. })| {
            let (value, seq) = self.entries.get(key).cloned().unwrap_or_default();
            (verdict, Pair { key: key.clone(), value, seq })
        });
        Changed { seq: self.latest, items: items.collect() }
    }
}

/// What was asked of one message since its pairs were `before`.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) answered: Vec<(Change, Changed)>,
    pub(crate) in_flight: Vec<Change>,
}

impl Asked {
    /// Looks for a history that leads from `before` to `after`; an error says what speaks against it.
    pub(crate) fn explain(&self, before: &Set, after: &Set) -> Result<(), String> {
        let mut history = History::default();
        for (change, changed) in &self.answered {
            let told = changed.seq;
            if told > after.latest {
                return Err(format!(
                    "LatestSeq is {}, but {told} was acknowledged: {change:?}",
                    after.latest
                ));
            }
            let wrote =
                change.operate == Operate::Clear || changed.items.iter().any(|(verdict, _)| *verdict == 0);
            if !wrote {
                history.refused.entry(told).or_default().push((change, changed));
            } else if let Some((other, _)) = history.written.insert(told, (change, changed)) {
                return Err(format!("both {change:?} and {other:?} were told the number {told}"));
            }
        }
        if let Some((told, _)) = history.written.first_key_value().filter(|(told, _)| **told <= before.latest)
        {
            return Err(format!("the number {told} was given out again"));
        }
        let free = (after.latest - before.latest).checked_sub(history.written.len() as u64);
        if free.is_none_or(|free| free > self.in_flight.len() as u64) {
            return Err(format!(
                "{} requests were answered and {} in flight, but LatestSeq went from {} to {}",
                history.written.len(),
                self.in_flight.len(),
                before.latest,
                after.latest
            ));
        }
        let mut objection = (0, String::new());
        if history.leads(before.clone(), after, &self.in_flight, &mut objection) {
            return Ok(());
        }
        let (number, objection) = objection;
        Err(format!("no order of what was asked explains number {number}: {objection}"))
    }
}

/// Answered changes by the number that they were told.
#[derive(Default)]
struct History<'a> {
    written: BTreeMap<u64, (&'a Change, &'a Changed)>,
    refused: BTreeMap<u64, Vec<(&'a Change, &'a Changed)>>,
}

impl History<'_> {
    /// Can `set` become `after`, if some of `in_flight` took the numbers that nobody was told? `objection` is what
    /// stopped the longest of all attempts.
    fn leads(&self, set: Set, after: &Set, in_flight: &[Change], objection: &mut (u64, String)) -> bool {
        let mut set = set;
        let mut object = |number: u64, text: String| {
            if number >= objection.0 {
                *objection = (number, text);
            }
            false
        };
        loop {
            for (change, told) in self.refused.get(&set.latest).into_iter().flatten() {
                // Nothing is written, so that trying it leaves the set as it is.
                let expected = set.apply(change);
                if expected != **told {
                    return object(set.latest, format!("{change:?} was told {told:?} and not {expected:?}"));
                }
            }
            if set.latest == after.latest {
                return set == *after || object(set.latest, difference(&set, after));
            }
            let Some((change, told)) = self.written.get(&(set.latest + 1)) else { break };
            let expected = set.apply(change);
            if expected != **told {
                return object(told.seq, format!("{change:?} was told {told:?} and not {expected:?}"));
            }
        }
        (0..in_flight.len()).any(|choice| {
            let (mut set, mut left) = (set.clone(), in_flight.to_vec());
            let next = set.latest + 1;
            set.apply(&left.swap_remove(choice));
            set.latest == next && self.leads(set, after, &left, objection)
        })
    }
}

/// What the replay has and the server has not, and the other way round.
fn difference(replayed: &Set, found: &Set) -> String {
    let only = |one: &Set, other: &Set| -> Vec<String> {
        let differs = one.entries.iter().filter(|(key, entry)| other.entries.get(*key) != Some(entry));
        differs.map(|(key, (value, seq))| format!("{key}={value}@{seq}")).collect()
    };
    format!(
        "replayed (ClearSeq {}): {:?}; found (ClearSeq {}): {:?}",
        replayed.clear,
        only(replayed, found),
        found.clear,
        only(found, replayed)
    )
}

/// The judge itself is tried on histories that are wrong.
#[cfg(test)]
mod tests {
    use super::*;

    fn set(keys: &[&str], value: &str, claim: Option<u64>) -> Change {
        Change::set(keys.iter().map(|key| (*key, value, claim)))
    }

    /// Three changes that were answered: a and b are set, a member loses, b is deleted.
    fn answered() -> (Asked, Set) {
        let (mut state, mut asked) = (Set::default(), Asked::default());
        let delete = Wish { key: "b".to_owned(), value: String::new(), claim: Some(1) };
        let delete = Change { operate: Operate::Delete, wishes: vec![delete] };
        for change in [set(&["a", "b"], "1", None), set(&["a"], "2", Some(0)), delete] {
            let told = state.apply(&change);
            asked.answered.push((change, told));
        }
        assert_eq!((state.latest, asked.answered[1].1.items[0].0), (2, 23_001));
        (asked, state)
    }

    #[test]
    fn what_was_acknowledged_must_be_there_and_nothing_else() {
        let (asked, state) = answered();
        asked.explain(&Set::default(), &state).unwrap();

        let mut lost = state.clone();
        lost.entries.remove("a");
        assert!(asked.explain(&Set::default(), &lost).unwrap_err().contains("a=1@1"));
        let back = Set { latest: 1, ..state.clone() };
        assert!(asked.explain(&Set::default(), &back).unwrap_err().contains("2 was acknowledged"));
        let invented = Set { latest: 3, ..state.clone() };
        assert!(asked.explain(&Set::default(), &invented).unwrap_err().contains("went from 0 to 3"));
        assert!(asked.explain(&state, &state).unwrap_err().contains("given out again"));
        let mut other = state;
        other.entries.insert("a".to_owned(), ("2".to_owned(), 1));
        assert!(asked.explain(&Set::default(), &other).is_err());
    }

    #[test]
    fn what_was_in_flight_is_there_wholly_or_not_at_all() {
        let (mut asked, state) = answered();
        asked.in_flight = vec![set(&["c", "d"], "x", None), set(&["c"], "y", Some(0))];
        asked.explain(&Set::default(), &state).unwrap();

        let with = |pairs: &[(&str, &str, u64)]| {
            let mut state = state.clone();
            for (key, value, seq) in pairs {
                state.latest = state.latest.max(*seq);
                state.entries.insert((*key).to_owned(), ((*value).to_owned(), *seq));
            }
            asked.explain(&Set::default(), &state)
        };
        with(&[("c", "x", 3), ("d", "x", 3)]).unwrap();
        with(&[("c", "y", 3)]).unwrap();
        // The administrator was later than the member, and not the other way round.
        with(&[("c", "x", 4), ("d", "x", 4)]).unwrap();
        with(&[("c", "y", 4), ("d", "x", 3)]).unwrap_err();
        with(&[("c", "x", 3)]).unwrap_err();
        with(&[("c", "x", 3), ("d", "x", 4)]).unwrap_err();
    }

    #[test]
    fn a_number_is_told_once() {
        let (mut asked, state) = answered();
        let first = asked.answered[0].clone();
        asked.answered.push(first);
        assert!(asked.explain(&Set::default(), &state).unwrap_err().contains("were told the number 1"));
    }
}
