//! `sidenote export`: a store as JSON lines, and what of it belongs to one app.

use std::collections::HashSet;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use sidenote_core::ids::{AppId, Incarnation};
use sidenote_core::rows::{Row, RowKey};
use sidenote_export::{Header, VERSION, Writer, app_of, incarnation_of, own_incarnation};
use sidenote_server::clock::{Clock as _, SystemClock};
use sidenote_store::audit::Place;

use super::backup::{draft, publish};
use super::origin::{Origin, Rate, Rows};
use crate::storage::decode;

/// Write a store, or one app of it, as lines of JSON
#[derive(Args)]
#[command(after_help = "\
Example: sidenote export --config sidenote.toml --app 1400000001 --to app.jsonl

A running server is asked for the state of one moment and goes on meanwhile. docs/export-format.md describes the lines;
`sidenote import` reads them. The file holds everything but secret keys, which are in the configuration.")]
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
            let rows = origin.open("export", &rate)?;
            let (count, output) = write(rows, app, BufWriter::new(std::io::stdout().lock()))?;
            drop(output);
            eprintln!("{count} rows");
            return Ok(ExitCode::SUCCESS);
        }
        let mut draft = draft(&to).with_context(unwritable)?;
        let rows = origin.open("export", &rate)?;
        let (count, file) = write(rows, app, BufWriter::with_capacity(256 * 1024, draft.as_file_mut()))?;
        drop(file);
        publish(draft, &to).with_context(unwritable)?;
        writeln!(std::io::stdout().lock(), "{}: {count} rows", to.display())?;
        Ok(ExitCode::SUCCESS)
    }
}

fn write<W: Write>(mut rows: Rows, app: Option<u32>, to: W) -> anyhow::Result<(u64, W)> {
    let unwritable = "the export could not be written";
    let of_source = rows.source().header(SystemClock.now_millis());
    let header = Header { version: VERSION, app, batch: of_source.batch, made_at: of_source.made_at };
    let mut writer = Writer::begin(to, header).context(unwritable)?;
    let mut selection = Selection::new(app);
    while let Some(row) = rows.next_row()? {
        let (key, row) = match decode(&row) {
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
    let count = writer.rows();
    if let Some(app) = app.filter(|_| count == 0) {
        bail!("the store holds nothing of app {app}");
    }
    Ok((count, writer.finish().context(unwritable)?))
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
