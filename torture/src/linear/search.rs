//! A second opinion, with a memory.
//!
//! The checker's own search remembers nothing. Where many open writes overlap it meets the same situation over and
//! over, by another order of what is behind it, and is given up. This search asks the same question of the same
//! specification, and never looks at a situation twice: the requests that are taken, and the state they led to. A
//! request that changes nothing and whose answer is right is taken at once, because nothing depends on when it is.

use std::collections::HashSet;

use super::clients::Moment;
use super::specification::{Answer, What};
use crate::model::{Limits, Set};

/// Situations that are looked at for one message before it is given up; they take some hundred megabytes.
const SITUATIONS: usize = 1_000_000;

/// What came of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Linearizable,
    NotLinearizable,
    Undecided,
}

struct Request<'a> {
    what: &'a What,
    asked: usize,
    /// When it was answered, and what; `None` if the crash came first.
    answered: Option<(usize, &'a Answer)>,
}

/// Whether there is an order of all answered requests, and of any that were open, that leads from `before` to
/// `after`.
pub(super) fn search<'a>(
    moments: impl Iterator<Item = &'a Moment>,
    before: &Set,
    after: &Set,
    limits: Limits,
) -> Verdict {
    let mut requests: Vec<Request<'a>> = Vec::new();
    let mut of_client = std::collections::BTreeMap::new();
    for (place, moment) in moments.enumerate() {
        match moment {
            Moment::Asked { client, question, .. } => {
                of_client.insert(*client, requests.len());
                requests.push(Request { what: &question.what, asked: place, answered: None });
            }
            Moment::Answered { client, answer, .. } => {
                requests[of_client[client]].answered = Some((place, answer));
            }
        }
    }
    let taken = vec![false; requests.len()];
    let mut search = Search { requests, after, limits, seen: HashSet::new() };
    match search.goes_on(taken, before) {
        true => Verdict::Linearizable,
        false if search.seen.len() < SITUATIONS => Verdict::NotLinearizable,
        false => Verdict::Undecided,
    }
}

struct Search<'a> {
    requests: Vec<Request<'a>>,
    after: &'a Set,
    limits: Limits,
    seen: HashSet<(Vec<bool>, Set)>,
}

impl Search<'_> {
    /// Whether the rest can be taken in some order.
    fn goes_on(&mut self, mut taken: Vec<bool>, set: &Set) -> bool {
        // Taking one may be what another waits for.
        let idle = |taken: &[bool]| self.candidates(taken).into_iter().find(|it| self.is_idle(*it, set));
        while let Some(number) = idle(&taken) {
            taken[number] = true;
        }
        let is_left = |(request, taken): (&Request<'_>, &bool)| request.answered.is_some() && !taken;
        if set == self.after && !self.requests.iter().zip(&taken).any(is_left) {
            return true;
        }
        if set.latest >= self.after.latest
            || self.seen.len() >= SITUATIONS
            || !self.seen.insert((taken.clone(), set.clone()))
        {
            return false;
        }
        self.candidates(&taken).into_iter().any(|number| {
            let Request { what: What::Change(change), answered, .. } = &self.requests[number] else {
                return false;
            };
            let mut next = set.clone();
            let changed = Answer::Changed(next.apply(change, self.limits));
            let is_right = answered.is_none_or(|(_, answer)| *answer == changed);
            // An open request that changes nothing might as well not have happened.
            if !is_right || next == *set {
                return false;
            }
            let mut taken = taken.clone();
            taken[number] = true;
            self.goes_on(taken, &next)
        })
    }

    /// The requests that can come next: nobody who is not taken yet was answered before they were asked.
    fn candidates(&self, taken: &[bool]) -> Vec<usize> {
        let not_taken =
            self.requests.iter().zip(taken).filter(|(_, taken)| !**taken).map(|(request, _)| request);
        let until = not_taken.filter_map(|request| Some(request.answered?.0)).min().unwrap_or(usize::MAX);
        let asked_by_then = |(number, request): (usize, &Request<'_>)| {
            (!taken[number] && request.asked < until).then_some(number)
        };
        self.requests.iter().enumerate().filter_map(asked_by_then).collect()
    }

    /// Whether the request was answered as it would be now, and changes nothing.
    fn is_idle(&self, number: usize, set: &Set) -> bool {
        let Request { what, answered: Some((_, answer)), .. } = &self.requests[number] else { return false };
        match what {
            What::Change(change) => {
                let mut next = set.clone();
                Answer::Changed(next.apply(change, self.limits)) == **answer && next == *set
            }
            What::Pull(start) => Answer::Pulled(set.pull(*start, self.limits)) == **answer,
            What::Observe => false,
        }
    }
}
