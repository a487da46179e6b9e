//! An engine in memory over a disk that fails on command.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::{Defect, world};
use crate::engine::{Bytes, Change, EngineError, Order, Row};
use crate::inner_engine::{InnerEngine, InnerSnapshot};

pub(super) type Bytewise = BTreeMap<Vec<u8>, Bytes>;

/// What becomes of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Succeeds,
    /// Nothing of it is written.
    FailsBefore,
    /// It is written and the sync fails: whether it is there after a restart is a matter of luck.
    FailsAfter,
}

/// What outlives a crash.
#[derive(Clone, Default)]
pub(super) struct Disk {
    pub(super) number: u64,
    pub(super) rows: Arc<Bytewise>,
    /// Written, but never synced.
    unsynced: Option<Arc<Bytewise>>,
}

impl Disk {
    /// The machine loses what is not synced, or is lucky. True if there was something and it survived.
    pub(super) fn crash(&mut self, is_lucky: bool) -> bool {
        match self.unsynced.take() {
            Some(rows) if is_lucky => {
                self.rows = rows;
                self.number += 1;
                true
            }
            _ => false,
        }
    }
}

/// One run of the engine, from opening to crash or close.
pub(super) struct SimulatedEngine {
    disk: Arc<Mutex<Disk>>,
    shown: Mutex<SimulatedSnapshot>,
    /// What was shown one batch before.
    before: Mutex<Option<SimulatedSnapshot>>,
    poisoned: AtomicBool,
}

#[derive(Clone)]
pub(super) struct SimulatedSnapshot {
    number: u64,
    rows: Arc<Bytewise>,
}

impl SimulatedEngine {
    pub(super) fn open(disk: Arc<Mutex<Disk>>) -> Self {
        let shown = {
            let disk = disk.lock().unwrap();
            SimulatedSnapshot { number: disk.number, rows: Arc::clone(&disk.rows) }
        };
        Self { disk, shown: Mutex::new(shown), before: Mutex::default(), poisoned: AtomicBool::new(false) }
    }

    fn fail(&self) -> EngineError {
        self.poisoned.store(true, Ordering::Release);
        EngineError::Write(failure("a write that fails on purpose"))
    }
}

fn failure(text: &str) -> fjall::Error {
    fjall::Error::Io(std::io::Error::other(text.to_owned()))
}

impl InnerEngine for SimulatedEngine {
    type Snapshot = SimulatedSnapshot;

    fn commit(&self, changes: Vec<Change>) -> Result<u64, EngineError> {
        if self.is_poisoned() {
            return Err(EngineError::Poisoned);
        }
        let fate = world::fate();
        // Others go on while a commit is under way, which takes longer than anything else.
        (0..4).for_each(|_| world::pause());
        if fate == Fate::FailsBefore {
            world::commit_ended(false);
            return Err(self.fail());
        }
        let shown = {
            let mut disk = self.disk.lock().unwrap();
            let mut rows = Bytewise::clone(&disk.rows);
            for change in changes {
                match change {
                    Change::Put { key, value } => rows.insert(key.to_vec(), value),
                    Change::Delete { key } => rows.remove(&key[..]),
                };
            }
            if fate == Fate::FailsAfter {
                disk.unsynced = Some(Arc::new(rows));
                None
            } else {
                disk.number += 1;
                disk.rows = Arc::new(rows);
                Some(SimulatedSnapshot { number: disk.number, rows: Arc::clone(&disk.rows) })
            }
        };
        world::commit_ended(shown.is_some());
        let Some(shown) = shown else { return Err(self.fail()) };
        let number = shown.number;
        let before = std::mem::replace(&mut *self.shown.lock().unwrap(), shown);
        *self.before.lock().unwrap() = Some(before);
        // Readers may be given the new state before the writer hears of it.
        world::pause();
        Ok(number)
    }

    fn snapshot(&self) -> SimulatedSnapshot {
        self.shown.lock().unwrap().clone()
    }

    fn snapshot_by(&self, number: u64) -> Option<SimulatedSnapshot> {
        world::pause();
        let number = if world::is_broken(Defect::ReadsUnshownFiles) { u64::MAX } else { number };
        let shown = self.shown.lock().unwrap().clone();
        let snapshot = if shown.number <= number { Some(shown) } else { self.before.lock().unwrap().clone() };
        world::pause();
        snapshot.filter(|snapshot| snapshot.number <= number)
    }

    fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    fn disk_bytes(&self) -> Result<u64, EngineError> {
        Ok(self.shown.lock().unwrap().rows.len() as u64)
    }
}

impl InnerSnapshot for SimulatedSnapshot {
    fn number(&self) -> u64 {
        self.number
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        // A disk takes its time, and meanwhile the world moves on.
        world::pause();
        if world::read_fails() {
            return Err(EngineError::Read(failure("a read that fails on purpose")));
        }
        Ok(self.rows.get(key).cloned())
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Row>, EngineError> {
        world::pause();
        if world::read_fails() {
            return Err(EngineError::Read(failure("a read that fails on purpose")));
        }
        let own = |bound: Bound<&[u8]>| bound.map(<[u8]>::to_vec);
        let (from, to) = (own(from), own(to));
        let rows = self.rows.iter().filter(|(key, _)| {
            let is_after = match &from {
                Bound::Included(from) => *key >= from,
                Bound::Excluded(from) => *key > from,
                Bound::Unbounded => true,
            };
            let is_before = match &to {
                Bound::Included(to) => *key <= to,
                Bound::Excluded(to) => *key < to,
                Bound::Unbounded => true,
            };
            is_after && is_before
        });
        let row = |(key, value): (&Vec<u8>, &Bytes)| (key.as_slice().into(), value.clone());
        Ok(match order {
            Order::Ascending => rows.take(limit).map(row).collect(),
            Order::Descending => rows.rev().take(limit).map(row).collect(),
        })
    }
}
