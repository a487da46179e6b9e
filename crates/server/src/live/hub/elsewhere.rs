//! News that comes late, because other nodes have committed what it is about.

use sidenote_core::ids::{Conversation, ConversationId, EventNumber, Incarnation};
use sidenote_core::query::{DescribeDirect, DescribeGroup, Events};
use sidenote_store::News;

use super::{Burst, EVENTS_PER_LOCK, EVENTS_PER_READ, Hub};

impl Hub {
    /// Cuts those off who follow a life of a conversation that is over, where its end was lost.
    pub(super) async fn end_other_lives(&self, conversation: &ConversationId, incarnation: Incarnation) {
        let id = conversation.clone();
        let now = match &conversation.conversation {
            Conversation::Group(_) => {
                let found = self.store().ask(DescribeGroup { id }).await;
                found.map(|found| found.map(|view| view.group.incarnation))
            }
            Conversation::Direct(..) => {
                let found = self.store().ask(DescribeDirect { id }).await;
                found.map(|found| found.map(|view| view.direct.incarnation))
            }
        };
        // Where that can't be asked, the next news or the end of the other life says so.
        if let Ok(now) = now {
            self.state().end_other_lives(conversation, now.unwrap_or(incarnation));
        }
    }

    /// Tells events of a one-to-one conversation that are before the first that was told of it. As far back as the news
    /// goes: what is before was there when both came. All of it or, where that can't be read just now, none.
    pub(super) async fn tell_late(&self, news: &News, first: EventNumber, burst: &mut Burst) {
        let (conversation, incarnation) = (&news.conversation, news.incarnation);
        let mut after = EventNumber::new(news.first.get().saturating_sub(1));
        let mut deliveries = Vec::new();
        while after.next() < first {
            let question = Events { id: conversation.clone(), incarnation, after, limit: EVENTS_PER_READ };
            let put_off = |error| self.put_off(conversation, incarnation, (news.first, news.last), &error);
            let events = match self.store().ask(question).await {
                Ok(page) if page.cursor_too_old => Vec::new(),
                Ok(page) => page.events,
                Err(error) => return put_off(error),
            };
            if events.is_empty() {
                // Nobody was told that there are any.
                break;
            }
            for event in events.iter().filter(|event| event.number < first) {
                let delivery = match self.people(conversation, incarnation, event).await {
                    Ok(people) => self.delivery(conversation, incarnation, event, people).await,
                    Err(error) => Err(error),
                };
                match delivery {
                    Ok(delivery) => deliveries.push(delivery),
                    Err(error) => return put_off(error),
                }
            }
            after = events.last().map_or(first, |event| event.number);
        }
        for some in deliveries.chunks(EVENTS_PER_LOCK) {
            let is_crowded = self.state().hand_out_late(some);
            burst.rest(some.len(), is_crowded, false).await;
        }
    }
}
