//! Backups, checks and exports of the real binary: what comes back is what was there.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;
use sidenote_store_embedded::backup::Loader;
use sidenote_store_embedded::engine::Settings;
use tempfile::TempDir;

use crate::caller::{Caller, Change, Operate, Wish};
use crate::server::{ADMINISTRATOR, APP, ConfigOptions, OTHER_APP, Process, Running, sidenote};

const GROUP: &str = "poll";
const MESSAGES: u64 = 4;
const WRITERS: u64 = 4;

pub(crate) fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

#[track_caller]
pub(crate) fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one line of a command that did not work, with its code.
#[track_caller]
pub(crate) fn refused(output: &Output, code: i32) -> String {
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(code), &b""[..]), "{output:?}");
    let line = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(line.starts_with("sidenote: ") && line.lines().count() == 1, "{line}");
    line
}

/// `sidenote <command> <options>`, where a path follows each option.
pub(crate) fn with(command: &str, options: &[(&str, &Path)]) -> Command {
    let mut it = sidenote();
    it.arg(command);
    for (name, path) in options {
        it.arg(name).arg(path);
    }
    it
}

pub(crate) fn without_attempts() -> ConfigOptions {
    ConfigOptions { limits: "attempts_per_minute = 0".to_owned(), ..ConfigOptions::default() }
}

/// A group with messages that take pairs, in this app.
fn furnish(server: &Running, app: u32) {
    let caller = Caller::new(server.address, app, ADMINISTRATOR);
    caller.ok("im_open_login_svc/account_import", r#"{"UserID":"ann"}"#);
    let group = json!({"GroupId": GROUP, "Type": "Public", "Name": "poll", "Owner_Account": "ann",
        "MemberList": [{"Member_Account": ADMINISTRATOR}]});
    caller.ok("group_open_http_svc/create_group", &group.to_string());
    for number in 1..=MESSAGES {
        let message = json!({"GroupId": GROUP, "From_Account": "ann", "Random": number, "SupportMessageExtension": 1,
            "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "lunch?"}}]});
        caller.ok("group_open_http_svc/send_group_msg", &message.to_string());
    }
}

/// Two accounts that wrote to each other in this app: a message with a pair, one that was recalled, and one online.
pub(crate) fn correspond(server: &Running, app: u32) {
    let caller = Caller::new(server.address, app, ADMINISTRATOR);
    let send = |more: &str| {
        let body = format!(
            r#"{{"To_Account":"ann","SupportMessageExtension":1,"MsgBody":[{{"MsgType":"TIMTextElem","MsgContent":{{"Text":"hi"}}}}],{more}}}"#
        );
        caller.ok("openim/sendmsg", &body)["MsgKey"].clone()
    };
    let (poll, gone) = (send(r#""MsgRandom":1"#), send(r#""MsgRandom":2"#));
    send(r#""MsgRandom":3,"OnlineOnlyFlag":1"#);
    for key in [&poll, &gone] {
        let set = json!({"To_Account": "ann", "MsgKey": key, "OperateType": 1,
            "ExtensionList": [{"Key": "vote", "Value": "noodles"}]});
        caller.ok("openim_msg_ext_http_svc/set_key_values", &set.to_string());
    }
    let recall = json!({"From_Account": ADMINISTRATOR, "To_Account": "ann", "MsgKey": gone});
    caller.ok("openim/admin_msgwithdraw", &recall.to_string());
}

pub(crate) fn delete(key: &str) -> Change {
    let wishes = vec![Wish { key: key.to_owned(), value: String::new(), claim: None }];
    Change { operate: Operate::Delete, wishes }
}

/// Counts a pair of its own up on one message, with pairs that come and go beside it, until it is told to stop.
fn write(server: SocketAddr, writer: u64, stops: &AtomicBool, answered: &Mutex<Vec<u64>>) {
    let caller = Caller::new(server, APP, ADMINISTRATOR);
    let message = writer % MESSAGES + 1;
    let (own, fleeting) = (format!("count-{writer}"), format!("fleeting-{writer}"));
    for count in 1.. {
        let text = count.to_string();
        let pairs = [(own.as_str(), text.as_str(), None), (fleeting.as_str(), "x", None)];
        caller.change(GROUP, message, &Change::set(pairs)).unwrap();
        answered.lock().unwrap()[usize::try_from(writer).unwrap()] = count;
        caller.change(GROUP, message, &delete(&fleeting)).unwrap();
        if stops.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Lines of an export that say something of the store and not of the export.
pub(crate) fn rows(export: &Path) -> Vec<String> {
    let text = fs::read_to_string(export).unwrap();
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    assert!(
        lines[0].starts_with(r#"{"sidenote_export":"#) && lines.last().unwrap().starts_with(r#"{"end":"#)
    );
    lines[1..lines.len() - 1].to_vec()
}

#[test]
fn a_backup_while_clients_write_holds_all_that_was_answered_before() {
    let server = Running::start(&without_attempts());
    furnish(&server, APP);
    let home = TempDir::new().unwrap();
    let file = |name: &str| home.path().join(name);
    let (stops, answered) = (AtomicBool::new(false), Mutex::new(vec![0; 4]));
    let config = server.config();

    let before = thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (server, stops, answered) = (server.address, &stops, &answered);
            scope.spawn(move || write(server, writer, stops, answered));
        }
        while answered.lock().unwrap().contains(&0) {
            thread::yield_now();
        }
        let before = answered.lock().unwrap().clone();
        let backup = run(&mut with("backup", &[("--config", &config), ("--to", &file("b"))]));
        // The server is checked and exported while they write, too.
        let check = run(&mut with("check", &[("--data", &server.data())]));
        let export = run(&mut with("export", &[("--config", &config), ("--to", &file("live.jsonl"))]));
        // Nobody had to stop for it.
        let during = answered.lock().unwrap().clone();
        while answered.lock().unwrap().iter().zip(&during).any(|(now, then)| now == then) {
            thread::yield_now();
        }
        stops.store(true, Ordering::Relaxed);
        assert!(said(&backup).starts_with(&format!("{}: the state after batch ", file("b").display())));
        assert!(said(&check).ends_with("no damage, 0 remarks\n"), "{check:?}");
        said(&export);
        before
    });
    assert_eq!(fs::metadata(file("b")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(
        said(&run(&mut with("check", &[("--backup", &file("b"))]))).contains("4 messages, 4 extension sets")
    );

    said(&run(&mut with("restore", &[("--from", &file("b")), ("--data", &file("restored"))])));
    said(&run(&mut with("import", &[("--from", &file("live.jsonl")), ("--data", &file("imported"))])));
    for folder in ["restored", "imported"] {
        let check = said(&run(&mut with("check", &[("--data", &file(folder))])));
        assert!(check.ends_with("no damage, 0 remarks\n"), "{check}");
    }
    // What is restored is what is in the backup, and what is imported what was exported.
    said(&run(&mut with("export", &[("--backup", &file("b")), ("--to", &file("b.jsonl"))])));
    said(&run(&mut with("export", &[("--data", &file("restored")), ("--to", &file("restored.jsonl"))])));
    assert_eq!(rows(&file("restored.jsonl")), rows(&file("b.jsonl")));
    said(&run(&mut with("export", &[("--data", &file("imported")), ("--to", &file("imported.jsonl"))])));
    assert_eq!(rows(&file("imported.jsonl")), rows(&file("live.jsonl")));

    let restored =
        Process::spawn(&mut with("serve", &[("--config", &config), ("--data", &file("restored"))]));
    let line = restored.wait_for("listening on http://");
    let address = line.rsplit("http://").next().unwrap().trim().parse().unwrap();
    let caller = Caller::new(address, APP, ADMINISTRATOR);
    for (writer, least) in (0..WRITERS).zip(before) {
        let page = caller.page(GROUP, writer % MESSAGES + 1, 0);
        let own = page.pairs.iter().find(|pair| pair.key == format!("count-{writer}")).unwrap();
        assert!(own.value.parse::<u64>().unwrap() >= least, "writer {writer}: {own:?}, {least} was answered");
    }
    // And it takes writes where it stopped.
    caller.set_one(GROUP, 1, "after", "the restore", None);
}

/// A server that has stopped, and a backup of it.
fn stopped() -> (Running, TempDir, PathBuf) {
    let mut server = Running::start(&ConfigOptions::default());
    for app in [APP, OTHER_APP] {
        furnish(&server, app);
        correspond(&server, app);
    }
    assert!(server.terminate().success());
    let home = TempDir::new().unwrap();
    let backup = home.path().join("backup");
    said(&run(&mut with("backup", &[("--config", &server.config()), ("--to", &backup)])));
    (server, home, backup)
}

#[test]
fn a_damaged_backup_changes_nothing() {
    let (_server, home, backup) = stopped();
    let whole = fs::read(&backup).unwrap();
    let (damaged, folder) = (home.path().join("damaged"), home.path().join("restored"));
    let restore = || run(&mut with("restore", &[("--from", &damaged), ("--data", &folder)]));
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    for (bytes, says) in [
        (flipped, "the backup is damaged behind byte"),
        (whole[..whole.len() - 1].to_vec(), "the backup is cut off after"),
        (b"a novel".to_vec(), "this is no backup"),
        (Vec::new(), "this is no backup"),
    ] {
        fs::write(&damaged, bytes).unwrap();
        let sentence = refused(&restore(), 1);
        assert!(sentence.contains(says), "{sentence}");
        assert!(refused(&run(&mut with("check", &[("--backup", &damaged)])), 1).contains(says));
        assert!(!folder.exists());
    }
    // Nor does one come into being over a file, or of a folder without a store.
    let again = run(&mut with("backup", &[("--data", &folder), ("--to", &backup)]));
    assert!(refused(&again, 2).contains("it exists already"));
    let nothing = run(&mut with("backup", &[("--data", &folder), ("--to", &home.path().join("new"))]));
    assert!(refused(&nothing, 1).contains("there is no store in"), "{nothing:?}");
    assert!(!folder.exists() && !home.path().join("new").exists());
    assert_eq!(fs::read(&backup).unwrap(), whole);
    let left: Vec<_> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_server_refuses_a_restore_that_did_not_finish() {
    let (server, home, backup) = stopped();
    let folder = home.path().join("restored");
    let restore = || run(&mut with("restore", &[("--from", &backup), ("--data", &folder)]));
    said(&restore());
    assert!(refused(&restore(), 1).contains("holds a store already"));

    // As a crash in the last moment leaves it.
    fs::write(folder.join("unfinished"), "restore or import").unwrap();
    let mut refusing =
        Process::spawn(&mut with("serve", &[("--config", &server.config()), ("--data", &folder)]));
    assert_eq!(refusing.wait().code(), Some(1));
    let log = refusing.log();
    assert!(
        log.contains("is not whole: its restore or import was interrupted; run the same command"),
        "{log}"
    );
    assert!(refused(&run(&mut with("check", &[("--data", &folder)])), 1).contains("is not whole"));

    said(&restore());
    let whole = Process::spawn(&mut with("serve", &[("--config", &server.config()), ("--data", &folder)]));
    whole.wait_for("listening on http://");
}

#[test]
fn one_app_moves_to_another_store_and_only_once() {
    let (server, home, _) = stopped();
    let file = |name: &str| home.path().join(name);
    let config = server.config();
    for app in [APP, OTHER_APP] {
        let to = file(&format!("{app}.jsonl"));
        said(&run(with("export", &[("--config", &config), ("--to", &to)]).args(["--app", &app.to_string()])));
    }
    let (one, other) = (file(&format!("{APP}.jsonl")), file(&format!("{OTHER_APP}.jsonl")));
    assert!(rows(&one).iter().all(|line| !line.contains(&OTHER_APP.to_string())));
    let import = |from: &Path| run(&mut with("import", &[("--from", from), ("--data", &file("moved"))]));
    assert!(said(&import(&one)).ends_with(&format!("rows of app {APP}\n")));
    said(&import(&other));
    assert!(refused(&import(&one), 1).contains(&format!("holds something of app {APP} already")));
    assert!(
        said(&run(&mut with("check", &[("--data", &file("moved"))]))).ends_with("no damage, 0 remarks\n")
    );

    // Both together are the store that they came from.
    said(&run(&mut with("export", &[("--config", &config), ("--to", &file("all.jsonl"))])));
    said(&run(&mut with("export", &[("--data", &file("moved")), ("--to", &file("moved.jsonl"))])));
    assert_eq!(rows(&file("moved.jsonl")), rows(&file("all.jsonl")));

    let nobody =
        run(with("export", &[("--config", &config), ("--to", &file("nobody"))]).args(["--app", "7"]));
    assert!(refused(&nobody, 1).contains("the store holds nothing of app 7"));
    assert!(!file("nobody").exists());
    let taken = run(with("import", &[("--from", &file("all.jsonl")), ("--data", &file("taken"))])
        .args(["--app", &OTHER_APP.to_string()]));
    said(&taken);
    said(&run(&mut with("export", &[("--data", &file("taken")), ("--to", &file("taken.jsonl"))])));
    assert_eq!(rows(&file("taken.jsonl")), rows(&other));
}

#[test]
fn an_import_into_a_store_that_was_there_before_can_be_given_up() {
    let (server, home, _) = stopped();
    let file = |name: &str| home.path().join(name);
    let (data, all) = (file("moved"), file("all.jsonl"));
    said(&run(&mut with("export", &[("--config", &server.config()), ("--to", &all)])));
    let import = |app: u32| {
        run(with("import", &[("--from", &all), ("--data", &data)]).args(["--app", &app.to_string()]))
    };
    let abandon =
        |app: u32| run(with("import", &[("--data", &data)]).args(["--abandon", "--app", &app.to_string()]));
    let export = |to: &str| {
        said(&run(&mut with("export", &[("--data", &data), ("--to", &file(to))])));
        rows(&file(to))
    };
    said(&import(APP));
    let before = export("before.jsonl");
    assert!(refused(&abandon(OTHER_APP), 1).contains("there is no import into"));

    said(&import(OTHER_APP));
    assert_ne!(export("after.jsonl"), before);
    // As a crash in the last moment leaves it; the file is lost.
    let mark = |work: &str| fs::write(data.join("unfinished"), work).unwrap();
    mark(&format!("import of app {OTHER_APP} from the file with the digest 0123456789abcdef"));
    let told = refused(&import(OTHER_APP), 1);
    assert!(told.contains("is not whole") && told.contains("sidenote import --abandon"), "{told}");
    assert!(refused(&abandon(APP), 1).contains(&format!("there is no import of app {APP} into")));
    let told = said(&abandon(OTHER_APP));
    assert!(
        told.starts_with(&format!("the import of app {OTHER_APP} was given up, and what it had ")),
        "{told}"
    );
    assert_eq!(export("given up.jsonl"), before);
    said(&import(OTHER_APP));
    assert_eq!(export("again.jsonl"), rows(&all));

    // One into a folder that was empty, and one of so many apps that the mark does not name them.
    for (work, says) in [
        ("restore or import", "nothing else is in"),
        ("import of the file with the digest 0", "restore a backup"),
    ] {
        mark(work);
        let told = refused(&abandon(OTHER_APP), 1);
        assert!(told.contains(says), "{told}");
    }
}

#[test]
fn an_import_refuses_what_no_store_may_hold() {
    let (server, home, _) = stopped();
    let (export, edited) = (home.path().join("all.jsonl"), home.path().join("edited.jsonl"));
    said(&run(&mut with("export", &[("--config", &server.config()), ("--to", &export)])));
    let text = fs::read_to_string(&export).unwrap();
    let folder = home.path().join("imported");
    let edit = |text: &str, from: &str, to: &str| {
        assert!(text.contains(from), "{from} is in {text}");
        fs::write(&edited, text.replace(from, to)).unwrap();
        let sentence = refused(&run(&mut with("import", &[("--from", &edited), ("--data", &folder)])), 1);
        assert!(!folder.exists());
        sentence
    };
    let (from, to) = (r#""last_msg_seq":4"#, r#""last_msg_seq":5"#);
    let sentence = edit(&text, from, to);
    assert!(sentence.contains("the checksum does not fit"), "{sentence}");
    // Whoever edits a file on purpose takes the checksum out, and is still told what makes no sense.
    let end = text.lines().last().unwrap();
    let unsummed = format!("{}}}}}", end.split(',').next().unwrap());
    let sentence = edit(&text.replace(end, &unsummed), from, to);
    assert!(sentence.contains("counts 5 messages, but the last one is 4"), "{sentence}");
    said(&run(&mut with("import", &[("--from", &export), ("--data", &folder)])));
}

#[test]
fn a_check_names_the_damage_and_fails() {
    let (server, _home, _) = stopped();
    let mut loader = Loader::add(&server.data(), &Settings::default(), "a test").unwrap();
    // The header of message 9 of no group: kind 4, an incarnation, part 4, kind 1, a number, part 1.
    let key = [&[4][..], &5_u64.to_be_bytes(), &[4, 1], &9_u64.to_be_bytes(), &[1]].concat();
    loader.put((key.into(), b"hunter2".as_slice().into())).unwrap();
    loader.put((vec![9, 9].into(), Vec::new().into())).unwrap();
    loader.finish().unwrap();

    let output = run(&mut with("check", &[("--config", &server.config())]));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("damage: incarnation 5, message 9: cannot be read: "), "{text}");
    assert!(text.contains("damage: cannot be read: "), "{text}");
    assert!(text.contains("damage in 2 places, 0 remarks; ") && !text.contains("hunter2"), "{text}");
    // A damaged store can be backed up as it is.
    let home = TempDir::new().unwrap();
    let (backup, folder) = (home.path().join("b"), home.path().join("r"));
    said(&run(&mut with("backup", &[("--config", &server.config()), ("--to", &backup)])));
    said(&run(&mut with("restore", &[("--from", &backup), ("--data", &folder)])));
    assert_eq!(run(&mut with("check", &[("--data", &folder)])).status.code(), Some(1));
    let export = run(&mut with("export", &[("--data", &folder), ("--to", &home.path().join("e"))]));
    assert!(refused(&export, 1).contains("a row cannot be read (incarnation 5, message 9"));
}

#[test]
fn the_control_socket_is_for_the_owner_alone_and_outlives_a_crash() {
    let mut server = Running::start(&ConfigOptions::default());
    let control = server.data().join("control");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&control), mode(&control.join("socket"))), (0o700, 0o600));
    let home = TempDir::new().unwrap();
    let config = server.config();
    let backup =
        |name: &str| run(&mut with("backup", &[("--config", &config), ("--to", &home.path().join(name))]));
    said(&backup("while it runs"));
    server.kill9();
    assert!(control.join("socket").exists());
    said(&backup("after a crash"));
    server.restart();
    said(&backup("after a restart"));
    assert!(server.terminate().success());
    assert!(!control.join("socket").exists());
    said(&backup("after a stop"));

    // A path that is too long for the address of a socket.
    let deep = home.path().join("d".repeat(100));
    let deep_server = Process::spawn(&mut with("serve", &[("--config", &config), ("--data", &deep)]));
    deep_server.wait_for("listening on http://");
    said(&run(&mut with("backup", &[("--data", &deep), ("--to", &home.path().join("deep"))])));
    assert!(!deep_server.log().contains("no backup can be taken"), "{}", deep_server.log());
}
