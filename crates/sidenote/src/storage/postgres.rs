//! The store in a PostgreSQL database.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use sidenote_cluster::{ClusterOptions, Node};
use sidenote_core::Limits;
use sidenote_core::ids::AppId;
use sidenote_core::rows::{Row, RowKey};
use sidenote_server::config::{Cluster, Postgres};
use sidenote_store::Store;
use sidenote_store_postgres::{
    Abandoned, Begun, Found, Loaded, Loader, MoveError, PostgresOptions, PostgresStore, Unreadable, Walk,
    schema,
};
use tokio::runtime::Runtime;

use super::{Entry, Undecodable};
use crate::failure::Usage;

pub(crate) use sidenote_store_postgres::{Load, OpenError, fits, home_key};

/// Connects to a database whose schema this program can use, as one of the nodes that do. It must hold all of these apps
/// or nothing of them.
pub(crate) async fn open(
    options: &Postgres,
    cluster: &Cluster,
    limits: Limits,
    apps: &[u32],
) -> anyhow::Result<Arc<dyn Store>> {
    let others = others(cluster)?;
    let store = open_alone(options, limits).await?;
    let unfinished = store.unfinished_imports().await.context("cannot open the store")?;
    if let Some(app) = apps.iter().find(|app| unfinished.contains(&AppId::new(**app))) {
        store.close().await;
        bail!("cannot open the store: app {app} {UNFINISHED}, or take the app out of the configuration");
    }
    Ok(Arc::new(Node::start(store, &others).await?))
}

/// The same without hearing of others.
pub(crate) async fn open_alone(options: &Postgres, limits: Limits) -> anyhow::Result<Arc<PostgresStore>> {
    let store = PostgresStore::open(given(options), limits).await.map_err(explain);
    store.map(Arc::new).context("cannot open the store")
}

/// Says what is wrong with the options, as far as that can be seen without connecting.
pub(crate) fn check(options: &Postgres, cluster: &Cluster) -> anyhow::Result<()> {
    others(cluster)?;
    given(options).check().map_err(explain)
}

fn others(Cluster { nats, poll, lease }: &Cluster) -> anyhow::Result<ClusterOptions> {
    let nats = nats.iter().map(|server| server.expose_text().to_owned()).collect();
    let options = ClusterOptions { nats, poll: *poll, lease: *lease };
    options.check().map_err(|error| Usage::error(format!("cluster.nats: {error}")))?;
    Ok(options)
}

/// Brings the schema up to date; the one that was there before (0: none) and the one that is there now.
pub(crate) async fn migrate(options: &Postgres) -> anyhow::Result<(u32, u32)> {
    let migrated = schema::migrate(&given(options)).await.map_err(explain)?;
    Ok((migrated.from, migrated.to))
}

/// Spreads the tables over the workers of a Citus cluster.
pub(crate) async fn distribute(options: &Postgres) -> anyhow::Result<()> {
    schema::distribute(&given(options)).await.map_err(explain)
}

/// What is said of an app whose import was not finished.
pub(crate) const UNFINISHED: &str = "is being imported, or its import was interrupted; run `sidenote import` with the same \
     file until it is done, or give it up with `sidenote import --abandon`";

/// All rows of a database, or of one of its apps, as of now.
pub(crate) struct Rows {
    walk: Walk,
    page: std::vec::IntoIter<Found>,
    runtime: Runtime,
}

impl Rows {
    pub(crate) fn open(options: &Postgres, app: Option<u32>) -> anyhow::Result<Self> {
        let runtime = runtime()?;
        let apps = app.map(|app| BTreeSet::from([AppId::new(app)]));
        let walk = runtime.block_on(Walk::begin(&given(options), apps)).map_err(explain_move)?;
        Ok(Self { walk, page: Vec::new().into_iter(), runtime })
    }

    pub(super) const fn approximate_rows(&self) -> u64 {
        self.walk.approximate_rows()
    }

    /// The apps of which only a part is there.
    pub(super) const fn unfinished(&self) -> &BTreeSet<AppId> {
        self.walk.unfinished()
    }

    /// The next row and how many bytes it took; `None` behind the last one.
    pub(super) fn next_entry(&mut self) -> anyhow::Result<Option<(Entry, usize)>> {
        next_entry(&mut self.walk, &mut self.page, &self.runtime)
    }
}

fn next_entry(
    walk: &mut Walk,
    page: &mut std::vec::IntoIter<Found>,
    runtime: &Runtime,
) -> anyhow::Result<Option<(Entry, usize)>> {
    let mut found = page.next();
    if found.is_none() {
        let next = runtime.block_on(walk.next_page()).context("the database could not be read")?;
        *page = next.unwrap_or_default().into_iter();
        found = page.next();
    }
    Ok(found.map(|Found { entry, bytes }| {
        (entry.map_err(|Unreadable { key, reason }| Undecodable { key, reason }), bytes)
    }))
}

/// Takes away what is there of an import that was not finished: that of this app, or the only one.
pub(crate) fn abandon(options: &Postgres, app: Option<u32>) -> anyhow::Result<Abandoned> {
    let (options, runtime) = (given(options), runtime()?);
    let abandoned = sidenote_store_postgres::abandon(&options, app.map(AppId::new));
    runtime.block_on(abandoned).map_err(explain_move)
}

/// How an import into a database begins.
pub(crate) enum Intake {
    Begun(DatabaseLoader),
    /// It was finished before, then.
    Before(String),
}

/// Brings rows into a database.
pub(crate) struct DatabaseLoader {
    loader: Box<Loader>,
    runtime: Runtime,
}

/// All that was brought in, before it holds.
pub(crate) struct Arrived {
    loaded: Loaded,
    page: std::vec::IntoIter<Found>,
    runtime: Runtime,
}

impl DatabaseLoader {
    pub(crate) fn begin(options: &Postgres, load: Load) -> anyhow::Result<Intake> {
        let runtime = runtime()?;
        let begun = runtime.block_on(Loader::begin(&given(options), load)).map_err(explain_move)?;
        Ok(match begun {
            Begun::Loader(loader) => Intake::Begun(Self { loader, runtime }),
            Begun::Before(when) => Intake::Before(when),
        })
    }

    /// Rows that are there from an import that was interrupted.
    pub(crate) const fn resumes_at(&self) -> u64 {
        self.loader.resumes_at()
    }

    /// Connections of nodes to the same database.
    pub(crate) fn other_connections(&mut self) -> u64 {
        self.runtime.block_on(self.loader.other_connections())
    }

    pub(crate) fn put(&mut self, key: RowKey, row: &Row) -> anyhow::Result<()> {
        Ok(self.runtime.block_on(self.loader.put(key, row))?)
    }

    /// Behind the last row.
    pub(crate) fn arrive(self) -> anyhow::Result<Arrived> {
        let loaded = self.runtime.block_on(self.loader.compare())?;
        Ok(Arrived { loaded, page: Vec::new().into_iter(), runtime: self.runtime })
    }
}

impl Arrived {
    /// The next row that is there now; `None` behind the last one.
    pub(crate) fn next_entry(&mut self) -> anyhow::Result<Option<Entry>> {
        let next = next_entry(&mut self.loaded.walk, &mut self.page, &self.runtime)?;
        Ok(next.map(|(entry, _)| entry))
    }

    /// Makes it hold.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        Ok(self.runtime.block_on(self.loaded.finish())?)
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot ask a database")
}

fn explain_move(error: MoveError) -> anyhow::Error {
    match error {
        MoveError::Open(error) => explain(error),
        other => other.into(),
    }
}

fn given(options: &Postgres) -> PostgresOptions {
    let Postgres { url, connections, transaction_commands, statement_timeout, lock_timeout, ca } = options;
    PostgresOptions {
        connections: *connections,
        batch: *transaction_commands,
        statement_timeout: *statement_timeout,
        lock_timeout: *lock_timeout,
        root_certificates: ca.clone(),
        ..PostgresOptions::new(url.expose_text())
    }
}

/// A mistake in the configuration is told as one, and without what may be a part of the password.
fn explain(error: OpenError) -> anyhow::Error {
    match error {
        OpenError::Dsn { reason, unknown_option } => Usage::error(format!(
            "store.url can't be used: {}; write it like postgres://sidenote@host:5432/sidenote?sslmode=require, with \
             %40 for an @ and %25 for a % in the password",
            without_secrets(&reason, unknown_option.as_deref())
        )),
        OpenError::Certificates { path, reason } => {
            Usage::error(format!("store.ca: {} can't be used: {reason}", path.display()))
        }
        other => other.into(),
    }
}

/// Options that other programs take in such a URL, and that are worth a word if they are not taken here.
const KNOWN_ELSEWHERE: [&str; 11] = [
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslcrl",
    "passfile",
    "service",
    "fallback_application_name",
    "gssencmode",
    "client_encoding",
    "sslsni",
    "require_auth",
];

/// What the parser says of the URL, but for what it repeats of it: where a sign of the password is not written as it must
/// be, the parser takes the rest for something else.
fn without_secrets(reason: &str, unknown_option: Option<&str>) -> String {
    if reason.contains("unknown option") {
        let known_elsewhere = reason.split('`').nth(1).filter(|name| KNOWN_ELSEWHERE.contains(name));
        return match known_elsewhere.or(unknown_option) {
            Some("sslrootcert") => {
                "it has the option sslrootcert, instead of which there is store.ca".to_owned()
            }
            Some(name) => format!("it has the option {name}, which is not known here"),
            None => "it has an option that is not known".to_owned(),
        };
    }
    if let Some(at) = reason.find("invalid value for option `") {
        return reason[at..].to_owned();
    }
    // How many hosts and ports there are, or @.
    if reason.starts_with("it names ") || reason.starts_with("it has more than ") {
        return reason.to_owned();
    }
    "it is not one that makes sense".to_owned()
}

#[cfg(test)]
mod tests {
    use sidenote_server::config::{Config, Store};

    use super::*;

    /// What is said of a URL that can't be used.
    fn said(url: &str) -> String {
        let text = format!(
            "[store]\nengine = \"postgres\"\nurl = {url:?}\n[[apps]]\nsdk_app_id = 1\nsecret_key = \"key\"\n"
        );
        let config = Config::from_toml(&text).unwrap();
        let Store::Postgres(options) = &config.store else { panic!("{:?}", config.store) };
        assert!(!format!("{config:?}").contains("hunter2"));
        let error = check(options, &config.cluster).unwrap_err();
        assert!(error.is::<Usage>());
        error.to_string()
    }

    #[test]
    fn what_is_wrong_with_a_broker_is_said_without_its_password() {
        let text = "[store]\nengine = \"postgres\"\nurl = \"postgres://host/db\"\n[cluster]\n\
            nats = [\"nats://ok:4222\", \"nats://ann:hunter2@host:port\"]\n\
            [[apps]]\nsdk_app_id = 1\nsecret_key = \"key\"\n";
        let config = Config::from_toml(text).unwrap();
        let Store::Postgres(options) = &config.store else { panic!("{:?}", config.store) };
        let error = check(options, &config.cluster).unwrap_err();
        assert!(error.is::<Usage>());
        let said = error.to_string();
        assert!(said.starts_with("cluster.nats: address 2 ") && !said.contains("hunter2"), "{said}");
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_its_password() {
        for (url, problem) in [
            ("postgres://ann:hunter2@host:port/db", "invalid value for option `port`"),
            ("postgres://ann:hunter2@host/db?sslmode=maybe", "invalid value for option `sslmode`"),
            ("postgres://ann:hunter2@host/db?sslrootcert=/ca.pem", "instead of which there is store.ca"),
            ("postgres://ann:hunter2@host/db?passfile=/hunter2", "the option passfile, which is not known"),
            ("postgres://ann:hunter2@host/db?hunter2", "it is not one that makes sense"),
            ("host=db user=ann password=my hunter2=x", "it has an option that is not known"),
            ("postgres://ann:my@b?hunter2=1@host/db", "it has an option that is not known"),
            ("postgres://host/db?user=ann&password=my&hunter2=1", "it has an option that is not known"),
            ("postgres://ann:my@host/db?sslmod=hunter2", "the option sslmod, which is not known here"),
            ("host=db pasword=hunter2", "the option pasword, which is not known here"),
            ("postgres://ann:my@hunter2@host/db", "it has more than one @; write it like "),
            ("postgres://ann:my@hunter2@host:5432,other/db?sslmode=require", "%40 for an @"),
            ("postgresql://ann:my@hunter/2@host/db", "it has more than one @"),
            ("host=db password='hunter2", "it is not one that makes sense"),
            ("postgres://", "it names no host"),
            ("user=ann password=hunter2", "it names no host"),
            ("mysql://ann:hunter2@host/db", "it is not one that makes sense"),
        ] {
            let said = said(url);
            assert!(said.contains(problem) && !said.contains("hunter2"), "{url}: {said}");
        }
    }
}
