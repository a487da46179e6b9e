//! The witness: a file beside the engine's files that remembers the last acknowledged batch number.
//!
//! It is written in place after each commit and never synced. Killing the process keeps it exact, for the page
//! cache survives; losing power may leave it older than the journal, never newer, for it is written after the
//! journal was synced. So its number is a lower bound of what the files must still hold.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Numbers alternate between two slots, a page apart, so that a torn write can spoil only one of them.
const SLOT_BYTES: usize = 4096;
const RECORD_BYTES: usize = 16;
/// Tells a record from a run of zeros or another file's bytes.
const CHECKSUM_SEED: u64 = 0x7369_6465_6e6f_7465;

/// What a witness file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Testimony {
    /// There is no file: the store is new, or the operator has accepted a loss.
    Absent,
    /// Batches up to this number were acknowledged.
    Acknowledged(u64),
    /// Neither slot holds a whole record.
    Unreadable,
}

/// Reads the file at `path` without changing it.
pub(super) fn read(path: &Path) -> io::Result<Testimony> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Testimony::Absent),
        Err(error) => return Err(error),
    };
    let newest = [0, SLOT_BYTES].into_iter().filter_map(|at| decode(bytes.get(at..at + RECORD_BYTES)?)).max();
    Ok(newest.map_or(Testimony::Unreadable, Testimony::Acknowledged))
}

/// The open file; one writer at a time.
#[derive(Debug)]
pub(super) struct Witness(File);

impl Witness {
    /// Starts or restarts the file at `number`, and syncs it: the blocks exist from here on, so that recording a
    /// number needs no new space.
    pub(super) fn start(path: &Path, number: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        let mut slot = [0; SLOT_BYTES];
        slot[..RECORD_BYTES].copy_from_slice(&encode(number));
        file.write_all_at(&slot, 0)?;
        file.write_all_at(&slot, SLOT_BYTES as u64)?;
        file.sync_all()?;
        Ok(Self(file))
    }

    /// Remembers that batches up to `number` are durable. In place, without a sync.
    pub(super) fn record(&self, number: u64) -> io::Result<()> {
        self.0.write_all_at(&encode(number), (number % 2) * SLOT_BYTES as u64)
    }
}

fn encode(number: u64) -> [u8; RECORD_BYTES] {
    let number = number.to_le_bytes();
    let mut record = [0; RECORD_BYTES];
    record[..8].copy_from_slice(&number);
    record[8..].copy_from_slice(&xxh3_64_with_seed(&number, CHECKSUM_SEED).to_le_bytes());
    record
}

fn decode(record: &[u8]) -> Option<u64> {
    let number = u64::from_le_bytes(record.get(..8)?.try_into().ok()?);
    (record == encode(number)).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_number_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("witness");
        assert_eq!(read(&path).unwrap(), Testimony::Absent);

        let witness = Witness::start(&path, 7).unwrap();
        assert_eq!(read(&path).unwrap(), Testimony::Acknowledged(7));
        for number in 8..12 {
            witness.record(number).unwrap();
            assert_eq!(read(&path).unwrap(), Testimony::Acknowledged(number));
        }
    }

    #[test]
    fn restarting_lower_forgets_the_higher_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("witness");
        Witness::start(&path, 100).unwrap();
        Witness::start(&path, 3).unwrap();
        assert_eq!(read(&path).unwrap(), Testimony::Acknowledged(3));
    }

    #[test]
    fn a_torn_record_leaves_the_number_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("witness");
        let witness = Witness::start(&path, 1).unwrap();
        witness.record(2).unwrap();
        witness.record(3).unwrap();
        for torn in 1..RECORD_BYTES {
            let half = &encode(4)[..torn];
            let rest = &encode(2)[torn..];
            witness.0.write_all_at(&[half, rest].concat(), 0).unwrap();
            let said = read(&path).unwrap();
            assert!(matches!(said, Testimony::Acknowledged(3 | 4)), "torn after {torn} bytes: {said:?}");
        }
    }

    #[test]
    fn a_file_of_other_bytes_is_unreadable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("witness");
        for bytes in [vec![], vec![0; 8192], b"not a witness".to_vec(), vec![0xff; 5000]] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(read(&path).unwrap(), Testimony::Unreadable);
        }
    }
}
