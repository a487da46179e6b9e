//! The servers that are measured: the product, the bare server, and what a user might pick instead.

mod bare;
mod etcd;
mod nats;
mod postgres;
mod product;
mod redis;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cases::Data;
use crate::client::exchange;
use crate::dialect::{Dialect, Learned};
use crate::load::{self, Gate, Load, Outcome};
use crate::process::{Process, Usage};
use crate::workload::{Action, Mix, Range, Request, Source, Versions, Workload};

pub(crate) use bare::Publish;
pub(crate) use postgres::{Pgbench, Script, start_server};
pub(crate) use product::{APP, Base, GROUP, Groups, MEMBER, Product, SERVICES, query};

/// What can stand beside the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Reference {
    /// HTTP and JSON alone.
    Bare,
    /// Redis that syncs before it answers, behind webdis.
    RedisAlways,
    /// Redis that syncs once a second, behind webdis.
    RedisEverysec,
    /// etcd through its JSON gateway.
    Etcd,
    /// PostgreSQL through pgbench, without HTTP.
    Postgres,
    /// NATS without persistence, for the cases in which somebody is told.
    Nats,
}

impl Reference {
    /// Starts it with an empty folder of its own, checks that it compares, and stores what pulls ask for.
    pub(crate) fn start(self, bin: &Path, folder: &Path, data: &Data) -> Result<Server> {
        let mut server = match self {
            Self::Bare => bare::start(bin, folder)?,
            Self::RedisAlways => redis::start("redis-always", "always", folder)?,
            Self::RedisEverysec => redis::start("redis-everysec", "everysec", folder)?,
            Self::Etcd => etcd::start(folder)?,
            Self::Postgres => return postgres::start(folder, data),
            Self::Nats => return nats::start(folder),
        };
        if self != Self::Bare {
            server.prove_comparison(data.proof)?;
            server.fill(data.full)?;
        }
        Ok(server)
    }
}

/// A running server.
pub(crate) struct Server {
    /// Its name in the report.
    pub(crate) name: String,
    processes: Vec<Process>,
    way: Way,
    /// Whether the data were stored before it started.
    stored: bool,
    versions: HashMap<u64, Arc<Versions>>,
    /// What a closed loop waits for besides its answers.
    pub(crate) gate: Option<Arc<Gate>>,
}

enum Way {
    Http {
        dialect: Arc<dyn Dialect>,
        /// Where it listens; connections take turns.
        ports: Vec<u16>,
    },
    Pgbench(postgres::Pgbench),
    /// Its own protocol, on this port.
    Nats(u16),
}

/// How a server is loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drive {
    pub(crate) workload: Workload,
    pub(crate) connections: u32,
    pub(crate) threads: u32,
    pub(crate) rate: Option<f64>,
    pub(crate) warm_up: Duration,
    pub(crate) time: Duration,
    pub(crate) seed: u64,
    pub(crate) thorough: bool,
}

impl Server {
    fn http(name: &str, processes: Vec<Process>, dialect: Arc<dyn Dialect>, port: u16, stored: bool) -> Self {
        let way = Way::Http { dialect, ports: vec![port] };
        Self { name: name.to_owned(), processes, way, stored, versions: HashMap::new(), gate: None }
    }

    /// The same server asked in another language. Its processes stay with `self`.
    pub(crate) fn spoken_to(&self, name: &str, dialect: Arc<dyn Dialect>) -> Self {
        Self::http(name, Vec::new(), dialect, self.port(), self.stored)
    }

    /// Where it listens on the loopback interface.
    pub(crate) fn port(&self) -> u16 {
        match &self.way {
            Way::Http { ports, .. } => ports[0],
            Way::Nats(port) => *port,
            Way::Pgbench(pgbench) => pgbench.port(),
        }
    }

    /// Spreads the connections of the next load over these ports, behind which is the same data.
    pub(crate) fn through(&mut self, through: &[u16]) {
        if let Way::Http { ports, .. } = &mut self.way {
            through.clone_into(ports);
        }
    }

    /// Loads it. The caller sees to it that it runs and that the others do not.
    pub(crate) fn drive(&mut self, drive: &Drive) -> Result<Outcome> {
        let versions = self.versions(drive.workload.range);
        match &self.way {
            Way::Http { dialect, ports } => load::run(&Load {
                dialect: Arc::clone(dialect),
                ports: ports.clone(),
                workload: drive.workload,
                versions,
                connections: drive.connections,
                threads: drive.threads,
                rate: drive.rate,
                warm_up: drive.warm_up,
                time: drive.time,
                seed: drive.seed,
                thorough: drive.thorough,
                gate: self.gate.clone(),
            }),
            Way::Pgbench(pgbench) => pgbench.drive(drive),
            Way::Nats(_) => bail!("NATS knows neither sets nor pulls"),
        }
        .with_context(|| format!("loading {}", self.name))
    }

    /// What is known of the pairs of a range. A range that has grown keeps what is known.
    fn versions(&mut self, range: Range) -> Arc<Versions> {
        let known = self.versions.get(&range.first);
        if let Some(known) = known.filter(|known| known.range() == range) {
            return Arc::clone(known);
        }
        let versions = if self.stored { Versions::stored(range) } else { Versions::none(range) };
        if let Some(known) = known {
            versions.take_over(known);
        }
        let versions = Arc::new(versions);
        self.versions.insert(range.first, Arc::clone(&versions));
        versions
    }

    /// Takes over what another process that served the same data knew of the pairs.
    pub(crate) fn go_on_from(&mut self, earlier: &Self) {
        self.versions.clone_from(&earlier.versions);
    }

    /// Lets nothing of it run.
    pub(crate) fn pause(&mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(Process::pause)
    }

    /// Lets it run again.
    pub(crate) fn resume(&mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(Process::resume)
    }

    /// Forgets the peak of memory.
    pub(crate) fn reset_peak(&self) {
        self.processes.iter().for_each(Process::reset_peak);
    }

    /// What its processes have used, added up.
    pub(crate) fn usage(&self) -> Usage {
        self.processes.iter().map(Process::usage).fold(Usage::default(), |sum, one| Usage {
            cpu_us: sum.cpu_us + one.cpu_us,
            peak_rss_kib: sum.peak_rss_kib + one.peak_rss_kib,
        })
    }

    /// Memory that its processes hold now, in KiB.
    pub(crate) fn rss_kib(&self) -> u64 {
        self.processes.iter().map(Process::rss_kib).sum()
    }

    /// Ends it in order; its folder stays.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.processes.iter_mut().rev().try_for_each(Process::stop)
    }

    /// Ends it with kill -9.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(Process::kill)
    }

    /// Shows that the server writes a pair whose version was named rightly, and no other: writes it as absent,
    /// again as absent, which must be refused, and then as what it is.
    pub(crate) fn prove_comparison(&mut self, range: Range) -> Result<()> {
        let versions = self.versions(range);
        let Way::Http { dialect, ports } = &self.way else { return Ok(()) };
        let request =
            Request { action: Action::Set { key: 0, pairs: 1, compares: true }, message: range.first };
        let workload = Workload { range, mix: Mix::Sets(1) };
        let mut source = Source::new(workload, None, 0, 1, 1);
        let mut attempt = || {
            let mut bytes = Vec::new();
            dialect.write(request, &versions, &mut source, &mut bytes);
            let (status, body) = exchange(ports[0], &bytes)?;
            Ok::<_, anyhow::Error>(if status == 200 {
                dialect.check(request, &body, true)
            } else {
                Err(format!("status {status}: {}", String::from_utf8_lossy(&body)))
            })
        };
        let name = &self.name;
        let learned = match attempt()? {
            Ok(Learned::All(version)) => version,
            Ok(Learned::OneMore) => 1,
            Ok(Learned::Nothing) => bail!("{name} did not say which version it wrote"),
            Err(answer) => bail!("{name} refused to write an absent pair: {answer}"),
        };
        if attempt()?.is_ok() {
            bail!("{name} does not compare: it wrote a pair whose version was named wrongly");
        }
        versions.learn(range.first, 0, learned);
        match attempt()? {
            Ok(_) => Ok(()),
            Err(answer) => bail!("{name} refused a pair whose version was named rightly: {answer}"),
        }
    }

    /// Writes the pairs that each message of a range holds at the start.
    fn fill(&mut self, range: Range) -> Result<()> {
        let outcome = self.drive(&Drive {
            workload: Workload { range, mix: Mix::FillOnce(range.stored_pairs) },
            connections: 64,
            threads: 2,
            rate: None,
            warm_up: Duration::ZERO,
            time: Duration::from_mins(10),
            seed: 1,
            thorough: true,
        })?;
        if outcome.failures > 0 || outcome.answers != range.messages {
            let why = outcome.first_failure.unwrap_or_default();
            bail!("{} took {} of {} messages: {why}", self.name, outcome.answers, range.messages);
        }
        Ok(())
    }
}
