//! The journals of a closed store, read by code that shares nothing with the server: where the last acknowledged
//! batch lies, and damage before it and beyond it.

use std::fs::{self, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rand::RngExt as _;
use rand::rngs::StdRng;

/// Distance of the two records in the witness file, which take turns.
const WITNESS_SLOT: usize = 4096;

/// The key of a batch's number: its first row.
const NUMBER_KEY: &[u8] = &[0, b'n'];

/// Bytes of a row before its key: tag, type, compression, keyspace, and three lengths.
const ROW_HEAD: usize = 21;

/// The journal that holds the last acknowledged batch.
pub(super) struct Tail {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Where that batch lies.
    acknowledged: Range<usize>,
}

/// What a journal was before it was spoiled, and after.
pub(super) struct Undo {
    path: PathBuf,
    before: Vec<u8>,
    spoiled: Vec<u8>,
}

impl Tail {
    /// Looks for the batch that the witness names. There is none if all was flushed into tables.
    pub(super) fn find(data: &Path) -> Option<Self> {
        let witness = fs::read(data.join("witness")).unwrap();
        let newest = [0, WITNESS_SLOT].map(|at| number(&witness[at..at + 8])).into_iter().max().unwrap();
        let journals = fs::read_dir(data.join("engine")).unwrap().map(|entry| entry.unwrap().path());
        journals.filter(|path| path.extension().is_some_and(|extension| extension == "jnl")).find_map(
            |path| {
                let bytes = fs::read(&path).unwrap();
                let acknowledged = batches(&bytes).find(|(found, _)| *found == newest)?.1;
                Some(Self { path, bytes, acknowledged })
            },
        )
    }

    /// Cuts the file somewhere beyond the last acknowledged byte.
    pub(super) fn truncate(self, rng: &mut StdRng) -> String {
        let beyond = self.bytes.len() - self.acknowledged.end;
        let length = self.acknowledged.end + rng.random_range(0..=beyond.min(2000));
        OpenOptions::new().write(true).open(&self.path).unwrap().set_len(length as u64).unwrap();
        format!("the journal was cut {} bytes beyond the last answer", length - self.acknowledged.end)
    }

    /// Writes bytes of no meaning somewhere beyond the last acknowledged one.
    pub(super) fn scribble(self, rng: &mut StdRng) -> String {
        let beyond = rng.random_range(0..2000);
        let mut scrawl = vec![0; rng.random_range(1..500)];
        rng.fill(&mut scrawl[..]);
        let file = OpenOptions::new().write(true).open(&self.path).unwrap();
        file.write_all_at(&scrawl, (self.acknowledged.end + beyond) as u64).unwrap();
        format!("{} bytes were scribbled {beyond} beyond the last answer", scrawl.len())
    }

    /// Changes a bit of the last acknowledged batch, or cuts the file within it.
    pub(super) fn damage_acknowledged(self, rng: &mut StdRng) -> (Undo, String) {
        let at = rng.random_range(self.acknowledged.clone());
        let mut spoiled = self.bytes.clone();
        let told = if rng.random_bool(0.7) {
            spoiled[at] ^= 1 << rng.random_range(0..8);
            "a bit of the last answered batch was changed"
        } else {
            spoiled.truncate(at);
            "the last answered batch was cut"
        };
        fs::write(&self.path, &spoiled).unwrap();
        let told = format!("{told} at byte {} of {}", at - self.acknowledged.start, self.acknowledged.len());
        (Undo { path: self.path, before: self.bytes, spoiled }, told)
    }
}

impl Undo {
    /// Whether nobody has touched the journal since it was spoiled.
    pub(super) fn is_untouched(&self) -> bool {
        fs::read(&self.path).unwrap() == self.spoiled
    }

    /// Makes the journal what it was.
    pub(super) fn put_back(self) {
        fs::write(self.path, self.before).unwrap();
    }
}

/// Number and place of each whole batch from the beginning of a journal on.
fn batches(journal: &[u8]) -> impl Iterator<Item = (u64, Range<usize>)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let (number, length) = batch(&journal[start..])?;
        let place = start..start + length;
        start += length;
        Some((number, place))
    })
}

/// Number and length of the batch that these bytes begin with: a head of 13 bytes with the count of its rows, the
/// rows, and an end of 13 bytes.
fn batch(bytes: &[u8]) -> Option<(u64, usize)> {
    if bytes.first() != Some(&1) {
        return None;
    }
    let rows = number(bytes.get(1..5)?);
    let (mut at, mut found) = (13, None);
    for _ in 0..rows {
        let head = bytes.get(at..at + ROW_HEAD)?;
        let key = at + ROW_HEAD;
        let value = key + usize::try_from(number(&head[11..13])).unwrap();
        let end = value + usize::try_from(number(&head[13..17])).unwrap();
        if found.is_none() && bytes.get(key..value)? == NUMBER_KEY {
            found = Some(number(bytes.get(value..end)?));
        }
        at = end;
    }
    let end = at + 13;
    (bytes.get(at..end)?.ends_with(b"FJL\x03")).then_some((found?, end))
}

/// A little-endian number of up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
