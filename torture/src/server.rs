//! A server for tests: the real binary with a configuration and a data folder of its own.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sidenote_server::auth::user_sig;
use sidenote_server::clock::{Clock as _, SystemClock};
use sidenote_server::config::Secret;
use tempfile::TempDir;
use ureq::Agent;

/// The app of every test.
pub const APP: u32 = 1_400_000_001;
/// A second app on the same server.
pub const OTHER_APP: u32 = 1_400_000_002;
/// Administrator of both.
pub const ADMINISTRATOR: &str = "administrator";

/// Secret key of an app.
pub fn key_of(app: u32) -> String {
    format!("secret key of {app}")
}

/// The program under test, where it is not beside the program that tests it.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// What the server logs when it answers requests.
const LISTENING: &str = "listening on http://";

/// Longest wait for anything that a test waits for. Reaching it is a failure.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// What a test wants to be different.
#[derive(Clone, Debug, Default)]
pub struct ConfigOptions {
    /// Lines of `[store]`.
    pub store: String,
    /// Lines of `[limits]`.
    pub limits: String,
    /// Lines of `[http]`.
    pub http: String,
    /// Sections at the end of the file.
    pub more: String,
    /// Plan of the first app, if not "ultimate".
    pub plan: Option<&'static str>,
    /// URL of a database that keeps the data, instead of a folder of the server's own.
    pub database: Option<String>,
    /// The program, if not the one under test.
    pub program: Option<PathBuf>,
}

impl ConfigOptions {
    /// The text of a configuration that listens on a free port and keeps its data in `data`.
    pub fn toml(&self, data: &Path) -> String {
        let Self { store, limits, http, more, plan, database, program: _ } = self;
        let place = match database {
            Some(url) => format!("engine = \"postgres\"\nurl = {url:?}"),
            None => format!("path = {:?}", data.to_str().unwrap()),
        };
        let mut text = format!("listen = \"127.0.0.1:0\"\n\n[store]\n{place}\n{store}\n");
        for (app, plan) in [(APP, plan.unwrap_or("ultimate")), (OTHER_APP, "ultimate")] {
            let key = key_of(app);
            write!(
                text,
                "\n[[apps]]\nsdk_app_id = {app}\nsecret_key = \"{key}\"\nadmins = [\"{ADMINISTRATOR}\"]\nplan = \"{plan}\"\n"
            )
            .unwrap();
        }
        write!(text, "\n[limits]\n{limits}\n\n[http]\n{http}\n\n{more}\n").unwrap();
        text
    }
}

/// A process of the real binary, whose standard error is collected line by line.
pub struct Process {
    child: Child,
    /// Several threads may look at the same process.
    lines: Mutex<Receiver<String>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts it; `command` has its arguments. Standard output is piped for whoever wants to read it.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (lines, seen) = follow(child.stderr.take().unwrap());
        Self { child, lines: Mutex::new(lines), seen }
    }

    /// Its standard output, line by line.
    pub fn stdout(&mut self) -> Lines {
        let (lines, _) = follow(self.child.stdout.take().unwrap());
        Lines(lines)
    }

    /// Lets nobody read its standard output.
    pub fn close_stdout(&mut self) {
        drop(self.child.stdout.take());
    }

    /// Waits for a line on standard error that holds `text`.
    pub fn wait_for(&self, text: &str) -> String {
        let line = self.try_wait_for(text);
        line.unwrap_or_else(|| panic!("no line with {text:?}; there were:\n{}", self.log()))
    }

    /// The same; `None` if it ends before.
    pub fn try_wait_for(&self, text: &str) -> Option<String> {
        loop {
            match self.lines.lock().unwrap().recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return Some(line),
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => panic!("it waits for something:\n{}", self.log()),
            }
        }
    }

    /// What was on standard error so far.
    pub fn log(&self) -> String {
        self.seen.lock().unwrap().join("\n")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        // Standard error is closed when the process ends, however that happens.
        loop {
            match self.lines.lock().unwrap().recv_timeout(PATIENCE) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
                Err(RecvTimeoutError::Timeout) => panic!("the process does not end:\n{}", self.log()),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines of an output as they come.
pub struct Lines(Receiver<String>);

impl Lines {
    /// The next line, or `None` at the end.
    pub fn next(&self) -> Option<String> {
        match self.0.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the output stopped without an end"),
        }
    }
}

/// Reads all lines, so that the writer never blocks; they wait in a queue and are kept in a list.
fn follow(output: impl Read + Send + 'static) -> (Receiver<String>, Arc<Mutex<Vec<String>>>) {
    let (sender, receiver) = sync_channel(100_000);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&seen);
    thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { break };
            list.lock().unwrap().push(line.clone());
            // Nobody may be waiting for lines any more; they are in the list all the same.
            let _ = sender.try_send(line);
        }
    });
    (receiver, seen)
}

/// A running server, its configuration and its data, which outlive restarts.
pub struct Running {
    /// Where it listens; another port after a restart.
    pub address: SocketAddr,
    /// Variables that it is given when it is started the next time, such as a library to load before all others.
    pub environment: Vec<(OsString, OsString)>,
    program: Option<PathBuf>,
    process: Process,
    folder: TempDir,
    agent: Agent,
}

impl Running {
    /// Starts a server in a folder of its own and waits until it answers.
    pub fn start(options: &ConfigOptions) -> Self {
        Self::start_with(options, Vec::new())
    }

    /// The same with variables in its environment.
    pub fn start_with(options: &ConfigOptions, environment: Vec<(OsString, OsString)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::write(folder.path().join("sidenote.toml"), options.toml(&data)).unwrap();
        let program = options.program.clone();
        let (process, address) = launch(serve(program.as_deref(), folder.path(), &environment));
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(PATIENCE))
            .build()
            .new_agent();
        Self { address, environment, program, process, folder, agent }
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("sidenote.toml")
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it logged since it was started last.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Sends a JSON body to `service/command` as a user of [`APP`], and gives the JSON of the answer.
    pub fn post(&self, user: &str, command: &str, body: &str) -> Value {
        self.post_to(APP, user, command, body)
    }

    /// The same for any app.
    pub fn post_to(&self, app: u32, user: &str, command: &str, body: &str) -> Value {
        self.try_post(app, user, command, body).unwrap()
    }

    /// The same where the server may die meanwhile.
    pub fn try_post(&self, app: u32, user: &str, command: &str, body: &str) -> Result<Value, ureq::Error> {
        let url = format!("{}/v4/{command}?{}", self.url(), query(app, user));
        let text = self.agent.post(url).send(body)?.into_body().read_to_string()?;
        Ok(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}")))
    }

    /// Sends a JSON body to `service/command` with a query of the test's own making, which may be wrong.
    pub fn post_with_query(&self, query: &str, command: &str, body: &str) -> Value {
        let url = format!("{}/v4/{command}?{query}", self.url());
        let text = self.agent.post(url).send(body).unwrap().into_body().read_to_string().unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// The body that a path answers a GET with.
    pub fn get(&self, path: &str) -> String {
        let url = format!("{}{path}", self.url());
        self.agent.get(url).call().unwrap().into_body().read_to_string().unwrap()
    }

    /// Sends bytes on a connection of their own and reads until the server closes it.
    pub fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut connection = self.connect();
        // The server may have closed the connection before everything was sent; what it said still counts.
        let _ = connection.write_all(bytes);
        let mut answer = Vec::new();
        match connection.read_to_end(&mut answer) {
            Err(error) if answer.is_empty() => panic!("no answer: {error}"),
            _ => answer,
        }
    }

    /// A connection to it.
    pub fn connect(&self) -> TcpStream {
        let connection = TcpStream::connect(self.address).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        connection
    }

    /// What a path answers a GET with: the status and the body.
    pub fn probe(&self, path: &str) -> (u16, String) {
        let mut answer = self.agent.get(format!("{}{path}", self.url())).call().unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    }

    /// Kills it in the middle of whatever it does. [`restart`](Self::restart) starts it again.
    pub fn kill9(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.wait();
    }

    /// Asks it to end, and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.wait()
    }

    /// Sends a signal without waiting for anything.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for a line of its log that holds `text`.
    pub fn wait_for(&self, text: &str) -> String {
        self.process.wait_for(text)
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }

    /// Starts it on the same data and kills it when `moment` is over, whatever it does by then.
    pub fn start_and_kill(&mut self, moment: impl FnOnce()) {
        self.spawn();
        moment();
        self.kill9();
    }

    /// Starts it on the same data without waiting for anything: it need not come up.
    pub fn spawn(&mut self) {
        self.process = Process::spawn(&mut self.serve());
    }

    /// Starts it on data that it must refuse, waits until it has ended, and gives its last words. `None` if it
    /// does not refuse; it then runs.
    pub fn refused(&mut self) -> Option<String> {
        self.spawn();
        if let Some(line) = self.process.try_wait_for(LISTENING) {
            self.address = address_in(&line);
            return None;
        }
        assert_eq!(self.process.wait().code(), Some(1), "{}", self.log());
        let log = self.log();
        let last = log.lines().last().unwrap_or_default();
        assert!(last.starts_with("sidenote: "), "no sentence, but:\n{log}");
        Some(last.to_owned())
    }

    /// Starts it on the same data where it will not live long: waits until it has died or answers, and kills it
    /// then.
    pub fn start_and_die(&mut self) {
        self.spawn();
        drop(self.process.try_wait_for(LISTENING));
        self.kill9();
    }

    /// Leaves configuration and data on the disk when this value is dropped; where they are.
    pub fn keep_folder(&mut self) -> &Path {
        self.folder.disable_cleanup(true);
        self.folder.path()
    }

    fn serve(&self) -> Command {
        serve(self.program.as_deref(), self.folder.path(), &self.environment)
    }

    /// Starts another program the next time, on the same data.
    pub fn change_program(&mut self, program: Option<PathBuf>) {
        self.program = program;
    }

    /// Starts it again on the same data, after it has ended.
    pub fn restart(&mut self) {
        (self.process, self.address) = launch(self.serve());
    }
}

/// Names the program under test, before the first one is started.
pub fn use_program(path: PathBuf) {
    PROGRAM.set(path).expect("the program is named once");
}

/// The program under test: the one that cargo built into the same folder as this program. No variable of the
/// machine's environment changes its configuration.
pub fn sidenote() -> Command {
    sidenote_of(None)
}

/// The same of another program than the one under test, if one is named.
pub fn sidenote_of(other: Option<&Path>) -> Command {
    let mut command = Command::new(other.map_or_else(program, Path::to_owned));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SIDENOTE_") {
            command.env_remove(name);
        }
    }
    command
}

/// A query that is signed for a user, valid for an hour.
pub fn query(app: u32, user: &str) -> String {
    let key = Secret::new(key_of(app)).unwrap();
    let ticket = user_sig::sign(app, &key, user, SystemClock.now_millis() / 1000, 3600, None);
    form_urlencoded::Serializer::new(String::new())
        .append_pair("sdkappid", &app.to_string())
        .append_pair("identifier", user)
        .append_pair("usersig", &ticket)
        .append_pair("random", "99999999")
        .append_pair("contenttype", "json")
        .finish()
}

fn program() -> PathBuf {
    if let Some(path) = PROGRAM.get() {
        return path.clone();
    }
    let this = std::env::current_exe().unwrap();
    let beside = this.parent().unwrap();
    // Programs that hold tests lie one folder deeper.
    let folder = if beside.ends_with("deps") { beside.parent().unwrap() } else { beside };
    let path = folder.join("sidenote");
    assert!(path.is_file(), "{} is not there: build it with `cargo build -p sidenote`", path.display());
    path
}

fn launch(mut serve: Command) -> (Process, SocketAddr) {
    let process = Process::spawn(&mut serve);
    let line = process.wait_for(LISTENING);
    (process, address_in(&line))
}

fn address_in(line: &str) -> SocketAddr {
    let address = line.rsplit("http://").next().unwrap().trim();
    address.parse().unwrap_or_else(|_| panic!("no address in {line:?}"))
}

fn serve(program: Option<&Path>, folder: &Path, environment: &[(OsString, OsString)]) -> Command {
    let mut command = sidenote_of(program);
    command.arg("serve").arg("--config").arg(folder.join("sidenote.toml"));
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command
}
