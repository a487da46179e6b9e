//! Changes as statements: as few as there are tables, whatever the number of rows.

use std::collections::BTreeMap;

use sidenote_core::debt::Task;
use sidenote_core::event::Happening;
use sidenote_core::extension::{Entry, Value};
use sidenote_core::group::{GroupType, Role};
use sidenote_core::ids::{Incarnation, MessageName};
use sidenote_core::rows::{MessagePart, Part, Row, RowKey};
use sidenote_row_codec::encode_row;
use sidenote_store::StoreError;

use crate::fetch::debt_bytes;
use crate::home::{conversation_name, escape, for_eyes, message_text, signed};
use crate::loaded::{Loaded, is_contested};
use crate::ranges::clamped;
use crate::session::{Param, Piece};
use crate::shape::{MOST_MEMBERS, MOST_MESSAGES};
use crate::texts::Texts;

/// Rows that one statement writes, largest first. Few sizes, so that few texts have to be prepared.
const ROWS_PER_STATEMENT: [usize; 10] = [32, 16, 8, 7, 6, 5, 4, 3, 2, 1];

/// Where rows go: the table, its columns behind the key of the home, and how many of them belong to the primary key.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) home: &'static str,
    pub(crate) columns: &'static [&'static str],
    keys: usize,
}

const fn table(name: &'static str, columns: &'static [&'static str], keys: usize) -> Table {
    Table { name, home: "gkey", columns, keys }
}

/// In the order in which they are written.
pub(crate) const TABLES: [Table; 15] = [
    Table { name: "accounts", home: "akey", columns: &["app", "user_id", "data", "tiny_id"], keys: 2 },
    Table {
        name: "memberships",
        home: "akey",
        columns: &["app", "user_id", "group_id", "incarnation", "since_event"],
        keys: 4,
    },
    table("conversations", &["app", "name", "incarnation", "data", "kind", "owner"], 2),
    table("counters", &["incarnation", "last_event", "members", "last_msg_seq", "last_msg_at"], 1),
    table("members", &["incarnation", "user_id", "data", "tiny_id", "role"], 2),
    table("repeats", &["incarnation", "fingerprint", "data"], 2),
    table("messages", &["incarnation", "message", "data", "sender", "sent_at", "recalled"], 2),
    table("bodies", &["incarnation", "message", "data"], 2),
    table(
        "extension_sets",
        &[
            "incarnation",
            "message",
            "latest_seq",
            "clear_seq",
            "live",
            "tombstones",
            "attempts_since",
            "attempts",
        ],
        2,
    ),
    table("pairs", &["incarnation", "message", "key", "seq", "value"], 3),
    table("recents", &["incarnation", "sent_second", "seq", "random"], 4),
    table("events", &["incarnation", "number", "data", "at", "what"], 2),
    table("debts", &["debt", "due", "task"], 1),
    table("outboxes", &["app", "name", "incarnation", "data", "after_event"], 3),
    table("dead_letters", &["app", "name", "incarnation", "number", "data", "reason"], 4),
];

const PAIRS: usize = 9;
const EVENTS: usize = 11;

/// What happens to a row that is there already.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Mode {
    /// There must be none: if there is, somebody else was faster, or the lock did not hold.
    New,
    /// It is replaced.
    Any,
}

/// The statements that write what is unwritten, for the home with this key.
///
/// # Errors
///
/// If a number is larger than this database holds.
pub(crate) fn pieces(home: i64, loaded: &Loaded) -> Result<Vec<Piece>, StoreError> {
    let mut puts: BTreeMap<(usize, Mode), Vec<Vec<Param>>> = BTreeMap::new();
    let mut deletes = Deletes::default();
    for (key, row) in loaded.unwritten() {
        let Some(row) = row else {
            deletes.add(key)?;
            continue;
        };
        let (table, cells) = cells(key, row)?;
        let is_new = table == EVENTS || (is_contested(key) && !loaded.is_stored(key));
        puts.entry((table, if is_new { Mode::New } else { Mode::Any })).or_default().push(cells);
    }
    let mut pieces = Vec::new();
    for ((number, mode), mut rows) in puts {
        for size in ROWS_PER_STATEMENT {
            while rows.len() >= size {
                let mut params: Vec<Param> = vec![Box::new(home)];
                params.extend(rows.drain(..size).flatten());
                pieces.push(Piece::Prepared(insert(number, mode, size).into(), params));
            }
        }
    }
    deletes.pieces(home, &mut pieces);
    Ok(pieces)
}

/// The statement that writes so many rows of a table.
fn insert(table: usize, mode: Mode, rows: usize) -> &'static str {
    static INSERTS: Texts<(usize, Mode, usize)> = Texts::new();
    INSERTS.get((table, mode, rows), || insert_text(&TABLES[table], mode, rows))
}

fn insert_text(table: &Table, mode: Mode, rows: usize) -> String {
    let Table { name, home, columns, keys } = table;
    let width = columns.len();
    let row = |row: usize| {
        let cells = (0..width).map(|at| format!("${}", 2 + row * width + at));
        format!("($1, {})", cells.collect::<Vec<_>>().join(", "))
    };
    let values = (0..rows).map(row).collect::<Vec<_>>().join(", ");
    let mut text = format!("INSERT INTO {name} ({home}, {}) VALUES {values}", columns.join(", "));
    if mode == Mode::Any {
        let (key, rest) = columns.split_at(*keys);
        text.extend([" ON CONFLICT (", home, ", ", &key.join(", "), ") DO "]);
        if rest.is_empty() {
            text += "NOTHING";
        } else {
            let set = rest.iter().map(|column| format!("{column} = excluded.{column}"));
            text.extend(["UPDATE SET ", &set.collect::<Vec<_>>().join(", ")]);
        }
    }
    text
}

fn number(number: u64) -> Result<Param, StoreError> {
    match i64::try_from(number) {
        Ok(number) => Ok(Box::new(number)),
        Err(_) => Err(StoreError::Unreadable {
            reason: format!("{number} is larger than the database can hold as a number"),
        }),
    }
}

fn text(text: &(impl ToString + ?Sized)) -> Param {
    Box::new(text.to_string())
}

fn life(incarnation: Incarnation) -> Param {
    Box::new(signed(incarnation))
}

fn app(app: sidenote_core::ids::AppId) -> Param {
    Box::new(i64::from(app.get()))
}

/// Which table a row goes to, and its cells without the key of the home.
pub(crate) fn cells(key: &RowKey, row: &Row) -> Result<(usize, Vec<Param>), StoreError> {
    let data = || -> Param { Box::new(encode_row(row)) };
    Ok(match (key, row) {
        (RowKey::Account(id), Row::Account(account)) => {
            (0, vec![app(id.app), text(&id.user), data(), number(account.tiny_id.get())?])
        }
        (RowKey::Membership(id, group, incarnation), Row::Membership(line)) => {
            let since = number(line.since.get())?;
            (1, vec![app(id.app), text(&id.user), text(group), life(*incarnation), since])
        }
        (RowKey::Conversation(id), row) => {
            let (incarnation, kind, owner) = match row {
                Row::Group(group) => {
                    (group.incarnation, kind_name(group.kind), group.owner.as_ref().map(ToString::to_string))
                }
                Row::Direct(direct) => (direct.incarnation, "one-to-one", None),
                other => return Err(mismatch(other)),
            };
            let name = text(&conversation_name(id));
            (2, vec![app(id.app), name, life(incarnation), data(), text(kind), Box::new(owner)])
        }
        (RowKey::Within(incarnation, part), row) => {
            let (table, mut cells) = cells_within(part, row)?;
            cells.insert(0, life(*incarnation));
            (table, cells)
        }
        (RowKey::Event(incarnation, at), Row::Event(event)) => {
            let what = text(what_name(&event.what));
            let happened = Box::new(clamped(event.at.millis()));
            (EVENTS, vec![life(*incarnation), number(at.get())?, data(), happened, what])
        }
        (RowKey::Debt(debt), Row::Debt) => {
            let due = Box::new(clamped(debt.due.millis()));
            (12, vec![Box::new(debt_bytes(debt)), due, text(task_name(&debt.task))])
        }
        (RowKey::Outbox(id, incarnation), Row::Outbox(outbox)) => {
            let (name, after) = (text(&conversation_name(id)), number(outbox.after.get())?);
            (13, vec![app(id.app), name, life(*incarnation), data(), after])
        }
        (RowKey::DeadLetter(id, incarnation, at), Row::DeadLetter(letter)) => {
            let (name, reason) = (text(&conversation_name(id)), text(&for_eyes(&letter.reason)));
            (14, vec![app(id.app), name, life(*incarnation), number(at.get())?, data(), reason])
        }
        (_, other) => return Err(mismatch(other)),
    })
}

/// Without the number of the life.
fn cells_within(part: &Part, row: &Row) -> Result<(usize, Vec<Param>), StoreError> {
    let data = || -> Param { Box::new(encode_row(row)) };
    Ok(match (part, row) {
        (Part::Counters, Row::Counters(counters)) => {
            if counters.last_msg_seq > MOST_MESSAGES || counters.members > MOST_MEMBERS {
                // Whoever reads it would take it for damaged.
                let reason = "a counter is larger than any that can be counted to".to_owned();
                return Err(StoreError::Unreadable { reason });
            }
            let cells = vec![
                number(counters.last_event.get())?,
                number(counters.members.into())?,
                number(counters.last_msg_seq)?,
                number(counters.last_msg_at.millis())?,
            ];
            (3, cells)
        }
        (Part::Member(user), Row::Member(member)) => {
            let role = match member.role {
                Role::Owner => "owner",
                Role::Admin => "admin",
                Role::Member => "member",
            };
            (4, vec![text(user), data(), number(member.tiny_id.get())?, text(role)])
        }
        (Part::Repeat(fingerprint), Row::Repeat(_)) => (5, vec![Box::new(fingerprint.0.to_vec()), data()]),
        (Part::Message(name, part), row) => {
            let name = text(&message_text(*name));
            match (part, row) {
                (MessagePart::Header, Row::Message(message)) => {
                    let sent_at = Box::new(clamped(message.sent_at.millis()));
                    let recalled = Box::new(message.recalled);
                    (6, vec![name, data(), text(&message.sender), sent_at, recalled])
                }
                (MessagePart::Body, Row::Body(_)) => (7, vec![name, data()]),
                (MessagePart::Extension, Row::Extension(state)) => {
                    let cells = vec![
                        name,
                        number(state.latest.get())?,
                        number(state.clear.get())?,
                        number(state.live.into())?,
                        number(state.tombstones.into())?,
                        number(state.attempts.since.millis())?,
                        number(state.attempts.count.into())?,
                    ];
                    (8, cells)
                }
                (MessagePart::Pair(key), Row::Pair(entry)) => {
                    let value = Entry::value(entry).map(Value::as_str).map(escape);
                    let seq = number(entry.seq().get())?;
                    (PAIRS, vec![name, text(&escape(key.as_str())), seq, Box::new(value)])
                }
                (_, other) => return Err(mismatch(other)),
            }
        }
        (Part::Recent(place), Row::Recent) => {
            let key = place.key();
            (10, vec![number(key.time)?, number(key.seq.into())?, number(key.random.into())?])
        }
        (_, other) => return Err(mismatch(other)),
    })
}

/// A key fixes the kind of its row; another one can only be a bug. The row itself is not told.
fn mismatch(_: &Row) -> StoreError {
    StoreError::Unreadable { reason: "a rule wrote a row under a key of another kind".to_owned() }
}

fn kind_name(kind: GroupType) -> &'static str {
    match kind {
        GroupType::Private => "private",
        GroupType::Public => "public",
        GroupType::ChatRoom => "chat room",
        GroupType::AvChatRoom => "live room",
        GroupType::Community => "community",
    }
}

fn task_name(task: &Task) -> &'static str {
    match task {
        Task::Announce(..) => "announce",
        Task::Forsake(..) => "forsake",
        Task::Reap(..) => "reap",
        Task::Strip(..) => "strip",
        Task::ForgetSend(..) => "forget send",
        Task::TrimEvents(..) => "trim events",
    }
}

fn what_name(what: &Happening) -> &'static str {
    match what {
        Happening::GroupCreated { .. } => "group created",
        Happening::GroupChanged => "group changed",
        Happening::GroupDestroyed => "group destroyed",
        Happening::OwnerChanged { .. } => "owner changed",
        Happening::MembersJoined { .. } => "members joined",
        Happening::MembersLeft { .. } => "members left",
        Happening::MessageSent { .. } => "message sent",
        Happening::TransientMessage { .. } => "transient message",
        Happening::MessagesRecalled { .. } => "messages recalled",
        Happening::DirectSent { .. } => "one-to-one message sent",
        Happening::DirectTransient { .. } => "transient one-to-one message",
        Happening::DirectRecalled { .. } => "one-to-one message recalled",
        Happening::Extension(_) => "extension",
    }
}

/// Rows to be removed. One statement for each, by its whole key, as the planner may go through everything of a
/// conversation to find several; but one for the pairs of a message, of which there are not that many, and one for a
/// run of events.
#[derive(Default)]
struct Deletes {
    single: Vec<(&'static str, Vec<Param>)>,
    pairs: BTreeMap<(Incarnation, MessageName), Vec<String>>,
    events: BTreeMap<Incarnation, Vec<(i64, i64)>>,
}

impl Deletes {
    /// Keys come in their order.
    fn add(&mut self, key: &RowKey) -> Result<(), StoreError> {
        let (sql, params) = match key {
            RowKey::Account(id) => (
                "DELETE FROM accounts WHERE akey = $1 AND app = $2 AND user_id = $3",
                vec![app(id.app), text(&id.user)],
            ),
            RowKey::Membership(id, group, incarnation) => (
                "DELETE FROM memberships \
                 WHERE akey = $1 AND app = $2 AND user_id = $3 AND group_id = $4 AND incarnation = $5",
                vec![app(id.app), text(&id.user), text(group), life(*incarnation)],
            ),
            RowKey::Conversation(id) => (
                "DELETE FROM conversations WHERE gkey = $1 AND app = $2 AND name = $3",
                vec![app(id.app), text(&conversation_name(id))],
            ),
            RowKey::Within(incarnation, Part::Message(name, MessagePart::Pair(key))) => {
                self.pairs.entry((*incarnation, *name)).or_default().push(escape(key.as_str()));
                return Ok(());
            }
            RowKey::Within(incarnation, part) => delete_within(*incarnation, part)?,
            RowKey::Event(incarnation, at) => {
                let at = clamped(at.get());
                let runs = self.events.entry(*incarnation).or_default();
                match runs.last_mut() {
                    Some((_, last)) if *last + 1 == at => *last = at,
                    _ => runs.push((at, at)),
                }
                return Ok(());
            }
            RowKey::Debt(debt) => {
                ("DELETE FROM debts WHERE gkey = $1 AND debt = $2", vec![Box::new(debt_bytes(debt)) as Param])
            }
            RowKey::Outbox(id, incarnation) => (
                "DELETE FROM outboxes WHERE gkey = $1 AND app = $2 AND name = $3 AND incarnation = $4",
                vec![app(id.app), text(&conversation_name(id)), life(*incarnation)],
            ),
            RowKey::DeadLetter(id, incarnation, at) => (
                "DELETE FROM dead_letters \
                 WHERE gkey = $1 AND app = $2 AND name = $3 AND incarnation = $4 AND number = $5",
                vec![app(id.app), text(&conversation_name(id)), life(*incarnation), number(at.get())?],
            ),
        };
        self.single.push((sql, params));
        Ok(())
    }

    fn pieces(self, home: i64, pieces: &mut Vec<Piece>) {
        let mut push = |sql: &'static str, params: Vec<Param>| {
            let mut all: Vec<Param> = vec![Box::new(home)];
            all.extend(params);
            pieces.push(Piece::Prepared(sql.into(), all));
        };
        for ((incarnation, name), keys) in self.pairs {
            let sql =
                "DELETE FROM pairs WHERE gkey = $1 AND incarnation = $2 AND message = $3 AND key = ANY($4)";
            push(sql, vec![life(incarnation), text(&message_text(name)), Box::new(keys)]);
        }
        for (incarnation, runs) in self.events {
            let sql = "DELETE FROM events WHERE gkey = $1 AND incarnation = $2 AND number BETWEEN $3 AND $4";
            for (first, last) in runs {
                push(sql, vec![life(incarnation), Box::new(first), Box::new(last)]);
            }
        }
        for (sql, params) in self.single {
            push(sql, params);
        }
    }
}

fn delete_within(incarnation: Incarnation, part: &Part) -> Result<(&'static str, Vec<Param>), StoreError> {
    let of = life(incarnation);
    Ok(match part {
        Part::Counters => ("DELETE FROM counters WHERE gkey = $1 AND incarnation = $2", vec![of]),
        Part::Member(user) => (
            "DELETE FROM members WHERE gkey = $1 AND incarnation = $2 AND user_id = $3",
            vec![of, text(user)],
        ),
        Part::Repeat(fingerprint) => (
            "DELETE FROM repeats WHERE gkey = $1 AND incarnation = $2 AND fingerprint = $3",
            vec![of, Box::new(fingerprint.0.to_vec())],
        ),
        Part::Message(name, part) => {
            let name = text(&message_text(*name));
            match part {
                MessagePart::Header => (
                    "DELETE FROM messages WHERE gkey = $1 AND incarnation = $2 AND message = $3",
                    vec![of, name],
                ),
                MessagePart::Body => (
                    "DELETE FROM bodies WHERE gkey = $1 AND incarnation = $2 AND message = $3",
                    vec![of, name],
                ),
                MessagePart::Extension => (
                    "DELETE FROM extension_sets WHERE gkey = $1 AND incarnation = $2 AND message = $3",
                    vec![of, name],
                ),
                MessagePart::Pair(key) => (
                    "DELETE FROM pairs WHERE gkey = $1 AND incarnation = $2 AND message = $3 AND key = $4",
                    vec![of, name, text(&escape(key.as_str()))],
                ),
            }
        }
        Part::Recent(place) => {
            let key = place.key();
            (
                "DELETE FROM recents \
                 WHERE gkey = $1 AND incarnation = $2 AND sent_second = $3 AND seq = $4 AND random = $5",
                vec![of, number(key.time)?, number(key.seq.into())?, number(key.random.into())?],
            )
        }
    })
}
