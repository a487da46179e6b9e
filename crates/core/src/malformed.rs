//! What makes a value unfit for its type. The edge turns each into a parameter error that names the field.

use thiserror::Error;

/// Why a raw value cannot become one of the types of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// Nothing where something is needed.
    #[error("must not be empty")]
    Empty,
    /// Longer than the type can hold.
    #[error("is {bytes} bytes long, the limit is {limit}")]
    TooLong {
        /// The value's length in bytes.
        bytes: usize,
        /// The longest allowed.
        limit: usize,
    },
    /// A control character where none may be.
    #[error("must not contain control characters")]
    ControlCharacter,
    /// A byte outside 0x20..=0x7e.
    #[error("must be printable ASCII")]
    NotPrintableAscii,
    /// A number outside its range.
    #[error("is out of range")]
    OutOfRange,
    /// Not the three numbers of a message's key.
    #[error("must be three numbers as in 44739199_12_1665388280")]
    NotAMsgKey,
    /// The same key twice in one request (rule 3.5).
    #[error("names the same key twice")]
    RepeatedKey,
    /// More items than one request may carry (rule 3.7).
    #[error("has {count} items, the limit is {limit}")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
}
