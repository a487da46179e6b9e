//! Those who are told: connections in the background, each push looked into and counted.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use memchr::memmem::find;
use rustix::event::{Timespec, epoll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use super::protocol::{Item, Protocol};
use crate::load::now;

/// How long whoever opens a connection waits for the server, and how long pushes may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How often a thread looks whether it is still wanted.
const LOOK_UP: Duration = Duration::from_millis(20);

/// Bytes that are read from a connection in one go.
const READ_BYTES: usize = 64 * 1024;

/// Connections from one address of the loopback network; it has a port for each, and a system may be short of them.
const PER_ADDRESS: u64 = 4000;

/// Receivers that listen until this is dropped.
pub(super) struct Receivers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// What opening them took.
    pub(super) opened_in: Duration,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Pushes that were heard.
    heard: Arc<AtomicU64>,
    failures: AtomicU64,
    first_failure: Mutex<Option<String>>,
    round: Mutex<Round>,
    /// How often the value of the round has changed.
    turns: AtomicU64,
    complete: Condvar,
}

/// One message that all of them are to hear, if they hear one at a time.
#[derive(Default)]
struct Round {
    /// What each push has to hold; empty while nobody takes times.
    value: Vec<u8>,
    wanted: usize,
    arrivals: Vec<Instant>,
}

impl Receivers {
    /// Opens `count` connections, one after the other in each thread, so that no more than that wait to be accepted.
    /// All of them are told everything from when this returns.
    pub(super) fn open(port: u16, protocol: Protocol, count: u64, threads: u32) -> Result<Self> {
        let begin = now();
        let shared = Arc::<Shared>::default();
        let threads = u64::from(threads).clamp(1, count.max(1));
        let (opened, ready) = sync_channel(64);
        let mut receivers =
            Self { shared: Arc::clone(&shared), threads: Vec::new(), opened_in: Duration::ZERO };
        for thread in 0..threads {
            let (shared, opened) = (Arc::clone(&shared), opened.clone());
            receivers.threads.push(std::thread::spawn(move || {
                let numbers = (thread..count).step_by(usize::try_from(threads).unwrap_or(1));
                listen(&shared, port, protocol, numbers, &opened);
            }));
        }
        drop(opened);
        for _ in 0..threads {
            ready.recv().context("a thread of receivers panicked")??;
        }
        receivers.opened_in = begin.elapsed();
        Ok(receivers)
    }

    /// Counts pushes.
    pub(super) fn heard(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared.heard)
    }

    /// From now on each of `wanted` pushes has to hold this value.
    pub(super) fn expect(&self, value: &str, wanted: u64) {
        let mut round = self.shared.round();
        value.as_bytes().clone_into(&mut round.value);
        round.wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        round.arrivals.clear();
        self.shared.turns.fetch_add(1, Ordering::AcqRel);
    }

    /// Waits until all pushes that were expected have come, for [`PATIENCE`] at most, and returns when each did.
    pub(super) fn arrivals(&self) -> Vec<Instant> {
        let waits = |round: &mut Round| round.arrivals.len() < round.wanted && !self.shared.has_failed();
        let waited = self.shared.complete.wait_timeout_while(self.shared.round(), PATIENCE, waits);
        let mut round = waited.unwrap_or_else(PoisonError::into_inner).0;
        round.value.clear();
        self.shared.turns.fetch_add(1, Ordering::AcqRel);
        std::mem::take(&mut round.arrivals)
    }

    /// Waits until so many pushes were heard in all, for [`PATIENCE`] at most after the last one came, and returns how
    /// many are missing.
    pub(super) fn missing(&self, wanted: u64) -> u64 {
        let (mut heard, mut since) = (0, now());
        loop {
            let before = std::mem::replace(&mut heard, self.shared.heard.load(Ordering::Acquire));
            if heard != before {
                since = now();
            }
            if heard >= wanted || since.elapsed() > PATIENCE || self.shared.has_failed() {
                return wanted.saturating_sub(heard);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What went wrong so far: how often, and what the first was.
    pub(super) fn failures(&self) -> (u64, Option<String>) {
        let first = self.shared.first_failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (self.shared.failures.load(Ordering::Acquire), first)
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn round(&self) -> MutexGuard<'_, Round> {
        // A round is sound at any moment.
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_failed(&self) -> bool {
        self.failures.load(Ordering::Acquire) > 0
    }

    fn fail(&self, why: String) {
        self.first_failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.failures.fetch_add(1, Ordering::AcqRel);
        self.complete.notify_all();
    }
}

struct Receiver {
    stream: TcpStream,
    /// What has come and is not whole.
    rest: Vec<u8>,
    /// The name of the last push.
    last: Option<(u64, u64)>,
}

/// One thread's share of the receivers.
struct Listening<'a> {
    shared: &'a Shared,
    protocol: Protocol,
    epoll: OwnedFd,
    receivers: Vec<Receiver>,
    scratch: Vec<u8>,
    outgoing: Vec<u8>,
    /// Arrivals that the others have not been told of.
    arrivals: VecDeque<Instant>,
    /// What pushes have to hold, as of this turn.
    value: Vec<u8>,
    turn: u64,
}

fn listen(
    shared: &Shared,
    port: u16,
    protocol: Protocol,
    numbers: impl Iterator<Item = u64>,
    opened: &SyncSender<Result<()>>,
) {
    let mut listening = match Listening::open(shared, port, protocol, numbers) {
        Ok(listening) => listening,
        Err(error) => return drop(opened.send(Err(error))),
    };
    // What came with the handshakes is read before anybody counts on these receivers.
    for number in 0..listening.receivers.len() {
        let rest = std::mem::take(&mut listening.receivers[number].rest);
        if let Err(problem) = listening.take(number, &rest, now()) {
            return drop(opened.send(Err(anyhow::anyhow!(problem))));
        }
    }
    // Whoever opened them has gone if this fails.
    drop(opened.send(Ok(())));
    if let Err(error) = listening.run() {
        shared.fail(format!("{error:#}"));
    }
}

impl<'a> Listening<'a> {
    fn open(
        shared: &'a Shared,
        port: u16,
        protocol: Protocol,
        numbers: impl Iterator<Item = u64>,
    ) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot make an epoll instance")?;
        let mut receivers = Vec::new();
        for number in numbers {
            let mut stream = connect_from(number / PER_ADDRESS, port)?;
            let rest = protocol.open(&mut stream, number).with_context(|| format!("receiver {number}"))?;
            stream.set_nonblocking(true).context("cannot make a socket non-blocking")?;
            let data = epoll::EventData::new_u64(receivers.len() as u64);
            epoll::add(&epoll, &stream, data, epoll::EventFlags::IN).context("cannot watch a socket")?;
            receivers.push(Receiver { stream, rest, last: None });
        }
        Ok(Self {
            shared,
            protocol,
            epoll,
            receivers,
            scratch: vec![0; READ_BYTES],
            outgoing: Vec::new(),
            arrivals: VecDeque::new(),
            value: Vec::new(),
            turn: 0,
        })
    }

    fn run(&mut self) -> Result<()> {
        let wait = Timespec::try_from(LOOK_UP).context("a time too long to wait")?;
        let mut events = Vec::with_capacity(256);
        while !self.shared.stop.load(Ordering::Acquire) {
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot wait for pushes"),
            }
            if events.is_empty() {
                continue;
            }
            for event in events.drain(..) {
                let number = usize::try_from(event.data.u64()).context("it was made from an index")?;
                if let Err(problem) = self.receive(number) {
                    // The connection is of no use any more.
                    let _ = epoll::delete(&self.epoll, &self.receivers[number].stream);
                    self.shared.fail(problem);
                }
            }
            self.report();
        }
        Ok(())
    }

    fn receive(&mut self, number: usize) -> Result<(), String> {
        let receiver = &mut self.receivers[number];
        let kept = receiver.rest.len();
        if self.scratch.len() < kept + READ_BYTES / 2 {
            self.scratch.resize(2 * self.scratch.len(), 0);
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch[..kept].copy_from_slice(&receiver.rest);
        let result = match receiver.stream.read(&mut scratch[kept..]) {
            Ok(0) => Err("the server closed a receiver's connection".to_owned()),
            Ok(bytes) => self.take(number, &scratch[..kept + bytes], now()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(format!("reading a push: {error}")),
        };
        self.scratch = scratch;
        result
    }

    /// Looks into all that is whole of what was received at `time`, and keeps the rest. What came together is
    /// acknowledged together, with the last of it.
    fn take(&mut self, number: usize, mut received: &[u8], time: Instant) -> Result<(), String> {
        // Looked at after reading: what was read may be of a round that began when others were read already.
        let turn = self.shared.turns.load(Ordering::Acquire);
        if turn != self.turn {
            self.value.clone_from(&self.shared.round().value);
            self.turn = turn;
        }
        let listener = &mut self.receivers[number];
        self.outgoing.clear();
        let (mut session, mut heard) = (&[][..], 0);
        while let Some((length, item)) = self.protocol.next(received)? {
            match item {
                Item::Push { name, content, session: its } => {
                    follows(listener.last.replace(name), name)?;
                    if !self.value.is_empty() {
                        if find(content, &self.value).is_none() {
                            return Err(format!(
                                "a push was not the one: {}",
                                crate::dialect::excerpt(content)
                            ));
                        }
                        self.arrivals.push_back(time);
                    }
                    session = its;
                    heard += 1;
                }
                Item::Ping(bytes) => self.protocol.write_pong(bytes, &mut self.outgoing),
                Item::Nothing => {}
            }
            received = &received[length..];
        }
        if !session.is_empty() {
            Protocol::write_acknowledgement(session, &mut self.outgoing);
        }
        listener.rest.clear();
        listener.rest.extend_from_slice(received);
        self.shared.heard.fetch_add(heard, Ordering::AcqRel);
        if self.outgoing.is_empty() {
            return Ok(());
        }
        // It is short, and the server reads all the time, so the socket has room for it.
        listener.stream.write_all(&self.outgoing).map_err(|error| format!("answering a push: {error}"))
    }

    fn report(&mut self) {
        if self.arrivals.is_empty() {
            return;
        }
        let mut round = self.shared.round();
        round.arrivals.extend(self.arrivals.drain(..));
        if round.arrivals.len() >= round.wanted {
            self.shared.complete.notify_all();
        }
    }
}

/// Pushes of one conversation are numbered without gaps, and a receiver gets each once.
fn follows(before: Option<(u64, u64)>, name: (u64, u64)) -> Result<(), String> {
    match before {
        Some((life, number)) if life == name.0 && number + 1 != name.1 => {
            Err(format!("after the push {number} came {}", name.1))
        }
        _ => Ok(()),
    }
}

/// Connects from the address of the loopback network with this number.
fn connect_from(address: u64, port: u16) -> Result<TcpStream> {
    let last = u8::try_from(address + 1).context("too many receivers")?;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .context("cannot make a socket")?;
    // Beyond the first address the system has to be told which one; it chooses the port.
    if address > 0 {
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), 0))
            .with_context(|| format!("cannot use the address 127.0.0.{last}"))?;
    }
    connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).context("cannot connect a receiver")?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
    stream.set_read_timeout(Some(PATIENCE)).context("cannot set a time-out")?;
    Ok(stream)
}

/// Lets this process and the servers that it starts have so many open files. Sockets are files.
pub(super) fn allow_connections(count: u64) -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = count + 500;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    if setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_err() {
        let most = limit.maximum.unwrap_or(0);
        bail!(
            "{count} connections need {wanted} open files, and this account may have {most}: raise ulimit -n"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Sends the same to everybody who connects, and keeps the connections open.
    fn serve(bytes: &'static [u8]) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let mut streams = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                stream.write_all(b"INFO {}\r\nPONG\r\n").unwrap();
                stream.write_all(bytes).unwrap();
                streams.push(stream);
            }
        });
        port
    }

    #[test]
    fn everybody_hears_everything() {
        let pushes = b"MSG bench 1 16\r\n0000000000000001\r\nMSG bench 1 16\r\n0000000000000002\r\n";
        let receivers = Receivers::open(serve(pushes), Protocol::Nats, 5, 2).unwrap();
        assert_eq!((receivers.missing(10), receivers.failures()), (0, (0, None)));
    }

    #[test]
    fn a_gap_is_a_failure() {
        let pushes = b"MSG bench 1 16\r\n0000000000000001\r\nPING\r\nMSG bench 1 16\r\n0000000000000003\r\n";
        let failed = match Receivers::open(serve(pushes), Protocol::Nats, 1, 1) {
            Err(error) => format!("{error:#}"),
            Ok(receivers) => {
                receivers.missing(2);
                receivers.failures().1.unwrap()
            }
        };
        assert!(failed.contains("after the push 1 came 3"), "{failed}");
    }

    #[test]
    fn a_push_that_comes_twice_or_too_late_is_a_failure() {
        follows(None, (1, 7)).unwrap();
        follows(Some((1, 7)), (1, 8)).unwrap();
        follows(Some((1, 7)), (2, 1)).unwrap();
        follows(Some((1, 7)), (1, 7)).unwrap_err();
        follows(Some((1, 7)), (1, 9)).unwrap_err();
    }

    #[test]
    fn connections_come_from_several_addresses() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        for address in [0, 1] {
            let stream = connect_from(address, port).unwrap();
            let last = stream.local_addr().unwrap().ip().to_string();
            assert_eq!(last, format!("127.0.0.{}", address + 1));
        }
    }
}
