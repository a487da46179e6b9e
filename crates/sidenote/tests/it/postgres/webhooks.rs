//! Several servers tell one receiver: each conversation one of them at a time, and another one when that is dead or stopped.

use std::time::Duration;

use rustix::process::Signal;
use sidenote_torture::cluster::{Cluster, until};
use tokio::time::Instant;

use super::pushes::figure;
use crate::server::{OTHER_APP, Running};
use crate::webhooks::{Receiver, SET, assert_in_order, found, lines, ok, set, wait_for_letters, webhooks};

/// Short, so that nobody waits long for a server that is dead.
const LEASE: &str = "[cluster]\nlease_ms = 2000\npoll_ms = 200";

/// Much longer than it may take until a lease has ended and others have noticed.
const TAKEN_OVER: Duration = Duration::from_secs(30);

fn cluster(test: &str, receiver: &Receiver, more: &str) -> Option<Cluster> {
    Cluster::start_or_skip(test, 2, &receiver.options("http", more))
}

/// Waits until nothing is left to tell, and everything that was told is written down.
fn wait_until_settled(cluster: &Cluster) {
    until(
        || cluster.database.psql("test0", "SELECT count(*) FROM outboxes").trim() == "0",
        "something is left to tell",
    );
}

fn told(node: &Running) -> u64 {
    figure(node, &format!("sidenote_webhook_events_total{{app=\"{OTHER_APP}\"}}"))
}

#[test]
fn each_event_is_told_once_and_in_order_through_whichever_servers_it_came() {
    let test = "each_event_is_told_once_and_in_order_through_whichever_servers_it_came";
    let receiver = Receiver::new(true);
    let Some(cluster) = cluster(test, &receiver, "") else { return };
    let groups: Vec<_> = (0..4).map(|number| format!("room{number}")).collect();
    for (number, group) in groups.iter().enumerate() {
        found(&cluster.nodes[number % 2], group);
    }
    for round in 0..40 {
        for (number, group) in groups.iter().enumerate() {
            // In turns, and in stretches of one server.
            let node = if round < 20 { round + number } else { round / 5 + number };
            ok(&cluster.nodes[node % 2], SET, &set(group));
        }
    }
    for group in &groups {
        receiver.wait_for(group, 40);
    }
    wait_until_settled(&cluster);
    for group in &groups {
        assert_eq!(receiver.seqs(group), (1..=40).collect::<Vec<_>>(), "{group}");
    }
    let by = cluster.nodes.iter().map(told).collect::<Vec<_>>();
    assert_eq!(by.iter().sum::<u64>(), receiver.taken().len() as u64);
    assert!(by.iter().all(|count| *count > 0), "one of them tells nothing: {by:?}");
}

#[test]
fn what_a_killed_server_was_telling_another_one_tells() {
    let test = "what_a_killed_server_was_telling_another_one_tells";
    let receiver = Receiver::new(true);
    let more = format!("timeout_ms = 600000\n\n{LEASE}");
    let Some(mut cluster) = cluster(test, &receiver, &more) else { return };
    found(&cluster.nodes[0], "room");
    wait_until_settled(&cluster);
    receiver.hold();
    ok(&cluster.nodes[0], SET, &set("room"));
    receiver.wait_for("room", 1);
    for node in [1, 0, 1] {
        ok(&cluster.nodes[node], SET, &set("room"));
    }
    // Its answer waits for a server that is there no more.
    cluster.nodes[0].kill9();
    let killed = Instant::now();
    assert_eq!(receiver.seqs("room"), [1]);
    receiver.release();
    receiver.wait_for("room", 4);
    assert!(killed.elapsed() < TAKEN_OVER, "it took {:?}", killed.elapsed());
    println!("told by another server {:?} after its claimant was killed", killed.elapsed());
    wait_until_settled(&cluster);
    assert_eq!(receiver.seqs("room"), [1, 1, 2, 3, 4]);
    // It comes back, and is one of two again.
    cluster.nodes[0].restart();
    for node in [0, 1, 0, 0, 1] {
        ok(&cluster.nodes[node], SET, &set("room"));
    }
    receiver.wait_for("room", 9);
    assert_eq!(receiver.seqs("room")[5..], [5, 6, 7, 8, 9]);
}

#[test]
fn a_server_that_wakes_up_after_its_lease_tells_nothing_that_is_not_its() {
    let test = "a_server_that_wakes_up_after_its_lease_tells_nothing_that_is_not_its";
    let receiver = Receiver::new(true);
    let more = format!("timeout_ms = 600000\n\n{LEASE}");
    let Some(cluster) = cluster(test, &receiver, &more) else { return };
    found(&cluster.nodes[0], "room");
    wait_until_settled(&cluster);
    receiver.hold();
    for _ in 0..5 {
        ok(&cluster.nodes[0], SET, &set("room"));
    }
    receiver.wait_for("room", 1);
    cluster.nodes[0].signal(Signal::STOP);
    // Its first event is answered while it is stopped, and it has four more in its hands.
    receiver.release();
    receiver.wait_for("room", 5);
    wait_until_settled(&cluster);
    for _ in 0..3 {
        ok(&cluster.nodes[1], SET, &set("room"));
    }
    receiver.wait_for("room", 8);
    assert_eq!(receiver.seqs("room"), [1, 1, 2, 3, 4, 5, 6, 7, 8]);
    cluster.nodes[0].signal(Signal::CONT);
    cluster.nodes[0].wait_for("this node may have counted as dead");
    for node in [0, 1, 0, 1] {
        ok(&cluster.nodes[node], SET, &set("room"));
    }
    receiver.wait_for("room", 12);
    wait_until_settled(&cluster);
    assert_eq!(receiver.seqs("room")[9..], [9, 10, 11, 12]);
}

#[test]
fn events_and_their_order_outlive_servers_that_are_killed_in_turns() {
    let test = "events_and_their_order_outlive_servers_that_are_killed_in_turns";
    let receiver = Receiver::new(true);
    let Some(mut cluster) = cluster(test, &receiver, LEASE) else { return };
    found(&cluster.nodes[0], "room");
    for round in 0..4 {
        let (dies, stays) = (round % 2, (round + 1) % 2);
        for number in 0..15 {
            ok(&cluster.nodes[if number % 2 == 0 { dies } else { stays }], SET, &set("room"));
        }
        cluster.nodes[dies].kill9();
        for _ in 0..5 {
            ok(&cluster.nodes[stays], SET, &set("room"));
        }
        cluster.nodes[dies].restart();
    }
    receiver.wait_for("room", 80);
    wait_until_settled(&cluster);
    assert_in_order(&receiver.seqs("room"), 80);
}

#[test]
fn dead_letters_are_looked_after_through_any_server() {
    let test = "dead_letters_are_looked_after_through_any_server";
    let receiver = Receiver::new(false);
    let Some(cluster) = cluster(test, &receiver, "give_up_tries = 1") else { return };
    let [here, there] = [&cluster.nodes[0], &cluster.nodes[1]];
    found(here, "room");
    ok(here, SET, &set("room"));
    ok(there, SET, &set("room"));
    let listed = wait_for_letters(here, 3);
    assert_eq!(wait_for_letters(there, 3).len(), listed.len());
    let names: Vec<_> = listed[..3].iter().map(|line| line.split(' ').next().unwrap()).collect();
    receiver.set_up(true);
    receiver.wait_for("room", 2);
    assert_eq!(lines(&webhooks(there, &["discard", names[0]]))[0], format!("{}: discarded", names[0]));
    let replayed = webhooks(here, &["replay", "--all"]);
    assert_eq!(lines(&replayed).last().map(String::as_str), Some("2 told, 0 not"), "{replayed:?}");
    assert_eq!(lines(&webhooks(there, &["list"])), ["0 dead letters"]);
}
