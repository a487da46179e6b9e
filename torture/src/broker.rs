//! A NATS server of a test's own, on the loopback interface, which can be killed, stopped and started again.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use sidenote_postgres_for_tests::processes::{bound, spawn};

use crate::cluster::until;
use crate::server::PATIENCE;

/// Where packages put it, besides the search path.
const PLACES: [&str; 3] = ["/usr/sbin/nats-server", "/usr/bin/nats-server", "/usr/local/bin/nats-server"];

/// A server. It ends when this is dropped, and with the process of the tests, however that ends.
pub struct Broker {
    program: PathBuf,
    port: u16,
    /// User and password that it asks for.
    login: Option<(String, String)>,
    /// Files of the certificate and of the key with which it encrypts.
    tls: Option<[PathBuf; 2]>,
    server: Option<Child>,
}

impl Broker {
    /// Starts a server; `None` if there is none on this machine, in which case `test` is named as skipped. Where
    /// `SIDENOTE_REQUIRE_NATS` is set that is a failure.
    pub fn start_or_skip(test: &str) -> Option<Self> {
        Self::start_with(test, None, None)
    }

    /// The same for one that asks for a user and a password.
    pub fn start_with_login_or_skip(test: &str, login: (&str, &str)) -> Option<Self> {
        Self::start_with(test, Some(login), None)
    }

    /// The same for one that encrypts, with the certificate and the key in these files, and talks to nobody who does not.
    pub fn start_with_tls_or_skip(test: &str, tls: [PathBuf; 2]) -> Option<Self> {
        Self::start_with(test, None, Some(tls))
    }

    fn start_with(test: &str, login: Option<(&str, &str)>, tls: Option<[PathBuf; 2]>) -> Option<Self> {
        let Some(program) = PLACES.iter().map(Path::new).find(|place| place.is_file()) else {
            #[expect(
                clippy::disallowed_methods,
                reason = "tests are told what must be there by the environment"
            )]
            let required = std::env::var("SIDENOTE_REQUIRE_NATS").is_ok();
            assert!(!required, "{test}: NATS is not installed (apt install nats-server)");
            println!("{test}: skipped, because NATS is not installed (apt install nats-server)");
            return None;
        };
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let login = login.map(|(user, password)| (user.to_owned(), password.to_owned()));
        let mut broker = Self { program: program.to_owned(), port, login, tls, server: None };
        broker.start();
        Some(broker)
    }

    /// The section of a configuration that names it.
    pub fn section(&self, poll_ms: u64) -> String {
        format!("[cluster]\nnats = [\"nats://127.0.0.1:{}\"]\npoll_ms = {poll_ms}", self.port)
    }

    /// The same with what stands before the host in an address.
    pub fn section_as(&self, login: &str, poll_ms: u64) -> String {
        self.section(poll_ms).replace("nats://", &format!("nats://{login}@"))
    }

    /// Starts it again, on the same port.
    pub fn start(&mut self) {
        assert!(self.server.is_none(), "it runs already");
        let mut command = bound(&self.program, "KILL", None);
        command.args(["--addr", "127.0.0.1", "--port", &self.port.to_string()]);
        if let Some((user, password)) = &self.login {
            command.args(["--user", user, "--pass", password]);
        }
        if let Some([certificate, key]) = &self.tls {
            command.arg("--tls").arg("--tlscert").arg(certificate).arg("--tlskey").arg(key);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.server = Some(spawn(command).unwrap());
        until(|| TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok(), "NATS does not start");
    }

    /// Kills it in the middle of whatever it does.
    pub fn kill(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// Sends it a signal, such as SIGSTOP.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.server.as_ref().unwrap()), signal).unwrap();
    }
}

/// Somebody who speaks to a broker and is no server of ours.
pub struct Stranger {
    stream: BufReader<TcpStream>,
}

impl Stranger {
    /// Connects, and hears whatever is published from then on.
    pub fn at(broker: &Broker) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, broker.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stranger = Self { stream: BufReader::new(stream) };
        stranger.say(b"CONNECT {\"verbose\":false,\"echo\":false}\r\nSUB > 1\r\nPING\r\n");
        while stranger.line() != "PONG" {}
        stranger
    }

    /// The next message that anybody publishes: its subject and its bytes.
    pub fn hear(&mut self) -> (String, Vec<u8>) {
        loop {
            let line = self.line();
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["MSG", subject, _, length] => {
                    // Behind the bytes stands the end of a line.
                    let mut bytes = vec![0; length.parse::<usize>().unwrap() + 2];
                    self.stream.read_exact(&mut bytes).unwrap();
                    bytes.truncate(bytes.len() - 2);
                    return (subject.to_owned(), bytes);
                }
                ["PING"] => self.say(b"PONG\r\n"),
                _ => panic!("{line}"),
            }
        }
    }

    /// Publishes something.
    pub fn publish(&mut self, subject: &str, bytes: &[u8]) {
        let head = format!("PUB {subject} {}\r\n", bytes.len());
        self.say(&[head.as_bytes(), bytes, b"\r\n"].concat());
    }

    fn say(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.kill();
        }
    }
}
