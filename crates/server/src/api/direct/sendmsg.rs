//! `POST sendmsg` (groups-and-messages.md section 6.1).

use serde::Serialize;
use sidenote_core::Outcome;
use sidenote_core::command::{DirectAction, NewDirectMessage};
use sidenote_core::ids::{Incarnation, MsgKey, UserId};
use sidenote_core::message::{Fingerprint, MessageBody};

use crate::api::direct::{coded, sender_and_recipient};
use crate::api::messages::body;
use crate::api::messages::draft::fingerprint;
use crate::api::{Call, Fault, random_bits, unexpected};
use crate::wire::envelope;
use crate::wire::error_code::ErrorCode;
use crate::wire::fields::{FieldError, Problem};
use crate::wire::json::{Array, Object};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Reply {
    msg_time: u64,
    msg_key: String,
}

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let named = sender_and_recipient(call, body)?;
    let message = parse(call, &named.from.1, body)?;
    // The rules refuse it too, but by then the app would have been asked about a message that somebody else never wrote.
    if call.is_connected() && named.from.1 != call.operator.user {
        return Err(Fault::Plain(ErrorCode::NotAParty));
    }
    let peers = named.look_up(call).await?;
    let (seq, random) = (message.seq, message.random);

    match call.change_direct(peers, DirectAction::Send(Box::new(message))).await? {
        Outcome::Sent(sent) => {
            // A message that the app had dropped gets the key that it might have had.
            let key = sent.key().unwrap_or(MsgKey { seq, random, time: sent.at.secs() });
            Ok(envelope::success(&Reply { msg_time: key.time, msg_key: key.to_string() }))
        }
        other => unexpected(&other),
    }
}

/// Longest `MsgLifeTime` in seconds: 7 days.
const MAX_LIFE_TIME: u64 = 604_800;

/// What is kept beside the body.
const FURTHER: &[&str] = &[
    "OfflinePushInfo",
    "SendMsgControl",
    "ForbidCallbackControl",
    "IsNeedReadReceipt",
    "SyncOtherMachine",
    "MsgLifeTime",
];

fn parse(call: &Call, sender: &UserId, body: Object<'_>) -> Result<NewDirectMessage, Fault> {
    // Over the long connection the names that a group's message has do as well (docs/decisions/0016-long-connection.md).
    let either = |name, twin| if call.is_connected() { [name, twin] } else { [name, name] };
    let random =
        body.integer(either("MsgRandom", "Random"), 0..=u32::MAX).map_err(coded(ErrorCode::BadMsgRandom))?;
    let seq = body.optional_integer(either("MsgSeq", "ClientSeq"), 0..=u32::MAX)?;
    let elements = elements(body)?.source();
    let cloud_custom_data = body.optional_string("CloudCustomData")?.unwrap_or_default();
    let supports_extension = body.optional_flag("SupportMessageExtension")?.unwrap_or(false);
    let online_only = body.optional_flag("OnlineOnlyFlag")?.unwrap_or(false) || life_time(body)? == Some(0);
    let client_time = body
        .optional_integer(either("MsgTimeStamp", "MsgClientTime"), 1..=u32::MAX)
        .map_err(coded(ErrorCode::BadMsgTimeStamp))?
        .map(u64::from);
    check_switches(call, body)?;
    body::require_length(call, elements, cloud_custom_data, ErrorCode::DirectMessageTooLong)?;
    Ok(NewDirectMessage {
        incarnation: Incarnation::from_random(random_bits()),
        // Drawn where it is absent, so that two messages of one second have two keys.
        seq: seq.unwrap_or_else(|| u32::try_from(random_bits() >> 32).expect("32 of 64 bits are left")),
        random,
        client_time,
        supports_extension,
        online_only,
        fingerprint: same_send(sender, seq, random, elements),
        body: MessageBody {
            elements: elements.to_owned(),
            cloud_custom_data: cloud_custom_data.to_owned(),
            further: body::further(body, FURTHER, ErrorCode::DirectMessageTooLong)?,
        },
    })
}

/// `MsgBody`, whose faults have three codes.
fn elements(body: Object<'_>) -> Result<Array<'_>, Fault> {
    body::elements(body).map_err(|error: FieldError| {
        let code = match error.problem {
            _ if error.path != "MsgBody" => ErrorCode::BadMessageParameter,
            Problem::WrongType { .. } => ErrorCode::MsgBodyNotAnArray,
            _ => ErrorCode::BadMsgBody,
        };
        coded(code)(error)
    })
}

/// How long the message is kept for those who are offline, in seconds; 0: for those online only. Other times are
/// checked and kept, but nothing expires here.
fn life_time(body: Object<'_>) -> Result<Option<u64>, Fault> {
    body.optional_integer("MsgLifeTime", 0..=MAX_LIFE_TIME).map_err(|error: FieldError| {
        let code = match error.problem {
            Problem::OutOfRange { .. } => ErrorCode::MsgLifeTimeTooLong,
            _ => ErrorCode::BadMsgLifeTime,
        };
        coded(code)(error)
    })
}

/// What is checked here and looked at by others: `SyncOtherMachine` by whoever tells the sender's other connections.
fn check_switches(call: &Call, body: Object<'_>) -> Result<(), Fault> {
    body.optional_integer("SyncOtherMachine", 1..=2_u32).map_err(coded(ErrorCode::BadSyncOtherMachine))?;
    body.optional_flag("IsNeedReadReceipt")?;
    body::switches(body, "SendMsgControl", &["NoUnread", "NoLastMsg", "WithMuteNotifications"])?;
    let callbacks = ["ForbidBeforeSendMsgCallback", "ForbidAfterSendMsgCallback"];
    if let Some(callbacks) = body::switches(body, "ForbidCallbackControl", &callbacks)?
        && call.is_connected()
        && !callbacks.is_empty()
    {
        let problem = Problem::Other("is for administrators; leave it out".into());
        return Err(callbacks.as_value().refuse(problem).into());
    }
    body.optional_object("OfflinePushInfo").map_err(coded(ErrorCode::BadOfflinePushInfo))?;
    Ok(())
}

/// What makes two sends the same one: sender, `MsgSeq`, `MsgRandom` and body (groups-and-messages.md section 6.1). Two
/// without a MsgSeq are the same if the rest is, so that whoever repeats a request word for word is safe.
fn same_send(sender: &UserId, seq: Option<u32>, random: u32, elements: &str) -> Fingerprint {
    let mut numbers = [0; 9];
    numbers[0] = u8::from(seq.is_some());
    numbers[1..5].copy_from_slice(&seq.unwrap_or(0).to_be_bytes());
    numbers[5..].copy_from_slice(&random.to_be_bytes());
    fingerprint(sender, numbers, elements)
}

#[cfg(test)]
mod tests;
