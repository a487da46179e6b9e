//! Reading the body of a request, no more of it and no longer than the configuration allows.

use std::pin::pin;

use axum::body::{Bytes, HttpBody};
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use futures_util::future::poll_immediate;
use http_body_util::BodyExt as _;

use crate::config::Http;

/// Why there is no body. As an answer each closes the connection, because the rest of the body may still be
/// on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyRefused {
    /// Longer than `http.body_bytes`: 413.
    #[error("the body is longer than http.body_bytes")]
    TooLarge,
    /// Not complete after `http.body_timeout_ms`: 408.
    #[error("the body was not complete in time")]
    TooSlow,
    /// It ended too early, or its chunks are not as HTTP has them: 400.
    #[error("the body ended too early or is not HTTP")]
    Broken,
}

impl BodyRefused {
    /// The status that says so.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
        }
    }

    /// The answer, which has no body.
    pub fn answer<B: Default>(self) -> Response<B> {
        let mut answer = Response::new(B::default());
        *answer.status_mut() = self.status();
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        answer
    }
}

impl IntoResponse for BodyRefused {
    fn into_response(self) -> axum::response::Response {
        self.answer()
    }
}

/// Reads the whole body. One that is announced as too long is refused before it is read.
pub async fn read<B>(body: B, http: &Http) -> Result<Bytes, BodyRefused>
where
    B: HttpBody<Data = Bytes>,
{
    if usize::try_from(body.size_hint().lower()).map_or(true, |announced| announced > http.body_bytes) {
        return Err(BodyRefused::TooLarge);
    }
    let mut whole = pin!(gather(body, http.body_bytes));
    // A small body has come with its head, as a rule, and then it costs no timer.
    if let Some(done) = poll_immediate(whole.as_mut()).await {
        return done;
    }
    tokio::time::timeout(http.body_timeout, whole).await.unwrap_or(Err(BodyRefused::TooSlow))
}

async fn gather<B>(body: B, limit: usize) -> Result<Bytes, BodyRefused>
where
    B: HttpBody<Data = Bytes>,
{
    let mut body = pin!(body);
    // What comes in one piece is not copied.
    let (mut first, mut all) = (Bytes::new(), Vec::new());
    while !body.is_end_stream()
        && let Some(frame) = body.frame().await
    {
        let Ok(piece) = frame.map_err(|_| BodyRefused::Broken)?.into_data() else { continue };
        if piece.len() > limit - first.len().max(all.len()) {
            return Err(BodyRefused::TooLarge);
        }
        if first.is_empty() {
            first = piece;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&piece);
        }
    }
    Ok(if all.is_empty() { first } else { all.into() })
}
