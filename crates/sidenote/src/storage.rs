//! The one place that names storage engines.

pub(crate) mod postgres;

use std::collections::{BTreeSet, VecDeque};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use sidenote_core::ids::AppId;
use sidenote_core::rows::{Row, RowKey};
use sidenote_server::config::{Config, Embedded, Store as Options};
use sidenote_server::rule_limits;
use sidenote_store::Store;
use sidenote_store_embedded::backup::{Reader, Walk};
use sidenote_store_embedded::schema::{decode_key, decode_row, encode_key, encode_row};
use sidenote_store_embedded::{EmbeddedStore, Settings, engine};

pub(crate) use sidenote_store_embedded::OpenError;
pub(crate) use sidenote_store_embedded::backup::{
    BackupError, Header, Loader, Row as RawRow, Snapshots, Totals, Writer,
};

/// A store that is open.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    /// The way to all of its rows at once, and the folder that they are in. A database has ways of its own.
    pub(crate) files: Option<Files>,
}

/// The files of a store that this process holds alone.
pub(crate) struct Files {
    pub(crate) folder: PathBuf,
    pub(crate) snapshots: Snapshots,
}

/// Opens the store that the configuration asks for: reads and checks its files, or connects to its database. Must be
/// called inside of a runtime.
pub(crate) async fn open(config: &Config) -> anyhow::Result<Opened> {
    match &config.store {
        Options::Embedded(embedded) => open_embedded(config, embedded),
        Options::Postgres(options) => {
            let apps: Vec<u32> = config.apps.iter().map(|app| app.sdk_app_id).collect();
            let store = postgres::open(options, &config.cluster, rule_limits(config), &apps).await?;
            Ok(Opened { store, files: None })
        }
    }
}

fn open_embedded(config: &Config, embedded: &Embedded) -> anyhow::Result<Opened> {
    let Embedded { path, block_cache_bytes, state_cache_bytes, queue_length, batch_commands, reader_threads } =
        embedded;
    let settings = Settings {
        engine: engine::Settings { block_cache_bytes: *block_cache_bytes },
        queue: *queue_length,
        batch: *batch_commands,
        reader_threads: *reader_threads,
        row_cache_bytes: *state_cache_bytes,
    };
    let store = EmbeddedStore::open(path, &settings, rule_limits(config)).context("cannot open the store")?;
    let files = Files { folder: path.clone(), snapshots: store.snapshots() };
    Ok(Opened { store: Arc::new(store), files: Some(files) })
}

/// All rows of a store as of one moment, from wherever they come.
pub(crate) struct Source {
    from: From,
    /// Rows of the block that was read last.
    block: VecDeque<RawRow>,
    totals: Totals,
}

enum From {
    Folder(Walk),
    Stream(Reader<Box<dyn Read>>),
    Database(Box<postgres::Rows>),
}

/// A row, or what it is instead of one.
pub(crate) type Entry = Result<(RowKey, Row), Undecodable>;

impl Source {
    /// The store in a folder that no server uses.
    pub(crate) fn folder(path: &Path) -> Result<Self, OpenError> {
        let engine = engine::Engine::open_existing(path, &engine::Settings::default())?;
        Ok(Self::over(From::Folder(Walk::new(engine.snapshot()))))
    }

    /// A backup, from a file or as it is being made.
    pub(crate) fn stream(from: Box<dyn Read>) -> Result<Self, BackupError> {
        Ok(Self::over(From::Stream(Reader::begin(from)?)))
    }

    /// The rows of a database.
    pub(crate) fn database(rows: postgres::Rows) -> Self {
        Self::over(From::Database(Box::new(rows)))
    }

    fn over(from: From) -> Self {
        Self { from, block: VecDeque::new(), totals: Totals::default() }
    }

    /// What a backup of these rows that is begun `now` (milliseconds since 1970) says of itself; `None` for those of a
    /// database, of which none is made.
    pub(crate) fn header(&self, now: u64) -> Option<Header> {
        match &self.from {
            From::Folder(walk) => Some(Header::of(walk, now)),
            From::Stream(reader) => Some(*reader.header()),
            From::Database(_) => None,
        }
    }

    /// About how many rows there are; 0: nobody knows.
    pub(crate) fn approximate_rows(&self) -> u64 {
        match &self.from {
            From::Database(rows) => rows.approximate_rows(),
            From::Folder(_) | From::Stream(_) => self.header(0).map_or(0, |header| header.approximate_rows),
        }
    }

    /// Number of the batch whose state this is; 0 where batches have no numbers.
    pub(crate) fn batch(&self) -> u64 {
        self.header(0).map_or(0, |header| header.batch)
    }

    /// The apps of which only a part is there, because they are being imported or that was interrupted. A folder, and so a
    /// backup, in which that happened can't be read at all.
    pub(crate) fn unfinished(&self) -> BTreeSet<AppId> {
        match &self.from {
            From::Database(rows) => rows.unfinished().clone(),
            From::Folder(_) | From::Stream(_) => BTreeSet::new(),
        }
    }

    /// What came out so far.
    pub(crate) const fn totals(&self) -> Totals {
        self.totals
    }

    /// The next row, as the rules know it; `None` behind the last one.
    pub(crate) fn next_entry(&mut self) -> anyhow::Result<Option<Entry>> {
        if let From::Database(rows) = &mut self.from {
            let Some((entry, bytes)) = rows.next_entry()? else { return Ok(None) };
            self.totals.rows += 1;
            self.totals.bytes += bytes as u64;
            return Ok(Some(entry));
        }
        Ok(self.next_row()?.as_ref().map(decode))
    }

    /// The next row as its bytes; `None` behind the last one.
    pub(crate) fn next_row(&mut self) -> anyhow::Result<Option<RawRow>> {
        let row = match &mut self.from {
            From::Database(_) => anyhow::bail!("rows of a database are not kept as bytes"),
            From::Folder(walk) => walk.next_row().context("the store could not be read")?,
            From::Stream(reader) => {
                if self.block.is_empty() {
                    self.block = reader.next_block()?.unwrap_or_default().into();
                }
                self.block.pop_front()
            }
        };
        if let Some((key, value)) = &row {
            self.totals.rows += 1;
            self.totals.bytes += (key.len() + value.len()) as u64;
        }
        Ok(row)
    }
}

/// A row as the rules know it, or why its bytes are none.
fn decode((key, value): &RawRow) -> Entry {
    let key = decode_key(key).map_err(|error| Undecodable { key: None, reason: error.to_string() })?;
    match decode_row(&key, value) {
        Ok(row) => Ok((key, row)),
        Err(error) => Err(Undecodable { key: Some(key), reason: error.to_string() }),
    }
}

/// Bytes that are no row.
#[derive(Debug)]
pub(crate) struct Undecodable {
    /// Its key, if that much could be read.
    pub(crate) key: Option<RowKey>,
    /// Why not. Holds none of the bytes.
    pub(crate) reason: String,
}

/// The bytes of a row.
pub(crate) fn encode(key: &RowKey, row: &Row) -> RawRow {
    (encode_key(key).into(), encode_row(row).into())
}

/// Whether a folder holds no store, or one whose making was interrupted.
pub(crate) fn is_vacant(path: &Path) -> bool {
    engine::Engine::is_vacant(path)
}

/// Fills a folder that is empty or does not exist with rows.
pub(crate) fn fill(path: &Path) -> Result<Loader, OpenError> {
    Loader::fill(path, &engine::Settings::default())
}

/// Brings rows into the store in a folder, as the work of that name.
pub(crate) fn add(path: &Path, work: &str) -> Result<Loader, OpenError> {
    Loader::add(path, &engine::Settings::default(), work)
}

/// The work in this folder that was interrupted.
pub(crate) fn unfinished_work(path: &Path) -> Result<Option<String>, OpenError> {
    engine::Engine::unfinished_work(path)
}

/// Removes a row.
pub(crate) fn remove(loader: &mut Loader, key: &RowKey) -> anyhow::Result<()> {
    Ok(loader.remove(encode_key(key).into())?)
}

/// The rows that a loader finds in its store.
pub(crate) fn rows_before(loader: &Loader) -> Source {
    Source::over(From::Folder(Walk::new(loader.snapshot())))
}
