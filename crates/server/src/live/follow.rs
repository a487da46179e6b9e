//! One conversation from an event on: what is in the log first, then what happens, at the reader's own pace.

use std::collections::VecDeque;
use std::sync::Arc;

use sidenote_core::Refusal;
use sidenote_core::event::Happening;
use sidenote_core::ids::{ConversationId, EventNumber, Incarnation, Timestamp, TinyId, UserId};
use sidenote_core::query::{DescribeGroup, Events, FindMembers};
use sidenote_store::StoreError;

use super::delivery::Delivery;
use super::hub::Hub;
use super::mailbox::{Ended, Inbox};

/// Events that are read from the log at a time.
const EVENTS_PER_READ: usize = 64;

/// What a follower gets.
#[derive(Debug)]
pub(crate) enum Followed {
    /// The next event.
    Event(Delivery),
    /// Events after the follower's cursor are no longer kept, or the cursor is none of this conversation. It goes
    /// on after this event; what was before has to be read from the state.
    StartOver(Incarnation, EventNumber),
}

/// A reader of one conversation. It never holds up others: where it is too slow for what happens, it goes on from
/// the log.
#[derive(Debug)]
pub(crate) struct Follow {
    hub: Arc<Hub>,
    conversation: ConversationId,
    incarnation: Incarnation,
    /// Follows for as long as this account is a member; `None`: whatever happens.
    member: Option<(UserId, TinyId)>,
    /// What happened before is not for the reader: it had not joined yet, and the group hides that.
    since: Timestamp,
    /// The last event when it was seen to be a member. Older events of leaving count no more.
    verified_at: EventNumber,
    /// The last event that was given to the reader.
    cursor: EventNumber,
    starts_over: bool,
    ended: Option<Ended>,
    read: VecDeque<Delivery>,
    /// What happens now.
    inbox: Option<Inbox>,
    /// The log was read to its end since there is an inbox. What comes before is in one of them, or in both.
    is_caught_up: bool,
}

impl Hub {
    /// Follows a group after the event of a cursor, or from now on. A member may for as long as it is one; `None`
    /// stands for an administrator.
    pub(crate) async fn follow(
        self: &Arc<Self>,
        conversation: ConversationId,
        member: Option<(UserId, TinyId)>,
        after: Option<(Incarnation, EventNumber)>,
    ) -> Result<Result<Follow, Refusal>, StoreError> {
        let Some(view) = self.store().ask(DescribeGroup { id: conversation.clone() }).await? else {
            return Ok(Err(Refusal::NoSuchGroup));
        };
        let mut since = Timestamp::default();
        if let Some((user, tiny_id)) = &member {
            let question = FindMembers { id: conversation.clone(), users: vec![user.clone()] };
            let found = match self.store().ask(question).await? {
                Ok(found) => found,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let Some(found) = found.into_iter().flatten().find(|member| member.tiny_id == *tiny_id) else {
                return Ok(Err(Refusal::NotAMember));
            };
            if !view.group.profile.history_before_join {
                since = found.joined_at;
            }
        }
        let (incarnation, last) = (view.group.incarnation, view.counters.last_event);
        let (cursor, starts_over) = match after {
            None => (last, false),
            Some((of, number)) if of == incarnation && number <= last => (number, false),
            Some(_) => (last, true),
        };
        Ok(Ok(Follow {
            hub: Arc::clone(self),
            conversation,
            incarnation,
            member,
            since,
            verified_at: last,
            cursor,
            starts_over,
            ended: None,
            read: VecDeque::new(),
            inbox: None,
            is_caught_up: false,
        }))
    }
}

impl Follow {
    /// Waits for what comes next. Nothing is lost if the future is dropped before it is done.
    pub(crate) async fn next(&mut self) -> Result<Result<Followed, Ended>, StoreError> {
        loop {
            // However much there is to read.
            if self.ended.is_none() && self.hub.is_closed() {
                self.read.clear();
                self.ended = Some(Ended::Closing);
            }
            if std::mem::take(&mut self.starts_over) {
                return Ok(Ok(Followed::StartOver(self.incarnation, self.cursor)));
            }
            if let Some(delivery) = self.read.front().cloned() {
                let is_last = self.ends_with(&delivery).await?;
                self.read.pop_front();
                self.cursor = delivery.event().number;
                if is_last {
                    self.ended = Some(Ended::Removed);
                    self.read.clear();
                }
                if self.tells(&delivery) {
                    return Ok(Ok(Followed::Event(delivery)));
                }
                continue;
            }
            if let Some(ended) = self.ended {
                return Ok(Err(ended));
            }
            let Some(inbox) = self.inbox.as_mut().filter(|_| self.is_caught_up) else {
                self.read_on().await?;
                continue;
            };
            match inbox.next().await {
                // It was in the log already.
                Ok(delivery) if delivery.event().number <= self.cursor => {}
                Ok(delivery) if delivery.event().number == self.cursor.next() => {
                    self.read.push_back(delivery);
                }
                // The log has what is missing, and what this reader was too slow for, or it says that it has not.
                Ok(_) | Err(Ended::Overrun | Ended::Lost) => (self.inbox, self.is_caught_up) = (None, false),
                Err(ended) => self.ended = Some(ended),
            }
        }
    }

    fn tells(&self, delivery: &Delivery) -> bool {
        let is_for_the_reader = self.member.as_ref().is_none_or(|(user, _)| delivery.is_for(user));
        is_for_the_reader && delivery.event().at >= self.since
    }

    /// Whether the reader may be told nothing after this event.
    async fn ends_with(&self, delivery: &Delivery) -> Result<bool, StoreError> {
        if delivery.event().number <= self.verified_at {
            return Ok(false);
        }
        match (&delivery.event().what, &self.member) {
            (Happening::GroupDestroyed, _) => Ok(true),
            (Happening::MembersLeft { users, .. }, Some((user, _))) => Ok(users.contains(user)),
            // Nobody joins a group that it is in: perhaps another account has the name now, and the place.
            (Happening::MembersJoined { users, .. }, Some((user, _))) if users.contains(user) => {
                Ok(!self.may_read().await?)
            }
            _ => Ok(false),
        }
    }

    /// Whether the reader is a member now, or needs not be one.
    async fn may_read(&self) -> Result<bool, StoreError> {
        let Some((user, tiny_id)) = &self.member else { return Ok(true) };
        let question = FindMembers { id: self.conversation.clone(), users: vec![user.clone()] };
        let found = self.hub.store().ask(question).await?;
        Ok(found.is_ok_and(|found| found.iter().flatten().any(|member| member.tiny_id == *tiny_id)))
    }

    /// Reads the log, or follows what happens where there is nothing to read any more.
    async fn read_on(&mut self) -> Result<(), StoreError> {
        let hub = Arc::clone(&self.hub);
        let mut is_alive = true;
        if self.inbox.is_some() {
            // The end of a group may have been passed on before, and then its log may be gone too. Asked first: what ends
            // it after this comes to the inbox.
            let view = hub.store().ask(DescribeGroup { id: self.conversation.clone() }).await?;
            let view = view.filter(|view| view.group.incarnation == self.incarnation);
            is_alive = view.is_some();
            if let Some(last) = view.map(|view| view.counters.last_event)
                && last < self.cursor
            {
                // It was told what nobody committed, or what the database has lost. Those numbers come again.
                (self.cursor, self.verified_at) = (last, self.verified_at.min(last));
                self.starts_over = true;
                return Ok(());
            }
        }
        let (id, incarnation) = (self.conversation.clone(), self.incarnation);
        let question = Events { id, incarnation, after: self.cursor, limit: EVENTS_PER_READ };
        let page = hub.store().ask(question).await?;
        if page.cursor_too_old {
            let view = hub.store().ask(DescribeGroup { id: self.conversation.clone() }).await?;
            // That it left may be among the events that are gone.
            let may_read = self.may_read().await?;
            match view {
                Some(view) if may_read && view.group.incarnation == self.incarnation => {
                    (self.cursor, self.verified_at) = (view.counters.last_event, view.counters.last_event);
                    self.starts_over = true;
                }
                _ => self.ended = Some(Ended::Removed),
            }
            return Ok(());
        }
        let mut read = VecDeque::with_capacity(page.events.len());
        for event in &page.events {
            read.push_back(hub.delivery(&self.conversation, self.incarnation, event, Vec::new()).await?);
        }
        let is_end = page.events.len() < EVENTS_PER_READ;
        if self.inbox.is_none() {
            if is_end {
                // What happens between this page and now is read once more.
                self.inbox = Some(hub.follow_from(&self.conversation, self.incarnation).await);
            }
        } else if is_alive {
            self.is_caught_up = is_end;
            if is_end {
                let last = page.events.last().map_or(self.cursor, |event| event.number);
                hub.has_read(&self.conversation, self.incarnation, last);
            }
        } else if page.events.is_empty() {
            self.ended = Some(Ended::Removed);
        }
        self.read = read;
        Ok(())
    }
}
