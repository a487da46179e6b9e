//! The open event stream: `GET /v1/groups/{GroupId}/events` and, for administrators, `GET /v1/events`, as
//! Server-Sent Events or, where the request asks for it, over a WebSocket. docs/event-stream.md is for those who read
//! it.
//!
//! Here is who may read what. `source` is where events come from, `event` what they look like; `server_sent` and
//! `web_socket` are the two forms.

mod event;
mod server_sent;
mod source;
mod web_socket;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_ORIGIN, AUTHORIZATION, CONTENT_TYPE,
    SEC_WEBSOCKET_VERSION,
};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode};
use sidenote_core::event::CallerKind;
use sidenote_core::ids::{ConversationId, GroupId};

use crate::api::{Fault, Service};
use crate::config::Http;
use crate::gateway::Gateway;
use crate::listener::{PacedBody, Peer};
use crate::live::Hub;
use crate::wire::envelope;
use crate::wire::error_code::ErrorCode;

use event::Cursor;
use source::Source;

/// Where the paths of this module begin.
pub(crate) const PREFIX: &str = "/v1/";

/// A quiet stream says that it lives this often, or three times in `http.idle_timeout_ms` if that is shorter.
const LONGEST_SILENCE: Duration = Duration::from_secs(15);

/// Answers requests for streams.
pub(crate) struct Streams {
    gateway: Arc<Gateway>,
    hub: Arc<Hub>,
    pace: Pace,
}

/// How long a stream waits for what.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// How long a stream is quiet at most.
    silence: Duration,
    /// How long a reader may take for what it is sent, and leave the server without a sign of life.
    patience: Duration,
}

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Group(GroupId),
    App,
}

impl Streams {
    pub(crate) fn new(gateway: Arc<Gateway>, hub: Arc<Hub>, http: &Http) -> Self {
        let pace = Pace { silence: LONGEST_SILENCE.min(http.idle_timeout / 3), patience: http.idle_timeout };
        Self { gateway, hub, pace }
    }

    /// Answers a request below `/v1/`.
    pub(crate) async fn serve(&self, request: Request<PacedBody>, peer: Peer) -> Response<Body> {
        if request.method() == Method::OPTIONS {
            return preflight();
        }
        let handshake = web_socket::handshake(&request);
        // Whatever body there is, nobody reads it.
        let (head, _) = request.into_parts();
        let opened = self.open(&head, peer).await;
        match (opened, handshake) {
            (Err(fault), _) | (_, Some(Err(fault))) => refuse(&fault),
            (Ok(source), None) => server_sent::answer(source, self.pace),
            (Ok(source), Some(Ok(answer))) => web_socket::answer(answer, source, self.pace),
        }
    }

    async fn open(&self, head: &Parts, peer: Peer) -> Result<Source, Fault> {
        if head.method != Method::GET {
            return Err(Fault::Code(ErrorCode::BadMethod, "events are asked for with GET".to_owned()));
        }
        let wanted = wanted(head.uri.path())?;
        let token = head.headers.get(AUTHORIZATION).map(bearer).transpose()?;
        let caller = self.gateway.identify(head.uri.query().unwrap_or_default(), token, peer).await?;
        let cursor = cursor(head, caller.last_event_id.as_deref())?;
        let is_administrator = caller.operator.kind == CallerKind::Administrator;
        match wanted {
            Wanted::App if !is_administrator => Err(Fault::Plain(ErrorCode::NotAnAdministrator)),
            Wanted::App => Ok(Source::app(self.hub.follow_app(caller.app.id).await, cursor.is_some())),
            Wanted::Group(group) => {
                let conversation = ConversationId::group(caller.app.id, group);
                let member = caller.operator.tiny_id.map(|tiny_id| (caller.operator.user.clone(), tiny_id));
                let member = member.filter(|_| !is_administrator);
                Ok(Source::group(self.hub.follow(conversation, member, cursor).await??))
            }
        }
    }
}

fn wanted(path: &str) -> Result<Wanted, Fault> {
    let unknown = || Fault::Plain(ErrorCode::UnknownCommand);
    let path = path.strip_prefix(PREFIX).ok_or_else(unknown)?;
    if path == "events" {
        return Ok(Wanted::App);
    }
    let group =
        path.strip_prefix("groups/").and_then(|path| path.strip_suffix("/events")).ok_or_else(unknown)?;
    let group = percent_decoded(group).ok_or(Fault::Plain(ErrorCode::BadGroupId))?;
    GroupId::new(&group).map(Wanted::Group).map_err(|_| Fault::Plain(ErrorCode::BadGroupId))
}

/// A part of a path, decoded. `None` if it holds a broken escape or is not UTF-8.
fn percent_decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn bearer(value: &HeaderValue) -> Result<&str, Fault> {
    let refuse = || {
        Fault::Code(
            ErrorCode::UserSigIllegal,
            "the header must be Authorization: Bearer <UserSig>".to_owned(),
        )
    };
    let (scheme, token) = value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or_else(refuse)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(refuse()) }
}

/// The cursor: the header that browsers send when they connect again, or the parameter for the first time.
fn cursor(head: &Parts, parameter: Option<&str>) -> Result<Option<Cursor>, Fault> {
    let header = head.headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?"));
    let Some(text) = header.or(parameter).filter(|text| !text.is_empty()) else { return Ok(None) };
    event::read_id(text).map(Some).ok_or_else(|| {
        let why = "Last-Event-ID (or last_event_id) is not the EventId of an event of this server";
        Fault::Code(ErrorCode::BadQuery, why.to_owned())
    })
}

/// Scripts of other origins may send the header of the signature.
fn preflight() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, last-event-id"));
    response
}

/// Here the status speaks too: a browser does not show a body that is no stream.
fn refuse(fault: &Fault) -> Response<Body> {
    let service = Service::Extensions;
    let code = fault.code(service);
    let status = match code {
        ErrorCode::BadMethod => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::UnknownCommand | ErrorCode::UnknownGroup => StatusCode::NOT_FOUND,
        ErrorCode::CallerUnknown | ErrorCode::NoPermission | ErrorCode::NotAnAdministrator => {
            StatusCode::FORBIDDEN
        }
        ErrorCode::BadQuery | ErrorCode::BadGroupId | ErrorCode::BadParameter => StatusCode::BAD_REQUEST,
        ErrorCode::GroupInternal => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::UNAUTHORIZED,
    };
    let mut response = Response::new(Body::from(envelope::failure(code.code(), &fault.info(service))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    // For a handshake in another version, and true of all others.
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}
