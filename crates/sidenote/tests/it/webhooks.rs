//! Webhooks of the real binary: what was answered is told, whatever dies in between.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::server::{ADMINISTRATOR, ConfigOptions, OTHER_APP, PATIENCE, Running, sidenote};

/// A receiver that takes everything while it is up, and answers 503 while it is not.
pub(crate) struct Receiver {
    address: SocketAddr,
    up: Arc<AtomicBool>,
    taken: Arc<Mutex<Vec<Value>>>,
    gate: Arc<Gate>,
}

/// Where answers wait while they are held back.
#[derive(Default)]
struct Gate {
    holds: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        let holds = self.holds.lock().unwrap();
        drop(self.opened.wait_while(holds, |holds| *holds).unwrap());
    }
}

impl Receiver {
    pub(crate) fn new(up: bool) -> Self {
        Self::listen(up, None)
    }

    fn listen(up: bool, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (up, taken) = (Arc::new(AtomicBool::new(up)), Arc::<Mutex<Vec<Value>>>::default());
        let (is_up, list) = (Arc::clone(&up), Arc::clone(&taken));
        let gate = Arc::<Gate>::default();
        let gate_of_all = Arc::clone(&gate);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (is_up, list, tls) = (Arc::clone(&is_up), Arc::clone(&list), tls.clone());
                let gate = Arc::clone(&gate_of_all);
                // A server that was killed leaves its connections; that ends them.
                thread::spawn(move || {
                    drop(match tls {
                        None => serve(stream.unwrap(), &is_up, &list, &gate),
                        Some(tls) => {
                            let connection = ServerConnection::new(tls).unwrap();
                            serve(StreamOwned::new(connection, stream.unwrap()), &is_up, &list, &gate)
                        }
                    });
                });
            }
        });
        Self { address, up, taken, gate }
    }

    pub(crate) fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::SeqCst);
    }

    /// Takes what comes, but answers nobody until it is released.
    pub(crate) fn hold(&self) {
        *self.gate.holds.lock().unwrap() = true;
    }

    pub(crate) fn release(&self) {
        *self.gate.holds.lock().unwrap() = false;
        self.gate.opened.notify_all();
    }

    pub(crate) fn taken(&self) -> Vec<Value> {
        self.taken.lock().unwrap().clone()
    }

    /// The `Seq` of what was told of this group's pairs, in the order in which it came.
    pub(crate) fn seqs(&self, group: &str) -> Vec<u64> {
        let taken = self.taken();
        let of_group = taken.iter().filter(|body| body["GroupId"] == group);
        of_group.filter_map(|body| body["Seq"].as_u64()).collect()
    }

    /// Waits until this group's pairs were told up to that `Seq`.
    pub(crate) fn wait_for(&self, group: &str, seq: u64) {
        let tries = PATIENCE.as_millis() / 10;
        for _ in 0..tries {
            if self.seqs(group).contains(&seq) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("{group} was told up to {:?} and not {seq}", self.seqs(group).last());
    }

    /// A server whose second app tells this receiver.
    fn start_server(&self, more: &str) -> Running {
        self.start_server_at("http", more)
    }

    fn start_server_at(&self, scheme: &str, more: &str) -> Running {
        Running::start(&self.options(scheme, more))
    }

    /// Of a server whose second app tells this receiver.
    pub(crate) fn options(&self, scheme: &str, more: &str) -> ConfigOptions {
        ConfigOptions {
            limits: "attempts_per_minute = 0".to_owned(),
            more: format!(
                "[apps.webhook]\nurl = \"{scheme}://{}/cb\"\nallow_networks = [\"127.0.0.1\"]\nretry_first_ms = 20\n\
                 retry_longest_ms = 50\n{more}\n",
                self.address
            ),
            ..ConfigOptions::default()
        }
    }
}

fn serve(
    stream: impl Read + Write,
    up: &AtomicBool,
    taken: &Mutex<Vec<Value>>,
    gate: &Gate,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let is_up = up.load(Ordering::SeqCst);
        if is_up {
            taken.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
        }
        gate.pass();
        let status = if is_up { "200 OK" } else { "503 Service Unavailable" };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}");
        reader.get_mut().write_all(answer.as_bytes())?;
    }
}

pub(crate) fn ok(server: &Running, command: &str, body: &Value) -> Value {
    let answer = server.post_to(OTHER_APP, ADMINISTRATOR, command, &body.to_string());
    assert_eq!(answer["ErrorCode"], 0, "{command} {body}: {answer}");
    answer
}

pub(crate) fn found(server: &Running, group: &str) {
    ok(server, "group_open_http_svc/create_group", &json!({"GroupId":group,"Type":"Public","Name":group}));
    let message = json!({
        "GroupId":group,"Random":1,"SupportMessageExtension":1,
        "MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"?"}}]
    });
    ok(server, "group_open_http_svc/send_group_msg", &message);
}

pub(crate) fn set(group: &str) -> Value {
    json!({"GroupId":group,"MsgSeq":1,"OperateType":1,"ExtensionList":[{"Key":"k","Value":"v"}]})
}

pub(crate) const SET: &str = "openim_msg_ext_http_svc/group_set_key_values";

/// Nothing is missing and nothing comes before its time; what a crash left unsettled may come again.
pub(crate) fn assert_in_order(seqs: &[u64], last: u64) {
    let mut reached = 0;
    for seq in seqs {
        assert!(*seq <= reached + 1, "{seq} after {reached}: {seqs:?}");
        reached = reached.max(*seq);
    }
    assert!(reached >= last, "{last} was answered and only {reached} told");
}

#[test]
fn what_was_answered_before_kill_9_is_told_after_the_restart() {
    let receiver = Receiver::new(false);
    let mut server = receiver.start_server("");
    for group in ["a", "b", "c"] {
        found(&server, group);
        for _ in 0..20 {
            ok(&server, SET, &set(group));
        }
    }
    server.kill9();
    assert!(receiver.taken().is_empty());
    receiver.set_up(true);
    server.restart();
    for group in ["a", "b", "c"] {
        receiver.wait_for(group, 20);
        assert_in_order(&receiver.seqs(group), 20);
    }
    assert!(server.terminate().success());
}

#[test]
fn a_server_that_is_killed_again_and_again_tells_everything_in_order() {
    let receiver = Receiver::new(true);
    let mut server = receiver.start_server("");
    found(&server, "room");
    for round in 0..6 {
        let kill_after = 15 + 7 * round;
        for _ in 0..kill_after {
            ok(&server, SET, &set("room"));
        }
        // Somewhere between a commit and its delivery, or in one.
        server.kill9();
        server.restart();
    }
    // The last one to die may have told everything, and what it did not settle is told again. This comes after that.
    let last = ok(&server, SET, &set("room"))["Seq"].as_u64().unwrap();
    receiver.wait_for("room", last);
    assert_in_order(&receiver.seqs("room"), last);
    // A server that is asked to stop leaves nothing to be told again.
    let told = receiver.taken().len();
    assert!(server.terminate().success());
    server.restart();
    let last = ok(&server, SET, &set("room"))["Seq"].as_u64().unwrap();
    receiver.wait_for("room", last);
    assert_eq!(receiver.taken().len(), told + 1);
}

pub(crate) fn webhooks(server: &Running, arguments: &[&str]) -> Output {
    let app = OTHER_APP.to_string();
    let mut command = sidenote();
    command.arg("webhooks").args(&arguments[..1]).arg("--config").arg(server.config());
    command.args(["--app", &app]).args(&arguments[1..]).output().unwrap()
}

pub(crate) fn lines(output: &Output) -> Vec<String> {
    String::from_utf8(output.stdout.clone()).unwrap().lines().map(str::to_owned).collect()
}

/// Waits until there are so many dead letters, and gives the lines of the list.
pub(crate) fn wait_for_letters(server: &Running, count: usize) -> Vec<String> {
    let mut listed = Vec::new();
    for _ in 0..PATIENCE.as_millis() / 20 {
        listed = lines(&webhooks(server, &["list"]));
        if listed.len() > count {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(
        listed.last().cloned(),
        Some(format!("{count} dead letter{}", if count == 1 { "" } else { "s" })),
        "{listed:?}"
    );
    listed
}

#[test]
fn dead_letters_are_listed_shown_replayed_and_discarded() {
    let receiver = Receiver::new(false);
    let mut server = receiver.start_server("give_up_tries = 1");
    found(&server, "room");
    for _ in 0..4 {
        ok(&server, SET, &set("room"));
    }
    // After three failures in a row the receiver counts as one that answers nobody, which uses up no tries.
    let listed = wait_for_letters(&server, 3);
    let name = |line: &String| line.split(' ').next().unwrap().to_owned();
    let names: Vec<_> = listed[..3].iter().map(name).collect();
    assert!(listed[2].contains("group \"room\"") && listed[2].contains("status 503"), "{listed:?}");
    server.wait_for("events could not be told by webhook; see `sidenote webhooks list`");

    let shown = lines(&webhooks(&server, &["show", &names[2]])).join("\n");
    assert!(shown.contains("command       Group.CallbackAfterGroupMsgExtension"), "{shown}");
    assert!(shown.contains(r#""ExtensionList":[{"Key":"k","Value":"v","Seq":1}]"#), "{shown}");

    // The receiver is still down: the first fails, and those after it would come out of order.
    let failed = webhooks(&server, &["replay", "--all"]);
    let said = lines(&failed);
    assert_eq!((failed.status.code(), said.last().map(String::as_str)), (Some(1), Some("0 told, 3 not")));
    assert!(said[1].ends_with("not tried, because the one before it failed"), "{said:?}");

    receiver.set_up(true);
    receiver.wait_for("room", 4);
    assert_eq!(receiver.seqs("room"), [2, 3, 4]);
    let told = webhooks(&server, &["replay", &names[1], &names[2]]);
    assert_eq!(lines(&told).last().map(String::as_str), Some("2 told, 0 not"), "{told:?}");
    assert_eq!(receiver.seqs("room"), [2, 3, 4, 1]);
    assert_eq!(lines(&webhooks(&server, &["discard", &names[0]]))[0], format!("{}: discarded", names[0]));
    let gone = webhooks(&server, &["discard", &names[0]]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(lines(&gone)[0].ends_with("there is no such dead letter"));

    // The same without a server.
    receiver.set_up(false);
    for _ in 0..3 {
        ok(&server, SET, &set("room"));
    }
    wait_for_letters(&server, 3);
    assert!(server.terminate().success());
    assert_eq!(lines(&webhooks(&server, &["list"])).last().map(String::as_str), Some("3 dead letters"));
    receiver.set_up(true);
    let told = webhooks(&server, &["replay", "--all"]);
    assert_eq!(lines(&told).last().map(String::as_str), Some("3 told, 0 not"), "{told:?}");
    assert_eq!(receiver.seqs("room"), [2, 3, 4, 1, 5, 6, 7]);
    assert_eq!(lines(&webhooks(&server, &["list"])), ["0 dead letters"]);
    server.restart();
    assert!(server.get("/metrics").contains("sidenote_webhook_given_up_total{app=\"1400000002\"} 0"));
}

#[test]
fn what_a_receiver_was_not_told_for_its_certificate_is_told_once_somebody_vouches_for_it() {
    let certified = || rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (own, other) = (certified(), certified());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
    let tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let receiver = Receiver::listen(true, Some(Arc::new(tls)));
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, other.cert.pem()).unwrap();
    let more = format!("give_up_tries = 1\ntimeout_ms = 10000\nca_file = {:?}", ca_file.to_str().unwrap());
    let mut server = receiver.start_server_at("https", &more);
    found(&server, "room");
    ok(&server, SET, &set("room"));
    let said = server.wait_for("the webhook's receiver does not answer");
    assert!(said.contains("no secure connection: invalid peer certificate"), "{said}");

    let mut listed = Vec::new();
    for _ in 0..PATIENCE.as_millis() / 20 {
        listed = lines(&webhooks(&server, &["list"]));
        if listed.len() == 4 {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(listed.last().map(String::as_str), Some("3 dead letters"), "{listed:?}");
    for line in &listed[..3] {
        assert!(line.contains("no secure connection: invalid peer certificate"), "{line}");
    }
    let failed = lines(&webhooks(&server, &["replay", "--all"]));
    assert!(failed[0].contains("no secure connection: invalid peer certificate"), "{failed:?}");
    assert!(receiver.taken().is_empty());

    std::fs::write(&ca_file, own.cert.pem()).unwrap();
    assert!(server.terminate().success());
    server.restart();
    let told = webhooks(&server, &["replay", "--all"]);
    assert_eq!(lines(&told).last().map(String::as_str), Some("3 told, 0 not"), "{told:?}");
    ok(&server, SET, &set("room"));
    receiver.wait_for("room", 2);
    assert_eq!(receiver.seqs("room"), [1, 2]);
}

#[test]
fn a_command_that_makes_no_sense_is_refused() {
    let receiver = Receiver::new(true);
    let server = receiver.start_server("");
    for (arguments, problem) in [
        (&["show"][..], "required"),
        (&["replay", "no-name"], "it is no name of a dead letter"),
        (&["discard", "--all", "0000000000000001-1"], "cannot be used with"),
    ] {
        let output = webhooks(&server, arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(problem), "{said}");
    }
    let config = server.config();
    let output = sidenote().args(["webhooks", "list", "--config"]).arg(&config).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("the configuration has several apps; name one with --app"), "{said}");
}
