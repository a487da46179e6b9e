//! What clients are told, in which order, and who is told nothing.

use std::thread;

use serde_json::{Value, json};
use sidenote_torture::long::{LongClient, command};

use super::{administrate, message, sent, set, world};
use crate::server::{APP, ConfigOptions};

#[test]
fn every_member_is_told_of_messages_and_changes_wherever_they_come_from() {
    let server = world(&ConfigOptions::default());
    let mut ann = LongClient::logged_in(server.address, "ann");
    let mut ann_elsewhere =
        LongClient::connect(server.address, &format!("/binfo?sdkappid={APP}&compress=gzip"));
    ann_elsewhere.log_in("ann");
    let mut bob = LongClient::logged_in(server.address, "bob");
    let mut cid = LongClient::logged_in(server.address, "cid");

    let answer = ann.ok(command::SEND, &message(77));
    let seq = answer["MsgSeq"].as_u64().unwrap();
    for client in [&mut bob, &mut ann_elsewhere] {
        let event = client.event();
        let message = &event["GroupMsgArray"][0];
        let id = (&message["TinyId"], &message["MsgClientTime"], &message["MsgRandom"]);
        assert_eq!(id, (&json!(ann.a2().1), &json!(1_700_000_000), &json!(77)));
        assert_eq!((&message["MsgSeq"], &message["GroupInfo"]["GroupId"]), (&json!(seq), &json!("g")));
        assert_eq!(message["SupportMessageExtension"], 1);
    }

    bob.ok(command::SET, &set(seq, &[("a", "1", 0)]));
    let body = set(seq, &[("b", "2", 0)]).to_string();
    let answer = server.post("administrator", "openim_msg_ext_http_svc/group_set_key_values", &body);
    assert_eq!(answer["Seq"], 2, "{answer}");
    bob.ok(
        command::SET,
        &json!({"GroupId": "g", "MsgSeq": seq, "OperateType": 2, "ExtensionList": [{"Key": "a", "Seq": 1}]}),
    );
    bob.ok(command::SET, &json!({"GroupId": "g", "MsgSeq": seq, "OperateType": 3}));
    for client in [&mut ann, &mut ann_elsewhere] {
        let told: Vec<Value> = (0..4).map(|_| client.event()["MsgExtensionNotify"].take()).collect();
        let kinds: Vec<_> = told.iter().map(|told| (&told["MsgOptType"], &told["MsgLastSeq"])).collect();
        assert_eq!(json!(kinds), json!([[1, 1], [1, 2], [2, 3], [3, 4]]));
        let pairs = |place: usize, info: &str| told[place][info][0]["MsgKeyValue"].clone();
        assert_eq!(pairs(0, "SetKVInfo"), json!([{"Key": "a", "Value": "1", "Seq": 1}]));
        assert_eq!(pairs(1, "SetKVInfo"), json!([{"Key": "b", "Value": "2", "Seq": 2}]));
        assert_eq!(pairs(2, "DeleteKVInfo"), json!([{"Key": "a", "Value": "", "Seq": 3}]));
        assert_eq!(told[3]["ClearKVInfo"][0]["ClearMsgSeq"], 4);
        // It names the message by the number of its sender, not of the operator.
        assert!(told.iter().all(|told| told["TinyId"] == json!(client.a2().1)));
    }
    // An account is not told on the very connection what it has done there itself, but of all others.
    assert_eq!(bob.event()["MsgExtensionNotify"]["MsgLastSeq"], 2);
    // A clear he is told of, because his client drops what it holds only when a push says so.
    assert_eq!(bob.event()["MsgExtensionNotify"]["MsgLastSeq"], 4);
    assert_eq!((bob.events(), ann.events()), (Vec::new(), Vec::new()));
    // Who is no member is told nothing.
    assert_eq!(cid.events(), [json!(null); 0]);
}

#[test]
fn a_change_that_was_refused_is_told_to_nobody() {
    let server = world(&ConfigOptions::default());
    let mut ann = LongClient::logged_in(server.address, "ann");
    let seq = sent(&mut ann);
    let mut bob = LongClient::logged_in(server.address, "bob");
    let answer = ann.ok(command::SET, &set(seq, &[("a", "1", 7)]));
    assert_eq!(answer["ExtensionList"][0]["ErrorCode"], 23_001);
    ann.ok(command::SET, &set(seq, &[("a", "1", 0)]));
    assert_eq!(bob.event()["MsgExtensionNotify"]["MsgLastSeq"], 1);
    assert_eq!(bob.events(), [json!(null); 0]);
}

#[test]
fn removed_members_are_told_nothing_from_the_removal_on() {
    let server = world(&ConfigOptions::default());
    let mut ann = LongClient::logged_in(server.address, "ann");
    let mut bob = LongClient::logged_in(server.address, "bob");
    let seq = sent(&mut ann);
    bob.event();
    let member = json!({"GroupId": "g", "MemberToDel_Account": ["bob"]});
    administrate(&server, "group_open_http_svc/delete_group_member", &member);
    ann.ok(command::SET, &set(seq, &[("secret", "1", 0)]));
    sent(&mut ann);
    // He comes back, and is told what happens from then on.
    let member = json!({"GroupId": "g", "MemberList": [{"Member_Account": "bob"}]});
    administrate(&server, "group_open_http_svc/add_group_member", &member);
    ann.ok(command::SET, &set(seq, &[("open", "1", 0)]));
    assert_eq!(bob.event()["MsgExtensionNotify"]["SetKVInfo"][0]["MsgKeyValue"][0]["Key"], "open");
    assert_eq!(bob.events(), [json!(null); 0]);
}

#[test]
fn a_message_for_some_is_told_to_these() {
    let server = world(&ConfigOptions::default());
    let add = json!({"GroupId": "g", "MemberList": [{"Member_Account": "cid"}]});
    administrate(&server, "group_open_http_svc/add_group_member", &add);
    let mut bob = LongClient::logged_in(server.address, "bob");
    let mut cid = LongClient::logged_in(server.address, "cid");
    let mut to_cid = message(1);
    to_cid["From_Account"] = json!("ann");
    to_cid["To_Account"] = json!(["cid"]);
    let seq = administrate(&server, "group_open_http_svc/send_group_msg", &to_cid)["MsgSeq"].clone();
    assert_eq!(cid.event()["GroupMsgArray"][0]["MsgSeq"], seq);
    assert_eq!(bob.events(), [json!(null); 0]);
    let history = json!({"GroupId": "g", "ReqMsgNumber": 21});
    for (client, count) in [(&mut cid, 1), (&mut bob, 0)] {
        let page = client.ok("group_open_http_svc.group_msg_get", &history);
        assert_eq!(page["RspMsgList"].as_array().unwrap().len(), count);
    }
}

#[test]
fn one_to_one_messages_and_their_pairs_are_told_to_both_sides() {
    let server = world(&ConfigOptions::default());
    let mut ann = LongClient::logged_in(server.address, "ann");
    let mut ann_elsewhere = LongClient::logged_in(server.address, "ann");
    let mut bob = LongClient::logged_in(server.address, "bob");
    let mut cid = LongClient::logged_in(server.address, "cid");

    let body = json!({"To_Account": "bob", "MsgRandom": 77, "MsgSeq": 5, "MsgClientTime": 1_700_000_000,
        "SupportMessageExtension": 1,
        "MsgBody": [{"MsgType": "TIMCustomElem", "MsgContent": {"Data": "poll", "Desc": "", "Ext": ""}}]});
    let anns_number = ann.a2().1;
    let key = ann.ok(command::DIRECT_SEND, &body)["MsgKey"].clone();
    for client in [&mut bob, &mut ann_elsewhere] {
        let event = client.event();
        let message = &event["C2cMsgArray"][0];
        let id = (&message["TinyId"], &message["MsgClientTime"], &message["MsgRandom"]);
        assert_eq!(id, (&json!(anns_number), &json!(1_700_000_000), &json!(77)));
        assert_eq!((&message["From_Account"], &message["To_Account"]), (&json!("ann"), &json!("bob")));
        assert_eq!((&message["MsgKey"], &message["SupportMessageExtension"]), (&key, &json!(1)));
    }
    let change = |pair: &str, seq| {
        json!({"From_Account": "ann", "To_Account": "bob", "MsgKey": key, "OperateType": 1,
            "ExtensionList": [{"Key": pair, "Value": "1", "Seq": seq}]})
    };
    assert_eq!(bob.ok(command::DIRECT_SET, &change("a", 0))["Seq"], 1);
    assert_eq!(ann.ok(command::DIRECT_SET, &change("b", 0))["Seq"], 2);
    let told = |client: &mut LongClient| client.event()["MsgExtensionNotify"].take();
    for (client, numbers) in [(&mut bob, &[2][..]), (&mut ann, &[1][..]), (&mut ann_elsewhere, &[1, 2][..])] {
        for number in numbers {
            let told = told(client);
            assert_eq!((&told["TinyId"], &told["MsgLastSeq"]), (&json!(anns_number), &json!(number)));
            let info = &told["ExtensionC2cMsgInfo"];
            assert_eq!((&info["From_Account"], &info["To_Account"]), (&json!("ann"), &json!("bob")));
            assert_eq!((&info["MsgKey"], &info["MsgRandom"]), (&key, &json!(77)));
        }
    }
    let pull = json!({"From_Account": "ann", "To_Account": "bob", "MsgKey": key});
    let pulled = bob.ok(command::DIRECT_PULL, &pull);
    assert_eq!((&pulled["LatestSeq"], &pulled["CompleteFlag"]), (&json!(2), &json!(1)));

    // Nobody else is told, reads, writes, or speaks for them.
    assert_eq!(cid.events(), [json!(null); 0]);
    let mut for_ann = body.clone();
    for_ann["From_Account"] = json!("ann");
    for (servcmd, body) in [
        (command::DIRECT_PULL, &pull),
        (command::DIRECT_SET, &change("c", 0)),
        (command::DIRECT_SEND, &for_ann),
    ] {
        assert_eq!(cid.call(servcmd, body)["ErrorCode"], 20_003, "{servcmd}");
    }
    for client in [&mut ann, &mut ann_elsewhere, &mut bob] {
        assert_eq!(client.events(), [json!(null); 0]);
    }
}

#[test]
fn a_push_is_sent_again_until_it_is_acknowledged() {
    let server = world(&ConfigOptions::default());
    let mut ann = LongClient::logged_in(server.address, "ann");
    let mut bob = LongClient::logged_in(server.address, "bob");
    bob.acknowledges = false;
    let seq = sent(&mut ann);
    let first = bob.frame().unwrap();
    assert_eq!(first["body"]["EventArray"][0]["GroupMsgArray"][0]["MsgSeq"], seq);
    // The same frame comes again, and not a third time once it was acknowledged.
    assert_eq!(bob.frame().unwrap(), first);
    bob.send(command::ACKNOWLEDGE, &json!({"SessionData": first["body"]["SessionData"]}));
    ann.ok(command::SET, &set(seq, &[("a", "1", 0)]));
    let second = bob.frame().unwrap();
    assert_eq!(second["body"]["EventArray"][0]["MsgExtensionNotify"]["MsgLastSeq"], 1);
    assert_eq!(bob.frame().unwrap(), second);
}

/// What may be its own echo is held back while a request is under way, which must not fill the mailbox.
#[test]
fn connections_of_one_account_that_send_without_a_pause_hear_each_other() {
    const CONNECTIONS: usize = 10;
    const MESSAGES: usize = 80;
    let server = world(&ConfigOptions::default());
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| LongClient::logged_in(server.address, "ann")).collect();
    thread::scope(|scope| {
        for mut client in clients {
            scope.spawn(move || {
                let numbers: Vec<_> =
                    (0..MESSAGES).map(|_| client.send(command::SEND, &message(rand::random()))).collect();
                let mut own: Vec<_> = numbers
                    .into_iter()
                    .map(|number| client.answer_to(command::SEND, number)["MsgSeq"].as_u64().unwrap())
                    .collect();
                let others = MESSAGES * (CONNECTIONS - 1);
                let told: Vec<_> = (0..others)
                    .map(|_| client.event()["GroupMsgArray"][0]["MsgSeq"].as_u64().unwrap())
                    .collect();
                assert!(told.is_sorted());
                own.extend(told);
                own.sort_unstable();
                assert_eq!(own, (1..=(MESSAGES * CONNECTIONS) as u64).collect::<Vec<_>>(), "each once");
            });
        }
    });
}

#[test]
fn changes_of_many_writers_come_to_everybody_in_one_order() {
    const WRITERS: usize = 4;
    const CHANGES: u64 = 25;
    let server =
        world(&ConfigOptions { limits: "attempts_per_minute = 0".to_owned(), ..ConfigOptions::default() });
    let mut ann = LongClient::logged_in(server.address, "ann");
    let seq = sent(&mut ann);
    let mut readers = [(); 3].map(|()| LongClient::logged_in(server.address, "bob"));
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let address = server.address;
            scope.spawn(move || {
                let mut writer_client = LongClient::logged_in(address, "ann");
                for number in 0..CHANGES {
                    // Its own key, so that its claims are right. What it is told itself is not looked at.
                    let key = format!("w{writer}-{number}");
                    writer_client.ok(command::SET, &set(seq, &[(&key, "v", 0)]));
                }
            });
        }
    });
    let total = u64::try_from(WRITERS).unwrap() * CHANGES;
    for reader in &mut readers {
        for expected in 1..=total {
            assert_eq!(reader.event()["MsgExtensionNotify"]["MsgLastSeq"], expected);
        }
    }
}
