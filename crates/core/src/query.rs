//! Questions, and the rules by which they are answered. Like [`decide`](mod@crate::decide), pure functions over rows.

mod outbox;

use std::sync::Arc;

use crate::account::{Account, Membership};
use crate::debt::Debt;
use crate::decide::{direct_extension_admission as admit_direct, extension_admission as admit, find_direct};
use crate::direct::{Direct, Peers};
use crate::event::{Event, Operator};
use crate::extension::Seq;
use crate::group::{Counters, GroupView, Member};
use crate::ids::{
    AccountId, ConversationId, EventNumber, GroupId, Incarnation, MessageName, MsgKey, MsgSeq, Recency,
    Timestamp, UserId,
};
use crate::limits::Limits;
use crate::message::{Message, MessageBody, StoredDirectMessage, StoredMessage};
use crate::outbox::Outbox;
pub use crate::pairs::{PullPage, Rendering};
use crate::refusal::Refusal;
use crate::rows::{Missing, Part, Range, Row, RowKey, Rows, Span, Typed};
pub use outbox::{DeadLetterAt, DeadLetters, Outboxes};

/// An answer or a refusal, or that it needs more rows.
type Asked<T> = Result<Result<T, Refusal>, Missing>;

/// A question that knows the type of its answer.
pub trait Ask: Sized {
    /// What comes back.
    type Answer;

    /// The question as a store takes it.
    fn into_query(self) -> Query;

    /// Takes the answer out; `None` if it answers another question.
    fn from_answer(answer: Answer) -> Option<Self::Answer>;
}

macro_rules! questions {
    ($($(#[$doc:meta])* $name:ident => $answer:ty;)*) => {
        /// A question to a store. Each is answered as of one instant.
        #[derive(Clone, Debug)]
        pub enum Query { $($(#[$doc])* $name($name),)* }

        /// The answer to the [`Query`] of the same name.
        #[derive(Clone, Debug)]
        pub enum Answer { $($(#[$doc])* $name($answer),)* }

        $(impl Ask for $name {
            type Answer = $answer;

            fn into_query(self) -> Query {
                Query::$name(self)
            }

            fn from_answer(answer: Answer) -> Option<Self::Answer> {
                match answer {
                    Answer::$name(answer) => Some(answer),
                    _ => None,
                }
            }
        })*

        /// Answers a question from the rows of one instant. Pure.
        pub fn answer(rows: &dyn Rows, query: &Query, limits: &Limits) -> Result<Answer, Missing> {
            let rows = Typed(rows);
            Ok(match query { $(Query::$name(query) => Answer::$name(query.answer(&rows, limits)?),)* })
        }
    };
}

questions! {
    /// Accounts.
    Accounts => Vec<Option<Arc<Account>>>;
    /// A group's description and counters.
    DescribeGroup => Option<GroupView>;
    /// Members of a group.
    ListMembers => Result<Vec<(UserId, Arc<Member>)>, Refusal>;
    /// Some accounts' places in a group.
    FindMembers => Result<Vec<Option<Arc<Member>>>, Refusal>;
    /// The groups of an account.
    JoinedGroups => JoinedPage;
    /// History.
    History => Result<HistoryPage, Refusal>;
    /// Pairs of a message.
    Pull => Result<PullPage, Refusal>;
    /// Events of a conversation.
    Events => EventPage;
    /// A one-to-one conversation and its counters.
    DescribeDirect => Option<DirectView>;
    /// History of a one-to-one conversation.
    DirectHistory => Result<DirectPage, Refusal>;
    /// Pairs of a one-to-one message.
    DirectPull => Result<PullPage, Refusal>;
    /// Work that is due.
    DueDebts => Vec<Debt>;
    /// What is left to tell by webhook.
    Outboxes => Vec<(ConversationId, Incarnation, Outbox)>;
    /// What could not be told by webhook.
    DeadLetters => Vec<DeadLetterAt>;
    /// A message.
    FindMessage => Option<FoundMessage>;
    /// Members among the rows that the next part of a [`Task::Reap`](crate::debt::Task::Reap) may remove.
    NextReaped => Vec<UserId>;
}

impl Query {
    /// Who asks, where the answer depends on it.
    pub fn operator_mut(&mut self) -> Option<&mut Operator> {
        match self {
            Self::Pull(asked) => Some(&mut asked.operator),
            Self::DirectPull(asked) => Some(&mut asked.operator),
            Self::DirectHistory(asked) => Some(&mut asked.operator),
            _ => None,
        }
    }
}

/// Asks for accounts; answered in the same order, `None` for one that does not exist.
#[derive(Clone, Debug)]
pub struct Accounts {
    /// Which. The caller bounds how many.
    pub ids: Vec<AccountId>,
}

impl Accounts {
    fn answer(&self, rows: &Typed<'_>, _: &Limits) -> Result<Vec<Option<Arc<Account>>>, Missing> {
        self.ids.iter().map(|id| rows.account(id)).collect()
    }
}

/// Asks for a group's description and counters.
#[derive(Clone, Debug)]
pub struct DescribeGroup {
    /// Which.
    pub id: ConversationId,
}

impl DescribeGroup {
    fn answer(&self, rows: &Typed<'_>, _: &Limits) -> Result<Option<GroupView>, Missing> {
        describe(rows, &self.id)
    }
}

/// Asks for the members of a group, by name. Bounded by the group's capacity.
#[derive(Clone, Debug)]
pub struct ListMembers {
    /// Of which group.
    pub id: ConversationId,
}

impl ListMembers {
    fn answer(&self, rows: &Typed<'_>, _: &Limits) -> Asked<Vec<(UserId, Arc<Member>)>> {
        let Some(group) = rows.group(&self.id)? else { return Ok(Err(Refusal::NoSuchGroup)) };
        let range = Range { span: Span::Members(group.incarnation), after: None, limit: usize::MAX };
        let members = rows.0.range(&range)?.into_iter().filter_map(|(key, row)| match (key, row) {
            (RowKey::Within(_, Part::Member(user)), Row::Member(member)) => Some((user, member)),
            _ => None,
        });
        Ok(Ok(members.collect()))
    }
}

/// Asks for some accounts' places in a group; answered in the same order, `None` for one who is no member.
#[derive(Clone, Debug)]
pub struct FindMembers {
    /// In which group.
    pub id: ConversationId,
    /// Whom.
    pub users: Vec<UserId>,
}

impl FindMembers {
    fn answer(&self, rows: &Typed<'_>, _: &Limits) -> Asked<Vec<Option<Arc<Member>>>> {
        let Some(group) = rows.group(&self.id)? else { return Ok(Err(Refusal::NoSuchGroup)) };
        self.users.iter().map(|user| rows.member((group.incarnation, user))).collect::<Result<_, _>>().map(Ok)
    }
}

/// Asks for a page of an account's groups, by name.
#[derive(Clone, Debug)]
pub struct JoinedGroups {
    /// Whose.
    pub account: AccountId,
    /// Where to go on.
    pub after: Option<(GroupId, Incarnation)>,
    /// At most so many.
    pub limit: usize,
}

/// A page of an account's groups.
#[derive(Clone, Debug)]
pub struct JoinedPage {
    /// The groups that the account really is in, with its place there.
    pub groups: Vec<(GroupId, GroupView, Arc<Member>)>,
    /// Every line of the list that was looked at, also of groups that are gone.
    pub lines: Vec<(GroupId, Incarnation, Membership)>,
    /// Where to go on; `None` if this was all.
    pub next: Option<(GroupId, Incarnation)>,
}

impl JoinedGroups {
    fn answer(&self, rows: &Typed<'_>, _: &Limits) -> Result<JoinedPage, Missing> {
        let after = self.after.clone().map(|(group, incarnation)| {
            Box::new(RowKey::Membership(self.account.clone(), group, incarnation))
        });
        let range = Range { span: Span::Memberships(self.account.clone()), after, limit: self.limit };
        let lines: Vec<_> = rows
            .0
            .range(&range)?
            .into_iter()
            .filter_map(|(key, row)| match (key, row) {
                (RowKey::Membership(_, group, incarnation), Row::Membership(line)) => {
                    Some((group, incarnation, line))
                }
                _ => None,
            })
            .collect();
        let next = lines
            .last()
            .filter(|_| lines.len() >= self.limit)
            .map(|(group, incarnation, _)| (group.clone(), *incarnation));
        let account = rows.account(&self.account)?;
        let mut groups = Vec::new();
        for (group, incarnation, _) in &lines {
            let id = ConversationId::group(self.account.app, group.clone());
            let Some(view) = describe(rows, &id)?.filter(|view| view.group.incarnation == *incarnation)
            else {
                continue;
            };
            let member = rows.member((*incarnation, &self.account.user))?;
            if let Some(member) = member
                && account.as_ref().is_some_and(|account| account.tiny_id == member.tiny_id)
            {
                groups.push((group.clone(), view, member));
            }
        }
        Ok(JoinedPage { groups, lines, next })
    }
}

/// Asks for messages, newest first.
#[derive(Clone, Debug)]
pub struct History {
    /// Of which group.
    pub id: ConversationId,
    /// The largest number wanted; `None`: the newest.
    pub up_to: Option<u64>,
    /// How many numbers to look at.
    pub count: u64,
}

/// A stretch of history.
#[derive(Clone, Debug)]
pub struct HistoryPage {
    /// The messages of the numbers that were looked at, newest first, recalled ones included.
    pub messages: Vec<StoredMessage>,
    /// The largest number looked at; 0 if there was none.
    pub newest: u64,
}

impl History {
    fn answer(&self, rows: &Typed<'_>, _: &Limits) -> Asked<HistoryPage> {
        let Some(view) = describe(rows, &self.id)? else { return Ok(Err(Refusal::NoSuchGroup)) };
        if view.group.kind == crate::group::GroupType::AvChatRoom {
            return Ok(Err(Refusal::TypeForbidsCommand));
        }
        let last = view.counters.last_msg_seq;
        let newest = self.up_to.unwrap_or(last).min(last);
        let mut messages = Vec::new();
        for number in (1..=newest).rev().take(usize::try_from(self.count).unwrap_or(usize::MAX)) {
            let Ok(seq) = MsgSeq::new(number) else { continue };
            let at = (view.group.incarnation, MessageName::Seq(seq));
            if let Some(message) = rows.message(at)? {
                messages.push(StoredMessage { seq, message, body: rows.body(at)? });
            }
        }
        Ok(Ok(HistoryPage { messages, newest }))
    }
}

/// Asks for the pairs of a message (rules 3.8 and 3.9).
#[derive(Clone, Debug)]
pub struct Pull {
    /// In which group.
    pub id: ConversationId,
    /// Of which message.
    pub seq: MsgSeq,
    /// Who asks: the same rules as for a change decide whether it may (rule 3.12).
    pub operator: Operator,
    /// Only pairs with this Seq or a later one.
    pub start: Seq,
    /// Whether tombstones come too.
    pub tombstones: bool,
}

impl Pull {
    fn answer(&self, rows: &Typed<'_>, limits: &Limits) -> Asked<PullPage> {
        let Some(group) = rows.group(&self.id)? else { return Ok(Err(Refusal::NoSuchGroup)) };
        let name = MessageName::Seq(self.seq);
        if let Err(refusal) = admit(rows, limits, &group, &self.operator, name)? {
            return Ok(Err(refusal));
        }
        page(rows, limits, (group.incarnation, name), self.start, self.tombstones).map(Ok)
    }
}

/// A page of a set that may be read (rules 3.8 and 3.9).
fn page(
    rows: &Typed<'_>,
    limits: &Limits,
    of: (Incarnation, MessageName),
    start: Seq,
    tombstones: bool,
) -> Result<PullPage, Missing> {
    let state = rows.extension(of)?.unwrap_or_default();
    let is_empty = state.live == 0 && state.tombstones == 0;
    let pairs = if is_empty { Arc::default() } else { rows.0.pairs(of.0, of.1)? };
    Ok(pairs.page(&state, start, tombstones, limits.pairs_per_pull))
}

/// Asks for events of one incarnation of a conversation, in order.
#[derive(Clone, Debug)]
pub struct Events {
    /// Of which conversation. A store that is spread over several machines finds the right one by it.
    pub id: ConversationId,
    /// Of which of its lives.
    pub incarnation: Incarnation,
    /// Only those after this one.
    pub after: EventNumber,
    /// At most so many.
    pub limit: usize,
}

/// A run of events.
#[derive(Clone, Debug)]
pub struct EventPage {
    /// The events, without gaps among them.
    pub events: Vec<Arc<Event>>,
    /// True if events right after the cursor are no longer kept: the reader has to start over from the state.
    pub cursor_too_old: bool,
    /// True if the page ends where the next events are no longer kept, although later ones are. The page after it has
    /// a cursor that is too old.
    pub ends_at_gap: bool,
}

impl Events {
    fn answer(&self, rows: &Typed<'_>, _: &Limits) -> Result<EventPage, Missing> {
        let after = Some(Box::new(RowKey::Event(self.incarnation, self.after)));
        let range = Range { span: Span::Events(self.incarnation), after, limit: self.limit };
        let mut events: Vec<_> = rows
            .0
            .range(&range)?
            .into_iter()
            .filter_map(|(_, row)| match row {
                Row::Event(event) => Some(event),
                _ => None,
            })
            .collect();
        let cursor_too_old = match events.first() {
            Some(first) => first.number != self.after.next(),
            None => rows.counters(self.incarnation)?.is_some_and(|counters| counters.last_event > self.after),
        };
        // Where the bounds of what is kept were changed, old events may be left on the far side of a gap.
        let gap = events.windows(2).position(|pair| pair[1].number != pair[0].number.next());
        if let Some(before) = gap {
            events.truncate(before + 1);
        }
        Ok(EventPage { events, cursor_too_old, ends_at_gap: gap.is_some() })
    }
}

/// Asks for a one-to-one conversation and its counters, whoever its accounts are now.
#[derive(Clone, Debug)]
pub struct DescribeDirect {
    /// Which.
    pub id: ConversationId,
}

/// A one-to-one conversation with its counters, as of one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectView {
    /// Its row.
    pub direct: Direct,
    /// Its counters: `last_msg_seq` is how many messages there were, `last_msg_at` the latest second in a key.
    pub counters: Counters,
}

impl DescribeDirect {
    fn answer(&self, rows: &Typed<'_>, _: &Limits) -> Result<Option<DirectView>, Missing> {
        let Some(direct) = rows.direct(&self.id)? else { return Ok(None) };
        let counters = rows.counters(direct.incarnation)?.unwrap_or_default();
        Ok(Some(DirectView { direct, counters }))
    }
}

/// Asks for messages between two accounts, newest first, of a stretch of time.
#[derive(Clone, Debug)]
pub struct DirectHistory {
    /// Whose.
    pub peers: Peers,
    /// Who asks: one of the two, or an administrator.
    pub operator: Operator,
    /// Only messages of this second or later, by the time in their keys.
    pub from: u64,
    /// Only messages of this second or earlier.
    pub to: u64,
    /// Only messages that come after this one, that is, older ones. It need not exist.
    pub after: Option<MsgKey>,
    /// At most so many.
    pub limit: usize,
}

/// A stretch of the history of a one-to-one conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectPage {
    /// The messages, newest first, recalled ones included.
    pub messages: Vec<StoredDirectMessage>,
    /// Whether these were all that was asked for, but for the limit.
    pub complete: bool,
}

impl DirectHistory {
    /// The place after which it looks: the newest come first, so of the two the later one counts.
    pub fn start(&self) -> Recency {
        self.after.map(Recency::of).into_iter().fold(Recency::before_second(self.to), Recency::max)
    }

    fn answer(&self, rows: &Typed<'_>, _: &Limits) -> Asked<DirectPage> {
        if !self.peers.admit(&self.operator) {
            return Ok(Err(Refusal::NotAParty));
        }
        let Some(direct) = find_direct(rows, &self.peers)? else {
            return Ok(Ok(DirectPage { messages: Vec::new(), complete: true }));
        };
        let incarnation = direct.incarnation;
        let after = Some(Box::new(RowKey::Within(incarnation, Part::Recent(self.start()))));
        let limit = self.limit.saturating_add(1);
        let range = Range { span: Span::Recent(incarnation), after, limit };
        let mut keys = rows.0.range(&range)?.into_iter().filter_map(|(key, _)| match key {
            RowKey::Within(_, Part::Recent(place)) => {
                Some(place.key()).filter(|key| (self.from..=self.to).contains(&key.time))
            }
            _ => None,
        });
        let mut messages = Vec::new();
        for key in keys.by_ref().take(self.limit) {
            let at = (incarnation, MessageName::Key(key));
            if let Some(message) = rows.message(at)? {
                messages.push(StoredDirectMessage { key, message, body: rows.body(at)? });
            }
        }
        Ok(Ok(DirectPage { messages, complete: keys.next().is_none() }))
    }
}

/// Asks for the pairs of a one-to-one message (rules 3.8 and 3.9).
#[derive(Clone, Debug)]
pub struct DirectPull {
    /// Who sent the message to whom.
    pub peers: Peers,
    /// Which message.
    pub key: MsgKey,
    /// Who asks: one of the two, or an administrator.
    pub operator: Operator,
    /// Only pairs with this Seq or a later one.
    pub start: Seq,
    /// Whether tombstones come too.
    pub tombstones: bool,
}

impl DirectPull {
    fn answer(&self, rows: &Typed<'_>, limits: &Limits) -> Asked<PullPage> {
        let admitted = admit_direct(rows, &self.operator, &self.peers, self.key)?;
        let (direct, _) = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let of = (direct.incarnation, MessageName::Key(self.key));
        page(rows, limits, of, self.start, self.tombstones).map(Ok)
    }
}

/// Asks for work that is due.
#[derive(Clone, Debug)]
pub struct DueDebts {
    /// Due by then.
    pub by: Timestamp,
    /// Only those after this one.
    pub after: Option<Debt>,
    /// At most so much.
    pub limit: usize,
}

impl DueDebts {
    fn answer(&self, rows: &Typed<'_>, _: &Limits) -> Result<Vec<Debt>, Missing> {
        let after = self.after.clone().map(|debt| Box::new(RowKey::Debt(debt)));
        let range = Range { span: Span::Debts(self.by), after, limit: self.limit };
        let rows = rows.0.range(&range)?.into_iter();
        Ok(rows
            .filter_map(|(key, _)| match key {
                RowKey::Debt(debt) => Some(debt),
                _ => None,
            })
            .collect())
    }
}

/// Asks for a message of one incarnation of a conversation.
#[derive(Clone, Debug)]
pub struct FindMessage {
    /// In which conversation.
    pub id: ConversationId,
    /// In which incarnation.
    pub incarnation: Incarnation,
    /// Which.
    pub name: MessageName,
}

/// A message that was asked for by its name.
#[derive(Clone, Debug)]
pub struct FoundMessage {
    /// Its header.
    pub message: Arc<Message>,
    /// Its body; `None` once it was recalled.
    pub body: Option<Arc<MessageBody>>,
}

impl FindMessage {
    fn answer(&self, rows: &Typed<'_>, _: &Limits) -> Result<Option<FoundMessage>, Missing> {
        let at = (self.incarnation, self.name);
        let Some(message) = rows.message(at)? else { return Ok(None) };
        Ok(Some(FoundMessage { message, body: rows.body(at)? }))
    }
}

/// Asks which members the next part of reaping a conversation may remove, so that their accounts can be told first.
#[derive(Clone, Debug)]
pub struct NextReaped {
    /// The conversation.
    pub id: ConversationId,
    /// Its life that is gone.
    pub incarnation: Incarnation,
}

impl NextReaped {
    fn answer(&self, rows: &Typed<'_>, _: &Limits) -> Result<Vec<UserId>, Missing> {
        let limit = crate::decide::ROWS_PER_PART;
        let range = Range { span: Span::Within(self.incarnation), after: None, limit };
        let rows = rows.0.range(&range)?.into_iter();
        Ok(rows
            .filter_map(|(key, _)| match key {
                RowKey::Within(_, Part::Member(user)) => Some(user),
                _ => None,
            })
            .collect())
    }
}

fn describe(rows: &Typed<'_>, id: &ConversationId) -> Result<Option<GroupView>, Missing> {
    let Some(group) = rows.group(id)? else { return Ok(None) };
    let counters = rows.counters(group.incarnation)?.unwrap_or_default();
    Ok(Some(GroupView { group, counters }))
}
