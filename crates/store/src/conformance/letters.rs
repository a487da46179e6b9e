//! Random messages between two accounts: what they are named, when they are the same one, who may recall them, and
//! how history reads them. The store must agree with a list of letters in the order in which they came.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sidenote_core::command::{DirectAction, NewDirectMessage};
use sidenote_core::direct::Peers;
use sidenote_core::event::Happening;
use sidenote_core::ids::MsgKey;
use sidenote_core::{Limits, Outcome, Refusal};

use super::world::World;
use crate::Store;

/// Plays `cases` random correspondences of two accounts, one of whom is imported anew now and then. Builds a runtime
/// of its own.
///
/// # Panics
///
/// If store and list disagree; the message shows the shortest sequence that was found.
pub fn check_letters(open: impl AsyncFn(Limits) -> Arc<dyn Store>, cases: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime for tests");
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&vec(step(), 1..80), |steps| {
        runtime.block_on(async {
            let world = World::new(open(Limits::default()).await);
            let outcome = play(&world, &steps).await;
            world.store.close().await;
            outcome
        })
    });
    if let Err(error) = outcome {
        panic!("the store and the list of letters disagree: {error}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Ann writes to Bob, or he to her.
    Write {
        by_ann: bool,
        seq: u32,
        random: u32,
        text: u8,
        online_only: bool,
    },
    /// Recalls a letter by its place in the list, as what one of the two sent.
    Recall {
        by_ann: bool,
        letter: usize,
    },
    /// Reads a page of some seconds, which goes on after a letter or begins anew.
    Read {
        from: u64,
        to: u64,
        after: Option<usize>,
        limit: usize,
    },
    /// Ann is deleted and imported again.
    Renew,
    Settle,
    Wait {
        millis: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let write = (any::<bool>(), 1_u32..3, 1_u32..3, 0_u8..3, prop::bool::weighted(0.1));
    let after = prop::option::of(0_usize..12);
    prop_oneof![
        12 => write.prop_map(|(by_ann, seq, random, text, online_only)| {
            Step::Write { by_ann, seq, random, text, online_only }
        }),
        3 => (any::<bool>(), 0_usize..12).prop_map(|(by_ann, letter)| Step::Recall { by_ann, letter }),
        4 => (0_u64..40, 0_u64..300, after, 1_usize..6)
            .prop_map(|(from, length, after, limit)| Step::Read { from, to: from + length, after, limit }),
        1 => Just(Step::Renew),
        2 => Just(Step::Settle),
        6 => prop_oneof![0_u64..3000, 100_000..140_000_u64].prop_map(|millis| Step::Wait { millis }),
    ]
}

/// A letter as the list has it. The list is never sorted or looked up by name but by walking through it.
#[derive(Clone, Debug)]
struct Letter {
    by_ann: bool,
    seq: u32,
    random: u32,
    text: u8,
    second: u64,
    written_at: u64,
    recalled: bool,
}

impl Letter {
    fn key(&self) -> MsgKey {
        MsgKey { seq: self.seq, random: self.random, time: self.second }
    }
}

/// What two accounts wrote to each other since both of them are who they are.
#[derive(Debug, Default)]
struct Correspondence {
    letters: Vec<Letter>,
    /// How many events there must have been.
    events: u64,
}

/// Codes on the wire.
type Code = u32;

impl Correspondence {
    fn write(&mut self, new: &Letter, online_only: bool) -> Result<MsgKey, Code> {
        let is_same = |old: &&Letter| {
            (old.by_ann, old.seq, old.random, old.text) == (new.by_ann, new.seq, new.random, new.text)
                && new.written_at - old.written_at < 120_000
        };
        if let Some(old) = self.letters.iter().rev().find(is_same).filter(|_| !online_only) {
            return Ok(old.key());
        }
        let now = new.written_at / 1000;
        let is_free = |second: &u64| {
            !self.letters.iter().any(|old| old.key() == Letter { second: *second, ..new.clone() }.key())
        };
        let second = (now..now + 10).find(is_free).ok_or(90_005_u32)?;
        let letter = Letter { second, ..new.clone() };
        let key = letter.key();
        self.events += 1;
        if !online_only {
            self.letters.push(letter);
        }
        Ok(key)
    }

    fn recall(&mut self, by_ann: bool, key: MsgKey) -> Result<(), Code> {
        let letter = self.letters.iter_mut().find(|letter| letter.key() == key).ok_or(20_022_u32)?;
        if letter.by_ann != by_ann {
            return Err(90_008);
        }
        if std::mem::replace(&mut letter.recalled, true) {
            return Err(20_023);
        }
        self.events += 1;
        Ok(())
    }

    /// Newest first: whoever has no letter before it comes next.
    fn read(
        &self,
        from: u64,
        to: u64,
        after: Option<MsgKey>,
        limit: usize,
    ) -> (Vec<(MsgKey, bool, bool)>, bool) {
        let rank = |key: MsgKey| (key.time, key.seq, key.random);
        let mut left: Vec<&Letter> = self
            .letters
            .iter()
            .filter(|letter| from <= letter.second && letter.second <= to)
            .filter(|letter| after.is_none_or(|after| rank(letter.key()) < rank(after)))
            .collect();
        let mut page = Vec::new();
        while page.len() < limit {
            let Some(newest) = (0..left.len()).max_by_key(|place| rank(left[*place].key())) else { break };
            let letter = left.remove(newest);
            page.push((letter.key(), letter.by_ann, letter.recalled));
        }
        (page, left.is_empty())
    }
}

async fn play(world: &World, steps: &[Step]) -> Result<(), TestCaseError> {
    for name in ["ann", "bob"] {
        world.import(name).await;
    }
    let began = world.now().secs();
    let mut list = Correspondence::default();
    // Every key that was ever told, to ask for those that are no more.
    let mut keys: Vec<MsgKey> = Vec::new();
    for step in steps {
        let (forth, back) = (world.peers("ann", "bob").await, world.peers("bob", "ann").await);
        let side = |by_ann: bool| if by_ann { &forth } else { &back };
        match step {
            Step::Wait { millis } => world.wait(*millis),
            Step::Settle => world.settle().await,
            Step::Renew => {
                world.delete_account("ann").await;
                list = Correspondence::default();
            }
            Step::Write { by_ann, seq, random, text, online_only } => {
                let name = if *by_ann { "ann" } else { "bob" };
                let new = world.letter(name, *seq, *random, &format!("text {text}"));
                let new = NewDirectMessage { online_only: *online_only, ..new };
                let answer = world.write(side(*by_ann), new).await.map_err(plain_code);
                let letter = Letter {
                    by_ann: *by_ann,
                    seq: *seq,
                    random: *random,
                    text: *text,
                    second: 0,
                    written_at: world.now().millis(),
                    recalled: false,
                };
                prop_assert_eq!(answer, list.write(&letter, *online_only), "{:?}", step);
                keys.extend(answer.ok());
            }
            Step::Recall { by_ann, letter } => {
                let Some(key) = keys.get(*letter % keys.len().max(1)) else { continue };
                let answer = world.act_between(side(*by_ann), DirectAction::Recall(*key)).await;
                let answer = answer.map_err(plain_code).map(|done| assert_eq!(done, Outcome::Done));
                prop_assert_eq!(answer, list.recall(*by_ann, *key), "{:?} of {}", step, key);
            }
            Step::Read { from, to, after, limit } => {
                let after = after.and_then(|letter| keys.get(letter)).copied();
                let seconds = (began + from, began + to);
                check_page(world, &back, &list, seconds, after, *limit).await?;
            }
        }
    }
    let peers = world.peers("ann", "bob").await;
    world.settle().await;
    check_page(world, &peers, &list, (0, u64::MAX), None, 1000).await?;
    check_events(world, &peers, &list).await
}

async fn check_page(
    world: &World,
    peers: &Peers,
    list: &Correspondence,
    seconds: (u64, u64),
    after: Option<MsgKey>,
    limit: usize,
) -> Result<(), TestCaseError> {
    let page = world.letters(peers, seconds, after, limit).await;
    let ann = if peers.from.user.as_str() == "ann" { &peers.from } else { &peers.to };
    let plain = page.messages.iter().map(|it| {
        let by_ann = it.message.sender == ann.user;
        assert!(!by_ann || it.message.sender_tiny_id == ann.tiny_id, "nothing of another Ann");
        assert_eq!(it.body.is_none(), it.message.recalled);
        (it.key, by_ann, it.message.recalled)
    });
    let expected = list.read(seconds.0, seconds.1, after, limit);
    prop_assert_eq!(
        (plain.collect::<Vec<_>>(), page.complete),
        expected,
        "of {:?} after {:?}",
        seconds,
        after
    );
    Ok(())
}

/// Every message that was taken is told once, in order, and every recall.
async fn check_events(world: &World, peers: &Peers, list: &Correspondence) -> Result<(), TestCaseError> {
    let view = world.describe_between(peers).await.filter(|view| view.direct.tiny_ids == peers.tiny_ids());
    let Some(view) = view else {
        prop_assert_eq!(list.events, 0);
        return Ok(());
    };
    prop_assert_eq!(view.counters.last_event.get(), list.events);
    prop_assert_eq!(view.counters.last_msg_seq, list.letters.len() as u64);
    let events = world.events(view.direct.incarnation, 0).await;
    prop_assert!((1..).zip(&events).all(|(number, event)| event.number.get() == number));
    let sent = events.iter().filter_map(|event| match &event.what {
        Happening::DirectSent { key, .. } => Some(*key),
        _ => None,
    });
    prop_assert_eq!(sent.collect::<Vec<_>>(), list.letters.iter().map(Letter::key).collect::<Vec<_>>());
    let recalled =
        events.iter().filter(|event| matches!(event.what, Happening::DirectRecalled { .. })).count();
    prop_assert_eq!(recalled, list.letters.iter().filter(|letter| letter.recalled).count());
    Ok(())
}

fn plain_code(refusal: Refusal) -> Code {
    match refusal {
        Refusal::MsgKeysTaken => 90_005,
        Refusal::NothingToRecall => 20_022,
        Refusal::AlreadyRecalled => 20_023,
        Refusal::NotTheSender => 90_008,
        other => panic!("two accounts that exist are refused nothing with {other:?}"),
    }
}
