//! The schema of the database: bringing it up to date, and checking it before it is used.
//!
//! A schema is changed in two releases. The first adds what is new in a form that the program before can live with
//! (`oldest_program` stays); nodes of both run side by side. The second takes away what nobody needs any more.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::error::OpenError;
use crate::options::PostgresOptions;
use crate::pool::Pool;
use crate::session::{Fault, Piece, Session};

/// One step from a schema to the next.
struct Migration {
    version: u32,
    /// The oldest program, by the schema that it knows, that can use the database afterwards.
    oldest_program: u32,
    sql: &'static str,
    index: Option<Index>,
}

/// The index that a step makes, and nothing else. Where nodes may serve already that is done while they write, for which it
/// can't be a transaction.
struct Index {
    table: &'static str,
    name: &'static str,
}

const MIGRATIONS: [Migration; 3] = [
    Migration {
        version: 1,
        oldest_program: 1,
        sql: include_str!("../migrations/0001-first.sql"),
        index: None,
    },
    // Only quicker: a program works without it.
    Migration {
        version: 2,
        oldest_program: 1,
        sql: include_str!("../migrations/0002-events-by-time.sql"),
        index: Some(Index { table: "events", name: "events_by_time" }),
    },
    Migration {
        version: 3,
        oldest_program: 1,
        sql: include_str!("../migrations/0003-shared.sql"),
        index: None,
    },
];

/// The newest schema that this program knows.
pub const KNOWN_SCHEMA: u32 = MIGRATIONS[MIGRATIONS.len() - 1].version;

/// The oldest schema that this program can use.
pub const NEEDED_SCHEMA: u32 = 3;

/// SQL that spreads the tables over the workers of a Citus cluster, for an operator to read and
/// [`distribute`] to run.
pub const CITUS: &str = include_str!("../migrations/citus.sql");

const LOCK_NOT_AVAILABLE: &str = "55P03";

/// How long a step waits for a table. Everybody else who wants it waits behind.
const LONGEST_WAIT: Duration = Duration::from_millis(1500);

const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS schema_version (\
     version bigint PRIMARY KEY, oldest_program bigint NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())";

/// What [`migrate`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The schema that was there; 0 for an empty database.
    pub from: u32,
    /// The schema that is there now.
    pub to: u32,
}

/// Brings the schema up to date, or leaves it alone if it is. Each step is a transaction of its own, or makes one index, and
/// takes as long as it takes. Two who do it at the same time follow each other: the later one waits for as long as the
/// earlier one is at it. Nodes may serve meanwhile: a step that doesn't get a table within half the time that their requests
/// wait for a lock ([`PostgresOptions::lock_timeout`]), a second and a half at most, lets them pass and is tried again until it
/// does.
///
/// # Errors
///
/// If the database can't be reached, has another encoding than UTF8, refuses a statement, or holds a newer schema.
pub async fn migrate(options: &PostgresOptions) -> Result<Migrated, OpenError> {
    let mut session = connect(options).await?;
    check_encoding(&mut session).await?;
    // Two who create the table at the same time may get in each other's way; then it is there.
    if run(&mut session, VERSIONS).await.is_err() {
        carry_out(&mut session, VERSIONS).await.map_err(|fault| not_made(&fault))?;
    }
    let mut from = None;
    loop {
        take_turn(&mut session).await?;
        let found = version(&mut session).await?;
        let from = *from.get_or_insert(found.version);
        refuse_newer(found)?;
        let Some(next) = MIGRATIONS.iter().find(|migration| migration.version > found.version) else {
            run(&mut session, "COMMIT").await?;
            return Ok(Migrated { from, to: found.version });
        };
        let Migration { version, oldest_program, sql, index } = next;
        let made = match index {
            Some(index) if from > 0 => {
                // It waits for every snapshot in use, so this transaction, which only holds the lock, may have none: any
                // further statement ends the one of the last question.
                run(&mut session, "SET LOCAL idle_in_transaction_session_timeout = 0").await?;
                make(options, index, sql).await?;
                true
            }
            _ => step(&mut session, sql, options.lock_timeout).await?,
        };
        if made {
            let note = "INSERT INTO schema_version (version, oldest_program) VALUES";
            run(&mut session, &format!("{note} ({version}, {oldest_program}); COMMIT")).await?;
        }
    }
}

/// Begins a transaction that nobody else who migrates has beside it, however long that takes. It does not wait in the lock: who
/// does has a snapshot, which would be waited for by whoever makes an index.
async fn take_turn(session: &mut Session) -> Result<(), OpenError> {
    loop {
        let begin =
            "BEGIN ISOLATION LEVEL READ COMMITTED; LOCK TABLE schema_version IN EXCLUSIVE MODE NOWAIT";
        match carry_out(session, begin).await {
            Err(fault) if fault.code() == Some(LOCK_NOT_AVAILABLE) => {
                run(session, "ROLLBACK").await?;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            taken => return taken.map_err(|fault| refused(&fault)),
        }
    }
}

/// Whether a step got the tables that it changes. If not, it is undone, and whoever waited behind it has passed.
async fn step(session: &mut Session, sql: &str, lock_timeout: Duration) -> Result<bool, OpenError> {
    let wait = (lock_timeout / 2).clamp(Duration::from_millis(1), LONGEST_WAIT);
    run(session, &format!("SET LOCAL lock_timeout = {}", wait.as_millis())).await?;
    match carry_out(session, sql).await {
        Ok(()) => {
            run(session, "SET LOCAL lock_timeout = 0").await?;
            Ok(true)
        }
        Err(fault) if fault.code() == Some(LOCK_NOT_AVAILABLE) => {
            tracing::warn!("somebody else holds a table that is to be changed; it is tried again");
            run(session, "ROLLBACK").await?;
            tokio::time::sleep(wait * 2).await;
            Ok(false)
        }
        Err(fault) => Err(refused(&fault)),
    }
}

/// Makes an index on a connection of its own, unless it is there. What a run that was broken off has left is of no use and is
/// made again.
async fn make(options: &PostgresOptions, index: &Index, sql: &str) -> Result<(), OpenError> {
    let Index { table, name } = index;
    let mut session = connect(options).await?;
    let found = rows(
        &mut session,
        format!(
            "SELECT indexrelid::regclass::text, indisvalid FROM pg_index JOIN pg_class ON oid = indexrelid \
             WHERE indrelid = '{table}'::regclass AND relname = '{name}'"
        ),
    )
    .await?;
    if let Some(row) = found.first() {
        let wrong = |error: tokio_postgres::Error| OpenError::Refused { reason: error.to_string() };
        if row.try_get(1).map_err(wrong)? {
            return Ok(());
        }
        let unfinished: &str = row.try_get(0).map_err(wrong)?;
        run(&mut session, &format!("DROP INDEX CONCURRENTLY {unfinished}")).await?;
    }
    run(&mut session, &sql.replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY")).await
}

/// Spreads the tables of an up-to-date schema over the workers of a Citus cluster: all that are not spread yet, or none.
/// So it can be run again after a later [`migrate`], and where the connection was lost before it had said what it did.
///
/// # Errors
///
/// If the database is no Citus coordinator, or refuses.
pub async fn distribute(options: &PostgresOptions) -> Result<(), OpenError> {
    let mut session = connect(options).await?;
    check(&mut session).await?;
    let found = rows(&mut session, DISTRIBUTED.to_owned()).await.map_err(|error| match error {
        OpenError::NoSchema => OpenError::Unsuitable { reason: NO_COORDINATOR.to_owned() },
        other => other,
    })?;
    let done: Vec<&str> = found.iter().filter_map(|row| row.try_get(0).ok()).collect();
    run(&mut session, "BEGIN").await?;
    let lines: Vec<_> = CITUS.lines().filter(|line| !line.starts_with("--")).collect();
    for statement in lines.join("\n").split(';').filter(|statement| !statement.trim().is_empty()) {
        let table = statement.split_once("_table('").and_then(|(_, rest)| rest.split('\'').next());
        if table.is_none_or(|table| !done.contains(&table)) {
            run(&mut session, statement).await?;
        }
    }
    run(&mut session, "COMMIT").await
}

/// Tables that a Citus coordinator has spread.
const DISTRIBUTED: &str = "SELECT relname::text FROM pg_class \
     WHERE oid IN (SELECT logicalrelid::oid FROM pg_dist_partition) AND pg_table_is_visible(oid)";

const NO_COORDINATOR: &str = "it is no Citus coordinator; `CREATE EXTENSION citus` makes it one";

/// A connection on which a step may take minutes, and a lock as long as somebody else's step. That the server is gone is
/// noticed all the same: TCP asks now and then whether it is there.
async fn connect(options: &PostgresOptions) -> Result<Session, OpenError> {
    let mut session = Pool::new(options)?.connect_patiently().await.map_err(|fault| refused(&fault))?;
    run(&mut session, "SET lock_timeout = 0").await?;
    Ok(session)
}

/// Whether this program can use the database as it is.
pub(crate) async fn check(session: &mut Session) -> Result<(), OpenError> {
    if setting(session, "synchronous_commit").await? == "off" {
        let reason = "synchronous_commit is off: an answered write could be lost; set it to on".to_owned();
        return Err(OpenError::Unsuitable { reason });
    }
    check_encoding(session).await?;
    let found = version(session).await?;
    refuse_newer(found)?;
    if found.version < NEEDED_SCHEMA {
        return Err(OpenError::OlderSchema { found: found.version, needed: NEEDED_SCHEMA });
    }
    Ok(())
}

/// Texts of callers are UTF-8. Any other encoding lacks some of their characters, or does not know where one ends.
async fn check_encoding(session: &mut Session) -> Result<(), OpenError> {
    let found = setting(session, "server_encoding").await?;
    if found == "UTF8" {
        return Ok(());
    }
    let reason = format!(
        "its encoding is {found}, which can't hold every text; make another one with `createdb --encoding=UTF8 \
         --template=template0`"
    );
    Err(OpenError::Unsuitable { reason })
}

async fn setting(session: &mut Session, name: &str) -> Result<String, OpenError> {
    let rows = rows(session, format!("SHOW {name}")).await?;
    Ok(rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or_default())
}

#[derive(Clone, Copy)]
struct Found {
    version: u32,
    oldest_program: u32,
}

fn refuse_newer(Found { version, oldest_program }: Found) -> Result<(), OpenError> {
    if oldest_program > KNOWN_SCHEMA {
        let (found, oldest_known, known) = (version, oldest_program, KNOWN_SCHEMA);
        return Err(OpenError::NewerSchema { found, oldest_known, known });
    }
    Ok(())
}

/// The schema of the database; 0 if only the table of versions is there.
async fn version(session: &mut Session) -> Result<Found, OpenError> {
    let text = "SELECT version, oldest_program FROM schema_version ORDER BY version DESC LIMIT 1";
    let rows = rows(session, text.to_owned()).await?;
    let number = |at| {
        rows.first().map_or(Ok(0), |row| {
            let number: i64 =
                row.try_get(at).map_err(|error| OpenError::Refused { reason: error.to_string() })?;
            u32::try_from(number).map_err(|error| OpenError::Refused { reason: error.to_string() })
        })
    };
    Ok(Found { version: number(0)?, oldest_program: number(1)? })
}

/// The number by which nodes of this database know each other's messages: when its first schema was made, to the
/// microsecond, and its name. So nothing has to be written for it, and a database that was restored beside the first one
/// under another name has another number.
pub(crate) async fn number(session: &mut Session) -> Result<u64, OpenError> {
    let text = "SELECT (extract(epoch FROM applied_at) * 1000000)::bigint, current_database()::text, \
         coalesce(current_schema()::text, '') FROM schema_version ORDER BY version LIMIT 1";
    let unreadable = |error: tokio_postgres::Error| OpenError::Refused { reason: error.to_string() };
    let rows = rows(session, text.to_owned()).await?;
    let row = rows.first().ok_or(OpenError::NoSchema)?;
    let made: i64 = row.try_get(0).map_err(unreadable)?;
    let [database, schema]: [&str; 2] =
        [row.try_get(1).map_err(unreadable)?, row.try_get(2).map_err(unreadable)?];
    Ok(xxh3_64(format!("{made}/{database}/{schema}").as_bytes()))
}

async fn rows(session: &mut Session, sql: String) -> Result<Vec<tokio_postgres::Row>, OpenError> {
    let pieces = vec![Piece::Prepared(sql.into(), Vec::new())];
    let answers = session.flush(pieces).await.map_err(|fault| missing_table(&fault))?;
    answers
        .into_iter()
        .next()
        .map_or_else(|| Ok(Vec::new()), |answer| answer.map_err(|fault| missing_table(&fault)))
}

async fn run(session: &mut Session, sql: &str) -> Result<(), OpenError> {
    carry_out(session, sql).await.map_err(|fault| refused(&fault))
}

async fn carry_out(session: &mut Session, sql: &str) -> Result<(), Fault> {
    let answers = session.flush(vec![Piece::Plain(sql.to_owned().into())]).await?;
    answers.into_iter().try_for_each(|answer| answer.map(drop))
}

fn missing_table(fault: &Fault) -> OpenError {
    if fault.code() == Some("42P01") { OpenError::NoSchema } else { refused(fault) }
}

/// Since PostgreSQL 15 only the owner of a database may make tables in it, unless others were told that they may.
fn not_made(fault: &Fault) -> OpenError {
    match refused(fault) {
        OpenError::Refused { reason } if fault.code() == Some("42501") => {
            let advice =
                "the role in the address has to own the database: `ALTER DATABASE NAME OWNER TO ROLE`";
            OpenError::Refused { reason: format!("{reason}; {advice}") }
        }
        other => other,
    }
}

fn refused(fault: &Fault) -> OpenError {
    match fault {
        Fault::Refused(_) => OpenError::Refused { reason: fault.to_string() },
        Fault::Lost(reason) => OpenError::Unreachable { reason: reason.clone() },
    }
}
