//! From a socket to a request: accepting, TLS, HTTP/1.1, and what is wrong below the API.
//!
//! A request that is wrong below the API is answered with a status and the connection is closed: 400 (not
//! HTTP), 408 (too slow), 413 (body too large, see [`body`]) or 431 (head too large). Nobody holds a
//! connection for ever: a head, a body, a pause between requests and an answer that is not read each have
//! their time.

pub mod body;
mod connection;
mod handover;
mod pace;
mod tls;

pub use handover::{Duplex, Handover, Takeover};
pub use pace::PacedBody;
pub use tls::{Tls, TlsError};

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use hyper::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use crate::config::Http;

/// What answers the requests of all connections. Clones stand for the same, one for each request.
///
/// A tower service would need its future and both bodies in boxes, which the commands can do without.
///
/// An answer 101 with a [`Takeover`] among its extensions ends HTTP on its connection: what the takeover says goes on
/// over the socket.
pub trait Responder: Clone + Send + Sync + 'static {
    /// The body of an answer.
    type Body: HttpBody<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static;

    /// Answers a request that came from `peer`.
    fn respond(
        self,
        request: Request<PacedBody>,
        peer: Peer,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// Handlers find the [`Peer`] among the extensions of the request.
impl Responder for Router {
    type Body = Body;

    async fn respond(mut self, mut request: Request<PacedBody>, peer: Peer) -> Response<Body> {
        request.extensions_mut().insert(peer);
        self.call(request).await.unwrap_or_else(|never: Infallible| match never {})
    }
}

/// The address that the connection of a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A socket that listens; nobody is accepted before [`Listener::serve`].
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    http: Http,
    tls: Option<Tls>,
    connections: Connections,
}

/// How many connections a listener has.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<AtomicUsize>);

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut because their requests took longer than `http.drain_timeout_ms`.
    pub cut: usize,
}

/// Why a server cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct ListenError {
    /// Where it was to listen.
    pub address: SocketAddr,
    /// What the system says. Its kind is `AddrInUse` when another program has the port.
    pub source: io::Error,
}

impl Listener {
    /// Takes the port. Port 0 takes one that is free.
    pub async fn bind(address: SocketAddr, http: &Http, tls: Option<Tls>) -> Result<Self, ListenError> {
        let refused = |source| ListenError { address, source };
        let socket = TcpListener::bind(address).await.map_err(refused)?;
        let address = socket.local_addr().map_err(refused)?;
        Ok(Self { socket, address, http: *http, tls, connections: Connections::default() })
    }

    /// Where it listens, with the port that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// A handle that counts the connections while they are served.
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Has `responder` answer requests until `stop` is cancelled. Then nobody is accepted any more, connections
    /// without a request are closed, and running requests are finished, though not longer than
    /// `http.drain_timeout_ms`.
    pub async fn serve(self, responder: impl Responder, stop: CancellationToken) -> Drained {
        let Self { socket, http, tls, connections, .. } = self;
        let mut running = JoinSet::new();
        let free = Arc::new(Semaphore::new(http.max_connections));
        let end = Arc::new(End::default());
        accept_until(&stop, &socket, &free, |socket, peer, permit| {
            let (responder, tls, end) = (responder.clone(), tls.clone(), Arc::clone(&end));
            let counted = connections.count();
            running.spawn(async move {
                connection::serve(socket, Peer(peer), responder, &http, tls, &end).await;
                drop((permit, counted));
            });
            // What has ended is forgotten here, so that the set stays as small as the number of connections.
            while running.try_join_next().is_some() {}
        })
        .await;
        drop(socket);
        end.begin();

        let finish = async { while running.join_next().await.is_some() {} };
        let cut = match tokio::time::timeout(http.drain_timeout, finish).await {
            Ok(()) => 0,
            Err(_) => running.len(),
        };
        if cut > 0 {
            tracing::warn!(connections = cut, "requests took longer than http.drain_timeout_ms and were cut");
        }
        running.shutdown().await;
        Drained { cut }
    }
}

/// The end of serving, as connections learn of it.
///
/// The flag says the same as the bell, but a look at the bell takes a lock that all connections share. So each
/// connection goes to the bell once, to be woken, and to the flag whenever it is awake.
#[derive(Debug, Default)]
struct End {
    has_begun: AtomicBool,
    bell: CancellationToken,
}

impl End {
    fn begin(&self) {
        self.has_begun.store(true, Ordering::Release);
        self.bell.cancel();
    }

    fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }
}

impl Connections {
    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn count(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }
}

/// One connection, counted until it is dropped, which a panic or a cut does too.
struct Counted(Connections);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where connections come from: a socket or, in a test, something that fails.
trait Accept: Sync {
    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send;
}

impl Accept for TcpListener {
    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send {
        TcpListener::accept(self)
    }
}

async fn accept_until(
    stop: &CancellationToken,
    source: &impl Accept,
    free: &Arc<Semaphore>,
    mut accepted: impl FnMut(TcpStream, SocketAddr, OwnedSemaphorePermit),
) {
    let mut pause = SHORTEST_PAUSE;
    loop {
        // The permit comes first: a connection beyond the limit waits in the backlog of the system.
        let next = async {
            let permit = Arc::clone(free).acquire_owned().await;
            (permit.expect("the semaphore is never closed"), source.accept().await)
        };
        let (permit, result) = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            next = next => next,
        };
        match result {
            Ok((socket, peer)) => {
                pause = SHORTEST_PAUSE;
                accepted(socket, peer, permit);
            }
            // This one connection has failed; the next is another matter.
            Err(error) if concerns_one_connection(&error) => {}
            // Descriptors or memory have run out, say. Asking again at once would only burn time.
            Err(error) => {
                tracing::warn!(%error, pause_ms = pause.as_millis(), "cannot accept connections");
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;

    /// Fails as it is told, one error a call, then hands out a connection each time.
    struct Failing {
        errors: Mutex<Vec<io::Error>>,
        calls: Mutex<Vec<Instant>>,
        socket: TcpListener,
    }

    impl Accept for Failing {
        async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
            self.calls.lock().unwrap().push(Instant::now());
            let error = self.errors.lock().unwrap().pop();
            match error {
                Some(error) => Err(error),
                None => self.socket.accept().await,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn accepting_pauses_when_it_fails_and_goes_on_afterwards() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(socket.local_addr().unwrap()).await.unwrap();
        // 24 is EMFILE. Errors are taken from the end.
        let mut errors: Vec<_> = (0..9).map(|_| io::Error::from_raw_os_error(24)).collect();
        errors.insert(5, io::ErrorKind::ConnectionAborted.into());
        let source = Failing { errors: Mutex::new(errors), calls: Mutex::default(), socket };
        let free = Arc::new(Semaphore::new(1));

        let stop = CancellationToken::new();
        let mut accepted = 0;
        accept_until(&stop, &source, &free, |_, _, _| {
            accepted += 1;
            stop.cancel();
        })
        .await;

        assert_eq!((accepted, free.available_permits()), (1, 1));
        let calls = source.calls.lock().unwrap();
        let pauses: Vec<_> = calls.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 0, 160, 320, 640, 1000, 1000]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_does_not_delay_the_end() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let errors = (0..1000).map(|_| io::Error::from_raw_os_error(24)).collect();
        let source = Failing { errors: Mutex::new(errors), calls: Mutex::default(), socket };
        let free = Arc::new(Semaphore::new(1));
        let stop = CancellationToken::new();
        let begun = Instant::now();
        let later = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            stop.cancel();
        };
        tokio::join!(accept_until(&stop, &source, &free, |_, _, _| {}), later);
        assert_eq!(begun.elapsed().as_millis(), 5);
    }
}
