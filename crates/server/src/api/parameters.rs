//! Fields that several commands share.

use sidenote_core::MAX_SAFE_INTEGER;
use sidenote_core::ids::{GroupId, MsgSeq, UserId};

use crate::api::Fault;
use crate::api::fault::problem;
use crate::wire::error_code::ErrorCode;
use crate::wire::fields::{FieldError, Names};
use crate::wire::json::{Object, Value};

/// Checks a GroupId that was read before. Apart from the reading, because an impossible GroupId is told after all
/// other parameters (rule 3.12), with a code of its own (10015).
pub(super) fn group_id(raw: &str) -> Result<GroupId, Fault> {
    GroupId::new(raw).map_err(|malformed| {
        Fault::Code(ErrorCode::BadGroupId, format!("GroupId {malformed}; it can be no group's id"))
    })
}

/// A required GroupId for commands that have nothing else to check first.
pub(super) fn required_group_id(body: Object<'_>) -> Result<GroupId, Fault> {
    group_id(body.string("GroupId")?)
}

/// A required account.
pub(super) fn user_id(body: Object<'_>, names: impl Names) -> Result<UserId, Fault> {
    user_id_of(body.required(names)?)
}

/// An optional account.
pub(super) fn optional_user_id(body: Object<'_>, names: impl Names) -> Result<Option<UserId>, Fault> {
    body.optional(names).map(user_id_of).transpose()
}

/// An account. One that is not a string has a code of its own (60015).
pub(super) fn user_id_of(value: Value<'_>) -> Result<UserId, Fault> {
    let Some(raw) = value.as_str() else {
        return Err(Fault::Code(ErrorCode::AccountNotAString, format!("{} must be a string", value.path())));
    };
    Ok(UserId::new(raw).map_err(|malformed| value.refuse(problem(malformed)))?)
}

/// The number of a message.
pub(super) fn message_number(body: Object<'_>) -> Result<MsgSeq, FieldError> {
    let value = body.required("MsgSeq")?;
    let number = value.integer(1..=MAX_SAFE_INTEGER)?;
    MsgSeq::new(number).map_err(|malformed| value.refuse(problem(malformed)))
}

/// Topics are not kept, and a number that counts inside one must not be taken for a number of the group.
pub(super) fn no_topic(body: Object<'_>) -> Result<(), FieldError> {
    match body.optional("TopicId") {
        Some(topic) if !topic.string()?.is_empty() => Err(topic
            .refuse(crate::wire::fields::Problem::Other("names a topic, which are not supported".into()))),
        _ => Ok(()),
    }
}
