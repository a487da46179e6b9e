//! Which store a subcommand is about.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytesize::ByteSize;
use clap::Args;
use sidenote_server::clock::{Clock as _, SystemClock};
use sidenote_server::config::{Config, Overrides, Postgres, Store};

use crate::control;
use crate::failure::Usage;
use crate::progress::Progress;
use crate::storage::{self, Entry, OpenError, RawRow, Source};

/// The slowest that rows may be read, in bytes a second: slower, and the other end would lose its patience.
const MIN_RATE: u64 = 64 * 1024;

/// A store in a folder, or in the database that a configuration names.
#[derive(Args)]
#[group(id = "folder", required = true, multiple = false)]
pub(super) struct Folder {
    /// Configuration of the server, for the folder or the database of its data
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the data
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// A store in a folder, a database, or a backup.
#[derive(Args)]
#[group(id = "origin", required = true, multiple = false)]
pub(super) struct Origin {
    /// Configuration of the server, for the folder or the database of its data
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the data
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Backup, instead of a folder
    #[arg(long, value_name = "FILE")]
    backup: Option<PathBuf>,
}

/// How fast rows are read.
#[derive(Args)]
pub(super) struct Rate {
    /// Bytes to read a second at most, such as 20MiB, so that a running server keeps its disk and processor
    #[arg(long, value_name = "BYTES", value_parser = rate)]
    rate: Option<u64>,
}

/// Rows on their way in, with the speed and the bar that belong to them.
pub(super) struct Rows {
    source: Source,
    rate: Option<u64>,
    begun: u64,
    progress: Progress,
}

/// Where a store is.
pub(super) enum Place {
    Folder(PathBuf),
    Database(Box<Postgres>),
}

impl Folder {
    /// The folder's path, for what only those have.
    pub(super) fn path(self) -> anyhow::Result<PathBuf> {
        match self.place()? {
            Place::Folder(path) => Ok(path),
            Place::Database(_) => Err(Usage::error(IN_POSTGRES)),
        }
    }

    /// The folder or the database.
    pub(super) fn place(self) -> anyhow::Result<Place> {
        place_of(self.config, self.data)
    }
}

impl Origin {
    /// Its rows as of one moment: from the server that has the folder open, from the folder itself, or from the database.
    /// If only those of one `app` are wanted, others may be left out.
    pub(super) fn open(self, what: &'static str, rate: &Rate, app: Option<u32>) -> anyhow::Result<Rows> {
        let Some(path) = self.backup else {
            return match place_of(self.config, self.data)? {
                Place::Folder(path) => open_folder(&path, what, rate),
                Place::Database(options) => {
                    let rows =
                        storage::postgres::Rows::open(&options, app).context("cannot open the store")?;
                    Ok(Rows::over(Source::database(rows), what, rate))
                }
            };
        };
        let source = open_backup(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Rows::over(source, what, rate))
    }
}

impl Rows {
    fn over(source: Source, what: &'static str, rate: &Rate) -> Self {
        let begun = SystemClock.now_millis();
        let progress = Progress::begin(what, source.approximate_rows());
        Self { source, rate: rate.rate, begun, progress }
    }

    /// Where they come from.
    pub(super) const fn source(&self) -> &Source {
        &self.source
    }

    /// The next row; `None` behind the last one.
    pub(super) fn next_entry(&mut self) -> anyhow::Result<Option<Entry>> {
        let entry = self.source.next_entry()?;
        self.pace();
        Ok(entry)
    }

    /// The next row as bytes, which only folders and backups have; `None` behind the last one.
    pub(super) fn next_row(&mut self) -> anyhow::Result<Option<RawRow>> {
        let row = self.source.next_row()?;
        self.pace();
        Ok(row)
    }

    /// Shows how far it is, and waits if that is further than it may be.
    fn pace(&mut self) {
        let totals = self.source.totals();
        self.progress.at(totals.rows, totals.rows, totals.bytes);
        if let Some(rate) = self.rate {
            let due = self.begun.saturating_add(totals.bytes.saturating_mul(1000) / rate);
            // A few milliseconds at a time; what is slept too long is made good by not sleeping later.
            let ahead = due.saturating_sub(SystemClock.now_millis());
            if ahead > 5 {
                std::thread::sleep(std::time::Duration::from_millis(ahead));
            }
        }
    }
}

/// The rows of a store in a folder, as [`Origin::open`] finds them.
pub(super) fn open_folder(path: &Path, what: &'static str, rate: &Rate) -> anyhow::Result<Rows> {
    let source = match control::backup_of(path)? {
        Some(stream) => Source::stream(stream)?,
        None => Source::folder(path).map_err(|error| match error {
            OpenError::InUse { .. } => anyhow::Error::new(error).context(format!(
                "the server that uses {} has no control socket; see its log, or stop it",
                path.display()
            )),
            other => anyhow::Error::new(other).context("cannot open the store"),
        })?,
    };
    Ok(Rows::over(source, what, rate))
}

/// Refuses what can't be read more than once, before anything is begun that would then be left half done.
pub(super) fn require_file(path: &Path) -> anyhow::Result<()> {
    let found = std::fs::metadata(path).map_err(|error| Usage::error(error.to_string()))?;
    if found.is_file() {
        return Ok(());
    }
    Err(Usage::error("it is read more than once, and is no file; write what is in it to one first"))
}

/// The rows of a backup in a file.
pub(super) fn open_backup(path: &Path) -> anyhow::Result<Source> {
    let file = File::open(path).map_err(|error| Usage::error(error.to_string()))?;
    let file: Box<dyn Read> = Box::new(BufReader::with_capacity(256 * 1024, file));
    Ok(Source::stream(file)?)
}

fn place_of(config: Option<PathBuf>, data: Option<PathBuf>) -> anyhow::Result<Place> {
    match (config, data) {
        (_, Some(data)) => Ok(Place::Folder(data)),
        (config, None) => match Config::load(config.as_deref(), Overrides::default())?.store {
            Store::Embedded(embedded) => Ok(Place::Folder(embedded.path)),
            Store::Postgres(options) => Ok(Place::Database(Box::new(options))),
        },
    }
}

/// What commands about files say where there are none.
const IN_POSTGRES: &str = "this command is for the folder of the embedded store, and this configuration keeps the data in \
     PostgreSQL: back it up and restore it with PostgreSQL's own tools (docs/operations.md); `sidenote check`, `export` and \
     `import` work on both";

fn rate(raw: &str) -> Result<u64, String> {
    match raw.parse::<ByteSize>() {
        Ok(ByteSize(bytes)) if bytes >= MIN_RATE => Ok(bytes),
        Ok(_) => Err(format!("at least {}", ByteSize(MIN_RATE).display().iec())),
        Err(error) => Err(error),
    }
}
