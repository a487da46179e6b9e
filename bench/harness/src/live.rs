//! How fast others are told: pushes after a set, pushes for many, sets while many listen, and connections that are idle.
//!
//! One thread publishes and the others listen, so that the load generator has no more of them than elsewhere.

mod across;
mod fanout;
mod hooks;
mod idle;
mod listeners;
mod protocol;
mod publisher;
mod push;
mod receivers;
mod stage;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

use crate::cases::Scenario;
use crate::load::{Outcome, micros, now};
use crate::process::own_cpu_us;
use crate::record::Run;
use crate::servers::Server;
use crate::session::Session;
use crate::settings::Settings;
pub(crate) use across::{ACROSS, across};
pub(crate) use protocol::account;
use receivers::Receivers;
use stage::Stage;

/// Runs those of the cases that are asked for.
pub(crate) fn run(session: &mut Session, bin: &Path, folder: &Path) -> Result<()> {
    let asked = |scenario| session.settings.has(scenario);
    let [push, fanout, sets, idle] =
        [Scenario::Push, Scenario::Fanout, Scenario::SetWithListeners, Scenario::Idle].map(asked);
    if !(push || fanout || sets || idle) {
        return Ok(());
    }
    let most = if idle { session.settings.idle } else { 0 };
    receivers::allow_connections(most.max(session.settings.most_receivers()))?;
    let folder = folder.join("live");
    fs::create_dir(&folder).context("cannot make a folder")?;
    if push || fanout || sets {
        let mut stage = Stage::set(session, bin, &folder)?;
        if push {
            push::run(session, &mut stage)?;
        }
        if fanout {
            fanout::run(session, &mut stage)?;
        }
        if sets {
            listeners::run(session, &mut stage, bin, &folder)?;
        }
        stage.strike()?;
    }
    if idle {
        idle::run(session, bin, &folder)?;
    }
    Ok(())
}

/// What these cases will take, by the plan.
pub(crate) fn estimate(settings: &Settings) -> Duration {
    let run = settings.warm_up() + settings.time();
    let lengths = |list: usize| u32::try_from(list).unwrap_or(1);
    let mut time = Duration::ZERO;
    if settings.has(Scenario::Push) {
        time += run * settings.pairs * stage::TELLERS * lengths(settings.receivers.len());
    }
    if settings.has(Scenario::Fanout) {
        time += run * settings.pairs * stage::TELLERS;
    }
    if settings.has(Scenario::SetWithListeners) {
        // With the webhooks that are told after the time.
        time += run * settings.pairs * (listeners::VARIANTS + 3) * lengths(settings.connections.len());
    }
    if settings.has(Scenario::Idle) {
        time += idle::ESTIMATE * stage::TELLERS;
    }
    time
}

/// Threads that listen: one publishes.
fn listening_threads(settings: &Settings) -> u32 {
    settings.threads.saturating_sub(1).max(1)
}

/// How long a server has to notice that connections are gone.
const GOODBYE: Duration = Duration::from_millis(100);

/// What a run was called, and what was used before it.
struct Under<'a> {
    case: &'a str,
    server: &'a str,
    connections: u32,
    pair: u32,
    server_cpu_us: u64,
    client_cpu_us: u64,
}

impl<'a> Under<'a> {
    /// Lets the server run and begins to count. `name` is that of the row; a server may have several.
    fn begin(case: &'a str, name: &'a str, connections: u64, pair: u32, server: &mut Server) -> Result<Self> {
        server.resume()?;
        server.reset_peak();
        let connections = u32::try_from(connections).context("too many receivers")?;
        let (server_cpu_us, client_cpu_us) = (server.usage().cpu_us, own_cpu_us());
        Ok(Self { case, server: name, connections, pair, server_cpu_us, client_cpu_us })
    }

    /// Pauses the server and makes records of what came of the run, one for each load. Those who were told go after
    /// the counting and before the pause, so that their end is in no figure.
    fn end(
        self,
        session: &mut Session,
        server: &mut Server,
        told: Option<Receivers>,
        loads: &[(&str, Outcome)],
    ) -> Result<()> {
        let (usage, client_cpu_us) = (server.usage(), own_cpu_us());
        if told.is_some() {
            drop(told);
            std::thread::sleep(GOODBYE);
        }
        server.pause()?;
        session.advance(session.settings.warm_up() + session.settings.time());
        for (load, outcome) in loads {
            session.record(Run {
                case: self.case,
                load,
                connections: self.connections,
                rate: None,
                pair: self.pair,
                server: self.server,
                outcome,
                server_cpu_us: usage.cpu_us.saturating_sub(self.server_cpu_us),
                client_cpu_us: client_cpu_us.saturating_sub(self.client_cpu_us),
                peak_rss_kib: usage.peak_rss_kib,
            })?;
        }
        Ok(())
    }
}

/// What is counted between two moments: from the end of the warm-up that begins now, for as long as a run is.
fn count_window(settings: &Settings, counter: &AtomicU64) -> (u64, u64) {
    std::thread::sleep(settings.warm_up());
    let (begin, before) = (now(), counter.load(Ordering::Acquire));
    std::thread::sleep(settings.time());
    (counter.load(Ordering::Acquire) - before, micros(begin.elapsed()))
}

/// An outcome that has latencies.
fn timed(latencies: &Histogram<u64>, duration_us: u64, answers: u64) -> Outcome {
    Outcome {
        requests: latencies.len(),
        answers,
        duration_us,
        p50_us: latencies.value_at_quantile(0.5),
        p90_us: latencies.value_at_quantile(0.9),
        p99_us: latencies.value_at_quantile(0.99),
        p999_us: latencies.value_at_quantile(0.999),
        max_us: latencies.max(),
        ..Outcome::default()
    }
}

/// Adds failures that somebody else has counted.
fn add_failures(outcome: &mut Outcome, (failures, first): (u64, Option<String>)) {
    outcome.failures += failures;
    if outcome.first_failure.is_none() {
        outcome.first_failure = first;
    }
}

/// Adds pushes or webhooks that never came.
fn add_missing(outcome: &mut Outcome, missing: u64, what: &str) {
    let first = (missing > 0).then(|| format!("{missing} {what} never came"));
    add_failures(outcome, (missing, first));
}
