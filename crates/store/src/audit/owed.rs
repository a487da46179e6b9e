//! What is owed, as far as it excuses what other rows lack.

use std::collections::{HashMap, HashSet};

use sidenote_core::debt::{Debt, Task};
use sidenote_core::ids::{AppId, ConversationId, Incarnation, MessageName};
use sidenote_core::message::{Fingerprint, Sent};
use sidenote_core::rows::RowKey;

use super::{Finding, Known, Place, Weight, digest};

#[derive(Debug, Default)]
pub(super) struct Owed {
    reaps: HashMap<Incarnation, ConversationId>,
    trims: HashMap<Incarnation, ConversationId>,
    strips: HashMap<(Incarnation, MessageName), ConversationId>,
    announces: HashMap<Incarnation, ConversationId>,
    /// Digests: there may be as many as messages were sent in the last minutes.
    forgets: HashSet<u64>,
    /// Apps with accounts that were deleted and are still members here and there.
    forsaking: HashSet<AppId>,
}

impl Owed {
    pub(super) fn note(&mut self, debt: &Debt) {
        match &debt.task {
            Task::Announce(id, incarnation, _) => {
                self.announces.insert(*incarnation, id.clone());
            }
            Task::Forsake(account, _) => {
                self.forsaking.insert(account.app);
            }
            Task::Reap(id, incarnation) => {
                self.reaps.insert(*incarnation, id.clone());
            }
            Task::Strip(id, incarnation, message) => {
                self.strips.insert((*incarnation, *message), id.clone());
            }
            Task::ForgetSend(_, incarnation, fingerprint) => {
                self.forgets.insert(digest(&(incarnation, fingerprint, debt.due)));
            }
            Task::TrimEvents(id, incarnation) => {
                self.trims.insert(*incarnation, id.clone());
            }
        }
    }

    /// The rows of this incarnation are on their way out.
    pub(super) fn reaps(&self, incarnation: Incarnation) -> bool {
        self.reaps.contains_key(&incarnation)
    }

    /// Somebody will look after the age of its events.
    pub(super) fn trims(&self, incarnation: Incarnation) -> bool {
        self.trims.contains_key(&incarnation)
    }

    /// The pairs of this message are on their way out.
    pub(super) fn strips(&self, incarnation: Incarnation, message: MessageName) -> bool {
        self.strips.contains_key(&(incarnation, message))
    }

    /// A send will be forgotten when it is time: after 2 minutes between two accounts, after 5 in a group.
    pub(super) fn forgets(&self, incarnation: Incarnation, fingerprint: Fingerprint, sent: Sent) -> bool {
        let minutes = if matches!(sent.name, Some(MessageName::Key(_))) { 2 } else { 5 };
        let due = sent.at.plus_millis(minutes * 60_000);
        self.forgets.contains(&digest(&(incarnation, fingerprint, due)))
    }

    /// Accounts have yet to hear that they joined or left.
    pub(super) fn announces(&self, id: &ConversationId, incarnation: Incarnation) -> bool {
        self.announces.contains_key(&incarnation) || self.forsaking.contains(&id.app)
    }

    /// Against the conversations that exist: nothing may be owed to one under another name, and none that exists may
    /// be about to be removed.
    pub(super) fn compare(&self, conversations: &HashMap<Incarnation, Known>, findings: &mut Vec<Finding>) {
        let mut found = Vec::new();
        for (incarnation, id) in &self.reaps {
            if let Some(known) = conversations.get(incarnation) {
                found.push((
                    known.id.clone(),
                    format!(
                        "a debt to {} would remove this {}",
                        place(id),
                        if known.is_direct() { "conversation" } else { "group" }
                    ),
                ));
            }
        }
        let named = self.trims.iter().chain(&self.announces);
        let named = named.chain(self.strips.iter().map(|((incarnation, _), id)| (incarnation, id)));
        for (incarnation, id) in named {
            if let Some(known) = conversations.get(incarnation)
                && known.id != *id
            {
                found.push((
                    known.id.clone(),
                    format!("a debt says that its rows are those of {}", place(id)),
                ));
            }
        }
        found.sort();
        findings.extend(found.into_iter().map(|(id, what)| {
            let place = Place::of(&RowKey::Conversation(id));
            Finding { weight: Weight::Damage, place, what }
        }));
    }
}

fn place(id: &ConversationId) -> Place {
    Place::of_conversation(id)
}
