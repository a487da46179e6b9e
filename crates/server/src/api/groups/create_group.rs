//! `POST create_group` (groups-and-messages.md sections 2.2 and 3.1).

use serde::Serialize;
use sidenote_core::Refusal;
use sidenote_core::group::GroupType;

use crate::api::groups::custom_fields;
use crate::api::groups::members::Candidate;
use crate::api::groups::new_group::{Beginning, GroupRequest, make};
use crate::api::groups::types::{GIVEN_ROLES, GROUP_TYPES, name_of};
use crate::api::{Call, Fault};
use crate::wire::envelope;
use crate::wire::json::Object;

/// Members that a group can be made with.
const MAX_MEMBERS: usize = 100;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Reply<'a> {
    group_id: &'a str,
    r#type: &'static str,
}

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let request = GroupRequest::parse(call, body)?;
    let members = members(body)?;
    let wanted = request.custom_group_id()?;
    let kind = request.kind;
    if kind == GroupType::AvChatRoom && !members.is_empty() {
        return Err(Fault::Refused(Refusal::TypeForbidsCommand));
    }

    let beginning = Beginning { members, created_at: call.at, imported: false };
    let group = make(call, request, wanted, beginning).await?;

    Ok(envelope::success(&Reply { group_id: group.as_str(), r#type: name_of(GROUP_TYPES, &kind) }))
}

fn members(body: Object<'_>) -> Result<Vec<Candidate>, Fault> {
    let Some(list) = body.optional_array("MemberList")? else { return Ok(Vec::new()) };
    let members = list.at_most(MAX_MEMBERS)?.objects().map(|item| {
        let item = item?;
        let mut candidate = Candidate::parse(item)?;
        if let Some(role) = item.optional_one_of("Role", GIVEN_ROLES)? {
            candidate.role = role;
        }
        candidate.custom =
            custom_fields::parse_initial(item, "AppMemberDefinedData", custom_fields::OF_MEMBER)?;
        Ok(candidate)
    });
    members.collect()
}

#[cfg(test)]
mod tests;
