//! Statements that read runs of rows.

use std::fmt::Write as _;

use sidenote_core::ids::{AppId, ConversationId, EventNumber, Incarnation, MsgKey, Recency};
use sidenote_core::rows::{MessagePart, Part, Range, RowKey, Span};

use sidenote_row_codec::span_bounds;

use crate::fetch::debt_bytes;
use crate::home::{account_key, conversation_key, conversation_name, escape, message_text, signed};
use crate::session::{Param, Piece};
use crate::shape::{
    BODY, COUNTER, DEAD_LETTER, DEBT, EVENT, HEADER, Kind, MEMBER, MEMBERSHIP, OUTBOX_ROW, PAIR, RECENT,
    REPEAT, STATE,
};

/// The statement for a range. Those within a conversation lie under the key of `id`.
pub(crate) fn piece(id: Option<&ConversationId>, range: &Range) -> Piece {
    let limit = || -> Param { Box::new(i64::try_from(range.limit).unwrap_or(i64::MAX)) };
    let after = range.after.as_deref();
    let home = || -> Param { Box::new(id.map_or(0, conversation_key)) };
    let prepared = |text: String, params: Vec<Param>| Piece::Prepared(text.into(), params);
    match &range.span {
        Span::Memberships(account) => {
            let (group, incarnation) = match after {
                Some(RowKey::Membership(_, group, incarnation)) => (group.to_string(), signed(*incarnation)),
                _ => (String::new(), 0),
            };
            let text = format!(
                "{} WHERE akey = $1 AND app = $2 AND user_id = $3 AND (group_id, incarnation) > ($4, $5) \
                 ORDER BY group_id, incarnation LIMIT $6",
                MEMBERSHIP.select()
            );
            let user = account.user.to_string();
            let params: Vec<Param> = vec![
                Box::new(account_key(account)),
                Box::new(i64::from(account.app.get())),
                Box::new(user),
                Box::new(group),
                Box::new(incarnation),
                limit(),
            ];
            prepared(text, params)
        }
        Span::Members(life) => {
            let user = match after {
                Some(RowKey::Within(_, Part::Member(user))) => user.to_string(),
                _ => String::new(),
            };
            let text = within(&MEMBER, "user_id > $3", "user_id", 4);
            prepared(text, vec![home(), Box::new(signed(*life)), Box::new(user), limit()])
        }
        Span::Pairs(life, message) => {
            let key = match after {
                Some(RowKey::Within(_, Part::Message(_, MessagePart::Pair(key)))) => escape(key.as_str()),
                _ => String::new(),
            };
            let text = within(&PAIR, "message = $3 AND key > $4", "key", 5);
            let message = message_text(*message);
            prepared(text, vec![home(), Box::new(signed(*life)), Box::new(message), Box::new(key), limit()])
        }
        Span::Recent(life) => {
            let place = match after {
                Some(RowKey::Within(_, Part::Recent(place))) => place.key(),
                _ => MsgKey { seq: u32::MAX, random: u32::MAX, time: u64::MAX },
            };
            let text = within(&RECENT, "(sent_second, seq, random) < ($3, $4, $5)", RECENT_ORDER, 6);
            let params: Vec<Param> = vec![
                home(),
                Box::new(signed(*life)),
                Box::new(clamped(place.time)),
                Box::new(i64::from(place.seq)),
                Box::new(i64::from(place.random)),
                limit(),
            ];
            prepared(text, params)
        }
        Span::Within(life) => prepared(everything(), vec![home(), Box::new(signed(*life)), limit()]),
        Span::Events(life) => {
            let number = match after {
                Some(RowKey::Event(_, number)) => *number,
                _ => EventNumber::START,
            };
            let text = within(&EVENT, "number > $3", "number", 4);
            prepared(text, vec![home(), Box::new(signed(*life)), Box::new(clamped(number.get())), limit()])
        }
        Span::Debts(by) => {
            let after: Vec<u8> = match after {
                Some(RowKey::Debt(debt)) => debt_bytes(debt),
                _ => Vec::new(),
            };
            let (_, end) = span_bounds(&Span::Debts(*by));
            let text = format!("{} WHERE debt > $1 AND debt < $2 ORDER BY debt LIMIT $3", DEBT.select());
            prepared(text, vec![Box::new(after), Box::new(end), limit()])
        }
        Span::Outboxes(app) => named(&OUTBOX_ROW, *app, None, None, after, limit()),
        Span::OutboxesOf(id) => named(&OUTBOX_ROW, id.app, Some(id), None, after, limit()),
        Span::DeadLetters(app) => named(&DEAD_LETTER, *app, None, None, after, limit()),
        Span::DeadLettersOf(id, life) => named(&DEAD_LETTER, id.app, Some(id), Some(*life), after, limit()),
    }
}

const RECENT_ORDER: &str = "sent_second DESC, seq DESC, random DESC";

/// The statement for places in the history of a conversation of two accounts, in the life that it has now.
pub(crate) fn recent_now(id: &ConversationId, after: Recency, limit: usize) -> Piece {
    let text = format!(
        "{} WHERE gkey = $1 AND incarnation = \
         (SELECT incarnation FROM conversations WHERE gkey = $1 AND app = $2 AND name = $3) \
         AND (sent_second, seq, random) < ($4, $5, $6) ORDER BY {RECENT_ORDER} LIMIT $7",
        RECENT.select()
    );
    let place = after.key();
    let params: Vec<Param> = vec![
        Box::new(conversation_key(id)),
        Box::new(i64::from(id.app.get())),
        Box::new(conversation_name(id)),
        Box::new(clamped(place.time)),
        Box::new(i64::from(place.seq)),
        Box::new(i64::from(place.random)),
        Box::new(i64::try_from(limit).unwrap_or(i64::MAX)),
    ];
    Piece::Prepared(text.into(), params)
}

/// A number for a comparison: what is stored is smaller than the largest number here.
pub(crate) fn clamped(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn within(kind: &Kind, filter: &str, order: &str, limit: usize) -> String {
    let select = kind.select();
    format!("{select} WHERE gkey = $1 AND incarnation = $2 AND {filter} ORDER BY {order} LIMIT ${limit}")
}

/// The first rows of everything in a life of a conversation, in the same order each time: whoever asks which members
/// are removed next has to be told those that then are.
fn everything() -> String {
    let kinds: [(&Kind, &str); 8] = [
        (&COUNTER, "incarnation"),
        (&MEMBER, "user_id"),
        (&REPEAT, "fingerprint"),
        (&HEADER, "message"),
        (&BODY, "message"),
        (&STATE, "message"),
        (&PAIR, "message, key"),
        (&RECENT, "sent_second, seq, random"),
    ];
    let parts = kinds.iter().map(|(kind, order)| {
        format!("({} WHERE gkey = $1 AND incarnation = $2 ORDER BY {order} LIMIT $3)", kind.select())
    });
    let all = parts.collect::<Vec<_>>().join(" UNION ALL ");
    format!(
        "SELECT * FROM ({all}) AS everything \
         ORDER BY kind, name COLLATE \"C\", key COLLATE \"C\", bytes, n1, n2, n3 LIMIT $3"
    )
}

/// Rows by the name of their conversation: of one conversation, or of a whole app, which no request asks for.
fn named(
    kind: &Kind,
    app: AppId,
    id: Option<&ConversationId>,
    life: Option<Incarnation>,
    after: Option<&RowKey>,
    limit: Param,
) -> Piece {
    let (name, incarnation, number) = match after {
        Some(RowKey::Outbox(id, life)) => (conversation_name(id), signed(*life), 0),
        Some(RowKey::DeadLetter(id, life, number)) => {
            (conversation_name(id), signed(*life), clamped(number.get()))
        }
        _ => (String::new(), 0, 0),
    };
    let has_numbers = kind.table == DEAD_LETTER.table;
    let mut params: Vec<Param> = vec![Box::new(i64::from(app.get())), Box::new(name), Box::new(incarnation)];
    let columns = if has_numbers { "name, incarnation, number" } else { "name, incarnation" };
    let mut text = format!("{} WHERE app = $1 AND ({columns}) > ($2, $3", kind.select());
    if has_numbers {
        params.push(Box::new(number));
        text += ", $4";
    }
    text += ")";
    let mut and = |column: &str, param: Param| {
        params.push(param);
        write!(text, " AND {column} = ${}", params.len()).expect("a string takes everything");
    };
    if let Some(id) = id {
        and("gkey", Box::new(conversation_key(id)));
        and("name", Box::new(conversation_name(id)));
    }
    if let Some(life) = life {
        and("incarnation", Box::new(signed(life)));
    }
    params.push(limit);
    write!(text, " ORDER BY {columns} LIMIT ${}", params.len()).expect("a string takes everything");
    Piece::Prepared(text.into(), params)
}
