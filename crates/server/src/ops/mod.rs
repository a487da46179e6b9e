//! What probes and operators ask a server: is it alive, is it ready, what has it done.

pub mod health;
pub mod metrics;

use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

use self::health::Health;
use self::metrics::Metrics;

/// The paths of [`routes`].
pub const PATHS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// `/healthz`, `/readyz` and `/metrics`. None of them looks at a ticket.
pub fn routes(health: Health, metrics: Arc<Metrics>) -> Router {
    let scrape = move || {
        let answer = ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.text());
        std::future::ready(answer)
    };
    Router::new()
        .route("/healthz", get(|| std::future::ready("alive\n")))
        .route("/readyz", get(move || std::future::ready(health.answer())))
        .route("/metrics", get(scrape))
}
