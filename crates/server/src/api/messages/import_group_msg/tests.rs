use serde_json::{Value, json};
use sidenote_core::group::GroupType;

use crate::api::testing::World;

const IMPORT: &str = "import_group_msg";
const NOW: u64 = 1_700_000_000;

/// A group that is 1000 seconds old.
async fn world() -> World {
    let mut world = World::new().await;
    world.now -= 1000;
    world.found_group("g", GroupType::Public).await;
    world.import_accounts(&["leckie", "peter"]).await;
    world.now += 1000;
    world
}

/// A message, with what is to be added to it or replaced in it.
fn message(sent_at: u64, members: &Value) -> Value {
    let mut message = json!({"From_Account":"leckie","SendTime":sent_at,"Random":8_912_345,
        "MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"red packet"}}]});
    for (name, value) in members.as_object().unwrap() {
        message[name] = value.clone();
    }
    message
}

fn import(messages: &[Value]) -> String {
    json!({"GroupId":"g","MsgList":messages}).to_string()
}

/// Number, time and result of each message.
fn results(answer: &Value) -> Vec<[u64; 3]> {
    let list = answer["ImportMsgResult"].as_array().unwrap().iter();
    list.map(|item| ["MsgSeq", "MsgTime", "Result"].map(|name| item[name].as_u64().unwrap())).collect()
}

async fn history(world: &World) -> Value {
    world.ok("group_msg_get_simple", r#"{"GroupId":"g","ReqMsgNumber":20}"#).await["RspMsgList"].clone()
}

#[tokio::test]
async fn the_documented_sample() {
    let world = world().await;
    let body = format!(
        r#"{{"GroupId":"g","RecentContactFlag":1,"MsgList":[
            {{"From_Account":"leckie","SendTime":{},"Random":8912345,"MsgBody":[
                {{"MsgType":"TIMTextElem","MsgContent":{{"Text":"red packet"}}}},
                {{"MsgType":"TIMFaceElem","MsgContent":{{"Index":6,"Data":"abc\u0000\u0001"}}}}]}},
            {{"From_Account":"peter","SendTime":{},"MsgBody":[ {{"MsgType":"TIMTextElem","MsgContent":{{"Text":1.10}}}} ]}},
            {{"From_Account":"peter","SendTime":{},"MsgBody":[ {{"MsgType":"TIMTextElem","MsgContent":{{"Text":"",}}}} ]}}]}}"#,
        NOW - 10,
        NOW - 9,
        NOW - 8,
    );
    assert_eq!(
        world.post(IMPORT, &body).await,
        json!({"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"ImportMsgResult":[
            {"MsgSeq":1,"MsgTime":NOW - 10,"Result":0},
            {"MsgSeq":0,"MsgTime":0,"Result":10004},
            {"MsgSeq":2,"MsgTime":NOW - 8,"Result":0}]})
    );
    let history = history(&world).await;
    assert_eq!(history[0]["From_Account"], "peter");
    assert_eq!(
        history[1],
        json!({"From_Account":"leckie","IsPlaceMsg":0,"MsgBody":[
                {"MsgType":"TIMTextElem","MsgContent":{"Text":"red packet"}},
                {"MsgType":"TIMFaceElem","MsgContent":{"Index":6,"Data":"abc\u{0}\u{1}"}}],
            "MsgPriority":2,"MsgRandom":8_912_345,"MsgSeq":1,"MsgTimeStamp":NOW - 10})
    );
}

#[tokio::test]
async fn times_ascend_between_the_groups_creation_and_now() {
    let world = world().await;
    for (sent_at, expected) in [
        (NOW - 1001, [0, 0, 10004]),
        (NOW - 1000, [1, NOW - 1000, 0]),
        (NOW - 500, [2, NOW - 500, 0]),
        (NOW - 501, [0, 0, 10004]),
        (NOW - 500, [3, NOW - 500, 0]),
        (NOW + 1, [0, 0, 10004]),
        (u64::MAX, [0, 0, 10004]),
        (0, [0, 0, 10004]),
        (NOW, [4, NOW, 0]),
    ] {
        let answer = world.ok(IMPORT, &import(&[message(sent_at, &json!({}))])).await;
        assert_eq!(results(&answer), [expected], "{sent_at}");
    }
    let order = [NOW, NOW - 1, NOW].map(|sent_at| message(sent_at, &json!({})));
    assert_eq!(results(&world.ok(IMPORT, &import(&order)).await), [[5, NOW, 0], [0, 0, 10004], [6, NOW, 0]]);
}

#[tokio::test]
async fn each_message_has_a_result_of_its_own() {
    let world = world().await;
    let good = message(NOW - 5, &json!({}));
    let too_long = json!([{"MsgType":"TIMTextElem","MsgContent":{"Text":"t".repeat(12 * 1024)}}]);
    for (bad, result) in [
        (json!(null), 10004),
        (json!("text"), 10004),
        (json!({}), 10004),
        (message(NOW - 5, &json!({"From_Account":null})), 10004),
        (message(NOW - 5, &json!({"From_Account":7})), 10004),
        (message(NOW - 5, &json!({"From_Account":""})), 10004),
        (message(NOW - 5, &json!({"From_Account":"stranger"})), 10004),
        (message(NOW - 5, &json!({"SendTime":null})), 10004),
        (message(NOW - 5, &json!({"SendTime":"1699999995"})), 10004),
        (message(NOW - 5, &json!({"SendTime":-1})), 10004),
        (message(NOW - 5, &json!({"Random":4_294_967_296_u64})), 10004),
        (message(NOW - 5, &json!({"Random":1.0})), 10004),
        (message(NOW - 5, &json!({"MsgBody":null})), 10004),
        (message(NOW - 5, &json!({"MsgBody":[]})), 10004),
        (message(NOW - 5, &json!({"MsgBody":[{"MsgType":"TIMTextElem"}]})), 10004),
        (message(NOW - 5, &json!({"MsgBody":[{"MsgType":"Text","MsgContent":{}}]})), 10004),
        (message(NOW - 5, &json!({"MsgBody":too_long})), 80002),
    ] {
        let before = history(&world).await[0]["MsgSeq"].as_u64().unwrap_or(0);
        let answer = world.ok(IMPORT, &import(&[good.clone(), bad.clone(), good.clone()])).await;
        assert_eq!(
            results(&answer),
            [[before + 1, NOW - 5, 0], [0, 0, result], [before + 2, NOW - 5, 0]],
            "{bad}"
        );
    }
}

#[tokio::test]
async fn a_body_has_12_kib() {
    let world = world().await;
    let overhead = r#"[{"MsgContent":{"Text":""},"MsgType":"TIMTextElem"}]"#.len();
    let long = |bytes: usize| {
        let element = json!([{"MsgType":"TIMTextElem","MsgContent":{"Text":"t".repeat(bytes - overhead)}}]);
        message(NOW - 5, &json!({"MsgBody":element}))
    };
    let answer = world.ok(IMPORT, &import(&[long(12 * 1024), long(12 * 1024 + 1)])).await;
    assert_eq!(results(&answer), [[1, NOW - 5, 0], [0, 0, 80002]]);
}

#[tokio::test]
async fn seven_messages_at_most() {
    let world = world().await;
    let messages = vec![message(NOW - 5, &json!({})); 8];
    let answer = world.post(IMPORT, &import(&messages)).await;
    assert_eq!(answer["ErrorCode"], 10004);
    assert_eq!(answer["ErrorInfo"], "MsgList has 8 items where at most 7 are allowed");
    let answer = world.ok(IMPORT, &import(&messages[1..])).await;
    assert_eq!(results(&answer), [1, 2, 3, 4, 5, 6, 7].map(|seq| [seq, NOW - 5, 0]));
}

#[tokio::test]
async fn a_message_without_a_random_number_gets_one() {
    let world = world().await;
    let without = vec![message(NOW - 5, &json!({"Random":null})); 3];
    world.ok(IMPORT, &import(&without)).await;
    let history = history(&world).await;
    let numbers: std::collections::BTreeSet<_> =
        (0..3).map(|index| history[index]["MsgRandom"].as_u64().unwrap()).collect();
    // Three draws of 32 bits are the same once in 2^64 times.
    assert!(numbers.len() > 1, "{numbers:?}");
}

#[tokio::test]
async fn imported_messages_take_no_pairs() {
    let world = world().await;
    world.ok(IMPORT, &import(&[message(NOW - 5, &json!({"SupportMessageExtension":1}))])).await;
    let set = r#"{"GroupId":"g","MsgSeq":1,"OperateType":1,"ExtensionList":[{"Key":"k","Value":"v"}]}"#;
    assert_eq!(world.code("group_set_key_values", set).await, 23002);
}

#[tokio::test]
async fn a_message_sent_later_has_the_next_number() {
    let world = world().await;
    world.ok(IMPORT, &import(&[message(NOW - 5, &json!({}))])).await;
    let same = r#"{"GroupId":"g","From_Account":"leckie","Random":8912345,
        "MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"red packet"}}]}"#;
    assert_eq!(world.ok("send_group_msg", same).await["MsgSeq"], 2, "an import is no earlier send");
}

#[tokio::test]
async fn bad_input_is_told_by_name_and_imports_nothing() {
    let world = world().await;
    world.found_group("live", GroupType::AvChatRoom).await;
    let good = message(NOW - 5, &json!({}));
    for (body, code, info) in [
        (json!({}), 10004, "GroupId is missing"),
        (json!({"GroupId":1}), 10004, "GroupId must be a string"),
        (json!({"GroupId":"g"}), 10004, "MsgList is missing"),
        (json!({"GroupId":"g","MsgList":{}}), 10004, "MsgList must be an array"),
        (json!({"GroupId":"","MsgList":[]}), 10004, "MsgList must not be empty"),
        (
            json!({"GroupId":"g","MsgList":[good],"RecentContactFlag":2}),
            10004,
            "RecentContactFlag must be 0 or 1",
        ),
        (
            json!({"GroupId":"g","MsgList":[good],"TopicId":"g@TOPIC#_1"}),
            10004,
            "TopicId names a topic, which are not supported",
        ),
        (
            json!({"GroupId":"g\t","MsgList":[good]}),
            10015,
            "GroupId must be printable ASCII; it can be no group's id",
        ),
        (json!({"GroupId":"nowhere","MsgList":[good]}), 10010, "the group does not exist or was dissolved"),
        // A request whose messages are all refused still learns that there is no such group.
        (json!({"GroupId":"nowhere","MsgList":[7]}), 10010, "the group does not exist or was dissolved"),
        (
            json!({"GroupId":"live","MsgList":[good]}),
            10007,
            "this type of group does not support the command",
        ),
    ] {
        let answer = world.post(IMPORT, &body.to_string()).await;
        assert_eq!((&answer["ErrorCode"], &answer["ErrorInfo"]), (&json!(code), &json!(info)), "{body}");
    }
    assert_eq!(history(&world).await, json!([]));
}
