//! The generator against servers of a few lines.

use super::*;
use crate::dialect::Learned;
use crate::workload::{Action, Range, Request};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};

const RANGE: Range = Range { first: 1, messages: 100, stored_pairs: 1, keys: Some(20) };

/// Requests and answers of one byte in HTTP.
struct Plain;

impl Dialect for Plain {
    fn write(&self, _: Request, _: &Versions, _: &mut Source, out: &mut Vec<u8>) {
        out.extend_from_slice(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx");
    }

    fn check(&self, request: Request, body: &[u8], _: bool) -> Result<Learned, String> {
        assert!(matches!(request.action, Action::Set { .. } | Action::Pull { .. }));
        if body == b"y" { Ok(Learned::OneMore) } else { Err(String::from_utf8_lossy(body).into_owned()) }
    }
}

/// Serves each connection in a thread; `answer` gets the number of the request, or ends the connection with `None`.
fn serve(answer: impl Fn(u64) -> Option<String> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (answer, served) = (Arc::new(answer), Arc::new(AtomicU64::new(0)));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (answer, served) = (Arc::clone(&answer), Arc::clone(&served));
            std::thread::spawn(move || answer_all(stream.unwrap(), &*answer, &served));
        }
    });
    port
}

fn answer_all(mut stream: TcpStream, answer: &dyn Fn(u64) -> Option<String>, served: &AtomicU64) {
    let mut request = [0; 39];
    while stream.read_exact(&mut request).is_ok() {
        let Some(text) = answer(served.fetch_add(1, Ordering::SeqCst)) else { return };
        if stream.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn load(port: u16, mix: Mix, rate: Option<f64>, time: Duration) -> (Outcome, Arc<Versions>) {
    let versions = Arc::new(Versions::none(RANGE));
    let load = Load {
        dialect: Arc::new(Plain),
        ports: vec![port],
        workload: Workload { range: RANGE, mix },
        versions: Arc::clone(&versions),
        connections: 8,
        threads: 2,
        rate,
        warm_up: Duration::ZERO,
        time,
        seed: 1,
        thorough: false,
        gate: None,
    };
    (run(&load).unwrap(), versions)
}

const MOMENT: Duration = Duration::from_millis(400);

#[test]
fn a_closed_loop_counts_what_was_answered_and_learns_every_version() {
    let (outcome, versions) = load(serve(|_| Some(ok("y"))), Mix::Sets(1), None, MOMENT);
    assert_eq!((outcome.failures, &outcome.first_failure), (0, &None));
    assert!(outcome.requests > 100 && outcome.answers >= outcome.requests, "{outcome:?}");
    assert_eq!(outcome.per_second.iter().sum::<u64>(), outcome.requests);
    assert!(outcome.p50_us > 0 && outcome.p50_us <= outcome.p99_us && outcome.p99_us <= outcome.max_us);
    let learned: u32 = (1..=100)
        .flat_map(|message| (0..20).map(move |key| (message, key)))
        .map(|(message, key)| versions.of(message, key))
        .sum();
    assert_eq!(u64::from(learned), outcome.answers);
}

#[test]
fn an_open_loop_keeps_its_time_table() {
    let (outcome, _) = load(serve(|_| Some(ok("y"))), Mix::Pulls, Some(500.0), MOMENT);
    assert_eq!((outcome.failures, outcome.requests), (0, 200));
}

#[test]
fn a_pause_is_felt_by_all_that_were_due_meanwhile() {
    // One pause of 200 ms that holds every connection: of 200 requests, the 100 of that time were late, and half
    // of these by more than 100 ms. A closed loop would have seen eight slow answers.
    let pause = Arc::new(std::sync::RwLock::new(()));
    let port = serve(move |number| {
        if number == 50 {
            let _all_wait = pause.write().unwrap();
            std::thread::sleep(Duration::from_millis(200));
        }
        drop(pause.read().unwrap());
        Some(ok("y"))
    });
    let (outcome, _) = load(port, Mix::Pulls, Some(500.0), MOMENT);
    assert_eq!((outcome.failures, outcome.requests), (0, 200));
    assert!(outcome.p90_us > 100_000, "{outcome:?}");
    assert!(outcome.longest_gap_us > 150_000, "{outcome:?}");
}

#[test]
fn every_kind_of_failure_is_counted_and_the_first_is_told() {
    let refuse = |number| Some(ok(if number == 3 { "no" } else { "y" }));
    let (outcome, _) = load(serve(refuse), Mix::Pulls, None, MOMENT);
    assert_eq!(outcome.failures, 1);
    assert!(outcome.first_failure.unwrap().ends_with("was answered no"));

    let status = |number| {
        let answer =
            if number == 3 { "HTTP/1.1 503 No\r\nContent-Length: 1\r\n\r\ny".to_owned() } else { ok("y") };
        Some(answer)
    };
    let (outcome, _) = load(serve(status), Mix::Pulls, None, MOMENT);
    assert_eq!(outcome.failures, 1);
    assert!(outcome.first_failure.unwrap().contains("status 503"));

    let hang_up = |number| (number != 3).then(|| ok("y"));
    let (outcome, _) = load(serve(hang_up), Mix::Pulls, None, MOMENT);
    assert_eq!(outcome.failures, 1);
    assert!(outcome.first_failure.unwrap().contains("closed a connection"));

    let garbage = |number| Some(if number == 3 { "SSH-2.0\r\n\r\n".to_owned() } else { ok("y") });
    let (outcome, _) = load(serve(garbage), Mix::Pulls, None, MOMENT);
    assert_eq!(outcome.failures, 1);
}

#[test]
fn a_server_that_ends_ends_the_load() {
    let (outcome, _) = load(serve(|_| None), Mix::Pulls, None, Duration::from_mins(1));
    assert_eq!((outcome.failures, outcome.requests), (8, 0));
}

#[test]
fn a_fill_ends_when_each_message_was_named() {
    let (outcome, versions) = load(serve(|_| Some(ok("y"))), Mix::FillOnce(20), None, Duration::from_mins(1));
    assert_eq!((outcome.failures, outcome.answers), (0, 100));
    assert!((1..=100).all(|message| versions.of(message, 0) == 1 && versions.of(message, 19) == 1));
}
