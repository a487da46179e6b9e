//! Which nodes live, and which of them does the work that one does for all. On a connection of its own, so that a node
//! whose other connections are all in use does not pass for dead.

use std::time::Duration;

use sidenote_store::StoreError;
use tokio_postgres::Row;

use crate::claims::{busy, unreadable};
use crate::logins::leave_all;
use crate::session::{Param, Piece, Session};
use crate::store::PostgresStore;

/// Whether a row of `nodes` says that its node lives. No lease is so long that it ends later than in two minutes: one that
/// seems to was given before the clock of the database was set back, or by a server whose clock was ahead.
macro_rules! lives {
    () => {
        "alive_until > now() AND alive_until < now() + interval '2 minutes'"
    };
}
pub(crate) use lives;

/// Says that a node lives on, for so many milliseconds from now, unless it counts as dead.
const LIVE_ON: &str = concat!(
    "UPDATE nodes SET alive_until = now() + $2 * interval '1 millisecond' WHERE node = $1 AND ",
    lives!(),
    " RETURNING node"
);

/// The same of a node that was not there, or counted as dead.
const LIVE: &str = "INSERT INTO nodes (node, alive_until) VALUES ($1, now() + $2 * interval '1 millisecond') \
     ON CONFLICT (node) DO UPDATE SET alive_until = excluded.alive_until";

/// Takes the background work, or keeps it, where nobody else has it.
const LEAD: &str = "INSERT INTO leases AS held (name, node, until) \
     VALUES ('background', $1, now() + $2 * interval '1 millisecond') \
     ON CONFLICT (name) DO UPDATE SET node = excluded.node, until = excluded.until \
     WHERE held.node = excluded.node OR held.until <= now() OR held.until >= now() + interval '2 minutes' \
     RETURNING held.node";

const ALIVE: &str = concat!("SELECT node FROM nodes WHERE ", lives!());

/// What the leader clears away: nodes that are long dead, and what they left behind.
const SWEEP: [&str; 2] = [
    "DELETE FROM nodes WHERE alive_until < now() - interval '10 minutes'",
    "DELETE FROM logins WHERE NOT EXISTS (SELECT 1 FROM nodes WHERE nodes.node = logins.node)",
];

/// What a node learned when it said that it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Whether it did not count as alive before, by the clock of the database: what it had claimed may be another's.
    pub was_dead: bool,
    /// Whether the background work is its own.
    pub leads: bool,
    /// All nodes that live.
    pub alive: Vec<i64>,
}

/// By which a node says that it lives.
pub struct Heart {
    node: i64,
    lease: Duration,
    /// With how often connections had been lost when it was made.
    session: Option<(u64, Session)>,
}

impl Heart {
    /// For the node with this number, which counts as dead if it has not said for `lease` that it lives. That is no longer
    /// than a minute.
    pub const fn new(node: i64, lease: Duration) -> Self {
        Self { node, lease, session: None }
    }

    /// Says that the node lives.
    ///
    /// # Errors
    ///
    /// If the database can't be asked. It may have heard it all the same.
    pub async fn beat(&mut self, store: &PostgresStore) -> Result<Beat, StoreError> {
        let beat = self.beat_by(store, LIVE_ON).await?;
        if !beat.was_dead {
            return Ok(beat);
        }
        let anew = self.beat_by(store, LIVE).await?;
        Ok(Beat { was_dead: true, ..anew })
    }

    async fn beat_by(&mut self, store: &PostgresStore, live: &'static str) -> Result<Beat, StoreError> {
        let params = || -> Vec<Param> {
            let millis = i32::try_from(self.lease.as_millis()).unwrap_or(i32::MAX);
            vec![Box::new(self.node), Box::new(f64::from(millis))]
        };
        let pieces = vec![
            Piece::Prepared(live.into(), params()),
            Piece::Prepared(LEAD.into(), params()),
            Piece::Prepared(ALIVE.into(), Vec::new()),
        ];
        let answers = self.ask(store, pieces).await?;
        let [lived, lead, alive] = &answers[..] else {
            return Ok(Beat { was_dead: true, leads: false, alive: Vec::new() });
        };
        let alive = alive.iter().map(|row| row.try_get(0).map_err(unreadable)).collect::<Result<_, _>>()?;
        Ok(Beat { was_dead: lived.is_empty(), leads: !lead.is_empty(), alive })
    }

    /// Says that the node ends, so that nobody has to wait until it counts as dead.
    ///
    /// # Errors
    ///
    /// If the database can't be asked.
    pub async fn end(&mut self, store: &PostgresStore) -> Result<(), StoreError> {
        let of_node = |sql: &'static str| Piece::Prepared(sql.into(), vec![Box::new(self.node) as Param]);
        let pieces = vec![
            leave_all(self.node),
            of_node("DELETE FROM leases WHERE node = $1"),
            of_node("DELETE FROM nodes WHERE node = $1"),
        ];
        self.ask(store, pieces).await.map(drop)
    }

    /// Statements that are transactions of their own.
    async fn ask(&mut self, store: &PostgresStore, pieces: Vec<Piece>) -> Result<Vec<Vec<Row>>, StoreError> {
        // Whoever has lost a connection may have found another primary. What is said to the one before is heard by nobody.
        let losses = store.pool().losses();
        let mut session = match self.session.take().filter(|(made_after, _)| *made_after == losses) {
            Some((_, session)) => session,
            None => store
                .pool()
                .connect_alone()
                .await
                .map_err(|error| StoreError::Busy { reason: error.to_string() })?,
        };
        let answers = session.flush(pieces).await.map_err(|fault| busy(&fault))?;
        // A refusal leaves nothing open, and the session can be used again unless its statements are refused from now on.
        self.session = Some((losses, session)).filter(|(_, session)| session.is_clean());
        answers.into_iter().map(|answer| answer.map_err(|fault| busy(&fault))).collect()
    }
}

impl PostgresStore {
    /// Clears away what dead nodes left behind.
    ///
    /// # Errors
    ///
    /// If the database can't be asked.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let pieces = SWEEP.iter().map(|sql| Piece::Prepared((*sql).into(), Vec::new()));
        self.told(pieces.collect()).await
    }
}
