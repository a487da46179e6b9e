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
    for node in &cluster.nodes {
        let figures = node.get("/metrics");
        let count = |name: &str| -> u64 {
            let line = figures.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name} in {figures}")).parse().unwrap()
        };
        assert_eq!(count("sidenote_store_ready"), 1);
        // Each has set 20 times, in two round trips, and pulled as often, in one.
        assert!(count("sidenote_store_round_trips_total") >= 60, "{figures}");
        assert!(count("sidenote_store_statements_total") > count("sidenote_store_round_trips_total"));
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
