//! Why a database can't be used as a store.

use std::path::PathBuf;

use thiserror::Error;

/// Why a store was not opened, or a schema not changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The DSN makes no sense.
    #[error("the address of the database can't be used: {reason}")]
    Dsn {
        /// What is wrong with it.
        reason: String,
        /// The name of an option that is not known, unless it may be a part of the password.
        unknown_option: Option<String>,
    },
    /// The certificates of authorities can't be read.
    #[error("{path} can't be used as certificates of authorities: {reason}")]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The database can't be reached.
    #[error("the database can't be reached: {reason}")]
    Unreachable {
        /// Why.
        reason: String,
    },
    /// The database refused a statement.
    #[error("the database refused a statement: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// Nothing is in the database yet.
    #[error("the database holds no Sidenote schema yet; run `sidenote migrate` once")]
    NoSchema,
    /// The schema is older than this program needs.
    #[error(
        "the database holds schema {found}, this program needs {needed}; run `sidenote migrate` of this version \
         once, nodes of the version before go on meanwhile"
    )]
    OlderSchema {
        /// What is there.
        found: u32,
        /// What this program needs at least.
        needed: u32,
    },
    /// The schema is newer than this program knows.
    #[error(
        "the database holds schema {found}, which takes a program that knows schema {oldest_known} at least, and \
         this one knows {known}; install the newer version"
    )]
    NewerSchema {
        /// What is there.
        found: u32,
        /// Which programs may still use it, by the schema that they know.
        oldest_known: u32,
        /// What this program knows.
        known: u32,
    },
    /// The database is set up in a way that breaks promises.
    #[error("the database can't be used as it is set up: {reason}")]
    Unsuitable {
        /// What has to be changed.
        reason: String,
    },
}
