//! Logins on the long connection: a token is good on every server, and an account has a bounded number of connections to all
//! of them together.

use serde_json::json;
use sidenote_torture::broker::Broker;
use sidenote_torture::cluster::{Cluster, until};
use sidenote_torture::long::{LongClient, command};

use super::nodes::{furnish, without_attempts};
use super::pushes::{NEVER, figure, of, wait_until_connected, without_broker};
use crate::server::ConfigOptions;

const TWO: &str = "[long_connection]\nlogins_per_account = 2";

fn cluster(test: &str, of_cluster: &str) -> Option<Cluster> {
    let more = format!("{of_cluster}\nlease_ms = 2000\n\n{TWO}");
    let cluster = Cluster::start_or_skip(test, 2, &ConfigOptions { more, ..without_attempts() })?;
    furnish(&of(&cluster, 0), 1);
    Some(cluster)
}

/// Waits until it is told that its login is over. What happened right before it logged in may be told before.
fn is_kicked(client: &mut LongClient, kind: u8) {
    let kick = json!([{"KickoutMsgNotify": {"KickType": kind, "NewInstanceInfo": {}}}]);
    loop {
        let event = client.event();
        if event["GroupMsgArray"].is_null() {
            assert_eq!(event["C2cNotifyMsgArray"], kick, "{event}");
            return;
        }
    }
}

/// Whether its login stands.
fn stays(client: &mut LongClient) -> bool {
    client.events().iter().all(|event| event["C2cNotifyMsgArray"].is_null())
}

fn written_down(cluster: &Cluster) -> String {
    cluster.database.psql("test0", "SELECT count(*) FROM logins").trim().to_owned()
}

fn at(cluster: &Cluster, node: usize) -> LongClient {
    LongClient::logged_in(cluster.nodes[node].address, "ann")
}

fn logins_cross(cluster: &mut Cluster) {
    let [mut first, mut second] = [at(cluster, 0), at(cluster, 1)];
    let mut third = at(cluster, 1);
    is_kicked(&mut first, 1);
    first.ok(command::LOGOUT, &json!({"wslogout_type": 1}));
    // The oldest is elsewhere again.
    let fourth = at(cluster, 0);
    is_kicked(&mut second, 1);

    // The token of one server is good on the other, where the same instance takes its own place.
    let (a2, tiny_id) = third.a2();
    let mut again = LongClient::open(cluster.nodes[0].address);
    assert_eq!(again.log_in_again(&a2, &tiny_id)["ErrorCode"], 0);
    assert_eq!(third.closed().code, 1000);
    for (client, node) in [(&mut again, 0), (&mut second, 1)] {
        client.ok(command::ALIVE, &json!({}));
        let logins = figure(&cluster.nodes[node], "sidenote_long_connection_logins");
        assert_eq!(logins, if node == 0 { 2 } else { 0 });
    }
    // Whoever leaves is not counted any more.
    drop(fourth);
    until(|| written_down(cluster) == "1", "a login that is over is still written down");
    let mut fifth = at(cluster, 1);
    assert!(stays(&mut again) && stays(&mut fifth));

    // A deleted account is gone everywhere.
    of(cluster, 0).ok("im_open_login_svc/account_import", r#"{"UserID":"bob"}"#);
    let mut bob = LongClient::logged_in(cluster.nodes[1].address, "bob");
    of(cluster, 0).ok("im_open_login_svc/account_delete", r#"{"DeleteItem":[{"UserID":"bob"}]}"#);
    is_kicked(&mut bob, 3);

    // Logins of a server that was killed are not counted either.
    cluster.nodes[0].kill9();
    until(|| figure(&cluster.nodes[1], "sidenote_cluster_nodes") == 1, "it counts one that is dead");
    let mut sixth = at(cluster, 1);
    assert!(stays(&mut fifth) && stays(&mut sixth));
    let _seventh = at(cluster, 1);
    is_kicked(&mut fifth, 1);
}

#[test]
fn logins_are_counted_over_all_servers_without_a_broker() {
    let test = "logins_are_counted_over_all_servers_without_a_broker";
    let Some(mut cluster) = cluster(test, &without_broker(100)) else { return };
    logins_cross(&mut cluster);
}

#[test]
fn logins_are_counted_over_all_servers_through_a_broker() {
    let test = "logins_are_counted_over_all_servers_through_a_broker";
    let Some(broker) = Broker::start_or_skip(test) else { return };
    let Some(mut cluster) = cluster(test, &broker.section(NEVER)) else { return };
    for node in &cluster.nodes {
        wait_until_connected(node, true);
    }
    logins_cross(&mut cluster);
}
