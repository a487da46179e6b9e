//! A client that keeps its connection and signs once, for tests with many requests from many threads.

use std::fmt;
use std::net::SocketAddr;

use serde_json::{Value, json};
use ureq::Agent;

use crate::server::{PATIENCE, query};

const SET: &str = "openim_msg_ext_http_svc/group_set_key_values";
const PULL: &str = "openim_msg_ext_http_svc/group_get_key_values";

/// A user of an app, on a connection of its own.
pub struct Caller {
    agent: Agent,
    base: String,
    query: String,
}

/// What a request for a change asks for one key.
#[derive(Clone, PartialEq, Eq)]
pub struct Wish {
    /// The key.
    pub key: String,
    /// Empty where the key is to be deleted.
    pub value: String,
    /// The Seq that a member says it saw last; administrators claim nothing.
    pub claim: Option<u64>,
}

/// `OperateType` of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operate {
    /// Sets pairs.
    Set = 1,
    /// Deletes pairs.
    Delete = 2,
    /// Drops all pairs.
    Clear = 3,
}

/// A request for a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What is to be done.
    pub operate: Operate,
    /// Which keys; none in a clear.
    pub wishes: Vec<Wish>,
}

/// A pair as it is on the wire; an empty value where nothing lives.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The version; 0 where there was never a pair.
    pub seq: u64,
}

/// The answer to a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// LatestSeq after it.
    pub seq: u64,
    /// Each key with its code and what is there now.
    pub items: Vec<(u64, Pair)>,
}

/// One page of a pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The pairs, ordered by Seq, then key.
    pub pairs: Vec<Pair>,
    /// LatestSeq.
    pub latest: u64,
    /// ClearSeq.
    pub clear: u64,
    /// Whether nothing is left (`CompleteFlag` 1).
    pub complete: bool,
}

/// Why nobody knows what became of a request.
#[derive(Debug)]
pub enum Unanswered {
    /// The connection broke.
    Broken(ureq::Error),
    /// The server said that something went wrong inside it.
    Internal(String),
}

impl From<ureq::Error> for Unanswered {
    fn from(error: ureq::Error) -> Self {
        Self::Broken(error)
    }
}

impl Caller {
    /// A user of an app on the server at this address; the ticket is valid for an hour.
    pub fn new(server: SocketAddr, app: u32, user: &str) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(PATIENCE))
            .build()
            .new_agent();
        Self { agent, base: format!("http://{server}/v4"), query: query(app, user) }
    }

    /// Sends a request. An error means that the connection broke, so that nobody knows what became of it; an
    /// answer with another status than 200, or one that is no JSON, fails the test.
    pub fn call(&self, command: &str, body: &str) -> Result<Value, ureq::Error> {
        let url = format!("{}/{command}?{}", self.base, self.query);
        let mut answer = self.agent.post(url).send(body)?;
        assert_eq!(answer.status().as_u16(), 200, "{command} {body}");
        let text = answer.body_mut().read_to_string()?;
        Ok(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}")))
    }

    /// Sends a request that has to succeed.
    pub fn ok(&self, command: &str, body: &str) -> Value {
        let answer = self.call(command, body).unwrap();
        assert_eq!(answer["ErrorCode"], 0, "{command} {body}: {answer}");
        answer
    }

    /// The same where the server may be about to die: an answer that says "internal error, try again" leaves
    /// open what became of the request, as a broken connection does. Any other refusal fails the test.
    pub fn attempt(&self, command: &str, body: &str) -> Result<Value, Unanswered> {
        let answer = self.call(command, body)?;
        match answer["ErrorCode"].as_u64() {
            Some(0) => Ok(answer),
            Some(10_002 | 70_500 | 91_000) => Err(Unanswered::Internal(answer["ErrorInfo"].to_string())),
            _ => panic!("{command} {body}: {answer}"),
        }
    }

    /// Asks for a change of the pairs of a message; the request as a whole must not be refused.
    pub fn change(&self, group: &str, message: u64, change: &Change) -> Result<Changed, Unanswered> {
        let answer = self.attempt(SET, &change.body(group, message))?;
        let items = answer["ExtensionList"].as_array().unwrap().iter();
        let items = items.map(|item| (item["ErrorCode"].as_u64().unwrap(), Pair::read(&item["Extension"])));
        Ok(Changed { seq: answer["Seq"].as_u64().unwrap(), items: items.collect() })
    }

    /// Sets one pair.
    pub fn set_one(
        &self,
        group: &str,
        message: u64,
        key: &str,
        value: &str,
        claim: Option<u64>,
    ) -> (u64, Pair) {
        let changed = self.change(group, message, &Change::set([(key, value, claim)])).unwrap();
        changed.items.into_iter().next().unwrap()
    }

    /// Asks for one page.
    pub fn page(&self, group: &str, message: u64, start: u64) -> Page {
        self.try_page(group, message, start).unwrap()
    }

    /// The same where the server may be about to die.
    pub fn try_page(&self, group: &str, message: u64, start: u64) -> Result<Page, Unanswered> {
        let body = json!({"GroupId": group, "MsgSeq": message, "StartSeq": start}).to_string();
        let answer = self.attempt(PULL, &body)?;
        let page = Page {
            pairs: answer["ExtensionList"].as_array().unwrap().iter().map(Pair::read).collect(),
            latest: answer["LatestSeq"].as_u64().unwrap(),
            clear: answer["ClearSeq"].as_u64().unwrap(),
            complete: answer["CompleteFlag"].as_u64().unwrap() == 1,
        };
        assert!(page.complete || !page.pairs.is_empty(), "an empty page that is not the last (rule 3.9)");
        Ok(page)
    }

    /// All pages from `start` on, as a client reads them (rule 3.9).
    pub fn walk(&self, group: &str, message: u64, start: u64) -> Vec<Page> {
        let mut pages: Vec<Page> = Vec::new();
        let mut next = start;
        loop {
            let page = self.page(group, message, next);
            let complete = page.complete;
            next = page.pairs.last().map_or(next, |pair| pair.seq + 1);
            pages.push(page);
            if complete {
                return pages;
            }
        }
    }
}

impl Change {
    /// Sets pairs: key, value and claim.
    pub fn set<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str, Option<u64>)>) -> Self {
        let wishes = pairs.into_iter().map(|(key, value, claim)| Wish {
            key: key.to_owned(),
            value: value.to_owned(),
            claim,
        });
        Self { operate: Operate::Set, wishes: wishes.collect() }
    }

    fn body(&self, group: &str, message: u64) -> String {
        let list = self.wishes.iter().map(|Wish { key, value, claim }| match claim {
            Some(seq) => json!({"Key": key, "Value": value, "Seq": seq}),
            None => json!({"Key": key, "Value": value}),
        });
        let mut body = json!({"GroupId": group, "MsgSeq": message, "OperateType": self.operate as u8});
        if self.operate != Operate::Clear {
            body["ExtensionList"] = list.collect();
        }
        body.to_string()
    }
}

impl Pair {
    fn read(pair: &Value) -> Self {
        let text = |name: &str| pair[name].as_str().unwrap().to_owned();
        Self { key: text("Key"), value: text("Value"), seq: pair["Seq"].as_u64().unwrap() }
    }
}

impl fmt::Debug for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, shortened(&self.value))?;
        self.claim.map_or(Ok(()), |claim| write!(f, " (saw {claim})"))
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}@{}", self.key, shortened(&self.value), self.seq)
    }
}

/// A value for people: tests write long ones.
pub(crate) fn shortened(value: &str) -> String {
    match value.char_indices().nth(24) {
        Some((end, _)) => format!("{}... ({} bytes)", &value[..end], value.len()),
        None => value.to_owned(),
    }
}
