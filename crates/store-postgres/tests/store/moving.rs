//! All rows at once: whatever is brought in is walked again, in its order, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::test_runner::{Config, TestRunner};
use sidenote_core::debt::Task;
use sidenote_core::ids::{AppId, ConversationId, Incarnation};
use sidenote_core::rows::{Row, RowKey};
use sidenote_postgres_for_tests::{Postgres, Settings};
use sidenote_store::Store as _;
use sidenote_store::audit::Position;
use sidenote_store_postgres::{
    Begun, Load, Loader, MoveError, PostgresOptions, Walk, abandon, fits, home_key, schema,
};

use crate::arbitrary::{an_event, key_and_row};
use crate::scene::{APP, create, found, open, options};

type Entry = (RowKey, Row);

/// The conversation that a row names together with a life.
fn names(key: &RowKey, row: &Row) -> Option<(ConversationId, Incarnation)> {
    match (key, row) {
        (RowKey::Conversation(id), Row::Group(group)) => Some((id.clone(), group.incarnation)),
        (RowKey::Conversation(id), Row::Direct(direct)) => Some((id.clone(), direct.incarnation)),
        (RowKey::Debt(debt), _) => match &debt.task {
            Task::Announce(id, incarnation, _)
            | Task::Reap(id, incarnation)
            | Task::Strip(id, incarnation, _)
            | Task::ForgetSend(id, incarnation, _)
            | Task::TrimEvents(id, incarnation) => Some((id.clone(), *incarnation)),
            Task::Forsake(..) => None,
        },
        _ => None,
    }
}

fn app_of(key: &RowKey) -> Option<AppId> {
    match key {
        RowKey::Account(id) | RowKey::Membership(id, ..) => Some(id.app),
        RowKey::Conversation(id) | RowKey::Outbox(id, _) | RowKey::DeadLetter(id, ..) => Some(id.app),
        RowKey::Debt(debt) => match &debt.task {
            Task::Forsake(id, _) => Some(id.app),
            Task::Announce(id, ..)
            | Task::Reap(id, _)
            | Task::Strip(id, ..)
            | Task::ForgetSend(id, ..)
            | Task::TrimEvents(id, _) => Some(id.app),
        },
        RowKey::Within(..) | RowKey::Event(..) => None,
    }
}

/// Of rows that are drawn at random those that one store could hold, in the order of a walk.
fn sound(mut rows: Vec<Entry>) -> (Vec<Entry>, Load) {
    let mut load = Load { file: "random".to_owned(), ..Load::default() };
    let mut named = BTreeMap::new();
    rows.retain(|(key, row)| {
        let one_of_its_life =
            names(key, row).is_none_or(|(id, life)| named.entry(life).or_insert(id.clone()) == &id);
        one_of_its_life && fits(key, row).is_ok()
    });
    rows.sort_by(|(one, _), (other, _)| Position::of(one).cmp(&Position::of(other)));
    rows.dedup_by(|(one, _), (other, _)| one == other);
    for (key, _) in &rows {
        load.apps.extend(app_of(key));
        if let RowKey::Within(life, _) | RowKey::Event(life, _) = key {
            let stray = i64::try_from(load.lives.len()).unwrap() - 20;
            load.lives.entry(*life).or_insert_with(|| named.get(life).map_or(stray, home_key));
        }
    }
    (rows, load)
}

async fn all_of(walk: &mut Walk) -> Vec<Entry> {
    let mut all = Vec::new();
    while let Some(page) = walk.next_page().await.unwrap() {
        all.extend(page.into_iter().map(|found| found.entry.unwrap()));
    }
    all
}

async fn begin(options: &PostgresOptions, load: &Load) -> Loader {
    match Loader::begin(options, load.clone()).await.unwrap() {
        Begun::Loader(loader) => *loader,
        Begun::Before(when) => panic!("it was done at {when}"),
    }
}

#[test]
fn any_rows_come_back_in_the_order_of_a_walk() {
    let test = "any_rows_come_back_in_the_order_of_a_walk";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let rows = (vec(key_and_row(), 300..600), vec(an_event(), 0..40));
    let mut runner = TestRunner::new(Config { cases: 6, max_shrink_iters: 60, ..Config::default() });
    runner
        .run(&rows, |(mut rows, events)| {
            rows.extend(events);
            let (rows, load) = sound(rows);
            runtime.block_on(async {
                let options = options(&postgres.new_schema());
                schema::migrate(&options).await.unwrap();
                let mut loader = begin(&options, &load).await;
                for (key, row) in &rows {
                    loader.put(key.clone(), row).await.unwrap();
                }
                let mut arrived = loader.compare().await.unwrap();
                assert_eq!(all_of(&mut arrived.walk).await, rows);
                arrived.finish().await.unwrap();
                let mut walk = Walk::begin(&options, None).await.unwrap();
                assert_eq!(all_of(&mut walk).await, rows);
                let again = Loader::begin(&options, load).await.unwrap();
                assert!(matches!(again, Begun::Before(_)), "{again:?}");
            });
            Ok(())
        })
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_sees_one_instant_and_tells_rows_that_are_damaged() {
    let test = "a_walk_sees_one_instant_and_tells_rows_that_are_damaged";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let options = options(&postgres.new_database());
    let store = open(options.clone()).await;
    found(&store, "room").await;
    let before = all_of(&mut Walk::begin(&options, None).await.unwrap()).await;
    assert!(before.len() > 10);

    let mut walk = Walk::begin(&options, None).await.unwrap();
    let first = walk.next_page().await.unwrap().unwrap();
    crate::scene::commit(&store, create("later", 1)).await.unwrap();
    let mut seen: Vec<_> = first.into_iter().map(|found| found.entry.unwrap()).collect();
    seen.extend(all_of(&mut walk).await);
    assert_eq!(seen, before);
    let other = AppId::new(7);
    assert_eq!(all_of(&mut Walk::begin(&options, Some([other].into())).await.unwrap()).await, []);

    // A value, a key, and a place where nobody looks.
    for (sql, has_key) in [
        ("UPDATE messages SET data = '\\x00'", true),
        ("UPDATE pairs SET key = E'\\u0001x' WHERE key = 'a'", false),
        ("UPDATE counters SET gkey = gkey + 1", true),
    ] {
        postgres.psql("test0", sql);
        let mut walk = Walk::begin(&options, None).await.unwrap();
        let mut bad = Vec::new();
        while let Some(page) = walk.next_page().await.unwrap() {
            bad.extend(page.into_iter().filter_map(|found| found.entry.err()));
        }
        assert!(bad.iter().any(|bad| bad.key.is_some() == has_key), "{sql}: {bad:?}");
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_keeps_out_of_what_is_there() {
    let test = "a_load_keeps_out_of_what_is_there";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let options = options(&postgres.new_database());
    let store = open(options.clone()).await;
    found(&store, "room").await;
    let rows = all_of(&mut Walk::begin(&options, None).await.unwrap()).await;
    let load = |file: &str, app, life: u64| Load {
        file: file.to_owned(),
        apps: BTreeSet::from([AppId::new(app)]),
        lives: BTreeMap::from([(Incarnation::from_random(life), 5)]),
        over: BTreeSet::from([Incarnation::from_random(life)]),
    };
    let refused = Loader::begin(&options, load("one", APP.get(), 1)).await.unwrap_err();
    assert!(matches!(refused, MoveError::Overlap { app: APP, .. }), "{refused}");
    let refused = Loader::begin(&options, load("one", 7, 77)).await.unwrap_err();
    assert!(matches!(refused, MoveError::Incarnation { .. }), "{refused}");
    assert!(store.unfinished_imports().await.unwrap().is_empty());

    drop(begin(&options, &load("one", 7, 1)).await);
    let unfinished = store.unfinished_imports().await.unwrap();
    assert_eq!(unfinished, BTreeSet::from([AppId::new(7)]));
    let refused = Loader::begin(&options, load("another", 7, 1)).await.unwrap_err();
    assert!(matches!(refused, MoveError::OtherFile { .. }), "{refused}");
    // Two of the same file: the one that comes second with its batch is told.
    let row = |(key, row): &Entry| match key {
        RowKey::Account(id) => {
            let id = sidenote_core::ids::AccountId { app: AppId::new(7), ..id.clone() };
            Some((RowKey::Account(id), row.clone()))
        }
        _ => None,
    };
    let (key, row) = rows.iter().find_map(row).unwrap();
    let (mut first, mut second) =
        (begin(&options, &load("one", 7, 1)).await, begin(&options, &load("one", 7, 1)).await);
    first.put(key.clone(), &row).await.unwrap();
    second.put(key.clone(), &row).await.unwrap();
    let mut loaded = first.compare().await.unwrap();
    assert_eq!(all_of(&mut loaded.walk).await, [(key, row)]);
    let refused = second.compare().await.unwrap_err();
    assert!(matches!(refused, MoveError::Raced), "{refused}");
    loaded.finish().await.unwrap();
    assert!(store.unfinished_imports().await.unwrap().is_empty());
    assert!(matches!(Loader::begin(&options, load("one", 7, 1)).await.unwrap(), Begun::Before(_)));
    // Whoever takes everything away again begins anew.
    postgres.psql("test0", "DELETE FROM accounts WHERE app = 7");
    assert_eq!(begin(&options, &load("one", 7, 1)).await.resumes_at(), 0);

    // What lies within a life that is over is found by the note alone. Its number less 2^63 is how it is stored.
    let before = all_of(&mut Walk::begin(&options, None).await.unwrap()).await;
    postgres.psql("test0", "INSERT INTO counters VALUES (5, -9223372036854775807, 0, 0, 0, 0)");
    let half = Walk::begin(&options, None).await.unwrap();
    assert_eq!(*half.unfinished(), BTreeSet::from([AppId::new(7)]));
    drop(half);
    let refused = abandon(&options, Some(APP)).await.unwrap_err();
    assert!(matches!(refused, MoveError::NotBegun { app: Some(APP) }), "{refused}");
    assert_eq!(abandon(&options, None).await.unwrap().apps, BTreeSet::from([AppId::new(7)]));
    assert_eq!(all_of(&mut Walk::begin(&options, None).await.unwrap()).await, before);
    assert!(matches!(abandon(&options, None).await, Err(MoveError::NotBegun { app: None })));
    store.close().await;
}
