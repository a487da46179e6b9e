//! A secret text, such as the key an app signs its tickets with.

use std::fmt;

use zeroize::Zeroizing;

/// A secret text of at least one byte. It prints as `Secret(****)`, and its memory is overwritten
/// when it is dropped.
///
/// It implements neither `PartialEq` nor `Serialize`: a secret is compared through what it signs,
/// and is never written anywhere.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over, without copying it and without trimming it: the bytes given here are
    /// the HMAC key. An empty text is refused, because anybody can sign with an empty key.
    pub fn new(text: String) -> Result<Self, EmptySecret> {
        // Wrapped before the check, so that a refused text is overwritten too: its capacity may
        // still hold what was truncated away.
        let text = Zeroizing::new(text);
        if text.is_empty() { Err(EmptySecret) } else { Ok(Self(text)) }
    }

    /// The bytes of the text. They must not reach a log line, an error or an answer.
    pub fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The text, for what takes no bytes. It must not go anywhere else either.
    pub fn expose_text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(****)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(****)")
    }
}

/// An empty text was given where a secret is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret is empty; give at least one character")]
pub struct EmptySecret;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_exposed_byte_for_byte_and_only_on_demand() {
        let secret = Secret::new(" hunter2\n".to_owned()).unwrap();
        assert_eq!(secret.expose(), b" hunter2\n");
        assert_eq!(secret.clone().expose(), b" hunter2\n");
    }

    #[test]
    fn a_secret_prints_as_stars_however_it_is_printed() {
        let secret = Secret::new("hunter2".to_owned()).unwrap();
        for printed in [
            format!("{secret}"),
            format!("{secret:>40}"),
            format!("{secret:?}"),
            format!("{:#?}", Some(&secret)),
            format!("{:?}", [secret.clone(), secret.clone()]),
        ] {
            assert!(printed.contains("Secret(****)"), "{printed}");
            assert!(!printed.contains("hunter2"), "{printed}");
        }
    }

    #[test]
    fn an_empty_secret_is_refused() {
        assert_eq!(Secret::new(String::new()).unwrap_err(), EmptySecret);
    }
}
