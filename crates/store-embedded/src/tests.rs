//! What cannot be brought about or seen from outside: a disk that fails, a rule that panics, what memory is counted as.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use sidenote_core::Limits;
use sidenote_core::command::{AccountAction, Action, Command};
use sidenote_core::event::Operator;
use sidenote_core::extension::{Entry, ExtensionState, Key, Seq, Value};
use sidenote_core::ids::{AccountId, AppId, Incarnation, MessageName, MsgSeq, Timestamp, TinyId, UserId};
use sidenote_core::pairs::Pairs;
use sidenote_core::query::{Accounts, Answer, Ask};
use sidenote_core::rows::{MessagePart, Part, Row, RowKey};
use sidenote_store::{Store, StoreError};
use tokio::sync::{Semaphore, oneshot};

use crate::cache::{Cache, Changes};
use crate::engine::{self, Engine};
use crate::readers::Question;
use crate::store::Parts;
use crate::writer::{Batch, Input, Job, State};
use crate::{EmbeddedStore, Settings};

fn account(name: &str) -> AccountId {
    AccountId { app: AppId::new(1), user: UserId::new(name).unwrap() }
}

fn import(name: &str) -> Command {
    let action = AccountAction::Import {
        tiny_id: TinyId::from_random(1),
        nick: Some(name.to_owned()),
        face_url: None,
    };
    Command {
        operator: Operator::server(UserId::new("admin").unwrap()),
        at: Timestamp::from_millis(1),
        action: Action::Account(account(name), action),
    }
}

#[test]
fn a_failed_write_stops_all_later_writes_and_no_reads() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Arc::new(Engine::open(folder.path(), &engine::Settings::default()).unwrap());
    let store = EmbeddedStore::start(Arc::clone(&engine), &Settings::default(), Limits::default()).unwrap();
    let store: &dyn Store = &store;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        store.commit(import("ann")).await.unwrap();
        assert_eq!(store.health(), Ok(()));

        engine.fail_next_sync.store(true, Ordering::Release);
        let names: Vec<_> = (0..50).map(|number| format!("bob{number}")).collect();
        for answer in join_all(names.iter().map(|name| store.commit(import(name)))).await {
            assert!(matches!(answer, Err(StoreError::Poisoned { reason }) if !reason.is_empty()));
        }
        let poisoned = store.commit(import("cem")).await.unwrap_err();
        assert!(matches!(&poisoned, StoreError::Poisoned { .. }));
        assert_eq!(store.health(), Err(poisoned));

        // Nothing of what failed is seen, in memory or on disk, and what was there is served.
        let ids = ["ann", "bob0", "bob49", "cem"].map(account).into();
        let found = store.ask(Accounts { ids }).await.unwrap();
        assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, false, false]);
        store.close().await;
    });

    // Reopening the folder, which verifies the files, is the cure.
    drop(engine);
    let store = EmbeddedStore::open(folder.path(), &Settings::default(), Limits::default()).unwrap();
    runtime.block_on(async {
        store.commit(import("cem")).await.unwrap();
        store.close().await;
    });
}

#[test]
fn a_rule_that_panics_fails_what_was_asked_of_it_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path(), &Settings::default(), Limits::default()).unwrap();
    let cache = Arc::clone(&store.cache);
    let store: &dyn Store = &store;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        store.commit(import("ann")).await.unwrap();
        // A row of a kind that its key cannot have: rules do not go on from there.
        cache.fill_row(&RowKey::Account(account("bob")), Some(Row::Debt), cache.published());
        let names = ["ann", "bob", "cem", "bob", "dan"];
        let answers = join_all(names.map(|name| store.commit(import(name)))).await;
        for (name, answer) in names.iter().zip(answers) {
            match answer {
                Ok(_) => assert_ne!(*name, "bob"),
                Err(error) => {
                    assert_eq!(*name, "bob");
                    assert!(matches!(&error, StoreError::Busy { reason } if reason.contains("panicked")));
                }
            }
        }
        let found = store.ask(Accounts { ids: ["ann", "cem", "dan"].map(account).into() }).await.unwrap();
        assert!(found.iter().all(Option::is_some));
        let asked = store.ask(Accounts { ids: vec![account("bob")] }).await;
        assert!(matches!(asked, Err(StoreError::Busy { .. })));
        assert_eq!(store.health(), Ok(()));
        store.close().await;
    });
}

#[test]
fn files_do_not_show_a_batch_before_memory_does() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Arc::new(Engine::open(folder.path(), &engine::Settings::default()).unwrap());
    let Parts { store: _store, reader, watch: _, writer } =
        Parts::new(engine, &Settings::default(), Limits::default());
    let mut writer = State::new(writer);
    let places = Arc::new(Semaphore::new(9));
    let place = || Arc::clone(&places).try_acquire_owned().unwrap();
    let is_there_in_files = |name: &str| {
        let (reply, mut answer) = oneshot::channel();
        reader.answer(Question {
            query: Accounts { ids: vec![account(name)] }.into_query(),
            reply,
            place: place(),
        });
        match answer.try_recv().unwrap().unwrap() {
            Answer::Accounts(accounts) => accounts[0].is_some(),
            other => panic!("{other:?}"),
        }
    };

    // The first time the row is not in memory, and a reader brings it.
    writer.take(Input::Job(Job::new(import("ann"), oneshot::channel().0, place())), &mut Batch::default());
    reader.fetch(Job::new(import("ann"), oneshot::channel().0, place()));
    let mut batch = Batch::default();
    writer.take(writer.writer.inbox.try_recv().unwrap(), &mut batch);
    let number = writer.commit(&mut batch).unwrap();
    // Somebody who saw the batch here, and then asked what memory can answer, would go back in time.
    assert!(!is_there_in_files("ann"));
    writer.publish(number, &mut batch);
    assert!(is_there_in_files("ann"));
}

#[test]
fn the_page_of_a_set_is_counted_from_when_it_is_made_until_the_set_changes() {
    let cache = Cache::new(1 << 20, 0);
    let of = (Incarnation::from_random(1), MessageName::Seq(MsgSeq::new(1).unwrap()));
    let entry = |seq| Entry::Live { value: Value::new("forty bytes").unwrap(), seq: Seq::new(seq).unwrap() };
    let key = |number: u64| Key::new(&format!("key {number}")).unwrap();
    let pairs: Pairs = (1..=20).map(|number| (key(number), entry(number))).collect();
    let pull = |pairs: &Pairs| pairs.page(&ExtensionState::default(), Seq::NEVER, false, 200);

    cache.take_back(cache.fill_pairs(of, Arc::new(pairs), 0));
    let without = cache.bytes();
    assert!(without > 0);
    // Whoever looks at one pair makes no page.
    cache.take_back(cache.lend_pairs(of, 0).unwrap());
    assert_eq!(cache.bytes(), without);

    for _ in 0..2 {
        let lent = cache.lend_pairs(of, 0).unwrap();
        pull(&lent.pairs);
        cache.take_back(lent);
        assert!(cache.bytes() > 2 * without, "{} after {without}", cache.bytes());
    }
    // A set that changes while somebody has it is another one than is given back.
    let lent = cache.lend_pairs(of, 0).unwrap();
    let row = RowKey::Within(of.0, Part::Message(of.1, MessagePart::Pair(key(1))));
    cache.publish(1, &Changes::from_iter([(row, Some(Row::Pair(entry(21))))]));
    pull(&lent.pairs);
    cache.take_back(lent);
    assert_eq!(cache.bytes(), without);
}
