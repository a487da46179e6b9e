//! What two accounts write to each other. The first and the second ann are two accounts with one name: what bob
//! writes to the one is no business of the other, and begins the conversation anew.

use sidenote_core::command::{Action, DirectAction, NewDirectMessage};
use sidenote_core::direct::{Party, Peers};
use sidenote_core::extension::Seq;
use sidenote_core::ids::{Incarnation, MsgKey};
use sidenote_core::message::{Fingerprint, MessageBody};
use sidenote_core::query::{Ask, DescribeDirect, DirectHistory, DirectPull, Query};

use super::{APP, BEGIN, Known, administrator, extend, tiny_id, user};
use crate::simulation::random::Random;

/// Who writes to whom. One of them writes to herself.
const PAIRS: [(&str, &str); 4] = [("ann", "bob"), ("bob", "ann"), ("ann", "bob"), ("cem", "cem")];

/// Lives of conversations that are drawn here are not those of groups, which have the numbers of commands.
const LIVES: u64 = 1 << 32;

/// The first message of a simulation.
pub(super) fn first() -> Action {
    Action::Direct(Box::new(peers("ann", "bob", false)), send(0, 1, false))
}

pub(super) fn any_action(random: &mut Random, number: u64, known: &Known) -> Action {
    let dice = random.within(0..16);
    let written = if dice < 4 { None } else { known.letter(random) };
    let Some((mut peers, key)) = written else {
        let number_of_client = u32::try_from(random.within(0..4)).unwrap();
        let online_only = random.one_in(8);
        return Action::Direct(Box::new(any_peers(random)), send(number, number_of_client, online_only));
    };
    if random.one_in(8) {
        // It was sent the other way.
        std::mem::swap(&mut peers.from, &mut peers.to);
    }
    let action =
        if dice == 4 { DirectAction::Recall(key) } else { DirectAction::Extend(key, extend(random)) };
    Action::Direct(Box::new(peers), action)
}

pub(super) fn any_question(random: &mut Random, known: &Known) -> Query {
    let dice = random.within(0..8);
    let letter = if dice < 3 { None } else { known.letter(random) };
    match letter {
        Some((peers, key)) => pull(peers, key, random.within(0..4), random.one_in(2)),
        None if dice == 0 => DescribeDirect { id: any_peers(random).id() }.into_query(),
        None => {
            let from = BEGIN / 1000 + random.within(0..200);
            let after = known.letter(random).filter(|_| random.one_in(2)).map(|(_, key)| key);
            history(any_peers(random), from, after, 1 + random.index(4))
        }
    }
}

pub(super) fn all_questions(known: &Known) -> Vec<Query> {
    let mut all = Vec::new();
    for second in [false, true] {
        for (from, to) in &PAIRS[1..] {
            let peers = peers(from, to, second);
            all.push(DescribeDirect { id: peers.id() }.into_query());
            all.push(history(peers, 0, None, 1000));
        }
    }
    all.extend(known.letters.iter().map(|(peers, key)| pull(peers.clone(), *key, 0, true)));
    all
}

fn history(peers: Peers, from: u64, after: Option<MsgKey>, limit: usize) -> Query {
    DirectHistory { peers, operator: administrator(), from, to: u64::MAX, after, limit }.into_query()
}

fn pull(peers: Peers, key: MsgKey, start: u64, tombstones: bool) -> Query {
    let start = Seq::new(start).unwrap();
    DirectPull { peers, key, operator: administrator(), start, tombstones }.into_query()
}

fn any_peers(random: &mut Random) -> Peers {
    let (from, to) = random.pick(&PAIRS);
    peers(from, to, random.one_in(10))
}

/// `second`: it is the second account by the name of the sender.
fn peers(from: &str, to: &str, second: bool) -> Peers {
    let party = |name: &str, second| Party { user: user(name), tiny_id: tiny_id(name, second) };
    Peers { app: APP, from: party(from, second), to: party(to, second && from == to) }
}

fn send(number: u64, random: u32, online_only: bool) -> DirectAction {
    let mut fingerprint = [1; 16];
    fingerprint[..4].copy_from_slice(&random.to_be_bytes());
    DirectAction::Send(Box::new(NewDirectMessage {
        incarnation: Incarnation::from_random(LIVES + number),
        seq: 1,
        random,
        client_time: None,
        supports_extension: true,
        online_only,
        body: MessageBody { elements: format!("[\"{random}\"]"), ..MessageBody::default() },
        fingerprint: Fingerprint(fingerprint),
    }))
}
