//! `POST delete_group_member` (groups-and-messages.md section 3.6).

use sidenote_core::command::GroupAction;
use sidenote_core::{Outcome, Refusal};

use crate::api::groups::members::bounded;
use crate::api::parameters::{group_id, user_id_of};
use crate::api::{Call, Fault, unexpected};
use crate::wire::envelope;
use crate::wire::error_code::ErrorCode;
use crate::wire::json::Object;

/// Accounts that one request may remove.
const MAX_MEMBERS: usize = 100;

/// Bytes of a reason. No source gives a limit; events keep it, so it has the one of a group's notification.
const MAX_REASON_BYTES: usize = 300;

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let raw_group_id = body.string("GroupId")?;
    body.optional_flag("Silence")?;
    let reason = body.optional_string_within("Reason", MAX_REASON_BYTES)?.unwrap_or_default().to_owned();
    let list = bounded(body.array("MemberToDel_Account")?, MAX_MEMBERS)?;
    let users = list.iter().map(user_id_of).collect::<Result<_, _>>()?;
    let group = group_id(raw_group_id)?;

    match call.change_group(&group, GroupAction::RemoveMembers { users, reason }).await {
        Ok(Outcome::Done) => Ok(envelope::plain_success()),
        Ok(other) => unexpected(&other),
        // The page of this command has another code for live rooms than the others (section 2.5).
        Err(Fault::Refused(refusal @ Refusal::TypeForbidsCommand)) => {
            Err(Fault::Code(ErrorCode::BadParameter, refusal.to_string()))
        }
        Err(fault) => Err(fault),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::api::testing::World;

    async fn world() -> World {
        let world = World::new().await;
        world.ok("multiaccount_import", r#"{"Accounts":["leckie","tommy","jared"]}"#).await;
        let body = r#"{"Owner_Account":"leckie","Type":"Public","Name":"n","GroupId":"g",
            "MemberList":[{"Member_Account":"tommy","Role":"Admin"},{"Member_Account":"jared"}]}"#;
        world.ok("create_group", body).await;
        world.ok("create_group", r#"{"Type":"AVChatRoom","Name":"n","GroupId":"live"}"#).await;
        world
    }

    async fn roles(world: &World) -> Vec<String> {
        let body = r#"{"GroupId":"g","User_Account":["leckie","tommy","jared"]}"#;
        let answer = world.ok("get_role_in_group", body).await;
        let items = answer["UserIdList"].as_array().unwrap();
        items.iter().map(|item| item["Role"].as_str().unwrap().to_owned()).collect()
    }

    #[tokio::test]
    async fn members_are_removed_and_others_passed_over() {
        let world = world().await;
        let body = r#"{"GroupId":"g","Silence":1,"Reason":"kick reason",
            "MemberToDel_Account":["tommy","nobody","tommy"]}"#;
        let answer = world.ok("delete_group_member", body).await;
        assert_eq!(answer, json!({"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}));
        assert_eq!(roles(&world).await, ["Owner", "NotMember", "Member"]);
        world.ok("delete_group_member", body).await;
        let answer = world.ok("get_group_info", r#"{"GroupIdList":["g"]}"#).await;
        assert_eq!(answer["GroupInfo"][0]["MemberNum"], 2);
    }

    #[tokio::test]
    async fn bad_requests_have_their_codes_and_remove_nobody() {
        let world = world().await;
        for (code, body) in [
            (10_004, json!({"MemberToDel_Account":["tommy"]})),
            (10_004, json!({"GroupId":"g"})),
            (10_004, json!({"GroupId":"g","MemberToDel_Account":[]})),
            (10_004, json!({"GroupId":"g","MemberToDel_Account":"tommy"})),
            (10_004, json!({"GroupId":"g","MemberToDel_Account":["tommy",""]})),
            (60_015, json!({"GroupId":"g","MemberToDel_Account":["tommy",5]})),
            (10_005, json!({"GroupId":"g","MemberToDel_Account":vec!["tommy"; 101]})),
            (10_004, json!({"GroupId":"g","MemberToDel_Account":["tommy"],"Silence":"1"})),
            (10_004, json!({"GroupId":"g","MemberToDel_Account":["tommy"],"Reason":1})),
            (10_004, json!({"GroupId":"g","MemberToDel_Account":["tommy"],"Reason":"r".repeat(301)})),
            (10_004, json!({"GroupId":"g","MemberToDel_Account":["tommy","leckie"]})),
            (10_015, json!({"GroupId":"","MemberToDel_Account":["tommy"]})),
            (10_010, json!({"GroupId":"gone","MemberToDel_Account":["tommy"]})),
            (10_004, json!({"GroupId":"live","MemberToDel_Account":["tommy"]})),
        ] {
            assert_eq!(world.code("delete_group_member", &body.to_string()).await, code, "{body}");
        }
        assert_eq!(roles(&world).await, ["Owner", "Admin", "Member"]);
        let body = json!({"GroupId":"g","MemberToDel_Account":vec!["tommy"; 100],"Reason":"r".repeat(300)});
        world.ok("delete_group_member", &body.to_string()).await;
        assert_eq!(roles(&world).await, ["Owner", "NotMember", "Member"]);
    }
}
