//! Sets and pulls in stores that outgrow the caches, beside a small one; and how long a store takes to open.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cases::Case;
use crate::disk::evict;
use crate::fill::fill;
use crate::record::Line;
use crate::servers::{Drive, Product, Server};
use crate::session::{Pace, Session};
use crate::workload::{KEYS, Mix, Range, Workload};

/// Messages that are asked for again and again in the cached cases: with 20 pairs each they fit into the caches.
const WORKING_SET: u64 = 1000;

/// Connections: one, where a latency shows what one request waits for, and enough to keep the store busy.
pub(crate) const CONNECTIONS: [u32; 2] = [1, 64];

/// Rough rate of filling, for the estimate: messages of 20 pairs a second on two cores.
pub(crate) const FILL_RATE: u64 = 5000;

/// Room on disk for a message with its 20 pairs and the event of each change, while they are compacted.
pub(crate) const BYTES_PER_MESSAGE: u64 = 4000;

/// What one step does with each of the two stores.
pub(crate) const CASES: u32 = 4;

/// Runs all steps in `folder`.
pub(crate) fn run(session: &mut Session, bin: &Path, folder: &Path) -> Result<()> {
    let cache = session.settings.cache_mib;
    let small = Product::new(bin, &folder.join("small"), cache);
    let large = Product::new(bin, &folder.join("large"), cache);
    small.create()?;
    large.create()?;
    let base = session.settings.stored_base;
    grow(session, &small, 0, base)?;
    let small_name = format!("stored {base}");
    let (mut small_server, _) = small.start(&small_name)?;
    small_server.pause()?;
    let mut stored = 0;
    let mut earlier: Option<Server> = None;
    for messages in session.settings.stored.clone() {
        grow(session, &large, stored, messages)?;
        stored = messages;
        let (mut server, _) = large.start(&format!("stored {messages}"))?;
        if let Some(earlier) = &earlier {
            server.go_on_from(earlier);
        }
        server.pause()?;
        for (what, mix) in [("set", Mix::Sets(1)), ("pull", Mix::Pulls)] {
            for cached in [true, false] {
                let case = |messages| stored_case(what, mix, cached, stored, messages);
                let title = case(messages);
                let (name, title) = (&title.name, &title.title);
                session.records.write(&Line::Case { case: name, title, baseline: &small_name })?;
                let sides = &mut [
                    Side { case: case(base), server: &mut small_server, product: &small },
                    Side { case: case(messages), server: &mut server, product: &large },
                ];
                beside(session, cached, sides)?;
            }
        }
        earlier = Some(reopen(session, &large, server, stored)?);
    }
    small_server.resume()?;
    small_server.stop()
}

/// A store and what is asked of it.
struct Side<'a> {
    case: Case,
    server: &'a mut Server,
    product: &'a Product,
}

fn stored_case(what: &str, mix: Mix, cached: bool, step: u64, messages: u64) -> Case {
    let range = if cached {
        Range { first: 1, messages: WORKING_SET, stored_pairs: KEYS, keys: None }
    } else {
        let first = WORKING_SET + 1;
        Range { first, messages: messages - WORKING_SET, stored_pairs: KEYS, keys: None }
    };
    let (name, choice) = if cached { ("cached", "1,000 of") } else { ("uncached", "any of") };
    let action = if what == "set" { "one-pair sets" } else { "pulls of 20 pairs" };
    Case {
        name: format!("stored-{step}-{what}-{name}"),
        title: format!("{action} on {choice} {step} stored messages"),
        workload: Workload { range, mix },
        references: false,
    }
}

/// Both sides in turns.
fn beside(session: &mut Session, cached: bool, sides: &mut [Side<'_>; 2]) -> Result<()> {
    for side in &mut *sides {
        session.verify(&side.case, &mut [side.server])?;
    }
    for connections in CONNECTIONS {
        for pair in 1..=session.settings.pairs {
            for side in &mut *sides {
                if !cached {
                    evict(&side.product.store())?;
                }
                session.run(&side.case, side.server, connections, Pace::Closed, pair)?;
            }
        }
    }
    Ok(())
}

fn grow(session: &mut Session, product: &Product, stored: u64, messages: u64) -> Result<()> {
    let range = Range { first: stored + 1, messages: messages - stored, stored_pairs: KEYS, keys: None };
    session.say(&format!("storing messages {} to {messages}, 20 pairs each", range.first));
    let told = |done: u64| eprintln!("bench: {done} of {messages} messages are stored");
    let filled = fill(&product.store(), &[range], &told).context("cannot store the messages")?;
    let (rate, bytes) = (filled.rate(), filled.bytes);
    session.say(&format!("stored {rate:.0} messages a second; the store has {} MB", bytes / 1_000_000));
    session.advance(fill_estimate(range.messages));
    let (messages, seconds) = (filled.messages, filled.time.as_secs_f64());
    session.records.write(&Line::Fill { stored: stored + messages, messages, seconds, bytes })
}

/// How long storing so many messages should take.
pub(crate) fn fill_estimate(messages: u64) -> Duration {
    Duration::from_secs(messages.div_ceil(FILL_RATE))
}

/// Opens the store after an orderly end, and after kill -9 behind writes that are in the journal only, both times with
/// nothing of it in memory. Returns the last process, which has ended, for what it knows of the pairs.
fn reopen(session: &mut Session, product: &Product, mut server: Server, stored: u64) -> Result<Server> {
    server.resume()?;
    server.stop()?;
    let mut server = open_again(session, product, &server, stored, "stop")?;

    let case = stored_case("set", Mix::Sets(1), false, stored, stored);
    let drive = Drive {
        workload: case.workload,
        connections: 64,
        threads: session.settings.threads,
        rate: None,
        warm_up: Duration::ZERO,
        time: session.settings.time(),
        seed: 1,
        thorough: false,
    };
    let written = server.drive(&drive)?;
    session.fail_if_any(&case.name, &server, &written);
    server.kill()?;
    let mut server = open_again(session, product, &server, stored, "kill")?;
    server.stop()?;
    Ok(server)
}

fn open_again(
    session: &mut Session,
    product: &Product,
    earlier: &Server,
    stored: u64,
    after: &str,
) -> Result<Server> {
    evict(&product.store())?;
    let (mut server, time) = product.start(&earlier.name)?;
    server.go_on_from(earlier);
    record(session, stored, after, time)?;
    Ok(server)
}

fn record(session: &mut Session, stored: u64, after: &str, time: Duration) -> Result<()> {
    let ms = time.as_secs_f64() * 1e3;
    session.say(&format!("opened {stored} messages after {after} in {ms:.0} ms"));
    session.records.write(&Line::Reopen { stored, after, ms })
}
