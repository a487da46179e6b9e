//! One connection, driven by whoever uses it: several statements are written at once and answered in one round trip.
//!
//! The connection has no task of its own. Whoever uses the session writes all of its statements first and only then
//! lets the connection move, so that they leave in one flush, and no other thread has to be woken.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Connection, Row, SimpleQueryMessage, Socket, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A statement's parameter.
pub(crate) type Param = Box<dyn ToSql + Sync + Send>;

/// The text of a statement. The same text is prepared once for each connection.
pub(crate) type Sql = Cow<'static, str>;

/// Something to be sent.
pub(crate) enum Piece {
    /// A prepared statement.
    Prepared(Sql, Vec<Param>),
    /// One or more statements without parameters or rows.
    Plain(Sql),
}

/// Why a statement has no result.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The server said no, and goes on.
    Refused(Box<DbError>),
    /// The connection is gone, or can't be trusted any more.
    Lost(String),
}

impl Fault {
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(error) => Some(error.code().code()),
            Self::Lost(_) => None,
        }
    }

    /// Whether the server knows the statement no more, or no longer as it was prepared: somebody has said DEALLOCATE or
    /// changed a table, or another server has taken over behind the same connection.
    pub(crate) fn is_stale(&self) -> bool {
        match self {
            Self::Refused(error) if error.code().code() == "0A000" => {
                error.routine() == Some("RevalidateCachedQuery")
            }
            other => other.code() == Some("26000"),
        }
    }
}

impl std::fmt::Display for Fault {
    /// Without the error's detail, which may hold values of rows.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "{} ({})", error.message(), error.code().code()),
            Self::Lost(reason) => write!(f, "the connection was lost: {reason}"),
        }
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            // Behind FATAL and PANIC the server hangs up.
            // A standby, perhaps one that was the primary until now: what is needed is another server.
            Some(told) if told.code().code() == "25006" => {
                Self::Lost("the server takes no writes".to_owned())
            }
            Some(told) if !matches!(told.parsed_severity(), Some(Severity::Fatal | Severity::Panic)) => {
                Self::Refused(Box::new(told.clone()))
            }
            Some(told) => {
                let (message, code) = (told.message(), told.code().code());
                Self::Lost(format!("{message} ({code}){}", advice(code)))
            }
            None => Self::Lost(match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            }),
        }
    }
}

/// What to do about a connection that was refused, where that can be said.
fn advice(code: &str) -> &'static str {
    match code {
        "3D000" => "; `createdb --encoding=UTF8 --template=template0 --owner=ROLE NAME` makes it",
        // The same is said of a role that does not exist.
        "28P01" => "; is that the password of the role, and did `createuser --pwprompt` make it?",
        "28000" => "; `createuser --pwprompt` makes a role, and pg_hba.conf says who may connect from where",
        _ => "",
    }
}

/// What all sessions count together.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// How often statements were sent together. Each time is one round trip.
    pub(crate) flushes: AtomicU64,
    /// How often statements were prepared first, which is a round trip too, once for each connection and text.
    pub(crate) preparations: AtomicU64,
    /// Statements sent.
    pub(crate) statements: AtomicU64,
    /// Texts that were prepared. There are some dozens of them.
    texts: Mutex<BTreeSet<Sql>>,
}

impl Traffic {
    fn note(&self, texts: &[Sql]) {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner).extend(texts.iter().cloned());
    }

    /// Every text that was prepared.
    pub(crate) fn texts(&self) -> Vec<String> {
        let texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        texts.iter().map(ToString::to_string).collect()
    }
}

/// A connection, with TLS or without.
pub(crate) type Wire = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

type Outcome<T> = Result<T, Fault>;
type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, tokio_postgres::Error>> + Send + 'a>>;

/// A connection and the statements that were prepared on it.
pub(crate) struct Session {
    client: Client,
    connection: Pin<Box<Wire>>,
    prepared: HashMap<Sql, Statement>,
    traffic: Arc<Traffic>,
    answer_timeout: Duration,
    /// Something was sent that was not answered yet, or the connection is gone.
    unclean: bool,
    /// A transaction is open, or may be.
    open: bool,
}

impl Session {
    pub(crate) fn new(
        client: Client,
        connection: Wire,
        traffic: Arc<Traffic>,
        answer_timeout: Duration,
    ) -> Self {
        let (connection, prepared) = (Box::pin(connection), HashMap::new());
        Self { client, connection, prepared, traffic, answer_timeout, unclean: false, open: false }
    }

    /// Waits for answers as long as they take, from now on. Whoever uses it has to look at the clock.
    pub(crate) fn wait_for_ever(&mut self) {
        self.answer_timeout = Duration::MAX;
    }

    /// Whether it can be given to somebody else.
    pub(crate) fn is_clean(&self) -> bool {
        !self.open && !self.is_lost()
    }

    /// A transaction begins.
    pub(crate) fn opened(&mut self) {
        self.open = true;
    }

    /// It is over.
    pub(crate) fn closed(&mut self) {
        self.open = false;
    }

    /// Whether a transaction is open on a connection that can still be used.
    pub(crate) fn is_open(&self) -> bool {
        self.open && !self.is_lost()
    }

    /// Whether it can't be used any more, whatever is done about an open transaction.
    pub(crate) fn is_lost(&self) -> bool {
        self.unclean || self.client.is_closed()
    }

    /// Never use it again.
    pub(crate) fn spoil(&mut self) {
        self.unclean = true;
    }

    /// Sees whether the server hung up meanwhile.
    pub(crate) async fn notice_end(&mut self) -> bool {
        let ended = poll_fn(|cx| Poll::Ready(self.connection.as_mut().poll(cx).is_ready())).await;
        self.unclean |= ended;
        ended
    }

    /// Sends all of this at once and takes all the answers. A piece that comes after a refused one is still carried
    /// out, so each answer has to be looked at.
    ///
    /// # Errors
    ///
    /// If the connection is lost: what was sent may have been carried out or not. If a text can't be prepared: then nothing
    /// was sent.
    pub(crate) async fn flush(&mut self, pieces: Vec<Piece>) -> Outcome<Vec<Outcome<Vec<Row>>>> {
        self.prepare(&pieces).await?;
        // Stays so if the caller gives up waiting.
        self.unclean = true;
        self.traffic.flushes.fetch_add(1, Ordering::Relaxed);
        self.traffic.statements.fetch_add(pieces.len() as u64, Ordering::Relaxed);
        let (client, prepared) = (&self.client, &self.prepared);
        let replies = pieces.into_iter().map(|piece| -> Reply<'_, Vec<Row>> {
            match piece {
                Piece::Prepared(sql, params) => {
                    let statement = &prepared[&sql];
                    Box::pin(async move {
                        let params = params.iter().map(|param| &**param as &(dyn ToSql + Sync));
                        client.query_raw(statement, params.collect::<Vec<_>>()).await?.try_collect().await
                    })
                }
                Piece::Plain(sql) => Box::pin(async move {
                    client.batch_execute(&sql).await?;
                    Ok(Vec::new())
                }),
            }
        });
        let replies = replies.collect();
        let answers = drive(&mut self.connection, replies, self.answer_timeout).await?;
        // With one stale statement the others are as old, and each use of one would be refused from now on.
        self.unclean = answers.iter().any(|answer| answer.as_ref().is_err_and(Fault::is_stale));
        Ok(answers)
    }

    /// The columns of the first row that a statement gives, as text; `None` if there is none or the statement was refused,
    /// after which the connection is as good as before.
    ///
    /// # Errors
    ///
    /// If the connection is lost.
    pub(crate) async fn first_row(&mut self, sql: &str) -> Outcome<Option<Vec<String>>> {
        self.unclean = true;
        let client = &self.client;
        let reply: Reply<'_, Vec<SimpleQueryMessage>> = Box::pin(client.simple_query(sql));
        let mut answers = drive(&mut self.connection, vec![reply], self.answer_timeout).await?;
        self.unclean = false;
        let Some(Ok(messages)) = answers.pop() else { return Ok(None) };
        Ok(messages.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                (0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect::<Option<Vec<_>>>()
            }
            _ => None,
        }))
    }

    /// Prepares what was not prepared on this connection yet.
    ///
    /// # Errors
    ///
    /// If the connection is lost, or a text can't be prepared.
    pub(crate) async fn prepare(&mut self, pieces: &[Piece]) -> Outcome<()> {
        let mut texts: Vec<Sql> = Vec::new();
        for piece in pieces {
            if let Piece::Prepared(sql, _) = piece
                && !self.prepared.contains_key(sql)
                && !texts.contains(sql)
            {
                texts.push(sql.clone());
            }
        }
        if texts.is_empty() {
            return Ok(());
        }
        self.unclean = true;
        self.traffic.preparations.fetch_add(1, Ordering::Relaxed);
        let client = &self.client;
        self.traffic.note(&texts);
        let replies = texts.iter().map(|sql| -> Reply<'_, Statement> { Box::pin(client.prepare(sql)) });
        let replies = replies.collect();
        let answers = drive(&mut self.connection, replies, self.answer_timeout).await?;
        for (sql, statement) in texts.into_iter().zip(answers) {
            // One that can't be prepared is a mistake of ours or another schema; the connection is not used again.
            self.prepared.insert(sql, statement?);
        }
        self.unclean = false;
        Ok(())
    }
}

/// Has the first poll of every reply send its statement, and then moves the connection until all are there.
async fn drive<T>(
    connection: &mut Pin<Box<Wire>>,
    mut replies: Vec<Reply<'_, T>>,
    patience: Duration,
) -> Outcome<Vec<Outcome<T>>> {
    let mut answers: Vec<Option<Outcome<T>>> = replies.iter().map(|_| None).collect();
    let all = poll_fn(|cx| {
        loop {
            let before = answers.iter().filter(|answer| answer.is_some()).count();
            poll_all(&mut replies, &mut answers, cx);
            let after = answers.iter().filter(|answer| answer.is_some()).count();
            if after == answers.len() {
                return Poll::Ready(Ok(()));
            }
            let end = connection.as_mut().poll(cx);
            if let Poll::Ready(end) = end {
                poll_all(&mut replies, &mut answers, cx);
                let reason = end.err().map_or_else(|| "it was closed".to_owned(), |error| error.to_string());
                return Poll::Ready(Err(reason));
            }
            // What the connection has just handed over wakes this task again; looking once more is cheaper.
            if before == after && !poll_all(&mut replies, &mut answers, cx) {
                return Poll::Pending;
            }
        }
    });
    let ended = tokio::time::timeout(patience, all).await;
    drop(replies);
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => return Err(Fault::Lost(first_loss(answers).unwrap_or(reason))),
        Err(_) => return Err(Fault::Lost(format!("no answer within {patience:?}"))),
    }
    let answers: Vec<_> = answers.into_iter().flatten().collect();
    if let Some(Err(Fault::Lost(reason))) =
        answers.iter().find(|answer| matches!(answer, Err(Fault::Lost(_))))
    {
        return Err(Fault::Lost(reason.clone()));
    }
    Ok(answers)
}

/// Whether any of them became ready.
fn poll_all<T>(
    replies: &mut [Reply<'_, T>],
    answers: &mut [Option<Outcome<T>>],
    cx: &mut Context<'_>,
) -> bool {
    let mut moved = false;
    for (reply, answer) in replies.iter_mut().zip(answers) {
        if answer.is_none()
            && let Poll::Ready(ready) = reply.as_mut().poll(cx)
        {
            *answer = Some(ready.map_err(Fault::from));
            moved = true;
        }
    }
    moved
}

/// What the server said before it hung up says more than that it did.
fn first_loss<T>(answers: Vec<Option<Outcome<T>>>) -> Option<String> {
    answers.into_iter().flatten().find_map(|answer| match answer {
        Err(Fault::Lost(reason)) => Some(reason),
        _ => None,
    })
}
