//! Those who publish: one message at a time, timed, or as many as a gate lets pass.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use memchr::memmem::find;

use super::protocol::{NUMBER_DIGITS, SUBJECT};
use super::receivers::PATIENCE;
use crate::dialect::{excerpt, number_after, write_post};
use crate::load::{Gate, now, parse};
use crate::servers::GROUP;

/// Bytes of what bare server and NATS tell, behind the number: about as many as a push of one changed pair has.
pub(super) const PUSH_BYTES: usize = 460;

/// A message that everybody is to be told, and how to know that the server has it.
pub(super) struct Publisher {
    stream: TcpStream,
    way: Way,
    bytes: Vec<u8>,
}

/// What is published, and to whom.
pub(super) enum Way {
    /// A set of one pair, compared, on a message that nobody else sets.
    Set {
        /// The request up to the length of its body.
        head: Vec<u8>,
        /// The message.
        message: u64,
        /// The version that the pair has.
        version: u32,
    },
    /// A request to the bare server, up to the length of its body.
    Publish(Vec<u8>),
    /// To NATS, which confirms nothing but answers what comes behind a message when it is done with that.
    Nats {
        /// The number of the next message.
        next: u64,
    },
}

/// The moments of one message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Published {
    /// Before it was sent.
    pub(super) sent: Instant,
    /// When the answer was there.
    pub(super) acknowledged: Instant,
}

impl Publisher {
    /// Connects.
    pub(super) fn connect(port: u16, way: Way) -> Result<Self> {
        let mut stream =
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("cannot connect a publisher")?;
        stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
        stream.set_read_timeout(Some(PATIENCE)).context("cannot set a time-out")?;
        if matches!(way, Way::Nats { .. }) {
            stream
                .write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n")
                .context("cannot greet NATS")?;
            pong(&mut stream)?;
        }
        Ok(Self { stream, way, bytes: Vec::new() })
    }

    /// What has to be known to go on over another connection.
    pub(super) fn into_way(self) -> Way {
        self.way
    }

    /// Publishes one message that holds this value, and waits until the server has acknowledged it.
    pub(super) fn publish(&mut self, value: &str) -> Result<Published> {
        self.bytes.clear();
        match &mut self.way {
            Way::Set { head, message, version } => {
                let body = format!(
                    "{{\"GroupId\":\"{GROUP}\",\"MsgSeq\":{message},\"OperateType\":1,\"ExtensionList\":[{{\"Key\":\"vote\",\"Value\":\"{value}\",\"Seq\":{version}}}]}}"
                );
                write_post(head, body.as_bytes(), &mut self.bytes);
            }
            Way::Publish(head) => {
                write_post(head, format!("{value:<PUSH_BYTES$}").as_bytes(), &mut self.bytes);
            }
            Way::Nats { next } => {
                write_message(*next, value, &mut self.bytes);
                *next += 1;
                self.bytes.extend_from_slice(b"PING\r\n");
            }
        }
        let sent = now();
        self.stream.write_all(&self.bytes).context("cannot publish")?;
        if matches!(self.way, Way::Nats { .. }) {
            let acknowledged = pong(&mut self.stream)?;
            return Ok(Published { sent, acknowledged });
        }
        let (body, acknowledged) = answer(&mut self.stream)?;
        let codes = if matches!(self.way, Way::Set { .. }) { 2 } else { 1 };
        if memchr::memmem::find_iter(&body, "\"ErrorCode\":0").count() != codes {
            bail!("a message that was to be told was answered {}", excerpt(&body));
        }
        if let Way::Set { version, .. } = &mut self.way {
            *version = number_after(&body, b"\"Seq\":").context("a set was answered without a Seq")?;
        }
        Ok(Published { sent, acknowledged })
    }
}

/// Publishes to NATS, for so long, what the gate lets pass. Returns how many messages that were, when the server had
/// them all; `next` is the number of the first.
pub(super) fn flood(port: u16, next: &mut u64, gate: &Gate, time: Duration) -> Result<u64> {
    let Publisher { mut stream, .. } = Publisher::connect(port, Way::Nats { next: 0 })?;
    let (begin, first, mut bytes) = (now(), *next, Vec::new());
    while begin.elapsed() < time {
        bytes.clear();
        while bytes.len() < 16 * 1024 && gate.pass() {
            write_message(*next, "", &mut bytes);
            *next += 1;
        }
        if bytes.is_empty() {
            std::thread::sleep(Duration::from_micros(100));
        } else {
            stream.write_all(&bytes).context("cannot publish to NATS")?;
        }
    }
    stream.write_all(b"PING\r\n").context("cannot publish to NATS")?;
    pong(&mut stream)?;
    Ok(*next - first)
}

fn write_message(number: u64, value: &str, out: &mut Vec<u8>) {
    let line = format!("PUB {SUBJECT} {}\r\n", NUMBER_DIGITS + PUSH_BYTES);
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(format!("{number:0NUMBER_DIGITS$}{value:<PUSH_BYTES$}\r\n").as_bytes());
}

/// Reads until NATS answers a sign of life, and tells when that was. It may have asked for one itself meanwhile.
fn pong(stream: &mut TcpStream) -> Result<Instant> {
    let (mut received, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut piece).context("NATS does not answer")? {
            0 => bail!("NATS closed a connection: {}", excerpt(&received)),
            bytes => received.extend_from_slice(&piece[..bytes]),
        }
        let time = now();
        if let Some(at) = find(&received, b"-ERR") {
            bail!("NATS refuses: {}", excerpt(&received[at..]));
        }
        if find(&received, b"PING\r\n").is_some() {
            stream.write_all(b"PONG\r\n").context("cannot answer NATS")?;
        }
        if find(&received, b"PONG\r\n").is_some() {
            return Ok(time);
        }
    }
}

fn answer(stream: &mut TcpStream) -> Result<(Vec<u8>, Instant)> {
    let (mut received, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let bytes = stream.read(&mut piece).context("a message that was to be told was not answered")?;
        let time = now();
        received.extend_from_slice(&piece[..bytes]);
        match parse(&received) {
            Ok(Some(answer)) if answer.status == 200 => return Ok((answer.body.into_owned(), time)),
            Ok(Some(answer)) => bail!("status {}: {}", answer.status, excerpt(&answer.body)),
            Ok(None) if bytes > 0 => {}
            Ok(None) => bail!("the server closed a publisher's connection"),
            Err(problem) => bail!("{problem}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::protocol::{Item, Protocol};

    #[test]
    fn a_message_to_nats_is_as_long_as_it_says_and_begins_with_its_number() {
        let mut out = Vec::new();
        write_message(42, "value", &mut out);
        let line = String::from_utf8(out).unwrap();
        let (head, rest) = line.split_once("\r\n").unwrap();
        let length: usize = head.strip_prefix("PUB bench ").unwrap().parse().unwrap();
        assert_eq!(rest.len(), length + 2);
        let received = format!("MSG bench 1 {length}\r\n{rest}");
        let Ok(Some((_, Item::Push { name, content, .. }))) = Protocol::Nats.next(received.as_bytes()) else {
            panic!("{received}");
        };
        assert_eq!((name, find(content, b"value")), ((0, 42), Some(NUMBER_DIGITS)));
    }
}
