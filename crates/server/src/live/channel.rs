//! One life of a conversation that somebody follows by itself, and what is remembered of others.

use std::collections::HashMap;

use sidenote_core::ids::{AppId, EventNumber, Incarnation, UserId};

use super::mailbox::Mailbox;

/// Conversations of which is remembered what whoever follows an app was told; up to twice as many.
const REMEMBERED: usize = 32 * 1024;

/// A life of a conversation that somebody follows.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) incarnation: Incarnation,
    /// Every event after this one was or will be handed out here. `None` if nobody knows what was passed over before the
    /// channel was opened.
    since: Option<EventNumber>,
    /// The last event that was handed out; `None` before the first.
    pub(super) position: Option<EventNumber>,
    /// Members that are connected.
    pub(super) members: HashMap<UserId, Place>,
    /// Those who follow this conversation alone. What they need not hear they leave out themselves.
    pub(super) readers: Vec<Mailbox>,
}

/// A connected member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Where its mailboxes are.
    pub(super) listener: usize,
    /// It is a member since then, and hears what comes after it.
    pub(super) after: EventNumber,
    /// It may have left again before the place was made. It hears nothing until whoever holds this number has looked.
    pub(super) doubt: Option<u64>,
}

impl Channel {
    /// `position` is what was handed out last, if anybody remembers.
    pub(super) fn new(incarnation: Incarnation, position: Option<EventNumber>) -> Self {
        Self { incarnation, since: position, position, members: HashMap::new(), readers: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.readers.is_empty()
    }

    /// Every event after this one is still to be handed out here, or was.
    pub(super) const fn known(&self) -> Option<EventNumber> {
        self.since
    }

    /// Whether all that happens after this event is still to be handed out here.
    pub(super) fn has_all_after(&self, number: EventNumber) -> bool {
        self.since.is_some_and(|since| since <= number)
            && self.position.is_none_or(|position| position <= number)
    }

    /// Nothing after this event had happened at a time when the channel was open already.
    pub(super) fn knows_all_after(&mut self, number: EventNumber) {
        self.since = Some(self.since.map_or(number, |since| since.min(number)));
    }

    /// This event is handed out.
    pub(super) fn passes(&mut self, number: EventNumber) {
        self.knows_all_after(EventNumber::new(number.get().saturating_sub(1)));
        self.position = Some(number);
    }
}

/// The last events that were handed out of conversations that have no channel: bounded, and what was not used for the
/// longest time is forgotten. Then what is told next counts as following what was told before.
#[derive(Debug, Default)]
pub(super) struct Positions {
    newer: HashMap<Incarnation, (AppId, EventNumber)>,
    older: HashMap<Incarnation, (AppId, EventNumber)>,
}

impl Positions {
    pub(super) fn get(&self, incarnation: Incarnation) -> Option<EventNumber> {
        let found = self.newer.get(&incarnation).or_else(|| self.older.get(&incarnation));
        found.map(|(_, position)| *position)
    }

    pub(super) fn put(&mut self, app: AppId, incarnation: Incarnation, position: EventNumber) {
        if self.newer.len() >= REMEMBERED && !self.newer.contains_key(&incarnation) {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(incarnation, (app, position));
    }

    pub(super) fn remove(&mut self, incarnation: Incarnation) -> Option<EventNumber> {
        let found = [self.newer.remove(&incarnation), self.older.remove(&incarnation)];
        found.into_iter().flatten().next().map(|(_, position)| position)
    }

    /// Of this app nothing is handed out any more unless somebody asks for it.
    pub(super) fn forget(&mut self, app: AppId) {
        for positions in [&mut self.newer, &mut self.older] {
            positions.retain(|_, (of, _)| *of != app);
        }
    }
}

/// One-to-one conversations of which is remembered what an account was told; up to twice as many.
const STRETCHES: usize = 512;

/// The first and the last event that an account was told of its one-to-one conversations: bounded, and what was not told
/// of for the longest time is forgotten.
#[derive(Debug, Default)]
pub(super) struct Stretches {
    newer: HashMap<Incarnation, (EventNumber, EventNumber)>,
    older: HashMap<Incarnation, (EventNumber, EventNumber)>,
}

impl Stretches {
    pub(super) fn get(&self, incarnation: Incarnation) -> Option<(EventNumber, EventNumber)> {
        self.newer.get(&incarnation).or_else(|| self.older.get(&incarnation)).copied()
    }

    pub(super) fn remove(&mut self, incarnation: Incarnation) {
        self.newer.remove(&incarnation);
        self.older.remove(&incarnation);
    }

    pub(super) fn put(&mut self, incarnation: Incarnation, number: EventNumber) {
        let (first, last) = self.get(incarnation).unwrap_or((number, number));
        if self.newer.len() >= STRETCHES && !self.newer.contains_key(&incarnation) {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(incarnation, (first.min(number), last.max(number)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_long_is_forgotten_and_the_rest_remembered() {
        let (app, other) = (AppId::new(1), AppId::new(2));
        let mut positions = Positions::default();
        let number = |raw: usize| (Incarnation::from_random(raw as u64), EventNumber::new(raw as u64));
        for raw in 1..=4 * REMEMBERED {
            let (incarnation, position) = number(raw);
            positions.put(if raw % 2 == 0 { app } else { other }, incarnation, position);
            positions.put(app, Incarnation::from_random(0), position);
            assert!(positions.newer.len() <= REMEMBERED && positions.older.len() <= REMEMBERED);
        }
        let (newest, position) = number(4 * REMEMBERED);
        assert_eq!(positions.get(newest), Some(position));
        assert_eq!(positions.get(Incarnation::from_random(0)), Some(position), "it is used all the time");
        assert_eq!(positions.get(Incarnation::from_random(1)), None);
        positions.forget(app);
        assert_eq!(positions.get(newest), None);
        let (last, position) = number(4 * REMEMBERED - 1);
        assert_eq!((positions.remove(last), positions.remove(last)), (Some(position), None));
    }
}
