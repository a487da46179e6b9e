//! `[store]` and `[cluster]`: which engine keeps the data, and what belongs to which.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::resolve::{GIB, MAX_TIMEOUT_MS, number, secret, secret_of_file};
use super::sources::{ConfigError, Sources};
use super::{Secret, raw};

/// `[store]`: where the data is kept.
#[derive(Clone, Debug)]
pub enum Store {
    /// In a folder of this machine, by one process.
    Embedded(Embedded),
    /// In a PostgreSQL database, by as many processes as there are.
    Postgres(Postgres),
}

/// The embedded store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// The folder.
    pub path: PathBuf,
    /// Memory for blocks of the data files, in bytes.
    pub block_cache_bytes: u64,
    /// Memory for the state that the writer decides on, in bytes.
    pub state_cache_bytes: u64,
    /// How many commands may wait for the writer.
    pub queue_length: usize,
    /// How many commands one commit may hold.
    pub batch_commands: usize,
    /// Threads that read.
    pub reader_threads: usize,
}

/// The store in PostgreSQL.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// How the database is reached. It holds a password as a rule.
    pub url: Secret,
    /// Connections of this node at most.
    pub connections: usize,
    /// How many commands of one conversation one transaction may hold.
    pub transaction_commands: usize,
    /// How long one statement may take.
    pub statement_timeout: Duration,
    /// How long a statement waits for a row that another node has locked.
    pub lock_timeout: Duration,
    /// Certificates that vouch for the database, instead of those of the machine.
    pub ca: Option<PathBuf>,
}

/// `[cluster]`: how nodes hear what others have committed, and that others live.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Addresses of servers of the message broker, which may hold passwords; none: the tables are polled.
    pub nats: Vec<Secret>,
    /// How often conversations that somebody follows are looked at in the tables.
    pub poll: Duration,
    /// How long a node that is not heard of counts as alive.
    pub lease: Duration,
}

impl Store {
    /// The folder of the data, where it is kept in one.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Embedded(embedded) => Some(&embedded.path),
            Self::Postgres(_) => None,
        }
    }
}

/// Options that only the embedded store has.
const OF_EMBEDDED: [&str; 6] =
    ["path", "block_cache_bytes", "state_cache_bytes", "queue_length", "batch_commands", "reader_threads"];

/// Options that only the store in PostgreSQL has.
const OF_POSTGRES: [&str; 7] = [
    "url",
    "url_file",
    "connections",
    "transaction_commands",
    "statement_timeout_ms",
    "lock_timeout_ms",
    "ca",
];

/// Servers of the broker at most.
const MAX_NATS: usize = 64;

pub(super) fn resolve(sources: &Sources, data: Option<PathBuf>) -> Result<Store, ConfigError> {
    let raw = &sources.raw.store;
    match raw.engine.as_str() {
        "embedded" => {
            refuse_others(sources, "embedded", &OF_POSTGRES, "postgres")?;
            embedded(sources, raw, data).map(Store::Embedded)
        }
        "postgres" => {
            refuse_others(sources, "postgres", &OF_EMBEDDED, "embedded")?;
            if data.is_some() {
                return Err(sources.wrong(
                    "store.engine",
                    "the store \"postgres\" has no folder; leave out --data, or choose \"embedded\"",
                ));
            }
            postgres(sources, raw).map(Store::Postgres)
        }
        other => Err(sources.wrong(
            "store.engine",
            format!("there is no store engine called {other:?}; use \"embedded\" or \"postgres\""),
        )),
    }
}

pub(super) fn cluster(sources: &Sources) -> Result<Cluster, ConfigError> {
    let raw::Cluster { nats, poll_ms, lease_ms } = &sources.raw.cluster;
    if sources.raw.store.engine == "embedded"
        && ["nats", "poll_ms", "lease_ms"].iter().any(|of| said(sources, of))
    {
        let advice = "a server with the embedded store is alone; drop [cluster], or choose \"postgres\"";
        return Err(sources.wrong("cluster", advice));
    }
    if nats.len() > MAX_NATS {
        return Err(
            sources.wrong("cluster.nats", format!("more than {MAX_NATS} servers; name a few of them"))
        );
    }
    let mut servers = Vec::new();
    for (index, server) in nats.iter().enumerate() {
        let at = format!("cluster.nats[{index}]");
        let rest = server.strip_prefix("nats://").or_else(|| server.strip_prefix("tls://"));
        let is_address = |rest: &str| !rest.is_empty() && !rest.contains(|c: char| c.is_whitespace());
        if !rest.is_some_and(is_address) {
            // The text is not repeated: it may hold a password.
            let advice = "this is no address of a NATS server; write nats://host:4222 or tls://host:4222";
            return Err(sources.wrong(&at, advice));
        }
        servers.push(secret(sources, &at, server.clone())?);
    }
    let poll = number(sources, "cluster.poll_ms", *poll_ms, 50..=60_000)?;
    let lease = number(sources, "cluster.lease_ms", *lease_ms, 1000..=60_000)?;
    Ok(Cluster { nats: servers, poll: Duration::from_millis(poll), lease: Duration::from_millis(lease) })
}

fn said(sources: &Sources, of_cluster: &str) -> bool {
    sources.say(&format!("cluster.{of_cluster}"))
}

/// Refuses what would have no effect: whoever wrote it expects one.
fn refuse_others(sources: &Sources, engine: &str, others: &[&str], owner: &str) -> Result<(), ConfigError> {
    for name in others {
        let key = format!("store.{name}");
        if sources.say(&key) {
            return Err(sources.wrong(
                &key,
                format!("this is an option of the store {owner:?}, and store.engine is {engine:?}; drop one of the two"),
            ));
        }
    }
    Ok(())
}

fn embedded(sources: &Sources, raw: &raw::Store, data: Option<PathBuf>) -> Result<Embedded, ConfigError> {
    let path = data.unwrap_or_else(|| PathBuf::from(&raw.path));
    if path.as_os_str().is_empty() {
        return Err(sources.wrong("store.path", "the path is empty; name the folder for the data"));
    }
    let option = |name: &str, value, range| number(sources, &format!("store.{name}"), value, range);
    let cache = |name: &str, value| number(sources, &format!("store.{name}"), value, 0..=1024 * GIB);
    Ok(Embedded {
        path,
        block_cache_bytes: cache("block_cache_bytes", raw.block_cache_bytes.0)?,
        state_cache_bytes: cache("state_cache_bytes", raw.state_cache_bytes.0)?,
        queue_length: option("queue_length", raw.queue_length, 1..=1_048_576)?,
        batch_commands: option("batch_commands", raw.batch_commands, 1..=65_536)?,
        reader_threads: option("reader_threads", raw.reader_threads, 1..=256)?,
    })
}

fn postgres(sources: &Sources, raw: &raw::Store) -> Result<Postgres, ConfigError> {
    let timeout = |name: &str, value| {
        number(sources, &format!("store.{name}"), value, 100..=MAX_TIMEOUT_MS).map(Duration::from_millis)
    };
    Ok(Postgres {
        url: url(sources, raw)?,
        connections: number(sources, "store.connections", raw.connections, 1..=1000)?,
        transaction_commands: number(
            sources,
            "store.transaction_commands",
            raw.transaction_commands,
            1..=128,
        )?,
        statement_timeout: timeout("statement_timeout_ms", raw.statement_timeout_ms)?,
        lock_timeout: timeout("lock_timeout_ms", raw.lock_timeout_ms)?,
        ca: raw.ca.as_ref().map(PathBuf::from),
    })
}

fn url(sources: &Sources, raw: &raw::Store) -> Result<Secret, ConfigError> {
    // What the environment says wins over the file, whichever of the two it says.
    let [of_url, of_file] = ["store.url", "store.url_file"].map(|key| sources.environment_says(key));
    let url = raw.url.as_ref().filter(|_| of_url || !of_file);
    let file = raw.url_file.as_ref().filter(|_| of_file || !of_url);
    match (url, file) {
        (Some(url), None) => secret(sources, "store.url", url.clone()),
        (None, Some(path)) => secret_of_file(sources, "store.url_file", path),
        (Some(_), Some(_)) => {
            Err(sources.wrong("store.url_file", "store.url is given too; keep one of the two"))
        }
        (None, None) => Err(sources.wrong(
            "store.engine",
            "\"postgres\" needs to know its database; give store.url or store.url_file, such as \
             postgres://sidenote@host/sidenote",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::{Config, Overrides, resolve as resolve_all};
    use super::*;

    const APP: &str = "[[apps]]\nsdk_app_id = 1\nsecret_key = \"key\"\n";
    const URL: &str =
        "postgres://ann:hunter2@db1,db2/sidenote?target_session_attrs=read-write&sslmode=require";

    fn read(text: &str, environment: &[(&str, &str)], overrides: Overrides) -> Result<Config, ConfigError> {
        let environment =
            environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let file = (Path::new("sidenote.toml"), format!("{text}\n{APP}"));
        resolve_all::resolve(&Sources::new(Some(file), environment)?, overrides)
    }

    fn postgres_of(config: &Config) -> &Postgres {
        let Store::Postgres(postgres) = &config.store else { panic!("{:?}", config.store) };
        postgres
    }

    /// What is said about the text, which must be wrong.
    fn said(text: &str) -> String {
        let message = read(text, &[], Overrides::default()).unwrap_err().to_string();
        assert!(!message.contains("hunter2") && !message.contains('\n'), "{message}");
        message
    }

    #[test]
    fn a_database_is_named_by_its_url_alone() {
        let text = format!("[store]\nengine = \"postgres\"\nurl = {URL:?}");
        let config = read(&text, &[], Overrides::default()).unwrap();
        let Postgres { url, connections, transaction_commands, statement_timeout, lock_timeout, ca } =
            postgres_of(&config);
        assert_eq!(url.expose_text(), URL);
        assert_eq!((*connections, *transaction_commands, ca), (16, 128, &None));
        assert_eq!((statement_timeout.as_secs(), lock_timeout.as_secs()), (5, 3));
        assert_eq!((config.cluster.nats.len(), config.cluster.poll.as_millis()), (0, 1000));
        assert_eq!(config.cluster.lease.as_secs(), 10);
        assert_eq!(config.store.folder(), None);
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn a_database_may_be_named_by_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        std::fs::write(&path, format!("{URL}\n")).unwrap();
        let text = format!("[store]\nengine = \"postgres\"\nurl_file = {path:?}\nconnections = 3");
        let config = read(&text, &[], Overrides::default()).unwrap();
        assert_eq!((postgres_of(&config).url.expose_text(), postgres_of(&config).connections), (URL, 3));

        // Whatever the file says, the environment wins, under either name.
        for name in ["SIDENOTE_STORE_URL", "SIDENOTE_STORE__URL"] {
            for file in [text.as_str(), "[store]\nengine = \"postgres\"\nurl = \"postgres://else\""] {
                let config = read(file, &[(name, URL)], Overrides::default()).unwrap();
                assert_eq!(postgres_of(&config).url.expose_text(), URL);
                assert_eq!(config.ignored_variables, [""; 0]);
            }
        }
        let environment = [("SIDENOTE_STORE__URL_FILE", path.to_str().unwrap())];
        let file = "[store]\nengine = \"postgres\"\nurl = \"postgres://else\"";
        let config = read(file, &environment, Overrides::default()).unwrap();
        assert_eq!(postgres_of(&config).url.expose_text(), URL);
        let both = [environment[0], ("SIDENOTE_STORE_URL", "hunter2")];
        let error = read(file, &both, Overrides::default()).unwrap_err().to_string();
        assert!(error.ends_with("store.url is given too; keep one of the two"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");

        std::fs::remove_file(&path).unwrap();
        let message = said(&text);
        assert!(message.starts_with("sidenote.toml:3: store.url_file: cannot read "), "{message}");
    }

    #[test]
    fn options_of_the_other_engine_are_refused() {
        let of_postgres = format!("[store]\nengine = \"postgres\"\nurl = {URL:?}");
        for option in [
            "path = \"./sidenote-data\"",
            "block_cache_bytes = \"64MiB\"",
            "state_cache_bytes = 1",
            "queue_length = 4096",
            "batch_commands = 1024",
            "reader_threads = 0",
        ] {
            let name = option.split(' ').next().unwrap();
            assert_eq!(
                said(&format!("{of_postgres}\n{option}")),
                format!(
                    "sidenote.toml:4: store.{name}: this is an option of the store \"embedded\", and store.engine is \
                     \"postgres\"; drop one of the two"
                )
            );
        }
        for option in [
            "url = \"postgres://ann:hunter2@db\"",
            "url_file = \"/run/secrets/url\"",
            "connections = 16",
            "transaction_commands = 128",
            "statement_timeout_ms = 5000",
            "lock_timeout_ms = 3000",
            "ca = \"ca.pem\"",
        ] {
            let name = option.split(' ').next().unwrap();
            assert_eq!(
                said(&format!("[store]\n{option}")),
                format!(
                    "sidenote.toml:2: store.{name}: this is an option of the store \"postgres\", and store.engine is \
                     \"embedded\"; drop one of the two"
                )
            );
        }
        for (name, value, problem) in [
            ("SIDENOTE_STORE_URL", URL, "store.url: this is an option of the store \"postgres\""),
            ("SIDENOTE_STORE__CONNECTIONS", "3", "store.connections: this is an option of the store"),
            ("SIDENOTE_CLUSTER__POLL_MS", "1000", "cluster: a server with the embedded store is alone"),
        ] {
            let error = read("", &[(name, value)], Overrides::default()).unwrap_err().to_string();
            assert!(error.contains(problem) && !error.contains("hunter2"), "{error}");
        }
        let overrides = Overrides { data: Some("elsewhere".into()), ..Overrides::default() };
        let error = read(&of_postgres, &[], overrides).unwrap_err().to_string();
        assert!(
            error.ends_with("the store \"postgres\" has no folder; leave out --data, or choose \"embedded\"")
        );
    }

    #[test]
    fn a_database_that_is_not_named_and_figures_out_of_range_are_refused() {
        for (text, message) in [
            (
                "[store]\nengine = \"postgres\"",
                "2: store.engine: \"postgres\" needs to know its database; give store.url or store.url_file, such as \
                 postgres://sidenote@host/sidenote",
            ),
            (
                "[store]\nengine = \"postgres\"\nurl = \"\"",
                "3: store.url: the secret is empty; give at least one character",
            ),
            (
                "[store]\nengine = \"postgres\"\nurl = 5432",
                "3: store.url: expected a text, found a whole number",
            ),
            (
                "[store]\nengine = \"postgres\"\nurl = \"hunter2\"\nurl_file = \"f\"",
                "4: store.url_file: store.url is given too; keep one of the two",
            ),
            (
                "[cluster]\nnats = [\"nats://n\"]",
                "1: cluster: a server with the embedded store is alone; drop [cluster], or choose \"postgres\"",
            ),
        ] {
            assert_eq!(said(text), format!("sidenote.toml:{message}"));
        }
        for (option, message) in [
            ("connections = 0", "4: store.connections: 0 is too small; the least is 1"),
            ("connections = 1001", "4: store.connections: 1001 is too large; the most is 1000"),
            (
                "transaction_commands = 129",
                "4: store.transaction_commands: 129 is too large; the most is 128",
            ),
            ("statement_timeout_ms = 0", "4: store.statement_timeout_ms: 0 is too small; the least is 100"),
            ("lock_timeout_ms = 99", "4: store.lock_timeout_ms: 99 is too small; the least is 100"),
            ("[cluster]\npoll_ms = 0", "5: cluster.poll_ms: 0 is too small; the least is 50"),
            ("[cluster]\nlease_ms = 999", "5: cluster.lease_ms: 999 is too small; the least is 1000"),
            ("[cluster]\npoll_ms = 60001", "5: cluster.poll_ms: 60001 is too large; the most is 60000"),
            (
                "[cluster]\nnats = [\"nats://n\", \"ann:hunter2@n\"]",
                "5: cluster.nats[1]: this is no address of a NATS server; write nats://host:4222 or tls://host:4222",
            ),
            ("[cluster]\nnats = \"hunter2\"", "5: cluster.nats: expected a list, found a text"),
        ] {
            let text = format!("[store]\nengine = \"postgres\"\nurl = {URL:?}\n{option}");
            assert_eq!(said(&text), format!("sidenote.toml:{message}"));
        }
        let text = format!(
            "[store]\nengine = \"postgres\"\nurl = {URL:?}\n[cluster]\nnats = [\"nats://u:hunter2@n:4222\"]"
        );
        let config = read(&text, &[], Overrides::default()).unwrap();
        assert_eq!(config.cluster.nats[0].expose_text(), "nats://u:hunter2@n:4222");
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
