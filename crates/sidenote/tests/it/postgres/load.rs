//! Writers who count, and what must be there of it in the end.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use sidenote_server::clock::{Clock as _, SystemClock};

use crate::caller::{Caller, Change, Unanswered};
use crate::server::{ADMINISTRATOR, APP};

/// Writers at a time. Each has a key for itself.
const WRITERS: usize = 8;

/// Messages that they write to.
pub(super) const MESSAGES: u64 = 3;

/// What all of them see together, while they write.
#[derive(Default)]
pub(super) struct Load {
    stops: AtomicBool,
    pub(super) acknowledged: AtomicU64,
    /// Answers that say "internal error, try again".
    pub(super) refused: AtomicU64,
    /// Connections that broke.
    pub(super) broken: AtomicU64,
    /// The longest that anybody waited for an answer, in milliseconds.
    pub(super) longest: AtomicU64,
    /// When a write was acknowledged last, in milliseconds, and the longest time between two of them.
    last: AtomicU64,
    gap: AtomicU64,
    /// The last number that each writer was told is there.
    told: [AtomicU64; WRITERS],
    /// Pulls that were answered and compared with what had been told before they were asked.
    pub(super) compared: AtomicU64,
}

/// What one of them wrote.
pub(super) struct Writer {
    key: String,
    message: u64,
    /// The last number that it sent.
    sent: u64,
    /// The last number that it was told is there.
    told: u64,
    /// How often it was.
    times: u64,
}

impl Load {
    /// Starts the writers. Each begins with another server and goes on with the next when its connection breaks.
    pub(super) fn begin<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        servers: &[SocketAddr],
    ) -> Vec<ScopedJoinHandle<'scope, Writer>> {
        let writer = |number: usize| {
            let mut servers = servers.to_vec();
            let first = number % servers.len();
            servers.rotate_left(first);
            let writer =
                Writer { key: key_of(number), message: message_of(number), sent: 0, told: 0, times: 0 };
            scope.spawn(move || self.write(&servers, writer, &self.told[number]))
        };
        (0..WRITERS).map(writer).collect()
    }

    /// Starts readers, one at each server, who object to an answer that does not show what any server had acknowledged
    /// before they asked.
    pub(super) fn compare<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, servers: &[SocketAddr]) {
        for server in servers {
            let reader = Caller::new(*server, APP, ADMINISTRATOR);
            scope.spawn(move || {
                let mut message = 0;
                while !self.stops.load(Ordering::SeqCst) {
                    message = message % MESSAGES + 1;
                    self.compare_one(&reader, message);
                    thread::sleep(Duration::from_millis(5));
                }
            });
        }
    }

    fn compare_one(&self, reader: &Caller, message: u64) {
        let told: Vec<_> = self.told.iter().map(|told| told.load(Ordering::SeqCst)).collect();
        // Whether a read that was refused happened is of no interest.
        let Ok(page) = reader.try_page("g", message, 0) else { return };
        assert!(page.complete, "there are few pairs");
        for (number, told) in
            told.into_iter().enumerate().filter(|(number, _)| message_of(*number) == message)
        {
            let found = page.pairs.iter().find(|pair| pair.key == key_of(number));
            let found: u64 = found.map_or(0, |pair| pair.value.parse().unwrap());
            assert!(found >= told, "{}: {told} was answered, {found} is read later", key_of(number));
        }
        self.compared.fetch_add(1, Ordering::SeqCst);
    }

    /// The longest time between two acknowledged writes since this was asked last, in milliseconds.
    pub(super) fn longest_gap(&self) -> u64 {
        self.gap.swap(0, Ordering::SeqCst)
    }

    /// Lets them stop when this is dropped, also by a panic: a scope waits for its threads.
    pub(super) fn until_dropped(&self) -> impl Drop + use<'_> {
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        End(&self.stops)
    }

    fn write(&self, servers: &[SocketAddr], mut writer: Writer, told: &AtomicU64) -> Writer {
        let callers: Vec<_> = servers.iter().map(|server| Caller::new(*server, APP, ADMINISTRATOR)).collect();
        let mut callers = callers.iter().cycle();
        let mut caller = callers.next().unwrap();
        while !self.stops.load(Ordering::SeqCst) {
            writer.sent += 1;
            let value = writer.sent.to_string();
            let began = SystemClock.now_millis();
            // An answer with another code than 0 and "internal error" fails the test in here.
            let answer = caller.change("g", writer.message, &Change::set([(&*writer.key, &*value, None)]));
            self.longest.fetch_max(SystemClock.now_millis().saturating_sub(began), Ordering::SeqCst);
            match answer {
                Ok(changed) => {
                    let (code, pair) = &changed.items[0];
                    assert_eq!((code, &pair.value), (&0, &value));
                    (writer.told, writer.times) = (writer.sent, writer.times + 1);
                    told.store(writer.told, Ordering::SeqCst);
                    let now = SystemClock.now_millis();
                    let last = self.last.swap(now, Ordering::SeqCst);
                    if last > 0 {
                        self.gap.fetch_max(now.saturating_sub(last), Ordering::SeqCst);
                    }
                    self.acknowledged.fetch_add(1, Ordering::SeqCst);
                }
                Err(Unanswered::Internal(_)) => {
                    self.refused.fetch_add(1, Ordering::SeqCst);
                    // As a client does that was told to try again.
                    thread::sleep(Duration::from_millis(10));
                }
                Err(Unanswered::Broken(_)) => {
                    self.broken.fetch_add(1, Ordering::SeqCst);
                    caller = callers.next().unwrap();
                    thread::sleep(Duration::from_millis(10));
                }
            }
        }
        writer
    }
}

fn key_of(writer: usize) -> String {
    format!("k{writer}")
}

fn message_of(writer: usize) -> u64 {
    1 + writer as u64 % MESSAGES
}

/// Looks at what is there: of each writer the last number that it was told of, or a later one that it sent; and as many
/// changes as there must have been.
pub(super) fn verify(reader: &Caller, writers: &[Writer]) {
    for message in 1..=MESSAGES {
        let pages = reader.walk("g", message, 0);
        let latest = pages[0].latest;
        let of_it = || writers.iter().filter(|writer| writer.message == message);
        let sum = |count: fn(&Writer) -> u64| of_it().map(count).sum::<u64>();
        let (told, sent) = (sum(|writer| writer.times), sum(|writer| writer.sent));
        assert!((told..=sent).contains(&latest), "{told} were answered, {sent} sent, {latest} are there");
        for Writer { key, sent, told, .. } in of_it() {
            let found = pages.iter().flat_map(|page| &page.pairs).find(|pair| pair.key == *key);
            let found: u64 = found.map_or(0, |pair| pair.value.parse().unwrap());
            assert!((*told..=*sent).contains(&found), "{key}: told {told}, sent {sent}, there is {found}");
        }
    }
}
