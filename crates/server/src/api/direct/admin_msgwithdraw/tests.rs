use serde_json::{Value, json};
use sidenote_core::event::CallerKind;

use crate::api::testing::World;

const WITHDRAW: &str = "admin_msgwithdraw";

/// Ann sent Bob a message; its key, and the body that recalls it.
async fn world() -> (World, String, String) {
    let world = World::new().await;
    world.import_accounts(&["ann", "bob", "eve"]).await;
    let body = r#"{"From_Account":"ann","To_Account":"bob","MsgRandom":7,"SupportMessageExtension":1,
        "MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]}"#;
    let key = world.ok("sendmsg", body).await["MsgKey"].as_str().unwrap().to_owned();
    let recall = format!(r#"{{"From_Account":"ann","To_Account":"bob","MsgKey":"{key}"}}"#);
    (world, key, recall)
}

fn code(answer: &Value) -> u64 {
    answer["ErrorCode"].as_u64().unwrap()
}

#[tokio::test]
async fn a_message_is_recalled_once_and_its_pairs_with_it() {
    let (world, key, recall) = world().await;
    let set = format!(
        r#"{{"From_Account":"ann","To_Account":"bob","MsgKey":"{key}","OperateType":1,
            "ExtensionList":[{{"Key":"k","Value":"v"}}]}}"#
    );
    let get = format!(r#"{{"From_Account":"ann","To_Account":"bob","MsgKey":"{key}"}}"#);
    world.ok("set_key_values", &set).await;
    assert_eq!(
        world.post(WITHDRAW, &recall).await,
        json!({"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0})
    );
    assert_eq!(world.code("set_key_values", &set).await, 23_004);
    assert_eq!(world.code("get_key_values", &get).await, 23_004);
    assert_eq!(world.code(WITHDRAW, &recall).await, 20_023);
}

#[tokio::test]
async fn the_sender_of_a_connection_may_recall_and_nobody_else() {
    let (world, _, recall) = world().await;
    for stranger in ["bob", "eve"] {
        let answer = world.post_as(stranger, CallerKind::Connected, WITHDRAW, &recall).await;
        assert_eq!(code(&answer), 20_003, "{stranger}");
    }
    assert_eq!(code(&world.post_as("ann", CallerKind::Connected, WITHDRAW, &recall).await), 0);
}

#[tokio::test]
async fn bad_input_recalls_nothing() {
    let (world, key, recall) = world().await;
    let as_key = |other: &str| recall.replace(&key, other);
    for (body, code, info) in [
        ("{}".to_owned(), 90_008, "From_Account is missing"),
        (recall.replace(r#""ann""#, "1"), 90_008, "From_Account must be a string"),
        (recall.replace("ann", "nobody"), 90_008, "From_Account names an account that does not exist"),
        (recall.replace("To_Account", "Nobody"), 90_003, "To_Account is missing"),
        (recall.replace("bob", "nobody"), 90_012, "To_Account names an account that does not exist"),
        (recall.replace("MsgKey", "Key"), 90_054, "MsgKey is missing"),
        (recall.replace(&format!(r#""{key}""#), "7"), 90_054, "MsgKey must be a string"),
        (as_key(""), 90_054, "MsgKey must be three numbers as in 44739199_12_1665388280"),
        (as_key("1_2"), 90_054, "MsgKey must be three numbers as in 44739199_12_1665388280"),
        (as_key(&format!("0{key}")), 90_054, "MsgKey must be three numbers as in 44739199_12_1665388280"),
        (as_key("1_2_3"), 20_022, "the message to recall does not exist"),
        // Two who never wrote to each other.
        (recall.replace("bob", "eve"), 20_022, "the message to recall does not exist"),
        (
            recall.replace("ann", "?").replace("bob", "ann").replace('?', "bob"),
            90_008,
            "From_Account is not the account that sent the message",
        ),
    ] {
        let answer = world.post(WITHDRAW, &body).await;
        assert_eq!((&answer["ErrorCode"], &answer["ErrorInfo"]), (&json!(code), &json!(info)), "{body}");
    }
    world.ok(WITHDRAW, &recall).await;
}
