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

/// What an event takes beside its texts, roughly.
const EVENT_BYTES: usize = 256;

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

/// Where a store tells its news. Clones stand for the same one.
#[derive(Clone, Debug, Default)]
pub struct Newsroom(Arc<Room>);

#[derive(Debug, Default)]
struct Room {
    desks: Mutex<Vec<Arc<Desk>>>,
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
    /// Follows from now on.
    pub fn follow(&self) -> Follower {
        let desk = Arc::<Desk>::default();
        lock(&self.0.desks).push(Arc::clone(&desk));
        Follower { room: Arc::clone(&self.0), desk }
    }

    /// Tells what was gathered of one commit, which is durable and readable. Commits are told in their order.
    ///
    /// A store gathers also while nobody follows, because somebody may come before it tells, and what could not be read
    /// yet at that time must be news then.
    pub fn tell(&self, gathered: &Gathered) {
        if gathered.is_empty() {
            return;
        }
        for desk in &*lock(&self.0.desks) {
            lock(&desk.waiting).merge(gathered);
            desk.bell.notify_one();
        }
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
        let Gathered { news, deleted, .. } = std::mem::take(&mut *lock(&self.desk.waiting));
        Told { news, deleted }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut desks = lock(&self.room.desks);
        desks.retain(|desk| !Arc::ptr_eq(desk, &self.desk));
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
}

impl Gathered {
    /// Takes the events among the changes of a command, and the account that it deleted. Commands come in the order in
    /// which they were decided.
    pub fn add(&mut self, command: &Command, changes: &[Change]) {
        let conversation = match &command.action {
            Action::Group(conversation, _) => Cow::Borrowed(conversation),
            Action::Direct(peers, _) => Cow::Owned(peers.id()),
            Action::Account(..) => return self.add_deleted(changes),
            Action::Pay(_) | Action::Outbox(..) => return,
        };
        for change in changes {
            if let (RowKey::Event(incarnation, number), Some(Row::Event(event))) = (&change.key, &change.row)
            {
                let events = std::slice::from_ref(event);
                self.put(&conversation, *incarnation, (*number, *number), events, event_bytes(event));
            }
        }
    }

    /// Takes that there are events up to this one, which were committed elsewhere: of these there is nothing but the
    /// number. Older than what was heard before, it says nothing.
    pub fn add_heard(&mut self, conversation: &ConversationId, incarnation: Incarnation, last: EventNumber) {
        self.put(conversation, incarnation, (last, last), &[], 0);
    }

    /// Takes that an account was deleted elsewhere.
    pub fn add_heard_deleted(&mut self, account: AccountId, tiny_id: TinyId) {
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
        self.news.is_empty() && self.deleted.is_empty()
    }

    fn merge(&mut self, later: &Self) {
        self.deleted.extend_from_slice(&later.deleted);
        for News { conversation, incarnation, first, last, events } in &later.news {
            let bytes = events.iter().map(|event| event_bytes(event)).sum();
            self.put(conversation, *incarnation, (*first, *last), events, bytes);
        }
    }

    fn put(
        &mut self,
        conversation: &ConversationId,
        incarnation: Incarnation,
        (first, last): (EventNumber, EventNumber),
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
            // Told before: what others have heard comes late.
            return;
        }
        let follows = is_new || (!news.events.is_empty() && news.last.next() == first);
        news.last = last;
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
mod tests {
    use sidenote_core::command::{AccountAction, GroupAction};
    use sidenote_core::event::{ChangedPair, ExtensionChange, Operation, Operator};
    use sidenote_core::extension::{Key, Seq, Value};
    use sidenote_core::ids::{AccountId, AppId, GroupId, MessageName, MsgSeq, Timestamp, TinyId, UserId};

    use super::*;

    fn group(name: &str) -> ConversationId {
        ConversationId::group(AppId::new(1), GroupId::new(name).unwrap())
    }

    fn command(action: Action) -> Command {
        let operator = Operator::server(UserId::new("ann").unwrap());
        Command { operator, at: Timestamp::from_millis(1), action }
    }

    /// A change of one pair with a value of so many bytes.
    fn change(incarnation: u64, number: u64, value_bytes: usize) -> Change {
        let pair = ChangedPair {
            key: Key::new("k").unwrap(),
            value: Some(Value::new(&"v".repeat(value_bytes)).unwrap()),
            seq: Seq::new(number).unwrap(),
            previous: None,
        };
        let what = Happening::Extension(ExtensionChange {
            message: MessageName::Seq(MsgSeq::new(1).unwrap()),
            sender_tiny_id: TinyId::from_random(1),
            client_time: 1,
            random: 1,
            operation: Operation::Set,
            compaction: false,
            pairs: vec![pair],
            latest: Seq::new(number).unwrap(),
            clear: Seq::NEVER,
        });
        let number = EventNumber::new(number);
        let operator = Operator::server(UserId::new("ann").unwrap());
        let event = Event { number, at: Timestamp::from_millis(1), operator, what };
        let key = RowKey::Event(Incarnation::from_random(incarnation), number);
        Change { key, row: Some(Row::Event(Arc::new(event))) }
    }

    fn numbers(news: &News) -> Vec<u64> {
        news.events.iter().map(|event| event.number.get()).collect()
    }

    fn ends(news: &News) -> (u64, u64) {
        (news.first.get(), news.last.get())
    }

    /// A commit that changes a conversation, by its number and name.
    fn tell(newsroom: &Newsroom, changes: &[(u64, &str, u64, usize)]) {
        let mut gathered = Gathered::default();
        for (incarnation, name, number, bytes) in changes {
            let command = command(Action::Group(group(name), GroupAction::Destroy));
            gathered.add(&command, &[change(*incarnation, *number, *bytes)]);
        }
        newsroom.tell(&gathered);
    }

    #[tokio::test]
    async fn the_events_of_a_commit_are_told_by_conversation_in_their_order() {
        let newsroom = Newsroom::default();
        let mut follower = newsroom.follow();
        tell(&newsroom, &[(1, "a", 7, 10), (1, "a", 8, 10), (2, "b", 1, 10), (1, "a", 9, 10)]);
        let told = follower.next().await.news;
        let [first, second] = &told[..] else { panic!("{told:?}") };
        assert_eq!((&first.conversation, ends(first), numbers(first)), (&group("a"), (7, 9), vec![7, 8, 9]));
        assert_eq!((&second.conversation, ends(second), numbers(second)), (&group("b"), (1, 1), vec![1]));
        assert_eq!(follower.take().news, []);
        drop(follower);
        assert!(lock(&newsroom.0.desks).is_empty());
    }

    #[test]
    fn what_falls_out_of_the_retention_and_a_commit_without_events_are_no_news() {
        let newsroom = Newsroom::default();
        let mut follower = newsroom.follow();
        let account = AccountId { app: AppId::new(1), user: UserId::new("ann").unwrap() };
        let mut gathered = Gathered::default();
        gathered.add(&command(Action::Account(account, AccountAction::Delete)), &[]);
        let old = Change { key: RowKey::Event(Incarnation::from_random(1), EventNumber::new(1)), row: None };
        gathered.add(&command(Action::Group(group("a"), GroupAction::Destroy)), &[old]);
        newsroom.tell(&gathered);
        assert_eq!(follower.take().news, []);
    }

    #[test]
    fn news_that_waits_becomes_one_piece_for_each_conversation() {
        let newsroom = Newsroom::default();
        let mut followers = [newsroom.follow(), newsroom.follow()];
        tell(&newsroom, &[(1, "a", 1, 10)]);
        tell(&newsroom, &[(1, "a", 2, 10), (2, "b", 5, 10)]);
        tell(&newsroom, &[(1, "a", 3, 10)]);
        for follower in &mut followers {
            let told = follower.take().news;
            assert_eq!(told.iter().map(ends).collect::<Vec<_>>(), [(1, 3), (5, 5)]);
            assert_eq!((numbers(&told[0]), numbers(&told[1])), (vec![1, 2, 3], vec![5]));
        }
        // A conversation that was made again is another one.
        tell(&newsroom, &[(1, "a", 4, 10), (3, "a", 1, 10)]);
        assert_eq!(followers[0].take().news.iter().map(ends).collect::<Vec<_>>(), [(4, 4), (1, 1)]);
    }

    #[test]
    fn events_that_are_too_large_to_wait_are_told_by_their_numbers_and_all_of_a_piece_or_none() {
        let newsroom = Newsroom::default();
        let mut follower = newsroom.follow();
        let many = WAITING_EVENT_BYTES as u64 / 10_000 + 1;
        tell(&newsroom, &[(2, "b", 1, 10)]);
        for number in 1..=many {
            tell(&newsroom, &[(1, "a", number, 10_000)]);
        }
        tell(&newsroom, &[(2, "b", 2, 10)]);
        let told = follower.take().news;
        assert_eq!(told.iter().map(ends).collect::<Vec<_>>(), [(1, 2), (1, many)]);
        assert_eq!((numbers(&told[0]), numbers(&told[1])), (vec![1, 2], vec![]));
        // What was taken makes room.
        tell(&newsroom, &[(1, "a", many + 1, 10_000)]);
        assert_eq!(numbers(&follower.take().news[0]), [many + 1]);
    }

    #[tokio::test]
    async fn an_account_that_was_deleted_is_told_with_its_number() {
        let newsroom = Newsroom::default();
        let mut follower = newsroom.follow();
        let account = AccountId { app: AppId::new(1), user: UserId::new("ann").unwrap() };
        let owed = |task| Change {
            key: RowKey::Debt(Debt { due: Timestamp::from_millis(1), task }),
            row: Some(Row::Debt),
        };
        let mut gathered = Gathered::default();
        let forsake = Task::Forsake(account.clone(), TinyId::from_random(7));
        gathered.add(&command(Action::Account(account.clone(), AccountAction::Delete)), &[owed(forsake)]);
        newsroom.tell(&gathered);
        let told = follower.next().await;
        assert_eq!((told.news, told.deleted), (Vec::new(), vec![(account, TinyId::from_random(7))]));
    }

    #[tokio::test]
    async fn whoever_waits_is_woken() {
        let newsroom = Newsroom::default();
        let mut follower = newsroom.follow();
        let told = tokio::join!(follower.next(), async { tell(&newsroom, &[(1, "a", 1, 10)]) }).0;
        assert_eq!(told.news.len(), 1);
    }
}
