//! The load generator: some threads, each with its share of the connections, one request in flight on each.
//!
//! In a *closed loop* a connection sends its next request when an answer has come: that finds the highest rate.
//! In an *open loop* requests have a time-table of fixed rate; one that is due while every connection is busy
//! waits, and its latency counts from when it was due. So a pause of the server is felt by all who would have
//! come meanwhile, and not only by those who were there (no coordinated omission).
//!
//! It shares the processors with the server under test. Therefore requests are put together from prepared bytes,
//! answers are looked into by searching bytes, and nothing is allocated for a request.

mod answer;
mod gate;
mod worker;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use serde::Serialize;

pub(crate) use answer::parse;
pub(crate) use gate::Gate;

use crate::dialect::Dialect;
use crate::workload::{Mix, Source, Versions, Workload, Zipf, enough_slots, float};
use worker::Worker;

/// What is to be done.
pub(crate) struct Load {
    /// The language of the server.
    pub(crate) dialect: Arc<dyn Dialect>,
    /// Its ports on the loopback interface; connections take turns.
    pub(crate) ports: Vec<u16>,
    /// What is asked.
    pub(crate) workload: Workload,
    /// The versions of the pairs that it names.
    pub(crate) versions: Arc<Versions>,
    /// Keep-alive connections.
    pub(crate) connections: u32,
    /// Threads that share them.
    pub(crate) threads: u32,
    /// Requests a second, of all connections together; `None` for a closed loop.
    pub(crate) rate: Option<f64>,
    /// Runs before the figures are taken, with the same load.
    pub(crate) warm_up: Duration,
    /// How long figures are taken.
    pub(crate) time: Duration,
    /// Decides all that is random.
    pub(crate) seed: u64,
    /// Whether the pairs of pulls are counted.
    pub(crate) thorough: bool,
    /// What a closed loop waits for besides its answers.
    pub(crate) gate: Option<Arc<Gate>>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Outcome {
    /// Answers in the timed window.
    pub(crate) requests: u64,
    /// Good answers from the first to the last, warm-up included.
    pub(crate) answers: u64,
    /// Length of the window.
    pub(crate) duration_us: u64,
    /// Latencies of these answers, in microseconds.
    pub(crate) p50_us: u64,
    pub(crate) p90_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) max_us: u64,
    /// The longest time in which one thread of the generator, with all its connections, got no answer.
    pub(crate) longest_gap_us: u64,
    /// Answers in each second of the window.
    pub(crate) per_second: Vec<u64>,
    /// Requests that failed, in the window or outside: refused, a status other than 200, a broken connection,
    /// no answer in time.
    pub(crate) failures: u64,
    /// What the first of them said.
    pub(crate) first_failure: Option<String>,
}

impl Outcome {
    /// Answers a second.
    pub(crate) fn rate(&self) -> f64 {
        float(self.requests) * 1e6 / float(self.duration_us.max(1))
    }
}

/// Tells the time. The generator measures, so it asks the clock itself.
#[expect(clippy::disallowed_methods, reason = "the product's Clock is for the product; this is a stop-watch")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Makes the load and waits for its end, which is when every request was answered or ten seconds after the time.
pub(crate) fn run(load: &Load) -> Result<Outcome> {
    if !enough_slots(&load.workload, load.connections) {
        bail!("{} connections cannot set {:?} without meeting", load.connections, load.workload.range);
    }
    let zipf = (load.workload.mix == Mix::Zipf).then(|| Arc::new(Zipf::new(load.workload.range.messages)));
    let threads = load.threads.min(load.connections).max(1);
    let mut workers = Vec::new();
    for thread in 0..threads {
        let mine = (thread..load.connections).step_by(threads as usize);
        let sources = mine.zip(load.ports.iter().cycle().skip(thread as usize)).map(|(connection, port)| {
            let (number, all) = (u64::from(connection), u64::from(load.connections));
            let source = Source::new(load.workload, zipf.clone(), number, all, load.seed);
            (SocketAddrV4::new(Ipv4Addr::LOCALHOST, *port), source)
        });
        workers.push(Worker::connect(load, sources.collect())?);
    }
    let begin = now() + Duration::from_millis(10);
    let tallies: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = workers
            .into_iter()
            .zip(0_u32..)
            .map(|(worker, number)| {
                // The time-tables of the threads interleave evenly.
                let interval = load.rate.map(|rate| Duration::from_secs_f64(f64::from(threads) / rate));
                let offset = interval.map_or(Duration::ZERO, |interval| interval * number / threads);
                scope.spawn(move || worker.run(begin, begin + offset, interval))
            })
            .collect();
        running.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    let mut outcome = Outcome::default();
    let mut latencies = empty_histogram();
    for tally in tallies {
        let tally = tally.map_err(|_| anyhow::anyhow!("a thread of the load generator panicked"))??;
        outcome.requests += tally.requests;
        outcome.answers += tally.answers;
        outcome.failures += tally.failures;
        outcome.longest_gap_us = outcome.longest_gap_us.max(micros(tally.longest_gap));
        outcome.duration_us = outcome.duration_us.max(micros(tally.window));
        outcome.first_failure = outcome.first_failure.or(tally.first_failure);
        outcome.per_second.resize(outcome.per_second.len().max(tally.per_second.len()), 0);
        for (sum, count) in outcome.per_second.iter_mut().zip(&tally.per_second) {
            *sum += count;
        }
        latencies.add(&tally.latencies).context("two histograms of the same bounds")?;
    }
    outcome.p50_us = latencies.value_at_quantile(0.5);
    outcome.p90_us = latencies.value_at_quantile(0.9);
    outcome.p99_us = latencies.value_at_quantile(0.99);
    outcome.p999_us = latencies.value_at_quantile(0.999);
    outcome.max_us = latencies.max();
    Ok(outcome)
}

/// For microseconds from 1 to a minute, to three digits.
pub(crate) fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are sound")
}

/// Whole microseconds.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
