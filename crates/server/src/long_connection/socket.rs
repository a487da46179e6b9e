//! A WebSocket as a connection uses it: whole messages in, whole messages out, in bounded memory and time.
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

use super::frame::packed;
use super::handshake::Kind;
use crate::config;
use crate::listener::Duplex;

/// Bytes that are read in one go.
const READ_BYTES: usize = 2 * 1024;

/// Bytes that are written in one go.
const PIECE_BYTES: usize = 8 * 1024;

/// How long a client is waited for when the connection is closed.
const LINGER: Duration = Duration::from_secs(1);

/// Longest reason in a close frame, in bytes (RFC 6455 section 5.5).
const MAX_REASON_BYTES: usize = 123;

/// One WebSocket.
pub(super) struct Socket {
    stream: WebSocketStream<Box<dyn Duplex>>,
    kind: Kind,
    packs: bool,
    write_timeout: Duration,
}

/// Why nothing more can be read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// The client has closed the connection, or it broke.
    Gone,
    /// The client does not take what it is sent.
    Slow,
    /// The server closes it, for a reason that the client is told.
    Because(CloseCode, Cow<'static, str>),
}

impl Closing {
    /// The client has done what it must not do (1008).
    pub(super) fn policy(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Because(CloseCode::Policy, why.into())
    }
}

impl Socket {
    /// A socket after the handshake; `first` has come over it already.
    pub(super) async fn new(
        socket: Box<dyn Duplex>,
        first: &[u8],
        kind: Kind,
        packs: bool,
        limits: &config::LongConnection,
    ) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(limits.frame_bytes.max(4 * PIECE_BYTES))
            .max_message_size(Some(limits.frame_bytes))
            .max_frame_size(Some(limits.frame_bytes));
        let stream =
            WebSocketStream::from_partially_read(socket, first.to_vec(), Role::Server, Some(config)).await;
        Self { stream, kind, packs, write_timeout: limits.write_timeout }
    }

    /// Whether large messages are packed.
    pub(super) fn packs(&self) -> bool {
        self.packs
    }

    /// The next message, of either kind; `None` for a sign of life without one. It may be dropped and called again.
    pub(super) async fn receive(&mut self) -> Result<Option<Bytes>, Closing> {
        match self.stream.next().await {
            Some(Ok(Message::Text(text))) => Ok(Some(text.into())),
            Some(Ok(Message::Binary(bytes))) => Ok(Some(bytes)),
            // The library answers pings by itself, and a close too: it is written by reading on.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_))) => Ok(None),
            Some(Err(Error::Capacity(_))) => Err(Closing::Because(
                CloseCode::Size,
                "the frame is larger than long_connection.frame_bytes".into(),
            )),
            Some(Err(Error::Utf8(_))) => {
                Err(Closing::Because(CloseCode::Invalid, "the text is not UTF-8".into()))
            }
            Some(Err(Error::Protocol(error))) => {
                Err(Closing::Because(CloseCode::Protocol, error.to_string().into()))
            }
            Some(Err(_)) | None => Err(Closing::Gone),
        }
    }

    /// Sends an answer, packed if that is worth it.
    pub(super) async fn send(&mut self, message: Bytes) -> Result<(), Closing> {
        let message = if self.packs { packed(&message) } else { message };
        self.send_as_it_is(message).await
    }

    /// Sends a message that is packed already if it is to be.
    pub(super) async fn send_as_it_is(&mut self, mut message: Bytes) -> Result<(), Closing> {
        let mut kind = match self.kind {
            Kind::Text => Data::Text,
            Kind::Binary => Data::Binary,
        };
        let sending = async {
            loop {
                let piece = message.split_to(message.len().min(PIECE_BYTES));
                let is_last = message.is_empty();
                let frame = Frame::message(piece, OpCode::Data(kind), is_last);
                self.stream.send(Message::Frame(frame)).await?;
                if is_last {
                    return Ok::<_, Error>(());
                }
                kind = Data::Continue;
            }
        };
        match timeout(self.write_timeout, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Closing::Gone),
            Err(_) => Err(Closing::Slow),
        }
    }

    /// Says goodbye and closes the socket. Whoever does not listen is not waited for long.
    pub(super) async fn close(mut self, why: Closing) {
        let (code, reason) = match why {
            Closing::Gone => return,
            Closing::Slow => (CloseCode::Again, "too slow, pull what was missed".into()),
            Closing::Because(code, reason) => (code, reason),
        };
        let goodbye = async {
            let reason = shortened(&reason).to_owned();
            self.stream.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await.ok()?;
            // Closing a socket with unread bytes makes the system send a reset, which can overtake the goodbye.
            let socket = self.stream.get_mut();
            socket.shutdown().await.ok()?;
            let mut ignored = [0; 1024];
            while socket.read(&mut ignored).await.ok()? > 0 {}
            Some(())
        };
        // Whoever has gone or does not listen needs no goodbye.
        let _ = timeout(LINGER, goodbye).await;
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
