//! One-to-one messages: `openim` (groups-and-messages.md section 6), and what their extensions share with it.

pub(super) mod admin_getroammsg;
pub(super) mod admin_msgwithdraw;
pub(super) mod sendmsg;

use sidenote_core::direct::{Party, Peers};
use sidenote_core::ids::{MsgKey, UserId};

use crate::api::fault::problem;
use crate::api::{Call, Fault};
use crate::wire::error_code::ErrorCode;
use crate::wire::fields::{FieldError, Names};
use crate::wire::json::{Object, Value};

/// Two accounts as a request names them, each with the name of its field. Whether they exist has yet to be asked.
pub(super) struct Named {
    from: (&'static str, UserId),
    to: (&'static str, UserId),
}

impl Named {
    /// The accounts, both of which must exist.
    pub(super) async fn look_up(self, call: &Call) -> Result<Peers, Fault> {
        let Self { from, to } = self;
        let mut accounts = call.accounts(&[from.1.clone(), to.1.clone()]).await?.into_iter();
        let mut next = |(field, user): (&str, UserId), code| match accounts.next().flatten() {
            Some(account) => Ok(Party { user, tiny_id: account.tiny_id }),
            None => Err(Fault::Code(code, format!("{field} names an account that does not exist"))),
        };
        let from = next(from, ErrorCode::BadFromAccount)?;
        let to = next(to, ErrorCode::UnknownToAccount)?;
        Ok(Peers { app: call.app_id(), from, to })
    }
}

/// Who sent a message to whom. An absent `From_Account` is the caller (message-extensions.md section 4).
pub(super) fn sender_and_recipient(call: &Call, body: Object<'_>) -> Result<Named, Fault> {
    let to = recipient(body, "To_Account")?;
    let from = match body.optional("From_Account") {
        Some(value) => account(value, ErrorCode::BadFromAccount)?,
        None => call.operator.user.clone(),
    };
    Ok(Named { from: ("From_Account", from), to })
}

/// The key of a message (code 90054).
pub(super) fn message_key(body: Object<'_>, name: &'static str) -> Result<MsgKey, Fault> {
    let value = body.required(name).map_err(coded(ErrorCode::BadMsgKey))?;
    key_of(value)
}

/// A required account on the sender's side (code 90008).
fn sender(body: Object<'_>, names: impl Names) -> Result<(&'static str, UserId), Fault> {
    required(body, names, ErrorCode::BadFromAccount)
}

/// A required account on the other side (code 90003).
fn recipient(body: Object<'_>, names: impl Names) -> Result<(&'static str, UserId), Fault> {
    required(body, names, ErrorCode::BadToAccount)
}

fn required(body: Object<'_>, names: impl Names, code: ErrorCode) -> Result<(&'static str, UserId), Fault> {
    let value = body.required(names).map_err(coded(code))?;
    Ok((names.names()[0], account(value, code)?))
}

fn account(value: Value<'_>, code: ErrorCode) -> Result<UserId, Fault> {
    let raw = value.string().map_err(coded(code))?;
    UserId::new(raw).map_err(|malformed| coded(code)(value.refuse(problem(malformed))))
}

fn key_of(value: Value<'_>) -> Result<MsgKey, Fault> {
    let code = ErrorCode::BadMsgKey;
    let raw = value.string().map_err(coded(code))?;
    MsgKey::parse(raw).map_err(|malformed| coded(code)(value.refuse(problem(malformed))))
}

/// For `map_err`: a field that has a code of its own.
fn coded(code: ErrorCode) -> impl Fn(FieldError) -> Fault {
    move |error| Fault::Code(code, error.to_string())
}
