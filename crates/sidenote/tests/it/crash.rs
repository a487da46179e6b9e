//! What was answered survives the death of the process, and what was not is there wholly or not at all.
//!
//! The moments and the load come from a seed, which a failing test prints; `CRASH_SEED=<number>` tries it again.
//! Threads and disks have a mind of their own, so the same seed need not fail twice.

mod load;
mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::caller::{Caller, Operate};
use crate::server::{ADMINISTRATOR, APP, ConfigOptions, Running};
use load::{Bell, CLIENTS, GROUP, MESSAGES, Record, Sending};
use model::{Asked, Set};

/// How often the server is killed under load.
const ROUNDS: usize = 20;

/// A server under load, and what it must hold.
struct World {
    server: Running,
    rng: StdRng,
    /// The pairs of each message after the last look at them.
    sets: Vec<Set>,
    /// The texts of all messages, by their numbers.
    messages: BTreeMap<u64, String>,
    rounds: usize,
}

impl World {
    fn new() -> Self {
        let seed = match std::env::var_os("CRASH_SEED") {
            Some(text) => text.to_str().unwrap().parse().expect("CRASH_SEED is a number"),
            None => rand::random(),
        };
        println!("CRASH_SEED={seed}");
        let limits = "attempts_per_minute = 0".to_owned();
        let server = Running::start(&ConfigOptions { limits, ..ConfigOptions::default() });
        let mut world = Self {
            server,
            rng: StdRng::seed_from_u64(seed),
            sets: vec![Set::default(); usize::try_from(MESSAGES).unwrap()],
            messages: BTreeMap::new(),
            rounds: 0,
        };
        world.furnish();
        world
    }

    /// Accounts, the group, and the messages that may carry pairs.
    fn furnish(&mut self) {
        let administrator = self.administrator();
        let users: BTreeSet<_> =
            (0..CLIENTS).map(load::user_of).filter(|user| user != ADMINISTRATOR).collect();
        let accounts = json!({"Accounts": &users}).to_string();
        administrator.ok("im_open_login_svc/multiaccount_import", &accounts);
        let members: Vec<_> = users.iter().map(|user| json!({"Member_Account": user})).collect();
        let group = json!({"GroupId": GROUP, "Type": "Public", "Name": "poll", "MemberList": members});
        administrator.ok("group_open_http_svc/create_group", &group.to_string());
        for number in 1..=MESSAGES {
            self.messages.insert(number, format!("question {number}"));
            assert_eq!(send(&administrator, &self.messages[&number]), number);
        }
    }

    fn administrator(&self) -> Caller {
        Caller::new(self.server.address, APP, ADMINISTRATOR)
    }

    /// Lets all clients write, sends a signal after so many acknowledgements, and waits until all have lost their
    /// connection.
    fn load(&mut self, acknowledgements: usize, signal: Signal) -> Vec<Record> {
        self.rounds += 1;
        let tag = format!("r{}", self.rounds);
        let (bell, ring) = Bell::after(acknowledgements);
        let seeds: [u64; CLIENTS] = self.rng.random();
        let (address, sets) = (self.server.address, &self.sets);
        let records = thread::scope(|scope| {
            let clients: Vec<_> = seeds
                .into_iter()
                .enumerate()
                .map(|(number, seed)| {
                    let (tag, bell) = (&tag, &bell);
                    scope.spawn(move || load::run(number, address, sets, (seed, tag), bell))
                })
                .collect();
            ring.recv().unwrap();
            self.server.signal(signal);
            clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
        });
        let slow = records.iter().filter(|record| matches!(record.end, Some(ureq::Error::Timeout(_))));
        assert_eq!(slow.count(), 0, "a request got neither an answer nor the end of its connection");
        records
    }

    /// Compares what the server holds with what the clients know, and keeps it for the next round. `unanswered`
    /// says whether requests without an answer may have had an effect.
    fn verify(&mut self, records: Vec<Record>, unanswered: bool) {
        let administrator = self.administrator();
        let mut asked: Vec<Asked> = (0..MESSAGES).map(|_| Asked::default()).collect();
        let mut sent = Vec::new();
        for record in records {
            for (message, change, changed) in record.changes {
                let asked = &mut asked[usize::try_from(message - 1).unwrap()];
                match changed {
                    Some(changed) => asked.answered.push((change, changed)),
                    None if unanswered => asked.in_flight.push(change),
                    None => {}
                }
            }
            sent.extend(record.sent.into_iter().filter(|sending| unanswered || sending.number.is_some()));
        }
        for ((message, asked), before) in (1..).zip(asked).zip(&mut self.sets) {
            let after = Set::observe(&administrator, GROUP, message);
            no_half_request(&asked, &after);
            if let Err(objection) = asked.explain(before, &after) {
                panic!("round {}, message {message}: {objection}", self.rounds);
            }
            *before = after;
        }
        self.verify_messages(&administrator, sent);
    }

    /// New messages have the next numbers without a gap; all that were acknowledged have theirs.
    fn verify_messages(&mut self, administrator: &Caller, sent: Vec<Sending>) {
        let newest = *self.messages.last_key_value().unwrap().0;
        let found = history(administrator, newest);
        let (mut told, mut in_flight) = (BTreeSet::new(), BTreeSet::new());
        for Sending { text, number } in sent {
            match number {
                Some(number) => {
                    assert_eq!(found.get(&number), Some(&text), "round {}", self.rounds);
                    assert!(told.insert(number), "{number} was told twice");
                }
                None => assert!(in_flight.insert(text)),
            }
        }
        let expected: Vec<u64> = (newest + 1..).take(found.len()).collect();
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), expected, "round {}", self.rounds);
        // All others are messages that were in flight, each at most once.
        let others = found.iter().filter(|(number, _)| !told.contains(*number));
        let strange: Vec<_> = others.filter(|(_, text)| !in_flight.remove(*text)).collect();
        assert_eq!(strange, [], "round {}", self.rounds);
        self.messages.extend(found);
    }

    /// Looks at everything once more, the oldest messages included.
    fn verify_all(&mut self) {
        let administrator = self.administrator();
        self.verify(Vec::new(), false);
        assert_eq!(history(&administrator, 0), self.messages);
        let next = self.messages.last_key_value().unwrap().0 + 1;
        assert_eq!(send(&administrator, "the end"), next);
    }
}

/// Sends a message that may carry pairs; its number.
fn send(administrator: &Caller, text: &str) -> u64 {
    let message = json!({
        "GroupId": GROUP, "Random": rand::random::<u32>(), "SupportMessageExtension": 1,
        "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": text}}],
    });
    let answer = administrator.ok("group_open_http_svc/send_group_msg", &message.to_string());
    answer["MsgSeq"].as_u64().unwrap()
}

/// The texts of all messages above a number.
fn history(administrator: &Caller, above: u64) -> BTreeMap<u64, String> {
    let mut found = BTreeMap::new();
    let mut up_to = Value::Null;
    loop {
        let mut ask = json!({"GroupId": GROUP, "ReqMsgNumber": 20});
        if !up_to.is_null() {
            ask["ReqMsgSeq"] = up_to;
        }
        let answer = administrator.ok("group_open_http_svc/group_msg_get_simple", &ask.to_string());
        let list = answer["RspMsgList"].as_array().unwrap();
        for message in list {
            let number = message["MsgSeq"].as_u64().unwrap();
            let text = message["MsgBody"][0]["MsgContent"]["Text"].as_str().unwrap().to_owned();
            if number > above {
                assert!(found.insert(number, text).is_none(), "{number} came twice");
            }
        }
        let lowest = list.last().map_or(0, |message| message["MsgSeq"].as_u64().unwrap());
        if lowest <= above + 1 {
            return found;
        }
        up_to = json!(lowest - 1);
    }
}

/// Of the pairs that a request in flight set, those that nobody but its client writes are all there, with one
/// number, or none is. (An administrator's: a member's pairs are judged one by one.)
fn no_half_request(asked: &Asked, after: &Set) {
    for change in &asked.in_flight {
        let own: Vec<_> = change.wishes.iter().filter(|wish| load::is_own(&wish.key)).collect();
        if change.operate != Operate::Set || own.is_empty() || own[0].claim.is_some() {
            continue;
        }
        let found: Vec<u64> = own
            .iter()
            .filter_map(|wish| after.entries.get(&wish.key).filter(|(value, _)| *value == wish.value))
            .map(|(_, seq)| *seq)
            .collect();
        let numbers: BTreeSet<_> = found.iter().collect();
        assert!(found.is_empty() || found.len() == own.len(), "half of a request: {change:?}, {found:?}");
        assert!(numbers.len() <= 1, "one request has several numbers: {change:?}, {found:?}");
    }
}

#[test]
fn what_was_answered_survives_kill_9_under_load() {
    let mut world = World::new();
    for _ in 0..ROUNDS {
        let acknowledgements = world.rng.random_range(1..250);
        let records = world.load(acknowledgements, Signal::KILL);
        world.server.wait();
        world.server.restart();
        world.verify(records, true);
    }
    world.verify_all();
}

#[test]
fn what_was_answered_survives_kill_9_during_start() {
    let mut world = World::new();
    let records = world.load(100, Signal::KILL);
    world.server.wait();
    for _ in 0..8 {
        let pause = world.rng.random_range(0..200_000);
        world.server.start_and_kill(|| (0..pause).for_each(|_| thread::yield_now()));
    }
    world.server.restart();
    world.verify(records, true);
    world.verify_all();
}

#[test]
fn a_first_start_that_was_killed_is_no_obstacle_to_the_next() {
    let mut world = World::new();
    assert!(world.server.terminate().success());
    for _ in 0..6 {
        std::fs::remove_dir_all(world.server.data()).or_else(if_it_was_there).unwrap();
        let pause = world.rng.random_range(0..200_000);
        world.server.start_and_kill(|| (0..pause).for_each(|_| thread::yield_now()));
        world.server.restart();
        world.sets.fill(Set::default());
        world.messages.clear();
        world.furnish();
        world.verify_all();
        assert!(world.server.terminate().success());
    }
}

/// The server may have been killed before it made its folder.
fn if_it_was_there(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[test]
fn sigterm_under_load_answers_what_it_does_and_does_what_it_answers() {
    let mut world = World::new();
    for _ in 0..3 {
        let acknowledgements = world.rng.random_range(50..250);
        let records = world.load(acknowledgements, Signal::TERM);
        assert!(world.server.wait().success(), "{}", world.server.log());
        world.server.restart();
        world.verify(records, false);
    }
    world.verify_all();
}
