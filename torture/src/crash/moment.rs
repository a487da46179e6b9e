//! When and how a server dies.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use rustix::process::Signal;

/// How often it is looked whether a table has appeared.
const GLANCE: Duration = Duration::from_micros(200);

/// The end of a round.
pub(super) struct Moment {
    pub(super) signal: Signal,
    /// It comes after so many acknowledgements, at the latest.
    pub(super) acknowledgements: usize,
    /// It comes as soon as the engine begins to write a table, which is in the midst of a flush or a compaction.
    at_a_table: bool,
    /// So many starts are killed before one is let through.
    pub(super) starts_killed: usize,
    /// It comes by itself when the server gets there.
    pub(super) point: Option<String>,
}

impl Moment {
    pub(super) fn choose(rng: &mut StdRng) -> Self {
        let any = Self {
            signal: Signal::KILL,
            acknowledgements: rng.random_range(1..250),
            at_a_table: false,
            starts_killed: 0,
            point: None,
        };
        match rng.random_range(0..10) {
            0..3 => Self { at_a_table: true, acknowledgements: 400, ..any },
            3..5 => Self { starts_killed: rng.random_range(1..4), ..any },
            5 => Self { signal: Signal::TERM, ..any },
            _ => any,
        }
    }

    /// Waits until it has come. `struck` says whether the server has died by itself.
    pub(super) fn wait(&self, ring: &Receiver<()>, watch: &Watch, struck: impl Fn() -> bool) {
        while ring.recv_timeout(GLANCE) == Err(RecvTimeoutError::Timeout) {
            if (self.at_a_table && watch.has_seen_a_table()) || struck() {
                return;
            }
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.signal, self.at_a_table) {
            (Signal::TERM, _) => write!(f, "SIGTERM after {} answers", self.acknowledgements)?,
            (_, true) => write!(f, "kill -9 at a new table")?,
            (_, false) => write!(f, "kill -9 after {} answers", self.acknowledgements)?,
        }
        if let Some(point) = &self.point {
            write!(f, " or {point}")?;
        }
        if self.starts_killed > 0 {
            write!(f, " and within {} starts", self.starts_killed)?;
        }
        Ok(())
    }
}

/// Notices new tables.
pub(super) struct Watch {
    folder: PathBuf,
    known: BTreeSet<OsString>,
}

impl Watch {
    /// Looks at the folder of the tables for the first time.
    pub(super) fn begin(data: &Path) -> Self {
        let folder = data.join("engine/keyspaces/1/tables");
        let known = names(&folder);
        Self { folder, known }
    }

    /// How many there are now that were not there at first.
    pub(super) fn new_tables(&self) -> usize {
        names(&self.folder).difference(&self.known).count()
    }

    fn has_seen_a_table(&self) -> bool {
        self.new_tables() > 0
    }
}

/// Names in a folder; tables come and go while it is read.
fn names(folder: &Path) -> BTreeSet<OsString> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect()
}
