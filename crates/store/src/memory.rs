//! A volatile store: everything in one map behind one lock. For tests, and as the plainest reading of the trait.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use sidenote_core::command::Command;
use sidenote_core::ids::{AppId, ConversationId, EventNumber, GroupId, Incarnation, MsgKey, Recency};
use sidenote_core::query::{Answer, Query};
use sidenote_core::rows::{MessagePart, Missing, Part, Range, Row, RowKey, Rows, Span};
use sidenote_core::{Limits, decide, query};

use crate::news::{Follower, Gathered, Newsroom};
use crate::{Committed, Statistics, Store, StoreError};

/// A store that forgets everything when it is dropped. "Durable" here means "in the map".
#[derive(Debug)]
pub struct MemoryStore {
    limits: Limits,
    state: Mutex<State>,
    newsroom: Newsroom,
}

#[derive(Debug, Default)]
struct State {
    rows: Map,
    closed: bool,
    commits: u64,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default(), newsroom: Newsroom::default() }
    }

    /// The same rows under other limits, as after a restart with another configuration.
    #[must_use]
    pub fn copy_with(&self, limits: Limits) -> Self {
        let state = State { rows: self.lock().rows.clone(), ..State::default() };
        Self { limits, state: Mutex::new(state), newsroom: Newsroom::default() }
    }

    /// How many rows there are. Tests use it to see that nothing is left behind.
    pub fn row_count(&self) -> usize {
        self.lock().rows.0.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in a rule leaves the map as it was: changes are applied after the rule has run.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn commit(&self, command: Command) -> Result<Committed, StoreError> {
        let mut state = self.lock();
        if state.closed {
            return Err(StoreError::Closed);
        }
        let decision = decide(&state.rows, &command, &self.limits).expect("a map has every row at hand");
        let mut gathered = Gathered::default();
        gathered.add(&command, &decision.changes);
        for change in decision.changes {
            match change.row {
                Some(row) => state.rows.0.insert(change.key, row),
                None => state.rows.0.remove(&change.key),
            };
        }
        state.commits += 1;
        // Under the lock, so that news comes in the order of commits.
        self.newsroom.tell(&gathered);
        Ok(Committed { verdict: decision.verdict, prompt_debts: decision.prompt_debts })
    }

    async fn answer(&self, query: Query) -> Result<Answer, StoreError> {
        let state = self.lock();
        Ok(query::answer(&state.rows, &query, &self.limits).expect("a map has every row at hand"))
    }

    fn news(&self) -> Follower {
        self.newsroom.follow()
    }

    fn health(&self) -> Result<(), StoreError> {
        if self.lock().closed { Err(StoreError::Closed) } else { Ok(()) }
    }

    fn statistics(&self) -> Statistics {
        let commits = self.lock().commits;
        Statistics { commits, commands: commits, ..Statistics::default() }
    }

    async fn close(&self) {
        self.lock().closed = true;
    }
}

#[derive(Clone, Debug, Default)]
struct Map(BTreeMap<RowKey, Row>);

impl Rows for Map {
    fn row(&self, key: &RowKey) -> Result<Option<Row>, Missing> {
        Ok(self.0.get(key).cloned())
    }

    fn range(&self, range: &Range) -> Result<Vec<(RowKey, Row)>, Missing> {
        let start = match &range.after {
            Some(after) => Bound::Excluded((**after).clone()),
            None => start_of(&range.span),
        };
        let rows = self
            .0
            .range((start, Bound::Unbounded))
            .skip_while(|(key, _)| !range.span.contains(key))
            .take_while(|(key, _)| range.span.contains(key))
            .take(range.limit);
        Ok(rows.map(|(key, row)| (key.clone(), row.clone())).collect())
    }
}

const FIRST: Incarnation = Incarnation::from_random(0);

/// A conversation that sorts before or with the first one of an app: no GroupId is shorter, and none sorts lower.
fn first_of(app: AppId) -> ConversationId {
    ConversationId::group(app, GroupId::new(" ").expect("a space is printable"))
}

/// A bound at or shortly before the first row of a span.
fn start_of(span: &Span) -> Bound<RowKey> {
    match span {
        Span::Memberships(account) => Bound::Excluded(RowKey::Account(account.clone())),
        Span::Members(incarnation) | Span::Within(incarnation) => {
            Bound::Included(RowKey::Within(*incarnation, Part::Counters))
        }
        Span::Pairs(incarnation, message) => {
            Bound::Excluded(RowKey::Within(*incarnation, Part::Message(*message, MessagePart::Extension)))
        }
        Span::Recent(incarnation) => {
            let newest = MsgKey { seq: u32::MAX, random: u32::MAX, time: u64::MAX };
            Bound::Included(RowKey::Within(*incarnation, Part::Recent(Recency::of(newest))))
        }
        Span::Events(incarnation) => Bound::Included(RowKey::Event(*incarnation, EventNumber::START)),
        Span::Debts(_) => {
            Bound::Excluded(RowKey::Event(Incarnation::from_random(u64::MAX), EventNumber::new(u64::MAX)))
        }
        Span::Outboxes(app) => Bound::Included(RowKey::Outbox(first_of(*app), FIRST)),
        Span::OutboxesOf(id) => Bound::Included(RowKey::Outbox(id.clone(), FIRST)),
        Span::DeadLetters(app) => {
            Bound::Included(RowKey::DeadLetter(first_of(*app), FIRST, EventNumber::START))
        }
        Span::DeadLettersOf(id, incarnation) => {
            Bound::Included(RowKey::DeadLetter(id.clone(), *incarnation, EventNumber::START))
        }
    }
}
