//! From a request to a command: everything that is checked before a command looks at its own fields, in the order
//! of rest-overview.md section 5, and the envelope around what it answers.

mod connected;
mod frequency;
mod query;

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Bytes;
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use futures_util::FutureExt;
use http_body_util::Full;
use sidenote_core::event::{CallerKind, Operator, Platform};
use sidenote_core::ids::{AccountId, Timestamp, UserId};
use sidenote_store::Store;
use sidenote_store::caller;
use tokio::time::Instant;

use crate::api::{App, CONNECTED_ENDPOINTS, Call, ENDPOINTS, Endpoint, Fault, Pending, Service};
use crate::auth::VerifiedSignatures;
use crate::auth::user_sig::UserSigError;
use crate::clock::Clock;
use crate::config::{Config, Http, Limits};
use crate::listener::{PacedBody, Peer, body};
use crate::ops::metrics::{CommandMetrics, Metrics};
use crate::webhooks::Before;
use crate::wire::envelope;
use crate::wire::error_code::{Blame, ErrorCode};
use crate::wire::json::Document;

pub(crate) use connected::{Connected, ConnectedCommand};

use frequency::Frequency;
use query::Query;

/// What all requests share.
pub(crate) struct Gateway {
    /// By SDKAppID.
    apps: Vec<Served>,
    signatures: Arc<VerifiedSignatures>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    http: Http,
    /// One for each of [`ENDPOINTS`].
    commands: Vec<CommandMetrics>,
    /// One for each of [`CONNECTED_ENDPOINTS`].
    connected_commands: Vec<CommandMetrics>,
    unknown: CommandMetrics,
    request_ids: RequestIds,
    before: Option<Arc<Before>>,
}

struct Served {
    app: Arc<App>,
    frequency: Frequency,
}

impl Gateway {
    pub(crate) fn new(
        config: &Config,
        apps: Vec<App>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        signatures: Arc<VerifiedSignatures>,
        metrics: &Metrics,
        before: Option<Arc<Before>>,
    ) -> Self {
        let served = |app: App| {
            let frequency = Frequency::new(config.limits.calls_per_second, ENDPOINTS.len());
            Served { app: Arc::new(app), frequency }
        };
        let mut apps: Vec<_> = apps.into_iter().map(served).collect();
        apps.sort_by_key(|served| served.app.id);
        let figures = |list: &'static [Endpoint]| {
            list.iter().map(|endpoint| metrics.command(endpoint.command)).collect()
        };
        Self {
            apps,
            signatures,
            store,
            clock,
            limits: config.limits,
            http: config.http,
            commands: figures(ENDPOINTS),
            connected_commands: figures(CONNECTED_ENDPOINTS),
            unknown: metrics.command("unknown"),
            request_ids: RequestIds::new(),
            before,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.clock.now_millis())
    }
}

/// Who asks for a stream.
pub(crate) struct Caller {
    pub(crate) app: Arc<App>,
    pub(crate) operator: Operator,
    pub(crate) last_event_id: Option<String>,
}

/// A request that is answered below the API, or with a code of it.
enum Rejection {
    /// By status, with a closed connection: what is wrong below HTTP.
    Http(body::BodyRefused),
    /// By code.
    Api(Fault),
}

impl From<Fault> for Rejection {
    fn from(fault: Fault) -> Self {
        Self::Api(fault)
    }
}

impl From<ErrorCode> for Rejection {
    fn from(code: ErrorCode) -> Self {
        Self::Api(Fault::Plain(code))
    }
}

impl Gateway {
    /// Answers every request below `/v4`, and every path that nothing else answers.
    pub(crate) async fn serve(&self, request: Request<PacedBody>, peer: Peer) -> Response<Full<Bytes>> {
        let begun = Instant::now();
        let request_id = self.request_ids.next();
        let (mut command, mut service, mut metrics) = ("unknown", Service::Groups, &self.unknown);
        let mut status = StatusCode::OK;
        let (head, body) = request.into_parts();
        let outcome = match find_endpoint(head.uri.path()) {
            Ok((number, endpoint)) => {
                command = endpoint.command;
                service = endpoint.service;
                metrics = &self.commands[number];
                self.answer(number, endpoint, &head, body, peer).await
            }
            Err(code) => {
                if !head.uri.path().starts_with("/v4/") {
                    status = StatusCode::NOT_FOUND;
                }
                Err(Rejection::from(code))
            }
        };
        let (code, answer) = match outcome {
            Ok(answer) => (0, answer),
            Err(Rejection::Http(refused)) => {
                metrics.request(u32::from(refused.status().as_u16()), begun.elapsed());
                tracing::debug!(%request_id, command, %refused, "a request was refused below the API");
                return refused.answer();
            }
            Err(Rejection::Api(fault)) => {
                let number = fault.number(service);
                log(request_id, command, fault.code(service), &fault);
                (number, envelope::failure(number, &fault.info(service)).into())
            }
        };
        metrics.request(code, begun.elapsed());
        // The request's map becomes the answer's, because it has room already; hyper passes it on to the next
        // request in turn, so that a connection needs one for all its life.
        let mut headers = head.headers;
        headers.clear();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(HeaderName::from_static("x-request-id"), request_id.header());
        let mut response = Response::new(Full::from(answer));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// The caller's mistakes are for whoever debugs a caller; ours are for the operator.
fn log(request_id: RequestId, command: &str, code: ErrorCode, fault: &Fault) {
    let number = code.code();
    match code.details().blame {
        Blame::Caller => {
            tracing::debug!(%request_id, command, code = number, %fault, "a request was refused");
        }
        Blame::Us => tracing::error!(%request_id, command, code = number, %fault, "a request failed"),
    }
}

/// Step 1: service and command.
fn find_endpoint(path: &str) -> Result<(usize, &'static Endpoint), ErrorCode> {
    let (service, command) = path
        .strip_prefix("/v4/")
        .and_then(|path| path.split_once('/'))
        .and_then(|(service, command)| Some((Service::named(service)?, command)))
        .ok_or(ErrorCode::UnknownCommand)?;
    ENDPOINTS
        .iter()
        .enumerate()
        .find(|(_, endpoint)| endpoint.service.name() == service.name() && endpoint.command == command)
        .ok_or_else(|| service.unknown_command())
}

impl Gateway {
    /// Steps 2 to 10.
    async fn answer(
        &self,
        number: usize,
        endpoint: &'static Endpoint,
        head: &Parts,
        body: PacedBody,
        peer: Peer,
    ) -> Result<Bytes, Rejection> {
        if head.method != Method::POST {
            return Err(ErrorCode::BadMethod.into());
        }
        let query = Query::parse(head.uri.query().unwrap_or_default())?;
        let (served, operator, pending) = self.operator(&query, endpoint.service, peer).await?;
        let mut call = Call {
            app: Arc::clone(&served.app),
            operator,
            pending,
            at: self.now(),
            limits: self.limits,
            store: Arc::clone(&self.store),
            before: self.before.clone(),
        };
        let answer = self.answer_call(&mut call, served, number, endpoint, head, body).await;
        // That the caller is unknown is told before anything that is wrong with the request (rule 3.12).
        if let (Err(_), Some(pending)) = (&answer, &call.pending) {
            pending.look_up(&*self.store).await?;
        }
        answer
    }

    /// Steps 7 to 10.
    async fn answer_call(
        &self,
        call: &mut Call,
        served: &Served,
        number: usize,
        endpoint: &'static Endpoint,
        head: &Parts,
        body: PacedBody,
    ) -> Result<Bytes, Rejection> {
        if !served.frequency.admits(number) {
            return Err(ErrorCode::TooManyCalls.into());
        }
        refuse_compression(&head.headers)?;
        let body = body::read(body, &self.http).await.map_err(Rejection::Http)?;
        let document = Document::parse(&body)
            .map_err(|unparsable| Fault::Code(endpoint.service.bad_json(), unparsable.to_string()))?;
        // The body may have been long in coming.
        call.at = self.now();
        // A bug in a command must cost one answer and not the connection with whatever else waits on it.
        let answer = AssertUnwindSafe((endpoint.handle)(call, document.root())).catch_unwind().await;
        match answer {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Fault::Code(endpoint.service.internal(), "the command panicked".to_owned()).into()),
        }
    }

    /// Steps 3 to 6: who calls, and whether that is yet to be looked up.
    async fn operator(
        &self,
        query: &Query<'_>,
        service: Service,
        peer: Peer,
    ) -> Result<(&Served, Operator, Option<Pending>), Fault> {
        let place = self.apps.binary_search_by_key(&query.app, |served| served.app.id);
        let served = &self.apps[place.map_err(|_| Fault::Plain(ErrorCode::UnknownApp))?];
        query.check()?;
        let mut operator = Operator {
            user: self.verify(&served.app, query)?,
            tiny_id: None,
            kind: CallerKind::Administrator,
            platform: Platform::RestApi,
            address: Some(peer.0.ip()),
        };
        if served.app.administrators.contains(&operator.user) {
            return Ok((served, operator, None));
        }
        operator.kind = CallerKind::Member;
        let account = AccountId { app: served.app.id, user: operator.user.clone() };
        let pending = Pending::new(caller::Caller { account, tiny_id: None });
        if !service.asks_once() {
            operator.tiny_id = pending.look_up(&*self.store).await?;
        }
        if !service.is_open_to_members() {
            return Err(Fault::Plain(ErrorCode::NotAnAdministrator));
        }
        Ok((served, operator, Some(pending)))
    }

    /// Who asks for a stream, by the query and, in place of its `usersig`, a signature from a header.
    pub(crate) async fn identify(
        &self,
        query: &str,
        user_sig: Option<&str>,
        peer: Peer,
    ) -> Result<Caller, Fault> {
        let mut query = Query::parse(query)?;
        if let Some(user_sig) = user_sig {
            query.user_sig = user_sig.into();
        }
        let (served, mut operator, pending) = self.operator(&query, Service::Extensions, peer).await?;
        if let Some(pending) = pending {
            operator.tiny_id = pending.look_up(&*self.store).await?;
        }
        let last_event_id = query.last_event_id.map(Into::into);
        Ok(Caller { app: Arc::clone(&served.app), operator, last_event_id })
    }

    /// Step 5.
    fn verify(&self, app: &App, query: &Query<'_>) -> Result<UserId, Fault> {
        let now = self.now().secs();
        self.signatures
            .check(&query.user_sig, app.id.get(), &query.identifier, &app.keys, now)
            .map_err(|error| Fault::Code(signature_code(error), error.to_string()))?;
        UserId::new(&query.identifier).map_err(|malformed| {
            Fault::Code(ErrorCode::BadQuery, format!("identifier {malformed}; it can be no UserID"))
        })
    }
}

/// Rule 3.13: a compressed body is refused, and said to be one.
fn refuse_compression(headers: &HeaderMap) -> Result<(), Fault> {
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => Err(Fault::Code(
            ErrorCode::BadJson,
            "the body is compressed, send it as it is, without Content-Encoding".to_owned(),
        )),
        _ => Ok(()),
    }
}

const fn signature_code(error: UserSigError) -> ErrorCode {
    match error {
        UserSigError::Illegal => ErrorCode::UserSigIllegal,
        UserSigError::OtherApp => ErrorCode::UserSigOtherApp,
        UserSigError::OtherUser => ErrorCode::UserSigOtherUser,
        UserSigError::WrongKey => ErrorCode::UserSigWrongKey,
        UserSigError::Expired => ErrorCode::UserSigExpired,
        UserSigError::NoKey => ErrorCode::AppWithoutKey,
    }
}

/// Names for requests, by which a log line is found from an answer: a random part for the process, then a count.
struct RequestIds {
    process: u32,
    count: AtomicU64,
}

impl RequestIds {
    fn new() -> Self {
        Self { process: rand::random(), count: AtomicU64::new(0) }
    }

    fn next(&self) -> RequestId {
        RequestId { process: self.process, number: self.count.fetch_add(1, Ordering::Relaxed) }
    }
}

#[derive(Clone, Copy)]
struct RequestId {
    process: u32,
    number: u64,
}

impl RequestId {
    /// The longest is 8 digits, a hyphen and 16 digits.
    const MAX_BYTES: usize = 25;

    /// Written by hand, because every answer has it and formatting costs five times as much.
    fn write(self, text: &mut [u8; Self::MAX_BYTES]) -> &[u8] {
        let digit = |nibble: u64| b"0123456789abcdef"[usize::try_from(nibble & 0xf).unwrap_or(0)];
        for (place, byte) in text[..8].iter_mut().enumerate() {
            *byte = digit(u64::from(self.process) >> (28 - 4 * place));
        }
        text[8] = b'-';
        let digits = (self.number.checked_ilog2().unwrap_or(0) / 4 + 1) as usize;
        for (place, byte) in text[9..9 + digits].iter_mut().enumerate() {
            *byte = digit(self.number >> (4 * (digits - 1 - place)));
        }
        &text[..9 + digits]
    }

    fn header(self) -> HeaderValue {
        HeaderValue::from_bytes(self.write(&mut [0; Self::MAX_BYTES]))
            .expect("digits and a hyphen make a header")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:x}", self.process, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_and_a_header_name_a_request_alike() {
        for process in [0, 1, 0x0123_4567, 0x89ab_cdef, u32::MAX] {
            for number in [0, 1, 0xf, 0x10, 0xff, 0x100, 0xfedc_ba98, 0x7fff_ffff_ffff_ffff, u64::MAX] {
                let id = RequestId { process, number };
                assert_eq!(id.header().to_str().unwrap(), id.to_string());
            }
        }
    }
}
