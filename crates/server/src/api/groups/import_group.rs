//! `POST import_group` (groups-and-messages.md section 5.1).

use serde::Serialize;
use sidenote_core::Refusal;
use sidenote_core::group::GroupType;
use sidenote_core::ids::Timestamp;

use crate::api::groups::new_group::{Beginning, GroupRequest, make};
use crate::api::{Call, Fault};
use crate::wire::envelope;
use crate::wire::json::Object;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Reply<'a> {
    group_id: &'a str,
}

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let request = GroupRequest::parse(call, body)?;
    let created = body.optional_integer("CreateTime", 0..=call.at.secs())?;
    // A group that existed elsewhere keeps its id, also one that a server made up (rule 3.13).
    let wanted = request.group_id()?;
    if request.kind == GroupType::AvChatRoom {
        return Err(Fault::Refused(Refusal::TypeForbidsCommand));
    }

    let created_at = created.map_or(call.at, Timestamp::from_secs);
    let beginning = Beginning { members: Vec::new(), created_at, imported: true };
    let group = make(call, request, wanted, beginning).await?;

    Ok(envelope::success(&Reply { group_id: group.as_str() }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::api::testing::World;

    async fn world() -> World {
        let world = World::new().await;
        world.ok("account_import", r#"{"UserID":"leckie"}"#).await;
        world
    }

    #[tokio::test]
    async fn the_documented_request_imports_the_group_as_it_was() {
        let world = world().await;
        let body = r#"{"Owner_Account":"leckie","Type":"Public","GroupId":"@TGS#1YMVAB3IZ","Name":"TestGroup",
            "Introduction":"i","Notification":"n","FaceUrl":"f","MaxMemberCount":500,
            "ApplyJoinOption":"FreeAccess","AppDefinedData":[{"Key":"GroupTestData1","Value":"xxxxx"}],
            "CreateTime":1448357837}"#;
        let answer = world.ok("import_group", body).await;
        assert_eq!(
            answer,
            json!({"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"GroupId":"@TGS#1YMVAB3IZ"})
        );
        let answer = world.ok("get_group_info", r#"{"GroupIdList":["@TGS#1YMVAB3IZ"]}"#).await;
        let info = &answer["GroupInfo"][0];
        assert_eq!((&info["CreateTime"], &info["MaxMemberNum"]), (&json!(1_448_357_837), &json!(500)));
        assert_eq!(info["MemberList"][0]["JoinTime"], 1_448_357_837);
        assert_eq!(world.code("import_group", body).await, 10_025);
    }

    #[tokio::test]
    async fn without_id_and_time_it_is_given_both() {
        let world = world().await;
        let answer = world.ok("import_group", r#"{"Type":"Community","Name":"n"}"#).await;
        let group = answer["GroupId"].as_str().unwrap();
        assert!(group.starts_with("@TGS#_@TGS#"));
        let answer = world.ok("get_group_info", &json!({"GroupIdList":[group]}).to_string()).await;
        assert_eq!(answer["GroupInfo"][0]["CreateTime"], world.now);
    }

    #[tokio::test]
    async fn bad_requests_have_their_codes() {
        let world = world().await;
        world.ok("import_group", r#"{"Type":"Public","Name":"n","GroupId":"taken"}"#).await;
        for (code, body) in [
            (10_004, json!({"Name":"n"})),
            (10_004, json!({"Type":"Public"})),
            (10_004, json!({"Type":"Public","Name":"n".repeat(31)})),
            (10_004, json!({"Type":"Public","Name":"n","MaxMemberCount":6001})),
            (0, json!({"Type":"Public","Name":"n","CreateTime":world.now})),
            (0, json!({"Type":"Public","Name":"n","CreateTime":0})),
            (10_004, json!({"Type":"Public","Name":"n","CreateTime":world.now + 1})),
            (10_004, json!({"Type":"Public","Name":"n","CreateTime":-1})),
            (10_004, json!({"Type":"Public","Name":"n","CreateTime":"1448357837"})),
            (10_015, json!({"Type":"Public","Name":"n","GroupId":"g".repeat(49)})),
            (10_007, json!({"Type":"AVChatRoom","Name":"n"})),
            (10_019, json!({"Type":"Public","Name":"n","Owner_Account":"nobody"})),
            (10_021, json!({"Type":"Public","Name":"n","GroupId":"taken"})),
        ] {
            assert_eq!(world.code("import_group", &body.to_string()).await, code, "{body}");
        }
    }
}
