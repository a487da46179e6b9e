//! All rows of a store at once: walked from a snapshot, written to a file, and brought back.
//!
//! * [`Walk`]: the rows of one snapshot, in bounded pages;
//! * [`Writer`] and [`Reader`]: a backup, which is such a walk as a stream of bytes that proves itself whole;
//! * [`Loader`]: the way back into a folder.
//!
//! Rows stay bytes on this way, so that a backup of a damaged store can be made and restored too.

mod load;
mod read;
mod walk;
mod write;

use minicbor::{Decode, Encode};
use xxhash_rust::xxh3::Xxh3;

use crate::engine::{MAX_KEY_BYTES, MAX_VALUE_BYTES};

pub use crate::engine::Row;
pub use load::{LoadError, Loader};
pub use read::{BackupError, Reader};
pub use walk::{Snapshots, Walk};
pub use write::Writer;

/// The first bytes of every backup.
const MAGIC: &[u8; 16] = b"sidenote backup\n";

/// The newest format that this release reads, and the one that it writes.
const NEWEST_FORMAT: u32 = 1;

/// The checksum before the first frame.
const FIRST_LINK: u64 = 0x7369_6465_6e6f_7465;

/// Rows gather in a block up to this size, in bytes.
const BLOCK_BYTES: usize = 256 * 1024;

/// No frame is longer: a full block and one more row, with the lengths of its rows.
const MAX_FRAME_BYTES: usize = 2 * BLOCK_BYTES + 6 + MAX_KEY_BYTES + MAX_VALUE_BYTES;

/// Kind, length and checksum of a frame, in bytes.
const HEAD_BYTES: usize = 1 + 4 + 8;

const HEADER: u8 = b'H';
const BLOCK: u8 = b'B';
const END: u8 = b'E';
const FAILURE: u8 = b'F';

/// What a backup says of itself before its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Header {
    /// Format of the backup.
    #[n(0)]
    format: u32,
    /// Number of the batch whose state it holds.
    #[n(1)]
    pub batch: u64,
    /// When it was begun, in milliseconds since 1970.
    #[n(2)]
    pub made_at: u64,
    /// About how many rows it holds, for those who watch it being read.
    #[n(3)]
    pub approximate_rows: u64,
}

impl Header {
    /// The header of a backup of this walk, begun at `now` (milliseconds since 1970).
    pub fn of(walk: &Walk, now: u64) -> Self {
        Self {
            format: NEWEST_FORMAT,
            batch: walk.batch(),
            made_at: now,
            approximate_rows: walk.approximate_rows(),
        }
    }
}

/// What a backup says of itself behind its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Totals {
    /// How many rows it holds.
    #[n(0)]
    pub rows: u64,
    /// Bytes of their keys and values.
    #[n(1)]
    pub bytes: u64,
}

impl Totals {
    fn count(&mut self, (key, value): &Row) {
        self.rows += 1;
        self.bytes += (key.len() + value.len()) as u64;
    }
}

/// The checksum of a frame. It covers the one before it, so that no frame can be left out, doubled or moved.
fn link(previous: u64, kind: u8, payload: &[u8]) -> u64 {
    let mut hash = Xxh3::with_seed(previous);
    hash.update(&[kind]);
    hash.update(&(payload.len() as u64).to_le_bytes());
    hash.update(payload);
    hash.digest()
}
