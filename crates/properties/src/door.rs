//! A whole server over a volatile store, and its only client, on one thread: the same bytes take the same way.

use std::cell::RefCell;
use std::sync::Arc;

use sidenote_server::clock::TestClock;
use sidenote_server::config::Config;
use sidenote_server::{Server, rule_limits};
use sidenote_store::Store;
use sidenote_store::memory::MemoryStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

/// The app of the published vectors (usersig.md section 5), its key, and the second they were signed in.
pub(crate) const APP: u32 = 1_400_000_001;
pub(crate) const KEY: &str = "a1b2c3d4e5f60718293a4b5c6d7e8f900112233445566778899aabbccddeeff0";
pub(crate) const NOW: u64 = 1_700_000_000;
pub(crate) const ADMINISTRATOR: &str = "administrator";
/// Has an account and is a member of [`GROUP`].
pub(crate) const MEMBER: &str = "alice";

/// Group and message of the published requests. The message may carry pairs.
pub(crate) const GROUP: &str = "@TGS#1YMVAB3IZ";
pub(crate) const MESSAGE: u64 = 158;

pub(crate) const SET: &str = "openim_msg_ext_http_svc/group_set_key_values";
pub(crate) const PULL: &str = "openim_msg_ext_http_svc/group_get_key_values";

/// A store remembers events of what happened, so a fresh server takes over when this many requests were answered.
const REQUESTS_PER_SERVER: u32 = 20_000;

/// Status and body of an answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The JSON of an answer with status 200, which each of them has.
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.status, 200, "an answer of the API");
        let json: serde_json::Value = serde_json::from_slice(&self.body).expect("every answer is JSON");
        let code = json["ErrorCode"].as_u64().expect("every answer has a code");
        assert_eq!(json["ActionStatus"], if code == 0 { "OK" } else { "FAIL" });
        assert!(
            !matches!(code, 10_002 | 20_004 | 20_005 | 70_500 | 70_016 | 91_000),
            "nobody may cause an internal error: {json}"
        );
        json
    }

    pub(crate) fn code(&self) -> u64 {
        self.json()["ErrorCode"].as_u64().expect("json() has seen it")
    }
}

/// Sends a POST to `/v4/<command>?<query>` and reads the answer. The query must be one that a URL can hold.
pub(crate) fn post(command: &str, query: &str, body: &[u8]) -> Answer {
    DOOR.with_borrow_mut(|door| {
        if door.as_ref().is_some_and(|door| door.answered >= REQUESTS_PER_SERVER) {
            *door = None;
        }
        door.get_or_insert_with(Door::open).post(command, query, body)
    })
}

thread_local! {
    static DOOR: RefCell<Option<Door>> = const { RefCell::new(None) };
}

struct Door {
    runtime: Runtime,
    server: Server,
    connection: Option<TcpStream>,
    answered: u32,
}

impl Door {
    fn open() -> Self {
        let config = format!(
            "listen = \"127.0.0.1:0\"\n[limits]\nattempts_per_minute = 0\n\
             [[apps]]\nsdk_app_id = {APP}\nsecret_key = \"{KEY}\"\n"
        );
        let config = Config::from_toml(&config).expect("the configuration is sound");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a thread can wait");
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(rule_limits(&config)));
        let clock = Arc::new(TestClock::at(NOW * 1000));
        let server = runtime.block_on(Server::start(&config, store, clock)).expect("loopback has free ports");
        let mut door = Self { runtime, server, connection: None, answered: 0 };
        door.furnish();
        door
    }

    fn furnish(&mut self) {
        let query = crate::query::signed(ADMINISTRATOR);
        let mut ok = |command, body: &str| {
            let answer = self.post(command, &query, body.as_bytes());
            assert_eq!(answer.code(), 0, "{command}: {}", answer.json());
        };
        ok("im_open_login_svc/account_import", &format!(r#"{{"UserID":"{MEMBER}"}}"#));
        ok(
            "group_open_http_svc/import_group",
            &format!(r#"{{"GroupId":"{GROUP}","Type":"Public","Name":"g","Owner_Account":"{MEMBER}"}}"#),
        );
        for number in 1..=MESSAGE {
            // Only one message takes pairs, so whatever is changed is changed there.
            let extends = u8::from(number == MESSAGE);
            ok(
                "group_open_http_svc/send_group_msg",
                &format!(
                    r#"{{"GroupId":"{GROUP}","Random":{number},"From_Account":"{MEMBER}","SupportMessageExtension":{extends},
                    "MsgBody":[{{"MsgType":"TIMTextElem","MsgContent":{{"Text":"?"}}}}]}}"#
                ),
            );
        }
    }

    fn post(&mut self, command: &str, query: &str, body: &[u8]) -> Answer {
        let Self { runtime, server, connection, answered } = self;
        *answered += 1;
        let length = body.len();
        let head =
            format!("POST /v4/{command}?{query} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
        runtime.block_on(async {
            let mut socket = match connection.take() {
                Some(socket) => socket,
                None => TcpStream::connect(server.local_addr()).await.expect("the server accepts"),
            };
            socket.write_all(&[head.as_bytes(), body].concat()).await.expect("the server reads");
            let (answer, goes_on) = read(&mut socket).await;
            *connection = goes_on.then_some(socket);
            answer
        })
    }
}

/// Reads one answer, and whether the server keeps the connection.
async fn read(socket: &mut TcpStream) -> (Answer, bool) {
    let mut bytes = Vec::with_capacity(4096);
    let (mut head, mut length) = (None, 0);
    loop {
        if head.is_none()
            && let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n")
        {
            let text = std::str::from_utf8(&bytes[..end]).expect("a head is text").to_ascii_lowercase();
            length = field(&text, "content-length").map_or(0, |text| text.parse().expect("a length"));
            head = Some((text, end + 4));
        }
        if let Some((text, end)) = &head
            && bytes.len() >= end + length
        {
            let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
            let goes_on = field(text, "connection") != Some("close");
            return (Answer { status, body: bytes.split_off(*end) }, goes_on);
        }
        let read = socket.read_buf(&mut bytes).await.expect("the server answers");
        assert!(read > 0, "the server closed the connection without an answer");
    }
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}
