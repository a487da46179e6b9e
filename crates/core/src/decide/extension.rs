//! Rules 3.2 to 3.12: changing the extension set of a message.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::command::{Claim, Extend};
use crate::decide::ledger::{Home, Opened};
use crate::decide::{Extended, ItemOutcome, ItemVerdict, Judged, Ledger, Outcome};
use crate::event::{CallerKind, ChangedPair, ExtensionChange, Happening, Operation, Operator, Previous};
use crate::extension::{Entry, ExtensionState, Key, Pair, Seq, Value};
use crate::group::{Group, GroupType};
use crate::ids::{ConversationId, Incarnation, MessageName, MsgSeq};
use crate::limits::Limits;
use crate::message::Message;
use crate::refusal::Refusal;
use crate::rows::{MessagePart, Missing, Part, Row, RowKey, Typed};

/// The most pairs that compaction gives one number (rule 3.7).
const PAIRS_PER_NUMBER: usize = 200;

pub(super) fn extend(ledger: &mut Ledger<'_>, id: &ConversationId, seq: MsgSeq, extend: &Extend) -> Judged {
    let mut opened = match ledger.open(id)? {
        Ok(opened) => opened,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let name = MessageName::Seq(seq);
    let operator = &ledger.command.operator;
    match admit(&ledger.rows, ledger.limits, &opened.home, operator, name)? {
        Ok(message) => change(ledger, &mut opened, name, &message, extend),
        Err(refusal) => Ok(Err(refusal)),
    }
}

/// Rules 3.2 to 3.10 for a caller who may change the set of this message, which may lie in a group or between two
/// accounts.
pub(super) fn change(
    ledger: &mut Ledger<'_>,
    opened: &mut Opened<impl Home>,
    name: MessageName,
    message: &Message,
    extend: &Extend,
) -> Judged {
    let mut set = Set::load(ledger, opened.incarnation(), name, message)?;
    if let Err(refusal) = set.count_attempt(ledger) {
        return Ok(Err(refusal));
    }
    let mut items = match extend {
        Extend::Clear => {
            set.clear(ledger)?;
            Vec::new()
        }
        Extend::Set(pairs) => {
            let version = set.state.latest.next();
            let mut items = Vec::with_capacity(pairs.iter().len());
            for ((key, value), claim) in pairs.iter() {
                items.push(set.judge_set(ledger, version, key, value, *claim)?);
            }
            set.seal(Operation::Set);
            items
        }
        Extend::Delete(keys) => {
            let version = set.state.latest.next();
            let mut items = Vec::with_capacity(keys.iter().len());
            for (key, claim) in keys.iter() {
                items.push(set.judge_delete(ledger, version, key, *claim)?);
            }
            set.seal(Operation::Delete);
            items
        }
    };
    if set.has_changed() && set.state.tombstones > ledger.limits.tombstones_per_message {
        let compacted = set.compact(ledger)?;
        for item in &mut items {
            item.pair = Pair::of(item.pair.key.clone(), compacted.get(&item.pair.key));
        }
    }
    let latest = set.state.latest;
    set.write(ledger, opened);
    Ok(Ok(Outcome::Extended(Extended { latest, items })))
}

/// Rule 3.12 from the group's type on: who may look at or change the extension set of which message.
pub(crate) fn admit(
    rows: &Typed<'_>,
    limits: &Limits,
    group: &Group,
    operator: &Operator,
    name: MessageName,
) -> Judged<Arc<Message>> {
    let supported = match group.kind {
        GroupType::Private | GroupType::Public | GroupType::ChatRoom => true,
        GroupType::Community => limits.community_extensions,
        GroupType::AvChatRoom => false,
    };
    if !supported {
        return Ok(Err(Refusal::NoExtensions));
    }
    if matches!(operator.kind, CallerKind::Member | CallerKind::Connected) {
        let member = rows.member((group.incarnation, &operator.user))?;
        if member.is_none_or(|member| Some(member.tiny_id) != operator.tiny_id) {
            return Ok(Err(Refusal::NotAMember));
        }
    }
    Ok(admit_message(rows.message((group.incarnation, name))?))
}

/// Rule 3.12 for the message itself: it exists, was not recalled, and may carry pairs.
pub(crate) fn admit_message(message: Option<Arc<Message>>) -> Result<Arc<Message>, Refusal> {
    match message {
        None => Err(Refusal::NoSuchMessage),
        Some(message) if message.recalled => Err(Refusal::NoSuchMessage),
        Some(message) if !message.supports_extension => Err(Refusal::NoExtensions),
        Some(message) => Ok(message),
    }
}

/// Rules 3.3 and 3.4: does the caller's claim fit what the set holds? An administrator's is not looked at; of
/// everyone else a claim of "never" is right whenever no pair lives, and who claims nothing never fits. (The edge
/// refuses such a request before it comes here.)
fn claim_fits(caller: CallerKind, claim: Claim, entry: Option<&Entry>) -> bool {
    match (caller, claim, entry) {
        (CallerKind::Administrator | CallerKind::Server, _, _) => true,
        (CallerKind::Member | CallerKind::Connected, Claim::Unchecked, _) => false,
        (_, Claim::Saw(seen), None) => seen == Seq::NEVER,
        (_, Claim::Saw(seen), Some(Entry::Live { seq, .. })) => seen == *seq,
        (_, Claim::Saw(seen), Some(Entry::Deleted { seq })) => seen == *seq || seen == Seq::NEVER,
    }
}

/// An extension set while one request changes it. Pairs are judged against the rows, which hold the state before
/// the request (rule 3.5); only the counts move along.
struct Set<'a> {
    incarnation: Incarnation,
    name: MessageName,
    message: &'a Message,
    state: ExtensionState,
    was_empty: bool,
    /// What the request writes; `None` removes an entry.
    written: BTreeMap<Key, Option<Entry>>,
    changed: Vec<ChangedPair>,
    events: Vec<ExtensionChange>,
    attempted: bool,
}

impl<'a> Set<'a> {
    fn load(
        ledger: &Ledger<'_>,
        incarnation: Incarnation,
        name: MessageName,
        message: &'a Message,
    ) -> Result<Self, Missing> {
        let state = ledger.rows.extension((incarnation, name))?.unwrap_or_default();
        Ok(Self {
            incarnation,
            name,
            message,
            state,
            was_empty: state.live == 0 && state.tombstones == 0,
            written: BTreeMap::new(),
            changed: Vec::new(),
            events: Vec::new(),
            attempted: false,
        })
    }

    /// What the set held under this key before the request. An empty set is known to hold nothing, so the first
    /// write to a message needs no pair row.
    fn entry(&self, ledger: &Ledger<'_>, key: &Key) -> Result<Option<Entry>, Missing> {
        if self.was_empty { Ok(None) } else { ledger.rows.pair((self.incarnation, self.name, key)) }
    }

    fn has_changed(&self) -> bool {
        !self.events.is_empty()
    }

    /// Rule 3.10. A full window needs no further counting: nothing can be seen of it.
    fn count_attempt(&mut self, ledger: &Ledger<'_>) -> Result<(), Refusal> {
        let limit = ledger.limits.attempts_per_minute;
        if limit > 0 {
            let counted = self.state.attempts.one_more(ledger.now(), limit);
            self.state.attempts = counted.ok_or(Refusal::TooManyAttempts)?;
            self.attempted = true;
        }
        Ok(())
    }

    /// Rules 3.4 and 3.7 for one pair of a set.
    fn judge_set(
        &mut self,
        ledger: &Ledger<'_>,
        version: Seq,
        key: &Key,
        value: &Value,
        claim: Claim,
    ) -> Result<ItemOutcome, Missing> {
        let before = self.entry(ledger, key)?;
        if !claim_fits(ledger.command.operator.kind, claim, before.as_ref()) {
            return Ok(refused(ItemVerdict::Conflict, key, before.as_ref()));
        }
        let lives = matches!(before, Some(Entry::Live { .. }));
        if !lives && self.state.live >= ledger.limits.pairs_per_message {
            return Ok(refused(ItemVerdict::Full, key, before.as_ref()));
        }
        if !lives {
            self.state.live += 1;
            self.state.tombstones = self.state.tombstones.saturating_sub(u32::from(before.is_some()));
        }
        Ok(self.accept(key, before, Entry::Live { value: value.clone(), seq: version }))
    }

    /// Rules 3.4 and 3.6 for one key of a delete. That there is nothing to delete is said first.
    fn judge_delete(
        &mut self,
        ledger: &Ledger<'_>,
        version: Seq,
        key: &Key,
        claim: Claim,
    ) -> Result<ItemOutcome, Missing> {
        let before = self.entry(ledger, key)?;
        if !matches!(before, Some(Entry::Live { .. })) {
            return Ok(refused(ItemVerdict::NoSuchPair, key, before.as_ref()));
        }
        if !claim_fits(ledger.command.operator.kind, claim, before.as_ref()) {
            return Ok(refused(ItemVerdict::Conflict, key, before.as_ref()));
        }
        self.state.live = self.state.live.saturating_sub(1);
        self.state.tombstones += 1;
        Ok(self.accept(key, before, Entry::Deleted { seq: version }))
    }

    fn accept(&mut self, key: &Key, before: Option<Entry>, after: Entry) -> ItemOutcome {
        let pair = Pair::of(key.clone(), Some(&after));
        self.changed.push(ChangedPair {
            key: key.clone(),
            value: pair.value.clone(),
            seq: pair.seq,
            previous: before.map(previous),
        });
        self.written.insert(key.clone(), Some(after));
        ItemOutcome { verdict: ItemVerdict::Accepted, pair }
    }

    /// Rule 3.2: one number for all pairs that a request changes, none if it changes nothing.
    fn seal(&mut self, operation: Operation) {
        if !self.changed.is_empty() {
            self.state.latest = self.state.latest.next();
            let pairs = std::mem::take(&mut self.changed);
            self.tell(operation, false, pairs);
        }
    }

    /// Rule 3.6: a clear drops pairs and tombstones and takes a number even of an empty set (rule 3.2).
    fn clear(&mut self, ledger: &Ledger<'_>) -> Result<(), Missing> {
        let version = self.state.latest.next();
        let mut dropped = Vec::new();
        for (key, entry) in ledger.rows.0.pairs(self.incarnation, self.name)?.iter() {
            if matches!(entry, Entry::Live { .. }) {
                let previous = Some(previous(entry.clone()));
                dropped.push(ChangedPair { key: key.clone(), value: None, seq: version, previous });
            }
            self.written.insert(key.clone(), None);
        }
        self.state = ExtensionState { latest: version, clear: version, live: 0, tombstones: 0, ..self.state };
        self.tell(Operation::Clear, false, dropped);
        Ok(())
    }

    /// Rule 3.7: a clear, then the live pairs again under the next number or numbers. Gives what the set holds
    /// afterwards.
    fn compact(&mut self, ledger: &Ledger<'_>) -> Result<BTreeMap<Key, Entry>, Missing> {
        let mut live = BTreeMap::new();
        let stored = ledger.rows.0.pairs(self.incarnation, self.name)?;
        let written: Vec<_> = self.written.iter().map(|(key, entry)| (key.clone(), entry.clone())).collect();
        for (key, entry) in stored.iter().cloned().map(|(key, entry)| (key, Some(entry))).chain(written) {
            self.written.insert(key.clone(), None);
            match entry {
                Some(Entry::Live { value, seq }) => live.insert(key, (value, seq)),
                Some(Entry::Deleted { .. }) | None => live.remove(&key),
            };
        }
        self.state.latest = self.state.latest.next();
        self.state.clear = self.state.latest;
        self.state.tombstones = 0;
        self.tell(Operation::Clear, true, Vec::new());
        let live: Vec<_> = live.into_iter().collect();
        let mut held = BTreeMap::new();
        for pairs in live.chunks(ledger.limits.pairs_per_pull.clamp(1, PAIRS_PER_NUMBER)) {
            let version = self.state.latest.next();
            self.state.latest = version;
            let told = pairs.iter().map(|(key, (value, seq))| ChangedPair {
                key: key.clone(),
                value: Some(value.clone()),
                seq: version,
                previous: Some(Previous { value: Some(value.clone()), seq: *seq }),
            });
            let told: Vec<_> = told.collect();
            for (key, (value, _)) in pairs {
                let entry = Entry::Live { value: value.clone(), seq: version };
                self.written.insert(key.clone(), Some(entry.clone()));
                held.insert(key.clone(), entry);
            }
            self.tell(Operation::Set, true, told);
        }
        Ok(held)
    }

    fn tell(&mut self, operation: Operation, compaction: bool, pairs: Vec<ChangedPair>) {
        self.events.push(ExtensionChange {
            message: self.name,
            sender_tiny_id: self.message.sender_tiny_id,
            client_time: self.message.client_time,
            random: self.message.random,
            operation,
            compaction,
            pairs,
            latest: self.state.latest,
            clear: self.state.clear,
        });
    }

    /// Writes pairs, state and events, and nothing at all where nothing changed and no attempt is counted.
    fn write(self, ledger: &mut Ledger<'_>, opened: &mut Opened<impl Home>) {
        let part = |part| RowKey::Within(self.incarnation, Part::Message(self.name, part));
        if self.events.is_empty() && !self.attempted {
            return;
        }
        ledger.put(part(MessagePart::Extension), Row::Extension(self.state));
        for (key, entry) in self.written {
            match entry {
                Some(entry) => ledger.put(part(MessagePart::Pair(key)), Row::Pair(entry)),
                None => ledger.remove(part(MessagePart::Pair(key))),
            }
        }
        if !self.events.is_empty() {
            for event in self.events {
                ledger.event(opened, Happening::Extension(event));
            }
            ledger.close(opened);
        }
    }
}

fn refused(verdict: ItemVerdict, key: &Key, held: Option<&Entry>) -> ItemOutcome {
    ItemOutcome { verdict, pair: Pair::of(key.clone(), held) }
}

fn previous(entry: Entry) -> Previous {
    match entry {
        Entry::Live { value, seq } => Previous { value: Some(value), seq },
        Entry::Deleted { seq } => Previous { value: None, seq },
    }
}
