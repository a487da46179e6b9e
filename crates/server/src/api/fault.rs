//! From fault to wire code: malformed fields, refusals of the rules and faults of the store meet in one place.

use sidenote_core::{Malformed, Refusal};
use sidenote_store::StoreError;
use thiserror::Error;

use crate::api::Service;
use crate::wire::error_code::ErrorCode;
use crate::wire::fields::{FieldError, Problem};

/// Why a command did not succeed.
#[derive(Debug, Error)]
pub(crate) enum Fault {
    /// A field of the body.
    #[error("{0}")]
    Field(#[from] FieldError),
    /// A rule.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The store.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A code that the command chose, with a sentence of its own.
    #[error("{1}")]
    Code(ErrorCode, String),
    /// A code that the command chose.
    #[error("{}", .0.details().text)]
    Plain(ErrorCode),
    /// A code that the app chose when it was asked, with its sentence.
    #[error("{1}")]
    OfApp(u32, String),
}

impl Fault {
    /// The code that a caller of this service gets.
    pub(crate) fn code(&self, service: Service) -> ErrorCode {
        match self {
            Self::Field(_) => service.bad_parameter(),
            Self::Refused(refusal) => refusal_code(*refusal, service),
            Self::Store(StoreError::Busy { .. } | StoreError::Closed) => service.busy(),
            Self::Store(_) => service.internal(),
            Self::Code(code, _) | Self::Plain(code) => *code,
            Self::OfApp(..) => ErrorCode::RefusedByApp,
        }
    }

    /// The number on the wire.
    pub(crate) fn number(&self, service: Service) -> u32 {
        match self {
            Self::OfApp(number, _) => *number,
            other => other.code(service).code(),
        }
    }

    /// The sentence that a caller gets. What went wrong inside is for the log, not for callers.
    pub(crate) fn info(&self, service: Service) -> String {
        match self {
            Self::Store(_) => self.code(service).details().text.to_owned(),
            other => other.to_string(),
        }
    }
}

/// The whole table from refusal to code; a new refusal does not compile until it has a row.
fn refusal_code(refusal: Refusal, service: Service) -> ErrorCode {
    match refusal {
        Refusal::NoSuchGroup => ErrorCode::UnknownGroup,
        Refusal::GroupIdTaken => ErrorCode::GroupIdTaken,
        Refusal::GroupIdTakenByOwner => ErrorCode::GroupIdTakenByOwner,
        Refusal::NotAMember | Refusal::TypeForbidsCommand => ErrorCode::NoPermission,
        Refusal::NoExtensions => ErrorCode::NoExtensions,
        Refusal::NoSuchMessage => ErrorCode::NoSuchMessage,
        Refusal::TooManyAttempts => ErrorCode::TooManyAttempts,
        Refusal::GroupFull => ErrorCode::GroupFull,
        Refusal::BelowMemberCount => ErrorCode::TooManyMembers,
        Refusal::NewOwnerNotAMember | Refusal::OwnerStays | Refusal::TooManyCustomFields => {
            ErrorCode::BadParameter
        }
        Refusal::Muted => ErrorCode::Muted,
        Refusal::NoSuchAccount => match service {
            Service::Accounts => ErrorCode::CallerUnknown,
            Service::Groups | Service::Extensions => ErrorCode::UnknownAccount,
            Service::Messages | Service::DirectExtensions => ErrorCode::NotAParty,
        },
        Refusal::NotAParty => ErrorCode::NotAParty,
        Refusal::NotTheSender => ErrorCode::BadFromAccount,
        Refusal::NothingToRecall => ErrorCode::NothingToRecall,
        Refusal::AlreadyRecalled => ErrorCode::AlreadyRecalled,
        Refusal::MsgKeysTaken => ErrorCode::BadMsgRandom,
    }
}

/// What a type found wrong with a raw value, as the rest of a sentence that begins with the field.
pub(crate) fn problem(malformed: Malformed) -> Problem {
    match malformed {
        Malformed::Empty => Problem::Empty,
        Malformed::TooLong { bytes, limit } => Problem::TooLong { bytes, limit },
        Malformed::TooMany { count, limit } => Problem::TooMany { count, limit },
        other => Problem::Other(other.to_string().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_was_busy_is_told_from_one_that_is_broken_where_there_are_codes_for_both() {
        let busy = || Fault::from(StoreError::Busy { reason: "the disk is slow".to_owned() });
        let broken = || Fault::from(StoreError::Poisoned { reason: "the disk is full".to_owned() });
        for (service, of_busy, of_broken) in [
            (Service::DirectExtensions, 20_004, 20_005),
            (Service::Messages, 91_000, 91_000),
            (Service::Extensions, 10_002, 10_002),
            (Service::Groups, 10_002, 10_002),
            (Service::Accounts, 70_500, 70_500),
        ] {
            for (fault, code) in [(busy(), of_busy), (broken(), of_broken)] {
                assert_eq!(fault.code(service).code(), code);
                assert!(!fault.info(service).contains("disk"), "what went wrong inside is not for callers");
            }
        }
    }
}
