//! What an event alone does not say: whom its names mean, and what a message says.

use std::sync::Arc;

use sidenote_core::event::{Event, Happening};
use sidenote_core::ids::{
    Conversation, ConversationId, EventNumber, Incarnation, MessageName, TinyId, UserId,
};
use sidenote_core::message::MessageBody;
use sidenote_core::query::{DescribeDirect, DescribeGroup, Events, FindMembers, FindMessage};
use sidenote_store::StoreError;

use super::super::delivery::Delivery;
use super::{EVENTS_PER_READ, Hub};

impl Hub {
    /// Whom an event that says names means by them: accounts that join, and the two of a one-to-one conversation. Only
    /// those of which anybody is connected are looked for.
    pub(super) async fn people(
        &self,
        conversation: &ConversationId,
        incarnation: Incarnation,
        event: &Event,
    ) -> Result<Vec<(UserId, TinyId)>, StoreError> {
        match (&conversation.conversation, &event.what) {
            (Conversation::Direct(one, other), _) => {
                let is_heard = {
                    let state = self.state();
                    [one, other].iter().any(|user| state.is_connected(conversation.app, user))
                };
                if is_heard {
                    self.parties(conversation, incarnation, [one, other]).await
                } else {
                    Ok(Vec::new())
                }
            }
            (_, Happening::MembersJoined { users, .. }) => {
                let users: Vec<_> = {
                    let state = self.state();
                    let is_connected = |user: &&UserId| state.is_connected(conversation.app, user);
                    users.iter().filter(is_connected).cloned().collect()
                };
                if users.is_empty() {
                    return Ok(Vec::new());
                }
                self.joined(conversation, incarnation, event.number, users).await
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The two accounts of a conversation; none where it is no longer the conversation of these names, because one of
    /// them is somebody else's by now.
    async fn parties(
        &self,
        conversation: &ConversationId,
        incarnation: Incarnation,
        names: [&UserId; 2],
    ) -> Result<Vec<(UserId, TinyId)>, StoreError> {
        let found = self.store().ask(DescribeDirect { id: conversation.clone() }).await?;
        let Some(view) = found.filter(|view| view.direct.incarnation == incarnation) else {
            return Ok(Vec::new());
        };
        let mut people: Vec<_> = names.into_iter().cloned().zip(view.direct.tiny_ids).collect();
        // Whoever writes to itself is one and not two.
        people.dedup();
        Ok(people)
    }

    /// Of those who joined by this event the ones that are members by it.
    async fn joined(
        &self,
        group: &ConversationId,
        incarnation: Incarnation,
        number: EventNumber,
        users: Vec<UserId>,
    ) -> Result<Vec<(UserId, TinyId)>, StoreError> {
        let question = FindMembers { id: group.clone(), users: users.clone() };
        let Ok(found) = self.store().ask(question).await? else { return Ok(Vec::new()) };
        let places = users.into_iter().zip(found);
        let mut people: Vec<_> = places.filter_map(|(user, member)| Some((user, member?.tiny_id))).collect();
        // Asked last: a life that the group still has is the one that the question before was about.
        let view = self.store().ask(DescribeGroup { id: group.clone() }).await?;
        if view.is_none_or(|view| view.group.incarnation != incarnation) {
            return Ok(Vec::new());
        }
        // Whoever joined again since is a member by that, and may be another account of the same name. Only where events
        // are told late there is anything to read.
        let mut after = number;
        while !people.is_empty() {
            let id = group.clone();
            let page = self.store().ask(Events { id, incarnation, after, limit: EVENTS_PER_READ }).await?;
            let Some(last) = page.events.last() else { break };
            after = last.number;
            for later in &page.events {
                if let Happening::MembersJoined { users, .. } = &later.what {
                    people.retain(|(user, _)| !users.contains(user));
                }
            }
        }
        Ok(people)
    }

    pub(in super::super) async fn delivery(
        &self,
        conversation: &ConversationId,
        incarnation: Incarnation,
        event: &Arc<Event>,
        people: Vec<(UserId, TinyId)>,
    ) -> Result<Delivery, StoreError> {
        let body = self.body(conversation, incarnation, event).await?;
        Ok(Delivery::new(conversation.clone(), incarnation, Arc::clone(event), body, people))
    }

    /// What a message says. It may have been recalled since.
    async fn body(
        &self,
        conversation: &ConversationId,
        incarnation: Incarnation,
        event: &Event,
    ) -> Result<Option<Arc<MessageBody>>, StoreError> {
        let name = match &event.what {
            Happening::TransientMessage { body, .. } | Happening::DirectTransient { body, .. } => {
                return Ok(Some(Arc::new(body.clone())));
            }
            Happening::MessageSent { seq, .. } => MessageName::Seq(*seq),
            Happening::DirectSent { key, .. } => MessageName::Key(*key),
            _ => return Ok(None),
        };
        let id = conversation.clone();
        Ok(self.store().ask(FindMessage { id, incarnation, name }).await?.and_then(|message| message.body))
    }
}
