//! Rows brought into a database: in batches, each with the note of how far it goes in the same transaction, so that
//! whoever was interrupted goes on behind the last batch.
//!
//! What is owed comes last, in one transaction with the comparison of everything: nodes that serve other apps pay any
//! debt that they find, and would pay those of half a conversation.

use std::collections::{BTreeMap, BTreeSet};

use sidenote_core::debt::Debt;
use sidenote_core::ids::{AppId, ConversationId, Incarnation};
use sidenote_core::rows::{Row, RowKey};
use sidenote_store::StoreError;
use sidenote_store::audit::Place;

use crate::bulk::{Batch, MoveError, ask, connect, refused, run};
use crate::home::{conversation_key, home_of, signed};
use crate::options::PostgresOptions;
use crate::session::{Param, Piece, Session};
use crate::shape::{ACCOUNT_ROW, CONVERSATION, DEAD_LETTER, DEBT, MEMBERSHIP, OUTBOX_ROW, Shape};
use crate::store::PostgresStore;
use crate::walk::{Walk, app_of, array, fetch_lives, life, open_lives};

/// Where it is noted what is being brought in, and, as long as it is, the lives that no conversation's row leads to. Made by
/// the first import, as nothing else needs it.
const IMPORTS: &str = "CREATE TABLE IF NOT EXISTS imports (app bigint PRIMARY KEY, file text NOT NULL, \
     rows_done bigint NOT NULL, began_at timestamptz NOT NULL DEFAULT now(), finished_at timestamptz); \
     CREATE TABLE IF NOT EXISTS import_lives (file text NOT NULL, gkey bigint NOT NULL, incarnation bigint NOT NULL)";

/// What is to be brought in.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// A text that tells it from everything else.
    pub file: String,
    /// All apps of which there are rows.
    pub apps: BTreeSet<AppId>,
    /// All lives of which there are rows, with the [homes](home_key) that they lie under.
    pub lives: BTreeMap<Incarnation, i64>,
    /// Of these lives, those that are over: no conversation among the rows has them.
    pub over: BTreeSet<Incarnation>,
}

/// The key of a conversation's home, under which everything of its lives lies.
pub fn home_key(id: &ConversationId) -> i64 {
    conversation_key(id)
}

/// How a load begins.
#[derive(Debug)]
pub enum Begun {
    /// With rows to be put.
    Loader(Box<Loader>),
    /// It was finished before, at this time as the database writes it.
    Before(String),
}

/// Brings rows into a database. Holds a batch, and what is owed.
pub struct Loader {
    session: Session,
    load: Load,
    batch: Batch,
    /// Rows that were put, without what is owed.
    seen: u64,
    /// Of them, those that are committed.
    done: u64,
    owed: Vec<RowKey>,
}

impl Loader {
    /// Begins, or goes on with what was interrupted.
    ///
    /// # Errors
    ///
    /// If the database can't be used, or holds something of these apps that is not of this file.
    pub async fn begin(options: &PostgresOptions, load: Load) -> Result<Begun, MoveError> {
        let mut session = connect(options).await?;
        make_imports(&mut session).await?;
        run(&mut session, "BEGIN; LOCK TABLE imports IN SHARE ROW EXCLUSIVE MODE").await?;
        let mut done = 0;
        match before(&mut session, &load).await? {
            Before::Unfinished(rows) => done = rows,
            Before::Finished(when) => match refuse_overlap(&mut session, &load).await {
                Err(MoveError::Overlap { .. }) => return Ok(Begun::Before(when)),
                other => {
                    other?;
                    note(&mut session, &load).await?;
                }
            },
            Before::Nothing => {
                refuse_overlap(&mut session, &load).await?;
                note(&mut session, &load).await?;
            }
        }
        run(&mut session, "COMMIT").await?;
        let loader = Self { session, load, batch: Batch::default(), seen: 0, done, owed: Vec::new() };
        Ok(Begun::Loader(Box::new(loader)))
    }

    /// Rows that an interrupted load has left, without what is owed.
    pub const fn resumes_at(&self) -> u64 {
        self.done
    }

    /// How many other connections of nodes there are to this database now, as far as it tells.
    pub async fn other_connections(&mut self) -> u64 {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sidenote' \
             AND datname = current_database() AND pid <> pg_backend_pid()";
        let rows = ask(&mut self.session, vec![Piece::Prepared(sql.into(), Vec::new())]).await;
        let count = rows.ok().and_then(|rows| rows.first().and_then(|row| row.try_get::<_, i64>(0).ok()));
        count.unwrap_or_default().unsigned_abs()
    }

    /// Takes the next row. They come in the same order each time, from the first one on.
    ///
    /// # Errors
    ///
    /// If a batch can't be committed, or the row can't be kept in such a database.
    pub async fn put(&mut self, key: RowKey, row: &Row) -> Result<(), MoveError> {
        if matches!(key, RowKey::Debt(_)) {
            self.owed.push(key);
            return Ok(());
        }
        self.seen += 1;
        if self.seen <= self.done {
            return Ok(());
        }
        let home = match &key {
            RowKey::Within(incarnation, _) | RowKey::Event(incarnation, _) => {
                let home = self.load.lives.get(incarnation).copied();
                home.ok_or_else(|| MoveError::Unfit {
                    place: Box::new(Place::of(&key)),
                    reason: "nothing says which conversation it belongs to".to_owned(),
                })?
            }
            key => home_of(key).unwrap_or_default(),
        };
        self.batch.add(home, &key, row)?;
        if self.batch.is_full() { self.commit().await } else { Ok(()) }
    }

    async fn commit(&mut self) -> Result<(), MoveError> {
        let batch = std::mem::take(&mut self.batch);
        let rows = batch.rows() as u64;
        if rows == 0 {
            return Ok(());
        }
        let mut pieces = vec![Piece::Plain("BEGIN".into())];
        pieces.extend(batch.pieces());
        pieces.push(Piece::Prepared(
            "UPDATE imports SET rows_done = $1 WHERE file = $2 AND rows_done = $3 AND finished_at IS NULL RETURNING app"
                .into(),
            vec![number(self.done + rows), Box::new(self.load.file.clone()), number(self.done)],
        ));
        self.session.prepare(&pieces).await?;
        self.session.opened();
        let noted = ask(&mut self.session, pieces).await.map_err(raced)?;
        if noted.len() != self.load.apps.len() {
            return Err(MoveError::Raced);
        }
        run(&mut self.session, "COMMIT").await?;
        self.session.closed();
        self.done += rows;
        Ok(())
    }

    /// Behind the last row: begins the last transaction, with what is owed, and gives a walk over everything that is now
    /// there of these apps. Nothing of it holds before [`Loaded::finish`].
    ///
    /// # Errors
    ///
    /// If the database refuses, or is lost.
    pub async fn compare(mut self) -> Result<Loaded, MoveError> {
        self.commit().await?;
        run(&mut self.session, "BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
        let mut batch = Batch::default();
        for key in std::mem::take(&mut self.owed) {
            batch.add(home_of(&key).unwrap_or_default(), &key, &Row::Debt)?;
            if batch.is_full() {
                ask(&mut self.session, std::mem::take(&mut batch).pieces()).await?;
            }
        }
        ask(&mut self.session, batch.pieces()).await?;
        let Load { file, apps, lives, .. } = self.load;
        let count = apps.len();
        let walk = Walk::within(self.session, Some(apps), Some(lives)).await?;
        Ok(Loaded { walk, file, count, done: self.done })
    }
}

/// What was brought in, before it holds.
#[derive(Debug)]
pub struct Loaded {
    /// All of it, and whatever else there is of these apps.
    pub walk: Walk,
    file: String,
    count: usize,
    done: u64,
}

impl Loaded {
    /// Makes it hold.
    ///
    /// # Errors
    ///
    /// If the database refuses, or is lost. In the second case it may hold or not; the same load, begun again, tells.
    pub async fn finish(self) -> Result<(), MoveError> {
        let mut session = self.walk.into_session();
        let sql = "UPDATE imports SET finished_at = now() \
             WHERE file = $1 AND rows_done = $2 AND finished_at IS NULL RETURNING app";
        let pieces = vec![
            Piece::Prepared(
                "DELETE FROM import_lives WHERE file = $1".into(),
                vec![Box::new(self.file.clone())],
            ),
            Piece::Prepared(sql.into(), vec![Box::new(self.file), number(self.done)]),
        ];
        let noted = ask(&mut session, pieces).await.map_err(raced)?;
        if noted.len() != self.count {
            return Err(MoveError::Raced);
        }
        run(&mut session, "COMMIT").await
    }
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("load", &self.load).finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Apps of which only a part is there, because they are being brought in or that was interrupted.
    ///
    /// # Errors
    ///
    /// If the database can't be asked.
    pub async fn unfinished_imports(&self) -> Result<BTreeSet<AppId>, StoreError> {
        let mut borrowed = self.pool().get().await?;
        unfinished(&mut borrowed.session)
            .await
            .map_err(|error| StoreError::Busy { reason: error.to_string() })
    }
}

/// The same on a connection.
pub(crate) async fn unfinished(session: &mut Session) -> Result<BTreeSet<AppId>, MoveError> {
    if !has_imports(session).await? {
        return Ok(BTreeSet::new());
    }
    let sql = "SELECT app FROM imports WHERE finished_at IS NULL";
    let rows = ask(session, vec![Piece::Prepared(sql.into(), Vec::new())]).await?;
    Ok(rows.iter().filter_map(|row| app(row.try_get(0).ok()?)).collect())
}

/// Makes the tables of notes, if they are not there.
pub(crate) async fn make_imports(session: &mut Session) -> Result<(), MoveError> {
    let sql = "SELECT to_regclass('imports') IS NOT NULL AND to_regclass('import_lives') IS NOT NULL";
    let rows = ask(session, vec![Piece::Prepared(sql.into(), Vec::new())]).await?;
    if rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or_default() {
        return Ok(());
    }
    // Two who create a table at the same time may get in each other's way; then it is there.
    match run(session, IMPORTS).await {
        Err(MoveError::Refused { .. }) => run(session, IMPORTS).await.map_err(|error| match error {
            MoveError::Refused { reason } if reason.contains("(42501)") => MoveError::Refused {
                reason: format!(
                    "{reason}; an import notes how far it is in tables that it makes, so run it as the role that owns the \
                     other tables"
                ),
            },
            other => other,
        }),
        done => done,
    }
}

pub(crate) async fn has_imports(session: &mut Session) -> Result<bool, MoveError> {
    let sql = "SELECT to_regclass('imports') IS NOT NULL";
    let rows = ask(session, vec![Piece::Prepared(sql.into(), Vec::new())]).await?;
    Ok(rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or_default())
}

enum Before {
    Nothing,
    /// Rows that are there, without what is owed.
    Unfinished(u64),
    /// When.
    Finished(String),
}

/// What is noted of earlier imports of these apps.
async fn before(session: &mut Session, load: &Load) -> Result<Before, MoveError> {
    let sql = "SELECT app, file, rows_done, finished_at::text FROM imports WHERE app = ANY($1) ORDER BY app";
    let apps: Vec<i64> = load.apps.iter().map(|app| i64::from(app.get())).collect();
    let rows = ask(session, vec![Piece::Prepared(sql.into(), vec![Box::new(apps)])]).await?;
    let mut same = Vec::new();
    for row in rows {
        let read = || -> Result<_, tokio_postgres::Error> {
            Ok((row.try_get(0)?, row.try_get::<_, String>(1)?, row.try_get(2)?, row.try_get(3)?))
        };
        let (of, file, done, finished): (i64, _, i64, Option<String>) =
            read().map_err(|error| MoveError::Refused { reason: error.to_string() })?;
        if file == load.file {
            same.push((done.unsigned_abs(), finished));
        } else if finished.is_none()
            && let Some(app) = app(of)
        {
            return Err(MoveError::OtherFile { app });
        }
    }
    Ok(match same.pop() {
        Some((done, finished)) if same.len() + 1 == load.apps.len() => {
            finished.map_or(Before::Unfinished(done), Before::Finished)
        }
        _ => Before::Nothing,
    })
}

/// Notes that this is being brought in.
async fn note(session: &mut Session, load: &Load) -> Result<(), MoveError> {
    let apps: Vec<i64> = load.apps.iter().map(|app| i64::from(app.get())).collect();
    let forget = "DELETE FROM imports WHERE app = ANY($1)";
    let note = "INSERT INTO imports (app, file, rows_done) SELECT unnest($1::bigint[]), $2, 0";
    let over = load.over.iter().filter_map(|life| Some((*load.lives.get(life)?, signed(*life))));
    let (homes, lives): (Vec<i64>, Vec<i64>) = over.unzip();
    let note_lives = "INSERT INTO import_lives (file, gkey, incarnation) SELECT $1::text, * FROM unnest($2::bigint[], $3::bigint[])";
    let file = || -> Param { Box::new(load.file.clone()) };
    let pieces = vec![
        Piece::Prepared(forget.into(), vec![Box::new(apps.clone())]),
        Piece::Prepared(note.into(), vec![Box::new(apps), file()]),
        Piece::Prepared("DELETE FROM import_lives WHERE file = $1".into(), vec![file()]),
        Piece::Prepared(note_lives.into(), vec![file(), Box::new(homes), Box::new(lives)]),
    ];
    ask(session, pieces).await.map(drop)
}

/// Looks for anything that is in the way.
async fn refuse_overlap(session: &mut Session, load: &Load) -> Result<(), MoveError> {
    let overlap = |key: &RowKey, of| MoveError::Overlap { app: of, place: Box::new(Place::of(key)) };
    for kind in [&ACCOUNT_ROW, &MEMBERSHIP, &CONVERSATION, &OUTBOX_ROW, &DEAD_LETTER] {
        let sql = format!("{} WHERE app = ANY({}) LIMIT 1", kind.select(), array(&load.apps));
        let rows = ask(session, vec![Piece::Prepared(sql.into(), Vec::new())]).await?;
        if let Some(row) = rows.first() {
            let key = Shape::key(row);
            let of = row.try_get::<_, i64>("n1").ok().and_then(app);
            let (Some(key), Some(of)) = (key, of) else {
                let reason = format!("a row of {} can't be read; see `sidenote check`", kind.table);
                return Err(MoveError::Refused { reason });
            };
            return Err(overlap(&key, of));
        }
    }
    if let Some(debt) = debts_of(session, &load.apps).await?.into_iter().next() {
        let of = app_of(&debt.task);
        return Err(overlap(&RowKey::Debt(debt), of));
    }
    open_lives(session).await?;
    loop {
        let lives = fetch_lives(session).await?;
        if lives.is_empty() {
            return run(session, "CLOSE lives").await;
        }
        let known = lives.iter().map(|(_, number)| life(*number)).find(|life| load.lives.contains_key(life));
        if let Some(incarnation) = known {
            let place = Box::new(Place { incarnation: Some(incarnation), ..Place::default() });
            return Err(MoveError::Incarnation { place });
        }
    }
}

/// What is owed in these apps.
pub(crate) async fn debts_of(session: &mut Session, apps: &BTreeSet<AppId>) -> Result<Vec<Debt>, MoveError> {
    let (mut after, mut found): (Vec<u8>, _) = (Vec::new(), Vec::new());
    let sql = format!("{} WHERE debt > $1 ORDER BY debt LIMIT 1000", DEBT.select());
    loop {
        let piece = Piece::Prepared(sql.clone().into(), vec![Box::new(after.clone())]);
        let rows = ask(session, vec![piece]).await?;
        let Some(last) = rows.last() else { return Ok(found) };
        after = last.try_get("bytes").map_err(refused)?;
        found.extend(rows.iter().filter_map(Shape::key).filter_map(|key| match key {
            RowKey::Debt(debt) if apps.contains(&app_of(&debt.task)) => Some(debt),
            _ => None,
        }));
    }
}

fn app(number: i64) -> Option<AppId> {
    u32::try_from(number).ok().map(AppId::new)
}

fn number(number: u64) -> Param {
    Box::new(i64::try_from(number).unwrap_or(i64::MAX))
}

/// A row that is there already was written by somebody else.
fn raced(error: MoveError) -> MoveError {
    match error {
        MoveError::Refused { reason } if reason.contains("(23505)") || reason.contains("(40001)") => {
            MoveError::Raced
        }
        other => other,
    }
}
