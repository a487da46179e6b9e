//! What is left to tell by webhook, and what could not be told, as lines.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sidenote_core::ids::{AppId, ConversationId, EventNumber, Incarnation, Timestamp};
use sidenote_core::outbox::{DeadLetter, Gone, LetterRequest, Outbox};
use sidenote_core::rows::{Row, RowKey};

use crate::lines::GroupLine;
use crate::names::{ConversationText, IncarnationText, Read};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutboxLine<'a> {
    app: u32,
    conversation: ConversationText,
    incarnation: IncarnationText,
    after: u64,
    since: u64,
    gone: Option<GonePart<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GonePart<'a> {
    group: GroupLine<'a>,
    last: u64,
}

impl<'a> OutboxLine<'a> {
    pub(crate) fn of(id: &'a ConversationId, incarnation: Incarnation, it: &'a Outbox) -> Self {
        let gone = |gone: &'a Gone| GonePart { group: GroupLine::of(id, &gone.group), last: gone.last.get() };
        Self {
            app: id.app.get(),
            conversation: (&id.conversation).into(),
            incarnation: IncarnationText(incarnation),
            after: it.after.get(),
            since: it.since.millis(),
            gone: it.gone.as_ref().map(gone),
        }
    }

    pub(crate) fn read(self) -> Read<(RowKey, Row)> {
        let id = ConversationId { app: AppId::new(self.app), conversation: self.conversation.read()? };
        let gone = self.gone.map(|gone| gone.read(&id, self.incarnation.0)).transpose()?;
        let (after, since) = (EventNumber::new(self.after), Timestamp::from_millis(self.since));
        Ok((RowKey::Outbox(id, self.incarnation.0), Row::Outbox(Outbox { after, since, gone })))
    }
}

impl GonePart<'_> {
    fn read(self, of: &ConversationId, incarnation: Incarnation) -> Read<Gone> {
        match self.group.read()? {
            (RowKey::Conversation(id), Row::Group(group))
                if id == *of && group.incarnation == incarnation =>
            {
                Ok(Gone { group, last: EventNumber::new(self.last) })
            }
            _ => Err("`gone` tells of another group".to_owned()),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLetterLine<'a> {
    app: u32,
    conversation: ConversationText,
    incarnation: IncarnationText,
    number: u64,
    first: u64,
    happened_at: u64,
    given_up_at: u64,
    tries: u32,
    reason: Cow<'a, str>,
    request: Option<RequestPart<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestPart<'a> {
    command: Cow<'a, str>,
    origin: Cow<'a, str>,
    body: Cow<'a, str>,
}

impl<'a> DeadLetterLine<'a> {
    pub(crate) fn of(
        id: &'a ConversationId,
        incarnation: Incarnation,
        number: EventNumber,
        it: &'a DeadLetter,
    ) -> Self {
        let request = |it: &'a LetterRequest| RequestPart {
            command: (&it.command).into(),
            origin: (&it.origin).into(),
            body: (&it.body).into(),
        };
        Self {
            app: id.app.get(),
            conversation: (&id.conversation).into(),
            incarnation: IncarnationText(incarnation),
            number: number.get(),
            first: it.first.get(),
            happened_at: it.happened_at.millis(),
            given_up_at: it.given_up_at.millis(),
            tries: it.tries,
            reason: (&it.reason).into(),
            request: it.request.as_ref().map(request),
        }
    }

    pub(crate) fn read(self) -> Read<(RowKey, Row)> {
        let id = ConversationId { app: AppId::new(self.app), conversation: self.conversation.read()? };
        let request = |it: RequestPart<'_>| LetterRequest {
            command: it.command.into_owned(),
            origin: it.origin.into_owned(),
            body: it.body.into_owned(),
        };
        let letter = DeadLetter {
            first: EventNumber::new(self.first),
            happened_at: Timestamp::from_millis(self.happened_at),
            given_up_at: Timestamp::from_millis(self.given_up_at),
            tries: self.tries,
            reason: self.reason.into_owned(),
            request: self.request.map(request),
        };
        let key = RowKey::DeadLetter(id, self.incarnation.0, EventNumber::new(self.number));
        Ok((key, Row::DeadLetter(Arc::new(letter))))
    }
}
