use proptest::prelude::*;
use sidenote_core::event::{Happening, Operator};
use sidenote_core::ids::{AppId, ConversationId, GroupId, Timestamp, UserId};

use super::*;

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn event(number: u64, reason: &str) -> Arc<Event> {
    Arc::new(Event {
        number: EventNumber::new(number),
        at: Timestamp::from_millis(1_700_000_000_000),
        operator: Operator::server(user("administrator")),
        what: Happening::MembersLeft { users: vec![user("ann")], reason: reason.to_owned() },
    })
}

fn news(first: u64, last: u64, events: Vec<Arc<Event>>) -> Message {
    let conversation = ConversationId::group(AppId::new(7), GroupId::new("room").unwrap());
    let [first, last] = [first, last].map(EventNumber::new);
    Message::News(News { conversation, incarnation: Incarnation::from_random(u64::MAX), first, last, events })
}

fn samples() -> Vec<Message> {
    let direct = ConversationId::direct(AppId::new(7), user("ann"), user("bob"));
    let [first, last] = [3, 9].map(EventNumber::new);
    let (incarnation, events) = (Incarnation::from_random(0), Vec::new());
    let account = sidenote_core::ids::AccountId { app: AppId::new(7), user: user("ann") };
    vec![
        news(4, 5, vec![event(4, "left"), event(5, "left again")]),
        Message::News(News { conversation: direct, incarnation, first, last, events }),
        Message::Deleted(account.clone(), TinyId::from_random(u64::MAX)),
        Message::Leave(account.clone(), LoginNumber::from_random(u64::MAX), Leave::Kicked),
        Message::Leave(account, LoginNumber::from_random(0), Leave::Replaced),
    ]
}

#[test]
fn a_message_comes_back_as_it_was() {
    for message in samples() {
        for sent in [None, Some(Timestamp::from_millis(0)), Some(Timestamp::from_millis(u64::MAX))] {
            assert_eq!(Message::decode(&message.encode(sent)), Ok((message.clone(), sent)));
        }
    }
}

/// What a node of the version before knows of a message.
#[derive(Encode, Decode)]
struct WireBefore<'a> {
    #[b(0)]
    home: &'a ByteSlice,
    #[n(1)]
    number: u64,
    #[n(2)]
    first: u64,
    #[n(3)]
    last: u64,
    #[b(4)]
    events: Vec<&'a ByteSlice>,
}

#[test]
fn a_node_of_the_version_before_reads_what_this_one_sends_and_is_read() {
    for message in samples() {
        let bytes = message.encode(Some(Timestamp::from_millis(1_700_000_000_000)));
        assert_eq!(bytes[0], 1);
        let mut decoder = minicbor::Decoder::new(&bytes[1..]);
        let before: WireBefore<'_> = decoder.decode().unwrap();
        assert_eq!(decoder.position(), bytes.len() - 1, "bytes that are left over are refused");
        let mut sent_before = vec![1];
        minicbor::encode(before, &mut sent_before).unwrap();
        assert!(sent_before.len() < bytes.len());
        assert_eq!(Message::decode(&sent_before), Ok((message.clone(), None)));
        assert_eq!(message.encode(None), sent_before);
    }
}

#[test]
fn a_message_never_grows_too_large_to_be_taken() {
    let without = |message: &Message| {
        let bytes = message.encode(Some(Timestamp::from_millis(u64::MAX)));
        assert!(bytes.len() <= MOST_BYTES);
        let Ok((Message::News(news), _)) = Message::decode(&bytes) else { panic!("{message:?}") };
        news.events.is_empty()
    };
    let many = |count: u64, bytes: usize| {
        news(1, count, (1..=count).map(|number| event(number, &"r".repeat(bytes))).collect())
    };
    assert!(!without(&many(MOST_EVENTS as u64, 100)));
    assert!(without(&many(MOST_EVENTS as u64 + 1, 1)));
    assert!(without(&many(2, MOST_EVENT_BYTES / 2)));
    assert!(without(&many(1, 1_000_000)));
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let refused = |message: &Message| Message::decode(&message.encode(None)).is_err();
    assert!(refused(&news(0, 1, Vec::new())));
    assert!(refused(&news(2, 1, Vec::new())));
    assert!(refused(&news(1, u64::MAX, Vec::new())));
    assert!(refused(&news(1, 2, vec![event(1, "")])));
    assert!(refused(&news(1, 1, vec![event(2, "")])));
    assert!(!refused(&news(LAST_NUMBER, LAST_NUMBER, Vec::new())));
    let mut bytes = news(1, 1, Vec::new()).encode(None);
    bytes.push(0);
    assert_eq!(Message::decode(&bytes), Err(NotUnderstood("bytes are left over")));
    bytes[0] = VERSION + 1;
    assert_eq!(Message::decode(&bytes), Err(NotUnderstood("it has another version")));
    assert_eq!(Message::decode(&[]), Err(NotUnderstood("it has another version")));
    assert_eq!(Message::decode(&vec![VERSION; MOST_BYTES + 1]), Err(NotUnderstood("it is too long")));
}

/// What is understood can be told on, and comes back the same.
fn holds(bytes: &[u8]) {
    if let Ok((message, sent)) = Message::decode(bytes) {
        if let Message::News(news) = &message {
            assert!(news.first <= news.last && news.last.next() > news.last);
            assert!(
                news.events
                    .iter()
                    .zip(news.first.get()..)
                    .all(|(event, number)| event.number.get() == number)
            );
        }
        assert_eq!(Message::decode(&message.encode(sent)), Ok((message, sent)));
    }
}

proptest! {
    #[test]
    fn no_bytes_do_any_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..300), version in any::<bool>()) {
        if version && !bytes.is_empty() {
            bytes[0] = VERSION;
        }
        holds(&bytes);
    }

    #[test]
    fn no_message_that_was_tampered_with_does_any_harm(
        which in 0..5_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        end in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut bytes = samples()[which].encode(Some(Timestamp::from_millis(1_700_000_000_000)));
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if is_cut {
            bytes.truncate(end.index(bytes.len()));
        }
        holds(&bytes);
    }
}
