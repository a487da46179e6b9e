//! A client of the HTTP API: signs, sends, and hands back what the server says.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use sidenote_server::auth::user_sig;
use sidenote_server::clock::{Clock as _, SystemClock};
use sidenote_server::config::Secret;
use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::failure::Usage;

/// How long one answer may take, its connection included.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a stream may be silent before the connection counts as lost. A server says something every 15 seconds.
const SILENCE: Duration = Duration::from_mins(1);

/// How long the ticket of one call is valid, in seconds: long enough for clocks that differ a little.
const TICKET_SECONDS: u64 = 600;

/// Longer than any answer of the server, whose pages are bounded.
const MAX_ANSWER_BYTES: u64 = 64 * 1024 * 1024;

/// An app's view of a server.
pub(crate) struct Client {
    /// Scheme, host and port, without a slash at the end.
    base: String,
    app: u32,
    key: Secret,
    agent: Agent,
}

/// What a server said.
pub(crate) struct Answer {
    /// The body as it came.
    pub(crate) text: String,
    /// The JSON object in it.
    pub(crate) body: Value,
    /// Its `ErrorCode`.
    pub(crate) code: i64,
}

impl Client {
    /// A client of the server at `base`, for example `http://127.0.0.1:7780`. Certificates of an `https` server
    /// are trusted if `authorities` (a PEM file) vouches for them; nobody is trusted without it.
    pub(crate) fn new(base: &str, app: u32, key: Secret, authorities: Option<&Path>) -> anyhow::Result<Self> {
        let base = base.trim_end_matches('/');
        let encrypted = match base.split_once("://") {
            Some(("http", host)) if is_host(host) => false,
            Some(("https", host)) if is_host(host) => true,
            _ => {
                return Err(Usage::error(format!(
                    "{base:?} is not the address of a server; write scheme, host and port, such as \
                     http://127.0.0.1:7780"
                )));
            }
        };
        if encrypted && authorities.is_none() {
            return Err(Usage::error(format!(
                "whose certificates are trusted for {base}? give --ca FILE, the server's own certificate or \
                 for example /etc/ssl/certs/ca-certificates.crt"
            )));
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(PATIENCE))
            // The address was given on purpose; a proxy of the environment is not asked about it.
            .proxy(None);
        if let Some(path) = authorities {
            config = config.tls_config(trust(path)?);
        }
        Ok(Self { base: base.to_owned(), app, key, agent: config.build().new_agent() })
    }

    /// Scheme, host and port of the server.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// The address of a command, signed as `user` with a ticket for `seconds` from now.
    pub(crate) fn url(&self, user: &str, command: &str, seconds: u64) -> String {
        let now = SystemClock.now_millis() / 1000;
        let ticket = user_sig::sign(self.app, &self.key, user, now, seconds, None);
        let mut url = format!("{}/v4/{command}?sdkappid={}", self.base, self.app);
        for (name, value) in [("identifier", user), ("usersig", &ticket)] {
            let value = form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>();
            write!(url, "&{name}={value}").expect("a String takes whatever is written to it");
        }
        write!(url, "&random={}&contenttype=json", rand::random::<u32>())
            .expect("a String takes whatever is written to it");
        url
    }

    /// Sends `body` to a command (`service/name`) as `user`, and hands back the answer whatever its code.
    pub(crate) fn call(&self, user: &str, command: &str, body: &str) -> anyhow::Result<Answer> {
        let unreachable = || format!("cannot ask {} for {command}", self.base);
        let mut response = self
            .agent
            .post(self.url(user, command, TICKET_SECONDS))
            .content_type("application/json")
            .send(body)
            .map_err(without_address)
            .with_context(unreachable)?;
        let status = response.status();
        let text = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER_BYTES)
            .read_to_string()
            .map_err(without_address)
            .with_context(unreachable)?;
        let body = serde_json::from_str::<Value>(&text).unwrap_or_default();
        let Some(code) = body["ErrorCode"].as_i64() else {
            let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
            bail!(
                "{} answered {command} with status {status} and no ErrorCode ({text:?}); is it the address of a \
                 Sidenote server?",
                self.base
            )
        };
        Ok(Answer { text, body, code })
    }
}

/// A server answered, and said no.
#[derive(Debug)]
pub(crate) struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl Client {
    /// The stream of the events of a group, or of the whole app, after the one with the id `after`. It ends when the
    /// server ends it or goes away.
    pub(crate) fn events(
        &self,
        user: &str,
        group: Option<&str>,
        after: Option<&str>,
    ) -> anyhow::Result<impl std::io::Read + use<>> {
        let now = SystemClock.now_millis() / 1000;
        let ticket = user_sig::sign(self.app, &self.key, user, now, TICKET_SECONDS, None);
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        // In a path a plus sign stands for itself, and a space is no plus sign.
        let place = group.map_or_else(
            || "events".to_owned(),
            |group| format!("groups/{}/events", encoded(group).replace('+', "%20")),
        );
        let url = format!("{}/v1/{place}?sdkappid={}&identifier={}", self.base, self.app, encoded(user));
        let mut request = self
            .agent
            .get(url)
            .header("Authorization", format!("Bearer {ticket}"))
            .config()
            // A stream has no end. Its beginning has a time-out.
            .timeout_global(None)
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(SILENCE))
            .build();
        if let Some(after) = after {
            request = request.header("Last-Event-ID", after);
        }
        let unreachable = || format!("cannot watch {}", self.base);
        let response = request.call().map_err(without_address).with_context(unreachable)?;
        let status = response.status();
        let mut body = response.into_body();
        if status == 200 {
            return Ok(body.into_reader());
        }
        let text = body.with_config().limit(MAX_ANSWER_BYTES).read_to_string().unwrap_or_default();
        let answer = serde_json::from_str::<Value>(&text).unwrap_or_default();
        let why = match (answer["ErrorCode"].as_i64(), answer["ErrorInfo"].as_str()) {
            (Some(code), Some(info)) => format!("{} refused with {code}: {info}", self.base),
            _ => format!(
                "{} answered with status {status}; is it the address of a Sidenote server?",
                self.base
            ),
        };
        // A server, or a proxy before it, that fails may be well in a moment.
        if status.is_server_error() {
            bail!(why);
        }
        Err(Refused(why).into())
    }
}

/// Where a server that listens on `address` is reached from the same machine.
pub(crate) fn local_url(address: SocketAddr, encrypted: bool) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http{}://{}", if encrypted { "s" } else { "" }, SocketAddr::new(ip, address.port()))
}

fn is_host(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    !text.is_empty() && text.chars().all(allowed)
}

fn trust(path: &Path) -> anyhow::Result<TlsConfig> {
    let unreadable = || format!("cannot read certificates from {}", path.display());
    let text =
        std::fs::read(path).map_err(|error| Usage::error(error.to_string())).with_context(unreadable)?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&text)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
            Ok(_) => None,
            Err(error) => Some(Err(Usage::error(error.to_string()))),
        })
        .collect::<Result<_, _>>()
        .with_context(unreadable)?;
    if certificates.is_empty() {
        return Err(Usage::error("there is no certificate in the file")).with_context(unreadable);
    }
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(certificates)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

/// The error as a text that cannot hold the address, which holds a ticket.
fn without_address(error: ureq::Error) -> anyhow::Error {
    match error {
        ureq::Error::BadUri(_) => anyhow::anyhow!("the address is malformed"),
        ureq::Error::Timeout(_) => anyhow::anyhow!("no answer within {} seconds", PATIENCE.as_secs()),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        let key = Secret::new("k".to_owned()).unwrap();
        Client::new("http://127.0.0.1:7780/", 1_400_000_001, key, None).unwrap()
    }

    #[test]
    fn an_address_carries_a_user_and_a_ticket_that_survive_decoding() {
        let client = client();
        let url = client.url("名 &=+", "im_open_login_svc/account_check", 60);
        let (path, query) = url.split_once('?').unwrap();
        assert_eq!(path, "http://127.0.0.1:7780/v4/im_open_login_svc/account_check");
        let fields: Vec<_> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["sdkappid", "identifier", "usersig", "random", "contenttype"]);
        assert_eq!(fields[1].1, "名 &=+");
        let now = SystemClock.now_millis() / 1000;
        user_sig::verify(&fields[2].1, 1_400_000_001, "名 &=+", &[client.key], now).unwrap();
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let refused = |base: &str, says: &str| {
            let key = Secret::new("k".to_owned()).unwrap();
            let error = Client::new(base, 1, key, None).err().unwrap().to_string();
            assert!(error.contains(says), "{base}: {error}");
        };
        for base in
            ["127.0.0.1:7780", "ftp://host", "http://", "http://host/path", "http://user@host", "http://a b"]
        {
            refused(base, "is not the address of a server");
        }
        refused("https://host", "--ca FILE");
    }

    #[test]
    fn a_server_that_listens_everywhere_is_reached_on_the_loopback_interface() {
        let url = |address: &str, encrypted| local_url(address.parse().unwrap(), encrypted);
        assert_eq!(url("0.0.0.0:7780", false), "http://127.0.0.1:7780");
        assert_eq!(url("[::]:7780", true), "https://[::1]:7780");
        assert_eq!(url("192.0.2.1:80", false), "http://192.0.2.1:80");
    }
}
