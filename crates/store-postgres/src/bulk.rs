//! Many rows of many homes at once, on a connection of their own: what walks and loads share.

use std::time::Duration;

use sidenote_core::ids::AppId;
use sidenote_core::rows::{Row, RowKey};
use sidenote_row_codec::encode_row;
use sidenote_store::StoreError;
use sidenote_store::audit::Place;
use thiserror::Error;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::changes::{TABLES, Table, cells};
use crate::error::OpenError;
use crate::options::PostgresOptions;
use crate::pool::Pool;
use crate::schema;
use crate::session::{Fault, Param, Piece, Session};

/// Rows that are written as one transaction.
const BATCH_ROWS: usize = 1000;

/// And bytes, about.
const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// How long one statement may take. The first page of a walk sorts everything of its kind.
const STATEMENT_TIMEOUT: Duration = Duration::from_hours(1);

/// How long a statement waits for a lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// Why rows were not walked, or not brought in. Every text is a sentence for the operator.
#[derive(Debug, Error)]
pub enum MoveError {
    /// The database can't be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The connection is gone.
    #[error("{reason}; run the same command again")]
    Lost {
        /// Why.
        reason: String,
    },
    /// The database refused a statement.
    #[error("the database refused a statement: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// A row can't be kept in such a database.
    #[error("{place}: {reason}")]
    Unfit {
        /// Which row.
        place: Box<Place>,
        /// Why not.
        reason: String,
    },
    /// Something of the app is there already.
    #[error(
        "the database holds something of app {app} already ({place}); import into another database, take other apps \
         out of the file with --app, or, if a node has made only the accounts of its administrators, take the app out of \
         the nodes' configuration and delete those with `DELETE FROM accounts WHERE app = {app}`"
    )]
    Overlap {
        /// The app.
        app: AppId,
        /// What was found first.
        place: Box<Place>,
    },
    /// A number that is given out once is there already.
    #[error(
        "a conversation of another app in the database has the same incarnation number as one in the file ({place}); \
         import into another database"
    )]
    Incarnation {
        /// Which one.
        place: Box<Place>,
    },
    /// Another file was begun.
    #[error(
        "an import of app {app} from another file was begun and not finished; import that file to its end first, or \
         give it up with `sidenote import --abandon --app {app}`"
    )]
    OtherFile {
        /// The app.
        app: AppId,
    },
    /// Somebody else is at it.
    #[error(
        "somebody else has changed what is noted of this import, or has written rows of its apps: another import of the same \
         file is running or has just finished, it was given up, or a node serves these apps; when that is over, run the same \
         command again"
    )]
    Raced,
    /// There is nothing to be given up.
    #[error("there is no import that was begun and not finished{}", of(*app))]
    NotBegun {
        /// The app that was asked for.
        app: Option<AppId>,
    },
    /// There is more than one thing to be given up.
    #[error(
        "several imports were begun and not finished, {}; say with --app which one is meant",
        apps.iter().map(|app| of(Some(*app)).trim_start().to_owned()).collect::<Vec<_>>().join(" and ")
    )]
    Several {
        /// Their apps.
        apps: Vec<AppId>,
    },
}

fn of(app: Option<AppId>) -> String {
    app.map_or_else(String::new, |app| format!(" of app {app}"))
}

/// An answer that can't be read.
pub(crate) fn refused(error: impl std::fmt::Display) -> MoveError {
    MoveError::Refused { reason: error.to_string() }
}

impl From<Fault> for MoveError {
    fn from(fault: Fault) -> Self {
        let reason = fault.to_string();
        match fault {
            Fault::Refused(_) => Self::Refused { reason },
            Fault::Lost(_) => Self::Lost { reason },
        }
    }
}

/// A connection for work that takes long, to a database whose schema is up to date.
pub(crate) async fn connect(options: &PostgresOptions) -> Result<Session, OpenError> {
    let options = PostgresOptions {
        statement_timeout: STATEMENT_TIMEOUT,
        lock_timeout: LOCK_TIMEOUT,
        ..options.clone()
    };
    let mut session = Pool::new(&options)?.connect_alone().await?;
    schema::check(&mut session).await?;
    Ok(session)
}

/// Sends all of this at once; the rows of the last piece.
pub(crate) async fn ask(
    session: &mut Session,
    pieces: Vec<Piece>,
) -> Result<Vec<tokio_postgres::Row>, MoveError> {
    let mut last = Vec::new();
    for answer in session.flush(pieces).await? {
        last = answer?;
    }
    Ok(last)
}

/// Statements without parameters or rows.
pub(crate) async fn run(session: &mut Session, sql: impl Into<String>) -> Result<(), MoveError> {
    ask(session, vec![Piece::Plain(sql.into().into())]).await.map(drop)
}

/// Rows that are written together, column by column.
#[derive(Default)]
pub(crate) struct Batch {
    tables: [Vec<Vec<Cell>>; TABLES.len()],
    rows: usize,
    bytes: usize,
}

impl Batch {
    /// Takes a row that lies under the home with this key.
    pub(crate) fn add(&mut self, home: i64, key: &RowKey, row: &Row) -> Result<(), MoveError> {
        let (table, cells) = cells(key, row).map_err(|error| unfit(key, error))?;
        let columns = &mut self.tables[table];
        columns.resize_with(1 + TABLES[table].columns.len(), Vec::new);
        let home: Param = Box::new(home);
        for (column, cell) in columns.iter_mut().zip(std::iter::once(home).chain(cells)) {
            column.push(Cell(cell));
        }
        self.rows += 1;
        self.bytes += encode_row(row).len();
        Ok(())
    }

    pub(crate) const fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// One statement for each table. None of the rows may be there yet.
    pub(crate) fn pieces(self) -> Vec<Piece> {
        let filled = TABLES.iter().zip(self.tables).filter(|(_, columns)| !columns.is_empty());
        let insert = |(table, columns): (&Table, Vec<Vec<Cell>>)| {
            let params = columns.into_iter().map(|column| -> Param { Box::new(column) });
            Piece::Prepared(insert(table).into(), params.collect())
        };
        filled.map(insert).collect()
    }
}

/// Whether such a database can keep this row.
///
/// # Errors
///
/// If it holds a number that is too large.
pub fn fits(key: &RowKey, row: &Row) -> Result<(), MoveError> {
    cells(key, row).map(drop).map_err(|error| unfit(key, error))
}

fn unfit(key: &RowKey, error: StoreError) -> MoveError {
    let reason = match error {
        StoreError::Unreadable { reason } => reason,
        other => other.to_string(),
    };
    MoveError::Unfit { place: Box::new(Place::of(key)), reason }
}

fn insert(table: &Table) -> String {
    let Table { name, home, columns, .. } = table;
    let arrays = columns.iter().enumerate().map(|(at, column)| format!("${}::{}[]", at + 2, type_of(column)));
    let (columns, arrays) = (columns.join(", "), arrays.collect::<Vec<_>>().join(", "));
    format!("INSERT INTO {name} ({home}, {columns}) SELECT * FROM unnest($1::bigint[], {arrays})")
}

/// The type of a column; those of one name have one type in all tables.
fn type_of(column: &str) -> &'static str {
    match column {
        "data" | "fingerprint" | "debt" => "bytea",
        "recalled" => "boolean",
        "user_id" | "group_id" | "name" | "kind" | "owner" | "role" | "message" | "sender" | "key"
        | "value" | "what" | "task" | "reason" => "text",
        _ => "bigint",
    }
}

/// One value of a column.
#[derive(Debug)]
struct Cell(Param);

impl ToSql for Cell {
    fn to_sql(
        &self,
        of: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.0.to_sql_checked(of, out)
    }

    fn accepts(_: &Type) -> bool {
        // The value itself knows; it is asked when it is written.
        true
    }

    to_sql_checked!();
}
