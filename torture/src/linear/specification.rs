//! The sequential specification: what one message answers when requests come one after the other.
//!
//! The checker tries orders one by one and remembers nothing, which takes for ever where many requests overlap.
//! Every answer names LatestSeq, and no number comes twice (rule 3.2); so [`Hints`] can be read off a history that
//! rule most orders out. They never rule out all of them: what they leave differs from what they take away only
//! in the places of requests that change nothing and that could change places.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use stateright::semantics::SequentialSpec;

use crate::caller::{Change, Changed, Operate, Page};
use crate::model::{Limits, Set};

/// Steps that the checker may try for one message, a hundred times what a history needs.
const STEPS: usize = 20_000;

/// A request, by its place in the record.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) place: usize,
    pub(super) what: What,
}

/// What can be asked of a message.
#[derive(Clone, Debug)]
pub(super) enum What {
    Change(Change),
    /// With StartSeq.
    Pull(u64),
    /// Everything at once, while nobody else asks.
    Observe,
}

/// What it answers.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Changed(Changed),
    Pulled(Page),
    Observed(Set),
    /// The crash came first: it happened before that, or never.
    None,
}

/// What is known of every order that explains a history.
#[derive(Clone, Debug, Default)]
pub(super) struct Hints {
    /// By LatestSeq, the requests that changed nothing and showed it, in the order of their answers. They can be
    /// taken in that order: it respects who waited for whom, and nothing but their own order depends on it.
    idle: BTreeMap<u64, Vec<usize>>,
    /// LatestSeq after each change that was answered. What is open took other numbers, or never happened.
    told: BTreeSet<u64>,
    /// LatestSeq in the end. Open requests that never happened, or changed nothing, can wait until it is reached.
    last: u64,
}

/// A message by the naive model.
#[derive(Clone, Debug)]
pub(super) struct Message {
    set: Set,
    limits: Limits,
    hints: Arc<Hints>,
    /// How many requests that change nothing were taken since the last change.
    idle_taken: usize,
    /// Place of the last open request that was found to have changed nothing; they are taken in order.
    dropped: Option<usize>,
    steps: Arc<AtomicUsize>,
}

impl Hints {
    /// The hints of a history that ends at this LatestSeq.
    pub(super) fn until(last: u64) -> Self {
        Self { last, ..Self::default() }
    }

    /// Takes notice of an answer; to be called in the order of the answers.
    pub(super) fn note(&mut self, question: &Question, answer: &Answer) {
        match (&question.what, answer) {
            (What::Change(change), Answer::Changed(changed)) => {
                let is_clear = change.operate == Operate::Clear;
                if is_clear || changed.items.iter().any(|(code, _)| *code == 0) {
                    self.told.insert(changed.seq);
                } else {
                    self.idle.entry(changed.seq).or_default().push(question.place);
                }
            }
            (_, Answer::Pulled(page)) => self.idle.entry(page.latest).or_default().push(question.place),
            _ => {}
        }
    }

    fn idle_at(&self, latest: u64) -> &[usize] {
        self.idle.get(&latest).map_or(&[], Vec::as_slice)
    }
}

impl Message {
    pub(super) fn new(set: Set, limits: Limits, hints: Hints) -> Self {
        Self { set, limits, hints: Arc::new(hints), idle_taken: 0, dropped: None, steps: Arc::default() }
    }

    /// Counts the steps of all copies of this message.
    pub(super) fn steps(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.steps)
    }

    /// Takes a request that was answered.
    fn takes_answered(&mut self, question: &Question, answer: &Answer) -> bool {
        let before = self.set.latest;
        if self.invoke(question) != *answer {
            return false;
        }
        if matches!(question.what, What::Observe) {
            return true;
        }
        if self.set.latest > before {
            return self.leaves_nothing_behind(before);
        }
        self.idle_taken += 1;
        self.hints.idle_at(before).get(self.idle_taken - 1) == Some(&question.place)
    }

    /// Takes a request that was open at the crash.
    fn takes_open(&mut self, question: &Question) -> bool {
        let before = self.set.latest;
        if before == self.hints.last {
            let is_next = self.dropped.is_none_or(|dropped| dropped < question.place);
            self.dropped = Some(question.place);
            return is_next && self.idle_taken == self.hints.idle_at(before).len();
        }
        self.invoke(question);
        let mut numbers = before + 1..=self.set.latest;
        !numbers.is_empty()
            && !numbers.any(|number| self.hints.told.contains(&number))
            && self.leaves_nothing_behind(before)
    }

    /// Whether nothing is left behind, now that LatestSeq has risen from `before`.
    fn leaves_nothing_behind(&mut self, before: u64) -> bool {
        let taken = std::mem::take(&mut self.idle_taken);
        taken == self.hints.idle_at(before).len()
            && self.hints.idle.range(before + 1..self.set.latest).next().is_none()
            && self.set.latest <= self.hints.last
    }
}

/// Whether a search was given up.
pub(super) fn are_used_up(steps: &AtomicUsize) -> bool {
    steps.load(Ordering::Relaxed) > STEPS
}

impl SequentialSpec for Message {
    type Op = Question;
    type Ret = Answer;

    fn invoke(&mut self, question: &Question) -> Answer {
        match &question.what {
            What::Change(change) => Answer::Changed(self.set.apply(change, self.limits)),
            What::Pull(start) => Answer::Pulled(self.set.pull(*start, self.limits)),
            What::Observe => Answer::Observed(self.set.clone()),
        }
    }

    fn is_valid_step(&mut self, question: &Question, answer: &Answer) -> bool {
        self.steps.fetch_add(1, Ordering::Relaxed);
        if are_used_up(&self.steps) {
            return false;
        }
        match answer {
            Answer::None => self.takes_open(question),
            answer => self.takes_answered(question, answer),
        }
    }
}
