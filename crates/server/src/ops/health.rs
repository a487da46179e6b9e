//! Alive and ready. A server that cannot write is alive, so that nobody restarts it in a circle, but not
//! ready, so that nobody sends it work.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

/// Says `Ok` or, in one line, why the server should get no work. It must not block.
pub type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What has to hold for the server to be ready.
#[derive(Clone)]
pub struct Health(Arc<[Check]>);

impl Health {
    /// Ready while all of `checks` say so.
    pub fn new(checks: Vec<Check>) -> Self {
        Self(checks.into())
    }

    /// `Ok`, or what the first failing check says.
    pub fn ready(&self) -> Result<(), String> {
        self.0.iter().try_for_each(|check| check())
    }

    /// The answer of `/readyz`: 200, or 503 and the reason in one line.
    pub(super) fn answer(&self) -> (StatusCode, String) {
        match self.ready() {
            Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
            Err(reason) => {
                let reason: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
                (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"))
            }
        }
    }
}

/// Middleware that answers HEAD on any path with 200, before anything else is looked at: the documented
/// health check of the API (rest-overview.md section 2).
pub async fn answer_head(request: Request, next: Next) -> Response {
    if request.method() == Method::HEAD { StatusCode::OK.into_response() } else { next.run(request).await }
}
