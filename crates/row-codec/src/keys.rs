//! Keys as bytes: a kind, then the key's parts in the order of their declaration. Numbers are big-endian; a text
//! ends with a zero byte where something follows it, which no `UserID` or `GroupId` contains, so a shorter text
//! sorts before every longer one that begins with it. An extension key may hold a zero byte and is always last.

use sidenote_core::debt::{Debt, Task};
use sidenote_core::extension::Key;
use sidenote_core::ids::{
    AccountId, AppId, Conversation, ConversationId, EventNumber, GroupId, Incarnation, MessageName, MsgKey,
    MsgSeq, Recency, Timestamp, TinyId, UserId,
};
use sidenote_core::message::Fingerprint;
use sidenote_core::rows::{MessagePart, Part, RowKey, Span};
use sidenote_store::StoreError;

use super::unreadable;

// Kinds, the first byte of a key. 0 belongs to the engine.
const ACCOUNT: u8 = 1;
const MEMBERSHIP: u8 = 2;
const CONVERSATION: u8 = 3;
pub(super) const WITHIN: u8 = 4;
pub(super) const EVENT: u8 = 5;
pub(super) const DEBT: u8 = 6;
const OUTBOX: u8 = 7;
const DEAD_LETTER: u8 = 8;

// Parts of a conversation.
const COUNTERS: u8 = 1;
const MEMBER: u8 = 2;
const REPEAT: u8 = 3;
const MESSAGE: u8 = 4;
const RECENT: u8 = 5;

// Parts of a message.
const HEADER: u8 = 1;
const BODY: u8 = 2;
const EXTENSION: u8 = 3;
const PAIR: u8 = 4;

// Kinds of conversations.
const GROUP: u8 = 1;
const DIRECT: u8 = 2;

// Kinds of message names.
const BY_SEQ: u8 = 1;
const BY_KEY: u8 = 2;

// Tasks.
const ANNOUNCE: u8 = 1;
const FORSAKE: u8 = 2;
const REAP: u8 = 3;
const STRIP: u8 = 4;
const FORGET_SEND: u8 = 5;
const TRIM_EVENTS: u8 = 6;

/// The bytes of a key. They sort as keys do.
pub fn encode_key(key: &RowKey) -> Vec<u8> {
    let mut bytes = Writer(Vec::with_capacity(64));
    match key {
        RowKey::Account(account) => {
            bytes.u8(ACCOUNT);
            bytes.account(account);
        }
        RowKey::Membership(account, group, incarnation) => {
            bytes.u8(MEMBERSHIP);
            bytes.account(account);
            bytes.text(group.as_str());
            bytes.u64(incarnation.get());
        }
        RowKey::Conversation(id) => {
            bytes.u8(CONVERSATION);
            bytes.conversation(id);
        }
        RowKey::Within(incarnation, part) => {
            bytes.u8(WITHIN);
            bytes.u64(incarnation.get());
            bytes.part(part);
        }
        RowKey::Event(incarnation, number) => {
            bytes.u8(EVENT);
            bytes.u64(incarnation.get());
            bytes.u64(number.get());
        }
        RowKey::Debt(debt) => {
            bytes.u8(DEBT);
            bytes.u64(debt.due.millis());
            bytes.task(&debt.task);
        }
        RowKey::Outbox(id, incarnation) => {
            bytes.u8(OUTBOX);
            bytes.conversation(id);
            bytes.u64(incarnation.get());
        }
        RowKey::DeadLetter(id, incarnation, number) => {
            bytes.u8(DEAD_LETTER);
            bytes.conversation(id);
            bytes.u64(incarnation.get());
            bytes.u64(number.get());
        }
    }
    bytes.0
}

/// The key that these bytes are, if they are one: exactly the bytes that [`encode_key`] gives for it.
pub fn decode_key(bytes: &[u8]) -> Result<RowKey, StoreError> {
    let mut bytes = Reader(bytes);
    let kind = bytes.u8().ok_or_else(|| unreadable("a key", "it is empty"))?;
    let (name, key) = match kind {
        ACCOUNT => ("the key of an account", bytes.account().map(RowKey::Account)),
        MEMBERSHIP => ("the key of a membership", bytes.membership()),
        CONVERSATION => ("the key of a conversation", bytes.conversation().map(RowKey::Conversation)),
        WITHIN => ("the key of a row within a conversation", bytes.within()),
        EVENT => ("the key of an event", bytes.event()),
        DEBT => ("the key of a debt", bytes.debt()),
        OUTBOX => ("the key of an outbox", bytes.outbox()),
        DEAD_LETTER => ("the key of a dead letter", bytes.dead_letter()),
        other => return Err(unreadable("a key", format_args!("no kind of key has the number {other}"))),
    };
    key.filter(|_| bytes.0.is_empty()).ok_or_else(|| unreadable(name, "its bytes make no such key"))
}

/// Where the rows of a span lie: the first possible key, and the first key behind the last.
pub fn span_bounds(span: &Span) -> (Vec<u8>, Vec<u8>) {
    let mut bytes = Writer(Vec::with_capacity(64));
    match span {
        Span::Memberships(account) => {
            bytes.u8(MEMBERSHIP);
            bytes.account(account);
        }
        Span::Members(incarnation) => {
            bytes.u8(WITHIN);
            bytes.u64(incarnation.get());
            bytes.u8(MEMBER);
        }
        Span::Pairs(incarnation, message) => {
            bytes.u8(WITHIN);
            bytes.u64(incarnation.get());
            bytes.u8(MESSAGE);
            bytes.message(*message);
            bytes.u8(PAIR);
        }
        Span::Recent(incarnation) => {
            bytes.u8(WITHIN);
            bytes.u64(incarnation.get());
            bytes.u8(RECENT);
        }
        Span::Within(incarnation) => {
            bytes.u8(WITHIN);
            bytes.u64(incarnation.get());
        }
        Span::Events(incarnation) => {
            bytes.u8(EVENT);
            bytes.u64(incarnation.get());
        }
        Span::Debts(by) => {
            let end = by.millis().checked_add(1).map_or_else(
                || vec![DEBT + 1],
                |end| {
                    let mut bytes = Writer(vec![DEBT]);
                    bytes.u64(end);
                    bytes.0
                },
            );
            return (vec![DEBT], end);
        }
        Span::Outboxes(app) => {
            bytes.u8(OUTBOX);
            bytes.u32(app.get());
        }
        Span::OutboxesOf(id) => {
            bytes.u8(OUTBOX);
            bytes.conversation(id);
        }
        Span::DeadLetters(app) => {
            bytes.u8(DEAD_LETTER);
            bytes.u32(app.get());
        }
        Span::DeadLettersOf(id, incarnation) => {
            bytes.u8(DEAD_LETTER);
            bytes.conversation(id);
            bytes.u64(incarnation.get());
        }
    }
    let start = bytes.0;
    let mut end = start.clone();
    // The last byte that can be raised, raised. The kind always can.
    while end.last() == Some(&u8::MAX) {
        end.pop();
    }
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    (start, end)
}

struct Writer(Vec<u8>);

impl Writer {
    fn u8(&mut self, it: u8) {
        self.0.push(it);
    }

    fn u32(&mut self, it: u32) {
        self.0.extend_from_slice(&it.to_be_bytes());
    }

    fn u64(&mut self, it: u64) {
        self.0.extend_from_slice(&it.to_be_bytes());
    }

    fn text(&mut self, it: &str) {
        self.0.extend_from_slice(it.as_bytes());
        self.0.push(0);
    }

    fn account(&mut self, id: &AccountId) {
        self.u32(id.app.get());
        self.text(id.user.as_str());
    }

    fn conversation(&mut self, id: &ConversationId) {
        self.u32(id.app.get());
        match &id.conversation {
            Conversation::Group(group) => {
                self.u8(GROUP);
                self.text(group.as_str());
            }
            Conversation::Direct(one, other) => {
                self.u8(DIRECT);
                self.text(one.as_str());
                self.text(other.as_str());
            }
        }
    }

    fn message(&mut self, name: MessageName) {
        match name {
            MessageName::Seq(seq) => {
                self.u8(BY_SEQ);
                self.u64(seq.get());
            }
            MessageName::Key(MsgKey { seq, random, time }) => {
                self.u8(BY_KEY);
                self.u32(seq);
                self.u32(random);
                self.u64(time);
            }
        }
    }

    fn part(&mut self, part: &Part) {
        match part {
            Part::Counters => self.u8(COUNTERS),
            Part::Member(user) => {
                self.u8(MEMBER);
                self.text(user.as_str());
            }
            Part::Repeat(fingerprint) => {
                self.u8(REPEAT);
                self.0.extend_from_slice(&fingerprint.0);
            }
            Part::Message(name, part) => {
                self.u8(MESSAGE);
                self.message(*name);
                match part {
                    MessagePart::Header => self.u8(HEADER),
                    MessagePart::Body => self.u8(BODY),
                    MessagePart::Extension => self.u8(EXTENSION),
                    MessagePart::Pair(key) => {
                        self.u8(PAIR);
                        self.0.extend_from_slice(key.as_str().as_bytes());
                    }
                }
            }
            Part::Recent(place) => {
                // Complements, since the newest comes first.
                let MsgKey { seq, random, time } = place.key();
                self.u8(RECENT);
                self.u64(!time);
                self.u32(!seq);
                self.u32(!random);
            }
        }
    }

    fn task(&mut self, task: &Task) {
        let (tag, id, incarnation) = match task {
            Task::Forsake(account, tiny_id) => {
                self.u8(FORSAKE);
                self.account(account);
                self.u64(tiny_id.get());
                return;
            }
            Task::Announce(id, incarnation, _) => (ANNOUNCE, id, incarnation),
            Task::Reap(id, incarnation) => (REAP, id, incarnation),
            Task::Strip(id, incarnation, _) => (STRIP, id, incarnation),
            Task::ForgetSend(id, incarnation, _) => (FORGET_SEND, id, incarnation),
            Task::TrimEvents(id, incarnation) => (TRIM_EVENTS, id, incarnation),
        };
        self.u8(tag);
        self.conversation(id);
        self.u64(incarnation.get());
        match task {
            Task::Announce(.., number) => self.u64(number.get()),
            Task::Strip(.., message) => self.message(*message),
            Task::ForgetSend(.., fingerprint) => self.0.extend_from_slice(&fingerprint.0),
            Task::Forsake(..) | Task::Reap(..) | Task::TrimEvents(..) => {}
        }
    }
}

/// Takes a key apart from the front. `None`: the bytes are no key.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let (text, rest) = (&self.0[..end], &self.0[end + 1..]);
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn app(&mut self) -> Option<AppId> {
        self.u32().map(AppId::new)
    }

    fn user(&mut self) -> Option<UserId> {
        self.text().and_then(|text| UserId::new(text).ok())
    }

    fn group(&mut self) -> Option<GroupId> {
        self.text().and_then(|text| GroupId::new(text).ok())
    }

    fn incarnation(&mut self) -> Option<Incarnation> {
        self.u64().map(Incarnation::from_random)
    }

    fn tiny_id(&mut self) -> Option<TinyId> {
        // Half of all numbers are no TinyId; taking one of those would change it.
        let raw = self.u64()?;
        Some(TinyId::from_random(raw)).filter(|tiny_id| tiny_id.get() == raw)
    }

    fn account(&mut self) -> Option<AccountId> {
        Some(AccountId { app: self.app()?, user: self.user()? })
    }

    fn conversation(&mut self) -> Option<ConversationId> {
        let app = self.app()?;
        let conversation = match self.u8()? {
            GROUP => Conversation::Group(self.group()?),
            DIRECT => {
                let (one, other) = (self.user()?, self.user()?);
                (one <= other).then_some(Conversation::Direct(one, other))?
            }
            _ => return None,
        };
        Some(ConversationId { app, conversation })
    }

    fn message(&mut self) -> Option<MessageName> {
        match self.u8()? {
            BY_SEQ => self.u64().and_then(|seq| MsgSeq::new(seq).ok()).map(MessageName::Seq),
            BY_KEY => {
                let key = MsgKey { seq: self.u32()?, random: self.u32()?, time: self.u64()? };
                Some(MessageName::Key(key))
            }
            _ => None,
        }
    }

    fn membership(&mut self) -> Option<RowKey> {
        Some(RowKey::Membership(self.account()?, self.group()?, self.incarnation()?))
    }

    fn within(&mut self) -> Option<RowKey> {
        let incarnation = self.incarnation()?;
        let part = match self.u8()? {
            COUNTERS => Part::Counters,
            MEMBER => Part::Member(self.user()?),
            REPEAT => Part::Repeat(Fingerprint(self.array()?)),
            MESSAGE => {
                let name = self.message()?;
                let part = match self.u8()? {
                    HEADER => MessagePart::Header,
                    BODY => MessagePart::Body,
                    EXTENSION => MessagePart::Extension,
                    PAIR => {
                        let text = std::str::from_utf8(std::mem::take(&mut self.0)).ok()?;
                        MessagePart::Pair(Key::new(text).ok()?)
                    }
                    _ => return None,
                };
                Part::Message(name, part)
            }
            RECENT => {
                let (time, seq, random) = (!self.u64()?, !self.u32()?, !self.u32()?);
                Part::Recent(Recency::of(MsgKey { seq, random, time }))
            }
            _ => return None,
        };
        Some(RowKey::Within(incarnation, part))
    }

    fn event(&mut self) -> Option<RowKey> {
        Some(RowKey::Event(self.incarnation()?, self.u64().map(EventNumber::new)?))
    }

    fn outbox(&mut self) -> Option<RowKey> {
        Some(RowKey::Outbox(self.conversation()?, self.incarnation()?))
    }

    fn dead_letter(&mut self) -> Option<RowKey> {
        let (id, incarnation) = (self.conversation()?, self.incarnation()?);
        Some(RowKey::DeadLetter(id, incarnation, self.u64().map(EventNumber::new)?))
    }

    fn debt(&mut self) -> Option<RowKey> {
        let due = self.u64().map(Timestamp::from_millis)?;
        let task = match self.u8()? {
            ANNOUNCE => {
                let (id, incarnation) = (self.conversation()?, self.incarnation()?);
                Task::Announce(id, incarnation, self.u64().map(EventNumber::new)?)
            }
            FORSAKE => Task::Forsake(self.account()?, self.tiny_id()?),
            REAP => Task::Reap(self.conversation()?, self.incarnation()?),
            STRIP => Task::Strip(self.conversation()?, self.incarnation()?, self.message()?),
            FORGET_SEND => {
                let (id, incarnation) = (self.conversation()?, self.incarnation()?);
                Task::ForgetSend(id, incarnation, Fingerprint(self.array()?))
            }
            TRIM_EVENTS => Task::TrimEvents(self.conversation()?, self.incarnation()?),
            _ => return None,
        };
        Some(RowKey::Debt(Debt { due, task }))
    }
}
