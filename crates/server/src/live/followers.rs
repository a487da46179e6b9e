//! Who follows what, and who of them an event is put to. Nothing here waits or asks the store.
//!
//! An account is followed by name *and* number: a name may be another account's tomorrow, the number never is. What an
//! event says by names alone, [`Delivery::people`] says by numbers.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use sidenote_core::event::Happening;
use sidenote_core::ids::{
    AccountId, AppId, Conversation, ConversationId, EventNumber, Incarnation, TinyId, UserId,
};

use super::delivery::Delivery;
use super::mailbox::{Ended, Mailbox};

#[derive(Debug, Default)]
pub(super) struct Followers {
    /// Nobody follows any more, and nobody can.
    pub(super) closed: bool,
    last_id: u64,
    pub(super) channels: HashMap<ConversationId, Channel>,
    /// Whoever is connected under a name: one account as a rule, for a moment perhaps also one that had it before.
    accounts: HashMap<AccountId, Vec<Listener>>,
    apps: HashMap<AppId, Vec<Mailbox>>,
    /// Conversations of which the log is to be read, because somebody began to follow them a moment ago.
    pub(super) to_read: HashSet<ConversationId>,
    /// What a mailbox belongs to, so that it is found when it goes.
    owners: HashMap<u64, Owner>,
}

#[derive(Clone, Debug)]
enum Owner {
    Account(AccountId, TinyId),
    Conversation(ConversationId),
    App(AppId),
}

/// A conversation that somebody follows.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) incarnation: Incarnation,
    /// The last event that was handed out.
    pub(super) position: EventNumber,
    /// Members that are connected.
    members: HashMap<UserId, Place>,
    /// Those who follow this conversation alone.
    readers: Vec<Reader>,
}

/// A connected member.
#[derive(Clone, Copy, Debug)]
struct Place {
    tiny_id: TinyId,
    /// It is a member since then, and hears what comes after it.
    after: EventNumber,
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
#[derive(Debug)]
struct Listener {
    tiny_id: TinyId,
    mailboxes: Vec<Mailbox>,
    groups: HashSet<ConversationId>,
}

/// For those who come and go.
impl Followers {
    pub(super) fn is_idle(&self) -> bool {
        self.owners.is_empty()
    }

    pub(super) fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn add_account(&mut self, account: &AccountId, tiny_id: TinyId, mailbox: Mailbox) {
        self.owners.insert(mailbox.id, Owner::Account(account.clone(), tiny_id));
        // Nearly always it stays the only one, and a vector that grows by itself begins with room for four.
        let listeners = self.accounts.entry(account.clone()).or_insert_with(|| Vec::with_capacity(1));
        match listeners.iter_mut().find(|listener| listener.tiny_id == tiny_id) {
            Some(listener) => listener.mailboxes.push(mailbox),
            None => {
                listeners.push(Listener { tiny_id, mailboxes: vec![mailbox], groups: HashSet::new() });
            }
        }
    }

    pub(super) fn add_app(&mut self, app: AppId, mailbox: Mailbox) {
        self.owners.insert(mailbox.id, Owner::App(app));
        self.apps.entry(app).or_default().push(mailbox);
    }

    pub(super) fn add_reader(
        &mut self,
        conversation: &ConversationId,
        incarnation: Incarnation,
        after: EventNumber,
        member: Option<UserId>,
        mailbox: Mailbox,
    ) {
        self.owners.insert(mailbox.id, Owner::Conversation(conversation.clone()));
        let channel =
            self.channels.entry(conversation.clone()).or_insert_with(|| Channel::new(incarnation, after));
        channel.readers.push(Reader { mailbox, after, member });
    }

    /// Whether an event of this conversation concerns anybody. Any account of the app may be one that joins.
    pub(super) fn wants(&self, conversation: &ConversationId) -> bool {
        self.channels.contains_key(conversation)
            || self.apps.contains_key(&conversation.app)
            || self.accounts.keys().any(|account| account.app == conversation.app)
    }

    /// Whether anybody is connected under this name.
    pub(super) fn is_connected(&self, app: AppId, user: &UserId) -> bool {
        self.accounts.contains_key(&AccountId { app, user: user.clone() })
    }

    pub(super) fn remove(&mut self, id: u64) {
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
            Some(Owner::Account(account, tiny_id)) => {
                let Some(listener) = self.listener_mut(&account, tiny_id) else { return };
                listener.mailboxes.retain(|mailbox| mailbox.id != id);
                if listener.mailboxes.is_empty() {
                    self.remove_listener(&account, tiny_id);
                }
            }
        }
    }

    /// An account is not told anything any more, whoever comes under its name.
    pub(super) fn end_account(&mut self, account: &AccountId, tiny_id: TinyId, why: Ended) {
        for mailbox in self.remove_listener(account, tiny_id) {
            mailbox.end(why);
        }
    }

    pub(super) fn end_all(&mut self, why: Ended) {
        let readers = self.channels.drain().flat_map(|(_, channel)| channel.readers);
        let readers = readers.map(|reader| reader.mailbox);
        let listeners = self.accounts.drain().flat_map(|(_, listeners)| listeners);
        let accounts = listeners.flat_map(|listener| listener.mailboxes);
        let apps = self.apps.drain().flat_map(|(_, mailboxes)| mailboxes);
        for mailbox in readers.chain(accounts).chain(apps) {
            mailbox.end(why);
        }
        self.owners.clear();
        self.to_read.clear();
    }

    fn listener_mut(&mut self, account: &AccountId, tiny_id: TinyId) -> Option<&mut Listener> {
        self.accounts.get_mut(account)?.iter_mut().find(|listener| listener.tiny_id == tiny_id)
    }

    /// The mailboxes of one account; those of another one that has or had its name are none of them.
    fn mailboxes(&self, account: &AccountId, tiny_id: TinyId) -> &[Mailbox] {
        let mut listeners = self.accounts.get(account).into_iter().flatten();
        match listeners.find(|listener| listener.tiny_id == tiny_id) {
            Some(listener) => &listener.mailboxes,
            None => &[],
        }
    }

    fn remove_listener(&mut self, account: &AccountId, tiny_id: TinyId) -> Vec<Mailbox> {
        let Some(listeners) = self.accounts.get_mut(account) else { return Vec::new() };
        let Some(place) = listeners.iter().position(|listener| listener.tiny_id == tiny_id) else {
            return Vec::new();
        };
        let Listener { mailboxes, groups, .. } = listeners.swap_remove(place);
        if listeners.is_empty() {
            self.accounts.remove(account);
        }
        for group in groups {
            if let Some(channel) = self.channels.get_mut(&group)
                && channel.members.get(&account.user).is_some_and(|place| place.tiny_id == tiny_id)
            {
                channel.members.remove(&account.user);
            }
            self.drop_channel_if_empty(&group);
        }
        mailboxes
    }

    fn drop_channel_if_empty(&mut self, conversation: &ConversationId) {
        let is_empty = |channel: &Channel| channel.members.is_empty() && channel.readers.is_empty();
        if self.channels.get(conversation).is_some_and(is_empty) && !self.apps.contains_key(&conversation.app)
        {
            self.channels.remove(conversation);
        }
    }

    /// Lets a connected member hear a group after `position`, at which it was one. False if events after it were handed
    /// out already, among them perhaps that it left.
    pub(super) fn attach(
        &mut self,
        account: &AccountId,
        tiny_id: TinyId,
        group: &ConversationId,
        incarnation: Incarnation,
        position: EventNumber,
    ) -> bool {
        let Some(listener) = self.listener_mut(account, tiny_id) else { return true };
        listener.groups.insert(group.clone());
        let channel =
            self.channels.entry(group.clone()).or_insert_with(|| Channel::new(incarnation, position));
        if channel.incarnation != incarnation || channel.position > position {
            self.drop_channel_if_empty(group);
            return false;
        }
        let place = channel.members.entry(account.user.clone()).or_insert(Place { tiny_id, after: position });
        // Its other connections may still be waiting for what came before.
        if place.tiny_id != tiny_id {
            *place = Place { tiny_id, after: position };
        }
        true
    }
}

/// For the task that hands events out.
impl Followers {
    /// Hands events out that follow each other.
    pub(super) fn hand_out(&mut self, deliveries: &[Delivery]) {
        for delivery in deliveries {
            let conversation = delivery.conversation().clone();
            match (&conversation.conversation, &delivery.event().what) {
                (Conversation::Direct(..), _) => {
                    for (user, tiny_id) in delivery.people() {
                        let account = AccountId { app: conversation.app, user: user.clone() };
                        for mailbox in self.mailboxes(&account, *tiny_id) {
                            mailbox.put(delivery);
                        }
                    }
                }
                (_, Happening::MembersJoined { users, .. }) => {
                    for user in users {
                        self.join(&conversation, user, delivery);
                    }
                }
                _ => {}
            }
            self.put_to_channel(&conversation, delivery);
        }
    }

    /// A connected account hears a group from the event on by which it joined.
    fn join(&mut self, group: &ConversationId, user: &UserId, delivery: &Delivery) {
        // Nobody joins a group that it is in: whoever has the place has lost it, and its name, to whoever joins now.
        self.leave(group, user, delivery.event().number);
        let Some((_, tiny_id)) = delivery.people().iter().find(|(name, _)| name == user) else { return };
        let account = AccountId { app: group.app, user: user.clone() };
        let Some(listener) = self.listener_mut(&account, *tiny_id) else { return };
        listener.groups.insert(group.clone());
        let after = EventNumber::new(delivery.event().number.get().saturating_sub(1));
        let channel =
            self.channels.entry(group.clone()).or_insert_with(|| Channel::new(delivery.incarnation(), after));
        // A place that is still there is of later than this.
        channel.members.entry(user.clone()).or_insert(Place { tiny_id: *tiny_id, after });
    }

    /// Whoever has this name hears nothing from this event on, unless it became a member later.
    fn leave(&mut self, group: &ConversationId, user: &UserId, number: EventNumber) {
        let Some(channel) = self.channels.get_mut(group) else { return };
        let Some(place) = channel.members.get(user).copied().filter(|place| place.after < number) else {
            return;
        };
        channel.members.remove(user);
        let account = AccountId { app: group.app, user: user.clone() };
        if let Some(listener) = self.listener_mut(&account, place.tiny_id) {
            listener.groups.remove(group);
        }
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
            self.leave(conversation, user, number);
        }
        let Some(channel) = self.channels.get(conversation) else { return };
        for (user, place) in channel.members.iter().filter(|(_, place)| place.after < number) {
            let account = AccountId { app: conversation.app, user: user.clone() };
            for mailbox in self.mailboxes(&account, place.tiny_id) {
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
    pub(super) fn end_channel(&mut self, conversation: &ConversationId, why: Ended) {
        if let (Ended::Lost, Conversation::Direct(one, other)) = (why, &conversation.conversation) {
            self.lose(conversation.app, [one, other]);
        }
        let Some(channel) = self.channels.remove(conversation) else { return };
        for reader in channel.readers {
            reader.mailbox.end(why);
        }
        for (user, place) in channel.members {
            let account = AccountId { app: conversation.app, user };
            if let Some(listener) = self.listener_mut(&account, place.tiny_id) {
                listener.groups.remove(conversation);
                if why == Ended::Lost {
                    for mailbox in &listener.mailboxes {
                        mailbox.end(why);
                    }
                }
            }
        }
    }

    /// Whoever is connected under these names may have missed something.
    pub(super) fn lose<'a>(&self, app: AppId, names: impl IntoIterator<Item = &'a UserId>) {
        for user in names {
            let account = AccountId { app, user: user.clone() };
            for listener in self.accounts.get(&account).into_iter().flatten() {
                for mailbox in &listener.mailboxes {
                    mailbox.end(Ended::Lost);
                }
            }
        }
    }
}

impl Channel {
    fn new(incarnation: Incarnation, position: EventNumber) -> Self {
        Self { incarnation, position, members: HashMap::new(), readers: Vec::new() }
    }
}
