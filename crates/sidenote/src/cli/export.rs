//! `sidenote export`: a store as JSON lines, and what of it belongs to one app.

use std::collections::HashSet;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use sidenote_core::ids::{AppId, Incarnation};
use sidenote_core::rows::{Row, RowKey};
use sidenote_export::{Header, Summary, VERSION, Writer, app_of, incarnation_of, own_incarnation};
use sidenote_server::clock::{Clock as _, SystemClock};
use sidenote_store::audit::Place;

use super::backup::{draft, publish};
use super::origin::{Origin, Rate, Rows};
use crate::progress::count;
use crate::storage::postgres::UNFINISHED;

/// Write a store, or one app of it, as lines of JSON
#[derive(Args)]
#[command(after_help = "\
Example: sidenote export --config sidenote.toml --app 1400000001 --to app.jsonl

A running server is asked for the state of one moment and goes on meanwhile; so do nodes on a database.
docs/export-format.md describes the lines; `sidenote import` reads them, into a folder or a database. The file holds everything but secret keys, which are in the configuration.")]
pub(crate) struct Export {
    #[command(flatten)]
    origin: Origin,
    /// SDKAppID of the app to export; by default all apps
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    app: Option<u32>,
    /// File to make, which must not exist; `-` is standard output
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    rate: Rate,
}

impl Export {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let Self { origin, app, to, rate } = self;
        let unwritable = || format!("cannot write {}", to.display());
        if to == Path::new("-") {
            let rows = origin.open("export", &rate, app)?;
            let (summary, output) = write(rows, app, BufWriter::new(std::io::stdout().lock()))?;
            drop(output);
            eprintln!("{summary}\n{}", count(summary.rows(), "row", "rows"));
            return Ok(ExitCode::SUCCESS);
        }
        let mut draft = draft(&to).with_context(unwritable)?;
        let rows = origin.open("export", &rate, app)?;
        let (summary, file) = write(rows, app, BufWriter::with_capacity(256 * 1024, draft.as_file_mut()))?;
        drop(file);
        publish(draft, &to).with_context(unwritable)?;
        let rows = count(summary.rows(), "row", "rows");
        writeln!(std::io::stdout().lock(), "{summary}\n{}: {rows}", to.display())?;
        Ok(ExitCode::SUCCESS)
    }
}

fn write<W: Write>(mut rows: Rows, app: Option<u32>, to: W) -> anyhow::Result<(Summary, W)> {
    if let Some(app) = rows.source().unfinished().first() {
        bail!("app {app} {UNFINISHED}, or export other apps one by one with --app");
    }
    let unwritable = "the export could not be written";
    let now = SystemClock.now_millis();
    let made_at = rows.source().header(now).map_or(now, |header| header.made_at);
    let header = Header { version: VERSION, app, batch: rows.source().batch(), made_at };
    let mut writer = Writer::begin(to, header).context(unwritable)?;
    let mut selection = Selection::new(app);
    while let Some(entry) = rows.next_entry()? {
        let (key, row) = match entry {
            Ok(row) => row,
            Err(bad) => {
                let place = bad.key.as_ref().map(Place::of).unwrap_or_default();
                bail!(
                    "a row cannot be read ({place}: {}); `sidenote check` says what else is wrong",
                    bad.reason
                )
            }
        };
        if selection.takes(&key, &row) {
            writer.row(&key, &row).context(unwritable)?;
        }
    }
    if let Some(app) = app.filter(|_| writer.rows() == 0) {
        bail!("the store holds nothing of app {app}");
    }
    let (to, summary) = writer.finish().context(unwritable)?;
    Ok((summary, to))
}

/// Which rows are wanted: all, or those of one app. They are asked about in the order of a walk, in which what an
/// incarnation belongs to is told before the rows of that incarnation come. Memory: 16 bytes a conversation.
pub(super) struct Selection {
    app: Option<AppId>,
    incarnations: HashSet<Incarnation>,
}

impl Selection {
    pub(super) fn new(app: Option<u32>) -> Self {
        Self { app: app.map(AppId::new), incarnations: HashSet::new() }
    }

    pub(super) fn takes(&mut self, key: &RowKey, row: &Row) -> bool {
        let Some(app) = self.app else { return true };
        match (app_of(key), incarnation_of(key)) {
            (Some(of), incarnation) => {
                if of != app {
                    return false;
                }
                // The line of an account's list may lead anywhere; only conversations and debts own what they name.
                if let Some(incarnation) = own_incarnation(row) {
                    self.incarnations.insert(incarnation);
                } else if matches!(key, RowKey::Debt(_)) {
                    self.incarnations.extend(incarnation);
                }
                true
            }
            (None, Some(incarnation)) => self.incarnations.contains(&incarnation),
            (None, None) => false,
        }
    }
}
