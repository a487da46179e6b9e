//! NATS is killed, stopped, slow and started again while several write through two servers without a break: what is
//! pushed may come late, and comes in order; nothing is lost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use sidenote_torture::broker::Broker;
use sidenote_torture::cluster::{Cluster, until};
use sidenote_torture::long::LongClient;

use super::pushes::{cluster, of, send};
use crate::stream::Stream;

/// Writers at a time, half of them through each server.
const WRITERS: u64 = 4;

/// Events that the reader takes from one server before it goes on at the other.
const PER_SERVER: u64 = 40;

#[derive(Default)]
struct Load {
    stops: AtomicBool,
    /// Messages that were acknowledged.
    sent: AtomicU64,
    /// The number of the last message there will be; 0 while that is not known.
    end: AtomicU64,
    /// The last message that was pushed to bob, and how often one came that he had.
    pushed: AtomicU64,
    twice: AtomicU64,
    /// The last message that the reader has read.
    read: AtomicU64,
}

impl Load {
    fn is_over(&self, seq: u64) -> bool {
        let end = self.end.load(Ordering::SeqCst);
        end > 0 && seq >= end
    }

    fn write(&self, cluster: &Cluster, number: u64) {
        let caller = of(cluster, usize::try_from(number % 2).unwrap());
        let mut random = 100_000 * (number + 1);
        while !self.stops.load(Ordering::SeqCst) {
            random += 1;
            // The database is well, so that each of them succeeds.
            send(&caller, random);
            self.sent.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Bob, who stays where he is.
    fn listen(&self, mut bob: LongClient) {
        while !self.is_over(self.pushed.load(Ordering::SeqCst)) {
            let event = bob.event();
            for message in event["GroupMsgArray"].as_array().into_iter().flatten() {
                let (seq, before) = (message["MsgSeq"].as_u64().unwrap(), self.pushed.load(Ordering::SeqCst));
                if seq <= before {
                    self.twice.fetch_add(1, Ordering::SeqCst);
                } else {
                    assert!(before == 0 || seq == before + 1, "{seq} is pushed after {before}");
                    self.pushed.store(seq, Ordering::SeqCst);
                }
            }
        }
    }

    /// One who reads the stream and goes on at the other server again and again.
    fn read(&self, cluster: &Cluster, mut last: String) {
        let (mut number, mut seq) = (0, 0);
        for node in (0..2).cycle() {
            let mut stream = Stream::of_group(&cluster.nodes[node], "bob", "g", &last);
            for _ in 0..PER_SERVER {
                if self.is_over(seq) {
                    return;
                }
                let frame = stream.event();
                let now = frame.data["Number"].as_u64().unwrap();
                assert!(number == 0 || now == number + 1, "{now} follows {number}");
                (number, last) = (now, frame.id);
                seq = frame.data["MsgSeq"].as_u64().unwrap_or(seq);
                self.read.store(seq, Ordering::SeqCst);
            }
        }
    }

    /// Waits until both have heard of what was sent until now, and of some more.
    fn go_on(&self) {
        let then = self.sent.load(Ordering::SeqCst) + 60;
        let told = |heard: &AtomicU64| heard.load(Ordering::SeqCst) >= then;
        until(|| told(&self.pushed) && told(&self.read), "what is sent is not told");
    }
}

#[test]
fn whatever_becomes_of_the_broker_under_load_nothing_that_is_sent_is_lost() {
    let test = "whatever_becomes_of_the_broker_under_load_nothing_that_is_sent_is_lost";
    let Some(mut broker) = Broker::start_or_skip(test) else { return };
    let Some(cluster) = cluster(test, broker.section(300)) else { return };
    let (load, cluster) = (Load::default(), &cluster);
    let bob = LongClient::logged_in(cluster.nodes[1].address, "bob");
    // The reader begins before anything of this is sent.
    let mut stream = Stream::of_group(&cluster.nodes[0], "bob", "g", "");
    send(&of(cluster, 0), 1000);
    let first = stream.event().id;
    thread::scope(|scope| {
        let load = &load;
        let writers: Vec<_> =
            (0..WRITERS).map(|number| scope.spawn(move || load.write(cluster, number))).collect();
        let listener = scope.spawn(|| load.listen(bob));
        let reader = scope.spawn(|| load.read(cluster, first));
        // Also by a panic, for a scope waits for its threads.
        let writing = Stop(load);
        load.go_on();
        broker.kill();
        load.go_on();
        broker.start();
        load.go_on();
        // One that says nothing without hanging up, for longer than anybody waits for it.
        broker.signal(Signal::STOP);
        load.go_on();
        thread::sleep(Duration::from_secs(5));
        broker.signal(Signal::CONT);
        load.go_on();
        // One that is slow: it comes to its turn for a third of the time.
        for _ in 0..30 {
            broker.signal(Signal::STOP);
            thread::sleep(Duration::from_millis(100));
            broker.signal(Signal::CONT);
            thread::sleep(Duration::from_millis(50));
        }
        load.go_on();
        broker.kill();
        broker.start();
        load.go_on();
        drop(writing);
        for writer in writers {
            writer.join().unwrap();
        }
        // One message was there before bob and the reader were, another was sent for the reader.
        load.end.store(load.sent.load(Ordering::SeqCst) + 3, Ordering::SeqCst);
        send(&of(cluster, 0), 2000);
        listener.join().unwrap();
        reader.join().unwrap();
    });
    let [sent, twice] = [&load.sent, &load.twice].map(|count| count.load(Ordering::SeqCst));
    println!("{sent} messages, {twice} of them pushed twice");
    // The memory of what was told holds longer than any of this.
    assert_eq!(twice, 0);
}

/// Lets writers stop when it is dropped.
struct Stop<'a>(&'a Load);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stops.store(true, Ordering::SeqCst);
        // Whoever waits for more is let go with what comes next, or by its own patience.
        if thread::panicking() {
            self.0.end.store(1, Ordering::SeqCst);
        }
    }
}
