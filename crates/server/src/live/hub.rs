//! The front for those who follow, and the one task that hands events out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sidenote_core::event::{Event, Happening};
use sidenote_core::ids::{
    AccountId, AppId, Conversation, ConversationId, EventNumber, Incarnation, MessageName, TinyId, UserId,
};
use sidenote_core::message::MessageBody;
use sidenote_core::query::{
    Accounts, DescribeDirect, DescribeGroup, Events, FindMembers, FindMessage, JoinedGroups,
};
use sidenote_store::{News, Store, StoreError};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::delivery::Delivery;
use super::followers::Followers;
use super::mailbox::{Ended, Inbox, Mailbox};

/// Events that are read from the log at a time.
const EVENTS_PER_READ: usize = 200;

/// Groups of an account that are read at a time.
const GROUPS_PER_READ: usize = 200;

/// Everybody who follows, and the way to the events.
#[derive(Debug)]
pub(crate) struct Hub {
    store: StoreHandle,
    state: Mutex<Followers>,
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

    /// Everything from now on that happens in the groups that the account of this name and number is or becomes a member
    /// of, and in its one-to-one conversations; it ends with the account. What happened before this returns is in the
    /// state, which can be read then.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        account: &AccountId,
        tiny_id: TinyId,
    ) -> Result<Inbox, StoreError> {
        let inbox = self.open(Some(account.user.clone()), |followers, mailbox| {
            followers.add_account(account, tiny_id, mailbox);
        });
        self.wait_until_following().await;
        // From here on news tells of the deletion of the account.
        let found = self.store().ask(Accounts { ids: vec![account.clone()] }).await?.pop().flatten();
        if found.is_some_and(|found| found.tiny_id == tiny_id) {
            self.attach_groups(account, tiny_id).await?;
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

    /// What happens in one conversation after an event that was the last one a moment ago. `None` if others have
    /// been told more already: look again.
    pub(super) async fn follow_from(
        self: &Arc<Self>,
        conversation: &ConversationId,
        incarnation: Incarnation,
        after: EventNumber,
        member: Option<UserId>,
    ) -> Option<Inbox> {
        let mut is_late = false;
        let inbox = self.open(member.clone(), |followers, mailbox| {
            is_late = followers
                .channels
                .get(conversation)
                .is_some_and(|channel| channel.incarnation != incarnation || channel.position > after);
            if !is_late {
                followers.add_reader(conversation, incarnation, after, member, mailbox);
                // An event that was told before this reader came is no news any more.
                followers.to_read.insert(conversation.clone());
            }
        });
        if is_late {
            return None;
        }
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
        let mut after = None;
        loop {
            let start = after.clone();
            let question = JoinedGroups { account: account.clone(), after, limit: GROUPS_PER_READ };
            let page = self.store().ask(question).await?;
            let mut state = self.state();
            // Those of an account that has the name since are not its own.
            let mut own = page.groups.iter().filter(|(_, _, member)| member.tiny_id == tiny_id);
            let all_fit = own.all(|(group, view, _)| {
                let conversation = ConversationId::group(account.app, group.clone());
                let (incarnation, last) = (view.group.incarnation, view.counters.last_event);
                state.attach(account, tiny_id, &conversation, incarnation, last)
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
                    for (account, tiny_id) in &told.deleted {
                        self.state().end_account(account, *tiny_id, Ended::Removed);
                    }
                    for news in &told.news {
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
                // That of two accounts begins anew without an end. If a group was made again, news of its end was lost.
                let is_group = matches!(news.conversation.conversation, Conversation::Group(_));
                let why = if is_group { Ended::Lost } else { Ended::Removed };
                self.state().end_channel(&news.conversation, why);
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
        let old = news.events.partition_point(|event| event.number <= position);
        self.hand_out(&news.conversation, news.incarnation, &news.events[old..]).await;
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
            let id = conversation.clone();
            let question = Events { id, incarnation, after: position, limit: EVENTS_PER_READ };
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
            if !self.hand_out(conversation, incarnation, &page.events).await {
                return;
            }
        }
    }

    /// Hands out events that follow each other. False if that is not possible, and whoever follows was cut off.
    async fn hand_out(
        &self,
        conversation: &ConversationId,
        incarnation: Incarnation,
        events: &[Arc<Event>],
    ) -> bool {
        let mut deliveries = Vec::with_capacity(events.len());
        for event in events {
            let people = match self.people(conversation, incarnation, event).await {
                Ok(people) => people,
                Err(error) => {
                    tracing::error!(%error, "an event cannot be told; those who follow it are cut off");
                    let mut state = self.state();
                    state.hand_out(&deliveries);
                    state.end_channel(conversation, Ended::Lost);
                    if let Happening::MembersJoined { users, .. } = &event.what {
                        state.lose(conversation.app, users);
                    }
                    return false;
                }
            };
            deliveries.push(self.delivery(conversation, incarnation, event, people).await);
        }
        self.state().hand_out(&deliveries);
        true
    }

    /// Whom an event that says names means by them: accounts that join, and the two of a one-to-one conversation. Only
    /// those of which anybody is connected are looked for.
    async fn people(
        &self,
        conversation: &ConversationId,
        incarnation: Incarnation,
        event: &Event,
    ) -> Result<Vec<(UserId, TinyId)>, StoreError> {
        match (&conversation.conversation, &event.what) {
            (Conversation::Direct(one, other), _) => {
                let is_heard = {
                    let state = self.state();
                    [one, other].iter().any(|user| state.is_connected(conversation.app, user))
                };
                if is_heard {
                    self.parties(conversation, incarnation, [one, other]).await
                } else {
                    Ok(Vec::new())
                }
            }
            (_, Happening::MembersJoined { users, .. }) => {
                let users: Vec<_> = {
                    let state = self.state();
                    let is_connected = |user: &&UserId| state.is_connected(conversation.app, user);
                    users.iter().filter(is_connected).cloned().collect()
                };
                if users.is_empty() {
                    return Ok(Vec::new());
                }
                self.joined(conversation, incarnation, event.number, users).await
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The two accounts of a conversation; none where it is no longer the conversation of these names, because one of
    /// them is somebody else's by now.
    async fn parties(
        &self,
        conversation: &ConversationId,
        incarnation: Incarnation,
        names: [&UserId; 2],
    ) -> Result<Vec<(UserId, TinyId)>, StoreError> {
        let found = self.store().ask(DescribeDirect { id: conversation.clone() }).await?;
        let Some(view) = found.filter(|view| view.direct.incarnation == incarnation) else {
            return Ok(Vec::new());
        };
        let mut people: Vec<_> = names.into_iter().cloned().zip(view.direct.tiny_ids).collect();
        // Whoever writes to itself is one and not two.
        people.dedup();
        Ok(people)
    }

    /// Of those who joined by this event the ones that are members by it.
    async fn joined(
        &self,
        group: &ConversationId,
        incarnation: Incarnation,
        number: EventNumber,
        users: Vec<UserId>,
    ) -> Result<Vec<(UserId, TinyId)>, StoreError> {
        let question = FindMembers { id: group.clone(), users: users.clone() };
        let Ok(found) = self.store().ask(question).await? else { return Ok(Vec::new()) };
        let places = users.into_iter().zip(found);
        let mut people: Vec<_> = places.filter_map(|(user, member)| Some((user, member?.tiny_id))).collect();
        // Asked last: a life that the group still has is the one that the question before was about.
        let view = self.store().ask(DescribeGroup { id: group.clone() }).await?;
        if view.is_none_or(|view| view.group.incarnation != incarnation) {
            return Ok(Vec::new());
        }
        // Whoever joined again since is a member by that, and may be another account of the same name. Only where events
        // are told late there is anything to read.
        let mut after = number;
        while !people.is_empty() {
            let id = group.clone();
            let page = self.store().ask(Events { id, incarnation, after, limit: EVENTS_PER_READ }).await?;
            let Some(last) = page.events.last() else { break };
            after = last.number;
            for later in &page.events {
                if let Happening::MembersJoined { users, .. } = &later.what {
                    people.retain(|(user, _)| !users.contains(user));
                }
            }
        }
        Ok(people)
    }

    pub(super) async fn delivery(
        &self,
        conversation: &ConversationId,
        incarnation: Incarnation,
        event: &Arc<Event>,
        people: Vec<(UserId, TinyId)>,
    ) -> Delivery {
        let body = self.body(conversation, incarnation, event).await;
        Delivery::new(conversation.clone(), incarnation, Arc::clone(event), body, people)
    }

    /// What a message says. It may have been recalled since.
    async fn body(
        &self,
        conversation: &ConversationId,
        incarnation: Incarnation,
        event: &Event,
    ) -> Option<Arc<MessageBody>> {
        let name = match &event.what {
            Happening::TransientMessage { body, .. } | Happening::DirectTransient { body, .. } => {
                return Some(Arc::new(body.clone()));
            }
            Happening::MessageSent { seq, .. } => MessageName::Seq(*seq),
            Happening::DirectSent { key, .. } => MessageName::Key(*key),
            _ => return None,
        };
        let id = conversation.clone();
        self.store().ask(FindMessage { id, incarnation, name }).await.ok()??.body
    }
}
