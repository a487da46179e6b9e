//! Tickets.

use std::io::{Read as _, Write as _};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::value::RawValue;
use sha2::Sha256;
use sidenote_server::auth::VerifiedSignatures;
use sidenote_server::auth::user_sig::{UserSigError, Verified, verify};
use sidenote_server::config::Secret;

use crate::door::{APP, KEY, MEMBER, NOW};
use crate::raw_json::Json;

/// A ticket is judged as a slow reading of usersig.md sections 2 and 3 judges it, at once and from memory.
///
/// The first byte says what follows: a token (even) or the JSON of one (odd), in which `$SIG` stands for the
/// signature that fits the rest. The token is said to come from the user that it names, or else from alice.
pub fn user_sig(bytes: &[u8]) {
    let Some((&form, rest)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let token = if form.is_multiple_of(2) { text.to_owned() } else { token_of(text) };
    let claims = Claims::read(&token);
    let user = claims.as_ref().map_or(MEMBER, |claims| &claims.user);
    for user in [user, MEMBER] {
        let expected = judge(claims.as_ref(), user);
        let keys = [Secret::new("another key".to_owned()), Secret::new(KEY.to_owned())]
            .map(|secret| secret.expect("it is not empty"));
        assert_eq!(verify(&token, APP, user, &keys, NOW), expected, "{user:?} {token}");
        let memory = VerifiedSignatures::new(4);
        for _ in 0..2 {
            assert_eq!(memory.check(&token, APP, user, &keys, NOW), expected.map(|_| ()));
        }
    }
}

/// Compresses and spells the JSON of a token.
fn token_of(json: &str) -> String {
    let signed = json.replace("$SIG", &signature_for(json).unwrap_or_default());
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(signed.as_bytes()).expect("memory takes all bytes");
    let base64 = BASE64_STANDARD.encode(zlib.finish().expect("memory takes all bytes"));
    base64.replace('+', "*").replace('/', "-").replace('=', "_")
}

/// `None` where the JSON says too little to sign it.
fn signature_for(json: &str) -> Option<String> {
    let content = Claims::from_json(json)?.content;
    Some(BASE64_STANDARD.encode(mac(&content, KEY)))
}

fn mac(content: &str, key: &str) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
    mac.chain_update(content).finalize().into_bytes().to_vec()
}

fn judge(claims: Option<&Claims>, user: &str) -> Result<Verified, UserSigError> {
    let illegal = |text: &str| text.chars().any(char::is_control);
    let claims = claims.filter(|claims| claims.is_legal && !illegal(user)).ok_or(UserSigError::Illegal)?;
    if claims.app != APP.to_string() {
        return Err(UserSigError::OtherApp);
    }
    if claims.user != user {
        return Err(UserSigError::OtherUser);
    }
    let fits = |key: &&str| mac(&claims.content, key) == claims.signature;
    let key = ["another key", KEY].iter().position(fits).ok_or(UserSigError::WrongKey)?;
    // Both are decimal integers of any length; beyond 64 bits only the sign and "very many" matter.
    let number = |text: &str| {
        let most = i128::from(u64::MAX);
        let least = -most;
        let far = if text.starts_with('-') { least } else { most };
        text.parse::<i128>().map_or(far, |number| number.clamp(least, most))
    };
    let (time, expire) = (number(&claims.time), number(&claims.expire));
    let end = time + expire;
    if expire <= 0 || end < i128::from(NOW) {
        return Err(UserSigError::Expired);
    }
    Ok(Verified { expires_at: u64::try_from(end).unwrap_or(u64::MAX), key })
}

/// What a token says.
struct Claims {
    user: String,
    app: String,
    time: String,
    expire: String,
    /// The text that is signed.
    content: String,
    signature: Vec<u8>,
    /// Everything that is asked of its form.
    is_legal: bool,
}

impl Claims {
    /// `None` where a token is no more than bytes.
    fn read(token: &str) -> Option<Self> {
        if token.len() > 2 * 1024 || token.contains(['+', '/', '=']) {
            return None;
        }
        let base64 = token.replace('*', "+").replace('-', "/").replace('_', "=");
        let compressed = BASE64_STANDARD.decode(base64).ok()?;
        let mut plain = Vec::new();
        let mut zlib = flate2::bufread::ZlibDecoder::new(&*compressed);
        zlib.by_ref().take(4 * 1024 + 1).read_to_end(&mut plain).ok()?;
        if plain.len() > 4 * 1024 || zlib.total_in() != compressed.len() as u64 {
            return None;
        }
        Self::from_json(&String::from_utf8(plain).ok()?)
    }

    /// `None` where a member is missing, there twice or of the wrong kind, or the text is no JSON.
    fn from_json(json: &str) -> Option<Self> {
        // One pass over all of it, which also finds what is wrong where nobody looks below.
        serde_json::from_str::<serde::de::IgnoredAny>(json).ok()?;
        let Json::Object(members) = Json::read(json).ok()? else { return None };
        let member = |wanted: &str| -> Option<Option<&RawValue>> {
            let mut found = members.0.iter().filter(|(name, _)| name == wanted);
            let first = found.next().map(|(_, value)| &**value);
            if found.next().is_some() { None } else { Some(first) }
        };
        let text = |name: &str| match Json::read(member(name)??.get()).ok()? {
            Json::Text(text) => Some(text),
            _ => None,
        };
        let integer = |name: &str| match Json::read(member(name)??.get()).ok()? {
            Json::Text(text) | Json::Number(text) if is_integer(&text) => Some(text),
            _ => None,
        };
        let userbuf = match member("TLS.userbuf")? {
            None => None,
            Some(_) => Some(text("TLS.userbuf")?),
        };
        let (user, app) = (text("TLS.identifier")?, integer("TLS.sdkappid")?);
        let (time, expire) = (integer("TLS.time")?, integer("TLS.expire")?);
        let mut content =
            format!("TLS.identifier:{user}\nTLS.sdkappid:{app}\nTLS.time:{time}\nTLS.expire:{expire}\n");
        if let Some(userbuf) = &userbuf {
            content.extend(["TLS.userbuf:", userbuf, "\n"]);
        }
        let signature = BASE64_STANDARD.decode(text("TLS.sig")?);
        let is_legal = signature.is_ok()
            && text("TLS.ver")? == "2.0"
            && userbuf.is_none_or(|text| BASE64_STANDARD.decode(text).is_ok())
            && !user.chars().any(char::is_control);
        Some(Self { user, app, time, expire, content, signature: signature.unwrap_or_default(), is_legal })
    }
}

/// As JSON writes one: no plus sign, leading zero, point or exponent.
fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = digits == "0" || !digits.starts_with('0');
    is_plain && !digits.is_empty() && digits.chars().all(|digit| digit.is_ascii_digit())
}
