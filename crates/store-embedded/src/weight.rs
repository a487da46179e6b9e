//! How much memory rows take, roughly and never less than they take encoded.

use std::mem::size_of;

use sidenote_core::debt::{Debt, Task};
use sidenote_core::event::{ChangedPair, Event, Happening};
use sidenote_core::extension::{Entry, Key, Value};
use sidenote_core::group::{CustomField, Group};
use sidenote_core::ids::{AccountId, Conversation, ConversationId, UserId};
use sidenote_core::message::{Message, MessageBody};
use sidenote_core::outbox::DeadLetter;
use sidenote_core::rows::{MessagePart, Part, Row, RowKey};

/// A shared text's two counters, and what an allocator adds.
const SHARED: usize = 32;

/// Bytes of a key.
pub(crate) fn key_bytes(key: &RowKey) -> usize {
    let texts = match key {
        RowKey::Account(account) => account_bytes(account),
        RowKey::Membership(account, group, _) => account_bytes(account) + SHARED + group.as_str().len(),
        RowKey::Conversation(id) | RowKey::Outbox(id, _) | RowKey::DeadLetter(id, ..) => {
            conversation_bytes(id)
        }
        RowKey::Within(_, part) => match part {
            Part::Member(user) => user_bytes(user),
            Part::Message(_, MessagePart::Pair(key)) => SHARED + key.as_str().len(),
            Part::Counters | Part::Repeat(_) | Part::Message(..) | Part::Recent(_) => 0,
        },
        RowKey::Event(..) => 0,
        RowKey::Debt(Debt { task, .. }) => match task {
            Task::Forsake(account, _) => account_bytes(account),
            Task::Announce(id, ..)
            | Task::Reap(id, ..)
            | Task::Strip(id, ..)
            | Task::ForgetSend(id, ..)
            | Task::TrimEvents(id, ..) => conversation_bytes(id),
        },
    };
    size_of::<RowKey>() + texts
}

/// Bytes of a row.
pub(crate) fn row_bytes(row: &Row) -> usize {
    let beyond = match row {
        Row::Account(it) => size_of_val(&**it) + SHARED + it.nick.len() + it.face_url.len(),
        Row::Group(it) => group_bytes(it),
        Row::Member(it) => size_of_val(&**it) + SHARED + it.name_card.len() + custom_bytes(&it.custom),
        Row::Message(it) => SHARED + message_bytes(it),
        Row::Body(it) => SHARED + body_bytes(it),
        Row::Pair(entry) => entry_bytes(entry),
        Row::Event(it) => SHARED + event_bytes(it),
        Row::Outbox(it) => it.gone.as_ref().map_or(0, |gone| group_bytes(&gone.group)),
        Row::DeadLetter(it) => SHARED + letter_bytes(it),
        Row::Membership(_)
        | Row::Direct(_)
        | Row::Counters(_)
        | Row::Repeat(_)
        | Row::Extension(_)
        | Row::Recent
        | Row::Debt => 0,
    };
    size_of::<Row>() + beyond
}

fn user_bytes(user: &UserId) -> usize {
    SHARED + user.as_str().len()
}

fn account_bytes(account: &AccountId) -> usize {
    user_bytes(&account.user)
}

fn conversation_bytes(id: &ConversationId) -> usize {
    match &id.conversation {
        Conversation::Group(group) => SHARED + group.as_str().len(),
        Conversation::Direct(one, other) => user_bytes(one) + user_bytes(other),
    }
}

fn group_bytes(group: &Group) -> usize {
    let profile = &group.profile;
    let texts =
        profile.name.len() + profile.introduction.len() + profile.notification.len() + profile.face_url.len();
    let owner = group.owner.as_ref().map_or(0, user_bytes);
    size_of_val(group) + SHARED + texts + owner + custom_bytes(&profile.custom)
}

fn letter_bytes(letter: &DeadLetter) -> usize {
    let request = letter.request.as_ref();
    let request = request.map_or(0, |it| it.command.len() + it.origin.len() + it.body.len());
    size_of_val(letter) + letter.reason.len() + request
}

fn custom_bytes(fields: &[CustomField]) -> usize {
    fields.iter().map(|field| size_of_val(field) + field.key.len() + field.value.len()).sum()
}

fn message_bytes(message: &Message) -> usize {
    size_of_val(message) + user_bytes(&message.sender)
}

fn body_bytes(body: &MessageBody) -> usize {
    size_of_val(body) + body.elements.len() + body.cloud_custom_data.len() + body.further.len()
}

fn entry_bytes(entry: &Entry) -> usize {
    entry.value().map_or(0, value_bytes)
}

fn value_bytes(value: &Value) -> usize {
    SHARED + value.as_str().len()
}

fn extension_key_bytes(key: &Key) -> usize {
    SHARED + key.as_str().len()
}

fn changed_bytes(pair: &ChangedPair) -> usize {
    let previous = pair.previous.as_ref().and_then(|previous| previous.value.as_ref());
    let values = pair.value.iter().chain(previous).map(value_bytes).sum::<usize>();
    size_of_val(pair) + extension_key_bytes(&pair.key) + values
}

fn event_bytes(event: &Event) -> usize {
    let users = |users: &[UserId]| users.iter().map(|user| size_of_val(user) + user_bytes(user)).sum();
    let what: usize = match &event.what {
        Happening::GroupCreated { .. }
        | Happening::GroupChanged
        | Happening::GroupDestroyed
        | Happening::DirectRecalled { .. } => 0,
        Happening::OwnerChanged { from, to } => from.as_ref().map_or(0, user_bytes) + user_bytes(to),
        Happening::MembersJoined { users: who, .. } => users(who),
        Happening::MembersLeft { users: who, reason } => users(who) + reason.len(),
        Happening::MessageSent { message, .. } | Happening::DirectSent { message, .. } => {
            message_bytes(message)
        }
        Happening::TransientMessage { message, body } | Happening::DirectTransient { message, body, .. } => {
            message_bytes(message) + body_bytes(body)
        }
        Happening::MessagesRecalled { seqs, reason } => size_of_val(&seqs[..]) + reason.len(),
        Happening::Extension(change) => change.pairs.iter().map(changed_bytes).sum(),
    };
    size_of_val(event) + user_bytes(&event.operator.user) + what
}
