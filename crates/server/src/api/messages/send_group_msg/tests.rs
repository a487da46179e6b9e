use serde_json::{Value, json};
use sidenote_core::command::{GroupPatch, NewMember};
use sidenote_core::event::{CallerKind, Happening};
use sidenote_core::group::Role;
use sidenote_core::ids::EventNumber;
use sidenote_core::message::StoredMessage;
use sidenote_core::query::{Events, History};

use super::*;
use crate::api::testing::{World, user};

const SEND: &str = "send_group_msg";

async fn world() -> World {
    let world = World::new().await;
    world.found_group("@TGS#2C5SZEAEF", GroupType::Public).await;
    world.import_accounts(&["leckie", "lumotuwe"]).await;
    world
}

/// A message to the group, with what is to be added to it or replaced in it.
fn message(members: &Value) -> String {
    let mut body = json!({"GroupId":"@TGS#2C5SZEAEF","Random":8_912_345,
        "MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"red packet"}}]});
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

fn group(name: &str) -> GroupId {
    GroupId::new(name).unwrap()
}

/// What the store holds, newest first.
async fn stored(world: &World) -> Vec<StoredMessage> {
    let call = world.call("administrator");
    let history = History { id: call.group(&group("@TGS#2C5SZEAEF")), up_to: None, count: 100 };
    call.ask(history).await.unwrap().unwrap().messages
}

#[tokio::test]
async fn the_documented_samples() {
    let world = world().await;
    let plain = r#"{"GroupId":"@TGS#2C5SZEAEF","Random":8912345,"MsgBody":[
        {"MsgType":"TIMTextElem","MsgContent":{"Text":"red packet"}},
        {"MsgType":"TIMFaceElem","MsgContent":{"Index":6,"Data":"abc\u0000\u0001"}}],
        "CloudCustomData":"your cloud custom data","SupportMessageExtension":0,
        "OfflinePushInfo":{"PushFlag":0,"Desc":"offline push content","Ext":"passed through",
            "AndroidInfo":{"Sound":"android.mp3"},"ApnsInfo":{"Sound":"apns.mp3","BadgeMode":1}}}"#;
    assert_eq!(
        world.post(SEND, plain).await,
        json!({"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"MsgTime":1_700_000_000,"MsgSeq":1})
    );
    let from_a_member = message(&json!({"From_Account":"leckie","MsgPriority":"Normal",
        "ForbidCallbackControl":["ForbidBeforeSendMsgCallback","ForbidAfterSendMsgCallback"],
        "SendMsgControl":["NoUnread","NoLastMsg"]}));
    assert_eq!(world.ok(SEND, &from_a_member).await["MsgSeq"], 2);
    let pointing = message(&json!({"Random":3,"NeedReadReceipt":1,"To_Account":["leckie","lumotuwe"],
        "GroupAtInfo":[{"GroupAtAllFlag":1},{"GroupAtAllFlag":0,"GroupAt_Account":"leckie"}]}));
    assert_eq!(world.ok(SEND, &pointing).await["MsgSeq"], 3);
}

#[tokio::test]
async fn what_a_request_leaves_out_has_its_documented_default() {
    let world = world().await;
    world.ok(SEND, &message(&json!({}))).await;
    let [StoredMessage { message: header, body: Some(body), .. }] = &stored(&world).await[..] else {
        panic!("one message was stored");
    };
    assert_eq!(header.sender, user("administrator"));
    assert_eq!(header.random, 8_912_345);
    assert_eq!(header.client_time, 1_700_000_000);
    assert_eq!(header.priority, Priority::Normal);
    assert!(!header.supports_extension && !header.imported && !header.recalled);
    assert_eq!((body.cloud_custom_data.as_str(), body.further.as_str()), ("", ""));
}

#[tokio::test]
async fn what_a_request_says_is_stored() {
    let world = world().await;
    let body = r#"{"GroupId":"@TGS#2C5SZEAEF","Random":4294967295,"From_Account":"leckie","MsgPriority":"High",
        "MsgBody":[{"MsgType":"TIMCustomElem","MsgContent":{"Data":"x"}}],"CloudCustomData":"a\n\u00e4","SupportMessageExtension":1,
        "To_Account":[ "lumotuwe" ],"NeedReadReceipt":1,"GroupAtInfo":null,"OfflinePushInfo":{"Title":"1.10"},"Unknown":1}"#;
    world.ok(SEND, body).await;
    let [StoredMessage { message: header, body: Some(body), .. }] = &stored(&world).await[..] else {
        panic!("one message was stored");
    };
    assert_eq!(
        (header.sender.as_str(), header.random, header.priority),
        ("leckie", u32::MAX, Priority::High)
    );
    assert!(header.supports_extension);
    assert_eq!(body.cloud_custom_data, "a\nä");
    assert_eq!(
        body.further,
        r#"{"OfflinePushInfo":{"Title":"1.10"},"NeedReadReceipt":1,"To_Account":[ "lumotuwe" ]}"#
    );
}

#[tokio::test]
async fn only_a_message_that_says_so_takes_pairs() {
    let world = world().await;
    world.ok(SEND, &message(&json!({"SupportMessageExtension":1}))).await;
    world.ok(SEND, &message(&json!({"SupportMessageExtension":0,"Random":2}))).await;
    world.ok(SEND, &message(&json!({"Random":3}))).await;
    for (seq, code) in [(1, 0), (2, 23002), (3, 23002)] {
        let set = json!({"GroupId":"@TGS#2C5SZEAEF","MsgSeq":seq,"OperateType":1,
            "ExtensionList":[{"Key":"k","Value":"v"}]});
        assert_eq!(world.code("group_set_key_values", &set.to_string()).await, code, "message {seq}");
    }
}

#[tokio::test]
async fn a_body_is_kept_word_for_word() {
    let world = world().await;
    for (index, msg_body) in [
        r#"[ {"MsgType":"TIMTextElem",  "MsgContent":{"Text":"\u0041\/\n\ud83d\ude00 \"","Own":1.10}} ]"#,
        r#"[{"MsgContent":{"Latitude":1.10,"Longitude":-1E+400,"Desc":null},"MsgType":"TIM\u004cocationElem"}]"#,
        r#"[{"MsgType":"TIMFileElem","MsgContent":{"FileSize":123456789012345678901234567890,"":[]}}]"#,
        r#"[{"MsgType":"TIMRelayElem","MsgContent":{"MsgNum":1,"MsgList":[{"MsgBody":[{"MsgType":"TIMRelayElem","MsgContent":{"MsgList":[[],{"a":{}}]}}]}]}}]"#,
    ]
    .into_iter()
    .enumerate()
    {
        let body = format!(r#"{{"GroupId":"@TGS#2C5SZEAEF","Random":{index},"MsgBody":{msg_body}}}"#);
        world.ok(SEND, &body).await;
        assert_eq!(stored(&world).await[0].body.as_ref().unwrap().elements, msg_body);
    }
}

#[tokio::test]
async fn forgiven_commas_are_not_stored() {
    let world = world().await;
    let body = r#"{"GroupId":"@TGS#2C5SZEAEF","Random":1,"To_Account":["leckie",],
        "MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":",]",},},],}"#;
    world.ok(SEND, body).await;
    let stored = stored(&world).await;
    let kept = stored[0].body.as_ref().unwrap();
    assert_eq!(kept.elements, r#"[{"MsgType":"TIMTextElem","MsgContent":{"Text":",]" } } ]"#);
    assert_eq!(kept.further, r#"{"To_Account":["leckie" ]}"#);
}

#[tokio::test]
async fn a_repeat_within_five_minutes_gets_the_first_answer_and_stores_nothing() {
    let mut world = world().await;
    let body = message(&json!({"From_Account":"leckie"}));
    let first = world.ok(SEND, &body).await;
    world.now += 299;
    assert_eq!(world.ok(SEND, &body).await, first);
    let other_data = message(&json!({"From_Account":"leckie","CloudCustomData":"not a part of the check"}));
    assert_eq!(world.ok(SEND, &other_data).await, first);
    assert_eq!(stored(&world).await.len(), 1);
    world.now += 1;
    let again = world.ok(SEND, &body).await;
    assert_eq!((&again["MsgSeq"], &again["MsgTime"]), (&json!(2), &json!(1_700_000_300)));
}

#[tokio::test]
async fn another_body_sender_number_or_group_is_another_message() {
    let world = world().await;
    world.found_group("other", GroupType::Public).await;
    world.ok(SEND, &message(&json!({"From_Account":"leckie"}))).await;
    for (members, seq) in [
        (json!({"From_Account":"leckie","MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":""}}]}), 2),
        (json!({"From_Account":"lumotuwe"}), 3),
        (json!({"From_Account":"leckie","Random":0}), 4),
        (json!({"From_Account":"leckie","GroupId":"other"}), 1),
    ] {
        assert_eq!(world.ok(SEND, &message(&members)).await["MsgSeq"], seq, "{members}");
    }
}

#[tokio::test]
async fn a_message_for_those_online_has_no_number_and_no_place_in_history() {
    let world = world().await;
    let msg_body = r#"[{"MsgType":"TIMCustomElem","MsgContent":{"Data":"typing"}}]"#;
    let body = format!(
        r#"{{"GroupId":"@TGS#2C5SZEAEF","Random":1,"OnlineOnlyFlag":1,"SendMsgControl":[],"MsgBody":{msg_body}}}"#
    );
    let answer = world.ok(SEND, &body).await;
    assert_eq!((&answer["MsgSeq"], &answer["MsgTime"]), (&json!(0), &json!(1_700_000_000)));
    assert!(stored(&world).await.is_empty());
    assert_eq!(world.ok(SEND, &message(&json!({"OnlineOnlyFlag":0}))).await["MsgSeq"], 1);

    let call = world.call("administrator");
    let id = call.group(&group("@TGS#2C5SZEAEF"));
    let view = call.ask(DescribeGroup { id: id.clone() }).await.unwrap().unwrap();
    let incarnation = view.group.incarnation;
    let events = Events { id, incarnation, after: EventNumber::START, limit: 10 };
    let events = call.ask(events).await.unwrap().events;
    let told = events.iter().any(|event| match &event.what {
        Happening::TransientMessage { body, .. } => body.elements == msg_body,
        _ => false,
    });
    assert!(told, "{events:?}");
}

#[tokio::test]
async fn types_of_groups_differ_in_what_they_take() {
    use GroupType::{AvChatRoom, ChatRoom, Community, Private, Public};
    let world = World::new().await;
    let kinds = [("a", Private), ("b", Public), ("c", ChatRoom), ("d", AvChatRoom), ("e", Community)];
    for (name, kind) in kinds {
        world.found_group(name, kind).await;
        let online_only = if kind == AvChatRoom { 10007 } else { 0 };
        let targeted = if matches!(kind, AvChatRoom | Community) { 10007 } else { 0 };
        for (members, code) in [
            (json!({"GroupId":name}), 0),
            (json!({"GroupId":name,"To_Account":[]}), 0),
            (json!({"GroupId":name,"OnlineOnlyFlag":1}), online_only),
            (json!({"GroupId":name,"To_Account":["administrator"]}), targeted),
        ] {
            assert_eq!(world.code(SEND, &message(&members)).await, code, "{kind:?} {members}");
        }
    }
}

#[tokio::test]
async fn a_muted_member_may_not_speak_but_an_administrator_may() {
    let world = world().await;
    let call = world.call("administrator");
    let group = group("@TGS#2C5SZEAEF");
    let leckie = call.find_account(&user("leckie")).await.unwrap().unwrap();
    let member = NewMember {
        user: user("leckie"),
        tiny_id: leckie.tiny_id,
        role: Role::Member,
        joined_at: None,
        unread: 0,
        custom: Vec::new(),
    };
    call.change_group(&group, GroupAction::AddMembers { members: vec![member.clone()], imported: false })
        .await
        .unwrap();
    let mute = GroupPatch { mute_all: Some(true), ..GroupPatch::default() };
    call.change_group(&group, GroupAction::Modify(Box::new(mute))).await.unwrap();

    assert_eq!(world.code(SEND, &message(&json!({"From_Account":"leckie"}))).await, 10017);
    assert_eq!(world.code(SEND, &message(&json!({}))).await, 0);

    // On the long connection an administrator is a member like the others.
    let boss = call.find_account(&user("administrator")).await.unwrap().unwrap();
    let boss = NewMember { user: user("administrator"), tiny_id: boss.tiny_id, ..member };
    let join = GroupAction::AddMembers { members: vec![boss], imported: false };
    call.change_group(&group, join).await.unwrap();
    let body = message(&json!({"Random":2}));
    let answer = world.post_as("administrator", CallerKind::Connected, SEND, &body).await;
    assert_eq!(answer["ErrorCode"], 10017, "{answer}");
}

#[tokio::test]
async fn bad_input_is_told_by_name_and_stores_nothing() {
    let world = world().await;
    let ids = |count: usize| (0..count).map(|index| json!(format!("u{index}"))).collect::<Vec<_>>();
    let mentions = |count: usize| vec![json!({"GroupAtAllFlag":1}); count];
    for (members, code, info) in [
        (json!({"GroupId":null}), 10004, "GroupId is missing"),
        (json!({"GroupId":7}), 10004, "GroupId must be a string"),
        (json!({"GroupId":""}), 10015, "GroupId must not be empty; it can be no group's id"),
        (json!({"GroupId":"gruppe-ü"}), 10015, "GroupId must be printable ASCII; it can be no group's id"),
        (json!({"GroupId":"nowhere"}), 10010, "the group does not exist or was dissolved"),
        (json!({"GroupId":"nowhere","OnlineOnlyFlag":1}), 10010, "the group does not exist or was dissolved"),
        (json!({"GroupId":"","Random":-1}), 10004, "Random must be between 0 and 4294967295"),
        (json!({"Random":null}), 10004, "Random is missing"),
        (json!({"Random":4_294_967_296_u64}), 10004, "Random must be between 0 and 4294967295"),
        (json!({"Random":1.5}), 10004, "Random must be an integer"),
        (json!({"Random":"1"}), 10004, "Random must be an integer"),
        (json!({"MsgBody":null}), 10004, "MsgBody is missing"),
        (json!({"MsgBody":[]}), 10004, "MsgBody must not be empty"),
        (json!({"MsgBody":{}}), 10004, "MsgBody must be an array"),
        (json!({"MsgBody":[{"MsgType":"TIMTextElem"}]}), 10004, "MsgBody[0].MsgContent is missing"),
        (json!({"From_Account":"stranger"}), 10019, "From_Account names an account that does not exist"),
        (json!({"From_Account":7}), 60015, "From_Account must be a string"),
        (json!({"From_Account":""}), 10004, "From_Account must not be empty"),
        (
            json!({"From_Account":"x".repeat(33)}),
            10004,
            "From_Account has 33 bytes where at most 32 are allowed",
        ),
        (json!({"MsgPriority":"high"}), 10004, "MsgPriority must be one of High, Normal, Low"),
        (json!({"MsgPriority":1}), 10004, "MsgPriority must be a string"),
        (json!({"OnlineOnlyFlag":2}), 10004, "OnlineOnlyFlag must be 0 or 1"),
        (json!({"OnlineOnlyFlag":true}), 10004, "OnlineOnlyFlag must be an integer"),
        (
            json!({"OnlineOnlyFlag":1,"SendMsgControl":["NoUnread"]}),
            10004,
            "SendMsgControl is not possible together with OnlineOnlyFlag 1",
        ),
        (json!({"SendMsgControl":"NoUnread"}), 10004, "SendMsgControl must be an array"),
        (
            json!({"SendMsgControl":["NoLastMsg","NoMsg"]}),
            10004,
            "SendMsgControl[1] must be one of NoUnread, NoLastMsg",
        ),
        (
            json!({"SendMsgControl":["NoUnread","NoUnread","NoUnread"]}),
            10004,
            "SendMsgControl has 3 items where at most 2 are allowed",
        ),
        (
            json!({"ForbidCallbackControl":["x"]}),
            10004,
            "ForbidCallbackControl[0] must be one of ForbidBeforeSendMsgCallback, ForbidAfterSendMsgCallback",
        ),
        (json!({"ForbidCallbackControl":[1]}), 10004, "ForbidCallbackControl[0] must be a string"),
        (json!({"CloudCustomData":{}}), 10004, "CloudCustomData must be a string"),
        (json!({"SupportMessageExtension":2}), 10004, "SupportMessageExtension must be 0 or 1"),
        (json!({"SupportMessageExtension":"1"}), 10004, "SupportMessageExtension must be an integer"),
        (json!({"NeedReadReceipt":-1}), 10004, "NeedReadReceipt must be 0 or 1"),
        (json!({"OfflinePushInfo":[]}), 10004, "OfflinePushInfo must be an object"),
        (json!({"TopicId":"@TOPIC#_1"}), 10004, "TopicId names a topic, which are not supported"),
        (json!({"To_Account":"leckie"}), 10004, "To_Account must be an array"),
        (json!({"To_Account":[7]}), 60015, "To_Account[0] must be a string"),
        (json!({"To_Account":["leckie",""]}), 10004, "To_Account[1] must not be empty"),
        (json!({"To_Account":ids(51)}), 10004, "To_Account has 51 items where at most 50 are allowed"),
        (json!({"GroupAtInfo":{}}), 10004, "GroupAtInfo must be an array"),
        (json!({"GroupAtInfo":[1]}), 10004, "GroupAtInfo[0] must be an object"),
        (json!({"GroupAtInfo":[{}]}), 10004, "GroupAtInfo[0].GroupAt_Account is missing"),
        (
            json!({"GroupAtInfo":[{"GroupAtAllFlag":3}]}),
            10004,
            "GroupAtInfo[0].GroupAtAllFlag must be 0 or 1",
        ),
        (
            json!({"GroupAtInfo":[{"GroupAtAllFlag":0,"GroupAt_Account":1}]}),
            60015,
            "GroupAtInfo[0].GroupAt_Account must be a string",
        ),
        (json!({"GroupAtInfo":mentions(31)}), 10004, "GroupAtInfo has 31 items where at most 30 are allowed"),
    ] {
        let answer = world.post(SEND, &message(&members)).await;
        assert_eq!((&answer["ErrorCode"], &answer["ErrorInfo"]), (&json!(code), &json!(info)), "{members}");
        assert_eq!(answer["ActionStatus"], "FAIL");
    }
    assert!(stored(&world).await.is_empty());
    let edge = json!({"To_Account":ids(50),"GroupAtInfo":mentions(30),"GroupId":"@TGS#2C5SZEAEF"});
    assert_eq!(world.ok(SEND, &message(&edge)).await["MsgSeq"], 1);
}

#[tokio::test]
async fn a_body_and_its_custom_data_have_12_kib_together() {
    let world = world().await;
    let limit = 12 * 1024;
    let overhead = r#"[{"MsgContent":{"Text":""},"MsgType":"TIMTextElem"}]"#.len();
    let long = |text: usize, data: usize| {
        let element = json!([{"MsgType":"TIMTextElem","MsgContent":{"Text":"t".repeat(text)}}]);
        message(&json!({"MsgBody":element,"CloudCustomData":"d".repeat(data)}))
    };
    let answer = world.post(SEND, &long(limit - overhead - 100, 101)).await;
    assert_eq!(answer["ErrorCode"], 80002);
    assert_eq!(
        answer["ErrorInfo"],
        "MsgBody and CloudCustomData have 12289 bytes together where at most 12288 are allowed"
    );
    assert_eq!(world.code(SEND, &long(limit - overhead + 1, 0)).await, 80002);
    assert!(stored(&world).await.is_empty());
    assert_eq!(world.ok(SEND, &long(limit - overhead - 100, 100)).await["MsgSeq"], 1);
    assert_eq!(world.ok(SEND, &long(limit - overhead, 0)).await["MsgSeq"], 2);
}

#[tokio::test]
async fn what_is_kept_for_readers_is_bounded_too() {
    let world = world().await;
    let overhead = r#"{"OfflinePushInfo":{"Ext":""}}"#.len();
    let push = |bytes: usize| message(&json!({"OfflinePushInfo":{"Ext":"e".repeat(bytes)}}));
    assert_eq!(world.code(SEND, &push(body::MAX_FURTHER_BYTES - overhead + 1)).await, 80002);
    assert!(stored(&world).await.is_empty());
    assert_eq!(world.ok(SEND, &push(body::MAX_FURTHER_BYTES - overhead)).await["MsgSeq"], 1);
}
