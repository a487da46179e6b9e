//! Messages between two accounts, and their extension sets.

use crate::command::{Extend, NewDirectMessage};
use crate::debt::Task;
use crate::decide::extension::{admit_message, change};
use crate::decide::ledger::Opened;
use crate::decide::message::{keep, remember, repeated, withdraw};
use crate::decide::{Judged, Ledger, Outcome};
use crate::direct::{Direct, Peers};
use crate::event::{Happening, Operator};
use crate::group::Counters;
use crate::ids::{MessageName, MsgKey, Recency, Timestamp};
use crate::message::{Message, Priority, Sent};
use crate::refusal::Refusal;
use crate::rows::{Missing, Part, Row, RowKey, Typed};

/// By how many seconds the time in a message's key may run ahead of the clock, so that it has a key of its own.
const MOST_SECONDS_AHEAD: u64 = 9;

pub(super) fn send(ledger: &mut Ledger<'_>, peers: &Peers, new: &NewDirectMessage) -> Judged {
    if !peers.from.is_or_serves(&ledger.command.operator) {
        return Ok(Err(Refusal::NotAParty));
    }
    let (mut opened, is_new) = match open(ledger, peers)? {
        Some(opened) => (opened, false),
        None => (begin(ledger, peers, new)?, true),
    };
    if !is_new
        && !new.online_only
        && let Some(first) = repeated(ledger, opened.incarnation(), new.fingerprint)?
    {
        return Ok(Ok(Outcome::Sent(first)));
    }
    let Some(key) = free_key(ledger, &opened, new)? else {
        return Ok(Err(Refusal::MsgKeysTaken));
    };
    let (name, at) = (MessageName::Key(key), ledger.now());
    let message = Message {
        sender: peers.from.user.clone(),
        sender_tiny_id: peers.from.tiny_id,
        random: new.random,
        client_time: new.client_time.unwrap_or(key.time),
        sent_at: at,
        priority: Priority::Normal,
        supports_extension: new.supports_extension,
        imported: false,
        recalled: false,
    };
    let sent = Sent { name: Some(name), at };
    if new.online_only {
        let what = Happening::DirectTransient { key, message, body: new.body.clone() };
        ledger.event(&mut opened, what);
    } else {
        opened.counters.last_msg_seq += 1;
        opened.counters.last_msg_at = opened.counters.last_msg_at.max(Timestamp::from_secs(key.time));
        keep(ledger, &opened, name, &message, &new.body);
        let place = Part::Recent(Recency::of(key));
        ledger.put(RowKey::Within(opened.incarnation(), place), Row::Recent);
        ledger.event(&mut opened, Happening::DirectSent { key, message });
        remember(ledger, &opened, new.fingerprint, sent);
    }
    ledger.close(&opened);
    Ok(Ok(Outcome::Sent(sent)))
}

pub(super) fn recall(ledger: &mut Ledger<'_>, peers: &Peers, key: MsgKey) -> Judged {
    if !peers.from.is_or_serves(&ledger.command.operator) {
        return Ok(Err(Refusal::NotAParty));
    }
    let Some(mut opened) = open(ledger, peers)? else {
        return Ok(Err(Refusal::NothingToRecall));
    };
    let name = MessageName::Key(key);
    let Some(message) = ledger.rows.message((opened.incarnation(), name))? else {
        return Ok(Err(Refusal::NothingToRecall));
    };
    if message.sender != peers.from.user {
        return Ok(Err(Refusal::NotTheSender));
    }
    if !withdraw(ledger, &opened, name)? {
        return Ok(Err(Refusal::AlreadyRecalled));
    }
    ledger.event(&mut opened, Happening::DirectRecalled { key });
    ledger.close(&opened);
    Ok(Ok(Outcome::Done))
}

pub(super) fn extend(ledger: &mut Ledger<'_>, peers: &Peers, key: MsgKey, extend: &Extend) -> Judged {
    let (direct, message) = match admit(&ledger.rows, &ledger.command.operator, peers, key)? {
        Ok(admitted) => admitted,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let mut opened = opened(ledger, peers, direct)?;
    change(ledger, &mut opened, MessageName::Key(key), &message, extend)
}

/// Who may look at or change the extension set of which message, in the order of rule 3.12: both accounts and
/// administrators, of a message that exists, was sent from the one to the other, and takes pairs.
pub(crate) fn admit(
    rows: &Typed<'_>,
    operator: &Operator,
    peers: &Peers,
    key: MsgKey,
) -> Judged<(Direct, std::sync::Arc<Message>)> {
    if !peers.admit(operator) {
        return Ok(Err(Refusal::NotAParty));
    }
    let Some(direct) = find(rows, peers)? else {
        return Ok(Err(Refusal::NoSuchMessage));
    };
    let message = rows.message((direct.incarnation, MessageName::Key(key)))?;
    if message.as_ref().is_some_and(|message| message.sender != peers.from.user) {
        return Ok(Err(Refusal::NotTheSender));
    }
    Ok(admit_message(message).map(|message| (direct, message)))
}

/// The conversation of these two accounts. That of accounts which had their names before is not theirs.
pub(crate) fn find(rows: &Typed<'_>, peers: &Peers) -> Result<Option<Direct>, Missing> {
    Ok(rows.direct(&peers.id())?.filter(|direct| direct.tiny_ids == peers.tiny_ids()))
}

fn open(ledger: &Ledger<'_>, peers: &Peers) -> Result<Option<Opened<Direct>>, Missing> {
    find(&ledger.rows, peers)?.map(|direct| opened(ledger, peers, direct)).transpose()
}

fn opened(ledger: &Ledger<'_>, peers: &Peers, direct: Direct) -> Result<Opened<Direct>, Missing> {
    let counters = ledger.rows.counters(direct.incarnation)?.unwrap_or_default();
    let outbox = ledger.outbox(&peers.id(), direct.incarnation)?;
    Ok(Opened { id: peers.id(), home: direct, counters, outbox })
}

/// Begins the conversation. What accounts of the same names said before is on its way out from then on.
fn begin(ledger: &mut Ledger<'_>, peers: &Peers, new: &NewDirectMessage) -> Result<Opened<Direct>, Missing> {
    let (id, now) = (peers.id(), ledger.now());
    if let Some(old) = ledger.rows.direct(&id)? {
        ledger.owe(now, Task::Reap(id.clone(), old.incarnation));
    }
    let direct = Direct { incarnation: new.incarnation, tiny_ids: peers.tiny_ids(), begun_at: now };
    ledger.put(RowKey::Conversation(id.clone()), Row::Direct(direct));
    let first_trim = now.plus_millis(ledger.limits.events_kept_millis);
    ledger.owe(first_trim, Task::TrimEvents(id.clone(), direct.incarnation));
    let outbox = ledger.new_outbox(&id);
    Ok(Opened { id, home: direct, counters: Counters::default(), outbox })
}

/// A key that no message of the conversation has: that of this second as a rule, or of one of the next few. Nothing
/// is looked up where the second is later than that of any message so far.
fn free_key(
    ledger: &Ledger<'_>,
    opened: &Opened<Direct>,
    new: &NewDirectMessage,
) -> Result<Option<MsgKey>, Missing> {
    let now = ledger.now().secs();
    for time in now..=now.saturating_add(MOST_SECONDS_AHEAD) {
        let key = MsgKey { seq: new.seq, random: new.random, time };
        if time > opened.counters.last_msg_at.secs()
            || ledger.rows.message((opened.incarnation(), MessageName::Key(key)))?.is_none()
        {
            return Ok(Some(key));
        }
    }
    Ok(None)
}
