//! One incarnation of a conversation: its events, then everything inside it.

use sidenote_core::event::Event;
use sidenote_core::group::{Counters, Member, Role};
use sidenote_core::ids::{Conversation, EventNumber, Incarnation, MessageName, Timestamp, UserId};
use sidenote_core::message::{Fingerprint, Message, Sent};
use sidenote_core::rows::{MessagePart, Part, Row};

use super::events::Log;
use super::message::Rows;
use super::{Finding, Known, Owed, Place, Tally, Weight};

#[derive(Debug)]
pub(super) struct Life {
    incarnation: Incarnation,
    /// The conversation, if one lives under this number.
    known: Option<Known>,
    log: Log,
    events: u64,
    /// Rows that are no events.
    rows: u64,
    counters: Option<Counters>,
    members: Tally,
    owner: Option<UserId>,
    /// Number of the last message; in a one-to-one conversation how many there are.
    last_seq: u64,
    /// When it was sent; in a one-to-one conversation the latest second in a key.
    last_sent_at: Timestamp,
    /// The messages of a one-to-one conversation, and the places in its history.
    keys: Tally,
    places: Tally,
    message: Option<Rows>,
    pub(super) findings: Vec<Finding>,
}

impl Life {
    pub(super) fn new(incarnation: Incarnation, known: Option<Known>) -> Self {
        Self {
            incarnation,
            known,
            log: Log::default(),
            events: 0,
            rows: 0,
            counters: None,
            members: Tally::default(),
            owner: None,
            last_seq: 0,
            last_sent_at: Timestamp::default(),
            keys: Tally::default(),
            places: Tally::default(),
            message: None,
            findings: Vec::new(),
        }
    }

    pub(super) const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The place with the name of the group, where it has one.
    pub(super) fn named(&self, place: Place) -> Place {
        match &self.known {
            Some(known) => {
                Place { app: Some(known.id.app), conversation: Some(known.id.conversation.clone()), ..place }
            }
            None => place,
        }
    }

    pub(super) fn event(&mut self, number: EventNumber, event: &Event) {
        self.events += 1;
        for what in self.log.push(number, event) {
            self.damage(Place { event: Some(number), ..Place::default() }, what);
        }
    }

    pub(super) fn within(&mut self, part: &Part, row: &Row, owed: &Owed) {
        self.rows += 1;
        if self.known.is_none() {
            // Whether such rows may be there is asked once, at the end.
            return;
        }
        if !matches!(part, Part::Message(name, _) if self.message.as_ref().is_some_and(|it| it.name == *name))
        {
            self.end_message(owed);
        }
        match (part, row) {
            (Part::Counters, Row::Counters(counters)) => self.counters(*counters),
            (Part::Member(user), Row::Member(member)) => self.member(user, member),
            (Part::Repeat(fingerprint), Row::Repeat(sent)) => self.repeat(*fingerprint, *sent, owed),
            (Part::Message(name, part), row) => self.message(*name, part, row),
            (Part::Recent(place), _) => self.places.add(&place.key()),
            _ => {}
        }
    }

    /// After the last row. `lines`: the lines of accounts' lists that lead here.
    pub(super) fn finish(mut self, owed: &Owed, lines: Tally) -> Vec<Finding> {
        self.end_message(owed);
        let Some(known) = self.known.clone() else {
            self.finish_stray(owed);
            return self.findings;
        };
        if let Some(counters) = self.counters {
            self.compare_counters(counters);
        } else {
            self.damage(Place::default(), known.lacks_counters());
        }
        if self.owner != known.owner {
            let name = |user: &Option<UserId>| match user {
                Some(user) => format!("{:?}", user.as_str()),
                None => "nobody".to_owned(),
            };
            let what = format!(
                "is owned by {}, but the owner among its members is {}",
                name(&known.owner),
                name(&self.owner)
            );
            self.damage(Place::default(), what);
        }
        if !owed.trims(self.incarnation) {
            self.damage(Place::default(), "no debt looks after the age of its events");
        }
        self.compare_log();
        if self.places != self.keys {
            let (places, keys) = (self.places.count, self.keys.count);
            let what = format!("has {keys} messages, but its history names {places}");
            let what = if places == keys { format!("{what}, others among them") } else { what };
            self.damage(Place::default(), what);
        }
        if lines != self.members && !owed.announces(&known.id, self.incarnation) {
            let (count, members) = (lines.count, self.members.count);
            let weight = if count > members { Weight::Remark } else { Weight::Damage };
            let what = format!("has {members} members, but accounts' lists of groups name it {count} times");
            let what = if count == members { format!("{what}, for other members") } else { what };
            self.find(weight, Place::default(), what);
        }
        self.findings
    }

    fn finish_stray(&mut self, owed: &Owed) {
        let place = Place { incarnation: Some(self.incarnation), ..Place::default() };
        if self.rows > 0 && !owed.reaps(self.incarnation) {
            let what = format!("{} rows belong to no conversation, and no debt removes them", self.rows);
            self.damage(place.clone(), what);
        }
        if self.events > 0 && !owed.trims(self.incarnation) {
            let what = format!("{} events belong to no conversation, and no debt removes them", self.events);
            self.damage(place, what);
        }
    }

    fn counters(&mut self, counters: Counters) {
        self.counters = Some(counters);
        // Events go from the oldest on, so the last one is there as long as any is.
        if let Some(last) = self.log.last.filter(|last| *last != counters.last_event) {
            let what =
                format!("counts {} events, but the last one is {}", counters.last_event.get(), last.get());
            self.damage(Place::default(), what);
        }
    }

    fn compare_counters(&mut self, counters: Counters) {
        if u64::from(counters.members) != self.members.count {
            let what = format!("counts {} members, but has {}", counters.members, self.members.count);
            self.damage(Place::default(), what);
        }
        if counters.last_msg_seq != self.last_seq {
            let is_direct = self.known.as_ref().is_some_and(Known::is_direct);
            let but = if is_direct { "but there are" } else { "but the last one is" };
            let what = format!("counts {} messages, {but} {}", counters.last_msg_seq, self.last_seq);
            self.damage(Place::default(), what);
        } else if counters.last_msg_at != self.last_sent_at {
            let (counted, sent) = (counters.last_msg_at.millis(), self.last_sent_at.millis());
            let what =
                format!("says that its last message was sent at {counted} ms, but that one says {sent} ms");
            self.damage(Place::default(), what);
        }
    }

    /// What the events tell and no row has answered to.
    fn compare_log(&mut self) {
        let mut gone: Vec<_> =
            self.log.members.iter().filter(|(_, joined)| **joined).map(|(user, _)| user.clone()).collect();
        gone.sort();
        for user in gone {
            self.damage(
                Place { user: Some(user), ..Place::default() },
                "is no member, but the last event about it tells that it joined",
            );
        }
        let unsent = self.log.sent.keys().filter(|name| matches!(name, MessageName::Key(_))).min().copied();
        if let Some(message) = unsent {
            self.damage(
                Place { message: Some(message), ..Place::default() },
                "is missing, but an event tells that it was sent",
            );
        }
        let sets = self.log.sets.keys().copied().min();
        if let Some(message) = sets {
            self.damage(
                Place { message: Some(message), ..Place::default() },
                "is missing, but events tell of changes of its extension set",
            );
        }
    }

    fn member(&mut self, user: &UserId, member: &Member) {
        let known = self.known.as_ref().expect("members are looked at where a group is known");
        self.members.add(&(&known.id, user));
        let place = Place { user: Some(user.clone()), ..Place::default() };
        if member.role == Role::Owner && self.owner.replace(user.clone()).is_some() {
            self.damage(place.clone(), "is a second owner of the group");
        }
        if self.counters.is_some_and(|counters| member.read_seq > counters.last_msg_seq) {
            self.damage(place.clone(), "has read messages that were never sent");
        }
        if self.log.members.remove(user) == Some(false) {
            self.damage(place, "is a member, but the last event about it tells that it left");
        }
    }

    fn repeat(&mut self, fingerprint: Fingerprint, sent: Sent, owed: &Owed) {
        if !owed.forgets(self.incarnation, fingerprint, sent) {
            self.damage(Place::default(), "remembers a send that no debt will forget");
        }
        let last = self.counters.map_or(0, |counters| counters.last_msg_seq);
        let is_direct = self.known.as_ref().is_some_and(Known::is_direct);
        let was_stored = match sent.name {
            None => false,
            Some(MessageName::Seq(seq)) => !is_direct && seq.get() <= last,
            Some(MessageName::Key(_)) => is_direct && last > 0,
        };
        if !was_stored {
            self.damage(Place::default(), "remembers the send of a message that was never stored");
        }
    }

    fn message(&mut self, name: MessageName, part: &MessagePart, row: &Row) {
        let message = match &mut self.message {
            Some(message) => message,
            none => none.insert(Rows::new(name, self.log.sets.remove(&name))),
        };
        match (part, row) {
            (MessagePart::Header, Row::Message(header)) => {
                message.header(header);
                self.header(name, header);
            }
            (MessagePart::Body, _) => message.body(),
            (MessagePart::Extension, Row::Extension(state)) => message.state(state),
            (MessagePart::Pair(key), Row::Pair(entry)) => message.pair(key, entry),
            _ => {}
        }
    }

    fn header(&mut self, name: MessageName, header: &Message) {
        let place = || Place { message: Some(name), ..Place::default() };
        let is_direct = self.known.as_ref().is_some_and(Known::is_direct);
        if is_direct != matches!(name, MessageName::Key(_)) {
            self.damage(place(), "has a name that no message of such a conversation has");
        }
        match name {
            MessageName::Seq(seq) => {
                if seq.get() != self.last_seq + 1 {
                    let what = format!("comes after message {}: those in between are missing", self.last_seq);
                    self.damage(place(), what);
                }
                self.last_seq = seq.get();
                self.last_sent_at = header.sent_at;
            }
            MessageName::Key(key) => {
                self.keys.add(&key);
                self.last_seq += 1;
                self.last_sent_at = self.last_sent_at.max(Timestamp::from_secs(key.time));
                if key.random != header.random {
                    self.damage(place(), "has another random number than its key");
                }
                self.require_side(name, header);
            }
        }
        if let Some(told) = self.log.sent.remove(&name)
            && told != (Message { recalled: false, ..header.clone() })
        {
            self.damage(place(), "is not what the event of its sending tells");
        }
        if self.log.recalled.remove(&name) && !header.recalled {
            self.damage(place(), "is not recalled, but an event tells that it was");
        }
    }

    /// Whoever sent a one-to-one message is one of the two.
    fn require_side(&mut self, name: MessageName, header: &Message) {
        let conversation = self.known.as_ref().map(|known| &known.id.conversation);
        if let Some(Conversation::Direct(one, other)) = conversation
            && ![one, other].contains(&&header.sender)
        {
            let place = Place { message: Some(name), ..Place::default() };
            self.damage(place, "was sent by neither of the two accounts");
        }
    }

    fn end_message(&mut self, owed: &Owed) {
        if let Some(message) = self.message.take() {
            let name = message.name;
            for (key, what) in message.finish(owed.strips(self.incarnation, name)) {
                self.damage(Place { message: Some(name), key, ..Place::default() }, what);
            }
        }
    }

    fn damage(&mut self, place: Place, what: impl Into<String>) {
        self.find(Weight::Damage, place, what);
    }

    fn find(&mut self, weight: Weight, place: Place, what: impl Into<String>) {
        let place = self.named(place);
        self.findings.push(Finding { weight, place, what: what.into() });
    }
}
