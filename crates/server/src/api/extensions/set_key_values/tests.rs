use serde_json::{Value, json};
use sidenote_core::event::CallerKind;

use crate::api::testing::World;

const SET: &str = "set_key_values";
const GET: &str = "get_key_values";

/// Messages from Ann to Bob: one that takes pairs, and one that does not.
async fn world() -> (World, String, String) {
    let world = World::new().await;
    world.import_accounts(&["ann", "bob", "eve"]).await;
    let mut keys = Vec::new();
    for flag in [1, 0] {
        let body = format!(
            r#"{{"From_Account":"ann","To_Account":"bob","MsgSeq":9,"MsgRandom":{flag},"SupportMessageExtension":{flag},
                "MsgBody":[{{"MsgType":"TIMTextElem","MsgContent":{{"Text":"hi"}}}}]}}"#
        );
        keys.push(world.ok("sendmsg", &body).await["MsgKey"].as_str().unwrap().to_owned());
    }
    let [poll, plain] = keys.try_into().unwrap();
    (world, poll, plain)
}

fn of(key: &str, rest: &str) -> String {
    format!(r#"{{"From_Account":"ann","To_Account":"bob","MsgKey":"{key}"{rest}}}"#)
}

fn set(key: &str, name: &str, seq: u64) -> String {
    of(key, &format!(r#","OperateType":1,"ExtensionList":[{{"Key":"{name}","Value":"v","Seq":{seq}}}]"#))
}

fn code(answer: &Value) -> u64 {
    answer["ErrorCode"].as_u64().unwrap()
}

#[tokio::test]
async fn both_sides_write_and_read_by_the_rules_of_members() {
    let (world, poll, _) = world().await;
    let member = CallerKind::Member;
    let first = world.post_as("bob", member, SET, &set(&poll, "vote", 0)).await;
    let accepted = json!({"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"Seq":1,
        "ExtensionList":[{"ErrorCode":0,"Extension":{"Key":"vote","Value":"v","Seq":1}}]});
    assert_eq!(first, accepted);
    let second = world.post_as("ann", member, SET, &set(&poll, "vote", 0)).await;
    assert_eq!(second["ExtensionList"][0]["ErrorCode"], 23_001);
    assert_eq!(second["ExtensionList"][0]["Extension"]["Seq"], 1);
    let third = world.post_as("ann", member, SET, &set(&poll, "vote", 1)).await;
    assert_eq!((&third["Seq"], code(&third["ExtensionList"][0])), (&json!(2), 0));
    for reader in ["ann", "bob"] {
        assert_eq!(
            world.post_as(reader, member, GET, &of(&poll, "")).await,
            json!({"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"CompleteFlag":1,"LatestSeq":2,"ClearSeq":0,
                "ExtensionList":[{"Key":"vote","Value":"v","Seq":2}]})
        );
    }
}

#[tokio::test]
async fn nobody_else_does_but_administrators() {
    let (world, poll, _) = world().await;
    for kind in [CallerKind::Member, CallerKind::Connected] {
        assert_eq!(code(&world.post_as("eve", kind, SET, &set(&poll, "vote", 0)).await), 20_003);
        assert_eq!(code(&world.post_as("eve", kind, GET, &of(&poll, "")).await), 20_003);
    }
    assert_eq!(world.ok(GET, &of(&poll, "")).await["LatestSeq"], 0);
    world.ok(SET, &set(&poll, "vote", 77)).await;
    assert_eq!(world.ok(GET, &of(&poll, "")).await["LatestSeq"], 1);
}

#[tokio::test]
async fn an_absent_sender_is_the_caller() {
    let (world, poll, _) = world().await;
    let body = set(&poll, "vote", 0).replace(r#""From_Account":"ann","#, "");
    assert_eq!(code(&world.post_as("ann", CallerKind::Member, SET, &body).await), 0);
    // The recipient writes to herself by that, and there is no such message.
    let body = body.replace(r#""Seq":0"#, r#""Seq":1"#);
    assert_eq!(code(&world.post_as("bob", CallerKind::Member, SET, &body).await), 23_004);
    // An administrator's own message.
    let sent = r#"{"To_Account":"bob","MsgRandom":1,"SupportMessageExtension":1,
        "MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]}"#;
    let key = world.ok("sendmsg", sent).await["MsgKey"].as_str().unwrap().to_owned();
    world.ok(SET, &set(&key, "vote", 0).replace(r#""From_Account":"ann","#, "")).await;
}

#[tokio::test]
async fn tombstones_come_from_a_start_on_and_always_over_a_connection() {
    let (world, poll, _) = world().await;
    world.ok(SET, &set(&poll, "vote", 0)).await;
    let delete = of(&poll, r#","OperateType":2,"ExtensionList":[{"Key":"vote","Value":""}]"#);
    world.ok(SET, &delete).await;
    let tombstone = json!([{"Key":"vote","Value":"","Seq":2}]);
    assert_eq!(world.ok(GET, &of(&poll, "")).await["ExtensionList"], json!([]));
    assert_eq!(world.ok(GET, &of(&poll, r#","StartSeq":1"#)).await["ExtensionList"], tombstone);
    assert_eq!(world.ok(GET, &of(&poll, r#","startSeq":2"#)).await["ExtensionList"], tombstone);
    let connected = world.post_as("bob", CallerKind::Connected, GET, &of(&poll, "")).await;
    assert_eq!(connected["ExtensionList"], tombstone);
    let cleared = world.ok(SET, &of(&poll, r#","OperateType":3"#)).await;
    assert_eq!((&cleared["Seq"], &cleared["ExtensionList"]), (&json!(3), &json!([])));
    assert_eq!(world.ok(GET, &of(&poll, "")).await["ClearSeq"], 3);
}

#[tokio::test]
async fn attempts_of_a_minute_are_counted_by_message() {
    let (mut world, poll, _) = world().await;
    for _ in 0..200 {
        world.ok(SET, &set(&poll, "vote", 0)).await;
    }
    assert_eq!(world.code(SET, &set(&poll, "vote", 0)).await, 23_003);
    world.now += 60;
    world.ok(SET, &set(&poll, "vote", 0)).await;
}

#[tokio::test]
async fn bad_input_writes_nothing() {
    let (world, poll, plain) = world().await;
    let good = set(&poll, "vote", 0);
    let backwards = good.replace("ann", "?").replace("bob", "ann").replace('?', "bob");
    for (body, code, info) in [
        ("{}".to_owned(), 90_003, "To_Account is missing"),
        (good.replace(r#""bob""#, "null"), 90_003, "To_Account is missing"),
        (good.replace(r#""bob""#, "1"), 90_003, "To_Account must be a string"),
        (good.replace("bob", "nobody"), 90_012, "To_Account names an account that does not exist"),
        (good.replace(r#""ann""#, "1"), 90_008, "From_Account must be a string"),
        (good.replace("ann", "nobody"), 90_008, "From_Account names an account that does not exist"),
        (backwards, 90_008, "From_Account is not the account that sent the message"),
        (good.replace("MsgKey", "MsgSeq"), 90_054, "MsgKey is missing"),
        (good.replace(&poll, "158"), 90_054, "MsgKey must be three numbers as in 44739199_12_1665388280"),
        (
            good.replace(r#""OperateType":1"#, r#""OperateType":4"#),
            90_010,
            "OperateType must be between 1 and 3",
        ),
        (good.replace("ExtensionList", "List"), 90_010, "ExtensionList is missing"),
        (good.replace(r#""vote""#, r#""""#), 90_010, "ExtensionList[0].Key must not be empty"),
        (
            good.replace("vote", &"k".repeat(101)),
            90_010,
            "ExtensionList[0].Key has 101 bytes where at most 100 are allowed",
        ),
        (good.replace(r#""v""#, r#""""#), 90_010, "ExtensionList[0].Value must not be empty"),
        (good.replace(&poll, "9_1_1"), 23_004, "the message does not exist or was recalled"),
        (good.replace("bob", "eve"), 23_004, "the message does not exist or was recalled"),
        (good.replace(&poll, &plain), 23_002, "the message does not support extensions"),
    ] {
        let answer = world.post(SET, &body).await;
        assert_eq!((&answer["ErrorCode"], &answer["ErrorInfo"]), (&json!(code), &json!(info)), "{body}");
    }
    let member = world.post_as("ann", CallerKind::Member, SET, &good.replace(r#","Seq":0"#, "")).await;
    assert_eq!((code(&member), &member["ErrorInfo"]), (90_010, &json!("ExtensionList[0].Seq is missing")));
    for (body, code) in [
        (of(&poll, r#","StartSeq":-1"#), 90_010),
        (of(&poll, "").replace(&poll, "x"), 90_054),
        (of("9_1_1", ""), 23_004),
        (of(&plain, ""), 23_002),
        (of(&poll, "").replace("bob", "nobody"), 90_012),
    ] {
        assert_eq!(world.code(GET, &body).await, code, "{body}");
    }
    assert_eq!(world.ok(GET, &of(&poll, "")).await["LatestSeq"], 0);
}
