//! The session token of the long connection (`A2Key` of a login, `head.a2` afterwards; long-connection.md section 4).
//!
//! A token says by itself whose session it is and until when, and is signed with a key that is derived from the app's
//! secret. So it needs no memory: it outlives a restart and holds on every node that knows the app. It ends with the
//! ticket that the login was made with, and with the secret key that this ticket was signed with. That may be an older one
//! than the app's newest: a key that was taken away because others know it must not leave sessions behind.
//!
//! Inside: a version, SDKAppID, TinyId, instance and expiry as big-endian integers, the UserID, and an HMAC-SHA256 over
//! all of it. The text is the unpadded base64 for URLs.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::prelude::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use sidenote_core::ids::{AppId, TinyId, UserId};

use crate::config::Secret;

/// The longest token in bytes: 25 bytes of numbers, a UserID and a signature, in base64.
pub const MAX_TOKEN_BYTES: usize = (NUMBERS_BYTES + UserId::MAX_BYTES + SIGNATURE_BYTES).div_ceil(3) * 4;

const VERSION: u8 = 1;
const NUMBERS_BYTES: usize = 1 + 4 + 8 + 4 + 8;
const SIGNATURE_BYTES: usize = 32;

/// Tells the keys of these tokens from everything else that is derived from the same secret.
const PURPOSE: &[u8] = b"sidenote: session token of the long connection, version 1";

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The app.
    pub app: AppId,
    /// Who logged in.
    pub user: UserId,
    /// The number that the account had then; one that was deleted and imported again has another.
    pub tiny_id: TinyId,
    /// Which instance of the client (`InstId`), never 0.
    pub instance: u32,
    /// The last second, in Unix time, in which it is valid.
    pub expires_at: u64,
}

/// Why a token was refused. None of the texts repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum A2Error {
    /// Code 70003: it is no token at all.
    #[error("the a2 cannot be decoded; send the A2Key of the login unchanged, or log in with a usersig")]
    Illegal,
    /// Code 70014.
    #[error("the a2 belongs to another app; log in with a usersig of this one")]
    OtherApp,
    /// Code 70001: none of the app's keys has signed it. The key was replaced since, or it is a forgery.
    #[error("the session has ended because the app has other keys now; log in with a usersig")]
    NotOurs,
    /// Code 70001.
    #[error("the session has expired; log in with a new usersig")]
    Expired,
}

/// Makes the token of a session, signed with the key that its ticket was signed with.
pub fn seal(session: &Session, key: &Secret) -> String {
    let name = session.user.as_str().as_bytes();
    let mut bytes = Vec::with_capacity(NUMBERS_BYTES + name.len() + SIGNATURE_BYTES);
    bytes.push(VERSION);
    bytes.extend_from_slice(&session.app.get().to_be_bytes());
    bytes.extend_from_slice(&session.tiny_id.get().to_be_bytes());
    bytes.extend_from_slice(&session.instance.to_be_bytes());
    bytes.extend_from_slice(&session.expires_at.to_be_bytes());
    bytes.extend_from_slice(name);
    let signature = hmac(key, &bytes).finalize().into_bytes();
    bytes.extend_from_slice(&signature);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Checks a token that is sent to an app. Any of its `keys` may have signed it, and the answer says which; `now` is in Unix
/// seconds, and the last second is still valid.
pub fn open<'k>(
    token: &str,
    app: AppId,
    keys: &'k [Secret],
    now: u64,
) -> Result<(Session, &'k Secret), A2Error> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(A2Error::Illegal);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| A2Error::Illegal)?;
    let (said, signature) = bytes.split_last_chunk::<SIGNATURE_BYTES>().ok_or(A2Error::Illegal)?;
    let session = read(said).ok_or(A2Error::Illegal)?;
    if session.app != app {
        return Err(A2Error::OtherApp);
    }
    // `verify_slice` compares in constant time. Which of the keys fits is no secret.
    let fits = |key: &&Secret| hmac(key, said).verify_slice(signature).is_ok();
    let key = keys.iter().find(fits).ok_or(A2Error::NotOurs)?;
    if now > session.expires_at {
        return Err(A2Error::Expired);
    }
    Ok((session, key))
}

fn read(said: &[u8]) -> Option<Session> {
    let (version, rest) = said.split_first()?;
    let (app, rest) = rest.split_first_chunk()?;
    let (tiny_id, rest) = rest.split_first_chunk()?;
    let (instance, rest) = rest.split_first_chunk()?;
    let (expires_at, name) = rest.split_first_chunk()?;
    let session = Session {
        app: AppId::new(u32::from_be_bytes(*app)),
        user: UserId::new(std::str::from_utf8(name).ok()?).ok()?,
        tiny_id: TinyId::from_random(u64::from_be_bytes(*tiny_id)),
        instance: u32::from_be_bytes(*instance),
        expires_at: u64::from_be_bytes(*expires_at),
    };
    (*version == VERSION).then_some(session)
}

fn hmac(secret: &Secret, said: &[u8]) -> Hmac<Sha256> {
    let keyed = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    let derived = keyed(secret.expose()).chain_update(PURPOSE).finalize().into_bytes();
    keyed(&derived).chain_update(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: AppId = AppId::new(1_400_000_001);
    const EXPIRES: u64 = 1_700_000_000;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned()).unwrap()
    }

    fn session(user: &str) -> Session {
        Session {
            app: APP,
            user: UserId::new(user).unwrap(),
            tiny_id: TinyId::from_random(u64::MAX),
            instance: 0x8000_0001,
            expires_at: EXPIRES,
        }
    }

    /// Whose session it is, by any of the keys.
    fn opened(token: &str, keys: &[Secret], now: u64) -> Result<Session, A2Error> {
        open(token, APP, keys, now).map(|(session, _)| session)
    }

    #[test]
    fn a_token_says_what_was_sealed_in_it_and_fits_its_limit() {
        for user in ["a", "测试用户", &"x".repeat(UserId::MAX_BYTES)] {
            let token = seal(&session(user), &secret("key"));
            assert!(token.len() <= MAX_TOKEN_BYTES);
            assert_eq!(opened(&token, &[secret("key")], EXPIRES), Ok(session(user)));
        }
    }

    #[test]
    fn a_token_ends_with_its_time_its_app_and_its_key() {
        let token = seal(&session("ann"), &secret("key"));
        let keys = [secret("key")];
        assert_eq!(opened(&token, &keys, EXPIRES + 1), Err(A2Error::Expired));
        assert_eq!(open(&token, AppId::new(7), &keys, 0).err(), Some(A2Error::OtherApp));
        assert_eq!(opened(&token, &[secret("new")], 0), Err(A2Error::NotOurs));
        assert_eq!(opened(&token, &[], 0), Err(A2Error::NotOurs));
        // While keys are being replaced the old one still counts, and it is known that it was that.
        let keys = [secret("new"), secret("key")];
        let (_, key) = open(&token, APP, &keys, 0).ok().unwrap();
        assert!(std::ptr::eq(key, &raw const keys[1]));
    }

    #[test]
    fn no_byte_of_a_token_can_be_changed() {
        let keys = [secret("key")];
        let token = seal(&session("ann"), &keys[0]);
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[place] ^= 1 << bit;
                let changed = URL_SAFE_NO_PAD.encode(changed);
                assert!(open(&changed, APP, &keys, 0).is_err(), "byte {place}, bit {bit}");
            }
        }
        for length in 0..token.len() {
            assert!(open(&token[..length], APP, &keys, 0).is_err(), "the first {length} characters");
        }
        for wrong in ["", "?", &format!("{token}A"), &format!("{token}="), &"A".repeat(MAX_TOKEN_BYTES + 1)] {
            assert_eq!(opened(wrong, &keys, 0), Err(A2Error::Illegal), "{wrong}");
        }
    }

    #[test]
    fn a_usersig_key_is_not_the_key_of_tokens() {
        let said = b"said";
        let plain = Hmac::<Sha256>::new_from_slice(b"key").unwrap().chain_update(said).finalize();
        assert!(hmac(&secret("key"), said).verify_slice(&plain.into_bytes()).is_err());
    }
}
