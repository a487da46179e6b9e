//! What the harness hands to `cargo xtask bench-report`: one JSON object a line, written as it happens.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::disk::Disk;
use crate::load::Outcome;
use crate::settings::Settings;

/// One line.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Line<'a> {
    /// How it was measured, once at the start.
    Settings {
        #[serde(flatten)]
        settings: &'a Settings,
        commit: &'a str,
        date: &'a str,
        file_system: &'a str,
        #[serde(flatten)]
        disk: &'a Disk,
    },
    /// A case that follows. Ratios are to the server named `baseline`.
    Case { case: &'a str, title: &'a str, baseline: &'a str },
    /// An untimed run in which every answer was looked into.
    Verify { case: &'a str, server: &'a str, answers: u64, failures: u64, first_failure: Option<&'a str> },
    /// A timed run.
    Run(Run<'a>),
    /// Storing messages.
    Fill { stored: u64, messages: u64, seconds: f64, bytes: u64 },
    /// Opening a store until `/readyz` said yes.
    Reopen { stored: u64, after: &'a str, ms: f64 },
    /// What a run cost the database.
    Cost(Cost<'a>),
    /// Connections on which nothing happens.
    Idle(Idle<'a>),
}

/// A timed run.
#[derive(Serialize)]
pub(crate) struct Run<'a> {
    pub(crate) case: &'a str,
    /// "closed": as fast as it goes; "half": at half the product's rate; "sustained": for long; "push" and "sent":
    /// latencies of pushes, from the acknowledgement and from the request; "fanout": as many pushes as go.
    pub(crate) load: &'a str,
    pub(crate) connections: u32,
    /// Requests a second that were asked for, in an open loop.
    pub(crate) rate: Option<f64>,
    pub(crate) pair: u32,
    pub(crate) server: &'a str,
    #[serde(flatten)]
    pub(crate) outcome: &'a Outcome,
    /// Processor time that server and load generator took for all requests of the run.
    pub(crate) server_cpu_us: u64,
    pub(crate) client_cpu_us: u64,
    /// The most memory that the server's processes held.
    pub(crate) peak_rss_kib: u64,
}

/// What requests cost the database. Except where they are counted one by one, everything that happens there meanwhile is
/// in it, also the work of nodes in the background.
#[derive(Serialize)]
pub(crate) struct Cost<'a> {
    pub(crate) case: &'a str,
    pub(crate) server: &'a str,
    pub(crate) connections: u32,
    pub(crate) pair: u32,
    pub(crate) requests: u64,
    /// Times that nodes sent statements and waited for the answers; `None` where there was no node.
    pub(crate) round_trips: Option<u64>,
    /// Statements and COMMITs as the database counts them.
    pub(crate) statements: u64,
    pub(crate) transactions: u64,
    pub(crate) wal_bytes: u64,
}

/// What connections cost on which nothing happens.
#[derive(Serialize)]
pub(crate) struct Idle<'a> {
    pub(crate) case: &'a str,
    pub(crate) server: &'a str,
    pub(crate) connections: u64,
    /// How long it took to open them, one after the other in each thread.
    pub(crate) opened_ms: f64,
    /// Memory of the server: before the first of them, when all were there, and after each was told something.
    pub(crate) before_kib: u64,
    pub(crate) connected_kib: u64,
    pub(crate) told_kib: u64,
    pub(crate) failures: u64,
    pub(crate) first_failure: Option<String>,
}

/// The file that takes the lines.
pub(crate) struct Records(File);

impl Records {
    /// Makes the file anew.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        Ok(Self(File::create(path).with_context(|| format!("cannot create {}", path.display()))?))
    }

    /// Appends a line.
    pub(crate) fn write(&mut self, line: &Line<'_>) -> Result<()> {
        let mut text = serde_json::to_vec(line).context("a record is plain data")?;
        text.push(b'\n');
        self.0.write_all(&text).context("cannot write a record")
    }
}
