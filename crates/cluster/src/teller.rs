//! Publishes what this node has committed.

use sidenote_store::news::{Follower, Told};

use crate::broker::Broker;
use crate::clock::now;
use crate::figures::Figures;
use crate::message::Message;
use crate::subject::subjects_of;

/// Publishes for ever. While the broker takes nothing, news of the same conversation becomes one piece; while it is not
/// there, nothing is kept for it: others look.
pub(crate) async fn tell(mut own: Follower, broker: &Broker, figures: &Figures) {
    loop {
        let Told { news, deleted } = own.next().await;
        let deleted = deleted.into_iter().map(|(account, tiny_id)| Message::Deleted(account, tiny_id));
        let mut messages = deleted.chain(news.into_iter().map(Message::News));
        while let Some(message) = messages.next() {
            let subjects = subjects_of(&message);
            let sent = Some(now());
            let mut bytes = message.encode(sent);
            if bytes.len() > broker.max_payload() {
                // Those who want the events read them.
                bytes = message.without_events().encode(sent);
            }
            if broker.publish(&subjects, bytes).await.is_ok() {
                figures.published.add(subjects.len() as u64);
            } else {
                figures.unpublished.add(1 + messages.by_ref().count() as u64);
            }
        }
    }
}
