//! `POST import_group_msg` (groups-and-messages.md section 5.2).

use serde::Serialize;
use sidenote_core::Outcome;
use sidenote_core::command::{GroupAction, NewMessage};
use sidenote_core::ids::{MessageName, Timestamp};
use sidenote_core::message::{MessageBody, Priority, Sent};

use crate::api::messages::body;
use crate::api::messages::draft::Draft;
use crate::api::parameters::{group_id, no_topic, user_id};
use crate::api::{Call, Fault, Service, unexpected};
use crate::wire::envelope;
use crate::wire::error_code::ErrorCode;
use crate::wire::json::{Object, Value};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Reply {
    import_msg_result: Vec<Item>,
}

/// A message that was refused has neither number nor time: both are 0.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    msg_seq: u64,
    msg_time: u64,
    result: u32,
}

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let raw_group_id = body.string("GroupId")?;
    let list = body.array("MsgList")?.not_empty()?.at_most(MAX_MESSAGES)?;
    // Nothing here counts unread messages of recent contacts, so the switch only has to be one.
    body.optional_flag("RecentContactFlag")?;
    no_topic(body)?;
    let drafts: Vec<_> = list.iter().map(|item| draft(call, item)).collect();
    let group = group_id(raw_group_id)?;

    let messages = by_their_senders(call, drafts).await?;
    let sound = messages.iter().flatten().cloned().collect();
    match call.change_group(&group, GroupAction::Import(sound)).await? {
        Outcome::MessagesImported(imported) => Ok(answer(&messages, imported)),
        other => unexpected(&other),
    }
}

/// Most messages in one request.
const MAX_MESSAGES: usize = 7;

/// Reads one message. What is wrong with it concerns no other, and is told as one of the codes that a result has.
fn draft(call: &Call, item: Value<'_>) -> Result<Draft, ErrorCode> {
    parse(call, item).map_err(|fault| match fault.code(Service::Groups) {
        ErrorCode::MessageTooLong => ErrorCode::MessageTooLong,
        _ => ErrorCode::BadParameter,
    })
}

fn parse(call: &Call, item: Value<'_>) -> Result<Draft, Fault> {
    let item = item.object()?;
    let sender = user_id(item, "From_Account")?;
    let sent_at = item.integer("SendTime", 0..=u64::MAX)?;
    let random = match item.optional_integer("Random", 0..=u32::MAX)? {
        Some(random) => random,
        // Clients tell messages apart by this number too, so that a fixed one would not do.
        None => u32::try_from(crate::api::random_bits() >> 32).expect("32 of 64 bits are left"),
    };
    let elements = body::elements(item)?.source();
    body::require_length(call, elements, "", ErrorCode::MessageTooLong)?;
    Ok(Draft {
        sender,
        random,
        client_time: None,
        sent_at: Some(Timestamp::from_secs(sent_at)),
        priority: Priority::default(),
        supports_extension: false,
        online_only: false,
        body: MessageBody { elements: elements.to_owned(), ..MessageBody::default() },
    })
}

/// A sender that does not exist is a fault of its message alone (code 10004).
async fn by_their_senders(
    call: &Call,
    drafts: Vec<Result<Draft, ErrorCode>>,
) -> Result<Vec<Result<NewMessage, ErrorCode>>, Fault> {
    let senders: Vec<_> = drafts.iter().flatten().map(|draft| draft.sender.clone()).collect();
    let mut accounts = call.accounts(&senders).await?.into_iter();
    let messages = drafts.into_iter().map(|draft| {
        let draft = draft?;
        let sender = accounts.next().flatten().ok_or(ErrorCode::BadParameter)?;
        Ok(draft.by(call, &sender))
    });
    Ok(messages.collect())
}

/// `imported` has a place for each message that was sound.
fn answer(messages: &[Result<NewMessage, ErrorCode>], imported: Vec<Option<Sent>>) -> Vec<u8> {
    let mut imported = imported.into_iter();
    let import_msg_result = messages.iter().map(|message| {
        let refused = |code: ErrorCode| Item { msg_seq: 0, msg_time: 0, result: code.code() };
        match message.as_ref().map(|_| imported.next().flatten()) {
            Ok(Some(Sent { name: Some(MessageName::Seq(seq)), at })) => {
                Item { msg_seq: seq.get(), msg_time: at.secs(), result: 0 }
            }
            Ok(_) => refused(ErrorCode::BadParameter),
            Err(code) => refused(*code),
        }
    });
    envelope::success(&Reply { import_msg_result: import_msg_result.collect() })
}

#[cfg(test)]
mod tests;
