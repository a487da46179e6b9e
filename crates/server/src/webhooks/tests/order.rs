//! What is told, in which order, and that it is told at least once.

use super::*;

#[tokio::test]
async fn changes_are_told_in_order_and_as_documented() {
    let script = Script::ok().await;
    let scene = Scene::new(&script, "token = \"xxxxyyyy\"").await;
    scene.world.import_accounts(&["ann"]).await;
    scene.poll("room").await;
    scene.set_often("room", 3).await;
    scene.world.ok("add_group_member", r#"{"GroupId":"room","MemberList":[{"Member_Account":"ann"}]}"#).await;
    scene.world.ok("destroy_group", r#"{"GroupId":"room"}"#).await;
    until("everything is told", async || script.got().len() >= 7).await;
    until("it is settled", async || scene.outboxes().await == 0).await;
    scene.stop().await;

    let got = script.got();
    let commands: Vec<_> =
        got.iter().map(|got| got.body["CallbackCommand"].as_str().unwrap().to_owned()).collect();
    let pairs = "Group.CallbackAfterGroupMsgExtension";
    assert_eq!(
        commands,
        [
            "Group.CallbackAfterCreateGroup",
            "Group.CallbackAfterSendMsg",
            pairs,
            pairs,
            pairs,
            "Group.CallbackAfterNewMemberJoin",
            "Group.CallbackAfterGroupDestroyed"
        ]
    );
    assert_eq!(seqs(&got, "room"), [1, 2, 3]);
    assert_eq!((&got[6].body["Name"], &got[6].body["Type"]), (&json!("room"), &json!("Public")));
    for (number, got) in (1..).zip(&got) {
        assert!(got.target.starts_with("/cb?x=1&SdkAppid=1400000001&CallbackCommand=Group."), "{got:?}");
        assert_eq!(got.parameter("CallbackCommand"), got.body["CallbackCommand"].as_str());
        assert_eq!(got.parameter("contenttype"), Some("json"));
        assert_eq!(got.parameter("OptPlatform"), Some("RESTAPI"));
        let sign = got.parameter("Sign").unwrap();
        assert_eq!((sign.len(), sign.to_lowercase() == sign), (64, true));
        assert!(now_secs() - got.parameter("RequestTime").unwrap().parse::<u64>().unwrap() < 60);
        assert!(got.headers["x-sidenote-event"].ends_with(&format!("-{number}")), "{got:?}");
        assert_eq!(got.headers["content-type"], "application/json");
        // What was not asked for beyond the documented body is not told.
        assert_eq!(got.body.get("ClearSeq"), None);
    }
    // One connection carried what one conversation had to tell.
    assert_eq!(script.connections(), 1);
}

#[tokio::test]
async fn only_what_is_configured_is_told() {
    let script = Script::ok().await;
    let only = "commands = [\"Group.CallbackAfterGroupMsgExtension\"]\ndetails = true";
    let scene = Scene::new(&script, only).await;
    scene.poll("room").await;
    scene.set_often("room", 2).await;
    until("it is settled", async || scene.outboxes().await == 0).await;
    let got = script.got();
    assert_eq!(seqs(&got, "room"), [1, 2]);
    assert_eq!(got.len(), 2);
    assert_eq!(got[1].body["Operator_Account"], "administrator");
    assert_eq!(got[1].body["ExtensionList"][0]["Previous"], json!({"Value":"v","Seq":1}));
    // Nothing of the sender of the request is told but what the URL says, and no signature without a token.
    assert_eq!(got[1].parameter("Sign"), None);
    scene.stop().await;
}

#[tokio::test]
async fn imports_are_not_told() {
    let script = Script::ok().await;
    let scene = Scene::new(&script, "").await;
    scene.world.ok("import_group", r#"{"GroupId":"old","Type":"Public","Name":"old"}"#).await;
    scene.poll("new").await;
    until("all is settled", async || scene.outboxes().await == 0 && script.got().len() >= 2).await;
    assert!(script.got().iter().all(|got| got.body["GroupId"] == "new"));
    scene.stop().await;
}

#[tokio::test]
async fn a_busy_conversation_does_not_hold_up_others() {
    let script = Script::ok().await;
    let scene = Scene::new(&script, "parallel = 1").await;
    for group in ["busy", "quiet"] {
        scene.poll(group).await;
    }
    until("the beginning is settled", async || scene.outboxes().await == 0).await;
    scene.stop().await;
    scene.set_often("busy", 300).await;
    scene.set_often("quiet", 1).await;

    let again = Scene::over(Arc::clone(&scene.store), scene.config.clone()).await;
    until("everything is told", async || {
        let got = script.got();
        seqs(&got, "busy").len() >= 300 && !seqs(&got, "quiet").is_empty()
    })
    .await;
    again.stop().await;
    let got = script.got();
    assert_eq!(seqs(&got, "busy"), (1..=300).collect::<Vec<_>>());
    let quiet = got.iter().position(|got| got.body["GroupId"] == "quiet" && got.body["Seq"] == 1).unwrap();
    let before = got[..quiet].iter().filter(|got| got.body["Seq"].is_u64()).count();
    assert!(before <= 64, "{before} of the busy conversation came first");
}

#[tokio::test]
async fn what_is_left_when_a_server_stops_is_told_by_the_next_one() {
    let down = Script::new(|_, _| Reply::Status(503)).await;
    let scene = Scene::new(&down, "").await;
    for group in ["a", "b", "c"] {
        scene.poll(group).await;
        scene.set_often(group, 20).await;
    }
    until("it was tried", async || down.got().len() >= 3).await;
    scene.stop().await;
    assert_eq!(scene.outboxes().await, 3);

    let up = Script::ok().await;
    let again = Scene::over(Arc::clone(&scene.store), config(&up.url(), LOOPBACK)).await;
    until("all is settled", async || again.outboxes().await == 0).await;
    again.stop().await;
    for group in ["a", "b", "c"] {
        assert_eq!(seqs(&up.got(), group), (1..=20).collect::<Vec<_>>(), "{group}");
    }
}

#[tokio::test]
async fn what_a_crash_leaves_unsettled_is_told_again() {
    let script = Script::ok().await;
    let scene = Scene::new(&script, "").await;
    scene.poll("room").await;
    scene.set_often("room", 5).await;
    // Another process that knows only what is durable, as after a crash before anything was settled.
    let again = Scene::over(Arc::clone(&scene.store), scene.config.clone()).await;
    until("all is settled", async || scene.outboxes().await == 0 && seqs(&script.got(), "room").len() >= 5)
        .await;
    for scene in [scene, again] {
        scene.stop().await;
    }
    let mut told = seqs(&script.got(), "room");
    told.sort_unstable();
    told.dedup();
    assert_eq!(told, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_group_made_again_is_told_after_the_end_of_the_old_one() {
    let down = Script::new(|_, _| Reply::Status(500)).await;
    let scene = Scene::new(&down, "").await;
    for _ in 0..3 {
        scene.world.ok("create_group", r#"{"GroupId":"room","Type":"Public","Name":"room"}"#).await;
        scene.world.ok("destroy_group", r#"{"GroupId":"room"}"#).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    scene.stop().await;
    assert_eq!(scene.outboxes().await, 3);

    let up = Script::ok().await;
    let again = Scene::over(Arc::clone(&scene.store), config(&up.url(), LOOPBACK)).await;
    until("all is settled", async || again.outboxes().await == 0).await;
    again.stop().await;
    let got = up.got();
    let commands: Vec<_> = got.iter().map(|got| got.body["CallbackCommand"].as_str().unwrap()).collect();
    let life = ["Group.CallbackAfterCreateGroup", "Group.CallbackAfterGroupDestroyed"];
    assert_eq!(commands, life.repeat(3));
}
