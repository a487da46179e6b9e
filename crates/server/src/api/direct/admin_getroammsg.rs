//! `POST admin_getroammsg` (groups-and-messages.md section 6.3).

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use sidenote_core::MAX_SAFE_INTEGER;
use sidenote_core::direct::Peers;
use sidenote_core::message::StoredDirectMessage;
use sidenote_core::query::{DirectHistory, DirectPage};

use crate::api::direct::{Named, key_of, recipient, sender};
use crate::api::{Call, Fault};
use crate::wire::envelope;
use crate::wire::fields::Problem;
use crate::wire::json::Object;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Reply {
    /// 1: nothing is left of the stretch of time; 0: go on with `LastMsgTime` and `LastMsgKey`.
    complete: u8,
    msg_cnt: usize,
    /// Of the oldest message of the page; 0 where there is none.
    last_msg_time: u64,
    /// Of the oldest message of the page; empty where there is none.
    last_msg_key: String,
    /// Oldest first.
    msg_list: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item<'a> {
    #[serde(rename = "From_Account")]
    from_account: &'a str,
    #[serde(rename = "To_Account")]
    to_account: &'a str,
    msg_seq: u32,
    msg_random: u32,
    msg_time_stamp: u64,
    msg_client_time: u64,
    /// 0: as it was sent; 8: recalled, without its body.
    msg_flag_bits: u8,
    /// Always 0: read receipts are not kept.
    is_peer_read: u8,
    msg_key: String,
    msg_body: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    cloud_custom_data: Option<&'a str>,
}

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    // Older clients name the accounts like those of a message.
    let named = Named {
        from: sender(body, ["Operator_Account", "From_Account"])?,
        to: recipient(body, ["Peer_Account", "To_Account"])?,
    };
    let asked = body.integer("MaxCnt", 1..=u32::MAX)?;
    let from = body.integer("MinTime", 0..=MAX_SAFE_INTEGER)?;
    let max_time = body.required("MaxTime")?;
    let to = max_time.integer(0..=MAX_SAFE_INTEGER)?;
    if to < from {
        return Err(max_time.refuse(Problem::Other("must not be less than MinTime".into())).into());
    }
    // Whoever has no page yet may send an empty one.
    let last = body.optional("LastMsgKey").filter(|key| key.as_str() != Some(""));
    let after = last.map(key_of).transpose()?;
    let peers = named.look_up(call).await?;

    let limit = usize::try_from(asked).unwrap_or(MAX_MESSAGES).min(MAX_MESSAGES);
    let operator = call.operator.clone();
    let page = call.ask(DirectHistory { peers: peers.clone(), operator, from, to, after, limit }).await??;

    Ok(envelope::success(&reply(&peers, &page)))
}

/// Most messages in one answer.
const MAX_MESSAGES: usize = 100;

/// From how many bytes of messages on an answer takes no more of them (groups-and-messages.md section 6.3). The first
/// message is always in it.
const MAX_ITEMS_BYTES: usize = 13 * 1024;

fn reply(peers: &Peers, page: &DirectPage) -> Reply {
    let (mut msg_list, mut bytes, mut oldest) = (Vec::with_capacity(page.messages.len()), 0, None);
    for message in &page.messages {
        let item = item(peers, message);
        bytes += item.get().len() + ",".len();
        if bytes > MAX_ITEMS_BYTES && oldest.is_some() {
            break;
        }
        msg_list.push(item);
        oldest = Some(message.key);
    }
    msg_list.reverse();
    Reply {
        complete: u8::from(page.complete && msg_list.len() == page.messages.len()),
        msg_cnt: msg_list.len(),
        last_msg_time: oldest.map_or(0, |key| key.time),
        last_msg_key: oldest.map(|key| key.to_string()).unwrap_or_default(),
        msg_list,
    }
}

fn item(peers: &Peers, StoredDirectMessage { key, message, body }: &StoredDirectMessage) -> Box<RawValue> {
    let (flags, elements, cloud_custom_data) = match body {
        Some(body) => (0, body.elements.as_str(), body.cloud_custom_data.as_str()),
        None => (8, "[]", ""),
    };
    let is_from = message.sender == peers.from.user;
    let item = Item {
        from_account: message.sender.as_str(),
        to_account: if is_from { peers.to.user.as_str() } else { peers.from.user.as_str() },
        msg_seq: key.seq,
        msg_random: key.random,
        msg_time_stamp: key.time,
        msg_client_time: message.client_time,
        msg_flag_bits: flags,
        is_peer_read: 0,
        msg_key: key.to_string(),
        msg_body: serde_json::from_str(elements).expect("a body is kept as the JSON that it was read from"),
        cloud_custom_data: Some(cloud_custom_data).filter(|data| !data.is_empty()),
    };
    to_raw_value(&item).expect("texts, numbers and a body are always JSON")
}

#[cfg(test)]
mod tests;
