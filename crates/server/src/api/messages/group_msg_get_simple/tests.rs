use futures_util::future::{FutureExt, TryFutureExt};
use serde_json::{Value, json};
use sidenote_core::group::GroupType;

use crate::api::messages::send_group_msg;
use crate::api::testing::World;
use crate::api::{Call, Handler};
use crate::wire::json::Document;

const GET: &str = "group_msg_get_simple";

async fn world_with_messages(count: u64) -> World {
    let world = World::new().await;
    world.found_group("g", GroupType::Public).await;
    world.import_accounts(&["leckie"]).await;
    for random in 1..=count {
        send(&world, &json!({"Random":random})).await;
    }
    world
}

async fn send(world: &World, members: &Value) {
    let mut body = json!({"GroupId":"g","From_Account":"leckie",
        "MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"Report"}}]});
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    world.ok("send_group_msg", &body.to_string()).await;
}

/// The numbers of the messages in an answer, and whether it is finished.
fn page(answer: &Value) -> (Vec<u64>, u64) {
    let seqs = answer["RspMsgList"].as_array().unwrap().iter();
    (seqs.map(|item| item["MsgSeq"].as_u64().unwrap()).collect(), answer["IsFinished"].as_u64().unwrap())
}

/// Asks for that many numbers, up to one if it is given.
async fn get(world: &World, count: u64, up_to: Option<u64>) -> (Vec<u64>, u64) {
    page(&world.ok(GET, &json!({"GroupId":"g","ReqMsgNumber":count,"ReqMsgSeq":up_to}).to_string()).await)
}

fn descending(from: u64, to: u64) -> Vec<u64> {
    (to..=from).rev().collect()
}

#[tokio::test]
async fn the_documented_sample() {
    let world = world_with_messages(0).await;
    send(&world, &json!({"Random":51_083_293,"MsgPriority":"High"})).await;
    assert_eq!(
        world.post(GET, r#"{"GroupId":"g","ReqMsgNumber":1,"ReqMsgSeq":7803321}"#).await,
        json!({"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"GroupId":"g","IsFinished":1,
            "RspMsgList":[{"From_Account":"leckie","IsPlaceMsg":0,
                "MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"Report"}}],
                "MsgPriority":1,"MsgRandom":51_083_293,"MsgSeq":1,"MsgTimeStamp":1_700_000_000}]})
    );
}

#[tokio::test]
async fn priorities_are_numbers_and_custom_data_comes_where_there_is_some() {
    let world = world_with_messages(0).await;
    for (random, priority) in ["High", "Normal", "Low"].into_iter().enumerate() {
        let data = if priority == "Normal" { "" } else { "a \"quoted\"\n\u{1}ä" };
        send(&world, &json!({"Random":random,"MsgPriority":priority,"CloudCustomData":data})).await;
    }
    let answer = world.ok(GET, r#"{"GroupId":"g","ReqMsgNumber":20}"#).await;
    let told: Vec<_> = answer["RspMsgList"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            (item["MsgPriority"].as_u64().unwrap(), item.get("CloudCustomData").and_then(Value::as_str))
        })
        .collect();
    let data = Some("a \"quoted\"\n\u{1}ä");
    assert_eq!(told, [(3, data), (2, None), (1, data)]);
}

#[tokio::test]
async fn a_page_descends_from_the_number_asked_for() {
    let world = world_with_messages(25).await;
    assert_eq!(get(&world, 5, None).await, (descending(25, 21), 1));
    assert_eq!(get(&world, 5, Some(20)).await, (descending(20, 16), 1));
    assert_eq!(get(&world, 5, Some(3)).await, (descending(3, 1), 1));
    assert_eq!(get(&world, 20, Some(20)).await, (descending(20, 1), 1));
    assert_eq!(get(&world, 1, Some(9_007_199_254_740_991)).await, (vec![25], 1));
    // Where a walk over the pages ends: one below the first message.
    assert_eq!(get(&world, 20, Some(0)).await, (vec![], 1));
}

#[tokio::test]
async fn more_than_20_are_not_finished_unless_there_are_no_more() {
    let world = world_with_messages(25).await;
    assert_eq!(get(&world, 20, None).await, (descending(25, 6), 1));
    assert_eq!(get(&world, 21, None).await, (descending(25, 6), 0));
    assert_eq!(get(&world, 4_294_967_295, None).await, (descending(25, 6), 0));
    assert_eq!(get(&world, 21, Some(21)).await, (descending(21, 2), 0));
    assert_eq!(get(&world, 21, Some(20)).await, (descending(20, 1), 1));
}

#[tokio::test]
async fn a_group_without_messages_answers_an_empty_page() {
    assert_eq!(get(&world_with_messages(0).await, 20, None).await, (vec![], 1));
}

#[tokio::test]
async fn recalled_messages_come_only_if_asked_for_and_say_nothing() {
    let world = world_with_messages(2).await;
    send(&world, &json!({"Random":3,"CloudCustomData":"gone too"})).await;
    world.ok("group_msg_recall", r#"{"GroupId":"g","MsgSeqList":[{"MsgSeq":3},{"MsgSeq":1}]}"#).await;
    assert_eq!(get(&world, 20, None).await, (vec![2], 1));
    // They count among the numbers asked for.
    assert_eq!(get(&world, 1, None).await, (vec![], 1));
    let without = r#"{"GroupId":"g","ReqMsgNumber":20,"WithRecalledMsg":0}"#;
    assert_eq!(page(&world.ok(GET, without).await), (vec![2], 1));
    let answer = world.ok(GET, r#"{"GroupId":"g","ReqMsgNumber":20,"WithRecalledMsg":1}"#).await;
    assert_eq!(page(&answer), (vec![3, 2, 1], 1));
    assert_eq!(
        answer["RspMsgList"][0],
        json!({"From_Account":"leckie","IsPlaceMsg":2,"MsgBody":[],"MsgPriority":2,"MsgRandom":3,"MsgSeq":3,
            "MsgTimeStamp":1_700_000_000})
    );
    assert_eq!(answer["RspMsgList"][1]["IsPlaceMsg"], 0);
}

const GET_HANDLER: Handler = |call, body| super::handle(call, body).map_ok(Into::into).boxed();
const SEND_HANDLER: Handler = |call, body| send_group_msg::handle(call, body).map_ok(Into::into).boxed();

/// Posts with the limits of this call; what goes over the wire.
async fn post(call: &Call, handle: Handler, body: &str) -> Vec<u8> {
    let document = Document::parse(body.as_bytes()).unwrap();
    handle(call, document.root()).await.unwrap().to_vec()
}

#[tokio::test]
async fn a_body_comes_back_word_for_word() {
    let world = world_with_messages(0).await;
    let call = world.call("administrator");
    let cases = [
        (
            r#"[ {"MsgType":"TIMTextElem", "MsgContent":{"Text":"\u0041\/\n\ud83d\ude00\"","Own":1.10}} ]"#,
            r#"[ {"MsgType":"TIMTextElem", "MsgContent":{"Text":"\u0041\/\n\ud83d\ude00\"","Own":1.10}} ]"#,
        ),
        (
            r#"[{"MsgContent":{"Latitude":1.10,"Longitude":-1E+400},"MsgType":"TIM\u004cocationElem"}]"#,
            r#"[{"MsgContent":{"Latitude":1.10,"Longitude":-1E+400},"MsgType":"TIM\u004cocationElem"}]"#,
        ),
        (
            r#"[{"MsgType":"TIMRelayElem","MsgContent":{"MsgList":[[{"a":123456789012345678901234567890}]]}}]"#,
            r#"[{"MsgType":"TIMRelayElem","MsgContent":{"MsgList":[[{"a":123456789012345678901234567890}]]}}]"#,
        ),
        // A forgiven comma is a blank afterwards.
        (
            r#"[{"MsgType":"TIMFaceElem","MsgContent":{"Data":",]",},},]"#,
            r#"[{"MsgType":"TIMFaceElem","MsgContent":{"Data":",]" } } ]"#,
        ),
    ];
    for (random, (msg_body, answered)) in cases.into_iter().enumerate() {
        let message = format!(r#"{{"GroupId":"g","Random":{random},"MsgBody":{msg_body}}}"#);
        world.ok("send_group_msg", &message).await;
        let answer = post(&call, GET_HANDLER, r#"{"GroupId":"g","ReqMsgNumber":1}"#).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains(&format!(r#""MsgBody":{answered},"#)), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_stays_below_one_mebibyte() {
    let world = world_with_messages(0).await;
    // A control character is one byte in a message and six in JSON: 20 such messages have 1.4 MiB.
    let data = "\u{1}".repeat(12 * 1024 - 100);
    for random in 0..25 {
        send(&world, &json!({"Random":random,"CloudCustomData":data})).await;
    }
    let call = world.call("administrator");
    let mut walked = Vec::new();
    let mut up_to = None;
    while up_to != Some(0) {
        let body = json!({"GroupId":"g","ReqMsgNumber":20,"ReqMsgSeq":up_to}).to_string();
        let bytes = post(&call, GET_HANDLER, &body).await;
        assert!(bytes.len() <= 1024 * 1024, "{}", bytes.len());
        let (seqs, finished) = page(&serde_json::from_slice(&bytes).unwrap());
        assert_eq!(finished, u64::from(seqs.len() < 14), "14 of them fit: {seqs:?}");
        up_to = Some(seqs.last().unwrap() - 1);
        walked.extend(seqs);
    }
    assert_eq!(walked, descending(25, 1));
}

#[tokio::test]
async fn a_message_that_no_answer_can_hold_is_told_as_such() {
    let world = world_with_messages(0).await;
    let mut call = world.call("administrator");
    call.limits.message_body_bytes = 1024 * 1024;
    for (random, bytes) in [(0, 1), (1, super::MAX_ITEMS_BYTES)] {
        let text = "t".repeat(bytes);
        let message = format!(
            r#"{{"GroupId":"g","Random":{random},"MsgBody":[{{"MsgType":"TIMTextElem","MsgContent":{{"Text":"{text}"}}}}]}}"#
        );
        post(&call, SEND_HANDLER, &message).await;
    }
    let answer = world.post(GET, r#"{"GroupId":"g","ReqMsgNumber":2}"#).await;
    assert_eq!(answer["ErrorCode"], 10018);
    assert_eq!(answer["ErrorInfo"], "the answer would be larger than 1 MiB, ask for less");
    assert_eq!(get(&world, 2, Some(1)).await, (vec![1], 1));
}

#[tokio::test]
async fn bad_input_is_told_by_name() {
    let world = world_with_messages(1).await;
    world.found_group("live", GroupType::AvChatRoom).await;
    world.found_group("many", GroupType::Community).await;
    for (body, code, info) in [
        ("{}", 10004, "GroupId is missing"),
        (r#"{"GroupId":["g"],"ReqMsgNumber":1}"#, 10004, "GroupId must be a string"),
        (r#"{"GroupId":"g"}"#, 10004, "ReqMsgNumber is missing"),
        (r#"{"GroupId":"g","ReqMsgNumber":0}"#, 10004, "ReqMsgNumber must be between 1 and 4294967295"),
        (
            r#"{"GroupId":"","ReqMsgNumber":4294967296}"#,
            10004,
            "ReqMsgNumber must be between 1 and 4294967295",
        ),
        (r#"{"GroupId":"g","ReqMsgNumber":"2"}"#, 10004, "ReqMsgNumber must be an integer"),
        (r#"{"GroupId":"g","ReqMsgNumber":2.0}"#, 10004, "ReqMsgNumber must be an integer"),
        (
            r#"{"GroupId":"g","ReqMsgNumber":2,"ReqMsgSeq":-1}"#,
            10004,
            "ReqMsgSeq must be between 0 and 9007199254740991",
        ),
        (
            r#"{"GroupId":"g","ReqMsgNumber":2,"ReqMsgSeq":9007199254740992}"#,
            10004,
            "ReqMsgSeq must be between 0 and 9007199254740991",
        ),
        (r#"{"GroupId":"g","ReqMsgNumber":2,"ReqMsgSeq":"1"}"#, 10004, "ReqMsgSeq must be an integer"),
        (r#"{"GroupId":"g","ReqMsgNumber":2,"WithRecalledMsg":2}"#, 10004, "WithRecalledMsg must be 0 or 1"),
        (
            r#"{"GroupId":"g","ReqMsgNumber":2,"WithRecalledMsg":true}"#,
            10004,
            "WithRecalledMsg must be an integer",
        ),
        (
            r#"{"GroupId":"g","ReqMsgNumber":2,"TopicId":"g@TOPIC#_1"}"#,
            10004,
            "TopicId names a topic, which are not supported",
        ),
        (r#"{"GroupId":"","ReqMsgNumber":2}"#, 10015, "GroupId must not be empty; it can be no group's id"),
        (r#"{"GroupId":"nowhere","ReqMsgNumber":2}"#, 10010, "the group does not exist or was dissolved"),
        (r#"{"GroupId":"live","ReqMsgNumber":2}"#, 10007, "this type of group does not support the command"),
        (r#"{"GroupId":"many","ReqMsgNumber":2,"TopicId":""}"#, 0, ""),
    ] {
        let answer = world.post(GET, body).await;
        assert_eq!((&answer["ErrorCode"], &answer["ErrorInfo"]), (&json!(code), &json!(info)), "{body}");
    }
}
