//! The stream over a WebSocket.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use sidenote_torture::long::{Closed, ticket};
use tokio::time::Instant;
use tungstenite::protocol::{CloseFrame, WebSocket};
use tungstenite::{Error, Message};

use super::{REMOVE, SET, Stream, ok, scene, send, set};
use crate::server::{ADMINISTRATOR, APP, ConfigOptions, PATIENCE, Running, query};

/// The header lines of a handshake; the key is the one of the RFC.
const HANDSHAKE: &str = "Host: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A reader, as small as one can be.
pub(super) struct Reader(WebSocket<TcpStream>);

impl Reader {
    pub(super) fn open(server: &Running, path: &str) -> Self {
        let url = format!("ws://{}{path}", server.address);
        Self(tungstenite::client(url, server.connect()).unwrap().0)
    }

    /// A reader of the group `g`.
    pub(super) fn of_group(server: &Running, user: &str, after: &str) -> Self {
        let after = if after.is_empty() { String::new() } else { format!("&last_event_id={after}") };
        Self::open(server, &format!("/v1/groups/g/events?{}{after}", query(APP, user)))
    }

    /// The next message, or how the server closed the connection.
    fn next(&mut self) -> Result<Value, Closed> {
        let mut goodbye = Closed { code: 1006, reason: String::new() };
        loop {
            match self.0.read() {
                Ok(Message::Text(text)) => return Ok(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(frame)) => {
                    let frame = frame.expect("the server says why");
                    goodbye = Closed { code: frame.code.into(), reason: frame.reason.to_string() };
                }
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(other) => panic!("{other:?} is no event"),
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => panic!("nothing comes"),
                Err(_) => return Err(goodbye),
            }
        }
    }

    /// The next message.
    pub(super) fn object(&mut self) -> Value {
        self.next().unwrap_or_else(|closed| panic!("the stream goes on, and not {closed:?}"))
    }

    /// Reads to the end.
    pub(super) fn closed(&mut self) -> Closed {
        loop {
            if let Err(closed) = self.next() {
                return closed;
            }
        }
    }
}

/// Shakes hands over a bare socket, and reads the answer's head.
fn bare(server: &Running, more: &[u8]) -> TcpStream {
    let mut socket = server.connect();
    let path = format!("/v1/groups/g/events?{}", query(APP, "bob"));
    let head = format!("GET {path} HTTP/1.1\r\n{HANDSHAKE}\r\n");
    // In one piece: what comes right behind the handshake belongs to the WebSocket.
    socket.write_all(&[head.as_bytes(), more].concat()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        answer.extend(byte);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    socket
}

/// The frame in which the server closed a connection, at the end of what came over it.
fn close_frame(received: &[u8]) -> Closed {
    let begin = received.iter().rposition(|byte| *byte == 0x88).unwrap_or_else(|| panic!("{received:?}"));
    let payload = &received[begin + 2..];
    assert_eq!(payload.len(), usize::from(received[begin + 1]), "{received:?}");
    Closed {
        code: u16::from_be_bytes([payload[0], payload[1]]),
        reason: String::from_utf8(payload[2..].to_vec()).unwrap(),
    }
}

#[test]
fn both_forms_tell_the_same_objects() {
    let server = scene("");
    let mut stream = Stream::of_group(&server, "bob", "g", "");
    let mut reader = Reader::of_group(&server, "bob", "");
    set(&server, "ann", "noodles", 0);
    set(&server, "ann", "pizza", 1);
    send(&server, "g", 2);
    ok(
        &server,
        "group_open_http_svc/group_msg_recall",
        &json!({"GroupId": "g", "MsgSeqList": [{"MsgSeq": 2}]}),
    );
    ok(&server, REMOVE, &json!({"GroupId": "g", "MemberToDel_Account": ["bob"]}));
    for kind in ["ExtensionChanged", "ExtensionChanged", "MessageSent", "MessagesRecalled", "MembersLeft"] {
        let frame = stream.event();
        assert_eq!((&frame.data["Type"], &frame.data["EventId"]), (&json!(kind), &json!(frame.id)));
        assert_eq!(reader.object(), frame.data);
    }
    // The reason for the end is the same word, in the place that each form has for it.
    let end = stream.next().unwrap();
    assert_eq!((&end.data["Type"], &end.data["Reason"]), (&json!("End"), &json!("removed")));
    let closed = reader.closed();
    assert_eq!(
        (closed.code, closed.reason.as_str()),
        (1008, &*format!("removed: {}", end.data["Info"].as_str().unwrap()))
    );
}

#[test]
fn a_reader_goes_on_after_the_last_object_that_it_has_seen() {
    let mut server = scene("");
    let mut first = Reader::of_group(&server, "bob", "");
    set(&server, "ann", "a", 0);
    let seen = first.object()["EventId"].as_str().unwrap().to_owned();
    drop(first);
    set(&server, "ann", "b", 1);
    server.kill9();
    server.restart();
    let mut again = Reader::of_group(&server, "bob", &seen);
    set(&server, "ann", "c", 2);
    assert_eq!(again.object()["ExtensionList"][0]["Value"], "b");
    assert_eq!(again.object()["ExtensionList"][0]["Value"], "c");
    // A whole app has no place to go on from, and says so.
    let mut everything =
        Reader::open(&server, &format!("/v1/events?{}&last_event_id={seen}", query(APP, ADMINISTRATOR)));
    let told = everything.object();
    assert_eq!(
        (&told["Type"], &told["Reason"], told.get("EventId")),
        (&json!("StartOver"), &json!("cursor"), None)
    );
    set(&server, "ann", "d", 3);
    assert_eq!(everything.object()["ExtensionList"][0]["Value"], "d");
}

#[test]
fn a_large_event_is_one_message() {
    let server = scene("");
    let mut reader = Reader::of_group(&server, "bob", "");
    // Letters of three bytes, so that pieces of the message end within some.
    let pairs: Vec<_> = (0..20)
        .map(|number| json!({"Key": format!("k{number}"), "Value": "\u{20ac}".repeat(333), "Seq": 0}))
        .collect();
    let body = json!({"GroupId": "g", "MsgSeq": 1, "OperateType": 1, "ExtensionList": pairs});
    assert_eq!(server.post("ann", SET, &body.to_string())["Seq"], 1);
    let told = reader.object();
    assert_eq!(told["ExtensionList"].as_array().unwrap().len(), 20);
    assert_eq!(told["ExtensionList"][19]["Value"], "\u{20ac}".repeat(333));
}

#[test]
fn a_request_without_an_offer_of_a_web_socket_gets_the_other_form() {
    let server = scene("");
    let path = format!("/v1/groups/g/events?{}", query(APP, "bob"));
    let http2 = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    // Without Upgrade the other lines mean nothing.
    let rest = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for headers in ["", http2, rest] {
        let mut stream = Stream::open(&server, &path, headers);
        assert_eq!(stream.status, 200, "{headers}");
        send(&server, "g", rand::random());
        assert_eq!(stream.event().data["Type"], "MessageSent", "{headers}");
    }
}

#[test]
fn a_handshake_that_is_refused_says_why() {
    let server = scene("");
    let signed = query(APP, "bob");
    let ask = |start: &str, path: &str, headers: &str| {
        let answer = server.raw(format!("{start} {path} {headers}\r\n").as_bytes());
        let text = String::from_utf8(answer).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.to_ascii_lowercase().contains("\r\nsec-websocket-version: 13"), "{head}");
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error} in {text}"));
        (status, body["ErrorCode"].as_i64().unwrap())
    };
    let good = format!("/v1/groups/g/events?{signed}");
    for (start, headers, expected) in [
        ("GET", HANDSHAKE.replace("Version: 13", "Version: 8"), (400, 60025)),
        ("GET", HANDSHAKE.replace("Sec-WebSocket-Version: 13\r\n", ""), (400, 60025)),
        ("GET", HANDSHAKE.replace("Sec-WebSocket-Key", "X"), (400, 60025)),
        ("GET", HANDSHAKE.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), (400, 60025)),
        ("GET", HANDSHAKE.replace("Connection: Upgrade, close", "Connection: close"), (400, 60025)),
        ("GET", format!("{HANDSHAKE}Content-Length: 1\r\n"), (400, 60025)),
        ("GET", format!("{HANDSHAKE}Last-Event-ID: yesterday\r\n"), (400, 60025)),
        ("POST", format!("{HANDSHAKE}Content-Length: 0\r\n"), (405, 60002)),
    ] {
        assert_eq!(ask(start, &good, &format!("HTTP/1.1\r\n{headers}")), expected, "{start} {headers}");
    }
    assert_eq!(ask("GET", &good, &format!("HTTP/1.0\r\n{HANDSHAKE}")), (400, 60025));

    let unsigned = format!("sdkappid={APP}&identifier=bob");
    let expired = form_urlencoded::byte_serialize(ticket("bob", 3601).as_bytes()).collect::<String>();
    for (path, expected) in [
        (format!("/v1/groups/g/events?{unsigned}"), (400, 60025)),
        (format!("/v1/groups/g/events?{unsigned}&usersig={expired}"), (401, 70001)),
        (format!("/v1/groups/g/events?{unsigned}&usersig=x"), (401, 70003)),
        (format!("/v1/groups/g/events?{}", query(APP, "eve")), (403, 10007)),
        (format!("/v1/groups/g/events?{}", query(APP, "nobody")), (403, 70107)),
        (format!("/v1/groups/nowhere/events?{signed}"), (404, 10010)),
        (format!("/v1/groups/g/events?{signed}&last_event_id=yesterday"), (400, 60025)),
        (format!("/v1/events?{signed}"), (403, 60010)),
        (format!("/v1/?{signed}"), (404, 60009)),
    ] {
        assert_eq!(ask("GET", &path, &format!("HTTP/1.1\r\n{HANDSHAKE}")), expected, "{path}");
    }
    // The header that carries the signature for programs works here too.
    let mut socket = server.connect();
    let head = format!(
        "GET /v1/groups/g/events?{unsigned} HTTP/1.1\r\nAuthorization: Bearer {}\r\n{HANDSHAKE}\r\n",
        ticket("bob", 0)
    );
    socket.write_all(head.as_bytes()).unwrap();
    let mut status = [0; 12];
    socket.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 101");
}

#[test]
fn what_a_reader_says_is_dropped_unless_it_is_too_much() {
    let server = scene("");
    let mut reader = Reader::of_group(&server, "bob", "");
    for message in [
        Message::text(""),
        Message::text("hello"),
        Message::text("x".repeat(4096)),
        Message::binary(vec![0xff; 4096]),
        Message::Ping("are you there?".into()),
    ] {
        reader.0.send(message).unwrap();
    }
    loop {
        if let Message::Pong(answer) = reader.0.read().unwrap() {
            assert_eq!(answer, "are you there?");
            break;
        }
    }
    set(&server, "ann", "x", 0);
    assert_eq!(reader.object()["Type"], "ExtensionChanged");
    // The server may have closed before all of it was sent.
    let _ = reader.0.send(Message::text("x".repeat(4097)));
    let closed = reader.closed();
    assert_eq!((closed.code, closed.reason.contains("has nothing to say")), (1009, true), "{closed:?}");

    // A frame of 2^63 bytes; not masked; a reserved bit; text that is no UTF-8.
    for (bytes, code) in [
        (&b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"[..], 1009),
        (&b"\x81\x01x"[..], 1002),
        (&b"\xc1\x81\0\0\0\0x"[..], 1002),
        (&b"\x81\x81\0\0\0\0\xff"[..], 1007),
    ] {
        let mut received = Vec::new();
        bare(&server, bytes).read_to_end(&mut received).unwrap();
        assert_eq!(close_frame(&received).code, code, "{bytes:?}");
    }
    Reader::of_group(&server, "bob", "");
}

#[test]
fn a_goodbye_is_answered() {
    let server = scene("");
    let mut reader = Reader::of_group(&server, "bob", "");
    reader.0.close(Some(CloseFrame { code: 1000.into(), reason: "enough".into() })).unwrap();
    assert_eq!(reader.closed(), Closed { code: 1000, reason: "enough".to_owned() });
}

#[test]
fn a_reader_that_gives_no_sign_of_life_is_closed() {
    let server = impatient(1500);
    let mut received = Vec::new();
    // It reads everything and answers no ping.
    bare(&server, b"").read_to_end(&mut received).unwrap();
    assert!(received.starts_with(&[0x89, 0]), "{received:?}");
    let closed = close_frame(&received);
    assert_eq!(
        (closed.code, closed.reason.starts_with("slow: nothing was heard")),
        (1013, true),
        "{closed:?}"
    );
}

#[test]
fn a_reader_that_takes_nothing_is_cut_off_and_slows_nobody_down() {
    const CHANGES: u64 = 300;
    let server = impatient(3000);
    let mut quick = Reader::of_group(&server, "bob", "");
    let deaf = bare(&server, b"");
    for number in 0..CHANGES {
        change_much(&server, number);
        assert_eq!(quick.object()["LatestSeq"], number + 1);
    }
    // What is left are the quick one and the connection that asks.
    let begun = Instant::now();
    while connections(&server) > 2 {
        assert!(begun.elapsed() < PATIENCE, "it is not cut off");
        thread::sleep(Duration::from_millis(20));
        // The quick one has to be heard meanwhile.
        send(&server, "g", rand::random());
        assert_eq!(quick.object()["Type"], "MessageSent");
    }
    drop(deaf);
}

#[test]
fn a_reader_of_an_app_that_falls_far_behind_is_told_so() {
    const CHANGES: u64 = 700;
    let server = scene("");
    let path = format!("/v1/events?{}", query(APP, ADMINISTRATOR));
    let mut reader = Reader::open(&server, &path);
    for number in 0..CHANGES {
        change_much(&server, number);
    }
    let mut told = 0;
    let closed = loop {
        match reader.next() {
            Ok(object) => {
                told += 1;
                // In order and without a gap, as far as it goes.
                assert_eq!(object["LatestSeq"], told);
            }
            Err(closed) => break closed,
        }
    };
    assert!(told < CHANGES, "the system held all of {told} events");
    assert_eq!((closed.code, closed.reason.split_once(':').unwrap().0), (1013, "overrun"));
    let mut again = Reader::open(&server, &path);
    change_much(&server, CHANGES);
    assert_eq!(again.object()["LatestSeq"], CHANGES + 1);
}

/// The scene, with a server that waits this long for its readers.
pub(super) fn impatient(millis: u32) -> Running {
    super::scene_with(ConfigOptions {
        http: format!("idle_timeout_ms = {millis}"),
        ..ConfigOptions::default()
    })
}

/// A change that takes some 20 KB to tell, and twice that with what was there before.
pub(super) fn change_much(server: &Running, seq: u64) {
    let value = "v".repeat(1000);
    let pairs: Vec<_> =
        (0..20).map(|key| json!({"Key": format!("k{key}"), "Value": value, "Seq": seq})).collect();
    let body = json!({"GroupId": "g", "MsgSeq": 1, "OperateType": 1, "ExtensionList": pairs});
    assert_eq!(server.post("ann", SET, &body.to_string())["Seq"], seq + 1);
}

pub(super) fn connections(server: &Running) -> u32 {
    let figures = server.get("/metrics");
    let line = figures.lines().find_map(|line| line.strip_prefix("sidenote_connections "));
    line.unwrap_or_else(|| panic!("{figures}")).parse().unwrap()
}
