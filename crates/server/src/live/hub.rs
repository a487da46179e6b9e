//! The front for those who follow, and the one task that hands events out. Why everybody hears what they should is
//! said in [`followers`](super::followers).

mod elsewhere;
mod people;
mod unread;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use sidenote_core::event::{Event, Happening};
use sidenote_core::ids::{AccountId, AppId, ConversationId, EventNumber, Incarnation, TinyId, UserId};
use sidenote_core::query::{Accounts, Events, JoinedGroups};
use sidenote_store::audience::{Audience, Followed};
use sidenote_store::{News, Store, StoreError};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::delivery::Delivery;
use super::followers::{Followers, HandedOut};
use super::mailbox::{Ended, Inbox, Mailbox};
use unread::{AGAIN, Unread};

/// Events that are read from the log at a time.
const EVENTS_PER_READ: usize = 200;

/// Groups of an account that are read at a time.
const GROUPS_PER_READ: usize = 200;

/// Events that are handed out before others get the lock, and the worker.
const EVENTS_PER_LOCK: usize = 32;

/// How long the task waits then for receivers of which a mailbox is more than half full. One that takes nothing is cut off
/// after a handful of such pauses, so it cannot hold up others for long.
const PAUSE: Duration = Duration::from_millis(2);

/// Everybody who follows, and the way to the events.
#[derive(Debug)]
pub(crate) struct Hub {
    store: StoreHandle,
    state: Mutex<Followers>,
    /// Somebody came or went.
    changed: Notify,
    /// Whether the news of the store is followed.
    following: watch::Sender<bool>,
    /// The server stops.
    closed: AtomicBool,
    /// How often what is followed has changed, for whoever wants to know.
    audience: watch::Sender<u64>,
    unread: Mutex<Unread>,
}

/// A store has no form for people.
struct StoreHandle(Arc<dyn Store>);

impl std::fmt::Debug for StoreHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

/// For those who follow.
impl Hub {
    /// A hub that nobody follows yet. [`run`](Self::run) makes it work.
    pub(crate) fn new(store: Arc<dyn Store>) -> Arc<Self> {
        let hub = Arc::new(Self {
            store: StoreHandle(store),
            state: Mutex::default(),
            changed: Notify::new(),
            following: watch::Sender::new(false),
            closed: AtomicBool::new(false),
            audience: watch::Sender::new(0),
            unread: Mutex::default(),
        });
        let audience: Weak<Self> = Arc::downgrade(&hub);
        hub.store().attend(audience);
        hub
    }

    /// Says that what is followed has changed, if it has.
    fn announce_changes(&self) {
        let changes = self.state().changes;
        self.audience.send_if_modified(|known| std::mem::replace(known, changes) != changes);
    }

    pub(super) fn store(&self) -> &dyn Store {
        &*self.store.0
    }

    /// Everything from now on that happens in the groups that the account of this name and number is or becomes a member
    /// of, and in its one-to-one conversations; it ends with the account. What happened before this returns is in the
    /// state, which can be read then.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        account: &AccountId,
        tiny_id: TinyId,
    ) -> Result<Inbox, StoreError> {
        let mut inbox = self.open(Some(account.user.clone()), |followers, mailbox| {
            followers.add_account(account, tiny_id, mailbox);
        });
        self.wait_until_following().await;
        // From here on news tells of the deletion of the account.
        let found = self.store().ask(Accounts { ids: vec![account.clone()] }).await?.pop().flatten();
        if found.is_some_and(|found| found.tiny_id == tiny_id) {
            self.attach_groups(account, tiny_id).await?;
            inbox.throw_away();
        } else {
            self.state().end_account(account, tiny_id, Ended::Removed);
        }
        Ok(inbox)
    }

    /// Everything from now on that happens in any conversation of an app.
    pub(crate) async fn follow_app(self: &Arc<Self>, app: AppId) -> Inbox {
        let inbox = self.open(None, |followers, mailbox| followers.add_app(app, mailbox));
        self.wait_until_following().await;
        inbox
    }

    /// What happens from now on in one life of a conversation; what happened before this returns can be read.
    pub(super) async fn follow_from(
        self: &Arc<Self>,
        conversation: &ConversationId,
        incarnation: Incarnation,
    ) -> Inbox {
        let inbox = self.open(None, |followers, mailbox| {
            followers.add_reader(conversation, incarnation, mailbox);
        });
        self.wait_until_following().await;
        inbox
    }

    /// Whether the server stops.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// A reader knows all that happened in a conversation up to this event, and will be told of the rest.
    pub(super) fn has_read(
        &self,
        conversation: &ConversationId,
        incarnation: Incarnation,
        last: EventNumber,
    ) {
        self.state().has_read(conversation, incarnation, last);
    }

    /// Nobody reads this mailbox any more.
    pub(super) fn forget(&self, id: u64) {
        let mut state = self.state();
        state.remove(id);
        let is_idle = state.is_idle();
        drop(state);
        self.announce_changes();
        if is_idle {
            self.changed.notify_one();
        }
    }

    /// A mailbox of `user`, or of nobody in particular, put where it belongs.
    fn open(self: &Arc<Self>, user: Option<UserId>, place: impl FnOnce(&mut Followers, Mailbox)) -> Inbox {
        let mut state = self.state();
        let (mailbox, inbox) = Mailbox::open(state.new_id(), Arc::downgrade(self), user);
        if state.closed {
            mailbox.end(Ended::Closing);
        } else {
            place(&mut state, mailbox);
        }
        drop(state);
        self.announce_changes();
        self.changed.notify_one();
        inbox
    }

    async fn wait_until_following(&self) {
        let mut following = self.following.subscribe();
        // An error means that the hub is gone, and then so is whoever waits.
        let _ = following.wait_for(|following| *following).await;
    }

    fn state(&self) -> MutexGuard<'_, Followers> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets an account hear all groups that it is in.
    async fn attach_groups(&self, account: &AccountId, tiny_id: TinyId) -> Result<(), StoreError> {
        let mut doubts = HashMap::new();
        let attached = self.attach_where_member(account, tiny_id, &mut doubts).await;
        if attached.is_err() && !doubts.is_empty() {
            // These places stay in doubt and hear nothing, and other connections of the account may have them too.
            self.state().lose(account.app, [&account.user]);
        }
        attached
    }

    /// The same, and which places are in doubt, until they are settled.
    async fn attach_where_member(
        &self,
        account: &AccountId,
        tiny_id: TinyId,
        doubts: &mut HashMap<(ConversationId, Incarnation), u64>,
    ) -> Result<(), StoreError> {
        let mut attach = |followers: &mut Followers, group: ConversationId, incarnation, last| {
            if let Some(doubt) = followers.attach(account, tiny_id, (&group, incarnation), last) {
                doubts.insert((group, incarnation), doubt);
            }
        };
        self.look_through_groups(account, tiny_id, &mut attach).await?;
        self.announce_changes();
        if doubts.is_empty() {
            return Ok(());
        }
        // That it left one of them may have been passed before it was attached. From here on nothing is.
        let mut settle = |followers: &mut Followers, group: ConversationId, incarnation, last| {
            let group = (group, incarnation);
            if let Some(doubt) = doubts.remove(&group) {
                followers.settle(account, (&group.0, incarnation), doubt, Some(last));
            }
        };
        self.look_through_groups(account, tiny_id, &mut settle).await?;
        let mut state = self.state();
        for ((group, incarnation), doubt) in doubts.drain() {
            state.settle(account, (&group, incarnation), doubt, None);
        }
        Ok(())
    }

    /// Shows the groups of an account one by one, each with its incarnation and its last event at that time.
    async fn look_through_groups(
        &self,
        account: &AccountId,
        tiny_id: TinyId,
        show: &mut (impl FnMut(&mut Followers, ConversationId, Incarnation, EventNumber) + Send),
    ) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let question = JoinedGroups { account: account.clone(), after, limit: GROUPS_PER_READ };
            let page = self.store().ask(question).await?;
            let mut state = self.state();
            for (group, view, member) in page.groups {
                // Those of an account that has the name since are not its own.
                if member.tiny_id == tiny_id {
                    let group = ConversationId::group(account.app, group);
                    show(&mut state, group, view.group.incarnation, view.counters.last_event);
                }
            }
            drop(state);
            if page.next.is_none() {
                return Ok(());
            }
            after = page.next;
        }
    }
}

impl Audience for Hub {
    fn followed(&self) -> Followed {
        self.state().followed()
    }

    fn may_want(&self, conversation: &ConversationId, joins: bool) -> bool {
        self.state().may_want_found(conversation, joins)
    }

    fn ends_here(&self, conversation: &ConversationId, incarnation: Incarnation, last: EventNumber) {
        if self.state().take_back(conversation, incarnation, last) {
            tracing::error!(
                "events were told that the log does not have; those who follow are cut off, so that they look at the state"
            );
            self.announce_changes();
        }
    }

    fn is_gone(&self, conversation: &ConversationId, incarnation: Incarnation) {
        self.state().forget_life(conversation, incarnation);
        self.announce_changes();
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.audience.subscribe()
    }
}

/// The task that hands events out.
impl Hub {
    /// Works until it is told to stop; whoever follows then is told that the server closes.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let work = async {
            loop {
                self.changed.notified().await;
                if !self.state().is_idle() {
                    self.follow_news().await;
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
        let mut state = self.state();
        state.closed = true;
        self.closed.store(true, Ordering::Release);
        state.end_all(Ended::Closing);
        drop(state);
        self.following.send_replace(true);
    }

    /// Follows the news for as long as anybody is interested.
    async fn follow_news(&self) {
        let mut news = self.store().news();
        self.following.send_replace(true);
        let mut burst = Burst::default();
        let mut again = Instant::now() + AGAIN;
        loop {
            let has_unread = !self.unread().is_empty();
            tokio::select! {
                told = news.next() => {
                    for (account, tiny_id) in &told.deleted {
                        self.state().end_account(account, *tiny_id, Ended::Removed);
                    }
                    for news in &told.news {
                        // What waits is not read for each piece of news again: nobody else may wait for that.
                        if !self.unread().takes(news) {
                            self.pass_on(news, &mut burst).await;
                        }
                    }
                    self.announce_changes();
                }
                () = tokio::time::sleep_until(again), if has_unread => {
                    self.read_again(&mut burst).await;
                    again = Instant::now() + AGAIN;
                    self.announce_changes();
                }
                () = self.changed.notified() => {
                    let state = self.state();
                    if state.is_idle() {
                        self.unread().forget();
                        // Under the lock: whoever comes next finds that nobody follows, and waits.
                        self.following.send_replace(false);
                        return;
                    }
                }
            }
        }
    }

    pub(super) async fn pass_on(&self, news: &News, burst: &mut Burst) {
        let (conversation, incarnation) = (&news.conversation, news.incarnation);
        let before = EventNumber::new(news.first.get().saturating_sub(1));
        let has_other_lives = {
            let state = self.state();
            if !state.may_want(conversation) {
                return;
            }
            state.has_other_lives(conversation, incarnation)
        };
        if has_other_lives {
            self.end_other_lives(conversation, incarnation).await;
        }
        let (position, told) = {
            let state = self.state();
            let known = state.known(conversation, incarnation);
            let first_time = known.map_or(before, |known| known.min(before));
            let position = state.position(conversation, incarnation).unwrap_or(first_time);
            (position, state.stretch(conversation, incarnation))
        };
        if let Some((first, _)) = told
            && news.first < first
        {
            self.tell_late(news, first, burst).await;
        }
        if position >= news.last {
            return;
        }
        if news.events.is_empty() || position < before {
            self.read_on(conversation, incarnation, position, news.last, burst).await;
            return;
        }
        let old = news.events.partition_point(|event| event.number <= position);
        self.hand_out(conversation, incarnation, (&news.events[old..], news.last), burst).await;
    }

    fn unread(&self) -> MutexGuard<'_, Unread> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read_on(
        &self,
        conversation: &ConversationId,
        incarnation: Incarnation,
        mut position: EventNumber,
        last: EventNumber,
        burst: &mut Burst,
    ) {
        while position < last {
            let id = conversation.clone();
            let question = Events { id, incarnation, after: position, limit: EVENTS_PER_READ };
            let page = match self.store().ask(question).await {
                Ok(page) if !page.cursor_too_old => page,
                Ok(_) => return self.state().lose_events(conversation, incarnation),
                Err(error) => {
                    return self.put_off(conversation, incarnation, (position.next(), last), &error);
                }
            };
            // Not beyond what was asked for: where no channel remembers the position, the next news would tell it again.
            let asked = page.events.partition_point(|event| event.number <= last);
            let Some(newest) = page.events[..asked].last() else { return };
            position = newest.number;
            if !self.hand_out(conversation, incarnation, (&page.events[..asked], last), burst).await {
                return;
            }
        }
    }

    /// Hands out events that follow each other and belong to news up to a last one. False if that is not possible: then what
    /// is left is told later, or whoever follows was cut off.
    async fn hand_out(
        &self,
        conversation: &ConversationId,
        incarnation: Incarnation,
        (events, last): (&[Arc<Event>], EventNumber),
        burst: &mut Burst,
    ) -> bool {
        for events in events.chunks(EVENTS_PER_LOCK) {
            let mut deliveries = Vec::with_capacity(events.len());
            let mut failure = None;
            for event in events {
                // What follows an event by which somebody joins may concern whoever joined.
                if deliveries.is_empty() && !self.state().wants(conversation, incarnation, event) {
                    continue;
                }
                let delivery = match self.people(conversation, incarnation, event).await {
                    Ok(people) => self.delivery(conversation, incarnation, event, people).await,
                    Err(error) => Err(error),
                };
                match delivery {
                    Ok(delivery) => deliveries.push(delivery),
                    Err(error) => {
                        failure = Some((error, event));
                        break;
                    }
                }
            }
            let is_told = self.put(&deliveries, burst).await;
            if let Some((error, event)) = failure.filter(|_| is_told) {
                let is_lost = !matches!(error, StoreError::Busy { .. });
                self.put_off(conversation, incarnation, (event.number, last), &error);
                // That one is not read again in vain for ever.
                if is_lost {
                    self.unread().remove(incarnation);
                    if let Happening::MembersJoined { users, .. } = &event.what {
                        self.state().lose(conversation.app, users);
                    }
                }
                return false;
            }
            if !is_told {
                tracing::error!(
                    "events were to be told out of their order, which is a bug; those who follow are cut off"
                );
                self.state().lose_events(conversation, incarnation);
                return false;
            }
        }
        true
    }

    /// Puts events into mailboxes, with room for others to work in between. False if they do not follow what was told.
    async fn put(&self, mut deliveries: &[Delivery], burst: &mut Burst) -> bool {
        while !deliveries.is_empty() {
            let handed_out = self.state().hand_out(deliveries);
            let HandedOut::Events { count, is_crowded } = handed_out else { return false };
            deliveries = &deliveries[count..];
            burst.rest(count, is_crowded, deliveries.is_empty()).await;
        }
        true
    }
}

/// Sees to it that a burst of events leaves receivers time to take them.
#[derive(Debug, Default)]
pub(super) struct Burst {
    /// Events since the last rest.
    events: usize,
}

impl Burst {
    /// Rests after every so many events, or where an event was for very many.
    async fn rest(&mut self, events: usize, is_crowded: bool, is_all: bool) {
        self.events += events;
        if self.events < EVENTS_PER_LOCK && is_all {
            return;
        }
        self.events = 0;
        if is_crowded {
            tokio::time::sleep(PAUSE).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
}
