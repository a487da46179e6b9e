//! A client on the long connection, as small as one can be: it reads what comes in order and keeps nothing.

use std::collections::VecDeque;
use std::io;
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use sidenote_server::auth::user_sig;
use sidenote_server::clock::{Clock as _, SystemClock};
use sidenote_server::config::Secret;
use tungstenite::protocol::WebSocket;
use tungstenite::{Error, Message};

use crate::server::{APP, PATIENCE, key_of};

/// The commands that tests use most.
pub mod command {
    /// Logs in.
    pub const LOGIN: &str = "im_open_status.wslogin";
    /// Logs out.
    pub const LOGOUT: &str = "im_open_status.wslogout";
    /// A sign of life.
    pub const ALIVE: &str = "heartbeat.alive";
    /// Sends a message to a group.
    pub const SEND: &str = "group_open_http_svc.send_group_msg";
    /// Changes pairs.
    pub const SET: &str = "openim_msg_ext_http_svc.group_set_key_values";
    /// Reads pairs.
    pub const PULL: &str = "openim_msg_ext_http_svc.group_get_key_values";
    /// Sends a message to one account.
    pub const DIRECT_SEND: &str = "openim.sendmsg";
    /// Changes pairs of such a message.
    pub const DIRECT_SET: &str = "openim_msg_ext_http_svc.set_key_values";
    /// Reads pairs of such a message.
    pub const DIRECT_PULL: &str = "openim_msg_ext_http_svc.get_key_values";
    /// Acknowledges a push.
    pub const ACKNOWLEDGE: &str = "openim.ws_msg_push_ack";
}

/// One connection.
pub struct LongClient {
    socket: WebSocket<TcpStream>,
    binary: bool,
    last_seq: u64,
    /// Acknowledges pushes as they come.
    pub acknowledges: bool,
    /// What a login answered.
    a2: Option<(String, String)>,
    pushes: VecDeque<Value>,
    /// How many messages came packed.
    pub packed: usize,
}

/// How the server closed a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The code of the close frame; 1006 if there was none.
    pub code: u16,
    /// Its text.
    pub reason: String,
}

impl LongClient {
    /// Connects to a path such as `/info`, with whatever query.
    pub fn connect(server: SocketAddr, path: &str) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let (socket, _) = tungstenite::client(format!("ws://{server}{path}"), stream).unwrap();
        let binary = path.split('?').next().unwrap().ends_with("/binfo");
        Self {
            socket,
            binary,
            last_seq: 4000,
            acknowledges: true,
            a2: None,
            pushes: VecDeque::new(),
            packed: 0,
        }
    }

    /// Connects to the test app with text frames.
    pub fn open(server: SocketAddr) -> Self {
        Self::connect(server, &format!("/info?sdkappid={APP}"))
    }

    /// Connects and logs in.
    pub fn logged_in(server: SocketAddr, user: &str) -> Self {
        let mut client = Self::open(server);
        client.log_in(user);
        client
    }

    /// Logs in with a ticket that is valid for an hour, which must succeed.
    pub fn log_in(&mut self, user: &str) -> Value {
        let answer = self.log_in_with(user, &ticket(user, 0));
        assert_eq!(answer["ErrorCode"], 0, "{answer}");
        self.a2 = Some((text(&answer["A2Key"]), text(&answer["TinyId"])));
        answer
    }

    /// Logs in with any ticket.
    pub fn log_in_with(&mut self, user: &str, ticket: &str) -> Value {
        let head = json!({"identifier": user, "usersig": ticket});
        self.call_with(&head, command::LOGIN, &json!({"State": "Online"}))
    }

    /// Logs in with the token of an earlier login.
    pub fn log_in_again(&mut self, a2: &str, tiny_id: &str) -> Value {
        let head = json!({"a2": a2, "tinyid": tiny_id});
        let answer = self.call_with(&head, command::LOGIN, &json!({"State": "Online"}));
        if answer["ErrorCode"] == 0 {
            self.a2 = Some((text(&answer["A2Key"]), text(&answer["TinyId"])));
        }
        answer
    }

    /// Token and number of the login.
    pub fn a2(&self) -> (String, String) {
        self.a2.clone().expect("it is logged in")
    }

    /// Sends a request; the body of its answer.
    pub fn call(&mut self, command: &str, body: &Value) -> Value {
        self.call_with(&json!({}), command, body)
    }

    /// The same for one that must succeed.
    pub fn ok(&mut self, command: &str, body: &Value) -> Value {
        let answer = self.call(command, body);
        assert_eq!(answer["ErrorCode"], 0, "{command} {body}: {answer}");
        answer
    }

    fn call_with(&mut self, head: &Value, command: &str, body: &Value) -> Value {
        let seq = self.send_with(head, command, body);
        self.answer_to(command, seq)
    }

    /// Sends a request without waiting for its answer; its number.
    pub fn send(&mut self, command: &str, body: &Value) -> u64 {
        self.send_with(&json!({}), command, body)
    }

    fn send_with(&mut self, more: &Value, command: &str, body: &Value) -> u64 {
        self.last_seq += 1;
        let mut head = json!({"ver": "v4", "platform": 7, "servcmd": command, "seq": self.last_seq});
        for (name, value) in more.as_object().unwrap() {
            head[name] = value.clone();
        }
        self.send_text(&json!({"head": head, "body": body}).to_string());
        self.last_seq
    }

    /// Sends any text in the frames of this connection.
    pub fn send_text(&mut self, text: &str) {
        let message =
            if self.binary { Message::binary(text.to_owned().into_bytes()) } else { Message::text(text) };
        self.try_send(message).unwrap();
    }

    /// Sends any message, where the server may have closed the connection.
    pub fn try_send(&mut self, message: Message) -> Result<(), Error> {
        self.socket.send(message)
    }

    /// Waits for the answer to a request. Pushes that come before it are kept.
    pub fn answer_to(&mut self, command: &str, seq: u64) -> Value {
        loop {
            let mut frame = self.frame().unwrap_or_else(|closed| panic!("{command}: {closed:?}"));
            if frame["head"]["servcmd"] == command && frame["head"]["seq"] == seq {
                return frame["body"].take();
            }
            self.keep(frame);
        }
    }

    /// The next push that was not looked at yet: its one event.
    pub fn event(&mut self) -> Value {
        loop {
            if let Some(event) = self.pushes.pop_front() {
                return event;
            }
            let frame = self.frame().unwrap_or_else(|closed| panic!("waiting for a push: {closed:?}"));
            self.keep(frame);
        }
    }

    /// All events that were pushed before the server answered a heartbeat.
    pub fn events(&mut self) -> Vec<Value> {
        self.ok(command::ALIVE, &json!({}));
        self.pushes.drain(..).collect()
    }

    fn keep(&mut self, mut frame: Value) {
        assert_eq!(frame["head"]["servcmd"], "im_open_push.msg_push", "{frame}");
        if self.acknowledges && frame["body"]["NeedAck"] == 1 {
            let data = json!({"SessionData": frame["body"]["SessionData"]});
            self.send(command::ACKNOWLEDGE, &data);
        }
        let events = frame["body"]["EventArray"].as_array_mut().unwrap();
        assert_eq!(events.len(), 1);
        self.pushes.push_back(events[0].take());
    }

    /// The next frame, or how the server closed the connection.
    pub fn frame(&mut self) -> Result<Value, Closed> {
        let mut goodbye = Closed { code: 1006, reason: String::new() };
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    assert!(!self.binary, "a text frame on a binary connection");
                    return Ok(serde_json::from_str(&text).unwrap());
                }
                Ok(Message::Binary(bytes)) => {
                    assert!(self.binary, "a binary frame on a text connection");
                    return Ok(serde_json::from_slice(&self.unpacked(&bytes)).unwrap());
                }
                Ok(Message::Close(frame)) => {
                    let frame = frame.expect("the server says why");
                    goodbye = Closed { code: frame.code.into(), reason: frame.reason.to_string() };
                }
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => panic!("nothing comes"),
                Err(_) => return Err(goodbye),
            }
        }
    }

    /// Waits for the end of the connection, whatever comes before it.
    pub fn closed(&mut self) -> Closed {
        loop {
            if let Err(closed) = self.frame() {
                return closed;
            }
        }
    }

    fn unpacked(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some(gzip) = bytes.strip_prefix(b"COMP") else { return bytes.to_vec() };
        self.packed += 1;
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(gzip).read_to_end(&mut unpacked).unwrap();
        unpacked
    }
}

/// A ticket of the test app that was made `age` seconds ago for one hour.
pub fn ticket(user: &str, age: u64) -> String {
    let key = Secret::new(key_of(APP)).unwrap();
    user_sig::sign(APP, &key, user, SystemClock.now_millis() / 1000 - age, 3600, None)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}
