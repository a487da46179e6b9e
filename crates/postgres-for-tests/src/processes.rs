//! Processes of tests: started so that they end with the tests, found by their parents, waited for.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};

use rustix::process::{Pid, Signal, geteuid, kill_process};

/// A command and who waits for its process.
type Order = (Command, SyncSender<io::Result<Child>>);

/// A command that the system ends with this signal when whoever [started](spawn) it ends, however that happens. Where the
/// tests run as root it is run as `user`, if one is given.
pub fn bound(program: &Path, signal: &str, user: Option<&str>) -> Command {
    let mut command = Command::new("setpriv");
    command.arg(format!("--pdeathsig={signal}"));
    if let Some(user) = user
        && geteuid().is_root()
    {
        command.args(["--reuid", user, "--regid", user, "--init-groups"]);
    }
    command.arg("--").arg(program);
    command
}

/// Starts a process. The system ends it when the thread that started it ends, not the process; a test may be done with its
/// own thread while others still use the server, so there is one that lives as long as the process.
///
/// # Errors
///
/// Why it can't be started.
pub fn spawn(command: Command) -> io::Result<Child> {
    static STARTER: OnceLock<SyncSender<Order>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (orders, taken) = sync_channel::<Order>(16);
        std::thread::spawn(move || {
            for (mut command, reply) in taken {
                reply.send(command.spawn()).ok();
            }
        });
        orders
    });
    let (reply, made) = sync_channel(1);
    starter.send((command, reply)).map_err(io::Error::other)?;
    made.recv().map_err(io::Error::other)?
}

/// The parent and the state of a process, as the kernel tells them; the name before them may hold anything.
fn stat(pid: &str) -> Option<(u32, char)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut after_name = text.rsplit(')').next()?.split_whitespace();
    let state = after_name.next()?.chars().next()?;
    Some((after_name.next()?.parse().ok()?, state))
}

/// Processes that a process has started and that are there still.
///
/// # Panics
///
/// If the system has no list of processes.
pub fn children_of(parent: u32) -> Vec<Pid> {
    let numbers =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let children = numbers.filter(|number| stat(number).is_some_and(|(of, _)| of == parent));
    children.filter_map(|number| Pid::from_raw(number.parse().ok()?)).collect()
}

/// Whether it can still do anything. Whoever has ended may stay in the list of processes until somebody looks.
pub fn is_alive(pid: Pid) -> bool {
    stat(&pid.as_raw_nonzero().to_string()).is_some_and(|(_, state)| !matches!(state, 'Z' | 'X'))
}

/// Sends a signal to a process and all that it has started, which may end meanwhile. It is stopped first, so that it starts
/// no more of them.
///
/// # Panics
///
/// If it is not there.
pub fn signal_family(parent: Pid, signal: Signal) -> Vec<Pid> {
    kill_process(parent, Signal::STOP).unwrap();
    let mut family = children_of(parent.as_raw_nonzero().get().unsigned_abs());
    for child in &family {
        kill_process(*child, signal).ok();
    }
    kill_process(parent, signal).ok();
    family.push(parent);
    family
}
