//! Who follows what, and the one task that hands events out.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sidenote_core::event::{Event, Happening};
use sidenote_core::ids::{
    AccountId, AppId, Conversation, ConversationId, EventNumber, Incarnation, MessageName, UserId,
};
use sidenote_core::message::MessageBody;
use sidenote_core::query::{Events, FindMessage, JoinedGroups};
use sidenote_store::{News, Store, StoreError};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::delivery::Delivery;
use super::mailbox::{Ended, Inbox, Mailbox};

/// Events that are read from the log at a time.
const EVENTS_PER_READ: usize = 200;

/// Groups of an account that are read at a time.
const GROUPS_PER_READ: usize = 200;

/// Everybody who follows, and the way to the events.
#[derive(Debug)]
pub(crate) struct Hub {
    store: StoreHandle,
    state: Mutex<State>,
    /// Somebody came or went, or wants a conversation to be looked at.
    changed: Notify,
    /// Whether the news of the store is followed.
    following: watch::Sender<bool>,
}

/// A store has no form for people.
struct StoreHandle(Arc<dyn Store>);

impl std::fmt::Debug for StoreHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

#[derive(Debug, Default)]
struct State {
    /// Nobody follows any more, and nobody can.
    closed: bool,
    last_id: u64,
    channels: HashMap<ConversationId, Channel>,
    accounts: HashMap<AccountId, Listener>,
    apps: HashMap<AppId, Vec<Mailbox>>,
    /// Conversations of which the log is to be read, because somebody began to follow them a moment ago.
    to_read: HashSet<ConversationId>,
    /// What a mailbox belongs to, so that it is found when it goes.
    owners: HashMap<u64, Owner>,
}

#[derive(Clone, Debug)]
enum Owner {
    Account(AccountId),
    Conversation(ConversationId),
    App(AppId),
}

/// A conversation that somebody follows.
#[derive(Debug)]
struct Channel {
    incarnation: Incarnation,
    /// The last event that was handed out.
    position: EventNumber,
    /// Members that are connected.
    members: HashSet<UserId>,
    /// Those who follow this conversation alone.
    readers: Vec<Reader>,
}

#[derive(Debug)]
struct Reader {
    mailbox: Mailbox,
    /// It has seen what came up to here.
    after: EventNumber,
    /// It may read for as long as this account is a member; `None`: whatever happens.
    member: Option<UserId>,
}

/// An account that is connected.
#[derive(Debug, Default)]
struct Listener {
    mailboxes: Vec<Mailbox>,
    groups: HashSet<ConversationId>,
}

impl State {
    fn is_idle(&self) -> bool {
        self.owners.is_empty()
    }

    fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Whether an event of this conversation concerns anybody. Any account of the app may be one that joins.
    fn wants(&self, conversation: &ConversationId) -> bool {
        self.channels.contains_key(conversation)
            || self.apps.contains_key(&conversation.app)
            || self.accounts.keys().any(|account| account.app == conversation.app)
    }

    fn drop_channel_if_empty(&mut self, conversation: &ConversationId) {
        let is_empty = |channel: &Channel| channel.members.is_empty() && channel.readers.is_empty();
        if self.channels.get(conversation).is_some_and(is_empty) && !self.apps.contains_key(&conversation.app)
        {
            self.channels.remove(conversation);
        }
    }

    fn remove(&mut self, id: u64) {
        match self.owners.remove(&id) {
            None => {}
            Some(Owner::App(app)) => {
                if let Entry::Occupied(mut readers) = self.apps.entry(app) {
                    readers.get_mut().retain(|mailbox| mailbox.id != id);
                    if readers.get().is_empty() {
                        readers.remove();
                        self.channels.retain(|conversation, channel| {
                            conversation.app != app
                                || !channel.members.is_empty()
                                || !channel.readers.is_empty()
                        });
                    }
                }
            }
            Some(Owner::Conversation(conversation)) => {
                if let Some(channel) = self.channels.get_mut(&conversation) {
                    channel.readers.retain(|reader| reader.mailbox.id != id);
                }
                self.drop_channel_if_empty(&conversation);
            }
            Some(Owner::Account(account)) => {
                let Some(listener) = self.accounts.get_mut(&account) else { return };
                listener.mailboxes.retain(|mailbox| mailbox.id != id);
                if listener.mailboxes.is_empty() {
                    let groups = std::mem::take(&mut listener.groups);
                    self.accounts.remove(&account);
                    for group in groups {
                        if let Some(channel) = self.channels.get_mut(&group) {
                            channel.members.remove(&account.user);
                        }
                        self.drop_channel_if_empty(&group);
                    }
                }
            }
        }
    }

    /// Lets a connected member hear a group from `position` on. False if events after it were handed out already,
    /// among them perhaps that it left.
    fn attach(
        &mut self,
        account: &AccountId,
        group: &ConversationId,
        incarnation: Incarnation,
        position: EventNumber,
    ) -> bool {
        let Some(listener) = self.accounts.get_mut(account) else { return true };
        let channel =
            self.channels.entry(group.clone()).or_insert_with(|| Channel::new(incarnation, position));
        if channel.incarnation != incarnation || channel.position > position {
            self.drop_channel_if_empty(group);
            return false;
        }
        channel.members.insert(account.user.clone());
        listener.groups.insert(group.clone());
        true
    }

    /// Hands events out that follow each other.
    fn hand_out(&mut self, deliveries: &[Delivery]) {
        for delivery in deliveries {
            let conversation = delivery.conversation().clone();
            if let Conversation::Direct(one, other) = &conversation.conversation {
                for user in [one, other] {
                    self.put_to_account(&AccountId { app: conversation.app, user: user.clone() }, delivery);
                    if one == other {
                        break;
                    }
                }
            }
            if let Happening::MembersJoined { users, .. } = &delivery.event().what {
                for user in users {
                    self.join(&conversation, user, delivery);
                }
            }
            self.put_to_channel(&conversation, delivery);
        }
    }

    fn put_to_account(&self, account: &AccountId, delivery: &Delivery) {
        for mailbox in self.accounts.get(account).into_iter().flat_map(|listener| &listener.mailboxes) {
            mailbox.put(delivery);
        }
    }

    /// A connected account hears a group from the event on by which it joined.
    fn join(&mut self, group: &ConversationId, user: &UserId, delivery: &Delivery) {
        let account = AccountId { app: group.app, user: user.clone() };
        let Some(listener) = self.accounts.get_mut(&account) else { return };
        let before = EventNumber::new(delivery.event().number.get().saturating_sub(1));
        let channel = self
            .channels
            .entry(group.clone())
            .or_insert_with(|| Channel::new(delivery.incarnation(), before));
        channel.members.insert(user.clone());
        listener.groups.insert(group.clone());
    }

    fn put_to_channel(&mut self, conversation: &ConversationId, delivery: &Delivery) {
        let number = delivery.event().number;
        if self.apps.contains_key(&conversation.app) {
            // Where nobody else follows it, the channel remembers what those who follow the app were told.
            let before = EventNumber::new(number.get().saturating_sub(1));
            self.channels
                .entry(conversation.clone())
                .or_insert_with(|| Channel::new(delivery.incarnation(), before));
        }
        let Some(channel) = self.channels.get_mut(conversation) else { return };
        if channel.incarnation != delivery.incarnation() || channel.position >= number {
            return;
        }
        channel.position = number;
        let gone: &[UserId] = match &delivery.event().what {
            Happening::MembersLeft { users, .. } => users,
            _ => &[],
        };
        // Whoever was removed hears nothing from here on, not even that.
        for user in gone {
            if channel.members.remove(user) {
                let account = AccountId { app: conversation.app, user: user.clone() };
                if let Some(listener) = self.accounts.get_mut(&account) {
                    listener.groups.remove(conversation);
                }
            }
        }
        for user in &channel.members {
            let account = AccountId { app: conversation.app, user: user.clone() };
            for mailbox in self.accounts.get(&account).into_iter().flat_map(|listener| &listener.mailboxes) {
                mailbox.put(delivery);
            }
        }
        for mailbox in self.apps.get(&conversation.app).into_iter().flatten() {
            mailbox.put(delivery);
        }
        let is_destroyed = delivery.event().what == Happening::GroupDestroyed;
        for reader in channel.readers.iter().filter(|reader| reader.after < number) {
            reader.mailbox.put(delivery);
            if is_destroyed || reader.member.as_ref().is_some_and(|member| gone.contains(member)) {
                reader.mailbox.end(Ended::Removed);
            }
        }
        if is_destroyed {
            self.end_channel(conversation, Ended::Removed);
        } else {
            self.drop_channel_if_empty(conversation);
        }
    }

    /// Nobody hears of this conversation any more, unless it is made again.
    fn end_channel(&mut self, conversation: &ConversationId, why: Ended) {
        let Some(channel) = self.channels.remove(conversation) else { return };
        for reader in channel.readers {
            reader.mailbox.end(why);
        }
        for user in channel.members {
            let account = AccountId { app: conversation.app, user };
            if let Some(listener) = self.accounts.get_mut(&account) {
                listener.groups.remove(conversation);
                if why == Ended::Lost {
                    for mailbox in &listener.mailboxes {
                        mailbox.end(why);
                    }
                }
            }
        }
    }

    fn end_all(&mut self, why: Ended) {
        let readers = self.channels.drain().flat_map(|(_, channel)| channel.readers);
        let readers = readers.map(|reader| reader.mailbox);
        let accounts = self.accounts.drain().flat_map(|(_, listener)| listener.mailboxes);
        let apps = self.apps.drain().flat_map(|(_, mailboxes)| mailboxes);
        for mailbox in readers.chain(accounts).chain(apps) {
            mailbox.end(why);
        }
        self.owners.clear();
        self.to_read.clear();
    }
}

impl Channel {
    fn new(incarnation: Incarnation, position: EventNumber) -> Self {
        Self { incarnation, position, members: HashSet::new(), readers: Vec::new() }
    }
}

/// For those who follow.
impl Hub {
    /// A hub that nobody follows yet. [`run`](Self::run) makes it work.
    pub(crate) fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            store: StoreHandle(store),
            state: Mutex::default(),
            changed: Notify::new(),
            following: watch::Sender::new(false),
        })
    }

    pub(super) fn store(&self) -> &dyn Store {
        &*self.store.0
    }

    /// Everything from now on that happens in the groups that the account is or becomes a member of, and in its
    /// one-to-one conversations. What happened before this returns is in the state, which can be read then.
    pub(crate) async fn connect(self: &Arc<Self>, account: &AccountId) -> Result<Inbox, StoreError> {
        let inbox = {
            let mut state = self.state();
            let inbox = self.open(&mut state, Owner::Account(account.clone()), |state, mailbox| {
                state.accounts.entry(account.clone()).or_default().mailboxes.push(mailbox);
            });
            drop(state);
            inbox
        };
        self.wait_until_following().await;
        self.attach_groups(account).await?;
        Ok(inbox)
    }

    /// Everything from now on that happens in any conversation of an app.
    pub(crate) async fn follow_app(self: &Arc<Self>, app: AppId) -> Inbox {
        let inbox = {
            let mut state = self.state();
            self.open(&mut state, Owner::App(app), |state, mailbox| {
                state.apps.entry(app).or_default().push(mailbox);
            })
        };
        self.wait_until_following().await;
        inbox
    }

    /// What happens in one conversation after an event that was the last one a moment ago. `None` if others have
    /// been told more already: look again.
    pub(super) async fn follow_from(
        self: &Arc<Self>,
        conversation: &ConversationId,
        incarnation: Incarnation,
        after: EventNumber,
        member: Option<UserId>,
    ) -> Option<Inbox> {
        let inbox = {
            let mut state = self.state();
            if let Some(channel) = state.channels.get(conversation)
                && (channel.incarnation != incarnation || channel.position > after)
            {
                return None;
            }
            let inbox = self.open(&mut state, Owner::Conversation(conversation.clone()), |state, mailbox| {
                let channel = state
                    .channels
                    .entry(conversation.clone())
                    .or_insert_with(|| Channel::new(incarnation, after));
                channel.readers.push(Reader { mailbox, after, member });
            });
            // An event that was told before this reader came is no news any more.
            state.to_read.insert(conversation.clone());
            inbox
        };
        self.changed.notify_one();
        self.wait_until_following().await;
        Some(inbox)
    }

    /// Nobody reads this mailbox any more.
    pub(super) fn forget(&self, id: u64) {
        let mut state = self.state();
        state.remove(id);
        let is_idle = state.is_idle();
        drop(state);
        if is_idle {
            self.changed.notify_one();
        }
    }

    fn open(
        self: &Arc<Self>,
        state: &mut State,
        owner: Owner,
        place: impl FnOnce(&mut State, Mailbox),
    ) -> Inbox {
        let id = state.new_id();
        let (mailbox, inbox) = Mailbox::open(id, Arc::downgrade(self));
        if state.closed {
            mailbox.end(Ended::Closing);
        } else {
            state.owners.insert(id, owner);
            place(state, mailbox);
            self.changed.notify_one();
        }
        inbox
    }

    async fn wait_until_following(&self) {
        let mut following = self.following.subscribe();
        // An error means that the hub is gone, and then so is whoever waits.
        let _ = following.wait_for(|following| *following).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets an account hear all groups that it is in.
    async fn attach_groups(&self, account: &AccountId) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let start = after.clone();
            let question = JoinedGroups { account: account.clone(), after, limit: GROUPS_PER_READ };
            let page = self.store().ask(question).await?;
            let mut state = self.state();
            let all_fit = page.groups.iter().all(|(group, view, _)| {
                let conversation = ConversationId::group(account.app, group.clone());
                state.attach(account, &conversation, view.group.incarnation, view.counters.last_event)
            });
            drop(state);
            // If events of one of them were handed out since it was read, the page is read again. They are
            // durable before they are handed out, so it is newer then.
            after = if all_fit { page.next } else { start.clone() };
            if all_fit && after.is_none() {
                return Ok(());
            }
        }
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
        state.end_all(Ended::Closing);
        drop(state);
        self.following.send_replace(true);
    }

    /// Follows the news for as long as anybody is interested.
    async fn follow_news(&self) {
        let mut news = self.store().news();
        self.following.send_replace(true);
        loop {
            tokio::select! {
                told = news.next() => {
                    for news in &told {
                        self.pass_on(news).await;
                    }
                }
                () = self.changed.notified() => {
                    let to_read = {
                        let mut state = self.state();
                        if state.is_idle() {
                            // Under the lock: whoever comes next finds that nobody follows, and waits.
                            state.channels.clear();
                            self.following.send_replace(false);
                            return;
                        }
                        std::mem::take(&mut state.to_read)
                    };
                    for conversation in to_read {
                        self.read_log(&conversation).await;
                    }
                }
            }
        }
    }

    async fn pass_on(&self, news: &News) {
        let channel = {
            let state = self.state();
            if !state.wants(&news.conversation) {
                return;
            }
            state.channels.get(&news.conversation).map(|channel| (channel.incarnation, channel.position))
        };
        let before = EventNumber::new(news.first.get().saturating_sub(1));
        let position = match channel {
            Some((incarnation, position)) if incarnation == news.incarnation => position,
            Some(_) => {
                // The conversation was made again, and the news of its end was lost.
                self.state().end_channel(&news.conversation, Ended::Lost);
                before
            }
            None => before,
        };
        if position >= news.last {
            return;
        }
        if news.events.is_empty() || position < before {
            self.read_on(&news.conversation, news.incarnation, position, news.last).await;
            return;
        }
        let mut deliveries = Vec::with_capacity(news.events.len());
        for event in news.events.iter().filter(|event| event.number > position) {
            deliveries.push(self.delivery(&news.conversation, news.incarnation, event).await);
        }
        self.state().hand_out(&deliveries);
    }

    /// Reads the log of a conversation that is followed, from what was handed out last.
    async fn read_log(&self, conversation: &ConversationId) {
        let channel = {
            let state = self.state();
            state.channels.get(conversation).map(|channel| (channel.incarnation, channel.position))
        };
        if let Some((incarnation, position)) = channel {
            self.read_on(conversation, incarnation, position, EventNumber::new(u64::MAX)).await;
        }
    }

    async fn read_on(
        &self,
        conversation: &ConversationId,
        incarnation: Incarnation,
        mut position: EventNumber,
        last: EventNumber,
    ) {
        while position < last {
            let question = Events { incarnation, after: position, limit: EVENTS_PER_READ };
            let page = match self.store().ask(question).await {
                Ok(page) if !page.cursor_too_old => page,
                Ok(_) => return self.state().end_channel(conversation, Ended::Lost),
                Err(error) => {
                    tracing::error!(%error, "events could not be read for those who follow them; they are cut off");
                    return self.state().end_channel(conversation, Ended::Lost);
                }
            };
            let Some(newest) = page.events.last() else { return };
            position = newest.number;
            let mut deliveries = Vec::with_capacity(page.events.len());
            for event in &page.events {
                deliveries.push(self.delivery(conversation, incarnation, event).await);
            }
            self.state().hand_out(&deliveries);
        }
    }

    pub(super) async fn delivery(
        &self,
        conversation: &ConversationId,
        incarnation: Incarnation,
        event: &Arc<Event>,
    ) -> Delivery {
        let body = self.body(incarnation, event).await;
        Delivery::new(conversation.clone(), incarnation, Arc::clone(event), body)
    }

    /// What a message says. It may have been recalled since.
    async fn body(&self, incarnation: Incarnation, event: &Event) -> Option<Arc<MessageBody>> {
        let name = match &event.what {
            Happening::TransientMessage { body, .. } | Happening::DirectTransient { body, .. } => {
                return Some(Arc::new(body.clone()));
            }
            Happening::MessageSent { seq, .. } => MessageName::Seq(*seq),
            Happening::DirectSent { key, .. } => MessageName::Key(*key),
            _ => return None,
        };
        self.store().ask(FindMessage { incarnation, name }).await.ok()??.body
    }
}
