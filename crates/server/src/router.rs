//! The table of contents: what is answered where.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Method, Request, Response};
use axum::middleware::from_fn;
use http_body_util::{Either, Full};

use crate::gateway::Gateway;
use crate::listener::{PacedBody, Peer, Responder};
use crate::ops;
use crate::ops::health::{Health, answer_head};
use crate::ops::metrics::Metrics;

/// Everything that the server answers. The commands are listed in `api.rs`.
#[derive(Clone)]
pub(crate) struct Front {
    gateway: Arc<Gateway>,
    ops: Router,
}

impl Front {
    pub(crate) fn new(gateway: Arc<Gateway>, health: Health, metrics: Arc<Metrics>) -> Self {
        // The layer also covers the paths that the routes do not have.
        Self { gateway, ops: ops::routes(health, metrics).layer(from_fn(answer_head)) }
    }
}

impl Responder for Front {
    type Body = Either<Full<Bytes>, Body>;

    async fn respond(self, request: Request<PacedBody>, peer: Peer) -> Response<Self::Body> {
        // The gateway finds commands by itself, and its requests and answers need no box for their bodies: a
        // general router would cost them as much as reading their JSON does.
        if request.method() == Method::HEAD || ops::PATHS.contains(&request.uri().path()) {
            self.ops.respond(request, peer).await.map(Either::Right)
        } else {
            self.gateway.serve(request, peer).await.map(Either::Left)
        }
    }
}
