//! `POST group_msg_get_simple` (groups-and-messages.md section 4.2).

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use sidenote_core::MAX_SAFE_INTEGER;
use sidenote_core::message::{Priority, StoredMessage};
use sidenote_core::query::{History, HistoryPage};

use crate::api::parameters::{group_id, no_topic};
use crate::api::{Call, Fault};
use crate::wire::envelope;
use crate::wire::error_code::ErrorCode;
use crate::wire::json::Object;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Reply<'a> {
    group_id: &'a str,
    /// 1: all that was asked for was looked at; 0: not all of it. Nothing expires, so it is never 2.
    is_finished: u8,
    rsp_msg_list: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item<'a> {
    #[serde(rename = "From_Account")]
    from_account: &'a str,
    /// 0: as it was sent; 2: recalled, without its body.
    is_place_msg: u8,
    msg_body: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    cloud_custom_data: Option<&'a str>,
    msg_priority: u8,
    msg_random: u32,
    msg_seq: u64,
    msg_time_stamp: u64,
}

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let raw_group_id = body.string("GroupId")?;
    let asked = u64::from(body.integer("ReqMsgNumber", 1..=u32::MAX)?);
    // Who goes on at (the smallest number - 1) comes to 0 after the first message, where nothing is left.
    let up_to = body.optional_integer("ReqMsgSeq", 0..=MAX_SAFE_INTEGER)?;
    let with_recalled = body.optional_flag("WithRecalledMsg")?.unwrap_or(false);
    no_topic(body)?;
    let group = group_id(raw_group_id)?;

    let page = call.ask(History { id: call.group(&group), up_to, count: asked.min(MAX_NUMBERS) }).await??;

    let (rsp_msg_list, all_fit) = items(&page, with_recalled)?;
    let finished = all_fit && asked.min(page.newest) <= MAX_NUMBERS;
    Ok(envelope::success(&Reply { group_id: raw_group_id, is_finished: u8::from(finished), rsp_msg_list }))
}

/// Most numbers that one request looks at.
const MAX_NUMBERS: u64 = 20;

/// Most bytes that the messages of an answer may have together: 1 MiB (rest-overview.md section 3), less some room
/// for what stands around them.
const MAX_ITEMS_BYTES: usize = 1024 * 1024 - 1024;

/// As many messages as an answer can hold, newest first, and whether those were all. Where not even one fits there
/// is no way on, and the caller is told so (code 10018).
fn items(page: &HistoryPage, with_recalled: bool) -> Result<(Vec<Box<RawValue>>, bool), Fault> {
    let mut items = Vec::with_capacity(page.messages.len());
    let mut bytes = 0;
    for message in page.messages.iter().filter(|message| with_recalled || message.body.is_some()) {
        let item = item(message);
        bytes += item.get().len() + ",".len();
        if bytes > MAX_ITEMS_BYTES {
            if items.is_empty() {
                return Err(Fault::Plain(ErrorCode::AnswerTooLarge));
            }
            return Ok((items, false));
        }
        items.push(item);
    }
    Ok((items, true))
}

fn item(StoredMessage { seq, message, body }: &StoredMessage) -> Box<RawValue> {
    let (is_place_msg, elements, cloud_custom_data) = match body {
        Some(body) => (0, body.elements.as_str(), body.cloud_custom_data.as_str()),
        None => (2, "[]", ""),
    };
    let item = Item {
        from_account: message.sender.as_str(),
        is_place_msg,
        msg_body: serde_json::from_str(elements).expect("a body is kept as the JSON that it was read from"),
        cloud_custom_data: Some(cloud_custom_data).filter(|data| !data.is_empty()),
        msg_priority: match message.priority {
            Priority::High => 1,
            Priority::Normal => 2,
            Priority::Low => 3,
        },
        msg_random: message.random,
        msg_seq: seq.get(),
        msg_time_stamp: message.sent_at.secs(),
    };
    to_raw_value(&item).expect("texts, numbers and a body are always JSON")
}

#[cfg(test)]
mod tests;
