//! Random requests: the store and the model must agree on every answer, and so must whoever follows the events
//! or pulls now and then.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sidenote_core::command::{Claim, DirectAction, Extend, Items, NewDirectMessage};
use sidenote_core::decide::{Extended, ItemVerdict};
use sidenote_core::direct::Peers;
use sidenote_core::event::{ExtensionChange, Happening, Operation, Operator};
use sidenote_core::extension::Pair;
use sidenote_core::ids::{Incarnation, MessageName, MsgKey, MsgSeq, TinyId};
use sidenote_core::query::PullPage;
use sidenote_core::{Limits, Outcome, Refusal};

use super::model::{Answer, Bounds, Caller, Cell, Change, Code, Model, Page};
use super::world::{World, administrator, caller, key, saw, value};
use crate::Store;

/// What a reader or follower believes a set to hold.
type Cells = BTreeMap<String, Cell>;

/// The group that it happens in, unless it happens between two accounts.
const GROUP: &str = "room";

/// Two messages that take pairs, one that does not, and one that nobody sent.
const MESSAGES: u64 = 4;

/// Plays `cases` random sequences of requests, each on a fresh store and on the model. Builds a runtime of its own.
///
/// # Panics
///
/// If they disagree; the message shows the shortest sequence that was found.
pub fn check_property(open: impl AsyncFn(Limits) -> Arc<dyn Store>, cases: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime for tests");
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&(any::<bool>(), bounds(), vec(step(), 1..120)), |(is_group, bounds, steps)| {
        runtime.block_on(async {
            let world = World::new(open(limits(bounds)).await);
            let outcome = play(&world, is_group, bounds, &steps).await;
            world.store.close().await;
            outcome
        })
    });
    if let Err(error) = outcome {
        panic!("the store and the model disagree: {error}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Change {
        who: Who,
        message: u64,
        change: Wish,
    },
    Pull {
        who: Who,
        message: u64,
        start: Start,
        tombstones: bool,
    },
    /// A reader takes its next page.
    Read {
        reader: usize,
        message: u64,
    },
    Recall {
        message: u64,
    },
    Wait {
        millis: u64,
    },
}

#[derive(Clone, Copy, Debug)]
enum Who {
    Administrator,
    Member(usize),
    Stranger,
}

/// A change whose numbers are made out when its turn comes.
#[derive(Clone, Debug)]
enum Wish {
    Set(BTreeMap<u8, (u8, Claimed)>),
    Delete(BTreeMap<u8, Claimed>),
    Clear,
}

/// The Seq that a caller sends.
#[derive(Clone, Copy, Debug)]
enum Claimed {
    /// The one that the set holds.
    Right,
    Zero,
    /// Any.
    Exactly(u64),
}

#[derive(Clone, Copy, Debug)]
enum Start {
    Exactly(u64),
    Latest,
}

fn bounds() -> impl Strategy<Value = Bounds> {
    (1_usize..=6, 0_usize..=3, 2_usize..=5, prop_oneof![Just(0_usize), Just(8)])
        .prop_map(|(pairs, tombstones, page, attempts)| Bounds { pairs, tombstones, page, attempts })
}

fn limits(bounds: Bounds) -> Limits {
    let small = |number: usize| u32::try_from(number).expect("a small number");
    Limits {
        pairs_per_message: small(bounds.pairs),
        tombstones_per_message: small(bounds.tombstones),
        pairs_per_pull: bounds.page,
        attempts_per_minute: small(bounds.attempts),
        ..Limits::default()
    }
}

fn step() -> impl Strategy<Value = Step> {
    // Most of it happens to the first message, so that a set has a past.
    let message = || prop_oneof![8 => Just(1_u64), 4 => Just(2), 1 => 3..=MESSAGES];
    let who = || {
        prop_oneof![
            3 => Just(Who::Administrator),
            8 => (0_usize..2).prop_map(Who::Member),
            1 => Just(Who::Stranger)
        ]
    };
    let start = prop_oneof![(0_u64..40).prop_map(Start::Exactly), Just(Start::Latest)];
    prop_oneof![
        12 => (who(), message(), wish()).prop_map(|(who, message, change)| Step::Change { who, message, change }),
        3 => (who(), message(), start, any::<bool>())
            .prop_map(|(who, message, start, tombstones)| Step::Pull { who, message, start, tombstones }),
        5 => (0_usize..3, 1_u64..=2).prop_map(|(reader, message)| Step::Read { reader, message }),
        1 => prop_oneof![1 => Just(2_u64), 1 => 3..=MESSAGES].prop_map(|message| Step::Recall { message }),
        3 => (0_u64..40_000).prop_map(|millis| Step::Wait { millis }),
    ]
}

fn wish() -> impl Strategy<Value = Wish> {
    use proptest::collection::btree_map;
    let claimed = || prop_oneof![6 => Just(Claimed::Right), 2 => Just(Claimed::Zero), 2 => (0_u64..40).prop_map(Claimed::Exactly)];
    prop_oneof![
        8 => btree_map(0_u8..9, (any::<u8>(), claimed()), 1..5).prop_map(Wish::Set),
        8 => btree_map(0_u8..9, claimed(), 1..4).prop_map(Wish::Delete),
        1 => Just(Wish::Clear),
    ]
}

/// Keys that sort and compare in unlike ways when they are not taken byte by byte.
fn key_text(number: u8) -> String {
    ["a", "A", "a\0", "aa", "é", "e\u{301}", "😀", "\u{ffff}", "z"][usize::from(number)].to_owned()
}

/// Where it happens: the same rules hold in a group and between two accounts.
enum Room<'a> {
    Group(&'a World),
    Two(&'a World, Peers),
}

/// The second in which all messages of two accounts are sent.
const SENT_AT: u64 = 1_700_000_000;

impl<'a> Room<'a> {
    /// A room of Ann and Bob with the messages that can be sent.
    async fn furnish(world: &'a World, is_group: bool, model: &mut Model) -> Self {
        let extensible = [true, true, false];
        if is_group {
            world.create(GROUP, &["ann", "bob"]).await;
            for extensible in extensible {
                model.send(world.send(GROUP, extensible).await, extensible);
            }
            return Self::Group(world);
        }
        let peers = world.peers("ann", "bob").await;
        for (number, supports_extension) in (1..).zip(extensible) {
            let letter = NewDirectMessage { supports_extension, ..world.letter("ann", number, number, "") };
            assert_eq!(world.write(&peers, letter).await, Ok(key_of(u64::from(number))));
            model.send(u64::from(number), supports_extension);
        }
        Self::Two(world, peers)
    }

    fn world(&self) -> &'a World {
        match self {
            Self::Group(world) | Self::Two(world, _) => world,
        }
    }

    fn name(&self, message: u64) -> MessageName {
        match self {
            Self::Group(_) => MessageName::Seq(MsgSeq::new(message).expect("counted from 1")),
            Self::Two(..) => MessageName::Key(key_of(message)),
        }
    }

    async fn incarnation(&self) -> Incarnation {
        match self {
            Self::Group(world) => world.incarnation(GROUP).await,
            Self::Two(world, peers) => {
                world.describe_between(peers).await.expect("they wrote to each other").direct.incarnation
            }
        }
    }

    async fn recall(&self, message: u64) -> bool {
        match self {
            Self::Group(world) => world.recall(GROUP, message).await,
            Self::Two(world, peers) => {
                world.act_between(peers, DirectAction::Recall(key_of(message))).await == Ok(Outcome::Done)
            }
        }
    }

    async fn extend(&self, operator: Operator, message: u64, extend: Extend) -> Result<Extended, Refusal> {
        match self {
            Self::Group(world) => world.extend(operator, GROUP, message, extend).await,
            Self::Two(world, peers) => world.extend_between(operator, peers, key_of(message), extend).await,
        }
    }

    async fn pull(
        &self,
        operator: Operator,
        message: u64,
        start: u64,
        tombstones: bool,
    ) -> Result<PullPage, Refusal> {
        match self {
            Self::Group(world) => world.pull(operator, GROUP, message, start, tombstones).await,
            Self::Two(world, peers) => {
                world.pull_between(operator, peers, key_of(message), start, tombstones).await
            }
        }
    }
}

fn key_of(message: u64) -> MsgKey {
    let number = u32::try_from(message).expect("a small number");
    MsgKey { seq: number, random: number, time: SENT_AT }
}

async fn play(world: &World, is_group: bool, bounds: Bounds, steps: &[Step]) -> Result<(), TestCaseError> {
    let members = [world.import("ann").await, world.import("bob").await];
    let stranger = world.import("eve").await;
    let mut model = if is_group { Model::of_a_group(bounds) } else { Model::of_two(bounds) };
    let room = &Room::furnish(world, is_group, &mut model).await;
    let mut readers: BTreeMap<(usize, u64), Reader> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Wait { millis } => world.wait(*millis),
            Step::Recall { message } => {
                let recalled = room.recall(*message).await;
                // The plain message can be recalled too, the one that nobody sent cannot.
                prop_assert!(!recalled || *message < MESSAGES);
                model.recall(*message);
            }
            Step::Change { who, message, change } => {
                let (operator, caller) = identity(*who, members, stranger);
                let change = settle_wish(&model, *message, change);
                let expected = model.change(world.now().millis(), caller, *message, &change);
                let extend = to_command(&change, caller);
                let answer = room.extend(operator, *message, extend).await;
                prop_assert_eq!(plain_answer(answer), expected, "{:?} by {:?} of {}", change, who, message);
            }
            Step::Pull { who, message, start, tombstones } => {
                let (operator, caller) = identity(*who, members, stranger);
                let start = match start {
                    Start::Exactly(start) => *start,
                    Start::Latest => {
                        model.pull(Caller::Administrator, *message, 0, true).map_or(0, |page| page.latest)
                    }
                };
                let expected = model.pull(caller, *message, start, *tombstones);
                let page = room.pull(operator, *message, start, *tombstones).await;
                prop_assert_eq!(plain_page(page), expected, "a pull of {} from {}", message, start);
            }
            Step::Read { reader, message } => {
                readers
                    .entry((*reader, *message))
                    .or_insert_with(|| Reader::new(*reader))
                    .read(room, *message)
                    .await;
            }
        }
    }
    check_dump(room, &model).await?;
    check_readers(room, &model, &mut readers).await?;
    check_events(room, &model).await
}

fn identity(who: Who, members: [TinyId; 2], stranger: TinyId) -> (Operator, Caller) {
    match who {
        Who::Administrator => (administrator(), Caller::Administrator),
        Who::Member(number) => (caller(["ann", "bob"][number], members[number]), Caller::Member),
        Who::Stranger => (caller("eve", stranger), Caller::Stranger),
    }
}

fn settle_wish(model: &Model, message: u64, wish: &Wish) -> Change {
    let held = |key: &String| {
        let cell = model.cells(message).and_then(|cells| cells.get(key));
        cell.map_or(0, |cell| cell.seq)
    };
    let claim = |key: &String, claimed: Claimed| match claimed {
        Claimed::Right => held(key),
        Claimed::Zero => 0,
        Claimed::Exactly(number) => number,
    };
    match wish {
        Wish::Clear => Change::Clear,
        Wish::Set(pairs) => {
            let pairs = pairs.iter().map(|(number, (text, claimed))| {
                let key = key_text(*number);
                let seen = claim(&key, *claimed);
                (key, format!("v{text}"), seen)
            });
            Change::Set(pairs.collect())
        }
        Wish::Delete(keys) => {
            let keys = keys.iter().map(|(number, claimed)| {
                let key = key_text(*number);
                let seen = claim(&key, *claimed);
                (key, seen)
            });
            Change::Delete(keys.collect())
        }
    }
}

fn to_command(change: &Change, caller: Caller) -> Extend {
    let claim = |seen: u64| if caller == Caller::Administrator { Claim::Unchecked } else { saw(seen) };
    match change {
        Change::Clear => Extend::Clear,
        Change::Set(pairs) => {
            let pairs = pairs.iter().map(|(name, text, seen)| ((key(name), value(text)), claim(*seen)));
            Extend::Set(Items::new(pairs.collect()).expect("a map names no key twice"))
        }
        Change::Delete(keys) => {
            let keys = keys.iter().map(|(name, seen)| (key(name), claim(*seen)));
            Extend::Delete(Items::new(keys.collect()).expect("a map names no key twice"))
        }
    }
}

fn plain_answer(answer: Result<Extended, Refusal>) -> Result<Answer, Code> {
    let answer = answer.map_err(plain_code)?;
    let items = answer.items.iter().map(|item| {
        let code = match item.verdict {
            ItemVerdict::Accepted => 0,
            ItemVerdict::Conflict => 23_001,
            ItemVerdict::NoSuchPair => 23_004,
            ItemVerdict::Full => 10_004,
        };
        let (key, cell) = plain_pair(&item.pair);
        (code, key, cell)
    });
    Ok(Answer { latest: answer.latest.get(), items: items.collect() })
}

fn plain_page(page: Result<PullPage, Refusal>) -> Result<Page, Code> {
    let page = page.map_err(plain_code)?;
    let pairs = page.pairs.iter().map(plain_pair).collect();
    Ok(Page { pairs, complete: page.complete, latest: page.latest.get(), clear: page.clear.get() })
}

fn plain_code(refusal: Refusal) -> Code {
    match refusal {
        Refusal::NotAMember => 10_007,
        Refusal::NotAParty => 20_003,
        Refusal::NoExtensions => 23_002,
        Refusal::TooManyAttempts => 23_003,
        Refusal::NoSuchMessage => 23_004,
        other => panic!("the sets of an existing conversation refuse nobody with {other:?}"),
    }
}

fn plain_pair(pair: &Pair) -> (String, Cell) {
    let value = pair.value.as_ref().map_or_else(String::new, |value| value.as_str().to_owned());
    (pair.key.as_str().to_owned(), Cell { value, seq: pair.seq.get() })
}

/// In the end both hold the same, tombstones included.
async fn check_dump(room: &Room<'_>, model: &Model) -> Result<(), TestCaseError> {
    for message in 1..=MESSAGES {
        let (mut start, mut dump) = (0, Cells::new());
        while let Ok(page) = plain_page(room.pull(administrator(), message, start, true).await) {
            start = page.pairs.last().map_or(start, |(_, cell)| cell.seq + 1);
            dump.extend(page.pairs);
            if page.complete {
                break;
            }
        }
        let expected = model.cells(message).cloned().unwrap_or_default();
        prop_assert_eq!(dump, expected, "all that message {} holds", message);
    }
    Ok(())
}

/// A client that pulls now and then, one page at a time, and goes on where it stopped.
struct Reader {
    /// Over the long connection, so that tombstones come with the first page too.
    is_connected: bool,
    /// Asks for the last Seq again, as some clients do.
    is_inclusive: bool,
    cursor: u64,
    holds: Cells,
}

impl Reader {
    fn new(number: usize) -> Self {
        let (is_connected, is_inclusive) = (number == 1, number != 2);
        Self { is_connected, is_inclusive, cursor: 0, holds: Cells::new() }
    }

    /// Takes a page. `true`: there is nothing more now.
    async fn read(&mut self, room: &Room<'_>, message: u64) -> bool {
        let tombstones = self.is_connected || self.cursor > 0;
        let pulled = room.pull(administrator(), message, self.cursor, tombstones).await;
        let Ok(page) = plain_page(pulled) else { return true };
        if page.complete {
            self.cursor = page.latest + u64::from(!self.is_inclusive);
        } else if let Some((_, last)) = page.pairs.last() {
            self.cursor = last.seq + 1;
        }
        self.holds.extend(page.pairs);
        self.holds.retain(|_, cell| cell.seq > page.clear);
        page.complete
    }
}

/// Whoever pulls on until nothing is left holds what lives.
async fn check_readers(
    room: &Room<'_>,
    model: &Model,
    readers: &mut BTreeMap<(usize, u64), Reader>,
) -> Result<(), TestCaseError> {
    for ((number, message), reader) in readers {
        let Some(expected) = model.cells(*message) else { continue };
        while !reader.read(room, *message).await {}
        let live = |cells: &Cells| -> Cells {
            cells.clone().into_iter().filter(|(_, cell)| !cell.value.is_empty()).collect()
        };
        prop_assert_eq!(live(&reader.holds), live(expected), "reader {} of message {}", number, message);
    }
    Ok(())
}

/// The events have no gap, and whoever replays them from nothing ends at the same state. What an event says of the
/// past is what the replay holds.
async fn check_events(room: &Room<'_>, model: &Model) -> Result<(), TestCaseError> {
    let events = room.world().events(room.incarnation().await, 0).await;
    let mut followers: BTreeMap<MessageName, Follower> = BTreeMap::new();
    for (number, event) in (1_u64..).zip(&events) {
        prop_assert_eq!(event.number.get(), number);
        if let Happening::Extension(change) = &event.what {
            followers.entry(change.message).or_default().follow(change)?;
        }
    }
    for message in 1..=MESSAGES {
        let Some(expected) = model.cells(message) else { continue };
        let follower = followers.remove(&room.name(message)).unwrap_or_default();
        prop_assert_eq!(&follower.holds, expected, "the replayed events of message {}", message);
        if let Ok(page) = model.pull(Caller::Administrator, message, 0, true) {
            prop_assert_eq!((follower.latest, follower.clear), (page.latest, page.clear));
        }
    }
    Ok(())
}

#[derive(Default)]
struct Follower {
    latest: u64,
    clear: u64,
    holds: Cells,
    /// What the set held before a compaction dropped it.
    dropped: Cells,
}

impl Follower {
    fn follow(&mut self, change: &ExtensionChange) -> Result<(), TestCaseError> {
        prop_assert_eq!(change.latest.get(), self.latest + 1, "every event is one number");
        self.latest = change.latest.get();
        let past = if change.compaction { &self.dropped } else { &self.holds };
        for pair in &change.pairs {
            let previous = pair.previous.as_ref().map(|previous| Cell {
                value: previous.value.as_ref().map_or_else(String::new, |value| value.as_str().to_owned()),
                seq: previous.seq.get(),
            });
            prop_assert_eq!(pair.seq.get(), self.latest);
            prop_assert_eq!(previous.as_ref(), past.get(pair.key.as_str()), "what {:?} was before", pair);
        }
        match change.operation {
            Operation::Set | Operation::Delete => {
                for pair in &change.pairs {
                    prop_assert_eq!(pair.value.is_some(), change.operation == Operation::Set);
                    let (key, cell) = plain_pair(&pair.pair());
                    self.holds.insert(key, cell);
                }
            }
            Operation::Clear => {
                let live = self.holds.values().filter(|cell| !cell.value.is_empty()).count();
                let named = if change.compaction { 0 } else { live };
                prop_assert_eq!(change.pairs.len(), named, "a clear names the live pairs that it drops");
                self.dropped = std::mem::take(&mut self.holds);
                self.clear = self.latest;
            }
        }
        prop_assert_eq!(change.clear.get(), self.clear);
        Ok(())
    }
}
