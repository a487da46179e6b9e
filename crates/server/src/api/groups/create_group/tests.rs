use serde_json::{Value, json};

use crate::api::testing::World;

async fn world() -> World {
    let world = World::new().await;
    world.ok("multiaccount_import", r#"{"Accounts":["leckie","bob","peter"]}"#).await;
    world
}

/// A sound request with these members changed or added; `null` removes one.
fn request(changes: &Value) -> String {
    let mut body = json!({"Type":"Public","Name":"TestGroup"});
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

async fn describe(world: &World, group: &str) -> Value {
    let body = json!({"GroupIdList":[group],"ResponseFilter":{
        "AppDefinedDataFilter_Group":["GroupTestData1","GroupTestData2"],
        "AppDefinedDataFilter_GroupMember":["MemberDefined1","MemberDefined2"]}});
    world.ok("get_group_info", &body.to_string()).await["GroupInfo"][0].clone()
}

#[tokio::test]
async fn the_documented_request_makes_the_group_it_says() {
    let world = world().await;
    let body = r#"{"Owner_Account":"leckie","Type":"Public","GroupId":"MyFirstGroup","Name":"TestGroup",
        "Introduction":"This is group Introduction","Notification":"This is group Notification",
        "FaceUrl":"http://this.is.face.url","MaxMemberCount":500,"ApplyJoinOption":"FreeAccess",
        "AppDefinedData":[{"Key":"GroupTestData1","Value":"xxxxx"},{"Key":"GroupTestData2","Value":""}],
        "MemberList":[{"Member_Account":"bob","Role":"Admin","AppMemberDefinedData":[
            {"Key":"MemberDefined1","Value":"MemberData1"}]},{"Member_Account":"peter"}]}"#;
    let answer = world.ok("create_group", body).await;
    assert_eq!(
        answer,
        json!({"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"GroupId":"MyFirstGroup","Type":"Public"})
    );
    let now = world.now;
    let member = |name: &str, role: &str, custom: Value| {
        json!({"Member_Account":name,"Role":role,"JoinTime":now,"MsgSeq":0,"MsgFlag":"AcceptAndNotify",
            "LastSendMsgTime":0,"MuteUntil":0,"NameCard":"","AppMemberDefinedData":custom})
    };
    assert_eq!(
        describe(&world, "MyFirstGroup").await,
        json!({"GroupId":"MyFirstGroup","ErrorCode":0,"ErrorInfo":"","Type":"Public","Name":"TestGroup",
            "Appid":1_400_000_001,"Introduction":"This is group Introduction",
            "Notification":"This is group Notification","FaceUrl":"http://this.is.face.url",
            "Owner_Account":"leckie","CreateTime":now,"InfoSeq":1,"LastInfoTime":now,"LastMsgTime":0,
            "NextMsgSeq":1,"MemberNum":3,"MaxMemberNum":500,"ApplyJoinOption":"FreeAccess",
            "InviteJoinOption":"DisableInvite","MuteAllMember":"Off",
            "AppDefinedData":[{"Key":"GroupTestData1","Value":"xxxxx"}],
            "MemberList":[
                member("leckie", "Owner", json!([])),
                member("bob", "Admin", json!([{"Key":"MemberDefined1","Value":"MemberData1"}])),
                member("peter", "Member", json!([]))]})
    );
}

#[tokio::test]
async fn the_smallest_request_makes_a_group_with_a_generated_id() {
    let world = world().await;
    for (kind, named, beginning) in [
        ("Private", "Private", "@TGS#"),
        ("Work", "Private", "@TGS#"),
        ("Public", "Public", "@TGS#"),
        ("ChatRoom", "ChatRoom", "@TGS#"),
        ("Meeting", "ChatRoom", "@TGS#"),
        ("AVChatRoom", "AVChatRoom", "@TGS#"),
        ("Community", "Community", "@TGS#_@TGS#"),
    ] {
        let answer = world.ok("create_group", &request(&json!({"Type":kind}))).await;
        assert_eq!(answer["Type"], named);
        let group = answer["GroupId"].as_str().unwrap();
        let token = group.strip_prefix(beginning).unwrap();
        assert!(
            token.len() == 12 && token.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        );
        let info = describe(&world, group).await;
        assert_eq!(
            (&info["Type"], &info["Owner_Account"], &info["MemberNum"]),
            (&json!(named), &json!(""), &json!(0))
        );
        assert_eq!(info["MaxMemberNum"], if kind == "AVChatRoom" { 0 } else { 6000 });
        assert_eq!(info["ApplyJoinOption"], "NeedPermission");
    }
}

#[tokio::test]
async fn a_custom_id_must_be_one_that_no_server_makes_up() {
    let world = world().await;
    for (code, kind, id) in [
        (0, "Public", "g".repeat(48)),
        (0, "Public", " ~".to_owned()),
        (10_015, "Public", "g".repeat(49)),
        (10_015, "Public", String::new()),
        (10_015, "Public", "gruppe-ü".to_owned()),
        (10_004, "Public", "@TGS#mine".to_owned()),
        (10_004, "Public", "@TGS#_mine".to_owned()),
        (0, "Community", "@TGS#_mine".to_owned()),
        (10_004, "Community", "mine".to_owned()),
        (10_004, "Community", "@TGS#mine".to_owned()),
        (10_004, "Community", "@TGS#_@TGS#mine".to_owned()),
    ] {
        assert_eq!(
            world.code("create_group", &request(&json!({"Type":kind,"GroupId":id}))).await,
            code,
            "{id}"
        );
    }
}

#[tokio::test]
async fn an_id_that_is_taken_says_by_whom() {
    let world = world().await;
    world.ok("create_group", &request(&json!({"GroupId":"g","Owner_Account":"bob"}))).await;
    world.ok("create_group", &request(&json!({"GroupId":"ownerless"}))).await;
    for (code, changes) in [
        (10_025, json!({"GroupId":"g","Owner_Account":"bob"})),
        (10_021, json!({"GroupId":"g","Owner_Account":"peter"})),
        (10_021, json!({"GroupId":"g"})),
        (10_021, json!({"GroupId":"ownerless"})),
        (10_021, json!({"GroupId":"ownerless","Owner_Account":"bob"})),
    ] {
        assert_eq!(world.code("create_group", &request(&changes)).await, code, "{changes}");
    }
}

#[tokio::test]
async fn limits_hold_at_the_edge_and_one_beyond() {
    let world = world().await;
    let fields = |count: usize, key: usize, value: usize| {
        let fields = (0..count)
            .map(|n| json!({"Key":format!("{n}{}", "k".repeat(key - 1)),"Value":"v".repeat(value)}));
        fields.collect::<Vec<_>>()
    };
    let member = |custom: Vec<Value>| json!([{"Member_Account":"bob","AppMemberDefinedData":custom}]);
    let members = |count: usize| vec![json!({"Member_Account":"bob"}); count];
    for (edge, beyond) in [
        (json!({"Name":"n".repeat(30)}), json!({"Name":"n".repeat(31)})),
        (json!({"Name":"ü".repeat(15)}), json!({"Name":"ü".repeat(16)})),
        (json!({"Introduction":"n".repeat(240)}), json!({"Introduction":"n".repeat(241)})),
        (json!({"Notification":"n".repeat(300)}), json!({"Notification":"n".repeat(301)})),
        (json!({"FaceUrl":"n".repeat(100)}), json!({"FaceUrl":"n".repeat(101)})),
        (json!({"MaxMemberCount":6000}), json!({"MaxMemberCount":6001})),
        (json!({"MaxMemberCount":1}), json!({"MaxMemberCount":0})),
        (json!({"MemberList":members(100)}), json!({"MemberList":members(101)})),
        (json!({"AppDefinedData":fields(10, 15, 512)}), json!({"AppDefinedData":fields(11, 15, 512)})),
        (json!({"AppDefinedData":fields(1, 16, 512)}), json!({"AppDefinedData":fields(1, 17, 512)})),
        (json!({"AppDefinedData":fields(1, 16, 512)}), json!({"AppDefinedData":fields(1, 16, 513)})),
        (json!({"MemberList":member(fields(5, 16, 64))}), json!({"MemberList":member(fields(6, 16, 64))})),
        (json!({"MemberList":member(fields(1, 16, 64))}), json!({"MemberList":member(fields(1, 17, 64))})),
        (json!({"MemberList":member(fields(1, 16, 64))}), json!({"MemberList":member(fields(1, 16, 65))})),
    ] {
        assert_eq!(world.code("create_group", &request(&edge)).await, 0, "{edge}");
        assert_eq!(world.code("create_group", &request(&beyond)).await, 10_004, "{beyond}");
    }
}

#[tokio::test]
async fn bad_fields_make_no_group() {
    let world = world().await;
    let field = |field: Value| json!({"AppDefinedData":[field]});
    for (code, changes) in [
        (10_004, json!({"Type":null})),
        (10_004, json!({"Type":"BChatRoom"})),
        (10_004, json!({"Type":"public"})),
        (10_004, json!({"Type":1})),
        (10_004, json!({"Name":null})),
        (10_004, json!({"Name":""})),
        (10_004, json!({"Name":["n"]})),
        (10_004, json!({"GroupId":1})),
        (10_004, json!({"Notification":1})),
        (10_004, json!({"MaxMemberCount":"5"})),
        (10_004, json!({"MaxMemberCount":5.0})),
        (10_004, json!({"ApplyJoinOption":"DisableInvite"})),
        (10_004, json!({"InviteJoinOption":"DisableApply"})),
        (10_004, json!({"SupportTopic":1})),
        (10_004, json!({"SupportTopic":true})),
        (10_004, json!({"EnablePermission":"1"})),
        (10_004, json!({"DefaultPermission":-1})),
        (10_004, json!({"AppDefinedData":{}})),
        (10_004, field(json!("k"))),
        (10_004, field(json!({"Key":"k"}))),
        (10_004, field(json!({"Value":"v"}))),
        (10_004, field(json!({"Key":"","Value":"v"}))),
        (10_004, field(json!({"Key":"a-b","Value":"v"}))),
        (10_004, field(json!({"Key":"ü","Value":"v"}))),
        (10_004, field(json!({"Key":"k","Value":1}))),
        (10_004, json!({"AppDefinedData":[{"Key":"k","Value":"1"},{"Key":"k","Value":"2"}]})),
        (60_015, json!({"Owner_Account":7})),
        (10_004, json!({"Owner_Account":""})),
        (10_019, json!({"Owner_Account":"nobody"})),
        (10_004, json!({"MemberList":"bob"})),
        (10_004, json!({"MemberList":["bob"]})),
        (10_004, json!({"MemberList":[{}]})),
        (60_015, json!({"MemberList":[{"Member_Account":7}]})),
        (10_004, json!({"MemberList":[{"Member_Account":"bob","Role":"Owner"}]})),
        (10_004, json!({"MemberList":[{"Member_Account":"bob","Role":"Member"}]})),
        (10_019, json!({"MemberList":[{"Member_Account":"bob"},{"Member_Account":"nobody"}]})),
        (10_007, json!({"Type":"AVChatRoom","MemberList":[{"Member_Account":"bob"}]})),
        // Parameters come before an impossible id, an impossible id before everything else (rule 3.12).
        (10_004, json!({"GroupId":"ü","Name":""})),
        (10_015, json!({"GroupId":"ü","Owner_Account":"nobody"})),
        (10_015, json!({"GroupId":"ü","Type":"AVChatRoom","MemberList":[{"Member_Account":"bob"}]})),
    ] {
        let mut changes = changes;
        if changes["GroupId"].is_null() {
            changes["GroupId"] = json!("g");
        }
        assert_eq!(world.code("create_group", &request(&changes)).await, code, "{changes}");
    }
    assert_eq!(describe(&world, "g").await["ErrorCode"], 10_010);
}

#[tokio::test]
async fn more_members_than_the_group_may_have_are_refused() {
    let world = world().await;
    let body = |max: u32| {
        request(&json!({"GroupId":"g","Owner_Account":"leckie","MaxMemberCount":max,
            "MemberList":[{"Member_Account":"bob"},{"Member_Account":"bob"},{"Member_Account":"leckie"}]}))
    };
    assert_eq!(world.code("create_group", &body(1)).await, 10_038);
    assert_eq!(describe(&world, "g").await["ErrorCode"], 10_010);
    // Who is named twice counts once.
    assert_eq!(world.code("create_group", &body(2)).await, 0);
    assert_eq!(describe(&world, "g").await["MemberNum"], 2);
}
