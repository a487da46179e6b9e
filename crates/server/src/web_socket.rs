//! A WebSocket as the long connection and the event stream use it: whole messages in, whole messages out, in bounded
//! memory and time.
//!
//! What the library buffers stays small. It reads in steps of [`READ_BYTES`] and grows for a larger message only. What is
//! written leaves in pieces of at most [`PIECE_BYTES`], each flushed before the next, because the buffer that a message
//! is copied to keeps the size of the largest that it ever held.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::listener::Duplex;

/// Bytes that are read in one go.
const READ_BYTES: usize = 2 * 1024;

/// Bytes that are written in one go.
const PIECE_BYTES: usize = 8 * 1024;

/// How long a client is waited for when the connection is closed.
const LINGER: Duration = Duration::from_secs(1);

/// Longest reason in a close frame, in bytes (RFC 6455 section 5.5).
const MAX_REASON_BYTES: usize = 123;

/// In which frames the server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Frames of text.
    Text,
    /// Frames of bytes.
    Binary,
}

/// What a client may make the server hold, and wait for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of a message of the client's; more closes the connection with 1009.
    pub(crate) message_bytes: usize,
    /// What the client is told then.
    pub(crate) too_large: &'static str,
    /// How long a message of the server's may take to leave.
    pub(crate) write_timeout: Duration,
}

/// One WebSocket.
pub(crate) struct Socket {
    stream: WebSocketStream<Box<dyn Duplex>>,
    kind: Kind,
    limits: Limits,
}

/// Why nothing more can be read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// The client has closed the connection, or it broke.
    Gone,
    /// The client does not take what it is sent.
    Slow,
    /// The server closes it, for a reason that the client is told.
    Because(CloseCode, Cow<'static, str>),
}

impl Closing {
    /// The client has done what it must not do (1008).
    pub(crate) fn policy(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Because(CloseCode::Policy, why.into())
    }
}

impl Socket {
    /// A socket after the handshake; `first` has come over it already.
    pub(crate) async fn new(socket: Box<dyn Duplex>, first: &[u8], kind: Kind, limits: Limits) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(limits.message_bytes.max(4 * PIECE_BYTES))
            .max_message_size(Some(limits.message_bytes))
            .max_frame_size(Some(limits.message_bytes));
        let stream =
            WebSocketStream::from_partially_read(socket, first.to_vec(), Role::Server, Some(config)).await;
        Self { stream, kind, limits }
    }

    /// The next message, of either kind; `None` for a sign of life without one. It may be dropped and called again.
    pub(crate) async fn receive(&mut self) -> Result<Option<Bytes>, Closing> {
        match self.stream.next().await {
            Some(Ok(Message::Text(text))) => Ok(Some(text.into())),
            Some(Ok(Message::Binary(bytes))) => Ok(Some(bytes)),
            // The library answers pings by itself.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(None),
            Some(Err(Error::Capacity(_))) => {
                Err(Closing::Because(CloseCode::Size, self.limits.too_large.into()))
            }
            Some(Err(Error::Utf8(_))) => {
                Err(Closing::Because(CloseCode::Invalid, "the text is not UTF-8".into()))
            }
            Some(Err(Error::Protocol(error))) => {
                Err(Closing::Because(CloseCode::Protocol, error.to_string().into()))
            }
            // A goodbye it answers too, which `close` lets leave.
            Some(Ok(Message::Close(_)) | Err(_)) | None => Err(Closing::Gone),
        }
    }

    /// Sends a message.
    pub(crate) async fn send(&mut self, message: Bytes) -> Result<(), Closing> {
        in_time(self.limits.write_timeout, self.send_in_pieces(message)).await
    }

    /// Asks the client for a sign of life.
    pub(crate) async fn ping(&mut self) -> Result<(), Closing> {
        let ping = Message::Ping(Bytes::new());
        in_time(self.limits.write_timeout, self.stream.send(ping)).await
    }

    async fn send_in_pieces(&mut self, mut message: Bytes) -> Result<(), Error> {
        let mut kind = match self.kind {
            Kind::Text => Data::Text,
            Kind::Binary => Data::Binary,
        };
        loop {
            let piece = message.split_to(message.len().min(PIECE_BYTES));
            let is_last = message.is_empty();
            let frame = Frame::message(piece, OpCode::Data(kind), is_last);
            self.stream.send(Message::Frame(frame)).await?;
            if is_last {
                return Ok(());
            }
            kind = Data::Continue;
        }
    }

    /// Says goodbye and closes the socket, which is good for nothing then. Whoever does not listen is not waited for long.
    pub(crate) async fn close(&mut self, why: Closing) {
        let frame = match why {
            Closing::Gone => None,
            Closing::Slow => Some((CloseCode::Again, "too slow, pull what was missed".into())),
            Closing::Because(code, reason) => Some((code, reason)),
        };
        let goodbye = async {
            match frame {
                // What is left to write is the answer to the client's own goodbye, if it said one.
                None => self.stream.flush().await.ok()?,
                Some((code, reason)) => {
                    let reason = shortened(&reason).to_owned();
                    let frame = CloseFrame { code, reason: reason.into() };
                    self.stream.send(Message::Close(Some(frame))).await.ok()?;
                }
            }
            // Closing a socket with unread bytes makes the system send a reset, which can overtake the goodbye.
            let socket = self.stream.get_mut();
            socket.shutdown().await.ok()?;
            // On the heap: in here every connection would keep room for it from its beginning.
            let mut ignored = vec![0; 1024];
            while socket.read(&mut ignored).await.ok()? > 0 {}
            Some(())
        };
        // Whoever has gone or does not listen needs no goodbye.
        let _ = timeout(LINGER, goodbye).await;
    }
}

async fn in_time(limit: Duration, sending: impl Future<Output = Result<(), Error>>) -> Result<(), Closing> {
    match timeout(limit, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Closing::Gone),
        Err(_) => Err(Closing::Slow),
    }
}

/// As much of a text as a close frame holds.
fn shortened(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(MAX_REASON_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!(shortened("too slow"), "too slow");
        assert_eq!(shortened(&"x".repeat(200)).len(), 123);
        assert_eq!(shortened(&"ü".repeat(100)).len(), 122);
    }
}
