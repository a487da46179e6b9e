//! When a connection stops to be HTTP: the socket changes hands after an answer 101.
//!
//! The new protocol runs in the task of the connection, which keeps its place among `http.max_connections` and is waited
//! for when the server stops. None of the deadlines of HTTP apply any more; the new protocol has its own.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

/// A socket, with or without TLS.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// A connection that HTTP is done with.
pub struct Handover {
    /// The socket.
    pub socket: Box<dyn Duplex>,
    /// What has come over it already and belongs to the new protocol.
    pub first: Bytes,
    /// Cancelled when the server stops. What runs then has `http.drain_timeout_ms` to say goodbye.
    pub stop: CancellationToken,
}

/// What goes on over a connection after an answer 101. It travels among the extensions of that answer, which have to be
/// clones of one another; only the first one that is started runs.
#[derive(Clone)]
pub struct Takeover(Arc<Mutex<Option<Start>>>);

type Start = Box<dyn FnOnce(Handover) -> BoxFuture<'static, ()> + Send>;

impl Takeover {
    /// The connection is over when the future that `start` makes has ended.
    pub fn new(start: impl FnOnce(Handover) -> BoxFuture<'static, ()> + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(start)))))
    }

    pub(super) async fn run(self, handover: Handover) {
        let start = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(start) = start {
            start(handover).await;
        }
    }
}

impl fmt::Debug for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Takeover")
    }
}
