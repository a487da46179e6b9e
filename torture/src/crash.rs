//! What was answered survives the death of the process, and what was not is there wholly or not at all.
//!
//! A [`run`] is the life of one data folder: rounds of load, each ended by a failure and a start, each followed by
//! a comparison of what the server holds with what its clients know. One seed decides load, failures and moments.
//! Threads and disks have a mind of their own, so the same seed need not fail twice.

mod load;
mod replay;

mod journal;
mod moment;

mod events;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::thread;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::caller::{Caller, Operate, Unanswered};
use crate::model::{Limits, Set};
use crate::power::Power;
use crate::server::{ADMINISTRATOR, APP, ConfigOptions, Running};
use load::{Bell, CLIENTS, GROUP, MESSAGES, Record, Sending, Task};
use moment::{Moment, Watch};
use replay::Asked;

/// Limits of rule 3.7, low enough that a round meets them.
const LIMITS: Limits = Limits { tombstones: 25, page: 20 };

/// What a run does.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Decides everything that the run may choose.
    pub seed: u64,
    /// Rounds of load and failure.
    pub rounds: usize,
    /// Whether failures take the power too, on a disk that forgets what was not synced.
    pub power: bool,
}

/// What a run has seen. A tool that reports zeros has tested nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Rounds.
    pub rounds: usize,
    /// Requests that were answered.
    pub answered: usize,
    /// Requests that were under way when the server died.
    pub open: usize,
    /// Tables that the engine wrote under load, in flushes and compactions.
    pub tables: usize,
    /// Starts that were refused because acknowledged bytes had been damaged on purpose.
    pub refused: usize,
    /// Writes and names that were lost with the power.
    pub lost: usize,
    /// Events that were replayed in the end.
    pub events: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, answered, open, tables, refused, lost, events } = self;
        write!(
            f,
            "{rounds} rounds, {answered} answers, {open} requests without one, {tables} tables written, \
             {refused} damaged journals refused, {lost} writes and names lost with the power, {events} events"
        )
    }
}

/// Runs the rounds of a plan, telling of each, and panics at the first thing that is not as it must be. The data
/// folder is then kept, and its name is printed.
pub fn run(plan: Plan, tell: &mut dyn FnMut(&str)) -> Tally {
    let mut world = World::new(plan.seed, plan.power);
    for round in 1..=plan.rounds {
        let told = world.round();
        tell(&format!("round {round} of {}: {told}", plan.rounds));
    }
    world.end();
    world.tally.lost = world.power.as_ref().map_or(0, |power| power.lost.writes + power.lost.names);
    tell(&format!("{} events lead to what is stored", world.tally.events));
    world.tally
}

/// Kills a server again and again while it makes its folder for the first time.
pub fn first_starts(seed: u64, starts: usize) {
    let mut world = World::new(seed, false);
    assert!(world.server.terminate().success());
    for _ in 0..starts {
        std::fs::remove_dir_all(world.server.data()).or_else(if_it_was_there).unwrap();
        world.start_and_kill();
        world.server.restart();
        world.sets.fill(Set::default());
        world.messages.clear();
        world.guests = [false; CLIENTS];
        world.furnish();
        world.verify_all();
        assert!(world.server.terminate().success());
    }
}

/// The server may have been killed before it made its folder.
fn if_it_was_there(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// A server under load, and what it must hold.
struct World {
    server: Running,
    rng: StdRng,
    /// The pairs of each message after the last look at them.
    sets: Vec<Set>,
    /// The texts of all messages, by their numbers.
    messages: BTreeMap<u64, String>,
    /// Whether each client's guest is in the group.
    guests: [bool; CLIENTS],
    tally: Tally,
    /// A disk that can lose power.
    power: Option<Power>,
    /// Whether a start that should have been refused was not.
    is_running: bool,
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the data is kept in {}", self.server.keep_folder().display());
        }
    }
}

impl World {
    fn new(seed: u64, power: bool) -> Self {
        let Limits { tombstones, page } = LIMITS;
        let limits = format!(
            "attempts_per_minute = 0\nvalue_bytes = 16384\n\
             tombstones_per_message = {tombstones}\npairs_per_pull = {page}\npairs_per_request = {page}"
        );
        let more = "[events]\nkeep_per_conversation = 10000000".to_owned();
        let mut world = Self {
            server: Running::start(&ConfigOptions { limits, more, ..ConfigOptions::default() }),
            rng: StdRng::seed_from_u64(seed),
            sets: vec![Set::default(); usize::try_from(MESSAGES).unwrap()],
            messages: BTreeMap::new(),
            guests: [false; CLIENTS],
            tally: Tally::default(),
            power: None,
            is_running: false,
        };
        world.power = power.then(|| Power::begin(&mut world.server));
        world.furnish();
        world
    }

    /// Accounts, the group, and the messages that may carry pairs.
    fn furnish(&mut self) {
        let administrator = self.administrator();
        let users = (0..CLIENTS).map(load::user_of).filter(|user| user != ADMINISTRATOR);
        let users: BTreeSet<_> = users.collect();
        let accounts: Vec<_> = users.iter().cloned().chain((0..CLIENTS).map(load::guest_of)).collect();
        let accounts = json!({"Accounts": accounts}).to_string();
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

    /// One round; says what happened in it.
    fn round(&mut self) -> String {
        self.tally.rounds += 1;
        let mut moment = Moment::choose(&mut self.rng);
        if let Some(power) = &mut self.power
            && moment.signal == Signal::KILL
        {
            moment.point = Some(power.arm(&mut self.rng));
        }
        let records = self.load(&moment);
        let exit = self.server.wait();
        let graceful = moment.signal == Signal::TERM;
        assert!(!graceful || exit.success(), "{}", self.server.log());
        let lost = self.lose_power(&moment);
        for _ in 0..moment.starts_killed {
            self.start_and_kill();
        }
        let damage = if graceful || self.power.is_some() { lost } else { self.damage() };
        if !self.is_running {
            self.server.restart();
        }
        self.is_running = false;
        let (answered, open) = self.verify(records, !graceful);
        self.tally.answered += answered;
        self.tally.open += open;
        format!("{moment}{damage}; {answered} answers and {open} open requests are explained")
    }

    /// Lets all clients write until the moment has come, and waits until all have lost their connection.
    fn load(&mut self, moment: &Moment) -> Vec<Record> {
        let tag = format!("r{}", self.tally.rounds);
        let (bell, ring) = Bell::after(moment.acknowledgements);
        let seeds: [u64; CLIENTS] = self.rng.random();
        let watch = Watch::begin(&self.server.data());
        let (server, sets, guests) = (self.server.address, &self.sets, &self.guests);
        let records = thread::scope(|scope| {
            let clients: Vec<_> = seeds
                .into_iter()
                .enumerate()
                .map(|(number, seed)| {
                    let (tag, bell) = (&tag, &bell);
                    let task = Task { number, server, sets, guest: guests[number], seed, tag };
                    scope.spawn(move || load::run(&task, bell))
                })
                .collect();
            let struck = || self.power.as_ref().is_some_and(Power::has_struck);
            moment.wait(&ring, &watch, struck);
            self.server.signal(moment.signal);
            clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
        });
        self.tally.tables += watch.new_tables();
        for end in records.iter().filter_map(|record| record.end.as_ref()) {
            let slow = matches!(end, Unanswered::Broken(ureq::Error::Timeout(_)));
            assert!(!slow, "a request got neither an answer nor the end of its connection");
            assert!(!matches!(end, Unanswered::Internal(_)), "{end:?}:\n{}", self.server.log());
        }
        records
    }

    /// Takes the power from the server that has just died, and then within some starts.
    fn lose_power(&mut self, moment: &Moment) -> String {
        let Some(power) = &mut self.power else { return String::new() };
        power.disarm();
        let mut told = vec![String::new(), power.lose(&mut self.rng)];
        for _ in 0..moment.starts_killed {
            let point = power.arm_start(&mut self.rng);
            self.server.start_and_die();
            power.disarm();
            told.push(format!("started and dead {point}, {}", power.lose(&mut self.rng)));
        }
        told.join(", ")
    }

    /// Starts the server and kills it at whatever it has come to.
    fn start_and_kill(&mut self) {
        let pause = self.rng.random_range(0..200_000);
        self.server.start_and_kill(|| (0..pause).for_each(|_| thread::yield_now()));
        if let Some(power) = &mut self.power {
            power.reconcile();
        }
    }

    /// Spoils the journals of the closed store: beyond the last acknowledged byte, which must do no harm, or
    /// before it, which must be refused, and is then undone.
    fn damage(&mut self) -> String {
        let chance = self.rng.random_range(0..10);
        let Some(tail) = journal::Tail::find(&self.server.data()) else { return String::new() };
        match chance {
            0..2 => format!(", {}", tail.truncate(&mut self.rng)),
            2..4 => format!(", {}", tail.scribble(&mut self.rng)),
            4..7 => {
                let (undo, told) = tail.damage_acknowledged(&mut self.rng);
                let Some(refusal) = self.server.refused() else {
                    // That batch was flushed into a table in the meantime, or the byte means nothing; whether
                    // anything is missing will show.
                    self.is_running = true;
                    return format!(", {told}: served");
                };
                assert!(refusal.contains("restore the folder from a copy"), "{told}: {refusal}");
                assert!(undo.is_untouched(), "{told}: the refused journal was changed");
                undo.put_back();
                self.tally.refused += 1;
                format!(", {told}: refused and undone")
            }
            _ => String::new(),
        }
    }

    /// Compares what the server holds with what the clients know, and keeps it for the next round. `unanswered`
    /// says whether requests without an answer may have had an effect. Counts answers and open requests.
    fn verify(&mut self, records: Vec<Record>, unanswered: bool) -> (usize, usize) {
        let administrator = self.administrator();
        let (mut answered, mut open) = (0, 0);
        let mut asked: Vec<Asked> = (0..MESSAGES).map(|_| Asked::default()).collect();
        let mut sent = Vec::new();
        let mut guests = Vec::new();
        for record in records {
            for (message, change, changed) in record.changes {
                let asked = &mut asked[usize::try_from(message - 1).unwrap()];
                match changed {
                    Some(changed) => asked.answered.push((change, changed)),
                    None if unanswered => asked.in_flight.push(change),
                    None => {}
                }
            }
            for (message, start, page) in record.pulls {
                asked[usize::try_from(message - 1).unwrap()].pulled.push((start, page));
            }
            sent.extend(record.sent.into_iter().filter(|sending| unanswered || sending.number.is_some()));
            guests.push(record.guests);
        }
        for ((message, asked), before) in (1..).zip(asked).zip(&mut self.sets) {
            answered += asked.answered.len() + asked.pulled.len();
            open += asked.in_flight.len();
            let mut after = Set::observe(&administrator, GROUP, message);
            after.entries.values_mut().for_each(|(value, _)| *value = load::folded(value));
            no_half_request(&asked, &after);
            if let Err(objection) = asked.explain(before, &after, LIMITS) {
                panic!("round {}, message {message}: {objection}", self.tally.rounds);
            }
            *before = after;
        }
        let told = sent.iter().filter(|sending| sending.number.is_some()).count();
        answered += told;
        open += sent.len() - told;
        self.verify_messages(&administrator, sent);
        self.verify_guests(&administrator, &guests, unanswered);
        (answered, open)
    }

    /// New messages have the next numbers without a gap; all that were acknowledged have theirs.
    fn verify_messages(&mut self, administrator: &Caller, sent: Vec<Sending>) {
        let round = self.tally.rounds;
        let newest = *self.messages.last_key_value().unwrap().0;
        let found = history(administrator, newest);
        let (mut told, mut in_flight) = (BTreeSet::new(), BTreeSet::new());
        for Sending { text, number } in sent {
            match number {
                Some(number) => {
                    assert_eq!(found.get(&number), Some(&text), "round {round}");
                    assert!(told.insert(number), "{number} was told twice");
                }
                None => assert!(in_flight.insert(text)),
            }
        }
        let expected: Vec<u64> = (newest + 1..).take(found.len()).collect();
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), expected, "round {round}");
        // All others are messages that were in flight, each at most once.
        let others = found.iter().filter(|(number, _)| !told.contains(*number));
        let strange: Vec<_> = others.filter(|(_, text)| !in_flight.remove(*text)).collect();
        assert_eq!(strange, [], "round {round}");
        self.messages.extend(found);
    }

    /// A guest is where the last answer left it; one whose last change was not answered may be in or out.
    fn verify_guests(&mut self, administrator: &Caller, asked: &[Vec<(bool, bool)>], unanswered: bool) {
        let found = members(administrator);
        for (client, place) in self.guests.iter_mut().enumerate() {
            let is_in = found.contains(&load::guest_of(client));
            for (wanted, was_answered) in asked.get(client).into_iter().flatten() {
                if *was_answered || (unanswered && *wanted == is_in) {
                    *place = *wanted;
                }
            }
            assert_eq!(*place, is_in, "round {}: the guest of client {client}", self.tally.rounds);
        }
    }

    /// Looks at everything once more, the oldest messages included.
    fn verify_all(&mut self) {
        let administrator = self.administrator();
        self.verify(Vec::new(), false);
        assert_eq!(history(&administrator, 0), self.messages);
        let next = self.messages.last_key_value().unwrap().0 + 1;
        assert_eq!(send(&administrator, "the end"), next);
        self.messages.insert(next, "the end".to_owned());
    }

    /// Looks at everything over HTTP, then kills the server and looks at the events in its folder.
    fn end(&mut self) {
        self.verify_all();
        self.server.kill9();
        let told = events::replay(&self.server.data());
        self.tally.events = told.count;
        for ((message, found), expected) in (1..).zip(&told.sets).zip(&self.sets) {
            assert_eq!(found, expected, "the events of message {message} do not lead to what is stored");
        }
        let messages: BTreeSet<_> = self.messages.keys().copied().collect();
        assert_eq!(told.messages, messages, "the events do not tell of each message once");
        let members: BTreeSet<_> = (0..CLIENTS).filter(|client| self.guests[*client]).collect();
        let told: BTreeSet<_> =
            (0..CLIENTS).filter(|client| told.members.contains(&load::guest_of(*client))).collect();
        assert_eq!(told, members, "the events of joining and leaving do not lead to who is a member");
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

/// All members of the group.
fn members(administrator: &Caller) -> BTreeSet<String> {
    let ask = json!({"GroupId": GROUP}).to_string();
    let answer = administrator.ok("group_open_http_svc/get_group_member_info", &ask);
    let list = answer["MemberList"].as_array().unwrap().iter();
    list.map(|member| member["Member_Account"].as_str().unwrap().to_owned()).collect()
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
        assert!(found.is_empty() || found.len() == own.len(), "half of a request: {change:?}, {found:?}");
        let compacted = found.iter().all(|seq| *seq > after.clear) && after.clear > 0;
        let numbers: BTreeSet<_> = found.iter().collect();
        assert!(numbers.len() <= 1 || compacted, "one request has several numbers: {change:?}, {found:?}");
    }
}
