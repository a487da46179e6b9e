//! Sending, importing and recalling messages.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::command::NewMessage;
use crate::debt::Task;
use crate::decide::ledger::{Home, Opened};
use crate::decide::{Judged, Ledger, Outcome};
use crate::event::{CallerKind, Happening};
use crate::group::{Member, Role};
use crate::ids::{ConversationId, Incarnation, MessageName, MsgSeq, Timestamp};
use crate::message::{Fingerprint, Message, MessageBody, Sent};
use crate::refusal::Refusal;
use crate::rows::{MessagePart, Missing, Part, Row, RowKey};

pub(super) fn send(ledger: &mut Ledger<'_>, id: &ConversationId, new: &NewMessage) -> Judged {
    let mut opened = match ledger.open(id)? {
        Ok(opened) => opened,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let (incarnation, now) = (opened.incarnation(), ledger.now());
    let member =
        ledger.rows.member((incarnation, &new.sender))?.filter(|member| member.tiny_id == new.sender_tiny_id);
    let operator = &ledger.command.operator;
    // An administrator may send in anybody's name and without being a member. A connected account is no administrator,
    // and one that was deleted and imported again is not the one that is connected.
    if operator.kind == CallerKind::Connected
        && (member.is_none() || operator.tiny_id != Some(new.sender_tiny_id))
    {
        return Ok(Err(Refusal::NotAMember));
    }
    if !new.sender_is_administrator
        && let Some(member) = &member
        && (member.muted_until > now || (opened.home.profile.mute_all && member.role == Role::Member))
    {
        return Ok(Err(Refusal::Muted));
    }
    let message = header(new, now, false);
    if new.online_only {
        let what = Happening::TransientMessage { message, body: new.body.clone() };
        ledger.event(&mut opened, what);
        ledger.close(&opened);
        return Ok(Ok(Outcome::Sent(Sent { name: None, at: now })));
    }
    if let Some(first) = repeated(ledger, incarnation, new.fingerprint)? {
        return Ok(Ok(Outcome::Sent(first)));
    }
    let sent = store(ledger, &mut opened, message, new);
    if let Some(member) = member {
        let member =
            Member { last_sent_at: now, read_seq: opened.counters.last_msg_seq, ..(*member).clone() };
        ledger.put(
            RowKey::Within(incarnation, Part::Member(new.sender.clone())),
            Row::Member(Arc::new(member)),
        );
    }
    remember(ledger, &opened, new.fingerprint, sent);
    ledger.close(&opened);
    Ok(Ok(Outcome::Sent(sent)))
}

/// Times must ascend, lie before now, after the group's creation and after its latest message, to the second
/// (groups-and-messages.md section 5.2). A message whose time does not fit is refused by itself.
pub(super) fn import(ledger: &mut Ledger<'_>, id: &ConversationId, messages: &[NewMessage]) -> Judged {
    let mut opened = match ledger.open(id)? {
        Ok(opened) => opened,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if opened.home.kind == crate::group::GroupType::AvChatRoom {
        return Ok(Err(Refusal::TypeForbidsCommand));
    }
    let mut outcome = Vec::with_capacity(messages.len());
    for new in messages {
        let at = new.sent_at.unwrap_or(ledger.now());
        let earliest = opened.home.created_at.secs().max(opened.counters.last_msg_at.secs());
        if at.secs() < earliest || at > ledger.now() {
            outcome.push(None);
            continue;
        }
        let message = header(new, at, true);
        outcome.push(Some(store(ledger, &mut opened, message, new)));
    }
    if outcome.iter().any(Option::is_some) {
        ledger.close(&opened);
    }
    Ok(Ok(Outcome::MessagesImported(outcome)))
}

pub(super) fn recall(ledger: &mut Ledger<'_>, id: &ConversationId, seqs: &[MsgSeq], reason: &str) -> Judged {
    let mut opened = match ledger.open(id)? {
        Ok(opened) => opened,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let mut outcome = Vec::with_capacity(seqs.len());
    let mut recalled = BTreeSet::new();
    for seq in seqs {
        let done = !recalled.contains(seq) && withdraw(ledger, &opened, MessageName::Seq(*seq))?;
        if done {
            recalled.insert(*seq);
        }
        outcome.push((*seq, done));
    }
    if !recalled.is_empty() {
        let what =
            Happening::MessagesRecalled { seqs: recalled.into_iter().collect(), reason: reason.to_owned() };
        ledger.event(&mut opened, what);
        ledger.close(&opened);
    }
    Ok(Ok(Outcome::Recalled(outcome)))
}

fn header(new: &NewMessage, at: Timestamp, imported: bool) -> Message {
    Message {
        sender: new.sender.clone(),
        sender_tiny_id: new.sender_tiny_id,
        random: new.random,
        client_time: new.client_time.unwrap_or(at.secs()),
        sent_at: at,
        priority: new.priority,
        supports_extension: new.supports_extension,
        imported,
        recalled: false,
    }
}

/// Gives a message the next number and writes its rows and its event. The caller closes the conversation.
fn store(ledger: &mut Ledger<'_>, opened: &mut Opened, message: Message, new: &NewMessage) -> Sent {
    let at = message.sent_at;
    opened.counters.last_msg_seq += 1;
    opened.counters.last_msg_at = at;
    let seq = MsgSeq::new(opened.counters.last_msg_seq)
        .expect("a group would have to take a million messages a second for 285 years");
    let name = MessageName::Seq(seq);
    keep(ledger, opened, name, &message, &new.body);
    ledger.event(opened, Happening::MessageSent { seq, message });
    Sent { name: Some(name), at }
}

/// Writes header and body of a message.
pub(super) fn keep(
    ledger: &mut Ledger<'_>,
    opened: &Opened<impl Home>,
    name: MessageName,
    message: &Message,
    body: &MessageBody,
) {
    let part = |part| RowKey::Within(opened.incarnation(), Part::Message(name, part));
    ledger.put(part(MessagePart::Header), Row::Message(Arc::new(message.clone())));
    ledger.put(part(MessagePart::Body), Row::Body(Arc::new(body.clone())));
}

/// What was answered to the same send before, if that is not too long ago.
pub(super) fn repeated(
    ledger: &Ledger<'_>,
    incarnation: Incarnation,
    fingerprint: Fingerprint,
) -> Result<Option<Sent>, Missing> {
    let first = ledger.rows.repeat((incarnation, fingerprint))?;
    Ok(first.filter(|first| first.forgotten_at() > ledger.now()))
}

/// Remembers a send for the duplicate check, for as long as that looks back.
pub(super) fn remember(
    ledger: &mut Ledger<'_>,
    opened: &Opened<impl Home>,
    fingerprint: Fingerprint,
    sent: Sent,
) {
    let incarnation = opened.incarnation();
    ledger.put(RowKey::Within(incarnation, Part::Repeat(fingerprint)), Row::Repeat(sent));
    ledger.owe(sent.forgotten_at(), Task::ForgetSend(opened.id.clone(), incarnation, fingerprint));
}

/// Marks a message as recalled and frees what hung on it: body and extension state now, the pairs as a debt.
/// `false`: there is no such message.
pub(super) fn withdraw(
    ledger: &mut Ledger<'_>,
    opened: &Opened<impl Home>,
    name: MessageName,
) -> Result<bool, Missing> {
    let incarnation = opened.incarnation();
    let Some(message) = ledger.rows.message((incarnation, name))?.filter(|message| !message.recalled) else {
        return Ok(false);
    };
    let part = |part| RowKey::Within(incarnation, Part::Message(name, part));
    let message = Message { recalled: true, ..(*message).clone() };
    ledger.put(part(MessagePart::Header), Row::Message(Arc::new(message)));
    ledger.remove(part(MessagePart::Body));
    if ledger.rows.extension((incarnation, name))?.is_some() {
        ledger.remove(part(MessagePart::Extension));
        ledger.owe(ledger.now(), Task::Strip(opened.id.clone(), incarnation, name));
    }
    Ok(true)
}
