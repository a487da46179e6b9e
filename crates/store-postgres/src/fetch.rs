//! What can be read in one statement, and what its rows are.
//!
//! All statements answer rows of one shape (see [`Shape`]), so that rows of several kinds come out of one of them.

use std::collections::{BTreeMap, BTreeSet};

use sidenote_core::debt::Debt;
use sidenote_core::direct::Direct;
use sidenote_core::extension::{Key, Seq};
use sidenote_core::ids::{AccountId, ConversationId, GroupId, Incarnation, MessageName, Recency, UserId};
use sidenote_core::message::Fingerprint;
use sidenote_core::rows::{MessagePart, Part, Range, Row, RowKey, Span};
use sidenote_row_codec::encode_key;
use sidenote_store::StoreError;
use tokio_postgres::Row as Answered;

use crate::home::{account_key, conversation_key, conversation_name, escape, message_text, signed};
use crate::loaded::{Loaded, Wish};
use crate::ranges::{self, clamped};
use crate::session::{Param, Piece};
use crate::shape::{self, Shape};

/// Something to be read with one statement.
#[derive(Debug)]
pub(crate) enum Fetch {
    /// A conversation's own row and more of the life that it has now.
    Now(ConversationId, Wanted),
    /// Rows of one life of a conversation, whether it has it now or not.
    Life(ConversationId, Incarnation, Wanted),
    /// Accounts; locked, there may be only one.
    Accounts(Vec<AccountId>, Lock),
    /// Lines of the list of one account's groups, locked.
    Memberships(AccountId, Vec<(GroupId, Incarnation)>),
    /// Debts of one home, which are locked.
    Debts(i64, Vec<Debt>),
    /// Places in the history of the life that a conversation of two accounts has now: so many after this one. It is to be
    /// read with the conversation's own row, and behind it.
    Recent(ConversationId, Recency, usize),
    /// A run of rows; those within a conversation lie under its key.
    Range(Option<ConversationId>, Range),
}

/// Whether rows are read to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    Shared,
    Exclusive,
}

/// Which rows of a life of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) counters: bool,
    pub(crate) outbox: bool,
    pub(crate) all_members: bool,
    pub(crate) members: BTreeSet<UserId>,
    pub(crate) headers: BTreeSet<MessageName>,
    pub(crate) bodies: BTreeSet<MessageName>,
    /// States of extension sets.
    pub(crate) states: BTreeSet<MessageName>,
    /// Pairs by message and key.
    pub(crate) pairs: BTreeSet<(MessageName, Key)>,
    /// All pairs of these messages with this Seq or a later one.
    pub(crate) whole_sets: BTreeSet<MessageName>,
    pub(crate) sets_from: Seq,
    pub(crate) repeats: BTreeSet<[u8; 16]>,
}

impl Wanted {
    /// One part.
    pub(crate) fn part(part: &Part) -> Self {
        let mut wanted = Self::default();
        match part {
            Part::Counters => wanted.counters = true,
            Part::Member(user) => drop(wanted.members.insert(user.clone())),
            Part::Repeat(fingerprint) => drop(wanted.repeats.insert(fingerprint.0)),
            Part::Message(name, part) => match part {
                MessagePart::Header => drop(wanted.headers.insert(*name)),
                MessagePart::Body => drop(wanted.bodies.insert(*name)),
                MessagePart::Extension => drop(wanted.states.insert(*name)),
                MessagePart::Pair(key) => drop(wanted.pairs.insert((*name, key.clone()))),
            },
            // No rule looks at one place of history: it reads a run of them.
            Part::Recent(_) => {}
        }
        wanted
    }

    pub(crate) fn add(&mut self, mut other: Self) {
        self.counters |= other.counters;
        self.outbox |= other.outbox;
        self.all_members |= other.all_members;
        self.members.append(&mut other.members);
        self.headers.append(&mut other.headers);
        self.bodies.append(&mut other.bodies);
        self.states.append(&mut other.states);
        self.pairs.append(&mut other.pairs);
        if self.whole_sets.is_empty() {
            self.sets_from = other.sets_from;
        } else if !other.whole_sets.is_empty() {
            self.sets_from = self.sets_from.min(other.sets_from);
        }
        self.whole_sets.append(&mut other.whole_sets);
        self.repeats.append(&mut other.repeats);
    }

    /// Every row that is asked for by name, in a life with this number.
    fn keys(&self, id: &ConversationId, incarnation: Incarnation) -> Vec<RowKey> {
        let mut keys = Vec::new();
        if self.counters {
            keys.push(RowKey::Within(incarnation, Part::Counters));
        }
        if self.outbox {
            keys.push(RowKey::Outbox(id.clone(), incarnation));
        }
        let mut part = |part| keys.push(RowKey::Within(incarnation, part));
        self.members.iter().for_each(|user| part(Part::Member(user.clone())));
        self.repeats.iter().for_each(|fingerprint| part(Part::Repeat(Fingerprint(*fingerprint))));
        self.headers.iter().for_each(|name| part(Part::Message(*name, MessagePart::Header)));
        self.bodies.iter().for_each(|name| part(Part::Message(*name, MessagePart::Body)));
        self.states.iter().for_each(|name| part(Part::Message(*name, MessagePart::Extension)));
        let pairs = self.pairs.iter();
        pairs.for_each(|(name, key)| part(Part::Message(*name, MessagePart::Pair(key.clone()))));
        keys
    }
}

impl Fetch {
    /// How a rule's wish is fulfilled. Rows within a conversation are those of this one.
    ///
    /// # Errors
    ///
    /// If a rule asks for something that none asked for when this was written.
    pub(crate) fn of_wish(wish: Wish, of: Option<&ConversationId>) -> Result<Self, StoreError> {
        let unknown = |what: &str| StoreError::Unreadable { reason: format!("a rule asked for {what}") };
        let of = |what| of.cloned().ok_or_else(|| unknown(what));
        Ok(match wish {
            Wish::Row(RowKey::Account(id)) => Self::Accounts(vec![id], Lock::Shared),
            Wish::Row(RowKey::Membership(id, group, incarnation)) => {
                Self::Memberships(id, vec![(group, incarnation)])
            }
            Wish::Row(RowKey::Conversation(id)) => Self::Now(id, Wanted::default()),
            Wish::Row(RowKey::Within(incarnation, part)) => {
                Self::Life(of("a row of an unknown conversation")?, incarnation, Wanted::part(&part))
            }
            Wish::Row(RowKey::Outbox(id, incarnation)) => {
                Self::Life(id, incarnation, Wanted { outbox: true, ..Wanted::default() })
            }
            Wish::Row(RowKey::Debt(debt)) => {
                Self::Debts(crate::home::Home::owing(&debt.task).key(), vec![debt])
            }
            Wish::Row(RowKey::Event(..) | RowKey::DeadLetter(..)) => {
                return Err(unknown("one event or dead letter, which are only read in runs"));
            }
            Wish::Range(range) => {
                let id = match &range.span {
                    Span::Members(_)
                    | Span::Pairs(..)
                    | Span::Recent(_)
                    | Span::Within(_)
                    | Span::Events(_) => Some(of("rows of an unknown conversation")?),
                    Span::OutboxesOf(id) | Span::DeadLettersOf(id, _) => Some(id.clone()),
                    Span::Memberships(_) | Span::Debts(_) | Span::Outboxes(_) | Span::DeadLetters(_) => None,
                };
                Self::Range(id, range)
            }
        })
    }

    /// The statement.
    pub(crate) fn piece(&self) -> Piece {
        match self {
            Self::Now(id, wanted) => {
                let name = conversation_name(id);
                let mut params: Vec<Param> =
                    vec![Box::new(conversation_key(id)), Box::new(i64::from(id.app.get())), Box::new(name)];
                let (mask, single) = add_params(wanted, &mut params);
                Piece::Prepared(shape::within(true, mask, single).into(), params)
            }
            Self::Life(id, incarnation, wanted) => {
                let mut params: Vec<Param> =
                    vec![Box::new(conversation_key(id)), Box::new(signed(*incarnation))];
                let (mut mask, single) = add_params(wanted, &mut params);
                if wanted.outbox {
                    mask |= shape::OUTBOX;
                    params.push(Box::new(i64::from(id.app.get())));
                    params.push(Box::new(conversation_name(id)));
                }
                Piece::Prepared(shape::within(false, mask, single).into(), params)
            }
            Self::Accounts(ids, lock) => {
                let keys: Vec<i64> = ids.iter().map(account_key).collect();
                let apps: Vec<i64> = ids.iter().map(|id| i64::from(id.app.get())).collect();
                let users: Vec<String> = ids.iter().map(|id| id.user.to_string()).collect();
                match (lock, &keys[..]) {
                    (Lock::Exclusive, [key]) => Piece::Prepared(
                        shape::LOCK_ACCOUNT.into(),
                        vec![Box::new(*key), Box::new(apps[0]), Box::new(users[0].clone())],
                    ),
                    (Lock::Shared, [key]) => Piece::Prepared(
                        shape::ACCOUNT.into(),
                        vec![Box::new(*key), Box::new(apps[0]), Box::new(users[0].clone())],
                    ),
                    _ => Piece::Prepared(
                        shape::ACCOUNTS.into(),
                        vec![Box::new(keys), Box::new(apps), Box::new(users)],
                    ),
                }
            }
            Self::Memberships(id, lines) => {
                // In the order in which every node locks them.
                let mut lines = lines.clone();
                lines.sort();
                let groups: Vec<String> = lines.iter().map(|(group, _)| group.to_string()).collect();
                let numbers: Vec<i64> = lines.iter().map(|(_, incarnation)| signed(*incarnation)).collect();
                let params: Vec<Param> = vec![
                    Box::new(account_key(id)),
                    Box::new(i64::from(id.app.get())),
                    Box::new(id.user.to_string()),
                    Box::new(groups),
                    Box::new(numbers),
                ];
                Piece::Prepared(shape::lock_memberships().into(), params)
            }
            Self::Debts(key, debts) => {
                let mut debts: Vec<Vec<u8>> = debts.iter().map(debt_bytes).collect();
                debts.sort();
                Piece::Prepared(shape::lock_debts().into(), vec![Box::new(*key), Box::new(debts)])
            }
            Self::Recent(id, after, limit) => ranges::recent_now(id, *after, *limit),
            Self::Range(id, range) => ranges::piece(id.as_ref(), range),
        }
    }

    /// Takes the rows that were answered, and notes which of those that were asked for there are not.
    ///
    /// # Errors
    ///
    /// If a row makes no sense.
    pub(crate) fn take(self, answered: &[Answered], into: &mut Loaded) -> Result<(), StoreError> {
        let rows = answered.iter().map(Shape::read).collect::<Result<Vec<_>, _>>()?;
        match self {
            Self::Now(id, wanted) => {
                let own = RowKey::Conversation(id.clone());
                let incarnation = rows.iter().find(|(key, _)| *key == own).and_then(|(_, row)| match row {
                    Row::Group(group) => Some(group.incarnation),
                    Row::Direct(direct) => Some(direct.incarnation),
                    _ => None,
                });
                if incarnation.is_none() {
                    into.take_absence(own);
                }
                take_within(&id, incarnation, &wanted, rows, into);
            }
            Self::Life(id, incarnation, wanted) => {
                take_within(&id, Some(incarnation), &wanted, rows, into);
            }
            Self::Accounts(ids, _) => {
                take_rows(rows, into);
                for id in ids {
                    into.take_absence(RowKey::Account(id));
                }
            }
            Self::Memberships(id, lines) => {
                take_rows(rows, into);
                for (group, incarnation) in lines {
                    into.take_absence(RowKey::Membership(id.clone(), group, incarnation));
                }
            }
            Self::Debts(_, debts) => {
                take_rows(rows, into);
                for debt in debts {
                    into.take_absence(RowKey::Debt(debt));
                }
            }
            Self::Recent(id, after, limit) => {
                let own = RowKey::Conversation(id);
                if let Some(Row::Direct(Direct { incarnation, .. })) = into.get(&own) {
                    let incarnation = *incarnation;
                    let after = Some(Box::new(RowKey::Within(incarnation, Part::Recent(after))));
                    into.take_range(Range { span: Span::Recent(incarnation), after, limit }, rows);
                }
            }
            Self::Range(_, range) => into.take_range(range, rows),
        }
        Ok(())
    }
}

/// A debt as the database orders them.
pub(crate) fn debt_bytes(debt: &Debt) -> Vec<u8> {
    encode_key(&RowKey::Debt(debt.clone()))
}

fn take_rows(rows: Vec<(RowKey, Row)>, into: &mut Loaded) {
    for (key, row) in rows {
        into.take_row(key, Some(row));
    }
}

fn take_within(
    id: &ConversationId,
    incarnation: Option<Incarnation>,
    wanted: &Wanted,
    rows: Vec<(RowKey, Row)>,
    into: &mut Loaded,
) {
    let mut sets: BTreeMap<MessageName, Vec<(RowKey, Row)>> =
        wanted.whole_sets.iter().map(|name| (*name, Vec::new())).collect();
    let mut members = Vec::new();
    for (key, row) in rows {
        match &key {
            RowKey::Within(_, Part::Message(name, MessagePart::Pair(_))) => {
                if let Some(set) = sets.get_mut(name) {
                    set.push((key.clone(), row.clone()));
                }
            }
            RowKey::Within(_, Part::Member(_)) if wanted.all_members => {
                members.push((key.clone(), row.clone()));
            }
            _ => {}
        }
        into.take_row(key, Some(row));
    }
    let Some(incarnation) = incarnation else { return };
    wanted.keys(id, incarnation).into_iter().for_each(|key| into.take_absence(key));
    for (name, set) in sets {
        into.take_range(Range::pairs(incarnation, name), set);
    }
    if wanted.all_members {
        let span = Span::Members(incarnation);
        into.take_range(Range { span, after: None, limit: usize::MAX }, members);
    }
}

/// Adds what is asked for to the parameters, and says which kinds of rows those are, and of which of them it is one row.
fn add_params(wanted: &Wanted, params: &mut Vec<Param>) -> (u16, u16) {
    let (mut mask, mut single) = (0, 0);
    let mut add = |kind, mut texts: Vec<String>| match (texts.len(), texts.pop()) {
        (1, Some(text)) => {
            mask |= kind;
            single |= kind;
            params.push(Box::new(text));
        }
        (_, Some(last)) => {
            texts.push(last);
            mask |= kind;
            params.push(Box::new(texts));
        }
        (_, None) => {}
    };
    let names = |set: &BTreeSet<MessageName>| set.iter().map(|name| message_text(*name)).collect::<Vec<_>>();
    add(shape::MEMBERS, wanted.members.iter().map(UserId::to_string).collect());
    add(shape::HEADERS, names(&wanted.headers));
    add(shape::BODIES, names(&wanted.bodies));
    add(shape::STATES, names(&wanted.states));
    add(shape::PAIRS, wanted.pairs.iter().map(|(name, _)| message_text(*name)).collect());
    add(shape::PAIRS, wanted.pairs.iter().map(|(_, key)| escape(key.as_str())).collect());
    add(shape::WHOLE_SETS, names(&wanted.whole_sets));
    if !wanted.whole_sets.is_empty() {
        params.push(Box::new(clamped(wanted.sets_from.get())));
    }
    let mut repeats: Vec<Vec<u8>> = wanted.repeats.iter().map(|bytes| bytes.to_vec()).collect();
    if let Some(last) = repeats.pop() {
        mask |= shape::REPEATS;
        if repeats.is_empty() {
            single |= shape::REPEATS;
            params.push(Box::new(last));
        } else {
            repeats.push(last);
            params.push(Box::new(repeats));
        }
    }
    if wanted.counters {
        mask |= shape::COUNTERS;
    }
    if wanted.outbox {
        mask |= shape::OUTBOX;
    }
    if wanted.all_members {
        mask |= shape::ALL_MEMBERS;
    }
    (mask, single)
}
