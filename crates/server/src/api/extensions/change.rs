//! The part of a set, delete or clear that is the same for messages of groups and one-to-one messages
//! (message-extensions.md sections 2 and 4).

use serde::Serialize;
use sidenote_core::MAX_SAFE_INTEGER;
use sidenote_core::command::{Claim, Extend, Items, Keyed};
use sidenote_core::decide::{Extended, ItemVerdict};
use sidenote_core::event::Operation;
use sidenote_core::extension::{Key, Seq, Value};

use crate::api::Call;
use crate::api::extensions::WirePair;
use crate::api::fault::problem;
use crate::wire::envelope;
use crate::wire::error_code::ErrorCode;
use crate::wire::fields::{FieldError, Problem};
use crate::wire::json::{self, Array, Object};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Reply<'a> {
    seq: u64,
    extension_list: Vec<Item<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item<'a> {
    error_code: u32,
    extension: WirePair<'a>,
}

/// Reads what is to be done, and with which pairs.
pub(super) fn parse(call: &Call, body: Object<'_>) -> Result<Extend, FieldError> {
    let operations = [(1_u32, Operation::Set), (2, Operation::Delete), (3, Operation::Clear)];
    let value = body.required("OperateType")?;
    let number = value.integer(1..=3)?;
    let operation = operations.iter().find(|(wire, _)| *wire == number).map(|(_, operation)| *operation);
    match operation {
        Some(Operation::Set) => {
            let list = list(call, body)?;
            let pairs = list.objects().map(|item| {
                let item = item?;
                Ok(((key(call, item)?, new_value(call, item)?), claim(call, item)?))
            });
            Ok(Extend::Set(items(list, pairs.collect::<Result<_, FieldError>>()?)?))
        }
        Some(Operation::Delete) => {
            let list = list(call, body)?;
            let keys = list.objects().map(|item| {
                let item = item?;
                Ok((key(call, item)?, claim(call, item)?))
            });
            Ok(Extend::Delete(items(list, keys.collect::<Result<_, FieldError>>()?)?))
        }
        Some(Operation::Clear) | None => Ok(Extend::Clear),
    }
}

fn list<'a>(call: &Call, body: Object<'a>) -> Result<Array<'a>, FieldError> {
    let limit = usize::try_from(call.limits.pairs_per_request).unwrap_or(usize::MAX);
    body.array("ExtensionList")?.not_empty()?.at_most(limit)
}

fn items<T: Keyed>(list: Array<'_>, items: Vec<(T, Claim)>) -> Result<Items<T>, FieldError> {
    Items::new(items).map_err(|malformed| list.as_value().refuse(problem(malformed)))
}

fn key(call: &Call, item: Object<'_>) -> Result<Key, FieldError> {
    let value = item.required("Key")?;
    Key::new(text(value, call.limits.key_bytes)?).map_err(|malformed| value.refuse(problem(malformed)))
}

/// An empty value is refused, because on the wire it means that the pair was deleted (rule 3.7).
fn new_value(call: &Call, item: Object<'_>) -> Result<Value, FieldError> {
    let value = item.required("Value")?;
    Value::new(text(value, call.limits.value_bytes)?).map_err(|malformed| value.refuse(problem(malformed)))
}

fn text(value: json::Value<'_>, limit: u32) -> Result<&str, FieldError> {
    let text = value.string_within(usize::try_from(limit).unwrap_or(usize::MAX))?;
    if text.is_empty() { Err(value.refuse(Problem::Empty)) } else { Ok(text) }
}

/// Rule 3.3: an administrator's Seq is not looked at; everybody else must send one.
fn claim(call: &Call, item: Object<'_>) -> Result<Claim, FieldError> {
    if call.is_administrator() {
        return Ok(Claim::Unchecked);
    }
    let value = item.required("Seq")?;
    let number = value.integer(0..=MAX_SAFE_INTEGER)?;
    Seq::new(number).map(Claim::Saw).map_err(|malformed| value.refuse(problem(malformed)))
}

/// The answer, with a result for each pair.
pub(super) fn answer(extended: &Extended) -> Vec<u8> {
    let items = extended.items.iter().map(|item| Item {
        error_code: match item.verdict {
            ItemVerdict::Accepted => 0,
            ItemVerdict::Conflict => ErrorCode::SeqConflict.code(),
            ItemVerdict::NoSuchPair => ErrorCode::NoSuchMessage.code(),
            ItemVerdict::Full => ErrorCode::BadParameter.code(),
        },
        extension: WirePair::of(&item.pair),
    });
    envelope::success(&Reply { seq: extended.latest.get(), extension_list: items.collect() })
}
