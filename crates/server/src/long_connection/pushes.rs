//! Events as clients are told them (long-connection.md sections 6 and 7).

use axum::body::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use sidenote_core::event::{ChangedPair, Event, ExtensionChange, Happening, Operation};
use sidenote_core::extension::Value;
use sidenote_core::ids::{Conversation, GroupId, MessageName, MsgKey, MsgSeq, TinyId, UserId};
use sidenote_core::message::{Message, MessageBody, Priority};

use super::frame;
use super::unacknowledged::PushName;

/// The number of an event. Clients go by the members beside it, apart from a few numbers that mean something else.
const EVENT: u8 = 3;

/// The push that tells an event, if it is one that clients are told: messages and changes of pairs. `people` are the two
/// accounts of a one-to-one conversation; `body` is what a message says; without it the message was recalled before it
/// could be told.
pub(super) fn of_event(
    conversation: &Conversation,
    people: &[(UserId, TinyId)],
    event: &Event,
    body: Option<&MessageBody>,
    name: PushName,
) -> Option<Bytes> {
    let json = match conversation {
        Conversation::Group(group) => match &event.what {
            Happening::MessageSent { seq, message } if !message.imported => {
                of_message(group, Some(*seq), message, body?)?
            }
            Happening::TransientMessage { message, body } => of_message(group, None, message, body)?,
            Happening::Extension(change) => of_change(Info::of_group(group, change)?, change)?,
            _ => return None,
        },
        Conversation::Direct(one, other) => match &event.what {
            Happening::DirectSent { key, message } => {
                of_direct_message(opposite(one, other, &message.sender), *key, message, body?)?
            }
            Happening::DirectTransient { key, message, body } => {
                of_direct_message(opposite(one, other, &message.sender), *key, message, body)?
            }
            Happening::Extension(change) => {
                let (sender, _) = people.iter().find(|(_, tiny_id)| *tiny_id == change.sender_tiny_id)?;
                of_change(Info::of_direct(sender, opposite(one, other, sender), change)?, change)?
            }
            _ => return None,
        },
    };
    Some(frame::push(&json, Some(&name.text())))
}

/// The other one of the two, or the same where both are.
fn opposite<'a>(one: &'a UserId, other: &'a UserId, user: &UserId) -> &'a UserId {
    if one == user { other } else { one }
}

/// The push that ends a login on this connection although the connection stands.
pub(super) fn kick(kind: Kick) -> Bytes {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Notify {
        kick_type: u8,
        new_instance_info: Nothing,
    }
    #[derive(Serialize)]
    struct Nothing {}
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Item {
        kickout_msg_notify: Notify,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Kicked {
        event: u8,
        #[serde(rename = "C2cNotifyMsgArray")]
        items: [Item; 1],
    }
    let notify = Notify { kick_type: kind as u8, new_instance_info: Nothing {} };
    let kicked = Kicked { event: EVENT, items: [Item { kickout_msg_notify: notify }] };
    frame::push(&to_json(&kicked), None)
}

/// Why somebody is kicked (`KickType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kick {
    /// Another instance of the client has logged in.
    OtherLogin = 1,
    /// The account was removed.
    Removed = 3,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MessageEvent<'a> {
    event: u8,
    group_msg_array: [WireMessage<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WireMessage<'a> {
    #[serde(rename = "From_Account")]
    from_account: &'a str,
    to_group_id: &'a str,
    /// A string, because it goes beyond 2^53.
    tiny_id: String,
    /// 0 for a message that is not stored.
    msg_seq: u64,
    msg_random: u32,
    msg_client_time: u64,
    msg_time: u64,
    msg_priority: &'static str,
    support_message_extension: u8,
    msg_body: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    cloud_custom_data: Option<&'a str>,
    group_info: GroupInfo<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GroupInfo<'a> {
    group_id: &'a str,
}

fn of_message(
    group: &GroupId,
    seq: Option<MsgSeq>,
    message: &Message,
    body: &MessageBody,
) -> Option<Vec<u8>> {
    Some(to_json(&MessageEvent {
        event: EVENT,
        group_msg_array: [WireMessage {
            from_account: message.sender.as_str(),
            to_group_id: group.as_str(),
            tiny_id: message.sender_tiny_id.get().to_string(),
            msg_seq: seq.map_or(0, MsgSeq::get),
            msg_random: message.random,
            msg_client_time: message.client_time,
            msg_time: message.sent_at.secs(),
            msg_priority: match message.priority {
                Priority::High => "High",
                Priority::Normal => "Normal",
                Priority::Low => "Low",
            },
            support_message_extension: u8::from(message.supports_extension),
            msg_body: elements(body)?,
            cloud_custom_data: cloud_custom_data(body),
            group_info: GroupInfo { group_id: group.as_str() },
        }],
    }))
}

/// The twin of a group's message. Its form is inferred, see docs/decisions/0016-long-connection.md.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DirectMessageEvent<'a> {
    event: u8,
    c2c_msg_array: [WireDirectMessage<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WireDirectMessage<'a> {
    #[serde(rename = "From_Account")]
    from_account: &'a str,
    #[serde(rename = "To_Account")]
    to_account: &'a str,
    /// A string, because it goes beyond 2^53.
    tiny_id: String,
    msg_key: String,
    msg_seq: u32,
    msg_random: u32,
    msg_client_time: u64,
    /// The time in the key, which is also the `MsgTime` of the answer to the sender.
    msg_time_stamp: u64,
    /// The same.
    msg_time: u64,
    support_message_extension: u8,
    msg_body: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    cloud_custom_data: Option<&'a str>,
}

fn of_direct_message(to: &UserId, key: MsgKey, message: &Message, body: &MessageBody) -> Option<Vec<u8>> {
    Some(to_json(&DirectMessageEvent {
        event: EVENT,
        c2c_msg_array: [WireDirectMessage {
            from_account: message.sender.as_str(),
            to_account: to.as_str(),
            tiny_id: message.sender_tiny_id.get().to_string(),
            msg_key: key.to_string(),
            msg_seq: key.seq,
            msg_random: key.random,
            msg_client_time: message.client_time,
            msg_time_stamp: key.time,
            msg_time: key.time,
            support_message_extension: u8::from(message.supports_extension),
            msg_body: elements(body)?,
            cloud_custom_data: cloud_custom_data(body),
        }],
    }))
}

/// A body is kept as the JSON that it was read from. One that another node sends along with its event is not looked at
/// before, and may come from whoever else can publish on the broker.
fn elements(body: &MessageBody) -> Option<&RawValue> {
    serde_json::from_str(&body.elements).ok()
}

fn cloud_custom_data(body: &MessageBody) -> Option<&str> {
    Some(body.cloud_custom_data.as_str()).filter(|data| !data.is_empty())
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ExtensionEvent<'a> {
    event: u8,
    msg_extension_notify: Notify<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Notify<'a> {
    /// The number of the message's sender, not of the operator.
    tiny_id: String,
    msg_opt_type: u8,
    msg_last_seq: u64,
    #[serde(flatten)]
    message: Info<'a>,
    #[serde(rename = "SetKVInfo", skip_serializing_if = "Option::is_none")]
    set: Option<[Pairs<'a>; 1]>,
    #[serde(rename = "DeleteKVInfo", skip_serializing_if = "Option::is_none")]
    delete: Option<[Pairs<'a>; 1]>,
    #[serde(rename = "ClearKVInfo", skip_serializing_if = "Option::is_none")]
    clear: Option<[Pairs<'a>; 1]>,
}

/// Which message.
#[derive(Serialize)]
enum Info<'a> {
    #[serde(rename = "ExtensionGroupMsgInfo")]
    Group(GroupMessageInfo<'a>),
    #[serde(rename = "ExtensionC2cMsgInfo")]
    Direct(DirectMessageInfo<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GroupMessageInfo<'a> {
    group_id: &'a str,
    msg_seq: u64,
    msg_client_time: u64,
    msg_random: u32,
}

/// The twin of a group's; inferred, see docs/decisions/0016-long-connection.md.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DirectMessageInfo<'a> {
    #[serde(rename = "From_Account")]
    from_account: &'a str,
    #[serde(rename = "To_Account")]
    to_account: &'a str,
    msg_key: String,
    msg_seq: u32,
    msg_client_time: u64,
    msg_random: u32,
}

impl<'a> Info<'a> {
    fn of_group(group: &'a GroupId, change: &ExtensionChange) -> Option<Self> {
        let MessageName::Seq(message) = change.message else { return None };
        Some(Self::Group(GroupMessageInfo {
            group_id: group.as_str(),
            msg_seq: message.get(),
            msg_client_time: change.client_time,
            msg_random: change.random,
        }))
    }

    fn of_direct(from: &'a UserId, to: &'a UserId, change: &ExtensionChange) -> Option<Self> {
        let MessageName::Key(key) = change.message else { return None };
        Some(Self::Direct(DirectMessageInfo {
            from_account: from.as_str(),
            to_account: to.as_str(),
            msg_key: key.to_string(),
            msg_seq: key.seq,
            msg_client_time: change.client_time,
            msg_random: change.random,
        }))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Pairs<'a> {
    msg_key_value: Vec<WirePair<'a>>,
    clear_msg_seq: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WirePair<'a> {
    key: &'a str,
    value: &'a str,
    seq: u64,
}

impl<'a> WirePair<'a> {
    fn of(changed: &'a ChangedPair) -> Self {
        Self {
            key: changed.key.as_str(),
            value: changed.value.as_ref().map_or("", Value::as_str),
            seq: changed.seq.get(),
        }
    }
}

fn of_change(message: Info<'_>, change: &ExtensionChange) -> Option<Vec<u8>> {
    let pairs = || Pairs {
        msg_key_value: change.pairs.iter().map(WirePair::of).collect(),
        clear_msg_seq: change.clear.get(),
    };
    // Clients take an empty list for news about nothing.
    if change.operation != Operation::Clear && change.pairs.is_empty() {
        return None;
    }
    let (mut set, mut delete, mut clear) = (None, None, None);
    let msg_opt_type = match change.operation {
        Operation::Set => {
            set = Some([pairs()]);
            1
        }
        Operation::Delete => {
            delete = Some([pairs()]);
            2
        }
        Operation::Clear => {
            // Clients drop what they hold up to this number, and need no list for it.
            clear = Some([Pairs { msg_key_value: Vec::new(), clear_msg_seq: change.clear.get() }]);
            3
        }
    };
    Some(to_json(&ExtensionEvent {
        event: EVENT,
        msg_extension_notify: Notify {
            tiny_id: change.sender_tiny_id.get().to_string(),
            msg_opt_type,
            msg_last_seq: change.latest.get(),
            message,
            set,
            delete,
            clear,
        },
    }))
}

fn to_json(event: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(event).expect("texts, numbers and a body are always JSON")
}

#[cfg(test)]
mod tests;
