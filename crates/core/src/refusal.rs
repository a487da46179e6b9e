//! The ways a rule says no. A refusal changes nothing.

use thiserror::Error;

/// Why a whole command was refused. The server gives each its code in one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The group is unknown or was destroyed.
    #[error("the group does not exist or was dissolved")]
    NoSuchGroup,
    /// The GroupId belongs to somebody else's group.
    #[error("the GroupId is already in use")]
    GroupIdTaken,
    /// The GroupId belongs to a group of the same owner.
    #[error("the GroupId is already in use by a group of the same owner")]
    GroupIdTakenByOwner,
    /// The caller is not a member of the group (rule 3.3).
    #[error("the caller is not a member of the group")]
    NotAMember,
    /// The group's type does not know this command.
    #[error("this type of group does not support the command")]
    TypeForbidsCommand,
    /// The group's type or the message does not support extensions (rule 3.11).
    #[error("the message does not support extensions")]
    NoExtensions,
    /// No such message, or it was recalled (rule 3.11).
    #[error("the message does not exist or was recalled")]
    NoSuchMessage,
    /// Rule 3.10.
    #[error("too many attempts to change the pairs of this message, try again within a minute")]
    TooManyAttempts,
    /// The group takes no more members.
    #[error("the group is full")]
    GroupFull,
    /// The capacity asked for is below what the group holds.
    #[error("the group has more members than that")]
    BelowMemberCount,
    /// The group would have more custom fields than a group may.
    #[error("the group would have more than {} custom fields", crate::group::MAX_CUSTOM_FIELDS)]
    TooManyCustomFields,
    /// The new owner is not a member.
    #[error("the new owner is not a member of the group")]
    NewOwnerNotAMember,
    /// The owner can't be removed.
    #[error("the owner cannot be removed, change the owner first")]
    OwnerStays,
    /// The sender may not speak now.
    #[error("the sender is muted in this group")]
    Muted,
    /// No such account.
    #[error("the account does not exist")]
    NoSuchAccount,
    /// The caller is neither the sender nor the recipient, or does what only the sender may.
    #[error("the caller is not an account that may do this in this conversation")]
    NotAParty,
    /// The message was sent by the other one of the two accounts.
    #[error("From_Account is not the account that sent the message")]
    NotTheSender,
    /// No such one-to-one message to recall.
    #[error("the message to recall does not exist")]
    NothingToRecall,
    /// The one-to-one message was recalled before.
    #[error("the message was recalled before")]
    AlreadyRecalled,
    /// Every key that the message could have is that of another message.
    #[error("other messages of this conversation have this MsgSeq and MsgRandom, choose another MsgRandom")]
    MsgKeysTaken,
}
