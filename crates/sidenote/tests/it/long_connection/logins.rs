//! Logging in, coming back, being kicked.

use std::collections::HashMap;

use serde_json::json;
use sidenote_core::ids::{AppId, TinyId, UserId};
use sidenote_server::auth::a2::{self, Session};
use sidenote_server::auth::user_sig;
use sidenote_server::clock::{Clock as _, SystemClock};
use sidenote_server::config::Secret;
use sidenote_torture::long::{LongClient, command, ticket};
use tokio::time::Instant;

use super::{administrate, message, sent, world};
use crate::server::{APP, ConfigOptions, OTHER_APP, PATIENCE, key_of};

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned()).unwrap()
}

fn now() -> u64 {
    SystemClock.now_millis() / 1000
}

#[test]
fn a_ticket_that_is_wrong_has_the_code_that_it_has_over_rest() {
    let server = world(&ConfigOptions::default());
    let sign = |app, key: &str, user| user_sig::sign(app, &secret(key), user, now(), 3600, None);
    for (user, ticket, code) in [
        ("ann", ticket("ann", 3601), 70_001),
        ("ann", sign(APP, "another key", "ann"), 70_009),
        ("ann", sign(APP, &key_of(APP), "bob"), 70_013),
        ("ann", sign(OTHER_APP, &key_of(OTHER_APP), "ann"), 70_014),
        ("ann", "nonsense".to_owned(), 70_003),
        ("nobody", sign(APP, &key_of(APP), "nobody"), 70_107),
        ("ann", String::new(), 60_025),
        ("", sign(APP, &key_of(APP), ""), 60_025),
    ] {
        let mut client = LongClient::open(server.address);
        assert_eq!(client.log_in_with(user, &ticket)["ErrorCode"], code, "{user} {code}");
        // It is nobody's connection still, and may try again.
        let pull = json!({"GroupId": "g", "MsgSeq": 1});
        assert_eq!(client.call(command::PULL, &pull)["ErrorCode"], 60_025);
        client.log_in("ann");
    }
    for path in ["/info", "/info?sdkappid=7", "/info?sdkappid=x"] {
        let mut client = LongClient::connect(server.address, path);
        assert_eq!(client.log_in_with("ann", &ticket("ann", 0))["ErrorCode"], 70_020, "{path}");
    }
}

#[test]
fn logins_that_are_refused_again_and_again_end_the_connection() {
    let server = world(&ConfigOptions::default());
    let mut client = LongClient::open(server.address);
    for _ in 0..5 {
        assert_eq!(client.log_in_with("ann", "nonsense")["ErrorCode"], 70_003);
    }
    let closed = client.closed();
    assert_eq!((closed.code, &*closed.reason), (1008, "too many logins were refused"));
}

#[test]
fn a_token_brings_its_holder_back_without_a_name_and_after_a_crash() {
    let mut server = world(&ConfigOptions::default());
    let mut client = LongClient::logged_in(server.address, "ann");
    let (a2, tiny_id) = client.a2();
    // The old connection of the same instance gives way.
    let mut again = LongClient::open(server.address);
    assert_eq!(again.log_in_again(&a2, &tiny_id)["ErrorCode"], 0);
    assert_eq!(client.closed().code, 1000);
    sent(&mut again);

    server.kill9();
    server.restart();
    let mut again = LongClient::open(server.address);
    let answer = again.log_in_again(&a2, &tiny_id);
    assert_eq!((&answer["ErrorCode"], &answer["TinyId"]), (&json!(0), &json!(tiny_id)));
    sent(&mut again);
}

#[test]
fn a_token_that_is_not_ours_or_not_valid_any_more_is_refused() {
    let server = world(&ConfigOptions::default());
    let client = LongClient::logged_in(server.address, "cid");
    let (good, tiny_id) = client.a2();
    let tiny_id: &str = &tiny_id;
    let session = |expires_at| Session {
        app: AppId::new(APP),
        user: UserId::new("cid").unwrap(),
        tiny_id: TinyId::from_random(tiny_id.parse().unwrap()),
        instance: 7,
        expires_at,
    };
    let of_other_app = Session { app: AppId::new(OTHER_APP), ..session(u64::MAX) };
    for (token, number, code) in [
        (a2::seal(&session(now() - 1), &secret(&key_of(APP))), tiny_id, 70_001),
        (a2::seal(&session(u64::MAX), &secret("another key")), tiny_id, 70_001),
        (a2::seal(&of_other_app, &secret(&key_of(OTHER_APP))), tiny_id, 70_014),
        (good[1..].to_owned(), tiny_id, 70_003),
        (good.clone(), "1", 70_013),
    ] {
        let mut client = LongClient::open(server.address);
        assert_eq!(client.log_in_again(&token, number)["ErrorCode"], code, "{code}");
    }
    // An account that was deleted is nobody, and one that is imported again under its name is somebody else.
    let delete = json!({"DeleteItem": [{"UserID": "cid"}]});
    administrate(&server, "im_open_login_svc/account_delete", &delete);
    let mut client = LongClient::open(server.address);
    // In either case the client is to ask its user to log in again, which this code makes it do.
    assert_eq!(client.log_in_again(&good, tiny_id)["ErrorCode"], 70_001);
    administrate(&server, "im_open_login_svc/account_import", &json!({"UserID": "cid"}));
    assert_eq!(client.log_in_again(&good, tiny_id)["ErrorCode"], 70_001);
}

/// While keys are replaced both count, but a token must not outlive the key by which its holder got it.
#[test]
fn a_token_ends_with_the_key_that_its_ticket_was_signed_with() {
    let (app, old, new) = (1_400_000_077, "the key until yesterday", "the key from now on");
    let more = format!(
        "[[apps]]\nsdk_app_id = {app}\nsecret_key = \"{new}\"\nprevious_secret_keys = [\"{old}\"]\nadmins = [\"boss\"]"
    );
    let server = world(&ConfigOptions { more, ..ConfigOptions::default() });
    for key in [old, new] {
        let ticket = user_sig::sign(app, &secret(key), "boss", now(), 3600, None);
        let mut client = LongClient::connect(server.address, &format!("/info?sdkappid={app}"));
        let answer = client.log_in_with("boss", &ticket);
        let (a2, tiny_id) = (answer["A2Key"].as_str().unwrap(), answer["TinyId"].as_str().unwrap());
        // Coming back with the token does not make it a token of a newer key either.
        let again = client.log_in_again(a2, tiny_id);
        for token in [a2, again["A2Key"].as_str().unwrap()] {
            for known in [old, new] {
                let is_ours = a2::open(token, AppId::new(app), &[secret(known)], now()).is_ok();
                assert_eq!(is_ours, known == key, "signed with {key:?}, opened with {known:?}");
            }
        }
    }
}

#[test]
fn a_login_ends_with_its_ticket() {
    let server = world(&ConfigOptions::default());
    let mut client = LongClient::open(server.address);
    // A ticket with a few seconds left.
    assert_eq!(client.log_in_with("ann", &ticket("ann", 3598))["ErrorCode"], 0);
    let begun = Instant::now();
    let body = json!({"Member_Account": "ann"});
    let code = loop {
        let answer = client.call("group_open_http_svc.get_joined_group_list", &body);
        if answer["ErrorCode"] != 0 {
            break answer["ErrorCode"].clone();
        }
        assert!(begun.elapsed() < PATIENCE, "it never expires");
    };
    assert_eq!(code, 70_001);
    client.log_in("ann");
}

/// Whatever it asks for first, also a sign of life, and as often as it asks; and it is told nothing meanwhile.
#[test]
fn a_client_whose_login_has_expired_is_told_so_by_the_code_of_any_answer() {
    let server = world(&ConfigOptions::default());
    let mut ann = LongClient::logged_in(server.address, "ann");
    let mut bob = LongClient::open(server.address);
    assert_eq!(bob.log_in_with("bob", &ticket("bob", 3598))["ErrorCode"], 0);
    // It says nothing, so it is the server that ends the login, and its place is free then.
    let begun = Instant::now();
    while !server.get("/metrics").contains("sidenote_long_connection_logins 1\n") {
        assert!(begun.elapsed() < PATIENCE, "it never expires");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    sent(&mut ann);
    for servcmd in [command::ALIVE, "im_open_status.wshello", "imopenstat.tim_web_report_v2", command::PULL] {
        let answer = bob.call(servcmd, &json!({"GroupId": "g", "MsgSeq": 1}));
        assert_eq!(answer["ErrorCode"], 70_001, "{servcmd}");
    }
    bob.log_in("bob");
    assert_eq!(bob.events(), [json!(null); 0]);
    sent(&mut ann);
    assert_eq!(bob.event()["GroupMsgArray"][0]["MsgSeq"], 2);
}

/// rest-overview.md section 4: an account that is imported again under an old name is somebody else.
#[test]
fn a_deleted_account_is_kicked_and_told_nothing_of_whoever_has_its_name_then() {
    let server = world(&ConfigOptions::default());
    let mut ann = LongClient::logged_in(server.address, "ann");
    let mut old = [(); 2].map(|()| LongClient::logged_in(server.address, "bob"));
    administrate(&server, "im_open_login_svc/account_delete", &json!({"DeleteItem": [{"UserID": "bob"}]}));
    let kick = json!([{"KickoutMsgNotify": {"KickType": 3, "NewInstanceInfo": {}}}]);
    for client in &mut old {
        assert_eq!(client.event()["C2cNotifyMsgArray"], kick);
    }
    administrate(&server, "im_open_login_svc/account_import", &json!({"UserID": "bob"}));
    let mut new = LongClient::logged_in(server.address, "bob");
    let again = json!({"GroupId": "g", "MemberList": [{"Member_Account": "bob"}]});
    administrate(&server, "group_open_http_svc/add_group_member", &again);
    sent(&mut ann);
    let direct = json!({"From_Account": "ann", "To_Account": "bob", "MsgRandom": 1,
        "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "for the new one"}}]});
    administrate(&server, "openim/sendmsg", &direct);
    let mut told = [new.event(), new.event()];
    told.sort_by_key(|event| event["C2cMsgArray"].is_array());
    assert_eq!(told[0]["GroupMsgArray"][0]["MsgSeq"], 1);
    assert_eq!(told[1]["C2cMsgArray"][0]["From_Account"], "ann");
    for client in &mut old {
        assert_eq!(client.events(), [json!(null); 0]);
        assert_eq!(client.call(command::SEND, &message(1))["ErrorCode"], 60_025);
    }
}

#[test]
fn who_logs_out_is_told_nothing_more_and_may_log_in_as_somebody_else() {
    let server = world(&ConfigOptions::default());
    let mut ann = LongClient::logged_in(server.address, "ann");
    let mut bob = LongClient::logged_in(server.address, "bob");
    bob.ok(command::LOGOUT, &json!({"wslogout_type": 1}));
    sent(&mut ann);
    assert_eq!(bob.events(), [json!(null); 0]);
    assert_eq!(bob.call(command::SEND, &message(1))["ErrorCode"], 60_025);
    bob.log_in("ann");
    assert_eq!(bob.call(command::SEND, &message(2))["ErrorCode"], 0);
}

/// What waits for its turn is the request of whoever sent it, and of nobody who logs in meanwhile.
#[test]
fn requests_that_wait_end_with_the_login_that_they_came_with() {
    let server = world(&ConfigOptions::default());
    let mut client = LongClient::logged_in(server.address, "ann");
    let numbers: Vec<_> = (0..20).map(|random| client.send(command::SEND, &message(random))).collect();
    let head = json!({"servcmd": command::LOGIN, "seq": 1, "identifier": "bob", "usersig": ticket("bob", 0)});
    client.send_text(&json!({"head": head, "body": {}}).to_string());
    let later = client.send(command::SEND, &message(99));
    // The login is answered before requests that came before it.
    let mut codes = HashMap::new();
    while codes.len() < numbers.len() + 2 {
        let frame = client.frame().unwrap();
        if frame["head"]["servcmd"] != "im_open_push.msg_push" {
            codes
                .insert(frame["head"]["seq"].as_u64().unwrap(), frame["body"]["ErrorCode"].as_u64().unwrap());
        }
    }
    assert_eq!((codes[&1], codes[&later]), (0, 0));
    let sent = numbers.iter().filter(|number| codes[number] == 0).count();
    assert!(numbers.iter().all(|number| [0, 60_025].contains(&codes[number])), "{codes:?}");

    let history = json!({"GroupId": "g", "ReqMsgNumber": 21});
    let page = client.ok("group_open_http_svc.group_msg_get", &history);
    let senders: Vec<_> =
        page["RspMsgList"].as_array().unwrap().iter().map(|one| &one["From_Account"]).collect();
    let by = |user: &str| senders.iter().filter(|sender| **sender == user).count();
    assert_eq!((by("ann"), by("bob")), (sent, 1), "{senders:?}");
}

#[test]
fn whoever_logs_in_again_where_it_is_logged_in_takes_nobodys_place() {
    let more = "[long_connection]\nlogins_per_account = 2".to_owned();
    let server = world(&ConfigOptions { more, ..ConfigOptions::default() });
    let mut clients = [(); 2].map(|()| LongClient::logged_in(server.address, "bob"));
    let instance = clients[1].log_in("bob")["InstId"].clone();
    assert_eq!(clients[1].log_in("bob")["InstId"], instance);
    let mut ann = LongClient::logged_in(server.address, "ann");
    sent(&mut ann);
    for client in &mut clients {
        assert_eq!(client.event()["GroupMsgArray"][0]["From_Account"], "ann");
    }
}

#[test]
fn one_login_too_many_kicks_the_oldest() {
    let more = "[long_connection]\nlogins_per_account = 2".to_owned();
    let server = world(&ConfigOptions { more, ..ConfigOptions::default() });
    let [mut first, mut second] = [(); 2].map(|()| LongClient::logged_in(server.address, "bob"));
    let mut third = LongClient::logged_in(server.address, "bob");
    let kick = json!([{"KickoutMsgNotify": {"KickType": 1, "NewInstanceInfo": {}}}]);
    assert_eq!(first.event()["C2cNotifyMsgArray"], kick);
    // Its client logs out then, and is told nothing more.
    first.ok(command::LOGOUT, &json!({"wslogout_type": 1}));
    let mut ann = LongClient::logged_in(server.address, "ann");
    sent(&mut ann);
    assert_eq!(first.events(), [json!(null); 0]);
    for client in [&mut second, &mut third] {
        assert_eq!(client.event()["GroupMsgArray"][0]["From_Account"], "ann");
    }
    assert!(server.get("/metrics").contains("sidenote_long_connection_logins 3\n"));
}
