//! Several servers on one database, each behind a proxy that can cut it off.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use sidenote_postgres_for_tests::{Postgres, Settings};
use sidenote_server::clock::{Clock as _, SystemClock};
use tempfile::TempDir;

use crate::patroni::Patroni;
use crate::server::{ConfigOptions, PATIENCE, Running, sidenote_of};

/// Connections of each server to the database.
pub const CONNECTIONS: usize = 6;

/// What keeps the data of several servers.
pub trait Database {
    /// Lets `psql` carry out SQL, wherever writes are taken, and takes what it prints, columns separated by `|`.
    fn psql(&self, database: &str, sql: &str) -> String;
}

impl Database for Postgres {
    fn psql(&self, database: &str, sql: &str) -> String {
        Self::psql(self, database, sql)
    }
}

impl Database for Patroni {
    fn psql(&self, database: &str, sql: &str) -> String {
        Self::psql(self, database, sql)
    }
}

/// A database with servers on it.
pub struct Cluster<D = Postgres> {
    /// The servers. They are ended before the database is.
    pub nodes: Vec<Running>,
    /// What is between each of them and the database.
    pub proxies: Vec<Proxy>,
    /// The database, which syncs what it commits.
    pub database: D,
    /// How it is reached past the proxies.
    pub url: String,
}

impl Cluster {
    /// Starts so many servers on a database of their own; `None` if there is no PostgreSQL on this machine, in which case
    /// `test` is named as skipped.
    pub fn start_or_skip(test: &str, nodes: usize, options: &ConfigOptions) -> Option<Self> {
        let database = Postgres::start_or_skip(test, Settings { durable: true, ..Settings::default() })?;
        let (url, ports) = (database.new_database(), [database.port()]);
        Some(Self::over(database, url, &ports, nodes, options))
    }
}

impl Cluster<Patroni> {
    /// Starts so many servers on a Patroni cluster of their own; `None` if there is none on this machine, in which case
    /// `test` is named as skipped.
    pub fn on_patroni_or_skip(test: &str, nodes: usize, options: &ConfigOptions) -> Option<Self> {
        let database = Patroni::start_or_skip(test)?;
        let (url, ports) = (database.new_database("chat"), database.ports());
        Some(Self::over(database, url, &ports, nodes, options))
    }
}

impl<D: Database> Cluster<D> {
    fn over(database: D, url: String, ports: &[u16], nodes: usize, options: &ConfigOptions) -> Self {
        migrate_with(options.program.as_deref(), &url);
        let proxies: Vec<_> = (0..nodes).map(|_| Proxy::before(ports)).collect();
        let start = |(number, proxy): (usize, &Proxy)| {
            let url = format!("{}&application_name={}", proxy.instead_of(ports, &url), name_of(number));
            let ConfigOptions { store, .. } = options;
            let store = format!("{store}\nconnections = {CONNECTIONS}\nstatement_timeout_ms = 2000");
            Running::start(&ConfigOptions { database: Some(url), store, ..options.clone() })
        };
        let nodes = proxies.iter().enumerate().map(start).collect();
        Self { nodes, proxies, database, url }
    }

    /// Where the servers listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.address).collect()
    }

    /// Waits until the database does nothing any more for a server that was killed.
    pub fn wait_until_forgotten(&self, node: usize) {
        self.wait_until_none(&format!("application_name = '{}'", name_of(node)));
    }

    /// Waits until no transaction of a server is open, and takes its connections away, so that nothing that it gave up
    /// can happen any more.
    pub fn settle(&self, node: usize) {
        let of_it = format!("application_name = '{}'", name_of(node));
        self.wait_until_none(&format!("{of_it} AND state <> 'idle'"));
        let sql = format!("SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE {of_it}");
        let ended = self.database.psql("postgres", &sql);
        for pid in ended.lines().filter_map(|line| line.split('|').next()) {
            self.wait_until_none(&format!("pid = {pid} AND {of_it}"));
        }
    }

    /// Waits until no server has a transaction open.
    pub fn wait_until_settled(&self) {
        self.wait_until_none("application_name LIKE 'node%' AND state <> 'idle'");
    }

    fn wait_until_none(&self, which: &str) {
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE {which}");
        until(|| self.database.psql("postgres", &sql).trim() == "0", "the database is busy with it");
    }
}

fn name_of(node: usize) -> String {
    format!("node{node}")
}

/// Makes the schema in a database or brings it up to date, as an operator does; what is said of that.
pub fn migrate(url: &str) -> String {
    migrate_with(None, url)
}

/// The same with another program than the one under test, if one is named.
pub fn migrate_with(program: Option<&Path>, url: &str) -> String {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("sidenote.toml");
    let options = ConfigOptions { database: Some(url.to_owned()), ..ConfigOptions::default() };
    std::fs::write(&config, options.toml(folder.path())).unwrap();
    let output = sidenote_of(program).arg("migrate").arg("--config").arg(config).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Waits until a server says that it is ready.
pub fn wait_until_ready(node: &Running) {
    until(|| node.probe("/readyz").0 == 200, "the server does not become ready");
}

/// Looks again and again, until it is so.
pub fn until(mut is_so: impl FnMut() -> bool, otherwise: &str) {
    assert!(until_within(PATIENCE, &mut is_so), "{otherwise}");
}

/// The same for longer or shorter; whether it became so.
pub fn until_within(patience: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let began = SystemClock.now_millis();
    while u128::from(SystemClock.now_millis().saturating_sub(began)) < patience.as_millis() {
        if is_so() {
            return true;
        }
        thread::sleep(Duration::from_millis(20));
    }
    is_so()
}

/// A proxy on the loopback interface, before one port or several, that can stop passing anything on, without closing anything, as a broken network does.
pub struct Proxy {
    ports: Vec<u16>,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    holds: Mutex<bool>,
    released: Condvar,
}

impl Proxy {
    /// A proxy before these ports. It lives as long as the process.
    pub fn before(ports: &[u16]) -> Self {
        let gate = Arc::<Gate>::default();
        Self { ports: ports.iter().map(|port| Gate::before(&gate, *port)).collect(), gate }
    }

    /// A URL that leads to these ports, through the proxy.
    fn instead_of(&self, ports: &[u16], url: &str) -> String {
        ports.iter().zip(&self.ports).fold(url.to_owned(), |url, (port, instead)| {
            // Behind a port comes the name of the database, or the next host.
            let url = url.replace(&format!(":{port}/"), &format!(":{instead}/"));
            url.replace(&format!(":{port},"), &format!(":{instead},"))
        })
    }

    /// Lets nothing pass, in neither direction.
    pub fn hold(&self) {
        *self.gate.holds.lock().unwrap() = true;
    }

    /// Lets everything pass, also what was held.
    pub fn release(&self) {
        *self.gate.holds.lock().unwrap() = false;
        self.gate.released.notify_all();
    }
}

impl Gate {
    /// Listens for those who want to go to this port; on which port.
    fn before(gate: &Arc<Self>, port: u16) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let instead = listener.local_addr().unwrap().port();
        let gate = Arc::clone(gate);
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { continue };
                let gate = Arc::clone(&gate);
                thread::spawn(move || {
                    gate.pass();
                    // Where nobody listens the client is told so by the end of its connection.
                    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return };
                    let other = (client.try_clone().unwrap(), server.try_clone().unwrap());
                    let gate_of_other = Arc::clone(&gate);
                    thread::spawn(move || gate_of_other.carry(other.1, other.0));
                    gate.carry(client, server);
                });
            }
        });
        instead
    }

    fn pass(&self) {
        let holds = self.holds.lock().unwrap();
        drop(self.released.wait_while(holds, |holds| *holds).unwrap());
    }

    /// Carries bytes until either end has gone.
    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let count = match from.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            self.pass();
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        // The end is not told either while nothing passes.
        self.pass();
        drop(to.shutdown(Shutdown::Both));
        drop(from.shutdown(Shutdown::Both));
    }
}
