//! Moving house: from a folder into a database and back, whatever happens on the way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};
use sidenote_postgres_for_tests::{Postgres, Settings};
use sidenote_torture::cluster::{migrate, until};
use tempfile::TempDir;

use super::few_connections;
use crate::backup::{correspond, delete, refused, rows, run, said, with, without_attempts};
use crate::caller::{Caller, Change, Page};
use crate::server::{ADMINISTRATOR, APP, ConfigOptions, OTHER_APP, Process, Running, sidenote};

/// Groups with a hundred members each, so that a move takes several batches.
const GROUPS: u64 = 10;

/// A database with an empty schema, and a configuration that names it.
pub(super) struct House {
    pub(super) postgres: Postgres,
    pub(super) options: ConfigOptions,
    folder: TempDir,
}

impl House {
    pub(super) fn build_or_skip(test: &str) -> Option<Self> {
        let postgres = Postgres::start_or_skip(test, Settings::default())?;
        let url = postgres.new_database();
        migrate(&url);
        let options = ConfigOptions { database: Some(url), store: few_connections(), ..without_attempts() };
        let house = Self { postgres, options, folder: TempDir::new().unwrap() };
        fs::write(house.config(), house.options.toml(house.folder.path())).unwrap();
        Some(house)
    }

    pub(super) fn config(&self) -> PathBuf {
        self.file("sidenote.toml")
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn psql(&self, sql: &str) -> String {
        self.postgres.psql("test0", sql).trim().to_owned()
    }

    pub(super) fn import(&self, from: &Path) -> Output {
        run(&mut with("import", &[("--config", &self.config()), ("--from", from)]))
    }

    pub(super) fn export(&self, to: &str) -> PathBuf {
        let to = self.file(to);
        said(&run(&mut with("export", &[("--config", &self.config()), ("--to", &to)])));
        to
    }

    pub(super) fn check(&self) -> String {
        said(&run(&mut with("check", &[("--config", &self.config())])))
    }

    /// Whether nothing was left behind, not even a note.
    fn is_empty(&self) -> bool {
        let tables = ["accounts", "memberships", "conversations", "counters", "events", "debts", "pairs"];
        let count = |table: &&str| self.psql(&format!("SELECT count(*) FROM {table}")) == "0";
        let noted = self.psql("SELECT to_regclass('imports') IS NOT NULL") == "t"
            && self.psql("SELECT count(*) FROM imports") != "0";
        tables.iter().all(count) && !noted
    }
}

fn send(caller: &Caller, group: &str, random: u64) {
    let message = json!({"GroupId": group, "Random": random, "SupportMessageExtension": 1,
        "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "lunch? \u{0} 🍜"}}]});
    caller.ok("group_open_http_svc/send_group_msg", &message.to_string());
}

/// A server on a folder that holds something of everything, and has stopped.
pub(super) fn furnished() -> Running {
    // Nobody listens there: what is to be told becomes dead letters and outboxes.
    let webhook = "[apps.webhook]\nurl = \"http://127.0.0.1:1/\"\nallow_networks = [\"127.0.0.1\"]\nretry_first_ms = 10\n\
         retry_longest_ms = 20\ngive_up_tries = 1\n";
    let options = ConfigOptions { more: webhook.to_owned(), ..without_attempts() };
    let mut server = Running::start(&options);
    for app in [APP, OTHER_APP] {
        let caller = Caller::new(server.address, app, ADMINISTRATOR);
        let users: Vec<_> =
            (0..99).map(|number| format!("üser {number}")).chain(["ann".to_owned()]).collect();
        caller.ok("im_open_login_svc/multiaccount_import", &json!({"Accounts": users}).to_string());
        let groups = if app == APP { GROUPS } else { 1 };
        for group in 0..groups {
            let members: Vec<_> = users.iter().map(|user| json!({"Member_Account": user})).collect();
            let group = json!({"GroupId": format!("g{group}"), "Type": "Public", "Name": "lunch",
                "Owner_Account": "ann", "MemberList": members});
            caller.ok("group_open_http_svc/create_group", &group.to_string());
        }
        for message in 1..=12 {
            send(&caller, "g0", message);
        }
        let pairs: Vec<_> =
            (0..20).map(|number| (format!("k\u{0}{number}"), format!("v\u{1}{number}"))).collect();
        for message in [1, 2, 3, 10, 11, 12] {
            let pairs = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str(), None));
            caller.change("g0", message, &Change::set(pairs)).unwrap();
        }
        caller.change("g0", 2, &delete("k\u{0}7")).unwrap();
        let clear = json!({"GroupId": "g0", "MsgSeq": 3, "OperateType": 3});
        caller.ok("openim_msg_ext_http_svc/group_set_key_values", &clear.to_string());
        let recall = json!({"GroupId": "g0", "MsgSeqList": [{"MsgSeq": 11}]});
        caller.ok("group_open_http_svc/group_msg_recall", &recall.to_string());
        // One that is gone, and one that was there before under the same name.
        for group in ["gone", "twice"] {
            let create = json!({"GroupId": group, "Type": "Public", "Name": group, "Owner_Account": "ann"});
            caller.ok("group_open_http_svc/create_group", &create.to_string());
            send(&caller, group, 1);
            caller.ok("group_open_http_svc/destroy_group", &json!({"GroupId": group}).to_string());
        }
        let create = json!({"GroupId": "twice", "Type": "Public", "Name": "again", "Owner_Account": "ann"});
        caller.ok("group_open_http_svc/create_group", &create.to_string());
        correspond(&server, app);
    }
    until(
        || {
            let figures = server.get("/metrics");
            let name = "sidenote_webhook_given_up_total{app=\"1400000002\"} ";
            figures.lines().find_map(|line| line.strip_prefix(name)).is_some_and(|count| count != "0")
        },
        "there is no dead letter",
    );
    assert!(server.terminate().success(), "{}", server.log());
    server
}

fn export(config: &Path, to: &Path) {
    said(&run(&mut with("export", &[("--config", config), ("--to", to)])));
}

/// What members and administrators are shown.
fn served(server: &Running) -> Vec<(Vec<Page>, Value)> {
    let mut shown = Vec::new();
    for app in [APP, OTHER_APP] {
        let caller = Caller::new(server.address, app, ADMINISTRATOR);
        for message in [1, 2, 3, 10, 12] {
            shown.push((caller.walk("g0", message, 0), Value::Null));
        }
        let members =
            caller.ok("group_open_http_svc/get_group_member_info", r#"{"GroupId":"g0","Limit":100}"#);
        let history =
            caller.ok("group_open_http_svc/group_msg_get_simple", r#"{"GroupId":"g0","ReqMsgNumber":20}"#);
        shown.push((Vec::new(), json!([members, history])));
    }
    shown
}

#[test]
fn a_store_moves_into_a_database_and_back_and_nobody_sees_a_difference() {
    let test = "a_store_moves_into_a_database_and_back_and_nobody_sees_a_difference";
    let Some(house) = House::build_or_skip(test) else { return };
    let mut old = furnished();
    let from = house.file("old.jsonl");
    let exported = said(&run(&mut with("export", &[("--config", &old.config()), ("--to", &from)])));
    let lines = rows(&from);
    for kind in ["debt", "account", "membership", "group", "direct", "event", "counters", "member", "repeat"]
    {
        assert!(lines.iter().any(|line| line.starts_with(&format!("{{\"{kind}\":"))), "there is no {kind}");
    }
    for kind in ["message", "body", "set", "pair", "recent", "outbox", "dead_letter"] {
        assert!(lines.iter().any(|line| line.starts_with(&format!("{{\"{kind}\":"))), "there is no {kind}");
    }
    assert!(lines.len() > 2500, "{} rows", lines.len());

    assert!(
        exported.ends_with(&format!(": {} rows\n", lines.len())),
        "not every kind is counted: {exported}"
    );

    // There.
    let imported = said(&house.import(&from));
    let counts = exported.lines().take(2).collect::<Vec<_>>().join("\n");
    let rest = format!(
        "\nequal on both sides, row by row\nthe database: {} rows of app {APP}, {OTHER_APP}\n",
        lines.len()
    );
    assert_eq!(imported, counts.clone() + &rest);
    assert!(counts.contains("pair ") && counts.contains("digest of "), "{counts}");
    let of_folder = said(&run(&mut with("check", &[("--data", &old.data())])));
    assert_eq!(house.check(), of_folder);
    assert!(of_folder.ends_with("no damage, 0 remarks\n"), "{of_folder}");
    let there = house.export("there.jsonl");
    assert_eq!(rows(&there), lines);
    // Twice is as good as once.
    let again = house.import(&from);
    let note = String::from_utf8(again.stderr.clone()).unwrap();
    assert!(note.contains("this file was imported already, at ") && again.status.success(), "{again:?}");
    assert_eq!(rows(&house.export("again.jsonl")), lines);

    // One app alone.
    let of_one = |config: &Path, to: &str| {
        let to = house.file(to);
        said(&run(with("export", &[("--config", config), ("--to", &to)]).args(["--app", "1400000002"])));
        rows(&to)
    };
    assert_eq!(of_one(&house.config(), "one there.jsonl"), of_one(&old.config(), "one.jsonl"));

    // And back.
    let data = house.file("back");
    let back = said(&run(&mut with("import", &[("--data", &data), ("--from", &there)])));
    assert!(back.starts_with(&counts) && back.contains("\nequal on both sides, row by row\n"), "{back}");
    let to = house.file("back.jsonl");
    said(&run(&mut with("export", &[("--data", &data), ("--to", &to)])));
    assert_eq!(rows(&to), lines);

    // Those who ask see the same.
    old.restart();
    let new = Running::start(&house.options);
    assert_eq!(served(&new), served(&old));
    // And both go on where they were.
    for server in [&old, &new] {
        let caller = Caller::new(server.address, APP, "ann");
        assert_eq!(caller.set_one("g0", 1, "after", "the move", Some(0)).0, 0);
    }
    let pages = |server: &Running| Caller::new(server.address, APP, "ann").walk("g0", 1, 0);
    assert_eq!(pages(&new), pages(&old));
}

#[test]
fn an_import_that_is_killed_goes_on_where_it_was() {
    let test = "an_import_that_is_killed_goes_on_where_it_was";
    let Some(house) = House::build_or_skip(test) else { return };
    let old = furnished();
    let from = house.file("old.jsonl");
    export(&old.config(), &from);
    let mut done = 0;
    for table in ["accounts", "conversations", "members", "pairs", "imports", "outboxes", "debts"] {
        // Whoever wants to write there has to wait, and is killed meanwhile.
        let mut holder = house.postgres.session("test0");
        holder.run(&format!("BEGIN; LOCK TABLE {table} IN SHARE MODE;"));
        let mut import = with("import", &[("--config", &house.config()), ("--from", &from)]);
        let mut import = import.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let waiting =
            format!("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = '{table}'::regclass");
        until(|| house.psql(&waiting) != "0", table);
        if table == "pairs" {
            // For once it is the database that hangs up.
            let pid = format!(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted AND relation = '{table}'::regclass"
            );
            assert_eq!(house.psql(&pid), "t");
        } else {
            import.kill().unwrap();
        }
        let ended = import.wait_with_output().unwrap();
        holder.run("COMMIT;");
        drop(holder);
        until(|| house.psql(&waiting) == "0", "somebody waits on");
        let noted: u64 = house.psql("SELECT max(rows_done) FROM imports").parse().unwrap();
        assert!(noted >= done, "{table}: {noted} after {done}");
        let said = String::from_utf8(ended.stderr).unwrap();
        // With the notes locked, it does not come so far as to say it.
        if table == "pairs" {
            assert_eq!(ended.status.code(), Some(1));
            assert!(
                said.contains("connection was lost") && said.ends_with("run the same command again\n"),
                "{said}"
            );
        }
        assert_eq!(said.contains("going on behind row"), done > 0 && table != "imports", "{table}: {said}");
        done = noted;
        // Nobody serves a half.
        let refused = refused(&run(&mut with("serve", &[("--config", &house.config())])), 1);
        assert!(refused.contains("is being imported, or its import was interrupted"), "{refused}");
    }
    assert!(done > 2000, "{done} rows are there");
    assert_eq!(house.psql("SELECT count(*) FROM debts"), "0");
    // Another file of the same app does not get in between.
    let other = house.file("other.jsonl");
    said(
        &run(with("export", &[("--config", &old.config()), ("--to", &other)]).args(["--app", "1400000001"])),
    );
    let said_of_other = refused(&house.import(&other), 1);
    assert!(said_of_other.contains("from another file was begun and not finished"), "{said_of_other}");

    // What does not arrive as it was sent is noticed, and nobody serves it.
    house.psql("CREATE TABLE kept AS SELECT * FROM pairs");
    for (sql, says) in [
        (
            "UPDATE pairs SET value = 'forged' WHERE value LIKE 'v%9' AND message = '12'",
            "is not the same in the store",
        ),
        ("DELETE FROM pairs WHERE message = '12'", "is missing in the store"),
        (
            "INSERT INTO pairs SELECT gkey, incarnation, '13', 'new', 1, 'x' FROM kept LIMIT 1",
            "but not in the file",
        ),
    ] {
        house.psql(sql);
        let spoiled = house.import(&from);
        let told = String::from_utf8(spoiled.stderr.clone()).unwrap();
        assert!(spoiled.status.code() == Some(1) && told.contains(says), "{told}");
        assert!(told.contains("message 1") && !told.contains("forged"), "{told}");
        assert!(!run(&mut with("serve", &[("--config", &house.config())])).status.success());
        house.psql("TRUNCATE pairs; INSERT INTO pairs SELECT * FROM kept");
    }

    let last = house.import(&from);
    assert!(String::from_utf8(last.stderr.clone()).unwrap().contains(&format!("going on behind row {done}")));
    assert!(said(&last).contains("\nequal on both sides, row by row\n"), "{last:?}");
    assert_eq!(rows(&house.export("there.jsonl")), rows(&from));
    assert!(house.check().ends_with("no damage, 0 remarks\n"));
    drop(Running::start(&house.options));
}

#[test]
fn an_app_comes_to_nodes_that_serve_another() {
    let test = "an_app_comes_to_nodes_that_serve_another";
    let Some(house) = House::build_or_skip(test) else { return };
    let mut old = Running::start(&without_attempts());
    for app in [APP, OTHER_APP] {
        super::nodes::furnish(&Caller::new(old.address, app, ADMINISTRATOR), 3);
        correspond(&old, app);
    }
    assert!(old.terminate().success());
    let from = house.file("old.jsonl");
    export(&old.config(), &from);
    let import = |app: u32| {
        run(with("import", &[("--config", &house.config()), ("--from", &from)])
            .args(["--app", &app.to_string()]))
    };
    assert!(said(&import(APP)).ends_with(&format!("rows of app {APP}\n")));
    // A node that knows nothing of the other app.
    let both = fs::read_to_string(house.config()).unwrap();
    let (start, end) = (both.rfind("[[apps]]").unwrap(), both.find("[limits]").unwrap());
    let one = house.file("one.toml");
    fs::write(&one, format!("{}{}", &both[..start], &both[end..])).unwrap();
    let mut node = Process::spawn(&mut with("serve", &[("--config", &one)]));
    let line = node.wait_for("listening on http://");
    let address = line.rsplit("http://").next().unwrap().trim().parse().unwrap();
    let caller = Caller::new(address, APP, ADMINISTRATOR);
    caller.set_one("g", 1, "before", "the other comes", None);

    let other = import(OTHER_APP);
    let told = String::from_utf8(other.stderr.clone()).unwrap();
    assert!(
        told.contains("connections of nodes to this database: ") && told.contains("; no node may be"),
        "{told}"
    );
    assert!(said(&other).ends_with(&format!("rows of app {OTHER_APP}\n")));
    caller.set_one("g", 1, "after", "the other came", None);
    node.signal(rustix::process::Signal::TERM);
    assert!(node.wait().success());
    let only = |config: &Path, to: &str| {
        let to = house.file(to);
        said(&run(with("export", &[("--config", config), ("--to", &to)]).args(["--app", "1400000002"])));
        rows(&to)
    };
    assert_eq!(only(&house.config(), "there"), only(&old.config(), "here"));
    assert!(house.check().ends_with("no damage, 0 remarks\n"));

    // What is wrong in a database is found as it is in a folder, and not carried on.
    house.psql("UPDATE counters SET members = members + 1 WHERE members > 0");
    house.psql("UPDATE bodies SET data = '\\x00' WHERE message = '2'");
    let check = run(&mut with("check", &[("--config", &house.config())]));
    let found = String::from_utf8(check.stdout.clone()).unwrap();
    assert!(check.status.code() == Some(1) && check.stderr.is_empty(), "{check:?}");
    for app in [APP, OTHER_APP] {
        let of_group = format!("damage: app {app}, group \"g\"");
        assert!(found.contains(&format!("{of_group}: counts 2 members, but has 1")), "{found}");
        assert!(found.contains(&format!("{of_group}, message 2: cannot be read: ")), "{found}");
    }
    let export = run(&mut with("export", &[("--config", &house.config()), ("--to", &house.file("damaged"))]));
    assert!(refused(&export, 1).contains("message 2: "), "{export:?}");
    assert!(!house.file("damaged").exists());
}

#[test]
fn an_export_while_nodes_write_is_the_state_of_one_moment() {
    let test = "an_export_while_nodes_write_is_the_state_of_one_moment";
    let Some(house) = House::build_or_skip(test) else { return };
    let node = Running::start(&house.options);
    super::nodes::furnish(&Caller::new(node.address, APP, ADMINISTRATOR), 4);
    let (stops, answered) = (AtomicBool::new(false), Mutex::new([0_u64; 4]));
    let before = thread::scope(|scope| {
        for writer in 0..4_usize {
            let (node, stops, answered) = (node.address, &stops, &answered);
            scope.spawn(move || {
                let caller = Caller::new(node, APP, ADMINISTRATOR);
                let mut count = 0;
                while !stops.load(Ordering::Relaxed) {
                    count += 1;
                    let (value, message) = (count.to_string(), 1 + writer as u64);
                    let pairs = [("count", value.as_str(), None), ("fleeting", "x", None)];
                    caller.change("g", message, &Change::set(pairs)).unwrap();
                    answered.lock().unwrap()[writer] = count;
                    caller.change("g", message, &delete("fleeting")).unwrap();
                    send(&caller, "g", 100 + count);
                }
            });
        }
        until(|| !answered.lock().unwrap().contains(&0), "nobody writes");
        let before = *answered.lock().unwrap();
        let checked = run(&mut with("check", &[("--config", &house.config())]));
        let to = house.file("live.jsonl");
        let exported = run(&mut with("export", &[("--config", &house.config()), ("--to", &to)]));
        let during = *answered.lock().unwrap();
        until(
            || answered.lock().unwrap().iter().zip(during).all(|(now, then)| *now > then),
            "somebody has stopped",
        );
        stops.store(true, Ordering::Relaxed);
        assert!(said(&checked).ends_with("no damage, 0 remarks\n"), "{checked:?}");
        said(&exported);
        before
    });
    // The import compares everything with everything: events, numbers, pairs.
    let data = house.file("folder");
    said(&run(&mut with("import", &[("--data", &data), ("--from", &house.file("live.jsonl"))])));
    let checked = said(&run(&mut with("check", &[("--data", &data)])));
    assert!(checked.ends_with("no damage, 0 remarks\n"), "{checked}");
    let content = fs::read_to_string(house.file("live.jsonl")).unwrap();
    for (writer, least) in (1..=4).zip(before) {
        let pair = format!("\"message\":{writer},\"key\":\"count\",\"value\":\"");
        let line =
            content.lines().find(|line| line.starts_with("{\"pair\"") && line.contains(&pair)).unwrap();
        let line: Value = serde_json::from_str(line).unwrap();
        let count: u64 = line["pair"]["value"].as_str().unwrap().parse().unwrap();
        assert!(count >= least, "writer {writer}: {count}, {least} was answered");
    }
}

#[test]
fn a_wrong_file_changes_nothing_in_a_database() {
    let test = "a_wrong_file_changes_nothing_in_a_database";
    let Some(house) = House::build_or_skip(test) else { return };
    let mut old = Running::start(&without_attempts());
    super::nodes::furnish(&Caller::new(old.address, APP, ADMINISTRATOR), 3);
    correspond(&old, APP);
    assert!(old.terminate().success());
    let (from, edited) = (house.file("old.jsonl"), house.file("edited.jsonl"));
    let one =
        run(with("export", &[("--config", &old.config()), ("--to", &from)]).args(["--app", "1400000001"]));
    said(&one);
    let whole = fs::read(&from).unwrap();
    let content = String::from_utf8(whole.clone()).unwrap();
    // Without the checksum, as one who edits a file on purpose leaves it.
    let end = content.lines().last().unwrap();
    let unsummed = format!("{}}}}}", end.split(',').next().unwrap());
    let edit = |from: &str, to: &str| {
        assert!(content.contains(from), "{from} is in {content}");
        content.replace(end, &unsummed).replacen(from, to, 1).into_bytes()
    };
    let changed = |at: usize, to: u8| {
        let mut bytes = whole.clone();
        bytes[at] = to;
        bytes
    };
    let in_a_name = content.find("\"name\":\"g\"").unwrap() + 8;
    for (bytes, says) in [
        (whole[..whole.len() / 2].to_vec(), "the file is cut off after line"),
        (changed(in_a_name, b'h'), "the checksum does not fit"),
        (changed(in_a_name, 0xff), "is not UTF-8"),
        (edit("\"version\":1", "\"version\":2"), "use a newer release"),
        (edit("\"app\":1400000001,\"user\"", "\"app\":1400000003,\"user\""), "belongs to app 1400000003"),
        (edit("\"last_msg_seq\":3", "\"last_msg_seq\":4"), "counts 4 messages, but the last one is 3"),
        (b"a novel\n".to_vec(), "line 1 is not that of an export"),
    ] {
        fs::write(&edited, bytes).unwrap();
        let said = refused(&house.import(&edited), 1);
        assert!(said.contains(says), "{says}: {said}");
        assert!(house.is_empty(), "{says}");
    }
    let missing = refused(&house.import(&house.file("missing")), 2);
    assert!(missing.contains("No such file"), "{missing}");
    let nobody =
        run(with("import", &[("--config", &house.config()), ("--from", &from)]).args(["--app", "7"]));
    assert!(refused(&nobody, 1).contains("it holds app 1400000001 alone, not app 7"));
    assert!(house.is_empty());

    // A database without a schema, and one in which a node has served the app.
    let empty = House {
        options: ConfigOptions { database: Some(house.postgres.new_database()), ..house.options },
        ..house
    };
    fs::write(empty.config(), empty.options.toml(empty.folder.path())).unwrap();
    for command in ["import --from", "export --to", "check"] {
        let (from, new) = (empty.file("old.jsonl"), empty.file("new.jsonl"));
        let mut words = command.split(' ');
        let mut line = sidenote();
        line.arg(words.next().unwrap()).arg("--config").arg(empty.config());
        if let Some(option) = words.next() {
            line.arg(option).arg(if option == "--from" { from } else { new });
        }
        let said = refused(&run(&mut line), 1);
        assert!(said.contains("holds no Sidenote schema yet; run `sidenote migrate` once"), "{said}");
    }
    migrate(empty.options.database.as_ref().unwrap());
    let mut node = Running::start(&empty.options);
    let served = empty.import(&empty.file("old.jsonl"));
    let said_of_it = refused(&served, 1);
    assert!(said_of_it.contains("holds something of app 1400000001 already (app 1400000001"), "{said_of_it}");
    assert!(node.terminate().success());
    let moved = Running::start(&empty.options);
    assert!(moved.get("/readyz").starts_with("ready"));
}
