//! Frames and clients as nobody should make them. Whatever they do, others are served.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use sidenote_torture::long::{LongClient, command, ticket};
use tokio::time::Instant;
use tungstenite::Message;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use super::{sent, set, world};
use crate::server::{APP, ConfigOptions};

#[test]
fn a_frame_that_is_no_request_ends_the_connection_with_its_reason() {
    let server = world(&ConfigOptions::default());
    let large =
        format!(r#"{{"head":{{"servcmd":"a.b","seq":1}},"body":{{"a":"{}"}}}}"#, "x".repeat(256 * 1024));
    for (frame, code, reason) in [
        (Message::text("hello"), 1007, "the frame is no JSON object"),
        (Message::text(""), 1007, "the frame is no JSON object"),
        (Message::text("[]"), 1007, "the frame is no JSON object"),
        (Message::text(r#"{"head":{},"head":{}}"#), 1007, "the frame is no JSON object"),
        (Message::text("{}"), 1008, "head is missing"),
        (Message::text(r#"{"head":{"servcmd":"a.b"},"body":{}}"#), 1008, "head.seq is missing"),
        (Message::text(r#"{"head":{"servcmd":"heartbeat.alive","seq":1}}"#), 1008, "body is missing"),
        (Message::binary(vec![0xff, 0xfe]), 1007, "the frame is no JSON object"),
        (Message::text(large), 1009, "the frame is larger than long_connection.frame_bytes"),
    ] {
        let mut client = LongClient::logged_in(server.address, "ann");
        // The server may have closed before all of a large frame was sent.
        let _ = client.try_send(frame.clone());
        let closed = client.closed();
        assert_eq!(closed.code, code, "{frame:?} {closed:?}");
        assert!(closed.reason.starts_with(reason), "{closed:?}");
    }
    // The frames of the other kind say the same.
    let mut client = LongClient::open(server.address);
    let alive = r#"{"head":{"servcmd":"heartbeat.alive","seq":1},"body":{}}"#;
    client.try_send(Message::binary(alive.as_bytes().to_vec())).unwrap();
    assert_eq!(client.answer_to(command::ALIVE, 1)["ErrorCode"], 0);
}

#[test]
fn bytes_that_are_no_websocket_end_the_connection() {
    let server = world(&ConfigOptions::default());
    let handshake = format!(
        "GET /info?sdkappid={APP} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    // The library refuses a control frame that is too long when it has all of it.
    let too_long: &[u8] = &[&b"\x89\xfe\x00\x7e\0\0\0\0"[..], &[b'x'; 126]].concat();
    for (bytes, code) in [
        // Not masked; a reserved bit; a control frame that is too long; text that is no UTF-8; one of 2^63 bytes.
        (&b"\x81\x01x"[..], 1002_u16),
        (&b"\xc1\x81\0\0\0\0x"[..], 1002),
        (too_long, 1002),
        (&b"\x81\x81\0\0\0\0\xff"[..], 1007),
        (&b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"[..], 1009),
        // The rest of a message that nobody began; a message within another; a kind of frame that there is not.
        (&b"\x80\x81\0\0\0\0x"[..], 1002),
        (&b"\x01\x81\0\0\0\0{\x81\x82\0\0\0\0{}"[..], 1002),
        (&b"\x83\x81\0\0\0\0x"[..], 1002),
    ] {
        let mut connection = server.connect();
        // In one piece with the handshake: what comes right behind it belongs to the WebSocket.
        connection.write_all(&[handshake.as_bytes(), bytes].concat()).unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let close = &answer[end..];
        assert_eq!(close.first(), Some(&0x88), "{bytes:?} {close:?}");
        assert_eq!(u16::from_be_bytes([close[2], close[3]]), code, "{bytes:?}");
    }
    // Half a frame, and then nothing more.
    let mut connection = server.connect();
    connection.write_all(&[handshake.as_bytes(), b"\x81\xfe"].concat()).unwrap();
    connection.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    LongClient::logged_in(server.address, "ann");
}

#[test]
fn a_message_in_many_pieces_has_the_same_limit() {
    let server = world(&ConfigOptions::default());
    let mut client = LongClient::logged_in(server.address, "ann");
    let piece = "x".repeat(8 * 1024);
    let mut kind = Data::Text;
    // The server closes the connection long before all of it was sent.
    for _ in 0..1000 {
        let frame = Frame::message(piece.clone(), OpCode::Data(kind), false);
        if client.try_send(Message::Frame(frame)).is_err() {
            break;
        }
        kind = Data::Continue;
    }
    let closed = client.closed();
    assert_eq!(closed.code, 1009, "{closed:?}");
    // One within the limit is a message like any other, also with a sign of life between its pieces.
    let mut client = LongClient::open(server.address);
    let [begin, end] = [r#"{"head":{"servcmd":"heartbeat.al"#, r#"ive","seq":5},"body":{}}"#];
    for message in [
        Message::Frame(Frame::message(begin, OpCode::Data(Data::Text), false)),
        Message::Ping("here".into()),
        Message::Frame(Frame::message(end, OpCode::Data(Data::Continue), true)),
    ] {
        client.try_send(message).unwrap();
    }
    assert_eq!(client.answer_to(command::ALIVE, 5)["ErrorCode"], 0);
}

#[test]
fn requests_out_of_order_are_answered_each_by_its_number() {
    let server = world(&ConfigOptions::default());
    let mut client = LongClient::open(server.address);
    // Nobody has logged in: what needs that is refused, the rest is answered, and nothing ends the connection.
    let pull = json!({"GroupId": "g", "MsgSeq": 1});
    assert_eq!(client.call(command::PULL, &pull)["ErrorCode"], 60_025);
    client.ok(command::LOGOUT, &json!({}));
    for data in [json!(null), json!(7), json!(""), json!("nonsense"), json!("0-0-18446744073709551615")] {
        client.send(command::ACKNOWLEDGE, &json!({"SessionData": data}));
    }
    client.log_in("ann");
    client.log_in("ann");

    // Numbers that go back, come twice, and are as large as can be.
    let mut ask = |seq: u64| {
        let frame = json!({"head": {"servcmd": command::ALIVE, "seq": seq}, "body": {}});
        client.send_text(&frame.to_string());
    };
    let numbers = [9, 8, 8, 0, 9_007_199_254_740_991, 1];
    numbers.into_iter().for_each(&mut ask);
    for number in numbers {
        let answer = client.frame().unwrap();
        assert_eq!((&answer["head"]["seq"], &answer["body"]["ErrorCode"]), (&json!(number), &json!(0)));
    }

    // Acknowledgements of what was never pushed, or twice, change nothing: the next push comes, and wants one.
    let mut bob = LongClient::logged_in(server.address, "bob");
    bob.acknowledges = false;
    let seq = sent(&mut client);
    let push = bob.frame().unwrap();
    let data = push["body"]["SessionData"].as_str().unwrap().to_owned();
    for data in [json!("nonsense"), json!({}), json!(format!("{data}0")), json!(data), json!(data)] {
        bob.send(command::ACKNOWLEDGE, &json!({"SessionData": data}));
    }
    client.ok(command::SET, &set(seq, &[("a", "1", 0)]));
    let push = bob.frame().unwrap();
    assert_eq!(push["body"]["EventArray"][0]["MsgExtensionNotify"]["MsgLastSeq"], 1, "{push}");
    assert_eq!(push["body"]["NeedAck"], 1);
    assert_eq!(bob.frame().unwrap(), push, "what was not acknowledged comes again");
}

#[test]
fn requests_that_wait_are_not_carried_out_for_whoever_logs_in_meanwhile() {
    const CHANGES: u64 = 60;
    let server = world(&ConfigOptions::default());
    let mut client = LongClient::logged_in(server.address, "ann");
    let seq = sent(&mut client);
    let first =
        (0..CHANGES).map(|key| client.send(command::SET, &set(seq, &[(&format!("k{key}"), "ann's", 0)])));
    let first = first.min().unwrap();
    // Cid is no member, so that nothing of that could be hers.
    let login = json!({
        "head": {"servcmd": command::LOGIN, "seq": 1, "identifier": "cid", "usersig": ticket("cid", 0)},
        "body": {"State": "Online"},
    });
    client.send_text(&login.to_string());
    let (mut codes, mut welcome) = (vec![Value::Null; usize::try_from(CHANGES).unwrap()], Value::Null);
    while welcome.is_null() || codes.iter().any(Value::is_null) {
        let frame = client.frame().unwrap();
        let code = frame["body"]["ErrorCode"].clone();
        match frame["head"]["seq"].as_u64().unwrap() {
            1 => welcome = code,
            number => codes[usize::try_from(number - first).unwrap()] = code,
        }
    }
    assert_eq!(welcome, 0);
    // Ann's, as far as it went, and then nobody's.
    let done = codes.iter().take_while(|code| **code == 0).count();
    assert!(codes[done..].iter().all(|code| *code == 60_025), "{codes:?}");
    let mut ann = LongClient::logged_in(server.address, "ann");
    assert_eq!(ann.ok(command::PULL, &json!({"GroupId": "g", "MsgSeq": seq}))["LatestSeq"], done);
}

#[test]
fn whoever_is_silent_is_not_waited_for() {
    let more = "[long_connection]\nlogin_timeout_ms = 300\nidle_timeout_ms = 600".to_owned();
    let server = world(&ConfigOptions { more, ..ConfigOptions::default() });
    let mut nobody = LongClient::open(server.address);
    let mut silent = LongClient::logged_in(server.address, "ann");
    assert!(nobody.closed().reason.starts_with("nobody has logged in"));
    let closed = silent.closed();
    assert_eq!((closed.code, closed.reason.starts_with("nothing was heard")), (1008, true), "{closed:?}");
    // Heartbeats alone do not make somebody of it.
    let mut beating = LongClient::open(server.address);
    let begun = Instant::now();
    loop {
        beating.send(command::ALIVE, &json!({}));
        match beating.frame() {
            Ok(_) => assert!(begun.elapsed() < Duration::from_secs(30)),
            Err(closed) => break assert_eq!(closed.code, 1008),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// `logins_per_account` would not limit connections if those that were kicked or have logged out stayed for ever.
#[test]
fn whoever_has_logged_out_does_not_keep_its_connection_by_signs_of_life() {
    let more = "[long_connection]\nidle_timeout_ms = 1500\nlogins_per_account = 1".to_owned();
    let server = world(&ConfigOptions { more, ..ConfigOptions::default() });
    let mut out = LongClient::logged_in(server.address, "ann");
    out.ok(command::LOGOUT, &json!({}));
    let mut kicked = LongClient::logged_in(server.address, "bob");
    let mut standing = LongClient::logged_in(server.address, "bob");
    let (begun, mut open) = (Instant::now(), vec![&mut out, &mut kicked]);
    while !open.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{} stay", open.len());
        standing.ok(command::ALIVE, &json!({}));
        open.retain_mut(|client| {
            // It may be closed between the two.
            let alive = json!({"head": {"servcmd": command::ALIVE, "seq": 1}, "body": {}}).to_string();
            let _ = client.try_send(Message::text(alive));
            let Err(closed) = client.frame() else { return true };
            assert_eq!(closed.code, 1008);
            assert!(closed.reason.starts_with("nobody has logged in"), "{closed:?}");
            false
        });
        thread::sleep(Duration::from_millis(20));
    }
    standing.ok(command::ALIVE, &json!({}));
}

#[test]
fn a_thousand_logins_a_second_harm_nobody() {
    let server = world(&ConfigOptions::default());
    let mut ann = LongClient::logged_in(server.address, "ann");
    let (over, good) = (AtomicBool::new(false), ticket("bob", 0));
    let mut logins = 0;
    thread::scope(|scope| {
        let attack = scope.spawn(|| {
            let mut logins = 0_u32;
            while !over.load(Ordering::Acquire) {
                let mut client = LongClient::open(server.address);
                for ticket in ["nonsense", "", &good, "nonsense"] {
                    client.log_in_with("bob", ticket);
                    logins += 1;
                }
            }
            logins
        });
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(1) {
            let asked = Instant::now();
            sent(&mut ann);
            assert!(asked.elapsed() < Duration::from_secs(5), "she waited {:?}", asked.elapsed());
        }
        over.store(true, Ordering::Release);
        logins = attack.join().unwrap();
    });
    println!("{logins} logins");
    assert!(logins > 0);
}

#[test]
fn a_client_that_never_reads_is_cut_off_and_slows_nobody_down() {
    const PUSHES: u64 = 400;
    let server = world(&ConfigOptions {
        limits: "attempts_per_minute = 0".to_owned(),
        more: "[long_connection]\nwrite_timeout_ms = 500".to_owned(),
        ..ConfigOptions::default()
    });
    let mut ann = LongClient::logged_in(server.address, "ann");
    let mut bob = LongClient::logged_in(server.address, "bob");
    // More than the buffers of the system hold comes to it, and it takes nothing.
    let deaf = LongClient::logged_in(server.address, "bob");
    let seq = sent(&mut ann);
    bob.event();
    let value = "v".repeat(1000);
    for number in 0..PUSHES {
        let keys: Vec<_> = (0..20).map(|key| format!("k{key}")).collect();
        let pairs: Vec<_> = keys.iter().map(|key| (key.as_str(), value.as_str(), number)).collect();
        ann.ok(command::SET, &set(seq, &pairs));
        assert_eq!(bob.event()["MsgExtensionNotify"]["MsgLastSeq"], number + 1);
    }
    let begun = Instant::now();
    while !server.get("/metrics").contains("sidenote_long_connection_logins 2\n") {
        assert!(begun.elapsed() < Duration::from_secs(30), "it is not cut off");
        thread::sleep(Duration::from_millis(20));
    }
    drop(deaf);
    // It comes back and pulls what it has missed.
    let mut back = LongClient::logged_in(server.address, "bob");
    let pulled = back.ok(command::PULL, &json!({"GroupId": "g", "MsgSeq": seq}));
    assert_eq!(pulled["LatestSeq"], PUSHES);
}
