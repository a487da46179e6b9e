//! Reading the body of a request, no more of it and no longer than the configuration allows.

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::StatusCode;
use axum::http::header::CONNECTION;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

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
}

impl IntoResponse for BodyRefused {
    fn into_response(self) -> Response {
        (self.status(), [(CONNECTION, "close")]).into_response()
    }
}

/// Reads the whole body. One that is announced as too long is refused before it is read.
pub async fn read(body: Body, http: &Http) -> Result<Bytes, BodyRefused> {
    if usize::try_from(body.size_hint().lower()).map_or(true, |announced| announced > http.body_bytes) {
        return Err(BodyRefused::TooLarge);
    }
    match tokio::time::timeout(http.body_timeout, Limited::new(body, http.body_bytes).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyRefused::TooLarge),
        Ok(Err(_)) => Err(BodyRefused::Broken),
        Err(_) => Err(BodyRefused::TooSlow),
    }
}
