//! Messages in `group_open_http_svc`: groups-and-messages.md sections 4, 5.2 and 7, long-connection.md
//! section 6.

pub(super) mod group_msg_get;
pub(super) mod group_msg_get_simple;
pub(super) mod group_msg_recall;
pub(super) mod import_group_msg;
pub(super) mod send_group_msg;

pub(crate) mod audience;
pub(in crate::api) mod body;
pub(in crate::api) mod draft;

use sidenote_core::message::MessageBody;

use crate::api::{Call, Fault};
use crate::wire::error_code::ErrorCode;
use crate::wire::json::Object;

/// Takes `MsgBody` and `CloudCustomData` from an app's answer, those that are there, instead of what was sent. They must
/// be what a sender could have sent.
pub(crate) fn replace_message_body(
    call: &Call,
    answer: Object<'_>,
    message: &mut MessageBody,
    too_long: ErrorCode,
) -> Result<(), Fault> {
    let elements = match answer.optional("MsgBody") {
        Some(_) => Some(body::elements(answer)?.source()),
        None => None,
    };
    let cloud_custom_data = answer.optional_string("CloudCustomData")?;
    let new = MessageBody {
        elements: elements.unwrap_or(&message.elements).to_owned(),
        cloud_custom_data: cloud_custom_data.unwrap_or(&message.cloud_custom_data).to_owned(),
        further: message.further.clone(),
    };
    body::require_length(call, &new.elements, &new.cloud_custom_data, too_long)?;
    *message = new;
    Ok(())
}
