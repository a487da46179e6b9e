//! Bodies of all kinds, each with its code; nothing written, and the server lives.

use std::io::Write as _;

use crate::world::{World, target};

const SET: &str = "openim_msg_ext_http_svc/group_set_key_values";

async fn world_with_a_poll() -> World {
    let world = World::new().await;
    world.ok("im_open_login_svc/multiaccount_import", r#"{"Accounts":["ann"]}"#).await;
    world
        .ok(
            "group_open_http_svc/create_group",
            r#"{"GroupId":"g","Type":"Public","Name":"g","Owner_Account":"ann"}"#,
        )
        .await;
    world
        .ok(
            "group_open_http_svc/send_group_msg",
            r#"{"GroupId":"g","Random":1,"SupportMessageExtension":1,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"?"}}]}"#,
        )
        .await;
    world
}

#[tokio::test]
async fn what_is_not_one_json_object_is_60003() {
    let world = world_with_a_poll().await;
    let before = world.store.row_count();
    let deep = format!("{{\"GroupId\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(br#"{"GroupId":"g","MsgSeq":1,"OperateType":3}"#).unwrap();
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("empty", b"".to_vec()),
        ("white space", b"  \n".to_vec()),
        ("not JSON", b"GroupId=g".to_vec()),
        ("an array", b"[]".to_vec()),
        ("a string", b"\"{}\"".to_vec()),
        ("truncated", br#"{"GroupId":"g","MsgSeq":1,"Opera"#.to_vec()),
        ("two documents", br#"{"GroupId":"g","MsgSeq":1,"OperateType":3}{}"#.to_vec()),
        ("not UTF-8", b"{\"GroupId\":\"g\xff\",\"MsgSeq\":1,\"OperateType\":3}".to_vec()),
        ("a lone surrogate", br#"{"GroupId":"g\ud800","MsgSeq":1,"OperateType":3}"#.to_vec()),
        ("a name twice", br#"{"GroupId":"g","MsgSeq":1,"MsgSeq":1,"OperateType":3}"#.to_vec()),
        ("two commas", br#"{"GroupId":"g","MsgSeq":1,"OperateType":3,,}"#.to_vec()),
        ("10,000 deep", deep.into_bytes()),
        ("gzip without saying so", gzip.finish().unwrap()),
    ];
    for (what, body) in rows {
        let answer = world.call("administrator", SET, body).await;
        assert_eq!(answer.code(), 60_003, "{what}: {}", answer.body);
    }
    let gzip =
        world.request("POST", &target("administrator", SET), "Content-Encoding: gzip\r\n", b"whatever").await;
    assert_eq!(gzip.code(), 60_003);
    assert!(gzip.body.contains("compressed"));
    assert_eq!(world.store.row_count(), before, "nothing was written");
    assert_eq!(
        world.call("administrator", SET, r#"{"GroupId":"g","MsgSeq":1,"OperateType":3}"#).await.code(),
        0
    );
    world.stop().await;
}

#[tokio::test]
async fn a_parameter_that_is_wrong_is_10004_with_its_name() {
    let world = world_with_a_poll().await;
    let before = world.store.row_count();
    let set = |list: &str| format!(r#"{{"GroupId":"g","MsgSeq":1,"OperateType":1,"ExtensionList":{list}}}"#);
    let seq = |seq: &str| format!(r#"{{"GroupId":"g","MsgSeq":{seq},"OperateType":3}}"#);
    let pairs = |count: usize| {
        let pairs: Vec<_> = (0..count).map(|n| format!(r#"{{"Key":"k{n}","Value":"v","Seq":0}}"#)).collect();
        format!("[{}]", pairs.join(","))
    };
    let key = |key: &str| format!(r#"[{{"Key":{key},"Value":"v","Seq":0}}]"#);
    let value = |value: &str| format!(r#"[{{"Key":"k","Value":{value},"Seq":0}}]"#);
    let digits = "9".repeat(400);
    let rows = [
        (seq("\"1\""), "MsgSeq"),
        (seq("-1"), "MsgSeq"),
        (seq("0"), "MsgSeq"),
        (seq("1.5"), "MsgSeq"),
        (seq("158.0"), "MsgSeq"),
        (seq("1e2"), "MsgSeq"),
        (seq("true"), "MsgSeq"),
        (seq("null"), "MsgSeq"),
        (seq("9007199254740992"), "MsgSeq"),
        (seq(&digits), "MsgSeq"),
        (r#"{"GroupId":"g","OperateType":3}"#.to_owned(), "MsgSeq"),
        (r#"{"MsgSeq":1,"OperateType":3}"#.to_owned(), "GroupId"),
        (r#"{"GroupId":7,"MsgSeq":1,"OperateType":3}"#.to_owned(), "GroupId"),
        (r#"{"GroupId":"g","MsgSeq":1}"#.to_owned(), "OperateType"),
        (r#"{"GroupId":"g","MsgSeq":1,"OperateType":0}"#.to_owned(), "OperateType"),
        (r#"{"GroupId":"g","MsgSeq":1,"OperateType":4}"#.to_owned(), "OperateType"),
        (r#"{"GroupId":"g","MsgSeq":1,"OperateType":"1"}"#.to_owned(), "OperateType"),
        (r#"{"GroupId":"g","MsgSeq":1,"OperateType":1}"#.to_owned(), "ExtensionList"),
        (r#"{"GroupId":"g","MsgSeq":1,"OperateType":2}"#.to_owned(), "ExtensionList"),
        (r#"{"GroupId":"g","TopicId":"t","MsgSeq":1,"OperateType":3}"#.to_owned(), "TopicId"),
        (set("{}"), "ExtensionList"),
        (set("[]"), "ExtensionList"),
        (set("null"), "ExtensionList"),
        (set("[7]"), "ExtensionList[0]"),
        (set(&pairs(21)), "ExtensionList"),
        (set(r#"[{"Value":"v","Seq":0}]"#), "ExtensionList[0].Key"),
        (set(r#"[{"Key":"k","Seq":0}]"#), "ExtensionList[0].Value"),
        (set(r#"[{"Key":"k","Value":"v"}]"#), "ExtensionList[0].Seq"),
        (set(r#"[{"Key":"k","Value":"v","Seq":-1}]"#), "ExtensionList[0].Seq"),
        (set(r#"[{"Key":"k","Value":"v","Seq":"0"}]"#), "ExtensionList[0].Seq"),
        (set(r#"[{"Key":"k","Value":"v","Seq":0.0}]"#), "ExtensionList[0].Seq"),
        (set(&format!(r#"[{{"Key":"k","Value":"v","Seq":{digits}}}]"#)), "ExtensionList[0].Seq"),
        (set(r#"[{"Key":"k","Value":"v","Seq":0},{"Key":"k","Value":"w","Seq":0}]"#), "ExtensionList"),
        (set(&key("7")), "ExtensionList[0].Key"),
        (set(&key("\"\"")), "ExtensionList[0].Key"),
        (set(&key(&format!("\"{}\"", "k".repeat(101)))), "ExtensionList[0].Key"),
        (set(&key(&format!("\"{}x\"", "😀".repeat(25)))), "ExtensionList[0].Key"),
        (set(&value("7")), "ExtensionList[0].Value"),
        (set(&value("[]")), "ExtensionList[0].Value"),
        (set(&value("\"\"")), "ExtensionList[0].Value"),
        (set(&value(&format!("\"{}\"", "v".repeat(1001)))), "ExtensionList[0].Value"),
        (set(&value(&format!("\"{}y\"", "😀".repeat(250)))), "ExtensionList[0].Value"),
    ];
    for (body, field) in rows {
        let answer = world.call("ann", SET, &body).await;
        assert_eq!(answer.code(), 10_004, "{body}: {}", answer.body);
        let info = answer.json()["ErrorInfo"].as_str().unwrap().to_owned();
        assert!(info.starts_with(&format!("{field} ")), "{body}: {info}");
    }
    assert_eq!(world.store.row_count(), before, "nothing was written");
    world.stop().await;
}

#[tokio::test]
async fn what_is_at_the_limit_or_merely_odd_is_taken() {
    let world = world_with_a_poll().await;
    let pairs: Vec<_> = (0..20).map(|n| format!(r#"{{"Key":"k{n}","Value":"v","Seq":0}}"#)).collect();
    let rows = [
        pairs.join(","),
        format!(r#"{{"Key":"{}","Value":"{}","Seq":0}}"#, "a".repeat(100), "v".repeat(1000)),
        format!(r#"{{"Key":"{}","Value":"{}","Seq":0}}"#, "😀".repeat(25), "😀".repeat(250)),
        r#"{"Key":"nul\u0000","Value":"\u0000","Seq":0}"#.to_owned(),
        r#"{"Key":" ","Value":" ","Seq":0,"Unknown":[{}]}"#.to_owned(),
    ];
    for list in rows {
        let body = format!(
            r#"{{"GroupId":"g","MsgSeq":1,"OperateType":1,"Unknown":{{"a":[1]}},"ExtensionList":[{list}]}}"#
        );
        let answer = world.call("ann", SET, &body).await;
        assert_eq!(answer.code(), 0, "{body}");
        for item in answer.json()["ExtensionList"].as_array().unwrap() {
            assert_eq!(item["ErrorCode"], 0);
        }
    }
    let pulled = world
        .call("ann", "openim_msg_ext_http_svc/group_get_key_values", r#"{"GroupId":"g","MsgSeq":1}"#)
        .await
        .json();
    assert_eq!(pulled["ExtensionList"].as_array().unwrap().len(), 24);
    assert!(pulled["ExtensionList"].as_array().unwrap().iter().any(|pair| pair["Key"] == "nul\0"));
    world.stop().await;
}
