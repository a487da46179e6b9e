//! Several servers on one database.

use serde_json::json;
use sidenote_torture::cluster::Cluster;
use sidenote_torture::linear::nodes::{Plan, run};

use crate::caller::Caller;
use crate::concurrency::race_through;
use crate::server::{ADMINISTRATOR, APP, ConfigOptions};

pub(super) fn without_attempts() -> ConfigOptions {
    ConfigOptions { limits: "attempts_per_minute = 0".to_owned(), ..ConfigOptions::default() }
}

/// A group with messages that may carry pairs.
pub(super) fn furnish(administrator: &Caller, messages: u64) {
    administrator.ok("im_open_login_svc/account_import", r#"{"UserID":"ann"}"#);
    let group = json!({"GroupId": "g", "Type": "Public", "Name": "g", "Owner_Account": "ann"});
    administrator.ok("group_open_http_svc/create_group", &group.to_string());
    for number in 1..=messages {
        let message = json!({
            "GroupId": "g", "Random": number, "SupportMessageExtension": 1,
            "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "who comes?"}}],
        });
        administrator.ok("group_open_http_svc/send_group_msg", &message.to_string());
    }
}

#[test]
fn what_one_node_has_answered_every_other_shows_at_once() {
    let test = "what_one_node_has_answered_every_other_shows_at_once";
    let Some(cluster) = Cluster::start_or_skip(test, 2, &without_attempts()) else { return };
    let callers: Vec<_> =
        cluster.addresses().into_iter().map(|node| Caller::new(node, APP, ADMINISTRATOR)).collect();
    furnish(&callers[0], 1);
    let ann: Vec<_> = cluster.addresses().into_iter().map(|node| Caller::new(node, APP, "ann")).collect();
    for round in 0..40 {
        let (writer, reader) = (&ann[round % 2], &ann[(round + 1) % 2]);
        let claim = u64::try_from(round).unwrap();
        let (code, pair) = writer.set_one("g", 1, "chair", &format!("{round}"), Some(claim));
        assert_eq!((code, pair.seq), (0, claim + 1));
        let page = reader.page("g", 1, 0);
        assert_eq!((page.latest, &page.pairs), (claim + 1, &vec![pair]));
    }
    // Groups, members and accounts too: what was known to nobody a moment ago, and what is gone.
    callers[0].ok("im_open_login_svc/account_import", r#"{"UserID":"bob"}"#);
    let bob = r#"{"GroupId":"g","MemberList":[{"Member_Account":"bob"}]}"#;
    callers[1].ok("group_open_http_svc/add_group_member", bob);
    let of_bob = Caller::new(cluster.nodes[0].address, APP, "bob");
    assert_eq!(of_bob.set_one("g", 1, "seat", "bob", Some(0)).0, 0);
    let bob = r#"{"GroupId":"g","MemberToDel_Account":["bob"]}"#;
    callers[1].ok("group_open_http_svc/delete_group_member", bob);
    let change = json!({"GroupId": "g", "MsgSeq": 1, "OperateType": 1,
        "ExtensionList": [{"Key": "seat", "Value": "still bob", "Seq": 41}]});
    let answer = of_bob.call("openim_msg_ext_http_svc/group_set_key_values", &change.to_string()).unwrap();
    assert_ne!(answer["ErrorCode"], 0, "{answer}");
    callers[0].ok("group_open_http_svc/destroy_group", r#"{"GroupId":"g"}"#);
    let answer = callers[1]
        .call("openim_msg_ext_http_svc/group_get_key_values", r#"{"GroupId":"g","MsgSeq":1,"StartSeq":0}"#)
        .unwrap();
    assert_ne!(answer["ErrorCode"], 0, "{answer}");
}

#[test]
fn a_member_sets_in_two_round_trips_and_pulls_in_one() {
    let test = "a_member_sets_in_two_round_trips_and_pulls_in_one";
    let Some(cluster) = Cluster::start_or_skip(test, 1, &without_attempts()) else { return };
    let node = &cluster.nodes[0];
    furnish(&Caller::new(node.address, APP, ADMINISTRATOR), 1);
    let ann = Caller::new(node.address, APP, "ann");
    let trips = || {
        let figures = node.get("/metrics");
        let name = "sidenote_store_round_trips_total ";
        let line = figures.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name}in {figures}")).parse::<u64>().unwrap()
    };
    // The node has its own questions every now and then, so now and then there are more. There are never fewer.
    let (mut seq, mut sets, mut pulls) = (0, Vec::new(), Vec::new());
    for _ in 0..40 {
        let before = trips();
        let (code, pair) = ann.set_one("g", 1, "chair", "ann", Some(seq));
        assert_eq!((code, pair.seq), (0, seq + 1));
        seq += 1;
        let between = trips();
        assert_eq!(ann.page("g", 1, 0).pairs, vec![pair]);
        sets.push(between - before);
        pulls.push(trips() - between);
    }
    for (counts, expected) in [(sets, 2), (pulls, 1)] {
        assert_eq!(counts.iter().min(), Some(&expected), "{counts:?}");
        let exact = counts.iter().filter(|count| **count == expected).count();
        assert!(exact > counts.len() / 2, "{counts:?}");
    }
}

#[test]
fn an_account_that_is_deleted_through_one_node_is_unknown_to_every_other() {
    let test = "an_account_that_is_deleted_through_one_node_is_unknown_to_every_other";
    let Some(cluster) = Cluster::start_or_skip(test, 2, &without_attempts()) else { return };
    let callers: Vec<_> =
        cluster.addresses().into_iter().map(|node| Caller::new(node, APP, ADMINISTRATOR)).collect();
    furnish(&callers[0], 1);
    callers[0].ok("im_open_login_svc/account_import", r#"{"UserID":"bob"}"#);
    let bob = r#"{"GroupId":"g","MemberList":[{"Member_Account":"bob"}]}"#;
    callers[0].ok("group_open_http_svc/add_group_member", bob);
    let of_bob: Vec<_> = cluster.addresses().into_iter().map(|node| Caller::new(node, APP, "bob")).collect();
    assert_eq!(of_bob[1].set_one("g", 1, "seat", "bob", Some(0)).0, 0);
    callers[0].ok("im_open_login_svc/account_delete", r#"{"DeleteItem":[{"UserID":"bob"}]}"#);
    let set =
        r#"{"GroupId":"g","MsgSeq":1,"OperateType":1,"ExtensionList":[{"Key":"seat","Value":"b","Seq":1}]}"#;
    let pull = r#"{"GroupId":"g","MsgSeq":1,"StartSeq":0}"#;
    for of_bob in &of_bob {
        for (command, body) in [("group_set_key_values", set), ("group_get_key_values", pull)] {
            let answer = of_bob.call(&format!("openim_msg_ext_http_svc/{command}"), body).unwrap();
            assert_eq!(answer["ErrorCode"], 70_107, "{answer}");
        }
    }
    assert_eq!(callers[1].page("g", 1, 0).pairs[0].value, "bob");
    // Under the same name comes somebody else, who is no member.
    callers[1].ok("im_open_login_svc/account_import", r#"{"UserID":"bob"}"#);
    for of_bob in &of_bob {
        let answer = of_bob.call("openim_msg_ext_http_svc/group_set_key_values", set).unwrap();
        assert_eq!(answer["ErrorCode"], 10_007, "{answer}");
    }
}

#[test]
fn of_all_who_saw_the_same_version_through_two_nodes_one_wins() {
    let test = "of_all_who_saw_the_same_version_through_two_nodes_one_wins";
    let Some(cluster) = Cluster::start_or_skip(test, 2, &without_attempts()) else { return };
    race_through(&cluster.addresses());
}

#[test]
fn histories_through_three_nodes_with_failures_are_linearizable() {
    judge(Plan { seed: rand::random(), rounds: 4, nodes: 3, patroni: false, nats: false });
}

#[test]
fn histories_are_linearizable_whatever_becomes_of_the_broker() {
    judge(Plan { seed: rand::random(), rounds: 6, nodes: 3, patroni: false, nats: true });
}

#[test]
fn histories_are_linearizable_whatever_becomes_of_the_primary() {
    judge(Plan { seed: rand::random(), rounds: 4, nodes: 3, patroni: true, nats: false });
}

fn judge(plan: Plan) {
    println!("seed {}, {} rounds", plan.seed, plan.rounds);
    let Some(tally) = run(plan, &mut |line| println!("{line}")) else { return };
    assert_eq!(tally.rounds, plan.rounds);
    assert!(tally.answered > 0, "{tally:?}");
}
