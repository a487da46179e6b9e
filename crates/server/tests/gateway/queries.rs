//! Service, command, method and query: steps 1 to 7, in this order.

use crate::world::{APP, KEY, NOW, OTHER_APP, OTHER_KEY, World, signature, target};

const CHECK: &str = "im_open_login_svc/account_check";

#[tokio::test]
async fn each_check_has_its_code() {
    let world = World::new().await;
    world.ok("im_open_login_svc/account_import", r#"{"UserID":"ann"}"#).await;
    let sig = signature(KEY, APP, "administrator");
    let v4 = |command: &str, query: &str| format!("/v4/{command}?{query}");
    let good = format!("sdkappid={APP}&identifier=administrator&usersig={sig}");
    let rows = [
        // Step 1: the path, before anything else.
        (v4("no_such_service/account_check", ""), 60_009),
        (v4("im_open_login_svc/no_such_command", ""), 60_009),
        (v4("openim_msg_ext_http_svc/no_such_command", ""), 60_009),
        (v4("group_open_http_svc/no_such_command", ""), 10_003),
        (v4("im_open_login_svc/account_check/", &good), 60_009),
        (v4("im_open_login_svc", &good), 60_009),
        (v4("", &good), 60_009),
        // Step 3: sdkappid.
        (v4(CHECK, ""), 60_012),
        (v4(CHECK, "sdkappid="), 60_012),
        (v4(CHECK, "SDKAPPID=1400000001"), 60_012),
        (v4(CHECK, "sdkappid=abc"), 60_025),
        (v4(CHECK, "sdkappid=-1"), 60_025),
        (v4(CHECK, "sdkappid=%2B1400000001"), 60_025),
        (v4(CHECK, "sdkappid=99999999999999999999"), 60_025),
        (v4(CHECK, "sdkappid=7"), 70_020),
        // Step 4: the others.
        (v4(CHECK, &format!("sdkappid={APP}&usersig={sig}")), 60_025),
        (v4(CHECK, &format!("sdkappid={APP}&identifier=&usersig={sig}")), 60_025),
        (v4(CHECK, &format!("sdkappid={APP}&identifier=administrator")), 60_025),
        (v4(CHECK, &format!("sdkappid={APP}&identifier=administrator&usersig=")), 60_025),
        (v4(CHECK, &format!("{good}&contenttype=xml")), 60_025),
        (v4(CHECK, &format!("{good}&random=4294967296")), 60_025),
        (v4(CHECK, &format!("{good}&random=-1")), 60_025),
        (v4(CHECK, &format!("{good}&random=x")), 60_025),
        // Step 5: the signature.
        (v4(CHECK, &format!("sdkappid={APP}&identifier=administrator&usersig=nonsense")), 70_003),
        (v4(CHECK, &format!("sdkappid={APP}&identifier=administrator&usersig=%FF%FE")), 70_003),
        (
            v4(CHECK, &format!("sdkappid={APP}&identifier=administrator&usersig={}", &sig[..sig.len() - 20])),
            70_003,
        ),
        (v4(CHECK, &format!("sdkappid={OTHER_APP}&identifier=administrator&usersig={sig}")), 70_014),
        (v4(CHECK, &format!("sdkappid={APP}&identifier=second&usersig={sig}")), 70_013),
        (
            v4(
                CHECK,
                &format!(
                    "sdkappid={APP}&identifier=administrator&usersig={}",
                    signature(OTHER_KEY, APP, "administrator")
                ),
            ),
            70_009,
        ),
        // Step 6: the caller must exist, and be an administrator except for extensions.
        (target("nobody", CHECK), 70_107),
        (target("nobody", "openim_msg_ext_http_svc/group_get_key_values"), 70_107),
        (target("ann", CHECK), 60_010),
        // And what is right in every spelling that clients use.
        (v4(CHECK, &good), 0),
        (
            v4(
                CHECK,
                &format!(
                    "usersig={}&identifier=administrator&sdkappid={APP}&random=0&contenttype=json",
                    sig.replace('*', "%2A")
                ),
            ),
            0,
        ),
        (v4(CHECK, &format!("{good}&random=4294967295&unknown=1")), 0),
        (
            v4(
                CHECK,
                &format!("sdkappid={APP}&identifier=second&usersig={}", signature("older", APP, "second")),
            ),
            0,
        ),
    ];
    for (target, expected) in rows {
        let answer = world.request("POST", &target, "", br#"{"CheckItem":[{"UserID":"ann"}]}"#).await;
        assert_eq!(answer.code(), expected, "{target}: {}", answer.body);
    }
    world.stop().await;
}

#[tokio::test]
async fn that_a_caller_is_unknown_is_told_before_anything_that_is_wrong_with_the_request() {
    let world = World::with("[limits]\ncalls_per_second = 4\n[http]\nbody_bytes = 4096\n").await;
    world.ok("im_open_login_svc/account_import", r#"{"UserID":"ann"}"#).await;
    let huge = "x".repeat(5000);
    let bodies: [(&str, &[u8]); 8] = [
        ("", b"not json"),
        ("", b"\xff\xfe"),
        ("", b"{}"),
        ("", br#"{"GroupId":7,"MsgSeq":"x"}"#),
        ("", br#"{"GroupId":"none","MsgSeq":1,"OperateType":3}"#),
        ("", br#"{"From_Account":"nobody","To_Account":"ann","MsgKey":"1_2_3","OperateType":3}"#),
        ("Content-Encoding: gzip\r\n", b"{}"),
        ("", huge.as_bytes()),
    ];
    for command in ["group_set_key_values", "group_get_key_values", "set_key_values", "get_key_values"] {
        // With the fifth call there are too many in this second, for the clock of limits does not stand still.
        for (headers, body) in bodies {
            let target = target("nobody", &format!("openim_msg_ext_http_svc/{command}"));
            let answer = world.request("POST", &target, headers, body).await;
            assert_eq!(answer.code(), 70_107, "{command} {headers} {body:?}: {}", answer.body);
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn the_order_of_checks_is_path_method_query_signature_body() {
    let world = World::new().await;
    let bad_path = world.request("GET", "/v4/nothing/here?", "", b"").await;
    assert_eq!(bad_path.code(), 60_009);
    let bad_method = world.request("GET", &format!("/v4/{CHECK}"), "", b"").await;
    assert_eq!(bad_method.code(), 60_002);
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
        assert_eq!(world.request(method, &target("administrator", CHECK), "", b"{}").await.code(), 60_002);
    }
    let bad_signature = world
        .request("POST", &target("administrator", CHECK).replace("usersig=e", "usersig=f"), "", b"not json")
        .await;
    assert_eq!(bad_signature.code(), 70_003);
    world.stop().await;
}

#[tokio::test]
async fn a_signature_holds_to_its_last_second_and_not_longer_also_from_memory() {
    let world = World::new().await;
    let call = || world.call("administrator", CHECK, r#"{"CheckItem":[{"UserID":"ann"}]}"#);
    assert_eq!(call().await.code(), 0);
    world.clock.set((NOW + 86_400) * 1000);
    assert_eq!(call().await.code(), 0);
    world.clock.set((NOW + 86_401) * 1000);
    assert_eq!(call().await.code(), 70_001);
    world.stop().await;
}

#[tokio::test]
async fn a_command_is_called_so_often_a_second_and_the_next_call_waits_for_its_turn() {
    let world = World::with("[limits]\ncalls_per_second = 1").await;
    let call = |command: &'static str| world.call("administrator", command, "{}");
    assert_eq!(call(CHECK).await.code(), 70_402);
    // One call a second is admitted, so of the next twenty some are not, however slow the machine is today.
    let mut refused = false;
    for _ in 0..20 {
        refused |= call(CHECK).await.code() == 60_007;
    }
    assert!(refused);
    // Other commands and other apps have limits of their own.
    assert_eq!(call("im_open_login_svc/account_import").await.code(), 70_402);
    let sig = signature(OTHER_KEY, OTHER_APP, "administrator");
    let other = format!("/v4/{CHECK}?sdkappid={OTHER_APP}&identifier=administrator&usersig={sig}");
    assert_eq!(world.request("POST", &other, "", b"{}").await.code(), 70_402);
    world.stop().await;
}

#[tokio::test]
async fn answers_carry_the_documented_headers_and_a_request_id_of_their_own() {
    let world = World::new().await;
    let one = world.call("administrator", CHECK, "{}").await;
    let other = world.call("administrator", CHECK, "{}").await;
    for header in ["content-type: application/json", "access-control-allow-origin: *", "x-request-id: "] {
        assert!(one.head.contains(header), "{header} is not in {}", one.head);
    }
    let id = |head: &str| head.lines().find(|line| line.starts_with("x-request-id")).map(str::to_owned);
    assert_ne!(id(&one.head), id(&other.head));
    world.stop().await;
}

#[tokio::test]
async fn two_apps_with_the_same_names_see_nothing_of_each_other() {
    let world = World::new().await;
    world.ok("im_open_login_svc/account_import", r#"{"UserID":"ann"}"#).await;
    world
        .ok(
            "group_open_http_svc/create_group",
            r#"{"GroupId":"g","Type":"Public","Name":"g","Owner_Account":"ann"}"#,
        )
        .await;
    let sig = signature(OTHER_KEY, OTHER_APP, "administrator");
    let other =
        |command: &str| format!("/v4/{command}?sdkappid={OTHER_APP}&identifier=administrator&usersig={sig}");
    let seen = world.request("POST", &other(CHECK), "", br#"{"CheckItem":[{"UserID":"ann"}]}"#).await.json();
    assert_eq!(seen["ResultItem"][0]["AccountStatus"], "NotImported");
    let seen = world
        .request("POST", &other("group_open_http_svc/get_group_info"), "", br#"{"GroupIdList":["g"]}"#)
        .await
        .json();
    assert_eq!(seen["GroupInfo"][0]["ErrorCode"], 10_010);
    let destroyed =
        world.request("POST", &other("group_open_http_svc/destroy_group"), "", br#"{"GroupId":"g"}"#).await;
    assert_eq!(destroyed.code(), 10_010);
    // A signature of one app is none of the other, even for the same administrator's name.
    let crossed = format!(
        "/v4/{CHECK}?sdkappid={OTHER_APP}&identifier=administrator&usersig={}",
        signature(KEY, OTHER_APP, "administrator")
    );
    assert_eq!(world.request("POST", &crossed, "", b"{}").await.code(), 70_009);
    world.stop().await;
}
