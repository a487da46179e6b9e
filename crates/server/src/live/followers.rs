//! Who follows what, and who of them an event is put to. Nothing here waits or asks the store.
//!
//! An account is followed by name *and* number: a name may be another account's tomorrow, the number never is. What an
//! event says by names alone, [`Delivery::people`] says by numbers.
//!
//! # Why everybody hears every event once, in order
//!
//! One task hands events out, conversation by conversation, in the order of their numbers. What it does with an event
//! and how receivers come and go happens under one lock, so for each receiver every event is either handed out after it
//! came or *passed* before. What was passed is durable and readable.
//!
//! * The *position* of a life of a conversation is the last event that the task has handed out, and nothing else. Only
//!   the task moves it. Whoever comes has read some other number and brings its own filter; if that moved the position,
//!   what lies between would be lost for everybody else.
//! * Where there is a position, the next event is the one after it. One at or before it was told already; one beyond
//!   is a *gap*: nothing is put to anybody, and the task reads the log from the position on.
//! * Where others commit too, news of a later event may come before that of an earlier one, and the first that a channel
//!   hears of need not be the first that it has to hand out. What members that are connected have read says how far back
//!   the task goes then; readers notice a gap themselves.
//! * A one-to-one conversation has a position while one of the two is connected and was told of it: what is told twice is
//!   told once, and what is heard too early waits for the log. Events before the first that was told may be heard late, and
//!   are told late.
//! * Where nobody follows a conversation there is no position, and events are passed over. They are old for whoever comes
//!   later. Only those that join a connected account to a group, and those between two accounts, are told even so.
//! * Whoever follows an *app* hears what is handed out from now on. The positions of conversations that have no
//!   channel are remembered for its sake, in bounded memory.
//! * A *reader* of one conversation comes first and reads the log to the end afterwards. So what was passed before it
//!   came is in the log, and what is handed out later in its mailbox; what is in both it leaves out by its number, and
//!   where numbers are missing it reads the log again.
//! * An *account* that connects knows the state as of an event of each of its groups. What happened up to the end of the
//!   call that connects it may be missing in its mailbox, because it is in the state; but that it left must not be
//!   missed. Where an event after the one that it knows may have been passed, its place is in *doubt* and hears
//!   nothing, until it is seen to be a member still, at a later event. What a place hears are events after that one.
//! * A place that an event of joining makes hears that event and what follows. Where others commit too, such an event may
//!   be heard of after the account was seen to be a member: then it changes nothing, unless the account has other
//!   connections, which may have waited for it.
//! * What is put into the mailbox of an account before the call that connects it ends is thrown away then: it is in the
//!   state, and may be older than the call.

mod elsewhere;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use sidenote_core::event::{Event, Happening};
use sidenote_core::ids::{
    AccountId, AppId, Conversation, ConversationId, EventNumber, Incarnation, TinyId, UserId,
};
use slab::Slab;

use super::channel::{Channel, Place, Positions, Stretches};
use super::delivery::Delivery;
use super::mailbox::{Ended, Mailbox};

/// Events are put into so many mailboxes, roughly, before others get the lock.
const PUTS_PER_LOCK: usize = 32 * 1024;

#[derive(Debug, Default)]
pub(super) struct Followers {
    /// Nobody follows any more, and nobody can.
    pub(super) closed: bool,
    last_id: u64,
    /// Counts how often what is followed has changed.
    pub(super) changes: u64,
    /// One life of each conversation as a rule. For a moment there may be two: somebody has seen the next one before the
    /// end of this one was handed out.
    channels: HashMap<ConversationId, Vec<Channel>>,
    /// What whoever follows an app was told of conversations without a channel.
    positions: Positions,
    listeners: Slab<Listener>,
    /// Whoever is connected under a name: one account as a rule, for a moment perhaps also one that had it before.
    accounts: HashMap<AppId, HashMap<UserId, Vec<usize>>>,
    apps: HashMap<AppId, Vec<Mailbox>>,
    /// What a mailbox belongs to, so that it is found when it goes.
    owners: HashMap<u64, Owner>,
}

#[derive(Clone, Debug)]
enum Owner {
    Account(usize),
    Conversation(ConversationId, Incarnation),
    App(AppId),
}

/// An account that is connected.
#[derive(Debug)]
struct Listener {
    account: AccountId,
    tiny_id: TinyId,
    mailboxes: Vec<Mailbox>,
    groups: HashSet<(ConversationId, Incarnation)>,
    /// What was handed out to it of its one-to-one conversations. It ends with the listener: what happens later may be
    /// handed out to nobody.
    directs: Stretches,
}

/// How events were handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandedOut {
    /// So many of them. If that is not all, it took long enough; go on with the next.
    Events {
        /// How many.
        count: usize,
        /// Whether a mailbox is more than half full.
        is_crowded: bool,
    },
    /// Events are missing between the last that was handed out and these.
    Gap,
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
        let id = mailbox.id;
        let place = self.listener(account, tiny_id).unwrap_or_else(|| {
            let (account, groups, directs) = (account.clone(), HashSet::new(), Stretches::default());
            // Nearly always it stays the only one, and a vector that grows by itself begins with room for four.
            let mailboxes = Vec::with_capacity(1);
            let names = self.accounts.entry(account.app).or_default().entry(account.user.clone());
            let place = self.listeners.insert(Listener { account, tiny_id, mailboxes, groups, directs });
            self.changes += 1;
            names.or_insert_with(|| Vec::with_capacity(1)).push(place);
            place
        });
        self.listeners[place].mailboxes.push(mailbox);
        self.owners.insert(id, Owner::Account(place));
    }

    pub(super) fn add_app(&mut self, app: AppId, mailbox: Mailbox) {
        self.owners.insert(mailbox.id, Owner::App(app));
        self.changes += 1;
        self.apps.entry(app).or_default().push(mailbox);
    }

    pub(super) fn add_reader(
        &mut self,
        conversation: &ConversationId,
        incarnation: Incarnation,
        mailbox: Mailbox,
    ) {
        self.owners.insert(mailbox.id, Owner::Conversation(conversation.clone(), incarnation));
        self.channel_mut(conversation, incarnation).readers.push(mailbox);
    }

    pub(super) fn remove(&mut self, id: u64) {
        match self.owners.remove(&id) {
            None => {}
            Some(Owner::App(app)) => {
                self.changes += 1;
                if let Entry::Occupied(mut readers) = self.apps.entry(app) {
                    readers.get_mut().retain(|mailbox| mailbox.id != id);
                    if readers.get().is_empty() {
                        readers.remove();
                        self.positions.forget(app);
                    }
                }
            }
            Some(Owner::Conversation(conversation, incarnation)) => {
                if let Some(channel) = self.find_mut(&conversation, incarnation) {
                    channel.readers.retain(|mailbox| mailbox.id != id);
                }
                self.drop_channel_if_empty(&conversation, incarnation);
            }
            Some(Owner::Account(place)) => {
                // If the account was cut off, another may be there by now, whose mailboxes have other numbers.
                let Some(listener) = self.listeners.get_mut(place) else { return };
                listener.mailboxes.retain(|mailbox| mailbox.id != id);
                if listener.mailboxes.is_empty() {
                    self.remove_listener(place);
                }
            }
        }
    }

    /// An account is not told anything any more, whoever comes under its name.
    pub(super) fn end_account(&mut self, account: &AccountId, tiny_id: TinyId, why: Ended) {
        let Some(place) = self.listener(account, tiny_id) else { return };
        for mailbox in self.remove_listener(place) {
            mailbox.end(why);
        }
    }

    pub(super) fn end_all(&mut self, why: Ended) {
        let readers = self.channels.drain().flat_map(|(_, lives)| lives).flat_map(|channel| channel.readers);
        let accounts = self.listeners.drain().flat_map(|listener| listener.mailboxes);
        let apps = self.apps.drain().flat_map(|(_, mailboxes)| mailboxes);
        for mailbox in readers.chain(accounts).chain(apps) {
            mailbox.end(why);
        }
        self.accounts.clear();
        self.owners.clear();
        self.positions = Positions::default();
    }

    /// Lets a connected member hear a group after an event at which it was one. `Some` if it may have left unnoticed
    /// since: then it hears nothing until that is [cleared up](Self::settle).
    pub(super) fn attach(
        &mut self,
        account: &AccountId,
        tiny_id: TinyId,
        (group, incarnation): (&ConversationId, Incarnation),
        last: EventNumber,
    ) -> Option<u64> {
        let listener = self.listener(account, tiny_id)?;
        let is_only_connection = self.listeners[listener].mailboxes.len() == 1;
        let new_doubt = self.new_id();
        let channel = self.channel_mut(group, incarnation);
        let doubt = (!channel.has_all_after(last)).then_some(new_doubt);
        match channel.members.entry(account.user.clone()) {
            // Another connection of the account has made it, or an event of joining.
            Entry::Occupied(mut place) if place.get().listener == listener => {
                // Such an event may be heard after it was seen to be a member, and told together with what followed.
                if is_only_connection && place.get().doubt.is_none() {
                    let place = place.get_mut();
                    place.after = place.after.max(last);
                }
                return place.get().doubt;
            }
            // Of another account of the name, which was seen in this place later.
            Entry::Occupied(place) if place.get().after > last => return None,
            Entry::Occupied(mut place) => {
                place.insert(Place { listener, after: last, doubt });
            }
            Entry::Vacant(place) => {
                place.insert(Place { listener, after: last, doubt });
            }
        }
        self.listeners[listener].groups.insert((group.clone(), incarnation));
        doubt
    }

    /// An account was looked for in a group again, after [`attach`](Self::attach) had said that this is in doubt: it is a
    /// member at this event, or none.
    pub(super) fn settle(
        &mut self,
        account: &AccountId,
        (group, incarnation): (&ConversationId, Incarnation),
        doubt: u64,
        member_at: Option<EventNumber>,
    ) {
        let Some(channel) = self.find_mut(group, incarnation) else { return };
        // If the place is another one by now, events of leaving and joining have made it so, which know better.
        let Some(place) = channel.members.get_mut(&account.user).filter(|place| place.doubt == Some(doubt))
        else {
            return;
        };
        if let Some(last) = member_at {
            (place.after, place.doubt) = (last, None);
            channel.knows_all_after(last);
        } else {
            self.remove_place(group, incarnation, &account.user);
            self.drop_channel_if_empty(group, incarnation);
        }
    }

    fn listener(&self, account: &AccountId, tiny_id: TinyId) -> Option<usize> {
        let mut places = self.accounts.get(&account.app)?.get(&account.user)?.iter().copied();
        places.find(|place| self.listeners[*place].tiny_id == tiny_id)
    }

    fn remove_listener(&mut self, place: usize) -> Vec<Mailbox> {
        let Listener { account, mailboxes, groups, .. } = self.listeners.remove(place);
        self.changes += 1;
        if let Entry::Occupied(mut names) = self.accounts.entry(account.app) {
            if let Entry::Occupied(mut places) = names.get_mut().entry(account.user.clone()) {
                places.get_mut().retain(|other| *other != place);
                if places.get().is_empty() {
                    places.remove();
                }
            }
            if names.get().is_empty() {
                names.remove();
            }
        }
        for (group, incarnation) in groups {
            if let Some(channel) = self.find_mut(&group, incarnation)
                && channel.members.get(&account.user).is_some_and(|own| own.listener == place)
            {
                channel.members.remove(&account.user);
            }
            self.drop_channel_if_empty(&group, incarnation);
        }
        mailboxes
    }

    fn find(&self, conversation: &ConversationId, incarnation: Incarnation) -> Option<&Channel> {
        self.channels.get(conversation)?.iter().find(|channel| channel.incarnation == incarnation)
    }

    fn find_mut(&mut self, conversation: &ConversationId, incarnation: Incarnation) -> Option<&mut Channel> {
        self.channels.get_mut(conversation)?.iter_mut().find(|channel| channel.incarnation == incarnation)
    }

    fn channel_mut(&mut self, conversation: &ConversationId, incarnation: Incarnation) -> &mut Channel {
        let lives = self.channels.entry(conversation.clone()).or_default();
        let place =
            lives.iter().position(|channel| channel.incarnation == incarnation).unwrap_or_else(|| {
                self.changes += 1;
                lives.push(Channel::new(incarnation, self.positions.remove(incarnation)));
                lives.len() - 1
            });
        &mut lives[place]
    }

    fn drop_channel_if_empty(&mut self, conversation: &ConversationId, incarnation: Incarnation) {
        if self.find(conversation, incarnation).is_none_or(|channel| !channel.is_empty()) {
            return;
        }
        let position = self.take_channel(conversation, incarnation).and_then(|channel| channel.position);
        if let Some(position) = position
            && self.apps.contains_key(&conversation.app)
        {
            self.positions.put(conversation.app, incarnation, position);
        }
    }

    fn take_channel(&mut self, conversation: &ConversationId, incarnation: Incarnation) -> Option<Channel> {
        let lives = self.channels.get_mut(conversation)?;
        let place = lives.iter().position(|channel| channel.incarnation == incarnation)?;
        let channel = lives.swap_remove(place);
        self.changes += 1;
        if lives.is_empty() {
            self.channels.remove(conversation);
        }
        Some(channel)
    }

    fn remove_place(&mut self, group: &ConversationId, incarnation: Incarnation, user: &UserId) {
        let place = self.find_mut(group, incarnation).and_then(|channel| channel.members.remove(user));
        if let Some(listener) = place.and_then(|place| self.listeners.get_mut(place.listener)) {
            listener.groups.remove(&(group.clone(), incarnation));
        }
    }
}

/// For the task that hands events out.
impl Followers {
    /// Whether events of this conversation may concern anybody. Any account that is connected may be one that joins.
    pub(super) fn may_want(&self, conversation: &ConversationId) -> bool {
        let app = conversation.app;
        self.apps.contains_key(&app)
            || self.accounts.contains_key(&app)
            || self.channels.contains_key(conversation)
    }

    /// Whether an event concerns anybody.
    pub(super) fn wants(
        &self,
        conversation: &ConversationId,
        incarnation: Incarnation,
        event: &Event,
    ) -> bool {
        let app = conversation.app;
        if self.apps.contains_key(&app) || self.find(conversation, incarnation).is_some() {
            return true;
        }
        match (&conversation.conversation, &event.what) {
            (Conversation::Direct(one, other), _) => {
                self.is_connected(app, one) || self.is_connected(app, other)
            }
            (_, Happening::MembersJoined { users, .. }) => {
                users.iter().any(|user| self.is_connected(app, user))
            }
            _ => false,
        }
    }

    /// Whether anybody is connected under this name.
    pub(super) fn is_connected(&self, app: AppId, user: &UserId) -> bool {
        self.accounts.get(&app).is_some_and(|names| names.contains_key(user))
    }

    /// The last event that was handed out, where that counts.
    pub(super) fn position(
        &self,
        conversation: &ConversationId,
        incarnation: Incarnation,
    ) -> Option<EventNumber> {
        if let Some(channel) = self.find(conversation, incarnation) {
            return channel.position;
        }
        self.positions.get(incarnation).max(self.stretch(conversation, incarnation).map(|(_, last)| last))
    }

    /// Up to which event whoever follows a conversation knows it without having been told: what comes after is still to
    /// be handed out, also if news of a later event is first.
    pub(super) fn known(
        &self,
        conversation: &ConversationId,
        incarnation: Incarnation,
    ) -> Option<EventNumber> {
        self.find(conversation, incarnation).and_then(Channel::known)
    }

    /// Hands events of one life of a conversation out that follow each other.
    pub(super) fn hand_out(&mut self, deliveries: &[Delivery]) -> HandedOut {
        let (mut count, mut puts, mut is_crowded) = (0, 0, false);
        for delivery in deliveries {
            let (conversation, number) = (delivery.conversation(), delivery.event().number);
            let position = self.position(conversation, delivery.incarnation());
            if position.is_some_and(|position| position.next() < number) {
                return HandedOut::Gap;
            }
            if position.is_none_or(|position| position < number) {
                let mut tally = Tally { delivery, puts: 0, is_crowded: false };
                self.hand_one_out(&mut tally);
                puts += tally.puts;
                is_crowded |= tally.is_crowded;
            }
            count += 1;
            if puts >= PUTS_PER_LOCK {
                break;
            }
        }
        HandedOut::Events { count, is_crowded }
    }

    fn hand_one_out(&mut self, tally: &mut Tally<'_>) {
        let delivery = tally.delivery;
        let (conversation, incarnation) = (delivery.conversation(), delivery.incarnation());
        let (app, number) = (conversation.app, delivery.event().number);
        match (&conversation.conversation, &delivery.event().what) {
            (Conversation::Direct(..), _) => {
                for (user, tiny_id) in delivery.people() {
                    let account = AccountId { app, user: user.clone() };
                    if let Some(listener) = self.listener(&account, *tiny_id) {
                        let listener = &mut self.listeners[listener];
                        listener.directs.put(incarnation, number);
                        tally.put(&listener.mailboxes);
                    }
                }
            }
            (_, Happening::MembersJoined { users, .. }) => {
                for user in users {
                    self.join(user, delivery);
                }
            }
            // Whoever was removed hears nothing from here on, not even that.
            (_, Happening::MembersLeft { users, .. }) => {
                for user in users {
                    self.leave(user, delivery);
                }
            }
            _ => {}
        }
        if let Some(mailboxes) = self.apps.get(&app) {
            tally.put(mailboxes);
        }
        let is_destroyed = delivery.event().what == Happening::GroupDestroyed;
        let lives = self.channels.get_mut(conversation).map(Vec::as_mut_slice).unwrap_or_default();
        if let Some(channel) = lives.iter_mut().find(|channel| channel.incarnation == incarnation) {
            channel.passes(number);
            for place in
                channel.members.values().filter(|place| place.after < number && place.doubt.is_none())
            {
                tally.put(&self.listeners[place.listener].mailboxes);
            }
            tally.put(&channel.readers);
            self.drop_channel_if_empty(conversation, incarnation);
        } else if self.apps.contains_key(&app) {
            // What is heard late is before it.
            let number = self.positions.get(incarnation).map_or(number, |position| position.max(number));
            self.positions.put(app, incarnation, number);
        }
        if is_destroyed {
            self.positions.remove(incarnation);
            self.end_channel(conversation, incarnation, Ended::Removed);
        }
    }

    /// A connected account hears a group from the event on by which it joined.
    fn join(&mut self, user: &UserId, delivery: &Delivery) {
        // Nobody joins a group that it is in: whoever has the place has lost it, and its name, to whoever joins now.
        self.leave(user, delivery);
        let Some((_, tiny_id)) = delivery.people().iter().find(|(name, _)| name == user) else { return };
        let (group, incarnation) = (delivery.conversation(), delivery.incarnation());
        let account = AccountId { app: group.app, user: user.clone() };
        let Some(listener) = self.listener(&account, *tiny_id) else { return };
        if let Some(place) = self.find(group, incarnation).and_then(|channel| channel.members.get(user)) {
            // It was seen to be a member later. Of several connections another one may have waited for this event.
            if place.listener != listener || self.listeners[listener].mailboxes.len() == 1 {
                return;
            }
        }
        self.listeners[listener].groups.insert((group.clone(), incarnation));
        let after = EventNumber::new(delivery.event().number.get().saturating_sub(1));
        let place = Place { listener, after, doubt: None };
        self.channel_mut(group, incarnation).members.insert(user.clone(), place);
    }

    /// Whoever has this name hears nothing from this event on, unless it was seen to be a member later.
    fn leave(&mut self, user: &UserId, delivery: &Delivery) {
        let (group, incarnation) = (delivery.conversation(), delivery.incarnation());
        let Some(channel) = self.find(group, incarnation) else { return };
        if channel.members.get(user).is_some_and(|place| place.after < delivery.event().number) {
            self.remove_place(group, incarnation, user);
        }
    }

    /// Events of a conversation are lost: whoever should have heard them has to look at the state.
    pub(super) fn lose_events(&mut self, conversation: &ConversationId, incarnation: Incarnation) {
        if let Conversation::Direct(one, other) = &conversation.conversation {
            self.lose(conversation.app, [one, other]);
        }
        for mailbox in self.apps.get(&conversation.app).into_iter().flatten() {
            mailbox.end(Ended::Lost);
        }
        self.positions.remove(incarnation);
        self.end_channel(conversation, incarnation, Ended::Lost);
    }

    /// Nobody hears of this life of a conversation any more.
    fn end_channel(&mut self, conversation: &ConversationId, incarnation: Incarnation, why: Ended) {
        let Some(channel) = self.take_channel(conversation, incarnation) else { return };
        for mailbox in channel.readers {
            mailbox.end(why);
        }
        for place in channel.members.into_values() {
            let Some(listener) = self.listeners.get_mut(place.listener) else { continue };
            listener.groups.remove(&(conversation.clone(), incarnation));
            if why == Ended::Lost {
                for mailbox in &listener.mailboxes {
                    mailbox.end(why);
                }
            }
        }
    }

    /// Whoever is connected under these names may have missed something.
    pub(super) fn lose<'a>(&self, app: AppId, names: impl IntoIterator<Item = &'a UserId>) {
        let Some(accounts) = self.accounts.get(&app) else { return };
        for listener in names.into_iter().filter_map(|user| accounts.get(user)).flatten() {
            for mailbox in &self.listeners[*listener].mailboxes {
                mailbox.end(Ended::Lost);
            }
        }
    }
}

/// An event, and what it is to put it into mailboxes.
struct Tally<'a> {
    delivery: &'a Delivery,
    puts: usize,
    is_crowded: bool,
}

impl Tally<'_> {
    fn put(&mut self, mailboxes: &[Mailbox]) {
        for mailbox in mailboxes {
            self.is_crowded |= mailbox.put(self.delivery);
        }
        self.puts += mailboxes.len();
    }
}
