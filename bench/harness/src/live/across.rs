//! From a set through one node to its push through another.

use std::time::Duration;

use anyhow::{Context, Result};

use super::listening_threads;
use super::protocol::Protocol;
use super::publisher::{Publisher, Way};
use super::push::tell;
use super::receivers::Receivers;
use crate::nodes::Members;
use crate::process::own_cpu_us;
use crate::record::{Line, Run};
use crate::session::{Session, millis};

const CASE: &str = "nodes-push";

/// Receivers of each push.
const RECEIVERS: u64 = 1;

/// The message of the group of the receiver that nobody else sets.
const MESSAGE: u64 = 2;

/// Who is told how, and on which node; sets go through the first.
const WAYS: [(&str, Protocol, usize); ACROSS as usize] = [
    ("same node", Protocol::LongConnection, 0),
    ("other node", Protocol::LongConnection, 1),
    ("same node, stream", Protocol::Stream, 0),
    ("other node, stream", Protocol::Stream, 1),
];

/// Runs in a turn.
pub(crate) const ACROSS: u32 = 4;

/// All of them in turns.
pub(crate) fn across(session: &mut Session, members: &Members<'_>) -> Result<()> {
    let title = "from a set through one node to its push through another";
    session.records.write(&Line::Case { case: CASE, title, baseline: "" })?;
    let first = members.servers.first().context("there is no node")?.port();
    let mut way = Way::Set { head: members.product.set_head(first)?, message: MESSAGE, version: 0 };
    for pair in 1..=session.settings.pairs {
        for (name, protocol, node) in WAYS {
            let told = members.servers.get(node).context("there are too few nodes")?.port();
            let threads = listening_threads(&session.settings);
            let receivers = Receivers::open(told, protocol, RECEIVERS, threads)?;
            // A node that has a listener for a group asks the broker for what is told of it, which takes a moment.
            std::thread::sleep(Duration::from_millis(200));
            let mut publisher = Publisher::connect(first, way)?;
            let client_cpu_us = own_cpu_us();
            let outcomes = tell(session, &receivers, &mut publisher, RECEIVERS, pair)?;
            way = publisher.into_way();
            drop(receivers);
            session.advance(session.settings.warm_up() + session.settings.time());
            session.say(&format!(
                "{CASE}, pair {pair}, {name}: p50 {:.2} ms, p99 {:.2} ms from the request",
                millis(outcomes[1].1.p50_us),
                millis(outcomes[1].1.p99_us)
            ));
            for (load, outcome) in &outcomes {
                session.record(Run {
                    case: CASE,
                    load,
                    connections: 1,
                    rate: None,
                    pair,
                    server: name,
                    outcome,
                    server_cpu_us: 0,
                    client_cpu_us: own_cpu_us() - client_cpu_us,
                    peak_rss_kib: 0,
                })?;
            }
        }
    }
    Ok(())
}
