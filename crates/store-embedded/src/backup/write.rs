use std::io::{self, Write};

use super::{BLOCK, BLOCK_BYTES, END, FAILURE, FIRST_LINK, HEADER, Header, MAGIC, Row, Totals, link};

/// Writes a backup, a block at a time. Without [`finish`](Self::finish) it has no end, and no reader takes it for a
/// whole one.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    link: u64,
    block: Vec<u8>,
    totals: Totals,
}

impl<W: Write> Writer<W> {
    /// Begins a backup.
    pub fn begin(mut to: W, header: &Header) -> io::Result<Self> {
        to.write_all(MAGIC)?;
        let mut writer = Self {
            to,
            link: FIRST_LINK,
            block: Vec::with_capacity(2 * BLOCK_BYTES),
            totals: Totals::default(),
        };
        writer.frame(HEADER, &cbor(header))?;
        Ok(writer)
    }

    /// Says in the place of a backup why there is none.
    pub fn refuse(mut to: W, reason: &str) -> io::Result<()> {
        to.write_all(MAGIC)?;
        Self { to, link: FIRST_LINK, block: Vec::new(), totals: Totals::default() }.fail(reason)
    }

    /// Adds the next row of a walk.
    pub fn row(&mut self, row: &Row) -> io::Result<()> {
        let (key, value) = row;
        let lengths = u16::try_from(key.len()).ok().zip(u32::try_from(value.len()).ok());
        let (key_bytes, value_bytes) = lengths.ok_or_else(|| io::Error::other("a row of impossible size"))?;
        self.block.extend_from_slice(&key_bytes.to_le_bytes());
        self.block.extend_from_slice(&value_bytes.to_le_bytes());
        self.block.extend_from_slice(key);
        self.block.extend_from_slice(value);
        self.totals.count(row);
        if self.block.len() >= BLOCK_BYTES { self.flush() } else { Ok(()) }
    }

    /// Ends it.
    pub fn finish(mut self) -> io::Result<(W, Totals)> {
        self.flush()?;
        self.frame(END, &cbor(&self.totals))?;
        self.to.flush()?;
        Ok((self.to, self.totals))
    }

    /// Tells the reader at the other end why there will be no end.
    pub fn fail(mut self, reason: &str) -> io::Result<()> {
        self.frame(FAILURE, reason.as_bytes())?;
        self.to.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let mut block = std::mem::take(&mut self.block);
        self.frame(BLOCK, &block)?;
        block.clear();
        // One large row is no reason to hold its memory for good.
        block.shrink_to(2 * BLOCK_BYTES);
        self.block = block;
        Ok(())
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        self.link = link(self.link, kind, payload);
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
        self.to.write_all(&[kind])?;
        self.to.write_all(&length.to_le_bytes())?;
        self.to.write_all(&self.link.to_le_bytes())?;
        self.to.write_all(payload)
    }
}

fn cbor(it: &impl minicbor::Encode<()>) -> Vec<u8> {
    minicbor::to_vec(it).expect("memory takes all bytes, and numbers can be encoded")
}
