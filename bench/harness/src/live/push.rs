//! One set after the other, with a pause in between: how long it takes from its acknowledgement to its push.

use std::time::Duration;

use anyhow::Result;

use super::protocol::Protocol;
use super::publisher::Publisher;
use super::receivers::Receivers;
use super::stage::Stage;
use super::{Under, add_failures, add_missing, listening_threads, timed};
use crate::load::{Outcome, empty_histogram, micros, now};
use crate::record::Line;
use crate::session::{Session, millis};

const CASE: &str = "push";

/// From one message to the next at least, so that the server has nothing else to do.
const INTERVAL: Duration = Duration::from_millis(10);

/// All servers in turns, for each number of receivers.
pub(super) fn run(session: &mut Session, stage: &mut Stage) -> Result<()> {
    let title = "from a set's acknowledgement to its push";
    session.records.write(&Line::Case { case: CASE, title, baseline: "" })?;
    for receivers in session.settings.receivers.clone() {
        for pair in 1..=session.settings.pairs {
            for (name, protocol) in stage.tellers() {
                one(session, stage, (name, protocol), receivers, pair)?;
            }
        }
    }
    Ok(())
}

fn one(
    session: &mut Session,
    stage: &mut Stage,
    (name, protocol): (&str, Protocol),
    count: u64,
    pair: u32,
) -> Result<()> {
    let way = stage.way(protocol)?;
    let server = stage.server(protocol)?;
    server.resume()?;
    let threads = listening_threads(&session.settings);
    let receivers = Receivers::open(server.port(), protocol, count, threads)?;
    let mut publisher = Publisher::connect(server.port(), way)?;
    let under = Under::begin(CASE, name, count, pair, server)?;
    let outcomes = tell(session, &receivers, &mut publisher, count, pair)?;
    let [(_, outcome), _] = &outcomes;
    session.say(&format!(
        "{CASE}, {count} receivers, pair {pair}, {name}: p50 {:.2} ms, p99 {:.2} ms",
        millis(outcome.p50_us),
        millis(outcome.p99_us)
    ));
    under.end(session, stage.server(protocol)?, Some(receivers), &outcomes)?;
    stage.go_on_from(&publisher.into_way());
    Ok(())
}

/// Publishes one message after the other to `count` receivers, and tells how long the pushes took from the answers and
/// from the requests.
pub(super) fn tell(
    session: &Session,
    receivers: &Receivers,
    publisher: &mut Publisher,
    count: u64,
    pair: u32,
) -> Result<[(&'static str, Outcome); 2]> {
    let (mut from_answer, mut from_request) = (empty_histogram(), empty_histogram());
    let open_at = now() + session.settings.warm_up();
    let close_at = open_at + session.settings.time();
    let (mut answers, mut missing, mut round) = (0, 0, 0_u64);
    loop {
        let begin = now();
        if begin >= close_at || missing > 0 || receivers.failures().0 > 0 {
            break;
        }
        round += 1;
        // No other message of this benchmark has the same.
        let value = format!("{pair:04}{count:06}{round:030}");
        receivers.expect(&value, count);
        let told = publisher.publish(&value)?;
        let arrivals = receivers.arrivals();
        missing += count.saturating_sub(arrivals.len() as u64);
        answers += arrivals.len() as u64;
        if begin >= open_at {
            for arrival in arrivals {
                // A push may be there before the answer, since nobody waits for the other.
                let after = |moment| micros(arrival.saturating_duration_since(moment)).max(1);
                from_answer.saturating_record(after(told.acknowledged));
                from_request.saturating_record(after(told.sent));
            }
        }
        std::thread::sleep(INTERVAL.saturating_sub(begin.elapsed()));
    }
    let window = micros(now().saturating_duration_since(open_at)).max(1);
    let mut outcome = timed(&from_answer, window, answers);
    add_failures(&mut outcome, receivers.failures());
    add_missing(&mut outcome, missing, "pushes");
    // What failed has been counted by then.
    let sent = Outcome { failures: 0, first_failure: None, ..timed(&from_request, window, answers) };
    Ok([("push", outcome), ("sent", sent)])
}
