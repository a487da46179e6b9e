//! The front: opening and closing, commands and questions, and what is heard of other nodes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use sidenote_core::Limits;
use sidenote_core::command::Command;
use sidenote_core::ids::{AccountId, AppId, ConversationId, EventNumber, Incarnation, TinyId};
use sidenote_core::query::{Answer, Query};
use sidenote_store::caller::Caller;
use sidenote_store::figures::Figures;
use sidenote_store::news::{Doubt, Follower, Gathered, News, Newsroom};
use sidenote_store::{Committed, Statistics, Store, StoreError};
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answers::{self, Unanswered};
use crate::condition::Condition;
use crate::error::OpenError;
use crate::home::{conversation_key, conversation_of, life_of, signed};
use crate::options::PostgresOptions;
use crate::pool::Pool;
use crate::probe::Probe;
use crate::queue::{Desk, Queue};
use crate::schema;
use crate::session::{Fault, Param, Piece};
use crate::transaction::Guard;

/// A store in a PostgreSQL database, which any number of nodes may use at the same time. Nothing that matters is kept
/// in memory: every command and every question reads what it needs.
pub struct PostgresStore {
    desk: Arc<Desk>,
    queue: Queue,
    background: TaskTracker,
    stop: CancellationToken,
    database: u64,
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
        let database = schema::number(&mut session).await?;
        let condition = Arc::new(Condition::new(options.refuse_after));
        let (pool_too, condition_too) = (Arc::clone(&pool), Arc::clone(&condition));
        let probe = Probe { pool: pool_too, options: options.clone(), condition: condition_too };
        let desk = Arc::new(Desk {
            pool,
            options,
            limits,
            condition,
            figures: Figures::default(),
            own_news: Newsroom::default(),
            all_news: Newsroom::remembering(),
        });
        let (background, stop) = (TaskTracker::new(), CancellationToken::new());
        background.spawn(stop.clone().run_until_cancelled_owned(probe.clone().answers(session)));
        background.spawn(stop.clone().run_until_cancelled_owned(probe.commits()));
        let queue = Queue::new(Arc::clone(&desk));
        Ok(Self { desk, queue, background, stop, database })
    }

    /// The number of the database: the same for all who use it, and another one for every other database.
    pub const fn database(&self) -> u64 {
        self.database
    }

    /// News of what this node commits, and of nothing that it [hears](Self::hear): what it has to tell other nodes.
    pub fn own_commits(&self) -> Follower {
        self.desk.own_news.follow()
    }

    /// Another node has told that a conversation has events up to this one. Told or found by looking, early, late,
    /// twice or never: those who follow read the log from where they are. Returns whether that is new to any of them.
    pub fn hear(&self, conversation: &ConversationId, incarnation: Incarnation, last: EventNumber) -> bool {
        let (conversation, events) = (conversation.clone(), Vec::new());
        self.hear_news(&News { conversation, incarnation, first: last, last, events })
    }

    /// The same of several events, which may be there to be handed on.
    pub fn hear_news(&self, news: &News) -> bool {
        let mut gathered = Gathered::default();
        gathered.add_heard(news);
        self.desk.all_news.tell(&gathered)
    }

    /// The same of what was found in the log by looking.
    pub fn find_news(&self, news: &News) -> bool {
        let mut gathered = Gathered::default();
        gathered.add_found(news);
        self.desk.all_news.tell(&gathered)
    }

    /// What was heard and not found yet: so many at most. Ask for the [`last_events`](Self::last_events) and
    /// [settle](Self::settle) it.
    pub fn doubts(&self, most: usize) -> Vec<Doubt> {
        self.desk.all_news.doubts(most)
    }

    /// What was heard is true if the log had this last event after it was heard. If it is not, what was taken for old
    /// because of it is told. Returns whether the log has less than was heard.
    pub fn settle(&self, doubt: &Doubt, last: EventNumber) -> bool {
        self.desk.all_news.settle(doubt, last)
    }

    /// The same of what concerns nobody who follows: nobody is told, and whoever comes later is not told of it either.
    pub fn pass_over(&self, news: &News) {
        let mut gathered = Gathered::default();
        gathered.add_found(news);
        self.desk.all_news.pass_over(&gathered);
    }

    /// The same for what those who follow say they do not know. They are told it also if they were told it before.
    pub fn hear_missed(&self, news: &News) -> bool {
        let mut gathered = Gathered::default();
        gathered.add_missed(news);
        self.desk.all_news.tell(&gathered)
    }

    /// Another node has told that an account was deleted.
    pub fn hear_deleted(&self, account: AccountId, tiny_id: TinyId) {
        let mut gathered = Gathered::default();
        gathered.add_heard_deleted(account, tiny_id);
        self.desk.all_news.tell(&gathered);
    }

    /// What was heard is remembered for a while, so that it is told once. Called every so often, this ends the while
    /// before.
    pub fn forget_old_news(&self) {
        self.desk.all_news.forget_old();
    }

    /// Which conversations have had events within the last [`Recent`] time, by the clocks of the nodes that committed
    /// them: each with the numbers of the first and the last one. Of a conversation that is gone there is nothing. Where
    /// that takes the database longer than a statement may, or there are [`MOST_RECENT`](Self::MOST_RECENT) or more, it
    /// is asked for less, and [`Looked::back`] says for how much.
    ///
    /// # Errors
    ///
    /// If the database can't be asked, or a [`Recent::MOMENT`] is too much.
    pub async fn recent_news(&self, mut back: Recent) -> Result<Looked, StoreError> {
        self.desk.condition.takes_questions()?;
        let busy = |fault: Fault| StoreError::Busy { reason: fault.to_string() };
        let mut borrowed = self.desk.pool.get().await?;
        loop {
            let pieces = vec![Piece::Prepared(back.sql().into(), Vec::new())];
            let answers = borrowed.session.flush(pieces).await.map_err(busy)?;
            let answer = answers.into_iter().next().unwrap_or_else(|| Ok(Vec::new()));
            let rows = match answer {
                Err(fault) if fault.code() == Some("57014") && back > Recent::MOMENT => {
                    back = back.half();
                    continue;
                }
                answer => answer.map_err(busy)?,
            };
            if rows.len() >= Self::MOST_RECENT && back > Recent::MOMENT {
                back = back.half();
                continue;
            }
            let found = rows.iter().filter_map(|row| told_by(row).transpose());
            // Whoever is told of it will ask for more, and must not be refused.
            self.desk.condition.takes_questions()?;
            return Ok(Looked { found: found.collect::<Result<_, _>>()?, back });
        }
    }

    /// Conversations that are found by [`recent_news`](Self::recent_news) at most.
    pub const MOST_RECENT: usize = 50_000;

    /// The number of the last event of each of these lives, in their order; the start where there is none. In one
    /// statement, for whoever looks whether it has missed anything.
    ///
    /// # Errors
    ///
    /// If the database can't be asked.
    pub async fn last_events(
        &self,
        of: &[(ConversationId, Incarnation)],
    ) -> Result<Vec<EventNumber>, StoreError> {
        self.desk.condition.takes_questions()?;
        if of.is_empty() {
            return Ok(Vec::new());
        }
        let homes: Vec<_> = of.iter().map(|(id, _)| conversation_key(id)).collect();
        let lives: Vec<_> = of.iter().map(|(_, life)| signed(*life)).collect();
        let sql = "SELECT wanted.place, found.last_event \
             FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS wanted (home, life, place), \
             LATERAL (SELECT last_event FROM counters WHERE gkey = home AND incarnation = life OFFSET 0) AS found";
        let params: Vec<Param> = vec![Box::new(homes), Box::new(lives)];
        let mut borrowed = self.desk.pool.get().await?;
        let busy = |fault: Fault| StoreError::Busy { reason: fault.to_string() };
        let pieces = vec![Piece::Prepared(sql.into(), params)];
        let answers = borrowed.session.flush(pieces).await.map_err(busy)?;
        let unreadable = |error: tokio_postgres::Error| StoreError::Unreadable { reason: error.to_string() };
        let mut numbers = vec![EventNumber::START; of.len()];
        for answer in answers {
            for row in answer.map_err(busy)? {
                let place: i64 = row.try_get(0).map_err(unreadable)?;
                let number: i64 = row.try_get(1).map_err(unreadable)?;
                let place = usize::try_from(place - 1).ok().and_then(|place| numbers.get_mut(place));
                if let Some(place) = place {
                    *place = EventNumber::new(number.unsigned_abs());
                }
            }
        }
        self.desk.condition.takes_questions()?;
        Ok(numbers)
    }

    pub(crate) fn desk(&self) -> &Desk {
        &self.desk
    }

    pub(crate) const fn queue(&self) -> &Queue {
        &self.queue
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

    pub(crate) fn pool(&self) -> &Pool {
        &self.desk.pool
    }

    /// The text of every statement that was prepared since the store was opened.
    pub fn statement_texts(&self) -> Vec<String> {
        self.desk.pool.traffic().texts()
    }
}

/// What [`PostgresStore::recent_news`] has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// Each conversation with its events, and whether anybody joined by one of them.
    pub found: Vec<(News, bool)>,
    /// How far back it looked in the end.
    pub back: Recent,
}

/// How far back [`PostgresStore::recent_news`] looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recent {
    seconds: u32,
}

impl Recent {
    /// Longer than a commit takes, and clocks differ: a quarter of a minute.
    pub const MOMENT: Self = Self { seconds: 15 };

    /// The longest: twenty minutes.
    pub const LONG: Self = Self { seconds: 20 * 60 };

    /// What covers so long and a [`MOMENT`](Self::MOMENT), and less than a minute more; but no more than
    /// [`LONG`](Self::LONG).
    pub fn since(ago: Duration) -> Self {
        // A text for every half a minute, and not for every second, because each is prepared once.
        let longest = u64::from(Self::LONG.seconds);
        let needed = ago.as_secs().min(longest) + 1 + u64::from(Self::MOMENT.seconds);
        let seconds = needed.next_multiple_of(30).min(longest);
        Self { seconds: u32::try_from(seconds).unwrap_or(Self::LONG.seconds) }
    }

    /// How long that is.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.seconds as u64)
    }

    fn half(self) -> Self {
        if self.seconds < 60 {
            Self::MOMENT
        } else {
            Self { seconds: (self.seconds / 2).next_multiple_of(30) }
        }
    }

    /// The time is part of the text, so that the plan is made for it. Events are put together before anything else is looked
    /// at: otherwise the planner, which takes `gkey` and `incarnation` as independent, expects one event for each
    /// conversation and reads all that there are.
    fn sql(self) -> String {
        format!(
            "SELECT c.app, c.name, e.incarnation, e.first, e.last, e.joins FROM \
             (SELECT gkey, incarnation, min(number) AS first, max(number) AS last, \
             bool_or(what = 'members joined') AS joins FROM events \
             WHERE at >= (extract(epoch FROM now()) * 1000)::bigint - {} GROUP BY gkey, incarnation) AS e \
             JOIN conversations AS c ON c.gkey = e.gkey AND c.incarnation = e.incarnation LIMIT {}",
            self.duration().as_millis(),
            PostgresStore::MOST_RECENT,
        )
    }
}

/// A row of [`Recent::sql`].
fn told_by(row: &Row) -> Result<Option<(News, bool)>, StoreError> {
    let unreadable = |error: tokio_postgres::Error| StoreError::Unreadable { reason: error.to_string() };
    let number = |at: usize| row.try_get::<_, i64>(at).map_err(unreadable);
    let name: &str = row.try_get(1).map_err(unreadable)?;
    let app = u32::try_from(number(0)?).ok().map(AppId::new);
    let Some(conversation) = app.and_then(|app| conversation_of(app, name)) else { return Ok(None) };
    let [first, last] = [number(3)?, number(4)?].map(|number| EventNumber::new(number.unsigned_abs()));
    let joins = row.try_get(5).map_err(unreadable)?;
    let news = News { conversation, incarnation: life_of(number(2)?), first, last, events: Vec::new() };
    Ok(Some((news, joins)))
}

impl Desk {
    /// Answers a question, on behalf of a caller or nobody; `None` if there is no such caller.
    async fn answer(&self, caller: Option<&Caller>, mut query: Query) -> Result<Option<Answer>, StoreError> {
        self.condition.open()?;
        tokio::select! {
            biased;
            error = self.condition.refused() => Err(error),
            answer = self.ask(caller, &mut query) => answer,
        }
    }

    /// Asks until there is an answer, or patience ends.
    async fn ask(&self, caller: Option<&Caller>, query: &mut Query) -> Result<Option<Answer>, StoreError> {
        let Self { pool, options, limits, .. } = self;
        let patience_ends = Instant::now() + options.patience;
        loop {
            let reason = match pool.get().await {
                Ok(mut borrowed) => match answers::answer(&mut borrowed.session, caller, query, limits).await
                {
                    Ok(answer) => return Ok(answer),
                    Err(Unanswered::Refused(error)) => return Err(error),
                    Err(Unanswered::Again(reason)) => {
                        if borrowed.session.is_lost() {
                            pool.suspect_all();
                        }
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
}

#[async_trait]
impl Store for PostgresStore {
    async fn commit(&self, command: Command) -> Result<Committed, StoreError> {
        self.queue.commit(command).await
    }

    async fn answer(&self, query: Query) -> Result<Answer, StoreError> {
        let answer = self.desk.answer(None, query).await?;
        Ok(answer.expect("only a caller who is not found keeps a question from being answered"))
    }

    async fn commit_by(&self, caller: &Caller, command: Command) -> Result<Option<Committed>, StoreError> {
        self.queue.commit_guarded(command, Guard::Caller(caller.clone())).await
    }

    async fn answer_by(&self, caller: &Caller, query: Query) -> Result<Option<Answer>, StoreError> {
        self.desk.answer(Some(caller), query).await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_covers_the_time_since_the_last_one_and_less_than_a_minute_more() {
        for seconds in 0..=1100 {
            let ago = Duration::from_secs(seconds);
            let back = Recent::since(ago).duration();
            assert!(
                back >= ago + Recent::MOMENT.duration() && back <= ago + Duration::from_mins(1),
                "{ago:?}"
            );
        }
        assert_eq!(Recent::since(Duration::MAX), Recent::LONG);
        let mut back = Recent::LONG;
        for _ in 0..8 {
            assert!(back.half() < back || back == Recent::MOMENT);
            back = back.half();
        }
        assert_eq!(back, Recent::MOMENT);
    }
}
