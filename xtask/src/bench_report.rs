//! `cargo xtask bench-report`: from the single runs that the benchmark recorded to medians, spreads and ratios,
//! as tables, as JSON and as pictures.
//!
//! Servers run in turns, and a ratio is the median over the ratios of runs that were neighbours: what slows the
//! machine for a while slows both.

mod picture;
mod records;
mod rows;
mod tables;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::fs;
use std::path::Path;

use records::{CaseTitle, Cost, Fill, Idle, Records, Reopen, Verify};
use rows::{Row, rows};

/// All that is known of a benchmark.
#[derive(Serialize)]
struct Report {
    machine: Machine,
    settings: serde_json::Map<String, serde_json::Value>,
    cases: Vec<CaseTitle>,
    rows: Vec<Row>,
    verification: Vec<Verify>,
    fills: Vec<Fill>,
    reopenings: Vec<Reopen>,
    costs: Vec<Cost>,
    idle: Vec<Idle>,
}

#[derive(Serialize)]
struct Machine {
    cores: usize,
    cpu: String,
    kernel: String,
    memory_kib: Option<u64>,
}

/// Reads `records`, prints tables, and writes `results.json` and a picture for each case into `folder`. An error if
/// the records are incomplete, or if any request of any run failed: figures of failing requests say nothing, but
/// what came of them is written for inspection.
pub(crate) fn run(records: &Path, folder: &Path) -> Result<()> {
    let text = fs::read_to_string(records).with_context(|| format!("cannot read {}", records.display()))?;
    let report = Report::new(Records::parse(&text)?, Machine::this()?)?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let json = serde_json::to_string_pretty(&report).context("cannot write the report as JSON")?;
    write(&folder.join("results.json"), &(json + "\n"))?;
    for case in &report.cases {
        let rows: Vec<_> = report.rows.iter().filter(|row| row.case == case.case).collect();
        let idle: Vec<_> = report.idle.iter().filter(|idle| idle.case == case.case).collect();
        let picture = picture::draw(&case.title, &rows, &idle);
        write(&folder.join(format!("{}.svg", case.case)), &picture)?;
    }
    print!("{}", report.tables());
    match report.failures() {
        0 => Ok(()),
        count => bail!("{count} requests failed; these figures must not be used"),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

impl Report {
    fn new(records: Records, machine: Machine) -> Result<Self> {
        if records.runs.is_empty() && records.idle.is_empty() {
            bail!("there is not a single run");
        }
        let rows = rows(&records.runs, &records.cases)?;
        let Records { settings, cases, verification, fills, reopenings, costs, idle, .. } = records;
        Ok(Self { machine, settings, cases, rows, verification, fills, reopenings, costs, idle })
    }

    fn failures(&self) -> u64 {
        let timed = self.rows.iter().map(|row| row.failures);
        let untimed = self.verification.iter().map(|verify| verify.failures);
        timed.chain(untimed).chain(self.idle.iter().map(|idle| idle.failures)).sum()
    }
}

impl Machine {
    fn this() -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cores = std::thread::available_parallelism().context("cannot count the cores")?.get();
        Ok(Self {
            cores,
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_kib: field(&read("/proc/meminfo"), "MemTotal")
                .and_then(|value| value.split_whitespace().next()?.parse().ok()),
        })
    }
}

/// The value of the first `name : value` line.
fn field(text: &str, name: &str) -> Option<String> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One run as the harness records it.
    pub(super) fn run_line(load: &str, pair: u32, server: &str, requests: u64, failures: u64) -> String {
        format!(
            r#"{{"kind":"run","case":"set1","load":"{load}","connections":64,"rate":null,"pair":{pair},"server":"{server}","requests":{requests},"answers":{},"duration_us":2000000,"p50_us":500,"p90_us":700,"p99_us":{requests},"p999_us":9000,"max_us":9100,"longest_gap_us":8000,"per_second":[{requests},1],"failures":{failures},"first_failure":null,"server_cpu_us":3000,"client_cpu_us":1000,"peak_rss_kib":2048}}"#,
            requests + 10
        )
    }

    /// Idle connections of a server as the harness records them.
    pub(super) fn idle_line(server: &str, failures: u64) -> String {
        format!(
            r#"{{"kind":"idle","case":"set1","server":"{server}","connections":1000,"opened_ms":1234.0,"before_kib":5000,"connected_kib":13500,"told_kib":15000,"failures":{failures},"first_failure":null}}"#
        )
    }

    pub(super) const CASE: &str =
        r#"{"kind":"case","case":"set1","title":"one-pair <set>","baseline":"bare"}"#;

    pub(super) fn report(lines: &[String]) -> Result<Report> {
        let machine = Machine { cores: 2, cpu: "test".to_owned(), kernel: "1".to_owned(), memory_kib: None };
        Report::new(Records::parse(&lines.join("\n"))?, machine)
    }

    #[test]
    fn every_kind_of_failure_is_counted() {
        let verify = r#"{"kind":"verify","case":"set1","server":"sidenote","answers":9,"failures":4,"first_failure":"x"}"#;
        let runs = [run_line("closed", 1, "sidenote", 9, 1), run_line("closed", 1, "bare", 9, 2)];
        let idle = idle_line("bare", 5);
        let lines = [vec![CASE.to_owned()], runs.to_vec(), vec![verify.to_owned(), idle]].concat();
        assert_eq!(report(&lines).unwrap().failures(), 12);
        let fine = run_line("closed", 1, "bare", 9, 0);
        assert_eq!(report(&[CASE.to_owned(), fine]).unwrap().failures(), 0);
    }

    #[test]
    fn failures_make_the_chore_fail_after_it_wrote_everything() {
        let folder = std::env::temp_dir().join(format!("bench-report-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let records = folder.join("records.jsonl");
        let lines = |failures| {
            [
                CASE.to_owned(),
                run_line("closed", 1, "sidenote", 9, failures),
                run_line("closed", 1, "bare", 9, 0),
            ]
            .join("\n")
        };
        fs::write(&records, lines(0)).unwrap();
        run(&records, &folder).unwrap();
        fs::write(&records, lines(3)).unwrap();
        let error = run(&records, &folder).unwrap_err().to_string();
        assert!(error.contains("3 requests failed"), "{error}");
        let json: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(folder.join("results.json")).unwrap()).unwrap();
        assert_eq!(json["rows"][0]["failures"], 3);
        assert!(fs::read_to_string(folder.join("set1.svg")).unwrap().starts_with("<svg"));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn machine_facts_are_read_from_colon_tables() {
        assert_eq!(
            field("processor\t: 0\nmodel name\t: Some CPU: fast\n", "model name").unwrap(),
            "Some CPU: fast"
        );
        assert_eq!(field("a: b\n", "c"), None);
    }
}
