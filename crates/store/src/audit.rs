//! Does a store hold what it must? A fold over all of its rows that knows the invariants which the rules keep.
//!
//! It is told every row once, in the order of [`Position`], and says what is wrong and where. It shares no code with
//! the rules: what `decide` maintains is counted again here. It names keys, never values.
//!
//! Memory: about 200 bytes for each group, 32 for each send of the last minutes, and, one conversation at a time, what
//! its kept events tell. Messages and pairs cost none, however many there are.

mod events;
mod finding;
mod life;
mod message;
mod owed;
mod position;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};

use sidenote_core::direct::Direct;
use sidenote_core::group::Group;
use sidenote_core::ids::{Conversation, ConversationId, GroupId, Incarnation, UserId};
use sidenote_core::outbox::Outbox;
use sidenote_core::rows::{MessagePart, Part, Row, RowKey};

pub use finding::{Finding, Place, Weight};
pub use position::Position;

use life::Life;
use owed::Owed;

/// Live pairs that no configuration allows a message to exceed (`limits.pairs_per_message`, rule 3.7).
pub const MAX_LIVE_PAIRS: u32 = 10_000;

/// Tombstones that no configuration allows a message to keep (`limits.tombstones_per_message`, rule 3.7).
pub const MAX_TOMBSTONES: u32 = 100_000;

/// How many rows of which kind there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rows of any kind.
    pub rows: u64,
    /// Accounts.
    pub accounts: u64,
    /// Groups that exist.
    pub groups: u64,
    /// One-to-one conversations.
    pub directs: u64,
    /// Members of groups.
    pub members: u64,
    /// Messages, recalled ones included.
    pub messages: u64,
    /// Messages on which somebody set, deleted or cleared something.
    pub sets: u64,
    /// Live pairs.
    pub pairs: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// Events.
    pub events: u64,
    /// Debts: work that is owed.
    pub debts: u64,
    /// Incarnations of conversations with events that are to be told by webhook.
    pub outboxes: u64,
    /// Dead letters: events that could not be told.
    pub dead_letters: u64,
}

/// The check. Rows go in by [`row`](Self::row), findings come out by [`take`](Self::take), the rest by
/// [`finish`](Self::finish).
#[derive(Debug, Default)]
pub struct Audit {
    owed: Owed,
    lines: HashMap<Incarnation, Tally>,
    conversations: HashMap<Incarnation, Known>,
    /// Conversations were compared with what is owed, which happens once all of both are known.
    compared: bool,
    life: Option<Life>,
    totals: Totals,
    findings: Vec<Finding>,
}

/// A conversation that exists, as far as its other rows depend on it.
#[derive(Clone, Debug)]
struct Known {
    id: ConversationId,
    owner: Option<UserId>,
    /// Some row was met under its incarnation.
    met: bool,
}

impl Known {
    const fn is_direct(&self) -> bool {
        matches!(self.id.conversation, Conversation::Direct(..))
    }

    /// What is said of one that lacks its counters.
    const fn lacks_counters(&self) -> &'static str {
        if self.is_direct() { "the conversation has no counters" } else { "the group has no counters" }
    }
}

/// How many names there are, and a sum that is the same for the same names in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    count: u64,
    sum: u64,
}

impl Tally {
    fn add(&mut self, name: &impl Hash) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(digest(name));
    }
}

/// 64 bits that tell different things apart; the same within one process.
fn digest(it: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    it.hash(&mut hasher);
    hasher.finish()
}

impl Audit {
    /// A check that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next row, in the order of [`Position`].
    pub fn row(&mut self, key: &RowKey, row: &Row) {
        self.count(key, row);
        match (key, row) {
            (RowKey::Debt(debt), Row::Debt) => self.owed.note(debt),
            (RowKey::Account(_), Row::Account(_)) => {}
            (RowKey::Membership(account, group, incarnation), Row::Membership(_)) => {
                let id = ConversationId::group(account.app, GroupId::clone(group));
                self.lines.entry(*incarnation).or_default().add(&(&id, &account.user));
            }
            (RowKey::Conversation(id), Row::Group(group)) => self.group(id, group),
            (RowKey::Conversation(id), Row::Direct(direct)) => self.direct(id, direct),
            (RowKey::Within(incarnation, part), row) if is_kind_of(part, row) => {
                let (owed, life) = self.life(*incarnation);
                life.within(part, row, owed);
                self.collect();
            }
            (RowKey::Event(incarnation, number), Row::Event(event)) => {
                self.life(*incarnation).1.event(*number, event);
                self.collect();
            }
            (RowKey::Outbox(id, incarnation), Row::Outbox(outbox)) => {
                self.outbox(id, *incarnation, outbox, Place::of(key));
            }
            (RowKey::DeadLetter(_, _, number), Row::DeadLetter(letter)) => {
                if letter.first > *number {
                    self.damage(Place::of(key), "stands for events that come after the last of them");
                }
            }
            _ => self.damage(Place::of(key), "the row is of another kind than its key says"),
        }
    }

    /// Takes note of bytes that are no row: `key`, if at least that could be read, and why not.
    pub fn unreadable(&mut self, key: Option<&RowKey>, reason: &str) {
        self.totals.rows += 1;
        let mut place = key.map(Place::of).unwrap_or_default();
        if let Some(RowKey::Within(incarnation, _) | RowKey::Event(incarnation, _)) = key {
            place = self.life(*incarnation).1.named(place);
        }
        self.damage(place, format!("cannot be read: {reason}"));
    }

    /// What was found since the last call.
    pub fn take(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    /// How many rows were seen so far.
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// After the last row: what only shows then, and the counts.
    pub fn finish(mut self) -> (Totals, Vec<Finding>) {
        self.compare();
        self.end_life();
        let mut bare: Vec<_> = self.conversations.values().filter(|known| !known.met).cloned().collect();
        bare.sort_by(|one, other| one.id.cmp(&other.id));
        for known in bare {
            let what = known.lacks_counters();
            self.damage(Place::of(&RowKey::Conversation(known.id)), what);
        }
        let nowhere: u64 = self.lines.values().map(|tally| tally.count).sum();
        if nowhere > 0 {
            self.findings.push(Finding {
                weight: Weight::Remark,
                place: Place::default(),
                what: format!("{nowhere} lines of accounts' lists of groups lead to groups that are gone"),
            });
        }
        (self.totals, self.findings)
    }

    /// What is left to tell belongs to a conversation that exists, or says what the group was like.
    fn outbox(&mut self, id: &ConversationId, incarnation: Incarnation, outbox: &Outbox, place: Place) {
        let lives = self.conversations.get(&incarnation).is_some_and(|known| known.id == *id);
        // What accounts of the same names said before is told to its end, whoever has the names now.
        let is_told_on = matches!(id.conversation, Conversation::Direct(..));
        match &outbox.gone {
            None if is_told_on => {}
            None if !lives => {
                self.damage(place, "has something to tell of a conversation that does not exist");
            }
            Some(_) if lives => self.damage(place, "says that a group is gone that exists"),
            Some(gone) if outbox.after >= gone.last => {
                self.damage(place, "has nothing left to tell but is still there");
            }
            _ => {}
        }
    }

    fn group(&mut self, id: &ConversationId, group: &Group) {
        if !matches!(id.conversation, Conversation::Group(_)) {
            self.damage(
                Place::of(&RowKey::Conversation(id.clone())),
                "a one-to-one conversation has a group's row",
            );
        }
        self.conversation(id, group.incarnation, group.owner.clone());
    }

    fn direct(&mut self, id: &ConversationId, direct: &Direct) {
        let place = || Place::of(&RowKey::Conversation(id.clone()));
        let [one, other] = direct.tiny_ids;
        match &id.conversation {
            Conversation::Group(_) => {
                self.damage(place(), "a group has the row of a one-to-one conversation");
            }
            Conversation::Direct(first, second) if (first == second) != (one == other) => {
                self.damage(place(), "has the numbers of other accounts than its own");
            }
            Conversation::Direct(..) => {}
        }
        self.conversation(id, direct.incarnation, None);
    }

    fn conversation(&mut self, id: &ConversationId, incarnation: Incarnation, owner: Option<UserId>) {
        let known = Known { id: id.clone(), owner, met: false };
        if let Some(other) = self.conversations.insert(incarnation, known) {
            let what =
                format!("has the same incarnation number as {}", Place::of(&RowKey::Conversation(other.id)));
            self.damage(Place::of(&RowKey::Conversation(id.clone())), what);
        }
    }

    /// The life that rows of this incarnation belong to.
    fn life(&mut self, incarnation: Incarnation) -> (&Owed, &mut Life) {
        self.compare();
        if self.life.as_ref().is_some_and(|life| life.incarnation() != incarnation) {
            self.end_life();
        }
        let life = self.life.get_or_insert_with(|| {
            let known = self.conversations.get_mut(&incarnation).map(|known| {
                known.met = true;
                known.clone()
            });
            Life::new(incarnation, known)
        });
        (&self.owed, life)
    }

    fn collect(&mut self) {
        if let Some(life) = &mut self.life {
            self.findings.append(&mut life.findings);
        }
    }

    fn end_life(&mut self) {
        if let Some(life) = self.life.take() {
            let lines = self.lines.remove(&life.incarnation()).unwrap_or_default();
            self.findings.append(&mut life.finish(&self.owed, lines));
        }
    }

    /// What is owed against the groups that exist.
    fn compare(&mut self) {
        if self.compared {
            return;
        }
        self.compared = true;
        self.owed.compare(&self.conversations, &mut self.findings);
    }

    fn damage(&mut self, place: Place, what: impl Into<String>) {
        self.findings.push(Finding { weight: Weight::Damage, place, what: what.into() });
    }

    fn count(&mut self, key: &RowKey, row: &Row) {
        let totals = &mut self.totals;
        totals.rows += 1;
        match (key, row) {
            (RowKey::Account(_), _) => totals.accounts += 1,
            (RowKey::Conversation(_), Row::Direct(_)) => totals.directs += 1,
            (RowKey::Conversation(_), _) => totals.groups += 1,
            (RowKey::Event(..), _) => totals.events += 1,
            (RowKey::Debt(_), _) => totals.debts += 1,
            (RowKey::Outbox(..), _) => totals.outboxes += 1,
            (RowKey::DeadLetter(..), _) => totals.dead_letters += 1,
            (RowKey::Within(_, Part::Member(_)), _) => totals.members += 1,
            (RowKey::Within(_, Part::Message(_, MessagePart::Header)), _) => totals.messages += 1,
            (RowKey::Within(_, Part::Message(_, MessagePart::Extension)), _) => totals.sets += 1,
            (RowKey::Within(_, Part::Message(_, MessagePart::Pair(_))), Row::Pair(entry)) => {
                if entry.value().is_some() {
                    totals.pairs += 1;
                } else {
                    totals.tombstones += 1;
                }
            }
            _ => {}
        }
    }
}

fn is_kind_of(part: &Part, row: &Row) -> bool {
    matches!(
        (part, row),
        (Part::Counters, Row::Counters(_))
            | (Part::Member(_), Row::Member(_))
            | (Part::Repeat(_), Row::Repeat(_))
            | (Part::Message(_, MessagePart::Header), Row::Message(_))
            | (Part::Message(_, MessagePart::Body), Row::Body(_))
            | (Part::Message(_, MessagePart::Extension), Row::Extension(_))
            | (Part::Message(_, MessagePart::Pair(_)), Row::Pair(_))
            | (Part::Recent(_), Row::Recent)
    )
}
