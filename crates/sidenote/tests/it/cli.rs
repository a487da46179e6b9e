//! The subcommands that end by themselves, and what all subcommands have in common.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use serde_json::Value;
use sidenote_server::auth::user_sig::{UserSigError, verify};
use sidenote_server::clock::{Clock as _, SystemClock};
use sidenote_server::config::Secret;
use tempfile::TempDir;

use crate::server::{ADMINISTRATOR, APP, ConfigOptions, OTHER_APP, Process, Running, key_of, sidenote};

fn run(arguments: &[&str]) -> Output {
    sidenote().args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What is on standard error of a command that ends with this code: one line, no trace.
fn refusal(output: &Output, code: i32) -> String {
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(code), &b""[..]), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn file(folder: &TempDir, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Signs with the configuration of the harness.
fn now() -> u64 {
    SystemClock.now_millis() / 1000
}

fn key(text: &str) -> [Secret; 1] {
    [Secret::new(text.to_owned()).unwrap()]
}

#[test]
fn every_subcommand_has_help_with_an_example() {
    for command in [
        "demo",
        "serve",
        "usersig",
        "call",
        "check-config",
        "backup",
        "restore",
        "check",
        "export",
        "import",
        "webhooks",
        "migrate",
        "watch",
    ] {
        let help = stdout(&run(&[command, "--help"]));
        assert!(help.contains(&format!("Example: sidenote {command}")), "{help}");
        let all = stdout(&run(&["--help"]));
        assert!(all.contains(&format!("  {command} ")), "{all}");
    }
    assert_eq!(stdout(&run(&["--version"])), format!("sidenote {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_has_code_2() {
    for arguments in [
        &[][..],
        &["sing"],
        &["serve"],
        &["serve", "--config", "x.toml", "--listen", "somewhere"],
        &["usersig", "--user", "ann"],
        &["usersig", "--app", "0", "--key", "k", "--user", "ann"],
        &["usersig", "--app", "1", "--user", "ann"],
        &["usersig", "--app", "1", "--key", "", "--user", "ann"],
        &["usersig", "--app", "1", "--key", "k", "--user", ""],
        &["usersig", "--app", "1", "--key", "k", "--user", "a\nb"],
        &["usersig", "--app", "1", "--key", "k", "--user", "ann", "--expire", "0"],
        &["usersig", "--app", "1", "--key", "k", "--key-file", "f", "--user", "ann"],
        &["usersig", "--app", "1", "--key-file", "no-such-file", "--user", "ann"],
        &["usersig", "--config", "no-such-file", "--user", "ann"],
        &["call", "group_get", "--app", "1", "--key", "k"],
        &["call", "openim/sendmsg", "--app", "1", "--key", "k", "--server", "no address"],
        &["call", "openim/sendmsg", "--app", "1", "--key", "k", "--server", "https://127.0.0.1:1"],
        &["call", "openim/sendmsg", "@no-such-file", "--app", "1", "--key", "k"],
        &["check-config", "no-such-file"],
        &["demo", "--listen", "7780"],
        &["backup", "--to", "b"],
        &["backup", "--data", "d"],
        &["backup", "--data", "d", "--config", "c", "--to", "b"],
        &["backup", "--data", "d", "--to", "b", "--rate", "1"],
        &["backup", "--data", "d", "--to", "b", "--rate", "fast"],
        &["backup", "--config", "no-such-file", "--to", "b"],
        &["restore", "--from", "no-such-file", "--data", "d"],
        &["check"],
        &["check", "--backup", "no-such-file"],
        &["export", "--data", "d", "--app", "0", "--to", "e"],
        &["import", "--from", "no-such-file", "--data", "d"],
    ] {
        let said = refusal(&run(arguments), 2);
        assert!(!said.is_empty() && !said.contains("panicked"), "{arguments:?}: {said}");
    }
}

#[test]
fn check_config_says_what_a_good_file_means_and_never_a_secret() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "good.toml", ConfigOptions::default().toml(&folder.path().join("data")));
    let said = stdout(&sidenote().arg("check-config").arg(&path).output().unwrap());
    assert!(said.starts_with(&format!("{} is fine\n", path.display())), "{said}");
    assert!(said.contains("http://127.0.0.1:0"), "{said}");
    assert!(said.contains(&format!("app {APP}: 1 secret key, administered by {ADMINISTRATOR}\n")), "{said}");
    assert!(!said.contains("secret key of"), "{said}");
    // Nothing was made on the way.
    assert!(!folder.path().join("data").exists());
}

#[test]
fn a_secret_that_everybody_may_read_is_worth_a_warning() {
    let folder = TempDir::new().unwrap();
    let key = file(&folder, "key", "top secret");
    let data = folder.path().join("data");
    let text = format!(
        "listen = \"127.0.0.1:0\"\n[store]\npath = {data:?}\n[[apps]]\nsdk_app_id = 1400000001\nsecret_key_file = {key:?}\n"
    );
    let path = file(&folder, "sidenote.toml", text);
    for (mode, is_exposed) in [(0o644, true), (0o640, false)] {
        std::fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
        let said = stdout(&sidenote().arg("check-config").arg(&path).output().unwrap());
        let warning = format!("everybody on this machine may read {}", key.display());
        assert_eq!(said.contains(&warning), is_exposed, "{said}");
        let server = Process::spawn(sidenote().arg("serve").arg("--config").arg(&path));
        server.wait_for("listening on http://");
        let log = server.log();
        let warned = log.lines().any(|line| line.contains("may read this secret") && line.contains("key"));
        assert_eq!(warned, is_exposed, "{log}");
        assert!(!said.contains("top secret") && !log.contains("top secret"));
    }
}

#[test]
fn check_config_explains_the_first_bad_line() {
    let folder = TempDir::new().unwrap();
    let app = "[[apps]]\nsdk_app_id = 1400000001\nsecret_key = \"top secret\"\n";
    for (name, text, place, says) in [
        ("unknown", format!("{app}colour = 1\n"), ":4: ", "unknown key"),
        ("mistyped", format!("listen = 7780\n{app}"), ":1: ", "expected a text"),
        ("large", format!("{app}[limits]\npairs_per_pull = 100000\n"), ":5: ", "the most is 1000"),
        ("no_toml", "listen =\n".to_owned(), ":1: ", "not TOML"),
        ("no_app", "listen = \"127.0.0.1:0\"\n".to_owned(), "no_app", "no app is configured"),
        (
            "no_certificate",
            format!("{app}[tls]\ncertificate = \"none.pem\"\nkey = \"none.pem\"\n"),
            "none.pem",
            "cannot read",
        ),
    ] {
        let path = file(&folder, name, text);
        let said = refusal(&sidenote().arg("check-config").arg(&path).output().unwrap(), 2);
        assert!(said.contains(place) && said.contains(says), "{name}: {said}");
        assert!(said.lines().count() == 1 && !said.contains("top secret"), "{name}: {said}");
    }
    let path = file(&folder, "binary", [0xff, 0xfe, 0x00]);
    refusal(&sidenote().arg("check-config").arg(&path).output().unwrap(), 2);
}

#[test]
fn a_variable_counts_as_it_does_for_serve() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "good.toml", ConfigOptions::default().toml(folder.path()));
    let output =
        sidenote().arg("check-config").arg(&path).env("SIDENOTE_LIMITS__KEY_BYTES", "0").output().unwrap();
    let said = refusal(&output, 2);
    assert!(said.contains("environment variable SIDENOTE_LIMITS__KEY_BYTES"), "{said}");
}

#[test]
fn usersig_prints_a_ticket_that_the_server_accepts() {
    let ticket =
        stdout(&run(&["usersig", "--app", "1400000001", "--key", "k", "--user", "名前", "--expire", "60"]));
    let ticket = ticket.strip_suffix('\n').unwrap();
    let begun = now();
    let verified = verify(ticket, APP, "名前", &key("k"), begun).unwrap();
    assert!((begun + 50..=begun + 60).contains(&verified.expires_at), "{verified:?}");
    assert_eq!(verify(ticket, APP, "名前", &key("k"), begun + 61), Err(UserSigError::Expired));
    assert_eq!(verify(ticket, OTHER_APP, "名前", &key("k"), begun), Err(UserSigError::OtherApp));
    // As it is printed it can stand in a URL.
    assert!(ticket.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"*-_".contains(&byte)), "{ticket}");
}

#[test]
fn a_key_comes_from_a_flag_a_file_the_environment_or_a_configuration() {
    let folder = TempDir::new().unwrap();
    let key_file = file(&folder, "key", "from a file\r\n");
    let config = file(&folder, "sidenote.toml", ConfigOptions::default().toml(folder.path()));
    let verified = |output: Output, text: &str| {
        verify(stdout(&output).trim_end(), APP, "ann", &key(text), now()).unwrap();
    };
    let usersig = || {
        let mut command = sidenote();
        command.args(["usersig", "--user", "ann", "--app", "1400000001"]);
        command.env("SIDENOTE_SECRET_KEY", "from the environment");
        command
    };
    verified(usersig().output().unwrap(), "from the environment");
    verified(
        usersig().args(["--key", "from a flag", "--userbuf", "some text"]).output().unwrap(),
        "from a flag",
    );
    verified(usersig().arg("--key-file").arg(&key_file).output().unwrap(), "from a file");
    verified(usersig().arg("--config").arg(&config).output().unwrap(), &key_of(APP));

    // The file has two apps, and neither of them is number 7.
    let ask = |app: &[&str]| {
        sidenote().args(["usersig", "--user", "ann"]).arg("--config").arg(&config).args(app).output().unwrap()
    };
    let said = refusal(&ask(&[]), 2);
    assert!(said.contains("1400000001, 1400000002") && !said.contains("secret key of"), "{said}");
    assert!(refusal(&ask(&["--app", "7"]), 2).contains("has no app 7"));

    let userbuf = "x".repeat(5000);
    let output = usersig().args(["--userbuf", &userbuf]).output().unwrap();
    assert!(refusal(&output, 2).contains("shorten it"));
}

#[test]
fn call_signs_sends_and_prints_the_answer() {
    let server = Running::start(&ConfigOptions::default());
    let call = |arguments: &[&str]| {
        let mut command = sidenote();
        command.arg("call").args(arguments).arg("--config").arg(server.config());
        command.args(["--app", &APP.to_string(), "--server", &server.url()]);
        command
    };
    let body = r#"{"UserID":"ann"}"#;
    let answer = stdout(&call(&["account_import", body]).output().unwrap());
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["ActionStatus"], "OK");

    // The body may lie in a file or come through a pipe, and the command may be named in full.
    let check = r#"{"CheckItem":[{"UserID":"ann"}]}"#;
    let folder = TempDir::new().unwrap();
    let at_file = format!("@{}", file(&folder, "body.json", check).display());
    let from_file = stdout(&call(&["im_open_login_svc/account_check", &at_file]).output().unwrap());
    let mut piped =
        call(&["account_check", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    piped.stdin.take().unwrap().write_all(check.as_bytes()).unwrap();
    let from_pipe = stdout(&piped.wait_with_output().unwrap());
    assert_eq!(from_file, from_pipe);
    assert!(from_file.contains("\"Imported\""), "{from_file}");

    // The answer is printed whatever its code, which is the exit code's business.
    let output = call(&["group_get_key_values", r#"{"GroupId":"nowhere","MsgSeq":1}"#]).output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &answer["ErrorCode"]), (Some(1), &10_010.into()), "{answer}");
    let output = call(&["account_check", check, "--user", "ann"]).output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &answer["ErrorCode"]), (Some(1), &60_010.into()), "{answer}");
    let output = call(&["account_check", "{"]).output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &answer["ErrorCode"]), (Some(1), &60_003.into()), "{answer}");
}

#[test]
fn call_says_when_nobody_is_there() {
    let output =
        run(&["call", "account_check", "--app", "1", "--key", "k", "--server", "http://127.0.0.1:1"]);
    let said = refusal(&output, 1);
    assert!(said.contains("cannot ask http://127.0.0.1:1 for im_open_login_svc/account_check"), "{said}");
    assert!(!said.contains("usersig"), "{said}");
}

#[test]
fn call_trusts_an_encrypted_server_only_if_it_is_told_to() {
    let folder = TempDir::new().unwrap();
    let certificate = |name: &str| {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = file(&folder, &format!("{name}.key"), made.signing_key.serialize_pem());
        (file(&folder, &format!("{name}.pem"), made.cert.pem()), key)
    };
    let (own, key) = certificate("own");
    let (foreign, _) = certificate("foreign");
    let tls =
        format!("[tls]\ncertificate = {:?}\nkey = {:?}\n", own.to_str().unwrap(), key.to_str().unwrap());
    let options = ConfigOptions { more: tls, ..ConfigOptions::default() };
    let config = file(&folder, "sidenote.toml", options.toml(&folder.path().join("data")));
    let server = Process::spawn(sidenote().arg("serve").arg("--config").arg(&config));
    let line = server.wait_for("listening on https://");
    let url = line.split_whitespace().last().unwrap();

    let call = |trusted: &PathBuf| {
        let mut command = sidenote();
        command.args([
            "call",
            "account_import",
            r#"{"UserID":"ann"}"#,
            "--app",
            "1400000001",
            "--server",
            url,
        ]);
        command.arg("--config").arg(&config).arg("--ca").arg(trusted).output().unwrap()
    };
    assert!(stdout(&call(&own)).contains(r#""ErrorCode":0"#));
    let said = refusal(&call(&foreign), 1);
    assert!(said.contains("certificate"), "{said}");
    assert!(refusal(&call(&key), 2).contains("there is no certificate in the file"));
}
