//! What the requests of webhooks say: bodies as in webhooks.md sections 2.2 to 2.5 and message-extensions.md section 7.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sidenote_core::event::{
    ChangedPair, Event, ExtensionChange, Happening, Operation, Operator, Platform, Previous,
};
use sidenote_core::extension::Value;
use sidenote_core::group::Group;
use sidenote_core::ids::{Conversation, MessageName, MsgKey, MsgSeq, UserId};
use sidenote_core::message::{Message, MessageBody};
use sidenote_core::query::FoundMessage;

use crate::api::group_type_name;
use crate::webhooks::callback::Callback;

/// An event with what is needed to tell it.
pub(super) struct Telling<'a> {
    pub(super) conversation: &'a Conversation,
    pub(super) event: &'a Event,
    /// The event after it, if there is one yet.
    pub(super) next: Option<&'a Event>,
    /// What the group is like, or was when it was destroyed.
    pub(super) group: Option<&'a Arc<Group>>,
    /// The message that the event is about, as far as it is still there.
    pub(super) message: Option<&'a FoundMessage>,
    /// Whether the operator and previous values are told too.
    pub(super) details: bool,
}

/// What stands for a number of unread messages, which nobody counts here (webhooks.md section 2.5).
const UNREAD_UNKNOWN: i64 = -1;

/// The message that must be at hand to tell this event.
pub(super) fn message_of(event: &Event) -> Option<MessageName> {
    match &event.what {
        Happening::MessageSent { seq, message } if !message.imported => Some(MessageName::Seq(*seq)),
        Happening::DirectSent { key, .. } | Happening::DirectRecalled { key } => Some(MessageName::Key(*key)),
        // The event of a one-to-one message names neither sender nor recipient.
        Happening::Extension(ExtensionChange { message: name @ MessageName::Key(_), .. }) => Some(*name),
        _ => None,
    }
}

/// Which webhook tells an event; `None`: it is silent, as imports are (webhooks.md section 1).
pub(super) fn callback_of(conversation: &Conversation, event: &Event) -> Option<Callback> {
    let is_group = matches!(conversation, Conversation::Group(_));
    match &event.what {
        Happening::Extension(_) if is_group => Some(Callback::AfterGroupMsgExtension),
        Happening::Extension(_) => Some(Callback::AfterC2cMsgExtension),
        Happening::DirectSent { .. } | Happening::DirectTransient { .. } => Some(Callback::AfterC2cSendMsg),
        Happening::DirectRecalled { .. } => Some(Callback::AfterC2cMsgWithDraw),
        Happening::GroupCreated { imported: false } => Some(Callback::AfterCreateGroup),
        Happening::GroupChanged => Some(Callback::AfterGroupInfoChanged),
        Happening::GroupDestroyed => Some(Callback::AfterGroupDestroyed),
        Happening::OwnerChanged { .. } => Some(Callback::AfterChangeGroupOwner),
        Happening::MembersJoined { imported: false, .. } => Some(Callback::AfterNewMemberJoin),
        Happening::MembersLeft { .. } => Some(Callback::AfterMemberExit),
        Happening::MessageSent { message, .. } if !message.imported => Some(Callback::AfterSendMsg),
        Happening::TransientMessage { .. } => Some(Callback::AfterSendMsg),
        Happening::MessagesRecalled { .. } => Some(Callback::AfterRecallMsg),
        Happening::GroupCreated { .. } | Happening::MembersJoined { .. } | Happening::MessageSent { .. } => {
            None
        }
    }
}

/// The members of every body, of which each kind uses some. Their order is that of the samples.
#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(clippy::struct_field_names, reason = "they are named as on the wire")]
struct Body<'a> {
    callback_command: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_id: Option<&'a str>,
    #[serde(rename = "Type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(rename = "From_Account", skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(rename = "To_Account", skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    #[serde(rename = "Operator_Account", skip_serializing_if = "Option::is_none")]
    operator: Option<&'a str>,
    #[serde(rename = "Owner_Account", skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    #[serde(rename = "OldOwner_Account", skip_serializing_if = "Option::is_none")]
    old_owner: Option<&'a str>,
    #[serde(rename = "NewOwner_Account", skip_serializing_if = "Option::is_none")]
    new_owner: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    introduction: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notification: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    face_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    join_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    member_list: Option<Vec<MemberItem<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_member_list: Option<Vec<MemberItem<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_member_list: Option<Vec<MemberItem<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_defined_data_list: Option<Vec<CustomItem<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    random: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_random: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_seq_list: Option<Vec<SeqItem>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    online_only_flag: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_body: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cloud_custom_data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_at_info: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    send_msg_result: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_info: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unread_msg_num: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operate_type: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extension_list: Option<Vec<PairItem<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cleared_list: Option<Vec<PairItem<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clear_seq: Option<u64>,
    event_time: u64,
}

#[derive(Serialize)]
struct MemberItem<'a> {
    #[serde(rename = "Member_Account")]
    account: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CustomItem<'a> {
    key: &'a str,
    value: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SeqItem {
    msg_seq: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PairItem<'a> {
    key: &'a str,
    value: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    /// Absent without details, and where there was neither pair nor tombstone.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<PreviousItem<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PreviousItem<'a> {
    value: &'a str,
    seq: u64,
}

/// Members of a sent message that were kept for readers.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Further<'a> {
    #[serde(borrow)]
    group_at_info: Option<&'a RawValue>,
    #[serde(borrow)]
    forbid_callback_control: Vec<std::borrow::Cow<'a, str>>,
}

/// What a message asks not to be told of (webhooks.md section 1).
fn forbids(body: &MessageBody, what: &str) -> bool {
    further(body).forbid_callback_control.iter().any(|name| name == what)
}

/// The request for an event; `None`: nobody is to be told.
pub(super) fn tell(of: &Telling<'_>) -> Option<String> {
    let callback = callback_of(of.conversation, of.event)?;
    let operator = of.event.operator.user.as_str();
    let mut body = Body {
        callback_command: callback.command(),
        event_time: of.event.at.millis(),
        operator: of.details.then_some(operator),
        ..Body::default()
    };
    if let Conversation::Group(group) = of.conversation {
        body.group_id = Some(group.as_str());
    }
    let kind = of.group.map(|group| group_type_name(group.kind));
    let owner = of.group.and_then(|group| group.owner.as_ref()).map_or("", UserId::as_str);
    let empty = MessageBody::default();
    match &of.event.what {
        Happening::DirectSent { .. }
        | Happening::DirectTransient { .. }
        | Happening::DirectRecalled { .. } => {
            if !between_two(&mut body, of, &empty)? {
                return None;
            }
        }
        Happening::Extension(change) => {
            if let MessageName::Key(key) = change.message {
                let (from, to) = parties(of.conversation, &of.message?.message.sender)?;
                (body.from, body.to) = (Some(from), Some(to));
                body.msg_key = Some(key.to_string());
            }
            extension(&mut body, change, of.details);
        }
        Happening::GroupCreated { .. } => {
            (body.kind, body.operator, body.owner) = (kind, Some(operator), Some(owner));
            body.name = of.group.map(|group| group.profile.name.as_str());
            body.member_list =
                Some(of.next.filter(|next| is_of_creation(next, of.group)).map_or(Vec::new(), joined));
            let custom = of.group.map_or(&[][..], |group| &group.profile.custom);
            let custom = custom.iter().map(|field| CustomItem { key: &field.key, value: &field.value });
            body.user_defined_data_list = Some(custom.collect());
        }
        // The members who came with the group were told with it.
        Happening::MembersJoined { .. } if is_of_creation(of.event, of.group) => return None,
        Happening::MembersJoined { .. } => {
            (body.kind, body.operator, body.join_type) = (kind, Some(operator), Some("Invited"));
            body.new_member_list = Some(joined(of.event));
        }
        Happening::MembersLeft { users, .. } => {
            let by_themselves = users.iter().all(|user| *user == of.event.operator.user);
            let exit = if by_themselves { "Quit" } else { "Kicked" };
            (body.kind, body.operator, body.exit_type) = (kind, Some(operator), Some(exit));
            body.exit_member_list = Some(members(users));
        }
        Happening::GroupChanged => {
            (body.kind, body.operator) = (kind, Some(operator));
            if let Some(group) = of.group {
                let profile = &group.profile;
                body.name = Some(&profile.name);
                body.introduction = Some(&profile.introduction);
                body.notification = Some(&profile.notification);
                body.face_url = Some(&profile.face_url);
            }
        }
        Happening::GroupDestroyed => {
            (body.kind, body.owner) = (kind, Some(owner));
            body.name = of.group.map(|group| group.profile.name.as_str());
        }
        Happening::OwnerChanged { from, to } => {
            body.kind = kind;
            body.old_owner = Some(from.as_ref().map_or("", UserId::as_str));
            body.new_owner = Some(to.as_str());
        }
        Happening::MessageSent { seq, message } => {
            let content = of.message.and_then(|found| found.body.as_deref()).unwrap_or(&empty);
            if forbids(content, "ForbidAfterSendMsgCallback") {
                return None;
            }
            sent(&mut body, message, content, operator);
            (body.kind, body.online_only_flag) = (kind, Some(0));
            body.msg_seq = Some(seq.get());
        }
        Happening::TransientMessage { message, body: content } => {
            if forbids(content, "ForbidAfterSendMsgCallback") {
                return None;
            }
            sent(&mut body, message, content, operator);
            (body.kind, body.online_only_flag, body.msg_seq) = (kind, Some(1), Some(0));
        }
        Happening::MessagesRecalled { seqs, .. } => {
            (body.kind, body.operator) = (kind, Some(operator));
            body.msg_seq_list = Some(seqs.iter().map(|seq| SeqItem { msg_seq: seq.get() }).collect());
        }
    }
    Some(written(&body))
}

/// What is told of a one-to-one message that was sent or recalled. `None`: that cannot be told any more; `false`: its
/// sender did not want it told.
fn between_two<'a>(body: &mut Body<'a>, of: &Telling<'a>, empty: &'a MessageBody) -> Option<bool> {
    let (online_only, key, message, content) = match &of.event.what {
        Happening::DirectSent { key, message } => {
            let content = of.message.and_then(|found| found.body.as_deref()).unwrap_or(empty);
            (false, key, message, content)
        }
        Happening::DirectTransient { key, message, body: content } => (true, key, message, content),
        Happening::DirectRecalled { key } => {
            let (from, to) = parties(of.conversation, &of.message?.message.sender)?;
            (body.from, body.to, body.msg_key) = (Some(from), Some(to), Some(key.to_string()));
            body.unread_msg_num = Some(UNREAD_UNKNOWN);
            return Some(true);
        }
        _ => return None,
    };
    if forbids(content, "ForbidAfterSendMsgCallback") {
        return Some(false);
    }
    body.online_only_flag = Some(online_only.into());
    sent_to_one(body, of.conversation, *key, message, content)?;
    Some(true)
}

/// The question whether a message may be sent.
pub(super) struct Sending<'a> {
    pub(super) group: &'a str,
    pub(super) kind: Option<&'static str>,
    pub(super) sender: &'a UserId,
    pub(super) operator: &'a UserId,
    pub(super) random: u32,
    pub(super) online_only: bool,
    pub(super) body: &'a MessageBody,
    pub(super) now: u64,
}

/// Asks before a message is sent; `None`: it was sent with the wish that nobody is asked.
pub(super) fn ask_to_send(of: &Sending<'_>) -> Option<String> {
    if forbids(of.body, "ForbidBeforeSendMsgCallback") {
        return None;
    }
    let body = Body {
        callback_command: Callback::BeforeSendMsg.command(),
        group_id: Some(of.group),
        kind: of.kind,
        from: Some(of.sender.as_str()),
        operator: Some(of.operator.as_str()),
        random: Some(of.random),
        online_only_flag: Some(of.online_only.into()),
        msg_body: Some(elements(of.body)),
        cloud_custom_data: Some(&of.body.cloud_custom_data),
        event_time: of.now,
        ..Body::default()
    };
    Some(written(&body))
}

/// The question whether a one-to-one message may be sent.
pub(super) struct SendingToOne<'a> {
    pub(super) from: &'a UserId,
    pub(super) to: &'a UserId,
    pub(super) key: MsgKey,
    pub(super) online_only: bool,
    pub(super) body: &'a MessageBody,
    pub(super) now: u64,
}

/// Asks before a one-to-one message is sent; `None`: it was sent with the wish that nobody is asked.
pub(super) fn ask_to_send_to_one(of: &SendingToOne<'_>) -> Option<String> {
    if forbids(of.body, "ForbidBeforeSendMsgCallback") {
        return None;
    }
    let body = Body {
        callback_command: Callback::BeforeC2cSendMsg.command(),
        from: Some(of.from.as_str()),
        to: Some(of.to.as_str()),
        msg_seq: Some(of.key.seq.into()),
        msg_random: Some(of.key.random),
        msg_time: Some(of.key.time),
        msg_key: Some(of.key.to_string()),
        online_only_flag: Some(of.online_only.into()),
        msg_body: Some(elements(of.body)),
        cloud_custom_data: Some(&of.body.cloud_custom_data),
        event_time: of.now,
        ..Body::default()
    };
    Some(written(&body))
}

/// Asks before pairs of a message change. A member's `Seq` is what it claims to know; an administrator claims nothing.
pub(super) fn ask_to_extend<'a>(
    group: &'a str,
    seq: MsgSeq,
    operator: &'a UserId,
    operation: Operation,
    pairs: impl Iterator<Item = (&'a str, &'a str, Option<u64>)>,
    now: u64,
) -> String {
    let item = |(key, value, seq)| PairItem { key, value, seq, previous: None };
    written(&Body {
        callback_command: Callback::BeforeGroupMsgExtension.command(),
        group_id: Some(group),
        operator: Some(operator.as_str()),
        msg_seq: Some(seq.get()),
        operate_type: Some(operate_type(operation)),
        extension_list: Some(pairs.map(item).collect()),
        event_time: now,
        ..Body::default()
    })
}

/// `ClientIP` and `OptPlatform`, each with the sign before it (webhooks.md section 1).
pub(super) fn origin(operator: &Operator) -> String {
    let platform = match operator.platform {
        Platform::RestApi => "RESTAPI",
        Platform::Web => "Web",
        Platform::Android => "Android",
        Platform::Ios => "iOS",
        Platform::Windows => "Windows",
        Platform::Mac => "Mac",
        Platform::Ipad => "iPad",
        Platform::Unknown => "Unknown",
    };
    // What the server does on its own comes from nowhere else.
    let address = operator.address.unwrap_or([127, 0, 0, 1].into());
    format!("&ClientIP={address}&OptPlatform={platform}")
}

fn written(body: &Body<'_>) -> String {
    serde_json::to_string(body).expect("texts, numbers and kept JSON are always JSON")
}

fn further(body: &MessageBody) -> Further<'_> {
    serde_json::from_str(&body.further).unwrap_or_default()
}

fn elements(body: &MessageBody) -> &RawValue {
    let text = if body.elements.is_empty() { "[]" } else { &body.elements };
    serde_json::from_str(text).expect("a body is kept as the JSON that it was read from")
}

/// Whether these members came with the group, in the same request.
fn is_of_creation(event: &Event, group: Option<&Arc<Group>>) -> bool {
    event.number.get() == 2
        && matches!(event.what, Happening::MembersJoined { imported: false, .. })
        && group.is_some_and(|group| group.created_at == event.at)
}

fn joined(event: &Event) -> Vec<MemberItem<'_>> {
    match &event.what {
        Happening::MembersJoined { users, .. } => members(users),
        _ => Vec::new(),
    }
}

fn members(users: &[UserId]) -> Vec<MemberItem<'_>> {
    users.iter().map(|user| MemberItem { account: user.as_str() }).collect()
}

/// Sender and recipient of a one-to-one message.
fn parties<'a>(conversation: &'a Conversation, sender: &'a UserId) -> Option<(&'a str, &'a str)> {
    let Conversation::Direct(one, other) = conversation else { return None };
    let to = if sender == one { other } else { one };
    Some((sender.as_str(), to.as_str()))
}

fn sent_to_one<'a>(
    body: &mut Body<'a>,
    conversation: &'a Conversation,
    key: MsgKey,
    message: &'a Message,
    content: &'a MessageBody,
) -> Option<()> {
    let (from, to) = parties(conversation, &message.sender)?;
    (body.from, body.to) = (Some(from), Some(to));
    (body.msg_seq, body.msg_random) = (Some(key.seq.into()), Some(key.random));
    (body.msg_time, body.msg_key) = (Some(key.time), Some(key.to_string()));
    body.msg_body = Some(elements(content));
    body.cloud_custom_data = Some(&content.cloud_custom_data);
    body.send_msg_result = Some(0);
    body.error_info = Some("send msg succeed");
    body.unread_msg_num = Some(UNREAD_UNKNOWN);
    Some(())
}

fn sent<'a>(body: &mut Body<'a>, message: &'a Message, content: &'a MessageBody, operator: &'a str) {
    body.from = Some(message.sender.as_str());
    body.operator = Some(operator);
    body.random = Some(message.random);
    body.msg_time = Some(message.sent_at.secs());
    let tiny_id = message.sender_tiny_id.get();
    body.msg_id = Some(format!("{tiny_id}-{}-{}", message.client_time, message.random));
    body.msg_body = Some(elements(content));
    body.cloud_custom_data = Some(&content.cloud_custom_data);
    body.group_at_info = further(content).group_at_info;
}

const fn operate_type(operation: Operation) -> u8 {
    match operation {
        Operation::Set => 1,
        Operation::Delete => 2,
        Operation::Clear => 3,
    }
}

fn extension<'a>(body: &mut Body<'a>, change: &'a ExtensionChange, details: bool) {
    if let MessageName::Seq(seq) = change.message {
        body.msg_seq = Some(seq.get());
    }
    let previous = |it: &'a Previous| PreviousItem {
        value: it.value.as_ref().map_or("", Value::as_str),
        seq: it.seq.get(),
    };
    let item = |pair: &'a ChangedPair| PairItem {
        key: pair.key.as_str(),
        value: pair.value.as_ref().map_or("", Value::as_str),
        seq: Some(pair.seq.get()),
        previous: pair.previous.as_ref().filter(|_| details).map(previous),
    };
    let items = change.pairs.iter().map(item).collect();
    body.operate_type = Some(operate_type(change.operation));
    body.seq = Some(change.latest.get());
    // A clear names no pairs, whatever it dropped.
    if change.operation == Operation::Clear {
        body.extension_list = Some(Vec::new());
        body.cleared_list = details.then_some(items);
    } else {
        body.extension_list = Some(items);
    }
    body.clear_seq = details.then_some(change.clear.get());
}

#[cfg(test)]
mod tests;
