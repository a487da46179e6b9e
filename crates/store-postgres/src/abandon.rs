//! An import that was begun and will not be finished: what is there of it is taken away again, all of it or nothing.
//!
//! Before it began there was nothing of its apps, and nobody serves them until it is done, so everything of these apps goes.
//! What lies within a life of a conversation says nothing of an app. It is found by the conversation's row, which was brought
//! in before it, by a debt, or by the note that the import made of lives of which neither is there yet.

use std::collections::BTreeSet;

use sidenote_core::ids::AppId;
use sidenote_core::rows::RowKey;

use crate::bulk::{MoveError, ask, connect, refused, run};
use crate::fetch::debt_bytes;
use crate::home::home_of;
use crate::load::{debts_of, has_imports, make_imports};
use crate::options::PostgresOptions;
use crate::session::{Param, Piece, Session};
use crate::shape::{ACCOUNT_ROW, CONVERSATION, DEAD_LETTER, MEMBERSHIP, OUTBOX_ROW};
use crate::walk::{WITHIN, array, fetch_lives, life_of_task, open};

/// An import that was begun and not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abandoned {
    /// The apps that it was to bring in.
    pub apps: BTreeSet<AppId>,
    /// Rows that were there of it.
    pub rows: u64,
}

/// Takes away what is there of the import that was begun with this `app`, and of all other apps that it was to bring in; of
/// the only one if no app is given. It is one transaction. Whoever is still at that import fails, and leaves nothing.
///
/// # Errors
///
/// If there is no such import, there are several, or the database can't be used. In each case nothing was changed, but for
/// a connection that is lost in the last moment: then it is given up or not, and the same call tells.
pub async fn abandon(options: &PostgresOptions, app: Option<AppId>) -> Result<Abandoned, MoveError> {
    let mut session = connect(options).await?;
    if !has_imports(&mut session).await? {
        return Err(MoveError::NotBegun { app });
    }
    make_imports(&mut session).await?;
    // Whoever is at it has to wait before its next batch, and finds its note gone then.
    run(&mut session, "BEGIN; LOCK TABLE imports IN SHARE ROW EXCLUSIVE MODE").await?;
    let abandoned = begun(&mut session, app).await?;
    remove(&mut session, &abandoned.apps).await?;
    run(&mut session, "COMMIT").await?;
    Ok(abandoned)
}

/// The import that is meant.
async fn begun(session: &mut Session, app: Option<AppId>) -> Result<Abandoned, MoveError> {
    let sql = "SELECT app, file, rows_done FROM imports WHERE finished_at IS NULL ORDER BY app";
    let rows = ask(session, vec![Piece::Prepared(sql.into(), Vec::new())]).await?;
    let mut notes: Vec<(AppId, String, u64)> = Vec::new();
    for row in rows {
        let read = || -> Result<(i64, String, i64), tokio_postgres::Error> {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
        };
        let (of, file, done) = read().map_err(refused)?;
        let of = u32::try_from(of).map_err(refused)?;
        notes.push((AppId::new(of), file, done.unsigned_abs()));
    }
    let meant = notes.iter().find(|(of, ..)| app.is_none_or(|app| app == *of));
    let Some((_, file, rows)) = meant.cloned() else { return Err(MoveError::NotBegun { app }) };
    if app.is_none() && notes.iter().any(|(_, other, _)| *other != file) {
        return Err(MoveError::Several { apps: notes.iter().map(|(of, ..)| *of).collect() });
    }
    notes.retain(|(_, other, _)| *other == file);
    Ok(Abandoned { apps: notes.into_iter().map(|(of, ..)| of).collect(), rows })
}

async fn remove(session: &mut Session, apps: &BTreeSet<AppId>) -> Result<(), MoveError> {
    let mut of_debts = Vec::new();
    for debt in debts_of(session, apps).await? {
        let key = RowKey::Debt(debt.clone());
        let home = home_of(&key).unwrap_or_default();
        of_debts.extend(life_of_task(&debt.task));
        let params: Vec<Param> = vec![Box::new(home), Box::new(debt_bytes(&debt))];
        let sql = "DELETE FROM debts WHERE gkey = $1 AND debt = $2";
        ask(session, vec![Piece::Prepared(sql.into(), params)]).await?;
    }
    remove_within(session, of_debts).await?;
    let apps = array(apps);
    // Everything of the apps is read in any case.
    run(session, "SET LOCAL enable_seqscan = on").await?;
    let sql = format!(
        "SELECT gkey, incarnation FROM conversations WHERE app = ANY({apps}) UNION SELECT gkey, incarnation \
         FROM import_lives WHERE file IN (SELECT file FROM imports WHERE app = ANY({apps}))"
    );
    open(session, "lives", &sql).await?;
    run(session, "SET LOCAL enable_seqscan = off").await?;
    loop {
        let lives = fetch_lives(session).await?;
        if lives.is_empty() {
            break;
        }
        remove_within(session, lives).await?;
    }
    run(session, "CLOSE lives; SET LOCAL enable_seqscan = on").await?;
    for kind in [&ACCOUNT_ROW, &MEMBERSHIP, &CONVERSATION, &OUTBOX_ROW, &DEAD_LETTER] {
        run(session, format!("DELETE FROM {} WHERE app = ANY({apps})", kind.table)).await?;
    }
    let notes = format!(
        "DELETE FROM import_lives WHERE file IN (SELECT file FROM imports WHERE app = ANY({apps})); \
         DELETE FROM imports WHERE app = ANY({apps})"
    );
    run(session, notes).await
}

/// Removes what lies within these lives: their homes and numbers as they are stored.
async fn remove_within(session: &mut Session, lives: Vec<(i64, i64)>) -> Result<(), MoveError> {
    if lives.is_empty() {
        return Ok(());
    }
    let (homes, numbers): (Vec<i64>, Vec<i64>) = lives.into_iter().unzip();
    let remove = |kind: &crate::shape::Kind| {
        let sql = format!(
            "DELETE FROM {} USING unnest($1::bigint[], $2::bigint[]) AS gone (of_home, of_life) \
             WHERE gkey = of_home AND incarnation = of_life",
            kind.table
        );
        Piece::Prepared(sql.into(), vec![Box::new(homes.clone()), Box::new(numbers.clone())])
    };
    ask(session, WITHIN.map(remove).into()).await.map(drop)
}
