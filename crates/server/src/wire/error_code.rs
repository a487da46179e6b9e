//! Every code that this server answers, with its fixed sentence and who is to blame. `docs/errors.md` lists the
//! same rows; `cargo xtask tidy` compares the two.

/// Who has to do something about an error; decides how loudly it is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The caller: it asked for something that can't be.
    Caller,
    /// The server or the machine it runs on.
    Us,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The number on the wire.
    pub code: u32,
    /// The sentence on the wire where nothing more can be said.
    pub text: &'static str,
    /// Who is to blame.
    pub blame: Blame,
}

const fn row(code: u32, text: &'static str, blame: Blame) -> Row {
    Row { code, text, blame }
}

/// What can go wrong, as callers learn it. Sources: rest-overview.md section 6, message-extensions.md section 9
/// and the "Codes" of each command in groups-and-messages.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the row of each variant says what it means")]
pub enum ErrorCode {
    // The gateway.
    BadMethod,
    BadJson,
    TooManyCalls,
    UnknownCommand,
    NotAnAdministrator,
    SdkAppIdMissing,
    AccountNotAString,
    BadQuery,
    // Signatures.
    UserSigExpired,
    UserSigIllegal,
    UserSigWrongKey,
    UserSigOtherUser,
    UserSigOtherApp,
    /// No configuration leads here, since one without a key is refused; it stays for what `user_sig::verify` can say.
    AppWithoutKey,
    UnknownApp,
    CallerUnknown,
    // Accounts.
    TextTooLong,
    BadAccountParameter,
    AccountInternal,
    // Groups and extensions.
    GroupInternal,
    UnknownGroupCommand,
    BadParameter,
    TooManyAccounts,
    NoPermission,
    PlanNotUltimate,
    UnknownGroup,
    GroupFull,
    BadGroupId,
    RefusedByApp,
    Muted,
    AnswerTooLarge,
    UnknownAccount,
    GroupIdTaken,
    GroupIdTakenByOwner,
    NoMessageToRecall,
    TooManyMembers,
    MessageTooLong,
    AppDidNotAnswer,
    // Extensions.
    SeqConflict,
    NoExtensions,
    TooManyAttempts,
    NoSuchMessage,
    // One-to-one messages and their extensions.
    NotAParty,
    DirectExtensionBusy,
    DirectExtensionInternal,
    DirectMessageRefusedByApp,
    NothingToRecall,
    AlreadyRecalled,
    BadMessageJson,
    BadMsgBody,
    BadToAccount,
    BadMsgRandom,
    BadMsgTimeStamp,
    MsgBodyNotAnArray,
    BadFromAccount,
    BadMessageParameter,
    UnknownToAccount,
    MsgLifeTimeTooLong,
    BadSyncOtherMachine,
    BadOfflinePushInfo,
    BadMsgLifeTime,
    BadMsgKey,
    MessageInternal,
    DirectMessageTooLong,
}

impl ErrorCode {
    /// Number, sentence and blame.
    pub const fn details(self) -> Row {
        match self {
            Self::BadMethod => row(60_002, "the request is not a POST", Blame::Caller),
            Self::BadJson => row(60_003, "the body is not a JSON object", Blame::Caller),
            Self::TooManyCalls => row(60_007, "too many calls of this command in a second", Blame::Caller),
            Self::UnknownCommand => {
                row(60_009, "there is no such service or command, check the URL", Blame::Caller)
            }
            Self::NotAnAdministrator => {
                row(60_010, "only an administrator of the app may call this command", Blame::Caller)
            }
            Self::SdkAppIdMissing => row(60_012, "sdkappid is missing from the query", Blame::Caller),
            Self::AccountNotAString => row(60_015, "an account must be a string", Blame::Caller),
            Self::BadQuery => row(60_025, "a query parameter is missing or wrong", Blame::Caller),
            Self::UserSigExpired => row(70_001, "the UserSig has expired", Blame::Caller),
            Self::UserSigIllegal => row(70_003, "the UserSig cannot be read", Blame::Caller),
            Self::UserSigWrongKey => {
                row(70_009, "the UserSig was not signed with a key of this app", Blame::Caller)
            }
            Self::UserSigOtherUser => row(70_013, "the UserSig is for another UserID", Blame::Caller),
            Self::UserSigOtherApp => row(70_014, "the UserSig is for another SDKAppID", Blame::Caller),
            Self::AppWithoutKey => row(70_016, "the app has no key to verify with", Blame::Us),
            Self::UnknownApp => row(70_020, "there is no app with this SDKAppID", Blame::Caller),
            Self::CallerUnknown => row(70_107, "the account does not exist, import it first", Blame::Caller),
            Self::TextTooLong => row(40_601, "a text of the account is too long", Blame::Caller),
            Self::BadAccountParameter => row(70_402, "a parameter is missing or wrong", Blame::Caller),
            Self::AccountInternal => row(70_500, "internal error, try again", Blame::Us),
            Self::GroupInternal => row(10_002, "internal error, try again", Blame::Us),
            Self::UnknownGroupCommand => row(10_003, "there is no such command", Blame::Caller),
            Self::BadParameter => row(10_004, "a parameter is missing or wrong", Blame::Caller),
            Self::TooManyAccounts => row(10_005, "too many accounts in one request", Blame::Caller),
            Self::NoPermission => {
                row(10_007, "no permission, or not possible in this type of group", Blame::Caller)
            }
            Self::PlanNotUltimate => {
                row(10_008, "the plan of this app does not include message extensions", Blame::Caller)
            }
            Self::UnknownGroup => row(10_010, "the group does not exist or was dissolved", Blame::Caller),
            Self::GroupFull => row(10_014, "the group is full", Blame::Caller),
            Self::BadGroupId => row(10_015, "the GroupId is impossible", Blame::Caller),
            Self::RefusedByApp => row(10_016, "the app refused it", Blame::Caller),
            Self::Muted => row(10_017, "the sender is muted in this group", Blame::Caller),
            Self::AnswerTooLarge => {
                row(10_018, "the answer would be larger than 1 MiB, ask for less", Blame::Caller)
            }
            Self::UnknownAccount => row(10_019, "the account does not exist", Blame::Caller),
            Self::GroupIdTaken => row(10_021, "the GroupId is already in use", Blame::Caller),
            Self::GroupIdTakenByOwner => {
                row(10_025, "the GroupId is already in use by a group of the same owner", Blame::Caller)
            }
            Self::NoMessageToRecall => {
                row(10_030, "the message does not exist or was recalled before", Blame::Caller)
            }
            Self::TooManyMembers => row(10_038, "more members than the group may have", Blame::Caller),
            Self::MessageTooLong => row(80_002, "the message body is too long", Blame::Caller),
            Self::AppDidNotAnswer => row(80_003, "the app was to be asked and did not answer", Blame::Caller),
            Self::SeqConflict => {
                row(23_001, "the pair was changed by somebody else, look at it and try again", Blame::Caller)
            }
            Self::NoExtensions => row(23_002, "the message does not support extensions", Blame::Caller),
            Self::TooManyAttempts => {
                row(23_003, "too many attempts to change the pairs of this message", Blame::Caller)
            }
            Self::NoSuchMessage => {
                row(23_004, "the message, or the pair to delete, does not exist", Blame::Caller)
            }
            Self::NotAParty => {
                row(20_003, "the caller is neither sender nor recipient of the message", Blame::Caller)
            }
            Self::DirectExtensionBusy => row(20_004, "the server is busy, try again", Blame::Us),
            Self::DirectExtensionInternal => row(20_005, "internal error, try again", Blame::Us),
            Self::DirectMessageRefusedByApp => row(20_006, "the app refused the message", Blame::Caller),
            Self::NothingToRecall => row(20_022, "the message to recall does not exist", Blame::Caller),
            Self::AlreadyRecalled => row(20_023, "the message was recalled before", Blame::Caller),
            Self::BadMessageJson => row(90_001, "the body is not a JSON object", Blame::Caller),
            Self::BadMsgBody => row(90_002, "MsgBody is missing or empty", Blame::Caller),
            Self::BadToAccount => row(90_003, "To_Account is missing or wrong", Blame::Caller),
            Self::BadMsgRandom => row(90_005, "MsgRandom is missing or wrong", Blame::Caller),
            Self::BadMsgTimeStamp => row(90_006, "MsgTimeStamp is wrong", Blame::Caller),
            Self::MsgBodyNotAnArray => row(90_007, "MsgBody is not an array", Blame::Caller),
            Self::BadFromAccount => row(90_008, "From_Account is wrong or does not exist", Blame::Caller),
            Self::BadMessageParameter => {
                row(90_010, "a parameter or an element of the message is missing or wrong", Blame::Caller)
            }
            Self::UnknownToAccount => row(90_012, "To_Account does not exist", Blame::Caller),
            Self::MsgLifeTimeTooLong => {
                row(90_026, "MsgLifeTime is negative or longer than 7 days", Blame::Caller)
            }
            Self::BadSyncOtherMachine => row(90_031, "SyncOtherMachine is neither 1 nor 2", Blame::Caller),
            Self::BadOfflinePushInfo => row(90_043, "OfflinePushInfo is not an object", Blame::Caller),
            Self::BadMsgLifeTime => row(90_044, "MsgLifeTime is not a number of seconds", Blame::Caller),
            Self::BadMsgKey => row(90_054, "MsgKey is missing or can be no key", Blame::Caller),
            Self::MessageInternal => row(91_000, "internal error, try again", Blame::Us),
            Self::DirectMessageTooLong => row(93_000, "the message is too long", Blame::Caller),
        }
    }

    /// The number on the wire.
    pub const fn code(self) -> u32 {
        self.details().code
    }
}
