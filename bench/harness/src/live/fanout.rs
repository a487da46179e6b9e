//! As many pushes as go: everybody hears everything, and no publisher runs away from those who listen.

use std::sync::Arc;

use anyhow::Result;

use super::protocol::Protocol;
use super::publisher::{PUSH_BYTES, flood};
use super::receivers::Receivers;
use super::stage::{MESSAGES, Stage};
use super::{Under, add_failures, add_missing, count_window, listening_threads};
use crate::load::{Gate, Outcome};
use crate::record::Line;
use crate::servers::{Drive, Publish, Server};
use crate::session::Session;
use crate::settings::Settings;
use crate::workload::{Mix, Range, Workload};

const CASE: &str = "fanout";

/// Messages that may be under way before all have heard them: a quarter of what the product lets one receiver be behind.
pub(super) const AHEAD: u64 = 128;

/// Connections that publish over HTTP.
const PUBLISHERS: u32 = 64;

/// All servers in turns.
pub(super) fn run(session: &mut Session, stage: &mut Stage) -> Result<()> {
    let receivers = session.settings.most_receivers();
    let title = format!("pushes to {receivers} receivers of each message");
    session.records.write(&Line::Case { case: CASE, title: &title, baseline: "bare" })?;
    for pair in 1..=session.settings.pairs {
        for (name, protocol) in stage.tellers() {
            one(session, stage, (name, protocol), receivers, pair)?;
        }
    }
    Ok(())
}

fn one(
    session: &mut Session,
    stage: &mut Stage,
    (name, protocol): (&str, Protocol),
    count: u64,
    pair: u32,
) -> Result<()> {
    let mut next = stage.nats_next;
    let server = stage.server(protocol)?;
    server.resume()?;
    let receivers = Receivers::open(server.port(), protocol, count, listening_threads(&session.settings))?;
    let under = Under::begin(CASE, name, count, pair, server)?;
    let (heard, settings) = (receivers.heard(), session.settings.clone());
    let gate = Arc::new(Gate::new(count, AHEAD, Arc::clone(&heard)));
    let (published, (requests, duration_us)) = std::thread::scope(|scope| {
        let counting = scope.spawn(|| count_window(&settings, &heard));
        let published = publish(server, protocol, &gate, &settings, pair, &mut next);
        let counted = counting.join().map_err(|_| anyhow::anyhow!("the thread that counts panicked"))?;
        Ok::<_, anyhow::Error>((published?, counted))
    })?;
    let answers = published.answers * count;
    let mut outcome = Outcome { requests, answers, duration_us, ..Outcome::default() };
    add_failures(&mut outcome, (published.failures, published.first_failure));
    add_failures(&mut outcome, receivers.failures());
    add_missing(&mut outcome, receivers.missing(answers), "pushes");
    session.say(&format!("{CASE}, {count} receivers, pair {pair}, {name}: {:.0} pushes/s", outcome.rate()));
    under.end(session, stage.server(protocol)?, Some(receivers), &[("fanout", outcome)])?;
    stage.nats_next = next;
    Ok(())
}

/// Publishes for the time of a run. The answers of the outcome are the messages that everybody is to hear.
fn publish(
    server: &mut Server,
    protocol: Protocol,
    gate: &Arc<Gate>,
    settings: &Settings,
    pair: u32,
    next: &mut u64,
) -> Result<Outcome> {
    match protocol {
        Protocol::LongConnection | Protocol::Stream => {
            gated(server, gate, &drive(settings, MESSAGES, PUBLISHERS, pair))
        }
        Protocol::Broadcast => {
            let publish = Publish::new(server.port(), PUSH_BYTES);
            let mut publishers = server.spoken_to("bare", Arc::new(publish));
            gated(&mut publishers, gate, &drive(settings, MESSAGES, PUBLISHERS, pair))
        }
        Protocol::Nats => {
            let time = settings.warm_up() + settings.time();
            let answers = flood(server.port(), next, gate, time)?;
            Ok(Outcome { answers, ..Outcome::default() })
        }
    }
}

/// One-pair sets from one thread, as fast as they go.
pub(super) fn drive(settings: &Settings, range: Range, connections: u32, pair: u32) -> Drive {
    Drive {
        workload: Workload { range, mix: Mix::Sets(1) },
        connections,
        threads: 1,
        rate: None,
        warm_up: settings.warm_up(),
        time: settings.time(),
        seed: u64::from(pair),
        thorough: false,
    }
}

/// Loads a server through a gate.
pub(super) fn gated(server: &mut Server, gate: &Arc<Gate>, drive: &Drive) -> Result<Outcome> {
    server.gate = Some(Arc::clone(gate));
    let outcome = server.drive(drive);
    server.gate = None;
    outcome
}
