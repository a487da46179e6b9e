//! Servers and databases that fail under load.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::thread;

use serde_json::{Value, json};
use sidenote_server::clock::{Clock as _, SystemClock};
use sidenote_torture::cluster::{Cluster, until, wait_until_ready};

use super::load::{Load, MESSAGES, verify};
use super::nodes::{furnish, without_attempts};
use crate::caller::Caller;
use crate::server::{ADMINISTRATOR, APP, Running};

/// How long it may take until a node says that it is of no use, in milliseconds. It is about 3 seconds where nothing
/// else keeps the machine busy.
const NOTICE: u64 = 15_000;

/// How long anybody may wait for an answer, in milliseconds. It is 8 seconds at most where nothing else keeps the machine
/// busy, and next to nothing once the node has given up.
const ANSWER: u64 = 20_000;
const AT_ONCE: u64 = 1000;

fn administrator(node: &Running) -> Caller {
    Caller::new(node.address, APP, ADMINISTRATOR)
}

/// Waits until so many more writes were acknowledged.
fn wait_for(load: &Load, more: u64) {
    let until_then = load.acknowledged.load(Ordering::SeqCst) + more;
    until(|| load.acknowledged.load(Ordering::SeqCst) >= until_then, "no writes are acknowledged");
}

/// Waits until the node is not ready and says why; how long that took, in milliseconds.
fn wait_until_unready(node: &Running) -> u64 {
    let began = SystemClock.now_millis();
    let mut said = (0, String::new());
    until(
        || {
            said = node.probe("/readyz");
            said.0 != 200
        },
        "the server thinks that it is ready",
    );
    assert_eq!(said.0, 503);
    assert!(said.1.contains("database") && said.1.lines().count() == 1, "{said:?}");
    assert_eq!(node.probe("/healthz").0, 200);
    // Figures are there too, also of what is not.
    assert!(node.get("/metrics").contains("\nsidenote_store_ready 0\n"));
    SystemClock.now_millis() - began
}

#[test]
fn nothing_answered_is_lost_with_a_node_and_others_go_on() {
    let test = "nothing_answered_is_lost_with_a_node_and_others_go_on";
    let Some(mut cluster) = Cluster::start_or_skip(test, 2, &without_attempts()) else { return };
    furnish(&administrator(&cluster.nodes[0]), MESSAGES);
    let load = Load::default();
    let writers: Vec<_> = thread::scope(|scope| {
        let writers = load.begin(scope, &cluster.addresses());
        let writing = load.until_dropped();
        wait_for(&load, 60);
        cluster.nodes[0].kill9();
        // Those who wrote through it go on with the other.
        until(|| load.broken.load(Ordering::SeqCst) > 0, "nobody noticed that the node was killed");
        wait_for(&load, 100);
        cluster.nodes[0].restart();
        wait_for(&load, 20);
        drop(writing);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    cluster.wait_until_settled();
    for node in &cluster.nodes {
        verify(&administrator(node), &writers);
    }
}

#[test]
fn nothing_answered_is_lost_with_the_database_and_nodes_recover_by_themselves() {
    let test = "nothing_answered_is_lost_with_the_database_and_nodes_recover_by_themselves";
    let Some(mut cluster) = Cluster::start_or_skip(test, 2, &without_attempts()) else { return };
    furnish(&administrator(&cluster.nodes[0]), MESSAGES);
    let load = Load::default();
    let writers: Vec<_> = thread::scope(|scope| {
        let writers = load.begin(scope, &cluster.addresses());
        let writing = load.until_dropped();
        for _ in 0..2 {
            wait_for(&load, 60);
            let refused = load.refused.load(Ordering::SeqCst);
            cluster.database.kill();
            for node in &cluster.nodes {
                let noticed = wait_until_unready(node);
                assert!(noticed < NOTICE, "it took {noticed} ms to notice");
            }
            until(|| load.refused.load(Ordering::SeqCst) > refused, "writes are not refused");
            cluster.database.start();
            for node in &cluster.nodes {
                wait_until_ready(node);
            }
        }
        wait_for(&load, 60);
        drop(writing);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    assert_eq!(load.broken.load(Ordering::SeqCst), 0, "a node answered nothing at all");
    let longest = load.longest.load(Ordering::SeqCst);
    println!("the longest wait was {longest} ms");
    assert!(longest < ANSWER, "{longest} ms");
    for node in &cluster.nodes {
        verify(&administrator(node), &writers);
    }
}

/// How a database falls silent.
#[derive(Clone, Copy, PartialEq)]
enum Silence {
    /// The network passes nothing on, for one node.
    CutOff,
    /// All processes of the database are stopped.
    Frozen,
}

#[test]
fn a_node_that_is_cut_off_from_the_database_says_so_holds_nobody_for_ever_and_recovers() {
    fall_silent(
        "a_node_that_is_cut_off_from_the_database_says_so_holds_nobody_for_ever_and_recovers",
        Silence::CutOff,
    );
}

#[test]
fn a_database_that_is_stopped_holds_nobody_for_ever_and_nodes_recover() {
    fall_silent("a_database_that_is_stopped_holds_nobody_for_ever_and_nodes_recover", Silence::Frozen);
}

fn fall_silent(test: &str, silence: Silence) {
    let Some(mut cluster) = Cluster::start_or_skip(test, 2, &without_attempts()) else { return };
    furnish(&administrator(&cluster.nodes[0]), MESSAGES);
    let load = Load::default();
    let writers: Vec<_> = thread::scope(|scope| {
        let writers = load.begin(scope, &cluster.addresses());
        let writing = load.until_dropped();
        load.compare(scope, &cluster.addresses());
        wait_for(&load, 60);
        match silence {
            Silence::CutOff => cluster.proxies[0].hold(),
            Silence::Frozen => cluster.database.freeze(),
        }
        // Every kind of request, many of them for the same message.
        let asked: Vec<_> = (0..24)
            .map(|number| {
                let node = cluster.nodes[0].address;
                scope.spawn(move || ask(node, number))
            })
            .collect();
        let noticed = wait_until_unready(&cluster.nodes[0]);
        assert!(noticed < NOTICE, "it took {noticed} ms to notice");
        let mut longest = 0;
        for asked in asked {
            let (answer, took) = asked.join().unwrap();
            assert_eq!(answer["ErrorCode"], 10_002, "{answer}");
            longest = longest.max(took);
        }
        println!(
            "/readyz said no after {noticed} ms, and {longest} ms was the longest wait of those who asked"
        );
        assert!(longest < ANSWER, "{longest} ms");
        // By now nobody has to find out any more.
        for number in 0..6 {
            let at_once = || {
                let (answer, took) = ask(cluster.nodes[0].address, 100 + number);
                assert_eq!(answer["ErrorCode"], 10_002, "{answer}");
                took < AT_ONCE
            };
            until(at_once, "whoever asks is not refused at once");
        }
        if silence == Silence::CutOff {
            // The other one is well, also where the first has left locks behind.
            assert_eq!(cluster.nodes[1].probe("/readyz").0, 200);
            wait_for(&load, 20);
        }
        match silence {
            Silence::CutOff => cluster.proxies[0].release(),
            Silence::Frozen => cluster.database.thaw(),
        }
        for node in &cluster.nodes {
            wait_until_ready(node);
        }
        wait_for(&load, 60);
        drop(writing);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let longest = load.longest.load(Ordering::SeqCst);
    println!("the longest wait under load was {longest} ms");
    assert!(longest < ANSWER, "{longest} ms");
    assert_eq!(load.broken.load(Ordering::SeqCst), 0, "a node answered nothing at all");
    cluster.settle(0);
    wait_until_ready(&cluster.nodes[0]);
    for node in &cluster.nodes {
        verify(&administrator(node), &writers);
    }
    // It stops as it should.
    assert!(cluster.nodes[0].terminate().success());
}

/// A request, and how long it took, in milliseconds.
fn ask(node: SocketAddr, number: u64) -> (Value, u64) {
    let caller = Caller::new(node, APP, ADMINISTRATOR);
    let (command, body) = match number % 3 {
        0 => ("openim_msg_ext_http_svc/group_get_key_values", json!({"MsgSeq": 1, "StartSeq": 0})),
        1 => (
            "group_open_http_svc/send_group_msg",
            json!({
                "Random": 1000 + number, "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "x"}}],
            }),
        ),
        _ => (
            "openim_msg_ext_http_svc/group_set_key_values",
            json!({
                "MsgSeq": 1, "OperateType": 1, "ExtensionList": [{"Key": "cut off", "Value": "x"}],
            }),
        ),
    };
    let mut body = body;
    body["GroupId"] = json!("g");
    let began = SystemClock.now_millis();
    let answer = caller.call(command, &body.to_string()).unwrap();
    (answer, SystemClock.now_millis() - began)
}
