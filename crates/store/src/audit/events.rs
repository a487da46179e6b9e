//! What the kept events of a conversation say that its other rows must hold.

use std::collections::{BTreeSet, HashMap};

use sidenote_core::event::{Event, ExtensionChange, Happening, Operation};
use sidenote_core::extension::{Entry, Key, Seq, Value};
use sidenote_core::ids::{EventNumber, MessageName, UserId};
use sidenote_core::message::Message;

use super::digest;

/// The events of one incarnation that are kept. Memory is bounded by how many the configuration keeps.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) last: Option<EventNumber>,
    /// Whether accounts are members, by the last event that named them.
    pub(super) members: HashMap<UserId, bool>,
    pub(super) sent: HashMap<MessageName, Message>,
    pub(super) recalled: BTreeSet<MessageName>,
    pub(super) sets: HashMap<MessageName, Story>,
}

/// What events tell of one extension set.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) latest: Seq,
    pub(super) clear: Seq,
    /// A clear is among the events, so that all that the set holds must be too.
    pub(super) is_whole: bool,
    /// What became of each key that they name, as a digest.
    pub(super) entries: HashMap<Key, u64>,
}

/// A digest of what a set holds under one key.
pub(super) fn entry_digest(entry: &Entry) -> u64 {
    told_digest(entry.value(), entry.seq())
}

fn told_digest(value: Option<&Value>, seq: Seq) -> u64 {
    digest(&(value.map(Value::as_str), seq))
}

impl Log {
    /// Takes the next event; says what is wrong with it.
    pub(super) fn push(&mut self, key: EventNumber, event: &Event) -> Vec<String> {
        let mut wrong = Vec::new();
        if event.number != key {
            wrong.push(format!("says itself that it is event {}", event.number.get()));
        }
        if let Some(last) = self.last.filter(|last| last.next() != key) {
            wrong.push(format!("comes after event {}: those in between are missing", last.get()));
        }
        self.last = Some(key);
        match &event.what {
            Happening::MembersJoined { users, .. } => {
                self.members.extend(users.iter().map(|user| (user.clone(), true)));
            }
            Happening::MembersLeft { users, .. } => {
                self.members.extend(users.iter().map(|user| (user.clone(), false)));
            }
            Happening::MessageSent { seq, message } => {
                self.sent.insert(MessageName::Seq(*seq), message.clone());
            }
            Happening::DirectSent { key, message } => {
                self.sent.insert(MessageName::Key(*key), message.clone());
            }
            Happening::MessagesRecalled { seqs, .. } => {
                for seq in seqs {
                    self.recall(MessageName::Seq(*seq));
                }
            }
            Happening::DirectRecalled { key } => self.recall(MessageName::Key(*key)),
            Happening::Extension(change) => wrong.extend(self.change(change)),
            Happening::GroupCreated { .. }
            | Happening::GroupChanged
            | Happening::GroupDestroyed
            | Happening::OwnerChanged { .. }
            | Happening::TransientMessage { .. }
            | Happening::DirectTransient { .. } => {}
        }
        wrong
    }

    fn recall(&mut self, message: MessageName) {
        self.recalled.insert(message);
        self.sets.remove(&message);
    }

    fn change(&mut self, change: &ExtensionChange) -> Option<String> {
        let mut wrong = None;
        let story = self.sets.entry(change.message).or_insert_with(|| Story {
            latest: Seq::new(change.latest.get().saturating_sub(1)).unwrap_or(Seq::NEVER),
            clear: change.clear,
            is_whole: false,
            entries: HashMap::new(),
        });
        let clears = change.operation == Operation::Clear;
        if change.latest.get() != story.latest.get() + 1 {
            wrong = Some(format!("raises LatestSeq from {} to {} (rule 3.2)", story.latest, change.latest));
        } else if change.clear != if clears { change.latest } else { story.clear } {
            wrong = Some(format!("tells a ClearSeq of {} (rule 3.6)", change.clear));
        } else if change.pairs.iter().any(|pair| pair.seq != change.latest) {
            wrong = Some("gives a pair another Seq than LatestSeq (rule 3.2)".to_owned());
        }
        (story.latest, story.clear) = (change.latest, change.clear);
        if clears {
            story.is_whole = true;
            story.entries.clear();
        } else {
            let told = |pair: &sidenote_core::event::ChangedPair| told_digest(pair.value.as_ref(), pair.seq);
            story.entries.extend(change.pairs.iter().map(|pair| (pair.key.clone(), told(pair))));
        }
        wrong
    }
}
