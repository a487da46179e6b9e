//! Telling the events of one app, at least once and in order.
//!
//! The store knows for each conversation how far it was told. That is written down late, when a conversation has been
//! quiet for a moment or much was told, so that it costs few commits. Whatever was told and not written down when the
//! process dies is told once more.

mod place;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use sidenote_core::event::Event;
use sidenote_core::group::Group;
use sidenote_core::ids::{AppId, Conversation, ConversationId, EventNumber, Incarnation, Timestamp, UserId};
use sidenote_core::outbox::LetterRequest;
use sidenote_core::query::{DescribeGroup, Events, FindMessage, Outboxes};
use sidenote_store::shared::Shared;
use sidenote_store::{Store, StoreError};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use place::{Found as Begun, Halt, dead_letter};

use crate::clock::Clock;
use crate::config::Webhook;
use crate::webhooks::body::{self, Telling};
use crate::webhooks::callback::Callback;
use crate::webhooks::figures::Figures;
use crate::webhooks::receiver::{Letter, Receiver};
use crate::webhooks::schedule::{Found, Next, Place, Schedule, Work};

/// Conversations that are looked after at a time. The others wait in the store.
const MAX_LANES: usize = 65_536;

/// Events that are read at a time, and the most that a conversation tells in one turn.
const EVENTS_PER_TURN: usize = 16;

/// How long a conversation is quiet, or telling, before it is settled.
const SETTLE_PAUSE: Duration = Duration::from_millis(500);

/// Events that may be told and not settled: those that a crash lets be told again.
const MOST_UNSETTLED: u64 = 256;

/// How often the store is searched for what nobody was woken for.
const SCAN_PAUSE: Duration = Duration::from_secs(30);

/// The same while there are more conversations than lanes.
const OVERFLOW_PAUSE: Duration = Duration::from_secs(1);

/// Outboxes that are read at a time.
const OUTBOXES_PER_PAGE: usize = 256;

/// How long to wait where it can't be said at this moment whose turn it is, or where it is nobody's here.
const CLAIM_PAUSE: Duration = Duration::from_millis(250);

/// How long to wait after the store failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// How long a request may go on when the server stops. Whoever stops it waits longer, which is left for settling.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Conversations that are settled at a time when the server stops.
const SETTLED_AT_A_TIME: usize = 64;

/// How an app is told.
pub(super) struct Teller {
    app: AppId,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    receiver: Arc<Receiver>,
    policy: Webhook,
    schedule: Mutex<Schedule>,
    wake: Notify,
    pub(super) figures: Arc<Figures>,
}

/// What became of one event.
enum Told {
    /// It was told, or needs no telling.
    Done,
    /// It failed and is to be tried again then, or was given up and the next one is not to be tried earlier.
    Again(Instant),
    /// The server stops, and the receiver did not answer in the time that was left.
    Stopped,
    /// Somebody else may be telling the conversation by now.
    Deposed,
}

impl Teller {
    pub(super) fn new(
        app: AppId,
        policy: Webhook,
        receiver: Arc<Receiver>,
        figures: Arc<Figures>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let schedule = Mutex::new(Schedule::new(MAX_LANES));
        Self { app, store, clock, receiver, policy, schedule, wake: Notify::new(), figures }
    }

    pub(super) const fn app(&self) -> AppId {
        self.app
    }

    /// Something happened in this conversation.
    pub(super) fn look(&self, conversation: &Conversation) {
        if self.schedule().look(conversation) {
            self.wake.notify_one();
        }
    }

    /// Conversations with something to tell, and the age of the oldest of it.
    pub(super) fn backlog(&self) -> (usize, Duration) {
        let (count, oldest) = self.schedule().backlog();
        (count, oldest.map_or(Duration::ZERO, |oldest| self.age(oldest)))
    }

    /// Tells until it is stopped.
    pub(super) async fn run(&self, stop: &CancellationToken) {
        let mut turns = FuturesUnordered::new();
        let mut scan = pin!(self.scan());
        while !stop.is_cancelled() {
            // Otherwise every lane would ask again and again.
            let lives = self.store.shared().is_none_or(Shared::lives);
            while lives && turns.len() < self.policy.parallel {
                let Some((conversation, work)) = self.schedule().take(Instant::now()) else { break };
                turns.push(self.turn(conversation, work, stop));
            }
            // While all places are taken, nobody who is due could have one.
            let due = self.schedule().due().filter(|_| lives && turns.len() < self.policy.parallel);
            tokio::select! {
                () = stop.cancelled() => {}
                Some(()) = turns.next() => {}
                () = self.wake.notified() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                () = sleep(CLAIM_PAUSE), if !lives => {}
                since = self.figures.recovery() => self.schedule().retry_those_failed_since(since),
                never = &mut scan => match never {},
            }
        }
        // What is under way is waited for, though not for long, so that it need not be told twice.
        while turns.next().await.is_some() {}
        let unsettled = self.schedule().unsettled();
        for some in unsettled.chunks(SETTLED_AT_A_TIME) {
            let settle = |(conversation, place): &(Conversation, Place)| {
                let (id, mut place) = (self.id(conversation), place.clone());
                async move { self.settle(&id, &mut place, Vec::new()).await }
            };
            join_all(some.iter().map(settle)).await;
        }
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn id(&self, conversation: &Conversation) -> ConversationId {
        ConversationId { app: self.app, conversation: conversation.clone() }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.clock.now_millis())
    }

    fn age(&self, of: Timestamp) -> Duration {
        Duration::from_millis(self.now().millis().saturating_sub(of.millis()))
    }

    /// Finds every conversation with something to tell, whether or not anybody was woken for it: after a start, say.
    /// It goes through the store page by page, and waits where there is no room for more lanes.
    async fn scan(&self) -> Infallible {
        let mut after = None;
        let mut departures = self.store.shared().map(Shared::departures);
        loop {
            let pause = match self.waiting(after.clone()).await {
                Err(_) => STORE_PAUSE,
                Ok(page) => {
                    let is_last = page.len() < OUTBOXES_PER_PAGE;
                    if !self.find(page, &mut after) {
                        OVERFLOW_PAUSE
                    } else if is_last {
                        after = None;
                        self.receiver.drop_idle_lines();
                        if self.schedule().take_overflow() { OVERFLOW_PAUSE } else { SCAN_PAUSE }
                    } else {
                        continue;
                    }
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = departure(departures.as_mut()) => after = None,
            }
        }
    }

    /// A page of what has something to tell, and is told by no other process.
    async fn waiting(
        &self,
        after: Option<(ConversationId, Incarnation)>,
    ) -> Result<Vec<(ConversationId, Incarnation)>, StoreError> {
        let (app, limit) = (self.app, OUTBOXES_PER_PAGE);
        if let Some(shared) = self.store.shared() {
            return shared.unclaimed(app, after, limit).await;
        }
        let page = self.store.ask(Outboxes { app, conversation: None, after, limit }).await?;
        Ok(page.into_iter().map(|(id, incarnation, _)| (id, incarnation)).collect())
    }

    /// Makes lanes of these. False if there was no room for all of them; `after` names the last that has one.
    fn find(
        &self,
        page: Vec<(ConversationId, Incarnation)>,
        after: &mut Option<(ConversationId, Incarnation)>,
    ) -> bool {
        let mut schedule = self.schedule();
        for (id, incarnation) in page {
            match schedule.find(&id.conversation) {
                Found::New => self.wake.notify_one(),
                Found::Known => {}
                Found::NoRoom => return false,
            }
            *after = Some((id, incarnation));
        }
        true
    }

    /// Tells a bounded number of events of one conversation.
    async fn turn(&self, conversation: Conversation, mut work: Work, stop: &CancellationToken) {
        let next = match self.advance(&conversation, &mut work, stop).await {
            Ok(next) => next,
            // Whatever was known is worth nothing any more.
            Err(Halt::Deposed) => Next::More(Work::default()),
            Err(Halt::Store(error)) => {
                // Whoever asks for readiness is told; here it only means that it has to wait.
                tracing::debug!(app = self.app.get(), %error, "an outbox could not be read or settled");
                Next::Retry(Instant::now() + STORE_PAUSE, work)
            }
        };
        self.schedule().give_back(conversation, next);
    }

    async fn advance(
        &self,
        conversation: &Conversation,
        work: &mut Work,
        stop: &CancellationToken,
    ) -> Result<Next, Halt> {
        let id = self.id(conversation);
        let mut place = match self.place(&id, work.place.take()).await? {
            Begun::Here(place) => place,
            Begun::Nothing => return Ok(Next::Done),
            Begun::Later => return Ok(Next::Retry(Instant::now() + CLAIM_PAUSE, std::mem::take(work))),
        };
        if place.in_doubt {
            let settled = self.settle(&id, &mut place, Vec::new()).await;
            work.settle_at = None;
            work.place = Some(place);
            if settled? {
                work.place = None;
            }
            return Ok(Next::More(std::mem::take(work)));
        }
        let outcome = self.tell_page(&id, &mut place, work, stop).await;
        let (is_told, retry) = match outcome {
            Ok(Page::Told) => (true, None),
            Ok(Page::More) => (false, None),
            Ok(Page::Again(at)) => (false, Some(at)),
            Err(halt) => {
                work.place = Some(place);
                return Err(halt);
            }
        };
        let unsettled = place.told.get() - place.settled.get();
        let now = Instant::now();
        let settle_at = *work.settle_at.get_or_insert(now + SETTLE_PAUSE);
        // Nothing more comes of a life that is over, and another one may be waiting.
        let is_over = is_told && place.gone.is_some();
        // The next turn of one that failed may be far away.
        let is_time = unsettled >= MOST_UNSETTLED || is_over || retry.is_some() || settle_at <= now;
        if !is_told && unsettled == 0 {
            work.settle_at = None;
            work.place = Some(place);
        } else if is_time {
            work.settle_at = None;
            let settled = self.settle(&id, &mut place, Vec::new()).await;
            work.place = Some(place);
            if settled? && is_told {
                // Another life of the conversation may have something to tell.
                work.place = None;
                return Ok(Next::More(std::mem::take(work)));
            }
        } else {
            work.place = Some(place);
        }
        Ok(match retry {
            Some(at) => Next::Retry(at, std::mem::take(work)),
            None if is_told => {
                let at = work.settle_at.unwrap_or(now);
                Next::Linger(at, std::mem::take(work))
            }
            None => Next::More(std::mem::take(work)),
        })
    }

    async fn tell_page(
        &self,
        id: &ConversationId,
        place: &mut Place,
        work: &mut Work,
        stop: &CancellationToken,
    ) -> Result<Page, Halt> {
        let question = Events {
            id: id.clone(),
            incarnation: place.incarnation,
            after: place.told,
            limit: EVENTS_PER_TURN,
        };
        let page = self.store.ask(question).await?;
        self.pass_over_gap(id, place, &page).await?;
        work.oldest = page.events.first().map(|event| event.at);
        let group = self.group(id, place, &page.events).await?;
        for (index, event) in page.events.iter().enumerate() {
            if stop.is_cancelled() {
                return Ok(Page::More);
            }
            work.oldest = Some(event.at);
            match self.tell(id, place, &page.events[index..], group.as_ref(), work, stop).await? {
                Told::Done => {
                    (work.tries, work.counted) = (0, 0);
                    // A letter for a dead event has moved it on already.
                    place.told = place.told.max(event.number);
                }
                Told::Again(at) => return Ok(Page::Again(at)),
                Told::Stopped => return Ok(Page::More),
                Told::Deposed => return Err(Halt::Deposed),
            }
        }
        work.oldest = None;
        let is_told = page.events.len() < EVENTS_PER_TURN && !page.ends_at_gap;
        Ok(if is_told { Page::Told } else { Page::More })
    }

    /// What the group is like, or was when it was destroyed, if one of these events needs that to be told.
    async fn group(
        &self,
        id: &ConversationId,
        place: &mut Place,
        events: &[Arc<Event>],
    ) -> Result<Option<Arc<Group>>, StoreError> {
        if let Some(gone) = &place.gone {
            return Ok(Some(Arc::clone(&gone.group)));
        }
        let needs = |event: &Arc<Event>| match body::callback_of(&id.conversation, event) {
            Some(
                Callback::AfterGroupMsgExtension
                | Callback::AfterC2cMsgExtension
                | Callback::AfterC2cSendMsg
                | Callback::AfterC2cMsgWithDraw,
            )
            | None => false,
            Some(callback) => self.policy.commands.contains(&callback),
        };
        if !events.iter().any(needs) {
            return Ok(None);
        }
        let view = self.store.ask(DescribeGroup { id: id.clone() }).await?;
        if let Some(view) = view
            && view.group.incarnation == place.incarnation
        {
            return Ok(Some(view.group));
        }
        place.gone = self.gone(id, place.incarnation).await?;
        Ok(place.gone.as_ref().map(|gone| Arc::clone(&gone.group)))
    }

    /// Tells the first of these events, once.
    async fn tell(
        &self,
        id: &ConversationId,
        place: &mut Place,
        events: &[Arc<Event>],
        group: Option<&Arc<Group>>,
        work: &mut Work,
        stop: &CancellationToken,
    ) -> Result<Told, Halt> {
        let Some((event, later)) = events.split_first() else { return Ok(Told::Done) };
        let callback = body::callback_of(&id.conversation, event);
        let Some(callback) = callback.filter(|callback| self.policy.commands.contains(callback)) else {
            return Ok(Told::Done);
        };
        let message = match body::message_of(event) {
            Some(name) => {
                let (id, incarnation) = (id.clone(), place.incarnation);
                self.store.ask(FindMessage { id, incarnation, name }).await?
            }
            None => None,
        };
        let telling = Telling {
            conversation: &id.conversation,
            event,
            next: later.first().map(|next| &**next),
            group,
            message: message.as_ref(),
            details: self.policy.details,
        };
        let Some(body) = body::tell(&telling) else { return Ok(Told::Done) };
        let name = event_name(place.incarnation.get(), event.number);
        let origin = body::origin(&event.operator);
        let letter = Letter { command: callback.command(), origin: &origin, body: &body, id: Some(&name) };
        let app = self.app.get();
        if !self.may_tell(place) {
            return Ok(Told::Deposed);
        }
        let answer = tokio::select! {
            biased;
            () = self.lapse(place) => return Ok(Told::Deposed),
            answer = self.receiver.post(&letter, self.now().secs()) => answer,
            () = too_late(stop) => return Ok(Told::Stopped),
        };
        let Err(failure) = answer else {
            self.figures.told.fetch_add(1, Ordering::Relaxed);
            let delay = u64::try_from(self.age(event.at).as_millis()).unwrap_or(u64::MAX);
            self.figures.delay_millis.fetch_add(delay, Ordering::Relaxed);
            self.figures.answered(app);
            (work.failures, work.failed_at) = (0, None);
            return Ok(Told::Done);
        };
        // A receiver that answers nobody says nothing about this event.
        let counts = !self.figures.is_failing();
        self.figures.failed(app, &failure);
        work.tries = work.tries.saturating_add(1);
        work.counted = work.counted.saturating_add(counts.into());
        work.failures = work.failures.saturating_add(1);
        work.failed_at = Some(Instant::now());
        let again = Instant::now() + self.pause(work.failures);
        let is_over = self.policy.give_up_tries.is_some_and(|most| work.counted >= most)
            || self.age(event.at) >= self.policy.give_up;
        if !is_over {
            return Ok(Told::Again(again));
        }
        let request = LetterRequest { command: callback.command().to_owned(), origin, body };
        let letter = dead_letter(event, self.now(), work.tries, &failure, request);
        self.bury(id, place, event.number, letter, 1).await?;
        (work.tries, work.counted) = (0, 0);
        if self.figures.is_failing() {
            // The next one would most probably fail too, and become a letter sooner than it has to.
            return Ok(Told::Again(again));
        }
        work.failures = 0;
        Ok(Told::Done)
    }

    /// Before the next try: doubled with each one up to a bound, and anything between half of that and all of it, so
    /// that many that failed together do not come back together.
    fn pause(&self, failures: u32) -> Duration {
        let doubled =
            self.policy.retry_first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
        let spread: f64 = rand::random();
        doubled.min(self.policy.retry_longest).mul_f64(0.5 + spread / 2.0)
    }
}

/// Waits until a process that shared the store is gone; for ever where there is none.
async fn departure(departures: Option<&mut watch::Receiver<u64>>) {
    let Some(departures) = departures else { return std::future::pending().await };
    if departures.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until the server stops, and then as long as a request may still take.
async fn too_late(stop: &CancellationToken) {
    stop.cancelled().await;
    sleep(STOP_PATIENCE).await;
}

/// How a page of events was told.
enum Page {
    /// Nothing is left for now.
    Told,
    More,
    Again(Instant),
}

/// The name by which a receiver can tell that it gets an event once more.
fn event_name(incarnation: u64, number: EventNumber) -> String {
    format!("{incarnation:016x}-{}", number.get())
}

/// The operator of a settlement is never told to anybody, but a command has one.
pub(super) fn someone() -> UserId {
    UserId::new("server").expect("six letters are a UserID")
}
