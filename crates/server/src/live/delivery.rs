//! One event on its way to many receivers.

use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use sidenote_core::event::Event;
use sidenote_core::ids::{ConversationId, Incarnation};
use sidenote_core::message::MessageBody;

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
    forms: [OnceLock<Bytes>; Form::COUNT],
}

impl Delivery {
    pub(super) fn new(
        conversation: ConversationId,
        incarnation: Incarnation,
        event: Arc<Event>,
        body: Option<Arc<MessageBody>>,
    ) -> Self {
        Self(Arc::new(Inner { conversation, incarnation, event, body, forms: Default::default() }))
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

    /// The event in this form, which the first who asks for it makes.
    pub(crate) fn form(&self, form: Form, make: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.0.forms[form as usize].get_or_init(|| make(self)).clone()
    }
}
