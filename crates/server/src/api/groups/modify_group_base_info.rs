//! `POST modify_group_base_info` (groups-and-messages.md section 3.4).

use sidenote_core::Outcome;
use sidenote_core::command::GroupAction;

use crate::api::groups::profile::parse_patch;
use crate::api::groups::{find_group, require_account};
use crate::api::parameters::{group_id, optional_user_id};
use crate::api::{Call, Fault, unexpected};
use crate::wire::envelope;
use crate::wire::json::Object;

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let raw_group_id = body.string("GroupId")?;
    let patch = parse_patch(body, &call.limits)?;
    let from = optional_user_id(body, "From_Account")?;
    let group = group_id(raw_group_id)?;
    let modify = GroupAction::Modify(Box::new(patch));

    let outcome = match from {
        Some(from) => {
            find_group(call, &group).await?;
            require_account(call, "From_Account", &from).await?;
            call.change_group_as(from, &group, modify).await?
        }
        None => call.change_group(&group, modify).await?,
    };

    match outcome {
        Outcome::Done => Ok(envelope::plain_success()),
        other => unexpected(&other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::api::testing::World;

    async fn world() -> World {
        let world = World::new().await;
        world.ok("multiaccount_import", r#"{"Accounts":["leckie","bob"]}"#).await;
        let body = r#"{"Owner_Account":"leckie","Type":"Public","Name":"n","GroupId":"g","MaxMemberCount":3,
            "Introduction":"i","AppDefinedData":[{"Key":"a","Value":"1"},{"Key":"b","Value":"2"}],
            "MemberList":[{"Member_Account":"bob"}]}"#;
        world.ok("create_group", body).await;
        world
    }

    async fn info(world: &World) -> Value {
        let keys: Vec<_> =
            (0..12).map(|n| n.to_string()).chain(["a".into(), "b".into(), "c".into()]).collect();
        let body = json!({"GroupIdList":["g"],"ResponseFilter":{"AppDefinedDataFilter_Group":keys}});
        world.ok("get_group_info", &body.to_string()).await["GroupInfo"][0].clone()
    }

    #[tokio::test]
    async fn what_is_given_changes_and_the_rest_stays() {
        let mut world = world().await;
        world.now += 5;
        let body = r#"{"GroupId":"g","Name":"NewName","Notification":"NewNotification","FaceUrl":"f",
            "MaxMemberNum":5,"ApplyJoinOption":"DisableApply","InviteJoinOption":"NeedPermission",
            "MuteAllMember":"On","HistoryMsgBeforeJoin":"Off","EnablePermission":0,"DefaultPermission":0,
            "From_Account":"bob","AppDefinedData":[{"Key":"a","Value":""},{"Key":"c","Value":"3"}]}"#;
        let answer = world.ok("modify_group_base_info", body).await;
        assert_eq!(answer, json!({"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}));
        let info = info(&world).await;
        for (name, value) in [
            ("Name", json!("NewName")),
            ("Introduction", json!("i")),
            ("Notification", json!("NewNotification")),
            ("FaceUrl", json!("f")),
            ("MaxMemberNum", json!(5)),
            ("ApplyJoinOption", json!("DisableApply")),
            ("InviteJoinOption", json!("NeedPermission")),
            ("MuteAllMember", json!("On")),
            ("InfoSeq", json!(2)),
            ("CreateTime", json!(world.now - 5)),
            ("LastInfoTime", json!(world.now)),
            ("AppDefinedData", json!([{"Key":"b","Value":"2"},{"Key":"c","Value":"3"}])),
        ] {
            assert_eq!(info[name], value, "{name}");
        }
        world
            .ok("modify_group_base_info", r#"{"GroupId":"g","ShutUpAllMember":"Off","Introduction":""}"#)
            .await;
        let info = self::info(&world).await;
        assert_eq!((&info["MuteAllMember"], &info["Introduction"]), (&json!("Off"), &json!("")));
    }

    #[tokio::test]
    async fn several_changes_together_make_no_more_than_10_fields() {
        let world = world().await;
        let change = |fields: Vec<(u32, &str)>| {
            let fields = fields.iter().map(|(n, value)| json!({"Key":n.to_string(),"Value":value}));
            json!({"GroupId":"g","AppDefinedData":fields.collect::<Vec<_>>()}).to_string()
        };
        let eight = (0..8).map(|n| (n, "v")).collect();
        assert_eq!(world.code("modify_group_base_info", &change(eight)).await, 0);
        assert_eq!(world.code("modify_group_base_info", &change(vec![(8, "v")])).await, 10_004);
        // One goes, one comes.
        assert_eq!(world.code("modify_group_base_info", &change(vec![(8, "v"), (0, "")])).await, 0);
        assert_eq!(info(&world).await["AppDefinedData"].as_array().unwrap().len(), 10);
    }

    #[tokio::test]
    async fn bad_requests_have_their_codes_and_change_nothing() {
        let world = world().await;
        for (code, changes) in [
            (10_004, json!({"GroupId":null})),
            (10_004, json!({"GroupId":1})),
            (10_015, json!({"GroupId":""})),
            (10_010, json!({"GroupId":"gone"})),
            (10_010, json!({"GroupId":"gone","From_Account":"nobody"})),
            (10_004, json!({"Name":""})),
            (10_004, json!({"Name":"n".repeat(31)})),
            (10_004, json!({"Introduction":"n".repeat(241)})),
            (10_004, json!({"Notification":"n".repeat(301)})),
            (10_004, json!({"FaceUrl":"n".repeat(101)})),
            (10_004, json!({"FaceUrl":7})),
            (10_004, json!({"MaxMemberNum":6001})),
            (10_004, json!({"MaxMemberNum":0})),
            (10_038, json!({"MaxMemberNum":1})),
            (10_004, json!({"ApplyJoinOption":"Free"})),
            (10_004, json!({"InviteJoinOption":1})),
            (10_004, json!({"MuteAllMember":"on"})),
            (10_004, json!({"MuteAllMember":1})),
            (10_004, json!({"HistoryMsgBeforeJoin":"Yes"})),
            (10_004, json!({"EnablePermission":"1"})),
            (10_004, json!({"AppDefinedData":[{"Key":"a-b","Value":""}]})),
            (60_015, json!({"From_Account":1})),
            (10_019, json!({"From_Account":"nobody"})),
        ] {
            let mut body = json!({"GroupId":"g","Notification":"changed"});
            for (name, value) in changes.as_object().unwrap() {
                body[name] = value.clone();
            }
            assert_eq!(world.code("modify_group_base_info", &body.to_string()).await, code, "{body}");
        }
        assert_eq!(info(&world).await["InfoSeq"], 1);
        world.ok("modify_group_base_info", &json!({"GroupId":"g","MaxMemberNum":2}).to_string()).await;
        world.ok("modify_group_base_info", &json!({"GroupId":"g","MaxMemberNum":6000}).to_string()).await;
    }
}
