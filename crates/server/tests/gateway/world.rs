//! A server over a volatile store with a clock that stands still, and a client that sends exactly what it is told.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use sidenote_server::auth::user_sig;
use sidenote_server::clock::TestClock;
use sidenote_server::config::{Config, Secret};
use sidenote_server::{Server, rule_limits};
use sidenote_store::Store;
use sidenote_store::memory::MemoryStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const APP: u32 = 1_400_000_001;
pub(crate) const OTHER_APP: u32 = 1_400_000_002;
pub(crate) const KEY: &str = "the key of the first app";
pub(crate) const OTHER_KEY: &str = "the key of the second app";
/// When the clock stands still, Unix seconds.
pub(crate) const NOW: u64 = 1_700_000_000;

pub(crate) struct World {
    server: Option<Server>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) address: SocketAddr,
}

/// A status line, headers and a body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {} {}", self.head, self.body))
    }

    pub(crate) fn code(&self) -> u64 {
        assert_eq!(self.status, 200, "{} {}", self.head, self.body);
        let json = self.json();
        let code = json["ErrorCode"].as_u64().expect("every answer has a code");
        assert_eq!(json["ActionStatus"], if code == 0 { "OK" } else { "FAIL" });
        assert!(json["ErrorInfo"].is_string());
        if code != 0 {
            assert_eq!(json.as_object().unwrap().len(), 3, "a failure has no member of its command: {json}");
            assert_ne!(json["ErrorInfo"], "", "a failure says something");
        }
        code
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with("").await
    }

    /// With more lines of configuration.
    pub(crate) async fn with(more: &str) -> Self {
        let config = format!(
            "listen = \"127.0.0.1:0\"\n{more}\n\
             [[apps]]\nsdk_app_id = {APP}\nsecret_key = \"{KEY}\"\nprevious_secret_keys = [\"older\"]\n\
             admins = [\"administrator\", \"second\"]\n\
             [[apps]]\nsdk_app_id = {OTHER_APP}\nsecret_key = \"{OTHER_KEY}\"\n"
        );
        let config = Config::from_toml(&config).unwrap();
        let store = Arc::new(MemoryStore::new(rule_limits(&config)));
        let clock = Arc::new(TestClock::at(NOW * 1000));
        let server =
            Server::start(&config, Arc::clone(&store) as Arc<dyn Store>, clock.clone()).await.unwrap();
        let address = server.local_addr();
        Self { server: Some(server), store, clock, address }
    }

    /// Around a server that was started elsewhere.
    pub(crate) fn around(server: Server, store: Arc<MemoryStore>, clock: Arc<TestClock>) -> Self {
        let address = server.local_addr();
        Self { server: Some(server), store, clock, address }
    }

    pub(crate) async fn stop(mut self) {
        self.server.take().expect("stopped once").stop().await;
    }

    /// Sends bytes and reads until the server closes the connection.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Answer {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        // The server may close while a large request is still being sent.
        let _ = socket.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub(crate) async fn request(&self, method: &str, target: &str, headers: &str, body: &[u8]) -> Answer {
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        self.raw(&[head.as_bytes(), body].concat()).await
    }

    /// A signed call.
    pub(crate) async fn call(&self, user: &str, command: &str, body: impl AsRef<[u8]>) -> Answer {
        self.request("POST", &target(user, command), "", body.as_ref()).await
    }

    /// A call by the administrator that must succeed.
    pub(crate) async fn ok(&self, command: &str, body: &str) -> Value {
        let answer = self.call("administrator", command, body).await;
        assert_eq!(answer.code(), 0, "{command} {body}: {}", answer.body);
        answer.json()
    }
}

/// Path and query of a signed call.
pub(crate) fn target(user: &str, command: &str) -> String {
    let sig = signature(KEY, APP, user);
    format!("/v4/{command}?sdkappid={APP}&identifier={user}&usersig={sig}&random=99999999&contenttype=json")
}

/// Signed at the time of the standing clock, for a day.
pub(crate) fn signature(key: &str, app: u32, user: &str) -> String {
    user_sig::sign(app, &Secret::new(key.to_owned()).unwrap(), user, NOW, 86_400, None)
}
