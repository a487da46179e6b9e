//! A server with a few routes, and a client that says exactly what it is told to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use sidenote_server::config::{Config, Http};
use sidenote_server::listener::{Connections, Drained, Listener, Peer, Tls, body};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The `[http]` section as a user would write it.
pub(crate) fn http(section: &str) -> Http {
    let text = format!("[[apps]]\nsdk_app_id = 1\nsecret_key = \"x\"\n[http]\n{section}\n");
    Config::from_toml(&text).unwrap().http
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Connections,
    pub(crate) stop: CancellationToken,
    pub(crate) calls: Arc<AtomicUsize>,
    /// `/wait` announces itself in the first and answers once there is a permit in the second.
    pub(crate) waiting: Arc<Semaphore>,
    pub(crate) release: Arc<Semaphore>,
    serving: JoinHandle<Drained>,
}

impl Server {
    pub(crate) async fn start(section: &str, tls: Option<Tls>) -> Self {
        let http = http(section);
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &http, tls).await.unwrap();
        let (waiting, release) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let calls = Arc::new(AtomicUsize::new(0));
        let (address, connections) = (listener.local_addr(), listener.connections());
        let stop = CancellationToken::new();
        let router = router(http, &calls, &waiting, &release);
        let serving = tokio::runtime::Handle::current().spawn(listener.serve(router, stop.clone()));
        Self { address, connections, stop, calls, waiting, release, serving }
    }

    pub(crate) async fn connect(&self) -> Client<TcpStream> {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// What the server says to `bytes` until it closes the connection, on a connection of its own.
    pub(crate) async fn says_to(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.connect().await;
        client.send(bytes).await;
        client.rest().await
    }

    /// The server still answers an ordinary request.
    pub(crate) async fn is_alive(&self) {
        let answer = self.says_to("GET /hello HTTP/1.1\r\nconnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nhello"), "{answer}");
    }

    pub(crate) async fn ended(self) -> Drained {
        self.serving.await.unwrap()
    }
}

fn router(
    http: Http,
    calls: &Arc<AtomicUsize>,
    waiting: &Arc<Semaphore>,
    release: &Arc<Semaphore>,
) -> Router {
    let (calls, waiting, release) = (Arc::clone(calls), Arc::clone(waiting), Arc::clone(release));
    let count = move || {
        calls.fetch_add(1, Ordering::SeqCst);
        std::future::ready("hello")
    };
    let wait = move || async move {
        waiting.add_permits(1);
        release.acquire().await.unwrap().forget();
        "done"
    };
    let echo = move |request: Request| async move {
        match body::read(request.into_body(), &http).await {
            Ok(bytes) => Response::new(Body::from(bytes)),
            Err(refused) => refused.into_response(),
        }
    };
    Router::new()
        .route("/hello", get(count))
        .route("/wait", get(wait))
        .route("/peer", get(|Extension(Peer(peer)): Extension<Peer>| std::future::ready(peer.to_string())))
        .route("/echo", any(echo))
        .route("/deaf", any(|| std::future::ready("no")))
        .route("/large", get(|| std::future::ready(vec![b'x'; 64 * 1024 * 1024])))
}

pub(crate) struct Client<S>(pub(crate) S);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next answer, which has a content-length; the connection stays open.
    pub(crate) async fn answer(&mut self) -> String {
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(self.0.read_u8().await.unwrap());
        }
        let head = String::from_utf8(answer).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).await.unwrap();
        head + &String::from_utf8(body).unwrap()
    }

    /// Everything until the server closes the connection, which it must do cleanly.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).await.unwrap();
        String::from_utf8(rest).unwrap()
    }
}
