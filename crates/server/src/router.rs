//! The table of contents: what is answered where.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn;

use crate::gateway::{self, Gateway};
use crate::ops;
use crate::ops::health::{Health, answer_head};
use crate::ops::metrics::Metrics;

/// Everything that the server answers. The commands are listed in `api.rs`.
pub(crate) fn router(gateway: Arc<Gateway>, health: Health, metrics: Arc<Metrics>) -> Router {
    ops::routes(health, metrics)
        .merge(Router::new().fallback(gateway::serve).with_state(gateway))
        .layer(from_fn(answer_head))
}
