//! A Patroni cluster of a test's own: one etcd and three members with PostgreSQL in a temporary folder, on the loopback
//! interface, in strict synchronous mode. Members can be killed, stopped and started again.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::{Value, json};
use sidenote_postgres_for_tests::processes::{bound, is_alive, signal_family, spawn};
use sidenote_postgres_for_tests::{USER, installed};
use tempfile::TempDir;
use ureq::Agent;

use crate::cluster::{until, until_within};
use crate::server::PATIENCE;

/// Members of the cluster.
const MEMBERS: usize = 3;

/// Programs that are needed besides PostgreSQL, and the packages of Debian that hold them.
const PROGRAMS: [(&str, &str); 2] = [("patroni", "patroni"), ("etcd", "etcd-server")];

/// What ends PostgreSQL when the tests are killed.
const GUARD: &str = include_str!("../patroni/guard.sh");

/// A cluster. It ends when this is dropped, and with the process of the tests, however that ends.
pub struct Patroni {
    bin: PathBuf,
    members: Vec<Member>,
    agent: Agent,
    guard: Child,
    etcd: Child,
    folder: TempDir,
}

struct Member {
    folder: PathBuf,
    /// Where PostgreSQL listens.
    port: u16,
    /// Where Patroni does.
    rest: u16,
    patroni: Option<Child>,
}

impl Patroni {
    /// Starts a cluster and waits until it has a primary and a synchronous standby; `None` if what it takes is not
    /// installed, in which case `test` is named as skipped. Where `SIDENOTE_REQUIRE_PATRONI` is set that is a failure.
    pub fn start_or_skip(test: &str) -> Option<Self> {
        let place = |name: &str| Path::new("/usr/bin").join(name);
        let missing = PROGRAMS.iter().find(|(name, _)| !place(name).is_file()).map(|(_, package)| *package);
        let bin = installed();
        if let Some(package) = missing.or_else(|| bin.is_none().then_some("postgresql")) {
            #[expect(
                clippy::disallowed_methods,
                reason = "tests are told what must be there by the environment"
            )]
            let required = std::env::var("SIDENOTE_REQUIRE_PATRONI").is_ok();
            assert!(!required, "{test}: not everything is installed (apt install {package})");
            println!("{test}: skipped, because Patroni is not installed (apt install {package})");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("sidenote-patroni-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let ports = free_ports(2 + 2 * MEMBERS);
        let api = Api::fitting(&place("patroni"));
        let etcd = start_etcd(&place("etcd"), folder.path(), [ports[0], ports[1]], api);
        let mut guard = Command::new("sh");
        guard.arg("-c").arg(GUARD).arg("guard").arg(folder.path());
        // What is sent to all processes of a terminal is not for it.
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let guard = guard.spawn().unwrap();
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(50)))
            .build()
            .new_agent();
        let member = |number: usize| {
            let of = folder.path().join(format!("m{number}"));
            let (port, rest) = (ports[2 + 2 * number], ports[3 + 2 * number]);
            Member { folder: of, port, rest, patroni: None }
        };
        let members: Vec<_> = (0..MEMBERS).map(member).collect();
        let mut this = Self { bin: bin.unwrap(), members, agent, guard, etcd, folder };
        for number in 0..MEMBERS {
            this.write_configuration(number, ports[0], api);
            this.start(number);
        }
        this.wait_until_whole();
        Some(this)
    }

    /// Where the members listen, in their order.
    pub fn ports(&self) -> Vec<u16> {
        self.members.iter().map(|member| member.port).collect()
    }

    /// How the database of this name is reached, whichever member takes writes.
    pub fn url(&self, database: &str) -> String {
        let hosts: Vec<_> = self.ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let hosts = hosts.join(",");
        format!("postgres://{USER}@{hosts}/{database}?target_session_attrs=read-write&sslmode=disable")
    }

    /// Makes an empty database and says how it is reached.
    pub fn new_database(&self, name: &str) -> String {
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(name)
    }

    /// Lets `psql` carry out SQL on the member that takes writes, and takes what it prints, columns separated by `|`.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let mut output = self.try_psql(database, sql);
        // Whoever has the lock takes writes only a moment later. Nothing was carried out where psql could not connect.
        let connected = |output: &Output| output.status.code() != Some(2) || pause();
        until_within(PATIENCE, || {
            let is_enough = connected(&output);
            if !is_enough {
                output = self.try_psql(database, sql);
            }
            is_enough
        });
        assert!(output.status.success(), "{sql}: {}", self.explained(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn try_psql(&self, database: &str, sql: &str) -> Output {
        let mut psql = Command::new(self.bin.join("psql"));
        let url = format!("{}&connect_timeout=3", self.url(database));
        psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", &url, "-c", sql]);
        psql.stdin(Stdio::null()).output().unwrap()
    }

    /// The member that is the primary, as the others see it too.
    pub fn primary(&self) -> usize {
        let mut found = None;
        until(
            || {
                found = self.roles().iter().position(|role| role == "leader");
                found.is_some() || pause()
            },
            "there is no primary",
        );
        found.unwrap()
    }

    /// Whether a member other than this one is the primary.
    pub fn has_primary_beside(&self, member: usize) -> bool {
        let primary = self.roles().iter().position(|role| role == "leader");
        primary.is_some_and(|primary| primary != member) || pause()
    }

    /// Waits until there are a primary, a synchronous standby and another one, all of which run.
    pub fn wait_until_whole(&self) {
        let whole = || {
            let mut roles = self.roles();
            roles.sort();
            (roles == ["leader", "replica", "sync_standby"] && self.standbys_follow()) || pause()
        };
        // Making three databases takes a while on a busy machine.
        let became = until_within(PATIENCE * 4, whole);
        assert!(became, "the cluster does not become whole: {}\n{}", self.view(), self.log());
    }

    /// Whether every standby is sent what the primary writes and can be read. One that comes back needs what it has not seen
    /// before that; should the primary fail then, it can't follow another one.
    fn standbys_follow(&self) -> bool {
        let ready = |member: &Member| {
            let mut ask = Command::new(self.bin.join("pg_isready"));
            ask.args(["-q", "-h", "127.0.0.1", "-p", &member.port.to_string()]);
            ask.status().unwrap().success()
        };
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        self.members.iter().all(ready) && self.try_psql("postgres", sql).stdout == b"2\n"
    }

    /// Kills a member and its PostgreSQL in the middle of whatever they do, as the crash of a machine does.
    pub fn kill_machine(&mut self, member: usize) {
        let mut patroni = self.members[member].patroni.take().unwrap();
        kill_process(Pid::from_child(&patroni), Signal::STOP).unwrap();
        let family = self.server_of(member).map(|server| signal_family(server, Signal::KILL));
        patroni.kill().unwrap();
        patroni.wait().unwrap();
        let left = || family.iter().flatten().any(|process| is_alive(*process));
        until(|| !left(), "a process of the member does not end");
    }

    /// Starts a member that was killed.
    pub fn start(&mut self, member: usize) {
        let member = &mut self.members[member];
        assert!(member.patroni.is_none(), "it runs already");
        let log = fs::File::options().create(true).append(true).open(member.folder.join("log")).unwrap();
        let mut patroni = bound(Path::new("/usr/bin/patroni"), "KILL", Some(USER));
        patroni.arg(member.folder.join("patroni.yml")).current_dir(&member.folder);
        patroni.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8").env("HOME", &member.folder);
        patroni.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let patroni = spawn(patroni).unwrap();
        fs::write(member.folder.join("patroni.pid"), patroni.id().to_string()).unwrap();
        member.patroni = Some(patroni);
    }

    /// Kills only the first process of a member's PostgreSQL, as a crash of that program does.
    pub fn kill_server(&mut self, member: usize) {
        let server = self.server_of(member).expect("it runs");
        kill_process(server, Signal::KILL).unwrap();
    }

    /// Stops everything of a member, as a machine that does not come to its turn.
    pub fn stop(&self, member: usize) {
        let patroni = Pid::from_child(self.members[member].patroni.as_ref().unwrap());
        kill_process(patroni, Signal::STOP).unwrap();
        signal_family(self.server_of(member).unwrap(), Signal::STOP);
    }

    /// Lets it go on, PostgreSQL first: it does not know that anything has happened.
    pub fn wake(&self, member: usize) {
        signal_family(self.server_of(member).unwrap(), Signal::CONT);
        let patroni = Pid::from_child(self.members[member].patroni.as_ref().unwrap());
        kill_process(patroni, Signal::CONT).unwrap();
    }

    /// Makes the synchronous standby the primary on purpose, and returns when that is done.
    pub fn switch_over(&self) {
        let before = self.primary();
        let order = json!({"leader": name_of(before)}).to_string();
        let url = format!("http://127.0.0.1:{}/switchover", self.members[before].rest);
        let mut said = String::new();
        let done = || {
            let Ok(answer) = self.agent.post(&url).send(&order) else { return false };
            let is_done = answer.status().as_u16() == 200;
            said = answer.into_body().read_to_string().unwrap_or_default();
            is_done || self.primary() != before || pause()
        };
        until(done, "Patroni does not switch over");
        assert_ne!(self.primary(), before, "{said}");
    }

    /// What every member has logged.
    pub fn log(&self) -> String {
        let log = |member: &Member| fs::read_to_string(member.folder.join("log")).unwrap_or_default();
        let last = |text: String| {
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines[lines.len().saturating_sub(60)..].join("\n")
        };
        self.members.iter().map(|member| last(log(member))).collect::<Vec<_>>().join("\n---\n")
    }

    /// The role of each member, in their order; empty for one that does not run.
    fn roles(&self) -> Vec<String> {
        let view = self.view();
        let role = |number: usize| {
            let members = view["members"].as_array()?;
            let one = members.iter().find(|one| one["name"] == name_of(number))?;
            let runs = matches!(one["state"].as_str(), Some("running" | "streaming"));
            runs.then(|| one["role"].as_str().map(str::to_owned))?
        };
        (0..MEMBERS).map(|number| role(number).unwrap_or_default()).collect()
    }

    /// The cluster as the first member that answers sees it.
    fn view(&self) -> Value {
        let ask = |member: &Member| {
            member.patroni.as_ref()?;
            let request = self.agent.get(format!("http://127.0.0.1:{}/cluster", member.rest));
            let request = request.config().timeout_global(Some(Duration::from_secs(3))).build();
            let text = request.call().ok()?.into_body().read_to_string().ok()?;
            let view: Value = serde_json::from_str(&text).ok()?;
            view["members"].is_array().then_some(view)
        };
        self.members.iter().find_map(ask).unwrap_or_default()
    }

    /// The first process of a member's PostgreSQL, if it runs.
    fn server_of(&self, member: usize) -> Option<Pid> {
        let data = self.members[member].folder.join("data");
        let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
        let pid = Pid::from_raw(text.lines().next()?.parse().ok()?)?;
        // The file may be one that was left behind, and the number another program's by now.
        let works_in = fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero())).ok()?;
        (works_in == data && is_alive(pid)).then_some(pid)
    }

    fn write_configuration(&self, number: usize, etcd: u16, api: Api) {
        let Member { folder, port, rest, .. } = &self.members[number];
        fs::create_dir(folder).unwrap();
        let (name, bin, folder_name) = (name_of(number), self.bin.display(), folder.display());
        let section = if api == Api::V2 { "etcd" } else { "etcd3" };
        let text = format!(
            r#"scope: test
name: {name}
restapi: {{listen: "127.0.0.1:{rest}", connect_address: "127.0.0.1:{rest}"}}
{section}: {{host: "127.0.0.1:{etcd}"}}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 2
    retry_timeout: 5
    synchronous_mode: true
    synchronous_mode_strict: true
    synchronous_node_count: 1
    postgresql:
      use_pg_rewind: true
      use_slots: true
      parameters: {{synchronous_commit: "on", max_connections: 100, wal_level: replica}}
  initdb: [{{encoding: UTF8}}, {{locale: C}}, {{auth: trust}}]
postgresql:
  listen: "127.0.0.1:{port}"
  connect_address: "127.0.0.1:{port}"
  data_dir: {folder_name}/data
  bin_dir: {bin}
  pgpass: {folder_name}/pgpass
  authentication:
    superuser: {{username: {USER}}}
    replication: {{username: {USER}}}
  pg_hba:
    - local all all trust
    - host all all 127.0.0.1/32 trust
    - host replication all 127.0.0.1/32 trust
  parameters: {{unix_socket_directories: "{folder_name}", shared_buffers: 32MB}}
watchdog: {{mode: "off"}}
"#
        );
        fs::write(folder.join("patroni.yml"), text).unwrap();
        if geteuid().is_root() {
            assert!(folder.starts_with(self.folder.path()), "only what is its own is given away");
            let status = Command::new("chown").arg("-R").arg(USER).arg(folder).status().unwrap();
            assert!(status.success(), "{folder_name} could not be given to {USER}");
        }
    }

    fn explained(&self, output: &Output) -> String {
        format!("{}\n{}", String::from_utf8_lossy(&output.stderr), self.log())
    }
}

impl Drop for Patroni {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(patroni) = &mut member.patroni {
                patroni.kill().ok();
                patroni.wait().ok();
            }
        }
        self.etcd.kill().ok();
        self.etcd.wait().ok();
        // It does the rest.
        drop(self.guard.stdin.take());
        self.guard.wait().ok();
    }
}

/// Lets Patroni do something else than to answer. Never true.
fn pause() -> bool {
    thread::sleep(Duration::from_millis(200));
    false
}

fn name_of(member: usize) -> String {
    format!("m{member}")
}

/// How Patroni speaks to etcd.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Api {
    V2,
    V3,
}

impl Api {
    /// Before 3.0.3 a primary that wakes up takes the lock away from the one that was elected meanwhile, if it speaks the
    /// newer API: it writes the key without a condition. What was acknowledged since is lost with that. Before 3.1.0 it might
    /// also do so if it comes in time before the history is written down.
    fn fitting(patroni: &Path) -> Self {
        let output = Command::new(patroni).arg("--version").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let version = said.split_whitespace().last().unwrap_or_default();
        let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
        let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        if version < (3, 1) { Self::V2 } else { Self::V3 }
    }
}

fn start_etcd(program: &Path, folder: &Path, [client, peer]: [u16; 2], api: Api) -> Child {
    let [client, peer] = [client, peer].map(|port| format!("http://127.0.0.1:{port}"));
    let mut etcd = bound(program, "KILL", None);
    etcd.arg("--data-dir").arg(folder.join("etcd"));
    for (name, value) in [
        ("--name", "etcd"),
        ("--listen-client-urls", &*client),
        ("--advertise-client-urls", &*client),
        ("--listen-peer-urls", &*peer),
        ("--initial-advertise-peer-urls", &*peer),
        ("--initial-cluster", &*format!("etcd={peer}")),
        ("--log-level", "error"),
    ] {
        etcd.args([name, value]);
    }
    if api == Api::V2 {
        etcd.arg("--enable-v2");
    }
    // It has to be told where it was tried less.
    etcd.env_clear().env("PATH", "/usr/bin:/bin").env("ETCD_UNSUPPORTED_ARCH", "arm64");
    etcd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    spawn(etcd).unwrap()
}

/// Ports that are free, all of them different.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners = (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let listeners: Vec<_> = listeners.collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}
