//! What a server does that tells by webhook: it moves on, gives up, and forgets what it gave up.

use sidenote_core::command::{Action, OutboxAction};
use sidenote_core::ids::{EventNumber, Incarnation, Timestamp};
use sidenote_core::outbox::{DeadLetter, LetterRequest};
use sidenote_core::query::{Ask, DeadLetters, Outboxes, Query};

use super::{APP, BEGIN, GROUPS, Known, STEP, group};
use crate::simulation::random::Random;

pub(super) fn any_action(random: &mut Random, number: u64, known: &Known) -> Action {
    let nowhere = (group(GROUPS[0]), Incarnation::from_random(0));
    let (id, incarnation) = known.home(random).unwrap_or(nowhere);
    let through = EventNumber::new(random.within(0..40));
    let action = if random.one_in(6) {
        OutboxAction::Discard(through)
    } else {
        let dead = if random.one_in(3) { vec![(through, letter(random, number))] } else { Vec::new() };
        OutboxAction::Settle { through, dead }
    };
    Action::Outbox(id, incarnation, action)
}

pub(super) fn any_question(random: &mut Random) -> Query {
    let limit = 1 + random.index(5);
    if random.one_in(2) {
        Outboxes { app: APP, conversation: None, after: None, limit }.into_query()
    } else {
        DeadLetters { app: APP, after: None, limit }.into_query()
    }
}

pub(super) fn all_questions() -> [Query; 2] {
    let limit = 1000;
    [
        Outboxes { app: APP, conversation: None, after: None, limit }.into_query(),
        DeadLetters { app: APP, after: None, limit }.into_query(),
    ]
}

fn letter(random: &mut Random, number: u64) -> DeadLetter {
    let at = Timestamp::from_millis(BEGIN + number * STEP);
    let request =
        LetterRequest { command: "a command".to_owned(), origin: String::new(), body: "{}".to_owned() };
    DeadLetter {
        first: EventNumber::new(1),
        happened_at: at,
        given_up_at: at,
        tries: 3,
        reason: "why".to_owned(),
        request: if random.one_in(2) { Some(request) } else { None },
    }
}
