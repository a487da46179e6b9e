//! The product itself, in release mode on its embedded store.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use memchr::memmem::Finder;
use serde_json::{Value, json};
use sidenote_server::auth::user_sig;
use sidenote_server::clock::{Clock as _, SystemClock};
use sidenote_server::config::Secret;

use super::Server;
use crate::client::{is_fine, post_json};
use crate::dialect::{Dialect, Learned, any_value, excerpt, key_name, number_after, post_head, write_post};
use crate::process::{Process, free_port, output_of};
use crate::workload::{Action, Request, Source, Versions};

/// The one app, group and member of the data.
pub(crate) const APP: u32 = 1_400_000_001;
pub(crate) const GROUP: &str = "bench";
pub(crate) const MEMBER: &str = "ann";
const ADMINISTRATOR: &str = "administrator";
/// A throw-away key, for a server that listens on the loopback interface while the benchmark runs.
const KEY: &str = "8f3c0c1d5be94fa2a61d7e20b9c4f35870d1e2639ab5c4f7801d2e3f4a5b6c7d";

const EXTENSIONS: &str = "/v4/openim_msg_ext_http_svc";
/// The services of the API that make accounts and groups.
pub(crate) const SERVICES: (&str, &str) = ("im_open_login_svc", "group_open_http_svc");
/// How long a ticket lasts.
const TICKET_SECONDS: u64 = 24 * 3600;
/// The most pairs of a page (rule 3.9).
const PAGE: usize = 200;

/// A database for several nodes.
#[derive(Clone)]
pub(crate) struct Base {
    /// How it is reached.
    pub(crate) dsn: String,
    /// The port of the broker through which nodes hear of each other.
    pub(crate) nats: u16,
    /// Commands that one transaction may hold, if not what the product chooses.
    pub(crate) transaction_commands: Option<u32>,
}

/// A folder with the product's data and the program that serves it.
#[derive(Clone)]
pub(crate) struct Product {
    bin: PathBuf,
    folder: PathBuf,
    cache_mib: Option<u64>,
    /// The database that it shares with others, if its data is not in the folder.
    base: Option<Base>,
    /// What the configuration says besides, after its section `[limits]` has begun.
    more: String,
}

impl Product {
    /// Nothing is started or made yet. `cache_mib` is the size of each of the two caches of the store, if not
    /// what the product chooses.
    pub(crate) fn new(bin: &Path, folder: &Path, cache_mib: Option<u64>) -> Self {
        Self {
            bin: bin.join("sidenote"),
            folder: folder.to_owned(),
            cache_mib,
            base: None,
            more: String::new(),
        }
    }

    /// Adds lines to the configuration, which begin in its section `[limits]`.
    pub(crate) fn configured(self, more: &str) -> Self {
        Self { more: more.to_owned(), ..self }
    }

    /// A node of a cluster: its data is in a database.
    pub(crate) fn on(self, base: Base) -> Self {
        Self { base: Some(base), ..self }
    }

    /// Where the store is.
    pub(crate) fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    /// Makes the store with the member and the group, through the API.
    pub(crate) fn create(&self) -> Result<()> {
        self.prepare(&[
            (format!("{}/account_import", SERVICES.0), json!({"UserID": MEMBER})),
            (
                format!("{}/create_group", SERVICES.1),
                json!({"Type": "Public", "Name": GROUP, "GroupId": GROUP,
                       "MemberList": [{"Member_Account": MEMBER}]}),
            ),
        ])
    }

    /// Carries requests of an administrator out, one after the other: a command with its service, and its body.
    pub(crate) fn prepare(&self, requests: &[(String, Value)]) -> Result<()> {
        let (port, mut process, _) = self.launch()?;
        self.ask(port, requests)?;
        process.stop()
    }

    /// The same on a server that runs.
    pub(crate) fn ask(&self, port: u16, requests: &[(String, Value)]) -> Result<()> {
        let query = self.query(ADMINISTRATOR)?;
        for (command, body) in requests {
            let answer = post_json(port, &format!("/v4/{command}?{query}"), &body.to_string())?;
            let answer: Value = serde_json::from_str(&answer).context("an answer is no JSON")?;
            if answer["ErrorCode"] != 0 {
                bail!("{command} was answered {answer}");
            }
        }
        Ok(())
    }

    /// Starts it on what the folder holds, and tells how long it took until `/readyz` said yes.
    pub(crate) fn start(&self, name: &str) -> Result<(Server, Duration)> {
        let (port, process, time) = self.launch()?;
        let dialect = self.dialect(port, None)?;
        Ok((Server::http(name, vec![process], Arc::new(dialect), port, true), time))
    }

    /// How a server of this data is asked for messages of many groups.
    pub(crate) fn in_groups(&self, server: &Server, name: &str, groups: Groups) -> Result<Server> {
        Ok(server.spoken_to(name, Arc::new(self.dialect(server.port(), Some(groups))?)))
    }

    /// How a server of this data is asked for messages of the one group, by many of its members.
    pub(crate) fn by_many(&self, server: &Server, name: &str, members: &[String]) -> Result<Server> {
        let mut dialect = self.dialect(server.port(), None)?;
        let sets = members.iter().map(|member| {
            let query = query(member, &Self::ticket(member)?);
            Ok(Head::of("group_set_key_values", &query, server.port()))
        });
        dialect.sets = sets.collect::<Result<_>>()?;
        Ok(server.spoken_to(name, Arc::new(dialect)))
    }

    /// A request of the member for one set, up to the length of its body.
    pub(crate) fn set_head(&self, port: u16) -> Result<Vec<u8>> {
        Ok(Head::of("group_set_key_values", &self.query(MEMBER)?, port).0)
    }

    fn dialect(&self, port: u16, groups: Option<Groups>) -> Result<Sidenote> {
        Ok(Sidenote {
            sets: vec![Head::of("group_set_key_values", &self.query(MEMBER)?, port)],
            unchecked_set: Head::of("group_set_key_values", &self.query(ADMINISTRATOR)?, port),
            pull: Head::of("group_get_key_values", &self.query(MEMBER)?, port),
            groups,
        })
    }

    fn launch(&self) -> Result<(u16, Process, Duration)> {
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot create {}", self.folder.display()))?;
        let port = free_port()?;
        let config = self.folder.join("sidenote.toml");
        let store = self.base.as_ref().map_or_else(|| self.embedded(), Base::configuration);
        let more = &self.more;
        let text = format!(
            "listen = \"127.0.0.1:{port}\"\n\
             {store}\
             [[apps]]\nsdk_app_id = {APP}\nsecret_key = \"{KEY}\"\nadmins = [\"{ADMINISTRATOR}\"]\n\
             [limits]\nattempts_per_minute = 0\n{more}"
        );
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let mut command = Command::new(&self.bin);
        command.arg("serve").arg("--config").arg(&config);
        let mut process = Process::start("sidenote", &self.folder, &mut command)?;
        let time = process.wait_until(|| is_fine(port, "/readyz"))?;
        Ok((port, process, time))
    }

    fn embedded(&self) -> String {
        // A path as a JSON text is one that TOML reads as well.
        let store = json!(self.store());
        let caches = self.cache_mib.map_or_else(String::new, |mib| {
            format!("block_cache_bytes = \"{mib}MiB\"\nstate_cache_bytes = \"{mib}MiB\"\n")
        });
        format!("[store]\nengine = \"embedded\"\npath = {store}\n{caches}")
    }

    fn query(&self, user: &str) -> Result<String> {
        let mut command = Command::new(&self.bin);
        command.args(["usersig", "--app", &APP.to_string(), "--key", KEY, "--user", user]);
        Ok(query(user, output_of(&mut command)?.trim()))
    }

    /// A ticket, made without the program: there may be ten thousand of them.
    pub(crate) fn ticket(user: &str) -> Result<String> {
        let key = Secret::new(KEY.to_owned()).context("the key of the benchmark is empty")?;
        Ok(user_sig::sign(APP, &key, user, SystemClock.now_millis() / 1000, TICKET_SECONDS, None))
    }
}

impl Base {
    fn configuration(&self) -> String {
        let commands = self
            .transaction_commands
            .map_or_else(String::new, |most| format!("transaction_commands = {most}\n"));
        let (dsn, nats) = (json!(self.dsn), self.nats);
        format!(
            "[store]\nengine = \"postgres\"\nurl = {dsn}\n{commands}[cluster]\nnats = [\"nats://127.0.0.1:{nats}\"]\n"
        )
    }
}

/// The part of a URL that says who asks.
pub(crate) fn query(user: &str, ticket: &str) -> String {
    format!("sdkappid={APP}&identifier={user}&usersig={ticket}&random=1234567890&contenttype=json")
}

/// The head of a request up to the length of its body.
pub(super) struct Head(pub(super) Vec<u8>);

impl Head {
    fn of(command: &str, query: &str, port: u16) -> Self {
        Self(post_head(&format!("{EXTENSIONS}/{command}?{query}"), port, "application/json"))
    }

    /// For the bare server: another path, but as long as the product's with an ordinary ticket.
    pub(super) fn padded(path: &str, port: u16) -> Self {
        let like = format!("{EXTENSIONS}/group_set_key_values?{}", query(MEMBER, &"x".repeat(TICKET_BYTES)));
        let start = format!("{path}?pad=");
        Self(post_head(&format!("{start:x<width$}", width = like.len()), port, "application/json"))
    }
}

/// Length of a ticket of the product's for a UserID of three bytes, give or take a few.
const TICKET_BYTES: usize = 192;

/// Messages that lie in many groups, so many in each, one group after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Groups {
    /// The number by which a range of the workload calls the first message of the first group.
    pub(crate) first: u64,
    /// Messages of each group.
    pub(crate) messages: u64,
    /// Messages of each group that come before these.
    pub(crate) skipped: u64,
}

impl Groups {
    /// What a group is called.
    pub(crate) fn name(number: u64) -> String {
        format!("{GROUP}{number:04}")
    }

    /// In which group a message is, and its number there.
    fn place(self, message: u64) -> (u64, u64) {
        let offset = message - self.first;
        (offset / self.messages, self.skipped + offset % self.messages + 1)
    }
}

struct Sidenote {
    /// For each of those who set.
    sets: Vec<Head>,
    unchecked_set: Head,
    pull: Head,
    groups: Option<Groups>,
}

impl Dialect for Sidenote {
    fn write(&self, request: Request, versions: &Versions, source: &mut Source, out: &mut Vec<u8>) {
        let head = match request.action {
            Action::Set { compares: true, .. } => match &self.sets[..] {
                [only] => only,
                sets => &sets[source.any(sets.len())],
            },
            Action::Set { compares: false, .. } => &self.unchecked_set,
            Action::Pull { .. } => &self.pull,
        };
        let mut body = Vec::with_capacity(256);
        match self.groups.map(|groups| groups.place(request.message)) {
            None => write_body(request, versions, source, &mut body),
            Some((group, seq)) => {
                write_named(&Groups::name(group), seq, request, versions, source, &mut body);
            }
        }
        write_post(&head.0, &body, out);
    }

    fn check(&self, request: Request, body: &[u8], thorough: bool) -> Result<Learned, String> {
        check_envelope(request, body, thorough)
    }
}

/// The body of a request.
pub(super) fn write_body(request: Request, versions: &Versions, source: &mut Source, body: &mut Vec<u8>) {
    write_named(GROUP, request.message, request, versions, source, body);
}

/// The same for a message that the group calls `seq`.
fn write_named(
    group: &str,
    seq: u64,
    request: Request,
    versions: &Versions,
    source: &mut Source,
    body: &mut Vec<u8>,
) {
    let mut put = |text: std::fmt::Arguments<'_>| body.write_fmt(text).expect("memory takes all bytes");
    let message = request.message;
    put(format_args!("{{\"GroupId\":\"{group}\",\"MsgSeq\":{seq}"));
    if let Action::Set { key: first, pairs, compares } = request.action {
        put(format_args!(",\"OperateType\":1,\"ExtensionList\":["));
        for key in first..first + pairs {
            let comma = if key == first { "" } else { "," };
            let (name, value) = (key_name(key), any_value(source));
            let seq = if compares { versions.of(message, key) } else { 0 };
            put(format_args!("{comma}{{\"Key\":\"{name}\",\"Value\":\"{value}\",\"Seq\":{seq}}}"));
        }
        put(format_args!("]"));
    }
    put(format_args!("}}"));
}

/// Whether an answer says that all was done. A set has an error code in its envelope and one for each pair, and all
/// must be 0; the values of the benchmark hold nothing that looks like one.
pub(super) fn check_envelope(request: Request, body: &[u8], thorough: bool) -> Result<Learned, String> {
    static CODE: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("\"ErrorCode\":"));
    static KEY: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("\"Key\":"));
    let codes = match request.action {
        Action::Set { pairs, .. } => 1 + pairs,
        // The only code of a pull is near its beginning. Searching all its pairs for more would be in vain.
        Action::Pull { .. } => 1,
    };
    let searched = if codes == 1 { &body[..body.len().min(100)] } else { body };
    let mut fine = 0;
    for at in CODE.find_iter(searched) {
        let code = &searched[at + CODE.needle().len()..];
        if !(code.starts_with(b"0,") || code.starts_with(b"0}")) {
            return Err(excerpt(body));
        }
        fine += 1;
    }
    if fine != codes {
        return Err(excerpt(body));
    }
    match request.action {
        Action::Set { .. } => number_after(body, b"\"Seq\":").map(Learned::All).ok_or_else(|| excerpt(body)),
        Action::Pull { pairs } if thorough => {
            let (found, pairs) = (KEY.find_iter(body).count(), pairs as usize);
            // A page never splits one Seq, and a Seq holds up to 20 pairs here.
            let fine = if pairs > PAGE { (PAGE - 19..=PAGE).contains(&found) } else { found == pairs };
            if fine { Ok(Learned::Nothing) } else { Err(format!("{found} pairs: {}", excerpt(body))) }
        }
        Action::Pull { .. } => Ok(Learned::Nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{KEYS, Mix, Range, Workload};

    const RANGE: Range = Range { first: 7, messages: 1, stored_pairs: 20, keys: Some(KEYS) };

    fn set(pairs: u32, compares: bool) -> Request {
        Request { action: Action::Set { key: 3, pairs, compares }, message: 7 }
    }

    fn pull(pairs: u32) -> Request {
        Request { action: Action::Pull { pairs }, message: 7 }
    }

    fn body(request: Request) -> Value {
        let workload = Workload { range: RANGE, mix: Mix::Sets(1) };
        let (mut source, mut body) = (Source::new(workload, None, 0, 1, 1), Vec::new());
        write_body(request, &Versions::stored(RANGE), &mut source, &mut body);
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn a_set_names_keys_values_and_the_versions_to_compare_with() {
        let sent = body(set(2, true));
        assert_eq!(
            (&sent["GroupId"], &sent["MsgSeq"], &sent["OperateType"]),
            (&json!(GROUP), &json!(7), &json!(1))
        );
        let pairs = sent["ExtensionList"].as_array().unwrap();
        assert_eq!((&pairs[0]["Key"], &pairs[1]["Key"]), (&json!("attr003key"), &json!("attr004key")));
        assert!(pairs.iter().all(|pair| pair["Seq"] == 1 && pair["Value"].as_str().unwrap().len() == 40));
        assert_eq!(body(set(1, false))["ExtensionList"][0]["Seq"], 0);
        assert_eq!(body(pull(20)), json!({"GroupId": GROUP, "MsgSeq": 7}));
    }

    #[test]
    fn messages_of_many_groups_are_called_by_their_numbers_there() {
        let groups = Groups { first: 1001, messages: 10, skipped: 0 };
        assert_eq!([1001, 1010, 1011].map(|message| groups.place(message)), [(0, 1), (0, 10), (1, 1)]);
        assert_eq!(Groups { skipped: 5, ..groups }.place(1011), (1, 6));
        let workload = Workload { range: RANGE, mix: Mix::Sets(1) };
        let (mut source, mut body) = (Source::new(workload, None, 0, 1, 1), Vec::new());
        let versions = Versions::stored(RANGE);
        write_named(&Groups::name(3), 2, set(1, true), &versions, &mut source, &mut body);
        let sent: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&sent["GroupId"], &sent["MsgSeq"]), (&json!("bench0003"), &json!(2)));
        // The version is that of the message as the workload calls it.
        assert_eq!(sent["ExtensionList"][0]["Seq"], 1);
    }

    #[test]
    fn the_version_is_taken_from_a_good_answer() {
        let good = br#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"Seq":42,"ExtensionList":[{"ErrorCode":0,"Extension":{"Key":"k","Value":"v","Seq":42}}]}"#;
        assert_eq!(check_envelope(set(1, true), good, false), Ok(Learned::All(42)));
        // An answer with fewer verdicts than pairs is not good.
        check_envelope(set(2, true), good, false).unwrap_err();
    }

    #[test]
    fn a_refusal_is_noticed_in_the_envelope_and_in_each_pair() {
        for bad in [
            &br#"{"ActionStatus":"FAIL","ErrorInfo":"x","ErrorCode":10002}"#[..],
            br#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"Seq":0,"ExtensionList":[{"ErrorCode":23001,"Extension":{"Key":"k","Value":"v","Seq":42}}]}"#,
            b"",
            b"{}",
            br#"{"ErrorCode":"#,
        ] {
            check_envelope(set(1, true), bad, false).unwrap_err();
            check_envelope(pull(20), bad, true).unwrap_err();
        }
    }

    #[test]
    fn the_pairs_of_a_pull_are_counted_when_it_is_thorough() {
        let answer = |pairs: usize| {
            let pairs: Vec<_> = (0..pairs).map(|_| r#"{"Key":"k","Value":"v","Seq":1}"#).collect();
            format!(
                r#"{{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"ExtensionList":[{}]}}"#,
                pairs.join(",")
            )
        };
        check_envelope(pull(20), answer(20).as_bytes(), true).unwrap();
        check_envelope(pull(20), answer(19).as_bytes(), true).unwrap_err();
        check_envelope(pull(20), answer(19).as_bytes(), false).unwrap();
        check_envelope(pull(300), answer(200).as_bytes(), true).unwrap();
        check_envelope(pull(300), answer(181).as_bytes(), true).unwrap();
        check_envelope(pull(300), answer(180).as_bytes(), true).unwrap_err();
        check_envelope(pull(300), answer(180).as_bytes(), false).unwrap();
    }

    #[test]
    fn the_bare_server_is_asked_with_as_long_a_line() {
        let ticket = "x".repeat(TICKET_BYTES);
        let ours = Head::of("group_set_key_values", &query(MEMBER, &ticket), 80).0.len();
        assert_eq!([Head::padded("/set", 80).0.len(), Head::padded("/wide-pull", 80).0.len()], [ours; 2]);
    }
}
