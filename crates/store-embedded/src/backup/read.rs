use std::io::{self, Read};

use super::{
    BLOCK, END, FAILURE, FIRST_LINK, HEAD_BYTES, HEADER, Header, MAGIC, MAX_FRAME_BYTES, NEWEST_FORMAT, Row,
    Totals, link,
};
use crate::engine::{Bytes, MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::schema::WalkPosition;

/// Why a backup cannot be used. Every text is a sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The bytes are something else.
    #[error("this is no backup; a backup begins with the words `sidenote backup`")]
    Foreign,

    /// A newer release wrote it.
    #[error(
        "the backup has format {found}, and this release reads formats up to {NEWEST_FORMAT}; use a newer release"
    )]
    NewerFormat {
        /// Its format.
        found: u32,
    },

    /// It ends too early.
    #[error(
        "the backup is cut off after {at} bytes: it has no end, so it was not copied or written as a whole; \
         take another one"
    )]
    Truncated {
        /// How many of its bytes are whole.
        at: u64,
    },

    /// Its bytes are not those that were written.
    #[error("the backup is damaged behind byte {at}: {what}; take another one")]
    Damaged {
        /// Where the damaged part begins.
        at: u64,
        /// What is wrong with it.
        what: &'static str,
    },

    /// Whoever wrote it could not go on, and said why.
    #[error("the server could not go on with the backup: {0}")]
    Failed(String),

    /// It could not be read.
    #[error("the backup could not be read: {0}")]
    Io(#[from] io::Error),
}

/// Reads a backup and trusts nothing in it: not its lengths, not its order, not its end. Holds one block.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    header: Header,
    link: u64,
    /// Bytes that were read and found whole.
    at: u64,
    last_key: Vec<u8>,
    totals: Totals,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Begins to read: looks at the header.
    pub fn begin(mut from: R) -> Result<Self, BackupError> {
        let mut magic = [0; MAGIC.len()];
        let read = read_up_to(&mut from, &mut magic)?;
        if magic[..read] != MAGIC[..read] || read == 0 {
            return Err(BackupError::Foreign);
        }
        let header = Header { format: 0, batch: 0, made_at: 0, approximate_rows: 0 };
        let totals = Totals::default();
        let at = read as u64;
        let mut reader =
            Self { from, header, link: FIRST_LINK, at, last_key: Vec::new(), totals, ended: false };
        if read < MAGIC.len() {
            return Err(reader.truncated());
        }
        let (kind, payload) = reader.frame()?;
        if kind == FAILURE {
            return Err(failed(&payload));
        }
        if kind != HEADER {
            return Err(reader.damaged("it has no header"));
        }
        reader.header =
            minicbor::decode(&payload).map_err(|_| reader.damaged("its header makes no sense"))?;
        if reader.header.format > NEWEST_FORMAT {
            return Err(BackupError::NewerFormat { found: reader.header.format });
        }
        reader.at += (HEAD_BYTES + payload.len()) as u64;
        Ok(reader)
    }

    /// What it says of itself.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// What was read so far.
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// Bytes of the backup that were read so far.
    pub const fn position(&self) -> u64 {
        self.at
    }

    /// The next rows, never none; `None` behind the last ones, and only if the backup is whole.
    pub fn next_block(&mut self) -> Result<Option<Vec<Row>>, BackupError> {
        if self.ended {
            return Ok(None);
        }
        let (kind, payload) = self.frame()?;
        let rows = match kind {
            BLOCK => Some(self.rows(&payload)?),
            END => {
                let told: Totals =
                    minicbor::decode(&payload).map_err(|_| self.damaged("its end makes no sense"))?;
                if told != self.totals {
                    return Err(self.damaged("it holds another number of rows than its end says"));
                }
                if read_up_to(&mut self.from, &mut [0])? != 0 {
                    return Err(self.damaged("something follows its end"));
                }
                self.ended = true;
                None
            }
            FAILURE => return Err(failed(&payload)),
            _ => return Err(self.damaged("it holds a part of an unknown kind")),
        };
        self.at += (HEAD_BYTES + payload.len()) as u64;
        Ok(rows)
    }

    fn frame(&mut self) -> Result<(u8, Vec<u8>), BackupError> {
        let mut head = [0; HEAD_BYTES];
        if read_up_to(&mut self.from, &mut head)? < HEAD_BYTES {
            return Err(self.truncated());
        }
        let [kind, rest @ ..] = head;
        let (length, checksum) = rest.split_at(4);
        let length = u32::from_le_bytes(length.try_into().expect("4 bytes were split off")) as usize;
        let checksum = u64::from_le_bytes(checksum.try_into().expect("8 bytes are left"));
        if length > MAX_FRAME_BYTES {
            return Err(self.damaged("a length is impossible"));
        }
        // Memory grows with what comes, not with what a length promises.
        let mut payload = Vec::new();
        (&mut self.from).take(length as u64).read_to_end(&mut payload)?;
        if payload.len() < length {
            return Err(self.truncated());
        }
        self.link = link(self.link, kind, &payload);
        if self.link != checksum {
            return Err(self.damaged("a checksum does not fit"));
        }
        Ok((kind, payload))
    }

    fn rows(&mut self, payload: &[u8]) -> Result<Vec<Row>, BackupError> {
        let mut rows = Vec::new();
        let mut rest = payload;
        while !rest.is_empty() {
            let (key, value, behind) =
                split_row(rest).ok_or_else(|| self.damaged("its rows make no sense"))?;
            if key.is_empty() || key.len() > MAX_KEY_BYTES || value.len() > MAX_VALUE_BYTES {
                return Err(self.damaged("a row has an impossible size"));
            }
            if key[0] == crate::engine::RESERVED_PREFIX {
                return Err(self.damaged("a row is one of the engine's own"));
            }
            if !self.last_key.is_empty() && WalkPosition::of(key) <= WalkPosition::of(&self.last_key) {
                return Err(self.damaged("its rows are out of order"));
            }
            self.last_key.clear();
            self.last_key.extend_from_slice(key);
            let row = (Bytes::from(key), Bytes::from(value));
            self.totals.count(&row);
            rows.push(row);
            rest = behind;
        }
        if rows.is_empty() { Err(self.damaged("a block is empty")) } else { Ok(rows) }
    }

    const fn truncated(&self) -> BackupError {
        BackupError::Truncated { at: self.at }
    }

    const fn damaged(&self, what: &'static str) -> BackupError {
        BackupError::Damaged { at: self.at, what }
    }
}

fn failed(reason: &[u8]) -> BackupError {
    let reason: String =
        String::from_utf8_lossy(reason).chars().filter(|c| !c.is_control()).take(500).collect();
    BackupError::Failed(reason)
}

fn split_row(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (key_bytes, rest) = bytes.split_first_chunk::<2>()?;
    let (value_bytes, rest) = rest.split_first_chunk::<4>()?;
    let (key, rest) = rest.split_at_checked(u16::from_le_bytes(*key_bytes).into())?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_bytes) as usize)?;
    Some((key, value, rest))
}

/// Fills the buffer as far as there are bytes.
fn read_up_to(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
