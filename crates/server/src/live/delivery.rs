//! One event on its way to many receivers.

use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use sidenote_core::event::{Event, Happening};
use sidenote_core::ids::{Conversation, ConversationId, Incarnation, TinyId, UserId};
use sidenote_core::message::MessageBody;
use sidenote_store::news::event_bytes;

use crate::api::messages::audience::{Audience, is_for_its_sender};

/// How an event is written. Each form is made once, for all receivers that want it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A push on the long connection.
    LongConnection,
    /// The same, packed.
    PackedLongConnection,
    /// An event of the open event stream, in its frame.
    Stream,
}

impl Form {
    const COUNT: usize = 3;
}

/// An event, with what is needed to tell it. Clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Delivery(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    conversation: ConversationId,
    incarnation: Incarnation,
    event: Arc<Event>,
    body: Option<Arc<MessageBody>>,
    people: Vec<(UserId, TinyId)>,
    audience: OnceLock<Audience>,
    bytes: usize,
    forms: [OnceLock<Bytes>; Form::COUNT],
}

impl Delivery {
    pub(super) fn new(
        conversation: ConversationId,
        incarnation: Incarnation,
        event: Arc<Event>,
        body: Option<Arc<MessageBody>>,
        people: Vec<(UserId, TinyId)>,
    ) -> Self {
        let body_bytes = body
            .as_ref()
            .map_or(0, |body| body.elements.len() + body.cloud_custom_data.len() + body.further.len());
        let bytes = event_bytes(&event) + body_bytes;
        let (audience, forms) = (OnceLock::new(), Default::default());
        Self(Arc::new(Inner { conversation, incarnation, event, body, people, audience, bytes, forms }))
    }

    /// Where it happened.
    pub(crate) fn conversation(&self) -> &ConversationId {
        &self.0.conversation
    }

    /// In which life of the conversation.
    pub(crate) fn incarnation(&self) -> Incarnation {
        self.0.incarnation
    }

    /// What happened.
    pub(crate) fn event(&self) -> &Event {
        &self.0.event
    }

    /// What a message that was sent says; `None` for other events, and for a message that was recalled meanwhile.
    pub(crate) fn body(&self) -> Option<&MessageBody> {
        self.0.body.as_deref()
    }

    /// Whom the names in it mean, where names alone do not say: the two accounts of a one-to-one conversation, in the
    /// order in which it names them, and accounts that join. Without those of which nobody is connected.
    pub(crate) fn people(&self) -> &[(UserId, TinyId)] {
        &self.0.people
    }

    /// What it takes while it waits, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.0.bytes
    }

    /// Whether this account may be told. A message of a group may be for some of its members only (`To_Account`), and one
    /// to an account not for its sender's other connections (`SyncOtherMachine`). Of one that was recalled meanwhile
    /// nobody can say any more for whom it was.
    pub(super) fn is_for(&self, user: &UserId) -> bool {
        match &self.event().what {
            Happening::MessageSent { message, .. } | Happening::TransientMessage { message, .. } => {
                self.body().is_some_and(|body| {
                    let audience = self.0.audience.get_or_init(|| Audience::of(body));
                    audience.includes(&message.sender, user)
                })
            }
            Happening::DirectSent { message, .. } | Happening::DirectTransient { message, .. } => {
                message.sender != *user
                    || matches!(&self.conversation().conversation, Conversation::Direct(one, other) if one == other)
                    || self.body().is_some_and(is_for_its_sender)
            }
            _ => true,
        }
    }

    /// The event in this form, which the first who asks for it makes.
    pub(crate) fn form(&self, form: Form, make: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.0.forms[form as usize].get_or_init(|| make(self)).clone()
    }
}
