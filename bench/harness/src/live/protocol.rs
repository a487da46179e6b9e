//! How somebody becomes a receiver of each server, and what comes over the connection then.
//!
//! As with the load, bytes are searched and not parsed: a thousand receivers of one push are a thousand frames of the same
//! bytes, on processors that the server needs too.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::LazyLock;

use anyhow::{Context, Result, bail};
use memchr::memmem::{Finder, FinderRev, find};

use crate::dialect::excerpt;
use crate::servers::{APP, GROUP, Product, query};

/// The subject that NATS messages have.
pub(super) const SUBJECT: &str = "bench";

/// Digits of the number that the bare server and the publisher to NATS put before each message.
pub(super) const NUMBER_DIGITS: usize = 16;

/// What a receiver speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// The product's long connection, with binary frames, acknowledged.
    LongConnection,
    /// The product's event stream of the group.
    Stream,
    /// A WebSocket of the bare server.
    Broadcast,
    /// A subscription.
    Nats,
}

/// Something that came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// Somebody was told something.
    Push {
        /// The incarnation of its conversation and its number there, which counts up by one.
        name: (u64, u64),
        /// What it says.
        content: &'a [u8],
        /// What an acknowledgement repeats; empty if none is wanted.
        session: &'a [u8],
    },
    /// A sign of life is asked for, with these bytes in a WebSocket.
    Ping(&'a [u8]),
    /// Nothing that matters here.
    Nothing,
}

/// The account of a receiver.
pub(crate) fn account(number: u64) -> String {
    format!("r{number:05}")
}

impl Protocol {
    /// Makes a fresh connection that of a receiver: after this it is told all that is published. Returns what has come
    /// already and belongs to what follows. The answers of the server must be good ones.
    pub(super) fn open(self, stream: &mut TcpStream, receiver: u64) -> Result<Vec<u8>> {
        match self {
            Self::LongConnection => {
                let user = account(receiver);
                let ticket = Product::ticket(&user)?;
                let target = format!("/binfo?sdkappid={APP}&instanceid={receiver:032x}&platform=7");
                let rest = upgrade(stream, &target)?;
                let login = format!(
                    r#"{{"head":{{"ver":"v4","platform":7,"servcmd":"im_open_status.wslogin","seq":1,"identifier":"{user}","usersig":"{ticket}"}},"body":{{"State":"Online"}}}}"#
                );
                let mut frame = Vec::new();
                write_frame(BINARY, login.as_bytes(), &mut frame);
                stream.write_all(&frame).context("cannot send a login")?;
                let (answer, rest) = read_until(stream, rest, |received| {
                    Ok(websocket_frame(received)?.map(|(length, frame)| (length, frame.payload.to_vec())))
                })?;
                if find(&answer, b"\"servcmd\":\"im_open_status.wslogin\"").is_none()
                    || find(&answer, b"\"ErrorCode\":0").is_none()
                {
                    bail!("the login of {user} was answered {}", excerpt(&answer));
                }
                Ok(rest)
            }
            Self::Stream => {
                let user = account(receiver);
                let query = query(&user, &Product::ticket(&user)?);
                let request =
                    format!("GET /v1/groups/{GROUP}/events?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n");
                stream.write_all(request.as_bytes()).context("cannot ask for a stream")?;
                head(stream, "HTTP/1.1 200")
            }
            Self::Broadcast => upgrade(stream, "/broadcast"),
            Self::Nats => {
                let hello = format!(
                    "CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB {SUBJECT} 1\r\nPING\r\n"
                );
                stream.write_all(hello.as_bytes()).context("cannot subscribe")?;
                let ((), rest) = read_until(stream, Vec::new(), |received| {
                    if let Some(at) = find(received, b"-ERR") {
                        return Err(excerpt(&received[at..]));
                    }
                    Ok(find(received, b"PONG\r\n").map(|at| (at + 6, ())))
                })?;
                Ok(rest)
            }
        }
    }

    /// The first thing of what was received, and how many bytes it has. `None`: it is not whole yet.
    pub(super) fn next(self, received: &[u8]) -> Result<Option<(usize, Item<'_>)>, String> {
        match self {
            Self::LongConnection | Self::Broadcast => {
                let Some((length, frame)) = websocket_frame(received)? else { return Ok(None) };
                let item = match frame.kind {
                    BINARY if self == Self::Broadcast => numbered(frame.payload)?,
                    BINARY => pushed(frame.payload)?,
                    PING => Item::Ping(frame.payload),
                    PONG => Item::Nothing,
                    CLOSE => return Err(goodbye(frame.payload)),
                    kind => return Err(format!("a frame of the kind {kind} came")),
                };
                Ok(Some((length, item)))
            }
            Self::Stream => chunk(received),
            Self::Nats => nats_item(received),
        }
    }

    /// Appends the answer to a sign of life that was asked for.
    pub(super) fn write_pong(self, bytes: &[u8], out: &mut Vec<u8>) {
        if self == Self::Nats {
            out.extend_from_slice(b"PONG\r\n");
        } else {
            write_frame(PONG, bytes, out);
        }
    }

    /// Appends an acknowledgement of this push and all before it.
    pub(super) fn write_acknowledgement(session: &[u8], out: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(192);
        body.extend_from_slice(
            br#"{"head":{"ver":"v4","platform":7,"servcmd":"openim.ws_msg_push_ack","seq":2},"body":{"SessionData":""#,
        );
        body.extend_from_slice(session);
        body.extend_from_slice(br#""}}"#);
        write_frame(BINARY, &body, out);
    }
}

/// Kinds of frames (RFC 6455 section 5.2).
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

struct Frame<'a> {
    kind: u8,
    payload: &'a [u8],
}

/// A frame of a server. Pushes of the benchmark are short enough to come in one.
fn websocket_frame(received: &[u8]) -> Result<Option<(usize, Frame<'_>)>, String> {
    let [first, second, rest @ ..] = received else { return Ok(None) };
    if first & 0x80 == 0 || second & 0x80 != 0 {
        return Err("a frame came in pieces or masked".to_owned());
    }
    let (start, length) = match second {
        126 => {
            let Some(bytes) = rest.first_chunk::<2>() else { return Ok(None) };
            (4, usize::from(u16::from_be_bytes(*bytes)))
        }
        127 => return Err("a frame of more than 64 KiB came".to_owned()),
        length => (2, usize::from(*length)),
    };
    let payload = received.get(start..start + length);
    Ok(payload.map(|payload| (start + length, Frame { kind: first & 0x0f, payload })))
}

/// A whole frame of a client. It has a mask, as it must, though one that changes nothing: masking keeps proxies from
/// taking a frame for a request, and there are none here.
fn write_frame(kind: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | kind);
    if let Ok(length @ ..=125) = u8::try_from(payload.len()) {
        out.push(0x80 | length);
    } else {
        let length = u16::try_from(payload.len()).expect("frames of the benchmark are shorter than 64 KiB");
        out.push(0x80 | 0x7e);
        out.extend_from_slice(&length.to_be_bytes());
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

fn goodbye(payload: &[u8]) -> String {
    let code = payload.first_chunk::<2>().map_or(1005, |code| u16::from_be_bytes(*code));
    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
    format!("the server closed a receiver's connection with {code} {reason}")
}

/// A frame of the long connection: a push of changed pairs, or something that nobody here asked for.
fn pushed(frame: &[u8]) -> Result<Item<'_>, String> {
    static NEWS: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("\"MsgExtensionNotify\":"));
    static SESSION: LazyLock<FinderRev<'_>> = LazyLock::new(|| FinderRev::new("\"SessionData\":\""));
    let odd = || format!("an odd frame came: {}", excerpt(frame));
    NEWS.find(frame).ok_or_else(odd)?;
    let start = SESSION.rfind(frame).ok_or_else(odd)? + SESSION.needle().len();
    let length = memchr::memchr(b'"', &frame[start..]).ok_or_else(odd)?;
    let session = &frame[start..start + length];
    let name = name(session, 16).ok_or_else(odd)?;
    Ok(Item::Push { name, content: frame, session })
}

/// An incarnation in hexadecimal digits, a hyphen, and a number.
fn name(text: &[u8], radix: u32) -> Option<(u64, u64)> {
    let (incarnation, number) = std::str::from_utf8(text).ok()?.split_once('-')?;
    Some((u64::from_str_radix(incarnation, 16).ok()?, u64::from_str_radix(number, radix).ok()?))
}

/// A message that begins with its number.
fn numbered(message: &[u8]) -> Result<Item<'_>, String> {
    let digits = message.get(..NUMBER_DIGITS).and_then(|digits| std::str::from_utf8(digits).ok());
    let number = digits.and_then(|digits| digits.parse().ok());
    let number = number.ok_or_else(|| format!("a message without a number came: {}", excerpt(message)))?;
    Ok(Item::Push { name: (0, number), content: message, session: &[] })
}

/// The server writes each frame of the stream as a chunk of its own.
fn chunk(received: &[u8]) -> Result<Option<(usize, Item<'_>)>, String> {
    let (start, length) = match httparse::parse_chunk_size(received) {
        Ok(httparse::Status::Complete((start, length))) => {
            (start, usize::try_from(length).unwrap_or(usize::MAX))
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(format!("no chunk came: {}", excerpt(received))),
    };
    let whole =
        start.checked_add(length).and_then(|end| end.checked_add(2)).ok_or("an endless chunk came")?;
    let Some(frame) = received.get(start..whole) else { return Ok(None) };
    let frame = &frame[..length];
    let is_event = frame.starts_with(b"id: ") && find(frame, b"\"Type\":\"ExtensionChanged\"").is_some();
    let item = if is_event {
        let end = memchr::memchr(b'\n', frame).unwrap_or(frame.len());
        let name = name(&frame[4..end], 10).ok_or_else(|| format!("an odd id came: {}", excerpt(frame)))?;
        Item::Push { name, content: frame, session: &[] }
    } else if frame.starts_with(b":") || frame.starts_with(b"retry:") {
        Item::Nothing
    } else {
        return Err(format!("an odd piece of a stream came: {}", excerpt(frame)));
    };
    Ok(Some((whole, item)))
}

fn nats_item(received: &[u8]) -> Result<Option<(usize, Item<'_>)>, String> {
    let Some(end) = find(received, b"\r\n") else { return Ok(None) };
    let line = &received[..end];
    let start = end + 2;
    if line.starts_with(b"MSG ") {
        let odd = || format!("an odd line came: {}", excerpt(line));
        let length =
            line.rsplit(|byte| *byte == b' ').next().and_then(|digits| std::str::from_utf8(digits).ok());
        let length: usize = length.and_then(|digits| digits.parse().ok()).ok_or_else(odd)?;
        let Some(message) = received.get(start..start + length + 2) else { return Ok(None) };
        return Ok(Some((start + length + 2, numbered(&message[..length])?)));
    }
    match line {
        b"PING" => Ok(Some((start, Item::Ping(&[])))),
        b"PONG" | b"+OK" => Ok(Some((start, Item::Nothing))),
        line if line.starts_with(b"INFO ") => Ok(Some((start, Item::Nothing))),
        line => Err(format!("an odd line came: {}", excerpt(line))),
    }
}

/// Makes a WebSocket of a connection; what it answers to the key is the library's business.
fn upgrade(stream: &mut TcpStream, target: &str) -> Result<Vec<u8>> {
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).context("cannot ask for a WebSocket")?;
    head(stream, "HTTP/1.1 101")
}

/// Reads the head of an answer, which must begin so.
fn head(stream: &mut TcpStream, begin: &str) -> Result<Vec<u8>> {
    let whole = |received: &[u8]| {
        let end = find(received, b"\r\n\r\n").map(|at| (at + 4, received[..at].to_vec()));
        Ok(end)
    };
    let (head, rest) = read_until(stream, Vec::new(), whole)?;
    if !head.starts_with(begin.as_bytes()) {
        bail!("a receiver was answered {} {}", excerpt(&head), excerpt(&rest));
    }
    Ok(rest)
}

/// Reads until `take` finds what it wants at the beginning, and returns that and what came behind it.
pub(super) fn read_until<T>(
    stream: &mut TcpStream,
    mut received: Vec<u8>,
    take: impl Fn(&[u8]) -> Result<Option<(usize, T)>, String>,
) -> Result<(T, Vec<u8>)> {
    let mut piece = [0; 4096];
    loop {
        match take(&received) {
            Ok(Some((length, found))) => return Ok((found, received.split_off(length))),
            Ok(None) => {}
            Err(problem) => bail!("{problem}"),
        }
        match stream.read(&mut piece).context("cannot read what a receiver is answered")? {
            0 => bail!("the server closed a receiver's connection: {}", excerpt(&received)),
            bytes => received.extend_from_slice(&piece[..bytes]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frame of a server.
    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x80 | kind];
        if payload.len() > 125 {
            frame.push(126);
            frame.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
        } else {
            frame.push(u8::try_from(payload.len()).unwrap());
        }
        frame.extend_from_slice(payload);
        frame
    }

    /// Nothing is taken before it is whole, and then exactly it.
    fn assert_taken(protocol: Protocol, whole: &[u8], expected: &Item<'_>) {
        for end in 0..whole.len() {
            assert_eq!(protocol.next(&whole[..end]), Ok(None), "{protocol:?} after {end} bytes");
        }
        let more = [whole, b"\x82"].concat();
        let (length, item) = protocol.next(&more).unwrap().unwrap();
        assert_eq!((length, &item), (whole.len(), expected), "{protocol:?}");
    }

    #[test]
    fn pushes_of_the_long_connection_are_named_by_their_session_data() {
        let body = format!(
            r#"{{"head":{{"ver":"v4","servcmd":"im_open_push.msg_push","seq":0}},"body":{{"EventArray":[{{"Event":3,"MsgExtensionNotify":{{"x":"{}"}}}}],"IsInstantMessage":1,"NeedAck":1,"SessionData":"ab-1f"}}}}"#,
            "v".repeat(40)
        );
        let push = Item::Push { name: (0xab, 0x1f), content: body.as_bytes(), session: b"ab-1f" };
        assert_taken(Protocol::LongConnection, &frame(BINARY, body.as_bytes()), &push);
        assert_taken(Protocol::LongConnection, &frame(PING, b"hey"), &Item::Ping(b"hey"));
    }

    #[test]
    fn what_a_receiver_is_not_told_for_good_is_an_error() {
        let end = [&1013_u16.to_be_bytes()[..], b"too slow"].concat();
        let error = Protocol::LongConnection.next(&frame(CLOSE, &end)).unwrap_err();
        assert!(error.contains("1013 too slow"), "{error}");
        for body in [&b"{}"[..], br#"{"MsgExtensionNotify":1,"SessionData":"x"}"#] {
            Protocol::LongConnection.next(&frame(BINARY, body)).unwrap_err();
        }
        Protocol::Broadcast.next(&frame(BINARY, b"x")).unwrap_err();
        Protocol::Stream.next(b"0\r\n\r\n").unwrap_err();
        Protocol::Stream.next(b"14\r\nevent: end\ndata: 1\n\n\r\n").unwrap_err();
        Protocol::Nats.next(b"-ERR 'Slow Consumer'\r\n").unwrap_err();
    }

    #[test]
    fn events_of_a_stream_are_named_by_their_id() {
        let event = "id: 00000000000000ab-17\ndata: {\"Type\":\"ExtensionChanged\"}\n\n";
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        let push = Item::Push { name: (0xab, 17), content: event.as_bytes(), session: &[] };
        assert_taken(Protocol::Stream, chunk.as_bytes(), &push);
        assert_taken(Protocol::Stream, b"5\r\n: x\n\n\r\n", &Item::Nothing);
    }

    #[test]
    fn messages_of_bare_server_and_nats_begin_with_their_number() {
        let message = b"0000000000000042xyz";
        let push = Item::Push { name: (0, 42), content: message, session: &[] };
        assert_taken(Protocol::Broadcast, &frame(BINARY, message), &push);
        let line = [b"MSG bench 1 19\r\n", &message[..], b"\r\n"].concat();
        assert_taken(Protocol::Nats, &line, &push);
        assert_taken(Protocol::Nats, b"PING\r\n", &Item::Ping(&[]));
    }

    #[test]
    fn an_acknowledgement_repeats_the_session_data_in_a_masked_frame() {
        let mut out = Vec::new();
        Protocol::write_acknowledgement(b"ab-1f", &mut out);
        assert_eq!(&out[..2], &[0x82, 0x80 | u8::try_from(out.len() - 6).unwrap()]);
        let body: serde_json::Value = serde_json::from_slice(&out[6..]).unwrap();
        assert_eq!(body["head"]["servcmd"], "openim.ws_msg_push_ack");
        assert_eq!(body["body"]["SessionData"], "ab-1f");
    }

    #[test]
    fn a_long_frame_says_its_length_in_two_bytes() {
        let mut out = Vec::new();
        write_frame(BINARY, &[7; 300], &mut out);
        assert_eq!((&out[..4], out.len()), (&[0x82, 0xfe, 1, 44][..], 308));
    }
}
