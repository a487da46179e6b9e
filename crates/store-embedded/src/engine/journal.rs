//! A check of the journals that runs before the storage engine opens them, and changes nothing.
//!
//! fjall 3.1.13 replays its journals at open. What follows from its source (`journal/reader.rs`,
//! `journal/batch_reader.rs`, `recovery.rs`):
//!
//! * where it meets bytes that are no record (an unknown tag, a length that runs past the end, a batch without
//!   its end) it **cuts the file there and goes on in silence**, with the next journal if there is one. A torn
//!   tail and a damaged byte in the middle of acknowledged batches look the same to it (its issue 311);
//! * where a whole batch does not match its checksum it refuses to open at all, also if that batch is a tail
//!   that lost some of its pages with the power and was never acknowledged.
//!
//! So the journals are read here first. Each batch carries its number in its first row, which makes two
//! questions answerable: do the numbers run on without a gap over all journals, and do they reach the number
//! that the witness remembers? Only one batch is ever in flight (the next is written after the sync of the one
//! before it), so what may be missing after a crash is at most one batch, the last, and it was not acknowledged.
//! Module `recovery` decides.
//!
//! A batch also carries a sequence number of fjall's (seqno), which its checksum does not cover. It decides which
//! of two rows with one key is the newer one, and whether a batch is taken for one that tables hold already, so a
//! changed bit in it would hide rows in silence. It rises from batch to batch, which is checked here; whether
//! journals and tables meet is for module `recovery` to see.
//!
//! Records, all integers little-endian: start `1, count u32, seqno u64`; row `2, type u8, compression u8,
//! keyspace u64, key length u16, value length u32, stored length u32, key, stored value`; end `3, checksum u64,
//! "FJL", 3`. The checksum is XXH3-64 over the rows. The tail of a file is preallocated zeros.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::Xxh3;

use super::{NUMBER_KEY, error::OpenError};

const START: u8 = 1;
const ROW: u8 = 2;
const END: u8 = 3;
const TRAILER: [u8; 4] = *b"FJL\x03";

/// Seqnos count batches and flushes; none that a store can reach has its upper bits set, and fjall panics at 2^63.
const MAX_SEQNO: u64 = 1 << 56;

/// What the journals hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Journals {
    /// How many there are.
    pub(super) files: usize,
    /// Number of the first whole batch; `None` if there is none, as after all were flushed into tables.
    first: Option<u64>,
    /// Number of the last whole batch; likewise.
    pub(super) last: Option<u64>,
    /// Ascending, one for each batch: 8 MiB for the most batches that fit into the journals.
    seqnos: Vec<u64>,
    /// Where the last whole batch lies.
    place: Option<Place>,
    /// Where reading ended before the end of the data.
    pub(super) broken: Option<Broken>,
}

/// A run of bytes in a journal.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    file: PathBuf,
    from: u64,
    to: u64,
}

impl Journals {
    /// Writes the last batch once more where it is, and syncs it. It is the only one that may not be on the disk
    /// though it can be read: the process may have been killed before its sync, or the sync failed, after which
    /// Linux goes on showing the bytes from memory and takes them for written, so that no sync alone would write
    /// them. The bytes stay the same, so nothing is at risk meanwhile.
    pub(super) fn write_last_again(&self) -> Result<(), OpenError> {
        self.place.as_ref().map_or(Ok(()), |place| place.write_again().map_err(OpenError::io(&place.file)))
    }
}

impl Place {
    fn write_again(&self) -> io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).open(&self.file)?;
        let mut chunk = vec![0; 64 * 1024];
        let mut at = self.from;
        while at < self.to {
            let rest = usize::try_from(self.to - at).unwrap_or(usize::MAX);
            let length = rest.min(chunk.len());
            let part = &mut chunk[..length];
            file.read_exact_at(part, at)?;
            file.write_all_at(part, at)?;
            at += length as u64;
        }
        file.sync_all()
    }
}

/// The first bytes of a journal that are no batch. No later journal holds a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) file: PathBuf,
    /// Offset of the first bad batch, in bytes.
    pub(super) offset: u64,
    pub(super) reason: &'static str,
}

impl Journals {
    /// Number of the first batch that fjall replays if tables hold what was written up to a seqno, or of the next
    /// one to come. `None` if there are no batches.
    pub(super) fn first_replayed(&self, in_tables: Option<u64>) -> Option<u64> {
        let skipped = in_tables.map_or(0, |newest| self.seqnos.partition_point(|seqno| *seqno <= newest));
        self.first.map(|first| first + skipped as u64)
    }
}

impl Broken {
    pub(super) fn describe(&self) -> String {
        format!("{} cannot be read from byte {} on: {}", self.file.display(), self.offset, self.reason)
    }

    /// Gives up what follows the last whole batch.
    pub(super) fn cut_off(&self) -> Result<(), OpenError> {
        cut(&self.file, self.offset)
    }
}

/// Reads all journals in `engine`, oldest first. Memory: one row at a time.
pub(super) fn check(folder: &Path, engine: &Path) -> Result<Journals, OpenError> {
    let damaged = |file: &Path, detail| OpenError::Damaged {
        folder: folder.to_path_buf(),
        file: file.to_path_buf(),
        detail,
    };
    let mut found = Journals::default();
    for (_, path) in list(engine)? {
        found.files += 1;
        let io = |source| OpenError::Io { path: path.clone(), source };
        let file = File::open(&path).map_err(io)?;
        let mut reader =
            BatchReader::new(BufReader::with_capacity(64 * 1024, &file), file.metadata().map_err(io)?.len());
        loop {
            let offset = reader.position;
            match reader.next_batch().map_err(io)? {
                Next::Batch(_, seqno)
                    if seqno > MAX_SEQNO || found.seqnos.last().is_some_and(|last| seqno <= *last) =>
                {
                    let reason = "a batch is out of its order";
                    found.broken.get_or_insert(Broken { file: path.clone(), offset, reason });
                    break;
                }
                Next::Batch(number, seqno) => {
                    // A batch after a bad one: the bad one had been synced, and may have been answered.
                    if let Some(broken) = &found.broken {
                        return Err(damaged(&broken.file, broken.describe()));
                    }
                    if found.last.is_some_and(|last| number != last + 1) {
                        let last = found.last.unwrap_or_default();
                        return Err(damaged(&path, format!("batch {number} follows batch {last}")));
                    }
                    found.first.get_or_insert(number);
                    found.last = Some(number);
                    found.seqnos.push(seqno);
                    found.place = Some(Place { file: path.clone(), from: offset, to: reader.position });
                }
                Next::Broken(reason) => {
                    found.broken.get_or_insert(Broken { file: path.clone(), offset, reason });
                    break;
                }
                Next::End => break,
            }
        }
    }
    Ok(found)
}

/// Empties all journals, oldest first, so that a crash in between leaves no gap.
pub(super) fn empty(engine: &Path) -> Result<(), OpenError> {
    list(engine)?.into_iter().try_for_each(|(_, file)| cut(&file, 0))
}

fn cut(file: &Path, length: u64) -> Result<(), OpenError> {
    OpenOptions::new()
        .write(true)
        .open(file)
        .and_then(|file| {
            file.set_len(length)?;
            file.sync_all()
        })
        .map_err(OpenError::io(file))
}

/// Journals are named by an ascending number.
fn list(engine: &Path) -> Result<Vec<(u64, PathBuf)>, OpenError> {
    let mut journals = Vec::new();
    for entry in std::fs::read_dir(engine).map_err(OpenError::io(engine))? {
        let path = entry.map_err(OpenError::io(engine))?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            let number = number.ok_or_else(|| OpenError::Damaged {
                folder: engine.to_path_buf(),
                file: path.clone(),
                detail: "a journal is named by a number".to_owned(),
            })?;
            journals.push((number, path));
        }
    }
    journals.sort_unstable();
    Ok(journals)
}

enum Next {
    /// Its number and its seqno.
    Batch(u64, u64),
    End,
    Broken(&'static str),
}

struct BatchReader<R> {
    source: R,
    position: u64,
    length: u64,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// Ends a batch early: bytes that are no batch, or a failed read.
enum Stop {
    Broken(&'static str),
    Failed(io::Error),
}

impl<R: Read> BatchReader<R> {
    fn new(source: R, length: u64) -> Self {
        Self { source, position: 0, length, key: Vec::new(), value: Vec::new() }
    }

    fn next_batch(&mut self) -> io::Result<Next> {
        if self.position == self.length {
            return Ok(Next::End);
        }
        let batch = match self.bytes::<1>() {
            Ok([START]) => self.rows(),
            Ok([0]) => return self.zeros_to_the_end(),
            Ok(_) => Err(Stop::Broken("a batch does not begin like one")),
            Err(stop) => Err(stop),
        };
        match batch {
            Ok((number, seqno)) => Ok(Next::Batch(number, seqno)),
            Err(Stop::Broken(reason)) => Ok(Next::Broken(reason)),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    /// What follows the start tag of a batch; the answer is the batch's number and seqno.
    fn rows(&mut self) -> Result<(u64, u64), Stop> {
        let count = u32::from_le_bytes(self.bytes()?);
        let seqno = u64::from_le_bytes(self.bytes()?);
        let mut checksum = Xxh3::new();
        let mut number = None;
        for row in 0..count {
            self.row(&mut checksum)?;
            if row == 0 && self.key == NUMBER_KEY {
                number = self.value.as_slice().try_into().ok().map(u64::from_le_bytes);
            }
        }
        if self.bytes()? != [END] {
            return Err(Stop::Broken("a batch has no end"));
        }
        if u64::from_le_bytes(self.bytes()?) != checksum.digest() {
            return Err(Stop::Broken("a batch does not match its checksum"));
        }
        if self.bytes()? != TRAILER {
            return Err(Stop::Broken("a batch has no end"));
        }
        number.map(|number| (number, seqno)).ok_or(Stop::Broken("a batch has no number"))
    }

    fn row(&mut self, checksum: &mut Xxh3) -> Result<(), Stop> {
        let head: [u8; 21] = self.bytes()?;
        let [ROW, _kind, _compression, _, _, _, _, _, _, _, _, k0, k1, _, _, _, _, v0, v1, v2, v3] = head
        else {
            return Err(Stop::Broken("a row does not begin like one"));
        };
        let key_bytes = u64::from(u16::from_le_bytes([k0, k1]));
        let value_bytes = u64::from(u32::from_le_bytes([v0, v1, v2, v3]));
        self.key = self.run(key_bytes)?;
        self.value = self.run(value_bytes)?;
        checksum.update(&head);
        checksum.update(&self.key);
        checksum.update(&self.value);
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Checks the length against the file before it believes it: a damaged length must not claim memory.
    fn run(&mut self, length: u64) -> Result<Vec<u8>, Stop> {
        let length = usize::try_from(length).ok().filter(|_| length <= self.length - self.position);
        let mut bytes = vec![0; length.ok_or(Stop::Broken("a row is longer than the file"))?];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Stop> {
        match self.source.read_exact(bytes) {
            Ok(()) => {
                self.position += bytes.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(Stop::Broken("the file ends within a batch"))
            }
            Err(error) => Err(Stop::Failed(error)),
        }
    }

    fn zeros_to_the_end(&mut self) -> io::Result<Next> {
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.source.read(&mut chunk)? {
                0 => return Ok(Next::End),
                read if chunk[..read].iter().all(|byte| *byte == 0) => {}
                _ => return Ok(Next::Broken("bytes follow the end of the data")),
            }
        }
    }
}
