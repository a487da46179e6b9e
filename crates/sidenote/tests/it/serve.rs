//! Starting and stopping a server.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::server::{ADMINISTRATOR, APP, ConfigOptions, OTHER_APP, Process, Running, query, sidenote};

/// A serve command for a server of its own on `folder`.
fn serve(folder: &TempDir, options: &ConfigOptions) -> Command {
    let config = folder.path().join("sidenote.toml");
    std::fs::write(&config, options.toml(&folder.path().join("data"))).unwrap();
    let mut command = sidenote();
    command.arg("serve").arg("--config").arg(config);
    command
}

/// The one sentence of a server that cannot start, and its code.
fn refused(command: &mut Command) -> (i32, String) {
    let mut process = Process::spawn(command);
    let code = process.wait().code().unwrap();
    // Log lines may come before it, and nothing after it.
    let said = process.log();
    let sentence = said.lines().last().unwrap();
    assert!(sentence.starts_with("sidenote: ") && !said.contains("panic"), "{said}");
    (code, sentence.to_owned())
}

#[test]
fn a_port_that_is_taken_is_told_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = TempDir::new().unwrap();
    let (code, said) = refused(serve(&folder, &ConfigOptions::default()).args(["--listen", &address]));
    assert_eq!(code, 1);
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
    assert!(said.contains("choose another one with --listen"), "{said}");
}

#[test]
fn a_second_process_on_a_data_folder_is_refused_and_the_first_goes_on() {
    let server = Running::start(&ConfigOptions::default());
    let mut second = sidenote();
    second.arg("serve").arg("--config").arg(server.config());
    let (code, said) = refused(&mut second);
    assert_eq!(code, 1);
    assert!(said.contains(&format!("the folder {} is in use", server.data().display())), "{said}");
    assert!(said.contains("stop that server or choose another folder"), "{said}");
    assert_eq!(server.get("/readyz"), "ready\n");

    // With a folder of its own it may run beside the first.
    let elsewhere = TempDir::new().unwrap();
    let mut third = sidenote();
    third.arg("serve").arg("--config").arg(server.config()).arg("--data").arg(elsewhere.path());
    let mut third = Process::spawn(&mut third);
    third.wait_for("listening on http://");
    third.signal(Signal::TERM);
    assert!(third.wait().success());
}

#[test]
fn a_newer_format_is_refused_with_what_to_do() {
    let mut server = Running::start(&ConfigOptions::default());
    assert!(server.terminate().success());
    let format = server.data().join("format");
    let text = std::fs::read_to_string(&format).unwrap();
    let version: String = text.chars().filter(char::is_ascii_digit).collect();
    std::fs::write(&format, text.replace(&version, "4000000")).unwrap();

    let mut command = sidenote();
    command.arg("serve").arg("--config").arg(server.config());
    let (code, said) = refused(&mut command);
    assert_eq!(code, 1);
    assert!(
        said.contains("have format 4000000") && said.contains("start the release that wrote them"),
        "{said}"
    );
}

#[test]
fn a_mistake_in_the_configuration_has_code_2() {
    let folder = TempDir::new().unwrap();
    let options = ConfigOptions { limits: "key_bytes = 0".to_owned(), ..ConfigOptions::default() };
    let (code, said) = refused(&mut serve(&folder, &options));
    assert_eq!(code, 2);
    assert!(said.contains("limits.key_bytes: 0 is too small"), "{said}");
    // The folder was not touched.
    assert!(!folder.path().join("data").exists());
}

/// The head of a request whose body of `length` bytes is still to come.
fn head(length: usize) -> String {
    let query = query(APP, ADMINISTRATOR);
    format!(
        "POST /v4/im_open_login_svc/account_import?{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
    )
}

#[test]
fn sigterm_finishes_what_runs_and_exits_with_0() {
    let mut server = Running::start(&ConfigOptions::default());
    let body = r#"{"UserID":"ann"}"#;
    let mut connection = server.connect();
    connection.write_all(head(body.len()).as_bytes()).unwrap();
    // The server asks for the body, so the request is running when the signal comes.
    let mut asked = [0; 25];
    connection.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    server.signal(Signal::TERM);
    server.wait_for("stopping");

    connection.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(r#""ErrorCode":0"#), "{answer}");
    assert!(server.wait().success(), "{}", server.log());
    assert!(server.log().contains("stopped"), "{}", server.log());

    // What was answered is there after the restart.
    server.restart();
    let body = r#"{"CheckItem":[{"UserID":"ann"},{"UserID":"bob"}]}"#;
    let checked = server.post(ADMINISTRATOR, "im_open_login_svc/account_check", body);
    assert_eq!(checked["ResultItem"][0]["AccountStatus"], "Imported");
    assert_eq!(checked["ResultItem"][1]["AccountStatus"], "NotImported");
    // And only in its own app.
    let checked = server.post_to(OTHER_APP, ADMINISTRATOR, "im_open_login_svc/account_check", body);
    assert_eq!(checked["ResultItem"][0]["AccountStatus"], "NotImported");
}

#[test]
fn a_second_signal_exits_at_once() {
    let mut server = Running::start(&ConfigOptions {
        http: "body_timeout_ms = 3600000\ndrain_timeout_ms = 3600000".to_owned(),
        ..ConfigOptions::default()
    });
    let mut connection = server.connect();
    connection.write_all(head(10).as_bytes()).unwrap();
    connection.read_exact(&mut [0; 25]).unwrap();
    server.signal(Signal::TERM);
    server.wait_for("stopping");
    // The request never ends, so only the second signal can end the server within the hour.
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(1));
    assert!(server.log().contains("leaving at once"), "{}", server.log());
}

#[test]
fn an_answered_write_survives_a_kill() {
    let mut server = Running::start(&ConfigOptions::default());
    let import = server.post(ADMINISTRATOR, "im_open_login_svc/account_import", r#"{"UserID":"ann"}"#);
    assert_eq!(import["ErrorCode"], 0);
    server.kill9();
    server.restart();
    let body = r#"{"CheckItem":[{"UserID":"ann"}]}"#;
    let checked = server.post(ADMINISTRATOR, "im_open_login_svc/account_check", body);
    assert_eq!(checked["ResultItem"][0]["AccountStatus"], "Imported");
}

#[test]
fn what_is_no_http_is_answered_and_closed() {
    let server = Running::start(&ConfigOptions::default());
    let answer = String::from_utf8(server.raw(b"no http at all\r\n\r\n")).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(server.get("/healthz"), "alive\n");
}
