//! UserSig, version 2: a ticket by which an app vouches for one of its users for some time.
//!
//! A token is the base64 of zlib-compressed JSON, with an alphabet that fits into a URL. The JSON
//! object carries the claims and an HMAC-SHA256 over a text rebuilt from them (usersig.md section 2).
//!
//! Everything here works on the token itself. Whoever takes one out of a URL percent-decodes it
//! first, because some clients send `%2A` for `*`.

mod decimal;
mod ticket;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use self::ticket::Ticket;
use crate::config::Secret;

/// The longest token that is looked at, in bytes (usersig.md section 3). Usual ones have about 200.
pub const MAX_TOKEN_BYTES: usize = 2 * 1024;

/// The most that a token may inflate to, in bytes (usersig.md section 3).
pub const MAX_INFLATED_BYTES: usize = 4 * 1024;

/// What a token has proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The last second, in Unix time, in which the token is valid: `TLS.time` + `TLS.expire`, or
    /// `u64::MAX` where that sum is greater.
    pub expires_at: u64,
    /// Which of the app's keys has signed it: its place among those that were given.
    pub key: usize,
}

/// Why a token was refused. The texts are for whoever made the token; none repeats a token, an
/// identifier or a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserSigError {
    /// Code 70003: no base64, zlib stream or JSON object, too large, a member that is missing, there
    /// twice or of the wrong kind, a version other than `"2.0"`, or an identifier with control
    /// characters.
    #[error("the usersig cannot be decoded; send it whole and unchanged, as the signing library returned it")]
    Illegal,
    /// Code 70014.
    #[error("the usersig was made for another app; sign with the sdkappid that is in the request")]
    OtherApp,
    /// Code 70013.
    #[error("the usersig was made for another user; sign for the identifier that is in the request")]
    OtherUser,
    /// Code 70009: the signature fits none of the app's keys.
    #[error("the usersig is not signed with a key of this app; sign with the app's current secret key")]
    WrongKey,
    /// Code 70001.
    #[error("the usersig has expired; make a new one, and check the clock of the machine that signs")]
    Expired,
    /// Code 70016.
    #[error("this app has no secret key to check a usersig with; add one to the server's configuration")]
    NoKey,
}

/// Makes a token that is valid from `issued_at` (Unix seconds) for `expire_seconds`.
///
/// As in the published packages, any identifier and any userbuf can be signed. [`verify`] accepts
/// less: no control character in the identifier, at least one second of validity, and no token above
/// [`MAX_TOKEN_BYTES`] or [`MAX_INFLATED_BYTES`].
pub fn sign(
    sdk_app_id: u32,
    key: &Secret,
    identifier: &str,
    issued_at: u64,
    expire_seconds: u64,
    userbuf: Option<&[u8]>,
) -> String {
    let mut ticket = Ticket::unsigned(sdk_app_id, identifier, issued_at, expire_seconds, userbuf);
    ticket.signature = hmac(&ticket, key).finalize().into_bytes().to_vec();
    ticket.to_token()
}

/// Checks a token that is said to come from the user `identifier` of the app `sdk_app_id`.
///
/// Any of the app's `keys` may have signed it, so that a key can be replaced without a break. `now`
/// is in Unix seconds; the second `TLS.time` + `TLS.expire` is still valid, and a `TLS.time` in the
/// future is accepted. Where several things are wrong, the answer is the first of: no key, illegal,
/// other app, other user, wrong key, expired (usersig.md section 3).
pub fn verify(
    token: &str,
    sdk_app_id: u32,
    identifier: &str,
    keys: &[Secret],
    now: u64,
) -> Result<Verified, UserSigError> {
    if keys.is_empty() {
        return Err(UserSigError::NoKey);
    }
    if identifier.contains(char::is_control) {
        return Err(UserSigError::Illegal);
    }
    let ticket = Ticket::from_token(token).ok_or(UserSigError::Illegal)?;
    if ticket.sdk_app_id.value() != i128::from(sdk_app_id) {
        return Err(UserSigError::OtherApp);
    }
    if ticket.identifier != identifier {
        return Err(UserSigError::OtherUser);
    }
    // `verify_slice` compares in constant time. Which of the keys fits is no secret.
    let fits = |key: &Secret| hmac(&ticket, key).verify_slice(&ticket.signature).is_ok();
    let key = keys.iter().position(fits).ok_or(UserSigError::WrongKey)?;
    match ticket.expires_at() {
        Some(expires_at) if now <= expires_at => Ok(Verified { expires_at, key }),
        _ => Err(UserSigError::Expired),
    }
}

/// The key is the secret's text itself; the hexadecimal digits are not decoded.
fn hmac(ticket: &Ticket, key: &Secret) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(key.expose())
        .expect("HMAC takes keys of any length")
        .chain_update(ticket.content())
}

#[cfg(test)]
mod tests;
