use std::fmt;

use sidenote_core::debt::Task;
use sidenote_core::extension::Key;
use sidenote_core::ids::{
    AppId, Conversation, ConversationId, EventNumber, Incarnation, MessageName, UserId,
};
use sidenote_core::rows::{MessagePart, Part, RowKey};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// The store does not hold what it must.
    Damage,
    /// Unusual, but something that the rules live with.
    Remark,
}

/// Something that an audit objects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// Where.
    pub place: Place,
    /// What is wrong there. Never holds a value of a pair or a text of a user.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place == Place::default() {
            f.write_str(&self.what)
        } else {
            write!(f, "{}: {}", self.place, self.what)
        }
    }
}

/// A place in a store, as exact as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The application.
    pub app: Option<AppId>,
    /// The account, or the member of a group.
    pub user: Option<UserId>,
    /// The conversation.
    pub conversation: Option<Conversation>,
    /// Its incarnation, where that is all that is known of it.
    pub incarnation: Option<Incarnation>,
    /// The message.
    pub message: Option<MessageName>,
    /// The key of the pair.
    pub key: Option<Key>,
    /// The event.
    pub event: Option<EventNumber>,
}

impl Place {
    /// The place of the row under this key.
    pub fn of(key: &RowKey) -> Self {
        match key {
            RowKey::Account(account) => {
                Self { app: Some(account.app), user: Some(account.user.clone()), ..Self::default() }
            }
            RowKey::Membership(account, group, incarnation) => Self {
                app: Some(account.app),
                user: Some(account.user.clone()),
                conversation: Some(Conversation::Group(group.clone())),
                incarnation: Some(*incarnation),
                ..Self::default()
            },
            RowKey::Conversation(id) => Self::of_conversation(id),
            RowKey::Within(incarnation, part) => {
                let mut place = Self { incarnation: Some(*incarnation), ..Self::default() };
                match part {
                    Part::Counters | Part::Repeat(_) => {}
                    Part::Member(user) => place.user = Some(user.clone()),
                    Part::Message(name, part) => {
                        place.message = Some(*name);
                        if let MessagePart::Pair(key) = part {
                            place.key = Some(key.clone());
                        }
                    }
                    Part::Recent(at) => place.message = Some(MessageName::Key(at.key())),
                }
                place
            }
            RowKey::Event(incarnation, number) => {
                Self { incarnation: Some(*incarnation), event: Some(*number), ..Self::default() }
            }
            RowKey::Outbox(id, incarnation) => {
                Self { incarnation: Some(*incarnation), ..Self::of_conversation(id) }
            }
            RowKey::DeadLetter(id, incarnation, number) => {
                Self { incarnation: Some(*incarnation), event: Some(*number), ..Self::of_conversation(id) }
            }
            RowKey::Debt(debt) => match &debt.task {
                Task::Forsake(account, _) => Self::of(&RowKey::Account(account.clone())),
                Task::Announce(id, ..)
                | Task::Reap(id, _)
                | Task::ForgetSend(id, ..)
                | Task::TrimEvents(id, _) => Self::of_conversation(id),
                Task::Strip(id, _, message) => Self { message: Some(*message), ..Self::of_conversation(id) },
            },
        }
    }

    /// The place of a conversation.
    pub fn of_conversation(id: &ConversationId) -> Self {
        Self { app: Some(id.app), conversation: Some(id.conversation.clone()), ..Self::default() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(app) = self.app {
            parts.push(format!("app {app}"));
        }
        match &self.conversation {
            Some(Conversation::Group(group)) => parts.push(format!("group {:?}", group.as_str())),
            Some(Conversation::Direct(one, other)) => {
                parts.push(format!("conversation of {:?} and {:?}", one.as_str(), other.as_str()));
            }
            None => {
                parts
                    .extend(self.incarnation.map(|incarnation| format!("incarnation {}", incarnation.get())));
            }
        }
        parts.extend(self.user.as_ref().map(|user| format!("account {:?}", user.as_str())));
        parts.extend(self.message.map(|message| match message {
            MessageName::Seq(seq) => format!("message {}", seq.get()),
            MessageName::Key(key) => format!("message {key}"),
        }));
        parts.extend(self.key.as_ref().map(|key| format!("key {:?}", key.as_str())));
        parts.extend(self.event.map(|event| format!("event {}", event.get())));
        f.write_str(&parts.join(", "))
    }
}
