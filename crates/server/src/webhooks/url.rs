//! Where webhooks are sent.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use axum::http::Uri;
use axum::http::uri::Scheme;

/// Bytes of a URL. Every request adds some to it.
const MAX_URL_BYTES: usize = 4096;

/// The address of an app's receiver, taken apart once: `http` or `https`, a host, a port, a path with or without a
/// query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverUrl {
    is_https: bool,
    host: String,
    port: u16,
    path: String,
}

/// A text that no webhook can be sent to. It does not repeat the text, which may hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// Not a URL at all.
    #[error("it is no URL; write one such as \"https://example.com/callback\"")]
    Form,
    /// Another scheme, or none.
    #[error("it must begin with \"https://\" or \"http://\"")]
    Scheme,
    /// A name and password before the host.
    #[error("it must not hold a user name or password; use the token, or a secret part in the path")]
    Credentials,
    /// So long that no request could hold it.
    #[error("it is longer than {MAX_URL_BYTES} bytes")]
    TooLong,
}

impl FromStr for ReceiverUrl {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let uri: Uri = text.parse().map_err(|_| BadUrl::Form)?;
        let is_https = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(BadUrl::Scheme),
        };
        let authority = uri.authority().ok_or(BadUrl::Form)?;
        if authority.as_str().contains('@') {
            return Err(BadUrl::Credentials);
        }
        // A port that is no number would otherwise count as none.
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => {
                if is_https {
                    443
                } else {
                    80
                }
            }
            Some(_) => authority.port_u16().filter(|port| *port > 0).ok_or(BadUrl::Form)?,
            None => return Err(BadUrl::Form),
        };
        if authority.host().is_empty() {
            return Err(BadUrl::Form);
        }
        if text.len() > MAX_URL_BYTES {
            return Err(BadUrl::TooLong);
        }
        // A query may follow the host at once; a request needs a path.
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = format!("{}{query}", uri.path());
        Ok(Self { is_https, host: authority.host().to_owned(), port, path })
    }
}

impl ReceiverUrl {
    pub(crate) const fn is_https(&self) -> bool {
        self.is_https
    }

    /// A name or an address, the latter without brackets.
    pub(super) fn host(&self) -> &str {
        self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&self.host)
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// The address, if the host is one: nobody has to be asked for it.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.host().parse().ok()
    }

    /// The value of the `Host` header.
    pub(super) fn authority(&self) -> String {
        let usual = if self.is_https { 443 } else { 80 };
        if self.port == usual { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }

    /// Path and query with these parameters behind whatever was configured.
    pub(super) fn target(&self, parameters: &str) -> String {
        let joint = match self.path.split_once('?') {
            None => "?",
            Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
            Some(_) => "&",
        };
        format!("{}{joint}{parameters}", self.path)
    }
}

impl fmt::Display for ReceiverUrl {
    /// Without path and query, where a secret may be.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.is_https { "https" } else { "http" }, self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> ReceiverUrl {
        text.parse().unwrap()
    }

    #[test]
    fn a_url_is_taken_apart() {
        for (text, https, host, port, authority, target) in [
            ("http://example.com", false, "example.com", 80, "example.com", "/?a=1"),
            ("https://example.com/cb", true, "example.com", 443, "example.com", "/cb?a=1"),
            ("https://example.com:8443/cb?x=y", true, "example.com", 8443, "example.com:8443", "/cb?x=y&a=1"),
            ("http://127.0.0.1:80/?", false, "127.0.0.1", 80, "127.0.0.1", "/?a=1"),
            ("http://[::1]:9/a?b&", false, "::1", 9, "[::1]:9", "/a?b&a=1"),
            ("http://example.com?", false, "example.com", 80, "example.com", "/?a=1"),
            ("https://example.com?key=1", true, "example.com", 443, "example.com", "/?key=1&a=1"),
            ("HTTP://example.com/", false, "example.com", 80, "example.com", "/?a=1"),
        ] {
            let url = url(text);
            assert_eq!((url.is_https(), url.host(), url.port()), (https, host, port), "{text}");
            assert_eq!((url.authority(), url.target("a=1")), (authority.to_owned(), target.to_owned()));
        }
        assert_eq!(url("http://[::1]/").address(), Some("::1".parse().unwrap()));
        assert_eq!(url("http://localhost/").address(), None);
    }

    #[test]
    fn what_no_webhook_can_be_sent_to_is_refused() {
        for (text, error) in [
            ("", BadUrl::Form),
            ("/callback", BadUrl::Scheme),
            ("example.com", BadUrl::Scheme),
            ("ftp://example.com/", BadUrl::Scheme),
            ("file:///etc/passwd", BadUrl::Scheme),
            ("https://", BadUrl::Form),
            ("https://exa mple.com/", BadUrl::Form),
            ("https://example.com:0/", BadUrl::Form),
            ("https://example.com:65536/", BadUrl::Form),
            ("https://ann:secret@example.com/", BadUrl::Credentials),
        ] {
            let refused = text.parse::<ReceiverUrl>();
            assert!(refused.is_err(), "{text}");
            // How a text without sense is misunderstood is the parser's own business.
            if !text.starts_with("file") {
                assert_eq!(refused, Err(error), "{text}");
            }
        }
    }

    #[test]
    fn a_url_is_not_longer_than_a_request_can_hold() {
        let of = |bytes: usize| format!("https://example.com/{}", "a".repeat(bytes - 20));
        assert_eq!(of(MAX_URL_BYTES + 1).parse::<ReceiverUrl>(), Err(BadUrl::TooLong));
        assert!(of(MAX_URL_BYTES).parse::<ReceiverUrl>().is_ok());
    }

    #[test]
    fn the_path_is_not_shown() {
        assert_eq!(url("https://example.com/secret?key=1").to_string(), "https://example.com");
    }
}
