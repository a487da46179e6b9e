//! A receiver that answers as a script says. It speaks HTTP by hand, so that it can speak it wrongly.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::tasks::Tasks;

/// What a request is answered with.
#[derive(Clone, Debug)]
pub(in crate::webhooks) enum Reply {
    /// 200 and this body.
    With(String),
    /// The documented answer.
    Ok,
    /// This status, with an empty object.
    Status(u16),
    /// 302 to this address.
    Redirect(String),
    /// Nothing, for ever.
    Hang,
    /// A part of an answer, and the end.
    CloseHalfway,
    /// 200 and as many bytes of JSON.
    Long(usize),
    /// A byte of an answer from time to time.
    Drip,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(in crate::webhooks) struct Got {
    /// Path and query.
    pub(in crate::webhooks) target: String,
    pub(in crate::webhooks) headers: HashMap<String, String>,
    pub(in crate::webhooks) body: Value,
    /// Whether it was answered as it should be.
    pub(in crate::webhooks) accepted: bool,
}

impl Got {
    pub(in crate::webhooks) fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, it)| it)
    }
}

type Rule = dyn Fn(&Got, usize) -> Reply + Send + Sync;

/// The receiver. It listens until it is dropped.
pub(in crate::webhooks) struct Script {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    connections: Arc<Mutex<usize>>,
    _tasks: Tasks,
}

impl Script {
    /// Answers by a rule that is told the request and how many came before.
    pub(in crate::webhooks) async fn new(
        rule: impl Fn(&Got, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen(None, rule).await
    }

    /// Answers everybody over TLS who believes it to be who it says.
    pub(super) async fn over_tls(tls: TlsAcceptor) -> Self {
        Self::listen(Some(tls), |_, _| Reply::Ok).await
    }

    async fn listen(
        tls: Option<TlsAcceptor>,
        rule: impl Fn(&Got, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let got = Arc::<Mutex<Vec<Got>>>::default();
        let connections = Arc::<Mutex<usize>>::default();
        let (tasks, rule): (_, Arc<Rule>) = (Tasks::new(), Arc::new(rule));
        tasks
            .spawn("receiver", {
                let (tasks, got, connections) = (tasks.clone(), Arc::clone(&got), Arc::clone(&connections));
                move |_| async move {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        *connections.lock().unwrap() += 1;
                        let (got, rule, tls) = (Arc::clone(&got), Arc::clone(&rule), tls.clone());
                        let serve = |_| async move {
                            // A caller that goes away is none of its business.
                            let _ = match tls {
                                None => serve(stream, &got, &*rule).await,
                                Some(tls) => match tls.accept(stream).await {
                                    Ok(stream) => serve(stream, &got, &*rule).await,
                                    Err(error) => Err(error),
                                },
                            };
                        };
                        if tasks.spawn("caller", serve).is_err() {
                            return;
                        }
                    }
                }
            })
            .unwrap();
        Self { address, got, connections, _tasks: tasks }
    }

    pub(in crate::webhooks) async fn ok() -> Self {
        Self::new(|_, _| Reply::Ok).await
    }

    pub(in crate::webhooks) fn url(&self) -> String {
        format!("http://{}/cb?x=1", self.address)
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(in crate::webhooks) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    pub(in crate::webhooks) fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    got: &Mutex<Vec<Got>>,
    rule: &Rule,
) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let Some(mut request) = read(&mut stream, &mut bytes).await? else { return Ok(()) };
        let reply = {
            let mut got = got.lock().unwrap();
            let reply = rule(&request, got.len());
            request.accepted = matches!(reply, Reply::Ok | Reply::With(_));
            got.push(request);
            reply
        };
        let head = |length: usize| {
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n")
        };
        match reply {
            Reply::Ok => {
                let body = r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}"#;
                stream.write_all(format!("{}{body}", head(body.len())).as_bytes()).await?;
            }
            Reply::With(body) => {
                stream.write_all(format!("{}{body}", head(body.len())).as_bytes()).await?;
            }
            Reply::Status(status) => {
                stream
                    .write_all(format!("HTTP/1.1 {status} Odd\r\nContent-Length: 2\r\n\r\n{{}}").as_bytes())
                    .await?;
            }
            Reply::Redirect(to) => {
                let redirect = format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(redirect.as_bytes()).await?;
            }
            Reply::Hang => std::future::pending().await,
            Reply::CloseHalfway => {
                stream.write_all(format!("{}{{\"Action", head(50)).as_bytes()).await?;
                return stream.shutdown().await;
            }
            Reply::Long(length) => {
                stream.write_all(format!("{}\"", head(length)).as_bytes()).await?;
                for _ in 0..length / 1024 {
                    stream.write_all(&[b'x'; 1024]).await?;
                }
            }
            Reply::Drip => {
                for byte in head(50).bytes() {
                    stream.write_all(&[byte]).await?;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
}

/// The next request of a connection; `None` at its end.
async fn read(stream: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> std::io::Result<Option<Got>> {
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(bytes).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let target = lines.next().and_then(|line| line.strip_prefix("POST ")?.strip_suffix(" HTTP/1.1")).unwrap();
    let target = target.to_owned();
    let headers: HashMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers["content-length"].parse().unwrap();
    bytes.drain(..end + 4);
    while bytes.len() < length {
        if stream.read_buf(bytes).await? == 0 {
            return Ok(None);
        }
    }
    let body = bytes.drain(..length).collect::<Vec<_>>();
    let body = serde_json::from_slice(&body).expect("a webhook sends JSON");
    Ok(Some(Got { target, headers, body, accepted: false }))
}
