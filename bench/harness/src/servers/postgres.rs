//! PostgreSQL through pgbench: no HTTP and no JSON in between, so an upper bound for what a service on top of SQL
//! could do.
//!
//! pgbench cannot remember versions. It passes -1, which the statement takes for "any", so the comparison is made
//! and holds; that it is a comparison is shown before with versions that are right and wrong.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Drive, Server, Way};
use crate::cases::Data;
use crate::load::{Outcome, empty_histogram, micros};
use crate::process::{Process, answers_on, free_port, output_of};
use crate::workload::{KEYS, Mix, Range};

/// The account that Debian's package makes for the server, which refuses to run as root.
const ACCOUNT: &str = "postgres";

/// The database that is there from the start.
const DATABASE: &str = "postgres";

const TABLE: &str = "CREATE TABLE pairs (message bigint, key int, value text NOT NULL, version bigint NOT NULL, \
                     PRIMARY KEY (message, key))";
const VALUE: &str = "abcdefghijklmnopqrstuvwxyz0123456789abcd";

/// Runs of pgbench, each twice as long as the one before, until one is long enough.
const ATTEMPTS: u32 = 4;

/// A running server, as pgbench sees it.
pub(crate) struct Pgbench {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
}

/// What pgbench runs, and how.
pub(crate) struct Script<'a> {
    /// The text.
    pub(crate) text: &'a str,
    /// In which database.
    pub(crate) database: &'a str,
    /// Variables with their values.
    pub(crate) variables: &'a [(&'a str, String)],
    /// Options of each connection, as a server's command line takes them.
    pub(crate) options: &'a str,
    pub(crate) connections: u32,
    pub(crate) threads: u32,
    pub(crate) warm_up: Duration,
    pub(crate) time: Duration,
    pub(crate) seed: u64,
}

pub(super) fn start(folder: &Path, data: &Data) -> Result<Server> {
    let (process, pgbench) = start_server(folder, &["shared_buffers=256MB"])?;
    pgbench.sql(DATABASE, TABLE)?;
    pgbench.prove_comparison(data.proof)?;
    let Range { first, messages, stored_pairs, .. } = data.full;
    pgbench.sql(
        DATABASE,
        &format!(
            "INSERT INTO pairs SELECT message, key, '{VALUE}', 1 FROM generate_series({first}, {}) message, \
             generate_series(0, {}) key",
            first + messages - 1,
            stored_pairs - 1
        ),
    )?;
    pgbench.sql(DATABASE, "VACUUM ANALYZE pairs")?;
    let (name, processes) = ("postgres".to_owned(), vec![process]);
    Ok(Server {
        name,
        processes,
        way: Way::Pgbench(pgbench),
        stored: true,
        versions: HashMap::new(),
        gate: None,
    })
}

/// Starts a server with an empty cluster in this folder, durable, and with these settings besides.
pub(crate) fn start_server(folder: &Path, settings: &[&str]) -> Result<(Process, Pgbench)> {
    let programs = programs()?;
    let (cluster, port) = (folder.join("cluster"), free_port()?);
    let as_account = |program: &str| {
        let program = programs.join(program);
        if !rustix::process::geteuid().is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        let (user, group) = (format!("--reuid={ACCOUNT}"), format!("--regid={ACCOUNT}"));
        command.args([user.as_str(), group.as_str(), "--clear-groups"]).arg(program);
        command
    };
    fs::create_dir_all(&cluster).with_context(|| format!("cannot create {}", cluster.display()))?;
    if rustix::process::geteuid().is_root() {
        output_of(Command::new("chown").arg(ACCOUNT).arg(&cluster))?;
    }
    output_of(
        as_account("initdb")
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale", "--pgdata"])
            .arg(&cluster),
    )
    .with_context(|| {
        format!("the account {ACCOUNT} must be able to reach {}; set BENCH_DIR if not", cluster.display())
    })?;
    let mut command = as_account("postgres");
    command.arg("-D").arg(&cluster).args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", ""]);
    for setting in ["max_connections=400", "synchronous_commit=on", "fsync=on"].iter().chain(settings) {
        command.args(["-c", setting]);
    }
    let mut process = Process::start("postgres", folder, &mut command)?;
    process.wait_until(|| answers_on(port))?;
    let pgbench = Pgbench { programs, folder: folder.to_owned(), port };
    process.wait_until(|| pgbench.sql(DATABASE, "SELECT 1").is_ok())?;
    Ok((process, pgbench))
}

/// The folder of the newest version's programs, which Debian keeps out of the search path.
fn programs() -> Result<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let programs = entry.path().join("bin");
            let version = entry.file_name().to_str()?.parse().ok()?;
            programs.join("pgbench").is_file().then_some((version, programs))
        })
        .collect();
    found.sort();
    found.pop().map(|(_, programs)| programs).context("no PostgreSQL with pgbench in /usr/lib/postgresql")
}

/// One statement that sets `pairs` pairs, each only if it has the version `expected` or that is -1, and fails unless
/// all were set. Numbers may be names of pgbench's variables.
fn set(message: &str, key: &str, pairs: u32, expected: &str) -> String {
    let mut rows = String::new();
    for offset in 0..pairs {
        let comma = if offset == 0 { "" } else { ", " };
        write!(rows, "{comma}({message}::bigint, {key}::int + {offset}, '{VALUE}', 1)")
            .expect("memory takes all text");
    }
    format!(
        "WITH written AS (INSERT INTO pairs AS p VALUES {rows} ON CONFLICT (message, key) DO UPDATE \
         SET value = excluded.value, version = p.version + 1 \
         WHERE p.version = {expected}::bigint OR {expected}::bigint = -1 RETURNING 1) \
         SELECT 1 / (count(*) = {pairs})::int FROM written"
    )
}

/// What pgbench runs again and again for a workload.
fn script(mix: Mix, range: Range) -> Result<String> {
    let last = range.first + range.messages - 1;
    let message = format!("\\set message random({}, {last})\n", range.first);
    Ok(match mix {
        Mix::Sets(pairs) => {
            let groups = KEYS / pairs;
            let statement = set(":message", ":key", pairs, ":expected");
            format!(
                "{message}\\set key random(0, {}) * {pairs}\n\\set expected -1\n{statement};\n",
                groups - 1
            )
        }
        Mix::Pulls => {
            format!("{message}SELECT key, value, version FROM pairs WHERE message = :message::bigint;\n")
        }
        Mix::Zipf | Mix::FillOnce(_) => bail!("pgbench has no script for this load"),
    })
}

impl Pgbench {
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// How a database is reached.
    pub(crate) fn dsn(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// Carries out SQL and returns what it prints, columns separated by `|`.
    pub(crate) fn sql(&self, database: &str, statement: &str) -> Result<String> {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres", "-d", database]);
        output_of(command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement]))
    }

    fn prove_comparison(&self, range: Range) -> Result<()> {
        let set = |expected: &str| self.sql(DATABASE, &set(&range.first.to_string(), "0", 1, expected));
        set("0").context("PostgreSQL refused to write an absent pair")?;
        for wrong in ["0", "2"] {
            if set(wrong).is_ok() {
                bail!("PostgreSQL does not compare: it wrote a pair of version 1 that was named as {wrong}");
            }
        }
        set("1").context("PostgreSQL refused a pair whose version was named rightly")?;
        let version =
            self.sql(DATABASE, &format!("SELECT version FROM pairs WHERE message = {}", range.first))?;
        if version.trim() != "2" {
            bail!("after two sets the version is {version}");
        }
        Ok(())
    }

    pub(super) fn drive(&self, drive: &Drive) -> Result<Outcome> {
        self.run(&Script {
            text: &script(drive.workload.mix, drive.workload.range)?,
            database: DATABASE,
            variables: &[],
            options: "",
            connections: drive.connections,
            threads: drive.threads,
            warm_up: drive.warm_up,
            time: drive.time,
            seed: drive.seed,
        })
    }

    /// Runs a script again and again.
    pub(crate) fn run(&self, script: &Script<'_>) -> Result<Outcome> {
        let path = self.folder.join("script.sql");
        fs::write(&path, script.text).with_context(|| format!("cannot write {}", path.display()))?;
        // pgbench counts the time in which its connections open, though not in its rate. With many of them too little
        // may be left; then it gets more time.
        let mut seconds = (script.warm_up + script.time).as_secs() + 2;
        for _ in 0..ATTEMPTS {
            let mut command = Command::new(self.programs.join("pgbench"));
            command.env("PGOPTIONS", script.options);
            command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres"]);
            command.args(["-n", "-M", "prepared", "-T", &seconds.to_string()]);
            command.args(["-c", &script.connections.to_string(), "-j", &script.threads.to_string()]);
            command.args(["--random-seed", &script.seed.to_string(), "-l"]);
            for (name, value) in script.variables {
                command.arg("-D").arg(format!("{name}={value}"));
            }
            command.arg(format!("--log-prefix={}", self.folder.join("transactions").display()));
            command.arg("-f").arg(&path).arg(script.database);
            let outcome = self.of_the_end(read_report(&output_of(&mut command)?)?, script.time)?;
            if outcome.requests > 0 && outcome.duration_us >= micros(script.time) {
                return Ok(outcome);
            }
            seconds *= 2;
        }
        bail!("the connections of pgbench did not open in {} s", seconds / 2)
    }

    /// Reads the log of each transaction, and removes it. Rate and latencies are those of the last so many seconds: in
    /// the first, connections open and prepare their statements, which those of a server have done long ago.
    fn of_the_end(&self, mut outcome: Outcome, time: Duration) -> Result<Outcome> {
        let mut transactions = Vec::new();
        for entry in fs::read_dir(&self.folder).context("cannot list the folder of PostgreSQL")? {
            let path = entry.context("cannot list the folder of PostgreSQL")?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !name.starts_with("transactions.") {
                continue;
            }
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            transactions.extend(text.lines().filter_map(logged));
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        let first = transactions.iter().map(|(ended, _)| *ended).min().unwrap_or(0);
        let last = transactions.iter().map(|(ended, _)| *ended).max().unwrap_or(0);
        // Of too short a run nothing is taken, so that there is a longer one.
        outcome.duration_us = micros(time).min(last - first);
        let mut latencies = empty_histogram();
        for (_, latency) in transactions.iter().filter(|(ended, _)| *ended > last - outcome.duration_us) {
            latencies.saturating_record(*latency);
        }
        outcome.requests = latencies.len();
        outcome.p50_us = latencies.value_at_quantile(0.5);
        outcome.p90_us = latencies.value_at_quantile(0.9);
        outcome.p99_us = latencies.value_at_quantile(0.99);
        outcome.p999_us = latencies.value_at_quantile(0.999);
        outcome.max_us = latencies.max();
        Ok(outcome)
    }
}

/// When a transaction ended and how long it took, in microseconds, from a line of pgbench's log.
fn logged(line: &str) -> Option<(u64, u64)> {
    let mut fields = line.split(' ').skip(2);
    let latency = fields.next()?.parse().ok()?;
    let mut moment = fields.skip(1).map(|field| field.parse::<u64>().ok());
    Some((moment.next()?? * 1_000_000 + moment.next()??, latency))
}

/// Takes the figures out of what pgbench prints at its end.
fn read_report(text: &str) -> Result<Outcome> {
    let number = |marker: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(marker))?;
        rest.split_whitespace().next()?.parse::<f64>().ok()
    };
    let requests = number("number of transactions actually processed:");
    let rate = number("tps =");
    let failed = number("number of failed transactions:");
    if requests == Some(0.0) {
        return Ok(Outcome::default());
    }
    let (Some(requests), Some(rate), Some(failed)) = (requests, rate.filter(|rate| *rate > 0.0), failed)
    else {
        bail!("pgbench printed no figures: {text}");
    };
    Ok(Outcome {
        requests: whole(requests),
        answers: whole(requests),
        duration_us: whole(requests * 1e6 / rate),
        failures: whole(failed),
        first_failure: (failed > 0.0).then(|| "pgbench reports failed transactions".to_owned()),
        ..Outcome::default()
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts and microseconds of one run"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_report() {
        let text = "transaction type: script.sql\nscaling factor: 1\n\
            number of transactions actually processed: 30000\nnumber of failed transactions: 0 (0.000%)\n\
            latency average = 2.1 ms\ninitial connection time = 60 ms\n\
            tps = 15000.000000 (without initial connection time)\n";
        let outcome = read_report(text).unwrap();
        assert_eq!((outcome.requests, outcome.duration_us, outcome.failures), (30_000, 2_000_000, 0));
        let failed = read_report(&text.replace("transactions: 0", "transactions: 3")).unwrap();
        assert_eq!(failed.failures, 3);
        let none = text.replace("processed: 30000", "processed: 0").replace("tps = 15000.000000", "");
        assert_eq!(read_report(&none).unwrap().requests, 0);
        read_report("pgbench: error").unwrap_err();
        read_report(&text.replace("15000.000000", "0.000000")).unwrap_err();
    }

    #[test]
    fn moments_and_latencies_are_read_from_the_log() {
        assert_eq!(logged("0 199 2241 0 1175850568 995598"), Some((1_175_850_568_995_598, 2241)));
        assert_eq!((logged("0 199 failed 0 1175850568 995598"), logged("")), (None, None));
    }

    #[test]
    fn three_pairs_are_one_statement_with_neighbouring_keys() {
        let range = Range { first: 1, messages: 10, stored_pairs: 0, keys: Some(KEYS) };
        let script = script(Mix::Sets(3), range).unwrap();
        assert!(script.contains("random(1, 10)") && script.contains("random(0, 5) * 3"), "{script}");
        assert!(script.contains(":key::int + 2") && script.contains("(count(*) = 3)"), "{script}");
        self::script(Mix::Zipf, range).unwrap_err();
    }
}
