//! All rows of a database, or of some of its apps, as of one instant and in the order in which stores are walked.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sidenote_core::debt::Task;
use sidenote_core::ids::{AppId, ConversationId, Incarnation};
use sidenote_core::rows::{Row, RowKey};
use sidenote_store::StoreError;
use sidenote_store::audit::Position;
use tokio_postgres::Row as Answered;

use crate::bulk::{MoveError, ask, connect, run};
use crate::home::{conversation_key, home_of, life_of, signed};
use crate::load::unfinished;
use crate::options::PostgresOptions;
use crate::session::{Piece, Session};
use crate::shape::{
    ACCOUNT_ROW, BODY, CONVERSATION, COUNTER, DEAD_LETTER, DEBT, EVENT, HEADER, HOME, Kind, MEMBER,
    MEMBERSHIP, OUTBOX_ROW, PAIR, RECENT, REPEAT, STATE, Shape,
};

/// Lives of conversations whose rows are sorted together.
const LIVES: usize = 256;

/// What lies within a life of a conversation, its events first.
pub(crate) const WITHIN: [&Kind; 9] =
    [&EVENT, &COUNTER, &MEMBER, &REPEAT, &HEADER, &BODY, &STATE, &PAIR, &RECENT];

/// The kinds that lie one behind the other, with the columns that they are sorted by. Between conversations and outboxes
/// come the lives.
const RUNS: [(&Kind, &str); 6] = [
    (&DEBT, "debt"),
    (&ACCOUNT_ROW, "app, user_id"),
    (&MEMBERSHIP, "app, user_id, group_id, incarnation"),
    (&CONVERSATION, "app, name"),
    (&OUTBOX_ROW, "app, name, incarnation"),
    (&DEAD_LETTER, "app, name, incarnation, number"),
];

const BEFORE_LIVES: usize = 4;

/// The order within a life. Messages are named as on the wire, so their numbers are compared as texts of digits: the
/// longer one is the larger one. Places in the history of a one-to-one conversation come newest first; `~` turns
/// the order round for every number.
const ORDER: &str = "life, \
     CASE kind WHEN 9 THEN 0 WHEN 1 THEN 1 WHEN 2 THEN 2 WHEN 3 THEN 3 WHEN 8 THEN 5 ELSE 4 END, \
     CASE WHEN kind = 2 THEN name END COLLATE \"C\", bytes, \
     CASE kind WHEN 9 THEN n1 WHEN 8 THEN ~n1 END, CASE kind WHEN 8 THEN ~n2 END, \
     CASE kind WHEN 8 THEN ~n3 END, \
     CASE WHEN kind BETWEEN 4 AND 7 THEN position('_' IN name) > 0 END, \
     CASE WHEN kind BETWEEN 4 AND 7 THEN length(split_part(name, '_', 1)) END, \
     CASE WHEN kind BETWEEN 4 AND 7 THEN split_part(name, '_', 1) END COLLATE \"C\", \
     CASE WHEN kind BETWEEN 4 AND 7 THEN length(split_part(name, '_', 2)) END, \
     CASE WHEN kind BETWEEN 4 AND 7 THEN split_part(name, '_', 2) END COLLATE \"C\", \
     CASE WHEN kind BETWEEN 4 AND 7 THEN length(split_part(name, '_', 3)) END, \
     CASE WHEN kind BETWEEN 4 AND 7 THEN split_part(name, '_', 3) END COLLATE \"C\", \
     kind, key COLLATE \"C\"";

/// A row of a walk.
#[derive(Debug)]
pub struct Found {
    /// The row, or why it is none.
    pub entry: Result<(RowKey, Row), Unreadable>,
    /// Bytes that it took on its way.
    pub bytes: usize,
}

/// Columns that make no row.
#[derive(Debug)]
pub struct Unreadable {
    /// The key, if that much could be read.
    pub key: Option<RowKey>,
    /// Why not. Holds no text of a user.
    pub reason: String,
}

/// All rows of one snapshot. Holds a page, and some 50 bytes for each conversation.
///
/// What nodes commit meanwhile does not show and waits for nothing; the database keeps replaced rows until the walk is
/// dropped.
pub struct Walk {
    session: Session,
    /// Rows of other apps are left out.
    apps: Option<BTreeSet<AppId>>,
    /// The lives to walk with the homes that they lie under, if they are not all that there are.
    chosen: Option<BTreeMap<Incarnation, i64>>,
    /// Homes of the conversations that were met.
    homes: HashMap<Incarnation, i64>,
    stage: Stage,
    last: Option<RowKey>,
    approximate_rows: u64,
    unfinished: BTreeSet<AppId>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// A run of [`RUNS`], and whether its cursor is open.
    Run(usize, bool),
    /// Lives, whether the cursor over their numbers is open, and that over the rows of some of them.
    Lives(bool, bool),
    End,
}

impl Walk {
    /// A walk over everything, or over these apps, in a snapshot of its own that nothing is written in. Of an app, lives
    /// of conversations are found by the conversation's own row or by a debt.
    ///
    /// # Errors
    ///
    /// If the database can't be reached, or its schema is not one that this program can use.
    pub async fn begin(options: &PostgresOptions, apps: Option<BTreeSet<AppId>>) -> Result<Self, MoveError> {
        let mut session = connect(options).await?;
        run(&mut session, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let mut unfinished = unfinished(&mut session).await?;
        if let Some(apps) = &apps {
            unfinished.retain(|app| apps.contains(app));
        }
        let chosen = apps.is_some().then(BTreeMap::new);
        Ok(Self { unfinished, ..Self::within(session, apps, chosen).await? })
    }

    /// A walk in a transaction that was begun. Whoever gives the lives says where they lie.
    pub(crate) async fn within(
        mut session: Session,
        apps: Option<BTreeSet<AppId>>,
        chosen: Option<BTreeMap<Incarnation, i64>>,
    ) -> Result<Self, MoveError> {
        // Everything is wanted, so the plan for the first few rows is the wrong one.
        run(&mut session, "SET LOCAL cursor_tuple_fraction = 1").await?;
        let approximate_rows = approximate_rows(&mut session).await?;
        Ok(Self {
            session,
            apps,
            chosen,
            homes: HashMap::new(),
            stage: Stage::Run(0, false),
            last: None,
            approximate_rows,
            unfinished: BTreeSet::new(),
        })
    }

    /// About how many rows the database holds, by its own statistics; 0: nobody knows.
    pub const fn approximate_rows(&self) -> u64 {
        self.approximate_rows
    }

    /// The apps of which only a part is there, because they are being brought in or that was interrupted.
    pub const fn unfinished(&self) -> &BTreeSet<AppId> {
        &self.unfinished
    }

    pub(crate) fn into_session(self) -> Session {
        self.session
    }

    /// The next rows, never none; `None` behind the last ones.
    ///
    /// # Errors
    ///
    /// If the database can't be asked.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Found>>, MoveError> {
        loop {
            let rows = match self.stage {
                Stage::End => return Ok(None),
                Stage::Run(at, false) => {
                    let sql = self.run_of(at);
                    open(&mut self.session, "rows", &sql).await?;
                    self.stage = Stage::Run(at, true);
                    continue;
                }
                Stage::Run(..) | Stage::Lives(_, true) => fetch_rows(&mut self.session).await?,
                Stage::Lives(is_open, false) => {
                    self.next_lives(is_open).await?;
                    continue;
                }
            };
            if rows.is_empty() {
                run(&mut self.session, "CLOSE rows").await?;
                self.stage = match self.stage {
                    Stage::Lives(is_open, _) => Stage::Lives(is_open, false),
                    Stage::Run(at, _) if at + 1 == BEFORE_LIVES => Stage::Lives(false, false),
                    Stage::Run(at, _) if at + 1 < RUNS.len() => Stage::Run(at + 1, false),
                    Stage::Run(..) | Stage::End => Stage::End,
                };
                continue;
            }
            let found: Vec<_> = rows.iter().filter_map(|row| self.take(row)).collect();
            if !found.is_empty() {
                return Ok(Some(found));
            }
        }
    }

    fn run_of(&self, at: usize) -> String {
        let (kind, order) = RUNS[at];
        let select = kind.select_with_home();
        // The key of a debt holds its app, and is taken apart here.
        let filter = match &self.apps {
            Some(apps) if kind.table != DEBT.table => format!(" WHERE app = ANY({})", array(apps)),
            _ => String::new(),
        };
        format!("{select}{filter} ORDER BY {order}")
    }

    /// Opens the cursor over the rows of the next lives.
    async fn next_lives(&mut self, is_open: bool) -> Result<(), MoveError> {
        let mut lives = Vec::new();
        if let Some(chosen) = &mut self.chosen {
            while lives.len() < LIVES
                && let Some((life, home)) = chosen.pop_first()
            {
                lives.push((home, signed(life)));
            }
        } else {
            if !is_open {
                open_lives(&mut self.session).await?;
            }
            lives = fetch_lives(&mut self.session).await?;
        }
        if lives.is_empty() {
            self.stage = Stage::Run(BEFORE_LIVES, false);
            return Ok(());
        }
        let (homes, numbers): (Vec<_>, Vec<_>) = lives.into_iter().unzip();
        let parts = WITHIN.map(|kind| {
            let select = kind.select_with_home();
            format!(
                "SELECT found.* FROM unnest('{{{}}}'::bigint[], '{{{}}}'::bigint[]) AS wanted (w_gkey, w_incarnation), \
                 LATERAL ({select} WHERE gkey = w_gkey AND incarnation = w_incarnation OFFSET 0) AS found",
                list(&homes),
                list(&numbers)
            )
        });
        let sql = format!("SELECT * FROM ({}) AS everything ORDER BY {ORDER}", parts.join(" UNION ALL "));
        open(&mut self.session, "rows", &sql).await?;
        self.stage = Stage::Lives(true, true);
        Ok(())
    }

    /// `None`: a debt of another app.
    fn take(&mut self, row: &Answered) -> Option<Found> {
        let bytes = row.raw_size_bytes();
        let unreadable = |key, reason: &str| Some(Err(Unreadable { key, reason: reason.to_owned() }));
        let entry = match Shape::read(row) {
            Err(error) => {
                let reason = match error {
                    StoreError::Unreadable { reason } => reason,
                    other => other.to_string(),
                };
                unreadable(Shape::key(row), &reason)
            }
            Ok((key, row_of_key)) => {
                if !self.is_wanted(&key) {
                    return None;
                }
                if self.last.as_ref().is_some_and(|last| Position::of(last) >= Position::of(&key)) {
                    unreadable(Some(key), "it is there twice, or not in its place")
                } else {
                    self.last = Some(key.clone());
                    self.note(&key, &row_of_key);
                    let home = match &key {
                        RowKey::Within(life, _) | RowKey::Event(life, _) => self.homes.get(life).copied(),
                        key => home_of(key),
                    };
                    let is_home = home.is_none_or(|home| row.try_get(HOME).is_ok_and(|of: i64| of == home));
                    if is_home {
                        Some(Ok((key, row_of_key)))
                    } else {
                        unreadable(
                            Some(key),
                            "it lies under the key of another home, where nobody looks for it",
                        )
                    }
                }
            }
        };
        entry.map(|entry| Found { entry, bytes })
    }

    fn is_wanted(&self, key: &RowKey) -> bool {
        match (key, &self.apps) {
            (RowKey::Debt(debt), Some(apps)) => apps.contains(&app_of(&debt.task)),
            _ => true,
        }
    }

    /// Takes note of where the rows of a life lie.
    fn note(&mut self, key: &RowKey, row: &Row) {
        let (incarnation, home) = match (key, row) {
            (RowKey::Conversation(id), Row::Group(group)) => (group.incarnation, conversation_key(id)),
            (RowKey::Conversation(id), Row::Direct(direct)) => (direct.incarnation, conversation_key(id)),
            (RowKey::Debt(debt), _) => match conversation_of_task(&debt.task) {
                Some((id, incarnation)) => (incarnation, conversation_key(id)),
                None => return,
            },
            _ => return,
        };
        self.homes.insert(incarnation, home);
        if let Some(chosen) = &mut self.chosen {
            chosen.insert(incarnation, home);
        }
    }
}

impl std::fmt::Debug for Walk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walk").field("apps", &self.apps).finish_non_exhaustive()
    }
}

pub(crate) fn app_of(task: &Task) -> AppId {
    match task {
        Task::Forsake(account, _) => account.app,
        Task::Announce(id, ..)
        | Task::Reap(id, _)
        | Task::Strip(id, ..)
        | Task::ForgetSend(id, ..)
        | Task::TrimEvents(id, _) => id.app,
    }
}

/// The life of a conversation that a debt is about.
fn conversation_of_task(task: &Task) -> Option<(&ConversationId, Incarnation)> {
    match task {
        Task::Announce(id, incarnation, _)
        | Task::Reap(id, incarnation)
        | Task::Strip(id, incarnation, _)
        | Task::ForgetSend(id, incarnation, _)
        | Task::TrimEvents(id, incarnation) => Some((id, *incarnation)),
        Task::Forsake(..) => None,
    }
}

/// The same as its home and its number as they are stored.
pub(crate) fn life_of_task(task: &Task) -> Option<(i64, i64)> {
    conversation_of_task(task).map(|(id, incarnation)| (conversation_key(id), signed(incarnation)))
}

pub(crate) async fn open(session: &mut Session, cursor: &str, sql: &str) -> Result<(), MoveError> {
    run(session, format!("DECLARE {cursor} NO SCROLL CURSOR FOR {sql}")).await
}

async fn fetch_rows(session: &mut Session) -> Result<Vec<Answered>, MoveError> {
    ask(session, vec![Piece::Prepared("FETCH 256 FROM rows".into(), Vec::new())]).await
}

/// Opens a cursor over all lives of which there is any row, by number.
pub(crate) async fn open_lives(session: &mut Session) -> Result<(), MoveError> {
    let parts = WITHIN.map(|kind| format!("SELECT gkey, incarnation FROM {}", kind.table));
    let sql = format!("{} ORDER BY incarnation, gkey", parts.join(" UNION "));
    // Everything is read in any case, and the order of an index is not that of the disk.
    run(session, "SET LOCAL enable_seqscan = on").await?;
    open(session, "lives", &sql).await?;
    run(session, "SET LOCAL enable_seqscan = off").await
}

/// The next lives: their homes and numbers as they are stored. None behind the last ones.
pub(crate) async fn fetch_lives(session: &mut Session) -> Result<Vec<(i64, i64)>, MoveError> {
    let rows = ask(session, vec![Piece::Prepared("FETCH 256 FROM lives".into(), Vec::new())]).await?;
    let read = |row: Answered| Ok((row.try_get(0)?, row.try_get(1)?));
    let lives: Result<Vec<_>, tokio_postgres::Error> = rows.into_iter().map(read).collect();
    lives.map_err(|error| MoveError::Refused { reason: error.to_string() })
}

/// The life of this stored number.
pub(crate) fn life(number: i64) -> Incarnation {
    life_of(number)
}

async fn approximate_rows(session: &mut Session) -> Result<u64, MoveError> {
    let tables = RUNS.iter().map(|(kind, _)| *kind).chain(WITHIN);
    let tables = tables.map(|kind| format!("'{}'::regclass", kind.table)).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint FROM pg_class WHERE oid IN ({tables})"
    );
    let rows = ask(session, vec![Piece::Prepared(sql.into(), Vec::new())]).await?;
    Ok(rows.first().and_then(|row| row.try_get::<_, i64>(0).ok()).unwrap_or_default().unsigned_abs())
}

/// Apps as an array in a statement.
pub(crate) fn array(apps: &BTreeSet<AppId>) -> String {
    let apps: Vec<_> = apps.iter().map(|app| i64::from(app.get())).collect();
    format!("'{{{}}}'::bigint[]", list(&apps))
}

fn list(numbers: &[i64]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
