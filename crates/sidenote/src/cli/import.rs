//! `sidenote import`: JSON lines into a store.

mod abandon;
mod comparison;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use sidenote_core::debt::Task;
use sidenote_core::ids::{AppId, ConversationId, Incarnation};
use sidenote_core::rows::{Row, RowKey};
use sidenote_export::{Reader, Summary, app_of, incarnation_of, own_incarnation};
use sidenote_server::config::Postgres;
use sidenote_store::audit::{Audit, Finding, Place, Weight};

use super::export::Selection;
use super::origin::{self, Folder, require_file};
use crate::failure::Usage;
use crate::progress::{Progress, count, so_far};
use crate::storage::postgres::{DatabaseLoader, Intake, Load, fits, home_key};
use crate::storage::{self, Entry, Loader};
use comparison::Comparison;

/// Findings that a refusal names.
const MOST_FINDINGS: usize = 5;

/// Read a store, or one app of it, from lines of JSON
#[derive(Args)]
#[command(after_help = "\
Example: sidenote import --from app.jsonl --config sidenote.toml

The file is read to its end and checked first, so a wrong one changes nothing. It goes into a folder that is new or empty,
or whose store has nothing of these apps yet and no server; or into a database that has nothing of these apps yet, of which
no node serves any of them. At the end everything is compared with the file. If it is interrupted, nobody serves what is
there of these apps before the same command was run again, which goes on where it was, or gave it up with
--abandon.")]
pub(crate) struct Import {
    /// File to read, as `sidenote export` writes it
    #[arg(long, value_name = "FILE", required_unless_present = "abandon")]
    from: Option<PathBuf>,
    #[command(flatten)]
    folder: Folder,
    /// SDKAppID of the app to take out of the file; by default all that are in it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    app: Option<u32>,
    /// Give up an import that was begun and not finished, with --app the one with that app: everything that is there of its
    /// apps is removed
    #[arg(long, conflicts_with = "from")]
    abandon: bool,
}

impl Import {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let place = self.folder.place()?;
        let Some(path) = self.from else { return abandon::run(place, self.app) };
        let file = Lines { path: &path, app: self.app };
        require_file(&path).with_context(|| format!("cannot import {}", path.display()))?;
        let contents = file.examine(matches!(place, origin::Place::Database(_)))?;
        let (name, summary) = match place {
            origin::Place::Folder(folder) => {
                let unwritable = || format!("cannot import to {}", folder.display());
                let summary = file.fill_folder(&folder, &contents).with_context(unwritable)?;
                (folder.display().to_string(), Some(summary))
            }
            origin::Place::Database(options) => {
                let summary = file.fill_database(&options, &contents);
                ("the database".to_owned(), summary.context("cannot import to the database")?)
            }
        };
        let mut output = std::io::stdout().lock();
        if let Some(summary) = summary {
            writeln!(output, "{summary}\nequal on both sides, row by row")?;
        }
        let apps: Vec<_> = contents.apps.iter().map(ToString::to_string).collect();
        let (rows, apps) = (count(contents.rows, "row", "rows"), apps.join(", "));
        writeln!(output, "{name}: {rows} of app {apps}")?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A file to import, which is read several times.
struct Lines<'a> {
    path: &'a Path,
    app: Option<u32>,
}

/// What is in it.
#[derive(Default)]
struct Contents {
    apps: BTreeSet<AppId>,
    /// All lives of conversations, with the keys of their homes in a database as far as the file names conversations.
    lives: BTreeMap<Incarnation, Option<i64>>,
    /// Of them, those that conversations have now.
    current: BTreeSet<Incarnation>,
    rows: u64,
    /// Of the whole file and of what is taken out of it.
    digest: u64,
}

impl Contents {
    fn note(&mut self, key: &RowKey, row: &Row) {
        self.rows += 1;
        self.apps.extend(app_of(key));
        let named = conversation_of(key).map(home_key);
        self.current.extend(own_incarnation(row));
        let incarnation = own_incarnation(row).or_else(|| incarnation_of(key));
        if let Some(incarnation) = incarnation
            && !matches!(key, RowKey::Membership(..))
        {
            let home = self.lives.entry(incarnation).or_default();
            *home = home.or(named);
        }
    }

    /// Whether a row of a store is of what the file holds.
    fn includes(&self, key: &RowKey) -> bool {
        match app_of(key) {
            Some(app) => self.apps.contains(&app),
            None => incarnation_of(key).is_some_and(|incarnation| self.lives.contains_key(&incarnation)),
        }
    }
}

/// The conversation that a row names.
fn conversation_of(key: &RowKey) -> Option<&ConversationId> {
    match key {
        RowKey::Conversation(id) | RowKey::Outbox(id, _) | RowKey::DeadLetter(id, ..) => Some(id),
        RowKey::Debt(debt) => match &debt.task {
            Task::Announce(id, ..)
            | Task::Reap(id, _)
            | Task::Strip(id, ..)
            | Task::ForgetSend(id, ..)
            | Task::TrimEvents(id, _) => Some(id),
            Task::Forsake(..) => None,
        },
        RowKey::Account(_) | RowKey::Membership(..) | RowKey::Within(..) | RowKey::Event(..) => None,
    }
}

impl Lines<'_> {
    /// Reads all of it and refuses what a store must not hold, or a database can't.
    fn examine(&self, for_database: bool) -> anyhow::Result<Contents> {
        let (mut contents, mut audit, mut wrong) = (Contents::default(), Audit::new(), Vec::new());
        let digest = self.read("reading", |key, row| {
            audit.row(&key, &row);
            let damage = |finding: &Finding| finding.weight == Weight::Damage;
            let room = MOST_FINDINGS.saturating_sub(wrong.len());
            wrong.extend(audit.take().into_iter().filter(damage).take(room));
            if for_database && let Err(error) = fits(&key, &row) {
                return Err(self.refuse(error.to_string()));
            }
            contents.note(&key, &row);
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

    fn fill_folder(&self, folder: &Path, contents: &Contents) -> anyhow::Result<Summary> {
        let mut loader = if storage::is_vacant(folder) {
            storage::fill(folder)?
        } else {
            let work = abandon::work(&contents.apps, contents.digest);
            let loader = storage::add(folder, &work)?;
            if !loader.is_resumed() {
                refuse_overlap(&loader, contents)?;
                loader.mark(&work)?;
            }
            loader
        };
        let digest = self.read("writing", |key, row| Ok(loader.put(storage::encode(&key, &row))?))?;
        self.require(digest, contents)?;
        loader.flush()?;
        let mut there = storage::rows_before(&loader);
        let next = || loop {
            match there.next_entry()? {
                Some(Ok((key, _))) if !contents.includes(&key) => {}
                entry => return Ok(entry),
            }
        };
        let summary = self.compare(contents, next)?;
        loader.finish()?;
        Ok(summary)
    }

    /// `None`: it was done before.
    fn fill_database(&self, options: &Postgres, contents: &Contents) -> anyhow::Result<Option<Summary>> {
        let lives = contents.lives.iter().filter_map(|(life, home)| home.map(|home| (*life, home)));
        let file = format!("{:016x}", contents.digest);
        let over = contents.lives.keys().filter(|life| !contents.current.contains(life)).copied();
        let load = Load { file, apps: contents.apps.clone(), lives: lives.collect(), over: over.collect() };
        let mut loader = match DatabaseLoader::begin(options, load)? {
            Intake::Begun(loader) => loader,
            Intake::Before(when) => {
                eprintln!("this file was imported already, at {when}; nothing was changed");
                return Ok(None);
            }
        };
        let others = loader.other_connections();
        if others > 0 {
            eprintln!(
                "other connections of nodes to this database: {others}; no node may be configured with an app that is imported"
            );
        }
        if loader.resumes_at() > 0 {
            eprintln!("going on behind row {}", loader.resumes_at());
        }
        let digest = self.read("writing", |key, row| loader.put(key, &row))?;
        self.require(digest, contents)?;
        let mut arrived = loader.arrive()?;
        let summary = self.compare(contents, || arrived.next_entry())?;
        arrived.finish()?;
        Ok(Some(summary))
    }

    /// Reads the file once more, beside what the store holds of it now.
    fn compare(
        &self,
        contents: &Contents,
        next: impl FnMut() -> anyhow::Result<Option<Entry>>,
    ) -> anyhow::Result<Summary> {
        let mut comparison = Comparison::new(next);
        let digest = self.read("comparing", |key, row| comparison.row(&key, &row))?;
        self.require(digest, contents)?;
        comparison.finish()
    }

    fn require(&self, digest: u64, contents: &Contents) -> anyhow::Result<()> {
        if digest != contents.digest {
            bail!("{} changed while it was read; the store is not whole, import again", self.path.display());
        }
        Ok(())
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
    let mut progress = Progress::begin("comparing", before.approximate_rows());
    while let Some(entry) = before.next_entry()? {
        let totals = before.totals();
        progress.at(totals.rows, totals.rows, totals.bytes);
        let Ok((key, row)) = entry else {
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
        if incarnation.is_some_and(|incarnation| contents.lives.contains_key(&incarnation)) {
            bail!(
                "a conversation of another app there has the same incarnation number as one in the file ({}); import into \
                 another folder",
                Place::of(&key)
            );
        }
    }
    Ok(())
}
