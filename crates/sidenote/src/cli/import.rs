//! `sidenote import`: JSON lines into a store.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use sidenote_core::ids::{AppId, Incarnation};
use sidenote_core::rows::{Row, RowKey};
use sidenote_export::{Reader, app_of, incarnation_of, own_incarnation};
use sidenote_store::audit::{Audit, Finding, Place, Weight};

use super::export::Selection;
use super::origin::Folder;
use crate::failure::Usage;
use crate::progress::{Progress, so_far};
use crate::storage::{self, Loader, decode};

/// Findings that a refusal names.
const MOST_FINDINGS: usize = 5;

/// Read a store, or one app of it, from lines of JSON
#[derive(Args)]
#[command(after_help = "\
Example: sidenote import --from app.jsonl --config sidenote.toml

The server must be stopped. The folder is new or empty, or holds a store that has nothing of these apps yet. The file is
read to its end and checked first, so a wrong one changes nothing. If the second reading is interrupted, no server
opens the folder before the same command was run again.")]
pub(crate) struct Import {
    /// File to read, as `sidenote export` writes it
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    #[command(flatten)]
    folder: Folder,
    /// SDKAppID of the app to take out of the file; by default all that are in it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    app: Option<u32>,
}

impl Import {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let folder = self.folder.path()?;
        let file = Lines { path: &self.from, app: self.app };
        let contents = file.examine()?;

        let unwritable = || format!("cannot import to {}", folder.display());
        let mut loader = if storage::is_vacant(&folder) {
            storage::fill(&folder).with_context(unwritable)?
        } else {
            let work = format!("import of the file with the digest {:016x}", contents.digest);
            let loader = storage::add(&folder, &work).with_context(unwritable)?;
            if !loader.is_resumed() {
                refuse_overlap(&loader, &contents).with_context(unwritable)?;
                loader.mark(&work).with_context(unwritable)?;
            }
            loader
        };
        let digest = file
            .read("writing", |key, row| loader.put(storage::encode(&key, &row)).with_context(unwritable))?;
        if digest != contents.digest {
            bail!("{} changed while it was read; the store is not whole, import again", self.from.display());
        }
        loader.finish().with_context(unwritable)?;
        let apps: Vec<_> = contents.apps.iter().map(ToString::to_string).collect();
        let (rows, apps) = (contents.rows, apps.join(", "));
        writeln!(std::io::stdout().lock(), "{}: {rows} rows of app {apps}", folder.display())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A file to import, which is read twice.
struct Lines<'a> {
    path: &'a Path,
    app: Option<u32>,
}

/// What is in it.
#[derive(Default)]
struct Contents {
    apps: BTreeSet<AppId>,
    incarnations: HashSet<Incarnation>,
    rows: u64,
    /// Of the whole file and of what is taken out of it.
    digest: u64,
}

impl Lines<'_> {
    /// Reads all of it and refuses what a store must not hold.
    fn examine(&self) -> anyhow::Result<Contents> {
        let (mut contents, mut audit, mut wrong) = (Contents::default(), Audit::new(), Vec::new());
        let digest = self.read("reading", |key, row| {
            audit.row(&key, &row);
            let damage = |finding: &Finding| finding.weight == Weight::Damage;
            wrong.extend(audit.take().into_iter().filter(damage).take(MOST_FINDINGS));
            contents.rows += 1;
            contents.apps.extend(app_of(&key));
            if !matches!(key, RowKey::Membership(..)) {
                contents.incarnations.extend(incarnation_of(&key));
            }
            contents.incarnations.extend(own_incarnation(&row));
            Ok(())
        })?;
        contents.digest = digest;
        wrong.extend(audit.finish().1.into_iter().filter(|finding| finding.weight == Weight::Damage));
        if let Some(first) = wrong.first() {
            let more: Vec<_> =
                wrong.iter().skip(1).take(MOST_FINDINGS - 1).map(ToString::to_string).collect();
            let more = if more.is_empty() { String::new() } else { format!("; {}", more.join("; ")) };
            return Err(self.refuse(format!("no store may hold this: {first}{more}")));
        }
        if contents.rows == 0 {
            let of = self.app.map_or_else(String::new, |app| format!(" of app {app}"));
            return Err(self.refuse(format!("there is nothing{of} in it")));
        }
        Ok(contents)
    }

    /// Hands every wanted row to `take`; the digest of the file and of what is wanted.
    fn read(
        &self,
        what: &'static str,
        mut take: impl FnMut(RowKey, Row) -> anyhow::Result<()>,
    ) -> anyhow::Result<u64> {
        let unreadable = || format!("cannot import {}", self.path.display());
        let file = File::open(self.path)
            .map_err(|error| Usage::error(error.to_string()))
            .with_context(unreadable)?;
        let bytes = file.metadata().with_context(unreadable)?.len();
        let mut lines = Reader::begin(BufReader::with_capacity(256 * 1024, file)).with_context(unreadable)?;
        if let Some((wanted, of)) = self.app.zip(lines.header().app)
            && wanted != of
        {
            return Err(self.refuse(format!("it holds app {of} alone, not app {wanted}")));
        }
        let mut selection = Selection::new(self.app);
        let mut progress = Progress::begin(what, bytes);
        let mut rows = 0;
        while let Some((key, row)) = lines.next_row().with_context(unreadable)? {
            rows += 1;
            progress.at(lines.position(), rows, lines.position());
            if selection.takes(&key, &row) {
                take(key, row)?;
            }
        }
        Ok(lines.digest() ^ u64::from(self.app.unwrap_or_default()))
    }

    fn refuse(&self, what: impl Into<String>) -> anyhow::Error {
        anyhow::Error::msg(what.into()).context(format!("cannot import {}", self.path.display()))
    }
}

/// Looks through a store for anything of the apps that are about to come.
fn refuse_overlap(loader: &Loader, contents: &Contents) -> anyhow::Result<()> {
    let mut before = storage::rows_before(loader);
    let mut progress = Progress::begin("comparing", before.header(0).approximate_rows);
    while let Some(row) = before.next_row()? {
        let totals = before.totals();
        progress.at(totals.rows, totals.rows, totals.bytes);
        let Ok((key, row)) = decode(&row) else {
            bail!("the store there is damaged ({}); see `sidenote check`", so_far(totals.rows, totals.bytes));
        };
        let app = app_of(&key).filter(|app| contents.apps.contains(app));
        if let Some(app) = app {
            let place = Place::of(&key);
            bail!(
                "the store there holds something of app {app} already ({place}); import into another folder, or take \
                 other apps out of the file with --app"
            );
        }
        let incarnation = match key {
            RowKey::Membership(..) => None,
            _ => own_incarnation(&row).or_else(|| incarnation_of(&key)),
        };
        if incarnation.is_some_and(|incarnation| contents.incarnations.contains(&incarnation)) {
            bail!(
                "a conversation of another app there has the same incarnation number as one in the file ({}); import into \
                 another folder",
                Place::of(&key)
            );
        }
    }
    Ok(())
}
