//! Write, sync, answer: in this order, as the operating system saw it.
//!
//! The server runs under strace while callers set pairs whose values are unlike all others. For each of them the
//! trace must show the write to a journal that holds it, then a sync of that journal from begin to a good end, and
//! only then the write of an answer that holds it.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use rustix::process::Signal;
use serde_json::json;
use sidenote_torture::caller::Caller;
use sidenote_torture::server::{ADMINISTRATOR, APP, ConfigOptions, PATIENCE, Process, sidenote};
use tokio::time::Instant;

/// Callers at once, so that batches have several commands, and pairs that each of them sets.
const CALLERS: usize = 4;
const PAIRS: usize = 10;

/// A system call of a trace. `begin` and `end` are places in it.
#[derive(Debug)]
struct SystemCall<'a> {
    name: &'a str,
    arguments: String,
    begin: usize,
    /// `None` if the trace ends before.
    end: Option<usize>,
    result: String,
}

impl SystemCall<'_> {
    /// Where its first argument, a descriptor, leads.
    fn target(&self) -> &str {
        let (_, rest) = self.arguments.split_once('<').unwrap_or_default();
        // A connection is told with an arrow in it.
        let end = rest.match_indices('>').map(|(at, _)| at).find(|at| !rest[..*at].ends_with('-'));
        &rest[..end.unwrap_or(rest.len())]
    }

    fn is_write(&self) -> bool {
        ["write", "writev", "pwrite64", "pwritev", "pwritev2", "sendto", "sendmsg"].contains(&self.name)
    }

    fn is_on_a_journal(&self) -> bool {
        Path::new(self.target()).extension().is_some_and(|extension| extension == "jnl")
    }

    fn has_succeeded(&self) -> bool {
        self.end.is_some() && !self.result.starts_with('-') && !self.result.starts_with('?')
    }
}

/// Reads a trace that was made with `strace -f -yy -o`.
fn calls(trace: &str) -> Vec<SystemCall<'_>> {
    let mut calls: Vec<SystemCall> = Vec::new();
    let mut unfinished: HashMap<&str, usize> = HashMap::new();
    for (place, line) in trace.lines().enumerate() {
        let Some((process, event)) = line.split_once(' ') else { continue };
        let event = event.trim_start();
        if let Some(resumed) = event.strip_prefix("<... ") {
            let Some(call) = unfinished.remove(process).map(|at| &mut calls[at]) else { continue };
            let (_, rest) = resumed.split_once(" resumed>").unwrap_or_default();
            let (arguments, result) = rest.rsplit_once(" = ").unwrap_or((rest, "?"));
            call.arguments += arguments;
            result.clone_into(&mut call.result);
            call.end = Some(place);
            continue;
        }
        let Some((name, rest)) = event.split_once('(') else { continue };
        if let Some(arguments) = rest.strip_suffix("<unfinished ...>") {
            unfinished.insert(process, calls.len());
            let arguments = arguments.to_owned();
            calls.push(SystemCall { name, arguments, begin: place, end: None, result: String::new() });
        } else if let Some((arguments, result)) = rest.rsplit_once(" = ") {
            let (arguments, result) = (arguments.to_owned(), result.to_owned());
            calls.push(SystemCall { name, arguments, begin: place, end: Some(place), result });
        }
    }
    calls
}

/// Whether each of these texts was written to a journal, synced there, and only then answered.
fn in_order(trace: &str, texts: &[String]) -> Result<(), String> {
    let calls = calls(trace);
    for text in texts {
        let holding = |call: &&SystemCall| call.is_write() && call.arguments.contains(text.as_str());
        let written = calls.iter().filter(holding).find(|call| call.is_on_a_journal());
        let written = written.ok_or_else(|| format!("{text} was not written to a journal"))?;
        let written_at = written.end.filter(|_| written.has_succeeded());
        let written_at = written_at.ok_or_else(|| format!("{text}: its write did not succeed"))?;
        let synced = calls.iter().find(|call| {
            (call.name == "fdatasync" || call.name == "fsync")
                && call.target() == written.target()
                && call.begin > written_at
                && call.has_succeeded()
        });
        let answered = calls.iter().filter(holding).find(|call| call.target().starts_with("TCP"));
        let answered = answered.ok_or_else(|| format!("{text} was not answered"))?;
        let synced_at = synced.and_then(|call| call.end).filter(|at| *at < answered.begin);
        if synced_at.is_none() {
            return Err(format!(
                "{text} was written at {written_at} and answered at {}, without a sync between them",
                answered.begin
            ));
        }
    }
    Ok(())
}

/// Whether calls can be traced here.
fn can_trace() -> bool {
    let mut probe = Command::new("strace");
    probe.args(["-f", "-D", "-o", "/dev/null", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

/// Runs the server under strace while callers set pairs; the trace, and the values that were acknowledged.
fn traced(folder: &Path) -> (String, Vec<String>) {
    let (config, trace) = (folder.join("sidenote.toml"), folder.join("trace"));
    fs::write(&config, ConfigOptions::default().toml(&folder.join("data"))).unwrap();
    let mut command = Command::new("strace");
    command.args(["-f", "-D", "-q", "-yy", "-s", "20000", "-e", "signal=none"]);
    command.args(["-e", "trace=%file,%desc,%network,io_uring_setup,io_uring_enter", "-o"]);
    command.arg(&trace).arg(sidenote().get_program()).arg("serve").arg("--config").arg(&config);
    let mut server = Process::spawn(&mut command);
    let line = server.wait_for("listening on http://");
    let address: SocketAddr = line.rsplit("http://").next().unwrap().trim().parse().unwrap();

    let administrator = Caller::new(address, APP, ADMINISTRATOR);
    administrator
        .ok("group_open_http_svc/create_group", r#"{"GroupId": "g", "Type": "Public", "Name": "g"}"#);
    let message = json!({
        "GroupId": "g", "Random": 1, "SupportMessageExtension": 1,
        "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "who comes?"}}],
    });
    administrator.ok("group_open_http_svc/send_group_msg", &message.to_string());
    let texts = thread::scope(|scope| {
        let callers: Vec<_> =
            (0..CALLERS).map(|caller| scope.spawn(move || set_pairs(address, caller))).collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });

    server.signal(Signal::TERM);
    assert!(server.wait().success(), "{}", server.log());
    // strace lives a little longer than the server.
    let begun = Instant::now();
    loop {
        let text = fs::read(&trace).unwrap();
        let text = String::from_utf8_lossy(&text).into_owned();
        if text.trim_end().ends_with("+++ exited with 0 +++") {
            return (text, texts);
        }
        assert!(begun.elapsed() < PATIENCE, "the trace does not end");
        thread::yield_now();
    }
}

fn set_pairs(server: SocketAddr, caller: usize) -> Vec<String> {
    let administrator = Caller::new(server, APP, ADMINISTRATOR);
    let texts = (0..PAIRS).map(|pair| format!("text-{caller}-of-{pair}-end"));
    texts
        .inspect(|text| {
            let (code, _) = administrator.set_one("g", 1, &format!("key {caller}"), text, None);
            assert_eq!(code, 0);
        })
        .collect()
}

#[test]
fn the_answer_comes_after_the_sync_which_comes_after_the_write() {
    if !can_trace() {
        println!(
            "skipped: the order of write, sync and answer (strace is not installed, or may not trace here)"
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (trace, texts) = traced(folder.path());
    in_order(&trace, &texts).unwrap();
    only_calls_that_the_layer_sees(&trace, &folder.path().join("data"));
}

/// Calls on files of the data folder that `disk/shim.c` follows, or that change nothing.
const SEEN: &[&str] = &[
    "openat",
    "creat",
    "close",
    "write",
    "writev",
    "pwrite64",
    "ftruncate",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "link",
    "linkat",
    "fcntl",
    "dup",
    "copy_file_range",
    "sendfile",
];
const HARMLESS: &[&str] = &[
    "read",
    "readv",
    "pread64",
    "lseek",
    "stat",
    "fstat",
    "lstat",
    "statx",
    "newfstatat",
    "flock",
    "getdents64",
    "readlink",
    "access",
    "faccessat2",
    "ioctl",
    "fadvise64",
    "execve",
    "getcwd",
];

/// The disk that loses power is worth something only if nothing gets past it.
fn only_calls_that_the_layer_sees(trace: &str, data: &Path) {
    let data = data.to_str().unwrap();
    // The socket of `sidenote backup` lies in a folder of its own, which holds nothing that could be lost.
    let control = format!("{data}/control");
    let mut others = BTreeSet::new();
    for call in calls(trace).into_iter().filter(|call| !call.arguments.contains(&control)) {
        let shares = call.name == "mmap" && call.arguments.contains("MAP_SHARED");
        let known = SEEN.contains(&call.name) || HARMLESS.contains(&call.name);
        if call.name.starts_with("io_uring") || (call.arguments.contains(data) && (shares || !known)) {
            others.insert(format!("{}({}", call.name, call.arguments));
        }
    }
    assert!(others.is_empty(), "{others:#?}");
}

/// A trace of one pair, with the parts in this order.
fn told(parts: &[&str]) -> Result<(), String> {
    in_order(&parts.join("\n"), &["text-1".to_owned()])
}

const WRITE: &str = r#"11 write(7</d/engine/0.jnl>, "..text-1..", 10) = 10"#;
const SYNC: &str = "11 fdatasync(7</d/engine/0.jnl>) = 0";
const ANSWER: &str =
    r#"12 writev(9<TCP:[127.0.0.1:80->127.0.0.1:9]>, [{iov_base="..text-1..", iov_len=10}], 1) = 10"#;

#[test]
fn a_trace_in_the_right_order_is_accepted() {
    told(&[WRITE, SYNC, ANSWER]).unwrap();
    let begun = "11 fdatasync(7</d/engine/0.jnl> <unfinished ...>";
    told(&[WRITE, begun, "12 read(3, \"\", 1) = 0", "11 <... fdatasync resumed>) = 0", ANSWER]).unwrap();
}

#[test]
fn a_trace_in_any_other_order_is_refused() {
    told(&[WRITE, ANSWER, SYNC]).unwrap_err();
    told(&[SYNC, WRITE, ANSWER]).unwrap_err();
    told(&[ANSWER, WRITE, SYNC]).unwrap_err();
    told(&[WRITE, ANSWER]).unwrap_err();
    told(&[SYNC, ANSWER]).unwrap_err();
    told(&[WRITE, SYNC]).unwrap_err();
    // Another file, a sync that failed, and one that began too early or ended too late.
    told(&[WRITE, "11 fdatasync(8</d/engine/1.jnl>) = 0", ANSWER]).unwrap_err();
    told(&[WRITE, "11 fdatasync(7</d/engine/0.jnl>) = -1 EIO (Input/output error)", ANSWER]).unwrap_err();
    let (begun, ended) =
        ("11 fdatasync(7</d/engine/0.jnl> <unfinished ...>", "11 <... fdatasync resumed>) = 0");
    told(&[begun, WRITE, ended, ANSWER]).unwrap_err();
    told(&[WRITE, begun, ANSWER, ended]).unwrap_err();
    told(&[WRITE, begun, ANSWER]).unwrap_err();
    let (written, resumed) =
        (r#"13 write(7</d/engine/0.jnl>, "..text-1..", 10 <unfinished ...>"#, "13 <... write resumed>) = 10");
    told(&[written, SYNC, resumed, ANSWER]).unwrap_err();
}
