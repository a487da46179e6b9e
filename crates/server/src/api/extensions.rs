//! `openim_msg_ext_http_svc`: message-extensions.md, docs/protocol.md.

pub(super) mod group_get_key_values;
pub(super) mod group_set_key_values;

pub(super) mod get_key_values;
pub(super) mod set_key_values;

mod change;
mod page;

use serde::Serialize;
use sidenote_core::extension::{Pair, Value};

use crate::api::{Call, Fault};
use crate::wire::error_code::ErrorCode;

/// A pair on the wire: an empty value is a tombstone or no pair at all.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WirePair<'a> {
    key: &'a str,
    value: &'a str,
    seq: u64,
}

impl<'a> WirePair<'a> {
    fn of(pair: &'a Pair) -> Self {
        Self {
            key: pair.key.as_str(),
            value: pair.value.as_ref().map_or("", Value::as_str),
            seq: pair.seq.get(),
        }
    }
}

/// Rule 3.11: only the Ultimate plan has extensions.
fn require_plan(call: &Call) -> Result<(), Fault> {
    if call.app.ultimate { Ok(()) } else { Err(Fault::Plain(ErrorCode::PlanNotUltimate)) }
}
