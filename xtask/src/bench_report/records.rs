//! The lines that the benchmark's harness writes.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line {
    /// What was measured, and how.
    Settings(serde_json::Map<String, serde_json::Value>),
    Case(CaseTitle),
    Run(Run),
    Verify(Verify),
    Fill(Fill),
    Reopen(Reopen),
    Cost(Cost),
    Idle(Idle),
}

/// A case of which runs follow.
#[derive(Deserialize, Serialize)]
pub(super) struct CaseTitle {
    pub(super) case: String,
    pub(super) title: String,
    /// The server that ratios refer to; empty if there is none.
    pub(super) baseline: String,
}

/// One timed run.
#[derive(Deserialize)]
pub(super) struct Run {
    pub(super) case: String,
    /// `closed`, `half` or `sustained`; `push` and `sent`, where latencies are those of pushes; `fanout`, where pushes
    /// are counted.
    pub(super) load: String,
    pub(super) connections: u32,
    /// Requests a second that were asked for, in an open loop.
    pub(super) rate: Option<f64>,
    /// Runs of the same number are neighbours.
    pub(super) pair: u32,
    pub(super) server: String,
    /// Answers in the window, and in all.
    pub(super) requests: u64,
    pub(super) answers: u64,
    pub(super) duration_us: u64,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
    pub(super) p999_us: u64,
    pub(super) max_us: u64,
    pub(super) longest_gap_us: u64,
    pub(super) per_second: Vec<u64>,
    pub(super) failures: u64,
    pub(super) server_cpu_us: u64,
    pub(super) client_cpu_us: u64,
    pub(super) peak_rss_kib: u64,
}

impl Run {
    /// Requests a second.
    pub(super) fn per_second(&self) -> f64 {
        float(self.requests) * 1e6 / float(self.duration_us)
    }
}

/// One untimed run in which every answer was looked into.
#[derive(Deserialize, Serialize)]
pub(super) struct Verify {
    pub(super) case: String,
    pub(super) server: String,
    pub(super) answers: u64,
    pub(super) failures: u64,
    pub(super) first_failure: Option<String>,
}

/// Storing the data of the cases on many messages.
#[derive(Deserialize, Serialize)]
pub(super) struct Fill {
    /// Messages that are stored now, and those of them that this took.
    pub(super) stored: u64,
    pub(super) messages: u64,
    pub(super) seconds: f64,
    /// Size of the store now.
    pub(super) bytes: u64,
}

/// Opening a store until it was ready.
#[derive(Deserialize, Serialize)]
pub(super) struct Reopen {
    pub(super) stored: u64,
    /// How it ended before: `stop` or `kill`.
    pub(super) after: String,
    pub(super) ms: f64,
}

/// What the requests of a run cost the database, or of so many that were counted one by one.
#[derive(Deserialize, Serialize)]
pub(super) struct Cost {
    pub(super) case: String,
    pub(super) server: String,
    pub(super) connections: u32,
    pub(super) pair: u32,
    pub(super) requests: u64,
    pub(super) round_trips: Option<u64>,
    pub(super) statements: u64,
    pub(super) transactions: u64,
    pub(super) wal_bytes: u64,
}

/// Connections on which nothing happens.
#[derive(Deserialize, Serialize)]
pub(super) struct Idle {
    pub(super) case: String,
    pub(super) server: String,
    pub(super) connections: u64,
    pub(super) opened_ms: f64,
    /// Memory of the server before them, with them, and after each was told something.
    pub(super) before_kib: u64,
    pub(super) connected_kib: u64,
    pub(super) told_kib: u64,
    pub(super) failures: u64,
    pub(super) first_failure: Option<String>,
}

impl Idle {
    /// KiB for each connection at one of these moments.
    pub(super) fn each(&self, kib: u64) -> f64 {
        float(kib.saturating_sub(self.before_kib)) / float(self.connections.max(1))
    }
}

/// All lines, by kind.
#[derive(Default)]
pub(super) struct Records {
    pub(super) settings: serde_json::Map<String, serde_json::Value>,
    pub(super) cases: Vec<CaseTitle>,
    pub(super) runs: Vec<Run>,
    pub(super) verification: Vec<Verify>,
    pub(super) fills: Vec<Fill>,
    pub(super) reopenings: Vec<Reopen>,
    pub(super) costs: Vec<Cost>,
    pub(super) idle: Vec<Idle>,
}

impl Records {
    /// One JSON object a line. An error names the line that is none, or that records a run without an answer.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut records = Self::default();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            match serde_json::from_str(line).with_context(|| format!("line {number} is no record: {line}"))? {
                Line::Settings(values) => records.settings.extend(values),
                Line::Case(case) => records.cases.push(case),
                Line::Run(run) if run.requests == 0 || run.duration_us == 0 => {
                    bail!("line {number}: a run without a single answer")
                }
                Line::Run(run) => records.runs.push(run),
                Line::Verify(verify) if verify.answers == 0 => {
                    bail!("line {number}: a verification without a single answer")
                }
                Line::Verify(verify) => records.verification.push(verify),
                Line::Fill(fill) => records.fills.push(fill),
                Line::Reopen(reopen) => records.reopenings.push(reopen),
                Line::Cost(cost) if cost.requests == 0 => {
                    bail!("line {number}: a cost of nothing")
                }
                Line::Cost(cost) => records.costs.push(cost),
                Line::Idle(idle) => records.idle.push(idle),
            }
        }
        Ok(records)
    }
}

/// A count as a floating-point number.
#[expect(clippy::cast_precision_loss, reason = "counts and microseconds of a benchmark are far below 2^52")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::super::tests::run_line;
    use super::*;

    #[test]
    fn lines_are_sorted_by_kind() {
        let text = [
            r#"{"kind":"settings","pairs":5}"#,
            r#"{"kind":"case","case":"a","title":"b","baseline":"bare"}"#,
            &run_line("closed", 1, "bare", 10, 0),
            r#"{"kind":"fill","stored":3,"messages":2,"seconds":1.5,"bytes":9}"#,
            r#"{"kind":"reopen","stored":3,"after":"kill","ms":12.5}"#,
        ]
        .join("\n");
        let records = Records::parse(&text).unwrap();
        assert_eq!(records.settings["pairs"], 5);
        assert_eq!((records.cases.len(), records.runs.len(), records.verification.len()), (1, 1, 0));
        assert_eq!((records.fills[0].messages, records.reopenings[0].after.as_str()), (2, "kill"));
        assert!((records.runs[0].per_second() - 5.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_no_record_is_refused_with_its_line() {
        let empty =
            r#"{"kind":"verify","case":"a","server":"b","answers":0,"failures":0,"first_failure":null}"#;
        for bad in
            ["", "x", "{\"kind\":\"run\"}", "{\"kind\":\"walk\"}", empty, &run_line("closed", 1, "a", 0, 0)]
        {
            let text = format!("{{\"kind\":\"settings\"}}\n{bad}\n");
            let error = format!("{:#}", Records::parse(&text).err().unwrap());
            assert!(error.contains("line 2"), "{error}");
        }
    }
}
