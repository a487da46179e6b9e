//! Where a decision is written down while the rules run: changes, events with their numbers, debts.

use std::sync::Arc;

use crate::command::Command;
use crate::debt::{Debt, Task};
use crate::decide::{Decision, Outcome};
use crate::direct::Direct;
use crate::event::{Event, Happening};
use crate::group::{Counters, Group};
use crate::ids::{ConversationId, EventNumber, Incarnation, Timestamp};
use crate::limits::Limits;
use crate::outbox::{Gone, Outbox};
use crate::refusal::Refusal;
use crate::rows::{Change, Missing, Part, Row, RowKey, Rows, Typed};

pub(super) struct Ledger<'a> {
    pub(super) rows: Typed<'a>,
    pub(super) command: &'a Command,
    pub(super) limits: &'a Limits,
    changes: Vec<Change>,
    prompt_debts: Vec<Debt>,
}

/// An existing conversation that a command is about to change: a group unless it says otherwise.
pub(super) struct Opened<H = Arc<Group>> {
    pub(super) id: ConversationId,
    /// What the conversation's own row says.
    pub(super) home: H,
    pub(super) counters: Counters,
    /// What it has to tell by webhook.
    pub(super) outbox: OutboxState,
}

/// What a rule needs to know of a conversation's outbox before it writes an event.
#[derive(Clone)]
pub(super) enum OutboxState {
    /// Nobody is told by webhook.
    Off,
    /// Everything was told.
    Empty,
    /// Something is left to tell.
    Holds(Outbox),
}

impl OutboxState {
    /// Whether the outbox needs this event to be kept.
    fn needs(&self, number: u64) -> bool {
        matches!(self, Self::Holds(outbox) if number > outbox.after.get())
    }
}

/// The own row of a conversation.
pub(super) trait Home {
    /// Under which number everything else of the conversation is stored.
    fn incarnation(&self) -> Incarnation;

    /// What is left of it after its last event, for those who are told later.
    fn gone(&self, last: EventNumber) -> Option<Gone>;
}

impl Home for Arc<Group> {
    fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    fn gone(&self, last: EventNumber) -> Option<Gone> {
        Some(Gone { group: Self::clone(self), last })
    }
}

impl Home for Direct {
    fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Nothing destroys what two accounts said.
    fn gone(&self, _: EventNumber) -> Option<Gone> {
        None
    }
}

impl<H: Home> Opened<H> {
    pub(super) fn incarnation(&self) -> Incarnation {
        self.home.incarnation()
    }
}

impl<'a> Ledger<'a> {
    pub(super) fn new(rows: &'a dyn Rows, command: &'a Command, limits: &'a Limits) -> Self {
        Self { rows: Typed(rows), command, limits, changes: Vec::new(), prompt_debts: Vec::new() }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.command.at
    }

    pub(super) fn put(&mut self, key: RowKey, row: Row) {
        self.changes.push(Change { key, row: Some(row) });
    }

    pub(super) fn remove(&mut self, key: RowKey) {
        self.changes.push(Change { key, row: None });
    }

    /// The group and its counters, or the refusal for an unknown one (code 10010).
    pub(super) fn open(&self, id: &ConversationId) -> Result<Result<Opened, Refusal>, Missing> {
        let Some(group) = self.rows.group(id)? else {
            return Ok(Err(Refusal::NoSuchGroup));
        };
        let counters = self.rows.counters(group.incarnation)?.unwrap_or_default();
        let outbox = self.outbox(id, group.incarnation)?;
        Ok(Ok(Opened { id: id.clone(), home: group, counters, outbox }))
    }

    /// What this conversation has to tell by webhook.
    pub(super) fn outbox(
        &self,
        id: &ConversationId,
        incarnation: Incarnation,
    ) -> Result<OutboxState, Missing> {
        if !self.limits.tells_by_webhook(id.app) {
            return Ok(OutboxState::Off);
        }
        let outbox = self.rows.outbox((id, incarnation))?;
        Ok(outbox.map_or(OutboxState::Empty, OutboxState::Holds))
    }

    /// The outbox of a conversation that is being made.
    pub(super) fn new_outbox(&self, id: &ConversationId) -> OutboxState {
        if self.limits.tells_by_webhook(id.app) { OutboxState::Empty } else { OutboxState::Off }
    }

    /// Writes an event under the next number of the conversation, and drops the one that falls out of the
    /// retention by count. The caller must [`close`](Self::close) the conversation afterwards.
    pub(super) fn event(&mut self, opened: &mut Opened<impl Home>, what: Happening) -> EventNumber {
        let number = opened.counters.last_event.next();
        opened.counters.last_event = number;
        let incarnation = opened.incarnation();
        self.announce(opened, number, matches!(what, Happening::GroupDestroyed));
        let event = Event { number, at: self.command.at, operator: self.command.operator.clone(), what };
        self.put(RowKey::Event(incarnation, number), Row::Event(Arc::new(event)));
        let fallen_out = |kept: u64| number.get().checked_sub(kept).filter(|old| *old > 0);
        if let Some(old) = fallen_out(self.limits.events_kept).filter(|old| !opened.outbox.needs(*old)) {
            self.remove(RowKey::Event(incarnation, EventNumber::new(old)));
        }
        // What is not told yet is kept longer, but not for ever. Whoever tells finds that it is gone and says so.
        if let Some(old) = fallen_out(self.limits.most_untold()).filter(|old| opened.outbox.needs(*old)) {
            self.remove(RowKey::Event(incarnation, EventNumber::new(old)));
        }
        number
    }

    /// Sees to it that the event of this number will be told by webhook. Costs a row only if everything before it
    /// was told.
    fn announce(&mut self, opened: &mut Opened<impl Home>, number: EventNumber, is_last: bool) {
        let outbox = match &opened.outbox {
            OutboxState::Off => return,
            OutboxState::Holds(_) if !is_last => return,
            OutboxState::Holds(outbox) => outbox.clone(),
            OutboxState::Empty => {
                let after = EventNumber::new(number.get().saturating_sub(1));
                Outbox { after, since: self.now(), gone: None }
            }
        };
        let gone = if is_last { opened.home.gone(number) } else { None };
        let outbox = Outbox { gone, ..outbox };
        self.put(RowKey::Outbox(opened.id.clone(), opened.incarnation()), Row::Outbox(outbox.clone()));
        opened.outbox = OutboxState::Holds(outbox);
    }

    /// Writes the counters of the conversation back.
    pub(super) fn close(&mut self, opened: &Opened<impl Home>) {
        self.put(RowKey::Within(opened.incarnation(), Part::Counters), Row::Counters(opened.counters));
    }

    pub(super) fn owe(&mut self, due: Timestamp, task: Task) {
        let debt = Debt { due, task };
        if debt.task.is_prompt() {
            self.prompt_debts.push(debt.clone());
        }
        self.put(RowKey::Debt(debt), Row::Debt);
    }

    /// A refused command changes nothing, whatever the rule had written down before it came to the refusal.
    pub(super) fn finish(mut self, verdict: Result<Outcome, Refusal>) -> Decision {
        if verdict.is_err() {
            self.changes.clear();
            self.prompt_debts.clear();
        }
        Decision { verdict, changes: self.changes, prompt_debts: self.prompt_debts }
    }
}
