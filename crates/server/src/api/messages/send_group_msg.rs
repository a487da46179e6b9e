//! `POST send_group_msg` (groups-and-messages.md section 4.1).

use serde::Serialize;
use sidenote_core::command::GroupAction;
use sidenote_core::group::GroupType;
use sidenote_core::ids::{GroupId, MsgSeq};
use sidenote_core::message::{MessageBody, Priority};
use sidenote_core::query::DescribeGroup;
use sidenote_core::{MAX_SAFE_INTEGER, Outcome, Refusal};

use crate::api::messages::body;
use crate::api::messages::draft::Draft;
use crate::api::parameters::{group_id, no_topic, optional_user_id, user_id_of};
use crate::api::{Call, Fault, unexpected};
use crate::wire::envelope;
use crate::wire::error_code::ErrorCode;
use crate::wire::fields::Problem;
use crate::wire::json::Object;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Reply {
    msg_time: u64,
    /// 0 for a message that is not stored (groups-and-messages.md section 2.3).
    msg_seq: u64,
}

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let raw_group_id = body.string("GroupId")?;
    let request = parse(call, body)?;
    let group = group_id(raw_group_id)?;
    let Some(sender) = call.find_account(&request.draft.sender).await? else {
        let info = "From_Account names an account that does not exist".to_owned();
        return Err(Fault::Code(ErrorCode::UnknownAccount, info));
    };
    require_type(call, &group, &request).await?;

    let message = request.draft.by(call, &sender);
    match call.change_group(&group, GroupAction::Send(Box::new(message))).await? {
        Outcome::Sent(sent) => Ok(envelope::success(&Reply {
            msg_time: sent.at.secs(),
            msg_seq: sent.seq().map_or(0, MsgSeq::get),
        })),
        other => unexpected(&other),
    }
}

/// Most accounts that a message can be meant for.
const MAX_TARGETS: usize = 50;

/// Most accounts that a message can point at.
const MAX_MENTIONS: usize = 30;

/// What is kept beside the body.
const FURTHER: &[&str] = &[
    "OfflinePushInfo",
    "GroupAtInfo",
    "SendMsgControl",
    "ForbidCallbackControl",
    "NeedReadReceipt",
    "To_Account",
];

const PRIORITIES: &[(&str, Priority)] =
    &[("High", Priority::High), ("Normal", Priority::Normal), ("Low", Priority::Low)];

struct Request {
    draft: Draft,
    /// Whether it is for some members only.
    targeted: bool,
}

fn parse(call: &Call, body: Object<'_>) -> Result<Request, Fault> {
    let sender = optional_user_id(body, "From_Account")?.unwrap_or_else(|| call.operator.user.clone());
    call.require_self("From_Account", &sender)?;
    let random = body.integer("Random", 0..=u32::MAX)?;
    // A part of the message's id, which a client computes when it sends (long-connection.md section 6).
    let client_time = if call.is_connected() {
        body.optional_integer("MsgClientTime", 0..=MAX_SAFE_INTEGER)?
    } else {
        None
    };
    let elements = body::elements(body)?.source();
    let cloud_custom_data = body.optional_string("CloudCustomData")?.unwrap_or_default();
    let priority = body.optional_one_of("MsgPriority", PRIORITIES)?.unwrap_or_default();
    let online_only = body.optional_flag("OnlineOnlyFlag")?.unwrap_or(false);
    let supports_extension = body.optional_flag("SupportMessageExtension")?.unwrap_or(false);
    no_topic(body)?;

    let controls = body::switches(body, "SendMsgControl", &["NoUnread", "NoLastMsg"])?;
    if let Some(controls) = controls.filter(|controls| online_only && !controls.is_empty()) {
        let problem = Problem::Other("is not possible together with OnlineOnlyFlag 1".into());
        return Err(controls.as_value().refuse(problem).into());
    }
    let callbacks = ["ForbidBeforeSendMsgCallback", "ForbidAfterSendMsgCallback"];
    if let Some(callbacks) = body::switches(body, "ForbidCallbackControl", &callbacks)?
        && call.is_connected()
        && !callbacks.is_empty()
    {
        let problem = Problem::Other("is for administrators; leave it out".into());
        return Err(callbacks.as_value().refuse(problem).into());
    }
    body.optional_flag("NeedReadReceipt")?;
    body.optional_object("OfflinePushInfo")?;
    mentions(body)?;
    let targeted = targets(body)?;

    body::require_length(call, elements, cloud_custom_data, ErrorCode::MessageTooLong)?;
    let body = MessageBody {
        elements: elements.to_owned(),
        cloud_custom_data: cloud_custom_data.to_owned(),
        further: body::further(body, FURTHER, ErrorCode::MessageTooLong)?,
    };
    let draft =
        Draft { sender, random, client_time, sent_at: None, priority, supports_extension, online_only, body };
    Ok(Request { draft, targeted })
}

/// Each either points at everybody or names an account.
fn mentions(body: Object<'_>) -> Result<(), Fault> {
    let Some(list) = body.optional_array("GroupAtInfo")? else { return Ok(()) };
    for mention in list.at_most(MAX_MENTIONS)?.objects() {
        let mention = mention?;
        if !mention.optional_flag("GroupAtAllFlag")?.unwrap_or(false) {
            user_id_of(mention.required("GroupAt_Account")?)?;
        }
    }
    Ok(())
}

/// Whether the message is for some members only. An empty list says nothing.
fn targets(body: Object<'_>) -> Result<bool, Fault> {
    let Some(list) = body.optional_array("To_Account")? else { return Ok(false) };
    for target in list.at_most(MAX_TARGETS)? {
        user_id_of(target)?;
    }
    Ok(!list.is_empty())
}

/// Some messages are not possible in every type of group. A group keeps its type for life, so nothing can change
/// between this question and the sending that would make the answer wrong.
async fn require_type(call: &Call, group: &GroupId, request: &Request) -> Result<(), Fault> {
    let online_only = request.draft.online_only;
    if !online_only && !request.targeted {
        return Ok(());
    }
    let Some(view) = call.ask(DescribeGroup { id: call.group(group) }).await? else {
        return Err(Refusal::NoSuchGroup.into());
    };
    let impossible = match view.group.kind {
        GroupType::AvChatRoom if online_only => Some("OnlineOnlyFlag"),
        GroupType::AvChatRoom | GroupType::Community if request.targeted => Some("To_Account"),
        _ => None,
    };
    impossible.map_or(Ok(()), |member| {
        let info = format!("{member} is not possible in this type of group");
        Err(Fault::Code(ErrorCode::NoPermission, info))
    })
}

#[cfg(test)]
mod tests;
