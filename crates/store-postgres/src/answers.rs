//! Questions: one statement where one is enough, else a transaction that sees one instant.

use sidenote_core::Limits;
use sidenote_core::ids::{ConversationId, MessageName};
use sidenote_core::query::{Answer, Query};
use sidenote_core::rows::{MessagePart, Part, RowKey, Span};
use sidenote_store::StoreError;
use sidenote_store::caller::{Caller, OnBehalf};

use crate::callers;
use crate::fetch::{Fetch, Wanted};
use crate::loaded::{Loaded, Wish};
use crate::needs::{messages, numbered, of_query};
use crate::session::{Fault, Piece, Session};

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// The connection was lost, or the server did not want to now; another try may help.
    Again(String),
    /// It would not.
    Refused(StoreError),
}

impl From<StoreError> for Unanswered {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<Fault> for Unanswered {
    fn from(fault: Fault) -> Self {
        let reason = fault.to_string();
        match fault.code() {
            None | Some("40001" | "40P01") => Self::Again(reason),
            Some(_) if fault.is_stale() => Self::Again(reason),
            Some(code) if code.starts_with("XX") => Self::Refused(StoreError::Unreadable { reason }),
            Some(_) => Self::Refused(StoreError::Busy { reason }),
        }
    }
}

/// Answers a question as of one instant. Where it comes on behalf of a caller, that account is looked up right before, in
/// the same flush, and its number noted in the question; `None` if there is no such account.
pub(crate) async fn answer(
    session: &mut Session,
    caller: Option<&Caller>,
    query: &mut Query,
    limits: &Limits,
) -> Result<Option<Answer>, Unanswered> {
    let (mut fetches, of) = of_query(query);
    if fetches.is_empty() {
        match Loaded::default().answer(query, limits) {
            Ok(answer) if caller.is_none() => return Ok(Some(answer)),
            Ok(_) => {}
            Err(wish) => fetches.push(Fetch::of_wish(wish, of.as_ref())?),
        }
    }
    let in_steps_anyway = needs_steps(query);
    let mut pieces: Vec<_> = caller.map(callers::piece).into_iter().collect();
    let first = if in_steps_anyway {
        pieces.len()
    } else {
        // One statement sees one instant by itself.
        let alone = fetches.len() <= 1;
        if !alone {
            pieces.push(Piece::Plain(BEGIN.into()));
        }
        let first = pieces.len();
        pieces.extend(fetches.iter().map(Fetch::piece));
        if !alone {
            pieces.push(Piece::Plain("COMMIT".into()));
            session.prepare(&pieces).await?;
            session.opened();
        }
        first
    };
    let answers = if pieces.is_empty() { Vec::new() } else { session.flush(pieces).await? };
    let answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
    session.closed();
    if let Some(caller) = caller {
        match callers::found(caller, &answers[0])? {
            Some(tiny_id) => query.note_caller(tiny_id),
            None => return Ok(None),
        }
    }
    if !in_steps_anyway {
        let mut loaded = Loaded::default();
        for (fetch, rows) in fetches.into_iter().zip(&answers[first..]) {
            fetch.take(rows, &mut loaded)?;
        }
        if let Ok(answer) = loaded.answer(query, limits) {
            return Ok(Some(answer));
        }
        // What was read and what is missing would be of two instants, so everything is read again.
    }
    in_steps(session, query, limits).await.map(Some)
}

/// Questions whose rows can't all be named before some of them were read.
fn needs_steps(query: &Query) -> bool {
    match query {
        Query::History(asked) => asked.up_to.is_none(),
        Query::DirectHistory(_) | Query::JoinedGroups(_) => true,
        _ => false,
    }
}

async fn in_steps(session: &mut Session, query: &Query, limits: &Limits) -> Result<Answer, Unanswered> {
    if let Some(answer) = steps(session, query, limits, true).await? {
        return Ok(answer);
    }
    // What was guessed to be all was not.
    let answer = steps(session, query, limits, false).await?;
    answer.ok_or_else(|| {
        let reason = "a question that waits for its last step ended before".to_owned();
        StoreError::Unreadable { reason }.into()
    })
}

/// One step after the other, all of one instant. If it `ends_early`, the transaction ends in the same round trip with what
/// should be the last step; `None` if it was not.
async fn steps(
    session: &mut Session,
    query: &Query,
    limits: &Limits,
    ends_early: bool,
) -> Result<Option<Answer>, Unanswered> {
    let (mut fetches, of) = of_query(query);
    let mut loaded = Loaded::default();
    let mut begin = vec![Piece::Plain(BEGIN.into())];
    let mut last_wish = None;
    let mut is_last = false;
    session.opened();
    let answer = loop {
        let first = begin.len();
        let mut pieces = std::mem::take(&mut begin);
        pieces.extend(fetches.iter().map(Fetch::piece));
        if is_last {
            pieces.push(Piece::Plain("COMMIT".into()));
        }
        let answers = session.flush(pieces).await?;
        let answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        for (fetch, rows) in fetches.drain(..).zip(&answers[first..]) {
            fetch.take(rows, &mut loaded)?;
        }
        let result = loaded.answer(query, limits);
        if is_last {
            session.closed();
            return Ok(result.ok());
        }
        match result {
            Ok(answer) => break answer,
            Err(wish) if last_wish.as_ref() == Some(&wish) => {
                let reason = "a rule asked for the same rows again".to_owned();
                return Err(StoreError::Unreadable { reason }.into());
            }
            Err(wish) => {
                fetches = together(query, &wish, &loaded, of.as_ref());
                is_last = ends_early && !fetches.is_empty();
                if fetches.is_empty() {
                    fetches.push(Fetch::of_wish(wish.clone(), of.as_ref())?);
                }
                last_wish = Some(wish);
            }
        }
    };
    let ended = session.flush(vec![Piece::Plain("COMMIT".into())]).await?;
    ended.into_iter().collect::<Result<Vec<_>, _>>()?;
    session.closed();
    Ok(Some(answer))
}

/// What will be asked for after this, so that it comes in one round trip.
fn together(query: &Query, wish: &Wish, loaded: &Loaded, of: Option<&ConversationId>) -> Vec<Fetch> {
    match (query, wish, of) {
        (Query::History(asked), Wish::Row(RowKey::Within(incarnation, part)), Some(id)) => {
            let Part::Message(MessageName::Seq(newest), MessagePart::Header) = part else {
                return Vec::new();
            };
            vec![Fetch::Life(id.clone(), *incarnation, messages(numbered(newest.get(), asked.count)))]
        }
        (Query::DirectHistory(asked), Wish::Row(RowKey::Within(incarnation, part)), Some(id)) => {
            if !matches!(part, Part::Message(_, MessagePart::Header)) {
                return Vec::new();
            }
            let places = loaded.ranges_of(Span::Recent(*incarnation)).filter_map(|(key, _)| match key {
                RowKey::Within(_, Part::Recent(place)) => Some(MessageName::Key(place.key())),
                _ => None,
            });
            vec![Fetch::Life(id.clone(), *incarnation, messages(places.take(asked.limit)))]
        }
        (Query::JoinedGroups(asked), Wish::Row(RowKey::Conversation(_)), _) => {
            let lines = loaded.ranges_of(Span::Memberships(asked.account.clone()));
            let groups = lines.filter_map(|(key, _)| match key {
                RowKey::Membership(_, group, _) => {
                    Some(ConversationId::group(asked.account.app, group.clone()))
                }
                _ => None,
            });
            let wanted =
                Wanted { counters: true, members: [asked.account.user.clone()].into(), ..Wanted::default() };
            groups.map(|id| Fetch::Now(id, wanted.clone())).collect()
        }
        _ => Vec::new(),
    }
}
