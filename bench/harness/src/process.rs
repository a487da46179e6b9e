//! Servers as processes: starting, pausing, measuring and ending them.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::load::now;

/// How long a server may take to start or to end.
const PATIENCE: Duration = Duration::from_mins(1);

/// The processes that were started and not seen to end, for when this process is interrupted.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Ends all servers at once.
pub(crate) fn kill_all() {
    for root in RUNNING.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        for pid in family(root) {
            // There is nobody left to tell.
            drop(send(pid, Signal::KILL));
        }
    }
}

/// A process with its descendants; ended when dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Processor time of it and its descendants, those that ended included, in microseconds.
    pub(crate) cpu_us: u64,
    /// The most memory that it and its living descendants held, added up, in KiB.
    pub(crate) peak_rss_kib: u64,
}

impl Process {
    /// Starts a program whose output goes to `<folder>/<name>.log`.
    pub(crate) fn start(name: &str, folder: &Path, command: &mut Command) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let errors = output.try_clone().context("cannot share a log file")?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        // In a group of its own, so that Ctrl-C reaches the harness alone, which then ends its servers in order.
        command.process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).push(child.id());
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Waits until `ready` says yes.
    pub(crate) fn wait_until(&mut self, mut ready: impl FnMut() -> bool) -> Result<Duration> {
        let begin = now();
        while !ready() {
            let ended = self.child.try_wait().context("cannot look after a process")?;
            if ended.is_some() || begin.elapsed() > PATIENCE {
                let what =
                    if ended.is_some() { "ended instead of starting" } else { "did not start in time" };
                bail!("{} {what}; the end of its log:\n{}", self.name, self.log_end());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(begin.elapsed())
    }

    /// Stops it where it stands, so that it takes nothing from the server that is measured.
    pub(crate) fn pause(&mut self) -> Result<()> {
        self.signal_all(Signal::STOP)
    }

    /// Lets it go on.
    pub(crate) fn resume(&mut self) -> Result<()> {
        self.signal_all(Signal::CONT)
    }

    fn signal_all(&self, signal: Signal) -> Result<()> {
        for pid in family(self.child.id()) {
            send(pid, signal).with_context(|| format!("cannot signal {}", self.name))?;
        }
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.resume()?;
        send(self.child.id(), Signal::TERM)?;
        let begin = now();
        while self.child.try_wait().context("cannot wait for a process")?.is_none() {
            if begin.elapsed() > PATIENCE {
                bail!("{} did not end; the end of its log:\n{}", self.name, self.log_end());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Ends it at once: kill -9.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("cannot kill {}", self.name))?;
        self.child.wait().context("cannot wait for a process")?;
        Ok(())
    }

    /// Forgets the peak of memory so far, where the system allows it.
    pub(crate) fn reset_peak(&self) {
        for pid in family(self.child.id()) {
            // "5" resets the peak resident size. Without the permission the peak is that of the whole life.
            drop(fs::write(format!("/proc/{pid}/clear_refs"), "5"));
        }
    }

    /// What it has used since it began.
    pub(crate) fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        let own = self.child.id();
        for pid in family(own) {
            usage.cpu_us += cpu_us(pid, pid == own).unwrap_or(0);
            usage.peak_rss_kib += status_kib(pid, "VmHWM:").unwrap_or(0);
        }
        usage
    }

    /// The memory that it and its living descendants hold now, added up, in KiB.
    pub(crate) fn rss_kib(&self) -> u64 {
        family(self.child.id()).into_iter().filter_map(|pid| status_kib(pid, "VmRSS:")).sum()
    }

    fn log_end(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(2000)..]).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that does not end when asked is ended without being asked.
        if !matches!(self.child.try_wait(), Ok(Some(_))) && self.stop().is_err() {
            drop(self.kill());
        }
        let own = self.child.id();
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).retain(|pid| *pid != own);
    }
}

fn send(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no such process number")?;
    match kill_process(pid, signal) {
        // It ended a moment ago, which is as good.
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).context("cannot send a signal"),
    }
}

/// The process and all its living descendants.
fn family(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Some((pid, stat_field(pid, 4)?.parse().ok()?))
        })
        .collect();
    let mut family = vec![root];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(parents.iter().filter(|(_, its_parent)| *its_parent == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    family
}

/// Field of /proc/PID/stat, counted from 1 as in proc(5). The second may hold blanks, so it is cut off.
fn stat_field(pid: u32, number: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = stat.rsplit_once(") ")?.1;
    rest.split(' ').nth(number.checked_sub(3)?).map(str::to_owned)
}

/// Processor time in user and kernel mode, optionally with that of children that ended.
fn cpu_us(pid: u32, with_ended_children: bool) -> Option<u64> {
    let fields: &[usize] = if with_ended_children { &[14, 15, 16, 17] } else { &[14, 15] };
    let mut ticks = 0;
    for field in fields {
        ticks += stat_field(pid, *field)?.parse::<u64>().ok()?;
    }
    Some(ticks * 1_000_000 / rustix::param::clock_ticks_per_second())
}

/// Processor time of this process, the load generator, and of pgbench where that took its place.
pub(crate) fn own_cpu_us() -> u64 {
    cpu_us(std::process::id(), true).unwrap_or(0)
}

/// A size out of /proc/PID/status.
fn status_kib(pid: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A port on which nobody listens now.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr().context("a socket without an address")?.port())
}

/// Whether somebody accepts connections there.
pub(crate) fn answers_on(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Runs a program to its end and returns what it printed; an error if it failed.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => anyhow::anyhow!("{program} is not installed"),
        _ => anyhow::Error::new(error).context(format!("cannot start {program}")),
    })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{program} failed: {}{}", text, String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (tempfile::TempDir, Process) {
        let folder = tempfile::tempdir().unwrap();
        let process =
            Process::start("shell", folder.path(), Command::new("sh").args(["-c", script])).unwrap();
        (folder, process)
    }

    #[test]
    fn a_family_is_paused_and_resumed_as_one() {
        let (_folder, mut shell) = shell("sleep 60 & wait");
        let pid = shell.child.id();
        let deadline = now() + Duration::from_secs(10);
        while family(pid).len() < 2 {
            assert!(now() < deadline, "the child never appeared");
            std::thread::yield_now();
        }
        let states = |wanted: char| {
            let deadline = now() + Duration::from_secs(10);
            while !family(pid).iter().all(|pid| stat_field(*pid, 3).unwrap().starts_with(wanted)) {
                assert!(now() < deadline, "not all are {wanted}");
                std::thread::yield_now();
            }
        };
        shell.pause().unwrap();
        states('T');
        shell.resume().unwrap();
        states('S');
        for pid in family(pid).into_iter().skip(1) {
            send(pid, Signal::KILL).unwrap();
        }
    }

    #[test]
    fn the_time_of_children_that_ended_counts() {
        let (_folder, mut shell) =
            shell("sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; exec sleep 60");
        let deadline = now() + Duration::from_secs(30);
        while shell.usage().cpu_us < 20_000 {
            assert!(now() < deadline, "{:?}", shell.usage());
            std::thread::yield_now();
        }
        assert!(shell.usage().peak_rss_kib > 100);
        assert!((1..=shell.usage().peak_rss_kib).contains(&shell.rss_kib()));
        shell.kill().unwrap();
    }

    #[test]
    fn a_server_that_ends_is_reported_with_its_log() {
        let (_folder, mut shell) = shell("echo no such luck; exit 3");
        let error = shell.wait_until(|| false).unwrap_err().to_string();
        assert!(error.contains("ended instead of starting") && error.contains("no such luck"), "{error}");
    }

    #[test]
    fn a_free_port_is_one_where_nobody_answers() {
        assert!(!answers_on(free_port().unwrap()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(answers_on(listener.local_addr().unwrap().port()));
    }
}
