//! How far a conversation was told: finding that, going past what cannot be told, and writing it down.

use sidenote_core::Outcome;
use sidenote_core::command::{Action, Command, OutboxAction};
use sidenote_core::event::{Event, Operator};
use sidenote_core::ids::{Conversation, ConversationId, EventNumber, Incarnation, Timestamp};
use sidenote_core::outbox::{DeadLetter, Gone, LetterRequest, Outbox};
use sidenote_core::query::{DescribeDirect, DescribeGroup, EventPage, Outboxes};
use sidenote_store::StoreError;
use sidenote_store::shared::Claimed;
use tokio::time::sleep_until;

use super::{OUTBOXES_PER_PAGE, Teller, someone};
use crate::webhooks::receiver::Failure;
use crate::webhooks::schedule::Place;

impl Teller {
    /// Where to go on: where the last turn ended, or what the store knows. Lives that are over come before the present
    /// one, in the order in which they were.
    pub(super) async fn place(&self, id: &ConversationId, known: Option<Place>) -> Result<Found, StoreError> {
        if let Some(place) = known.filter(|place| self.may_tell(place)) {
            return Ok(Found::Here(place));
        }
        let (claim, outboxes) = if let Some(shared) = self.store.shared() {
            match shared.claim(id).await? {
                Claimed::Mine(claim, outboxes) => (Some(claim), outboxes),
                Claimed::Nothing | Claimed::Others => return Ok(Found::Nothing),
                Claimed::Later => return Ok(Found::Later),
            }
        } else {
            let mut outboxes = self.outboxes_of(id).await?;
            outboxes.sort_by_key(|(_, _, outbox)| (outbox.gone.is_none(), outbox.since));
            (None, outboxes.into_iter().map(|(_, incarnation, outbox)| (incarnation, outbox)).collect())
        };
        Ok(outboxes.into_iter().next().map_or(Found::Nothing, |(incarnation, outbox)| {
            let (told, settled) = (outbox.after, outbox.after);
            Found::Here(Place { incarnation, gone: outbox.gone, told, settled, claim, in_doubt: false })
        }))
    }

    /// Whether nobody else can be telling what this place is in, as far as is known here.
    pub(super) fn may_tell(&self, place: &Place) -> bool {
        let holds = |claim| self.store.shared().is_none_or(|shared| shared.holds_until(claim).is_some());
        place.claim.is_none_or(holds)
    }

    /// Waits until somebody else may be telling it.
    pub(super) async fn lapse(&self, place: &Place) {
        let (Some(claim), Some(shared)) = (place.claim, self.store.shared()) else {
            return std::future::pending().await;
        };
        while let Some(until) = shared.holds_until(claim) {
            sleep_until(until).await;
        }
    }

    /// What the lives of a conversation have to tell.
    async fn outboxes_of(
        &self,
        id: &ConversationId,
    ) -> Result<Vec<(ConversationId, Incarnation, Outbox)>, StoreError> {
        let conversation = Some(id.conversation.clone());
        self.store.ask(Outboxes { app: self.app, conversation, after: None, limit: OUTBOXES_PER_PAGE }).await
    }

    /// What is left of this life of a group, if it ended since its place was read.
    pub(super) async fn gone(
        &self,
        id: &ConversationId,
        incarnation: Incarnation,
    ) -> Result<Option<Gone>, StoreError> {
        let outboxes = self.outboxes_of(id).await?;
        Ok(outboxes.into_iter().find(|(_, of, _)| *of == incarnation).and_then(|(_, _, outbox)| outbox.gone))
    }

    /// Events that are gone from the log before they were told leave a letter that says so.
    pub(super) async fn pass_over_gap(
        &self,
        id: &ConversationId,
        place: &mut Place,
        page: &EventPage,
    ) -> Result<(), Halt> {
        let known_last = match page.events.first() {
            Some(first) => Some(EventNumber::new(first.number.get() - 1)),
            None if page.cursor_too_old || place.gone.is_some() => self.last_event(id, place).await?,
            None => None,
        };
        let Some(last) = known_last.filter(|last| *last > place.told) else { return Ok(()) };
        let (first, now) = (place.told.next(), self.now());
        let letter = DeadLetter {
            first,
            happened_at: now,
            given_up_at: now,
            tries: 0,
            reason: "the events fell out of events.keep_untold_per_conversation before they were told"
                .to_owned(),
            request: None,
        };
        let events = last.get() - place.told.get();
        self.bury(id, place, last, letter, events).await
    }

    /// The number of the last event of this life of a conversation.
    async fn last_event(
        &self,
        id: &ConversationId,
        place: &mut Place,
    ) -> Result<Option<EventNumber>, StoreError> {
        if let Conversation::Direct(..) = id.conversation {
            let view = self.store.ask(DescribeDirect { id: id.clone() }).await?;
            return Ok(view
                .filter(|view| view.direct.incarnation == place.incarnation)
                .map(|view| view.counters.last_event));
        }
        if place.gone.is_none() {
            let view = self.store.ask(DescribeGroup { id: id.clone() }).await?;
            if let Some(view) = view
                && view.group.incarnation == place.incarnation
            {
                return Ok(Some(view.counters.last_event));
            }
            place.gone = self.gone(id, place.incarnation).await?;
        }
        Ok(place.gone.as_ref().map(|gone| gone.last))
    }

    /// Moves past events with a letter for them. If the store fails, nothing was moved, as far as is known: they are told
    /// again if a settlement says so.
    pub(super) async fn bury(
        &self,
        id: &ConversationId,
        place: &mut Place,
        through: EventNumber,
        letter: DeadLetter,
        events: u64,
    ) -> Result<(), Halt> {
        let told = std::mem::replace(&mut place.told, through);
        let settled = self.settle_counting(id, place, vec![(through, letter)]).await;
        if settled.is_err() {
            place.told = told;
        }
        self.figures.gave_up(self.app.get(), events, settled?.1);
        Ok(())
    }

    /// Writes down how far a conversation was told. Says whether nothing is left to tell.
    pub(super) async fn settle(
        &self,
        id: &ConversationId,
        place: &mut Place,
        dead: Vec<(EventNumber, DeadLetter)>,
    ) -> Result<bool, Halt> {
        self.settle_counting(id, place, dead).await.map(|(empty, _)| empty)
    }

    async fn settle_counting(
        &self,
        id: &ConversationId,
        place: &mut Place,
        mut dead: Vec<(EventNumber, DeadLetter)>,
    ) -> Result<(bool, usize), Halt> {
        let mut dropped_in_all = 0;
        // Until there is an answer, and for ever if that is lost.
        place.in_doubt = true;
        loop {
            let action = OutboxAction::Settle { through: place.told, dead: std::mem::take(&mut dead) };
            let command = Command {
                operator: Operator::server(someone()),
                at: self.now(),
                action: Action::Outbox(id.clone(), place.incarnation, action),
            };
            let committed = match (place.claim, self.store.shared()) {
                (Some(claim), Some(shared)) => {
                    shared.commit_claimed(claim, command).await?.ok_or(Halt::Deposed)?
                }
                _ => self.store.commit(command).await?,
            };
            let (reached, empty) = match committed.verdict {
                Ok(Outcome::Settled { after, empty, dropped }) => {
                    dropped_in_all += dropped;
                    (after, empty)
                }
                // No rule refuses it.
                _ => (place.told, false),
            };
            if empty || reached >= place.told {
                // Further than this if one was carried out whose answer was lost.
                place.told = reached;
                (place.settled, place.in_doubt) = (reached, empty);
                return Ok((empty, dropped_in_all));
            }
        }
    }
}

/// Where a turn begins.
pub(super) enum Found {
    Here(Place),
    /// There is nothing to tell, or somebody else tells it.
    Nothing,
    /// Worth another look soon.
    Later,
}

/// Why a turn can't go on.
pub(super) enum Halt {
    Store(StoreError),
    /// Somebody else tells the conversation by now, or nobody has to.
    Deposed,
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

pub(super) fn dead_letter(
    event: &Event,
    now: Timestamp,
    tries: u32,
    failure: &Failure,
    request: LetterRequest,
) -> DeadLetter {
    let mut reason = failure.to_string();
    let mut end = reason.len().min(DeadLetter::MAX_REASON_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    DeadLetter {
        first: event.number,
        happened_at: event.at,
        given_up_at: now,
        tries,
        reason,
        request: Some(request),
    }
}
