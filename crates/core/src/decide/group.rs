//! Making, describing and destroying groups.

use std::sync::Arc;

use crate::command::{GroupPatch, NewGroup};
use crate::debt::Task;
use crate::decide::ledger::Opened;
use crate::decide::{Judged, Ledger, Outcome, member};
use crate::event::Happening;
use crate::group::{Counters, CustomField, Group, GroupType, MAX_CUSTOM_FIELDS, Role};
use crate::ids::{ConversationId, UserId};
use crate::refusal::Refusal;
use crate::rows::{Part, Row, RowKey};

pub(super) fn create(ledger: &mut Ledger<'_>, id: &ConversationId, new: &NewGroup) -> Judged {
    if let Some(existing) = ledger.rows.group(id)? {
        let owner = new.owner.as_ref().map(|owner| &owner.user);
        let same_owner = owner.is_some() && existing.owner.as_ref() == owner;
        return Ok(Err(if same_owner { Refusal::GroupIdTakenByOwner } else { Refusal::GroupIdTaken }));
    }
    let group = Arc::new(Group {
        incarnation: new.incarnation,
        kind: new.kind,
        owner: new.owner.as_ref().map(|owner| owner.user.clone()),
        profile: new.profile.clone(),
        created_at: new.created_at,
        info_seq: 1,
        info_changed_at: new.created_at,
    });
    let mut opened = Opened {
        id: id.clone(),
        home: Arc::clone(&group),
        counters: Counters::default(),
        outbox: ledger.new_outbox(id),
    };
    ledger.put(RowKey::Conversation(id.clone()), Row::Group(group));
    ledger.event(&mut opened, Happening::GroupCreated { imported: new.imported });
    let members: Vec<_> = new.owner.iter().chain(&new.members).cloned().collect();
    if let Err(refusal) = member::enrol(ledger, &mut opened, &members, new.imported)? {
        return Ok(Err(refusal));
    }
    ledger.close(&opened);
    let first_trim = ledger.now().plus_millis(ledger.limits.events_kept_millis);
    ledger.owe(first_trim, Task::TrimEvents(id.clone(), new.incarnation));
    Ok(Ok(Outcome::Done))
}

pub(super) fn modify(ledger: &mut Ledger<'_>, id: &ConversationId, patch: &GroupPatch) -> Judged {
    let mut opened = match ledger.open(id)? {
        Ok(opened) => opened,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if patch.max_members.is_some_and(|max| max < opened.counters.members) {
        return Ok(Err(Refusal::BelowMemberCount));
    }
    let mut group = Group::clone(&opened.home);
    let profile = &mut group.profile;
    set(&mut profile.name, patch.name.as_ref());
    set(&mut profile.introduction, patch.introduction.as_ref());
    set(&mut profile.notification, patch.notification.as_ref());
    set(&mut profile.face_url, patch.face_url.as_ref());
    set(&mut profile.apply_join, patch.apply_join.as_ref());
    set(&mut profile.invite_join, patch.invite_join.as_ref());
    set(&mut profile.mute_all, patch.mute_all.as_ref());
    set(&mut profile.history_before_join, patch.history_before_join.as_ref());
    if opened.home.kind != GroupType::AvChatRoom {
        set(&mut profile.max_members, patch.max_members.map(Some).as_ref());
    }
    merge(&mut profile.custom, &patch.custom);
    if profile.custom.len() > MAX_CUSTOM_FIELDS {
        return Ok(Err(Refusal::TooManyCustomFields));
    }
    group.info_seq += 1;
    group.info_changed_at = ledger.now();
    ledger.put(RowKey::Conversation(id.clone()), Row::Group(Arc::new(group)));
    ledger.event(&mut opened, Happening::GroupChanged);
    ledger.close(&opened);
    Ok(Ok(Outcome::Done))
}

pub(super) fn destroy(ledger: &mut Ledger<'_>, id: &ConversationId) -> Judged {
    let mut opened = match ledger.open(id)? {
        Ok(opened) => opened,
        Err(refusal) => return Ok(Err(refusal)),
    };
    // From here on nobody can find the incarnation, so its rows can be removed at leisure.
    ledger.remove(RowKey::Conversation(id.clone()));
    ledger.event(&mut opened, Happening::GroupDestroyed);
    ledger.close(&opened);
    ledger.owe(ledger.now(), Task::Reap(id.clone(), opened.incarnation()));
    Ok(Ok(Outcome::Done))
}

pub(super) fn change_owner(ledger: &mut Ledger<'_>, id: &ConversationId, user: &UserId) -> Judged {
    let mut opened = match ledger.open(id)? {
        Ok(opened) => opened,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if opened.home.kind == GroupType::AvChatRoom {
        return Ok(Err(Refusal::TypeForbidsCommand));
    }
    let incarnation = opened.incarnation();
    let Some(new_owner) = ledger.rows.member((incarnation, user))? else {
        return Ok(Err(Refusal::NewOwnerNotAMember));
    };
    let from = opened.home.owner.clone();
    if from.as_ref() == Some(user) {
        return Ok(Ok(Outcome::Done));
    }
    if let Some(old) = &from
        && let Some(member) = ledger.rows.member((incarnation, old))?
    {
        let member = crate::group::Member { role: Role::Member, ..(*member).clone() };
        ledger.put(RowKey::Within(incarnation, Part::Member(old.clone())), Row::Member(Arc::new(member)));
    }
    let member = crate::group::Member { role: Role::Owner, ..(*new_owner).clone() };
    ledger.put(RowKey::Within(incarnation, Part::Member(user.clone())), Row::Member(Arc::new(member)));
    let group = Group { owner: Some(user.clone()), ..(*opened.home).clone() };
    ledger.put(RowKey::Conversation(id.clone()), Row::Group(Arc::new(group)));
    ledger.event(&mut opened, Happening::OwnerChanged { from, to: user.clone() });
    ledger.close(&opened);
    Ok(Ok(Outcome::Done))
}

fn set<T: Clone>(field: &mut T, new: Option<&T>) {
    if let Some(new) = new {
        field.clone_from(new);
    }
}

/// Sets custom fields; an empty value removes one (groups-and-messages.md section 3.4).
fn merge(fields: &mut Vec<CustomField>, changes: &[CustomField]) {
    for change in changes {
        fields.retain(|field| field.key != change.key);
        if !change.value.is_empty() {
            fields.push(change.clone());
        }
    }
}
