use serde_json::{Value, json};
use sidenote_core::event::CallerKind;

use crate::api::testing::World;

const ROAM: &str = "admin_getroammsg";

async fn world() -> World {
    let world = World::new().await;
    world.import_accounts(&["user1", "user2", "eve"]).await;
    world
}

/// One of the two writes the other a text.
async fn say(world: &World, from: u8, seq: u32, text: &str) -> String {
    let to = 3 - from;
    let body = format!(
        r#"{{"From_Account":"user{from}","To_Account":"user{to}","MsgSeq":{seq},"MsgRandom":{seq},
            "MsgBody":[{{"MsgType":"TIMTextElem","MsgContent":{{"Text":"{text}"}}}}]}}"#
    );
    world.ok("sendmsg", &body).await["MsgKey"].as_str().unwrap().to_owned()
}

fn ask(count: u32, from: u64, to: u64, last: &str) -> String {
    format!(
        r#"{{"Operator_Account":"user1","Peer_Account":"user2","MaxCnt":{count},"MinTime":{from},"MaxTime":{to},
            "LastMsgKey":"{last}"}}"#
    )
}

fn texts(answer: &Value) -> Vec<&str> {
    let list = answer["MsgList"].as_array().unwrap();
    let texts = list.iter().map(|item| item["MsgBody"][0]["MsgContent"]["Text"].as_str().unwrap_or("-"));
    texts.collect()
}

#[tokio::test]
async fn the_documented_sample() {
    let mut world = world().await;
    world.now = 1_584_669_680;
    let body = r#"{"From_Account":"user2","To_Account":"user1","MsgSeq":549396494,"MsgRandom":2578554,
        "CloudCustomData":"your cloud custom data",
        "MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"msg 1"}}]}"#;
    world.ok("sendmsg", body).await;
    let expected = json!({"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"Complete":1,"MsgCnt":1,
        "LastMsgTime":1_584_669_680,"LastMsgKey":"549396494_2578554_1584669680",
        "MsgList":[{"From_Account":"user2","To_Account":"user1","MsgSeq":549_396_494,"MsgRandom":2_578_554,
            "MsgTimeStamp":1_584_669_680,"MsgClientTime":1_584_669_680,"MsgFlagBits":0,"IsPeerRead":0,
            "MsgKey":"549396494_2578554_1584669680",
            "MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"msg 1"}}],
            "CloudCustomData":"your cloud custom data"}]});
    let new = r#"{"Operator_Account":"user2","Peer_Account":"user1","MaxCnt":100,"MinTime":1584669600,"MaxTime":1584673200}"#;
    assert_eq!(world.post(ROAM, new).await, expected);
    let old = r#"{"From_Account":"user2","To_Account":"user1","MaxCnt":100,"MinTime":1584669600,"MaxTime":1584673200}"#;
    assert_eq!(world.post(ROAM, old).await, expected);
}

#[tokio::test]
async fn pages_go_from_new_to_old_and_each_is_in_the_order_of_sending() {
    let mut world = world().await;
    for number in 0..7 {
        // Three messages a second, in both directions; within a second the MsgSeq counts.
        world.now = 1_700_000_000 + number / 3;
        say(
            &world,
            1 + u8::try_from(number % 2).unwrap(),
            10 + u32::try_from(number).unwrap(),
            &number.to_string(),
        )
        .await;
    }
    let (mut to, mut last, mut pages) = (2_000_000_000, String::new(), Vec::new());
    loop {
        let answer = world.ok(ROAM, &ask(2, 0, to, &last)).await;
        pages.push(texts(&answer).concat());
        assert_eq!(answer["MsgCnt"], answer["MsgList"].as_array().unwrap().len());
        if answer["Complete"] == 1 {
            break;
        }
        to = answer["LastMsgTime"].as_u64().unwrap();
        last = answer["LastMsgKey"].as_str().unwrap().to_owned();
    }
    assert_eq!(pages, ["56", "34", "12", "0"]);
}

#[tokio::test]
async fn times_bound_what_is_answered_and_count_themselves() {
    let mut world = world().await;
    for number in 0..5_u32 {
        world.now = 1_700_000_000 + u64::from(number);
        say(&world, 1, number, &number.to_string()).await;
    }
    let at = |seconds: u64| 1_700_000_000 + seconds;
    for (from, to, expected) in [
        (at(1), at(3), "123"),
        (at(2), at(2), "2"),
        (0, at(1), "01"),
        (at(4), at(99), "4"),
        (at(5), at(99), ""),
    ] {
        let answer = world.ok(ROAM, &ask(9, from, to, "")).await;
        assert_eq!((texts(&answer).concat().as_str(), &answer["Complete"]), (expected, &json!(1)));
    }
    let answer = world.ok(ROAM, &ask(2, at(1), at(3), "")).await;
    assert_eq!((texts(&answer), &answer["Complete"]), (vec!["2", "3"], &json!(0)));
    let answer = world.ok(ROAM, &ask(1, at(1), at(3), "2_2_1700000002")).await;
    assert_eq!((texts(&answer), &answer["Complete"]), (vec!["1"], &json!(1)));
}

#[tokio::test]
async fn accounts_that_never_wrote_to_each_other_have_an_empty_history() {
    let world = world().await;
    assert_eq!(
        world.post(ROAM, &ask(9, 0, 9, "")).await,
        json!({"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"Complete":1,"MsgCnt":0,"LastMsgTime":0,
            "LastMsgKey":"","MsgList":[]})
    );
}

#[tokio::test]
async fn a_recalled_message_is_there_without_its_body() {
    let world = world().await;
    let key = say(&world, 1, 1, "gone").await;
    say(&world, 1, 2, "there").await;
    let recall = format!(r#"{{"From_Account":"user1","To_Account":"user2","MsgKey":"{key}"}}"#);
    world.ok("admin_msgwithdraw", &recall).await;
    let answer = world.ok(ROAM, &ask(9, 0, 2_000_000_000, "")).await;
    assert_eq!(answer["MsgList"][0]["MsgFlagBits"], 8);
    assert_eq!(answer["MsgList"][0]["MsgBody"], json!([]));
    assert_eq!(texts(&answer), ["-", "there"]);
}

#[tokio::test]
async fn a_page_holds_13_kilobytes_but_always_one_message() {
    let world = world().await;
    for number in 0..3 {
        say(&world, 1, number, &"x".repeat(6000)).await;
    }
    say(&world, 1, 3, &"y".repeat(12_000)).await;
    let sizes = |answer: &Value| texts(answer).iter().map(|text| text.len()).collect::<Vec<_>>();
    let first = world.ok(ROAM, &ask(99, 0, 2_000_000_000, "")).await;
    assert_eq!((sizes(&first), &first["Complete"]), (vec![12_000], &json!(0)));
    let last = first["LastMsgKey"].as_str().unwrap();
    let second = world.ok(ROAM, &ask(99, 0, 2_000_000_000, last)).await;
    assert_eq!((sizes(&second), &second["Complete"]), (vec![6000; 2], &json!(0)));
    let last = second["LastMsgKey"].as_str().unwrap();
    let third = world.ok(ROAM, &ask(99, 0, 2_000_000_000, last)).await;
    assert_eq!((sizes(&third), &third["Complete"]), (vec![6000], &json!(1)));
}

#[tokio::test]
async fn a_page_holds_100_messages() {
    let world = world().await;
    for number in 0..101 {
        say(&world, 1, number, "").await;
    }
    let body = ask(u32::MAX, 0, 2_000_000_000, "");
    // Of the smallest kind they do not fit 13 KB either, so count what comes of many pages.
    let (mut left, mut last) = (101, String::new());
    loop {
        let answer =
            world.ok(ROAM, &body.replace(r#""LastMsgKey":"""#, &format!(r#""LastMsgKey":"{last}""#))).await;
        let count = answer["MsgCnt"].as_u64().unwrap();
        assert!((1..=100).contains(&count));
        left -= count;
        last = answer["LastMsgKey"].as_str().unwrap().to_owned();
        if answer["Complete"] == 1 {
            break;
        }
    }
    assert_eq!(left, 0);
}

#[tokio::test]
async fn who_comes_back_under_an_old_name_reads_nothing_of_before() {
    let world = world().await;
    let key = say(&world, 1, 1, "secret").await;
    world.ok("account_delete", r#"{"DeleteItem":[{"UserID":"user1"}]}"#).await;
    assert_eq!(world.code(ROAM, &ask(9, 0, 2_000_000_000, "")).await, 90_008);
    world.import_accounts(&["user1"]).await;
    let everything = ask(9, 0, 2_000_000_000, "");
    assert_eq!(world.ok(ROAM, &everything).await["MsgCnt"], 0);
    let get = format!(r#"{{"From_Account":"user1","To_Account":"user2","MsgKey":"{key}"}}"#);
    assert_eq!(world.code("get_key_values", &get).await, 23_004);
    say(&world, 2, 1, "hello, stranger").await;
    assert_eq!(texts(&world.ok(ROAM, &everything).await), ["hello, stranger"]);
}

#[tokio::test]
async fn a_connected_account_reads_its_own_conversations_alone() {
    let world = world().await;
    say(&world, 1, 1, "hi").await;
    let body = ask(9, 0, 2_000_000_000, "");
    for (reader, code) in [("user1", 0), ("user2", 0), ("eve", 20_003)] {
        let answer = world.post_as(reader, CallerKind::Connected, ROAM, &body).await;
        assert_eq!(answer["ErrorCode"], code, "{reader}");
    }
}

#[tokio::test]
async fn bad_input_is_named() {
    let world = world().await;
    let good = ask(9, 0, 99, "1_2_3");
    for (body, code, info) in [
        ("{}".to_owned(), 90_008, "Operator_Account is missing"),
        (good.replace(r#""user1""#, "1"), 90_008, "Operator_Account must be a string"),
        (good.replace("user1", "nobody"), 90_008, "Operator_Account names an account that does not exist"),
        (good.replace("Peer_Account", "Peer"), 90_003, "Peer_Account is missing"),
        (good.replace("user2", ""), 90_003, "Peer_Account must not be empty"),
        (good.replace("user2", "nobody"), 90_012, "Peer_Account names an account that does not exist"),
        (good.replace("MaxCnt", "Max"), 90_010, "MaxCnt is missing"),
        (good.replace(":9,", ":0,"), 90_010, "MaxCnt must be between 1 and 4294967295"),
        (good.replace(":9,", r#":"9","#), 90_010, "MaxCnt must be an integer"),
        (good.replace("MinTime", "Min"), 90_010, "MinTime is missing"),
        (good.replace("MaxTime", "Max"), 90_010, "MaxTime is missing"),
        (good.replace(":0,", ":-1,"), 90_010, "MinTime must be between 0 and 9007199254740991"),
        (good.replace(":0,", ":100,"), 90_010, "MaxTime must not be less than MinTime"),
        (good.replace(r#""1_2_3""#, "1"), 90_054, "LastMsgKey must be a string"),
        (
            good.replace("1_2_3", "1_2"),
            90_054,
            "LastMsgKey must be three numbers as in 44739199_12_1665388280",
        ),
    ] {
        let answer = world.post(ROAM, &body).await;
        assert_eq!((&answer["ErrorCode"], &answer["ErrorInfo"]), (&json!(code), &json!(info)), "{body}");
    }
}
