//! What the pairs of a message can be after a crash, found by replaying everything that was asked.
//!
//! Changes that were answered took effect in the order of the numbers that they were told. What was in flight may
//! have taken effect at any number that nobody was told, or not at all. The server is right if there is one such
//! history in which every answer, every page that was read, and the state in the end, come out as they were seen.

use std::collections::BTreeMap;

use crate::caller::{Change, Changed, Operate, Page, shortened};
use crate::model::{Limits, Set};

/// What was asked of one message since its pairs were `before`.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) answered: Vec<(Change, Changed)>,
    pub(super) in_flight: Vec<Change>,
    /// StartSeq and what was read.
    pub(super) pulled: Vec<(u64, Page)>,
}

impl Asked {
    /// Looks for a history that leads from `before` to `after`; an error says what speaks against it.
    pub(super) fn explain(&self, before: &Set, after: &Set, limits: Limits) -> Result<(), String> {
        let mut history = History::until(after, limits);
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
        for (start, page) in &self.pulled {
            if page.latest > after.latest {
                return Err(format!("LatestSeq is {}, but {} was read", after.latest, page.latest));
            }
            history.pulled.entry(page.latest).or_default().push((*start, page));
        }
        if history.leads(before.clone(), &self.in_flight) {
            return Ok(());
        }
        let (number, objection) = history.objection;
        Err(format!("no order of what was asked explains number {number}: {objection}"))
    }
}

/// Answered changes, and pages, by the number that they were told.
struct History<'a> {
    after: &'a Set,
    limits: Limits,
    written: BTreeMap<u64, (&'a Change, &'a Changed)>,
    refused: BTreeMap<u64, Vec<(&'a Change, &'a Changed)>>,
    pulled: BTreeMap<u64, Vec<(u64, &'a Page)>>,
    /// What stopped the longest of all attempts.
    objection: (u64, String),
}

impl<'a> History<'a> {
    fn until(after: &'a Set, limits: Limits) -> Self {
        Self {
            after,
            limits,
            written: BTreeMap::new(),
            refused: BTreeMap::new(),
            pulled: BTreeMap::new(),
            objection: (0, String::new()),
        }
    }

    /// Can `set` come to be what was found, if some of `in_flight` took numbers that nobody was told?
    fn leads(&mut self, mut set: Set, in_flight: &[Change]) -> bool {
        if let Err(text) = self.agrees(&mut set) {
            return self.object(set.latest, text);
        }
        if set.latest == self.after.latest {
            return set == *self.after || self.object(set.latest, difference(&set, self.after));
        }
        // The next change that was answered, if nothing came between.
        let next = self.written.range(set.latest + 1..).next().map(|(told, change)| (*told, *change));
        if let Some((told, (change, changed))) = next {
            let mut with = set.clone();
            let expected = with.apply(change, self.limits);
            if expected == *changed && self.leads(with, in_flight) {
                return true;
            }
            if expected != *changed && told == set.latest + 1 {
                // Nothing can come between.
                let text = format!("{change:?} was told {changed:?} and not {expected:?}");
                return self.object(told, text);
            }
        }
        let latest = next.map_or(self.after.latest, |(told, _)| told);
        for choice in 0..in_flight.len() {
            let (mut with, mut left) = (set.clone(), in_flight.to_vec());
            with.apply(&left.swap_remove(choice), self.limits);
            if (set.latest + 1..=latest).contains(&with.latest) && self.leads(with, &left) {
                return true;
            }
        }
        self.object(set.latest, "no request explains the number that follows".to_owned())
    }

    /// What was refused, and what was read, while LatestSeq was that of `set`.
    fn agrees(&self, set: &mut Set) -> Result<(), String> {
        for (change, told) in self.refused.get(&set.latest).into_iter().flatten() {
            // Nothing is written, so that trying it leaves the set as it is.
            let expected = set.apply(change, self.limits);
            if expected != **told {
                return Err(format!("{change:?} was told {told:?} and not {expected:?}"));
            }
        }
        for (start, page) in self.pulled.get(&set.latest).into_iter().flatten() {
            let expected = set.pull(*start, self.limits);
            if expected != **page {
                return Err(format!("a pull from {start} was {page:?} and not {expected:?}"));
            }
        }
        Ok(())
    }

    fn object(&mut self, number: u64, text: String) -> bool {
        if number >= self.objection.0 {
            self.objection = (number, text);
        }
        false
    }
}

/// What the replay has and the server has not, and the other way round.
fn difference(replayed: &Set, found: &Set) -> String {
    let only = |one: &Set, other: &Set| -> Vec<String> {
        let differs = one.entries.iter().filter(|(key, entry)| other.entries.get(*key) != Some(entry));
        differs.map(|(key, (value, seq))| format!("{key}={}@{seq}", shortened(value))).collect()
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
    use crate::caller::Wish;

    const LIMITS: Limits = Limits { tombstones: 10, page: 20 };

    fn set(keys: &[&str], value: &str, claim: Option<u64>) -> Change {
        Change::set(keys.iter().map(|key| (*key, value, claim)))
    }

    /// Three changes that were answered: a and b are set, a member loses, b is deleted.
    fn answered() -> (Asked, Set) {
        let (mut state, mut asked) = (Set::default(), Asked::default());
        let delete = Wish { key: "b".to_owned(), value: String::new(), claim: Some(1) };
        let delete = Change { operate: Operate::Delete, wishes: vec![delete] };
        for change in [set(&["a", "b"], "1", None), set(&["a"], "2", Some(0)), delete] {
            let told = state.apply(&change, LIMITS);
            asked.answered.push((change, told));
        }
        assert_eq!((state.latest, asked.answered[1].1.items[0].0), (2, 23_001));
        (asked, state)
    }

    #[test]
    fn what_was_acknowledged_must_be_there_and_nothing_else() {
        let (asked, state) = answered();
        asked.explain(&Set::default(), &state, LIMITS).unwrap();

        let mut lost = state.clone();
        lost.entries.remove("a");
        assert!(asked.explain(&Set::default(), &lost, LIMITS).unwrap_err().contains("a=1@1"));
        let back = Set { latest: 1, ..state.clone() };
        assert!(asked.explain(&Set::default(), &back, LIMITS).unwrap_err().contains("2 was acknowledged"));
        let invented = Set { latest: 3, ..state.clone() };
        assert!(
            asked.explain(&Set::default(), &invented, LIMITS).unwrap_err().contains("no request explains")
        );
        assert!(asked.explain(&state, &state, LIMITS).unwrap_err().contains("given out again"));
        let mut other = state;
        other.entries.insert("a".to_owned(), ("2".to_owned(), 1));
        assert!(asked.explain(&Set::default(), &other, LIMITS).is_err());
    }

    #[test]
    fn what_was_in_flight_is_there_wholly_or_not_at_all() {
        let (mut asked, state) = answered();
        asked.in_flight = vec![set(&["c", "d"], "x", None), set(&["c"], "y", Some(0))];
        asked.explain(&Set::default(), &state, LIMITS).unwrap();

        let with = |pairs: &[(&str, &str, u64)]| {
            let mut state = state.clone();
            for (key, value, seq) in pairs {
                state.latest = state.latest.max(*seq);
                state.entries.insert((*key).to_owned(), ((*value).to_owned(), *seq));
            }
            asked.explain(&Set::default(), &state, LIMITS)
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
        assert!(
            asked.explain(&Set::default(), &state, LIMITS).unwrap_err().contains("were told the number 1")
        );
    }

    #[test]
    fn what_was_read_was_there() {
        let (mut asked, state) = answered();
        let mut early = Set::default();
        early.apply(&asked.answered[0].0, LIMITS);
        asked.pulled = vec![(0, early.pull(0, LIMITS)), (1, state.pull(1, LIMITS))];
        asked.explain(&Set::default(), &state, LIMITS).unwrap();

        asked.pulled[0].1.latest = 2;
        assert!(asked.explain(&Set::default(), &state, LIMITS).unwrap_err().contains("a pull from 0"));
        asked.pulled[0].1.latest = 3;
        assert!(asked.explain(&Set::default(), &state, LIMITS).unwrap_err().contains("3 was read"));
    }

    #[test]
    fn a_compaction_takes_several_numbers_and_may_have_been_in_flight() {
        let limits = Limits { tombstones: 1, page: 20 };
        let (mut state, mut asked) = (Set::default(), Asked::default());
        let delete = |key| Change { operate: Operate::Delete, ..set(&[key], "", None) };
        for change in
            [set(&["a", "b", "c", "d"], "1", None), delete("a"), delete("b"), set(&["c"], "2", None)]
        {
            let told = state.apply(&change, limits);
            asked.answered.push((change, told));
        }
        assert_eq!(asked.answered[2].1.seq, 5);
        asked.explain(&Set::default(), &state, limits).unwrap();
        let (change, _) = asked.answered.remove(2);
        asked.explain(&Set::default(), &state, limits).unwrap_err();
        asked.in_flight.push(change);
        asked.explain(&Set::default(), &state, limits).unwrap();
    }
}
