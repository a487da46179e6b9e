//! Questions about what is told by webhook.

use std::sync::Arc;

use crate::ids::{AppId, Conversation, ConversationId, EventNumber, Incarnation};
use crate::limits::Limits;
use crate::outbox::{DeadLetter, Outbox};
use crate::rows::{Missing, Range, Row, RowKey, Span, Typed};

/// Asks which conversations have something left to tell by webhook, and how far they were told.
#[derive(Clone, Debug)]
pub struct Outboxes {
    /// Of an app.
    pub app: AppId,
    /// Only of this conversation, whichever incarnation.
    pub conversation: Option<Conversation>,
    /// Only those after this one.
    pub after: Option<(ConversationId, Incarnation)>,
    /// At most so many.
    pub limit: usize,
}

impl Outboxes {
    pub(super) fn answer(
        &self,
        rows: &Typed<'_>,
        _: &Limits,
    ) -> Result<Vec<(ConversationId, Incarnation, Outbox)>, Missing> {
        let span = match &self.conversation {
            Some(conversation) => {
                Span::OutboxesOf(ConversationId { app: self.app, conversation: conversation.clone() })
            }
            None => Span::Outboxes(self.app),
        };
        let after = self.after.clone().map(|(id, incarnation)| Box::new(RowKey::Outbox(id, incarnation)));
        let rows = rows.0.range(&Range { span, after, limit: self.limit })?.into_iter();
        Ok(rows
            .filter_map(|(key, row)| match (key, row) {
                (RowKey::Outbox(id, incarnation), Row::Outbox(outbox)) => Some((id, incarnation, outbox)),
                _ => None,
            })
            .collect())
    }
}

/// Asks for events that could not be told by webhook.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    /// Of which app.
    pub app: AppId,
    /// Only those after this one.
    pub after: Option<(ConversationId, Incarnation, EventNumber)>,
    /// At most so many.
    pub limit: usize,
}

/// A dead letter and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterAt {
    /// In which conversation.
    pub id: ConversationId,
    /// In which life of it.
    pub incarnation: Incarnation,
    /// The last event that it stands for.
    pub number: EventNumber,
    /// The letter.
    pub letter: Arc<DeadLetter>,
}

impl DeadLetters {
    pub(super) fn answer(&self, rows: &Typed<'_>, _: &Limits) -> Result<Vec<DeadLetterAt>, Missing> {
        let after = self
            .after
            .clone()
            .map(|(id, incarnation, number)| Box::new(RowKey::DeadLetter(id, incarnation, number)));
        let range = Range { span: Span::DeadLetters(self.app), after, limit: self.limit };
        let rows = rows.0.range(&range)?.into_iter();
        Ok(rows
            .filter_map(|(key, row)| match (key, row) {
                (RowKey::DeadLetter(id, incarnation, number), Row::DeadLetter(letter)) => {
                    Some(DeadLetterAt { id, incarnation, number, letter })
                }
                _ => None,
            })
            .collect())
    }
}
