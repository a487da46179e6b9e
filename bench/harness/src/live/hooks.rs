//! A receiver of webhooks of a few lines: it takes everything, and looks whether something is missing.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use super::receivers::PATIENCE;
use crate::dialect::excerpt;
use crate::load::now;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 51\r\n\r\n\
    {\"ActionStatus\":\"OK\",\"ErrorInfo\":\"\",\"ErrorCode\":0}\n";

/// Listens for as long as the process lives. The server that it is for ends before that.
pub(super) struct Hooks {
    port: u16,
    told: Arc<Told>,
}

#[derive(Default)]
struct Told {
    /// Events that were told, each counted once.
    events: AtomicU64,
    /// The number of the last one. All are of one conversation, whose events are told one after the other.
    last: Mutex<Option<u64>>,
    failures: AtomicU64,
    first_failure: Mutex<Option<String>>,
}

impl Hooks {
    /// Takes a port.
    pub(super) fn listen() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
        let port = listener.local_addr().context("a socket without an address")?.port();
        let told = Arc::<Told>::default();
        let shared = Arc::clone(&told);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let told = Arc::clone(&shared);
                // The product opens one for each conversation that has something to tell: here, one.
                std::thread::spawn(move || {
                    if let Err(problem) = take_all(stream, &told) {
                        told.fail(problem);
                    }
                });
            }
        });
        Ok(Self { port, told })
    }

    /// What the product's configuration says, at its end.
    pub(super) fn configuration(&self) -> String {
        format!(
            "[apps.webhook]\nurl = \"http://127.0.0.1:{}/\"\nallow_networks = [\"127.0.0.0/8\"]\n\
             commands = [\"Group.CallbackAfterGroupMsgExtension\"]\n\
             [events]\nkeep_untold_per_conversation = 100000000\n",
            self.port
        )
    }

    /// Events that were told so far, each counted once.
    pub(super) fn told(&self) -> u64 {
        self.told.events.load(Ordering::Acquire)
    }

    /// Waits until so many were told in all, for [`PATIENCE`] at most after the last one came, and returns how many are
    /// missing.
    pub(super) fn missing(&self, wanted: u64) -> u64 {
        let (mut told, mut since) = (0, now());
        loop {
            let before = std::mem::replace(&mut told, self.told());
            if told != before {
                since = now();
            }
            if told >= wanted || since.elapsed() > PATIENCE {
                return wanted.saturating_sub(told);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What went wrong so far: how often, and what the first was.
    pub(super) fn failures(&self) -> (u64, Option<String>) {
        let first = self.told.first_failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (self.told.failures.load(Ordering::Acquire), first)
    }
}

impl Told {
    fn fail(&self, why: String) {
        self.first_failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.failures.fetch_add(1, Ordering::AcqRel);
    }

    /// At least once and in order: the next event, or the last one again.
    fn take(&self, number: u64) -> Result<(), String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match *last {
            Some(known) if number == known => return Ok(()),
            Some(known) if number != known + 1 => {
                return Err(format!("after the event {known} the event {number} was told"));
            }
            _ => {}
        }
        *last = Some(number);
        self.events.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }
}

/// Serves one connection until the server closes it.
fn take_all(mut stream: TcpStream, told: &Told) -> Result<(), String> {
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (mut received, mut piece) = (Vec::new(), [0; 16 * 1024]);
    loop {
        match stream.read(&mut piece) {
            // A server that ends does not say goodbye to its receivers.
            Ok(0) | Err(_) => return Ok(()),
            Ok(bytes) => received.extend_from_slice(&piece[..bytes]),
        }
        while let Some((number, length)) = request(&received)? {
            received.drain(..length);
            told.take(number)?;
            if stream.write_all(ANSWER).is_err() {
                return Ok(());
            }
        }
    }
}

/// The number of the event that the first request tells, and how many bytes the request has. `None`: it is not whole yet.
fn request(received: &[u8]) -> Result<Option<(u64, usize)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Request::new(&mut headers);
    let start = match head.parse(received) {
        Ok(httparse::Status::Complete(start)) => start,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("a webhook is no HTTP: {error}")),
    };
    let value = |name: &str| {
        let header = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()
    };
    let odd = || format!("an odd webhook came: {}", excerpt(received));
    let length: usize = value("content-length").and_then(|length| length.parse().ok()).ok_or_else(odd)?;
    let number = value("x-sidenote-event").and_then(|name| name.rsplit_once('-')?.1.parse().ok());
    let number = number.ok_or_else(odd)?;
    Ok((received.len() >= start + length).then_some((number, start + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_webhook_is_answered_and_counted_once() {
        let hooks = Hooks::listen().unwrap();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, hooks.port)).unwrap();
        for number in [7, 8, 8] {
            let request =
                format!("POST / HTTP/1.1\r\nX-Sidenote-Event: ab-{number}\r\ncontent-length: 2\r\n\r\n{{}}");
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = vec![0; ANSWER.len()];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer, ANSWER);
        }
        assert_eq!((hooks.missing(2), hooks.told(), hooks.failures()), (0, 2, (0, None)));
    }

    #[test]
    fn the_answer_is_as_long_as_it_says() {
        let text = std::str::from_utf8(ANSWER).unwrap();
        assert_eq!(text.split_once("\r\n\r\n").unwrap().1.len(), 51);
    }

    #[test]
    fn a_gap_is_a_failure() {
        let told = Told::default();
        told.take(7).unwrap();
        told.take(8).unwrap();
        told.take(10).unwrap_err();
        assert!(request(b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n").is_err());
        assert_eq!(
            request(b"POST / HTTP/1.1\r\nX-Sidenote-Event: ab-1\r\ncontent-length: 2\r\n\r\n{"),
            Ok(None)
        );
    }
}
