//! One request to an app's receiver, and everything that can go wrong with it.
//!
//! A connection is opened to an address that was checked the moment before, not to a name; redirects are failures
//! like any other status; what comes back is read up to a bound, within one deadline for everything.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use axum::http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::config::{Secret, Webhook};
use crate::webhooks::addresses::Addresses;
use crate::webhooks::url::ReceiverUrl;

/// Bytes of an answer that are read at most. The documented one has 51.
pub(super) const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Bytes of an answer's head.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Connections that are kept for later, at most.
const MAX_LINES: usize = 64;

/// How long a connection that nobody uses is kept. Receivers close them after a minute or so.
const MAX_IDLE: Duration = Duration::from_secs(30);

/// Where an app's webhooks go.
pub(super) struct Receiver {
    app: u32,
    url: ReceiverUrl,
    host: HeaderValue,
    token: Option<Secret>,
    timeout: Duration,
    addresses: Addresses,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// Connections that may be used again, the one that was used last at the end.
    lines: Mutex<Vec<Line>>,
}

/// Why no webhook can be sent at all.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// Certificates that can't be used.
    #[error("webhook of app {app}: {}: {problem}", path.display())]
    CaFile {
        /// The app.
        app: u32,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The machine has no certificates.
    #[error(
        "webhook of app {0}: no certificate authority of this machine can be read, so that none can be checked; install \
         them (package ca-certificates) or name a file of them as webhook.ca_file"
    )]
    NoAuthorities(u32),
    /// A host that no certificate can be for.
    #[error("webhook of app {0}: no certificate can be checked for the host of webhook.url")]
    Host(u32),
    /// A URL that no request can have.
    #[error("webhook of app {0}: no request can be made of webhook.url: {1}")]
    Url(u32, axum::http::Error),
}

/// What is to be sent.
pub(super) struct Letter<'a> {
    pub(super) command: &'a str,
    /// Further parameters, each with the sign before it.
    pub(super) origin: &'a str,
    pub(super) body: &'a str,
    /// A name by which a receiver can tell that it gets the same again.
    pub(super) id: Option<&'a str>,
}

/// Why a try failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nobody knows the name.
    Unknown(io::Error),
    /// The name leads only to addresses that are not allowed.
    Forbidden(IpAddr),
    Connect(SocketAddr, io::Error),
    Tls(io::Error),
    Timeout(Duration),
    /// What is to be sent cannot be: a letter that was read from a file, say, has parameters that are none.
    Request(axum::http::Error),
    Exchange(hyper::Error),
    Status(StatusCode),
    TooLong,
    NotJson,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(error) => write!(f, "the host is not known: {error}"),
            Self::Forbidden(address) => write!(
                f,
                "the address {address} is not public and not allowed; webhook.allow_networks can allow it"
            ),
            Self::Connect(address, error) => write!(f, "no connection to {address}: {error}"),
            Self::Tls(error) if is_unknown_issuer(error) => write!(
                f,
                "no secure connection: {error}; if it is an authority of your own, webhook.ca_file can name it"
            ),
            Self::Tls(error) => write!(f, "no secure connection: {error}"),
            Self::Timeout(limit) => write!(f, "no answer within {} ms", limit.as_millis()),
            Self::Request(error) => write!(f, "no request can be made of it: {error}"),
            Self::Exchange(error) => write!(f, "the connection broke: {error}"),
            Self::Status(status) if status.is_redirection() => {
                write!(f, "the receiver answered with status {status}, and redirects are not followed")
            }
            Self::Status(status) => write!(f, "the receiver answered with status {status}"),
            Self::TooLong => write!(f, "the answer is longer than {MAX_ANSWER_BYTES} bytes"),
            Self::NotJson => f.write_str("the answer is not JSON"),
        }
    }
}

/// Whether nobody who is trusted vouches for the receiver.
fn is_unknown_issuer(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)))
}

/// A connection that may be used again. It makes progress only while something is exchanged, so that it needs no task
/// of its own.
struct Line {
    sender: SendRequest<Full<Bytes>>,
    running: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    used_at: Instant,
}

impl Receiver {
    /// Reads the certificates that vouch for the receiver.
    pub(super) fn new(app: u32, config: &Webhook) -> Result<Self, ReceiverError> {
        let url = config.url.clone();
        let tls = if url.is_https() {
            let name = ServerName::try_from(url.host().to_owned()).map_err(|_| ReceiverError::Host(app))?;
            Some((connector(app, config.ca_file.as_deref())?, name))
        } else {
            None
        };
        let host = HeaderValue::from_str(&url.authority()).map_err(|_| ReceiverError::Host(app))?;
        let receiver = Self {
            app,
            addresses: Addresses::new(&url, config.allow_networks.clone()),
            url,
            host,
            token: config.token.clone(),
            timeout: config.timeout,
            tls,
            lines: Mutex::default(),
        };
        // A URL that no request can have is found before there is anything to tell.
        let any = Letter { command: "", origin: "", body: "", id: None };
        receiver.request(&any, 0).map_err(|error| ReceiverError::Url(app, error))?;
        Ok(receiver)
    }

    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the connections that nobody has used for a while.
    pub(super) fn drop_idle_lines(&self) {
        self.lines().retain(|line| line.used_at.elapsed() < MAX_IDLE);
    }

    /// A connection that was used a short time ago.
    fn left_over(&self) -> Option<Line> {
        self.drop_idle_lines();
        self.lines().pop()
    }

    /// Sends a letter at `now` (Unix seconds) and gives the body of the answer, which is JSON.
    pub(super) async fn post(&self, letter: &Letter<'_>, now: u64) -> Result<Bytes, Failure> {
        let until = Instant::now() + self.timeout;
        let exchange = async {
            let left_over = self.left_over();
            if let Some(line) = left_over
                && let Some(outcome) = self.exchange(line, letter, now, true).await
            {
                return outcome;
            }
            let fresh = self.connect(until).await?;
            self.exchange(fresh, letter, now, false).await.expect("a fresh connection gives an outcome")
        };
        let outcome = timeout(self.timeout, exchange).await.unwrap_or(Err(Failure::Timeout(self.timeout)));
        let (answer, kept) = outcome?;
        if let Some(mut line) = kept {
            line.used_at = Instant::now();
            let mut lines = self.lines();
            if lines.len() < MAX_LINES {
                lines.push(line);
            }
        }
        Ok(answer)
    }

    /// `None`: the connection was closed before it carried anything, which is no news of one that lay idle.
    async fn exchange(
        &self,
        mut line: Line,
        letter: &Letter<'_>,
        now: u64,
        is_used: bool,
    ) -> Option<Result<(Bytes, Option<Line>), Failure>> {
        let request = match self.request(letter, now) {
            Ok(request) => request,
            Err(error) => return Some(Err(Failure::Request(error))),
        };
        let Line { sender, running, .. } = &mut line;
        let talk = async {
            if let Err(error) = sender.ready().await {
                return Err((error, true));
            }
            let response = sender.try_send_request(request).await.map_err(|mut failed| {
                let is_unsent = failed.take_message().is_some();
                (failed.into_error(), is_unsent)
            })?;
            let (head, body) = response.into_parts();
            if head.status != StatusCode::OK {
                return Ok(Err(Failure::Status(head.status)));
            }
            Ok(match Limited::new(body, MAX_ANSWER_BYTES).collect().await {
                Ok(collected) => Ok(collected.to_bytes()),
                Err(error) if error.is::<LengthLimitError>() => Err(Failure::TooLong),
                Err(error) => match error.downcast::<hyper::Error>() {
                    Ok(error) => return Err((*error, false)),
                    Err(_) => Err(Failure::NotJson),
                },
            })
        };
        match driven(talk, running).await {
            Err((_, true)) if is_used => None,
            Err((error, _)) => Some(Err(Failure::Exchange(error))),
            Ok(Err(failure)) => Some(Err(failure)),
            Ok(Ok(answer)) if serde_json::from_slice::<IgnoredAny>(&answer).is_err() => {
                Some(Err(Failure::NotJson))
            }
            Ok(Ok(answer)) => {
                let kept = line.running.is_some() && !line.sender.is_closed();
                Some(Ok((answer, kept.then_some(line))))
            }
        }
    }

    async fn connect(&self, until: Instant) -> Result<Line, Failure> {
        self.handshake(self.addresses.connect(until).await?).await
    }

    async fn handshake(&self, stream: TcpStream) -> Result<Line, Failure> {
        // Small requests one after the other: waiting for more to send would only delay them.
        drop(stream.set_nodelay(true));
        match &self.tls {
            None => Line::over(stream).await,
            Some((connector, name)) => {
                Line::over(connector.connect(name.clone(), stream).await.map_err(Failure::Tls)?).await
            }
        }
    }

    fn request(&self, letter: &Letter<'_>, now: u64) -> Result<Request<Full<Bytes>>, axum::http::Error> {
        let mut parameters = format!(
            "SdkAppid={}&CallbackCommand={}&contenttype=json{}",
            self.app, letter.command, letter.origin
        );
        if let Some(token) = &self.token {
            parameters.push_str(&signature(token, now));
        }
        let mut request = Request::post(self.url.target(&parameters))
            .header(HOST, self.host.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("sidenote/", env!("CARGO_PKG_VERSION")));
        if let Some(id) = letter.id {
            request = request.header("x-sidenote-event", id);
        }
        request.body(Full::new(Bytes::copy_from_slice(letter.body.as_bytes())))
    }
}

impl Line {
    async fn over<S>(stream: S) -> Result<Self, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(Failure::Exchange)?;
        // How a connection ended is told by the exchange that it ended under.
        let running = Box::pin(async move { drop(connection.await) });
        Ok(Self { sender, running: Some(running), used_at: Instant::now() })
    }
}

/// Lets a connection run for as long as something is exchanged over it.
async fn driven<T>(
    talk: impl Future<Output = T>,
    running: &mut Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
) -> T {
    tokio::pin!(talk);
    if let Some(connection) = running {
        tokio::select! {
            biased;
            outcome = &mut talk => return outcome,
            () = connection => {}
        }
        *running = None;
    }
    // What it left behind is still there to be taken.
    talk.await
}

/// `Sign` and `RequestTime` (webhooks.md section 1).
fn signature(token: &Secret, now: u64) -> String {
    let digest = Sha256::new().chain_update(token.expose()).chain_update(now.to_string()).finalize();
    let mut text = String::from("&Sign=");
    for byte in digest {
        for nibble in [byte >> 4, byte & 0xf] {
            text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
        }
    }
    format!("{text}&RequestTime={now}")
}

fn connector(app: u32, ca_file: Option<&Path>) -> Result<TlsConnector, ReceiverError> {
    let mut authorities = RootCertStore::empty();
    if let Some(path) = ca_file {
        let wrong = |problem: String| ReceiverError::CaFile { app, path: path.to_owned(), problem };
        let text = std::fs::read(path).map_err(|error| wrong(format!("cannot read the file: {error}")))?;
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let certificate = certificate.map_err(|error| wrong(format!("not a PEM file: {error}")))?;
            authorities
                .add(certificate)
                .map_err(|error| wrong(format!("a certificate cannot be used: {error}")))?;
        }
        if authorities.is_empty() {
            return Err(wrong("there is no certificate in the file".to_owned()));
        }
    } else {
        authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if authorities.is_empty() {
            return Err(ReceiverError::NoAuthorities(app));
        }
    }
    let mut client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has what TLS 1.2 and 1.3 need")
        .with_root_certificates(authorities)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(client)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhooks::tests::script::Script;
    use crate::webhooks::tests::{LOOPBACK, config};

    const LETTER: Letter<'_> =
        Letter { command: "Group.CallbackAfterSendMsg", origin: "", body: "{}", id: None };

    fn receiver(url: &str) -> Receiver {
        let mut config = config(url, LOOPBACK);
        Receiver::new(1, &config.apps.remove(0).webhook.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_connection_that_nobody_used_for_a_while_is_not_used_again() {
        let script = Script::ok().await;
        let receiver = receiver(&script.url());
        for _ in 0..2 {
            receiver.post(&LETTER, 1).await.unwrap();
        }
        assert_eq!((script.connections(), receiver.lines().len()), (1, 1));
        let long_ago = Instant::now().checked_sub(MAX_IDLE).unwrap();
        receiver.lines()[0].used_at = long_ago;
        receiver.post(&LETTER, 1).await.unwrap();
        assert_eq!((script.connections(), receiver.lines().len()), (2, 1));
        receiver.lines()[0].used_at = long_ago;
        receiver.drop_idle_lines();
        assert_eq!(receiver.lines().len(), 0);
    }

    #[tokio::test]
    async fn a_url_without_a_path_can_be_sent_to_and_parameters_that_are_none_can_not() {
        let script = Script::ok().await;
        let url = script.url();
        let (url, _) = url.rsplit_once('/').unwrap();
        let receiver = receiver(&format!("{url}?key=1"));
        receiver.post(&LETTER, 1).await.unwrap();
        assert!(script.got()[0].target.starts_with("/?key=1&SdkAppid=1&"), "{:?}", script.got());
        let odd = Letter { origin: "&a=b c\r\n", ..LETTER };
        assert!(matches!(receiver.post(&odd, 1).await, Err(Failure::Request(_))));
    }

    #[test]
    fn a_request_is_signed_as_the_documented_one() {
        let token = Secret::new("xxxxyyyy".to_owned()).unwrap();
        assert_eq!(
            signature(&token, 1_669_872_112),
            "&Sign=17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061&RequestTime=1669872112"
        );
    }
}
