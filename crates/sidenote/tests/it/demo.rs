//! `sidenote demo`: every line that it prints is run as it is printed.

mod live_poll;

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::{Process, sidenote};

/// A running demo and what it has printed.
struct Demo {
    process: Process,
    text: String,
}

impl Demo {
    /// Starts it and reads until the line that says how to end it, which is the last.
    fn start(arguments: &[&str]) -> Self {
        let mut process = Process::spawn(sidenote().arg("demo").args(arguments));
        let lines = process.stdout();
        let mut text = String::new();
        while let Some(line) = lines.next() {
            text.push_str(&line);
            text.push('\n');
            if line.starts_with("Ctrl-C") {
                return Self { process, text };
            }
        }
        panic!("the demo ended early:\n{text}\n{}", process.log());
    }

    /// The `curl` lines, each with the line above it, which says what to expect.
    fn steps(&self) -> Vec<(&str, &str)> {
        let lines: Vec<_> = self.text.lines().collect();
        let pairs = lines.windows(2).filter(|pair| pair[1].starts_with("curl "));
        pairs.map(|pair| (pair[0], pair[1])).collect()
    }

    /// The address of its page.
    fn live_poll(&self) -> &str {
        let (_, rest) = self.text.split_once("A live poll is on ").unwrap();
        rest.split_once(": open it").unwrap().0
    }

    fn folder(&self) -> PathBuf {
        let (_, rest) = self.text.split_once(" its folder ").unwrap();
        PathBuf::from(rest.split_whitespace().next().unwrap())
    }

    /// What the user does who has seen enough.
    fn interrupt(mut self) {
        self.process.signal(Signal::INT);
        let status = self.process.wait();
        assert_eq!((status.code(), self.process.log().as_str()), (Some(0), ""), "{status:?}");
    }
}

/// Runs a line as a shell does into which it is pasted.
fn paste(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).env("no_proxy", "*").output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn pair(key: &str, value: &str, seq: u64) -> Value {
    json!({"Key": key, "Value": value, "Seq": seq})
}

fn result(code: u32, key: &str, value: &str, seq: u64) -> Value {
    json!({"ErrorCode": code, "Extension": pair(key, value, seq)})
}

/// Pastes all lines into a demo whose poll stands at `latest`, with ann's pair at `known`.
fn run_through(demo: &Demo, latest: u64, known: u64) {
    let steps = demo.steps();
    assert_eq!(steps.len(), 8, "{}", demo.text);
    let mut answers = Vec::new();
    for (number, (expect, line)) in (1..).zip(&steps) {
        assert!(expect.starts_with(&format!("# {number}. ")) && expect.contains("Expect: "), "{expect}");
        answers.push(paste(line));
    }
    assert_eq!(answers[0], "ready\n");
    let answer = |number: usize| -> Value {
        let answer: Value = serde_json::from_str(&answers[number - 1]).unwrap();
        assert_eq!((&answer["ActionStatus"], &answer["ErrorCode"]), (&json!("OK"), &json!(0)), "{answer}");
        answer
    };
    let wrote = |number: usize, seq: u64, results: Value| {
        let answer = answer(number);
        assert_eq!((&answer["Seq"], &answer["ExtensionList"]), (&json!(seq), &results), "step {number}");
    };

    // The published sample, with the comma before the bracket, is accepted as it is printed.
    assert!(steps[1].1.contains(r#""Value": "value2", "Seq": 0},]}'"#), "{}", steps[1].1);
    let both = json!([result(0, "key1", "value1", latest + 1), result(0, "key2", "value2", latest + 1)]);
    wrote(2, latest + 1, both);

    let pulled = answer(3);
    assert_eq!((&pulled["LatestSeq"], &pulled["CompleteFlag"]), (&json!(latest + 1), &json!(1)));
    let mut pairs = Vec::new();
    if known > 0 {
        pairs.push(pair("ann", "pizza", known));
    }
    pairs.extend([pair("key1", "value1", latest + 1), pair("key2", "value2", latest + 1)]);
    assert_eq!(pulled["ExtensionList"], Value::from(pairs));

    wrote(4, latest + 2, json!([result(0, "ann", "noodles", latest + 2)]));
    // The point of it all: a stale writer is refused, changes nothing, and learns what is there.
    assert!(steps[4].0.contains("23001"), "{}", steps[4].0);
    wrote(5, latest + 2, json!([result(23_001, "ann", "noodles", latest + 2)]));
    wrote(6, latest + 3, json!([result(0, "ann", "pizza", latest + 3)]));
    wrote(7, latest + 4, json!([result(0, "key1", "", latest + 4)]));
    wrote(8, latest + 5, json!([]));
}

#[test]
fn every_printed_line_works_when_pasted_and_ctrl_c_removes_everything() {
    let demo = Demo::start(&["--listen", "127.0.0.1:0"]);
    let folder = demo.folder();
    assert!(folder.join("demo.toml").exists());
    run_through(&demo, 0, 0);
    demo.interrupt();
    assert!(!folder.exists());
}

#[test]
fn without_flags_a_port_that_is_taken_is_replaced_and_told() {
    // Where something else of this machine has the port already, it is just as taken.
    let taken = TcpListener::bind("127.0.0.1:7780");
    assert!(taken.as_ref().map_or_else(|error| error.kind() == ErrorKind::AddrInUse, |_| true));
    let demo = Demo::start(&[]);
    assert!(demo.text.starts_with("Port 7780 is taken by another program, so this demo listens on port "));
    assert!(!demo.text.contains("http://127.0.0.1:7780"), "{}", demo.text);
    assert_eq!(paste(demo.steps()[0].1), "ready\n");
    demo.interrupt();
}

#[test]
fn an_address_that_was_asked_for_is_not_replaced() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut process = Process::spawn(sidenote().args(["demo", "--listen", &address]));
    assert_eq!(process.wait().code(), Some(1));
    assert!(process.log().contains(&format!("cannot listen on {address}")), "{}", process.log());
}

#[test]
fn a_folder_that_is_kept_is_gone_on_with() {
    let home = TempDir::new().unwrap();
    let folder = home.path().join("kept");
    let arguments = ["--listen", "127.0.0.1:0", "--data", folder.to_str().unwrap()];
    let demo = Demo::start(&arguments);
    // Everything but the clear, so that the next demo finds a vote.
    for (_, line) in &demo.steps()[..7] {
        paste(line);
    }
    let key = std::fs::read(folder.join("demo.toml")).unwrap();
    demo.interrupt();

    let demo = Demo::start(&arguments);
    assert_eq!(std::fs::read(folder.join("demo.toml")).unwrap(), key);
    run_through(&demo, 4, 3);
    // Nothing was imported twice: message 158 is still the last.
    let url = demo.steps()[2]
        .1
        .split('\'')
        .nth(5)
        .unwrap()
        .replace("openim_msg_ext_http_svc/group_get_key_values", "group_open_http_svc/get_group_info");
    let info = paste(&format!("curl -sS -d '{{\"GroupIdList\":[\"@TGS#1YMVAB3IZ\"]}}' '{url}'"));
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(
        (&info["GroupInfo"][0]["NextMsgSeq"], &info["GroupInfo"][0]["MemberNum"]),
        (&json!(160), &json!(3))
    );
    demo.interrupt();
    assert!(folder.join("demo.toml").exists());
}

#[test]
fn a_reader_that_leaves_ends_the_demo_without_a_trace() {
    let home = TempDir::new().unwrap();
    let mut command = sidenote();
    command.args(["demo", "--listen", "127.0.0.1:0"]).env("TMPDIR", home.path());
    let mut process = Process::spawn(&mut command);
    process.close_stdout();
    assert_eq!(process.wait().code(), Some(1));
    let said = process.log();
    assert!(said.starts_with("sidenote: ") && said.lines().count() == 1, "{said}");
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}
