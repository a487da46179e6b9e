//! `POST group_set_key_values` (message-extensions.md section 2, rules 3.2 to 3.7 and 3.10 to 3.12).

use sidenote_core::Outcome;
use sidenote_core::command::GroupAction;

use crate::api::extensions::{change, require_plan};
use crate::api::parameters::{group_id, message_number, no_topic};
use crate::api::{Call, Fault, unexpected};
use crate::wire::json::Object;

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let raw_group_id = body.string("GroupId")?;
    let seq = message_number(body)?;
    no_topic(body)?;
    let extend = change::parse(call, body)?;
    let group = group_id(raw_group_id)?;
    require_plan(call)?;

    match call.change_group(&group, GroupAction::Extend(seq, extend)).await? {
        Outcome::Extended(extended) => Ok(change::answer(&extended)),
        other => unexpected(&other),
    }
}
