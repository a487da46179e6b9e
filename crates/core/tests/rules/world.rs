//! A world of rows in one map, with a group of ann and bob in it and messages in the group.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sidenote_core::command::{
    AccountAction, Action, Command, Extend, GroupAction, NewGroup, NewMember, NewMessage,
};
use sidenote_core::debt::{Debt, Task};
use sidenote_core::event::{CallerKind, Event, Happening, Operator, Platform};
use sidenote_core::extension::{ExtensionState, Pair};
use sidenote_core::group::{ApplyJoin, GroupProfile, GroupType, InviteJoin, Role};
use sidenote_core::ids::{
    AccountId, AppId, ConversationId, GroupId, Incarnation, MessageName, MsgSeq, Timestamp, TinyId, UserId,
};
use sidenote_core::message::{Fingerprint, MessageBody, Priority};
use sidenote_core::query::{Ask, NextReaped, Pull, PullPage, answer};
use sidenote_core::rows::{MessagePart, Missing, Part, Range, Row, RowKey, Rows};
use sidenote_core::{Decision, Limits, Outcome, Refusal, decide};

use crate::notation::{read_command, read_state, seq, write_answer, write_event, write_page, write_state};

pub(crate) const APP: AppId = AppId::new(1_400_000_001);

/// The message that commands without another one in their name change.
pub(crate) const POLL: u64 = 1;

/// A message that was sent without the flag.
pub(crate) const PLAIN: u64 = 2;

#[derive(Default)]
pub(crate) struct Map(pub(crate) BTreeMap<RowKey, Row>);

impl Rows for Map {
    fn row(&self, key: &RowKey) -> Result<Option<Row>, Missing> {
        Ok(self.0.get(key).cloned())
    }

    fn range(&self, range: &Range) -> Result<Vec<(RowKey, Row)>, Missing> {
        let after = |key: &RowKey| range.after.as_ref().is_none_or(|after| key > after);
        let rows = self.0.iter().filter(|(key, _)| range.span.contains(key) && after(key)).take(range.limit);
        Ok(rows.map(|(key, row)| (key.clone(), row.clone())).collect())
    }
}

/// Has nothing at hand at first, and after each run what was asked for: how a shell meets the rules.
struct Cold<'a> {
    rows: &'a Map,
    rows_loaded: RefCell<BTreeSet<RowKey>>,
    ranges_loaded: RefCell<BTreeSet<Range>>,
}

impl Rows for Cold<'_> {
    fn row(&self, key: &RowKey) -> Result<Option<Row>, Missing> {
        if self.rows_loaded.borrow_mut().insert(key.clone()) { Err(Missing) } else { self.rows.row(key) }
    }

    fn range(&self, range: &Range) -> Result<Vec<(RowKey, Row)>, Missing> {
        if self.ranges_loaded.borrow_mut().insert(range.clone()) {
            Err(Missing)
        } else {
            self.rows.range(range)
        }
    }
}

pub(crate) struct World {
    pub(crate) rows: Map,
    pub(crate) limits: Limits,
    pub(crate) now: Timestamp,
    drawn: u64,
}

impl World {
    /// The group of ann and bob, of type Public, with the two messages.
    pub(crate) fn new() -> Self {
        let mut world = Self::empty();
        world.found(GroupType::Public);
        world
    }

    pub(crate) fn empty() -> Self {
        let now = Timestamp::from_secs(1_700_000_000);
        Self { rows: Map::default(), limits: Limits::default(), now, drawn: 0 }
    }

    /// Makes the group, sends the messages.
    pub(crate) fn found(&mut self, kind: GroupType) {
        let create = self.creation(kind, &["ann", "bob"]);
        self.expect_done(create);
        for supports_extension in [true, false] {
            let message = self.message("ann", supports_extension);
            assert!(matches!(self.act(GroupAction::Send(Box::new(message))).verdict, Ok(Outcome::Sent(_))));
        }
    }

    pub(crate) fn creation(&mut self, kind: GroupType, members: &[&str]) -> GroupAction {
        self.drawn += 1;
        GroupAction::Create(Box::new(NewGroup {
            incarnation: Incarnation::from_random(self.drawn),
            kind,
            owner: None,
            profile: profile(),
            members: members.iter().map(|name| member(name)).collect(),
            created_at: self.now,
            imported: false,
        }))
    }

    pub(crate) fn message(&mut self, sender: &str, supports_extension: bool) -> NewMessage {
        self.drawn += 1;
        let random = u32::try_from(self.drawn).unwrap();
        NewMessage {
            sender: user(sender),
            sender_tiny_id: tiny_id(sender),
            sender_is_administrator: false,
            random,
            client_time: None,
            sent_at: None,
            priority: Priority::Normal,
            supports_extension,
            online_only: false,
            body: MessageBody { elements: "[]".to_owned(), ..MessageBody::default() },
            fingerprint: Fingerprint(u128::from(random).to_be_bytes()),
        }
    }

    pub(crate) fn expect_done(&mut self, action: GroupAction) {
        assert_eq!(self.act(action).verdict, Ok(Outcome::Done));
    }

    /// An administrator of the app does something to the group.
    pub(crate) fn act(&mut self, action: GroupAction) -> Decision {
        self.run(operator("admin"), Action::Group(group(), action))
    }

    pub(crate) fn act_on_account(&mut self, name: &str, action: AccountAction) -> Decision {
        self.run(operator("admin"), Action::Account(account(name), action))
    }

    pub(crate) fn pay(&mut self, debt: &Debt) -> Decision {
        let told = match &debt.task {
            Task::Reap(id, incarnation) => self.next_reaped(id, *incarnation),
            _ => Vec::new(),
        };
        self.pay_having_told(debt, told)
    }

    /// Whose accounts have to be told before the next part is paid.
    pub(crate) fn next_reaped(&self, id: &ConversationId, incarnation: Incarnation) -> Vec<UserId> {
        self.ask(NextReaped { id: id.clone(), incarnation })
    }

    pub(crate) fn pay_having_told(&mut self, debt: &Debt, told: Vec<UserId>) -> Decision {
        self.run(operator("server"), Action::Pay(debt.clone(), told))
    }

    pub(crate) fn extend(&mut self, who: &str, message: u64, extend: Extend) -> Result<String, Refusal> {
        let action = GroupAction::Extend(MsgSeq::new(message).unwrap(), extend);
        match self.run(operator(who), Action::Group(group(), action)).verdict? {
            Outcome::Extended(answer) => Ok(write_answer(&answer)),
            other => panic!("a change of a set is not answered by {other:?}"),
        }
    }

    /// A command in words, to the poll.
    pub(crate) fn say(&mut self, words: &str) -> String {
        let (who, command) = read_command(words);
        self.extend(who, POLL, command).unwrap_or_else(|refusal| format!("{refusal:?}"))
    }

    /// Decides, and commits what was decided.
    pub(crate) fn run(&mut self, operator: Operator, action: Action) -> Decision {
        let command = Command { operator, at: self.now, action };
        let decision = decide(&self.rows, &command, &self.limits).unwrap();
        assert_eq!(
            self.decide_cold(&command),
            decision,
            "the rule gives another decision when it is run again"
        );
        for change in &decision.changes {
            match &change.row {
                Some(row) => self.rows.0.insert(change.key.clone(), row.clone()),
                None => self.rows.0.remove(&change.key),
            };
        }
        decision
    }

    fn decide_cold(&self, command: &Command) -> Decision {
        let cold =
            Cold { rows: &self.rows, rows_loaded: RefCell::default(), ranges_loaded: RefCell::default() };
        loop {
            if let Ok(decision) = decide(&cold, command, &self.limits) {
                return decision;
            }
        }
    }

    /// Writes a state of the poll's set that the notation describes.
    pub(crate) fn given(&mut self, state: &str) {
        let (latest, clear, entries) = read_state(state);
        let dead = entries.iter().filter(|(_, entry)| entry.value().is_none()).count();
        let state = ExtensionState {
            latest,
            clear,
            live: u32::try_from(entries.len() - dead).unwrap(),
            tombstones: u32::try_from(dead).unwrap(),
            ..ExtensionState::default()
        };
        self.rows.0.insert(self.poll(MessagePart::Extension), Row::Extension(state));
        for (key, entry) in entries {
            self.rows.0.insert(self.poll(MessagePart::Pair(key)), Row::Pair(entry));
        }
    }

    /// The poll's set as it is stored. The counts of pairs and tombstones must be right at all times.
    pub(crate) fn state(&self) -> String {
        let state = match self.rows.0.get(&self.poll(MessagePart::Extension)) {
            Some(Row::Extension(state)) => *state,
            _ => ExtensionState::default(),
        };
        let entries = self.entries();
        let live = entries.iter().filter(|pair| pair.value.is_some()).count();
        assert_eq!(usize::try_from(state.live), Ok(live), "the count of live pairs");
        assert_eq!(usize::try_from(state.tombstones), Ok(entries.len() - live), "the count of tombstones");
        write_state(state.latest, state.clear, &entries)
    }

    /// All pairs and tombstones of the poll, by key.
    pub(crate) fn entries(&self) -> Vec<Pair> {
        let pairs = self.rows.0.iter().filter_map(|(row_key, row)| match (row_key, row) {
            (RowKey::Within(_, Part::Message(name, MessagePart::Pair(key))), Row::Pair(entry))
                if *name == poll() =>
            {
                Some(Pair::of(key.clone(), Some(entry)))
            }
            _ => None,
        });
        pairs.collect()
    }

    fn poll(&self, part: MessagePart) -> RowKey {
        RowKey::Within(self.incarnation(), Part::Message(poll(), part))
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        match self.rows.0.get(&RowKey::Conversation(group())) {
            Some(Row::Group(group)) => group.incarnation,
            other => panic!("there is no group but {other:?}"),
        }
    }

    /// Every event of every conversation, in order.
    pub(crate) fn events(&self) -> Vec<Arc<Event>> {
        let events = self.rows.0.values().filter_map(|row| match row {
            Row::Event(event) => Some(Arc::clone(event)),
            _ => None,
        });
        events.collect()
    }

    /// What was told of extension sets.
    pub(crate) fn told(&self) -> Vec<String> {
        let told = self.events().into_iter().filter_map(|event| match &event.what {
            Happening::Extension(change) => Some(write_event(change)),
            _ => None,
        });
        told.collect()
    }

    pub(crate) fn debts(&self) -> Vec<Debt> {
        let debts = self.rows.0.keys().filter_map(|key| match key {
            RowKey::Debt(debt) => Some(debt.clone()),
            _ => None,
        });
        debts.collect()
    }

    pub(crate) fn ask<Q: Ask>(&self, question: Q) -> Q::Answer {
        Q::from_answer(answer(&self.rows, &question.into_query(), &self.limits).unwrap()).unwrap()
    }

    pub(crate) fn try_pull(
        &self,
        who: &str,
        message: u64,
        start: u64,
        tombstones: bool,
    ) -> Result<PullPage, Refusal> {
        let (start, message) = (seq(start), MsgSeq::new(message).unwrap());
        self.ask(Pull { id: group(), seq: message, operator: operator(who), start, tombstones })
    }

    /// A page of the poll's set. Over REST tombstones come where a start is given (rule 3.8).
    pub(crate) fn pull(&self, start: u64) -> String {
        write_page(&self.try_pull("ann", POLL, start, start > 0).unwrap())
    }

    /// What somebody else gets without a start.
    pub(crate) fn pull_as(&self, who: &str) -> String {
        write_page(&self.try_pull(who, POLL, 0, false).unwrap())
    }

    /// The same over the long connection.
    pub(crate) fn pull_connected(&self, start: u64) -> String {
        write_page(&self.try_pull("connected ann", POLL, start, true).unwrap())
    }
}

/// Rows of a table: the set as it is, a command, its answer, the set afterwards.
pub(crate) fn table(rows: &[(&str, &str, &str, &str)]) {
    table_within(&Limits::default(), rows);
}

pub(crate) fn table_within(limits: &Limits, rows: &[(&str, &str, &str, &str)]) {
    for (given, command, answer, afterwards) in rows {
        let mut world = World::new();
        world.limits = *limits;
        world.given(given);
        let said = world.say(command);
        assert_eq!(said, *answer, "the answer to \"{command}\" of \"{given}\"");
        assert_eq!(world.state(), *afterwards, "the state after \"{command}\" of \"{given}\"");
    }
}

pub(crate) fn group() -> ConversationId {
    ConversationId::group(APP, lunch())
}

pub(crate) fn lunch() -> GroupId {
    GroupId::new("@TGS#1YMVAB3IZ").unwrap()
}

pub(crate) fn poll() -> MessageName {
    MessageName::Seq(MsgSeq::new(POLL).unwrap())
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(crate) fn account(name: &str) -> AccountId {
    AccountId { app: APP, user: user(name) }
}

/// Each name has one number, so that the tests need no table of them.
pub(crate) fn tiny_id(name: &str) -> TinyId {
    TinyId::from_random(name.bytes().fold(7, |sum, byte| sum * 131 + u64::from(byte)))
}

pub(crate) fn member(name: &str) -> NewMember {
    NewMember {
        user: user(name),
        tiny_id: tiny_id(name),
        role: Role::Member,
        joined_at: None,
        unread: 0,
        custom: Vec::new(),
    }
}

/// `admin` is an administrator of the app, `server` the server itself, `connected ann` is ann on the long
/// connection; everyone else calls over REST with a signature of their own.
pub(crate) fn operator(who: &str) -> Operator {
    let (name, kind) = match who {
        "admin" => ("admin", CallerKind::Administrator),
        "server" => ("server", CallerKind::Server),
        other => match other.strip_prefix("connected ") {
            Some(name) => (name, CallerKind::Connected),
            None => (other, CallerKind::Member),
        },
    };
    let is_account = matches!(kind, CallerKind::Member | CallerKind::Connected);
    let tiny_id = is_account.then(|| tiny_id(name));
    Operator { user: user(name), tiny_id, kind, platform: Platform::RestApi, address: None }
}

fn profile() -> GroupProfile {
    GroupProfile {
        name: "lunch".to_owned(),
        introduction: String::new(),
        notification: String::new(),
        face_url: String::new(),
        max_members: Some(200),
        apply_join: ApplyJoin::NeedPermission,
        invite_join: InviteJoin::FreeAccess,
        mute_all: false,
        history_before_join: true,
        custom: Vec::new(),
    }
}
