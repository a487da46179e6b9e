//! Several nodes on one PostgreSQL: sets and pulls through one, two and three of them, beside pgbench that runs the same
//! statements without a node; one hot message; what a request costs the database; and how soon a push crosses nodes.
//!
//! Servers take turns as elsewhere. The database and the broker belong to whoever is measured and always run; nodes that
//! are not measured are stopped.

mod cost;
mod house;
mod script;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cases::Scenario;
use crate::live;
use crate::load::Outcome;
use crate::process::own_cpu_us;
use crate::record::{Cost, Line, Run};
use crate::servers::{Drive, Server};
use crate::session::{Session, millis};
use crate::settings::Settings;
use crate::workload::{Mix, Workload};
use house::{ALONE, House};
use script::Scripts;

/// Programs that this needs beside the product.
const NEEDED: [&str; 2] = ["pgbench", "nats-server"];

/// Who answers: the numbers of nodes, or pgbench in the place of all.
struct Contender {
    name: &'static str,
    nodes: &'static [usize],
}

const fn nodes(name: &'static str, nodes: &'static [usize]) -> Contender {
    Contender { name, nodes }
}

const PGBENCH: &str = "pgbench";

const SPREAD: [Contender; 4] =
    [nodes("1 node", &[0]), nodes("2 nodes", &[0, 1]), nodes("3 nodes", &[0, 1, 2]), nodes(PGBENCH, &[])];

const HOT: [Contender; 4] = [
    nodes("1 node", &[0]),
    nodes("3 nodes", &[0, 1, 2]),
    nodes("1 node, one by one", &[ALONE]),
    nodes(PGBENCH, &[]),
];

/// Something to be measured.
struct Case {
    name: &'static str,
    title: &'static str,
    workload: Workload,
    contenders: &'static [Contender],
}

fn cases() -> [Case; 3] {
    [
        Case {
            name: "nodes-set",
            title: "one-pair sets on 10,000 messages of 1,000 groups",
            workload: Workload { range: house::PLAIN, mix: Mix::Sets(1) },
            contenders: &SPREAD,
        },
        Case {
            name: "nodes-pull",
            title: "pulls of 20 pairs from 10,000 messages of 1,000 groups",
            workload: Workload { range: house::FULL, mix: Mix::Pulls },
            contenders: &SPREAD,
        },
        Case {
            name: "nodes-hot",
            title: "one-pair sets on one message for all",
            workload: Workload { range: house::HOT, mix: Mix::Sets(1) },
            contenders: &HOT,
        },
    ]
}

/// What storing and starting takes, roughly.
const PREPARATION: Duration = Duration::from_secs(90);

/// What this will take, by the plan.
pub(crate) fn estimate(settings: &Settings) -> Duration {
    if !settings.has(Scenario::Nodes) {
        return Duration::ZERO;
    }
    let lengths = u32::try_from(settings.connections.len()).unwrap_or(1);
    // pgbench counts its connecting too, and takes two seconds more.
    let run = settings.warm_up() + settings.time() + Duration::from_secs(1);
    let contenders = cases().iter().map(|case| case.contenders.len()).sum::<usize>();
    let contenders = u32::try_from(contenders).unwrap_or(1);
    PREPARATION + run * settings.pairs * (lengths * contenders + live::ACROSS)
}

/// Runs all of it, or says why it is left out.
pub(crate) fn run(session: &mut Session, bin: &Path, folder: &Path) -> Result<()> {
    if !session.settings.has(Scenario::Nodes) {
        return Ok(());
    }
    if let Some(missing) = NEEDED.into_iter().find(|program| !house::is_installed(program)) {
        session.say(&format!("skipped: several nodes, because {missing} is not installed"));
        session.advance(estimate(&session.settings));
        return Ok(());
    }
    let folder = folder.join("nodes");
    fs::create_dir(&folder).context("cannot make a folder")?;
    session.say("starting a database, a broker and four nodes, and storing 20,000 messages of 1,000 groups");
    let mut house = House::build(bin, &folder)?;
    session.advance(PREPARATION);
    let scripts = cost::count(session, &house)?;
    // Before the group of the receiver has many events that it would be told late, by nodes that were stopped meanwhile.
    house.wake(&[0, 1, 2])?;
    live::across(session, &house.members())?;
    house.sleep()?;
    for case in cases() {
        compare(session, &mut house, &scripts, &case)?;
    }
    house.leave()
}

fn compare(session: &mut Session, house: &mut House, scripts: &Scripts, case: &Case) -> Result<()> {
    let title = case.title;
    session.records.write(&Line::Case { case: case.name, title, baseline: PGBENCH })?;
    verify(session, house, case)?;
    house.pgbench.sql("postgres", "CHECKPOINT")?;
    for connections in session.settings.connections.clone() {
        for pair in 1..=session.settings.pairs {
            for contender in case.contenders {
                turn(session, house, scripts, case, (contender, connections, pair))?;
            }
        }
    }
    Ok(())
}

/// Untimed, through all nodes, with every pair of a pull counted.
fn verify(session: &mut Session, house: &mut House, case: &Case) -> Result<()> {
    house.wake(&[0, 1, 2, ALONE])?;
    let time = Duration::from_millis(if session.settings.quick { 300 } else { 2000 });
    let drive = Drive { time, thorough: true, warm_up: Duration::ZERO, ..drive(session, case, 64, 0) };
    let outcome = house.door(&[0, 1, 2, ALONE], case.workload).drive(&drive);
    house.sleep()?;
    let outcome = outcome?;
    session.count_failures(case.name, "all nodes", outcome.failures, outcome.first_failure.as_deref());
    session.records.write(&Line::Verify {
        case: case.name,
        server: "all nodes",
        answers: outcome.answers,
        failures: outcome.failures,
        first_failure: outcome.first_failure.as_deref(),
    })
}

fn drive(session: &Session, case: &Case, connections: u32, pair: u32) -> Drive {
    Drive {
        workload: case.workload,
        connections,
        threads: session.settings.threads,
        rate: None,
        warm_up: session.settings.warm_up(),
        time: session.settings.time(),
        seed: u64::from(pair),
        thorough: false,
    }
}

/// One timed run, with what it cost the database.
fn turn(
    session: &mut Session,
    house: &mut House,
    scripts: &Scripts,
    case: &Case,
    (contender, connections, pair): (&Contender, u32, u32),
) -> Result<()> {
    let drive = drive(session, case, connections, pair);
    house.wake(contender.nodes)?;
    house.reset_peak();
    let before = (house.meter(contender.nodes)?, house.usage(), own_cpu_us());
    let outcome = if contender.nodes.is_empty() {
        scripts.run(&house.pgbench, &drive)
    } else {
        house.door(contender.nodes, case.workload).drive(&drive)
    };
    let after = (house.meter(contender.nodes)?, house.usage(), own_cpu_us());
    house.sleep()?;
    let outcome = outcome?;
    session.advance(session.settings.warm_up() + session.settings.time() + Duration::from_secs(1));
    say(session, case, contender, (connections, pair), &outcome);
    session.record(Run {
        case: case.name,
        load: "closed",
        connections,
        rate: None,
        pair,
        server: contender.name,
        outcome: &outcome,
        server_cpu_us: after.1.cpu_us.saturating_sub(before.1.cpu_us),
        client_cpu_us: after.2.saturating_sub(before.2),
        peak_rss_kib: after.1.peak_rss_kib,
    })?;
    session.records.write(&Line::Cost(Cost {
        case: case.name,
        server: contender.name,
        connections,
        pair,
        requests: outcome.answers,
        round_trips: (!contender.nodes.is_empty()).then(|| after.0.round_trips - before.0.round_trips),
        statements: after.0.statements - before.0.statements,
        transactions: after.0.transactions - before.0.transactions,
        wal_bytes: after.0.wal_bytes - before.0.wal_bytes,
    }))
}

fn say(session: &Session, case: &Case, contender: &Contender, (connections, pair): (u32, u32), it: &Outcome) {
    session.say(&format!(
        "{}, {connections} connections, pair {pair}, {}: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms",
        case.name,
        contender.name,
        it.rate(),
        millis(it.p50_us),
        millis(it.p99_us),
    ));
}

/// Two nodes of the house, for what crosses from one to the other.
pub(crate) struct Members<'a> {
    /// Where a set is sent, and where its push is waited for.
    pub(crate) servers: Vec<&'a Server>,
    /// What a set is addressed with.
    pub(crate) product: &'a crate::servers::Product,
}
