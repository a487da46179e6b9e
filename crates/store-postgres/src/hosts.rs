//! The members of a cluster of databases, of which one takes writes at a time.
//!
//! The library tries the hosts of a DSN one after the other and waits for each as long as it likes: a member whose machine
//! is stopped takes connections and says nothing, and nobody would get past it. So each host has a configuration of its
//! own here, and the next one is tried when the one before keeps silent for a moment.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, TargetSessionAttrs};

use crate::session::{Fault, Session};

/// How long a host is waited for before the next is tried beside it.
const HEAD_START: Duration = Duration::from_millis(300);

/// One configuration for each host. Of several only the one that takes writes is of use, whatever was asked for.
///
/// # Errors
///
/// Why the hosts make no sense.
pub(crate) fn each(config: &Config) -> Result<Vec<Config>, String> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(addresses.len());
    if count == 0 {
        return Err("it names no host".to_owned());
    }
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return Err(format!("it names {} hosts and {} addresses", hosts.len(), addresses.len()));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(format!("it names {count} hosts and {} ports", ports.len()));
    }
    let alone = |at: usize| {
        let mut one = without_hosts(config);
        match hosts.get(at) {
            Some(Host::Tcp(name)) => drop(one.host(name)),
            Some(Host::Unix(path)) => drop(one.host_path(path)),
            None => {}
        }
        if let Some(address) = addresses.get(at) {
            one.hostaddr(*address);
        }
        if let Some(port) = ports.get(at).or_else(|| ports.first()) {
            one.port(*port);
        }
        if count > 1 {
            one.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        one
    };
    Ok((0..count).map(alone).collect())
}

/// Everything else that a DSN can say. A configuration can't be rid of its hosts.
fn without_hosts(config: &Config) -> Config {
    let mut one = Config::new();
    if let Some(user) = config.get_user() {
        one.user(user);
    }
    if let Some(password) = config.get_password() {
        one.password(password);
    }
    if let Some(name) = config.get_dbname() {
        one.dbname(name);
    }
    if let Some(options) = config.get_options() {
        one.options(options);
    }
    if let Some(name) = config.get_application_name() {
        one.application_name(name);
    }
    if let Some(timeout) = config.get_connect_timeout() {
        one.connect_timeout(*timeout);
    }
    if let Some(timeout) = config.get_tcp_user_timeout() {
        one.tcp_user_timeout(*timeout);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        one.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    one.ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .target_session_attrs(config.get_target_session_attrs())
        .channel_binding(config.get_channel_binding())
        .load_balance_hosts(config.get_load_balance_hosts());
    one
}

/// The first of several tries that succeeds, and its number. The first one has a head start before the others.
///
/// # Errors
///
/// What became of each of them, once all have failed.
pub(crate) async fn first_of<T, F>(tries: Vec<(usize, F)>) -> Result<(usize, T), Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let several = tries.len() > 1;
    let mut waiting = tries.into_iter();
    let mut running = FuturesUnordered::new();
    let mut reasons = Vec::new();
    let mut begin_next = true;
    loop {
        if begin_next && let Some((number, attempt)) = waiting.next() {
            running.push(async move { (number, attempt.await) });
        }
        let ended = tokio::time::timeout(HEAD_START, running.next()).await;
        begin_next = true;
        match ended {
            Ok(Some((number, Ok(made)))) => return Ok((number, made)),
            Ok(Some((_, Err(fault)))) if !several => return Err(fault),
            Ok(Some((number, Err(fault)))) => {
                let reason = match fault {
                    Fault::Lost(reason) => reason,
                    refused @ Fault::Refused(_) => refused.to_string(),
                };
                reasons.push(format!("host {}: {reason}", number + 1));
            }
            Ok(None) if waiting.len() == 0 => return Err(Fault::Lost(reasons.join("; "))),
            Ok(None) | Err(_) => {}
        }
    }
}

/// The history of a database that a server tells, as far as it can be compared: which database it is, and how often one of its
/// members was made the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct History {
    system: String,
    timeline: u32,
}

/// The newest history that any server has told.
///
/// A primary that was stopped and wakes up does not know that another was made the primary meanwhile. Until somebody ends it,
/// it would answer pulls with what was true before.
#[derive(Debug, Default)]
pub(crate) struct Newest(Mutex<Option<History>>);

impl Newest {
    /// Whether a server's history is newer than what was known.
    ///
    /// # Errors
    ///
    /// If it is older.
    pub(crate) fn admit(&self, told: &History) -> Result<bool, Fault> {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*newest {
            // Another database under the same address is the operator's will.
            Some(known) if known.system == told.system && known.timeline > told.timeline => {
                let reason = "the server was the primary before another was made the primary";
                Err(Fault::Lost(reason.to_owned()))
            }
            Some(known) if known == told => Ok(false),
            known => {
                let is_news = known.is_some();
                *newest = Some(told.clone());
                Ok(is_news)
            }
        }
    }
}

/// The history that a server tells; `None` if it is no PostgreSQL, or does not tell everybody.
///
/// # Errors
///
/// If the connection is lost.
pub(crate) async fn history(session: &mut Session) -> Result<Option<History>, Fault> {
    // The first eight digits of the name of the file that it writes now are the timeline.
    let sql =
        "SELECT system_identifier::text, pg_walfile_name(pg_current_wal_lsn()) FROM pg_control_system()";
    // One that can't be prepared is no reason to give up the connection, so it goes as plain text.
    let answer = session.first_row(sql).await?;
    Ok(answer.and_then(|columns| {
        let [system, file] = columns.try_into().ok()?;
        let timeline = u32::from_str_radix(file.get(..8)?, 16).ok()?;
        Some(History { system, timeline })
    }))
}

#[cfg(test)]
mod tests {
    use sidenote_postgres_for_tests::{Postgres, Settings};

    use super::*;
    use crate::options::PostgresOptions;
    use crate::pool::Pool;

    fn config(dsn: &str) -> Config {
        dsn.parse().unwrap()
    }

    #[test]
    fn each_host_has_a_configuration_of_its_own_and_keeps_everything_else() {
        let dsn = "postgres://ann:hunter2@db1:5433,db2:5434/chat?sslmode=require&application_name=n&options=-cx%3D1\
             &keepalives_idle=7&channel_binding=require";
        let each = each(&config(dsn)).unwrap();
        for (at, one) in each.iter().enumerate() {
            let alone = dsn.replace("db1:5433,db2:5434", &format!("db{}:{}", at + 1, 5433 + at));
            let mut alone = config(&alone);
            assert_eq!(one, alone.target_session_attrs(TargetSessionAttrs::ReadWrite));
        }
        assert_eq!(each.len(), 2);
    }

    #[test]
    fn ports_and_addresses_are_told_apart_and_those_that_do_not_fit_are_refused() {
        let same = each(&config("host=a,b port=7")).unwrap();
        assert!(same.iter().all(|one| one.get_ports() == [7]));
        let addressed = each(&config("host=a,b hostaddr=127.0.0.1,127.0.0.2")).unwrap();
        assert_eq!(addressed[1].get_hostaddrs()[0].to_string(), "127.0.0.2");
        let alone = each(&config("host=/run/postgresql")).unwrap();
        assert_eq!(alone[0], config("host=/run/postgresql"));
        for (dsn, expected) in [
            ("user=ann", "no host"),
            ("host=a,b hostaddr=127.0.0.1", "2 hosts and 1 addresses"),
            ("host=a,b port=1,2,3", "2 hosts and 3 ports"),
        ] {
            let said = each(&config(dsn)).unwrap_err();
            assert!(said.contains(expected), "{said}");
        }
    }

    #[tokio::test]
    async fn a_host_that_keeps_silent_holds_nobody_up() {
        let attempt = |number: usize, after: u64, result: Result<&'static str, &'static str>| {
            let attempt = async move {
                tokio::time::sleep(Duration::from_millis(after)).await;
                result.map_err(|reason| Fault::Lost(reason.to_owned()))
            };
            (number, attempt)
        };
        let began = tokio::time::Instant::now();
        let silent = vec![attempt(0, 60_000, Err("")), attempt(1, 60_000, Err("")), attempt(2, 10, Ok("c"))];
        assert_eq!(first_of(silent).await.unwrap(), (2, "c"));
        assert!(began.elapsed() >= HEAD_START * 2, "the one that was asked last has no head start");
        // One that says no is not waited for; one that is slower than the others is still heard.
        let slow = vec![attempt(1, 0, Err("no")), attempt(2, 450, Ok("b")), attempt(0, 0, Err("no"))];
        assert_eq!(first_of(slow).await.unwrap(), (2, "b"));
        let none = vec![attempt(1, 0, Err("read only")), attempt(0, 5, Err("refused"))];
        let said = first_of(none).await.unwrap_err().to_string();
        assert!(
            said.contains("host 2: ") && said.contains("read only") && said.contains("refused"),
            "{said}"
        );
    }

    #[tokio::test]
    async fn a_server_tells_its_history() {
        let Some(postgres) = Postgres::start_or_skip("a_server_tells_its_history", Settings::default())
        else {
            return;
        };
        let options = PostgresOptions::new(postgres.dsn("postgres"));
        let mut session = Pool::new(&options).unwrap().connect_alone().await.unwrap();
        let told = history(&mut session).await.unwrap().expect("every PostgreSQL tells it");
        assert_eq!(told.timeline, 1);
        assert!(told.system.parse::<u64>().unwrap() > 0);
        // A statement that is refused says nothing, and the connection goes on.
        assert_eq!(session.first_row("SELECT 1 FROM nowhere").await.unwrap(), None);
        assert_eq!(session.first_row("SELECT 1, 'a'").await.unwrap(), Some(vec!["1".into(), "a".into()]));
        assert_eq!(session.first_row("SELECT 1 WHERE false").await.unwrap(), None);
    }

    #[test]
    fn a_server_that_was_the_primary_before_is_not_admitted() {
        let history = |system: &str, timeline| History { system: system.to_owned(), timeline };
        let newest = Newest::default();
        assert!(!newest.admit(&history("1", 7)).unwrap());
        assert!(!newest.admit(&history("1", 7)).unwrap());
        assert!(newest.admit(&history("1", 9)).unwrap());
        newest.admit(&history("1", 8)).unwrap_err();
        // A database that was made anew begins again.
        assert!(newest.admit(&history("2", 1)).unwrap());
        assert!(!newest.admit(&history("2", 1)).unwrap());
    }
}
