//! `sidenote watch`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::Command;

use serde_json::{Value, json};

use super::{Stream, ok, scene, set};
use crate::server::{APP, Process, Running, sidenote};

fn watch(server: &Running, arguments: &[&str]) -> Command {
    watch_at(&server.url(), server, arguments)
}

/// Watches what is at this address, with the keys of a server.
fn watch_at(url: &str, server: &Running, arguments: &[&str]) -> Command {
    let mut command = sidenote();
    command
        .arg("watch")
        .arg("--config")
        .arg(server.config())
        .args(["--app", &APP.to_string()])
        .args(["--server", url])
        .args(arguments);
    command
}

#[test]
fn what_happens_is_printed_across_a_restart_until_the_group_is_gone() {
    let mut server = scene("");
    let mut stream = Stream::of_group(&server, "bob", "g", "");
    set(&server, "ann", "a", 0);
    let seen = stream.event();
    let mut watch = Process::spawn(&mut watch(&server, &["--group", "g", "--after", &seen.id]));
    let lines = watch.stdout();
    let next = || -> Value { serde_json::from_str(&lines.next().unwrap()).unwrap() };
    set(&server, "ann", "b", 1);
    assert_eq!(next(), stream.event().data);
    let listen = server.address.to_string();
    server.environment.push(("SIDENOTE_LISTEN".into(), listen.into()));
    assert!(server.terminate().success());
    watch.wait_for("connecting again");
    // A proxy that cannot reach the server meanwhile says so, which is no refusal.
    answer_once(&server.address.to_string(), "503 Service Unavailable");
    server.restart();
    // It was told everything up to here and is told nothing twice.
    set(&server, "ann", "c", 2);
    assert_eq!(next()["ExtensionList"][0]["Value"], "c");
    ok(&server, "group_open_http_svc/destroy_group", &json!({"GroupId": "g"}));
    assert_eq!(next()["Type"], "GroupDestroyed");
    assert_eq!(watch.wait().code(), Some(1));
    assert!(watch.log().contains("\"Reason\":\"removed\""), "{}", watch.log());
}

/// Answers one request at this address with a status and nothing else.
fn answer_once(address: &str, status: &str) {
    let listener = TcpListener::bind(address).unwrap();
    let mut reader = BufReader::new(listener.accept().unwrap().0);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0);
    }
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    reader.into_inner().write_all(answer.as_bytes()).unwrap();
}

#[test]
fn what_cannot_be_watched_is_said_in_one_line() {
    let server = scene("");
    let refused = [
        (&["--group", "g", "--user", "eve"][..], "refused with 10007"),
        (&["--group", "nowhere"][..], "refused with 10010"),
        (&["--user", "ann"][..], "refused with 60010"),
        (&["--group", "g", "--after", "yesterday"][..], "refused with 60025"),
    ];
    let nowhere = "http://127.0.0.1:1";
    let refused = refused.map(|(arguments, says)| (watch(&server, arguments), says));
    let unreachable = (watch_at(nowhere, &server, &["--group", "g"]), "cannot watch http://127.0.0.1:1");
    for (mut watch, says) in refused.into_iter().chain([unreachable]) {
        let output = watch.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{said}");
        assert!(said.contains(says) && said.lines().count() == 1, "{said}");
    }
    let without_group = watch(&server, &["--after", "x"]).output().unwrap();
    assert_eq!(without_group.status.code(), Some(2));
}
