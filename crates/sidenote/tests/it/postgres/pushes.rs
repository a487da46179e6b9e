//! What is written through one server is pushed by the others, with a broker and without, in order, and none is lost.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use sidenote_torture::broker::Broker;
use sidenote_torture::cluster::{Cluster, until};
use sidenote_torture::long::LongClient;

use super::nodes::{furnish, without_attempts};
use crate::caller::Caller;
use crate::server::{ADMINISTRATOR, APP, ConfigOptions, Running};
use crate::stream::Stream;

/// Long enough that nothing that is found by looking passes for what was heard: nobody waits for it.
pub(super) const NEVER: u64 = 60_000;

pub(super) fn cluster(test: &str, more: String) -> Option<Cluster> {
    let options = ConfigOptions { more, ..without_attempts() };
    let cluster = Cluster::start_or_skip(test, 2, &options)?;
    let administrator = of(&cluster, 0);
    furnish(&administrator, 1);
    for user in ["bob", "cid"] {
        administrator.ok("im_open_login_svc/account_import", &json!({"UserID": user}).to_string());
    }
    let join = r#"{"GroupId":"g","MemberList":[{"Member_Account":"bob"}]}"#;
    administrator.ok("group_open_http_svc/add_group_member", join);
    Some(cluster)
}

pub(super) fn without_broker(poll_ms: u64) -> String {
    format!("[cluster]\npoll_ms = {poll_ms}")
}

/// The administrator, at one of the servers.
pub(super) fn of(cluster: &Cluster, node: usize) -> Caller {
    Caller::new(cluster.nodes[node].address, APP, ADMINISTRATOR)
}

pub(super) fn send(caller: &Caller, random: u64) {
    let body = json!({"GroupId": "g", "Random": random, "From_Account": "ann",
        "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "x"}}]});
    caller.ok("group_open_http_svc/send_group_msg", &body.to_string());
}

/// The number within its group of the message that is pushed next.
pub(super) fn next_message(client: &mut LongClient) -> u64 {
    loop {
        let event = client.event();
        if let Some(seq) = event["GroupMsgArray"][0]["MsgSeq"].as_u64() {
            return seq;
        }
    }
}

pub(super) fn figure(node: &Running, name: &str) -> u64 {
    let figures = node.get("/metrics");
    let line = figures.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {figures}")).parse().unwrap()
}

pub(super) fn wait_until_connected(node: &Running, is_so: bool) {
    let connected = || figure(node, "sidenote_cluster_nats_connected") == u64::from(is_so);
    until(connected, "the connection to NATS does not become what it should");
    assert_eq!(node.probe("/readyz").0, 200);
}

/// Whatever bob at the second server may learn from the first one.
fn pushes_cross(cluster: &Cluster) {
    let [here, there] = [of(cluster, 0), of(cluster, 1)];
    let mut bob = LongClient::logged_in(cluster.nodes[1].address, "bob");
    let mut ann = LongClient::logged_in(cluster.nodes[0].address, "ann");
    // Written through both servers in turn: one order, which everybody is told.
    for random in 0..30 {
        send(if random % 3 == 0 { &there } else { &here }, 1000 + random);
    }
    for seq in 2..32 {
        assert_eq!((next_message(&mut bob), next_message(&mut ann)), (seq, seq));
    }
    // Changes of pairs, in the order of their numbers.
    let set = |caller: &Caller, value: u64| {
        let body = json!({"GroupId": "g", "MsgSeq": 1, "OperateType": 1,
            "ExtensionList": [{"Key": "k", "Value": value.to_string()}]});
        caller.ok("openim_msg_ext_http_svc/group_set_key_values", &body.to_string());
    };
    for value in 1..=10 {
        set(if value % 2 == 0 { &there } else { &here }, value);
    }
    for client in [&mut ann, &mut bob] {
        let told: Vec<_> =
            (0..10).map(|_| client.event()["MsgExtensionNotify"]["MsgLastSeq"].clone()).collect();
        assert_eq!(json!(told), json!((1..=10).collect::<Vec<_>>()));
    }
    // A message for bob alone, of a conversation that there was not before.
    let direct = json!({"From_Account": "ann", "To_Account": "bob", "MsgRandom": 7,
        "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "psst"}}]});
    here.ok("openim/sendmsg", &direct.to_string());
    assert_eq!(bob.event()["C2cMsgArray"][0]["From_Account"], "ann");
    // A group that cid joins while he is connected, and what happens in it from then on.
    let mut cid = LongClient::logged_in(cluster.nodes[1].address, "cid");
    here.ok(
        "group_open_http_svc/add_group_member",
        r#"{"GroupId":"g","MemberList":[{"Member_Account":"cid"}]}"#,
    );
    send(&here, 5000);
    for client in [&mut cid, &mut bob, &mut ann] {
        assert_eq!(next_message(client), 32);
    }
    // Whoever is deleted is told so, wherever he is.
    here.ok("im_open_login_svc/account_delete", r#"{"DeleteItem":[{"UserID":"cid"}]}"#);
    assert_eq!(cid.event()["C2cNotifyMsgArray"][0]["KickoutMsgNotify"]["KickType"], 3);
    for client in [&mut ann, &mut bob] {
        assert!(
            client.events().iter().all(|event| event["GroupMsgArray"].is_null()),
            "something was told twice"
        );
    }
}

#[test]
fn pushes_cross_servers_in_order_without_a_broker() {
    let test = "pushes_cross_servers_in_order_without_a_broker";
    let Some(cluster) = cluster(test, without_broker(100)) else { return };
    pushes_cross(&cluster);
    assert!(figure(&cluster.nodes[1], "sidenote_cluster_found_total") > 0);
    assert_eq!(figure(&cluster.nodes[1], "sidenote_cluster_heard_total"), 0);
    assert!(!cluster.nodes[1].log().contains("NATS"), "{}", cluster.nodes[1].log());
}

#[test]
fn pushes_cross_servers_in_order_through_a_broker() {
    let test = "pushes_cross_servers_in_order_through_a_broker";
    let Some(broker) = Broker::start_or_skip(test) else { return };
    let Some(cluster) = cluster(test, broker.section(NEVER)) else { return };
    for node in &cluster.nodes {
        wait_until_connected(node, true);
    }
    pushes_cross(&cluster);
    for (node, name) in [(0, "published"), (1, "heard"), (1, "published"), (0, "heard")] {
        assert!(figure(&cluster.nodes[node], &format!("sidenote_cluster_{name}_total")) > 0, "{node} {name}");
    }
    for node in &cluster.nodes {
        assert_eq!(figure(node, "sidenote_cluster_refused_total"), 0);
    }
}

/// What stands in an address is sent to the broker and never written to the log, however much is written there.
#[test]
fn a_broker_that_asks_for_a_password_is_told_it_and_nobody_else() {
    let test = "a_broker_that_asks_for_a_password_is_told_it_and_nobody_else";
    let login = ("us@r", "hunter2:x");
    let Some(broker) = Broker::start_with_login_or_skip(test, login) else { return };
    let log = "\n\n[log]\nlevel = \"debug\"";
    let Some(cluster) = cluster(test, broker.section_as("us%40r:hunter2%3Ax", 500) + log) else { return };
    for node in &cluster.nodes {
        wait_until_connected(node, true);
        let log = node.log();
        assert!(log.contains("DEBUG") && !log.contains("hunter2"), "{log}");
    }
    let section = broker.section_as("us%40r:wrong", 500);
    drop(cluster);
    let Some(cluster) = self::cluster(test, section) else { return };
    for node in &cluster.nodes {
        node.wait_for("NATS is away");
        assert!(node.log().to_lowercase().contains("authorization"), "{}", node.log());
        assert!(!node.log().contains("wrong"), "{}", node.log());
    }
}

/// Looks that fail for a while, with a broker that is away too, lose nothing that came meanwhile.
#[test]
fn what_came_while_a_server_could_not_look_is_pushed_once_when_it_can() {
    let test = "what_came_while_a_server_could_not_look_is_pushed_once_when_it_can";
    let Some(cluster) = cluster(test, without_broker(100)) else { return };
    let here = of(&cluster, 0);
    let mut bob = LongClient::logged_in(cluster.nodes[1].address, "bob");
    let direct = |random: u64| {
        let body = json!({"From_Account": "ann", "To_Account": "bob", "MsgRandom": random,
            "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "x"}}]});
        here.ok("openim/sendmsg", &body.to_string());
    };
    let next = |bob: &mut LongClient| bob.event()["C2cMsgArray"][0]["MsgRandom"].as_u64().unwrap();
    direct(1);
    assert_eq!(next(&mut bob), 1);
    cluster.proxies[1].hold();
    for random in 2..5 {
        direct(random);
    }
    let failed = || figure(&cluster.nodes[1], "sidenote_cluster_failed_looks_total");
    until(|| failed() > 0, "no look fails");
    direct(5);
    cluster.proxies[1].release();
    for random in 2..6 {
        assert_eq!(next(&mut bob), random);
    }
    direct(6);
    assert_eq!(next(&mut bob), 6);
    assert_eq!(cluster.nodes[1].log().matches("can't be looked for").count(), 1);
}

#[test]
fn a_group_that_is_destroyed_through_another_server_is_over_for_its_readers_without_a_broker() {
    let test = "a_group_that_is_destroyed_through_another_server_is_over_for_its_readers_without_a_broker";
    let Some(cluster) = cluster(test, without_broker(500)) else { return };
    let here = of(&cluster, 0);
    let mut stream = Stream::of_group(&cluster.nodes[1], "bob", "g", "");
    send(&here, 10);
    assert_eq!(stream.event().data["MsgSeq"], 2);
    // Its rows are gone at once, and that it was destroyed with them: as a rule before anybody looks.
    here.ok("group_open_http_svc/destroy_group", r#"{"GroupId":"g"}"#);
    // Signs of life would come for ever.
    let (ends, end) = mpsc::sync_channel(1);
    thread::spawn(move || ends.send(stream.end()));
    assert_eq!(end.recv_timeout(Duration::from_mins(1)).expect("it ends"), "removed");
}

#[test]
fn whatever_becomes_of_the_broker_pushes_come_once_and_in_order() {
    let test = "whatever_becomes_of_the_broker_pushes_come_once_and_in_order";
    let Some(mut broker) = Broker::start_or_skip(test) else { return };
    let Some(cluster) = cluster(test, broker.section(200)) else { return };
    let [here, there] = [of(&cluster, 0), of(&cluster, 1)];
    let mut bob = LongClient::logged_in(cluster.nodes[1].address, "bob");
    let mut seq = 1;
    let mut write = |bob: &mut LongClient, count: u64| {
        for number in 0..count {
            send(if number % 4 == 0 { &there } else { &here }, 10_000 + seq + number);
        }
        for _ in 0..count {
            seq += 1;
            assert_eq!(next_message(bob), seq);
        }
    };
    for node in &cluster.nodes {
        wait_until_connected(node, true);
    }
    write(&mut bob, 10);
    broker.kill();
    write(&mut bob, 10);
    for node in &cluster.nodes {
        wait_until_connected(node, false);
        node.wait_for("NATS is away");
    }
    write(&mut bob, 10);
    broker.start();
    write(&mut bob, 10);
    for node in &cluster.nodes {
        wait_until_connected(node, true);
    }
    let heard = figure(&cluster.nodes[1], "sidenote_cluster_heard_total");
    write(&mut bob, 10);
    until(|| figure(&cluster.nodes[1], "sidenote_cluster_heard_total") > heard, "nothing is heard any more");
    // One that says nothing and takes nothing, without hanging up; later it passes on what it had.
    broker.signal(Signal::STOP);
    write(&mut bob, 10);
    write(&mut bob, 10);
    broker.signal(Signal::CONT);
    write(&mut bob, 10);
    broker.signal(Signal::STOP);
    for node in &cluster.nodes {
        wait_until_connected(node, false);
    }
    write(&mut bob, 10);
    broker.signal(Signal::CONT);
    for node in &cluster.nodes {
        wait_until_connected(node, true);
    }
    write(&mut bob, 10);
    // Said once for each time that it was away.
    let log = cluster.nodes[0].log();
    assert!((1..=4).contains(&log.matches("NATS is away").count()), "{log}");
    assert!(bob.events().iter().all(|event| event["GroupMsgArray"].is_null()), "something was told twice");
}

#[test]
fn a_reader_who_goes_on_at_another_server_misses_nothing() {
    let test = "a_reader_who_goes_on_at_another_server_misses_nothing";
    let Some(broker) = Broker::start_or_skip(test) else { return };
    let Some(mut cluster) = cluster(test, broker.section(500)) else { return };
    let there = of(&cluster, 1);
    let mut last = String::new();
    let mut number = 0;
    let mut read = |stream: &mut Stream, last: &mut String| {
        let frame = stream.event();
        let now = frame.data["Number"].as_u64().unwrap();
        assert!(number == 0 || now == number + 1, "{now} follows {number}");
        number = now;
        *last = frame.id;
    };
    let mut stream = Stream::of_group(&cluster.nodes[0], "bob", "g", "");
    for random in 0..10 {
        send(&there, 100 + random);
        if random < 7 {
            read(&mut stream, &mut last);
        }
    }
    cluster.nodes[0].kill9();
    send(&there, 200);
    let mut stream = Stream::of_group(&cluster.nodes[1], "bob", "g", &last);
    send(&there, 201);
    for _ in 0..5 {
        read(&mut stream, &mut last);
    }
    // And back again.
    cluster.nodes[0].restart();
    send(&there, 202);
    let mut stream = Stream::of_group(&cluster.nodes[0], "bob", "g", &last);
    send(&of(&cluster, 0), 203);
    send(&there, 204);
    for _ in 0..3 {
        read(&mut stream, &mut last);
    }
}
