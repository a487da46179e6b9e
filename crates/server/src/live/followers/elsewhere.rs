//! For a store that others write to as well: what it looks for, and news that comes late.

use sidenote_core::ids::{AppId, Conversation, ConversationId, EventNumber, Incarnation};
use sidenote_store::audience::{Followed, FollowedConversation};

use super::super::channel::Channel;
use super::super::delivery::Delivery;
use super::super::mailbox::Ended;
use super::{Followers, Tally};

impl Followers {
    pub(in super::super) fn followed(&self) -> Followed {
        let lives = self.channels.iter().flat_map(|(conversation, lives)| {
            lives.iter().map(|life| FollowedConversation {
                conversation: conversation.clone(),
                incarnation: life.incarnation,
                known: life.position.or(life.known()),
            })
        });
        let accounts = self.listeners.iter().map(|(_, it)| (it.account.clone(), it.tiny_id));
        Followed {
            conversations: lives.collect(),
            accounts: accounts.collect(),
            has_apps: !self.apps.is_empty(),
        }
    }

    /// Whether events of this conversation may concern anybody, by some of which accounts joined or not.
    pub(in super::super) fn may_want_found(&self, conversation: &ConversationId, joins: bool) -> bool {
        let app = conversation.app;
        let is_heard = match &conversation.conversation {
            Conversation::Direct(one, other) => self.is_connected(app, one) || self.is_connected(app, other),
            Conversation::Group(_) => joins && self.accounts.contains_key(&app),
        };
        is_heard || self.apps.contains_key(&app) || self.channels.contains_key(conversation)
    }

    /// Whether a later event of this life can't be told before one that is not told yet. Of what nobody knows the position,
    /// accounts are told late, or may have joined; whoever follows the app would miss what is told second.
    pub(in super::super) fn tells_in_order(
        &self,
        conversation: &ConversationId,
        incarnation: Incarnation,
    ) -> bool {
        self.position(conversation, incarnation).is_some()
            || self.known(conversation, incarnation).is_some()
            || !self.apps.contains_key(&conversation.app)
    }

    /// An event that concerns accounts of this app was lost for good.
    pub(in super::super) fn lose_app(&self, app: AppId) {
        let names = self.accounts.get(&app).into_iter().flat_map(|names| names.keys());
        self.lose(app, names);
    }

    /// What was handed out of a one-to-one conversation since one of the two is connected: the first and the last event.
    pub(in super::super) fn stretch(
        &self,
        conversation: &ConversationId,
        incarnation: Incarnation,
    ) -> Option<(EventNumber, EventNumber)> {
        let Conversation::Direct(one, other) = &conversation.conversation else { return None };
        let names = self.accounts.get(&conversation.app)?;
        let listeners = [one, other].into_iter().filter_map(|user| names.get(user)).flatten();
        let stretches = listeners.filter_map(|place| self.listeners[*place].directs.get(incarnation));
        stretches.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
    }

    /// Cuts those off who were told of later events than the log has, and forgets that they were. Whether there is anybody.
    pub(in super::super) fn take_back(
        &mut self,
        conversation: &ConversationId,
        incarnation: Incarnation,
        last: EventNumber,
    ) -> bool {
        let channel = self.find(conversation, incarnation);
        let known = channel.and_then(|channel| channel.position.max(channel.known()));
        let told = known.max(self.position(conversation, incarnation));
        if told.is_none_or(|told| told <= last) {
            return false;
        }
        for (_, listener) in &mut self.listeners {
            listener.directs.remove(incarnation);
        }
        self.lose_events(conversation, incarnation);
        true
    }

    /// Nothing is left of this life: its readers are told that it is over, and its members hear nothing of it as it is.
    pub(in super::super) fn forget_life(&mut self, conversation: &ConversationId, incarnation: Incarnation) {
        self.positions.remove(incarnation);
        self.end_channel(conversation, incarnation, Ended::Removed);
    }

    /// Whether another life of this conversation was told of before and has not ended. Then its end was lost, or this
    /// one is the older and its news late.
    pub(in super::super) fn has_other_lives(
        &self,
        conversation: &ConversationId,
        incarnation: Incarnation,
    ) -> bool {
        let lives = self.channels.get(conversation).map(Vec::as_slice).unwrap_or_default();
        lives.iter().any(|life| life.incarnation != incarnation && life.position.is_some())
    }

    /// A conversation is in this life now. Those of others that were told of are cut off; one that nothing was told of
    /// yet may be the next.
    pub(in super::super) fn end_other_lives(
        &mut self,
        conversation: &ConversationId,
        incarnation: Incarnation,
    ) {
        let Some(lives) = self.channels.get(conversation) else { return };
        let is_over = |life: &&Channel| life.incarnation != incarnation && life.position.is_some();
        let over: Vec<_> = lives.iter().filter(is_over).map(|life| life.incarnation).collect();
        for life in over {
            self.end_channel(conversation, life, Ended::Lost);
        }
    }

    /// A reader has read the log up to this event, and nothing had happened after it since its channel is open.
    pub(in super::super) fn has_read(
        &mut self,
        conversation: &ConversationId,
        incarnation: Incarnation,
        last: EventNumber,
    ) {
        if let Some(channel) = self.find_mut(conversation, incarnation) {
            channel.knows_all_after(last);
        }
    }

    /// Hands out events of a one-to-one conversation that are before all that was handed out of it: they are heard late.
    pub(in super::super) fn hand_out_late(&mut self, deliveries: &[Delivery]) -> bool {
        let mut is_crowded = false;
        for delivery in deliveries {
            let mut tally = Tally { delivery, puts: 0, is_crowded: false };
            self.hand_one_out(&mut tally);
            is_crowded |= tally.is_crowded;
        }
        is_crowded
    }
}
