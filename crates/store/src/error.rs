//! Faults of a backend, coarse on purpose: a caller can only try again or tell somebody.

use thiserror::Error;

/// Why a backend could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// A write or sync failed and no write is taken any more. The change that met this first may have happened,
    /// later ones have not. Needs a restart, which verifies the files.
    #[error(
        "the store takes no more writes since one failed: {reason}; restart the server once the cause is gone"
    )]
    Poisoned {
        /// What failed.
        reason: String,
    },
    /// The connection to the database was lost while the change was committed: it happened, or it did not. Whoever
    /// asks again may find it done.
    #[error("it is not known whether the change happened: {reason}")]
    Unknown {
        /// What was lost.
        reason: String,
    },
    /// The store could not do it now and did nothing. Worth another try.
    #[error("the store could not serve the request now: {reason}")]
    Busy {
        /// Why.
        reason: String,
    },
    /// The store is being closed and did nothing.
    #[error("the store is being closed")]
    Closed,
    /// Stored data could not be read or understood.
    #[error("stored data could not be read: {reason}")]
    Unreadable {
        /// What is wrong.
        reason: String,
    },
}
