//! Why a body is not a document.

use std::fmt;

use thiserror::Error;

/// What is wrong with a body and where. It repeats nothing of the body, so it may be answered and logged.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("{fault}, at {at}")]
pub struct Unparsable {
    /// What is wrong.
    pub fault: Fault,
    /// Where it was noticed.
    pub at: Position,
}

/// What can be wrong with a body as a whole.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Fault {
    /// Nothing, or nothing but white space.
    #[error("the body is empty where at least {{}} is expected")]
    Empty,
    /// Positions are kept in 32 bits. The gateway's own limit lies far below this one.
    #[error("the body is larger than 4 GiB")]
    TooLarge,
    /// Text in another encoding, a compressed body, or a character that was cut in two.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// RFC 8259 section 8.1 forbids to send one.
    #[error("the body begins with a byte order mark")]
    ByteOrderMark,
    /// An array, a string, a number, or no JSON at all.
    #[error("the body is not a JSON object")]
    NotAnObject,
    /// The body ends inside its object.
    #[error("the JSON of the body ends too early")]
    Truncated,
    /// Two documents in one body, or rubbish after the first.
    #[error("something follows the JSON object of the body")]
    TrailingText,
    /// More levels than [`MAX_DEPTH`](super::MAX_DEPTH).
    #[error("the JSON of the body is nested more than {limit} levels deep", limit = super::MAX_DEPTH)]
    TooDeep,
    /// One object has two members of the same name (rule 3.13). Names are compared with escapes resolved.
    #[error("an object in the body names a member twice")]
    NamedTwice,
    /// Anything else that is not JSON; the text says what.
    #[error("the body is not valid JSON: {0}")]
    Syntax(&'static str),
}

/// A place in a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Position {
    /// Bytes before it.
    pub byte: usize,
    /// Counted from 1; lines end with a line feed.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
}

impl Position {
    /// The position of a byte of `body`, or of its end.
    pub(super) fn of(byte: usize, body: &[u8]) -> Self {
        let before = &body[..byte.min(body.len())];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |feed| feed + 1);
        Self {
            byte: before.len(),
            line: before.split(|byte| *byte == b'\n').count(),
            // Every character has one byte that does not continue another one.
            column: 1 + before[line_start..].iter().filter(|byte| (**byte & 0xC0) != 0x80).count(),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {} (byte {})", self.line, self.column, self.byte)
    }
}
