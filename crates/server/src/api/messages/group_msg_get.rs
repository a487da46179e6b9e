//! `group_open_http_svc.group_msg_get` on the long connection (long-connection.md sections 5 and 6): history as a member
//! reads it, with all that the id of a message is made of.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use sidenote_core::message::{MessageBody, Priority, StoredMessage};
use sidenote_core::query::{DescribeGroup, FindMembers, History, HistoryPage};
use sidenote_core::{MAX_SAFE_INTEGER, Refusal};

use crate::api::messages::audience::Audience;
use crate::api::parameters::{group_id, no_topic};
use crate::api::{Call, Fault};
use crate::wire::envelope;
use crate::wire::json::Object;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Reply<'a> {
    group_id: &'a str,
    /// Always 1: the page is whole, and `next_req_msg_seq` says whether more follow.
    is_finished: u8,
    /// Where the next page begins; 0 if there is none.
    next_req_msg_seq: u64,
    rsp_msg_list: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item<'a> {
    #[serde(rename = "From_Account")]
    from_account: &'a str,
    /// The client names the group of an extension by it.
    to_group_id: &'a str,
    /// A string, because it goes beyond 2^53.
    tiny_id: String,
    /// 0: as it was sent; 2: recalled, without its body.
    is_place_msg: u8,
    msg_seq: u64,
    msg_random: u32,
    msg_client_time: u64,
    msg_time_stamp: u64,
    msg_priority: u8,
    support_message_extension: u8,
    msg_body: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    cloud_custom_data: Option<&'a str>,
}

/// Most numbers that one request looks at.
const MAX_NUMBERS: u64 = 50;

/// Most bytes that the messages of an answer may have together. The first one is told however long it is.
const MAX_ITEMS_BYTES: usize = 256 * 1024;

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let raw_group_id = body.string("GroupId")?;
    let asked = u64::from(body.integer("ReqMsgNumber", 1..=u32::MAX)?);
    let up_to = body.optional_integer("ReqMsgSeq", 0..=MAX_SAFE_INTEGER)?;
    let with_recalled = body.optional_flag("WithRecalledMsg")?.unwrap_or(false);
    no_topic(body)?;
    let group = group_id(raw_group_id)?;

    let id = call.group(&group);
    let view = call.ask(DescribeGroup { id: id.clone() }).await?.ok_or(Refusal::NoSuchGroup)?;
    let users = vec![call.operator.user.clone()];
    let member = call.ask(FindMembers { id: id.clone(), users }).await??.pop().flatten();
    // An account of the same name that is gone may have been a member; this one is not.
    let member = member.filter(|member| Some(member.tiny_id) == call.operator.tiny_id);
    let member = member.ok_or(Refusal::NotAMember)?;
    let page = call.ask(History { id, up_to, count: asked.min(MAX_NUMBERS) }).await??;

    let (rsp_msg_list, next_req_msg_seq) = {
        let sees = |stored: &StoredMessage| {
            (view.group.profile.history_before_join || stored.message.sent_at >= member.joined_at)
                && (with_recalled || stored.body.is_some())
                && stored.body.as_deref().is_none_or(|body| reads(call, stored, body))
        };
        items(raw_group_id, &page, asked.min(MAX_NUMBERS), sees)
    };
    Ok(envelope::success(&Reply { group_id: raw_group_id, is_finished: 1, next_req_msg_seq, rsp_msg_list }))
}

fn reads(call: &Call, stored: &StoredMessage, body: &MessageBody) -> bool {
    Audience::of(body).includes(&stored.message.sender, &call.operator.user)
}

/// As many messages as an answer holds, newest first, and where the next page begins.
fn items(
    group: &str,
    page: &HistoryPage,
    looked_at: u64,
    sees: impl Fn(&StoredMessage) -> bool,
) -> (Vec<Box<RawValue>>, u64) {
    let mut items = Vec::with_capacity(page.messages.len());
    let mut bytes = 0;
    for message in page.messages.iter().filter(|message| sees(message)) {
        let item = item(group, message);
        bytes += item.get().len() + ",".len();
        if bytes > MAX_ITEMS_BYTES && !items.is_empty() {
            return (items, message.seq.get());
        }
        items.push(item);
    }
    (items, page.newest.saturating_sub(looked_at))
}

fn item(group: &str, StoredMessage { seq, message, body }: &StoredMessage) -> Box<RawValue> {
    let (is_place_msg, elements, cloud_custom_data) = match body {
        Some(body) => (0, body.elements.as_str(), body.cloud_custom_data.as_str()),
        None => (2, "[]", ""),
    };
    let item = Item {
        from_account: message.sender.as_str(),
        to_group_id: group,
        tiny_id: message.sender_tiny_id.get().to_string(),
        is_place_msg,
        msg_seq: seq.get(),
        msg_random: message.random,
        msg_client_time: message.client_time,
        msg_time_stamp: message.sent_at.secs(),
        msg_priority: match message.priority {
            Priority::High => 1,
            Priority::Normal => 2,
            Priority::Low => 3,
        },
        support_message_extension: u8::from(message.supports_extension),
        msg_body: serde_json::from_str(elements).expect("a body is kept as the JSON that it was read from"),
        cloud_custom_data: Some(cloud_custom_data).filter(|data| !data.is_empty()),
    };
    to_raw_value(&item).expect("texts, numbers and a body are always JSON")
}
