//! Many connections on which nothing happens: what memory each costs the server, beyond the buffers of its socket, which
//! are the kernel's and in no figure here.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::protocol::Protocol;
use super::publisher::{Publisher, Way};
use super::receivers::Receivers;
use super::stage::{fill_product, product, solo, tellers};
use crate::cases::Data;
use crate::dialect::post_head;
use crate::record::{Idle, Line};
use crate::servers::{Reference, Server};
use crate::session::Session;
use crate::workload::float;

const CASE: &str = "idle";

/// What one server takes, roughly.
pub(super) const ESTIMATE: Duration = Duration::from_secs(20);

/// How long nothing happens before memory is looked at.
const REST: Duration = Duration::from_secs(3);

/// One server after the other, each started for this.
pub(super) fn run(session: &mut Session, bin: &Path, folder: &Path) -> Result<()> {
    let count = session.settings.idle;
    let title = format!("{count} idle connections");
    session.records.write(&Line::Case { case: CASE, title: &title, baseline: "" })?;
    session.say(&format!("making {count} accounts and their group"));
    let product = product(session, bin, &folder.join("idle"), "");
    fill_product(&product, count, false)?;
    let mut version = 0;
    let with_nats = session.settings.references.contains(&Reference::Nats);
    for (name, protocol) in tellers(with_nats) {
        let (mut server, way) = match protocol {
            Protocol::LongConnection | Protocol::Stream => {
                let (server, _) = product.start(name)?;
                let way = solo(&product, server.port(), version)?;
                (server, way)
            }
            Protocol::Broadcast => {
                let server = fresh(session, Reference::Bare, bin, folder)?;
                let way = Way::Publish(post_head("/publish", server.port(), "application/json"));
                (server, way)
            }
            Protocol::Nats => (fresh(session, Reference::Nats, bin, folder)?, Way::Nats { next: 1 }),
        };
        let way = one(session, &server, (name, protocol), count, way)?;
        if let Way::Set { version: last, .. } = way {
            version = last;
        }
        server.stop()?;
        session.advance(ESTIMATE);
    }
    Ok(())
}

fn fresh(session: &Session, reference: Reference, bin: &Path, folder: &Path) -> Result<Server> {
    let folder = folder.join(format!("idle-{reference:?}").to_lowercase());
    std::fs::create_dir(&folder).context("cannot make a folder")?;
    reference.start(bin, &folder, &Data::new(session.settings.quick))
}

fn one(
    session: &mut Session,
    server: &Server,
    (name, protocol): (&str, Protocol),
    count: u64,
    way: Way,
) -> Result<Way> {
    // Whatever is made at the first use is there before anything is measured.
    let mut publisher = Publisher::connect(server.port(), way)?;
    let first = Receivers::open(server.port(), protocol, 1, 1)?;
    tell(&mut publisher, &first, 1, 1)?;
    drop(first);
    std::thread::sleep(REST);
    let before_kib = server.rss_kib();

    let receivers = Receivers::open(server.port(), protocol, count, session.settings.threads)?;
    std::thread::sleep(REST);
    let connected_kib = server.rss_kib();
    // That all of them are there is shown by telling all of them something.
    let told = tell(&mut publisher, &receivers, count, 2);
    let (mut failures, mut first_failure) = receivers.failures();
    if let Err(error) = told {
        failures = failures.max(1);
        first_failure = first_failure.or(Some(format!("{error:#}")));
    }
    std::thread::sleep(REST);
    let told_kib = server.rss_kib();
    let per = |kib: u64| float(kib.saturating_sub(before_kib)) / float(count);
    session.say(&format!(
        "{CASE}, {name}: {count} connections opened in {:.1} s, {:.1} KiB each, {:.1} KiB after a push",
        receivers.opened_in.as_secs_f64(),
        per(connected_kib),
        per(told_kib)
    ));
    session.count_failures(CASE, name, failures, first_failure.as_deref());
    session.records.write(&Line::Idle(Idle {
        case: CASE,
        server: name,
        connections: count,
        opened_ms: receivers.opened_in.as_secs_f64() * 1e3,
        before_kib,
        connected_kib,
        told_kib,
        failures,
        first_failure,
    }))?;
    Ok(publisher.into_way())
}

/// Everybody must hear it.
fn tell(publisher: &mut Publisher, receivers: &Receivers, count: u64, round: u64) -> Result<()> {
    let value = format!("{round:040}");
    receivers.expect(&value, count);
    publisher.publish(&value)?;
    let missing = count.saturating_sub(receivers.arrivals().len() as u64);
    if missing > 0 {
        let why = receivers.failures().1.unwrap_or_default();
        bail!("{missing} pushes never came {why}");
    }
    Ok(())
}
