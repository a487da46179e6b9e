//! Accounts: rows kept under an account's own home.

use crate::ids::{EventNumber, Timestamp, TinyId};

/// An imported account (groups-and-messages.md section 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its numeric twin.
    pub tiny_id: TinyId,
    /// Nickname, or empty.
    pub nick: String,
    /// Address of its picture, or empty.
    pub face_url: String,
    /// When it was first imported.
    pub imported_at: Timestamp,
}

/// "This account may be in that group": one line of the list of an account's groups.
///
/// The list follows from the events of the groups (no command changes two homes), so a line is a hint: the group's
/// own member row is the truth and is asked whenever the list is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The group's event that said so. News of an earlier event never takes away a line of a later one; a line
    /// too many, from news of joining that comes after that of leaving, leads nowhere.
    pub since: EventNumber,
}
