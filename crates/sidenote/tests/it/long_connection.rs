//! The long connection, through the real binary (docs/long-connection.md).

mod hostile;
mod killed;
mod logins;
mod pushes;

use std::io::Write as _;
use std::net::TcpListener;

use rustix::process::Signal;
use serde_json::{Value, json};
use sidenote_server::auth::user_sig;
use sidenote_server::clock::{Clock as _, SystemClock};
use sidenote_server::config::Secret;
use sidenote_torture::long::{LongClient, command};

use crate::server::{ADMINISTRATOR, APP, ConfigOptions, Running};

/// A server with the accounts ann, bob and cid; ann and bob are members of the group `g`, ann owns it.
fn world(options: &ConfigOptions) -> Running {
    let server = Running::start(options);
    administrate(
        &server,
        "im_open_login_svc/multiaccount_import",
        &json!({"Accounts": ["ann", "bob", "cid"]}),
    );
    let group = json!({"GroupId": "g", "Type": "Public", "Name": "the group", "Owner_Account": "ann",
        "MemberList": [{"Member_Account": "bob"}]});
    administrate(&server, "group_open_http_svc/create_group", &group);
    server
}

/// Calls a command over REST that must succeed.
fn administrate(server: &Running, command: &str, body: &Value) -> Value {
    let answer = server.post(ADMINISTRATOR, command, &body.to_string());
    assert_eq!(answer["ErrorCode"], 0, "{command} {body}: {answer}");
    answer
}

fn message(random: u32) -> Value {
    json!({"GroupId": "g", "Random": random, "MsgClientTime": 1_700_000_000, "ClientSeq": 7, "MsgPriority": "Normal",
        "SupportMessageExtension": 1, "NeedReadReceipt": 0, "IsRelayMsg": 0, "OnlineOnlyFlag": 0,
        "GroupAtInfo": [], "SendMsgControl": [], "OfflinePushInfo": {"PushFlag": 0},
        "MsgBody": [{"MsgType": "TIMCustomElem", "MsgContent": {"Data": "poll", "Desc": "", "Ext": ""}}]})
}

/// The number of a message that ann sends.
fn sent(client: &mut LongClient) -> u64 {
    client.ok(command::SEND, &message(rand::random()))["MsgSeq"].as_u64().unwrap()
}

fn set(message: u64, pairs: &[(&str, &str, u64)]) -> Value {
    let list: Vec<_> =
        pairs.iter().map(|(key, value, seq)| json!({"Key": key, "Value": value, "Seq": seq})).collect();
    json!({"GroupId": "g", "MsgSeq": message, "OperateType": 1, "ExtensionList": list})
}

#[test]
fn any_prefix_and_both_kinds_of_frames() {
    let server = world(&ConfigOptions::default());
    for path in ["/info", "/binfo", "/im/v1/info", "/im/v1/binfo"] {
        let mut client = LongClient::connect(server.address, &format!("{path}?sdkappid={APP}&platform=7"));
        client.ok(command::ALIVE, &json!({}));
        let welcome = client.log_in("ann");
        assert_eq!(welcome["PurchaseBits"], "10000000000000", "{path}");
        assert!(welcome["InstId"].as_u64().unwrap() > 0, "{path}");
        assert!(welcome["TinyId"].is_string() && welcome["HelloInterval"].as_u64().unwrap() > 0, "{path}");
    }
    // A plain GET of the same path is no handshake.
    assert!(server.get("/readyz").contains("ready"));
    let answer = server.raw(b"GET /info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with(b"HTTP/1.1 404 "), "{}", String::from_utf8_lossy(&answer));
    let answer =
        server.raw(b"GET /info HTTP/1.1\r\nHost: x\r\nConnection: close\r\nUpgrade: websocket\r\n\r\n");
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_member_works_with_pairs_as_over_rest_and_sees_tombstones() {
    let server = world(&ConfigOptions::default());
    let mut ann = LongClient::logged_in(server.address, "ann");
    let mut bob = LongClient::logged_in(server.address, "bob");
    let seq = sent(&mut ann);

    let answer = ann.ok(command::SET, &set(seq, &[("a", "1", 0), ("b", "2", 0)]));
    assert_eq!(answer["Seq"], 1);
    // Two writers race for one key: one is refused and learns what is there, and then succeeds.
    let answer = bob.ok(command::SET, &set(seq, &[("a", "bob's", 0)]));
    assert_eq!(answer["ExtensionList"][0]["ErrorCode"], 23_001);
    assert_eq!(answer["ExtensionList"][0]["Extension"], json!({"Key": "a", "Value": "1", "Seq": 1}));
    assert_eq!(bob.ok(command::SET, &set(seq, &[("a", "bob's", 1)]))["Seq"], 2);

    let delete = json!({"GroupId": "g", "MsgSeq": seq, "OperateType": 2,
        "ExtensionList": [{"Key": "b", "Value": "", "Seq": 1}]});
    assert_eq!(bob.ok(command::SET, &delete)["Seq"], 3);
    let pairs = json!([{"Key": "a", "Value": "bob's", "Seq": 2}, {"Key": "b", "Value": "", "Seq": 3}]);
    let pulled = ann.ok(command::PULL, &json!({"GroupId": "g", "MsgSeq": seq}));
    assert_eq!((&pulled["ExtensionList"], &pulled["CompleteFlag"]), (&pairs, &json!(1)));
    let pulled = ann.ok(command::PULL, &json!({"GroupId": "g", "MsgSeq": seq, "startSeq": 3}));
    assert_eq!((&pulled["ExtensionList"][0]["Key"], &pulled["LatestSeq"]), (&json!("b"), &json!(3)));
    assert_eq!(pulled["ExtensionList"].as_array().unwrap().len(), 1);

    let clear = json!({"GroupId": "g", "MsgSeq": seq, "OperateType": 3});
    assert_eq!(ann.ok(command::SET, &clear)["Seq"], 4);
    let pulled = bob.ok(command::PULL, &json!({"GroupId": "g", "MsgSeq": seq}));
    assert_eq!((&pulled["ExtensionList"], &pulled["ClearSeq"]), (&json!([]), &json!(4)));
}

#[test]
fn a_member_reads_its_groups_and_their_history() {
    let server = world(&ConfigOptions::default());
    let mut ann = LongClient::logged_in(server.address, "ann");
    administrate(
        &server,
        "group_open_http_svc/create_group",
        &json!({"GroupId": "quiet", "Type": "Private", "Name": "q", "Owner_Account": "ann"}),
    );
    let list = "group_open_http_svc.get_joined_group_list";
    let body = json!({"Member_Account": "ann", "Limit": 200, "Offset": 0, "SupportTopic": 0,
        "ResponseFilter": {"GroupBaseInfoFilter": ["Type", "Name", "NextMsgSeq"], "SelfInfoFilter": ["Role"]}});
    let joined = ann.ok(list, &body);
    // A private group in which nobody has said anything is one's own all the same.
    assert_eq!(joined["TotalCount"], 2, "{joined}");
    assert_eq!(joined["GroupIdList"][0]["SelfInfo"]["Role"], "Owner");
    assert_eq!(ann.call(list, &json!({"Member_Account": "bob"}))["ErrorCode"], 10_007);

    let first = sent(&mut ann);
    let body = json!({"GroupId": "g", "Random": 5, "From_Account": "bob", "SupportMessageExtension": 1,
        "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "over REST"}}]});
    administrate(&server, "group_open_http_svc/send_group_msg", &body);
    assert_eq!(ann.call(command::SEND, &body)["ErrorCode"], 10_007, "she speaks for herself alone");
    for number in 3..=30 {
        assert_eq!(sent(&mut ann), number);
    }
    administrate(
        &server,
        "group_open_http_svc/group_msg_recall",
        &json!({"GroupId": "g", "MsgSeqList": [{"MsgSeq": 29}]}),
    );

    let history = "group_open_http_svc.group_msg_get";
    let page =
        ann.ok(history, &json!({"GroupId": "g", "ReqMsgNumber": 21, "WithRecalledMsg": 1, "ReqMsgSeq": 30}));
    let items = page["RspMsgList"].as_array().unwrap();
    assert_eq!((items.len(), &page["NextReqMsgSeq"], &page["IsFinished"]), (21, &json!(9), &json!(1)));
    assert_eq!((&items[0]["MsgSeq"], &items[1]["IsPlaceMsg"]), (&json!(30), &json!(2)));
    let rest = ann.ok(history, &json!({"GroupId": "g", "ReqMsgNumber": 21, "ReqMsgSeq": 9}));
    let items = rest["RspMsgList"].as_array().unwrap();
    assert_eq!((items.len(), &rest["NextReqMsgSeq"]), (9, &json!(0)));
    let (own, other) = (&items[8], &items[7]);
    assert_eq!((&own["MsgSeq"], &own["MsgClientTime"]), (&json!(first), &json!(1_700_000_000)));
    assert_eq!((&own["TinyId"], &own["SupportMessageExtension"]), (&json!(ann.a2().1), &json!(1)));
    assert_eq!((&other["From_Account"], &other["MsgRandom"]), (&json!("bob"), &json!(5)));
    assert!(other["MsgClientTime"].as_u64().unwrap() > 1_700_000_000, "the server's own time");

    let info = ann.ok(
        "group_open_http_svc.get_group_self_member_info",
        &json!({"GroupIdList": ["g", "no such group"]}),
    );
    assert_eq!(
        (&info["GroupInfo"][0]["Type"], &info["GroupInfo"][0]["NextMsgSeq"]),
        (&json!("Public"), &json!(31))
    );
    assert_eq!(info["GroupInfo"][1]["ErrorCode"], 10_010);

    // Who is no member learns nothing.
    let mut cid = LongClient::logged_in(server.address, "cid");
    for (command, body) in [
        (history, json!({"GroupId": "g", "ReqMsgNumber": 21})),
        (command::SEND, message(1)),
        (command::PULL, json!({"GroupId": "g", "MsgSeq": 1})),
    ] {
        assert_eq!(cid.call(command, &body)["ErrorCode"], 10_007, "{command}");
    }
}

#[test]
fn what_the_server_does_not_have_is_answered_honestly() {
    let server = world(&ConfigOptions::default());
    let mut ann = LongClient::logged_in(server.address, "ann");
    for (command, member, value) in [
        ("im_open_status.wshello", "ErrorInfo", json!("")),
        ("im_sdk_config_mgr.fetch_imsdk_purchase_bitsv2", "str_purchase_bits", json!("10000000000000")),
        ("im_sdk_config_mgr.fetch_config", "str_json_config", json!("{}")),
        ("million_group_open_http_svc.get_joined_group_list", "TotalCount", json!(0)),
        ("openim.getmsg", "SyncFlag", json!(2)),
        ("recentcontact.page_get", "CompleteFlag", json!(1)),
        ("sns.black_list_get", "StartIndex", json!(0)),
        ("imopenstat.tim_web_report_v2", "ActionStatus", json!("OK")),
    ] {
        assert_eq!(ann.ok(command, &json!({}))[member], value, "{command}");
    }
    for (command, code) in [
        ("nothing", 60_009),
        ("", 60_009),
        ("sns.friend_add", 60_009),
        ("im_open_login_svc.account_delete", 60_009),
        ("group_open_http_svc.destroy_group", 10_003),
        ("openim_msg_ext_http_svc.no_such_command", 60_009),
    ] {
        assert_eq!(ann.call(command, &json!({}))["ErrorCode"], code, "{command}");
    }
    // An app without the plan has no extensions, and its clients are told so.
    let modest = world(&ConfigOptions { plan: Some("pro"), ..ConfigOptions::default() });
    let mut ann = LongClient::open(modest.address);
    assert_eq!(ann.log_in("ann")["PurchaseBits"], "0");
    assert_eq!(ann.call(command::PULL, &json!({"GroupId": "g", "MsgSeq": 1}))["ErrorCode"], 10_008);
}

#[test]
fn requests_that_come_all_at_once_are_answered_in_order() {
    let server =
        world(&ConfigOptions { limits: "attempts_per_minute = 0".to_owned(), ..ConfigOptions::default() });
    let mut ann = LongClient::logged_in(server.address, "ann");
    let seq = sent(&mut ann);
    // The claims are right only if each request is carried out after the one before it.
    let numbers: Vec<_> = (0..200)
        .map(|claim| ann.send(command::SET, &set(seq, &[("k", &format!("v{claim}"), claim)])))
        .collect();
    for (place, number) in numbers.into_iter().enumerate() {
        let answer = ann.answer_to(command::SET, number);
        assert_eq!(
            (&answer["Seq"], &answer["ExtensionList"][0]["ErrorCode"]),
            (&json!(place + 1), &json!(0))
        );
    }
}

#[test]
fn large_answers_are_packed_for_those_who_ask() {
    let server = world(&ConfigOptions::default());
    let mut ann = LongClient::logged_in(server.address, "ann");
    let seq = sent(&mut ann);
    for part in 0..10 {
        let pairs: Vec<_> = (0..20).map(|n| (format!("key-{part}-{n}"), "value ".repeat(100))).collect();
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str(), 0)).collect();
        ann.ok(command::SET, &set(seq, &pairs));
    }
    let pull = json!({"GroupId": "g", "MsgSeq": seq});
    let expected = ann.ok(command::PULL, &pull);
    assert_eq!(expected["ExtensionList"].as_array().unwrap().len(), 200);
    for (path, packed) in [("/binfo", 0), ("/binfo?compress=gzip", 1), ("/info?compress=gzip", 0)] {
        let joint = if path.contains('?') { '&' } else { '?' };
        let mut client = LongClient::connect(server.address, &format!("{path}{joint}sdkappid={APP}"));
        client.log_in("bob");
        assert_eq!(client.ok(command::PULL, &pull), expected, "{path}");
        assert_eq!(client.packed, packed, "{path}");
    }
}

/// Whoever asked has to know whether it was done, even if the server is told to stop meanwhile.
#[test]
fn a_server_that_stops_answers_the_request_that_it_has_begun() {
    // An app that takes its time when it is asked.
    let app = TcpListener::bind("127.0.0.1:0").unwrap();
    let number = 1_400_000_077;
    let more = format!(
        "[[apps]]\nsdk_app_id = {number}\nsecret_key = \"key\"\nadmins = [\"boss\"]\n[apps.webhook]\n\
         url = \"http://{}/\"\nallow_networks = [\"127.0.0.1\"]\ntimeout_ms = 10000\n\
         commands = [\"C2C.CallbackBeforeSendMsg\"]",
        app.local_addr().unwrap()
    );
    let mut server = world(&ConfigOptions { more, ..ConfigOptions::default() });
    let mut boss = LongClient::connect(server.address, &format!("/info?sdkappid={number}"));
    let now = SystemClock.now_millis() / 1000;
    let ticket = user_sig::sign(number, &Secret::new("key".to_owned()).unwrap(), "boss", now, 60, None);
    assert_eq!(boss.log_in_with("boss", &ticket)["ErrorCode"], 0);
    let body = json!({"To_Account": "boss", "MsgRandom": 1,
        "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "note"}}]});
    let mut idle = LongClient::logged_in(server.address, "ann");
    let sent = boss.send(command::DIRECT_SEND, &body);
    // It is asked, so the request is under way; and others have been told of the end when it answers.
    let (mut question, _) = app.accept().unwrap();
    server.signal(Signal::TERM);
    assert_eq!(idle.closed().code, 1001);
    question.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}").unwrap();
    assert_eq!(boss.answer_to(command::DIRECT_SEND, sent)["ErrorCode"], 0);
    assert_eq!(boss.closed().code, 1001);
    assert!(server.wait().success(), "{}", server.log());
}

#[test]
fn a_server_that_stops_says_goodbye() {
    let mut server = world(&ConfigOptions::default());
    let mut ann = LongClient::logged_in(server.address, "ann");
    let mut nobody = LongClient::open(server.address);
    nobody.ok(command::ALIVE, &json!({}));
    server.signal(Signal::TERM);
    for client in [&mut ann, &mut nobody] {
        assert_eq!(client.closed().code, 1001);
    }
    assert!(server.wait().success(), "{}", server.log());
}
