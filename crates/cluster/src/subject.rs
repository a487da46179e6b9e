//! Where on the broker a message goes. No text of a user is part of it: it is a number made of a hash.
//!
//! Whoever follows a conversation, or is connected as an account, has a number of 4096, and a node listens to the numbers
//! of those it knows. So it hears a little more than it needs, and what it did not need is dropped unread. Before the number
//! stands that of the database, so that several clusters may share a broker.

use std::collections::BTreeSet;

use sidenote_core::event::Happening;
use sidenote_core::ids::{AccountId, Conversation, ConversationId, UserId};
use sidenote_core::rows::RowKey;
use sidenote_row_codec::encode_key;
use sidenote_store::News;
use sidenote_store::audience::Followed;
use xxhash_rust::xxh3::xxh3_64;

use crate::message::Message;

/// So many numbers there are. All nodes must agree on it, so another number is another [`PREFIX`].
const SHARDS: u64 = 4096;

const PREFIX: &str = "sidenote.v2";

/// A message is sent to so many numbers at most; what concerns more goes to everybody.
const MOST_SHARDS: usize = 16;

/// A node that would listen to more numbers than this listens to all, until they are clearly fewer.
const MOST_EARS: usize = 2048;
const FEW_EARS: usize = 1536;

/// A part of what is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Subject {
    /// What concerns conversations or accounts of this number.
    Shard(u16),
    /// What concerns too many. Every node listens to it.
    Everybody,
    /// All of it, for those who listen.
    All,
}

impl Subject {
    /// Its name on a broker, for the nodes of one database.
    pub(crate) fn name(self, database: u64) -> String {
        match self {
            Self::Shard(number) => format!("{PREFIX}.{database:016x}.{number:03x}"),
            Self::Everybody => format!("{PREFIX}.{database:016x}.everybody"),
            Self::All => format!("{PREFIX}.{database:016x}.*"),
        }
    }
}

/// Where a message is sent to.
pub(crate) fn subjects_of(message: &Message) -> BTreeSet<Subject> {
    let subjects = match message {
        Message::Deleted(account, _) | Message::Leave(account, ..) => {
            Some(BTreeSet::from([of_account(account)]))
        }
        Message::News(news) => of_news(news),
    };
    subjects.unwrap_or_else(|| BTreeSet::from([Subject::Everybody]))
}

/// What a node listens to for those who follow, if it listens to all now or not.
pub(crate) fn subjects_for(followed: &Followed, hears_all: bool) -> BTreeSet<Subject> {
    let conversations = followed.conversations.iter().map(|followed| of_conversation(&followed.conversation));
    let mut subjects: BTreeSet<_> =
        conversations.chain(followed.accounts.iter().map(|(account, _)| of_account(account))).collect();
    if followed.has_apps || subjects.len() > if hears_all { FEW_EARS } else { MOST_EARS } {
        return BTreeSet::from([Subject::All]);
    }
    subjects.insert(Subject::Everybody);
    subjects
}

/// Besides those who follow the conversation: accounts that join a group, and the two of a one-to-one conversation. `None`
/// if they are too many or not known.
fn of_news(news: &News) -> Option<BTreeSet<Subject>> {
    let app = news.conversation.app;
    let of_user = |user: &UserId| of_account(&AccountId { app, user: user.clone() });
    let mut subjects = BTreeSet::from([of_conversation(&news.conversation)]);
    match &news.conversation.conversation {
        Conversation::Direct(one, other) => subjects.extend([one, other].map(of_user)),
        Conversation::Group(_) if news.events.is_empty() => return None,
        Conversation::Group(_) => {
            for event in &news.events {
                if let Happening::MembersJoined { users, .. } = &event.what {
                    if users.len() > MOST_SHARDS {
                        return None;
                    }
                    subjects.extend(users.iter().map(of_user));
                }
            }
        }
    }
    (subjects.len() <= MOST_SHARDS).then_some(subjects)
}

fn of_conversation(id: &ConversationId) -> Subject {
    shard(&RowKey::Conversation(id.clone()))
}

fn of_account(id: &AccountId) -> Subject {
    shard(&RowKey::Account(id.clone()))
}

fn shard(key: &RowKey) -> Subject {
    let number = xxh3_64(&encode_key(key)) % SHARDS;
    Subject::Shard(u16::try_from(number).expect("there are fewer numbers"))
}

#[cfg(test)]
mod tests {
    use sidenote_core::event::{Event, Operator};
    use sidenote_core::ids::{AppId, EventNumber, GroupId, Incarnation, Timestamp, TinyId};
    use sidenote_store::audience::FollowedConversation;

    use super::*;

    const APP: AppId = AppId::new(1_400_000_001);

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn account(name: &str) -> AccountId {
        AccountId { app: APP, user: user(name) }
    }

    fn group(name: &str) -> ConversationId {
        ConversationId::group(APP, GroupId::new(name).unwrap())
    }

    fn news(conversation: ConversationId, what: Vec<Happening>) -> Message {
        let events = (1_u64..).zip(what).map(|(number, what)| {
            let (number, at) = (EventNumber::new(number), Timestamp::from_millis(1));
            Event { number, at, operator: Operator::server(user("administrator")), what }.into()
        });
        let (first, last, incarnation) =
            (EventNumber::new(1), EventNumber::new(1), Incarnation::from_random(1));
        Message::News(News { conversation, incarnation, first, last, events: events.collect() })
    }

    fn joined(count: usize) -> Happening {
        let users = (0..count).map(|number| user(&format!("user{number}"))).collect();
        Happening::MembersJoined { users, imported: false }
    }

    #[test]
    fn subjects_hold_no_text_and_never_change() {
        assert_eq!(of_conversation(&group("g")).name(0xfe), "sidenote.v2.00000000000000fe.13b");
        assert_eq!(of_account(&account("ann")).name(0xfe), "sidenote.v2.00000000000000fe.4cd");
        assert_eq!(Subject::Shard(0xa).name(u64::MAX), "sidenote.v2.ffffffffffffffff.00a");
        assert_eq!(Subject::Everybody.name(0), "sidenote.v2.0000000000000000.everybody");
    }

    #[test]
    fn whoever_is_concerned_listens_where_it_is_told() {
        let nobody = Followed::default();
        let ann = Followed { accounts: vec![(account("ann"), TinyId::from_random(1))], ..nobody.clone() };
        let room = FollowedConversation {
            conversation: group("room"),
            incarnation: Incarnation::from_random(1),
            known: None,
        };
        let room = Followed { conversations: vec![room], ..nobody.clone() };
        let app = Followed { has_apps: true, ..nobody.clone() };
        let hears = |who: &Followed, message: &Message| {
            let ears = subjects_for(who, false);
            ears.contains(&Subject::All) || subjects_of(message).iter().any(|subject| ears.contains(subject))
        };
        let direct =
            news(ConversationId::direct(APP, user("bob"), user("ann")), vec![Happening::GroupChanged]);
        let change = news(group("room"), vec![Happening::GroupChanged]);
        let many = news(group("other"), vec![joined(17)]);
        let unknown = news(group("other"), Vec::new());
        let of_ann = Happening::MembersJoined { users: vec![user("ann")], imported: false };
        let joins = news(group("other"), vec![Happening::GroupChanged, of_ann]);
        let deleted = Message::Deleted(account("ann"), TinyId::from_random(1));
        for (who, heard) in [
            (&nobody, [false, false, true, true, false, false]),
            (&ann, [true, false, true, true, true, true]),
            (&room, [false, true, true, true, false, false]),
            (&app, [true; 6]),
        ] {
            let all = [&direct, &change, &many, &unknown, &joins, &deleted];
            assert_eq!(all.map(|message| hears(who, message)), heard, "{who:?}");
        }
    }

    #[test]
    fn whoever_follows_very_much_listens_to_all() {
        let followed = |count: u64| {
            let number = |number| (account(&format!("user{number}")), TinyId::from_random(number));
            Followed { accounts: (0..count).map(number).collect(), ..Followed::default() }
        };
        let all = BTreeSet::from([Subject::All]);
        assert_eq!(subjects_for(&followed(20_000), false), all);
        // Some 1,750 numbers: whoever listens to all goes on, so that nobody changes over and over.
        let between = followed(2300);
        let subjects = subjects_for(&between, false);
        assert!(subjects.len() > FEW_EARS && subjects.len() < MOST_EARS, "{}", subjects.len());
        assert_eq!(subjects_for(&between, true), all);
        assert!(subjects_for(&followed(1000), true).len() > 500);
        assert!(subjects_of(&news(group("g"), vec![joined(16)])).len() <= MOST_SHARDS);
    }
}
