//! Accounts that requests put into groups (groups-and-messages.md sections 3.1, 3.5 and 5.3).

use serde::Serialize;
use sidenote_core::Outcome;
use sidenote_core::command::{GroupAction, NewMember};
use sidenote_core::decide::Added;
use sidenote_core::group::{CustomField, Role};
use sidenote_core::ids::{GroupId, Timestamp, UserId};

use crate::api::groups::unknown_account;
use crate::api::parameters::user_id;
use crate::api::{Call, Fault, unexpected};
use crate::wire::error_code::ErrorCode;
use crate::wire::fields::FieldError;
use crate::wire::json::{Array, Object};

/// An account that is to become a member, and the field that names it.
pub(super) struct Candidate {
    pub(super) field: String,
    pub(super) user: UserId,
    pub(super) role: Role,
    pub(super) joined_at: Option<Timestamp>,
    pub(super) unread: u64,
    pub(super) custom: Vec<CustomField>,
}

impl Candidate {
    /// Reads `Member_Account`.
    pub(super) fn parse(item: Object<'_>) -> Result<Self, Fault> {
        Ok(Self::new(item.required("Member_Account")?.path(), user_id(item, "Member_Account")?))
    }

    /// An ordinary member that joins now.
    pub(super) fn new(field: String, user: UserId) -> Self {
        Self { field, user, role: Role::Member, joined_at: None, unread: 0, custom: Vec::new() }
    }
}

/// A list of accounts with a limit whose excess has a code of its own (10005).
pub(super) fn bounded(list: Array<'_>, limit: usize) -> Result<Array<'_>, Fault> {
    list.not_empty()?
        .at_most(limit)
        .map_err(|excess: FieldError| Fault::Code(ErrorCode::TooManyAccounts, excess.to_string()))
}

/// Looks all accounts up. One that does not exist fails the request (10019).
pub(super) async fn enlist(call: &Call, candidates: Vec<Candidate>) -> Result<Vec<NewMember>, Fault> {
    let users: Vec<_> = candidates.iter().map(|candidate| candidate.user.clone()).collect();
    let accounts = call.accounts(&users).await?;
    let members = candidates.into_iter().zip(accounts).map(|(candidate, account)| {
        let account = account.ok_or_else(|| unknown_account(&candidate.field))?;
        Ok(NewMember {
            user: candidate.user,
            tiny_id: account.tiny_id,
            role: candidate.role,
            joined_at: candidate.joined_at,
            unread: candidate.unread,
            custom: candidate.custom,
        })
    });
    members.collect()
}

/// Adds members; what became of each, in order.
pub(super) async fn add(
    call: &Call,
    group: &GroupId,
    members: Vec<NewMember>,
    imported: bool,
) -> Result<Vec<(UserId, Added)>, Fault> {
    match call.change_group(group, GroupAction::AddMembers { members, imported }).await? {
        Outcome::MembersAdded(added) => Ok(added),
        other => unexpected(&other),
    }
}

/// The answer to both commands that add members.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Reply<'a> {
    pub(super) member_list: Vec<Item<'a>>,
}

/// What became of one account: 0 failed, 1 added, 2 was a member before. Nobody has to confirm, so 3 never comes.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Item<'a> {
    #[serde(rename = "Member_Account")]
    pub(super) user: &'a str,
    pub(super) result: u8,
}

impl Item<'_> {
    pub(super) const FAILED: u8 = 0;

    pub(super) const fn result_of(added: Added) -> u8 {
        match added {
            Added::Now => 1,
            Added::Already => 2,
        }
    }
}
