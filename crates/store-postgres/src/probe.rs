//! Background work that asks the database whether it is there, so that nobody's request has to find out.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::condition::Condition;
use crate::error::OpenError;
use crate::options::PostgresOptions;
use crate::pool::Pool;
use crate::session::{Fault, Piece, Session};

/// What both probes look after.
#[derive(Clone)]
pub(crate) struct Probe {
    pub(crate) pool: Arc<Pool>,
    pub(crate) options: PostgresOptions,
    pub(crate) condition: Arc<Condition>,
}

/// How long a commit that hangs is waited for before another one is tried on a new connection, the first time and at most.
/// The server keeps the process of one that nobody waits for any more.
const PATIENCE: [Duration; 2] = [Duration::from_mins(1), Duration::from_hours(1)];

/// A transaction that writes a few bytes to the log of the database and to no table. So it waits for the same standbys as any
/// other, and for no lock.
const COMMIT: &str = "SELECT pg_logical_emit_message(true, 'sidenote', '')";

impl Probe {
    /// Asks the database again and again whether it answers and takes writes, on a connection of its own.
    pub(crate) async fn answers(self, session: Session) {
        let Self { pool, options, condition } = self;
        let patience = (options.probe_interval * 2).max(Duration::from_secs(1));
        let mut session = Some(session);
        loop {
            tokio::time::sleep(options.probe_interval).await;
            let began = Instant::now();
            let asked = tokio::time::timeout(patience, async {
                let mut asking = match session.take() {
                    Some(session) => session,
                    None => pool.connect_alone().await.map_err(|error| match error {
                        OpenError::Unreachable { reason } => reason,
                        other => other.to_string(),
                    })?,
                };
                let pieces = vec![Piece::Prepared("SHOW transaction_read_only".into(), Vec::new())];
                let answers = asking.flush(pieces).await.map_err(|fault| fault.to_string())?;
                let rows = answers.into_iter().next().unwrap_or_else(|| Ok(Vec::new()));
                let rows = rows.map_err(|fault| fault.to_string())?;
                if rows.first().and_then(|row| row.try_get::<_, &str>(0).ok()) == Some("on") {
                    return Err("the database takes no writes".to_owned());
                }
                Ok(asking)
            });
            let silent = |_| Err(format!("the database did not answer within {patience:?}"));
            match asked.await.unwrap_or_else(silent) {
                Ok(asking) => {
                    session = Some(asking);
                    condition.well();
                }
                Err(reason) => {
                    pool.suspect_all();
                    condition.trouble(began, reason);
                }
            }
        }
    }

    /// Commits again and again, on another connection: where a primary waits for a standby that is gone, questions are
    /// answered and commits are not. Ends where the database can't do this.
    pub(crate) async fn commits(self) {
        let Self { pool, options, condition } = self;
        let mut session: Option<Session> = None;
        let mut losses = pool.losses();
        let mut patience = PATIENCE[0];
        loop {
            tokio::time::sleep(options.probe_interval * 2).await;
            if condition.refuses_questions().is_some() {
                session = None;
                continue;
            }
            if pool.losses() != losses {
                // It may lead to a server that was the primary before, whose commits say nothing about the one in use.
                session = None;
                losses = pool.losses();
            }
            let mut asking = match session.take() {
                Some(session) => session,
                // Why it can't be reached the other probe says.
                None => match pool.connect_patiently().await {
                    Ok(session) => session,
                    Err(_) => continue,
                },
            };
            let began = Instant::now();
            let mut commit = Box::pin(asking.flush(vec![Piece::Plain(COMMIT.into())]));
            let ended = loop {
                let look = tokio::time::timeout(options.probe_interval, &mut commit).await;
                if let Ok(ended) = look {
                    break Some(ended);
                }
                let waited = began.elapsed();
                if waited >= options.answer_timeout() {
                    // As long as any request waits for it.
                    let seconds = waited.as_secs();
                    let reason =
                        format!("one has had no answer for {seconds} s; is a synchronous standby there?");
                    condition.hangs(&reason);
                }
                let is_gone = condition.refuses_questions().is_some() || pool.losses() != losses;
                if waited >= patience || is_gone && waited >= options.answer_timeout() {
                    patience = (patience * 2).min(PATIENCE[1]);
                    break None;
                }
            };
            drop(commit);
            match ended.map(|ended| ended.map(|mut answers| answers.pop())) {
                Some(Ok(Some(Err(Fault::Refused(error))))) if is_impossible(error.code().code()) => {
                    tracing::info!(%error, "whether commits get through can't be looked at here");
                    condition.commits();
                    return;
                }
                // This time only.
                Some(Ok(Some(Err(Fault::Refused(_))))) => session = Some(asking),
                Some(Ok(Some(Ok(_)))) => {
                    patience = PATIENCE[0];
                    condition.commits();
                    session = Some(asking);
                }
                // Lost, or given up: the next one is tried on a new connection.
                _ => {}
            }
        }
    }
}

/// Whether a statement is refused for good: there is no such function, or no right to call it, or the feature is missing.
fn is_impossible(code: &str) -> bool {
    code.starts_with("42") || code.starts_with("0A")
}
