//! The table of contents: what is answered where.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Method, Request, Response};
use axum::middleware::from_fn;
use http_body_util::{Either, Full};

use crate::gateway::Gateway;
use crate::listener::{PacedBody, Peer, Responder};
use crate::long_connection::LongConnections;
use crate::ops;
use crate::ops::health::{Health, answer_head};
use crate::ops::metrics::Metrics;
use crate::stream::{self, Streams};

/// Everything that the server answers. The commands are listed in `api.rs`.
#[derive(Clone)]
pub(crate) struct Front {
    gateway: Arc<Gateway>,
    long_connections: Arc<LongConnections>,
    streams: Arc<Streams>,
    ops: Router,
    pages: Arc<[Page]>,
}

/// A page that a program serves beside the API, such as that of the demo.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its path, for example `/demo`.
    pub path: &'static str,
    /// Its HTML.
    pub html: Bytes,
}

impl Front {
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        long_connections: Arc<LongConnections>,
        streams: Arc<Streams>,
        health: Health,
        metrics: Arc<Metrics>,
        pages: Vec<Page>,
    ) -> Self {
        // The layer also covers the paths that the routes do not have.
        let ops = ops::routes(health, metrics).layer(from_fn(answer_head));
        Self { gateway, long_connections, streams, ops, pages: pages.into() }
    }
}

impl Front {
    fn page(&self, request: &Request<PacedBody>) -> Option<&Page> {
        let is_asked_for =
            |page: &&Page| request.method() == Method::GET && request.uri().path() == page.path;
        self.pages.iter().find(is_asked_for)
    }
}

impl Responder for Front {
    type Body = Either<Full<Bytes>, Body>;

    async fn respond(self, request: Request<PacedBody>, peer: Peer) -> Response<Self::Body> {
        // The gateway finds commands by itself, and its requests and answers need no box for their bodies: a
        // general router would cost them as much as reading their JSON does.
        if request.method() == Method::HEAD || ops::PATHS.contains(&request.uri().path()) {
            self.ops.respond(request, peer).await.map(Either::Right)
        } else if request.uri().path().starts_with(stream::PREFIX) {
            self.streams.serve(request, peer).await.map(Either::Right)
        } else if let Some(page) = self.page(&request) {
            let mut response = Response::new(Either::Left(Full::from(page.html.clone())));
            let html = HeaderValue::from_static("text/html; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, html);
            response
        } else if request.method() == Method::GET
            && let Some(answer) = self.long_connections.answer(&request, peer)
        {
            answer.map(Either::Left)
        } else {
            self.gateway.serve(request, peer).await.map(Either::Left)
        }
    }
}
