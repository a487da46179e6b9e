use std::io::{self, BufRead, Read as _};

use sidenote_core::ids::AppId;
use sidenote_core::rows::{Row, RowKey};
use sidenote_store::audit::Position;
use xxhash_rust::xxh3::Xxh3;

use crate::lines::Line;
use crate::{End, Header, MAX_HEADER_BYTES, MAX_LINE_BYTES, VERSION, app_of};

/// Why an export cannot be used. Every text is a sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The file is something else.
    #[error("line 1 is not that of an export, which begins with {{\"sidenote_export\":{{\"version\":")]
    Foreign,

    /// A newer release wrote it.
    #[error(
        "the export has version {found}, and this release reads versions up to {VERSION}; use a newer release"
    )]
    NewerVersion {
        /// Its version.
        found: u32,
    },

    /// It ends too early.
    #[error("the file is cut off after line {line}: its last line, which says {{\"end\":…}}, is missing")]
    Truncated {
        /// The last line that is whole.
        line: u64,
    },

    /// A line is wrong.
    #[error("line {line}: {what}")]
    Line {
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },

    /// It could not be read.
    #[error("it could not be read: {0}")]
    Io(#[from] io::Error),
}

/// Reads an export and trusts nothing in it. Holds one line.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    header: Header,
    buffer: Vec<u8>,
    line: u64,
    bytes: u64,
    hash: Hash,
    rows: u64,
    last: Option<RowKey>,
    ended: bool,
}

/// A hash has no text of its own.
struct Hash(Xxh3);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash")
    }
}

impl<R: BufRead> Reader<R> {
    /// Begins to read: looks at the first line.
    pub fn begin(from: R) -> Result<Self, ExportError> {
        let header = Header { version: 0, app: None, batch: 0, made_at: 0 };
        let mut reader = Self {
            from,
            header,
            buffer: Vec::new(),
            line: 0,
            bytes: 0,
            hash: Hash(Xxh3::new()),
            rows: 0,
            last: None,
            ended: false,
        };
        match reader.next_line(MAX_HEADER_BYTES) {
            Ok(Some(())) => {}
            Ok(None) | Err(ExportError::Line { .. } | ExportError::Truncated { .. }) => {
                return Err(ExportError::Foreign);
            }
            Err(error) => return Err(error),
        }
        // A later version may say more in its first line; its number is found all the same.
        let raw: serde_json::Value =
            serde_json::from_slice(&reader.buffer).map_err(|_| ExportError::Foreign)?;
        let version = raw["sidenote_export"]["version"].as_u64().ok_or(ExportError::Foreign)?;
        if version > u64::from(VERSION) {
            return Err(ExportError::NewerVersion { found: u32::try_from(version).unwrap_or(u32::MAX) });
        }
        match reader.parse()? {
            Line::SidenoteExport(header) if header.version > 0 => reader.header = header,
            _ => return Err(ExportError::Foreign),
        }
        Ok(reader)
    }

    /// What it says of itself.
    pub const fn header(&self) -> Header {
        self.header
    }

    /// Number of the line that was read last, from 1.
    pub const fn line(&self) -> u64 {
        self.line
    }

    /// Bytes that were read so far.
    pub const fn position(&self) -> u64 {
        self.bytes
    }

    /// A number that tells this file from others; complete behind the last row.
    pub fn digest(&self) -> u64 {
        self.hash.0.digest()
    }

    /// The next row; `None` behind the last one, and only if the file is whole.
    pub fn next_row(&mut self) -> Result<Option<(RowKey, Row)>, ExportError> {
        if self.ended {
            return Ok(None);
        }
        let so_far = self.hash.0.digest();
        if self.next_line(MAX_LINE_BYTES)?.is_none() {
            return Err(ExportError::Truncated { line: self.line });
        }
        let line = self.parse()?;
        if let Line::End(end) = line {
            self.end(&end, so_far)?;
            return Ok(None);
        }
        let row = line.read().map_err(|what| self.wrong(what))?;
        let Some((key, row)) = row else {
            return Err(self.wrong("the file begins once more; bring in one export after the other"));
        };
        if let Some((app, of)) = app_of(&key).zip(self.header.app)
            && app != AppId::new(of)
        {
            return Err(self.wrong(format!("belongs to app {app}, but the file is that of app {of}")));
        }
        match &self.last {
            Some(last) if *last == key => {
                return Err(self.wrong("is there twice: the line before names the same row"));
            }
            Some(last) if Position::of(last) > Position::of(&key) => {
                return Err(self.wrong("is out of order; docs/export-format.md gives the order of the lines"));
            }
            _ => {}
        }
        self.rows += 1;
        self.last = Some(key.clone());
        Ok(Some((key, row)))
    }

    fn end(&mut self, end: &End, so_far: u64) -> Result<(), ExportError> {
        if end.rows != self.rows {
            let what = format!("says that {} rows come before it, but there are {}", end.rows, self.rows);
            return Err(self.wrong(what));
        }
        if end.checksum.as_ref().is_some_and(|checksum| *checksum != format!("{so_far:016x}")) {
            return Err(self.wrong(
                "the checksum does not fit: the file was changed; if that was on purpose, take `checksum` out of its \
                 last line",
            ));
        }
        if self.next_line(MAX_LINE_BYTES)?.is_some() {
            return Err(self.wrong("something follows the end"));
        }
        self.ended = true;
        Ok(())
    }

    /// Reads a line into the buffer, without its end. `None`: there is none.
    fn next_line(&mut self, most: usize) -> Result<Option<()>, ExportError> {
        self.buffer.clear();
        let read = (&mut self.from).take(most as u64 + 1).read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            return Ok(None);
        }
        self.hash.0.update(&self.buffer);
        self.bytes += read as u64;
        if self.buffer.last() != Some(&b'\n') {
            if read > most {
                self.line += 1;
                return Err(self.wrong(format!("is longer than {most} bytes")));
            }
            return Err(ExportError::Truncated { line: self.line });
        }
        self.line += 1;
        self.buffer.pop();
        Ok(Some(()))
    }

    fn parse(&self) -> Result<Line<'static>, ExportError> {
        let text = std::str::from_utf8(&self.buffer).map_err(|_| self.wrong("is not UTF-8"))?;
        serde_json::from_str(text).map_err(|error| {
            // Every text is one line, so the line that serde tells would only confuse.
            let what = error.to_string();
            let what = what.split(" at line ").next().unwrap_or_default();
            let what: String = what.chars().take(200).collect();
            self.wrong(format!("{what} (column {})", error.column()))
        })
    }

    fn wrong(&self, what: impl Into<String>) -> ExportError {
        ExportError::Line { line: self.line, what: what.into() }
    }
}
