//! Answers have a limit of 1 MiB (rest-overview.md section 3), and the caller is told to ask for less (10018).

use crate::api::Fault;
use crate::wire::error_code::ErrorCode;

/// Bytes of an answer.
pub(super) const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// The answer again, unless it is too large.
pub(super) fn require_size(answer: Vec<u8>) -> Result<Vec<u8>, Fault> {
    if answer.len() > MAX_ANSWER_BYTES {
        return Err(Fault::Plain(ErrorCode::AnswerTooLarge));
    }
    Ok(answer)
}
