//! The long connection: one WebSocket for each client, requests and answers in both directions of it, and pushes
//! (long-connection.md; docs/long-connection.md; docs/decisions/0016-long-connection.md).
//!
//! `connection` is the one task that a client has, from its handshake to its end; `login` how it becomes somebody. What a
//! frame says is `frame`'s matter, what a push says `pushes`'. `subscription` is where events come from. Everything that
//! a client can make grow has a limit there or in [`config::LongConnection`](crate::config::LongConnection).

mod answers;
mod connection;
mod echo;
mod frame;
mod handshake;
mod login;
mod presence;
mod pushes;
mod subscription;
mod unacknowledged;

use std::sync::Arc;

use crate::config;
use crate::gateway::Gateway;
use crate::listener::{Handover, Peer, Takeover};
use crate::live::Hub;
use crate::web_socket::{Limits, Socket};
use axum::body::{Bytes, HttpBody};
use axum::http::{Request, Response};
use http_body_util::Full;

use connection::Connection;

pub(crate) use presence::Presence;

/// What all long connections share.
pub(crate) struct LongConnections {
    gateway: Arc<Gateway>,
    hub: Arc<Hub>,
    presence: Arc<Presence>,
    limits: config::LongConnection,
}

impl LongConnections {
    /// No connections yet.
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        hub: Arc<Hub>,
        presence: Arc<Presence>,
        limits: config::LongConnection,
    ) -> Arc<Self> {
        Arc::new(Self { gateway, hub, presence, limits })
    }

    /// The answer to a request that wants to become a long connection; `None` for all others.
    pub(crate) fn answer<B: HttpBody>(
        self: &Arc<Self>,
        request: &Request<B>,
        peer: Peer,
    ) -> Option<Response<Full<Bytes>>> {
        let wish = handshake::Wish::read(request)?;
        let mut answer = match handshake::accept(request) {
            Ok(answer) => answer,
            Err(refusal) => return Some(refusal),
        };
        let shared = Arc::clone(self);
        answer.extensions_mut().insert(Takeover::new(move |handover| {
            Box::pin(async move {
                let Handover { socket, first, stop } = handover;
                let limits = Limits {
                    message_bytes: shared.limits.frame_bytes,
                    too_large: "the frame is larger than long_connection.frame_bytes",
                    write_timeout: shared.limits.write_timeout,
                };
                let socket = Socket::new(socket, &first, wish.kind, limits).await;
                drop(first);
                let app = wish.app.and_then(|app| shared.gateway.app(app));
                Connection::new(shared, socket, wish.packs, app, peer, stop).serve().await;
            })
        }));
        Some(answer)
    }
}
