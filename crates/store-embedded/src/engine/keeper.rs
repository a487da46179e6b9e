//! Frees what fjall is done with, away from the lock that every commit needs.
//!
//! A flush and a merge end under the tree's lock, and there lsm-tree forgets the state before. With the last hold on
//! a memtable goes the time to free tens of thousands of small pieces, with that on a table the time to delete a file:
//! commits stood still for 40 to 70 ms (docs/performance.md). So both are held here a little longer than by lsm-tree,
//! and let go on a thread of their own.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fjall::{AbstractTree as _, Keyspace};

/// How often the thread looks while there are commits. A memtable takes much longer to fill.
const STEP: Duration = Duration::from_millis(20);

/// States of the tables that are held, the newest among them. lsm-tree forgets one some flushes or merges later, once no
/// snapshot needs it; with commits under way that is soon.
const VERSIONS: usize = 4;

/// After so many looks without a commit, a minute, the files of earlier states are let go of too.
const REST: u32 = 3000;

/// The thread. Dropping it ends it and lets go of everything.
pub(super) struct Keeper {
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Signal {
    /// There was a commit since the thread looked last.
    committed: AtomicBool,
    /// The thread looks again only when it is woken.
    sleeps: AtomicBool,
    ends: AtomicBool,
}

impl Keeper {
    /// Starts the thread, which is as nice as those of fjall.
    pub(super) fn start(keyspace: Keyspace) -> std::io::Result<Self> {
        let signal = Arc::new(Signal::default());
        let of_thread = Arc::clone(&signal);
        let thread = thread::Builder::new().name("store-keeper".to_owned()).spawn(move || {
            super::recovery::become_nicer();
            watch(&keyspace, &of_thread);
        })?;
        Ok(Self { signal, thread: Some(thread) })
    }

    /// Tells the thread of a commit. Costs one load while commits come fast.
    pub(super) fn committed(&self) {
        if !self.signal.committed.load(Ordering::Relaxed) {
            self.signal.committed.store(true, Ordering::SeqCst);
            if self.signal.sleeps.load(Ordering::SeqCst) {
                self.wake();
            }
        }
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.signal.ends.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // It fails only if the thread panicked, which was printed then.
            let _ = thread.join();
        }
    }
}

fn watch(keyspace: &Keyspace, signal: &Signal) {
    let mut held = Held::default();
    let mut quiet = 0;
    while !signal.ends.load(Ordering::SeqCst) {
        quiet = if signal.committed.swap(false, Ordering::SeqCst) { 0 } else { REST.min(quiet + 1) };
        let rests = quiet == REST;
        held.memtable(keyspace.tree.active_memtable());
        let version = keyspace.tree.current_version();
        held.version(version.id(), Box::new(version));
        held.let_go(rests);
        if !rests || !held.is_least() {
            thread::park_timeout(STEP);
            continue;
        }
        signal.sleeps.store(true, Ordering::SeqCst);
        if !signal.committed.load(Ordering::SeqCst) && !signal.ends.load(Ordering::SeqCst) {
            thread::park();
        }
        signal.sleeps.store(false, Ordering::SeqCst);
    }
}

/// What is held on to.
#[derive(Default)]
struct Held {
    /// In the order in which they were filled; the last one is being filled.
    memtables: VecDeque<Arc<dyn Any + Send + Sync>>,
    /// By their ids, which ascend.
    versions: VecDeque<(u64, Box<dyn Any + Send>)>,
}

impl Held {
    /// Holds the memtable that is being filled.
    fn memtable(&mut self, memtable: Arc<dyn Any + Send + Sync>) {
        if self.memtables.back().is_none_or(|last| !Arc::ptr_eq(last, &memtable)) {
            self.memtables.push_back(memtable);
        }
    }

    /// Holds the state of this id, and with it its tables.
    fn version(&mut self, id: u64, version: Box<dyn Any + Send>) {
        if self.versions.back().is_none_or(|(last, _)| *last != id) {
            self.versions.push_back((id, version));
        }
    }

    /// Frees the memtables that nobody else holds, and the states before the last few or, in a store that rests,
    /// before the newest.
    fn let_go(&mut self, rests: bool) {
        self.memtables.retain(|memtable| Arc::strong_count(memtable) > 1);
        let kept = if rests { 1 } else { VERSIONS };
        while self.versions.len() > kept {
            self.versions.pop_front();
        }
    }

    /// Whether nothing is left to let go.
    fn is_least(&self) -> bool {
        self.memtables.len() <= 1 && self.versions.len() <= 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Change, Engine, Settings};

    type Counter = Arc<()>;

    #[test]
    fn memtables_are_freed_here_once_nobody_else_holds_them() {
        let mut held = Held::default();
        let (first, second): (Counter, Counter) = (Arc::default(), Arc::default());
        held.memtable(Arc::clone(&first) as _);
        held.memtable(Arc::clone(&first) as _);
        held.memtable(Arc::clone(&second) as _);
        let weak = Arc::downgrade(&first);
        held.let_go(false);
        assert_eq!(held.memtables.len(), 2);
        drop(first);
        // What lsm-tree lets go of is still there, and goes with the next look.
        assert!(weak.upgrade().is_some());
        held.let_go(false);
        assert!(weak.upgrade().is_none());
        assert!(held.is_least());
    }

    #[test]
    fn the_last_states_are_held_until_the_store_rests() {
        let mut held = Held::default();
        let states: Vec<Counter> = (0..10).map(|_| Arc::default()).collect();
        for (id, state) in (0..).zip(&states) {
            held.version(id, Box::new(Arc::clone(state)));
            held.version(id, Box::new(Arc::clone(state)));
            held.let_go(false);
            assert!(held.versions.len() <= VERSIONS);
        }
        let holds = || states.iter().map(|state| Arc::strong_count(state) - 1).collect::<Vec<_>>();
        assert_eq!(holds(), [0, 0, 0, 0, 0, 0, 1, 1, 1, 1]);
        assert!(!held.is_least());
        held.let_go(true);
        assert_eq!(holds(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert!(held.is_least());
    }

    /// The thread must have gone before the folder can be opened again, and must not hold flushed rows for good.
    #[test]
    fn flushed_memtables_are_freed_while_the_store_is_open() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let engine = Engine::open(folder.path(), &Settings::default()).unwrap();
            let keyspace = &engine.shared.keyspace;
            engine.commit([]).unwrap();
            let first = Arc::downgrade(&keyspace.tree.active_memtable());
            // lsm-tree forgets a memtable some flushes later.
            for flush in 0.. {
                if first.strong_count() == 0 {
                    break;
                }
                assert!(flush < 1000, "flushed rows are still held");
                engine.commit([Change::Put { key: (*b"a").into(), value: (*b"1").into() }]).unwrap();
                keyspace.rotate_memtable_and_wait().unwrap();
            }
        }
    }
}
