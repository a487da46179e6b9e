//! The published web client, unmodified, against the real binary: in Node and in headless Chromium, with text and with
//! binary frames. No host but this machine is reached.
//!
//! `tests/stock-client/install.sh` brings the client and the browser, and `make test` runs it first. What is not there is
//! skipped, and the test says so by name.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use sidenote_torture::long::ticket;

use crate::chromium::Chromium;
use crate::server::{ADMINISTRATOR, APP, ConfigOptions, Running};

/// Longest wait for anything that a client does.
const PATIENCE: Duration = Duration::from_mins(1);

/// More requests than this and the client asks for something again and again.
const MOST_REQUESTS: usize = 400;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// Where the clients run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Node,
    Chromium,
}

impl Place {
    /// The folder of the packages; `None`, said aloud, where something is missing.
    fn packages(self) -> Option<PathBuf> {
        let folder = repository().join("target/stock-client");
        let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
        let missing = if !folder.join("installed").is_file() {
            "the packages; run tests/stock-client/install.sh"
        } else if !has("node") {
            "node"
        } else if self == Self::Chromium && !Chromium::is_installed() {
            "chromium"
        } else {
            return Some(folder);
        };
        println!("skipped: the stock client in {self:?} needs {missing}");
        None
    }

    fn script(self) -> PathBuf {
        let name = match self {
            Self::Node => "node.js",
            Self::Chromium => "browser.js",
        };
        repository().join("tests/stock-client").join(name)
    }
}

/// One client, in a process of its own: the published one keeps one instance of an app in each.
struct Puppet {
    name: &'static str,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    /// Where it runs, if that is not Node.
    browser: Option<Chromium>,
    last_id: u64,
    /// What happened to it and was not looked at yet.
    events: Vec<Value>,
    /// What it asked for.
    requests: Vec<String>,
}

impl Puppet {
    fn start(name: &'static str, place: Place, packages: &Path, server: &Running, text: bool) -> Self {
        let mut command = Command::new("node");
        command.arg(place.script()).arg(packages).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::inherit()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let (sender, lines) = sync_channel(10_000);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"));
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let (events, requests) = (Vec::new(), Vec::new());
        let mut puppet = Self { name, child, stdin, lines, browser: None, last_id: 0, events, requests };
        if place == Place::Chromium {
            let mut browser = Chromium::start(name).expect("it was there when the test began");
            browser.open(puppet.event("page")["url"].as_str().unwrap());
            puppet.browser = Some(browser);
        }
        puppet.event("started");
        let server = format!("ws://{}/any/prefix", server.address);
        puppet.ok("create", &json!({"app": APP, "server": server, "text": text}));
        puppet
    }

    fn send(&mut self, call: &str, parameters: &Value) -> u64 {
        self.last_id += 1;
        let mut line = parameters.clone();
        line["id"] = json!(self.last_id);
        line["call"] = json!(call);
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
        self.last_id
    }

    /// Has it do something; its result, or what it was refused with.
    fn call(&mut self, call: &str, parameters: &Value) -> Result<Value, Value> {
        let id = self.send(call, parameters);
        self.outcome(call, id)
    }

    fn outcome(&mut self, call: &str, id: u64) -> Result<Value, Value> {
        loop {
            let mut line = self.line(call);
            if line["id"] == json!(id) {
                return if line["error"].is_null() {
                    Ok(line["result"].take())
                } else {
                    Err(line["error"].take())
                };
            }
            self.keep(line);
        }
    }

    fn ok(&mut self, call: &str, parameters: &Value) -> Value {
        let name = self.name;
        self.call(call, parameters).unwrap_or_else(|error| panic!("{name} {call} {parameters}: {error}"))
    }

    fn log_in(&mut self) {
        let user = self.name;
        self.ok("login", &json!({"user": user, "ticket": ticket(user, 0)}));
    }

    /// Waits for the next event of this name.
    fn event(&mut self, name: &str) -> Value {
        loop {
            if let Some(place) = self.events.iter().position(|event| event["event"] == name) {
                return self.events.remove(place);
            }
            let line = self.line(name);
            self.keep(line);
        }
    }

    fn keep(&mut self, line: Value) {
        match line["event"].as_str().unwrap_or_default() {
            "request" => self.requests.push(line["command"].as_str().unwrap_or_default().to_owned()),
            "outside" => panic!("{} wants to reach {line}", self.name),
            _ => self.events.push(line),
        }
    }

    fn line(&mut self, what: &str) -> Value {
        let name = self.name;
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("{name} waits for {what}; {:?}", self.events),
            Err(RecvTimeoutError::Disconnected) => panic!("{name} has ended at {what}; {:?}", self.events),
        }
    }

    /// It has asked for nothing again and again, and no promise of it was left alone with its error.
    fn is_content(&mut self) {
        while let Ok(line) = self.lines.try_recv() {
            self.keep(line);
        }
        let mut counts = std::collections::BTreeMap::new();
        for command in &self.requests {
            *counts.entry(command.as_str()).or_insert(0) += 1;
        }
        assert!(self.requests.len() < MOST_REQUESTS, "{}: {counts:?}", self.name);
        let unhandled: Vec<_> = self.events.iter().filter(|event| event["event"] == "unhandled").collect();
        assert!(unhandled.is_empty(), "{}: {unhandled:?}", self.name);
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        drop(self.browser.take());
        // It ends when its input ends.
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

fn world() -> Running {
    let server = Running::start(&ConfigOptions::default());
    let post = |command: &str, body: &Value| {
        let answer = server.post(ADMINISTRATOR, command, &body.to_string());
        assert_eq!(answer["ErrorCode"], 0, "{command}: {answer}");
    };
    post("im_open_login_svc/multiaccount_import", &json!({"Accounts": ["ann", "bob", "cid"]}));
    let group = json!({"GroupId": "g", "Type": "Public", "Name": "the group", "Owner_Account": "ann",
        "MemberList": [{"Member_Account": "bob"}, {"Member_Account": "cid"}]});
    post("group_open_http_svc/create_group", &group);
    server
}

/// Pairs by their keys.
fn values(list: &Value) -> Value {
    let pairs = list.as_array().unwrap_or_else(|| panic!("{list} is no list")).iter();
    pairs.map(|pair| (pair["key"].as_str().unwrap().to_owned(), pair["value"].clone())).collect()
}

/// The codes of a change, one for each key.
fn codes(result: &Value) -> Vec<i64> {
    let list = result["extensions"].as_array().unwrap_or_else(|| panic!("{result} has no list"));
    list.iter().map(|item| item["code"].as_i64().unwrap()).collect()
}

fn flow(place: Place, text: bool) {
    let Some(packages) = place.packages() else { return };
    let mut server = world();
    let mut ann = Puppet::start("ann", place, &packages, &server, text);
    let mut bob = Puppet::start("bob", place, &packages, &server, text);
    ann.log_in();
    bob.log_in();
    assert_eq!(ann.ok("groups", &json!({})), json!(["g"]));

    // A message that can carry pairs.
    let sent = ann.ok("send", &json!({"group": "g", "data": "lunch?"}));
    let received = bob.event("message");
    for member in ["ID", "from", "data", "extends"] {
        assert_eq!(received[member], sent[member], "{member}");
    }
    let id = sent["ID"].clone();

    // Set, and both are right afterwards.
    let change = |pairs: Value| json!({"of": id, "pairs": pairs});
    assert_eq!(codes(&ann.ok("set", &change(json!([{"key": "pizza", "value": "1"}])))), [0]);
    let updated = bob.event("updated");
    assert_eq!((&updated["messageID"], values(&updated["extensions"])), (&id, json!({"pizza": "1"})));
    let whole = json!({"of": id});
    assert_eq!(values(&bob.ok("get", &whole)["extensions"]), json!({"pizza": "1"}));

    // Two writers race for a key that neither knows: one is refused, and succeeds with what the refusal told it.
    let race = |value: &str| change(json!([{"key": "soup", "value": value}]));
    let (anns, bobs) = (ann.send("set", &race("ann's")), bob.send("set", &race("bob's")));
    let (anns, bobs) = (ann.outcome("set", anns).unwrap(), bob.outcome("set", bobs).unwrap());
    let refused = match (codes(&anns)[0], codes(&bobs)[0]) {
        (23_001, 0) => Some((&mut ann, "ann's")),
        (0, 23_001) => Some((&mut bob, "bob's")),
        // The one was told of the other's change before it sent its own.
        (0, 0) => None,
        other => panic!("{other:?}"),
    };
    if let Some((loser, value)) = refused {
        assert_eq!(codes(&loser.ok("set", &race(value))), [0]);
    }
    let soups = [&mut ann, &mut bob].map(|one| values(&one.ok("get", &whole)["extensions"])["soup"].clone());
    assert_eq!(soups[0], soups[1]);

    // Delete and clear.
    bob.events.clear();
    ann.ok("delete", &json!({"of": id, "keys": ["pizza"]}));
    let deleted = bob.event("deleted");
    assert_eq!((&deleted["messageID"], &deleted["keyList"]), (&id, &json!(["pizza"])));
    assert_eq!(values(&bob.ok("get", &whole)["extensions"]), json!({"soup": soups[0]}));
    ann.ok("clear", &whole);
    assert_eq!(bob.event("deleted")["keyList"], json!(["soup"]));
    assert_eq!(values(&bob.ok("get", &whole)["extensions"]), json!({}));
    // Whoever cleared drops what it held by the push too, so its next version is right.
    while ann.event("deleted")["keyList"] != json!(["soup"]) {}
    assert_eq!(codes(&ann.ok("set", &change(json!([{"key": "soup", "value": "again"}])))), [0]);
    assert_eq!(codes(&ann.ok("delete", &json!({"of": id, "keys": ["soup"]}))), [0]);
    assert_eq!(bob.event("deleted")["keyList"], json!(["soup"]));
    assert_eq!(codes(&bob.ok("set", &change(json!([{"key": "salad", "value": "1"}])))), [0]);

    // One-to-one messages have pairs too.
    let sent = ann.ok("send", &json!({"user": "bob", "data": "tea?"}));
    ann.events.clear();
    let received = bob.event("message");
    for member in ["ID", "from", "data", "extends"] {
        assert_eq!(received[member], sent[member], "{member}");
    }
    let (tea, kind) = (sent["ID"].clone(), json!([{"key": "green", "value": "1"}]));
    assert_eq!(codes(&bob.ok("set", &json!({"of": tea, "pairs": kind}))), [0]);
    let updated = ann.event("updated");
    assert_eq!((&updated["messageID"], values(&updated["extensions"])), (&tea, json!({"green": "1"})));
    assert_eq!(values(&ann.ok("get", &json!({"of": tea}))["extensions"]), json!({"green": "1"}));
    assert_eq!(codes(&ann.ok("delete", &json!({"of": tea, "keys": ["green"]}))), [0]);
    assert_eq!(bob.event("deleted")["keyList"], json!(["green"]));

    // A cold client finds all of it.
    let mut cid = Puppet::start("cid", place, &packages, &server, text);
    cid.log_in();
    let history = cid.ok("history", &json!({"group": "g"}));
    assert_eq!((&history[0]["ID"], &history[0]["extends"]), (&id, &sent["extends"]));
    assert_eq!(values(&cid.ok("get", &whole)["extensions"]), json!({"salad": "1"}));

    // The server is killed and comes back on the same port; the clients come back by themselves.
    let listen = server.address.to_string();
    server.kill9();
    server.environment.push(("SIDENOTE_LISTEN".into(), listen.into()));
    server.restart();
    for client in [&mut ann, &mut bob, &mut cid] {
        client.events.retain(|event| event["event"] != "net");
        while client.event("net")["state"] != "connected" {}
    }
    bob.events.clear();
    // The network is back before the login is, so the first tries may be refused.
    let again = change(json!([{"key": "rice", "value": "1"}]));
    let tries = (0..50).find(|_| ann.call("set", &again).is_ok_and(|result| codes(&result) == [0]));
    assert!(tries.is_some(), "it does not come back");
    assert_eq!(values(&bob.event("updated")["extensions"]), json!({"rice": "1"}));

    for client in [&mut ann, &mut bob, &mut cid] {
        client.is_content();
    }
    cid.ok("logout", &json!({}));
}

fn expired_signatures(place: Place) {
    let Some(packages) = place.packages() else { return };
    let server = world();
    let mut ann = Puppet::start("ann", place, &packages, &server, false);
    let refused = ann.call("login", &json!({"user": "ann", "ticket": ticket("ann", 3601)})).unwrap_err();
    assert_eq!(refused["code"], 70_001, "{refused}");
    // One that expires while it is logged in.
    ann.ok("login", &json!({"user": "ann", "ticket": ticket("ann", 3600 - SECONDS_LEFT)}));
    assert_eq!(ann.event("kicked")["type"], "userSigExpired");
    ann.is_content();
}

/// Long enough for a login, and short enough to wait for.
const SECONDS_LEFT: u64 = 5;

fn deleted_account(place: Place) {
    let Some(packages) = place.packages() else { return };
    let server = world();
    let mut ann = Puppet::start("ann", place, &packages, &server, false);
    ann.log_in();
    let delete = json!({"DeleteItem": [{"UserID": "ann"}]}).to_string();
    let answer = server.post(ADMINISTRATOR, "im_open_login_svc/account_delete", &delete);
    assert_eq!(answer["ErrorCode"], 0, "{answer}");
    ann.event("kicked");
    ann.is_content();
}

#[test]
fn the_stock_client_in_node_with_binary_frames() {
    flow(Place::Node, false);
}

#[test]
fn the_stock_client_in_node_with_text_frames() {
    flow(Place::Node, true);
}

#[test]
fn the_stock_client_in_chromium_with_binary_frames() {
    flow(Place::Chromium, false);
}

#[test]
fn the_stock_client_in_chromium_with_text_frames() {
    flow(Place::Chromium, true);
}

#[test]
fn the_stock_client_is_told_that_its_signature_has_expired() {
    expired_signatures(Place::Node);
    expired_signatures(Place::Chromium);
}

#[test]
fn the_stock_client_is_told_that_its_account_is_deleted() {
    deleted_account(Place::Node);
    deleted_account(Place::Chromium);
}
