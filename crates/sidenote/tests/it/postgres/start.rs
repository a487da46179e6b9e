//! Schemas, secrets, and what commands say of a store that is no folder.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Output;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use sidenote_postgres_for_tests::{Postgres, Settings};
use tempfile::TempDir;

use super::few_connections;
use crate::server::{ADMINISTRATOR, ConfigOptions, Process, Running, sidenote};

/// A configuration in a folder of its own.
struct Config {
    folder: TempDir,
    options: ConfigOptions,
}

impl Config {
    fn of(url: &str) -> Self {
        let options = ConfigOptions {
            database: Some(url.to_owned()),
            store: few_connections(),
            ..ConfigOptions::default()
        };
        Self { folder: TempDir::new().unwrap(), options }
    }

    fn path(&self) -> PathBuf {
        let path = self.folder.path().join("sidenote.toml");
        std::fs::write(&path, self.options.toml(self.folder.path())).unwrap();
        path
    }

    fn run(&self, arguments: &[&str]) -> Output {
        sidenote().args(arguments).arg("--config").arg(self.path()).output().unwrap()
    }

    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The one line of a command that ends with this code.
    fn refused(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        let line = said.lines().last().unwrap();
        assert!(line.starts_with("sidenote: ") && !said.contains("panic"), "{said}");
        line.to_owned()
    }
}

#[test]
fn a_server_starts_on_a_schema_that_fits_and_says_what_to_do_about_others() {
    let test = "a_server_starts_on_a_schema_that_fits_and_says_what_to_do_about_others";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let config = Config::of(&postgres.new_database());
    let database = "test0";
    for command in [&["serve"][..], &["migrate", "--check"], &["webhooks", "list", "--app", "1400000001"]] {
        let said = config.refused(command, 1);
        assert!(said.contains("holds no Sidenote schema yet; run `sidenote migrate` once"), "{said}");
    }

    assert!(config.done(&["migrate"]).starts_with("the database was empty and holds schema "));
    assert!(config.done(&["migrate"]).ends_with(" already\n"));
    let fits = "the database can be reached and holds a schema that this version can use\n";
    assert_eq!(config.done(&["migrate", "--check"]), fits);
    let mut server = Running::start(&config.options);
    assert_eq!(server.get("/readyz"), "ready\n");
    let import = server.post(ADMINISTRATOR, "im_open_login_svc/account_import", r#"{"UserID":"ann"}"#);
    assert_eq!(import["ErrorCode"], 0);
    // There is nobody whose leave they would need.
    assert_eq!(config.done(&["webhooks", "list", "--app", "1400000001"]), "0 dead letters\n");
    assert!(config.done(&["migrate"]).ends_with(" already\n"));
    assert!(server.terminate().success(), "{}", server.log());

    // What a later version has left behind.
    let newest: u32 =
        postgres.psql(database, "SELECT max(version) FROM schema_version").trim().parse().unwrap();
    let newer = newest + 1;
    let note = format!("INSERT INTO schema_version (version, oldest_program) VALUES ({newer}, {newer})");
    postgres.psql(database, &note);
    for command in [&["serve"][..], &["migrate", "--check"], &["migrate"]] {
        let said = config.refused(command, 1);
        assert!(said.contains(&format!("holds schema {newer}")), "{said}");
        assert!(said.contains("install the newer version"), "{said}");
    }
    // One that only adds something is no obstacle.
    postgres.psql(
        database,
        &format!("UPDATE schema_version SET oldest_program = {newest} WHERE version = {newer}"),
    );
    assert_eq!(config.done(&["migrate", "--check"]), fits);
    // And what an earlier one has.
    postgres.psql(database, "DELETE FROM schema_version");
    for command in [&["serve"][..], &["migrate", "--check"]] {
        let said = config.refused(command, 1);
        assert!(said.contains("holds schema 0") && said.contains("run `sidenote migrate`"), "{said}");
    }
}

#[test]
fn a_connection_that_is_refused_says_what_to_make() {
    let test = "a_connection_that_is_refused_says_what_to_make";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let url = postgres.new_database();
    postgres.psql("postgres", "CREATE ROLE ann LOGIN");
    let told = |url: &str, command: &[&str], advice: &str| {
        let said = Config::of(url).refused(command, 1);
        assert!(said.contains(advice) && !said.contains("hunter2"), "{url}: {said}");
    };
    let of_ann = url.replace("postgres@", "ann:hunter2@");
    let (none, of_nobody) = (url.replace("/test0", "/none"), url.replace("postgres@", "bob:hunter2@"));
    assert!(of_ann != url && none != url, "{url}");
    for command in [&["serve"][..], &["migrate"], &["migrate", "--check"], &["check"]] {
        told(&none, command, "(3D000); `createdb --encoding=UTF8 --template=template0 ");
        told(&of_nobody, command, "(28000); `createuser --pwprompt` makes a role");
    }
    told(&of_ann, &["migrate"], "(42501); the role in the address has to own the database");
    let demand = "DO $$ BEGIN EXECUTE format('COPY (SELECT ''host all all all scram-sha-256'') TO %L', \
         current_setting('hba_file')); PERFORM pg_reload_conf(); END $$";
    postgres.psql("postgres", "ALTER ROLE ann PASSWORD 'another'");
    postgres.psql("postgres", demand);
    let config = Config::of(&of_ann);
    let is_asked = (0..200).any(|_| config.refused(&["migrate"], 1).contains("(28P01)"));
    assert!(is_asked, "the server did not read its configuration again");
    told(&of_ann, &["serve"], "(28P01); is that the password of the role");
}

#[test]
fn a_broker_that_refuses_the_password_is_told_once() {
    let test = "a_broker_that_refuses_the_password_is_told_once";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let broker = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = broker.local_addr().unwrap();
    let (refused, refusals) = mpsc::sync_channel(8);
    thread::spawn(move || {
        for stream in broker.incoming() {
            let mut stream = stream.unwrap();
            let info = r#"{"server_id":"a","version":"2.10.0","auth_required":true,"max_payload":1048576,"proto":1}"#;
            let _ = write!(stream, "INFO {info}\r\n");
            // CONNECT and PING.
            BufReader::new(stream.try_clone().unwrap()).lines().take(2).for_each(drop);
            let _ = write!(stream, "-ERR 'Authorization Violation'\r\n");
            if refused.send(()).is_err() {
                return;
            }
        }
    });
    let mut config = Config::of(&postgres.new_database());
    config.done(&["migrate"]);
    config.options.more = format!("[cluster]\nnats = [\"nats://ann:hunter2@{address}\"]");
    let mut server = Process::spawn(sidenote().arg("serve").arg("--config").arg(config.path()));
    server.wait_for("NATS is away");
    for _ in 0..8 {
        refusals.recv_timeout(Duration::from_secs(20)).unwrap();
    }
    server.signal(rustix::process::Signal::TERM);
    assert!(server.wait().success());
    let log = server.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("uthorization")).collect();
    assert!(told.len() == 1 && told[0].contains("NATS is away") && !log.contains("hunter2"), "{log}");
}

#[test]
fn tables_are_spread_only_where_they_can_be() {
    let test = "tables_are_spread_only_where_they_can_be";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let config = Config::of(&postgres.new_database());
    let said = config.refused(&["migrate", "--citus"], 1);
    assert!(said.contains("is no Citus coordinator"), "{said}");
    config.done(&["migrate", "--check"]);
    let output = config.run(&["migrate", "--check", "--citus"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn commands_about_files_say_that_there_are_none() {
    let config = Config::of("postgres://ann:hunter2@127.0.0.1:1/sidenote?sslmode=disable");
    for command in [&["backup", "--to", "backup"][..], &["restore", "--from", "backup"]] {
        let said = config.refused(command, 2);
        assert!(said.contains("this configuration keeps the data in PostgreSQL"), "{said}");
        assert!(said.contains("docs/operations.md") && !said.contains("hunter2"), "{said}");
    }
    let said = config.refused(&["serve", "--data", "elsewhere"], 2);
    assert!(said.contains("leave out --data"), "{said}");

    let embedded = Config { options: ConfigOptions::default(), ..config };
    let said = embedded.refused(&["migrate"], 2);
    assert!(said.contains("this configuration has the embedded store"), "{said}");
}

#[test]
fn a_database_that_is_not_there_is_told_without_its_password() {
    let unreachable = Config::of("postgres://ann:hunter2@127.0.0.1:1/sidenote?sslmode=disable");
    let export = unreachable.folder.path().join("lines");
    let export = ["export", "--to", export.to_str().unwrap()];
    for command in [&["serve"][..], &["migrate"], &["migrate", "--check"], &["check"], &export] {
        let said = unreachable.refused(command, 1);
        assert!(said.contains("the database can't be reached") && !said.contains("hunter2"), "{said}");
    }
    // It is looked at as far as that goes without connecting.
    let path = unreachable.path();
    let output = sidenote().arg("check-config").arg(path).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("in a PostgreSQL database"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    let wrong = Config::of("postgres://ann:hunter2@db/sidenote?sslmode=perhaps");
    for command in [&["serve"][..], &["migrate"], &["check"], &export] {
        let said = wrong.refused(command, 2);
        assert!(said.contains("store.url can't be used") && !said.contains("hunter2"), "{said}");
    }
    let output = sidenote().arg("check-config").arg(wrong.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn no_line_of_the_log_holds_the_password() {
    let test = "no_line_of_the_log_holds_the_password";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let url = postgres.new_database().replace("postgres@", "postgres:hunter2@");
    assert!(url.contains("hunter2"));
    let mut config = Config::of(&url);
    config.options.more = "[log]\nlevel = \"trace\"".to_owned();
    config.done(&["migrate"]);
    // From a file, and from the environment.
    let file = config.folder.path().join("url");
    std::fs::write(&file, format!("{url}\n")).unwrap();
    let toml = config.options.toml(config.folder.path());
    let line = toml.lines().find(|line| line.starts_with("url = ")).unwrap();
    let path = config.folder.path().join("other.toml");
    std::fs::write(&path, toml.replace(line, &format!("url_file = {file:?}"))).unwrap();
    for variable in [None, Some(&url)] {
        let mut command = sidenote();
        if let Some(url) = variable {
            std::fs::write(&path, toml.replace(line, "")).unwrap();
            command.env("SIDENOTE_STORE_URL", url);
        }
        let mut server = Process::spawn(command.arg("serve").arg("--config").arg(&path));
        server.wait_for("listening on http://");
        server.signal(rustix::process::Signal::TERM);
        assert!(server.wait().success());
        assert!(server.log().lines().count() > 20, "it logs little at the level trace:\n{}", server.log());
        assert!(!server.log().contains("hunter2"), "{}", server.log());
    }
}
