//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::handover::{Handover, Takeover};
use super::pace::{Pace, PacedIo};
use super::{End, Peer, Responder, Tls};
use crate::config::Http;

/// Longest head of a request in bytes; more is answered with 431, and so are more than 100 header lines,
/// which is hyper's own limit. A ticket may take 2 KiB of it.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// How long a client is listened to after it was refused. Closing a socket with unread bytes makes the system
/// send a reset, which can overtake the answer.
const LINGER: Duration = Duration::from_secs(1);

/// Serves what comes over the socket until it is done with, by either side.
pub(super) async fn serve(
    socket: TcpStream,
    peer: Peer,
    responder: impl Responder,
    http: &Http,
    tls: Option<Tls>,
    end: &End,
) {
    // An answer is one small write; waiting for more of it would only delay it. Where the system refuses,
    // answers are late and still right.
    let _ = socket.set_nodelay(true);
    // What serves HTTP is in a box, so that a connection which has gone over to something else does not carry its weight.
    let gone_over = match tls {
        None => Box::pin(serve_http(socket, peer, responder, http, end)).await,
        Some(tls) => Box::pin(serve_tls(socket, peer, responder, http, &tls, end)).await,
    };
    if let Some((takeover, handover)) = gone_over {
        takeover.run(handover).await;
    }
}

/// Serves HTTP over TLS.
async fn serve_tls(
    socket: TcpStream,
    peer: Peer,
    responder: impl Responder,
    http: &Http,
    tls: &Tls,
    end: &End,
) -> Option<(Takeover, Handover)> {
    let handshake = timeout(http.header_timeout, tls.acceptor().accept(socket));
    let result = tokio::select! {
        biased;
        () = end.bell.cancelled() => return None,
        result = handshake => result,
    };
    match result {
        Ok(Ok(socket)) => Box::pin(serve_http(socket, peer, responder, http, end)).await,
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "TLS handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!(%peer, "TLS handshake took too long");
            None
        }
    }
}

/// How hyper's part of a connection ended.
enum Outcome {
    Finished(hyper::Result<()>),
    TooLate,
}

/// Serves HTTP to its end, which may be that something else goes on over the socket.
async fn serve_http<S>(
    socket: S,
    peer: Peer,
    responder: impl Responder,
    http: &Http,
    end: &End,
) -> Option<(Takeover, Handover)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let pace = Pace::new(http);
    let service = service_fn({
        let pace = pace.clone();
        move |request: Request<Incoming>| {
            let request = request.map(|body| pace.request_begins(body));
            let (responder, pace) = (responder.clone(), pace.clone());
            async move {
                let mut answer = responder.respond(request, peer).await;
                if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                    pace.goes_over(answer.extensions_mut().remove::<Takeover>());
                }
                pace.request_ends();
                Ok::<_, Infallible>(answer)
            }
        }
    });
    let mut connection = http1::Builder::new()
        // A client that has said all it has to say may close its half and still wants the answer.
        .half_close(true)
        .max_header_size(MAX_HEAD_BYTES)
        // The deadlines below take its place.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(PacedIo::new(socket, pace.clone())), service);

    let mut alarm = pin!(sleep_until(Instant::now() + http.header_timeout));
    let mut bell = pin!(end.bell.cancelled());
    let (mut hears_the_bell, mut draining, mut alarm_is_set) = (false, false, false);
    let outcome = poll_fn(|cx| {
        if let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(Outcome::Finished(result));
        }
        // After the poll above, so that a request which has arrived already is served and not cut off.
        let is_news = !hears_the_bell || (end.has_begun() && !draining);
        hears_the_bell = true;
        if is_news && bell.as_mut().poll(cx).is_ready() {
            draining = true;
            Pin::new(&mut connection).graceful_shutdown();
            if let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(Outcome::Finished(result));
            }
        }
        // The alarm is moved only when it would ring too late. While requests come and go the deadline only
        // moves away, and an alarm that rings too early is set again: a request costs no timer.
        while let Some(deadline) = pace.deadline() {
            if deadline < alarm.deadline() || alarm.is_elapsed() {
                alarm.as_mut().reset(deadline);
                alarm_is_set = false;
            }
            // A poll that finds it pending has asked for the wake-up, once for as long as it is not moved.
            alarm_is_set = alarm_is_set || alarm.as_mut().poll(cx).is_pending();
            if alarm_is_set {
                break;
            }
            if deadline <= Instant::now() {
                return Poll::Ready(Outcome::TooLate);
            }
        }
        Poll::Pending
    })
    .await;

    let refusal = match &outcome {
        Outcome::TooLate if pace.owes_an_answer() => Some(REQUEST_TIMEOUT),
        // hyper answers most of what is not HTTP by itself, but not the greeting of HTTP/2 nor half a head.
        Outcome::Finished(Err(error))
            if pace.owes_an_answer() && (error.is_parse() || error.is_incomplete_message()) =>
        {
            Some(BAD_REQUEST)
        }
        _ => None,
    };
    if let Outcome::Finished(Err(error)) = &outcome {
        tracing::debug!(%peer, %error, "connection failed");
    }
    // hyper is told nothing of upgrades: it finishes after an answer 101 and gives the socket back.
    let parts = connection.into_parts();
    let mut socket = parts.io.into_inner().into_socket();
    if let (Outcome::Finished(Ok(())), Some(takeover)) = (&outcome, pace.takeover()) {
        let handover = Handover { socket: Box::new(socket), first: parts.read_buf, stop: end.bell.clone() };
        return Some((takeover, handover));
    }
    if refusal.is_some() || pace.leaves_bytes_unread() {
        let goodbye = async {
            if let Some(answer) = refusal {
                socket.write_all(answer).await?;
            }
            socket.shutdown().await?;
            // On the heap: in here every connection would keep room for it from its beginning.
            let mut ignored = vec![0; 4096];
            while socket.read(&mut ignored).await? > 0 {}
            std::io::Result::Ok(())
        };
        // Whoever does not listen or has gone needs no goodbye.
        let _ = timeout(LINGER, goodbye).await;
    }
    None
}

const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const BAD_REQUEST: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
