//! Changes, logins and readers in any order, over a store that takes its time, against what each of them should hear.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sidenote_core::query::{Answer, Query};
use sidenote_store::StoreError;
use sidenote_store::decorator::Decorator;
use tokio::task::{unconstrained, yield_now};

use super::*;

const SEEDS: u64 = 300;
const STEPS: usize = 80;
const USERS: [&str; 3] = ["ann", "bob", "cid"];
const GROUPS: [&str; 2] = ["a", "b"];

/// Its answers are of some instant while others work.
struct Slow {
    inner: MemoryStore,
    dice: Mutex<StdRng>,
}

impl Slow {
    async fn wait(&self) {
        let turns = self.dice.lock().unwrap().random_range(0..4);
        for _ in 0..turns {
            yield_now().await;
        }
    }
}

#[async_trait]
impl Decorator for Slow {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    async fn answer(&self, query: Query) -> Result<Answer, StoreError> {
        self.wait().await;
        let answer = self.inner.answer(query).await;
        self.wait().await;
        answer
    }
}

/// One life of a group: who hears each of its events, the first of which is number 1.
#[derive(Clone, Debug, Default)]
struct Life {
    members: BTreeSet<&'static str>,
    hears: Vec<BTreeSet<&'static str>>,
    /// By which events whom left.
    left: BTreeMap<u64, &'static str>,
}

impl Life {
    fn event(&mut self) {
        self.hears.push(self.members.clone());
    }

    fn joins(&self, number: u64, who: &str) -> bool {
        let hears =
            |number: u64| number > 0 && self.hears[usize::try_from(number).unwrap() - 1].contains(who);
        hears(number) && !hears(number - 1)
    }

    fn last(&self) -> u64 {
        self.hears.len() as u64
    }
}

#[derive(Debug, Default)]
struct Model {
    lives: BTreeMap<u64, Life>,
    /// The life of each group that there is.
    now: BTreeMap<&'static str, u64>,
}

impl Model {
    fn lasts(&self) -> BTreeMap<u64, u64> {
        self.lives.iter().map(|(life, what)| (*life, what.last())).collect()
    }
}

/// What somebody was told: life and number.
type Heard = Vec<(u64, u64)>;

const STARTS_OVER: (u64, u64) = (0, 0);

enum Receiver {
    /// Who, the last events when it began to connect, and those when it was done.
    Login {
        user: &'static str,
        inbox: Inbox,
        began: BTreeMap<u64, u64>,
        came: BTreeMap<u64, u64>,
    },
    App {
        inbox: Inbox,
        came: BTreeMap<u64, u64>,
    },
}

#[derive(Clone, Default)]
struct Reading(Arc<Mutex<(Heard, Option<Ended>)>>);

/// Of which life, as whom, and what it has read.
type Reader = (u64, Option<&'static str>, Reading);

#[derive(Clone)]
struct World {
    scene: Arc<Scene>,
    model: Arc<Mutex<Model>>,
    receivers: Arc<Mutex<Vec<Receiver>>>,
    readings: Arc<Mutex<Vec<Reader>>>,
    arriving: Arc<Mutex<usize>>,
}

impl World {
    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }

    /// Makes one change. What it does is in the model at the same time as in the store.
    async fn change(&self, name: &'static str, dice: &mut StdRng, step: usize) {
        let who = USERS[dice.random_range(1..USERS.len())];
        let now = self.model().now.get(name).copied();
        let Some(of) = now else {
            let of = 1000 + step as u64;
            let members: Vec<_> = USERS.into_iter().filter(|user| *user == "ann" || dice.random()).collect();
            {
                let mut model = self.model();
                model.now.insert(name, of);
                let life = model.lives.entry(of).or_default();
                life.event();
                life.members.extend(&members);
                life.event();
            }
            return self.scene.create(name, of, &members).await;
        };
        let is_member = self.model().lives[&of].members.contains(who);
        let change = |change: &dyn Fn(&mut Life)| change(self.model().lives.get_mut(&of).unwrap());
        match dice.random_range(0..10) {
            0 => {
                change(&Life::event);
                self.model().now.remove(name);
                self.scene.on(name, GroupAction::Destroy).await;
            }
            1..=4 if is_member => {
                change(&|life| {
                    life.members.remove(who);
                    life.event();
                    life.left.insert(life.last(), who);
                });
                self.scene.remove(name, who).await;
            }
            1..=4 => {
                change(&|life| {
                    life.members.insert(who);
                    life.event();
                });
                self.scene.add(name, who).await;
            }
            _ => {
                change(&Life::event);
                self.scene.send(name, u32::try_from(step).unwrap()).await;
            }
        }
    }

    /// Somebody comes, beside whatever happens.
    fn arrive(&self, dice: &mut StdRng) {
        let (world, user) = (self.clone(), USERS[dice.random_range(0..USERS.len())]);
        let (name, kind) = (GROUPS[dice.random_range(0..GROUPS.len())], dice.random_range(0..6));
        *self.arriving.lock().unwrap() += 1;
        beside(async move {
            match kind {
                0..=2 => {
                    let began = world.model().lasts();
                    let inbox = world.scene.connect(user).await;
                    let came = world.model().lasts();
                    world.receivers.lock().unwrap().push(Receiver::Login { user, inbox, began, came });
                }
                3 => {
                    let inbox = world.scene.hub.follow_app(APP).await;
                    let came = world.model().lasts();
                    world.receivers.lock().unwrap().push(Receiver::App { inbox, came });
                }
                _ => {
                    let of = world.model().now.get(name).copied();
                    let who = Some(user).filter(|_| kind == 4);
                    if let Some(of) = of
                        && let Ok(follow) = world.scene.follow(name, who, Some((of, 0))).await
                    {
                        let reading = Reading::default();
                        world.readings.lock().unwrap().push((of, who, reading.clone()));
                        beside(read(follow, reading));
                    }
                }
            }
            *world.arriving.lock().unwrap() -= 1;
        });
    }

    fn check(&self, seed: u64) {
        let model = self.model();
        for mut receiver in self.receivers.lock().unwrap().drain(..) {
            let (Receiver::Login { inbox, .. } | Receiver::App { inbox, .. }) = &mut receiver;
            let mut heard = BTreeMap::<u64, Vec<u64>>::new();
            // All that waits, and not as much as a task may take before it lets others work.
            while let Some(next) = unconstrained(inbox.next()).now_or_never() {
                let delivery = next.unwrap_or_else(|why| panic!("seed {seed}: {why:?}"));
                let life = delivery.incarnation().get();
                heard.entry(life).or_default().push(delivery.event().number.get());
            }
            let (who, began, came) = match &receiver {
                Receiver::Login { user, began, came, .. } => (Some(*user), began, came),
                Receiver::App { came, .. } => (None, came, came),
            };
            for (of, life) in &model.lives {
                let heard = heard.remove(of).unwrap_or_default();
                let context =
                    || format!("seed {seed}, {who:?} in {of}, came at {came:?}: {heard:?} of {life:?}");
                assert!(heard.is_sorted_by(|one, other| one < other), "order, {}", context());
                let may_hear = |number: u64| {
                    who.is_none_or(|who| life.hears[usize::try_from(number).unwrap() - 1].contains(who))
                };
                assert!(heard.iter().all(|number| may_hear(*number)), "too much, {}", context());
                let [began, came] = [began, came].map(|lasts| lasts.get(of).copied().unwrap_or_default());
                let all: Vec<_> = (1..=life.last()).filter(|number| may_hear(*number)).collect();
                for stay in all.chunk_by(|one, other| one + 1 == *other) {
                    // Whoever joins and leaves before the task has looked is told of neither.
                    let is_over =
                        stay.last() != Some(&life.last()) || !model.now.values().any(|now| now == of);
                    let may_be_missed = who.is_some() && is_over && stay[0] > began;
                    let mut rest = stay.iter().filter(|number| **number > came);
                    let is_told = rest.clone().all(|number| heard.contains(number))
                        || (may_be_missed && !rest.any(|number| heard.contains(number)));
                    assert!(is_told, "too little, {}", context());
                }
            }
            assert_eq!(heard, BTreeMap::new(), "seed {seed}");
        }
        for (of, who, reading) in &*self.readings.lock().unwrap() {
            let (life, (heard, ended)) = (&model.lives[of], &*reading.0.lock().unwrap());
            let context = || format!("seed {seed}, reader {who:?} of {of}: {heard:?}, {ended:?} of {life:?}");
            if heard.first() == Some(&STARTS_OVER) {
                // The group was made again before it could follow.
                continue;
            }
            let expected: Heard = (1..=heard.len() as u64).map(|number| (*of, number)).collect();
            assert_eq!(*heard, expected, "{}", context());
            let last = heard.len() as u64;
            let is_over = !model.now.values().any(|now| now == of);
            match ended {
                None => assert!(last == life.last() && !is_over, "too little, {}", context()),
                Some(why) => {
                    assert_eq!(*why, Ended::Removed, "{}", context());
                    let has_left = who.is_some() && life.left.get(&last).copied() == *who;
                    // An event of joining may be of another account of the name. Whoever is no member by the time that
                    // this is looked up hears no more.
                    let is_member = who.is_some_and(|who| !is_over && life.members.contains(who));
                    let has_joined = who.is_some_and(|who| life.joins(last, who)) && !is_member;
                    let is_last = is_over && last == life.last();
                    assert!(has_left || has_joined || is_last, "too early, {}", context());
                }
            }
        }
    }
}

async fn read(mut follow: Follow, reading: Reading) {
    loop {
        let next = follow.next().await.unwrap();
        let mut reading = reading.0.lock().unwrap();
        match next {
            Ok(Followed::Event(delivery)) => {
                reading.0.push((delivery.incarnation().get(), delivery.event().number.get()));
            }
            Ok(Followed::StartOver(..)) => reading.0.push(STARTS_OVER),
            Err(ended) => {
                reading.1 = Some(ended);
                return;
            }
        }
    }
}

#[tokio::test]
async fn whatever_happens_everybody_hears_what_it_should_once_and_in_order() {
    for seed in 0..SEEDS {
        let mut dice = StdRng::seed_from_u64(seed);
        let limits = Limits { attempts_per_minute: 0, ..Limits::default() };
        let store = Slow { inner: MemoryStore::new(limits), dice: Mutex::new(StdRng::seed_from_u64(!seed)) };
        let world = World {
            scene: Arc::new(Scene::over(Arc::new(store))),
            model: Arc::default(),
            receivers: Arc::default(),
            readings: Arc::default(),
            arriving: Arc::default(),
        };
        for user in USERS {
            world.scene.import(user).await;
        }
        for step in 0..STEPS {
            match dice.random_range(0..10) {
                0..=5 => world.change(GROUPS[dice.random_range(0..GROUPS.len())], &mut dice, step).await,
                6..=7 => world.arrive(&mut dice),
                8 => {
                    let mut receivers = world.receivers.lock().unwrap();
                    if !receivers.is_empty() {
                        let gone = dice.random_range(0..receivers.len());
                        receivers.swap_remove(gone);
                    }
                }
                _ => {}
            }
            for _ in 0..dice.random_range(0..8) {
                yield_now().await;
            }
        }
        let mut quiet = 0;
        while quiet < 500 {
            quiet = if *world.arriving.lock().unwrap() == 0 { quiet + 1 } else { 0 };
            yield_now().await;
        }
        world.check(seed);
        world.scene.stop.cancel();
    }
}
