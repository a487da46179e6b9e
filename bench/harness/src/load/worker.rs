//! One thread of the generator: its connections, its time-table, its tally.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use rustix::event::{Timespec, epoll};

use super::{Gate, Load, empty_histogram, micros, now, parse};
use crate::dialect::{Dialect, Learned};
use crate::workload::{Action, Request, Source, Versions};

/// How long after the end of the time answers are waited for; what is open then has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a closed gate is looked at.
const GATE_PAUSE: Duration = Duration::from_micros(100);

/// Room for an answer at first; a page of 200 pairs needs 20 KiB.
const BUFFER_BYTES: usize = 64 * 1024;

/// What one thread counted.
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) answers: u64,
    pub(super) latencies: Histogram<u64>,
    pub(super) per_second: Vec<u64>,
    pub(super) longest_gap: Duration,
    pub(super) window: Duration,
    pub(super) failures: u64,
    pub(super) first_failure: Option<String>,
}

impl Tally {
    fn fail(&mut self, why: impl FnOnce() -> String) {
        self.failures += 1;
        self.first_failure.get_or_insert_with(why);
    }
}

struct Connection {
    stream: TcpStream,
    source: Source,
    /// What was asked and when it was due; `None` while idle.
    pending: Option<(Request, Instant)>,
    received: Vec<u8>,
    filled: usize,
}

/// One thread's share of a load.
pub(super) struct Worker {
    dialect: Arc<dyn Dialect>,
    versions: Arc<Versions>,
    warm_up: Duration,
    time: Duration,
    thorough: bool,
    gate: Option<Arc<Gate>>,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    /// Numbers of the connections that wait for work. A broken one is in neither this list nor pending.
    idle: Vec<usize>,
    /// Connections whose source has run dry, or that broke.
    finished: usize,
    outgoing: Vec<u8>,
    tally: Tally,
}

impl Worker {
    /// Opens one connection for each source.
    pub(super) fn connect(load: &Load, sources: Vec<(SocketAddrV4, Source)>) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot make an epoll instance")?;
        let mut connections = Vec::with_capacity(sources.len());
        for (number, (address, source)) in (0_u64..).zip(sources) {
            let stream =
                TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
            stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
            stream.set_nonblocking(true).context("cannot make a socket non-blocking")?;
            epoll::add(&epoll, &stream, epoll::EventData::new_u64(number), epoll::EventFlags::IN)
                .context("cannot watch a socket")?;
            let received = vec![0; BUFFER_BYTES];
            connections.push(Connection { stream, source, pending: None, received, filled: 0 });
        }
        Ok(Self {
            dialect: Arc::clone(&load.dialect),
            versions: Arc::clone(&load.versions),
            warm_up: load.warm_up,
            time: load.time,
            thorough: load.thorough,
            gate: load.gate.clone(),
            epoll,
            idle: (0..connections.len()).rev().collect(),
            connections,
            finished: 0,
            outgoing: Vec::with_capacity(4096),
            tally: Tally {
                requests: 0,
                answers: 0,
                latencies: empty_histogram(),
                per_second: Vec::new(),
                longest_gap: Duration::ZERO,
                window: Duration::ZERO,
                failures: 0,
                first_failure: None,
            },
        })
    }

    /// Sends from `first` on, every `interval` or, without one, whenever a connection is idle. Figures are taken
    /// from `begin` and the warm-up on.
    pub(super) fn run(mut self, begin: Instant, first: Instant, interval: Option<Duration>) -> Result<Tally> {
        // Without it the kernel may wake a sleeper 50 microseconds late to save power. A request that is sent late
        // counts from when it was due all the same, so if this is refused the figures are worse, never better.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let open_at = begin + self.warm_up;
        let close_at = open_at + self.time;
        let mut due = first;
        let mut last_answer = open_at;
        let mut events = Vec::with_capacity(256);
        std::thread::sleep(first.saturating_duration_since(now()));
        loop {
            let mut time = now();
            due = self.send_what_is_due(due, interval, time, close_at);
            let busy = self.connections.len() - self.idle.len() - self.finished;
            // What was due in time is still to be sent, however late it is by now.
            let more = if interval.is_some() { due < close_at } else { time < close_at };
            if busy == 0 && (!more || self.idle.is_empty()) {
                break;
            }
            if time >= close_at + PATIENCE {
                self.give_up(busy, close_at.saturating_duration_since(due), interval);
                break;
            }
            let wake_at = match interval {
                Some(_) if more && !self.idle.is_empty() => due,
                // An idle connection that has not sent waits for the gate, which rings no bell.
                None if self.gate.is_some() && more && !self.idle.is_empty() => {
                    close_at.min(time + GATE_PAUSE)
                }
                _ if time < close_at => close_at,
                _ => close_at + PATIENCE,
            };
            self.wait(&mut events, wake_at.saturating_duration_since(time))?;
            if events.is_empty() {
                continue;
            }
            time = now();
            for event in events.drain(..) {
                let number = usize::try_from(event.data.u64()).expect("it was made from an index");
                let Some(due) = self.receive(number) else { continue };
                // A time-table is measured by what was due in the window, even if that was answered later.
                let moment = if interval.is_some() { due } else { time };
                if (open_at..close_at).contains(&moment) {
                    self.count(time.saturating_duration_since(due), moment - open_at);
                }
                if (open_at..close_at).contains(&time) {
                    self.tally.longest_gap = self.tally.longest_gap.max(time - last_answer);
                    last_answer = time;
                }
            }
        }
        // A fill ends when there is no more to do, all else when its time is over.
        let end = now().min(close_at);
        self.tally.window = end.saturating_duration_since(open_at);
        self.tally.longest_gap = self.tally.longest_gap.max(end.saturating_duration_since(last_answer));
        Ok(self.tally)
    }

    /// Sends until nothing is due or no connection is idle, and tells when the next request is due.
    fn send_what_is_due(
        &mut self,
        mut due: Instant,
        interval: Option<Duration>,
        time: Instant,
        close_at: Instant,
    ) -> Instant {
        while let Some(&number) = self.idle.last() {
            let since = match interval {
                None if time >= close_at => break,
                None => time,
                Some(_) if due > time || due >= close_at => break,
                Some(_) => due,
            };
            if self.gate.as_ref().is_some_and(|gate| !gate.pass()) {
                break;
            }
            self.idle.pop();
            let connection = &mut self.connections[number];
            let Some(request) = connection.source.draw() else {
                self.finished += 1;
                continue;
            };
            self.outgoing.clear();
            self.dialect.write(request, &self.versions, &mut connection.source, &mut self.outgoing);
            connection.pending = Some((request, since));
            if let Err(error) = send(&mut connection.stream, &self.outgoing) {
                connection.pending = None;
                self.finished += 1;
                self.tally.fail(|| format!("a request could not be sent: {error}"));
            }
            if let Some(interval) = interval {
                due += interval;
            }
        }
        due
    }

    fn wait(&self, events: &mut Vec<epoll::Event>, time: Duration) -> Result<()> {
        let time = Timespec::try_from(time).context("a time too long to wait")?;
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("cannot wait for answers"),
        }
    }

    /// Reads what has come. When that completes a good answer, the connection is idle again and the result is the
    /// moment from which its latency counts.
    fn receive(&mut self, number: usize) -> Option<Instant> {
        let connection = &mut self.connections[number];
        if connection.filled == connection.received.len() {
            connection.received.resize(2 * connection.filled, 0);
        }
        let problem = match connection.stream.read(&mut connection.received[connection.filled..]) {
            Ok(0) => "the server closed a connection".to_owned(),
            Ok(bytes) => {
                connection.filled += bytes;
                match parse(&connection.received[..connection.filled]) {
                    Ok(None) => return None,
                    Ok(Some(answer)) if answer.bytes == connection.filled => {
                        let (request, due) = connection.pending.take()?;
                        let verdict = if answer.status == 200 {
                            self.dialect.check(request, &answer.body, self.thorough)
                        } else {
                            let text = String::from_utf8_lossy(&answer.body);
                            Err(format!("status {}: {text}", answer.status))
                        };
                        connection.filled = 0;
                        self.idle.push(number);
                        return match verdict {
                            Ok(learned) => {
                                self.tally.answers += 1;
                                remember(&self.versions, request, learned);
                                Some(due)
                            }
                            Err(text) => {
                                self.tally.fail(|| format!("{request:?} was answered {text}"));
                                None
                            }
                        };
                    }
                    Ok(Some(_)) => "more came than was asked for".to_owned(),
                    Err(problem) => problem,
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return None;
            }
            Err(error) => format!("reading an answer: {error}"),
        };
        // The connection is of no use any more. Whether it was idle or busy, it is out of the game now.
        let _ = epoll::delete(&self.epoll, &connection.stream);
        connection.pending = None;
        self.idle.retain(|idle| *idle != number);
        self.finished += 1;
        self.tally.fail(|| problem);
        None
    }

    fn count(&mut self, latency: Duration, into_the_window: Duration) {
        self.tally.requests += 1;
        self.tally.latencies.saturating_record(micros(latency).max(1));
        let second = usize::try_from(into_the_window.as_secs()).expect("runs are not that long");
        if self.tally.per_second.len() <= second {
            self.tally.per_second.resize(second + 1, 0);
        }
        self.tally.per_second[second] += 1;
    }

    /// Counts as failed what was not answered, and what was due and could not even be sent.
    fn give_up(&mut self, busy: usize, late: Duration, interval: Option<Duration>) {
        let unsent = interval.map_or(0, |interval| late.as_nanos().div_ceil(interval.as_nanos().max(1)));
        let open = busy as u64 + u64::try_from(unsent).unwrap_or(u64::MAX);
        self.tally.failures += open;
        self.tally.first_failure.get_or_insert_with(|| {
            format!("{open} requests were not answered within {} s", PATIENCE.as_secs())
        });
    }
}

fn remember(versions: &Versions, request: Request, learned: Learned) {
    let Action::Set { key, pairs, compares: true } = request.action else { return };
    for key in key..key + pairs {
        match learned {
            Learned::Nothing => {}
            Learned::All(version) => versions.learn(request.message, key, version),
            Learned::OneMore => versions.learn(request.message, key, versions.of(request.message, key) + 1),
        }
    }
}

/// A request is small and nothing else is under way on its connection, so the socket has room for it.
fn send(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes)
}
