//! `POST admin_msgwithdraw` (groups-and-messages.md section 6.2).

use sidenote_core::Outcome;
use sidenote_core::command::DirectAction;

use crate::api::direct::{Named, message_key, recipient, sender};
use crate::api::{Call, Fault, unexpected};
use crate::wire::envelope;
use crate::wire::json::Object;

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let named = Named { from: sender(body, "From_Account")?, to: recipient(body, "To_Account")? };
    let key = message_key(body, "MsgKey")?;
    let peers = named.look_up(call).await?;

    match call.change_direct(peers, DirectAction::Recall(key)).await? {
        Outcome::Done => Ok(envelope::plain_success()),
        other => unexpected(&other),
    }
}

#[cfg(test)]
mod tests;
