//! `cargo xtask bench-report`: from the single runs of `bench/run.sh` to medians, spreads and ratios.
//!
//! The input has one JSON object a line. Product and bare server run in turns, and the ratio of a case is
//! the median over the ratios of neighbours: what slows the machine for a while slows both of a pair.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One line of the input.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line {
    /// What was measured, and how; printed once at the start.
    Settings(serde_json::Map<String, serde_json::Value>),
    /// One timed run.
    Run(Run),
    /// One untimed run that looked into every answer.
    Verify(Verify),
}

#[derive(Deserialize, Clone)]
struct Run {
    case: String,
    connections: u32,
    /// Which pair of neighbours this run belongs to.
    pair: u32,
    server: Server,
    requests: u64,
    duration_us: u64,
    p50_us: u64,
    p99_us: u64,
    /// Socket errors, time-outs and statuses of 400 and above.
    errors: u64,
}

impl Run {
    #[expect(clippy::cast_precision_loss, reason = "counts of one run are far below 2^52")]
    fn per_second(&self) -> f64 {
        self.requests as f64 * 1e6 / self.duration_us as f64
    }
}

#[derive(Deserialize, Serialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Server {
    Product,
    Bare,
}

#[derive(Deserialize, Serialize)]
struct Verify {
    case: String,
    server: Server,
    answers: u64,
    /// Answers with a status other than 200.
    not_200: u64,
    /// Answers whose envelope has an `ErrorCode` other than 0, or none.
    refused: u64,
    /// Answers in which single pairs were refused.
    pairs_refused: u64,
    /// Socket errors and time-outs.
    errors: u64,
}

/// Median, smallest and largest of some runs.
#[derive(Serialize, Clone, Copy, PartialEq, Debug)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

#[derive(Serialize)]
struct Figures {
    requests_per_second: Spread,
    p50_us: Spread,
    p99_us: Spread,
    requests: u64,
    errors: u64,
}

#[derive(Serialize)]
struct Row {
    case: String,
    connections: u32,
    pairs: usize,
    product: Figures,
    bare: Figures,
    /// Requests a second of the product divided by those of its bare neighbour.
    ratio: Spread,
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    settings: serde_json::Map<String, serde_json::Value>,
    rows: Vec<Row>,
    verification: Vec<Verify>,
}

#[derive(Serialize)]
struct Machine {
    cores: usize,
    cpu: String,
    kernel: String,
    memory_kib: Option<u64>,
}

/// Reads `runs`, prints the table and writes `out`. An error if the input is incomplete, or if any request
/// of any run failed: figures of failing requests say nothing, but `out` is written for inspection.
pub(crate) fn run(runs: &Path, out: &Path) -> Result<()> {
    let text = std::fs::read_to_string(runs).with_context(|| format!("cannot read {}", runs.display()))?;
    let report = Report::from_lines(&text, Machine::this()?)?;
    let json = serde_json::to_string_pretty(&report).context("cannot write the report as JSON")?;
    std::fs::write(out, json + "\n").with_context(|| format!("cannot write {}", out.display()))?;
    print!("{}", report.table());
    match report.failures() {
        0 => Ok(()),
        count => bail!("{count} requests failed; these figures must not be used"),
    }
}

impl Report {
    fn from_lines(text: &str, machine: Machine) -> Result<Self> {
        let (mut settings, mut runs, mut verification) = (serde_json::Map::new(), Vec::new(), Vec::new());
        for (index, line) in text.lines().enumerate() {
            match serde_json::from_str(line)
                .with_context(|| format!("line {} is no result: {line}", index + 1))?
            {
                Line::Settings(values) => settings.extend(values),
                Line::Run(run) if run.requests == 0 || run.duration_us == 0 => {
                    bail!("line {}: a run without a single answer", index + 1)
                }
                Line::Run(run) => runs.push(run),
                Line::Verify(verify) if verify.answers == 0 => {
                    bail!("line {}: a verification without a single answer", index + 1)
                }
                Line::Verify(verify) => verification.push(verify),
            }
        }
        Ok(Self { machine, settings, rows: rows(&runs)?, verification })
    }

    fn failures(&self) -> u64 {
        let timed = self.rows.iter().map(|row| row.product.errors + row.bare.errors);
        let looked_at = self.verification.iter().map(|v| v.not_200 + v.refused + v.pairs_refused + v.errors);
        timed.chain(looked_at).sum()
    }

    /// The rows as a Markdown table, then what the verification saw.
    fn table(&self) -> String {
        use std::fmt::Write;
        let mut text = format!(
            "{} cores, {}, kernel {}\n\n\
             | case | connections | server | requests/s (min-max) | p50 ms | p99 ms (min-max) | errors | of bare |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- |\n",
            self.machine.cores, self.machine.cpu, self.machine.kernel
        );
        for row in &self.rows {
            let ratio = format!("{:.2} ({:.2}-{:.2})", row.ratio.median, row.ratio.min, row.ratio.max);
            for (name, figures, ratio) in [("product", &row.product, ratio.as_str()), ("bare", &row.bare, "")]
            {
                let (rate, p50, p99) = (figures.requests_per_second, figures.p50_us, figures.p99_us);
                writeln!(
                    text,
                    "| {} | {} | {name} | {:.0} ({:.0}-{:.0}) | {:.2} | {:.2} ({:.2}-{:.2}) | {} | {ratio} |",
                    row.case,
                    row.connections,
                    rate.median,
                    rate.min,
                    rate.max,
                    p50.median / 1e3,
                    p99.median / 1e3,
                    p99.min / 1e3,
                    p99.max / 1e3,
                    figures.errors
                )
                .expect("writing to a String cannot fail");
            }
        }
        for v in &self.verification {
            let name = if v.server == Server::Product { "product" } else { "bare" };
            writeln!(
                text,
                "\nverified {} on {name}: {} answers, {} not 200, {} refused, {} with a refused pair, {} socket errors",
                v.case, v.answers, v.not_200, v.refused, v.pairs_refused, v.errors
            )
            .expect("writing to a String cannot fail");
        }
        text
    }
}

/// One row for each case and number of connections, in the order of their first runs.
fn rows(runs: &[Run]) -> Result<Vec<Row>> {
    let mut cases: Vec<(&str, u32)> = Vec::new();
    for run in runs {
        if !cases.contains(&(&run.case, run.connections)) {
            cases.push((&run.case, run.connections));
        }
    }
    if cases.is_empty() {
        bail!("there is not a single run");
    }
    cases.into_iter().map(|(case, connections)| row(case, connections, runs)).collect()
}

fn row(case: &str, connections: u32, runs: &[Run]) -> Result<Row> {
    let of = |server| {
        let here = |run: &&Run| run.case == case && run.connections == connections && run.server == server;
        runs.iter().filter(here).collect::<Vec<_>>()
    };
    let (product, bare) = (of(Server::Product), of(Server::Bare));
    let mut ratios = Vec::new();
    for ours in &product {
        let neighbour = bare.iter().find(|run| run.pair == ours.pair).with_context(|| {
            format!("{case} at {connections} connections: pair {} has no run of the bare server", ours.pair)
        })?;
        ratios.push(ours.per_second() / neighbour.per_second());
    }
    if ratios.is_empty() || ratios.len() != bare.len() {
        bail!(
            "{case} at {connections} connections: {} runs of the product, {} of the bare server",
            product.len(),
            bare.len()
        );
    }
    Ok(Row {
        case: case.to_owned(),
        connections,
        pairs: ratios.len(),
        product: Figures::of(&product),
        bare: Figures::of(&bare),
        ratio: Spread::of(ratios),
    })
}

impl Figures {
    #[expect(clippy::cast_precision_loss, reason = "latencies of one run are far below 2^52 microseconds")]
    fn of(runs: &[&Run]) -> Self {
        let spread = |value: fn(&Run) -> f64| Spread::of(runs.iter().map(|run| value(run)).collect());
        Self {
            requests_per_second: spread(Run::per_second),
            p50_us: spread(|run| run.p50_us as f64),
            p99_us: spread(|run| run.p99_us as f64),
            requests: runs.iter().map(|run| run.requests).sum(),
            errors: runs.iter().map(|run| run.errors).sum(),
        }
    }
}

impl Spread {
    /// Of at least one value. The median of an even number is the mean of the middle two.
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => f64::midpoint(values[middle - 1], values[middle]),
            _ => values[middle],
        };
        Self { median, min: values[0], max: values[values.len() - 1] }
    }
}

impl Machine {
    fn this() -> Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Ok(Self {
            cores: std::thread::available_parallelism().context("cannot count the cores")?.get(),
            cpu: field(&read("/proc/cpuinfo"), "model name")
                .unwrap_or_else(|| "unknown processor".to_owned()),
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

    fn machine() -> Machine {
        Machine { cores: 2, cpu: "test".to_owned(), kernel: "1".to_owned(), memory_kib: None }
    }

    fn line(pair: u32, server: &str, requests: u64, errors: u64) -> String {
        format!(
            r#"{{"kind":"run","case":"set","connections":64,"pair":{pair},"server":"{server}","requests":{requests},"duration_us":2000000,"p50_us":500,"p99_us":{requests},"errors":{errors}}}"#
        )
    }

    fn report(lines: &[String]) -> Result<Report> {
        Report::from_lines(&lines.join("\n"), machine())
    }

    #[test]
    fn the_ratio_is_the_median_over_pairs_and_not_the_ratio_of_medians() {
        let lines: Vec<_> = [(1, 60, 100), (2, 40, 50), (3, 30, 60)]
            .iter()
            .flat_map(|(pair, ours, bare)| [line(*pair, "product", *ours, 0), line(*pair, "bare", *bare, 0)])
            .collect();
        let report = report(&lines).unwrap();
        let row = &report.rows[0];
        assert_eq!(row.ratio, Spread { median: 0.6, min: 0.5, max: 0.8 });
        assert_eq!(row.product.requests_per_second, Spread { median: 20.0, min: 15.0, max: 30.0 });
        assert_eq!((row.pairs, row.product.requests, report.failures()), (3, 130, 0));
        assert!(report.table().contains("| set | 64 | product | 20 (15-30) | 0.50 |"), "{}", report.table());
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(Spread::of(vec![4.0, 1.0]), Spread { median: 2.5, min: 1.0, max: 4.0 });
    }

    #[test]
    fn every_kind_of_failure_is_counted() {
        let verify = r#"{"kind":"verify","case":"set","server":"product","answers":9,"not_200":1,"refused":2,"pairs_refused":4,"errors":8}"#;
        let report = report(&[line(1, "product", 9, 16), line(1, "bare", 9, 32), verify.to_owned()]).unwrap();
        assert_eq!(report.failures(), 63);
    }

    #[test]
    fn incomplete_input_is_refused() {
        assert!(report(&[]).is_err());
        assert!(report(&[line(1, "product", 9, 0)]).is_err());
        assert!(report(&[line(1, "product", 9, 0), line(2, "bare", 9, 0)]).is_err());
        assert!(report(&[line(1, "product", 9, 0), line(1, "bare", 9, 0), line(2, "bare", 9, 0)]).is_err());
        assert!(report(&[line(1, "product", 0, 0), line(1, "bare", 9, 0)]).is_err());
        assert!(report(&["{\"kind\":\"run\"}".to_owned()]).is_err());
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
