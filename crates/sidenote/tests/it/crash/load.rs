//! Clients that write whatever comes to their minds until the connection breaks.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use crate::caller::{Caller, Change, Changed, Operate, Wish};
use crate::crash::model::Set;
use crate::server::{ADMINISTRATOR, APP};

/// The group that everything happens in.
pub(crate) const GROUP: &str = "poll";

/// Messages that may carry pairs. They are the first of the group.
pub(crate) const MESSAGES: u64 = 3;

/// Clients; every third is an administrator, the others are members of their own.
pub(crate) const CLIENTS: usize = 6;

/// Keys that a client has for itself. All of them together stay below the limit of a message.
const OWN_KEYS: usize = 40;

/// The key that everybody writes.
const SHARED: &str = "shared";

/// The user that a client signs as.
pub(crate) fn user_of(client: usize) -> String {
    if is_administrator(client) { ADMINISTRATOR.to_owned() } else { format!("member{client}") }
}

fn is_administrator(client: usize) -> bool {
    client.is_multiple_of(3)
}

/// A text message; its text, which says who sent it, is unlike all others.
pub(crate) struct Sending {
    pub(crate) text: String,
    /// The number that the sender was told, if it was.
    pub(crate) number: Option<u64>,
}

/// All that a client asked for.
#[derive(Default)]
pub(crate) struct Record {
    /// Message, request and answer, if there was one. Only the last can be without.
    pub(crate) changes: Vec<(u64, Change, Option<Changed>)>,
    pub(crate) sent: Vec<Sending>,
    /// How the connection broke.
    pub(crate) end: Option<ureq::Error>,
}

/// Counts acknowledgements of all clients and rings when there are as many as were agreed.
pub(crate) struct Bell {
    left: AtomicUsize,
    ring: SyncSender<()>,
}

impl Bell {
    pub(crate) fn after(acknowledgements: usize) -> (Self, Receiver<()>) {
        let (ring, heard) = sync_channel(1);
        (Self { left: AtomicUsize::new(acknowledgements), ring }, heard)
    }

    fn count(&self) {
        // It goes on below zero, by wrapping around, and is never at 1 again.
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.ring.send(()).unwrap();
        }
    }
}

/// Writes until the connection breaks. `sets` are the pairs of the messages when it begins, and `tag` stands in
/// all that it writes.
pub(crate) fn run(
    client: usize,
    server: SocketAddr,
    sets: &[Set],
    (seed, tag): (u64, &str),
    bell: &Bell,
) -> Record {
    let mut client = Client {
        number: client,
        caller: Caller::new(server, APP, &user_of(client)),
        sender: Caller::new(server, APP, ADMINISTRATOR),
        rng: StdRng::seed_from_u64(seed),
        sets: sets.to_vec(),
        record: Record::default(),
        tag: format!("{tag}.{client}"),
        count: 0,
    };
    loop {
        match client.step() {
            Ok(()) => bell.count(),
            Err(error) => {
                client.record.end = Some(error);
                return client.record;
            }
        }
    }
}

struct Client {
    number: usize,
    caller: Caller,
    /// Only an administrator may send messages over HTTP, in the name of others.
    sender: Caller,
    rng: StdRng,
    /// The messages as far as this client knows them, which need not be how they are.
    sets: Vec<Set>,
    record: Record,
    tag: String,
    count: usize,
}

impl Client {
    fn step(&mut self) -> Result<(), ureq::Error> {
        self.count += 1;
        let message = self.rng.random_range(1..=MESSAGES);
        let operate = match self.rng.random_range(0..100) {
            0..12 => return self.send(),
            12..15 => Operate::Clear,
            15..35 => Operate::Delete,
            _ => Operate::Set,
        };
        let change = Change { operate, wishes: self.wishes(message, operate) };
        self.record.changes.push((message, change.clone(), None));
        let changed = self.caller.change(GROUP, message, &change)?;
        let known = &mut self.sets[usize::try_from(message - 1).unwrap()].entries;
        for (_, pair) in &changed.items {
            known.insert(pair.key.clone(), (pair.value.clone(), pair.seq));
        }
        self.record.changes.last_mut().unwrap().2 = Some(changed);
        Ok(())
    }

    /// 1 to 20 pairs. A member mostly claims what it saw last.
    fn wishes(&mut self, message: u64, operate: Operate) -> Vec<Wish> {
        if operate == Operate::Clear {
            return Vec::new();
        }
        let first = self.rng.random_range(0..OWN_KEYS);
        let count = if self.rng.random_bool(0.3) { 1 } else { self.rng.random_range(2..=19) };
        let mut keys: Vec<_> =
            (first..first + count).map(|key| format!("{}-{}", self.number, key % OWN_KEYS)).collect();
        if self.rng.random_bool(0.3) {
            keys.insert(self.rng.random_range(0..=keys.len()), SHARED.to_owned());
        }
        let known = &self.sets[usize::try_from(message - 1).unwrap()].entries;
        let wishes = keys.into_iter().map(|key| {
            let seen = known.get(&key).map_or(0, |(_, seq)| *seq);
            let claim = if self.rng.random_bool(0.05) { self.rng.random_range(0..=seen + 1) } else { seen };
            let value = match operate {
                Operate::Set => format!("{}.{}", self.tag, self.count),
                Operate::Delete | Operate::Clear => String::new(),
            };
            Wish { key, value, claim: (!is_administrator(self.number)).then_some(claim) }
        });
        wishes.collect()
    }

    fn send(&mut self) -> Result<(), ureq::Error> {
        let text = format!("{}.{}", self.tag, self.count);
        let body = json!({
            "GroupId": GROUP, "From_Account": user_of(self.number), "Random": self.rng.random::<u32>(),
            "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": text}}],
        });
        self.record.sent.push(Sending { text, number: None });
        let answer = self.sender.call("group_open_http_svc/send_group_msg", &body.to_string())?;
        assert_eq!(answer["ErrorCode"], 0, "{answer}");
        self.record.sent.last_mut().unwrap().number = answer["MsgSeq"].as_u64();
        Ok(())
    }
}

/// Whether a pair is one that no client but its owner writes.
pub(crate) fn is_own(key: &str) -> bool {
    key != SHARED
}
