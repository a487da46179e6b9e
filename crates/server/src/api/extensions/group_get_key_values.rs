//! `POST group_get_key_values` (message-extensions.md section 3, rules 3.8, 3.9 and 3.12).

use axum::body::Bytes;
use sidenote_core::query::Pull;

use crate::api::extensions::{page, require_plan};
use crate::api::parameters::{group_id, message_number, no_topic};
use crate::api::{Call, Fault};
use crate::wire::json::Object;

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Bytes, Fault> {
    let raw_group_id = body.string("GroupId")?;
    let seq = message_number(body)?;
    let start = page::start(call, body)?;
    no_topic(body)?;
    let group = group_id(raw_group_id)?;
    require_plan(call)?;

    let page = call
        .ask(Pull {
            id: call.group(&group),
            seq,
            operator: call.operator.clone(),
            start: start.seq,
            tombstones: start.tombstones,
        })
        .await??;

    Ok(page::render(&page))
}
