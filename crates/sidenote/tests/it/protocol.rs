//! The protocol as readable transcripts (`tests/protocol/*.txt`), each against a server of its own.
//!
//! A transcript is made of steps. Lines that begin with `#` are for readers. A step is either one line of
//! preparation,
//!
//! * `config KEY = VALUE` (before anything else): a line of `[limits]`, as `limits.NAME = VALUE`
//! * `plan NAME` (before anything else): the plan of the app
//! * `accounts NAME…`: import accounts
//! * `group ID OWNER MEMBER…`: create a public group
//! * `import ID COUNT`: import a public group with so many messages, which support no extensions
//! * `message ID`, `plain ID`: send a message that supports extensions, or one that does not
//! * `letter FROM TO`, `plain letter FROM TO`: the same between two accounts
//! * `as NAME`: who makes the next call; without it the administrator does
//!
//! or a call: `POST service/command`, a line with the body exactly as it is sent, `----`, and the answer as JSON in
//! any layout. In an answer `"<number>"` and `"<text>"` stand for any number and any text. In a body `<MsgKey>` stands
//! for the key of the last letter, and in an answer too.
//!
//! With `SIDENOTE_REWRITE=1` in the environment the answers are written into the files instead of compared; the
//! difference is then what is to be reviewed.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::server::{ADMINISTRATOR, ConfigOptions, Running};

#[test]
fn every_transcript_is_what_the_server_says() {
    play_all(&|| None, rewrite());
}

/// Plays each transcript on a store of its own: in a folder, or in the database that is named for it.
pub(crate) fn play_all(database: &(dyn Fn() -> Option<String> + Sync), rewrite: bool) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/protocol");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10, "the transcripts are not where they should be");
    let mut differences = String::new();
    // Each has a server of its own, so they can run side by side.
    std::thread::scope(|scope| {
        let play = |file: PathBuf| scope.spawn(move || (play(&file, database(), rewrite), file));
        let threads: Vec<_> = files.into_iter().map(play).collect();
        for thread in threads {
            let (difference, file) = thread.join().unwrap();
            if let Some(difference) = difference {
                write!(differences, "\n{}:\n{difference}", file.display()).unwrap();
            }
        }
    });
    assert!(differences.is_empty(), "{differences}");
}

#[expect(clippy::disallowed_methods, reason = "a switch of this test, not configuration of the program")]
fn rewrite() -> bool {
    std::env::var("SIDENOTE_REWRITE").is_ok_and(|value| value == "1")
}

/// Plays one transcript. Gives the differences, if there are any.
fn play(file: &Path, database: Option<String>, rewrite: bool) -> Option<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let mut options = ConfigOptions { database, ..ConfigOptions::default() };
    for line in text.lines() {
        if let Some(limit) = line.strip_prefix("config limits.") {
            writeln!(options.limits, "{limit}").unwrap();
        } else if let Some(plan) = line.strip_prefix("plan ") {
            options.plan = Some(if plan == "pro" { "pro" } else { panic!("no such plan: {plan}") });
        }
    }
    let mut player = Player {
        server: Running::start(&options),
        caller: ADMINISTRATOR.to_owned(),
        random: 1_000_000,
        key: String::new(),
    };
    let mut lines: VecDeque<&str> = text.lines().collect();
    let (mut rewritten, mut differences) = (String::new(), String::new());
    while let Some(line) = lines.pop_front() {
        writeln!(rewritten, "{line}").unwrap();
        let Some(command) = line.strip_prefix("POST ") else {
            player.prepare(line);
            continue;
        };
        let body = lines.pop_front().expect("a body after POST");
        assert_eq!(lines.pop_front(), Some("----"), "after {body}");
        writeln!(rewritten, "{body}\n----").unwrap();
        let mut expected = String::new();
        while lines.front().is_some_and(|line| !line.is_empty()) {
            expected.extend([lines.pop_front().unwrap_or_default(), "\n"]);
        }
        let caller = std::mem::replace(&mut player.caller, ADMINISTRATOR.to_owned());
        let answer = player.server.post(&caller, command, &player.spelled_out(body));
        let agrees = serde_json::from_str::<Value>(&player.spelled_out(&expected))
            .is_ok_and(|expected| matches(&expected, &answer));
        if agrees {
            rewritten.push_str(&expected);
        } else {
            let mut answer = layout(&answer);
            if !player.key.is_empty() {
                answer = answer.replace(&player.key, "<MsgKey>");
            }
            writeln!(differences, "POST {command}\n{body}\nexpected {expected}but the answer is\n{answer}")
                .unwrap();
            rewritten.push_str(&answer);
        }
    }
    if rewrite {
        std::fs::write(file, rewritten).unwrap();
        return None;
    }
    (!differences.is_empty()).then_some(differences)
}

struct Player {
    server: Running,
    caller: String,
    random: u32,
    /// The key of the last letter.
    key: String,
}

impl Player {
    fn prepare(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["" | "#" | "config" | "plan", ..] => {}
            ["as", name] => name.clone_into(&mut self.caller),
            ["accounts", ref names @ ..] => {
                self.ok("im_open_login_svc/multiaccount_import", &serde_json::json!({ "Accounts": names }));
            }
            ["group", id, owner, ref members @ ..] => {
                let members: Vec<_> =
                    members.iter().map(|name| serde_json::json!({ "Member_Account": name })).collect();
                let group = serde_json::json!({
                    "GroupId": id, "Type": "Public", "Name": id, "Owner_Account": owner, "MemberList": members,
                });
                self.ok("group_open_http_svc/create_group", &group);
            }
            ["import", id, count] => self.import(id, count.parse().unwrap()),
            ["message", id] => self.send(id, 1),
            ["plain", id] => self.send(id, 0),
            ["letter", from, to] => self.write(from, to, 1),
            ["plain", "letter", from, to] => self.write(from, to, 0),
            _ => panic!("no such preparation: {line:?}"),
        }
    }

    fn import(&self, id: &str, count: u64) {
        let group = serde_json::json!({
            "GroupId": id, "Type": "Public", "Name": "imported", "CreateTime": 1_600_000_000,
        });
        self.ok("group_open_http_svc/import_group", &group);
        let numbers: Vec<u64> = (0..count).collect();
        for some in numbers.chunks(7) {
            let messages: Vec<_> = some
                .iter()
                .map(|n| {
                    serde_json::json!({
                        "From_Account": ADMINISTRATOR, "SendTime": 1_600_000_001 + n, "Random": n,
                        "MsgBody": [{ "MsgType": "TIMTextElem", "MsgContent": { "Text": "old" } }],
                    })
                })
                .collect();
            let messages = serde_json::json!({ "GroupId": id, "MsgList": messages });
            self.ok("group_open_http_svc/import_group_msg", &messages);
        }
    }

    fn send(&mut self, id: &str, supports_extension: u8) {
        self.random += 1;
        let message = serde_json::json!({
            "GroupId": id, "Random": self.random, "SupportMessageExtension": supports_extension,
            "MsgBody": [{ "MsgType": "TIMCustomElem", "MsgContent": { "Data": "poll", "Desc": "", "Ext": "" } }],
        });
        self.ok("group_open_http_svc/send_group_msg", &message);
    }

    fn write(&mut self, from: &str, to: &str, supports_extension: u8) {
        self.random += 1;
        let letter = serde_json::json!({
            "From_Account": from, "To_Account": to, "MsgRandom": self.random,
            "SupportMessageExtension": supports_extension,
            "MsgBody": [{ "MsgType": "TIMCustomElem", "MsgContent": { "Data": "poll", "Desc": "", "Ext": "" } }],
        });
        let answer = self.ok("openim/sendmsg", &letter);
        answer["MsgKey"].as_str().unwrap().clone_into(&mut self.key);
    }

    /// A text with the key of the last letter in it.
    fn spelled_out(&self, text: &str) -> String {
        text.replace("<MsgKey>", &self.key)
    }

    fn ok(&self, command: &str, body: &Value) -> Value {
        let answer = self.server.post(ADMINISTRATOR, command, &body.to_string());
        assert_eq!(answer["ErrorCode"], 0, "{command} {body}: {answer}");
        answer
    }
}

/// Does an answer look as expected? `"<number>"` and `"<text>"` stand for anything of their kind.
fn matches(expected: &Value, answer: &Value) -> bool {
    match (expected, answer) {
        (Value::String(any), Value::Number(_)) if any == "<number>" => true,
        (Value::String(any), Value::String(_)) if any == "<text>" => true,
        (Value::Array(expected), Value::Array(answer)) => {
            expected.len() == answer.len()
                && expected.iter().zip(answer).all(|(one, other)| matches(one, other))
        }
        (Value::Object(expected), Value::Object(answer)) => {
            expected.len() == answer.len()
                && expected
                    .iter()
                    .all(|(name, one)| answer.get(name).is_some_and(|other| matches(one, other)))
        }
        (expected, answer) => expected == answer,
    }
}

/// An answer as the transcripts write it: the verdict first, then a line for each member, a line for each item.
/// Times are left open.
fn layout(answer: &Value) -> String {
    let mut answer = answer.clone();
    leave_times_open(&mut answer);
    let Value::Object(members) = &answer else { return format!("{answer}\n") };
    let verdict = ["ActionStatus", "ErrorCode", "ErrorInfo"];
    let of_verdict = verdict.iter().filter_map(|name| Some((*name, members.get(*name)?)));
    let line: Vec<_> = of_verdict.map(|(name, value)| format!("\"{name}\":{value}")).collect();
    let mut text = format!("{{{}", line.join(","));
    for (name, value) in members.iter().filter(|(name, _)| !verdict.contains(&name.as_str())) {
        write!(text, ",\n  \"{name}\":").unwrap();
        match value {
            Value::Array(items) if !items.is_empty() => {
                let items: Vec<_> = items.iter().map(|item| format!("\n    {item}")).collect();
                write!(text, "[{}]", items.join(",")).unwrap();
            }
            value => write!(text, "{value}").unwrap(),
        }
    }
    text.push_str("}\n");
    text
}

fn leave_times_open(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if name.contains("Time") && member.is_number() {
                    *member = Value::String("<number>".to_owned());
                } else if matches!(name.as_str(), "MsgKey" | "LastMsgKey") {
                    *member = Value::String("<text>".to_owned());
                } else {
                    leave_times_open(member);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(leave_times_open),
        _ => {}
    }
}
