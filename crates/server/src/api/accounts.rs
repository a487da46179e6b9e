//! `im_open_login_svc`: groups-and-messages.md section 1.

pub(super) mod account_check;
pub(super) mod account_delete;
pub(super) mod account_import;
pub(super) mod multiaccount_import;

use sidenote_core::Outcome;
use sidenote_core::command::AccountAction;
use sidenote_core::ids::{TinyId, UserId};

use crate::api::parameters::user_id;
use crate::api::{Call, Fault, unexpected};
use crate::wire::error_code::ErrorCode;
use crate::wire::fields::FieldError;
use crate::wire::json::{Array, Object};

/// Accounts that one request may name (sections 1.2 to 1.4).
const MAX_ACCOUNTS: usize = 100;

/// Bytes of a nickname or of the address of a picture (section 1.1).
const MAX_TEXT_BYTES: usize = 500;

/// What an import says about an account besides its name; `None` leaves a text alone.
#[derive(Clone, Default)]
struct Texts {
    nick: Option<String>,
    face_url: Option<String>,
}

impl Texts {
    /// Reads the texts, of any length.
    fn parse(object: Object<'_>) -> Result<Self, FieldError> {
        Ok(Self {
            nick: object.optional_string("Nick")?.map(str::to_owned),
            face_url: object.optional_string("FaceUrl")?.map(str::to_owned),
        })
    }

    /// The text that is too long has a code of its own (40601).
    fn require_length(&self) -> Result<(), Fault> {
        for (name, text) in [("Nick", &self.nick), ("FaceUrl", &self.face_url)] {
            let bytes = text.as_ref().map_or(0, String::len);
            if bytes > MAX_TEXT_BYTES {
                return Err(Fault::Code(
                    ErrorCode::TextTooLong,
                    format!("{name} has {bytes} bytes where at most {MAX_TEXT_BYTES} are allowed"),
                ));
            }
        }
        Ok(())
    }
}

/// Makes an account, or changes the texts of one that exists.
async fn import(call: &Call, user: &UserId, texts: Texts) -> Result<(), Fault> {
    let Texts { nick, face_url } = texts;
    let tiny_id = TinyId::from_random(crate::api::random_bits());
    match call.change_account(user, AccountAction::Import { tiny_id, nick, face_url }).await? {
        Outcome::Done => Ok(()),
        other => unexpected(&other),
    }
}

/// A list of 1 to 100 objects.
fn list<'a>(body: Object<'a>, name: &'static str) -> Result<Array<'a>, FieldError> {
    body.array(name)?.not_empty()?.at_most(MAX_ACCOUNTS)
}

/// The accounts of a list of objects that hold nothing else.
fn named_accounts(body: Object<'_>, name: &'static str) -> Result<Vec<UserId>, Fault> {
    list(body, name)?.objects().map(|item| user_id(item?, "UserID")).collect()
}
