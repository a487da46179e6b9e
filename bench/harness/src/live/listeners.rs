//! What it costs sets that somebody is told of them: receivers on long connections, a webhook and an event stream.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use super::fanout::{AHEAD, drive, gated};
use super::hooks::Hooks;
use super::protocol::Protocol;
use super::receivers::Receivers;
use super::stage::{MESSAGES, Stage, fill_product, product};
use super::{Under, add_failures, add_missing, listening_threads};
use crate::load::{Gate, Outcome};
use crate::record::Line;
use crate::servers::{Drive, Server};
use crate::session::Session;

const CASE: &str = "set-with-listeners";

/// What is compared.
pub(super) const VARIANTS: u32 = 4;

/// Receivers of the event stream beside the webhook.
const READERS: u64 = 1;

/// The product alone, with a webhook and a stream, and with receivers in groups of ten and in one group, in turns.
pub(super) fn run(session: &mut Session, stage: &mut Stage, bin: &Path, folder: &Path) -> Result<()> {
    let receivers = session.settings.most_receivers();
    let title = format!("one-pair sets while {receivers} receivers, or a webhook and a stream, are told");
    session.records.write(&Line::Case { case: CASE, title: &title, baseline: "sidenote" })?;

    let hooks = Hooks::listen()?;
    let hooked = product(session, bin, &folder.join("webhook"), &hooks.configuration());
    // As many accounts as beside it, so that the stores are alike.
    fill_product(&hooked, receivers, true)?;
    let (mut telling, _) = hooked.start("sidenote-webhook")?;
    telling.pause()?;

    let (small_name, large_name) =
        (format!("{receivers} in groups of ten"), format!("{receivers} in one group"));
    let mut small = stage.small_groups()?;
    for connections in session.settings.connections.clone() {
        for pair in 1..=session.settings.pairs {
            let sidenote = stage.server(Protocol::LongConnection)?;
            alone(session, sidenote, connections, pair)?;
            with_webhook(session, &mut telling, &hooks, connections, pair)?;
            let drive = drive(&session.settings, small.range, connections, pair);
            // A receiver hears one set of so many only, and may be as far behind as in one group.
            let ahead = AHEAD * small.groups;
            let crowd = Crowd { name: &small_name, receivers, pushes: small.members, ahead };
            crowded(session, sidenote, Some(&mut small.server), &crowd, &drive, pair)?;
            let drive = self::drive(&session.settings, MESSAGES, connections, pair);
            let crowd = Crowd { name: &large_name, receivers, pushes: receivers, ahead: AHEAD };
            crowded(session, sidenote, None, &crowd, &drive, pair)?;
        }
    }
    telling.stop()
}

fn tell(session: &Session, name: &str, connections: u32, pair: u32, outcome: &Outcome) {
    session.say(&format!("{CASE}, {connections} connections, pair {pair}, {name}: {:.0}/s", outcome.rate()));
}

fn alone(session: &mut Session, sidenote: &mut Server, connections: u32, pair: u32) -> Result<()> {
    let under = Under::begin(CASE, "sidenote", u64::from(connections), pair, sidenote)?;
    let outcome = sidenote.drive(&drive(&session.settings, MESSAGES, connections, pair))?;
    tell(session, "alone", connections, pair, &outcome);
    under.end(session, sidenote, None, &[("closed", outcome)])
}

fn with_webhook(
    session: &mut Session,
    telling: &mut Server,
    hooks: &Hooks,
    connections: u32,
    pair: u32,
) -> Result<()> {
    telling.resume()?;
    let readers = Receivers::open(telling.port(), Protocol::Stream, READERS, 1)?;
    let name = "webhook and stream";
    let under = Under::begin(CASE, name, u64::from(connections), pair, telling)?;
    let told_before = hooks.told();
    let mut outcome = telling.drive(&drive(&session.settings, MESSAGES, connections, pair))?;
    let told_in_time = hooks.told() - told_before;
    // The log serves a reader at its own pace, and a webhook is told one event after the other; all of it has to come.
    let answers = outcome.answers;
    add_missing(&mut outcome, readers.missing(answers * READERS), "events of the stream");
    add_missing(&mut outcome, hooks.missing(told_before + answers), "webhooks");
    add_failures(&mut outcome, readers.failures());
    add_failures(&mut outcome, hooks.failures());
    tell(session, name, connections, pair, &outcome);
    session.say(&format!("{told_in_time} of {} webhooks were told meanwhile", outcome.answers));
    under.end(session, telling, Some(readers), &[("closed", outcome)])
}

/// Who listens, how many of them are told of each set, and how many sets may be under way.
struct Crowd<'a> {
    name: &'a str,
    receivers: u64,
    pushes: u64,
    ahead: u64,
}

/// `asked` is the server as it is asked, if not in the ordinary way.
fn crowded(
    session: &mut Session,
    sidenote: &mut Server,
    asked: Option<&mut Server>,
    crowd: &Crowd<'_>,
    drive: &Drive,
    pair: u32,
) -> Result<()> {
    sidenote.resume()?;
    let threads = listening_threads(&session.settings);
    let receivers = Receivers::open(sidenote.port(), Protocol::LongConnection, crowd.receivers, threads)?;
    let under = Under::begin(CASE, crowd.name, u64::from(drive.connections), pair, sidenote)?;
    let gate = Arc::new(Gate::new(crowd.pushes, crowd.ahead, receivers.heard()));
    let mut outcome = match asked {
        Some(asked) => gated(asked, &gate, drive)?,
        None => gated(sidenote, &gate, drive)?,
    };
    let missing = receivers.missing(outcome.answers * crowd.pushes);
    add_missing(&mut outcome, missing, "pushes");
    add_failures(&mut outcome, receivers.failures());
    tell(session, crowd.name, drive.connections, pair, &outcome);
    under.end(session, sidenote, Some(receivers), &[("closed", outcome)])
}
