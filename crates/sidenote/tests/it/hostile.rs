//! Clients that mean harm, and one that does not. Whatever the others do, the honest one is served, and memory and file
//! descriptors of the server stay below a bound that follows from its configuration.
//!
//! A few numbers are smaller than they would be in the field, so that the suite stays quick; `SIDENOTE_SOAK=1` takes
//! all of them.

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sidenote_server::auth::user_sig::sign;
use sidenote_server::clock::{Clock as _, SystemClock};
use sidenote_server::config::Secret;
use tokio::time::Instant;

use crate::server::{ADMINISTRATOR, APP, ConfigOptions, PATIENCE, Running, key_of, query};

const SET: &str = "openim_msg_ext_http_svc/group_set_key_values";
const PULL: &str = "openim_msg_ext_http_svc/group_get_key_values";
const MIB: usize = 1024 * 1024;

/// Longest wait of the honest client for one answer. What it needs is a few milliseconds; the rest is for a machine
/// whose cores are busy with the attackers, which a server in the field does not share a machine with.
const DEADLINE: Duration = Duration::from_secs(10);

/// What the process may take beyond what it took before the attack, apart from what a test adds for connections and
/// bodies: caches of small configurations, stacks, and what the allocator keeps.
pub(crate) const SLACK: usize = 48 * MIB;

/// What one connection may take: its task, its deadlines and, where a head has begun, hyper's buffers. Without
/// optimisation futures are larger: 34 KiB were measured.
const PER_CONNECTION: usize = 40 * 1024;

/// One of two numbers: for every run, and for a long one.
pub(crate) fn scale(quick: usize, full: usize) -> usize {
    if std::env::var_os("SIDENOTE_SOAK").is_some() { full } else { quick }
}

/// A server under attack.
struct Besieged {
    server: Running,
    pid: u32,
    memory_before: usize,
    descriptors_before: usize,
    /// How often the honest client was served.
    answered: AtomicUsize,
    over: AtomicBool,
}

impl Besieged {
    /// With these lines of `[http]`. A group `g` has a message that carries pairs.
    fn start(http: &str) -> Self {
        let limits = "attempts_per_minute = 0".to_owned();
        let server = Running::start(&ConfigOptions { limits, http: http.to_owned(), ..Default::default() });
        for (command, body) in [
            ("im_open_login_svc/account_import", r#"{"UserID":"ann"}"#),
            (
                "group_open_http_svc/create_group",
                r#"{"GroupId":"g","Type":"Public","Name":"g","MemberList":[{"Member_Account":"ann"}]}"#,
            ),
            (
                "group_open_http_svc/send_group_msg",
                r#"{"GroupId":"g","Random":1,"SupportMessageExtension":1,
                    "MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"?"}}]}"#,
            ),
        ] {
            assert_eq!(server.post(ADMINISTRATOR, command, body)["ErrorCode"], 0);
        }
        let pid = pid_of(&server);
        let (memory_before, descriptors_before) = (peak_memory(pid), descriptors(pid));
        let (answered, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self { server, pid, memory_before, descriptors_before, answered, over }
    }

    /// Attacks it while the honest client asks one thing after another, all on one connection. Afterwards the peak of
    /// memory was below what it was before plus `memory` bytes, and all descriptors have been given back.
    fn withstands(&self, name: &str, memory: usize, attack: impl FnOnce()) {
        let begun = Instant::now();
        let slowest = thread::scope(|scope| {
            let (address, answered, over) = (self.server.address, &self.answered, &self.over);
            let honest = scope.spawn(move || be_honest(address, answered, over));
            self.serves_the_honest();
            // However the attack ends, the honest client must learn of it, or a failure would never show.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(attack));
            if outcome.is_ok() {
                self.serves_the_honest();
            }
            self.over.store(true, Ordering::Release);
            let slowest = honest.join().unwrap();
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            slowest
        });
        let (peak, bound) = (peak_memory(self.pid), self.memory_before + memory);
        println!(
            "{name}: {} honest requests, the slowest {slowest:?}; memory {} MiB before, {} at the peak, bound {}; {:?}",
            self.answered.load(Ordering::Relaxed),
            self.memory_before / MIB,
            peak / MIB,
            bound / MIB,
            begun.elapsed()
        );
        assert!(peak <= bound, "{name}: {peak} bytes of memory, {bound} are the bound");
        // Connections of the honest client and of those that asked before may still be open.
        self.waits_for("descriptors to be given back", || {
            descriptors(self.pid) <= self.descriptors_before + 4
        });
    }

    /// From now on the honest client gets answers to requests that it has sent after now.
    fn serves_the_honest(&self) {
        let before = self.answered.load(Ordering::Acquire);
        self.waits_for("the honest client to be served", || {
            self.answered.load(Ordering::Acquire) >= before + 4
        });
    }

    fn waits_for(&self, what: &str, is_so: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}:\n{}", self.server.log());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Sets and pulls until it is over; how long the slowest answer took.
fn be_honest(server: SocketAddr, answered: &AtomicUsize, over: &AtomicBool) -> Duration {
    let mut line = Line::open(server);
    let query = query(APP, "ann");
    let (mut slowest, mut claim) = (Duration::ZERO, 0);
    while !over.load(Ordering::Acquire) {
        let list = format!(r#""ExtensionList":[{{"Key":"k","Value":"v","Seq":{claim}}}]"#);
        let body = format!(r#"{{"GroupId":"g","MsgSeq":1,"OperateType":1,{list}}}"#);
        let begun = Instant::now();
        let (status, answer) = line.ask(SET, &query, body.as_bytes());
        assert!(status == 200 && answer.contains(r#""ErrorCode":0"#), "{status} {answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["ExtensionList"][0]["ErrorCode"], 0, "{answer}");
        claim = answer["Seq"].as_u64().unwrap();
        let (status, answer) = line.ask(PULL, &query, br#"{"GroupId":"g","MsgSeq":1,"StartSeq":0}"#);
        assert!(status == 200 && answer.contains(&format!(r#""LatestSeq":{claim}"#)), "{status} {answer}");
        slowest = slowest.max(begun.elapsed());
        answered.fetch_add(2, Ordering::Release);
        // It is there to be served, and not to compete with the attackers for the machine.
        thread::sleep(Duration::from_millis(5));
    }
    slowest
}

/// A connection that is kept.
struct Line(BufReader<TcpStream>);

impl Line {
    fn open(server: SocketAddr) -> Self {
        let connection = TcpStream::connect(server).unwrap();
        connection.set_read_timeout(Some(DEADLINE)).unwrap();
        connection.set_nodelay(true).unwrap();
        Self(BufReader::new(connection))
    }

    fn ask(&mut self, command: &str, query: &str, body: &[u8]) -> (u16, String) {
        self.0.get_mut().write_all(&request(command, query, body)).unwrap();
        self.answer()
    }

    fn answer(&mut self) -> (u16, String) {
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the server closed the connection");
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().unwrap();
            } else if let Some(rest) = line.strip_prefix("content-length: ") {
                length = rest.trim().parse().unwrap();
            } else if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (status, String::from_utf8(body).unwrap())
    }
}

fn request(command: &str, query: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /v4/{command}?{query} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The process that was started with this server's configuration, which no other has.
pub(crate) fn pid_of(server: &Running) -> u32 {
    let config = server.config();
    let config = config.to_str().unwrap();
    let is_it = |pid: &u32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(config))
    };
    let names =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok()).find(is_it).expect("the server runs")
}

/// Most bytes that the process ever had in memory.
pub(crate) fn peak_memory(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Allows as many open files as this process may have, and says how many that is.
fn raise_open_files() -> usize {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    maximum.map_or(usize::MAX, |maximum| usize::try_from(maximum).unwrap_or(usize::MAX))
}

/// Without waiting: whether the server has closed the connection, after whatever it said.
fn is_closed(connection: &mut TcpStream, said: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 1024];
    loop {
        match connection.read(&mut buffer) {
            Ok(0) => return true,
            Ok(bytes) => said.extend_from_slice(&buffer[..bytes]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(_) => return true,
        }
    }
}

#[test]
fn ten_thousand_idle_connections() {
    // The other tests of this process need some, too. Each side of a connection is in a process of its own.
    let connections = raise_open_files().saturating_sub(2_000).min(10_000);
    println!("{connections} idle connections, of 10000 that are wanted");
    let server = Besieged::start("header_timeout_ms = 120_000");
    server.withstands("idle connections", SLACK + connections * PER_CONNECTION, || {
        let mut idle = Vec::with_capacity(connections);
        for number in 0..connections {
            let mut connection = server.server.connect();
            // A few have begun a head, and hold a buffer for it.
            if number.is_multiple_of(10) {
                connection.write_all(b"POST /v4/").unwrap();
            }
            idle.push(connection);
            // Where the queue of the system is full, it drops the greeting and repeats it a second later.
            if number.is_multiple_of(100) {
                server.waits_for("some to be accepted", || descriptors(server.pid) + 50 >= number);
            }
        }
        server.waits_for("all to be accepted", || descriptors(server.pid) >= connections);
        server.serves_the_honest();
    });
}

#[test]
fn clients_that_send_a_byte_now_and_then() {
    let server = Besieged::start("header_timeout_ms = 500\nbody_timeout_ms = 500");
    let signed = query(APP, ADMINISTRATOR);
    let head = format!("POST /v4/{PULL}?{signed} HTTP/1.1\r\nHost: test\r\n");
    let body = format!("{head}Content-Length: 100000\r\n\r\n{{");
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\nFFFF\r\n");
    server.withstands("slow senders", SLACK + 1200 * PER_CONNECTION, || {
        let begin = |beginning: &str| {
            let mut connection = server.server.connect();
            connection.write_all(beginning.as_bytes()).unwrap();
            connection.set_nonblocking(true).unwrap();
            (connection, Vec::new())
        };
        let mut slow: Vec<_> =
            (0..300).flat_map(|_| ["POST /v4/", &head, &body, &chunked]).map(begin).collect();
        let (start, count, mut told) = (Instant::now(), slow.len(), 0);
        while !slow.is_empty() {
            assert!(start.elapsed() < PATIENCE, "{} slow clients are still listened to", slow.len());
            slow.retain_mut(|(connection, said)| {
                let closed = is_closed(connection, said);
                if closed {
                    let said = String::from_utf8_lossy(said);
                    // A reset may overtake what the server said, if this loop was slow to listen.
                    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408 "), "{said:?}");
                    told += usize::from(!said.is_empty());
                } else {
                    // The server may be closing it right now.
                    let _ = connection.write(b"1");
                }
                !closed
            });
            thread::sleep(Duration::from_millis(20));
        }
        assert!(told > count / 2, "{told} of {count} were told that they were too slow");
    });
}

#[test]
fn clients_that_do_not_read_what_they_asked_for() {
    let server = Besieged::start("idle_timeout_ms = 3000");
    let signed = query(APP, ADMINISTRATOR);
    for round in 0..14 {
        let item = |number| format!(r#"{{"Key":"{round} {number}","Value":"{}"}}"#, "v".repeat(1000));
        let list = (0..20).map(item).collect::<Vec<_>>().join(",");
        let body = format!(r#"{{"GroupId":"g","MsgSeq":1,"OperateType":1,"ExtensionList":[{list}]}}"#);
        assert_eq!(server.server.post(ADMINISTRATOR, SET, &body)["ErrorCode"], 0);
    }
    // Each asks for 100 pages of 200 KiB, much more than lies between two sockets.
    let ask = request(PULL, &signed, br#"{"GroupId":"g","MsgSeq":1,"StartSeq":0}"#).repeat(100);
    server.withstands("those who do not read", SLACK + 50 * MIB, || {
        let deaf: Vec<_> = (0..50)
            .map(|_| {
                let mut connection = server.server.connect();
                connection.set_nonblocking(true).unwrap();
                // What does not fit is not sent, as the server stops reading when it cannot write.
                let _ = connection.write(&ask).unwrap();
                connection
            })
            .collect();
        // Those of the honest client and of the set-up are among them or not.
        server.waits_for("all to be accepted", || descriptors(server.pid) >= server.descriptors_before + 46);
        server.waits_for("all to be given up", || descriptors(server.pid) <= server.descriptors_before + 4);
        drop(deaf);
    });
}

#[test]
fn connections_that_come_and_go() {
    let server = Besieged::start("");
    let rounds = scale(500, 10_000);
    let whole = request(PULL, &query(APP, ADMINISTRATOR), br#"{"GroupId":"g","MsgSeq":1,"StartSeq":0}"#);
    server.withstands("churn", SLACK, || {
        for round in 0..rounds {
            // Nothing, half a head, a head and half a body, and a request whose answer nobody waits for.
            for part in [0, 40, whole.len() - 10, whole.len()] {
                let mut connection = server.server.connect();
                connection.write_all(&whole[..part]).unwrap();
                if round.is_multiple_of(2) {
                    // It may be gone by now.
                    let _ = connection.shutdown(Shutdown::Both);
                }
            }
        }
    });
}

#[test]
fn bodies_as_large_as_they_may_be_and_larger() {
    const SENDERS: usize = 8;
    let server = Besieged::start("");
    let address = server.server.address;
    let signed = query(APP, ADMINISTRATOR);
    let filled = |filling: &str| {
        let (open, close) = (r#"{"GroupId":"g","MsgSeq":1,"StartSeq":0,"x":["#, "0]}");
        let mut body = open.to_owned() + &filling.repeat((MIB - open.len() - close.len()) / filling.len());
        body += close;
        body + &" ".repeat(
            MIB - open.len() - close.len() - (MIB - open.len() - close.len()) / filling.len() * filling.len(),
        )
    };
    // One long text costs its bytes. Numbers of one digit cost most: two bytes make one value of the document.
    let bodies =
        [filled("\"vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv\","), filled("0,")];
    assert!(bodies.iter().all(|body| body.len() == MIB));
    let rounds = scale(3, 200);
    // The body, the room in which it grew, and up to 24 bytes for every second byte of it.
    server.withstands("large bodies", SLACK + SENDERS * 32 * MIB, || {
        thread::scope(|scope| {
            for _ in 0..SENDERS {
                scope.spawn(|| {
                    let mut line = Line::open(address);
                    line.0.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
                    for body in (0..rounds).flat_map(|_| &bodies) {
                        let (status, answer) = line.ask(PULL, &signed, body.as_bytes());
                        assert!(status == 200 && answer.contains(r#""ErrorCode":0"#), "{status} {answer}");
                    }
                });
            }
        });
        let head = format!("POST /v4/{PULL}?{signed} HTTP/1.1\r\nHost: test\r\n");
        let announced = format!("{head}Content-Length: {}\r\n\r\n", MIB + 1);
        let piece = "10000\r\n".to_owned() + &" ".repeat(0x10000) + "\r\n";
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", piece.repeat(17));
        for _ in 0..scale(20, 1_000) {
            for refused in [&announced, &chunked] {
                let answer = server.server.raw(refused.as_bytes());
                assert!(answer.starts_with(b"HTTP/1.1 413 "), "{}", String::from_utf8_lossy(&answer));
            }
        }
    });
}

#[test]
fn signatures_that_are_all_different() {
    let signatures = scale(10_000, 100_000);
    // A quarter of them is remembered.
    let server = Besieged::start(&format!("signature_cache = {}", signatures / 4));
    let address = server.server.address;
    let now = SystemClock.now_millis() / 1000;
    let keys = [key_of(APP), "a key of nobody".to_owned()].map(|key| Secret::new(key).unwrap());
    server.withstands("signatures", SLACK, || {
        thread::scope(|scope| {
            for (key, code) in keys.iter().zip([r#""ErrorCode":0"#, r#""ErrorCode":70009"#]) {
                let mut line = Line::open(address);
                scope.spawn(move || {
                    line.0.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
                    let numbers: Vec<_> = (0..signatures as u64).collect();
                    for numbers in numbers.chunks(50) {
                        let ask = |number: &u64| {
                            let ticket = sign(APP, key, ADMINISTRATOR, now, 3600 + number, None);
                            let query = format!("sdkappid={APP}&identifier={ADMINISTRATOR}&usersig={ticket}");
                            request(PULL, &query, br#"{"GroupId":"g","MsgSeq":1,"StartSeq":0}"#)
                        };
                        line.0
                            .get_mut()
                            .write_all(&numbers.iter().flat_map(ask).collect::<Vec<_>>())
                            .unwrap();
                        for _ in numbers {
                            let (status, answer) = line.answer();
                            assert!(status == 200 && answer.contains(code), "{status} {answer}");
                        }
                    }
                });
            }
        });
    });
}

#[test]
fn bodies_and_heads_made_to_hurt() {
    let server = Besieged::start("");
    let address = server.server.address;
    let signed = query(APP, ADMINISTRATOR);
    let members = |name: fn(usize) -> String| {
        format!(
            "{{{}}}",
            (0..20_000).map(|number| format!("\"{}\":0", name(number))).collect::<Vec<_>>().join(",")
        )
    };
    let number = format!(r#"{{"GroupId":"g","MsgSeq":{}}}"#, "9".repeat(MIB / 2));
    let bodies: [(Vec<u8>, &str); 8] = [
        (format!("{{\"a\":{}", "[".repeat(MIB / 2)).into(), r#""ErrorCode":60003"#),
        ("{\"a\":".repeat(MIB / 8).into(), r#""ErrorCode":60003"#),
        (number.into(), r#""ErrorCode":"#),
        (r#"{"GroupId":"g","MsgSeq":1e999999999}"#.into(), r#""ErrorCode":10004"#),
        (members(|number| format!("m{number}")).into(), r#""ErrorCode":10004"#),
        (members(|_| "m".to_owned()).into(), r#""ErrorCode":60003"#),
        ([&b"{\"GroupId\":\"g"[..], &[0xff; 1000], b"\"}"].concat(), r#""ErrorCode":60003"#),
        (format!("{{\"a\":[{}]}}", "1,,".repeat(MIB / 8)).into(), r#""ErrorCode":60003"#),
    ];
    server.withstands("malice", SLACK + 64 * MIB, || {
        let mut line = Line::open(address);
        line.0.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
        for _ in 0..scale(3, 100) {
            for (body, code) in &bodies {
                let (status, answer) = line.ask(PULL, &signed, body);
                assert!(status == 200 && answer.contains(code), "{code}: {status} {answer}");
                assert!(!answer.contains(r#""ErrorCode":0"#) && answer.len() < 1000, "{answer}");
            }
        }
        let head = format!("POST /v4/{PULL}?{signed} HTTP/1.1\r\nHost: test\r\n");
        let floods = [
            format!("{head}{}\r\n", "A: b\r\n".repeat(200)),
            format!("{head}A: {}\r\n\r\n", "b".repeat(100_000)),
            format!("{head}{}", "A: b\r\n".repeat(MIB / 8)),
            format!("POST /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000)),
        ];
        for _ in 0..scale(10, 500) {
            for flood in &floods {
                let answer = server.server.raw(flood.as_bytes());
                let status = String::from_utf8_lossy(&answer[..answer.len().min(13)]).into_owned();
                assert!(["HTTP/1.1 431 ", "HTTP/1.1 414 "].contains(&&*status), "{status:?}");
            }
        }
    });
}
