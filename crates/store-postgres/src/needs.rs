//! What commands and questions will ask for, as far as that can be told from them alone, so that it is read in one
//! round trip. A guess: whatever is missing is read when a rule asks for it, and what is too much does no harm.

use std::collections::{BTreeMap, BTreeSet};

use sidenote_core::Limits;
use sidenote_core::command::{
    AccountAction, Action, Command, DirectAction, Extend, GroupAction, Keyed, OutboxAction,
};
use sidenote_core::debt::{Debt, Task};
use sidenote_core::event::{CallerKind, Operator};
use sidenote_core::extension::Seq;
use sidenote_core::ids::{ConversationId, GroupId, Incarnation, MessageName, MsgKey, MsgSeq};
use sidenote_core::query::Query;
use sidenote_core::rows::{Range, RowKey, Span};

use crate::fetch::{Fetch, Lock, Wanted};
use crate::home::{Home, conversation_key, conversation_name, signed};
use crate::session::{Param, Piece};
use crate::shape;

/// What commands of one home need.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    now: Wanted,
    lives: BTreeMap<Incarnation, Wanted>,
    outboxes: Vec<Incarnation>,
    debts: Vec<Debt>,
    account: bool,
    memberships: Vec<(GroupId, Incarnation)>,
}

impl Needs {
    pub(crate) fn add(&mut self, command: &Command, limits: &Limits) {
        let operator = &command.operator;
        match &command.action {
            Action::Account(_, action) => match action {
                AccountAction::Import { .. } | AccountAction::Delete => self.account = true,
                AccountAction::Joined(group, incarnation, _) | AccountAction::Left(group, incarnation, _) => {
                    self.memberships.push((group.clone(), *incarnation));
                }
            },
            Action::Group(id, action) => {
                self.now.add(of_group(id, action, operator, limits));
                if let GroupAction::Create(new) = action {
                    // Their places in the life that begins.
                    let members = new.owner.iter().chain(&new.members).map(|member| member.user.clone());
                    self.lives.entry(new.incarnation).or_default().members.extend(members);
                }
            }
            Action::Direct(peers, action) => {
                let mut wanted = opened(&peers.id(), limits);
                match action {
                    DirectAction::Send(new) => {
                        // The key that it will most likely get, to see that no other message has it.
                        let time = command.at.secs();
                        let key = MsgKey { seq: new.seq, random: new.random, time };
                        wanted.headers.insert(MessageName::Key(key));
                        wanted.repeats.insert(new.fingerprint.0);
                    }
                    DirectAction::Recall(key) => {
                        wanted.headers.insert(MessageName::Key(*key));
                        wanted.states.insert(MessageName::Key(*key));
                    }
                    DirectAction::Extend(key, extend) => set(&mut wanted, MessageName::Key(*key), extend),
                }
                self.now.add(wanted);
            }
            Action::Pay(debt, _) => {
                self.debts.push(debt.clone());
                match &debt.task {
                    Task::ForgetSend(_, incarnation, fingerprint) => {
                        self.lives.entry(*incarnation).or_default().repeats.insert(fingerprint.0);
                    }
                    Task::TrimEvents(id, incarnation) => {
                        self.lives.entry(*incarnation).or_default().add(opened(id, limits));
                    }
                    Task::Announce(..) | Task::Forsake(..) | Task::Reap(..) | Task::Strip(..) => {}
                }
            }
            Action::Outbox(_, incarnation, OutboxAction::Settle { .. }) => {
                self.outboxes.push(*incarnation);
                let wanted = Wanted { outbox: true, counters: true, ..Wanted::default() };
                self.lives.entry(*incarnation).or_default().add(wanted);
            }
            Action::Outbox(_, _, OutboxAction::Discard(_)) => {}
        }
    }

    /// What locks the home, to be sent first, and what reads it then.
    pub(crate) fn into_fetches(self, home: &Home) -> (Vec<Piece>, Vec<Fetch>) {
        let (mut locks, mut fetches) = (Vec::new(), Vec::new());
        match home {
            Home::Account(id) => {
                if self.account {
                    fetches.push(Fetch::Accounts(vec![id.clone()], Lock::Exclusive));
                }
                if !self.memberships.is_empty() {
                    fetches.push(Fetch::Memberships(id.clone(), self.memberships));
                }
            }
            Home::Conversation(id) => {
                let params = || -> Vec<Param> {
                    let name = conversation_name(id);
                    vec![Box::new(conversation_key(id)), Box::new(i64::from(id.app.get())), Box::new(name)]
                };
                locks.push(Piece::Prepared(shape::LOCK_CONVERSATION.into(), params()));
                if !self.outboxes.is_empty() {
                    // In the order in which every node locks them.
                    let lives: BTreeSet<i64> = self.outboxes.iter().copied().map(signed).collect();
                    let lives: Vec<i64> = lives.into_iter().collect();
                    let mut params = params();
                    params.push(Box::new(lives));
                    locks.push(Piece::Prepared(shape::LOCK_OUTBOXES.into(), params));
                }
                fetches.push(Fetch::Now(id.clone(), self.now));
                // A group may be made without members.
                let lives = self.lives.into_iter().filter(|(_, wanted)| *wanted != Wanted::default());
                for (incarnation, wanted) in lives {
                    fetches.push(Fetch::Life(id.clone(), incarnation, wanted));
                }
            }
        }
        if !self.debts.is_empty() {
            fetches.push(Fetch::Debts(home.key(), self.debts));
        }
        (locks, fetches)
    }
}

/// What every change of a conversation looks at.
fn opened(id: &ConversationId, limits: &Limits) -> Wanted {
    Wanted { counters: true, outbox: limits.tells_by_webhook(id.app), ..Wanted::default() }
}

fn of_group(id: &ConversationId, action: &GroupAction, operator: &Operator, limits: &Limits) -> Wanted {
    let mut wanted = opened(id, limits);
    match action {
        // What a group of that name leaves behind is of another life.
        GroupAction::Create(_) => wanted = Wanted::default(),
        GroupAction::Modify(_) | GroupAction::Destroy | GroupAction::Import(_) => {}
        GroupAction::ChangeOwner(user) | GroupAction::Forget(user, _) => {
            wanted.members.insert(user.clone());
        }
        GroupAction::AddMembers { members, .. } => {
            wanted.members.extend(members.iter().map(|member| member.user.clone()));
        }
        GroupAction::RemoveMembers { users, .. } => wanted.members.extend(users.iter().cloned()),
        GroupAction::Send(new) => {
            wanted.members.insert(new.sender.clone());
            if !new.online_only {
                wanted.repeats.insert(new.fingerprint.0);
            }
        }
        GroupAction::Recall { seqs, .. } => {
            wanted.headers.extend(seqs.iter().map(|seq| MessageName::Seq(*seq)));
            wanted.states = wanted.headers.clone();
        }
        GroupAction::Extend(seq, extend) => {
            member(&mut wanted, operator);
            set(&mut wanted, MessageName::Seq(*seq), extend);
        }
    }
    wanted
}

/// The caller's own place in the group.
fn member(wanted: &mut Wanted, operator: &Operator) {
    if matches!(operator.kind, CallerKind::Member | CallerKind::Connected) {
        wanted.members.insert(operator.user.clone());
    }
}

/// What a change of an extension set looks at.
fn set(wanted: &mut Wanted, name: MessageName, extend: &Extend) {
    wanted.headers.insert(name);
    wanted.states.insert(name);
    match extend {
        Extend::Set(items) => {
            wanted.pairs.extend(items.iter().map(|(pair, _)| (name, pair.key().clone())));
        }
        Extend::Delete(items) => {
            wanted.pairs.extend(items.iter().map(|(key, _)| (name, key.clone())));
        }
        Extend::Clear => drop(wanted.whole_sets.insert(name)),
    }
}

/// What a question needs, if that can be told, and the conversation whose rows it asks for. Where more than this is
/// needed, what is said here is read first.
pub(crate) fn of_query(query: &Query) -> (Vec<Fetch>, Option<ConversationId>) {
    let counters = || Wanted { counters: true, ..Wanted::default() };
    let range = |id: Option<&ConversationId>, span, after: Option<RowKey>, limit| {
        Fetch::Range(id.cloned(), Range { span, after: after.map(Box::new), limit })
    };
    let (fetches, of) = match query {
        Query::Accounts(asked) => (vec![Fetch::Accounts(asked.ids.clone(), Lock::Shared)], None),
        Query::DescribeGroup(asked) => (vec![Fetch::Now(asked.id.clone(), counters())], Some(&asked.id)),
        Query::DescribeDirect(asked) => (vec![Fetch::Now(asked.id.clone(), counters())], Some(&asked.id)),
        Query::ListMembers(asked) => {
            let wanted = Wanted { all_members: true, ..Wanted::default() };
            (vec![Fetch::Now(asked.id.clone(), wanted)], Some(&asked.id))
        }
        Query::FindMembers(asked) => {
            let members = asked.users.iter().cloned().collect();
            (vec![Fetch::Now(asked.id.clone(), Wanted { members, ..Wanted::default() })], Some(&asked.id))
        }
        Query::History(asked) => {
            let names = asked.up_to.map(|newest| messages(numbered(newest, asked.count)));
            let wanted = Wanted { counters: true, ..names.unwrap_or_default() };
            (vec![Fetch::Now(asked.id.clone(), wanted)], Some(&asked.id))
        }
        Query::Pull(asked) => {
            let mut wanted = pull(MessageName::Seq(asked.seq), asked.start);
            member(&mut wanted, &asked.operator);
            (vec![Fetch::Now(asked.id.clone(), wanted)], Some(&asked.id))
        }
        Query::DirectPull(asked) => {
            let id = asked.peers.id();
            return (vec![Fetch::Now(id.clone(), pull(MessageName::Key(asked.key), asked.start))], Some(id));
        }
        Query::DirectHistory(asked) => {
            let id = asked.peers.id();
            let places = Fetch::Recent(id.clone(), asked.start(), asked.limit.saturating_add(1));
            return (vec![Fetch::Now(id.clone(), Wanted::default()), places], Some(id));
        }
        Query::Events(asked) => {
            let after = RowKey::Event(asked.incarnation, asked.after);
            let events = range(Some(&asked.id), Span::Events(asked.incarnation), Some(after), asked.limit);
            let life = Fetch::Life(asked.id.clone(), asked.incarnation, counters());
            (vec![events, life], Some(&asked.id))
        }
        Query::DueDebts(asked) => {
            let after = asked.after.clone().map(RowKey::Debt);
            (vec![range(None, Span::Debts(asked.by), after, asked.limit)], None)
        }
        Query::FindMessage(asked) => {
            let mut wanted = Wanted::default();
            wanted.headers.insert(asked.name);
            wanted.bodies.insert(asked.name);
            (vec![Fetch::Life(asked.id.clone(), asked.incarnation, wanted)], Some(&asked.id))
        }
        Query::NextReaped(asked) => (Vec::new(), Some(&asked.id)),
        Query::JoinedGroups(asked) => {
            let after = asked
                .after
                .clone()
                .map(|(group, incarnation)| RowKey::Membership(asked.account.clone(), group, incarnation));
            let lines = range(None, Span::Memberships(asked.account.clone()), after, asked.limit);
            (vec![lines, Fetch::Accounts(vec![asked.account.clone()], Lock::Shared)], None)
        }
        Query::Outboxes(_) | Query::DeadLetters(_) => (Vec::new(), None),
    };
    (fetches, of.cloned())
}

/// Headers and bodies of these messages.
pub(crate) fn messages(names: impl Iterator<Item = MessageName>) -> Wanted {
    let headers: BTreeSet<_> = names.collect();
    Wanted { bodies: headers.clone(), headers, ..Wanted::default() }
}

/// So many numbers of messages, from this one backwards.
pub(crate) fn numbered(newest: u64, count: u64) -> impl Iterator<Item = MessageName> {
    let numbers = (1..=newest).rev().take(usize::try_from(count).unwrap_or(usize::MAX));
    numbers.filter_map(|seq| MsgSeq::new(seq).ok()).map(MessageName::Seq)
}

/// What a pull looks at: one statement reads all of it. Older pairs than were asked for can't be on any page (rule 3.8);
/// whoever asks for what is new as a rule gets nothing.
fn pull(name: MessageName, start: Seq) -> Wanted {
    let mut wanted = Wanted { sets_from: start, ..Wanted::default() };
    wanted.headers.insert(name);
    wanted.states.insert(name);
    wanted.whole_sets.insert(name);
    wanted
}
