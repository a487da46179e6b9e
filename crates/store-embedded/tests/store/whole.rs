//! All rows of a store: what random use leaves is sound, and comes back from a backup and from an export as it was.

use std::path::Path;

use proptest::prelude::*;
use sidenote_core::event::{CallerKind, Operator};
use sidenote_core::rows::{Row, RowKey};
use sidenote_export as export;
use sidenote_store::audit::{Audit, Finding, Totals, Weight};
use sidenote_store::{Store, debts};
use sidenote_store_embedded::backup::{Header, Loader, Reader, Walk, Writer};
use sidenote_store_embedded::engine::{Engine, Settings as EngineSettings};
use sidenote_store_embedded::schema::{decode_key, decode_row, encode_key, encode_row};
use sidenote_store_embedded::{EmbeddedStore, Settings};

use crate::agreement::{Step, limits, steps, tiny};
use crate::scene::{at, command, open, runtime, user};

pub(crate) type Rows = Vec<(RowKey, Row)>;

/// Uses a store as the steps say. Half-paid debts stay as they are.
pub(crate) fn play(folder: &Path, steps: Vec<Step>) {
    runtime().block_on(async {
        let opened = open(folder, &Settings::default(), limits());
        let store: &dyn Store = &opened;
        let mut now = 0;
        for step in steps {
            now += 1;
            match step {
                Step::Wait(millis) => now += millis,
                Step::Reopen => {}
                Step::PayDebts => drop(debts::pay_due(store, at(now), None, 20).await.unwrap()),
                Step::Do(caller, action) => {
                    let mut command = command(now, *action);
                    if let Some(name) = caller {
                        let (user, tiny_id) = (user(name), Some(tiny(name, false)));
                        command.operator =
                            Operator { user, tiny_id, kind: CallerKind::Member, ..command.operator };
                    }
                    drop(store.commit(command).await.unwrap());
                }
            }
        }
        store.close().await;
    });
}

pub(crate) fn walk(folder: &Path) -> Walk {
    Walk::new(Engine::open_existing(folder, &EngineSettings::default()).unwrap().snapshot())
}

/// All rows of a folder in the order of a walk.
pub(crate) fn rows(folder: &Path) -> Rows {
    let mut walk = walk(folder);
    let mut rows = Vec::new();
    while let Some((key, row)) = walk.next_row().unwrap() {
        let key = decode_key(&key).unwrap();
        let row = decode_row(&key, &row).unwrap();
        rows.push((key, row));
    }
    rows
}

pub(crate) fn audit(rows: &Rows) -> (Totals, Vec<Finding>) {
    let mut audit = Audit::new();
    for (key, row) in rows {
        audit.row(key, row);
    }
    let early = audit.take();
    let (totals, late) = audit.finish();
    (totals, early.into_iter().chain(late).collect())
}

/// The damage alone, as text.
pub(crate) fn damage(rows: &Rows) -> Vec<String> {
    let found = audit(rows).1;
    found.iter().filter(|it| it.weight == Weight::Damage).map(ToString::to_string).collect()
}

fn backup(folder: &Path) -> Vec<u8> {
    let mut walk = walk(folder);
    let mut writer = Writer::begin(Vec::new(), &Header::of(&walk, 7)).unwrap();
    while let Some(row) = walk.next_row().unwrap() {
        writer.row(&row).unwrap();
    }
    writer.finish().unwrap().0
}

fn restore(backup: &[u8], folder: &Path) {
    let mut reader = Reader::begin(backup).unwrap();
    let mut loader = Loader::fill(folder, &EngineSettings::default()).unwrap();
    while let Some(block) = reader.next_block().unwrap() {
        for row in block {
            loader.put(row).unwrap();
        }
    }
    loader.finish().unwrap();
}

fn export(rows: &Rows) -> Vec<u8> {
    let header = export::Header { version: export::VERSION, app: None, batch: 1, made_at: 7 };
    let mut writer = export::Writer::begin(Vec::new(), header).unwrap();
    for (key, row) in rows {
        writer.row(key, row).unwrap();
    }
    writer.finish().unwrap()
}

fn import(text: &[u8], folder: &Path) {
    let mut reader = export::Reader::begin(text).unwrap();
    let mut loader = Loader::fill(folder, &EngineSettings::default()).unwrap();
    while let Some((key, row)) = reader.next_row().unwrap() {
        loader.put((encode_key(&key).into(), encode_row(&row).into())).unwrap();
    }
    loader.finish().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn what_random_use_leaves_is_sound_and_comes_back_as_it_was(steps in steps()) {
        let home = tempfile::tempdir().unwrap();
        let folder = |name: &str| home.path().join(name);
        play(&folder("used"), steps);
        let used = rows(&folder("used"));
        prop_assert_eq!(damage(&used), Vec::<String>::new());
        prop_assert_eq!(audit(&used).0.rows, used.len() as u64);

        let copy = backup(&folder("used"));
        restore(&copy, &folder("restored"));
        prop_assert_eq!(&rows(&folder("restored")), &used);

        let text = export(&used);
        import(&text, &folder("imported"));
        prop_assert_eq!(&rows(&folder("imported")), &used);
        prop_assert_eq!(export(&rows(&folder("imported"))), text);

        // And it can be used: the next command finds everything in its place.
        let store = EmbeddedStore::open(&folder("restored"), &Settings::default(), limits()).unwrap();
        runtime().block_on(async { store.close().await });
    }
}
