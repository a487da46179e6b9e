//! Clients that write whatever comes to their minds until the connection breaks.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use crate::caller::{Caller, Change, Changed, Operate, Page, Pair, Unanswered, Wish};
use crate::model::Set;
use crate::server::{ADMINISTRATOR, APP};

/// The group that everything happens in.
pub(super) const GROUP: &str = "poll";

/// Messages that may carry pairs. They are the first of the group.
pub(super) const MESSAGES: u64 = 3;

/// Clients; every third is an administrator, the others are members of their own.
pub(super) const CLIENTS: usize = 6;

/// Keys that a client has for itself. All of them together stay below the limit of a message.
const OWN_KEYS: usize = 40;

/// What long values end with.
const FILLER: &str = "-";

/// The key that everybody writes.
const SHARED: &str = "shared";

/// The user that a client signs as.
pub(super) fn user_of(client: usize) -> String {
    if is_administrator(client) { ADMINISTRATOR.to_owned() } else { format!("member{client}") }
}

/// An account that one client alone adds to the group and takes out again.
pub(super) fn guest_of(client: usize) -> String {
    format!("guest{client}")
}

fn is_administrator(client: usize) -> bool {
    client.is_multiple_of(3)
}

/// A text message; its text, which says who sent it, is unlike all others.
pub(super) struct Sending {
    pub(super) text: String,
    /// The number that the sender was told, if it was.
    pub(super) number: Option<u64>,
}

/// All that a client asked for.
#[derive(Default)]
pub(super) struct Record {
    /// Message, request and answer, if there was one. Only the last can be without.
    pub(super) changes: Vec<(u64, Change, Option<Changed>)>,
    /// Message, StartSeq and what was read.
    pub(super) pulls: Vec<(u64, u64, Page)>,
    pub(super) sent: Vec<Sending>,
    /// Whether its guest was to be in the group afterwards, and whether that was answered.
    pub(super) guests: Vec<(bool, bool)>,
    /// Why it stopped.
    pub(super) end: Option<Unanswered>,
}

/// Counts acknowledgements of all clients and rings when there are as many as were agreed.
pub(super) struct Bell {
    left: AtomicUsize,
    ring: SyncSender<()>,
}

impl Bell {
    pub(super) fn after(acknowledgements: usize) -> (Self, Receiver<()>) {
        let (ring, heard) = sync_channel(1);
        (Self { left: AtomicUsize::new(acknowledgements), ring }, heard)
    }

    fn count(&self) {
        // It goes on below zero, by wrapping around, and is never at 1 again.
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Nobody listens any more where the server died before its time.
            let _ = self.ring.send(());
        }
    }
}

/// What a client is given for one round.
pub(super) struct Task<'a> {
    pub(super) number: usize,
    pub(super) server: SocketAddr,
    /// The pairs of the messages when it begins.
    pub(super) sets: &'a [Set],
    /// Whether its guest is in the group when it begins.
    pub(super) guest: bool,
    pub(super) seed: u64,
    /// Stands in all that it writes.
    pub(super) tag: &'a str,
}

/// Writes until the connection breaks.
pub(super) fn run(task: &Task<'_>, bell: &Bell) -> Record {
    let mut client = Client {
        number: task.number,
        caller: Caller::new(task.server, APP, &user_of(task.number)),
        administrator: Caller::new(task.server, APP, ADMINISTRATOR),
        rng: StdRng::seed_from_u64(task.seed),
        sets: task.sets.to_vec(),
        guest: task.guest,
        record: Record::default(),
        tag: format!("{}.{}", task.tag, task.number),
        count: 0,
    };
    loop {
        match client.step() {
            Ok(()) => bell.count(),
            Err(end) => {
                client.record.end = Some(end);
                return client.record;
            }
        }
    }
}

struct Client {
    number: usize,
    caller: Caller,
    /// Only an administrator may send messages and change members over HTTP, in the name of others.
    administrator: Caller,
    rng: StdRng,
    /// The messages as far as this client knows them, which need not be how they are.
    sets: Vec<Set>,
    guest: bool,
    record: Record,
    tag: String,
    count: usize,
}

impl Client {
    fn step(&mut self) -> Result<(), Unanswered> {
        self.count += 1;
        let message = self.rng.random_range(1..=MESSAGES);
        match self.rng.random_range(0..100) {
            0..10 => self.send(),
            10..13 => self.invite_or_remove(),
            13..23 => self.pull(message),
            23..26 => self.change(message, Operate::Clear),
            26..44 => self.change(message, Operate::Delete),
            _ => self.change(message, Operate::Set),
        }
    }

    fn change(&mut self, message: u64, operate: Operate) -> Result<(), Unanswered> {
        let change = Change { operate, wishes: self.wishes(message, operate) };
        self.record.changes.push((message, folded_change(&change), None));
        let changed = self.caller.change(GROUP, message, &change)?;
        let items = changed.items.into_iter().map(|(code, pair)| (code, folded_pair(pair)));
        let changed = Changed { seq: changed.seq, items: items.collect() };
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
        // Long ones, with the events that repeat them, bring the engine to flush and to compact within few rounds.
        let filler = if self.rng.random_bool(0.3) { self.rng.random_range(0..16_000) } else { 0 };
        let known = &self.sets[usize::try_from(message - 1).unwrap()].entries;
        let wishes = keys.into_iter().map(|key| {
            let seen = known.get(&key).map_or(0, |(_, seq)| *seq);
            let claim = if self.rng.random_bool(0.05) { self.rng.random_range(0..=seen + 1) } else { seen };
            let value = match operate {
                Operate::Set => format!("{}.{}{}", self.tag, self.count, FILLER.repeat(filler)),
                Operate::Delete | Operate::Clear => String::new(),
            };
            Wish { key, value, claim: (!is_administrator(self.number)).then_some(claim) }
        });
        wishes.collect()
    }

    fn pull(&mut self, message: u64) -> Result<(), Unanswered> {
        let latest = self.sets[usize::try_from(message - 1).unwrap()].latest;
        let start = if self.rng.random_bool(0.3) { 0 } else { self.rng.random_range(0..=latest + 1) };
        let page = self.caller.try_page(GROUP, message, start)?;
        let page = Page { pairs: page.pairs.into_iter().map(folded_pair).collect(), ..page };
        self.record.pulls.push((message, start, page));
        Ok(())
    }

    fn send(&mut self) -> Result<(), Unanswered> {
        let text = format!("{}.{}", self.tag, self.count);
        let body = json!({
            "GroupId": GROUP, "From_Account": user_of(self.number), "Random": self.rng.random::<u32>(),
            "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": text}}],
        });
        self.record.sent.push(Sending { text, number: None });
        let answer = self.administrator.attempt("group_open_http_svc/send_group_msg", &body.to_string())?;
        self.record.sent.last_mut().unwrap().number = answer["MsgSeq"].as_u64();
        Ok(())
    }

    fn invite_or_remove(&mut self) -> Result<(), Unanswered> {
        let guest = guest_of(self.number);
        let wanted = !self.guest;
        self.record.guests.push((wanted, false));
        if wanted {
            let body = json!({"GroupId": GROUP, "MemberList": [{"Member_Account": guest}]});
            self.administrator.attempt("group_open_http_svc/add_group_member", &body.to_string())?;
        } else {
            let body = json!({"GroupId": GROUP, "MemberToDel_Account": [guest]});
            self.administrator.attempt("group_open_http_svc/delete_group_member", &body.to_string())?;
        }
        self.record.guests.last_mut().unwrap().1 = true;
        self.guest = wanted;
        Ok(())
    }
}

/// Whether a pair is one that no client but its owner writes.
pub(super) fn is_own(key: &str) -> bool {
    key != SHARED
}

/// A value with the length of its filler in the filler's place. A record holds thousands of them.
pub(super) fn folded(value: &str) -> String {
    let stem = value.trim_end_matches(FILLER);
    match value.len() - stem.len() {
        0 => value.to_owned(),
        length => format!("{stem}~{length}"),
    }
}

fn folded_pair(pair: Pair) -> Pair {
    Pair { value: folded(&pair.value), ..pair }
}

fn folded_change(change: &Change) -> Change {
    let fold = |wish: &Wish| Wish { value: folded(&wish.value), ..wish.clone() };
    Change { operate: change.operate, wishes: change.wishes.iter().map(fold).collect() }
}
