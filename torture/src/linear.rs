//! Writes and reads of one message are linearizable: there is one order of all requests, which respects who waited
//! for whom, in which every answer is the one that the rules give.
//!
//! Sixteen members contend for a few keys of a few messages. All requests and answers are recorded in the order
//! in which they happened, and a checker from a crate of its own looks for that order. Messages are judged one by
//! one: what is linearizable for each message is so for all of them.
//!
//! A history ends at a crash. What had no answer by then is open: it happened at some time before the crash, or
//! never. After the restart everything is read once, nothing else being under way, and the next history begins
//! with that state. So histories are short, and nothing can cross a crash.

mod clients;
mod search;
mod specification;

pub mod neighbours;
pub mod nodes;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;
use serde_json::json;
use stateright::semantics::{ConsistencyTester as _, LinearizabilityTester};

use crate::caller::Caller;
use crate::model::{Limits, Set};
use crate::power::Power;
use crate::server::{ADMINISTRATOR, APP, ConfigOptions, Running};
use clients::Moment;
use search::{Verdict, search};
use specification::{Answer, Hints, Message, Question, What};

/// Members who write and read.
pub const CLIENTS: usize = 16;

/// Messages that they contend for.
pub const MESSAGES: u64 = 3;

/// The group that everything happens in.
const GROUP: &str = "poll";

/// Limits of rule 3.7, low enough that histories meet them.
const LIMITS: Limits = Limits { tombstones: 2, page: 20 };

/// Number of the one who reads everything after a crash.
const OBSERVER: usize = CLIENTS;

/// What a run does.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Decides everything that the run may choose.
    pub seed: u64,
    /// Histories, each ended by a crash.
    pub rounds: usize,
    /// Whether a crash takes the power too, on a disk that forgets what was not synced.
    pub power: bool,
}

/// What a run has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Histories.
    pub rounds: usize,
    /// Requests that were answered.
    pub answered: usize,
    /// Requests that were under way at a crash.
    pub open: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, answered, open } = self;
        write!(f, "{rounds} linearizable histories, {answered} answers, {open} requests without one")
    }
}

/// Everything that happened between two looks at the whole state, in order.
#[derive(Debug)]
pub struct History {
    moments: Vec<Moment>,
}

/// Kills the real server once in each round, judges the history before the kill, and panics if it is not
/// linearizable. The data folder is then kept, and its name is printed.
pub fn run(plan: Plan, tell: &mut dyn FnMut(&str)) -> Tally {
    let mut rng = StdRng::seed_from_u64(plan.seed);
    let mut server = Running::start(&options());
    let mut power = plan.power.then(|| Power::begin(&mut server));
    furnish(server.address);
    let (mut tally, mut before) = (Tally::default(), observe(server.address));
    for round in 1..=plan.rounds {
        let answers = rng.random_range(CLIENTS..CLIENTS * clients::REQUESTS);
        let history = record(server.address, &before, rng.random(), answers, || server.signal(Signal::KILL));
        server.wait();
        let lost = power.as_mut().map(|power| power.lose(&mut rng)).unwrap_or_default();
        server.restart();
        let after = observe(server.address);
        if let Err(objection) = history.judge(&before, &after) {
            let folder = server.keep_folder().display();
            panic!("round {round}, {lost}: {objection}\nthe data is kept in {folder}");
        }
        before = after;
        let (answered, open) = history.count();
        tell(&format!(
            "round {round} of {}: {answered} answers and {open} open requests are linearizable",
            plan.rounds
        ));
        tally.rounds += 1;
        tally.answered += answered;
        tally.open += open;
    }
    tally
}

/// What a server has to be configured with.
pub fn options() -> ConfigOptions {
    let Limits { tombstones, page } = LIMITS;
    let limits = format!(
        "attempts_per_minute = 0\ntombstones_per_message = {tombstones}\n\
         pairs_per_pull = {page}\npairs_per_request = {page}"
    );
    ConfigOptions { limits, ..ConfigOptions::default() }
}

/// Makes accounts, group and messages on a server that has none.
pub fn furnish(server: SocketAddr) {
    let administrator = Caller::new(server, APP, ADMINISTRATOR);
    let users: Vec<_> = (0..CLIENTS).map(clients::user_of).collect();
    administrator.ok("im_open_login_svc/multiaccount_import", &json!({"Accounts": users}).to_string());
    let members: Vec<_> = users.iter().map(|user| json!({"Member_Account": user})).collect();
    let group = json!({"GroupId": GROUP, "Type": "Public", "Name": "poll", "MemberList": members});
    administrator.ok("group_open_http_svc/create_group", &group.to_string());
    for number in 1..=MESSAGES {
        let message = json!({
            "GroupId": GROUP, "Random": number, "SupportMessageExtension": 1,
            "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "who comes?"}}],
        });
        let answer = administrator.ok("group_open_http_svc/send_group_msg", &message.to_string());
        assert_eq!(answer["MsgSeq"], number);
    }
}

/// The state of all messages, while nobody writes.
pub fn observe(server: SocketAddr) -> Vec<Set> {
    let administrator = Caller::new(server, APP, ADMINISTRATOR);
    (1..=MESSAGES).map(|message| Set::observe(&administrator, GROUP, message)).collect()
}

/// Lets all clients write and read, calls `crash` after so many answers, or when all are through, and waits until
/// all have stopped. `before` is the state when it begins.
pub fn record(
    server: SocketAddr,
    before: &[Set],
    seed: u64,
    answers: usize,
    crash: impl FnOnce(),
) -> History {
    History { moments: clients::contend(&[server], before, seed, answers, crash) }
}

impl History {
    /// Whether there is an order of requests that leads from `before` to `after`; an error says for which message
    /// there is none, with its history.
    pub fn judge(&self, before: &[Set], after: &[Set]) -> Result<(), String> {
        for (message, (before, after)) in (1..=MESSAGES).zip(before.iter().zip(after)) {
            let (hints, open) = self.read(message, after.latest);
            let model = Message::new(before.clone(), LIMITS, hints);
            let steps = model.steps();
            let mut tester = LinearizabilityTester::new(model);
            for moment in self.moments.iter().filter(|moment| moment.message() == message) {
                match moment {
                    Moment::Asked { client, question, .. } => tester.on_invoke(*client, question.clone()),
                    Moment::Answered { client, answer, .. } => tester.on_return(*client, answer.clone()),
                }
                .expect("each client waits for its answer");
            }
            // The crash is an answer of a kind: what has not happened by then never will.
            for client in open {
                tester.on_return(client, Answer::None).expect("it was not answered");
            }
            let everything = Question { place: self.moments.len(), what: What::Observe };
            let seen = Answer::Observed(after.clone());
            tester.on_invret(OBSERVER, everything, seen).expect("the observer asks once");
            let verdict = match tester.is_consistent() {
                true => Verdict::Linearizable,
                false if specification::are_used_up(&steps) => {
                    let moments = self.moments.iter().filter(|moment| moment.message() == message);
                    search(moments, before, after, LIMITS)
                }
                false => Verdict::NotLinearizable,
            };
            let verdict = match verdict {
                Verdict::Linearizable => None,
                Verdict::NotLinearizable => Some("is not linearizable"),
                Verdict::Undecided => Some("could not be decided"),
            };
            if let Some(verdict) = verdict {
                return Err(format!(
                    "the history of message {message} {verdict}.\nBefore: {before:?}\nAfter: {after:?}\n{}",
                    self.of(message)
                ));
            }
        }
        Ok(())
    }

    /// Requests that were answered, and those that were not.
    pub fn count(&self) -> (usize, usize) {
        let answered = |moment: &&Moment| matches!(moment, Moment::Answered { .. });
        let answered = self.moments.iter().filter(answered).count();
        (answered, self.moments.len() - 2 * answered)
    }

    /// What the answers tell of a message whose LatestSeq is `last` in the end, and whose requests are open.
    fn read(&self, message: u64, last: u64) -> (Hints, Vec<usize>) {
        let (mut hints, mut open) = (Hints::until(last), BTreeMap::new());
        for moment in self.moments.iter().filter(|moment| moment.message() == message) {
            match moment {
                Moment::Asked { client, question, .. } => drop(open.insert(*client, question)),
                Moment::Answered { client, answer, .. } => {
                    hints.note(open.remove(client).expect("each answer has its request"), answer);
                }
            }
        }
        (hints, open.into_keys().collect())
    }

    /// One line for each request and answer.
    fn of(&self, message: u64) -> String {
        let of_it = self.moments.iter().filter(|moment| moment.message() == message);
        of_it.map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }
}

/// The judge is tried on histories that were written by hand.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Change;

    /// Client, and what it asks or is answered. All are about message 1.
    #[derive(Clone)]
    enum Said {
        Asks(usize, What),
        Hears(usize, Answer),
    }

    use Said::{Asks, Hears};

    fn set(value: &str, claim: u64) -> What {
        What::Change(Change::set([("a", value, Some(claim))]))
    }

    /// What a state answers; it is left changed.
    fn answer(state: &mut Set, what: &What) -> Answer {
        match what {
            What::Change(change) => Answer::Changed(state.apply(change, LIMITS)),
            What::Pull(start) => Answer::Pulled(state.pull(*start, LIMITS)),
            What::Observe => Answer::Observed(state.clone()),
        }
    }

    fn judge(said: &[Said], after: &Set) -> Result<(), String> {
        let moment = |(place, said)| match said {
            Asks(client, what) => Moment::Asked { client, message: 1, question: Question { place, what } },
            Hears(client, answer) => Moment::Answered { client, message: 1, answer },
        };
        let history = History { moments: said.iter().cloned().enumerate().map(moment).collect() };
        let verdict = history.judge(&[Set::default()], std::slice::from_ref(after));
        // The second opinion is asked about every one of them.
        let second = search(history.moments.iter(), &Set::default(), after, LIMITS);
        let expected = if verdict.is_ok() { Verdict::Linearizable } else { Verdict::NotLinearizable };
        assert_eq!(second, expected);
        verdict
    }

    #[test]
    fn requests_that_overlap_may_come_in_either_order() {
        let (mut state, early) = (Set::default(), Set::default());
        let told = answer(&mut state, &set("x", 0));
        for seen in [&early, &state] {
            let page = Answer::Pulled(seen.pull(0, LIMITS));
            let said = [Asks(0, set("x", 0)), Asks(1, What::Pull(0)), Hears(1, page), Hears(0, told.clone())];
            judge(&said, &state).unwrap();
        }
    }

    #[test]
    fn a_read_after_an_answer_shows_it() {
        let (mut state, early) = (Set::default(), Set::default());
        let told = answer(&mut state, &set("x", 0));
        let page = Answer::Pulled(early.pull(0, LIMITS));
        let said = [Asks(0, set("x", 0)), Hears(0, told), Asks(1, What::Pull(0)), Hears(1, page)];
        assert!(judge(&said, &state).unwrap_err().contains("is not linearizable"));
    }

    #[test]
    fn an_answered_write_is_not_lost_and_an_open_one_may_be() {
        let (mut state, early) = (Set::default(), Set::default());
        let told = answer(&mut state, &set("x", 0));
        let open = [Asks(0, set("x", 0))];
        judge(&open, &early).unwrap();
        judge(&open, &state).unwrap();
        let answered = [Asks(0, set("x", 0)), Hears(0, told)];
        judge(&answered, &state).unwrap();
        judge(&answered, &early).unwrap_err();
    }

    #[test]
    fn what_was_read_of_an_open_write_stays() {
        let (mut state, early) = (Set::default(), Set::default());
        answer(&mut state, &set("x", 0));
        let page = Answer::Pulled(state.pull(0, LIMITS));
        let said = [Asks(0, set("x", 0)), Asks(1, What::Pull(0)), Hears(1, page)];
        judge(&said, &state).unwrap();
        judge(&said, &early).unwrap_err();
    }

    #[test]
    fn two_who_saw_the_same_version_do_not_both_win() {
        let (mut one, mut other, mut state) = (Set::default(), Set::default(), Set::default());
        let first = answer(&mut one, &set("x", 0));
        let second = answer(&mut other, &set("y", 0));
        state.apply(&Change::set([("a", "x", None)]), LIMITS);
        let Answer::Changed(mut second) = second else {
            unreachable!("a set is answered by what it changed")
        };
        state.apply(&Change::set([("a", "y", None)]), LIMITS);
        (second.seq, second.items[0].1.seq) = (2, 2);
        let said =
            [Asks(0, set("x", 0)), Asks(1, set("y", 0)), Hears(0, first), Hears(1, Answer::Changed(second))];
        assert!(judge(&said, &state).unwrap_err().contains("is not linearizable"));
    }
}
