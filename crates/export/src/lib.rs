//! A store as JSON lines: one line for each row, between a line that says what the file is and one that says how
//! many there were. `docs/export-format.md` is the contract.
//!
//! Together with `wire/` and `api/` of the server this is the only place that knows JSON. The structs here mirror
//! those of the core, which derive no serializer.

mod debts;
mod events;
mod ledger;
mod lines;
mod names;
mod outboxes;
mod read;
mod write;

use serde::{Deserialize, Serialize};
use sidenote_core::debt::Task;
use sidenote_core::ids::{AppId, Incarnation};
use sidenote_core::rows::{Row, RowKey};

pub use ledger::{Ledger, Summary};
pub use read::{ExportError, Reader};
pub use write::Writer;

/// The newest version of the format that this release reads, and the one that it writes.
pub const VERSION: u32 = 1;

/// Longest line, in bytes, with its end. The largest row, with every byte of its texts escaped, is shorter.
pub const MAX_LINE_BYTES: usize = 128 * 1024 * 1024;

/// Longest first line, in bytes, with its end, in this and any later version.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// The first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Version of the format.
    pub version: u32,
    /// The app whose rows follow; absent: all apps.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub app: Option<u32>,
    /// Number of the batch whose state this is. It means nothing to another store.
    #[serde(default)]
    pub batch: u64,
    /// When the export was begun, in milliseconds since 1970.
    #[serde(default)]
    pub made_at: u64,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    /// Lines between the first and this one.
    rows: u64,
    /// XXH3 (64 bits, hexadecimal) of all bytes before this line. Whoever edits a file leaves it out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    checksum: Option<String>,
}

/// The app that a row belongs to; `None`: that of its incarnation, which [`incarnation_of`] tells.
pub fn app_of(key: &RowKey) -> Option<AppId> {
    match key {
        RowKey::Account(account) | RowKey::Membership(account, ..) => Some(account.app),
        RowKey::Conversation(id) | RowKey::Outbox(id, _) | RowKey::DeadLetter(id, ..) => Some(id.app),
        RowKey::Within(..) | RowKey::Event(..) => None,
        RowKey::Debt(debt) => Some(match &debt.task {
            Task::Forsake(account, _) => account.app,
            Task::Announce(id, ..)
            | Task::Reap(id, _)
            | Task::Strip(id, ..)
            | Task::ForgetSend(id, ..)
            | Task::TrimEvents(id, _) => id.app,
        }),
    }
}

/// The incarnation that a conversation's own row gives to all that is stored inside it; `None` for other rows.
pub fn own_incarnation(row: &Row) -> Option<Incarnation> {
    match row {
        Row::Group(group) => Some(group.incarnation),
        Row::Direct(direct) => Some(direct.incarnation),
        _ => None,
    }
}

/// The incarnation that a row is stored under or that a debt is about.
pub fn incarnation_of(key: &RowKey) -> Option<Incarnation> {
    match key {
        RowKey::Account(_) | RowKey::Conversation(_) => None,
        RowKey::Membership(_, _, incarnation)
        | RowKey::Within(incarnation, _)
        | RowKey::Event(incarnation, _)
        | RowKey::Outbox(_, incarnation)
        | RowKey::DeadLetter(_, incarnation, _) => Some(*incarnation),
        RowKey::Debt(debt) => match &debt.task {
            Task::Forsake(..) => None,
            Task::Announce(_, incarnation, _)
            | Task::Reap(_, incarnation)
            | Task::Strip(_, incarnation, _)
            | Task::ForgetSend(_, incarnation, _)
            | Task::TrimEvents(_, incarnation) => Some(*incarnation),
        },
    }
}
