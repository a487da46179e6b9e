//! `POST get_role_in_group` (groups-and-messages.md section 3.9).

use serde::Serialize;
use sidenote_core::query::FindMembers;

use crate::api::groups::find_group_with_members;
use crate::api::groups::types::{ROLES, name_of};
use crate::api::parameters::{group_id, user_id_of};
use crate::api::{Call, Fault};
use crate::wire::envelope;
use crate::wire::json::Object;

/// Accounts that one request may ask for.
const MAX_ACCOUNTS: usize = 500;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Reply<'a> {
    user_id_list: Vec<Item<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item<'a> {
    #[serde(rename = "Member_Account")]
    user: &'a str,
    role: &'static str,
}

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let raw_group_id = body.string("GroupId")?;
    let list = body.array("User_Account")?.not_empty()?.at_most(MAX_ACCOUNTS)?;
    let users = list.iter().map(user_id_of).collect::<Result<Vec<_>, _>>()?;
    let group = group_id(raw_group_id)?;

    find_group_with_members(call, &group).await?;
    let members = call.ask(FindMembers { id: call.group(&group), users: users.clone() }).await??;

    let items = users.iter().zip(&members).map(|(user, member)| Item {
        user: user.as_str(),
        role: member.as_ref().map_or("NotMember", |member| name_of(ROLES, &member.role)),
    });
    Ok(envelope::success(&Reply { user_id_list: items.collect() }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::api::testing::World;

    async fn world() -> World {
        let world = World::new().await;
        world.ok("multiaccount_import", r#"{"Accounts":["leckie","peter","wesley","jack"]}"#).await;
        let body = r#"{"Owner_Account":"leckie","Type":"Public","Name":"n","GroupId":"g",
            "MemberList":[{"Member_Account":"peter","Role":"Admin"},{"Member_Account":"wesley"}]}"#;
        world.ok("create_group", body).await;
        world.ok("create_group", r#"{"Type":"AVChatRoom","Name":"n","GroupId":"live"}"#).await;
        world
    }

    #[tokio::test]
    async fn every_account_has_its_role_in_the_order_of_the_request() {
        let body = r#"{"GroupId":"g","User_Account":["jack","peter","leckie","wesley","unknown","peter"]}"#;
        let answer = world().await.ok("get_role_in_group", body).await;
        assert_eq!(
            answer["UserIdList"],
            json!([{"Member_Account":"jack","Role":"NotMember"},{"Member_Account":"peter","Role":"Admin"},
                {"Member_Account":"leckie","Role":"Owner"},{"Member_Account":"wesley","Role":"Member"},
                {"Member_Account":"unknown","Role":"NotMember"},{"Member_Account":"peter","Role":"Admin"}])
        );
    }

    #[tokio::test]
    async fn bad_requests_have_their_codes() {
        let world = world().await;
        for (code, body) in [
            (0, json!({"GroupId":"g","User_Account":vec!["a"; 500]})),
            (10_004, json!({"GroupId":"g","User_Account":vec!["a"; 501]})),
            (10_004, json!({"GroupId":"g","User_Account":[]})),
            (10_004, json!({"GroupId":"g"})),
            (10_004, json!({"User_Account":["a"]})),
            (10_004, json!({"GroupId":"g","User_Account":"a"})),
            (10_004, json!({"GroupId":"g","User_Account":[""]})),
            (60_015, json!({"GroupId":"g","User_Account":[{}]})),
            (10_015, json!({"GroupId":"","User_Account":["a"]})),
            (10_010, json!({"GroupId":"gone","User_Account":["a"]})),
            (10_007, json!({"GroupId":"live","User_Account":["a"]})),
        ] {
            assert_eq!(world.code("get_role_in_group", &body.to_string()).await, code, "{body}");
        }
    }
}
