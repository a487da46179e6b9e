//! `POST set_key_values` (message-extensions.md section 4, rules 3.2 to 3.7 and 3.10 to 3.12).

use sidenote_core::Outcome;
use sidenote_core::command::DirectAction;

use crate::api::direct::{message_key, sender_and_recipient};
use crate::api::extensions::{change, require_plan};
use crate::api::{Call, Fault, unexpected};
use crate::wire::json::Object;

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let named = sender_and_recipient(call, body)?;
    let key = message_key(body, "MsgKey")?;
    let extend = change::parse(call, body)?;
    require_plan(call)?;
    let peers = named.look_up(call).await?;

    match call.change_direct(peers, DirectAction::Extend(key, extend)).await? {
        Outcome::Extended(extended) => Ok(change::answer(&extended)),
        other => unexpected(&other),
    }
}

#[cfg(test)]
mod tests;
