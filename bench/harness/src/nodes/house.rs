//! The database, the broker and the nodes, with the data of all cases.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sidenote_core::Limits;
use sidenote_store::Store as _;
use sidenote_store_postgres::{PostgresOptions, PostgresStore, schema};

use super::Members;
use crate::client::exchange;
use crate::dialect::number_after;
use crate::fill::fill_each;
use crate::process::{Process, Usage, answers_on, free_port};
use crate::servers::{Base, GROUP, Groups, MEMBER, Pgbench, Product, SERVICES, Server, start_server};
use crate::workload::{KEYS, Range, Workload};

/// The nodes: three as they come, and one that puts no commands together.
const NODES: usize = 4;
/// That one.
pub(super) const ALONE: usize = 3;

/// Members of the one group who set pairs of its message.
const CROWD: u32 = 64;

/// Groups, and messages of each without pairs and with 20.
pub(super) const GROUPS: u64 = 1000;
pub(super) const EACH: u64 = 10;

/// The messages of the groups as the workload calls them, and one of a group of its own.
pub(super) const PLAIN: Range =
    Range { first: 1_000_001, messages: GROUPS * EACH, stored_pairs: 0, keys: Some(KEYS) };
pub(super) const FULL: Range =
    Range { first: 2_000_001, messages: GROUPS * EACH, stored_pairs: KEYS, keys: Some(KEYS) };
pub(super) const HOT: Range = Range { first: 1, messages: 1, stored_pairs: 0, keys: Some(300) };

/// The databases: that of the nodes, and one with the same tables for pgbench.
pub(super) const OF_NODES: &str = "nodes";
pub(super) const OF_PGBENCH: &str = "bound";

/// How long nodes are given to notice that they were stopped for a while.
const RECOVERY: Duration = Duration::from_millis(300);

/// A cluster on this machine.
pub(super) struct House {
    postgres: Process,
    nats: Process,
    pub(super) pgbench: Pgbench,
    product: Product,
    nodes: Vec<Server>,
    /// The cluster as it is asked for messages of the groups without pairs and with some, and for the hot one.
    doors: [Server; 3],
}

/// What was used so far.
pub(super) struct Meter {
    /// Times that the nodes asked the database; whatever they did in the background is in it.
    pub(super) round_trips: u64,
    pub(super) statements: u64,
    pub(super) transactions: u64,
    pub(super) wal_bytes: u64,
}

impl House {
    /// Starts everything, stores the data, and puts the nodes to sleep.
    pub(super) fn build(bin: &Path, folder: &Path) -> Result<Self> {
        let part = |name: &str| {
            let part = folder.join(name);
            fs::create_dir(&part).context("cannot make a folder")?;
            Ok::<_, anyhow::Error>(part)
        };
        let settings = [
            "shared_buffers=512MB",
            "max_wal_size=8GB",
            "checkpoint_timeout=30min",
            "wal_compression=on",
            "shared_preload_libraries=pg_stat_statements",
        ];
        let (postgres, pgbench) = start_server(&part("postgres")?, &settings)?;
        pgbench.sql("postgres", "CREATE EXTENSION pg_stat_statements")?;
        for database in [OF_NODES, OF_PGBENCH] {
            pgbench.sql("postgres", &format!("CREATE DATABASE {database}"))?;
            let options = PostgresOptions::new(pgbench.dsn(database));
            block_on(async { schema::migrate(&options).await.context("cannot make the tables") })?;
        }
        let (nats_port, mut command) = (free_port()?, Command::new("nats-server"));
        command.args(["--addr", "127.0.0.1", "--port", &nats_port.to_string()]);
        let mut nats = Process::start("nats", folder, &mut command)?;
        nats.wait_until(|| answers_on(nats_port))?;

        let mut nodes = Vec::new();
        let mut products = Vec::new();
        for number in 0..NODES {
            let transaction_commands = (number == ALONE).then_some(1);
            let base = Base { dsn: pgbench.dsn(OF_NODES), nats: nats_port, transaction_commands };
            let name = format!("node{number}");
            let product = Product::new(bin, &folder.join(&name), None).on(base);
            nodes.push(product.start(&name)?.0);
            products.push(product);
        }
        let product = products.swap_remove(0);
        store(&product, nodes[0].port(), &pgbench)?;
        pgbench.sql(OF_PGBENCH, &super::script::data())?;
        for database in [OF_NODES, OF_PGBENCH] {
            pgbench.sql(database, "VACUUM ANALYZE")?;
        }
        let groups = |first: Range, skipped| {
            let groups = Groups { first: first.first, messages: EACH, skipped };
            product.in_groups(&nodes[0], "nodes", groups)
        };
        let doors = [groups(PLAIN, 0)?, groups(FULL, EACH)?, product.by_many(&nodes[0], "nodes", &crowd())?];
        let mut house = Self { postgres, nats, pgbench, product, nodes, doors };
        house.sleep()?;
        Ok(house)
    }

    /// Lets these nodes run, and waits until they are ready again.
    pub(super) fn wake(&mut self, nodes: &[usize]) -> Result<()> {
        for node in nodes {
            self.nodes[*node].resume()?;
        }
        if !nodes.is_empty() {
            std::thread::sleep(RECOVERY);
        }
        for node in nodes {
            let port = self.nodes[*node].port();
            let ready = (0..100).any(|_| {
                let ready = crate::client::is_fine(port, "/readyz");
                if !ready {
                    std::thread::sleep(RECOVERY);
                }
                ready
            });
            if !ready {
                bail!("a node that was stopped for a while is not ready again");
            }
        }
        Ok(())
    }

    /// Stops all nodes where they are.
    pub(super) fn sleep(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(Server::pause)
    }

    /// The cluster as it is asked for this workload, through these nodes.
    pub(super) fn door(&mut self, nodes: &[usize], workload: Workload) -> &mut Server {
        let ports: Vec<u16> = nodes.iter().map(|node| self.nodes[*node].port()).collect();
        let door = match workload.range {
            PLAIN => 0,
            FULL => 1,
            _ => 2,
        };
        self.doors[door].through(&ports);
        &mut self.doors[door]
    }

    pub(super) fn reset_peak(&self) {
        self.nodes.iter().for_each(Server::reset_peak);
        self.postgres.reset_peak();
    }

    /// What nodes, database and broker have used.
    pub(super) fn usage(&self) -> Usage {
        let nodes = self.nodes.iter().map(Server::usage);
        let all = nodes.chain([self.postgres.usage(), self.nats.usage()]);
        all.fold(Usage::default(), |sum, one| Usage {
            cpu_us: sum.cpu_us + one.cpu_us,
            peak_rss_kib: sum.peak_rss_kib + one.peak_rss_kib,
        })
    }

    /// Reads what was used so far, these nodes' round trips among it.
    pub(super) fn meter(&self, nodes: &[usize]) -> Result<Meter> {
        let mut round_trips = 0;
        for node in nodes {
            let request = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
            let (_, body) = exchange(self.nodes[*node].port(), request)?;
            let counted = number_after(&body, b"\nsidenote_store_round_trips_total ");
            round_trips += u64::from(counted.context("a node does not say how often it asked the database")?);
        }
        let told = self.pgbench.sql(
            "postgres",
            "SELECT (SELECT coalesce(sum(calls), 0) FROM pg_stat_statements), \
             (SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query IN ('COMMIT', 'COMMIT;')), \
             pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')",
        )?;
        let numbers: Option<Vec<u64>> = told.trim().split('|').map(|text| text.parse().ok()).collect();
        let Some([statements, transactions, wal_bytes]) = numbers.as_deref() else {
            bail!("the database said {told:?} where figures were asked for");
        };
        Ok(Meter { round_trips, statements: *statements, transactions: *transactions, wal_bytes: *wal_bytes })
    }

    /// A node for each of those whom something crosses between.
    pub(super) fn members(&self) -> Members<'_> {
        Members { servers: self.nodes.iter().take(ALONE).collect(), product: &self.product }
    }

    /// Ends everything.
    pub(super) fn leave(mut self) -> Result<()> {
        for node in &mut self.nodes {
            node.stop()?;
        }
        self.nats.stop()?;
        self.postgres.stop()
    }
}

/// Those members. Whoever shares a transaction with one of them is mostly somebody else.
fn crowd() -> Vec<String> {
    (0..CROWD).map(|number| format!("member{number:03}")).collect()
}

/// Accounts and groups through the API, messages through the store.
fn store(product: &Product, port: u16, pgbench: &Pgbench) -> Result<()> {
    let mut accounts = vec![MEMBER.to_owned(), crate::live::account(0)];
    accounts.extend(crowd());
    let members: Value = accounts.iter().map(|name| json!({"Member_Account": name})).collect();
    let create = |group: &str, members: &Value| {
        let body = json!({"Type": "Public", "Name": group, "GroupId": group, "MemberList": members});
        (format!("{}/create_group", SERVICES.1), body)
    };
    let groups: Vec<String> = (0..GROUPS).map(Groups::name).collect();
    let mut requests = vec![(format!("{}/multiaccount_import", SERVICES.0), json!({"Accounts": accounts}))];
    requests.push(create(GROUP, &members));
    let alone = json!([{"Member_Account": MEMBER}]);
    requests.extend(groups.iter().map(|group| create(group, &alone)));
    product.ask(port, &requests)?;
    block_on(async {
        let store = Arc::new(open(pgbench).await?);
        fill_each(&store, &[GROUP.to_owned()], 2, 0).await?;
        fill_each(&store, &groups, EACH, EACH).await?;
        store.close().await;
        Ok(())
    })
}

/// The store of the nodes, without a node.
pub(super) async fn open(pgbench: &Pgbench) -> Result<PostgresStore> {
    let probe_interval = Duration::from_hours(1);
    let options = PostgresOptions { probe_interval, ..PostgresOptions::new(pgbench.dsn(OF_NODES)) };
    let limits = Limits { attempts_per_minute: 0, ..Limits::default() };
    PostgresStore::open(options, limits).await.context("cannot open the store of the nodes")
}

/// Lets something run that has to wait for a database.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("cannot start the threads of a store")?.block_on(work)
}

pub(super) fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}
