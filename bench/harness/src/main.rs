//! Starts the product and what it is compared with, loads them in turns, and records what came of it.
//! `bench/run.sh` builds and starts this; docs/performance.md tells the method.

mod cases;
mod client;
mod dialect;
mod disk;
mod fill;
mod interrupt;
mod live;
mod load;
mod nodes;
mod process;
mod record;
mod servers;
mod session;
mod settings;
mod stored;
mod workload;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use cases::{Case, Data, Scenario, case};
use process::output_of;
use record::{Line, Records};
use servers::{Product, Reference, Server};
use session::{Pace, Session};
use settings::Settings;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let settings = Settings::read()?;
    fs::create_dir_all(&settings.folder)
        .with_context(|| format!("cannot create {}", settings.folder.display()))?;
    let home = settings.folder.canonicalize().context("the folder for the data is gone")?;
    // PostgreSQL runs as another account, which must get through to its folder.
    let folder = tempfile::Builder::new()
        .prefix("bench-")
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(&home)
        .with_context(|| format!("cannot make a folder in {}", home.display()))?;
    interrupt::clean_up_on_signals(folder.path())?;
    let bin = std::env::current_exe().context("cannot find this program")?;
    let bin = bin.parent().context("this program lies in no folder")?;

    disk::require_room(folder.path(), room(&settings))?;
    let whole = estimate(&settings);
    eprintln!(
        "bench: this takes about {} minutes; the data go to {}",
        whole.as_secs() / 60 + 1,
        folder.path().display()
    );
    let mut records = Records::create(&settings.records)?;
    write_settings(&mut records, &settings, folder.path())?;
    let mut session = Session::new(settings, records, whole);
    compare(&mut session, bin, folder.path())?;
    if session.settings.has(Scenario::Stored) {
        let folder = folder.path().join("stored");
        fs::create_dir(&folder).context("cannot make a folder")?;
        stored::run(&mut session, bin, &folder)?;
    }
    nodes::run(&mut session, bin, folder.path())?;
    live::run(&mut session, bin, folder.path())?;
    match session.failures() {
        0 => Ok(()),
        failures => bail!(
            "{failures} requests failed, so the figures must not be used; the first of each kind is above"
        ),
    }
}

/// Everything on the ordinary data.
fn compare(session: &mut Session, bin: &Path, folder: &Path) -> Result<()> {
    let data = Data::new(session.settings.quick);
    let cases: Vec<Case> = session.settings.scenarios.iter().filter_map(|it| case(*it, &data)).collect();
    if cases.is_empty() && !session.settings.has(Scenario::Sustain) {
        return Ok(());
    }
    let messages: u64 = data.all().iter().map(|range| range.messages).sum();
    session.say(&format!("storing {messages} messages"));
    let product = Product::new(bin, &folder.join("product"), session.settings.cache_mib);
    product.create()?;
    fill::fill(&product.store(), &data.all(), &|_| ()).context("cannot store the messages")?;
    let (mut sidenote, _) = product.start("sidenote")?;
    sidenote.prove_comparison(data.proof)?;
    sidenote.pause()?;

    let mut others = Vec::new();
    for reference in std::iter::once(Reference::Bare).chain(references(session, &cases)) {
        session.say(&format!("starting {reference:?}"));
        let folder = folder.join(format!("{reference:?}").to_lowercase());
        fs::create_dir(&folder).context("cannot make a folder")?;
        let mut server = reference.start(bin, &folder, &data)?;
        server.pause()?;
        others.push(server);
    }
    for case in &cases {
        let count = if case.references { others.len() } else { 1 };
        let mut servers: Vec<&mut Server> =
            std::iter::once(&mut sidenote).chain(others.iter_mut().take(count)).collect();
        session.compare(case, &mut servers)?;
    }
    if session.settings.has(Scenario::Sustain)
        && let Some(mut long) = case(Scenario::Set1, &data)
    {
        "sustain".clone_into(&mut long.name);
        "one-pair sets at full load for long".clone_into(&mut long.title);
        session.records.write(&Line::Case { case: &long.name, title: &long.title, baseline: "" })?;
        let pace = Pace::Sustained(Duration::from_secs(session.settings.sustain_seconds));
        for connections in session.settings.connections.clone() {
            session.run(&long, &mut sidenote, connections, pace, 1)?;
        }
    }
    sidenote.resume()?;
    sidenote.stop()
}

/// The references that some case has a use for.
fn references(session: &Session, cases: &[Case]) -> Vec<Reference> {
    let has_a_use = cases.iter().any(|case| case.references);
    // Who only tells others has nothing to be set or pulled.
    let all = session.settings.references.iter().copied();
    all.filter(|reference| has_a_use && *reference != Reference::Nats).collect()
}

/// Bytes that all data together may come to, with some to spare for the versions that databases keep.
fn room(settings: &Settings) -> u64 {
    let stored = settings.stored.last().filter(|_| settings.has(Scenario::Stored));
    let stored = stored.map_or(0, |most| most + settings.stored_base);
    (4 << 30) + stored * stored::BYTES_PER_MESSAGE
}

/// What everything will take, by the plan.
fn estimate(settings: &Settings) -> Duration {
    let data = Data::new(settings.quick);
    let run = settings.warm_up() + settings.time();
    let pairs = settings.pairs;
    let (mut time, mut compared) = (Duration::ZERO, false);
    for case in settings.scenarios.iter().filter_map(|scenario| case(*scenario, &data)) {
        let references =
            if case.references { u32::try_from(settings.references.len()).unwrap_or(0) } else { 0 };
        let lengths = u32::try_from(settings.connections.len()).unwrap_or(1);
        time += run * pairs * lengths * (2 + references + 2) + Duration::from_secs(2) * (2 + references);
        compared = true;
    }
    if settings.has(Scenario::Sustain) {
        let long = Duration::from_secs(settings.sustain_seconds) + settings.warm_up();
        time += long * u32::try_from(settings.connections.len()).unwrap_or(1);
        compared = true;
    }
    if compared {
        time += Duration::from_secs(20);
    }
    if settings.has(Scenario::Stored) {
        let steps = u32::try_from(settings.stored.len()).unwrap_or(1);
        let lengths = u32::try_from(stored::CONNECTIONS.len()).unwrap_or(1);
        time += (run * pairs * lengths + Duration::from_secs(2)) * 2 * stored::CASES * steps;
        time += stored::fill_estimate(settings.stored_base + settings.stored.last().copied().unwrap_or(0));
    }
    time + nodes::estimate(settings) + live::estimate(settings)
}

fn write_settings(records: &mut Records, settings: &Settings, folder: &Path) -> Result<()> {
    let file_system = output_of(Command::new("stat").args(["--file-system", "--format=%T"]).arg(folder))?;
    let file_system = file_system.trim();
    if matches!(file_system, "tmpfs" | "ramfs") {
        eprintln!(
            "bench: {} is on {file_system}, so nothing reaches a disk; set BENCH_DIR",
            folder.display()
        );
    }
    let commit = output_of(Command::new("git").args(["describe", "--always", "--dirty"]));
    let commit = commit.unwrap_or_else(|_| "unknown".to_owned());
    let date = output_of(Command::new("date").args(["--utc", "+%FT%TZ"]))?;
    let disk = disk::probe(folder)?;
    eprintln!(
        "bench: the disk ({file_system}) appends and syncs 8 KiB in {} us and reads 4 KiB in {} us",
        disk.sync_p50_us, disk.read_p50_us
    );
    records.write(&Line::Settings {
        settings,
        commit: commit.trim(),
        date: date.trim(),
        file_system,
        disk: &disk,
    })
}
