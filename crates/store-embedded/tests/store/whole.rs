//! All rows of a store: what random use leaves is sound, and comes back from a backup and from an export as it was.

use std::path::Path;

use proptest::prelude::*;
use sidenote_core::event::{CallerKind, Operator};
use sidenote_core::rows::{Row, RowKey};
use sidenote_export as export;
use sidenote_store::audit::{Audit, Finding, Totals, Weight};
use sidenote_store::conformance::agreement::{Step, limits, steps, tiny};
use sidenote_store::{Store, debts};
use sidenote_store_embedded::backup::{BackupError, Header, Loader, Reader, Walk, Writer};
use sidenote_store_embedded::engine::{Engine, Settings as EngineSettings};
use sidenote_store_embedded::schema::{decode_key, decode_row, encode_key, encode_row};
use sidenote_store_embedded::{EmbeddedStore, OpenError, Settings};

use crate::scene::{at, command, import as import_account, open, runtime, user};

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
    writer.finish().unwrap().0
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
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 100, ..ProptestConfig::default() })]

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

/// A small store, as a backup.
fn small() -> (tempfile::TempDir, Vec<u8>) {
    let home = tempfile::tempdir().unwrap();
    let used = home.path().join("used");
    let actions = [import_account("ann", tiny("ann", false)), import_account("bob", tiny("bob", false))];
    play(&used, actions.map(|action| Step::Do(None, Box::new(action))).into());
    let copy = backup(&used);
    (home, copy)
}

fn read(backup: &[u8]) -> Result<usize, BackupError> {
    let mut reader = Reader::begin(backup)?;
    let mut rows = 0;
    while let Some(block) = reader.next_block()? {
        rows += block.len();
    }
    Ok(rows)
}

#[test]
fn a_backup_that_is_cut_or_changed_anywhere_is_refused() {
    let (_home, whole) = small();
    assert_eq!(read(&whole).unwrap(), 2);
    for length in 0..whole.len() {
        let refused = read(&whole[..length]).unwrap_err();
        let is_cut = matches!(refused, BackupError::Truncated { at } if at <= length as u64);
        assert!(is_cut || length == 0 && matches!(refused, BackupError::Foreign), "{length}: {refused}");
    }
    for at in 0..whole.len() {
        for bit in [0x01, 0x80] {
            let mut changed = whole.clone();
            changed[at] ^= bit;
            read(&changed).unwrap_err();
        }
    }
    let mut longer = whole;
    longer.push(0);
    assert!(read(&longer).unwrap_err().to_string().contains("something follows its end"));
}

#[test]
fn what_is_no_backup_is_told_apart() {
    assert!(matches!(read(b"{\"sidenote_export\":{}}\n"), Err(BackupError::Foreign)));
    let (_home, whole) = small();
    // A length that promises four gigabytes costs none.
    let mut hostile = whole[..17].to_vec();
    hostile.extend([0xff; 12]);
    assert!(read(&hostile).unwrap_err().to_string().contains("a length is impossible"));

    let mut refusal = Vec::new();
    Writer::refuse(&mut refusal, "the server is \nstopping").unwrap();
    let said = read(&refusal).unwrap_err().to_string();
    assert_eq!(said, "the server could not go on with the backup: the server is stopping");

    // Rows in another order than that of a walk, with checksums that fit.
    let mut walk = Vec::new();
    let mut reader = Reader::begin(&whole[..]).unwrap();
    while let Some(block) = reader.next_block().unwrap() {
        walk.extend(block);
    }
    for rows in [vec![&walk[1], &walk[0]], vec![&walk[0], &walk[0]]] {
        let mut writer = Writer::begin(Vec::new(), reader.header()).unwrap();
        for row in rows {
            writer.row(row).unwrap();
        }
        let forged = writer.finish().unwrap().0;
        assert!(read(&forged).unwrap_err().to_string().contains("out of order"));
    }
}

#[test]
fn an_unfinished_restore_is_opened_by_nobody_but_the_next_one() {
    let (home, whole) = small();
    let folder = home.path().join("restored");
    let settings = EngineSettings::default();
    let rows: Vec<_> = Reader::begin(&whole[..]).unwrap().next_block().unwrap().unwrap();

    let mut loader = Loader::fill(&folder, &settings).unwrap();
    loader.put(rows[0].clone()).unwrap();
    drop(loader);
    let refused = EmbeddedStore::open(&folder, &Settings::default(), limits()).unwrap_err();
    assert!(matches!(&refused, OpenError::Unfinished { .. }), "{refused}");
    assert!(refused.to_string().contains("run the same command with the same file again"), "{refused}");
    assert!(matches!(Engine::open_existing(&folder, &settings), Err(OpenError::Unfinished { .. })));
    assert!(matches!(Loader::add(&folder, &settings, "import of x"), Err(OpenError::Unfinished { .. })));

    restore(&whole, &folder);
    assert_eq!(backup(&folder)[..16], whole[..16]);
    assert_eq!(self::rows(&folder), self::rows(&home.path().join("used")));
    // A store that is whole is not overwritten, nor is a folder with somebody's files.
    assert!(matches!(Loader::fill(&folder, &settings), Err(OpenError::NotEmpty { .. })));
    let foreign = home.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("thesis.txt"), "precious").unwrap();
    assert!(matches!(Loader::fill(&foreign, &settings), Err(OpenError::Foreign { .. })));
    let nothing = home.path().join("nothing");
    assert!(matches!(Engine::open_existing(&nothing, &settings), Err(OpenError::NoStore { .. })));
    assert!(!nothing.exists());
}

#[test]
fn rows_are_added_to_a_store_by_the_same_work_or_not_at_all() {
    let (home, whole) = small();
    let folder = home.path().join("used");
    let settings = EngineSettings::default();
    let row = Reader::begin(&whole[..]).unwrap().next_block().unwrap().unwrap().remove(0);
    drop(Loader::add(&folder, &settings, "import of x").unwrap());
    drop(Engine::open_existing(&folder, &settings).unwrap());

    let loader = Loader::add(&folder, &settings, "import of x").unwrap();
    assert!(!loader.is_resumed());
    loader.mark("import of x").unwrap();
    drop(loader);
    assert!(matches!(Engine::open(&folder, &settings), Err(OpenError::Unfinished { .. })));
    assert!(matches!(Loader::fill(&folder, &settings), Err(OpenError::Unfinished { .. })));
    assert!(matches!(Loader::add(&folder, &settings, "import of y"), Err(OpenError::Unfinished { .. })));

    let mut loader = Loader::add(&folder, &settings, "import of x").unwrap();
    assert!(loader.is_resumed());
    loader.put(row).unwrap();
    loader.finish().unwrap();
    assert_eq!(backup(&folder).len(), whole.len());
}

#[test]
fn a_walk_shows_one_moment_and_does_not_keep_the_store_open() {
    let home = tempfile::tempdir().unwrap();
    let opened = open(home.path(), &Settings::default(), limits());
    let snapshots = opened.snapshots();
    let store: &dyn Store = &opened;
    runtime().block_on(async {
        store.commit(command(1, import_account("ann", tiny("ann", false)))).await.unwrap();
        let mut walk = snapshots.walk().unwrap();
        store.commit(command(2, import_account("bob", tiny("bob", false)))).await.unwrap();
        let mut rows = 0;
        while walk.next_row().unwrap().is_some() {
            rows += 1;
        }
        assert_eq!((rows, walk.batch()), (1, 1));
        drop(walk);
        store.close().await;
    });
    assert!(snapshots.walk().is_none());
    drop(Engine::open_existing(home.path(), &EngineSettings::default()).unwrap());
}
