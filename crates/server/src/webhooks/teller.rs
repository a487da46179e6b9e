//! Telling the events of one app, at least once and in order.
//!
//! The store knows for each conversation how far it was told. That is written down late, when a conversation has been
//! quiet for a moment or much was told, so that it costs few commits. Whatever was told and not written down when the
//! process dies is told once more.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use sidenote_core::Outcome;
use sidenote_core::command::{Action, Command, OutboxAction};
use sidenote_core::event::{Event, Operator};
use sidenote_core::group::Group;
use sidenote_core::ids::{AppId, Conversation, ConversationId, EventNumber, Timestamp, UserId};
use sidenote_core::outbox::{DeadLetter, LetterRequest};
use sidenote_core::query::{DescribeGroup, EventPage, Events, FindMessage, Outboxes};
use sidenote_store::{Store, StoreError};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Webhook;
use crate::webhooks::body::{self, Telling};
use crate::webhooks::callback::Callback;
use crate::webhooks::figures::Figures;
use crate::webhooks::receiver::{Failure, Letter, Receiver};
use crate::webhooks::schedule::{Next, Place, Schedule, Work};

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

/// How long to wait after the store failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);

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
    /// It failed and is to be tried again.
    Again(Instant),
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
        let mut next_scan = Instant::now();
        while !stop.is_cancelled() {
            if next_scan <= Instant::now() {
                next_scan = Instant::now() + self.scan().await;
            }
            while turns.len() < self.policy.parallel {
                let Some((conversation, work)) = self.schedule().take(Instant::now()) else { break };
                turns.push(self.turn(conversation, work, stop));
            }
            let due = self.schedule().due().map_or(next_scan, |due| due.min(next_scan));
            tokio::select! {
                () = stop.cancelled() => {}
                Some(()) = turns.next() => {}
                () = self.wake.notified() => {}
                () = sleep_until(due) => {}
            }
        }
        // What is under way is waited for, at most as long as a request may take, so that it need not be told twice.
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
    /// Gives the time until this is to be done again.
    async fn scan(&self) -> Duration {
        self.schedule().take_overflow();
        let mut after = None;
        loop {
            let question = Outboxes { app: self.app, conversation: None, after, limit: OUTBOXES_PER_PAGE };
            let Ok(page) = self.store.ask(question).await else { return STORE_PAUSE };
            let mut schedule = self.schedule();
            for (id, ..) in &page {
                schedule.find(&id.conversation);
            }
            if schedule.take_overflow() {
                return OVERFLOW_PAUSE;
            }
            if page.len() < OUTBOXES_PER_PAGE {
                return SCAN_PAUSE;
            }
            after = page.into_iter().next_back().map(|(id, incarnation, _)| (id, incarnation));
        }
    }

    /// Tells a bounded number of events of one conversation.
    async fn turn(&self, conversation: Conversation, mut work: Work, stop: &CancellationToken) {
        let next = match self.advance(&conversation, &mut work, stop).await {
            Ok(next) => next,
            Err(error) => {
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
    ) -> Result<Next, StoreError> {
        let id = self.id(conversation);
        let Some(mut place) = self.place(&id, work.place.take()).await? else { return Ok(Next::Done) };
        let outcome = self.tell_page(&id, &mut place, work, stop).await;
        let mut is_told = false;
        let mut retry = None;
        match outcome {
            Ok(Page::Told) => is_told = true,
            Ok(Page::More) => {}
            Ok(Page::Again(at)) => retry = Some(at),
            Err(error) => {
                work.place = Some(place);
                return Err(error);
            }
        }
        let unsettled = place.told.get() - place.settled.get();
        let now = Instant::now();
        let settle_at = *work.settle_at.get_or_insert(now + SETTLE_PAUSE);
        // Nothing more comes of a life that is over, and another one may be waiting.
        let is_over = is_told && place.gone.is_some();
        let is_time = unsettled >= MOST_UNSETTLED || is_over || settle_at <= now;
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

    /// Where to go on: where the last turn ended, or what the store knows. Lives that are over come before the present
    /// one, in the order in which they were.
    async fn place(&self, id: &ConversationId, known: Option<Place>) -> Result<Option<Place>, StoreError> {
        if known.is_some() {
            return Ok(known);
        }
        let question = Outboxes {
            app: self.app,
            conversation: Some(id.conversation.clone()),
            after: None,
            limit: OUTBOXES_PER_PAGE,
        };
        let mut outboxes = self.store.ask(question).await?;
        outboxes.sort_by_key(|(_, _, outbox)| (outbox.gone.is_none(), outbox.since));
        Ok(outboxes.into_iter().next().map(|(_, incarnation, outbox)| Place {
            incarnation,
            gone: outbox.gone,
            told: outbox.after,
            settled: outbox.after,
        }))
    }

    async fn tell_page(
        &self,
        id: &ConversationId,
        place: &mut Place,
        work: &mut Work,
        stop: &CancellationToken,
    ) -> Result<Page, StoreError> {
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
            let next = page.events.get(index + 1).map(|next| &**next);
            work.oldest = Some(event.at);
            match self.tell(id, place, event, next, group.as_ref(), work).await? {
                Told::Done => {
                    work.tries = 0;
                    // A letter for a dead event has moved it on already.
                    place.told = place.told.max(event.number);
                }
                Told::Again(at) => return Ok(Page::Again(at)),
            }
        }
        work.oldest = None;
        Ok(if page.events.len() < EVENTS_PER_TURN { Page::Told } else { Page::More })
    }

    /// What the group is like, if one of these events needs that to be told.
    async fn group(
        &self,
        id: &ConversationId,
        place: &Place,
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
        Ok(view.map(|view| view.group).filter(|group| group.incarnation == place.incarnation))
    }

    /// Events that are gone from the log before they were told leave a letter that says so.
    async fn pass_over_gap(
        &self,
        id: &ConversationId,
        place: &mut Place,
        page: &EventPage,
    ) -> Result<(), StoreError> {
        let known_last = match (&place.gone, page.events.first()) {
            (_, Some(first)) => Some(EventNumber::new(first.number.get() - 1)),
            (Some(gone), None) => Some(gone.last),
            (None, None) if page.cursor_too_old => {
                let view = self.store.ask(DescribeGroup { id: id.clone() }).await?;
                view.filter(|view| view.group.incarnation == place.incarnation)
                    .map(|view| view.counters.last_event)
            }
            (None, None) => None,
        };
        let Some(last) = known_last.filter(|last| *last > place.told) else { return Ok(()) };
        let (first, now) = (place.told.next(), self.now());
        let letter = DeadLetter {
            first,
            happened_at: now,
            given_up_at: now,
            tries: 0,
            reason: "the events fell out of events.keep_untold_per_conversation before they were told"
                .to_owned(),
            request: None,
        };
        let events = last.get() - place.told.get();
        place.told = last;
        let dropped = self.settle_counting(id, place, vec![(last, letter)]).await?.1;
        self.figures.gave_up(self.app.get(), events, dropped);
        Ok(())
    }

    /// Tells one event, once.
    async fn tell(
        &self,
        id: &ConversationId,
        place: &mut Place,
        event: &Event,
        next: Option<&Event>,
        group: Option<&Arc<Group>>,
        work: &mut Work,
    ) -> Result<Told, StoreError> {
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
            next,
            group,
            message: message.as_ref(),
            details: self.policy.details,
        };
        let Some(body) = body::tell(&telling) else { return Ok(Told::Done) };
        let name = event_name(place.incarnation.get(), event.number);
        let origin = body::origin(&event.operator);
        let letter = Letter { command: callback.command(), origin: &origin, body: &body, id: Some(&name) };
        let app = self.app.get();
        match self.receiver.post(&letter, self.now().secs()).await {
            Ok(_) => {
                self.figures.told.fetch_add(1, Ordering::Relaxed);
                let delay = u64::try_from(self.age(event.at).as_millis()).unwrap_or(u64::MAX);
                self.figures.delay_millis.fetch_add(delay, Ordering::Relaxed);
                if self.figures.answered(app) && self.schedule().retry_now() {
                    self.wake.notify_one();
                }
                Ok(Told::Done)
            }
            Err(failure) => {
                work.tries = work.tries.saturating_add(1);
                self.figures.failed(app, &failure);
                let is_over = self.policy.give_up_tries.is_some_and(|most| work.tries >= most)
                    || self.age(event.at) >= self.policy.give_up;
                if !is_over {
                    return Ok(Told::Again(Instant::now() + self.pause(work.tries)));
                }
                let request = LetterRequest { command: callback.command().to_owned(), origin, body };
                let letter = dead_letter(event, self.now(), work.tries, &failure, request);
                place.told = event.number;
                let dropped = self.settle_counting(id, place, vec![(event.number, letter)]).await?.1;
                self.figures.gave_up(app, 1, dropped);
                Ok(Told::Done)
            }
        }
    }

    /// Before the next try: doubled with each one up to a bound, and anything between half of that and all of it, so
    /// that many that failed together do not come back together.
    fn pause(&self, tries: u32) -> Duration {
        let doubled = self.policy.retry_first.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1)));
        let spread: f64 = rand::random();
        doubled.min(self.policy.retry_longest).mul_f64(0.5 + spread / 2.0)
    }

    /// Writes down how far a conversation was told. Says whether nothing is left to tell.
    async fn settle(
        &self,
        id: &ConversationId,
        place: &mut Place,
        dead: Vec<(EventNumber, DeadLetter)>,
    ) -> Result<bool, StoreError> {
        self.settle_counting(id, place, dead).await.map(|(empty, _)| empty)
    }

    async fn settle_counting(
        &self,
        id: &ConversationId,
        place: &mut Place,
        mut dead: Vec<(EventNumber, DeadLetter)>,
    ) -> Result<(bool, usize), StoreError> {
        let mut dropped_in_all = 0;
        loop {
            let action = OutboxAction::Settle { through: place.told, dead: std::mem::take(&mut dead) };
            let command = Command {
                operator: Operator::server(someone()),
                at: self.now(),
                action: Action::Outbox(id.clone(), place.incarnation, action),
            };
            let (reached, empty) = match self.store.commit(command).await?.verdict {
                Ok(Outcome::Settled { after, empty, dropped }) => {
                    dropped_in_all += dropped;
                    (after, empty)
                }
                // No rule refuses it.
                _ => (place.told, false),
            };
            if empty || reached >= place.told {
                place.settled = place.told;
                return Ok((empty, dropped_in_all));
            }
        }
    }
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

fn dead_letter(
    event: &Event,
    now: Timestamp,
    tries: u32,
    failure: &Failure,
    request: LetterRequest,
) -> DeadLetter {
    let mut reason = failure.to_string();
    let mut end = reason.len().min(DeadLetter::MAX_REASON_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    DeadLetter {
        first: event.number,
        happened_at: event.at,
        given_up_at: now,
        tries,
        reason,
        request: Some(request),
    }
}

/// The operator of a settlement is never told to anybody, but a command has one.
pub(super) fn someone() -> UserId {
    UserId::new("server").expect("six letters are a UserID")
}
