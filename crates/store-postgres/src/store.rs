//! The front: opening and closing, commands and questions, and what is heard of other nodes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use sidenote_core::Limits;
use sidenote_core::command::Command;
use sidenote_core::ids::{AccountId, ConversationId, EventNumber, Incarnation, TinyId};
use sidenote_core::query::{Answer, Query};
use sidenote_store::figures::Figures;
use sidenote_store::news::{Follower, Gathered, Newsroom};
use sidenote_store::{Committed, Statistics, Store, StoreError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answers::{self, Unanswered};
use crate::condition::Condition;
use crate::error::OpenError;
use crate::home::{conversation_key, signed};
use crate::options::PostgresOptions;
use crate::pool::Pool;
use crate::queue::{Desk, Queue};
use crate::schema;
use crate::session::{Param, Piece, Session};

/// A store in a PostgreSQL database, which any number of nodes may use at the same time. Nothing that matters is kept
/// in memory: every command and every question reads what it needs.
pub struct PostgresStore {
    desk: Arc<Desk>,
    queue: Queue,
    background: TaskTracker,
    stop: CancellationToken,
}

/// How often statements were sent, since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundTrips {
    /// Times that statements were sent together and answered together.
    pub flushes: u64,
    /// Of further ones, times that statements were prepared: once for each text and connection.
    pub preparations: u64,
    /// Statements sent.
    pub statements: u64,
}

impl PostgresStore {
    /// Opens a store on a database whose schema is up to date. Call it inside of a tokio runtime.
    ///
    /// # Errors
    ///
    /// If the database can't be reached, or its schema is not one that this program can use.
    pub async fn open(options: PostgresOptions, limits: Limits) -> Result<Self, OpenError> {
        let pool = Arc::new(Pool::new(&options)?);
        let mut session = pool.connect_alone().await?;
        schema::check(&mut session).await?;
        let condition = Arc::<Condition>::default();
        let desk = Arc::new(Desk {
            pool,
            options,
            limits,
            condition,
            figures: Figures::default(),
            own_news: Newsroom::default(),
            all_news: Newsroom::default(),
        });
        let (background, stop) = (TaskTracker::new(), CancellationToken::new());
        background.spawn(stop.clone().run_until_cancelled_owned(probe(Arc::clone(&desk), session)));
        let queue = Queue::new(Arc::clone(&desk));
        Ok(Self { desk, queue, background, stop })
    }

    /// News of what this node commits, and of nothing that it [hears](Self::hear): what it has to tell other nodes.
    pub fn own_commits(&self) -> Follower {
        self.desk.own_news.follow()
    }

    /// Another node has told that a conversation has events up to this one. Told or found by looking, early, late,
    /// twice or never: those who follow read the log from where they are.
    pub fn hear(&self, conversation: &ConversationId, incarnation: Incarnation, last: EventNumber) {
        let mut gathered = Gathered::default();
        gathered.add_heard(conversation, incarnation, last);
        self.desk.all_news.tell(&gathered);
    }

    /// Another node has told that an account was deleted.
    pub fn hear_deleted(&self, account: AccountId, tiny_id: TinyId) {
        let mut gathered = Gathered::default();
        gathered.add_heard_deleted(account, tiny_id);
        self.desk.all_news.tell(&gathered);
    }

    /// The number of the last event of each of these lives, in their order; the start where there is none. In one round
    /// trip, for whoever looks whether it has missed anything.
    ///
    /// # Errors
    ///
    /// If the database can't be asked.
    pub async fn last_events(
        &self,
        of: &[(ConversationId, Incarnation)],
    ) -> Result<Vec<EventNumber>, StoreError> {
        self.desk.condition.open()?;
        if of.is_empty() {
            return Ok(Vec::new());
        }
        let pieces = of.iter().map(|(id, incarnation)| {
            let params: Vec<Param> = vec![Box::new(conversation_key(id)), Box::new(signed(*incarnation))];
            let sql = "SELECT last_event FROM counters WHERE gkey = $1 AND incarnation = $2";
            Piece::Prepared(sql.into(), params)
        });
        let mut borrowed = self.desk.pool.get().await?;
        let busy = |reason: String| StoreError::Busy { reason };
        let answers =
            borrowed.session.flush(pieces.collect()).await.map_err(|fault| busy(fault.to_string()))?;
        let numbers = answers.into_iter().map(|answer| {
            let rows = answer.map_err(|fault| busy(fault.to_string()))?;
            let number = rows.first().map_or(Ok(0), |row| row.try_get::<_, i64>(0));
            let number = number.map_err(|error| StoreError::Unreadable { reason: error.to_string() })?;
            Ok(EventNumber::new(number.unsigned_abs()))
        });
        numbers.collect()
    }

    /// What went over the wire, without what the [health](Store::health) is asked by.
    pub fn round_trips(&self) -> RoundTrips {
        let traffic = self.desk.pool.traffic();
        RoundTrips {
            flushes: traffic.flushes.load(Ordering::Relaxed),
            preparations: traffic.preparations.load(Ordering::Relaxed),
            statements: traffic.statements.load(Ordering::Relaxed),
        }
    }

    /// The text of every statement that was prepared since the store was opened.
    pub fn statement_texts(&self) -> Vec<String> {
        self.desk.pool.traffic().texts()
    }
}

/// Asks the database again and again whether it is there and takes writes, on a connection of its own.
async fn probe(desk: Arc<Desk>, session: Session) {
    let Desk { pool, options, condition, .. } = &*desk;
    let patience = (options.probe_interval * 2).max(Duration::from_secs(1));
    let mut session = Some(session);
    loop {
        tokio::time::sleep(options.probe_interval).await;
        let asked = tokio::time::timeout(patience, async {
            let mut asking = match session.take() {
                Some(session) => session,
                None => pool.connect_alone().await.map_err(|error| error.to_string())?,
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
        match asked.await.unwrap_or_else(|_| Err(format!("the database did not answer within {patience:?}")))
        {
            Ok(asking) => {
                session = Some(asking);
                condition.well();
            }
            Err(reason) => {
                pool.suspect_all();
                condition.trouble(reason);
            }
        }
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn commit(&self, command: Command) -> Result<Committed, StoreError> {
        self.queue.commit(command).await
    }

    async fn answer(&self, query: Query) -> Result<Answer, StoreError> {
        let Desk { pool, options, limits, condition, .. } = &*self.desk;
        condition.open()?;
        let patience_ends = Instant::now() + options.patience;
        loop {
            let reason = match pool.get().await {
                Ok(mut borrowed) => match answers::answer(&mut borrowed.session, &query, limits).await {
                    Ok(answer) => return Ok(answer),
                    Err(Unanswered::Refused(error)) => return Err(error),
                    Err(Unanswered::Again(reason)) => {
                        pool.suspect_all();
                        reason
                    }
                },
                Err(StoreError::Busy { reason }) => reason,
                Err(error) => return Err(error),
            };
            let pause = Duration::from_millis(20);
            if Instant::now() + pause >= patience_ends {
                return Err(StoreError::Busy { reason });
            }
            tokio::time::sleep(pause).await;
        }
    }

    fn news(&self) -> Follower {
        self.desk.all_news.follow()
    }

    fn health(&self) -> Result<(), StoreError> {
        self.desk.condition.health()
    }

    fn statistics(&self) -> Statistics {
        let RoundTrips { flushes: round_trips, statements, .. } = self.round_trips();
        Statistics { queue_depth: self.queue.depth(), round_trips, statements, ..self.desk.figures.read() }
    }

    async fn close(&self) {
        self.desk.condition.begin_closing();
        self.queue.close().await;
        self.stop.cancel();
        self.background.close();
        self.background.wait().await;
        self.desk.pool.close();
    }
}

impl Drop for PostgresStore {
    /// The tasks of a store that was not closed end too.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
