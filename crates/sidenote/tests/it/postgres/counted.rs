//! What is counted is counted over all servers, because it is counted in the rows that they share. How often an app may
//! call a command each server counts for itself.

use std::thread;

use serde_json::{Value, json};
use sidenote_torture::cluster::Cluster;

use super::nodes::{furnish, without_attempts};
use super::pushes::of;
use crate::caller::Caller;
use crate::server::ConfigOptions;

const SET: &str = "openim_msg_ext_http_svc/group_set_key_values";

fn two(cluster: &Cluster) -> [Caller; 2] {
    [of(cluster, 0), of(cluster, 1)]
}

/// What both answer to calls that are made at the same time, in no particular order.
fn at_once(callers: &[Caller; 2], calls: u64, call: impl Fn(&Caller, u64) -> Value + Sync) -> Vec<Value> {
    thread::scope(|scope| {
        let call = &call;
        let both = [0, 1].map(|node| {
            scope.spawn(move || (0..calls).map(|number| call(&callers[node], number)).collect::<Vec<_>>())
        });
        both.into_iter().flat_map(|one| one.join().unwrap()).collect()
    })
}

fn count(answers: &[Value], code: u64) -> usize {
    answers.iter().filter(|answer| answer["ErrorCode"] == code).count()
}

#[test]
fn two_hundred_attempts_a_minute_are_two_hundred_through_all_servers() {
    let test = "two_hundred_attempts_a_minute_are_two_hundred_through_all_servers";
    // The window is a minute by the clock, and this takes a part of one.
    let Some(cluster) = Cluster::start_or_skip(test, 2, &ConfigOptions::default()) else { return };
    let callers = two(&cluster);
    furnish(&callers[0], 1);
    let set = json!({"GroupId": "g", "MsgSeq": 1, "OperateType": 1,
        "ExtensionList": [{"Key": "k", "Value": "v"}]})
    .to_string();
    let answers = at_once(&callers, 110, |caller, _| caller.call(SET, &set).unwrap());
    assert_eq!((count(&answers, 0), count(&answers, 23_003)), (200, 20));
    for caller in &callers {
        assert_eq!(caller.call(SET, &set).unwrap()["ErrorCode"], 23_003);
    }
}

#[test]
fn a_message_that_is_sent_again_to_another_server_is_one_message() {
    let test = "a_message_that_is_sent_again_to_another_server_is_one_message";
    let Some(cluster) = Cluster::start_or_skip(test, 2, &without_attempts()) else { return };
    let callers = two(&cluster);
    furnish(&callers[0], 0);
    callers[0].ok("im_open_login_svc/account_import", r#"{"UserID":"bob"}"#);
    let message = |random: u64| {
        json!({"GroupId": "g", "Random": random, "From_Account": "ann",
            "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "x"}}]})
        .to_string()
    };
    let send = "group_open_http_svc/send_group_msg";
    let [first, again] = [0, 1].map(|node| callers[node].ok(send, &message(7)));
    assert_eq!((&first["MsgSeq"], &again), (&json!(1), &first));
    // At the same time too.
    let answers = at_once(&callers, 10, |caller, number| caller.ok(send, &message(100 + number)));
    let mut seqs: Vec<_> = answers.iter().map(|answer| answer["MsgSeq"].as_u64().unwrap()).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (2..=11).flat_map(|seq| [seq, seq]).collect::<Vec<_>>());

    let direct = json!({"From_Account": "ann", "To_Account": "bob", "MsgRandom": 7, "MsgSeq": 3,
        "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "x"}}]})
    .to_string();
    let [first, again] = [1, 0].map(|node| callers[node].ok("openim/sendmsg", &direct));
    assert_eq!(again["MsgKey"], first["MsgKey"]);
}

#[test]
fn limits_of_groups_and_messages_hold_through_all_servers() {
    let test = "limits_of_groups_and_messages_hold_through_all_servers";
    let limits = "attempts_per_minute = 0\npairs_per_message = 10\nmembers_per_group = 5".to_owned();
    let Some(cluster) = Cluster::start_or_skip(test, 2, &ConfigOptions { limits, ..without_attempts() })
    else {
        return;
    };
    let callers = two(&cluster);
    furnish(&callers[0], 1);
    let nodes = [0, 1].map(|node| cluster.nodes[node].address);
    let answers = at_once(&callers, 10, |caller, number| {
        let of_other = std::ptr::eq(caller, &raw const callers[1]);
        let set = json!({"GroupId": "g", "MsgSeq": 1, "OperateType": 1,
            "ExtensionList": [{"Key": format!("{number}-{of_other}"), "Value": "v"}]});
        caller.call(SET, &set.to_string()).unwrap()
    });
    let set = answers.iter().filter(|answer| answer["ExtensionList"][0]["ErrorCode"] == 0).count();
    assert_eq!((answers.len(), set), (20, 10), "{answers:?} through {nodes:?}");
    let page = callers[1].page("g", 1, 0);
    assert_eq!(page.pairs.len(), 10);

    let names: Vec<_> = (0..10).map(|number| format!("user{number}")).collect();
    let all = json!({"Accounts": names}).to_string();
    callers[0].ok("im_open_login_svc/multiaccount_import", &all);
    at_once(&callers, 5, |caller, number| {
        let of_other = u64::from(std::ptr::eq(caller, &raw const callers[1]));
        let member = format!("user{}", number * 2 + of_other);
        let join = json!({"GroupId": "g", "MemberList": [{"Member_Account": member}]});
        caller.call("group_open_http_svc/add_group_member", &join.to_string()).unwrap()
    });
    let members = callers[0].ok("group_open_http_svc/get_group_member_info", r#"{"GroupId":"g"}"#);
    assert_eq!(members["MemberNum"], 5, "{members}");
}

#[test]
fn calls_in_a_second_are_counted_by_each_server_for_itself() {
    let test = "calls_in_a_second_are_counted_by_each_server_for_itself";
    let limits = "calls_per_second = 1".to_owned();
    let Some(cluster) = Cluster::start_or_skip(test, 2, &ConfigOptions { limits, ..without_attempts() })
    else {
        return;
    };
    let callers = two(&cluster);
    let check = r#"{"CheckItem":[{"UserID":"ann"}]}"#;
    let answers = at_once(&callers, 50, |caller, _| {
        // Whoever is refused before his body was read has to connect again.
        loop {
            if let Ok(answer) = caller.call("im_open_login_svc/account_check", check) {
                return answer;
            }
        }
    });
    // How many go through depends on how long this takes; each server refuses some of its own.
    assert!(count(&answers[..50], 60_007) > 0 && count(&answers[50..], 60_007) > 0, "{answers:?}");
    assert!(answers[0]["ErrorCode"] == 0 && answers[50]["ErrorCode"] == 0, "{answers:?}");
}
