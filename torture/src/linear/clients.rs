//! Members who contend for a few keys, and the record of what they asked and were answered.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::specification::{Answer, Question, What};
use super::{CLIENTS, GROUP, MESSAGES};
use crate::caller::{Caller, Change, Operate, Unanswered, Wish};
use crate::model::Set;
use crate::server::APP;

/// Requests of one client in one history. The checker's time grows with them.
pub(super) const REQUESTS: usize = 12;

/// Keys that everybody writes.
const KEYS: &[&str] = &["a", "b", "c", "d"];

/// Something that happened at a client. In the record their order is that of real time.
#[derive(Debug)]
pub(super) enum Moment {
    /// It was about to send a request.
    Asked { client: usize, message: u64, question: Question },
    /// It had received the answer.
    Answered { client: usize, message: u64, answer: Answer },
}

impl Moment {
    pub(super) const fn message(&self) -> u64 {
        match self {
            Self::Asked { message, .. } | Self::Answered { message, .. } => *message,
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked { client, question, .. } => write!(f, "{client:2} asks {:?}", question.what),
            Self::Answered { client, answer, .. } => write!(f, "{client:2} is answered {answer:?}"),
        }
    }
}

pub(super) fn user_of(client: usize) -> String {
    format!("member{client}")
}

/// See [`record`](super::record). Clients are spread over the servers.
pub(super) fn contend(
    servers: &[SocketAddr],
    before: &[Set],
    seed: u64,
    answers: usize,
    crash: impl FnOnce(),
) -> Vec<Moment> {
    let record = Mutex::new(Vec::new());
    let (answered, ring) = sync_channel(CLIENTS * REQUESTS);
    thread::scope(|scope| {
        let mut seeds = StdRng::seed_from_u64(seed);
        for number in 0..CLIENTS {
            let (record, answered, seed) = (&record, answered.clone(), seeds.random());
            let caller = Caller::new(servers[number % servers.len()], APP, &user_of(number));
            let mut client = Client {
                number,
                caller,
                rng: StdRng::seed_from_u64(seed),
                seen: seqs(before),
                tag: format!("{:04x}.{number}", seed & 0xffff),
                record,
            };
            scope.spawn(move || client.run(&answered));
        }
        drop(answered);
        // Fewer come if all clients are through before.
        let _ = ring.iter().take(answers).count();
        crash();
    });
    record.into_inner().unwrap()
}

struct Client<'a> {
    number: usize,
    caller: Caller,
    rng: StdRng,
    /// The Seq of each key of each message as this client knows it, which need not be what it is.
    seen: BTreeMap<(u64, String), u64>,
    tag: String,
    record: &'a Mutex<Vec<Moment>>,
}

impl Client<'_> {
    fn run(&mut self, answered: &SyncSender<()>) {
        for count in 0..REQUESTS {
            if self.step(count).is_err() {
                return;
            }
            // Nobody listens any more after the crash was ordered.
            let _ = answered.send(());
        }
    }

    fn step(&mut self, count: usize) -> Result<(), Unanswered> {
        let message = self.rng.random_range(1..=MESSAGES);
        let what = match self.rng.random_range(0..100) {
            0..35 => What::Pull(if self.rng.random_bool(0.5) { 0 } else { self.rng.random_range(1..20) }),
            35..40 => What::Change(Change { operate: Operate::Clear, wishes: Vec::new() }),
            40..60 => self.change(message, Operate::Delete, count),
            _ => self.change(message, Operate::Set, count),
        };
        let client = self.number;
        self.tell(|place| {
            let question = Question { place, what: what.clone() };
            Moment::Asked { client, message, question }
        });
        let answer = match what {
            What::Change(change) => Answer::Changed(self.caller.change(GROUP, message, &change)?),
            What::Pull(start) => Answer::Pulled(self.caller.try_page(GROUP, message, start)?),
            What::Observe => unreachable!("a client does not observe"),
        };
        let pairs: Vec<_> = match &answer {
            Answer::Changed(changed) => changed.items.iter().map(|(_, pair)| pair).collect(),
            Answer::Pulled(page) => page.pairs.iter().collect(),
            Answer::Observed(_) | Answer::None => Vec::new(),
        };
        self.seen.extend(pairs.into_iter().map(|pair| ((message, pair.key.clone()), pair.seq)));
        self.tell(|_| Moment::Answered { client, message, answer });
        Ok(())
    }

    /// One or two keys, mostly with the Seq that this client saw last.
    fn change(&mut self, message: u64, operate: Operate, count: usize) -> What {
        let first = self.rng.random_range(0..KEYS.len());
        let wishes = (first..first + self.rng.random_range(1..=2)).map(|key| {
            let key = KEYS[key % KEYS.len()].to_owned();
            let seen = self.seen.get(&(message, key.clone())).copied().unwrap_or(0);
            let claim = if self.rng.random_bool(0.1) { self.rng.random_range(0..=seen + 1) } else { seen };
            let value = if operate == Operate::Set { format!("{}.{count}", self.tag) } else { String::new() };
            Wish { key, value, claim: Some(claim) }
        });
        What::Change(Change { operate, wishes: wishes.collect() })
    }

    /// Adds to the record what has a place in it.
    fn tell(&self, moment: impl FnOnce(usize) -> Moment) {
        let mut record = self.record.lock().unwrap();
        let place = record.len();
        record.push(moment(place));
    }
}

fn seqs(sets: &[Set]) -> BTreeMap<(u64, String), u64> {
    let entries = (1..).zip(sets).flat_map(|(message, set)| {
        set.entries.iter().map(move |(key, (_, seq))| ((message, key.clone()), *seq))
    });
    entries.collect()
}
