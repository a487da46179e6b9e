//! What making and importing a group have in common (groups-and-messages.md sections 2.2, 3.1 and 5.1).

use std::iter;

use sidenote_core::command::{GroupAction, NewGroup};
use sidenote_core::group::{GroupProfile, GroupType, Role};
use sidenote_core::ids::{GroupId, Incarnation, Timestamp, UserId};
use sidenote_core::{Outcome, Refusal};

use crate::api::groups::members::{Candidate, enlist};
use crate::api::groups::profile;
use crate::api::groups::types::GROUP_TYPES;
use crate::api::parameters::{group_id, optional_user_id};
use crate::api::{Call, Fault, unexpected};
use crate::wire::error_code::ErrorCode;
use crate::wire::json::Object;

/// The beginning of ids that a server makes up.
const GENERATED: &str = "@TGS#";

/// The beginning of all ids of Communities.
const COMMUNITY: &str = "@TGS#_";

/// The beginning of ids that a server makes up for Communities.
const GENERATED_COMMUNITY: &str = "@TGS#_@TGS#";

/// Tokens that are tried before giving up. With 60 random bits the second one is hardly ever needed.
const ATTEMPTS: usize = 8;

/// The fields of both requests, in the order of rule 3.12 all but the GroupId checked.
pub(super) struct GroupRequest<'a> {
    pub(super) owner: Option<UserId>,
    pub(super) kind: GroupType,
    pub(super) profile: GroupProfile,
    raw_group_id: Option<&'a str>,
}

impl<'a> GroupRequest<'a> {
    pub(super) fn parse(call: &Call, body: Object<'a>) -> Result<Self, Fault> {
        let owner = optional_user_id(body, "Owner_Account")?;
        let kind = body.one_of("Type", GROUP_TYPES)?;
        let profile = profile::parse_new(body, kind, &call.limits)?;
        Ok(Self { owner, kind, profile, raw_group_id: body.optional_string("GroupId")? })
    }

    /// The id that the request wants, of any form that is possible.
    pub(super) fn group_id(&self) -> Result<Option<GroupId>, Fault> {
        self.raw_group_id.map(group_id).transpose()
    }

    /// The id that the request wants. Forms that are reserved for groups made elsewhere are refused.
    pub(super) fn custom_group_id(&self) -> Result<Option<GroupId>, Fault> {
        let group = self.group_id()?;
        let refuse = |rule: String| Err(Fault::Code(ErrorCode::BadParameter, format!("GroupId {rule}")));
        let Some(id) = group.as_ref().map(GroupId::as_str) else { return Ok(None) };
        if self.kind == GroupType::Community {
            if !id.starts_with(COMMUNITY) || id.starts_with(GENERATED_COMMUNITY) {
                return refuse(format!(
                    "of a Community must begin with {COMMUNITY} and not with {GENERATED_COMMUNITY}"
                ));
            }
        } else if id.starts_with(GENERATED) {
            return refuse(format!("must not begin with {GENERATED}"));
        }
        Ok(group)
    }
}

/// What remains to be said of a new group.
pub(super) struct Beginning {
    pub(super) members: Vec<Candidate>,
    pub(super) created_at: Timestamp,
    pub(super) imported: bool,
}

/// Makes the group, under an id of the server's making if the request has none.
pub(super) async fn make(
    call: &Call,
    request: GroupRequest<'_>,
    wanted: Option<GroupId>,
    beginning: Beginning,
) -> Result<GroupId, Fault> {
    let new = prepare(call, request, beginning).await?;
    if let Some(group) = wanted {
        return make_under_first_free(call, iter::once(group), new).await;
    }
    let kind = new.kind;
    let ids = iter::repeat_with(|| generated_id(kind, crate::api::random_bits()));
    make_under_first_free(call, ids.take(ATTEMPTS), new).await
}

/// Looks up all accounts: the owner first, then the members.
async fn prepare(call: &Call, request: GroupRequest<'_>, beginning: Beginning) -> Result<NewGroup, Fault> {
    let GroupRequest { owner, kind, profile, .. } = request;
    let Beginning { members, created_at, imported } = beginning;
    let owner = owner.map(|user| Candidate {
        role: Role::Owner,
        // The owner of an imported group has been there from its beginning.
        joined_at: imported.then_some(created_at),
        ..Candidate::new("Owner_Account".to_owned(), user)
    });
    let owner = enlist(call, owner.into_iter().collect()).await?.pop();
    let members = enlist(call, members).await?;
    let incarnation = Incarnation::from_random(crate::api::random_bits());
    Ok(NewGroup { incarnation, kind, owner, profile, members, created_at, imported })
}

async fn make_under_first_free(
    call: &Call,
    ids: impl Iterator<Item = GroupId>,
    new: NewGroup,
) -> Result<GroupId, Fault> {
    let mut taken = Fault::Refused(Refusal::GroupIdTaken);
    for group in ids {
        match call.change_group(&group, GroupAction::Create(Box::new(new.clone()))).await {
            Ok(Outcome::Done) => return Ok(group),
            Ok(other) => unexpected(&other),
            Err(fault @ Fault::Refused(Refusal::GroupIdTaken | Refusal::GroupIdTakenByOwner)) => {
                taken = fault;
            }
            // A group that is full before it exists was asked to hold more than it may.
            Err(Fault::Refused(Refusal::GroupFull)) => return Err(Fault::Plain(ErrorCode::TooManyMembers)),
            Err(fault) => return Err(fault),
        }
    }
    Err(taken)
}

/// An id with a token of 12 base-32 digits, the lower 60 bits of the number given.
fn generated_id(kind: GroupType, bits: u64) -> GroupId {
    const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let beginning = if kind == GroupType::Community { GENERATED_COMMUNITY } else { GENERATED };
    let digits = (0..12).map(|place| char::from(DIGITS[((bits >> (place * 5)) & 31) as usize]));
    let id: String = beginning.chars().chain(digits).collect();
    GroupId::new(&id).expect("a generated id is 17 or 23 bytes of printable ASCII")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::testing::World;
    use crate::wire::json::Document;

    #[test]
    fn generated_ids_are_a_prefix_and_an_upper_case_token() {
        assert_eq!(generated_id(GroupType::Public, 0).as_str(), "@TGS#AAAAAAAAAAAA");
        assert_eq!(generated_id(GroupType::Public, u64::MAX).as_str(), "@TGS#777777777777");
        assert_eq!(generated_id(GroupType::Community, 1).as_str(), "@TGS#_@TGS#BAAAAAAAAAAA");
    }

    #[tokio::test]
    async fn a_generated_id_that_is_taken_is_drawn_again() {
        let world = World::new().await;
        world.ok("import_group", r#"{"Type":"Public","Name":"n","GroupId":"@TGS#TAKEN"}"#).await;
        let call = world.call("administrator");
        let body = Document::parse(br#"{"Type":"Public","Name":"second"}"#).unwrap();
        let draw = async |ids: &[&str]| {
            let request = GroupRequest::parse(&call, body.root()).unwrap();
            let beginning = Beginning { members: Vec::new(), created_at: call.at, imported: false };
            let new = prepare(&call, request, beginning).await.unwrap();
            let ids: Vec<_> = ids.iter().map(|id| GroupId::new(id).unwrap()).collect();
            make_under_first_free(&call, ids.into_iter(), new).await
        };
        assert_eq!(draw(&["@TGS#TAKEN", "@TGS#FREE"]).await.unwrap().as_str(), "@TGS#FREE");
        let taken = draw(&["@TGS#TAKEN", "@TGS#FREE"]).await;
        assert!(matches!(taken, Err(Fault::Refused(Refusal::GroupIdTaken))));
        let answer = world.ok("get_group_info", r#"{"GroupIdList":["@TGS#FREE"]}"#).await;
        assert_eq!(answer["GroupInfo"][0]["Name"], json!("second"));
    }
}
