//! The stream as Server-Sent Events.

use std::convert::Infallible;
use std::future::ready;

use axum::body::{Body, Bytes};
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, Response};
use futures_util::StreamExt as _;
use futures_util::stream::{once, unfold};

use super::source::{Source, Step, start_over};
use super::{Pace, event};
use crate::live::Form;

/// How long a browser should wait before it connects again, in milliseconds.
const RETRY_MILLIS: u32 = 2000;

/// The answer, whose body goes on for as long as somebody reads it.
pub(super) fn answer(source: Source, pace: Pace) -> Response<Body> {
    let mut response = Response::new(body(source, pace));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A proxy that gathers what it passes on would hold events back.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

fn body(source: Source, pace: Pace) -> Body {
    let first = Bytes::from(format!("retry: {RETRY_MILLIS}\n\n"));
    let rest = unfold(Some(source), move |source| async move {
        let mut source = source?;
        let step = tokio::time::timeout(pace.silence, source.next()).await;
        Some(match step {
            Err(_) => (Bytes::from_static(b": nothing new\n\n"), Some(source)),
            Ok(Step::Event(delivery)) => (delivery.form(Form::Stream, event::frame), Some(source)),
            Ok(Step::StartOver(from)) => (start_over(from).frame("start_over").into(), Some(source)),
            Ok(Step::End(why)) => (why.notice().frame("end").into(), None),
        })
    });
    Body::from_stream(once(ready(first)).chain(rest).map(Ok::<_, Infallible>))
}
