//! `group_open_http_svc` without messages: groups-and-messages.md sections 2, 3, 5.1 and 5.3.

pub(super) mod add_group_member;
pub(super) mod change_group_owner;
pub(super) mod create_group;
pub(super) mod delete_group_member;
pub(super) mod destroy_group;
pub(super) mod get_group_info;
pub(super) mod get_group_member_info;
pub(super) mod get_group_self_member_info;
pub(super) mod get_joined_group_list;
pub(super) mod get_role_in_group;
pub(super) mod import_group;
pub(super) mod import_group_member;
pub(super) mod modify_group_base_info;

mod answer_size;
mod custom_fields;
mod filter;
mod members;
mod new_group;
mod profile;
mod types;
mod wire_group;
mod wire_member;

use sidenote_core::Refusal;
use sidenote_core::group::{GroupType, GroupView};
use sidenote_core::ids::{GroupId, UserId};
use sidenote_core::query::DescribeGroup;

use crate::api::{Call, Fault};
use crate::wire::error_code::ErrorCode;

pub(crate) use types::group_type_name;

/// A group that must exist (10010).
async fn find_group(call: &Call, group: &GroupId) -> Result<GroupView, Fault> {
    let view = call.ask(DescribeGroup { id: call.group(group) }).await?;
    view.ok_or(Fault::Refused(Refusal::NoSuchGroup))
}

/// A group that must exist and have members that REST can speak of (section 2.5).
async fn find_group_with_members(call: &Call, group: &GroupId) -> Result<GroupView, Fault> {
    let view = find_group(call, group).await?;
    if view.group.kind == GroupType::AvChatRoom {
        return Err(Fault::Refused(Refusal::TypeForbidsCommand));
    }
    Ok(view)
}

/// The account that a request names as the one who acts. It must exist, because the group's events will name it.
async fn require_account(call: &Call, name: &str, user: &UserId) -> Result<(), Fault> {
    match call.find_account(user).await? {
        Some(_) => Ok(()),
        None => Err(unknown_account(name)),
    }
}

/// Code 10019 for the field that names the account.
fn unknown_account(field: &str) -> Fault {
    Fault::Code(
        ErrorCode::UnknownAccount,
        format!("{field} names an account that does not exist, import it first"),
    )
}
