//! How a server is asked, and how its answers are read.

use std::sync::LazyLock;

use crate::workload::{Request, Source, Versions};

/// The language of one server: HTTP requests out, bodies of answers in.
pub(crate) trait Dialect: Send + Sync {
    /// Appends a whole HTTP request. The versions to compare with are in `versions`.
    fn write(&self, request: Request, versions: &Versions, source: &mut Source, out: &mut Vec<u8>);

    /// Whether the body of an answer with status 200 says that all was done; `Err` says what it says instead.
    /// `thorough` counts the pairs of a pull as well, which costs too much for a timed run.
    fn check(&self, request: Request, body: &[u8], thorough: bool) -> Result<Learned, String>;
}

/// What an answer tells about the versions of the pairs that were set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Learned {
    /// Nothing, or nothing that is needed.
    Nothing,
    /// All of them have this version now.
    All(u32),
    /// Each has one more than it had.
    OneMore,
}

const VALUES: usize = 256;
const VALUE_BYTES: usize = 40;

/// A random value of 40 bytes, made beforehand: letters that no format has to escape.
pub(crate) fn any_value(source: &mut Source) -> &'static str {
    static ALL: LazyLock<Vec<String>> = LazyLock::new(|| {
        let mut random = fastrand::Rng::with_seed(40);
        (0..VALUES).map(|_| random_text(&mut random)).collect()
    });
    &ALL[source.any(VALUES)]
}

/// Forty letters and digits.
pub(crate) fn random_text(random: &mut fastrand::Rng) -> String {
    std::iter::repeat_with(|| random.alphanumeric()).take(VALUE_BYTES).collect()
}

/// The name of a key: 10 bytes, for numbers below 1000 always.
pub(crate) fn key_name(key: u32) -> String {
    format!("attr{key:03}key")
}

/// An HTTP request from its parts; `head` ends just before the length of the body.
pub(crate) fn write_post(head: &[u8], body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(head);
    out.extend_from_slice(body.len().to_string().as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}

/// The head of a POST request without the length of its body.
pub(crate) fn post_head(target: &str, port: u16, content_type: &str) -> Vec<u8> {
    format!(
        "POST {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {content_type}\r\nContent-Length: "
    )
    .into_bytes()
}

/// The decimal number that follows the first `marker`.
pub(crate) fn number_after(body: &[u8], marker: &[u8]) -> Option<u32> {
    let at = memchr::memmem::find(body, marker)? + marker.len();
    let digits = body[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let mut number = None;
    for digit in digits {
        number = Some(number.unwrap_or(0_u32).checked_mul(10)?.checked_add(u32::from(digit - b'0'))?);
    }
    number
}

/// The beginning of an answer, for a message.
pub(crate) fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_where_they_stand() {
        let body = br#"{"ErrorCode":0,"Seq":158,"x":{"Seq":9}}"#;
        assert_eq!(number_after(body, b"\"Seq\":"), Some(158));
        assert_eq!(number_after(body, b"\"ErrorCode\":"), Some(0));
        assert_eq!(number_after(body, b"\"LatestSeq\":"), None);
        assert_eq!(number_after(br#"{"Seq":-1}"#, b"\"Seq\":"), None);
        assert_eq!(number_after(br#"{"Seq":99999999999}"#, b"\"Seq\":"), None);
        assert_eq!(number_after(br#"{"Seq":"#, b"\"Seq\":"), None);
    }

    #[test]
    fn a_request_has_the_length_of_its_body() {
        let mut out = Vec::new();
        write_post(&post_head("/set", 80, "text/plain"), b"{\"a\":1}", &mut out);
        assert!(out.ends_with(b"Content-Length: 7\r\n\r\n{\"a\":1}"));
    }
}
