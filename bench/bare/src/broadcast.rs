//! A broadcast over `WebSockets`: what telling everybody costs without rules, logins and acknowledgements.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use tokio::sync::broadcast;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// Messages that may wait for one listener; who is further behind is cut off.
const WAITING: usize = 1024;

/// Bytes that a listener's socket is read in, as in the product: the library's own choice is 128 KiB, which idle
/// connections would be charged for.
const READ_BYTES: usize = 2 * 1024;

/// What everybody is told.
pub(crate) struct News {
    /// The number of the last message. Its lock keeps numbers and messages in one order.
    last: Mutex<u64>,
    listeners: broadcast::Sender<Bytes>,
}

impl News {
    /// Nobody listens yet.
    pub(crate) fn none() -> Arc<Self> {
        Arc::new(Self { last: Mutex::new(0), listeners: broadcast::Sender::new(WAITING) })
    }

    /// Tells a body behind its number in 16 digits, so that a listener sees whether it missed one.
    fn tell(&self, body: &[u8]) -> u64 {
        // Nothing panics while the lock is held, and a number would be sound even then.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last += 1;
        let mut message = format!("{:016}", *last).into_bytes();
        message.extend_from_slice(body);
        // Without listeners there is nobody to tell, which is no fault.
        drop(self.listeners.send(message.into()));
        *last
    }
}

/// Tells the body to all who listen, and answers with its number in the envelope of the product.
pub(crate) async fn publish(State(news): State<Arc<News>>, body: Bytes) -> Response {
    let seq = news.tell(&body);
    let answer = format!(r#"{{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"Seq":{seq}}}"#);
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], answer).into_response()
}

/// Makes a WebSocket of the connection that is told all that is published from now on.
#[expect(
    clippy::disallowed_methods,
    reason = "a listener that panics takes nothing but its connection with it"
)]
pub(crate) async fn listen(State(news): State<Arc<News>>, mut request: Request) -> Response {
    let upgrade = hyper::upgrade::on(&mut request);
    let answer = match create_response_with_body(&request, Body::empty) {
        Ok(answer) => answer,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    // From before the answer, so that whoever has it misses nothing.
    let told = news.listeners.subscribe();
    tokio::spawn(async move {
        if let Ok(socket) = upgrade.await {
            let config = WebSocketConfig::default().read_buffer_size(READ_BYTES).write_buffer_size(0);
            let socket =
                WebSocketStream::from_raw_socket(TokioIo::new(socket), Role::Server, Some(config)).await;
            pass_on(socket, told).await;
        }
    });
    answer
}

/// Until the listener goes or is too slow.
async fn pass_on<S>(mut socket: WebSocketStream<S>, mut told: broadcast::Receiver<Bytes>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        tokio::select! {
            message = told.recv() => {
                let Ok(message) = message else { return };
                if socket.send(Message::Binary(message)).await.is_err() {
                    return;
                }
            }
            heard = socket.next() => {
                if !matches!(heard, Some(Ok(_))) {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_numbered_in_the_order_in_which_they_are_told() {
        let news = News::none();
        let mut told = news.listeners.subscribe();
        assert_eq!((news.tell(b"a"), news.tell(b"b")), (1, 2));
        assert_eq!(told.try_recv().unwrap(), "0000000000000001a");
        assert_eq!(told.try_recv().unwrap(), "0000000000000002b");
    }
}
