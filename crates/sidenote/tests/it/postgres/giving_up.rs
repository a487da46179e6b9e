//! An import into a database that stops half way: what is there looks like no whole, and can be given up.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use sidenote_torture::cluster::{migrate, until};

use super::moving::{House, furnished};
use crate::backup::{refused, rows, run, said, with};
use crate::caller::Caller;
use crate::server::{ADMINISTRATOR, APP, OTHER_APP, Running};

/// An import of one app that has come to the table which `holder` has locked, and waits there.
fn import_up_to(house: &House, from: &Path, app: u32, table: &str) -> (Child, impl FnOnce()) {
    let mut holder = house.postgres.session("test0");
    holder.run(&format!("BEGIN; LOCK TABLE {table} IN SHARE MODE;"));
    let mut import = with("import", &[("--config", &house.config()), ("--from", from)]);
    let import = import.args(["--app", &app.to_string()]);
    let import = import.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    until(|| house.psql(&waiting(table)) != "0", table);
    (import, move || holder.run("COMMIT;"))
}

/// How many wait for a lock on this table.
fn waiting(table: &str) -> String {
    format!("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = '{table}'::regclass")
}

fn abandon(house: &House) -> Command {
    let mut it = with("import", &[("--config", &house.config())]);
    it.arg("--abandon");
    it
}

/// Both apps in a file, one of them in a database.
fn half_furnished(house: &House) -> (Running, std::path::PathBuf) {
    let old = furnished();
    let from = house.file("old.jsonl");
    said(&run(&mut with("export", &[("--config", &old.config()), ("--to", &from)])));
    said(&of_one("import", house, "--from", &from, OTHER_APP));
    (old, from)
}

fn of_one(command: &str, house: &House, option: &str, file: &Path, app: u32) -> Output {
    run(with(command, &[("--config", &house.config()), (option, file)]).args(["--app", &app.to_string()]))
}

#[test]
fn half_an_import_is_never_taken_for_a_whole_and_can_be_given_up() {
    let test = "half_an_import_is_never_taken_for_a_whole_and_can_be_given_up";
    let Some(house) = House::build_or_skip(test) else { return };
    let (old, from) = half_furnished(&house);
    // All is there but what is owed.
    let (mut import, release) = import_up_to(&house, &from, APP, "debts");
    import.kill().unwrap();
    import.wait().unwrap();
    release();
    assert_ne!(house.psql(&format!("SELECT rows_done FROM imports WHERE app = {APP}")), "0");

    // It is not exported, and a check says what it is.
    let half = house.file("half.jsonl");
    for export in [
        run(&mut with("export", &[("--config", &house.config()), ("--to", &half)])),
        of_one("export", &house, "--to", &half, APP),
    ] {
        let told = refused(&export, 1);
        assert!(
            told.contains(&format!("app {APP} is being imported, or its import was interrupted")),
            "{told}"
        );
        assert!(!half.exists());
    }
    let check = run(&mut with("check", &[("--config", &house.config())]));
    let told = String::from_utf8(check.stdout.clone()).unwrap();
    assert_eq!(check.status.code(), Some(1), "{told}");
    assert!(told.starts_with(&format!("damage: app {APP}: is being imported, or its import was")), "{told}");
    // The other app has nothing to do with it.
    let other = house.file("other.jsonl");
    said(&of_one("export", &house, "--to", &other, OTHER_APP));

    // Its file is lost, and the next one is another.
    let again = house.file("again.jsonl");
    said(
        &run(with("export", &[("--config", &old.config()), ("--to", &again)]).args(["--app", "1400000001"])),
    );
    let told = refused(&house.import(&again), 1);
    assert!(
        told.contains("from another file was begun and not finished") && told.contains("--abandon"),
        "{told}"
    );
    assert!(refused(&run(abandon(&house).args(["--app", "1400000002"])), 1).contains("of app 1400000002"));
    let both = run(abandon(&house).arg("--from").arg(&from));
    assert!(both.status.code() == Some(2), "{both:?}");

    let given_up = said(&run(&mut abandon(&house)));
    assert!(
        given_up.contains(&format!("the import of app {APP} was given up, and what it had ")),
        "{given_up}"
    );
    let told = refused(&run(&mut abandon(&house)), 1);
    assert!(told.contains("there is no import that was begun and not finished"), "{told}");
    // Nothing of it is left, not even what no group and no debt leads to, and nothing else is gone.
    assert_eq!(rows(&house.export("rest.jsonl")), rows(&other));
    assert!(house.check().ends_with("no damage, 0 remarks\n"));

    said(&house.import(&again));
    assert!(house.check().ends_with("no damage, 0 remarks\n"));
    assert_eq!(rows(&house.export("all.jsonl")), rows(&from));
    drop(Running::start(&house.options));
}

#[test]
fn an_import_that_is_given_up_while_it_runs_leaves_nothing() {
    let test = "an_import_that_is_given_up_while_it_runs_leaves_nothing";
    let Some(house) = House::build_or_skip(test) else { return };
    let (_server, from) = half_furnished(&house);
    for table in ["pairs", "debts"] {
        let (import, release) = import_up_to(&house, &from, APP, table);
        // Another one, of which only the note is there.
        house.psql("INSERT INTO imports (app, file, rows_done) VALUES (7, 'another', 0)");
        let told = refused(&run(&mut abandon(&house)), 1);
        assert!(told.contains("of app 7 and of app 1400000001") && told.contains("--app"), "{told}");
        said(&run(abandon(&house).args(["--app", "7"])));
        let mut giving_up =
            abandon(&house).args(["--app", "1400000001"]).stdout(Stdio::null()).spawn().unwrap();
        if table == "pairs" {
            // It has the notes, and wants to remove what the import wants to add.
            until(|| house.psql(&waiting(table)) == "2", "nobody removes anything");
            release();
            assert!(giving_up.wait().unwrap().success());
        } else {
            // The last transaction of the import sees all of its rows.
            assert!(giving_up.wait().unwrap().success());
            release();
        }
        let ended = import.wait_with_output().unwrap();
        let told = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.code() == Some(1) && told.contains("was given up"), "{table}: {told}");
        assert_eq!(house.psql(&format!("SELECT count(*) FROM imports WHERE app = {APP}")), "0");
        assert!(house.check().ends_with("no damage, 0 remarks\n"));
        let rest = house.export(&format!("{table}.jsonl"));
        assert!(rows(&rest).iter().all(|line| !line.contains(&APP.to_string())));
    }
    said(&of_one("import", &house, "--from", &from, APP));
    assert_eq!(rows(&house.export("all.jsonl")), rows(&from));
}

#[test]
fn an_import_from_a_pipe_is_refused_before_anything_is_begun() {
    let test = "an_import_from_a_pipe_is_refused_before_anything_is_begun";
    let Some(house) = House::build_or_skip(test) else { return };
    // It would be empty when it is read for the second time, or wait for ever for somebody to write it again.
    let pipe = house.file("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut kept_open = fs::File::options().read(true).write(true).open(&pipe).unwrap();
    std::io::Write::write_all(&mut kept_open, b"{\"sidenote_export\":{\"version\":1}}\n").unwrap();
    for from in [&pipe, &house.file("")] {
        let told = refused(&house.import(from), 2);
        assert!(told.contains("is no file; write what is in it to one first"), "{told}");
    }
    assert_eq!(house.psql("SELECT to_regclass('imports') IS NULL"), "t");
}

#[test]
fn a_database_that_can_not_take_an_import_is_refused_before_anything_is_begun() {
    let test = "a_database_that_can_not_take_an_import_is_refused_before_anything_is_begun";
    let Some(mut house) = House::build_or_skip(test) else { return };
    let old = Running::start(&house.options);
    let caller = Caller::new(old.address, APP, ADMINISTRATOR);
    caller.ok("im_open_login_svc/account_import", r#"{"UserID":"ännchen 🍜"}"#);
    let from = house.export("old.jsonl");
    drop(old);
    // Not every text fits there.
    house.postgres.psql("postgres", "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    // Nothing can be made there.
    house.postgres.psql("postgres", "CREATE ROLE guest LOGIN");
    let url = house.postgres.new_database();
    migrate(&url);
    house.postgres.psql("test1", "GRANT ALL ON ALL TABLES IN SCHEMA public TO guest");
    let latin = house.postgres.dsn("latin");
    for (url, says) in [
        (latin, "its encoding is LATIN1, which can't hold every text"),
        (url.replace("//postgres@", "//guest@"), "so run it as the role that owns the other tables"),
    ] {
        house.options.database = Some(url);
        fs::write(house.config(), house.options.toml(house.file("").as_path())).unwrap();
        let told = refused(&house.import(&from), 1);
        assert!(told.contains(says), "{told}");
    }
    for database in ["latin", "test1"] {
        assert_eq!(house.postgres.psql(database, "SELECT to_regclass('imports') IS NULL").trim(), "t");
    }
}
