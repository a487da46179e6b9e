//! How long a connection may take for what it is doing.
//!
//! hyper has one time-out, from the end of an answer to the end of the next head, and closes without a word.
//! Here a pause between requests and a head that comes too slowly are told apart, the latter is answered
//! with 408, and an answer that nobody reads ends the connection too. For that, bytes are seen passing
//! between the socket and hyper, and requests between hyper and the responder.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::handover::Takeover;
use crate::config::Http;

/// What one connection is doing, since when.
///
/// The lock is never contended: everything about a connection happens in its one task.
#[derive(Clone, Debug)]
pub(super) struct Pace(Arc<Mutex<State>>, Http);

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// The last request's body has not been read to its end, so bytes that come may belong to it.
    body_left: bool,
    /// The socket takes no more bytes at present.
    write_blocked: bool,
    /// hyper has answered a head that is not one.
    refused: bool,
    /// What goes on when HTTP is done with the connection.
    takeover: Option<Takeover>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Connected, and not a byte has come.
    Fresh,
    /// Some of a head has come.
    Head,
    /// A request is with the responder.
    Serving,
    /// The last answer is on its way or has arrived.
    Resting,
}

impl Pace {
    pub(super) fn new(http: &Http) -> Self {
        let state = State {
            phase: Phase::Fresh,
            since: Instant::now(),
            body_left: false,
            write_blocked: false,
            refused: false,
            takeover: None,
        };
        Self(Arc::new(Mutex::new(state)), *http)
    }

    /// When the connection has taken too long, unless something happens before. A request that is served has
    /// no deadline here: its body has one of its own, and the store answers in bounded time.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let state = self.state();
        match state.phase {
            Phase::Fresh | Phase::Head => Some(state.since + self.1.header_timeout),
            Phase::Serving => None,
            Phase::Resting => Some(state.since + self.1.idle_timeout),
        }
    }

    /// Whether a head has begun, and an answer to it can be written without cutting another in two.
    pub(super) fn owes_an_answer(&self) -> bool {
        let state = self.state();
        state.phase == Phase::Head && !state.write_blocked && !state.refused
    }

    /// Whether the client may still be sending what nobody will read.
    pub(super) fn leaves_bytes_unread(&self) -> bool {
        let state = self.state();
        state.body_left || state.refused || state.phase == Phase::Head
    }

    /// A request goes to the responder; returns its body, which reports its end.
    pub(super) fn request_begins(&self, body: Incoming) -> PacedBody {
        let mut state = self.state();
        state.phase = Phase::Serving;
        state.refused = false;
        state.body_left = !body.is_end_stream();
        drop(state);
        PacedBody { body, pace: self.clone() }
    }

    /// The responder has answered.
    pub(super) fn request_ends(&self) {
        let mut state = self.state();
        state.phase = Phase::Resting;
        state.since = Instant::now();
    }

    /// The last answer was a 101.
    pub(super) fn goes_over(&self, takeover: Option<Takeover>) {
        self.state().takeover = takeover;
    }

    /// What goes on over the connection, if something does.
    pub(super) fn takeover(&self) -> Option<Takeover> {
        self.state().takeover.take()
    }

    fn bytes_read(&self) {
        let mut state = self.state();
        match state.phase {
            // The clock has been running since the connection began.
            Phase::Fresh => state.phase = Phase::Head,
            // Bytes that may belong to the last body begin no head, and give no more time either.
            Phase::Resting if !state.body_left => {
                state.phase = Phase::Head;
                state.since = Instant::now();
            }
            Phase::Resting | Phase::Head | Phase::Serving => {}
        }
    }

    fn bytes_written(&self, progress: bool) {
        let mut state = self.state();
        state.write_blocked = !progress;
        match state.phase {
            Phase::Resting if progress => state.since = Instant::now(),
            Phase::Head if progress => state.refused = true,
            _ => {}
        }
    }

    fn body_ends(&self) {
        self.state().body_left = false;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, and the state would be whole even then.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket that reports what passes.
pub(super) struct PacedIo<S> {
    socket: S,
    pace: Pace,
}

impl<S> PacedIo<S> {
    pub(super) fn new(socket: S, pace: Pace) -> Self {
        Self { socket, pace }
    }

    pub(super) fn into_socket(self) -> S {
        self.socket
    }

    fn report(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.pace.bytes_written(matches!(written, Poll::Ready(Ok(1..))));
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PacedIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.socket).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.pace.bytes_read();
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PacedIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.report(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bytes);
        self.report(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// The body of a request. It reports to its connection when it has been read to its end.
pub struct PacedBody {
    body: Incoming,
    pace: Pace,
}

impl HttpBody for PacedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.pace.body_ends();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
