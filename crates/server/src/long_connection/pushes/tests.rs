use serde_json::json;
use sidenote_core::event::Operator;
use sidenote_core::extension::{Key, Seq};
use sidenote_core::ids::{EventNumber, Timestamp, TinyId, UserId};

use super::*;

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn pushed(what: Happening, body: Option<&MessageBody>) -> Option<serde_json::Value> {
    let event = Event {
        number: EventNumber::new(0x1f),
        at: Timestamp::from_secs(1),
        operator: Operator::server(user("bob")),
        what,
    };
    let group = Conversation::Group(GroupId::new("g").unwrap());
    let push = of_event(&group, &[], &event, body, PushName { incarnation: 0xab, event: 0x1f })?;
    Some(serde_json::from_slice(&push).unwrap())
}

/// The one event in a push that asks for its acknowledgement.
fn told(push: &serde_json::Value) -> &serde_json::Value {
    assert_eq!(push["head"]["servcmd"], "im_open_push.msg_push");
    assert_eq!((&push["body"]["NeedAck"], &push["body"]["SessionData"]), (&json!(1), &json!("ab-1f")));
    assert_eq!(push["body"]["EventArray"].as_array().unwrap().len(), 1);
    &push["body"]["EventArray"][0]
}

fn message(imported: bool) -> Message {
    Message {
        sender: user("ann"),
        sender_tiny_id: TinyId::from_random(0x7fff_ffff_ffff_ffff),
        random: 4_294_967_295,
        client_time: 1_700_000_000,
        sent_at: Timestamp::from_millis(1_700_000_001_999),
        priority: Priority::Normal,
        supports_extension: true,
        imported,
        recalled: false,
    }
}

fn body(cloud_custom_data: &str) -> MessageBody {
    MessageBody {
        elements: r#"[{"MsgType":"TIMCustomElem","MsgContent":{"Data":"d"}}]"#.to_owned(),
        cloud_custom_data: cloud_custom_data.to_owned(),
        further: String::new(),
    }
}

#[test]
fn a_message_comes_with_all_that_its_id_is_made_of() {
    let seq = MsgSeq::new(7).unwrap();
    let push = pushed(Happening::MessageSent { seq, message: message(false) }, Some(&body(""))).unwrap();
    assert_eq!(
        told(&push),
        &json!({"Event": 3, "GroupMsgArray": [{
            "From_Account": "ann", "ToGroupId": "g", "TinyId": "9223372036854775807", "MsgSeq": 7,
            "MsgRandom": 4_294_967_295_u32, "MsgClientTime": 1_700_000_000, "MsgTime": 1_700_000_001,
            "MsgPriority": "Normal", "SupportMessageExtension": 1,
            "MsgBody": [{"MsgType": "TIMCustomElem", "MsgContent": {"Data": "d"}}],
            "GroupInfo": {"GroupId": "g"},
        }]})
    );
    let push = Happening::TransientMessage { message: message(false), body: body("cloud") };
    let push = pushed(push, None).unwrap();
    let transient = &told(&push)["GroupMsgArray"][0];
    assert_eq!((&transient["MsgSeq"], &transient["CloudCustomData"]), (&json!(0), &json!("cloud")));
}

/// The push of something between ann, whose number is 5, and zoe.
fn pushed_to_both(what: Happening, body: Option<&MessageBody>) -> Option<serde_json::Value> {
    let (number, operator) = (EventNumber::new(0x1f), Operator::server(user("zoe")));
    let event = Event { number, at: Timestamp::from_secs(1), operator, what };
    let two = Conversation::between(user("zoe"), user("ann"));
    let people = [(user("ann"), TinyId::from_random(5)), (user("zoe"), TinyId::from_random(6))];
    let push = of_event(&two, &people, &event, body, PushName { incarnation: 0xab, event: 0x1f })?;
    Some(serde_json::from_slice(&push).unwrap())
}

#[test]
fn a_one_to_one_message_looks_like_that_of_a_group_and_names_both_accounts() {
    let key = MsgKey { seq: 3, random: 4, time: 1_700_000_002 };
    let push =
        pushed_to_both(Happening::DirectSent { key, message: message(false) }, Some(&body(""))).unwrap();
    assert_eq!(
        told(&push),
        &json!({"Event": 3, "C2cMsgArray": [{
            "From_Account": "ann", "To_Account": "zoe", "TinyId": "9223372036854775807",
            "MsgKey": "3_4_1700000002", "MsgSeq": 3, "MsgRandom": 4, "MsgClientTime": 1_700_000_000,
            "MsgTimeStamp": 1_700_000_002, "MsgTime": 1_700_000_002, "SupportMessageExtension": 1,
            "MsgBody": [{"MsgType": "TIMCustomElem", "MsgContent": {"Data": "d"}}],
        }]})
    );
    let from_zoe = Message { sender: user("zoe"), ..message(false) };
    let push =
        pushed_to_both(Happening::DirectTransient { key, message: from_zoe, body: body("cloud") }, None)
            .unwrap();
    let transient = &told(&push)["C2cMsgArray"][0];
    assert_eq!((&transient["To_Account"], &transient["CloudCustomData"]), (&json!("ann"), &json!("cloud")));
    assert_eq!(pushed_to_both(Happening::DirectSent { key, message: message(false) }, None), None);
    assert_eq!(pushed_to_both(Happening::DirectRecalled { key }, None), None);
}

#[test]
fn a_change_of_a_one_to_one_message_names_it_by_its_key_and_both_accounts() {
    let Happening::Extension(change) = change(Operation::Set, &[("a", Some("1"), 4)], 4, 2) else { panic!() };
    let key = MsgKey { seq: 3, random: 9, time: 1_700_000_002 };
    let change = ExtensionChange { message: MessageName::Key(key), ..change };
    let push = pushed_to_both(Happening::Extension(change.clone()), None).unwrap();
    assert_eq!(
        told(&push),
        &json!({"Event": 3, "MsgExtensionNotify": {
            "TinyId": "5", "MsgOptType": 1, "MsgLastSeq": 4,
            "ExtensionC2cMsgInfo": {"From_Account": "ann", "To_Account": "zoe", "MsgKey": "3_9_1700000002",
                "MsgSeq": 3, "MsgClientTime": 1_700_000_000, "MsgRandom": 9},
            "SetKVInfo": [{"MsgKeyValue": [{"Key": "a", "Value": "1", "Seq": 4}], "ClearMsgSeq": 2}],
        }})
    );
    // Nobody of the conversation has the sender's number.
    let change = ExtensionChange { sender_tiny_id: TinyId::from_random(7), ..change };
    assert_eq!(pushed_to_both(Happening::Extension(change), None), None);
}

#[test]
fn what_clients_are_not_told_has_no_push() {
    let seq = MsgSeq::new(7).unwrap();
    let imported = Happening::MessageSent { seq, message: message(true) };
    assert_eq!(pushed(imported, Some(&body(""))), None);
    // It was recalled before it was told.
    assert_eq!(pushed(Happening::MessageSent { seq, message: message(false) }, None), None);
    // Somebody on the broker who is no server says that it happened.
    let rubbish = MessageBody { elements: "[{".to_owned(), ..body("") };
    let transient = Happening::TransientMessage { message: message(false), body: rubbish.clone() };
    assert_eq!(pushed(transient, None), None);
    let key = MsgKey { seq: 1, random: 2, time: 3 };
    let transient = Happening::DirectTransient { key, message: message(false), body: rubbish };
    assert_eq!(pushed_to_both(transient, None), None);
    for what in [
        Happening::GroupChanged,
        Happening::GroupDestroyed,
        Happening::MembersLeft { users: vec![user("ann")], reason: String::new() },
        Happening::MessagesRecalled { seqs: vec![seq], reason: String::new() },
    ] {
        assert_eq!(pushed(what, None), None);
    }
}

fn change(operation: Operation, pairs: &[(&str, Option<&str>, u64)], latest: u64, clear: u64) -> Happening {
    let seq = |number| Seq::new(number).unwrap();
    let pair = |(key, value, number): &(&str, Option<&str>, u64)| ChangedPair {
        key: Key::new(key).unwrap(),
        value: value.map(|value| Value::new(value).unwrap()),
        seq: seq(*number),
        previous: None,
    };
    Happening::Extension(ExtensionChange {
        message: MessageName::Seq(MsgSeq::new(7).unwrap()),
        sender_tiny_id: TinyId::from_random(5),
        client_time: 1_700_000_000,
        random: 9,
        operation,
        compaction: false,
        pairs: pairs.iter().map(pair).collect(),
        latest: seq(latest),
        clear: seq(clear),
    })
}

#[test]
fn a_change_names_the_message_by_its_sender_and_the_pairs_by_their_numbers() {
    let info = json!({"GroupId": "g", "MsgSeq": 7, "MsgClientTime": 1_700_000_000, "MsgRandom": 9});
    let push =
        pushed(change(Operation::Set, &[("a", Some("1"), 4), ("b", Some("2"), 4)], 4, 2), None).unwrap();
    assert_eq!(
        told(&push),
        &json!({"Event": 3, "MsgExtensionNotify": {
            "TinyId": "5", "MsgOptType": 1, "MsgLastSeq": 4, "ExtensionGroupMsgInfo": info,
            "SetKVInfo": [{"MsgKeyValue": [{"Key": "a", "Value": "1", "Seq": 4}, {"Key": "b", "Value": "2", "Seq": 4}],
                "ClearMsgSeq": 2}],
        }})
    );
    let push = pushed(change(Operation::Delete, &[("a", None, 5)], 5, 0), None).unwrap();
    assert_eq!(
        told(&push)["MsgExtensionNotify"],
        json!({"TinyId": "5", "MsgOptType": 2, "MsgLastSeq": 5, "ExtensionGroupMsgInfo": info,
            "DeleteKVInfo": [{"MsgKeyValue": [{"Key": "a", "Value": "", "Seq": 5}], "ClearMsgSeq": 0}]})
    );
    // With pairs or, in a compaction, without them.
    for pairs in [&[("a", None, 6)][..], &[]] {
        let push = pushed(change(Operation::Clear, pairs, 6, 6), None).unwrap();
        assert_eq!(
            told(&push)["MsgExtensionNotify"],
            json!({"TinyId": "5", "MsgOptType": 3, "MsgLastSeq": 6, "ExtensionGroupMsgInfo": info,
                "ClearKVInfo": [{"MsgKeyValue": [], "ClearMsgSeq": 6}]})
        );
    }
    assert_eq!(pushed(change(Operation::Set, &[], 4, 0), None), None);
}

#[test]
fn a_kick_wants_no_acknowledgement() {
    let push: serde_json::Value = serde_json::from_slice(&kick(Kick::OtherLogin)).unwrap();
    assert_eq!(
        push["body"],
        json!({"EventArray": [{"Event": 3, "C2cNotifyMsgArray": [
            {"KickoutMsgNotify": {"KickType": 1, "NewInstanceInfo": {}}}]}], "IsInstantMessage": 1})
    );
}
