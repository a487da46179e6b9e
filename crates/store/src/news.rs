//! How those who follow conversations learn that there is something new.
//!
//! News is a hint and no record. It is handed over in memory, after what it tells is durable and readable. Where a
//! follower is slow, news of one conversation becomes one piece, and large events are left out of it; what another
//! process committed may be told late. The record are the events themselves: a follower remembers the number of the
//! last one that it has seen of each conversation, and reads the log wherever news does not begin right after it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sidenote_core::command::{Action, Command};
use sidenote_core::debt::{Debt, Task};
use sidenote_core::event::{Event, Happening};
use sidenote_core::ids::{AccountId, ConversationId, EventNumber, Incarnation, TinyId};
use sidenote_core::rows::{Change, Row, RowKey};
use tokio::sync::Notify;

/// The events that wait for one follower take at most so many bytes, roughly; of further ones it gets the numbers.
/// Besides, a piece of news takes some hundred bytes for each conversation that is not looked at yet.
const WAITING_EVENT_BYTES: usize = 16 * 1024 * 1024;

/// Conversations and accounts that wait for one follower while anybody else is listened to. What is not listened to then is
/// found by whoever looks, later: a process that was made to say very much, or says it to a follower that is slow, takes no
/// more memory by it.
const MOST_HEARD: usize = 64 * 1024;

/// What an event takes beside its texts, roughly.
const EVENT_BYTES: usize = 256;

/// Lives of conversations of which is remembered what was told, where that counts; up to twice as many.
const REMEMBERED: usize = 32 * 1024;

/// What is new in one conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Where.
    pub conversation: ConversationId,
    /// In which of its lives.
    pub incarnation: Incarnation,
    /// The number of the first new event.
    pub first: EventNumber,
    /// The number of the last one.
    pub last: EventNumber,
    /// The events from the first to the last, or none of them where they are not handed over.
    pub events: Vec<Arc<Event>>,
}

/// What a follower is told at a time.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// For each conversation at most one piece, in no particular order.
    pub news: Vec<News>,
    /// Accounts that were deleted, with the number that each had. A name may be somebody else's already.
    pub deleted: Vec<(AccountId, TinyId)>,
}

/// What was heard of a life of a conversation, and not seen in its log yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Where.
    pub conversation: ConversationId,
    /// In which of its lives.
    pub incarnation: Incarnation,
    /// The number of the last event that there should be.
    pub heard: EventNumber,
}

/// Where a store tells its news. Clones stand for the same one.
#[derive(Clone, Debug, Default)]
pub struct Newsroom(Arc<Room>);

#[derive(Debug, Default)]
struct Room(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    desks: Vec<Arc<Desk>>,
    /// What was told, also to nobody, where followers are told nothing twice although it is told twice here. Whoever
    /// comes later is told none of it either.
    told: Option<Memory>,
}

/// What waits for one follower.
#[derive(Debug, Default)]
struct Desk {
    waiting: Mutex<Gathered>,
    bell: Notify,
}

/// Follows the news of a store.
#[derive(Debug)]
pub struct Follower {
    room: Arc<Room>,
    desk: Arc<Desk>,
}

impl Newsroom {
    /// One for a store that others write to as well, and that hears of it by several ways, early and late: each event is
    /// told once, as far as memory reaches, and what was left out between two pieces is told with the second. What was told
    /// before somebody followed is old for whoever comes then.
    pub fn remembering() -> Self {
        let told = Some(Memory::default());
        Self(Arc::new(Room(Mutex::new(Inside { desks: Vec::new(), told }))))
    }

    /// Follows from now on.
    pub fn follow(&self) -> Follower {
        let desk = Arc::<Desk>::default();
        lock(&self.0.0).desks.push(Arc::clone(&desk));
        Follower { room: Arc::clone(&self.0), desk }
    }

    /// Tells what was gathered of one commit, which is durable and readable. Commits are told in their order.
    ///
    /// A store gathers also while nobody follows, because somebody may come before it tells, and what could not be read
    /// yet at that time must be news then.
    ///
    /// What was only heard is left alone, and not remembered, while very much waits for a follower.
    ///
    /// Returns whether any of it was new to anybody who follows.
    pub fn tell(&self, gathered: &Gathered) -> bool {
        if gathered.is_empty() {
            return false;
        }
        let mut inside = lock(&self.0.0);
        let Inside { desks, told } = &mut *inside;
        if gathered.is_hearsay && desks.iter().any(|desk| lock(&desk.waiting).len() >= MOST_HEARD) {
            return false;
        }
        let (ends, is_new) = gathered.untold(told.as_mut());
        for desk in &*desks {
            let mut waiting = lock(&desk.waiting);
            waiting.merge(gathered, &ends);
            if !waiting.is_empty() {
                desk.bell.notify_one();
            }
        }
        is_new && !desks.is_empty()
    }

    /// Remembers this as told, and tells nobody: it concerns nobody who follows.
    pub fn pass_over(&self, gathered: &Gathered) {
        gathered.untold(lock(&self.0.0).told.as_mut());
    }

    /// Forgets what was told before the last time that this was called.
    pub fn forget_old(&self) {
        if let Some(told) = &mut lock(&self.0.0).told {
            told.older = std::mem::take(&mut told.newer);
        }
    }

    /// What was [heard](Gathered::add_heard) and neither found nor confirmed since: so many at most.
    pub fn doubts(&self, most: usize) -> Vec<Doubt> {
        lock(&self.0.0).told.as_mut().map(|told| told.doubts(most)).unwrap_or_default()
    }

    /// Takes what the log says about a doubt: its last event, as it was after the doubt came up. What the log does not
    /// have was not told, and what was taken for old because of it is told now. Returns whether the log has less than was
    /// heard.
    pub fn settle(&self, doubt: &Doubt, last: EventNumber) -> bool {
        let suppressed = match &mut lock(&self.0.0).told {
            None => return false,
            Some(told) => match told.settle(doubt, last) {
                Settled::Confirmed => return false,
                Settled::Refuted(suppressed) => suppressed,
            },
        };
        if let Some((first, last)) = suppressed {
            let Doubt { conversation, incarnation, .. } = doubt.clone();
            let mut gathered = Gathered::default();
            gathered.add_missed(&News { conversation, incarnation, first, last, events: Vec::new() });
            self.tell(&gathered);
        }
        true
    }
}

impl Follower {
    /// Waits for news, and takes all there is. Nothing is lost if the future is dropped before it is done.
    pub async fn next(&mut self) -> Told {
        loop {
            let told = self.take();
            if !told.news.is_empty() || !told.deleted.is_empty() {
                return told;
            }
            self.desk.bell.notified().await;
        }
    }

    /// Takes the news that waits, without waiting for any.
    pub fn take(&mut self) -> Told {
        let mut waiting = lock(&self.desk.waiting);
        (waiting.places, waiting.bytes) = (HashMap::new(), 0);
        Told { news: std::mem::take(&mut waiting.news), deleted: std::mem::take(&mut waiting.deleted) }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        lock(&self.room.0).desks.retain(|desk| !Arc::ptr_eq(desk, &self.desk));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// News put together: of one commit while its commands are decided, or of several that wait for a follower.
#[derive(Debug, Default)]
pub struct Gathered {
    news: Vec<News>,
    places: HashMap<Incarnation, usize>,
    bytes: usize,
    deleted: Vec<(AccountId, TinyId)>,
    /// It is told whatever was told before.
    insists: bool,
    /// Nobody has seen it in the log.
    is_hearsay: bool,
}

/// Numbers of events that were told: for each life of a conversation the first and the last of a stretch.
/// Bounded; what was not told of for the longest time is forgotten.
#[derive(Debug, Default)]
struct Memory {
    newer: HashMap<Incarnation, Stretch>,
    older: HashMap<Incarnation, Stretch>,
    /// Lives of which numbers were heard that nobody has seen in the log. Bounded: what finds no room is not remembered.
    doubtful: HashMap<Incarnation, ConversationId>,
}

/// The first and the last number of a stretch.
type Ends = (EventNumber, EventNumber);

/// What was told of a life of a conversation.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    told: Ends,
    /// Up to here the log was seen to have events.
    sure: EventNumber,
    /// Up to here it was told and seen in the log: what was found beyond may have been taken for told, and was not.
    solid: EventNumber,
}

/// What became of a doubt.
enum Settled {
    Confirmed,
    /// The log has less. The numbers that were heard or found and taken for old, if there may be any.
    Refuted(Option<Ends>),
}

impl Memory {
    fn get(&self, life: Incarnation) -> Option<Stretch> {
        self.newer.get(&life).or_else(|| self.older.get(&life)).copied()
    }

    fn put(&mut self, life: Incarnation, stretch: Stretch) {
        if self.newer.len() >= REMEMBERED && !self.newer.contains_key(&life) {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(life, stretch);
    }

    /// What of these numbers was not told yet, and perhaps what was left out before them; from here on they are told.
    fn untold(&mut self, news: &News, is_hearsay: bool) -> Option<Ends> {
        let News { incarnation: life, first, last, .. } = *news;
        let known = self.get(life);
        let (untold, told) = match known.map(|stretch| stretch.told) {
            // Whatever lies between was told by nobody.
            Some((from, to)) if first >= from && last > to => (Some((to.next(), last)), (from, last)),
            Some((from, to)) if first >= from => (None, (from, to)),
            // Another node was first with the numbers, and is heard second.
            Some((from, to)) if last <= to => (Some((first, EventNumber::new(from.get() - 1))), (first, to)),
            None | Some(_) => (Some((first, last)), (first, last)),
        };
        let seen = if is_hearsay { EventNumber::START } else { last };
        let sure = known.map_or(seen, |stretch| stretch.sure.max(seen));
        if sure >= told.1 {
            self.doubtful.remove(&life);
        } else if !self.doubtful.contains_key(&life) {
            if self.doubtful.len() >= REMEMBERED {
                return untold;
            }
            self.doubtful.insert(life, news.conversation.clone());
        }
        if untold.is_some() || known.is_none_or(|stretch| stretch.sure < sure) {
            let solid = known.map_or(EventNumber::START, |stretch| stretch.solid);
            let solid = if sure >= told.1 { told.1 } else { solid };
            self.put(life, Stretch { told, sure, solid });
        }
        untold
    }

    fn doubts(&mut self, most: usize) -> Vec<Doubt> {
        // Of what was forgotten nothing is taken for old any more.
        let Self { newer, older, doubtful } = self;
        doubtful.retain(|life, _| newer.contains_key(life) || older.contains_key(life));
        let doubts = doubtful.iter().take(most).filter_map(|(life, conversation)| {
            let heard = newer.get(life).or_else(|| older.get(life))?.told.1;
            Some(Doubt { conversation: conversation.clone(), incarnation: *life, heard })
        });
        doubts.collect()
    }

    fn settle(&mut self, doubt: &Doubt, last: EventNumber) -> Settled {
        let life = doubt.incarnation;
        let known = self.get(life);
        if doubt.heard <= last {
            if let Some(Stretch { told, sure, solid }) = known {
                let sure = sure.max(last);
                let is_settled = sure >= told.1;
                if is_settled {
                    self.doubtful.remove(&life);
                }
                let solid = if is_settled { told.1 } else { solid };
                self.put(life, Stretch { told, sure, solid });
            }
            return Settled::Confirmed;
        }
        self.doubtful.remove(&life);
        let suppressed = known.and_then(|Stretch { told: (from, _), solid, .. }| {
            self.newer.remove(&life);
            self.older.remove(&life);
            if from > last {
                return None;
            }
            self.put(life, Stretch { told: (from, last), sure: last, solid: last });
            let first = from.max(solid.next());
            (first <= last).then_some((first, last))
        });
        Settled::Refuted(suppressed)
    }
}

impl Gathered {
    /// Takes the events among the changes of a command, and the account that it deleted. Commands come in the order in
    /// which they were decided.
    pub fn add(&mut self, command: &Command, changes: &[Change]) {
        let conversation = match &command.action {
            Action::Group(conversation, _) => Cow::Borrowed(conversation),
            Action::Direct(peers, _) => Cow::Owned(peers.id()),
            Action::Account(..) => return self.add_deleted(changes),
            Action::Pay(..) | Action::Outbox(..) => return,
        };
        for change in changes {
            if let (RowKey::Event(incarnation, number), Some(Row::Event(event))) = (&change.key, &change.row)
            {
                let events = std::slice::from_ref(event);
                self.put(&conversation, *incarnation, (*number, *number), events, event_bytes(event));
            }
        }
    }

    /// Takes news of what is said to be committed elsewhere, with its events or without.
    pub fn add_heard(&mut self, heard: &News) {
        self.is_hearsay = true;
        self.add_found(heard);
    }

    /// Takes news of what was committed elsewhere and is seen in the log.
    pub fn add_found(&mut self, found: &News) {
        let News { conversation, incarnation, first, last, events } = found;
        let bytes = events.iter().map(|event| event_bytes(event)).sum();
        self.put(conversation, *incarnation, (*first, *last), events, bytes);
    }

    /// Takes news of what a follower says it does not know. It is told also if it was told before: a follower may have
    /// had no use for it then.
    pub fn add_missed(&mut self, missed: &News) {
        self.insists = true;
        self.add_found(missed);
    }

    /// Takes that an account was deleted elsewhere.
    pub fn add_heard_deleted(&mut self, account: AccountId, tiny_id: TinyId) {
        self.is_hearsay = true;
        self.deleted.push((account, tiny_id));
    }

    /// Whoever deletes an account owes that it leaves its groups; the debt says which number it had.
    fn add_deleted(&mut self, changes: &[Change]) {
        for change in changes {
            if let (RowKey::Debt(Debt { task: Task::Forsake(account, tiny_id), .. }), Some(_)) =
                (&change.key, &change.row)
            {
                self.deleted.push((account.clone(), *tiny_id));
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.news.len() + self.deleted.len()
    }

    /// For each piece the numbers that are to be told, if any, and whether anything is new.
    fn untold(&self, told: Option<&mut Memory>) -> (Vec<Option<Ends>>, bool) {
        let whole = |news: &News| Some((news.first, news.last));
        let Some(told) = told else { return (self.news.iter().map(whole).collect(), true) };
        let mut is_new = !self.deleted.is_empty();
        let ends = self.news.iter().map(|news| {
            let untold = told.untold(news, self.is_hearsay);
            is_new |= untold.is_some();
            if self.insists { whole(news) } else { untold }
        });
        (ends.collect(), is_new)
    }

    /// Takes what came later, of each piece these numbers.
    fn merge(&mut self, later: &Self, ends: &[Option<Ends>]) {
        self.deleted.extend_from_slice(&later.deleted);
        for (news, ends) in later.news.iter().zip(ends) {
            let Some(ends) = *ends else { continue };
            let News { conversation, incarnation, events, .. } = news;
            // A part of them, or none where those do not reach as far.
            let from = events.partition_point(|event| event.number < ends.0);
            let to = events.partition_point(|event| event.number <= ends.1);
            let part = &events[from..to];
            let reach = part.first().zip(part.last()).map(|(first, last)| (first.number, last.number));
            let events = if reach == Some(ends) { part } else { &[] };
            let bytes = events.iter().map(|event| event_bytes(event)).sum();
            self.put(conversation, *incarnation, ends, events, bytes);
        }
    }

    fn put(
        &mut self,
        conversation: &ConversationId,
        incarnation: Incarnation,
        (first, last): Ends,
        events: &[Arc<Event>],
        bytes: usize,
    ) {
        let is_new = !self.places.contains_key(&incarnation);
        let place = *self.places.entry(incarnation).or_insert_with(|| {
            let conversation = conversation.clone();
            self.news.push(News { conversation, incarnation, first, last, events: Vec::new() });
            self.news.len() - 1
        });
        let news = &mut self.news[place];
        if !is_new && last <= news.last {
            // What others have committed before may be heard late, and then all of it is read.
            if first < news.first {
                news.first = first;
                let left_out = std::mem::take(&mut news.events);
                self.bytes -= left_out.iter().map(|event| event_bytes(event)).sum::<usize>();
            }
            return;
        }
        let follows = is_new || (!news.events.is_empty() && news.last.next() == first);
        // What reaches further may reach further back, too.
        (news.first, news.last) = (news.first.min(first), last);
        // All events or none, so that nobody takes a part for the whole.
        if follows && !events.is_empty() && self.bytes + bytes <= WAITING_EVENT_BYTES {
            news.events.extend(events.iter().cloned());
            self.bytes += bytes;
        } else {
            let left_out = std::mem::take(&mut news.events);
            self.bytes -= left_out.iter().map(|event| event_bytes(event)).sum::<usize>();
        }
    }
}

/// What an event takes in memory, in bytes, roughly: mostly the texts that callers chose. The body of a stored message is
/// no part of it.
pub fn event_bytes(event: &Event) -> usize {
    EVENT_BYTES + text_bytes(event)
}

/// Bytes of the texts that callers chose.
fn text_bytes(event: &Event) -> usize {
    match &event.what {
        Happening::Extension(change) => change
            .pairs
            .iter()
            .map(|pair| {
                let previous = pair.previous.as_ref().and_then(|previous| previous.value.as_ref());
                let values =
                    pair.value.iter().chain(previous).map(|value| value.as_str().len()).sum::<usize>();
                EVENT_BYTES + pair.key.as_str().len() + values
            })
            .sum(),
        Happening::TransientMessage { body, .. } | Happening::DirectTransient { body, .. } => {
            body.elements.len() + body.cloud_custom_data.len() + body.further.len()
        }
        Happening::MembersJoined { users, .. } => users.len() * EVENT_BYTES,
        Happening::MembersLeft { users, reason } => users.len() * EVENT_BYTES + reason.len(),
        Happening::MessagesRecalled { seqs, reason } => seqs.len() * EVENT_BYTES + reason.len(),
        Happening::GroupCreated { .. }
        | Happening::GroupChanged
        | Happening::GroupDestroyed
        | Happening::OwnerChanged { .. }
        | Happening::MessageSent { .. }
        | Happening::DirectSent { .. }
        | Happening::DirectRecalled { .. } => 0,
    }
}

#[cfg(test)]
mod tests;
