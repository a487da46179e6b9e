//! `POST change_group_owner` (groups-and-messages.md section 3.10).

use sidenote_core::Outcome;
use sidenote_core::command::GroupAction;

use crate::api::groups::{find_group_with_members, require_account};
use crate::api::parameters::{group_id, optional_user_id, user_id};
use crate::api::{Call, Fault, unexpected};
use crate::wire::envelope;
use crate::wire::json::Object;

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let raw_group_id = body.string("GroupId")?;
    let owner = GroupAction::ChangeOwner(user_id(body, "NewOwner_Account")?);
    let from = optional_user_id(body, "From_Account")?;
    let group = group_id(raw_group_id)?;

    let outcome = match from {
        Some(from) => {
            find_group_with_members(call, &group).await?;
            require_account(call, "From_Account", &from).await?;
            call.change_group_as(from, &group, owner).await?
        }
        None => call.change_group(&group, owner).await?,
    };

    match outcome {
        Outcome::Done => Ok(envelope::plain_success()),
        other => unexpected(&other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::api::testing::World;

    async fn world() -> World {
        let world = World::new().await;
        world.ok("multiaccount_import", r#"{"Accounts":["leckie","jared","outsider"]}"#).await;
        for group in [
            json!({"GroupId":"g","Type":"Public","Name":"n","Owner_Account":"leckie",
                "MemberList":[{"Member_Account":"jared","Role":"Admin"}]}),
            json!({"GroupId":"ownerless","Type":"Public","Name":"n","MemberList":[{"Member_Account":"jared"}]}),
            json!({"GroupId":"live","Type":"AVChatRoom","Name":"n","Owner_Account":"leckie"}),
        ] {
            world.ok("create_group", &group.to_string()).await;
        }
        world
    }

    async fn roles(world: &World, group: &str) -> [String; 2] {
        let body = json!({"GroupId":group,"User_Account":["leckie","jared"]}).to_string();
        let answer = world.ok("get_role_in_group", &body).await;
        [0, 1].map(|index| answer["UserIdList"][index]["Role"].as_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn the_old_owner_becomes_a_member() {
        let world = world().await;
        let body = r#"{"GroupId":"g","NewOwner_Account":"jared","From_Account":"leckie"}"#;
        let answer = world.ok("change_group_owner", body).await;
        assert_eq!(answer, json!({"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}));
        assert_eq!(roles(&world, "g").await, ["Member", "Owner"]);
        let answer = world.ok("get_group_info", r#"{"GroupIdList":["g"]}"#).await;
        assert_eq!(answer["GroupInfo"][0]["Owner_Account"], "jared");
        // The owner may be named again.
        world.ok("change_group_owner", r#"{"GroupId":"g","NewOwner_Account":"jared"}"#).await;
        assert_eq!(roles(&world, "g").await, ["Member", "Owner"]);
    }

    #[tokio::test]
    async fn a_group_without_an_owner_gets_one() {
        let world = world().await;
        world.ok("change_group_owner", r#"{"GroupId":"ownerless","NewOwner_Account":"jared"}"#).await;
        assert_eq!(roles(&world, "ownerless").await, ["NotMember", "Owner"]);
    }

    #[tokio::test]
    async fn bad_requests_have_their_codes_and_change_nothing() {
        let world = world().await;
        for (code, body) in [
            (10_004, json!({"NewOwner_Account":"jared"})),
            (10_004, json!({"GroupId":"g"})),
            (10_004, json!({"GroupId":"g","NewOwner_Account":""})),
            (60_015, json!({"GroupId":"g","NewOwner_Account":7})),
            (60_015, json!({"GroupId":"g","NewOwner_Account":"jared","From_Account":7})),
            (10_019, json!({"GroupId":"g","NewOwner_Account":"jared","From_Account":"nobody"})),
            (10_004, json!({"GroupId":"g","NewOwner_Account":"outsider"})),
            (10_004, json!({"GroupId":"g","NewOwner_Account":"nobody"})),
            (10_015, json!({"GroupId":"ü","NewOwner_Account":"jared"})),
            (10_010, json!({"GroupId":"gone","NewOwner_Account":"jared","From_Account":"nobody"})),
            (10_007, json!({"GroupId":"live","NewOwner_Account":"jared"})),
            (10_007, json!({"GroupId":"live","NewOwner_Account":"jared","From_Account":"nobody"})),
        ] {
            assert_eq!(world.code("change_group_owner", &body.to_string()).await, code, "{body}");
        }
        assert_eq!(roles(&world, "g").await, ["Owner", "Admin"]);
    }
}
