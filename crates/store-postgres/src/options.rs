//! How the database is reached.

use std::time::Duration;

use crate::error::OpenError;
use crate::pool::Pool;

/// How a [`PostgresStore`](crate::PostgresStore) reaches its database, and how long it waits for it.
#[derive(Clone)]
pub struct PostgresOptions {
    /// Where the database is: `postgres://user:password@host:port/name?sslmode=require`, or key-value pairs as libpq
    /// takes them. Several hosts may be named; with `target_session_attrs=read-write` the one that takes writes is used.
    pub dsn: String,
    /// Connections at most. Few are enough: each carries many requests a second. Where there are several, one in eight, and at
    /// least one, is kept for questions, so that these are answered while commits hang in all the others.
    pub connections: usize,
    /// Commands of one home that are committed together at most, up to [`MOST_TOGETHER`](Self::MOST_TOGETHER). With 1
    /// each has a transaction of its own, which is there to measure what putting them together is worth.
    pub batch: usize,
    /// How long a request waits for a free connection.
    pub pool_wait: Duration,
    /// How long connecting may take, for each host.
    pub connect_timeout: Duration,
    /// How long one statement may take on the server. Never applies to COMMIT.
    pub statement_timeout: Duration,
    /// How long a statement waits for a row that another transaction has locked.
    pub lock_timeout: Duration,
    /// How long a command is tried again for where nothing of it can have happened, and before that waits for its turn.
    pub patience: Duration,
    /// How long nothing has answered before requests, also those that wait already, are refused without trying.
    pub refuse_after: Duration,
    /// How often the database is asked whether it is there.
    pub probe_interval: Duration,
    /// A file with the certificates of authorities that sign for the server, PEM; `None`: those of the system.
    pub root_certificates: Option<std::path::PathBuf>,
}

impl PostgresOptions {
    /// Commands that wait at most; more are refused as busy.
    pub const MOST_WAITING: usize = 10_000;

    /// Commands of one home that may ever be committed together.
    pub const MOST_TOGETHER: usize = 128;

    /// The defaults for this database.
    pub fn new(dsn: impl Into<String>) -> Self {
        Self {
            dsn: dsn.into(),
            connections: 16,
            batch: Self::MOST_TOGETHER,
            pool_wait: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(3),
            statement_timeout: Duration::from_secs(5),
            lock_timeout: Duration::from_secs(3),
            patience: Duration::from_secs(5),
            refuse_after: Duration::from_secs(4),
            probe_interval: Duration::from_secs(1),
            root_certificates: None,
        }
    }

    /// Whether they can be used, as far as that can be said without connecting.
    ///
    /// # Errors
    ///
    /// If the DSN makes no sense, or the certificates can't be read.
    pub fn check(&self) -> Result<(), OpenError> {
        Pool::new(self).map(drop)
    }

    /// Connections that those who write may use at the same time.
    pub(crate) fn most_writing(&self) -> usize {
        let kept = (self.connections / 8).max(1);
        self.connections.saturating_sub(kept).max(1)
    }

    /// How long making a connection may take, over all hosts.
    pub(crate) fn create_timeout(&self) -> Duration {
        self.connect_timeout * 2 + self.answer_timeout()
    }

    /// How long an answer from the server is waited for before the connection is given up.
    pub(crate) fn answer_timeout(&self) -> Duration {
        self.statement_timeout + Duration::from_secs(1)
    }
}

impl std::fmt::Debug for PostgresOptions {
    /// Without the DSN, which holds a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("dsn", &"***")
            .field("connections", &self.connections)
            .field("batch", &self.batch)
            .field("pool_wait", &self.pool_wait)
            .field("connect_timeout", &self.connect_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("lock_timeout", &self.lock_timeout)
            .field("patience", &self.patience)
            .field("refuse_after", &self.refuse_after)
            .field("probe_interval", &self.probe_interval)
            .field("root_certificates", &self.root_certificates)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_connections_are_kept_for_questions_and_never_all() {
        for (connections, writing) in
            [(0, 1), (1, 1), (2, 1), (3, 2), (8, 7), (15, 14), (16, 14), (32, 28), (1000, 875)]
        {
            let options = PostgresOptions { connections, ..PostgresOptions::new("") };
            assert_eq!(options.most_writing(), writing, "of {connections}");
        }
    }
}
