//! The open event stream: `GET /v1/groups/{GroupId}/events` and, for administrators, `GET /v1/events`, as
//! Server-Sent Events. docs/event-stream.md is for those who read it.

mod event;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_ORIGIN, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE,
};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use futures_util::stream::unfold;
use sidenote_core::event::CallerKind;
use sidenote_core::ids::{ConversationId, EventNumber, GroupId, Incarnation};

use crate::api::{Fault, Service};
use crate::config::Http;
use crate::gateway::Gateway;
use crate::listener::{PacedBody, Peer};
use crate::live::{Delivery, Ended, Follow, Followed, Form, Hub, Inbox};
use crate::wire::envelope;
use crate::wire::error_code::ErrorCode;

/// Where the paths of this module begin.
pub(crate) const PREFIX: &str = "/v1/";

/// A quiet stream says that it lives this often, or three times in `http.idle_timeout_ms` if that is shorter.
const LONGEST_SILENCE: Duration = Duration::from_secs(15);

/// How long a browser should wait before it connects again, in milliseconds.
const RETRY_MILLIS: u32 = 2000;

/// Answers requests for streams.
pub(crate) struct Streams {
    gateway: Arc<Gateway>,
    hub: Arc<Hub>,
    silence: Duration,
}

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Group(GroupId),
    App,
}

impl Streams {
    pub(crate) fn new(gateway: Arc<Gateway>, hub: Arc<Hub>, http: &Http) -> Self {
        Self { gateway, hub, silence: LONGEST_SILENCE.min(http.idle_timeout / 3) }
    }

    /// Answers a request below `/v1/`.
    pub(crate) async fn serve(&self, request: Request<PacedBody>, peer: Peer) -> Response<Body> {
        // Whatever body there is, nobody reads it.
        let (head, _) = request.into_parts();
        if head.method == Method::OPTIONS {
            return preflight();
        }
        match self.open(&head, peer).await {
            Ok(body) => {
                let mut response = Response::new(body);
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                // A proxy that gathers what it passes on would hold events back.
                headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
                response
            }
            Err(fault) => refuse(&fault),
        }
    }

    async fn open(&self, head: &Parts, peer: Peer) -> Result<Body, Fault> {
        if head.method != Method::GET {
            return Err(Fault::Code(ErrorCode::BadMethod, "events are asked for with GET".to_owned()));
        }
        let wanted = wanted(head.uri.path())?;
        let token = head.headers.get(AUTHORIZATION).map(bearer).transpose()?;
        let caller = self.gateway.identify(head.uri.query().unwrap_or_default(), token, peer).await?;
        let cursor = cursor(head, caller.last_event_id.as_deref())?;
        let is_administrator = caller.operator.kind == CallerKind::Administrator;
        let source = match wanted {
            Wanted::App if !is_administrator => return Err(Fault::Plain(ErrorCode::NotAnAdministrator)),
            Wanted::App => Source::App(self.hub.follow_app(caller.app.id).await),
            Wanted::Group(group) => {
                let conversation = ConversationId::group(caller.app.id, group);
                let member = caller.operator.tiny_id.map(|tiny_id| (caller.operator.user.clone(), tiny_id));
                let member = member.filter(|_| !is_administrator);
                Source::Group(Box::new(self.hub.follow(conversation, member, cursor).await??))
            }
        };
        let starts_over = cursor.is_some() && matches!(source, Source::App(_));
        Ok(stream(source, self.silence, starts_over))
    }
}

/// Where the events of a stream come from.
enum Source {
    Group(Box<Follow>),
    App(Inbox),
}

/// What is written next.
enum Step {
    Event(Delivery),
    StartOver(Option<(Incarnation, EventNumber)>),
    /// The reason in a word and in a sentence.
    End(&'static str, &'static str),
}

impl Source {
    async fn next(&mut self) -> Step {
        let ended = match self {
            Self::Group(follow) => match follow.next().await {
                Ok(Ok(Followed::Event(delivery))) => return Step::Event(delivery),
                Ok(Ok(Followed::StartOver(incarnation, number))) => {
                    return Step::StartOver(Some((incarnation, number)));
                }
                Ok(Err(ended)) => ended,
                Err(error) => {
                    tracing::error!(%error, "an event stream ends because events could not be read");
                    return Step::End("failed", "the server could not read the events, connect again later");
                }
            },
            Self::App(inbox) => match inbox.next().await {
                Ok(delivery) => return Step::Event(delivery),
                Err(ended) => ended,
            },
        };
        let (reason, info) = match ended {
            Ended::Overrun => ("overrun", "events were not taken in time, connect again and read the state"),
            Ended::Lost => {
                ("lost", "events were forgotten before they were told, connect again and read the state")
            }
            Ended::Removed => ("removed", "the group is gone, or the caller is no longer a member of it"),
            Ended::Closing => ("closing", "the server stops, connect again"),
        };
        Step::End(reason, info)
    }
}

/// The bytes of a stream, for as long as somebody reads them.
fn stream(source: Source, silence: Duration, starts_over: bool) -> Body {
    let mut first = format!("retry: {RETRY_MILLIS}\n\n");
    if starts_over {
        first.push_str(&start_over(None));
    }
    let rest = unfold(Some(source), move |source| async move {
        let mut source = source?;
        let step = tokio::time::timeout(silence, source.next()).await;
        Some(match step {
            Err(_) => (Bytes::from_static(b": nothing new\n\n"), Some(source)),
            Ok(Step::Event(delivery)) => (delivery.form(Form::Stream, event::frame), Some(source)),
            Ok(Step::StartOver(from)) => (start_over(from).into(), Some(source)),
            Ok(Step::End(reason, info)) => (event::notice("end", reason, None, info).into(), None),
        })
    });
    let first = futures_util::stream::once(std::future::ready(Bytes::from(first)));
    let pieces = futures_util::StreamExt::chain(first, rest);
    Body::from_stream(futures_util::StreamExt::map(pieces, Ok::<_, Infallible>))
}

fn start_over(from: Option<(Incarnation, EventNumber)>) -> String {
    let why = "events after the given cursor are no longer kept, or it belongs to something else; read the state \
               (group_get_key_values, group_msg_get_simple) and go on with the events that follow";
    event::notice("start_over", "cursor", from, why)
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
fn cursor(head: &Parts, parameter: Option<&str>) -> Result<Option<(Incarnation, EventNumber)>, Fault> {
    let header = head.headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?"));
    let Some(text) = header.or(parameter).filter(|text| !text.is_empty()) else { return Ok(None) };
    event::read_id(text).map(Some).ok_or_else(|| {
        Fault::Code(ErrorCode::BadQuery, "Last-Event-ID is not the id of an event of this server".to_owned())
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
    response
}
