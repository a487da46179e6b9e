//! What the user may choose, by environment variables; `bench/run.sh --help` lists them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;
use serde::Serialize;

use crate::cases::Scenario;
use crate::servers::Reference;

/// Loads the product and what it is compared with, in turns, and records what came of it
#[derive(Parser, Debug)]
#[command(name = "make bench", after_help = "docs/performance.md tells the method.")]
struct Arguments {
    /// Short runs and little data, to see that everything works; the figures are not worth keeping
    #[arg(long, env = "BENCH_QUICK", value_parser = clap::builder::FalseyValueParser::new(), num_args = 0..=1,
          default_value = "false", default_missing_value = "true")]
    quick: bool,
    /// What is measured
    #[arg(
        long,
        env = "BENCH_SCENARIOS",
        value_enum,
        value_delimiter = ' ',
        value_name = "NAMES",
        default_value = "set1 set3 pull mix hot wide-set wide-pull sustain stored nodes push fanout set-with-listeners idle"
    )]
    scenarios: Vec<Scenario>,
    /// What the product is compared with, besides the bare server; "none" for nothing
    #[arg(
        long,
        env = "BENCH_REFERENCES",
        value_delimiter = ' ',
        value_name = "NAMES",
        default_value = "redis-always redis-everysec etcd postgres nats"
    )]
    references: Vec<String>,
    /// Numbers of connections
    #[arg(long, env = "BENCH_CONNS", value_delimiter = ' ', value_name = "NUMBERS", default_value = "64 256",
          value_parser = clap::value_parser!(u32).range(1..=300))]
    connections: Vec<u32>,
    /// Runs of each server in a case, in turns [default: 5, quick: 1]
    #[arg(long, env = "BENCH_PAIRS", value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=100))]
    pairs: Option<u32>,
    /// Seconds of one timed run [default: 5, quick: 1]
    #[arg(long, env = "BENCH_SECS", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: Option<u64>,
    /// Seconds of the sustained run at full load [default: 60, quick: 5]
    #[arg(long, env = "BENCH_SUSTAIN_SECS", value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    sustain_seconds: Option<u64>,
    /// Numbers of stored messages to measure at, ascending [default: 1000000 3000000 10000000, quick: 50000]
    #[arg(long, env = "BENCH_STORED", value_delimiter = ' ', value_name = "NUMBERS",
          value_parser = clap::value_parser!(u64).range(2000..=100_000_000))]
    stored: Vec<u64>,
    /// Number of stored messages that these are compared with [default: 100000, quick: 10000]
    #[arg(long, env = "BENCH_STORED_BASE", value_name = "NUMBER",
          value_parser = clap::value_parser!(u64).range(2000..=10_000_000))]
    stored_base: Option<u64>,
    /// Size in MiB of each of the two caches of the product's store [default: as the product comes]
    #[arg(long, env = "BENCH_CACHE_MIB", value_name = "MIB",
          value_parser = clap::value_parser!(u64).range(0..=65536))]
    cache_mib: Option<u64>,
    /// Numbers of receivers that a push goes to, ascending; the last one is that of the other cases with receivers
    /// [default: 1 100 1000, quick: 1 100]
    #[arg(long, env = "BENCH_RECEIVERS", value_delimiter = ' ', value_name = "NUMBERS",
          value_parser = clap::value_parser!(u64).range(1..=5000))]
    receivers: Vec<u64>,
    /// Number of idle connections [default: 10000, quick: 500]
    #[arg(long, env = "BENCH_IDLE", value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(10..=16_000))]
    idle: Option<u64>,
    /// Threads of the load generator
    #[arg(long, env = "BENCH_THREADS", value_name = "NUMBER", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
    /// Folder for the data; put it on the disk that is to be measured
    #[arg(long, env = "BENCH_DIR", value_name = "FOLDER", default_value = "target")]
    folder: PathBuf,
    /// File for the records
    #[arg(long, value_name = "FILE")]
    records: PathBuf,
}

/// The choices, with defaults filled in.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Settings {
    pub(crate) quick: bool,
    #[serde(skip)]
    pub(crate) scenarios: Vec<Scenario>,
    #[serde(skip)]
    pub(crate) references: Vec<Reference>,
    pub(crate) connections: Vec<u32>,
    pub(crate) pairs: u32,
    pub(crate) seconds: u64,
    pub(crate) sustain_seconds: u64,
    pub(crate) stored: Vec<u64>,
    pub(crate) stored_base: u64,
    /// Size of each of the two caches of the product; `None` leaves them as it comes.
    pub(crate) cache_mib: Option<u64>,
    pub(crate) receivers: Vec<u64>,
    pub(crate) idle: u64,
    pub(crate) threads: u32,
    #[serde(skip)]
    pub(crate) folder: PathBuf,
    #[serde(skip)]
    pub(crate) records: PathBuf,
}

impl Settings {
    /// From environment and command line. Ends the process with a usage message if they make no sense.
    pub(crate) fn read() -> Result<Self> {
        Self::complete(Arguments::parse())
    }

    fn complete(given: Arguments) -> Result<Self> {
        let quick = given.quick;
        let stored = match given.stored {
            stored if !stored.is_empty() => stored,
            _ if quick => vec![50_000],
            _ => vec![1_000_000, 3_000_000, 10_000_000],
        };
        if !stored.is_sorted_by(|one, next| one < next) {
            bail!(
                "BENCH_STORED must be ascending, since one store grows from one number to the next: {stored:?}"
            );
        }
        let receivers = match given.receivers {
            receivers if !receivers.is_empty() => receivers,
            _ if quick => vec![1, 100],
            _ => vec![1, 100, 1000],
        };
        if !receivers.is_sorted_by(|one, next| one < next) {
            bail!("BENCH_RECEIVERS must be ascending: {receivers:?}");
        }
        Ok(Self {
            quick,
            scenarios: given.scenarios,
            references: references(&given.references)?,
            connections: given.connections,
            pairs: given.pairs.unwrap_or(if quick { 1 } else { 5 }),
            seconds: given.seconds.unwrap_or(if quick { 1 } else { 5 }),
            sustain_seconds: given.sustain_seconds.unwrap_or(if quick { 5 } else { 60 }),
            stored,
            stored_base: given.stored_base.unwrap_or(if quick { 10_000 } else { 100_000 }),
            cache_mib: given.cache_mib,
            receivers,
            idle: given.idle.unwrap_or(if quick { 500 } else { 10_000 }),
            threads: given.threads,
            folder: given.folder,
            records: given.records,
        })
    }

    pub(crate) fn has(&self, scenario: Scenario) -> bool {
        self.scenarios.contains(&scenario)
    }

    /// The most receivers of any case but that of idle connections.
    pub(crate) fn most_receivers(&self) -> u64 {
        self.receivers.last().copied().unwrap_or(1)
    }

    /// Length of one timed run.
    pub(crate) fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// How long a load runs before figures are taken.
    pub(crate) fn warm_up(&self) -> Duration {
        Duration::from_millis(if self.quick { 200 } else { 500 })
    }
}

fn references(names: &[String]) -> Result<Vec<Reference>> {
    if names == ["none"] {
        return Ok(Vec::new());
    }
    let known = |name: &String| match <Reference as clap::ValueEnum>::from_str(name, false) {
        Ok(Reference::Bare) => bail!("the bare server is always there; BENCH_REFERENCES names the others"),
        Ok(reference) => Ok(reference),
        Err(_) => bail!(
            "BENCH_REFERENCES names \"{name}\"; known are redis-always, redis-everysec, etcd, postgres, nats and none"
        ),
    };
    names.iter().map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(arguments: &[&str]) -> Result<Settings> {
        let all = ["bench", "--records", "r"].iter().chain(arguments);
        Settings::complete(Arguments::try_parse_from(all)?)
    }

    #[test]
    fn defaults_are_those_of_a_full_run() {
        let full = settings(&[]).unwrap();
        assert_eq!((full.pairs, full.seconds, full.connections.as_slice()), (5, 5, &[64, 256][..]));
        assert_eq!(full.stored, [1_000_000, 3_000_000, 10_000_000]);
        assert_eq!((full.receivers.as_slice(), full.idle), (&[1, 100, 1000][..], 10_000));
        assert_eq!((full.scenarios.len(), full.references.len()), (14, 5));
    }

    #[test]
    fn quick_changes_defaults_and_not_choices() {
        let quick = settings(&["--quick", "--pairs", "3"]).unwrap();
        assert_eq!((quick.pairs, quick.seconds, quick.stored.as_slice()), (3, 1, &[50_000][..]));
        assert!(!settings(&["--quick=0"]).unwrap().quick);
        assert!(settings(&["--quick=1"]).unwrap().quick);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            ["--pairs", "0"],
            ["--connections", "64 0"],
            ["--connections", "1000"],
            ["--scenarios", "set1 set2"],
            ["--references", "redis"],
            ["--references", "bare"],
            ["--stored", "3000000 1000000"],
            ["--stored", "5"],
            ["--threads", "x"],
            ["--receivers", "100 1"],
            ["--idle", "100000"],
        ] {
            assert!(settings(&bad).is_err(), "{bad:?}");
        }
        assert!(settings(&["--references", "none"]).unwrap().references.is_empty());
    }
}
