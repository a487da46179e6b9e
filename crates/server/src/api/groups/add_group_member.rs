//! `POST add_group_member` (groups-and-messages.md section 3.5).

use sidenote_core::command::MAX_MEMBERS_PER_COMMAND;

use crate::api::groups::find_group_with_members;
use crate::api::groups::members::{Candidate, Item, Reply, add, bounded, enlist};
use crate::api::parameters::group_id;
use crate::api::{Call, Fault};
use crate::wire::envelope;
use crate::wire::json::Object;

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let raw_group_id = body.string("GroupId")?;
    // Members that are added over REST are never told of it here, so there is nothing to keep silent.
    body.optional_flag("Silence")?;
    let list = bounded(body.array("MemberList")?, MAX_MEMBERS_PER_COMMAND)?;
    let candidates = list.objects().map(|item| Candidate::parse(item?)).collect::<Result<_, _>>()?;
    let group = group_id(raw_group_id)?;

    find_group_with_members(call, &group).await?;
    let added = add(call, &group, enlist(call, candidates).await?, false).await?;

    let items =
        added.iter().map(|(user, added)| Item { user: user.as_str(), result: Item::result_of(*added) });
    Ok(envelope::success(&Reply { member_list: items.collect() }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::api::testing::World;

    async fn world() -> World {
        let world = World::new().await;
        world.ok("multiaccount_import", r#"{"Accounts":["leckie","tommy","jared"]}"#).await;
        let body = r#"{"Owner_Account":"leckie","Type":"Public","Name":"n","GroupId":"g","MaxMemberCount":3,
            "MemberList":[{"Member_Account":"jared"}]}"#;
        world.ok("create_group", body).await;
        world.ok("create_group", r#"{"Type":"AVChatRoom","Name":"n","GroupId":"live"}"#).await;
        world
    }

    #[tokio::test]
    async fn each_account_is_told_whether_it_was_added() {
        let world = world().await;
        let body = r#"{"GroupId":"g","Silence":1,"MemberList":[{"Member_Account":"tommy"},
            {"Member_Account":"jared"},{"Member_Account":"tommy"}]}"#;
        let answer = world.ok("add_group_member", body).await;
        assert_eq!(
            answer,
            json!({"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"MemberList":[
                {"Member_Account":"tommy","Result":1},{"Member_Account":"jared","Result":2},
                {"Member_Account":"tommy","Result":2}]})
        );
    }

    #[tokio::test]
    async fn who_is_added_sees_the_group_at_once() {
        let world = world().await;
        let list = async || world.ok("get_joined_group_list", r#"{"Member_Account":"tommy"}"#).await;
        assert_eq!(list().await["TotalCount"], 0);
        let members = r#"{"GroupId":"g","MemberList":[{"Member_Account":"tommy"}]}"#;
        world.ok("add_group_member", members).await;
        assert_eq!(list().await["GroupIdList"], json!([{"GroupId":"g"}]));
        world.ok("delete_group_member", r#"{"GroupId":"g","MemberToDel_Account":["tommy"]}"#).await;
        assert_eq!(list().await["GroupIdList"], json!([]));
        world.ok("add_group_member", members).await;
        world.ok("destroy_group", r#"{"GroupId":"g"}"#).await;
        assert_eq!(list().await["GroupIdList"], json!([]));
    }

    #[tokio::test]
    async fn a_full_group_takes_nobody() {
        let world = world().await;
        world.ok("account_import", r#"{"UserID":"late"}"#).await;
        let body = r#"{"GroupId":"g","MemberList":[{"Member_Account":"tommy"},{"Member_Account":"late"}]}"#;
        assert_eq!(world.code("add_group_member", body).await, 10_014);
        let body = r#"{"GroupId":"g","User_Account":["tommy"]}"#;
        assert_eq!(world.ok("get_role_in_group", body).await["UserIdList"][0]["Role"], "NotMember");
        // The third of three places, and whoever is in already.
        let body = r#"{"GroupId":"g","MemberList":[{"Member_Account":"tommy"},{"Member_Account":"jared"}]}"#;
        world.ok("add_group_member", body).await;
        world.ok("add_group_member", body).await;
    }

    #[tokio::test]
    async fn bad_requests_have_their_codes_and_add_nobody() {
        let world = world().await;
        let tommy = json!({"Member_Account":"tommy"});
        for (code, body) in [
            (10_004, json!({"MemberList":[tommy]})),
            (10_004, json!({"GroupId":"g"})),
            (10_004, json!({"GroupId":"g","MemberList":[]})),
            (10_004, json!({"GroupId":"g","MemberList":"tommy"})),
            (10_004, json!({"GroupId":"g","MemberList":[tommy,"jared"]})),
            (10_004, json!({"GroupId":"g","MemberList":[tommy,{}]})),
            (10_004, json!({"GroupId":"g","MemberList":[tommy,{"Member_Account":""}]})),
            (60_015, json!({"GroupId":"g","MemberList":[tommy,{"Member_Account":3}]})),
            (10_004, json!({"GroupId":"g","MemberList":[tommy],"Silence":2})),
            (10_005, json!({"GroupId":"g","MemberList":vec![tommy.clone(); 301]})),
            (10_019, json!({"GroupId":"g","MemberList":[tommy,{"Member_Account":"nobody"}]})),
            (10_015, json!({"GroupId":"ü","MemberList":[{"Member_Account":"nobody"}]})),
            (10_010, json!({"GroupId":"gone","MemberList":[{"Member_Account":"nobody"}]})),
            (10_007, json!({"GroupId":"live","MemberList":[{"Member_Account":"nobody"}]})),
        ] {
            assert_eq!(world.code("add_group_member", &body.to_string()).await, code, "{body}");
        }
        let answer = world.ok("get_role_in_group", r#"{"GroupId":"g","User_Account":["tommy"]}"#).await;
        assert_eq!(answer["UserIdList"][0]["Role"], "NotMember");
        let body = json!({"GroupId":"g","MemberList":vec![tommy; 300]}).to_string();
        world.ok("add_group_member", &body).await;
    }

    #[tokio::test]
    async fn an_unknown_account_is_named_by_its_place() {
        let body = r#"{"GroupId":"g","MemberList":[{"Member_Account":"tommy"},{"Member_Account":"nobody"}]}"#;
        let answer = world().await.post("add_group_member", body).await;
        assert_eq!(
            answer["ErrorInfo"],
            "MemberList[1].Member_Account names an account that does not exist, import it first"
        );
    }
}
