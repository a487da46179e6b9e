//! Measuring: servers in turns, only one of them running at a time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::cases::Case;
use crate::load::{Outcome, now};
use crate::process::own_cpu_us;
use crate::record::{Line, Records, Run};
use crate::servers::{Drive, Server};
use crate::settings::Settings;

/// How a case is loaded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// As fast as it goes.
    Closed,
    /// At half of what the product can.
    Half(f64),
    /// As fast as it goes, for long.
    Sustained(Duration),
}

impl Pace {
    fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Half(_) => "half",
            Self::Sustained(_) => "sustained",
        }
    }
}

/// A benchmark under way.
pub(crate) struct Session {
    pub(crate) settings: Settings,
    pub(crate) records: Records,
    begin: Instant,
    /// Estimates: of everything, and of what is done.
    whole: Duration,
    done: Duration,
    failures: u64,
}

impl Session {
    /// `whole` is what everything will take by the plan.
    pub(crate) fn new(settings: Settings, records: Records, whole: Duration) -> Self {
        Self { settings, records, begin: now(), whole, done: Duration::ZERO, failures: 0 }
    }

    /// Tells what is going on and how long it will go on.
    pub(crate) fn say(&self, text: &str) {
        let left = self.whole.saturating_sub(self.done).as_secs().div_ceil(60);
        let passed = self.begin.elapsed().as_secs();
        eprintln!("bench: {:02}:{:02}, {left} min to go: {text}", passed / 60, passed % 60);
    }

    /// Counts some of the plan as done.
    pub(crate) fn advance(&mut self, planned: Duration) {
        self.done += planned;
    }

    /// Requests that failed so far.
    pub(crate) fn failures(&self) -> u64 {
        self.failures
    }

    /// Loads each server for a moment and looks into every answer, so that the timed runs need not look as closely.
    /// Warms them, too.
    pub(crate) fn verify(&mut self, case: &Case, servers: &mut [&mut Server]) -> Result<()> {
        let time = if self.settings.quick { Duration::from_millis(300) } else { Duration::from_secs(2) };
        for server in servers {
            let drive = Drive {
                workload: case.workload,
                connections: 64,
                threads: self.settings.threads,
                rate: None,
                warm_up: Duration::ZERO,
                time,
                seed: u64::from(self.settings.pairs) + 1,
                thorough: true,
            };
            server.resume()?;
            let outcome = server.drive(&drive);
            server.pause()?;
            let outcome = outcome?;
            self.fail_if_any(&case.name, server, &outcome);
            self.records.write(&Line::Verify {
                case: &case.name,
                server: &server.name,
                answers: outcome.answers,
                failures: outcome.failures,
                first_failure: outcome.first_failure.as_deref(),
            })?;
            if outcome.answers == 0 {
                bail!("{} answered nothing in the case {}", server.name, case.name);
            }
            self.advance(time);
        }
        Ok(())
    }

    /// One timed run, recorded.
    pub(crate) fn run(
        &mut self,
        case: &Case,
        server: &mut Server,
        connections: u32,
        pace: Pace,
        pair: u32,
    ) -> Result<Outcome> {
        let time = if let Pace::Sustained(time) = pace { time } else { self.settings.time() };
        let rate = if let Pace::Half(rate) = pace { Some(rate) } else { None };
        let drive = Drive {
            workload: case.workload,
            connections,
            threads: self.settings.threads,
            rate,
            warm_up: self.settings.warm_up(),
            time,
            seed: u64::from(pair),
            thorough: false,
        };
        server.resume()?;
        server.reset_peak();
        let (server_before, client_before) = (server.usage(), own_cpu_us());
        let outcome = server.drive(&drive);
        let (server_after, client_after) = (server.usage(), own_cpu_us());
        server.pause()?;
        let outcome = outcome?;
        self.advance(self.settings.warm_up() + time);
        self.say(&format!(
            "{} ({}), {connections} connections, pair {pair}, {}: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms",
            case.name,
            pace.name(),
            server.name,
            outcome.rate(),
            millis(outcome.p50_us),
            millis(outcome.p99_us),
        ));
        self.record(Run {
            case: &case.name,
            load: pace.name(),
            connections,
            rate,
            pair,
            server: &server.name,
            outcome: &outcome,
            server_cpu_us: server_after.cpu_us.saturating_sub(server_before.cpu_us),
            client_cpu_us: client_after.saturating_sub(client_before),
            peak_rss_kib: server_after.peak_rss_kib,
        })?;
        Ok(outcome)
    }

    /// Writes a run down, and counts what failed. An error if nothing was answered.
    pub(crate) fn record(&mut self, run: Run<'_>) -> Result<()> {
        let (case, server, outcome) = (run.case, run.server, run.outcome);
        self.count_failures(case, server, outcome.failures, outcome.first_failure.as_deref());
        self.records.write(&Line::Run(run))?;
        if outcome.requests == 0 {
            bail!("{server} answered nothing in the case {case}");
        }
        Ok(())
    }

    /// Counts failed requests and says what the first was.
    pub(crate) fn fail_if_any(&mut self, case: &str, server: &Server, outcome: &Outcome) {
        self.count_failures(case, &server.name, outcome.failures, outcome.first_failure.as_deref());
    }

    /// The same for what is no load of requests alone.
    pub(crate) fn count_failures(&mut self, case: &str, server: &str, failures: u64, first: Option<&str>) {
        self.failures += failures;
        if let Some(why) = first {
            eprintln!("bench: {case}, {server}: {failures} FAILED requests, the first: {why}");
        }
    }

    /// Runs all servers in turns, closed loop, for each number of connections; then product and bare server, which
    /// are the first two, at half the product's rate.
    pub(crate) fn compare(&mut self, case: &Case, servers: &mut [&mut Server]) -> Result<()> {
        self.records.write(&Line::Case { case: &case.name, title: &case.title, baseline: "bare" })?;
        self.verify(case, servers)?;
        for connections in self.settings.connections.clone() {
            let mut rates = Vec::new();
            for pair in 1..=self.settings.pairs {
                for (number, server) in servers.iter_mut().enumerate() {
                    let outcome = self.run(case, server, connections, Pace::Closed, pair)?;
                    if number == 0 {
                        rates.push(outcome.rate());
                    }
                }
            }
            let half = median(rates) / 2.0;
            for pair in 1..=self.settings.pairs {
                for server in servers.iter_mut().take(2) {
                    self.run(case, server, connections, Pace::Half(half), pair)?;
                }
            }
        }
        Ok(())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}
