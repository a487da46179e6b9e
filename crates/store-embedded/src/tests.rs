//! A store whose disk fails. The engine's switch for that is not seen from outside.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use sidenote_core::Limits;
use sidenote_core::command::{AccountAction, Action, Command};
use sidenote_core::event::Operator;
use sidenote_core::ids::{AccountId, AppId, Timestamp, TinyId, UserId};
use sidenote_core::query::Accounts;
use sidenote_store::{Store, StoreError};

use crate::engine::{self, Engine};
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
