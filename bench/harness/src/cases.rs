//! What is measured: the data, and the cases on it.

use crate::workload::{KEYS, Mix, Range, Workload};

/// What a user may ask to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// One-pair sets on random messages.
    Set1,
    /// Three-pair sets on random messages.
    Set3,
    /// Pulls of 20 pairs.
    Pull,
    /// Nine pulls for each set, messages by a Zipf law.
    Mix,
    /// Sets on one message.
    Hot,
    /// One-pair sets on messages that hold 300 pairs.
    WideSet,
    /// Pulls of messages that hold 300 pairs.
    WidePull,
    /// One-pair sets at full load for long.
    Sustain,
    /// Sets and pulls in stores that outgrow the caches, and how long those take to open.
    Stored,
    /// Several nodes on one database.
    Nodes,
    /// From a set's acknowledgement to its push.
    Push,
    /// As many pushes as go.
    Fanout,
    /// Sets while somebody is told of them.
    SetWithListeners,
    /// Many connections on which nothing happens.
    Idle,
}

/// The messages of the ordinary store, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Data {
    /// 100,000 without pairs, for sets.
    pub(crate) plain: Range,
    /// 10,000 with 20 pairs, for pulls; 1,000 if it has to be quick.
    pub(crate) full: Range,
    /// 100 with 300 pairs.
    pub(crate) wide: Range,
    /// One without pairs, for sets by all.
    pub(crate) hot: Range,
    /// One on which a server shows that it compares.
    pub(crate) proof: Range,
}

impl Data {
    /// A tenth of the messages that pulls ask for if it has to be quick: storing them is what takes long elsewhere.
    pub(crate) const fn new(quick: bool) -> Self {
        let plain = Range { first: 1, messages: 100_000, stored_pairs: 0, keys: Some(KEYS) };
        let messages = if quick { 1000 } else { 10_000 };
        let full = Range { first: 100_001, messages, stored_pairs: KEYS, keys: Some(KEYS) };
        let wide = Range { first: full.first + messages, messages: 100, stored_pairs: 300, keys: Some(300) };
        let hot = Range { first: wide.first + 100, messages: 1, stored_pairs: 0, keys: Some(300) };
        let proof = Range { first: hot.first + 1, messages: 1, stored_pairs: 0, keys: Some(KEYS) };
        Self { plain, full, wide, hot, proof }
    }

    /// All of them, in the order of their numbers.
    pub(crate) const fn all(&self) -> [Range; 5] {
        [self.plain, self.full, self.wide, self.hot, self.proof]
    }
}

/// Something to be measured on several servers in turns.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Its name in the report.
    pub(crate) name: String,
    /// A line for people.
    pub(crate) title: String,
    /// What is asked.
    pub(crate) workload: Workload,
    /// Whether the references take part; otherwise only product and bare server do.
    pub(crate) references: bool,
}

/// The cases of a scenario on the ordinary data; none for those that have a procedure of their own.
pub(crate) fn case(scenario: Scenario, data: &Data) -> Option<Case> {
    let (name, title, range, mix, references) = match scenario {
        Scenario::Set1 => ("set1", "one-pair sets", data.plain, Mix::Sets(1), true),
        Scenario::Set3 => ("set3", "three-pair sets", data.plain, Mix::Sets(3), true),
        Scenario::Pull => ("pull", "pulls of 20 pairs", data.full, Mix::Pulls, true),
        Scenario::Mix => ("mix", "90 % pulls and 10 % sets by a Zipf law", data.full, Mix::Zipf, false),
        Scenario::Hot => ("hot", "one-pair sets on one message for all", data.hot, Mix::Sets(1), false),
        Scenario::WideSet => {
            ("wide-set", "one-pair sets on messages of 300 pairs", data.wide, Mix::Sets(1), false)
        }
        Scenario::WidePull => {
            ("wide-pull", "pulls of a page of messages of 300 pairs", data.wide, Mix::Pulls, false)
        }
        Scenario::Sustain
        | Scenario::Stored
        | Scenario::Nodes
        | Scenario::Push
        | Scenario::Fanout
        | Scenario::SetWithListeners
        | Scenario::Idle => return None,
    };
    let workload = Workload { range, mix };
    Some(Case { name: name.to_owned(), title: title.to_owned(), workload, references })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::enough_slots;
    use clap::ValueEnum as _;

    #[test]
    fn ranges_follow_each_other_without_gaps() {
        for quick in [false, true] {
            let mut next = 1;
            for range in Data::new(quick).all() {
                assert_eq!(range.first, next);
                next += range.messages;
            }
        }
    }

    #[test]
    fn every_case_has_a_slot_for_the_most_connections() {
        for case in
            Scenario::value_variants().iter().filter_map(|scenario| case(*scenario, &Data::new(false)))
        {
            assert!(enough_slots(&case.workload, 300), "{}", case.name);
        }
    }
}
