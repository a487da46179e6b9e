use std::sync::Arc;

use sidenote_core::command::{Action, GroupAction};
use sidenote_core::event::Event;
use sidenote_core::extension::Seq;
use sidenote_core::ids::{EventNumber, Incarnation};
use sidenote_core::query::{DescribeGroup, DueDebts, Events, History, JoinedGroups};
use sidenote_core::{Limits, Outcome, Refusal};
use sidenote_store::{Store, StoreError};
use sidenote_store_embedded::{OpenError, Settings};

use crate::scene::{
    account, at, clear, command, commit, create, delete, extend, group, group_with_messages, member, open,
    pull, runtime, send, set, tiny_id, unlimited,
};

#[test]
fn what_is_set_is_pulled() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let store: &dyn Store = &open(folder.path(), &Settings::default(), Limits::default());
        group_with_messages(store, 2).await;
        assert_eq!(extend(store, 3, set("g", 1, &[("a", "1"), ("b", "2")])).await.latest.get(), 1);
        assert_eq!(extend(store, 4, set("g", 1, &[("a", "3")])).await.latest.get(), 2);
        let page = pull(store, "g", 1).await;
        let pairs: Vec<_> = page
            .pairs
            .iter()
            .map(|pair| (pair.key.as_str(), pair.value.as_ref().unwrap().as_str(), pair.seq.get()))
            .collect();
        assert_eq!(pairs, [("b", "2", 1), ("a", "3", 2)]);
        assert_eq!((page.latest.get(), page.clear, page.complete), (2, Seq::NEVER, true));
        assert_eq!(pull(store, "g", 2).await.latest, Seq::NEVER);
        assert_eq!(extend(store, 5, clear("g", 1)).await.latest.get(), 3);
        assert!(pull(store, "g", 1).await.pairs.is_empty());

        let refused = store.execute(command(6, set("g", 3, &[("a", "1")]))).await.unwrap();
        assert_eq!(refused, Err(Refusal::NoSuchMessage));
        store.close().await;
    });
}

#[test]
fn everything_is_there_after_reopening() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let (pulled, told) = {
            let store: &dyn Store = &open(folder.path(), &Settings::default(), Limits::default());
            group_with_messages(store, 3).await;
            extend(store, 3, set("g", 2, &[("a", "1"), ("b", "2")])).await;
            let seen = (pull(store, "g", 2).await, events(store).await);
            store.close().await;
            seen
        };
        for _ in 0..2 {
            let store: &dyn Store = &open(folder.path(), &Settings::default(), Limits::default());
            assert_eq!(pull(store, "g", 2).await, pulled);
            assert_eq!(events(store).await, told);
            let page = store.ask(History { id: group("g"), up_to: None, count: 9 }).await.unwrap().unwrap();
            assert_eq!(page.messages.len(), 3);
            let joined = JoinedGroups { account: account("ann"), after: None, limit: 9 };
            assert_eq!(store.ask(joined).await.unwrap().groups.len(), 1);
            store.close().await;
        }
    });
}

async fn events(store: &dyn Store) -> Vec<Arc<Event>> {
    let (id, incarnation) = (group("g"), Incarnation::from_random(77));
    let question = Events { id, incarnation, after: EventNumber::START, limit: 99 };
    store.ask(question).await.unwrap().events
}

#[test]
fn once_closed_the_folder_is_free_and_the_store_refuses() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), &Settings::default(), Limits::default());
        let store: &dyn Store = &first;
        group_with_messages(store, 1).await;
        pull(store, "g", 1).await;
        let second = sidenote_store_embedded::EmbeddedStore::open(
            folder.path(),
            &Settings::default(),
            Limits::default(),
        );
        assert!(matches!(second, Err(OpenError::InUse { .. })));

        store.close().await;
        store.close().await;
        assert_eq!(store.health(), Err(StoreError::Closed));
        let refused = store.commit(command(9, set("g", 1, &[("a", "1")]))).await;
        assert_eq!(refused.unwrap_err(), StoreError::Closed);
        assert_eq!(store.ask(DescribeGroup { id: group("g") }).await.unwrap_err(), StoreError::Closed);

        let again = open(folder.path(), &Settings::default(), Limits::default());
        pull(&again, "g", 1).await;
        again.close().await;
    });
}

#[test]
fn closing_finishes_what_was_accepted() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { queue: 8, ..Settings::default() };
        let store: &dyn Store = &open(folder.path(), &settings, unlimited());
        group_with_messages(store, 1).await;
        let sets = (0..100).map(|step| store.commit(command(3 + step, set("g", 1, &[("a", "1")]))));
        let (answers, ()) =
            futures_util::future::join(futures_util::future::join_all(sets), store.close()).await;
        let mut accepted = 0;
        for answer in answers {
            match answer {
                Ok(committed) => {
                    assert!(committed.verdict.is_ok());
                    accepted += 1;
                }
                Err(error) => assert_eq!(error, StoreError::Closed),
            }
        }
        let again: &dyn Store = &open(folder.path(), &settings, unlimited());
        assert_eq!(pull(again, "g", 1).await.latest.get(), accepted);
        again.close().await;
    });
}

#[test]
fn a_store_that_is_dropped_lets_go_of_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let store = open(folder.path(), &Settings::default(), Limits::default());
        group_with_messages(&store, 1).await;
    });
    // It lets go in its own time; each try takes the way through the file system.
    let open_again = || {
        sidenote_store_embedded::EmbeddedStore::open(folder.path(), &Settings::default(), Limits::default())
    };
    let again = std::iter::repeat_with(open_again).find_map(Result::ok).unwrap();
    runtime().block_on(async {
        assert_eq!(pull(&again, "g", 1).await.latest, Seq::NEVER);
        again.close().await;
    });
}

#[test]
fn a_large_group_is_reaped_part_by_part() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let store: &dyn Store = &open(folder.path(), &crate::scene::tiny_cache(), unlimited());
        group_with_messages(store, 300).await;
        commit(store, 10, Action::Group(group("g"), GroupAction::Destroy)).await;
        sidenote_store::debts::pay_due(store, at(11), None, 10).await.unwrap();
        let left = store.ask(DueDebts { by: at(11), after: None, limit: 9 }).await.unwrap();
        assert_eq!(left, []);
        let (id, incarnation) = (group("g"), Incarnation::from_random(77));
        let reaped = sidenote_core::query::NextReaped { id, incarnation };
        assert_eq!(store.ask(reaped).await.unwrap(), []);
        commit(store, 12, create("g", 78, 12, member("ann", tiny_id("ann")))).await;
        let sent = commit(store, 13, send("g", "ann", 1)).await;
        assert!(matches!(sent, Outcome::Sent(sent) if sent.seq().unwrap().get() == 1));
        store.close().await;
    });
}

#[test]
fn the_largest_message_that_may_be_configured_is_compacted_and_cleared() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        // With keys of 100 and values of 1000 bytes these come to just below the 32 MiB that one commit takes.
        let limits = Limits { pairs_per_message: 8700, tombstones_per_message: 1000, ..unlimited() };
        let store: &dyn Store = &open(folder.path(), &Settings::default(), limits);
        group_with_messages(store, 1).await;
        let (keys, value) = ((0..9701).map(|n| format!("{n:0100}")).collect::<Vec<_>>(), "v".repeat(1000));
        for keys in keys[..8700].chunks(200) {
            let pairs: Vec<_> = keys.iter().map(|key| (key.as_str(), value.as_str())).collect();
            extend(store, 3, set("g", 1, &pairs)).await;
        }
        // As many tombstones as there may be, and one more.
        let (replaced, last) = (&keys[..1000], &keys[1000]);
        for (gone, new) in replaced.chunks(200).zip(keys[8700..9700].chunks(200)) {
            extend(store, 4, delete("g", 1, gone)).await;
            let pairs: Vec<_> = new.iter().map(|key| (key.as_str(), value.as_str())).collect();
            extend(store, 5, set("g", 1, &pairs)).await;
        }
        let latest = extend(store, 6, delete("g", 1, std::slice::from_ref(last))).await.latest;
        let page = pull(store, "g", 1).await;
        assert_eq!((page.latest, page.pairs.len(), page.complete), (latest, 200, false));
        assert!(page.clear > Seq::NEVER, "it was compacted");
        let cleared = extend(store, 7, clear("g", 1)).await.latest;
        assert_eq!(cleared, latest.next());
        store.close().await;
    });
}

#[test]
fn a_set_that_began_in_memory_is_known_whole() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let store: &dyn Store = &open(folder.path(), &Settings::default(), Limits::default());
        group_with_messages(store, 1).await;
        // That the message has no set yet is looked up once.
        extend(store, 3, set("g", 1, &[("z", "1")])).await;
        let before = store.statistics();
        for key in ["a", "b", "c"] {
            extend(store, 3, set("g", 1, &[(key, "1")])).await;
        }
        extend(store, 4, clear("g", 1)).await;
        extend(store, 5, set("g", 1, &[("d", "1"), ("a", "2")])).await;
        let pulled: Vec<_> = pull(store, "g", 1).await.pairs.iter().map(|pair| pair.key.clone()).collect();
        assert_eq!(pulled.iter().map(sidenote_core::extension::Key::as_str).collect::<Vec<_>>(), ["a", "d"]);
        let after = store.statistics();
        assert_eq!(after.fetches, before.fetches, "no new key has to be looked for in the files");
        assert_eq!(after.cache_misses, before.cache_misses);
        store.close().await;

        // Nor does a second key, once a first one has been fetched: a small set is read whole.
        let store: &dyn Store = &open(folder.path(), &Settings::default(), Limits::default());
        extend(store, 6, set("g", 1, &[("e", "1")])).await;
        let before = store.statistics();
        extend(store, 7, set("g", 1, &[("f", "1")])).await;
        assert_eq!(store.statistics().fetches, before.fetches);
        store.close().await;
    });
}

#[test]
fn statistics_tell_what_happened() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let store: &dyn Store = &open(folder.path(), &Settings::default(), Limits::default());
        group_with_messages(store, 1).await;
        store.close().await;
        let store: &dyn Store = &open(folder.path(), &Settings::default(), Limits::default());
        extend(store, 3, set("g", 1, &[("a", "1")])).await;
        pull(store, "g", 1).await;
        let before = store.statistics();
        pull(store, "g", 1).await;
        let after = store.statistics();
        assert!(after.cache_hits > before.cache_hits);
        assert_eq!(after.cache_misses, before.cache_misses, "a warm pull reads no file");
        assert!(after.commits > 0 && after.commits <= after.commands && after.fetches > 0);
        assert_eq!(after.batch_sizes.iter().map(|(_, count)| count).sum::<u64>(), after.commits);
        assert_eq!(after.commit_times.iter().map(|(_, count)| count).sum::<u64>(), after.commits);
        assert!(after.cache_bytes > 0 && after.commit_time_total > std::time::Duration::ZERO);
        // A command's place is given back a moment after its answer.
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
        while store.statistics().queue_depth > 0 {
            assert!(tokio::time::Instant::now() < deadline, "a place was never given back");
            tokio::task::yield_now().await;
        }
        store.close().await;
    });
}
