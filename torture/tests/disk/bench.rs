//! A server on a watched disk, and one who writes to it and remembers what was answered.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sidenote_torture::caller::Caller;
use sidenote_torture::disk::{Disk, Loss, Lost, Names, Writes};
use sidenote_torture::server::{ADMINISTRATOR, APP, ConfigOptions, Running};

const SET: &str = "openim_msg_ext_http_svc/group_set_key_values";

/// Bytes of a long value; the most that a value may have.
const LONG: usize = 16_384;

/// Only what was synced is there: the strictest of all ways to lose power.
pub(crate) const ALL_THAT_WAS_NOT_SYNCED: Loss = Loss { writes: Writes::Lost, names: Names::Lost, seed: 0 };

/// What is still in the memory of the operating system is there: a kill.
pub(crate) const NOTHING: Loss = Loss { writes: Writes::Kept, names: Names::Kept, seed: 0 };

/// A server and its disk.
pub(crate) struct Bench {
    pub(crate) server: Running,
    pub(crate) disk: Disk,
    /// Pairs that were acknowledged, by message and key, and a request that was not answered.
    acknowledged: BTreeMap<(u64, String), String>,
    unanswered: Option<Request>,
    requests: usize,
}

/// Sets keys of a message to a value.
#[derive(Clone, Debug)]
struct Request {
    message: u64,
    keys: Vec<String>,
    value: String,
}

impl Bench {
    /// A running server with a group that has some messages.
    pub(crate) fn furnished() -> Self {
        let mut bench = Self::bare();
        bench.server.restart();
        bench.furnish();
        bench
    }

    /// A server that has never run on this disk.
    pub(crate) fn bare() -> Self {
        let limits = format!("attempts_per_minute = 0\nvalue_bytes = {LONG}");
        let mut server = Running::start(&ConfigOptions { limits, ..ConfigOptions::default() });
        assert!(server.terminate().success());
        std::fs::remove_dir_all(server.data()).unwrap();
        let disk = Disk::watching(server.config().parent().unwrap());
        server.environment = disk.environment();
        Self { server, disk, acknowledged: BTreeMap::new(), unanswered: None, requests: 0 }
    }

    pub(crate) fn furnish(&self) {
        let administrator = self.administrator();
        let group = json!({"GroupId": "g", "Type": "Public", "Name": "g"});
        administrator.ok("group_open_http_svc/create_group", &group.to_string());
        for random in 1..=3 {
            let message = json!({
                "GroupId": "g", "Random": random, "SupportMessageExtension": 1,
                "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "who comes?"}}],
            });
            administrator.ok("group_open_http_svc/send_group_msg", &message.to_string());
        }
    }

    pub(crate) fn administrator(&self) -> Caller {
        Caller::new(self.server.address, APP, ADMINISTRATOR)
    }

    /// Sets a few short pairs; the code of the answer, or `None` if the connection broke.
    pub(crate) fn set(&mut self, caller: &Caller) -> Option<u64> {
        self.request(caller, 2, 8)
    }

    /// Sets as many long pairs as a request may hold: with its event up to 1 MB, so that a table is flushed and a
    /// journal is full soon.
    pub(crate) fn set_much(&mut self, caller: &Caller) -> Option<u64> {
        self.request(caller, 20, LONG)
    }

    fn request(&mut self, caller: &Caller, keys: usize, bytes: usize) -> Option<u64> {
        self.requests += 1;
        let number = self.requests;
        let request = Request {
            message: number as u64 % 3 + 1,
            keys: (0..keys).map(|key| format!("key {}", (number / 3 * keys + key) % 60)).collect(),
            value: format!("{number:0bytes$}"),
        };
        let list: Vec<Value> =
            request.keys.iter().map(|key| json!({"Key": key, "Value": request.value})).collect();
        let body = json!({
            "GroupId": "g", "MsgSeq": request.message, "OperateType": 1, "ExtensionList": list,
        });
        let code = caller.call(SET, &body.to_string()).ok().map(|answer| {
            let code = answer["ErrorCode"].as_u64().unwrap();
            if code == 0 {
                let items = answer["ExtensionList"].as_array().unwrap();
                assert!(items.iter().all(|item| item["ErrorCode"] == 0), "{answer}");
            }
            code
        });
        if code == Some(0) {
            for key in request.keys {
                self.acknowledged.insert((request.message, key), request.value.clone());
            }
        } else if self.unanswered.is_none() {
            // Once a write has failed, none that comes later is tried.
            self.unanswered = Some(request);
        }
        code
    }

    /// Writes until the connection breaks, by a rule that kills, say.
    pub(crate) fn set_until_it_dies(&mut self) {
        let caller = self.administrator();
        while self.set_much(&caller).is_some() {}
        self.server.wait();
    }

    /// Kills the server, and leaves the power on.
    pub(crate) fn kill(&mut self) {
        self.server.kill9();
        self.disk.reconcile();
    }

    /// Kills the server and takes the power.
    pub(crate) fn lose_power(&mut self, loss: &Loss) -> Lost {
        self.server.kill9();
        self.disk.lose_power(loss)
    }

    /// What the server holds that it should not, or the other way round. The last request without an answer may be
    /// there, as a whole, and is remembered if it is.
    pub(crate) fn verify(&mut self) -> Result<(), String> {
        let found = self.pairs();
        let unanswered = self.unanswered.take();
        if found == self.acknowledged {
            return Ok(());
        }
        let mut with = self.acknowledged.clone();
        if let Some(request) = &unanswered {
            for key in &request.keys {
                with.insert((request.message, key.clone()), request.value.clone());
            }
        }
        if found == with {
            self.acknowledged = with;
            return Ok(());
        }
        let only = |one: &BTreeMap<_, _>, other: &BTreeMap<_, _>| {
            one.iter().filter(|(key, value)| other.get(*key) != Some(*value)).count()
        };
        Err(format!(
            "{} pairs of {} are missing or older, {} are there that should not be",
            only(&self.acknowledged, &found),
            self.acknowledged.len(),
            only(&found, &with),
        ))
    }

    /// Pairs that were acknowledged.
    pub(crate) fn acknowledged(&self) -> &BTreeMap<(u64, String), String> {
        &self.acknowledged
    }

    /// The answer of `/readyz`, head and body.
    pub(crate) fn ready(&self) -> String {
        let answer = self.server.raw(b"GET /readyz HTTP/1.1\r\nHost: sidenote\r\nConnection: close\r\n\r\n");
        String::from_utf8(answer).unwrap()
    }

    /// The pairs that live.
    pub(crate) fn pairs(&self) -> BTreeMap<(u64, String), String> {
        let administrator = self.administrator();
        let pairs = (1..=3).flat_map(|message| {
            let pages = administrator.walk("g", message, 0);
            pages.into_iter().flat_map(move |page| {
                page.pairs.into_iter().map(move |pair| ((message, pair.key), pair.value))
            })
        });
        pairs.collect()
    }
}
