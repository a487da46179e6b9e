//! The one shape of all rows that are read, and the texts of statements that read rows by their keys.

use std::fmt::Write as _;

use sidenote_core::account::Membership;
use sidenote_core::extension::{Attempts, Entry, ExtensionState, Key, Seq, Value};
use sidenote_core::group::Counters;
use sidenote_core::ids::{
    AccountId, AppId, ConversationId, EventNumber, GroupId, Incarnation, MAX_SAFE_INTEGER, MsgKey, Recency,
    Timestamp, UserId,
};
use sidenote_core::message::Fingerprint;
use sidenote_core::rows::{MessagePart, Part, Row, RowKey};
use sidenote_row_codec::{decode_key, decode_row};
use sidenote_store::StoreError;
use tokio_postgres::Row as Answered;

use crate::home::{conversation_of, life_of, message_of, unescape};
use crate::texts::Texts;

/// A row as every statement answers it: which kind it is, then columns that mean something else for each kind.
pub(crate) struct Shape;

/// The columns of [`Shape`] in their order, with their types. `kind` comes before them.
const COLUMNS: [(&str, &str); 12] = [
    ("life", "bigint"),
    ("name", "text"),
    ("key", "text"),
    ("value", "text"),
    ("bytes", "bytea"),
    ("n1", "bigint"),
    ("n2", "bigint"),
    ("n3", "bigint"),
    ("n4", "bigint"),
    ("n5", "bigint"),
    ("n6", "bigint"),
    ("data", "bytea"),
];

/// What there is of one kind: its number, its table, and which expressions fill which columns of the shape.
pub(crate) struct Kind {
    number: i16,
    pub(crate) table: &'static str,
    columns: &'static [(&'static str, &'static str)],
}

pub(crate) const CONVERSATION: Kind =
    Kind { number: 0, table: "conversations", columns: &[("n1", "app"), ("name", "name"), ("data", "data")] };
pub(crate) const COUNTER: Kind = Kind {
    number: 1,
    table: "counters",
    columns: &[
        ("life", "incarnation"),
        ("n1", "last_event"),
        ("n2", "members"),
        ("n3", "last_msg_seq"),
        ("n4", "last_msg_at"),
    ],
};
pub(crate) const MEMBER: Kind = Kind {
    number: 2,
    table: "members",
    columns: &[("life", "incarnation"), ("name", "user_id"), ("data", "data")],
};
pub(crate) const REPEAT: Kind = Kind {
    number: 3,
    table: "repeats",
    columns: &[("life", "incarnation"), ("bytes", "fingerprint"), ("data", "data")],
};
pub(crate) const HEADER: Kind = Kind {
    number: 4,
    table: "messages",
    columns: &[("life", "incarnation"), ("name", "message"), ("data", "data")],
};
pub(crate) const BODY: Kind = Kind {
    number: 5,
    table: "bodies",
    columns: &[("life", "incarnation"), ("name", "message"), ("data", "data")],
};
pub(crate) const STATE: Kind = Kind {
    number: 6,
    table: "extension_sets",
    columns: &[
        ("life", "incarnation"),
        ("name", "message"),
        ("n1", "latest_seq"),
        ("n2", "clear_seq"),
        ("n3", "live"),
        ("n4", "tombstones"),
        ("n5", "attempts_since"),
        ("n6", "attempts"),
    ],
};
pub(crate) const PAIR: Kind = Kind {
    number: 7,
    table: "pairs",
    columns: &[
        ("life", "incarnation"),
        ("name", "message"),
        ("key", "key"),
        ("value", "value"),
        ("n1", "seq"),
    ],
};
pub(crate) const RECENT: Kind = Kind {
    number: 8,
    table: "recents",
    columns: &[("life", "incarnation"), ("n1", "sent_second"), ("n2", "seq"), ("n3", "random")],
};
pub(crate) const EVENT: Kind = Kind {
    number: 9,
    table: "events",
    columns: &[("life", "incarnation"), ("n1", "number"), ("data", "data")],
};
pub(crate) const DEBT: Kind = Kind { number: 10, table: "debts", columns: &[("bytes", "debt")] };
pub(crate) const OUTBOX_ROW: Kind = Kind {
    number: 11,
    table: "outboxes",
    columns: &[("life", "incarnation"), ("n1", "app"), ("name", "name"), ("data", "data")],
};
pub(crate) const DEAD_LETTER: Kind = Kind {
    number: 12,
    table: "dead_letters",
    columns: &[("life", "incarnation"), ("n1", "app"), ("name", "name"), ("n2", "number"), ("data", "data")],
};
pub(crate) const MEMBERSHIP: Kind = Kind {
    number: 14,
    table: "memberships",
    columns: &[
        ("life", "incarnation"),
        ("n1", "app"),
        ("name", "user_id"),
        ("key", "group_id"),
        ("n2", "since_event"),
    ],
};

/// For walks, which ask for accounts by no key.
pub(crate) const ACCOUNT_ROW: Kind =
    Kind { number: 13, table: "accounts", columns: &[("n1", "app"), ("name", "user_id"), ("data", "data")] };

/// Where [`Kind::select_with_home`] has the key of the home.
pub(crate) const HOME: usize = 1 + COLUMNS.len();

impl Kind {
    /// `SELECT` all columns of the shape `FROM` the table.
    pub(crate) fn select(&self) -> String {
        self.select_from(self.table)
    }

    /// The same and the column with the key of the home.
    pub(crate) fn select_with_home(&self) -> String {
        let is_of_account = matches!(self.table, "accounts" | "memberships");
        self.select_and(if is_of_account { ", akey AS home" } else { ", gkey AS home" }, self.table)
    }

    /// The same from something with the columns of the table.
    fn select_from(&self, table: &str) -> String {
        self.select_and("", table)
    }

    fn select_and(&self, more: &str, table: &str) -> String {
        let mut text = format!("SELECT {}::smallint AS kind", self.number);
        for (column, kind) in COLUMNS {
            let filled = self.columns.iter().find(|(name, _)| *name == column);
            match filled {
                Some((_, expression)) => write!(text, ", {expression} AS {column}"),
                None => write!(text, ", NULL::{kind} AS {column}"),
            }
            .expect("a string takes everything");
        }
        write!(text, "{more} FROM {table}").expect("a string takes everything");
        text
    }
}

// Kinds of rows within a conversation that one statement may ask for, in the order of their parameters.
pub(crate) const MEMBERS: u16 = 1;
pub(crate) const HEADERS: u16 = 1 << 1;
pub(crate) const BODIES: u16 = 1 << 2;
pub(crate) const STATES: u16 = 1 << 3;
pub(crate) const PAIRS: u16 = 1 << 4;
pub(crate) const WHOLE_SETS: u16 = 1 << 5;
pub(crate) const REPEATS: u16 = 1 << 6;
pub(crate) const COUNTERS: u16 = 1 << 7;
pub(crate) const OUTBOX: u16 = 1 << 8;
pub(crate) const ALL_MEMBERS: u16 = 1 << 9;

/// A statement for rows of one life of a conversation: $1 is its key. For the life that it has `now`, $2 and $3 are
/// its app and name, and its own row comes too; for another, $2 is its number. What is looked for follows for each kind in
/// `mask`: a value if the kind is in `single` too, an array otherwise; two of them for pairs, the first Seq that is wanted
/// behind that for whole sets, and at last app and name for the outbox of another life.
///
/// Arrays are taken apart row by row and each row is looked up by its whole key: left to itself the planner may read
/// everything of a conversation and throw most of it away. `OFFSET 0` keeps it from putting the parts together again.
/// Most requests name one message, one member and one pair. Those need no array, and taking one apart costs more than the
/// row. The conversation's own row, of which every part needs the life, is looked up once.
pub(crate) fn within(now: bool, mask: u16, single: u16) -> &'static str {
    static TEXTS: Texts<(bool, u16, u16)> = Texts::new();
    TEXTS.get((now, mask, single), || within_text(now, mask, single))
}

fn within_text(now: bool, mask: u16, single: u16) -> String {
    let life = if now { "(SELECT life FROM own)" } else { "$2" };
    let mut next = if now { 3 } else { 2 };
    let mut parts = Vec::new();
    if now {
        parts.push(CONVERSATION.select_from("own"));
    }
    let mut add = |kind: u16, row: &Kind, columns: &[(&str, &str)]| {
        if mask & kind == 0 {
            return;
        }
        let mut part = format!("{} WHERE gkey = $1 AND incarnation = {life}", row.select());
        let (mut arrays, mut names) = (Vec::new(), Vec::new());
        for (column, of) in columns {
            next += 1;
            if single & kind == 0 {
                arrays.push(format!("${next}::{of}[]"));
                names.push(format!("w_{column}"));
                write!(part, " AND {column} = w_{column}").expect("a string takes everything");
            } else {
                write!(part, " AND {column} = ${next}").expect("a string takes everything");
            }
        }
        if kind == WHOLE_SETS {
            next += 1;
            write!(part, " AND seq >= ${next}").expect("a string takes everything");
        }
        if !arrays.is_empty() {
            let (arrays, names) = (arrays.join(", "), names.join(", "));
            part = format!(
                "SELECT found.* FROM unnest({arrays}) AS wanted ({names}), LATERAL ({part} OFFSET 0) AS found"
            );
        }
        parts.push(part);
    };
    add(MEMBERS, &MEMBER, &[("user_id", "text")]);
    add(HEADERS, &HEADER, &[("message", "text")]);
    add(BODIES, &BODY, &[("message", "text")]);
    add(STATES, &STATE, &[("message", "text")]);
    add(PAIRS, &PAIR, &[("message", "text"), ("key", "text")]);
    add(WHOLE_SETS, &PAIR, &[("message", "text")]);
    add(REPEATS, &REPEAT, &[("fingerprint", "bytea")]);
    add(COUNTERS, &COUNTER, &[]);
    add(ALL_MEMBERS, &MEMBER, &[]);
    if mask & OUTBOX != 0 {
        let (app, name) = if now { (2, 3) } else { (next + 1, next + 2) };
        let select = OUTBOX_ROW.select();
        parts.push(format!(
            "{select} WHERE gkey = $1 AND app = ${app} AND name = ${name} AND incarnation = {life}"
        ));
    }
    let parts = parts.join(" UNION ALL ");
    if now {
        format!(
            "WITH own AS MATERIALIZED (SELECT incarnation AS life, app, name, data FROM conversations \
             WHERE gkey = $1 AND app = $2 AND name = $3) {parts}"
        )
    } else {
        parts
    }
}

/// Locks the own row of a conversation, if there is one. What it guards is read by a later statement: this one sees
/// what was there before it waited.
pub(crate) const LOCK_CONVERSATION: &str =
    "SELECT incarnation FROM conversations WHERE gkey = $1 AND app = $2 AND name = $3 FOR UPDATE";

/// Locks outboxes of a conversation, which may be gone itself, and tells under which number each is claimed.
pub(crate) const LOCK_OUTBOXES: &str = "SELECT found.* FROM unnest($4::bigint[]) AS wanted (w_incarnation), \
     LATERAL (SELECT incarnation, claim FROM outboxes \
     WHERE gkey = $1 AND app = $2 AND name = $3 AND incarnation = w_incarnation FOR UPDATE) AS found";

macro_rules! account_shape {
    () => {
        "SELECT 13::smallint AS kind, NULL::bigint AS life, user_id AS name, NULL::text AS key, \
         NULL::text AS value, NULL::bytea AS bytes, app AS n1, NULL::bigint AS n2, NULL::bigint AS n3, \
         NULL::bigint AS n4, NULL::bigint AS n5, NULL::bigint AS n6, data AS data FROM accounts "
    };
}

pub(crate) const ACCOUNT: &str = concat!(account_shape!(), "WHERE akey = $1 AND app = $2 AND user_id = $3");

pub(crate) const LOCK_ACCOUNT: &str =
    concat!(account_shape!(), "WHERE akey = $1 AND app = $2 AND user_id = $3 FOR UPDATE");

/// Accounts of several homes at one instant.
pub(crate) const ACCOUNTS: &str =
    concat!(account_shape!(), "WHERE akey = ANY($1) AND app = ANY($2) AND user_id = ANY($3)");

/// Lines of the list of an account's groups, locked one after the other.
pub(crate) fn lock_memberships() -> String {
    format!(
        "SELECT found.* FROM unnest($4::text[], $5::bigint[]) AS wanted (w_group_id, w_incarnation), \
         LATERAL ({} WHERE akey = $1 AND app = $2 AND user_id = $3 AND group_id = w_group_id \
         AND incarnation = w_incarnation FOR UPDATE) AS found",
        MEMBERSHIP.select()
    )
}

/// Debts of one home, locked one after the other.
pub(crate) fn lock_debts() -> String {
    format!(
        "SELECT found.* FROM unnest($2::bytea[]) AS wanted (w_debt), \
         LATERAL ({} WHERE gkey = $1 AND debt = w_debt FOR UPDATE) AS found",
        DEBT.select()
    )
}

impl Shape {
    /// The row and its key.
    ///
    /// # Errors
    ///
    /// If it makes no sense: somebody else has written to the table, or it is damaged.
    pub(crate) fn read(row: &Answered) -> Result<(RowKey, Row), StoreError> {
        let columns = Columns(row);
        let kind: i16 = columns.get(0)?;
        columns
            .read(kind)
            .and_then(|read| read.ok_or_else(|| unreadable(kind, "it holds a value that none can have")))
    }

    /// Its key alone, if that much can be read.
    pub(crate) fn key(row: &Answered) -> Option<RowKey> {
        let columns = Columns(row);
        columns.get(0).and_then(|kind| columns.key(kind)).ok().flatten()
    }
}

/// Messages of a group, and members, that nobody ever gets to. Beyond this a counter is damaged, and what the rules add to
/// it within a transaction might be no number any more.
pub(crate) const MOST_MESSAGES: u64 = MAX_SAFE_INTEGER / 2;
pub(crate) const MOST_MEMBERS: u32 = u32::MAX / 2;

fn unreadable(kind: i16, what: impl std::fmt::Display) -> StoreError {
    StoreError::Unreadable { reason: format!("a row of kind {kind}: {what}") }
}

struct Columns<'a>(&'a Answered);

impl<'a> Columns<'a> {
    fn get<T: tokio_postgres::types::FromSql<'a>>(&self, at: usize) -> Result<T, StoreError> {
        self.0.try_get(at).map_err(|error| StoreError::Unreadable { reason: error.to_string() })
    }

    fn life(&self) -> Result<Incarnation, StoreError> {
        self.get(1).map(life_of)
    }

    fn name(&self) -> Result<&'a str, StoreError> {
        self.get(2)
    }

    fn number(&self, n: usize) -> Result<Option<u64>, StoreError> {
        self.get(5 + n).map(|number: i64| u64::try_from(number).ok())
    }

    fn read(&self, kind: i16) -> Result<Option<(RowKey, Row)>, StoreError> {
        let Some(key) = self.key(kind)? else { return Ok(None) };
        let n = |n| self.number(n);
        let row = match kind {
            1 => {
                let (Some(event), Some(members), Some(seq), Some(at)) = (n(1)?, n(2)?, n(3)?, n(4)?) else {
                    return Ok(None);
                };
                let Some(members) = u32::try_from(members).ok().filter(|members| *members <= MOST_MEMBERS)
                else {
                    return Ok(None);
                };
                if seq > MOST_MESSAGES {
                    return Ok(None);
                }
                Row::Counters(Counters {
                    last_msg_seq: seq,
                    last_msg_at: Timestamp::from_millis(at),
                    members,
                    last_event: EventNumber::new(event),
                })
            }
            6 => match self.state()? {
                Some(state) => Row::Extension(state),
                None => return Ok(None),
            },
            7 => match self.entry()? {
                Some(entry) => Row::Pair(entry),
                None => return Ok(None),
            },
            8 => Row::Recent,
            10 => Row::Debt,
            14 => {
                let Some(since) = n(2)? else { return Ok(None) };
                Row::Membership(Membership { since: EventNumber::new(since) })
            }
            _ => decode_row(&key, self.get(12)?)?,
        };
        Ok(Some((key, row)))
    }

    fn key(&self, kind: i16) -> Result<Option<RowKey>, StoreError> {
        let within = |part: Option<Part>| -> Result<Option<RowKey>, StoreError> {
            let life = self.life()?;
            Ok(part.map(|part| RowKey::Within(life, part)))
        };
        let message = |part| -> Result<Option<RowKey>, StoreError> {
            let name = message_of(self.name()?);
            within(name.map(|name| Part::Message(name, part)))
        };
        match kind {
            0 => Ok(self.conversation()?.map(RowKey::Conversation)),
            1 => within(Some(Part::Counters)),
            2 => within(UserId::new(self.name()?).ok().map(Part::Member)),
            3 => {
                let fingerprint: &[u8] = self.get(5)?;
                within(fingerprint.try_into().ok().map(|bytes| Part::Repeat(Fingerprint(bytes))))
            }
            4 => message(MessagePart::Header),
            5 => message(MessagePart::Body),
            6 => message(MessagePart::Extension),
            7 => match unescape(self.get(3)?).and_then(|key| Key::new(&key).ok()) {
                Some(key) => message(MessagePart::Pair(key)),
                None => Ok(None),
            },
            8 => {
                let (Some(time), Some(seq), Some(random)) =
                    (self.number(1)?, self.number(2)?, self.number(3)?)
                else {
                    return Ok(None);
                };
                let (Ok(seq), Ok(random)) = (u32::try_from(seq), u32::try_from(random)) else {
                    return Ok(None);
                };
                within(Some(Part::Recent(Recency::of(MsgKey { seq, random, time }))))
            }
            9 => {
                let life = self.life()?;
                Ok(self.number(1)?.map(|number| RowKey::Event(life, EventNumber::new(number))))
            }
            10 => decode_key(self.get(5)?).map(Some),
            11 => {
                let life = self.life()?;
                Ok(self.conversation()?.map(|id| RowKey::Outbox(id, life)))
            }
            12 => {
                let (life, number) = (self.life()?, self.number(2)?);
                let id = self.conversation()?;
                Ok(id.zip(number).map(|(id, number)| RowKey::DeadLetter(id, life, EventNumber::new(number))))
            }
            13 => Ok(self.account()?.map(RowKey::Account)),
            14 => {
                let (life, group) = (self.life()?, GroupId::new(self.get(3)?).ok());
                Ok(self.account()?.zip(group).map(|(id, group)| RowKey::Membership(id, group, life)))
            }
            other => Err(unreadable(other, "there is no such kind")),
        }
    }

    fn app(&self) -> Result<Option<AppId>, StoreError> {
        Ok(self.number(1)?.and_then(|app| u32::try_from(app).ok()).map(AppId::new))
    }

    fn conversation(&self) -> Result<Option<ConversationId>, StoreError> {
        let name = self.name()?;
        Ok(self.app()?.and_then(|app| conversation_of(app, name)))
    }

    fn account(&self) -> Result<Option<AccountId>, StoreError> {
        let user = UserId::new(self.name()?).ok();
        Ok(self.app()?.zip(user).map(|(app, user)| AccountId { app, user }))
    }

    fn state(&self) -> Result<Option<ExtensionState>, StoreError> {
        let mut numbers = [0; 6];
        for (at, number) in numbers.iter_mut().enumerate() {
            match self.number(at + 1)? {
                Some(found) => *number = found,
                None => return Ok(None),
            }
        }
        let [latest, clear, live, tombstones, since, count] = numbers;
        let read = || {
            Some(ExtensionState {
                latest: Seq::new(latest).ok()?,
                clear: Seq::new(clear).ok()?,
                live: u32::try_from(live).ok()?,
                tombstones: u32::try_from(tombstones).ok()?,
                attempts: Attempts {
                    since: Timestamp::from_millis(since),
                    count: u32::try_from(count).ok()?,
                },
            })
        };
        Ok(read())
    }

    fn entry(&self) -> Result<Option<Entry>, StoreError> {
        let Some(seq) = self.number(1)?.and_then(|seq| Seq::new(seq).ok()) else { return Ok(None) };
        let Some(value) = self.get::<Option<&str>>(4)? else {
            return Ok(Some(Entry::Deleted { seq }));
        };
        let value = unescape(value).and_then(|value| Value::new(&value).ok());
        Ok(value.map(|value| Entry::Live { value, seq }))
    }
}
