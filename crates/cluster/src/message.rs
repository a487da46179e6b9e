//! What nodes tell each other, as bytes.
//!
//! The first byte is the version of the format. A node leaves alone what it does not understand: it finds the same by
//! looking. So nodes of neighbouring releases may send each other anything. Fields may be added behind the last one
//! without another version: who does not know them passes over them.

use std::sync::Arc;

use minicbor::bytes::ByteSlice;
use minicbor::{Decode, Encode};
use sidenote_core::event::Event;
use sidenote_core::ids::{AccountId, EventNumber, Incarnation, Timestamp, TinyId};
use sidenote_core::rows::{Row, RowKey};
use sidenote_row_codec::{decode_key, decode_row, encode_key, encode_row};
use sidenote_store::News;
use sidenote_store::shared::{Leave, LoginNumber};

/// The version of the format.
const VERSION: u8 = 1;

/// The longest message that is looked at, in bytes. Servers of NATS pass on up to 1 MiB.
pub const MOST_BYTES: usize = 64 * 1024;

/// Events are sent along if they take no more than so many bytes together; what is larger is read by those who want it.
const MOST_EVENT_BYTES: usize = 32 * 1024;

/// Events that are sent along at most.
const MOST_EVENTS: usize = 128;

/// The largest number of an event that a store can hold.
const LAST_NUMBER: u64 = i64::MAX.unsigned_abs();

/// Why a login has to go.
const KICKED: u64 = 1;
const REPLACED: u64 = 2;

/// What a node tells others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A conversation has new events, which may be there to be handed on.
    News(News),
    /// An account was deleted; its name may be somebody else's already.
    Deleted(AccountId, TinyId),
    /// A login on the long connection has to go.
    Leave(AccountId, LoginNumber, Leave),
}

/// The bytes are no message of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of another node can't be understood: {0}")]
pub struct NotUnderstood(&'static str);

#[derive(Encode, Decode)]
struct Wire<'a> {
    /// The key of the conversation or of the account.
    #[b(0)]
    home: &'a ByteSlice,
    /// The number of the life of the conversation, of the account, or of the login.
    #[n(1)]
    number: u64,
    /// The first event; 0 where it is about an account. Then `last` is 0 if it was deleted, or why a login has to go.
    #[n(2)]
    first: u64,
    #[n(3)]
    last: u64,
    #[b(4)]
    events: Vec<&'a ByteSlice>,
    /// When it was sent, in milliseconds since 1970, by the clock of the node that did. Nodes of the version before neither
    /// send nor read it.
    #[n(5)]
    sent: Option<u64>,
}

impl Message {
    /// The message as bytes, with the time at which it is sent; never more than [`MOST_BYTES`].
    pub fn encode(&self, sent: Option<Timestamp>) -> Vec<u8> {
        let (key, number, ends, events) = match self {
            Self::News(news) => {
                let key = RowKey::Conversation(news.conversation.clone());
                let ends = (news.first.get(), news.last.get());
                (key, news.incarnation.get(), ends, small_enough(&news.events))
            }
            Self::Deleted(account, tiny_id) => {
                (RowKey::Account(account.clone()), tiny_id.get(), (0, 0), Vec::new())
            }
            Self::Leave(account, number, why) => {
                let why = match why {
                    Leave::Kicked => KICKED,
                    Leave::Replaced => REPLACED,
                };
                (RowKey::Account(account.clone()), number.get(), (0, why), Vec::new())
            }
        };
        let (home, (first, last)) = (encode_key(&key), ends);
        let events = events.iter().map(|event| event.as_slice().into()).collect();
        let sent = sent.map(Timestamp::millis);
        let wire = Wire { home: home.as_slice().into(), number, first, last, events, sent };
        let mut bytes = vec![VERSION];
        minicbor::encode(wire, &mut bytes).expect("memory takes all bytes");
        bytes
    }

    /// The same without the events, for a broker that takes only short messages.
    pub(crate) fn without_events(mut self) -> Self {
        if let Self::News(news) = &mut self {
            news.events = Vec::new();
        }
        self
    }

    /// The message that these bytes are, and when it was sent, if it says so.
    ///
    /// # Errors
    ///
    /// If they are none of this version, whatever they are.
    pub fn decode(bytes: &[u8]) -> Result<(Self, Option<Timestamp>), NotUnderstood> {
        if bytes.len() > MOST_BYTES {
            return Err(NotUnderstood("it is too long"));
        }
        let Some((&VERSION, bytes)) = bytes.split_first() else {
            return Err(NotUnderstood("it has another version"));
        };
        let mut decoder = minicbor::Decoder::new(bytes);
        let wire: Wire<'_> = decoder.decode().map_err(|_| NotUnderstood("its fields are not there"))?;
        if decoder.position() != bytes.len() {
            return Err(NotUnderstood("bytes are left over"));
        }
        let sent = wire.sent.map(Timestamp::from_millis);
        let message = wire.read().ok_or(NotUnderstood("its fields do not fit each other"))?;
        Ok((message, sent))
    }
}

impl Wire<'_> {
    fn read(self) -> Option<Message> {
        let Self { home, number, first, last, events, .. } = self;
        match decode_key(home).ok()? {
            RowKey::Account(account) if first == 0 && events.is_empty() => {
                let (tiny_id, login) = (TinyId::from_random(number), LoginNumber::from_random(number << 1));
                match last {
                    0 => (tiny_id.get() == number).then_some(Message::Deleted(account, tiny_id)),
                    _ if login.get() != number => None,
                    KICKED => Some(Message::Leave(account, login, Leave::Kicked)),
                    REPLACED => Some(Message::Leave(account, login, Leave::Replaced)),
                    _ => None,
                }
            }
            RowKey::Conversation(conversation) => {
                if first == 0 || first > last || last > LAST_NUMBER {
                    return None;
                }
                let incarnation = Incarnation::from_random(number);
                let is_whole = u64::try_from(events.len()).ok()? == last - first + 1;
                if !events.is_empty() && !is_whole {
                    return None;
                }
                let events = events.into_iter().zip(first..=last);
                let events = events.map(|(event, number)| read_event(incarnation, event, number));
                Some(Message::News(News {
                    conversation,
                    incarnation,
                    first: EventNumber::new(first),
                    last: EventNumber::new(last),
                    events: events.collect::<Option<_>>()?,
                }))
            }
            _ => None,
        }
    }
}

fn read_event(incarnation: Incarnation, bytes: &[u8], number: u64) -> Option<Arc<Event>> {
    let number = EventNumber::new(number);
    match decode_row(&RowKey::Event(incarnation, number), bytes).ok()? {
        Row::Event(event) if event.number == number => Some(event),
        _ => None,
    }
}

/// The events as bytes, or none where they are too many or too large.
fn small_enough(events: &[Arc<Event>]) -> Vec<Vec<u8>> {
    if events.len() > MOST_EVENTS {
        return Vec::new();
    }
    let mut encoded = Vec::with_capacity(events.len());
    let mut bytes = 0;
    for event in events {
        let event = encode_row(&Row::Event(Arc::clone(event)));
        bytes += event.len();
        if bytes > MOST_EVENT_BYTES {
            return Vec::new();
        }
        encoded.push(event);
    }
    encoded
}

#[cfg(test)]
mod tests;
