//! The form of a token: from text to claims and back. Nothing here knows a key or the time.

use std::io::Write as _;

use base64::alphabet::{Alphabet, Symbol};
use base64::engine::general_purpose::{GeneralPurpose, PAD};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use flate2::write::ZlibEncoder;
use flate2::{Compression, Decompress, FlushDecompress, Status};
use serde::{Deserialize, Serialize};

use super::decimal::Decimal;
use super::{MAX_INFLATED_BYTES, MAX_TOKEN_BYTES};

/// What a token says, and the signature over it, which is not checked yet. This is the JSON object
/// of usersig.md section 2, in the order in which the packages write it.
#[derive(Serialize, Deserialize)]
pub(super) struct Ticket {
    #[serde(rename = "TLS.ver")]
    version: String,
    #[serde(rename = "TLS.identifier")]
    pub(super) identifier: String,
    #[serde(rename = "TLS.sdkappid")]
    pub(super) sdk_app_id: Decimal,
    /// Unix seconds.
    #[serde(rename = "TLS.time")]
    time: Decimal,
    /// Seconds of validity, counted from `time`.
    #[serde(rename = "TLS.expire")]
    expire: Decimal,
    /// Base64, kept as it was received because its text is what is signed.
    #[serde(
        rename = "TLS.userbuf",
        default,
        deserialize_with = "present_text",
        skip_serializing_if = "Option::is_none"
    )]
    userbuf: Option<String>,
    #[serde(rename = "TLS.sig", with = "base64_text")]
    pub(super) signature: Vec<u8>,
}

impl Ticket {
    const VERSION: &str = "2.0";

    /// The claims in their wire form; the signature is left empty.
    pub(super) fn unsigned(
        sdk_app_id: u32,
        identifier: &str,
        issued_at: u64,
        expire_seconds: u64,
        userbuf: Option<&[u8]>,
    ) -> Self {
        Self {
            version: Self::VERSION.to_owned(),
            identifier: identifier.to_owned(),
            sdk_app_id: u64::from(sdk_app_id).into(),
            time: issued_at.into(),
            expire: expire_seconds.into(),
            userbuf: userbuf.map(|bytes| BASE64_STANDARD.encode(bytes)),
            signature: Vec::new(),
        }
    }

    /// `None` where the sheet answers 70003 (usersig.md section 3, steps 2 and 3). Members that the
    /// sheet does not know are not looked at: nothing signs them, and nothing here uses them.
    pub(super) fn from_token(token: &str) -> Option<Self> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let json = String::from_utf8(inflate(&TOKEN_BASE64.decode(token).ok()?)?).ok()?;
        // A derived struct would also be read from an array of its values.
        if !json.trim_ascii_start().starts_with('{') {
            return None;
        }
        let ticket: Self = serde_json::from_str(&json).ok()?;
        ticket.is_well_formed().then_some(ticket)
    }

    pub(super) fn to_token(&self) -> String {
        let json = serde_json::to_vec(self).expect("texts and integers are always JSON");
        let mut compressed = ZlibEncoder::new(Vec::new(), Compression::default());
        compressed.write_all(&json).expect("writing to memory does not fail");
        TOKEN_BASE64.encode(compressed.finish().expect("writing to memory does not fail"))
    }

    /// The text that is signed: one line for each claim, in this order (usersig.md section 2).
    pub(super) fn content(&self) -> String {
        let Self { identifier, sdk_app_id, time, expire, .. } = self;
        let mut content = format!(
            "TLS.identifier:{identifier}\nTLS.sdkappid:{sdk_app_id}\nTLS.time:{time}\nTLS.expire:{expire}\n"
        );
        if let Some(userbuf) = &self.userbuf {
            content.extend(["TLS.userbuf:", userbuf, "\n"]);
        }
        content
    }

    /// The last second in which the ticket is valid. `None` where there is no such second: a
    /// validity of 0 or less, or an end before the epoch. An end beyond `u64` saturates.
    pub(super) fn expires_at(&self) -> Option<u64> {
        if self.expire.value() <= 0 {
            return None;
        }
        let end = self.time.value() + self.expire.value();
        if end < 0 { None } else { Some(u64::try_from(end).unwrap_or(u64::MAX)) }
    }

    /// Lines are not escaped in the signed text. A line feed within the identifier or the userbuf
    /// would let the signature of one ticket, made for an odd identifier, serve for another ticket
    /// with other lines; so neither may hold one.
    fn is_well_formed(&self) -> bool {
        self.version == Self::VERSION
            && !self.identifier.contains(char::is_control)
            && self.userbuf.as_ref().is_none_or(|text| BASE64_STANDARD.decode(text).is_ok())
    }
}

/// Standard base64 with `*`, `-` and `_` in place of `+`, `/` and `=`. This is not the usual
/// URL-safe alphabet, in which `-` and `_` mean something else.
const TOKEN_BASE64: GeneralPurpose = {
    let symbols = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789*-";
    let padding = Symbol::new(b'_').expect("an underscore is a printable ASCII character");
    match Alphabet::new_with_padding(symbols, padding) {
        Ok(alphabet) => GeneralPurpose::new(&alphabet, PAD),
        Err(_) => panic!("the alphabet has 64 different symbols and the padding is not among them"),
    }
};

/// Inflates exactly one zlib stream. `None` if it is damaged or cut off, if anything follows it, or
/// if it holds more than [`MAX_INFLATED_BYTES`].
fn inflate(compressed: &[u8]) -> Option<Vec<u8>> {
    // One byte of room more than is allowed tells "full" from "too much". The decompressor never
    // writes beyond the room it is given, so a bomb costs no more than this buffer.
    let mut inflated = vec![0; MAX_INFLATED_BYTES + 1];
    let mut stream = Decompress::new(true);
    let status = stream.decompress(compressed, &mut inflated, FlushDecompress::Finish).ok()?;
    let (consumed, produced) = (usize::try_from(stream.total_in()), usize::try_from(stream.total_out()));
    let produced = produced.ok().filter(|&bytes| bytes <= MAX_INFLATED_BYTES)?;
    if status != Status::StreamEnd || consumed != Ok(compressed.len()) {
        return None;
    }
    inflated.truncate(produced);
    Some(inflated)
}

/// A text that is really there: unlike for a plain `Option`, `null` is of the wrong kind.
fn present_text<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    String::deserialize(from).map(Some)
}

/// Bytes as a JSON string of standard padded base64.
mod base64_text {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    use serde::Deserialize as _;

    pub(super) fn serialize<S: serde::Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        BASE64_STANDARD.decode(String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}
