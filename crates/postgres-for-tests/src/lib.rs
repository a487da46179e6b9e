//! A PostgreSQL server of a test's own: made in a temporary folder, reached through a socket in it, gone at the end.
//!
//! Nothing of it is found by anybody else: it listens on a Unix socket in a private folder, and on the loopback interface
//! only where a test asks for a port. PostgreSQL refuses to be run by root; there it runs as the user that its packages
//! made for it.
#![expect(clippy::unwrap_used, reason = "this is code of tests, which may fail by panicking")]

pub mod processes;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use processes::{bound, is_alive, signal_family, spawn};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

/// The user as whom PostgreSQL runs where the tests run as root.
pub const USER: &str = "postgres";

/// How long the server may take to start or stop.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server. It is stopped, and its folder removed, when it is dropped, also by a panic.
pub struct Postgres {
    bin: PathBuf,
    folder: TempDir,
    port: u16,
    settings: Settings,
    server: Option<Child>,
    databases: AtomicU32,
}

/// How a server is set up.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whether commits are synced. Slow, and needed where the server is killed.
    pub durable: bool,
    /// A certificate and its key, both PEM, for connections with TLS; empty for none.
    pub certificate: (String, String),
}

impl Postgres {
    /// Starts a server, or says by name that a test is skipped because PostgreSQL is not installed. Where
    /// `SIDENOTE_REQUIRE_POSTGRES` is set that is a failure.
    ///
    /// # Panics
    ///
    /// If it is installed and can't be started.
    pub fn start_or_skip(test: &str, settings: Settings) -> Option<Self> {
        let Some(bin) = installed() else {
            #[expect(
                clippy::disallowed_methods,
                reason = "tests are told what must be there by the environment"
            )]
            let required = std::env::var("SIDENOTE_REQUIRE_POSTGRES").is_ok();
            assert!(!required, "{test}: PostgreSQL is not installed (apt install postgresql)");
            println!("{test}: skipped, because PostgreSQL is not installed (apt install postgresql)");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("sidenote-postgres-").tempdir().unwrap();
        let port = free_port();
        let mut postgres = Self { bin, folder, port, settings, server: None, databases: AtomicU32::new(0) };
        postgres.initialise();
        postgres.start();
        Some(postgres)
    }

    /// How the database of this name is reached, over the loopback interface.
    pub fn dsn(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// The port on the loopback interface.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Makes an empty database and says how it is reached.
    pub fn new_database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        self.dsn(&name)
    }

    /// Makes an empty schema in the first database and says how it is reached: cheaper than a database.
    pub fn new_schema(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE SCHEMA {name}"));
        format!("{}&options=-csearch_path%3D{name}", self.dsn("postgres"))
    }

    /// Lets `psql` carry out SQL in a database, and takes what it prints, columns separated by `|`.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", &self.dsn(database), "-c", sql]);
        let output = psql.stdin(Stdio::null()).output().unwrap();
        String::from_utf8(checked(output, sql).stdout).unwrap()
    }

    /// A session of `psql` that stays open, for locks that are held.
    ///
    /// # Panics
    ///
    /// If it can't be started.
    pub fn session(&self, database: &str) -> Session {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", &self.dsn(database)]);
        let psql = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = psql.spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Session { child, answers }
    }

    /// Kills the server and all of its processes without warning, as the crash of a machine does, and waits until none
    /// is left.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn kill(&mut self) {
        let mut server = self.server.take().unwrap();
        // Each of its processes has a group of its own, so they are found by their parent.
        let family = signal_family(Pid::from_child(&server), Signal::KILL);
        server.wait().unwrap();
        let deadline = Deadline::new();
        while family.iter().any(|process| is_alive(*process)) {
            assert!(!deadline.is_over(), "a process of the server does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends the server itself a signal, such as SIGSTOP.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn signal(&self, signal: Signal) {
        let server = self.server.as_ref().unwrap();
        kill_process(Pid::from_child(server), signal).unwrap();
    }

    /// Stops the server and all of its processes, as a machine that does not come to its turn: it takes connections and says
    /// nothing.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn freeze(&self) {
        signal_family(Pid::from_child(self.server.as_ref().unwrap()), Signal::STOP);
    }

    /// Lets all of them go on.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn thaw(&self) {
        signal_family(Pid::from_child(self.server.as_ref().unwrap()), Signal::CONT);
    }

    /// Starts the server again, in the same folder and on the same port.
    ///
    /// # Panics
    ///
    /// If it runs already or can't be started.
    pub fn start(&mut self) {
        assert!(self.server.is_none(), "it runs already");
        let deadline = Deadline::new();
        loop {
            let server = self.spawn();
            self.server = Some(server);
            if self.is_ready(&deadline) {
                return;
            }
            // Of a server that was killed some processes may still be on their way out, and hold its memory.
            assert!(!deadline.is_over(), "PostgreSQL did not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn spawn(&self) -> Child {
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        let sync = if self.settings.durable { "on" } else { "off" };
        let mut command = self.as_its_user("postgres");
        command.arg("-D").arg(self.folder.path().join("data"));
        for setting in [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", self.port),
            format!("unix_socket_directories={}", self.folder.path().display()),
            format!("fsync={sync}"),
            format!("full_page_writes={sync}"),
            "shared_buffers=64MB".to_owned(),
            "max_connections=200".to_owned(),
            "logging_collector=off".to_owned(),
        ] {
            command.arg("-c").arg(setting);
        }
        if !self.settings.certificate.0.is_empty() {
            // Both files lie in the folder of the data, under the names that it expects.
            command.args(["-c", "ssl=on"]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        spawn(command).unwrap()
    }

    /// Waits until it takes connections; `false` if it has ended instead.
    fn is_ready(&mut self, deadline: &Deadline) -> bool {
        let port = self.port.to_string();
        loop {
            let mut ask = Command::new(self.bin.join("pg_isready"));
            if ask.args(["-q", "-h", "127.0.0.1", "-p", &port]).status().unwrap().success() {
                return true;
            }
            if self.server.as_mut().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            assert!(!deadline.is_over(), "PostgreSQL did not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the server has logged since it was started.
    pub fn log(&self) -> String {
        let mut log = String::new();
        if let Ok(mut file) = fs::File::open(self.folder.path().join("log")) {
            file.read_to_string(&mut log).ok();
        }
        log
    }

    fn initialise(&self) {
        let root = self.folder.path();
        let data = root.join("data");
        fs::create_dir(&data).unwrap();
        if geteuid().is_root() {
            fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
        }
        self.give_away(root);
        self.give_away(&data);
        let mut initdb = self.as_its_user("initdb");
        initdb.args(["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N", "-D"]).arg(&data);
        checked(initdb.stdin(Stdio::null()).output().unwrap(), "initdb");
        let (certificate, key) = &self.settings.certificate;
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let path = data.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            self.give_away(&path);
        }
    }

    /// Makes a file or folder that of the user as whom PostgreSQL runs.
    fn give_away(&self, path: &Path) {
        if geteuid().is_root() {
            assert!(path.starts_with(self.folder.path()), "only what is its own is given away");
            let status = Command::new("chown").arg(USER).arg(path).status().unwrap();
            assert!(status.success(), "{} could not be given to {USER}", path.display());
        }
    }

    /// A program of PostgreSQL, run by a user who may. It does not outlive whoever starts it, and inherits nothing but
    /// what is given to it: descriptors of tests are closed on exec.
    fn as_its_user(&self, program: &str) -> Command {
        let mut command = bound(&self.bin.join(program), "INT", Some(USER));
        command.current_dir(self.folder.path());
        command
    }
}

/// A session of `psql`. It ends, and its transaction is rolled back, when it is dropped.
pub struct Session {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Session {
    /// Carries out SQL, which ends with a semicolon, and returns when it is done.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub fn run(&mut self, sql: &str) {
        const DONE: &str = "it is done";
        writeln!(self.child.stdin.as_mut().unwrap(), "{sql}\n\\echo {DONE}").unwrap();
        let mut line = String::new();
        while line.trim_end() != DONE {
            line.clear();
            assert!(self.answers.read_line(&mut line).unwrap() > 0, "psql has ended at: {sql}");
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        // SIGCONT, should it have been stopped; SIGINT is the fast way to shut down, SIGQUIT the immediate one.
        let pid = Pid::from_child(&server);
        let sent = [Signal::CONT, Signal::INT].map(|signal| kill_process(pid, signal));
        let deadline = Deadline::new();
        while sent.iter().all(Result::is_ok) && !deadline.is_over() {
            if server.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        server.kill().ok();
        server.wait().ok();
    }
}

/// The folder of the newest installed server's programs.
pub fn installed() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version = entry.file_name().to_str()?.parse().ok()?;
            let bin = entry.path().join("bin");
            has_programs(&bin).then_some((version, bin))
        })
        .collect();
    found.sort();
    found.pop().map(|(_, bin)| bin)
}

fn has_programs(bin: &Path) -> bool {
    ["initdb", "postgres", "psql", "pg_isready"].iter().all(|program| bin.join(program).is_file())
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn checked(output: Output, what: &str) -> Output {
    assert!(output.status.success(), "{what} failed: {}", String::from_utf8_lossy(&output.stderr));
    output
}

struct Deadline(std::time::Instant);

impl Deadline {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "a test waits for a real server")]
        let now = std::time::Instant::now();
        Self(now + PATIENCE)
    }

    fn is_over(&self) -> bool {
        #[expect(clippy::disallowed_methods, reason = "a test waits for a real server")]
        let now = std::time::Instant::now();
        now > self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_outlives_the_thread_that_asked_for_it_and_leaves_nothing() {
        let test = "a_server_outlives_the_thread_that_asked_for_it_and_leaves_nothing";
        let started = std::thread::spawn(move || Postgres::start_or_skip(test, Settings::default()));
        let Some(mut postgres) = started.join().unwrap() else { return };
        assert_eq!(postgres.psql("postgres", "SELECT 1 + 1").trim(), "2");
        postgres.kill();
        postgres.start();
        assert_eq!(postgres.psql("postgres", "SHOW fsync").trim(), "off");
        let (folder, port) = (postgres.folder.path().to_owned(), postgres.port());
        let panic = std::thread::spawn(move || {
            let _postgres = postgres;
            panic!("on purpose");
        });
        assert!(panic.join().is_err());
        assert!(!folder.exists());
        assert!(std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    }
}
