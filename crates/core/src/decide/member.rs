//! Joining and leaving.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::command::NewMember;
use crate::debt::Task;
use crate::decide::ledger::Opened;
use crate::decide::{Added, Judged, Ledger, Outcome};
use crate::event::Happening;
use crate::group::{Group, GroupType, Member, Role};
use crate::ids::{ConversationId, Timestamp, TinyId, UserId};
use crate::refusal::Refusal;
use crate::rows::{Part, Row, RowKey};

pub(super) fn add(
    ledger: &mut Ledger<'_>,
    id: &ConversationId,
    members: &[NewMember],
    imported: bool,
) -> Judged {
    let mut opened = match ledger.open(id)? {
        Ok(opened) => opened,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if opened.home.kind == GroupType::AvChatRoom {
        return Ok(Err(Refusal::TypeForbidsCommand));
    }
    let added = match enrol(ledger, &mut opened, members, imported)? {
        Ok(added) => added,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if added.iter().any(|(_, added)| *added == Added::Now) {
        ledger.close(&opened);
    }
    Ok(Ok(Outcome::MembersAdded(added)))
}

/// Writes member rows, one event for all who are new, and the debt to tell their accounts. The caller closes the
/// conversation.
pub(super) fn enrol(
    ledger: &mut Ledger<'_>,
    opened: &mut Opened,
    members: &[NewMember],
    imported: bool,
) -> Judged<Vec<(UserId, Added)>> {
    let incarnation = opened.incarnation();
    let mut added = Vec::with_capacity(members.len());
    let mut joined = Vec::new();
    let mut seen = BTreeSet::new();
    for new in members {
        let known = ledger.rows.member((incarnation, &new.user))?;
        // A row of a deleted account of the same name is on its way out; whoever comes now takes its place in the
        // list, but not its rights.
        let is_same = known.as_ref().is_some_and(|known| known.tiny_id == new.tiny_id);
        if is_same || !seen.insert(&new.user) {
            added.push((new.user.clone(), Added::Already));
            continue;
        }
        match known {
            None => opened.counters.members += 1,
            Some(gone) if gone.role == Role::Owner => disown(ledger, &opened.id, &opened.home),
            Some(_) => {}
        }
        let member = Member {
            tiny_id: new.tiny_id,
            role: new.role,
            joined_at: new.joined_at.unwrap_or(ledger.now()),
            read_seq: opened.counters.last_msg_seq.saturating_sub(new.unread),
            last_sent_at: Timestamp::default(),
            muted_until: Timestamp::default(),
            name_card: String::new(),
            custom: new.custom.clone(),
        };
        ledger
            .put(RowKey::Within(incarnation, Part::Member(new.user.clone())), Row::Member(Arc::new(member)));
        joined.push(new.user.clone());
        added.push((new.user.clone(), Added::Now));
    }
    if joined.is_empty() {
        return Ok(Ok(added));
    }
    if opened.home.profile.max_members.is_some_and(|max| opened.counters.members > max) {
        return Ok(Err(Refusal::GroupFull));
    }
    let number = ledger.event(opened, Happening::MembersJoined { users: joined, imported });
    ledger.owe(ledger.now(), Task::Announce(opened.id.clone(), incarnation, number));
    Ok(Ok(added))
}

pub(super) fn remove(ledger: &mut Ledger<'_>, id: &ConversationId, users: &[UserId], reason: &str) -> Judged {
    let mut opened = match ledger.open(id)? {
        Ok(opened) => opened,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if opened.home.kind == GroupType::AvChatRoom {
        return Ok(Err(Refusal::TypeForbidsCommand));
    }
    let mut gone = BTreeSet::new();
    for user in users {
        if let Some(member) = ledger.rows.member((opened.incarnation(), user))? {
            if member.role == Role::Owner {
                return Ok(Err(Refusal::OwnerStays));
            }
            gone.insert(user.clone());
        }
    }
    strike(ledger, &mut opened, gone.into_iter().collect(), reason);
    Ok(Ok(Outcome::Done))
}

pub(super) fn forget(ledger: &mut Ledger<'_>, id: &ConversationId, user: &UserId, tiny_id: TinyId) -> Judged {
    let mut opened = match ledger.open(id)? {
        Ok(opened) => opened,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let member = ledger.rows.member((opened.incarnation(), user))?;
    let Some(member) = member.filter(|member| member.tiny_id == tiny_id) else {
        return Ok(Err(Refusal::NotAMember));
    };
    if member.role == Role::Owner {
        disown(ledger, id, &opened.home);
    }
    strike(ledger, &mut opened, vec![user.clone()], "the account was deleted");
    Ok(Ok(Outcome::Done))
}

/// Leaves a group without an owner.
fn disown(ledger: &mut Ledger<'_>, id: &ConversationId, group: &Group) {
    let group = Group { owner: None, ..group.clone() };
    ledger.put(RowKey::Conversation(id.clone()), Row::Group(Arc::new(group)));
}

/// Removes member rows, with one event for all and the debt to tell their accounts.
fn strike(ledger: &mut Ledger<'_>, opened: &mut Opened, users: Vec<UserId>, reason: &str) {
    if users.is_empty() {
        return;
    }
    let incarnation = opened.incarnation();
    for user in &users {
        ledger.remove(RowKey::Within(incarnation, Part::Member(user.clone())));
        opened.counters.members = opened.counters.members.saturating_sub(1);
    }
    let number = ledger.event(opened, Happening::MembersLeft { users, reason: reason.to_owned() });
    ledger.owe(ledger.now(), Task::Announce(opened.id.clone(), incarnation, number));
    ledger.close(opened);
}
