//! `group_open_http_svc.get_group_self_member_info` on the long connection (long-connection.md section 5): what an account
//! wants to know of groups that it has just heard of.

use serde::Serialize;
use sidenote_core::Refusal;
use sidenote_core::group::{GroupView, Member};
use sidenote_core::ids::GroupId;
use sidenote_core::query::{DescribeGroup, FindMembers};

use crate::api::groups::filter::Filter;
use crate::api::groups::types::{GROUP_TYPES, name_of};
use crate::api::groups::wire_member::WirePlace;
use crate::api::parameters::group_id;
use crate::api::{Call, Fault, Service};
use crate::wire::envelope;
use crate::wire::json::Object;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Reply<'a> {
    group_info: Vec<Item<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item<'a> {
    group_id: &'a str,
    error_code: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_info: Option<String>,
    #[serde(flatten)]
    group: Option<Described>,
}

/// What an account sees of a group that it is in.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    r#type: &'static str,
    name: String,
    face_url: String,
    next_msg_seq: u64,
    member_info: WirePlace,
}

/// Most groups that one request asks for.
const MAX_GROUPS: usize = 50;

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let names: Vec<&str> =
        body.array("GroupIdList")?.not_empty()?.at_most(MAX_GROUPS)?.strings().collect::<Result<_, _>>()?;
    let mut group_info = Vec::with_capacity(names.len());
    for name in names {
        let found = match group_id(name) {
            Ok(group) => describe(call, &group).await,
            Err(fault) => Err(fault),
        };
        group_info.push(match found {
            Ok((view, member)) => Item {
                group_id: name,
                error_code: 0,
                error_info: None,
                group: Some(Described {
                    r#type: name_of(GROUP_TYPES, &view.group.kind),
                    name: view.group.profile.name.clone(),
                    face_url: view.group.profile.face_url.clone(),
                    next_msg_seq: view.next_msg_seq(),
                    member_info: WirePlace::of(&member, &Filter::Everything),
                }),
            },
            // What is wrong with the store is wrong with the whole request.
            Err(fault @ Fault::Store(_)) => return Err(fault),
            Err(fault) => Item {
                group_id: name,
                error_code: fault.code(Service::Groups).code(),
                error_info: Some(fault.info(Service::Groups)),
                group: None,
            },
        });
    }
    Ok(envelope::success(&Reply { group_info }))
}

async fn describe(call: &Call, group: &GroupId) -> Result<(GroupView, std::sync::Arc<Member>), Fault> {
    let id = call.group(group);
    let view = call.ask(DescribeGroup { id: id.clone() }).await?.ok_or(Refusal::NoSuchGroup)?;
    let users = vec![call.operator.user.clone()];
    let member = call.ask(FindMembers { id, users }).await??.pop().flatten();
    let member = member.filter(|member| Some(member.tiny_id) == call.operator.tiny_id);
    Ok((view, member.ok_or(Refusal::NotAMember)?))
}
