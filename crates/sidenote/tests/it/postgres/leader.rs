//! One of several servers does the background work, and another one when that is gone.

use std::time::Duration;

use rustix::process::Signal;
use sidenote_torture::cluster::{Cluster, until};
use tokio::time::Instant;

use super::nodes::{furnish, without_attempts};
use super::pushes::{figure, of};
use crate::server::ConfigOptions;

fn leads(cluster: &Cluster, node: usize) -> bool {
    figure(&cluster.nodes[node], "sidenote_cluster_leads") == 1
}

/// Waits until this one leads, of those named, and no other; how long that took.
fn wait_for_leader(cluster: &Cluster, leader: usize, others: &[usize]) -> Duration {
    let began = Instant::now();
    until(
        || leads(cluster, leader) && others.iter().all(|other| !leads(cluster, *other)),
        "the one that is left does not lead",
    );
    began.elapsed()
}

/// Has a group made and destroyed, and waits until nothing is left of it.
fn work_is_done(cluster: &Cluster, node: usize) {
    let administrator = of(cluster, node);
    furnish(&administrator, 3);
    administrator.ok("group_open_http_svc/destroy_group", r#"{"GroupId":"g"}"#);
    until(
        || cluster.database.psql("test0", "SELECT count(*) FROM messages").trim() == "0",
        "what is left of a group is not removed",
    );
}

#[test]
fn the_background_work_is_done_by_one_and_taken_over() {
    let test = "the_background_work_is_done_by_one_and_taken_over";
    let options = ConfigOptions { more: "[cluster]\nlease_ms = 2000".to_owned(), ..without_attempts() };
    let Some(mut cluster) = Cluster::start_or_skip(test, 2, &options) else { return };
    until(|| leads(&cluster, 0) || leads(&cluster, 1), "nobody leads");
    until(|| figure(&cluster.nodes[0], "sidenote_cluster_nodes") == 2, "they do not see each other");
    let first = usize::from(leads(&cluster, 1));
    let other = 1 - first;
    wait_for_leader(&cluster, first, &[other]);
    // Debts of what was done elsewhere are paid too.
    work_is_done(&cluster, other);

    cluster.nodes[first].kill9();
    let took = wait_for_leader(&cluster, other, &[]);
    println!("another one leads {took:?} after the leader was killed");
    work_is_done(&cluster, other);
    cluster.nodes[first].restart();
    wait_for_leader(&cluster, other, &[first]);

    // Stopped past its lease, and woken up.
    cluster.nodes[other].signal(Signal::STOP);
    let took = wait_for_leader(&cluster, first, &[]);
    println!("another one leads {took:?} after the leader was stopped");
    work_is_done(&cluster, first);
    cluster.nodes[other].signal(Signal::CONT);
    cluster.nodes[other].wait_for("this node may have counted as dead");
    wait_for_leader(&cluster, first, &[other]);
    work_is_done(&cluster, other);

    // Who ends in peace is not waited for.
    assert!(cluster.nodes[first].terminate().success());
    wait_for_leader(&cluster, other, &[]);
    until(|| figure(&cluster.nodes[other], "sidenote_cluster_nodes") == 1, "it counts one that has gone");
}
