//! Where the events come from that an account is told. The only place that knows the hub.

use std::sync::Arc;

use axum::body::Bytes;
use sidenote_core::event::Event;
use sidenote_core::ids::{AccountId, Conversation, TinyId};

use super::frame::packed;
use super::pushes;
use super::unacknowledged::PushName;
use crate::api::Fault;
use crate::live::{Delivery, Form, Hub, Inbox};

pub(super) use crate::live::Ended;

/// Everything that an account is told from now on, until it is deleted.
pub(super) struct Subscription(Inbox);

impl Subscription {
    /// Whatever is in the state when this returns is no news any more, and whatever is not will be told.
    pub(super) async fn open(hub: &Arc<Hub>, account: &AccountId, tiny_id: TinyId) -> Result<Self, Fault> {
        Ok(Self(hub.connect(account, tiny_id).await?))
    }

    /// Waits for the next event. It may be dropped and called again.
    pub(super) async fn next(&mut self) -> Result<News, Ended> {
        self.0.next().await.map(News)
    }
}

/// One event.
pub(super) struct News(Delivery);

impl News {
    pub(super) fn conversation(&self) -> &Conversation {
        &self.0.conversation().conversation
    }

    pub(super) fn event(&self) -> &Event {
        self.0.event()
    }

    /// The push that tells it, and its name; `None` if clients are not told. It is written, and packed, once for all
    /// receivers.
    pub(super) fn push(&self, packs: bool) -> Option<(PushName, Bytes)> {
        let name = PushName { incarnation: self.0.incarnation().get(), event: self.event().number.get() };
        let plain = |delivery: &Delivery| {
            let conversation = &delivery.conversation().conversation;
            pushes::of_event(conversation, delivery.people(), delivery.event(), delivery.body(), name)
                .unwrap_or_default()
        };
        let push = if packs {
            self.0.form(Form::PackedLongConnection, |delivery| {
                packed(&delivery.form(Form::LongConnection, plain))
            })
        } else {
            self.0.form(Form::LongConnection, plain)
        };
        // An event that clients are not told has an empty form.
        (!push.is_empty()).then_some((name, push))
    }
}
