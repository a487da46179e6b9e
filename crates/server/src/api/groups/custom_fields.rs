//! Fields of the application's own, of groups and of members (groups-and-messages.md section 2.2).

use std::collections::BTreeSet;

use serde::Serialize;
use sidenote_core::group::CustomField;

use crate::api::groups::filter::Filter;
use crate::wire::fields::{FieldError, Problem};
use crate::wire::json::Object;

/// How many there may be and how long their values, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    count: usize,
    value_bytes: usize,
}

/// Of a group. The count is a rule of its own too, because a change adds to what is there.
pub(super) const OF_GROUP: Bounds =
    Bounds { count: sidenote_core::group::MAX_CUSTOM_FIELDS, value_bytes: 512 };

/// Of a member.
pub(super) const OF_MEMBER: Bounds = Bounds { count: 5, value_bytes: 64 };

/// Bytes of a key.
const MAX_KEY_BYTES: usize = 16;

/// Reads a list of `{Key, Value}`; none if there is no list. Values may be empty: for a change that means "remove".
pub(super) fn parse(
    object: Object<'_>,
    name: &'static str,
    bounds: Bounds,
) -> Result<Vec<CustomField>, FieldError> {
    let Some(list) = object.optional_array(name)? else { return Ok(Vec::new()) };
    let fields: Vec<_> =
        list.at_most(bounds.count)?.objects().map(|item| field(item?, bounds)).collect::<Result<_, _>>()?;
    let keys: BTreeSet<&str> = fields.iter().map(|field| field.key.as_str()).collect();
    if keys.len() < fields.len() {
        return Err(list.as_value().refuse(Problem::Other("names the same key twice".into())));
    }
    Ok(fields)
}

/// [`parse`] for something new, where an empty value says that there is no such field.
pub(super) fn parse_initial(
    object: Object<'_>,
    name: &'static str,
    bounds: Bounds,
) -> Result<Vec<CustomField>, FieldError> {
    let mut fields = parse(object, name, bounds)?;
    fields.retain(|field| !field.value.is_empty());
    Ok(fields)
}

fn field(item: Object<'_>, bounds: Bounds) -> Result<CustomField, FieldError> {
    let key = item.required("Key")?;
    let name = key.string_within(MAX_KEY_BYTES)?;
    if name.is_empty() {
        return Err(key.refuse(Problem::Empty));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(key.refuse(Problem::Other("must be made of letters, digits and underscores".into())));
    }
    let value = item.string_within("Value", bounds.value_bytes)?;
    Ok(CustomField { key: name.to_owned(), value: value.to_owned() })
}

/// A field on the wire.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WireField<'a> {
    key: &'a str,
    value: &'a str,
}

/// The fields that a filter names; no list at all without a filter.
pub(super) fn asked<'a>(
    fields: &'a [CustomField],
    filter: Option<&Filter<'_>>,
) -> Option<Vec<WireField<'a>>> {
    let filter = filter?;
    let asked = fields.iter().filter(|field| filter.names(&field.key));
    Some(asked.map(|field| WireField { key: &field.key, value: &field.value }).collect())
}
