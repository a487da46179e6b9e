use serde_json::{Value, json};
use sidenote_core::event::CallerKind;
use sidenote_core::ids::{ConversationId, MsgKey};
use sidenote_core::query::{DescribeDirect, DirectHistory};

use crate::api::testing::{World, user};

const SEND: &str = "sendmsg";

const ELEMENT: &str = r#"{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}"#;

async fn world() -> World {
    let world = World::new().await;
    world.import_accounts(&["ann", "bob"]).await;
    world
}

/// A message from Ann to Bob with these members more.
fn message(more: &str) -> String {
    format!(r#"{{"From_Account":"ann","To_Account":"bob","MsgRandom":7,"MsgBody":[{ELEMENT}]{more}}}"#)
}

/// How many messages the two have exchanged.
async fn count(world: &World, one: &str, other: &str) -> Option<u64> {
    let call = world.call("administrator");
    let id = ConversationId::direct(call.app_id(), user(one), user(other));
    let view = call.ask(DescribeDirect { id }).await.unwrap();
    view.map(|view| view.counters.last_msg_seq)
}

#[tokio::test]
async fn the_answer_names_the_message_by_number_random_number_and_time() {
    let mut world = world().await;
    world.now = 1_572_870_301;
    let body = r#"{"SyncOtherMachine":2,"From_Account":"ann","To_Account":"bob","MsgSeq":89541,"MsgRandom":2574206,
        "MsgTimeStamp":1557387418,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi, beauty"}}]}"#;
    assert_eq!(
        world.post(SEND, body).await,
        json!({"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,
            "MsgTime":1_572_870_301,"MsgKey":"89541_2574206_1572870301"})
    );
}

#[tokio::test]
async fn a_number_is_drawn_where_none_is_sent_and_the_sender_is_the_caller() {
    let world = world().await;
    let body = format!(r#"{{"To_Account":"bob","MsgRandom":7,"MsgBody":[{ELEMENT}]}}"#);
    let answer = world.ok(SEND, &body).await;
    let key = MsgKey::parse(answer["MsgKey"].as_str().unwrap()).unwrap();
    assert_eq!((key.random, key.time), (7, world.now));
    assert_eq!(count(&world, "administrator", "bob").await, Some(1));
    assert_eq!(count(&world, "ann", "bob").await, None, "a conversation begins with its first message");
}

#[tokio::test]
async fn the_same_message_again_within_120_seconds_is_the_first_one() {
    let mut world = world().await;
    let first = world.ok(SEND, &message(r#","MsgSeq":1"#)).await;
    world.now += 119;
    assert_eq!(world.ok(SEND, &message(r#","MsgSeq":1"#)).await, first);
    assert_eq!(count(&world, "ann", "bob").await, Some(1));

    // Another number, another body, the other direction and another recipient are other messages.
    let other = message(r#","MsgSeq":1"#).replace("hi", "ho");
    let back = message(r#","MsgSeq":1"#)
        .replace(r#""From_Account":"ann","To_Account":"bob""#, r#""From_Account":"bob","To_Account":"ann""#);
    for (body, key) in [
        (message(r#","MsgSeq":2"#), "2_7_1700000119"),
        (other, "1_7_1700000119"),
        // What would have the key of another message gets that of a later second.
        (back, "1_7_1700000120"),
        (message(r#","MsgSeq":1"#).replace("bob", "administrator"), "1_7_1700000119"),
    ] {
        assert_eq!(world.ok(SEND, &body).await["MsgKey"], key, "{body}");
    }
    assert_eq!(count(&world, "bob", "ann").await, Some(4));

    world.now += 1;
    let again = world.ok(SEND, &message(r#","MsgSeq":1"#)).await;
    assert_ne!(again["MsgKey"], first["MsgKey"], "120 s are over");
}

#[tokio::test]
async fn who_repeats_a_request_without_a_number_word_for_word_is_safe() {
    let world = world().await;
    let first = world.ok(SEND, &message("")).await;
    assert_eq!(world.ok(SEND, &message("")).await, first);
    assert_ne!(world.ok(SEND, &message("").replace('7', "8")).await["MsgKey"], first["MsgKey"]);
    assert_eq!(count(&world, "ann", "bob").await, Some(2));
}

#[tokio::test]
async fn ten_messages_of_one_second_can_have_the_same_numbers() {
    let world = world().await;
    let body = |text: usize| message(r#","MsgSeq":1"#).replace("hi", &format!("text {text}"));
    for number in 0..10 {
        let key = world.ok(SEND, &body(number)).await["MsgKey"].clone();
        assert_eq!(key, format!("1_7_{}", world.now + number as u64));
    }
    let answer = world.post(SEND, &body(10)).await;
    assert_eq!(answer["ErrorCode"], 90_005);
    assert_eq!(
        answer["ErrorInfo"],
        "other messages of this conversation have this MsgSeq and MsgRandom, choose another MsgRandom"
    );
    assert_eq!(count(&world, "ann", "bob").await, Some(10));
}

#[tokio::test]
async fn a_message_for_those_online_has_a_key_and_is_not_kept() {
    let world = world().await;
    for more in [r#","MsgSeq":1,"OnlineOnlyFlag":1"#, r#","MsgSeq":1,"MsgLifeTime":0"#] {
        let answer = world.ok(SEND, &message(more)).await;
        assert_eq!(answer["MsgKey"], format!("1_7_{}", world.now));
    }
    assert_eq!(count(&world, "ann", "bob").await, Some(0));
}

#[tokio::test]
async fn an_account_can_write_to_itself() {
    let world = world().await;
    world.ok(SEND, &message("").replace("bob", "ann")).await;
    assert_eq!(count(&world, "ann", "ann").await, Some(1));
}

#[tokio::test]
async fn a_connected_account_speaks_for_itself_alone() {
    let world = world().await;
    let body = message(r#","MsgSeq":1"#);
    let code = |answer: Value| answer["ErrorCode"].as_u64().unwrap();
    assert_eq!(code(world.post_as("bob", CallerKind::Connected, SEND, &body).await), 20_003);
    assert_eq!(code(world.post_as("ann", CallerKind::Connected, SEND, &body).await), 0);
    // Nobody learns by that whether an account exists.
    let of_nobody = body.replace("\"ann\"", "\"nobody\"");
    assert_eq!(code(world.post_as("bob", CallerKind::Connected, SEND, &of_nobody).await), 20_003);
    let to_ann = body.replace(r#""From_Account":"ann","To_Account":"bob""#, r#""To_Account":"ann""#);
    assert_eq!(code(world.post_as("bob", CallerKind::Connected, SEND, &to_ann).await), 0);
    assert_eq!(count(&world, "ann", "bob").await, Some(2));
}

#[tokio::test]
async fn what_readers_may_need_is_kept_word_for_word() {
    let world = world().await;
    let more = r#","CloudCustomData":"c","SendMsgControl":[ "NoUnread","WithMuteNotifications"],
        "ForbidCallbackControl":["ForbidAfterSendMsgCallback"],"OfflinePushInfo":{"PushFlag":0},"SyncOtherMachine":2,
        "IsNeedReadReceipt":1,"MsgLifeTime":604800,"MsgTimeStamp":4294967295,"Own":1"#;
    world.ok(SEND, &message(more)).await;
    let call = world.call("administrator");
    let peers = super::sender_and_recipient(
        &call,
        crate::wire::json::Document::parse(message("").as_bytes()).unwrap().root(),
    );
    let peers = peers.unwrap().look_up(&call).await.unwrap();
    let question = DirectHistory {
        peers,
        operator: call.operator.clone(),
        from: 0,
        to: u64::MAX,
        after: None,
        limit: 9,
    };
    let page = call.ask(question).await.unwrap().unwrap();
    assert!(page.complete);
    let [kept] = &page.messages[..] else { panic!("one message") };
    assert_eq!(kept.message.client_time, 4_294_967_295);
    let body = kept.body.as_ref().unwrap();
    assert_eq!(body.elements, format!("[{ELEMENT}]"));
    assert_eq!(body.cloud_custom_data, "c");
    let further: Value = serde_json::from_str(&body.further).unwrap();
    assert_eq!(
        further,
        json!({"OfflinePushInfo":{"PushFlag":0},"SendMsgControl":["NoUnread","WithMuteNotifications"],
            "ForbidCallbackControl":["ForbidAfterSendMsgCallback"],"IsNeedReadReceipt":1,"SyncOtherMachine":2,
            "MsgLifeTime":604_800})
    );
}

#[tokio::test]
async fn bad_input_sends_nothing() {
    let world = world().await;
    let good = message("");
    let without = |member: &str| good.replace(member, r#""Nothing""#);
    let with = |more: &str| message(&format!(",{more}"));
    for (body, code, info) in [
        ("{}".to_owned(), 90_003, "To_Account is missing"),
        (good.replace(r#""bob""#, "7"), 90_003, "To_Account must be a string"),
        (good.replace(r#""bob""#, r#"["bob"]"#), 90_003, "To_Account must be a string"),
        (good.replace("bob", ""), 90_003, "To_Account must not be empty"),
        (
            good.replace("bob", &"b".repeat(33)),
            90_003,
            "To_Account has 33 bytes where at most 32 are allowed",
        ),
        (good.replace("bob", "b\\nob"), 90_003, "To_Account must not contain control characters"),
        (good.replace("bob", "nobody"), 90_012, "To_Account names an account that does not exist"),
        (good.replace(r#""ann""#, "7"), 90_008, "From_Account must be a string"),
        (good.replace("ann", ""), 90_008, "From_Account must not be empty"),
        (good.replace("ann", "nobody"), 90_008, "From_Account names an account that does not exist"),
        (without(r#""MsgRandom""#), 90_005, "MsgRandom is missing"),
        (good.replace(":7,", r#":"7","#), 90_005, "MsgRandom must be an integer"),
        (good.replace(":7,", ":7.0,"), 90_005, "MsgRandom must be an integer"),
        (good.replace(":7,", ":4294967296,"), 90_005, "MsgRandom must be between 0 and 4294967295"),
        (good.replace(":7,", ":-1,"), 90_005, "MsgRandom must be between 0 and 4294967295"),
        (with(r#""MsgSeq":"1""#), 90_010, "MsgSeq must be an integer"),
        (with(r#""MsgSeq":4294967296"#), 90_010, "MsgSeq must be between 0 and 4294967295"),
        (without(r#""MsgBody""#), 90_002, "MsgBody is missing"),
        (good.replace(&format!("[{ELEMENT}]"), "[]"), 90_002, "MsgBody must not be empty"),
        (good.replace(&format!("[{ELEMENT}]"), r#""hi""#), 90_007, "MsgBody must be an array"),
        (good.replace(&format!("[{ELEMENT}]"), ELEMENT), 90_007, "MsgBody must be an array"),
        (good.replace(ELEMENT, "null"), 90_010, "MsgBody[0] must be an object"),
        (good.replace(r#""MsgContent""#, r#""Content""#), 90_010, "MsgBody[0].MsgContent is missing"),
        (good.replace(r#"{"Text":"hi"}"#, "{}"), 90_010, "MsgBody[0].MsgContent.Text is missing"),
        (with(r#""CloudCustomData":{}"#), 90_010, "CloudCustomData must be a string"),
        (with(r#""SupportMessageExtension":true"#), 90_010, "SupportMessageExtension must be an integer"),
        (with(r#""SupportMessageExtension":2"#), 90_010, "SupportMessageExtension must be 0 or 1"),
        (with(r#""OnlineOnlyFlag":2"#), 90_010, "OnlineOnlyFlag must be 0 or 1"),
        (with(r#""IsNeedReadReceipt":"1""#), 90_010, "IsNeedReadReceipt must be an integer"),
        (with(r#""MsgTimeStamp":"now""#), 90_006, "MsgTimeStamp must be an integer"),
        (with(r#""MsgTimeStamp":1572870301000"#), 90_006, "MsgTimeStamp must be between 1 and 4294967295"),
        (with(r#""SyncOtherMachine":"1""#), 90_031, "SyncOtherMachine must be an integer"),
        (with(r#""SyncOtherMachine":0"#), 90_031, "SyncOtherMachine must be 1 or 2"),
        (with(r#""MsgLifeTime":"1""#), 90_044, "MsgLifeTime must be an integer"),
        (with(r#""MsgLifeTime":604801"#), 90_026, "MsgLifeTime must be between 0 and 604800"),
        (with(r#""MsgLifeTime":-1"#), 90_026, "MsgLifeTime must be between 0 and 604800"),
        (with(r#""OfflinePushInfo":"x""#), 90_043, "OfflinePushInfo must be an object"),
        (with(r#""SendMsgControl":"NoUnread""#), 90_010, "SendMsgControl must be an array"),
        (
            with(r#""SendMsgControl":["NoPush"]"#),
            90_010,
            "SendMsgControl[0] must be one of NoUnread, NoLastMsg, WithMuteNotifications",
        ),
        (
            with(r#""ForbidCallbackControl":["Forbid"]"#),
            90_010,
            "ForbidCallbackControl[0] must be one of ForbidBeforeSendMsgCallback, ForbidAfterSendMsgCallback",
        ),
        (
            with(&format!(r#""CloudCustomData":"{}""#, "c".repeat(12 * 1024))),
            93_000,
            "MsgBody and CloudCustomData have 12342 bytes together where at most 12288 are allowed",
        ),
        (
            with(&format!(r#""OfflinePushInfo":{{"Desc":"{}"}}"#, "d".repeat(16 * 1024))),
            93_000,
            "OfflinePushInfo, SendMsgControl, ForbidCallbackControl, IsNeedReadReceipt, SyncOtherMachine, \
             MsgLifeTime have 16415 bytes together where at most 16384 are allowed",
        ),
    ] {
        let answer = world.post(SEND, &body).await;
        assert_eq!((&answer["ErrorCode"], &answer["ErrorInfo"]), (&json!(code), &json!(info)), "{body}");
    }
    assert_eq!(count(&world, "ann", "bob").await, None);
}

#[tokio::test]
async fn over_the_long_connection_the_names_of_a_groups_message_do_too_and_callbacks_cannot_be_switched_off()
{
    let world = world().await;
    let body =
        format!(r#"{{"To_Account":"bob","Random":7,"ClientSeq":9,"MsgClientTime":5,"MsgBody":[{ELEMENT}]}}"#);
    let answer = world.post_as("ann", CallerKind::Connected, SEND, &body).await;
    let key = MsgKey::parse(answer["MsgKey"].as_str().unwrap()).unwrap();
    assert_eq!((key.seq, key.random, key.time), (9, 7, world.now));
    assert_eq!(world.code(SEND, &body).await, 90_005, "not over REST");
    let body = message(r#","ForbidCallbackControl":["ForbidBeforeSendMsgCallback"]"#);
    assert_eq!(world.post_as("ann", CallerKind::Connected, SEND, &body).await["ErrorCode"], 90_010);
    assert_eq!(world.code(SEND, &body).await, 0);
}
