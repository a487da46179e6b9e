use std::{
    io,
    path::{Path, PathBuf},
};

use super::{MAX_BATCH_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES};

/// Why a folder could not be opened. Every text is a sentence for the operator: what is wrong, where, and
/// what to do about it. The folder is left as it was found, except where a variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another engine, in this process or another, holds the folder.
    #[error(
        "the folder {} is in use: its lock file is held by another server; stop that server or choose another folder",
        folder.display()
    )]
    InUse {
        /// The folder that was asked for.
        folder: PathBuf,
    },

    /// The folder holds files, but no store of this program.
    #[error(
        "the folder {} is not an embedded store: it holds `{found}` but no file named `format`; \
         choose an empty folder, or restore the missing file from a copy",
        folder.display()
    )]
    Foreign {
        /// The folder that was asked for.
        folder: PathBuf,
        /// One entry of the folder that no store puts there.
        found: String,
    },

    /// The folder holds no store, and none is to be made.
    #[error("there is no store in {}; name the folder of a server's data (`store.path`)", folder.display())]
    NoStore {
        /// The folder that was asked for.
        folder: PathBuf,
    },

    /// The folder holds a store already.
    #[error(
        "the folder {} holds a store already; choose an empty folder, or one that does not exist",
        folder.display()
    )]
    NotEmpty {
        /// The folder that was asked for.
        folder: PathBuf,
    },

    /// Bringing rows in from elsewhere was interrupted.
    #[error(
        "the store in {} is not whole: its {work} was interrupted; run the same command with the same file again, \
         or choose another folder; `sidenote import --abandon` gives up an import into a store that was there before",
        folder.display()
    )]
    Unfinished {
        /// The folder that was asked for.
        folder: PathBuf,
        /// Which work that was.
        work: String,
    },

    /// The files were written by a newer release.
    #[error(
        "the files in {} have format {found}, and this release reads formats up to {newest}; \
         start the release that wrote them, or a newer one",
        folder.display()
    )]
    NewerFormat {
        /// The folder that was asked for.
        folder: PathBuf,
        /// The version that its `format` file names.
        found: u32,
        /// The newest version that this release reads.
        newest: u32,
    },

    /// Writes that were answered are not in the files.
    #[error(
        "acknowledged writes are missing from {}: batch {acknowledged} was answered according to {}, but the files \
         end at batch {recovered} ({detail}); restore the folder from a copy, or, to accept the loss and go on from \
         batch {recovered}, remove {}",
        folder.display(), witness.display(), witness.display()
    )]
    AcknowledgedMissing {
        /// The folder that was asked for.
        folder: PathBuf,
        /// The file that remembers the last acknowledged batch.
        witness: PathBuf,
        /// The last batch known to be acknowledged.
        acknowledged: u64,
        /// The last batch that can be read.
        recovered: u64,
        /// Where reading ended, and why.
        detail: String,
    },

    /// A file is missing or cannot be understood, and no part of it can be given up safely.
    #[error(
        "the store in {} is damaged: {}: {detail}; nothing can be served from it, restore the folder from a copy",
        folder.display(), file.display()
    )]
    Damaged {
        /// The folder that was asked for.
        folder: PathBuf,
        /// The file that is missing or damaged.
        file: PathBuf,
        /// What is wrong with it.
        detail: String,
    },

    /// The witness file cannot be read, so it is unknown whether acknowledged writes are missing.
    #[error(
        "the file {} is damaged, so lost writes could not be noticed; check the disk, then remove that file to go on \
         with what the store holds",
        witness.display()
    )]
    WitnessDamaged {
        /// The file that remembers the last acknowledged batch.
        witness: PathBuf,
    },

    /// The file system refused.
    #[error(
        "{}: {source}; check that the path is right and that the server may read and write there",
        path.display()
    )]
    Io {
        /// The file or folder that was touched.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// The operating system gave the store no threads.
    #[error("the threads of the store could not be started: {source}; check the limit of processes")]
    Threads {
        /// What the operating system said.
        source: io::Error,
    },

    /// The storage engine refused.
    #[error(
        "the files in {} could not be opened ({source}); if the disk is healthy and not full, restore the folder \
         from a copy",
        folder.display()
    )]
    Engine {
        /// The folder that was asked for.
        folder: PathBuf,
        /// What the engine said.
        source: fjall::Error,
    },
}

impl OpenError {
    /// For `map_err`: names the path that an operation failed on.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}

/// Why a commit or a read failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// An earlier write failed. What is in memory and what is on disk may differ, so nothing is written until
    /// the folder has been reopened, which reads and checks the files.
    #[error("an earlier write failed; the store takes no writes until it is restarted")]
    Poisoned,

    /// This write failed, and poisoned the engine. The batch is on disk as a whole or not at all: only
    /// reopening tells which.
    #[error("the batch could not be made durable")]
    Write(#[source] fjall::Error),

    /// Rows that are durable could not be moved into tables, and the engine is poisoned. The batch, if there was
    /// one, was not written.
    #[error(
        "rows could not be flushed or compacted in the background; the log of the storage engine says why"
    )]
    Background,

    /// The batch is durable but could not be witnessed, and the engine is poisoned.
    #[error("the batch could not be recorded in the witness file")]
    Witness(#[source] io::Error),

    /// A key is empty or longer than [`MAX_KEY_BYTES`]. Nothing was written, and the engine goes on.
    #[error("a key of {bytes} bytes; keys have 1 to {MAX_KEY_BYTES}")]
    KeyLength {
        /// Length of the key in bytes.
        bytes: usize,
    },

    /// A key begins with [`RESERVED_PREFIX`](super::RESERVED_PREFIX). Nothing was written, and the engine goes on.
    #[error("a key that begins with the byte reserved for the engine")]
    ReservedKey,

    /// A value is longer than [`MAX_VALUE_BYTES`]. Nothing was written, and the engine goes on.
    #[error("a value of {bytes} bytes; values have at most {MAX_VALUE_BYTES}")]
    ValueTooLong {
        /// Length of the value in bytes.
        bytes: usize,
    },

    /// The keys and values of a batch exceed [`MAX_BATCH_BYTES`]. Nothing was written, and the engine goes on.
    #[error("a batch of more than {MAX_BATCH_BYTES} bytes")]
    BatchTooLarge,

    /// A row could not be read: the disk failed, or a block does not match its checksum.
    #[error("a row could not be read")]
    Read(#[source] fjall::Error),
}
