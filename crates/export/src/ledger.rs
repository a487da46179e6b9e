use std::fmt;
use std::io;

use sidenote_core::ids::{Incarnation, MessageName};
use sidenote_core::rows::{Part, Row, RowKey};
use xxhash_rust::xxh3::Xxh3;

use crate::lines::Line;

/// The kinds of rows, by the names that their lines have, in the order of a file.
const KINDS: [&str; 16] = [
    "debt",
    "account",
    "membership",
    "group",
    "direct",
    "event",
    "counters",
    "member",
    "repeat",
    "message",
    "body",
    "set",
    "pair",
    "recent",
    "outbox",
    "dead_letter",
];

/// Counts rows and takes digests of them as they go by, in the order of
/// [`Position`](sidenote_store::audit::Position). Two stores with equal [`Summary`]s hold the same.
#[derive(Default)]
pub struct Ledger {
    rows: [u64; KINDS.len()],
    all: Xxh3,
    messages: u64,
    of_messages: Xxh3,
    /// The message that goes by.
    message: Option<((Incarnation, MessageName), Xxh3)>,
    line: Vec<u8>,
}

/// What a [`Ledger`] has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Rows by kind.
    rows: [u64; KINDS.len()],
    /// Messages: a header with body, extension set and pairs.
    messages: u64,
    /// XXH3 (128 bits) over the digests of every message, each of which is XXH3 (128 bits) of its lines.
    of_messages: u128,
    /// XXH3 (128 bits) of all lines between the first and the last one.
    all: u128,
}

impl Ledger {
    /// The next row.
    ///
    /// # Errors
    ///
    /// If the row is of another kind than its key.
    pub fn row(&mut self, key: &RowKey, row: &Row) -> io::Result<()> {
        let mut text = std::mem::take(&mut self.line);
        text.clear();
        let line = line_of(key, row)?;
        serde_json::to_writer(&mut text, &line)?;
        text.push(b'\n');
        self.line(key, &text);
        self.line = text;
        Ok(())
    }

    /// The next row, of which this is the line.
    pub(crate) fn line(&mut self, key: &RowKey, text: &[u8]) {
        let name = text.split(|byte| *byte == b'"').nth(1);
        if let Some(kind) = KINDS.iter().position(|kind| Some(kind.as_bytes()) == name) {
            self.rows[kind] += 1;
        }
        self.all.update(text);
        let name = match key {
            RowKey::Within(incarnation, Part::Message(name, _)) => Some((*incarnation, *name)),
            _ => None,
        };
        if self.message.as_ref().map(|(name, _)| *name) != name {
            self.end_message();
            self.message = name.map(|name| (name, Xxh3::new()));
        }
        if let Some((_, digest)) = &mut self.message {
            digest.update(text);
        }
    }

    fn end_message(&mut self) {
        if let Some((_, digest)) = self.message.take() {
            self.messages += 1;
            self.of_messages.update(&digest.digest128().to_be_bytes());
        }
    }

    /// What went by.
    pub fn finish(mut self) -> Summary {
        self.end_message();
        let Self { rows, all, messages, of_messages, .. } = self;
        Summary { rows, messages, of_messages: of_messages.digest128(), all: all.digest128() }
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// The line of a row.
pub(crate) fn line_of<'a>(key: &'a RowKey, row: &'a Row) -> io::Result<Line<'a>> {
    Line::of(key, row)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a row is of another kind than its key"))
}

impl Summary {
    /// How many rows there are.
    pub fn rows(&self) -> u64 {
        self.rows.iter().sum()
    }
}

impl fmt::Display for Summary {
    /// Two lines: counts of every kind, and digests.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = KINDS.iter().zip(self.rows).map(|(kind, count)| format!("{kind} {count}"));
        let Self { messages, of_messages, all, .. } = self;
        writeln!(f, "rows: {}", counts.collect::<Vec<_>>().join(", "))?;
        let plural = if *messages == 1 { "" } else { "s" };
        write!(f, "digest of {messages} message{plural} {of_messages:032x}, of all rows {all:032x}")
    }
}
