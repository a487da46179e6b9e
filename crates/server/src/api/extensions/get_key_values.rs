//! `POST get_key_values` (message-extensions.md section 4, rules 3.8, 3.9 and 3.12).

use axum::body::Bytes;
use sidenote_core::query::DirectPull;

use crate::api::direct::{message_key, sender_and_recipient};
use crate::api::extensions::{page, require_plan};
use crate::api::{Call, Fault};
use crate::wire::json::Object;

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Bytes, Fault> {
    let named = sender_and_recipient(call, body)?;
    let key = message_key(body, "MsgKey")?;
    let start = page::start(call, body)?;
    require_plan(call)?;
    let peers = named.look_up(call).await?;

    let page = call
        .ask(DirectPull {
            peers,
            key,
            operator: call.operator.clone(),
            start: start.seq,
            tombstones: start.tombstones,
        })
        .await??;

    Ok(page::render(&page))
}
