use std::io::{self, Write};

use sidenote_core::rows::{Row, RowKey};
use xxhash_rust::xxh3::Xxh3;

use crate::ledger::{Ledger, Summary, line_of};
use crate::lines::Line;
use crate::{End, Header};

/// Writes an export, line by line. Without [`finish`](Self::finish) it has no end, and no reader takes it for a whole
/// one.
pub struct Writer<W> {
    to: W,
    line: Vec<u8>,
    hash: Xxh3,
    ledger: Ledger,
    rows: u64,
}

impl<W: Write> Writer<W> {
    /// Begins an export.
    pub fn begin(to: W, header: Header) -> io::Result<Self> {
        let mut writer = Self { to, line: Vec::new(), hash: Xxh3::new(), ledger: Ledger::default(), rows: 0 };
        writer.line(&Line::SidenoteExport(header))?;
        Ok(writer)
    }

    /// Adds the next row, in the order of [`Position`](sidenote_store::audit::Position).
    pub fn row(&mut self, key: &RowKey, row: &Row) -> io::Result<()> {
        let line = line_of(key, row)?;
        self.rows += 1;
        self.line(&line)?;
        self.ledger.line(key, &self.line);
        Ok(())
    }

    /// Rows so far.
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Ends it. The summary is of the rows.
    pub fn finish(mut self) -> io::Result<(W, Summary)> {
        let checksum = Some(format!("{:016x}", self.hash.digest()));
        let rows = self.rows;
        self.line(&Line::End(End { rows, checksum }))?;
        self.to.flush()?;
        Ok((self.to, self.ledger.finish()))
    }

    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)?;
        self.line.push(b'\n');
        self.hash.update(&self.line);
        self.to.write_all(&self.line)
    }
}
