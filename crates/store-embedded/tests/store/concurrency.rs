use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::future::{join_all, try_join_all};
use sidenote_core::{Limits, Outcome};
use sidenote_store::Store;
use sidenote_store_embedded::{EmbeddedStore, Settings};

use crate::scene::{
    clear, command, extend, group_with_messages, open, pull, runtime, send, set, tiny_cache, unlimited,
};

/// Runs work on the runtime's threads, all at once.
async fn spawned<T: Send + 'static>(
    work: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let runtime = tokio::runtime::Handle::current();
    let tasks: Vec<_> = work.into_iter().map(|work| runtime.spawn(work)).collect();
    try_join_all(tasks).await.unwrap()
}

fn shared(folder: &tempfile::TempDir, settings: &Settings, limits: Limits) -> Arc<EmbeddedStore> {
    Arc::new(open(folder.path(), settings, limits))
}

#[test]
fn every_set_of_one_message_gets_a_number_of_its_own() {
    for settings in
        [Settings::default(), tiny_cache(), Settings { row_cache_bytes: 0, ..Settings::default() }]
    {
        runtime().block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let store = shared(&folder, &settings, unlimited());
            group_with_messages(&*store, 1).await;
            let clients = (0..40).map(|client| {
                let store = Arc::clone(&store);
                async move {
                    let mut numbers = Vec::new();
                    for round in 0..10 {
                        let (key, value) = (format!("k{}", client % 7), format!("{client} {round}"));
                        numbers.push(extend(&*store, 3, set("g", 1, &[(&key, &value)])).await.latest);
                    }
                    assert!(numbers.is_sorted(), "a client's numbers rise");
                    numbers
                }
            });
            let numbers: BTreeSet<_> = spawned(clients).await.into_iter().flatten().collect();
            assert_eq!(numbers.len(), 400);
            let page = pull(&*store, "g", 1).await;
            assert_eq!((page.latest.get(), page.pairs.len()), (400, 7));
            store.close().await;
        });
    }
}

#[test]
fn a_clear_of_a_message_under_load_succeeds() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let store = shared(&folder, &tiny_cache(), unlimited());
        group_with_messages(&*store, 1).await;
        let done = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..32)
            .map(|client| {
                let (store, done) = (Arc::clone(&store), Arc::clone(&done));
                async move {
                    while !done.load(Ordering::Acquire) {
                        extend(&*store, 3, set("g", 1, &[(&format!("k{client}"), "v")])).await;
                    }
                }
            })
            .collect();
        let clears = {
            let (store, done) = (Arc::clone(&store), Arc::clone(&done));
            async move {
                for _ in 0..20 {
                    let cleared = extend(&*store, 4, clear("g", 1)).await;
                    let page = pull(&*store, "g", 1).await;
                    assert!(page.clear >= cleared.latest);
                    assert!(
                        page.pairs.iter().all(|pair| pair.seq > page.clear),
                        "a clear drops all there was"
                    );
                }
                done.store(true, Ordering::Release);
            }
        };
        let (_, _) = futures_util::future::join(spawned(clients), spawned([clears])).await;
        store.close().await;
    });
}

#[test]
fn a_tiny_queue_serves_a_crowd() {
    for (queue, batch) in [(1, 1), (2, 512), (7, 3)] {
        runtime().block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let settings = Settings { queue, batch, reader_threads: 1, ..tiny_cache() };
            let store = shared(&folder, &settings, unlimited());
            group_with_messages(&*store, 10).await;
            let crowd = (0..1000_u64).map(|number| {
                let store = Arc::clone(&store);
                async move {
                    let seq = number % 10 + 1;
                    extend(&*store, 3, set("g", seq, &[(&format!("k{}", number % 30), "v")])).await;
                    pull(&*store, "g", seq).await;
                }
            });
            spawned(crowd).await;
            for seq in 1..=10 {
                assert_eq!(pull(&*store, "g", seq).await.latest.get(), 100);
            }
            store.close().await;
        });
    }
}

#[test]
fn no_reader_ever_sees_an_older_state_or_a_mixed_one() {
    // The middle size holds some rows of what is asked for and not others.
    for row_cache_bytes in [0, 2500, 1 << 20] {
        runtime().block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let settings = Settings { row_cache_bytes, ..Settings::default() };
            let store = shared(&folder, &settings, unlimited());
            group_with_messages(&*store, 2).await;
            let running = Arc::new(AtomicU64::new(4));
            let writers: Vec<_> = (0..4_u64)
                .map(|client| {
                    let (store, running) = (Arc::clone(&store), Arc::clone(&running));
                    async move {
                        for round in 0..60 {
                            let seq = (client + round) % 2 + 1;
                            let answered = if round % 20 == 19 {
                                extend(&*store, 3, clear("g", seq)).await.latest
                            } else {
                                let key = format!("k{}", round % 5);
                                extend(&*store, 3, set("g", seq, &[(&key, "v"), ("all", "v")])).await.latest
                            };
                            let page = pull(&*store, "g", seq).await;
                            assert!(page.latest >= answered, "a client reads its own writes");
                        }
                        running.fetch_sub(1, Ordering::AcqRel);
                    }
                })
                .collect();
            let readers = (0..4_u64).map(|client| {
                let (store, running) = (Arc::clone(&store), Arc::clone(&running));
                async move {
                    let seq = client % 2 + 1;
                    let mut seen = sidenote_core::extension::Seq::NEVER;
                    while running.load(Ordering::Acquire) > 0 {
                        let page = pull(&*store, "g", seq).await;
                        assert!(page.latest >= seen, "LatestSeq went back from {seen} to {}", page.latest);
                        seen = page.latest;
                        // Every set changes the pair `all`, so the newest pair has LatestSeq itself.
                        let newest = page.pairs.iter().map(|pair| pair.seq).max();
                        assert_eq!(newest.unwrap_or(page.clear), page.latest, "a page of two states");
                        assert!(page.pairs.iter().all(|pair| pair.seq > page.clear));
                        // A warm pull never waits, and would not let go of the runtime's thread.
                        tokio::task::yield_now().await;
                    }
                }
            });
            let readers: Vec<_> = readers.collect();
            futures_util::future::join(spawned(writers), spawned(readers)).await;
            store.close().await;
        });
    }
}

#[test]
fn sends_of_many_get_numbers_without_gaps() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let store: &dyn Store = &open(folder.path(), &tiny_cache(), unlimited());
        group_with_messages(store, 1).await;
        let sends = (1..200).map(|random| store.execute(command(3, send("g", "ann", random))));
        let mut numbers = BTreeSet::new();
        for sent in join_all(sends).await {
            let Outcome::Sent(sent) = sent.unwrap().unwrap() else { panic!("a send answers what it sent") };
            numbers.insert(sent.seq().unwrap().get());
        }
        assert!(numbers.into_iter().eq(2..=200));
        store.close().await;
    });
}
