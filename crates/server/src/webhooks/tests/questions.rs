//! Apps that are asked before something happens.

use super::*;

const BOTH: &str = "commands = [\"Group.CallbackBeforeSendMsg\", \"Group.CallbackBeforeGroupMsgExtension\"]";

async fn send(scene: &Scene, text: &str) -> Value {
    let sent = json!({
        "GroupId":"room","Random":7,"CloudCustomData":"c",
        "MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":text}}]
    });
    scene.world.post("send_group_msg", &sent.to_string()).await
}

async fn newest(scene: &Scene) -> Value {
    let asked = r#"{"GroupId":"room","ReqMsgNumber":1}"#;
    scene.world.ok("group_msg_get_simple", asked).await["RspMsgList"][0].clone()
}

/// Asked about "room", this answers everything with `reply` once the group and its poll are there.
async fn room(reply: impl Fn() -> Reply + Send + Sync + 'static, more: &str) -> (Script, Scene) {
    let script = Script::new(move |_, before| if before == 0 { Reply::Ok } else { reply() }).await;
    let scene = Scene::new(&script, &format!("{BOTH}\n{more}")).await;
    scene.poll("room").await;
    (script, scene)
}

fn with(answer: &Value) -> Reply {
    Reply::With(answer.to_string())
}

#[tokio::test]
async fn an_app_is_asked_with_the_documented_body() {
    let (script, scene) = room(|| Reply::Ok, "").await;
    assert_eq!(send(&scene, "hi").await["MsgSeq"], 2);
    assert_eq!(scene.set("room", "k", "v").await["Seq"], 1);
    let got = script.got();
    assert_eq!(got.len(), 3, "nothing but questions was configured");
    let mut asked = got[1].body.clone();
    assert!(asked["EventTime"].is_u64());
    asked.as_object_mut().unwrap().remove("EventTime");
    assert_eq!(
        asked,
        json!({
            "CallbackCommand":"Group.CallbackBeforeSendMsg","GroupId":"room","Type":"Public",
            "From_Account":"administrator","Operator_Account":"administrator","Random":7,"OnlineOnlyFlag":0,
            "MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}],"CloudCustomData":"c"
        })
    );
    let asked = &got[2].body;
    assert_eq!(asked["ExtensionList"], json!([{"Key":"k","Value":"v"}]));
    assert_eq!((&asked["OperateType"], &asked["MsgSeq"]), (&json!(1), &json!(1)));
    assert_eq!(got[2].parameter("CallbackCommand"), Some("Group.CallbackBeforeGroupMsgExtension"));
    assert_eq!(scene.webhooks.statistics()[0].asked, 3);
    scene.stop().await;
}

#[tokio::test]
async fn an_app_is_not_asked_about_callers_that_do_not_exist() {
    let (script, scene) = room(|| Reply::Ok, "").await;
    scene.world.import_accounts(&["ann"]).await;
    scene.world.ok("add_group_member", r#"{"GroupId":"room","MemberList":[{"Member_Account":"ann"}]}"#).await;
    let asked = script.got().len();
    let set =
        r#"{"GroupId":"room","MsgSeq":1,"OperateType":1,"ExtensionList":[{"Key":"k","Value":"v","Seq":0}]}"#;
    let answer = scene.world.post_unseen("nobody", "group_set_key_values", set).await;
    assert_eq!(answer["ErrorCode"], 70_107, "{answer}");
    assert_eq!(script.got().len(), asked);
    let answer = scene.world.post_unseen("ann", "group_set_key_values", set).await;
    assert_eq!((&answer["ErrorCode"], &answer["Seq"]), (&json!(0), &json!(1)), "{answer}");
    assert_eq!(script.got().len(), asked + 1);
    scene.stop().await;
}

#[tokio::test]
async fn an_app_can_refuse_and_nothing_is_written() {
    for (answer, code, info) in [
        (json!({"ActionStatus":"OK","ErrorInfo":"","ErrorCode":1}), 10_016, "the app refused it"),
        (json!({"ActionStatus":"OK","ErrorInfo":"no cats","ErrorCode":10_100}), 10_100, "no cats"),
        (json!({"ErrorInfo":"the poll is closed","ErrorCode":10_200}), 10_200, "the poll is closed"),
    ] {
        let (_script, scene) = room(move || with(&answer), "").await;
        for refused in [send(&scene, "hi").await, scene.set("room", "k", "v").await] {
            assert_eq!((&refused["ErrorCode"], &refused["ErrorInfo"]), (&json!(code), &json!(info)));
        }
        assert_eq!(newest(&scene).await["MsgSeq"], 1);
        let pull = scene.world.ok("group_get_key_values", r#"{"GroupId":"room","MsgSeq":1}"#).await;
        assert_eq!(pull["LatestSeq"], 0);
        scene.stop().await;
    }
}

#[tokio::test]
async fn a_message_can_be_dropped_silently_and_pairs_can_not() {
    let (_script, scene) = room(|| with(&json!({"ErrorCode":2})), "").await;
    let dropped = send(&scene, "hi").await;
    assert_eq!((&dropped["ErrorCode"], &dropped["MsgSeq"]), (&json!(0), &json!(0)));
    assert_eq!(newest(&scene).await["MsgSeq"], 1);
    assert_eq!(scene.set("room", "k", "v").await["ErrorCode"], 10_016);
    scene.stop().await;
}

#[tokio::test]
async fn an_app_can_put_another_body_in_place() {
    let body = json!([{"MsgType":"TIMTextElem","MsgContent":{"Text":"***"}}]);
    let answer = json!({"ErrorCode":0,"MsgBody":body,"CloudCustomData":"d"});
    let (_script, scene) = room(move || with(&answer), "").await;
    assert_eq!(send(&scene, "damn").await["MsgSeq"], 2);
    let message = newest(&scene).await;
    assert_eq!((&message["MsgBody"], &message["CloudCustomData"]), (&body, &json!("d")));
    scene.stop().await;
}

#[tokio::test]
async fn without_an_answer_the_configured_verdict_holds() {
    let long = "x".repeat(13 * 1024);
    let too_long = json!({"ErrorCode":0,"CloudCustomData":long});
    let elsewhere = Script::ok().await;
    for reply in [
        Reply::Hang,
        Reply::Drip,
        Reply::Status(500),
        Reply::Redirect(elsewhere.url()),
        Reply::CloseHalfway,
        Reply::Long(10 * 1024 * 1024),
        Reply::With("[]".to_owned()),
        Reply::With("{}".to_owned()),
        with(&json!({"ErrorCode":"0"})),
        with(&json!({"ErrorCode":3})),
        with(&json!({"ErrorCode":10_201})),
        with(&json!({"ErrorCode":0,"MsgBody":"hi"})),
        with(&too_long),
    ] {
        for (more, code, seq) in [("", 0, json!(2)), ("before_failure = \"refuse\"", 80_003, Value::Null)] {
            let reply = reply.clone();
            let (_script, scene) = room(move || reply.clone(), more).await;
            let answer = send(&scene, "hi").await;
            assert_eq!((&answer["ErrorCode"], &answer["MsgSeq"]), (&json!(code), &seq), "{answer}");
            assert_eq!(scene.webhooks.statistics()[0].unasked, 1);
            scene.stop().await;
        }
    }
    assert_eq!(elsewhere.connections(), 0, "a redirect was followed");
}

#[tokio::test]
async fn a_sender_can_ask_that_nobody_is_asked() {
    let (script, scene) = room(|| Reply::Status(500), "before_failure = \"refuse\"").await;
    let sent = json!({
        "GroupId":"room","Random":8,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}],
        "ForbidCallbackControl":["ForbidBeforeSendMsgCallback"]
    });
    scene.world.ok("send_group_msg", &sent.to_string()).await;
    assert_eq!(script.got().len(), 1);
    scene.stop().await;
}

/// Ann writes to bob, in a world in which an app is asked about that and answers so.
async fn write(answer: Value) -> (Script, Scene, Value) {
    let script = Script::new(move |_, _| with(&answer)).await;
    let scene = Scene::new(&script, "commands = [\"C2C.CallbackBeforeSendMsg\"]").await;
    for user in ["ann", "bob"] {
        scene.world.ok("account_import", &json!({"UserID":user}).to_string()).await;
    }
    let letter = json!({
        "From_Account":"ann","To_Account":"bob","MsgSeq":3,"MsgRandom":7,"CloudCustomData":"c",
        "MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]
    });
    let sent = scene.world.post("sendmsg", &letter.to_string()).await;
    (script, scene, sent)
}

async fn letters(scene: &Scene) -> Vec<Value> {
    let asked = json!({
        "Operator_Account":"ann","Peer_Account":"bob","MaxCnt":10,"MinTime":0,"MaxTime":4_000_000_000_u64
    });
    let page = scene.world.ok("admin_getroammsg", &asked.to_string()).await;
    page["MsgList"].as_array().unwrap().clone()
}

#[tokio::test]
async fn an_app_is_asked_about_one_to_one_messages() {
    let (script, scene, sent) = write(json!({"ErrorCode":0,"CloudCustomData":"seen"})).await;
    assert_eq!(sent["ErrorCode"], 0, "{sent}");
    let got = script.got();
    assert_eq!(got.len(), 1);
    let mut asked = got[0].body.clone();
    for time in ["EventTime", "MsgTime"] {
        assert!(asked.as_object_mut().unwrap().remove(time).unwrap().is_u64());
    }
    assert_eq!(
        asked,
        json!({
            "CallbackCommand":"C2C.CallbackBeforeSendMsg","From_Account":"ann","To_Account":"bob",
            "MsgSeq":3,"MsgRandom":7,"MsgKey":sent["MsgKey"],"OnlineOnlyFlag":0,
            "MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}],"CloudCustomData":"c"
        })
    );
    assert_eq!(letters(&scene).await[0]["CloudCustomData"], "seen");
    scene.stop().await;
}

#[tokio::test]
async fn an_app_can_refuse_one_to_one_messages_with_codes_of_their_own() {
    for (answer, code) in [
        (json!({"ErrorCode":1}), 20_006),
        (json!({"ErrorCode":120_001,"ErrorInfo":"no cats"}), 120_001),
        (json!({"ErrorCode":130_000}), 130_000),
    ] {
        let (_script, scene, refused) = write(answer).await;
        assert_eq!(refused["ErrorCode"], code, "{refused}");
        assert_eq!(letters(&scene).await, Vec::<Value>::new());
        scene.stop().await;
    }
}

#[tokio::test]
async fn a_dropped_one_to_one_message_looks_sent_and_codes_of_groups_mean_nothing() {
    let (_script, scene, dropped) = write(json!({"ErrorCode":2})).await;
    assert_eq!(dropped["ErrorCode"], 0);
    assert!(dropped["MsgKey"].as_str().unwrap().starts_with("3_7_"));
    assert_eq!(letters(&scene).await, Vec::<Value>::new());
    scene.stop().await;
    // No answer that makes sense counts as none, and then the message goes.
    let (_script, scene, sent) = write(json!({"ErrorCode":10_100})).await;
    assert_eq!(sent["ErrorCode"], 0);
    assert_eq!(letters(&scene).await.len(), 1);
    scene.stop().await;
}
