//! A server that dies, and readers that do not read.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use super::web_socket::{change_much, connections, impatient};
use super::{Frame, Stream, scene, set};
use crate::caller::Caller;
use crate::killed::{ROUNDS, change_until_killed};
use crate::server::{APP, PATIENCE};

/// The changes that a reader was told of: their `Seq` by key.
#[derive(Default)]
struct Told {
    changes: BTreeMap<String, u64>,
    /// The last one.
    seq: u64,
    /// The number of the last event.
    number: u64,
    cursor: String,
}

impl Told {
    fn take(&mut self, frame: Frame) {
        assert_eq!((frame.event.as_str(), &frame.data["Type"]), ("message", &"ExtensionChanged".into()));
        let number = |name: &str| frame.data[name].as_u64().unwrap();
        assert!(
            self.cursor.is_empty() || number("Number") == self.number + 1,
            "{} and then {frame:?}",
            self.number
        );
        assert_eq!(number("LatestSeq"), self.seq + 1, "{frame:?}");
        (self.number, self.seq) = (number("Number"), number("LatestSeq"));
        let pair = &frame.data["ExtensionList"][0];
        let before = self.changes.insert(pair["Key"].as_str().unwrap().to_owned(), self.seq);
        assert_eq!(before, None, "it was told twice: {frame:?}");
        self.cursor = frame.id;
    }
}

#[test]
fn a_reader_that_resumes_after_kill_9_sees_every_change_once_and_in_order() {
    let mut server = scene("");
    let mut bob = Stream::of_group(&server, "bob", "g", "");
    assert_eq!(set(&server, "ann", "x", 0)["Seq"], 1);
    let mut told = Told::default();
    told.take(bob.event());
    let (mut answered, mut missed) = (0, 0);
    for round in 0..ROUNDS {
        let pairs = change_until_killed(&mut server, round);
        while let Some(frame) = bob.next() {
            told.take(frame);
        }
        answered += pairs.len();

        server.restart();
        bob = Stream::of_group(&server, "bob", "g", &told.cursor);
        let latest = Caller::new(server.address, APP, "bob").page("g", 1, 1).latest;
        missed += latest - told.seq;
        while told.seq < latest {
            told.take(bob.event());
        }
        for pair in pairs {
            assert_eq!(
                told.changes.get(&pair.key),
                Some(&pair.seq),
                "{pair:?} was answered in round {round}"
            );
        }
    }
    println!("{answered} changes were answered, {missed} were made and told only after the restart");
}

#[test]
fn a_reader_that_takes_nothing_is_cut_off_and_slows_nobody_down() {
    const CHANGES: u64 = 300;
    let server = impatient(1500);
    let mut quick = Stream::of_group(&server, "bob", "g", "");
    let deaf = Stream::of_group(&server, "bob", "g", "");
    let mut first = String::new();
    for number in 0..CHANGES {
        change_much(&server, number);
        let told = quick.event();
        assert_eq!(told.data["LatestSeq"], number + 1);
        if number == 0 {
            first = told.id;
        }
    }
    // What is left are the quick one and the connection that asks.
    let begun = Instant::now();
    while connections(&server) > 2 {
        assert!(begun.elapsed() < PATIENCE, "it is not cut off");
        thread::sleep(Duration::from_millis(20));
    }
    drop(deaf);
    // It comes back where it was, and has missed nothing.
    let mut back = Stream::of_group(&server, "bob", "g", &first);
    for number in 1..CHANGES {
        assert_eq!(back.event().data["LatestSeq"], number + 1);
    }
}
