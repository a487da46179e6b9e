use std::fs;

use sidenote_store_embedded::engine::OpenError;

use crate::{child, folder_of_child, four_rows, open, put, refusal};

#[test]
fn a_second_open_in_one_process_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    let error = refusal(folder.path());
    assert!(matches!(error, OpenError::InUse { .. }));
    assert!(error.to_string().contains("is in use"), "{error}");

    let snapshot = engine.snapshot();
    drop(engine);
    assert!(matches!(refusal(folder.path()), OpenError::InUse { .. }), "a snapshot still reads the files");
    drop(snapshot);
    open(folder.path());
}

#[test]
fn a_second_open_in_another_process_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    engine.commit([put("a", "1")]).unwrap();
    let output = child("folder::child_is_refused", folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(engine.commit([put("a", "2")]).unwrap(), 2);
}

#[test]
#[ignore = "run by a_second_open_in_another_process_is_refused"]
fn child_is_refused() {
    assert!(matches!(refusal(&folder_of_child()), OpenError::InUse { .. }));
}

#[test]
fn a_missing_folder_is_made() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("a/b");
    open(&folder).commit([put("a", "1")]).unwrap();
    assert_eq!(open(&folder).snapshot().number(), 1);
}

#[test]
fn a_file_in_place_of_the_folder_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "text").unwrap();
    let error = refusal(&file);
    assert!(matches!(error, OpenError::Io { .. }));
    assert_eq!(fs::read(&file).unwrap(), b"text");
}

#[test]
fn a_foreign_folder_is_refused_and_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("letter.txt"), "text").unwrap();
    let error = refusal(folder.path());
    assert!(matches!(&error, OpenError::Foreign { found, .. } if found == "letter.txt"));
    assert!(error.to_string().contains("choose an empty folder"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_newer_format_is_refused_and_works_again_once_restored() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).commit([put("a", "1")]).unwrap();
    let format = folder.path().join("format");
    let text = fs::read_to_string(&format).unwrap();
    fs::write(&format, text.replace("format = 1", "format = 2")).unwrap();
    let error = refusal(folder.path());
    assert!(matches!(error, OpenError::NewerFormat { found: 2, newest: 1, .. }));
    assert!(error.to_string().contains("start the release that wrote them"), "{error}");

    fs::write(&format, text).unwrap();
    assert_eq!(open(folder.path()).snapshot().number(), 1);
}

#[test]
fn an_unreadable_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path());
    for text in
        [&b""[..], b"\xff\xfe", b"format = 1", b"sidenote embedded store\nformat = 0", b"other\nformat = 1"]
    {
        fs::write(folder.path().join("format"), text).unwrap();
        assert!(matches!(refusal(folder.path()), OpenError::Damaged { .. }), "{text:?}");
    }
}

#[test]
fn a_store_that_lost_its_format_file_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).commit(four_rows(1)).unwrap();
    let format = folder.path().join("format");
    let text = fs::read(&format).unwrap();
    fs::remove_file(&format).unwrap();
    assert!(matches!(refusal(folder.path()), OpenError::Foreign { .. }));
    fs::write(&format, text).unwrap();
    assert_eq!(open(folder.path()).snapshot().number(), 1);
}

#[test]
fn a_store_that_lost_its_rows_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).commit(four_rows(1)).unwrap();
    fs::rename(folder.path().join("engine"), folder.path().join("elsewhere")).unwrap();
    assert!(matches!(refusal(folder.path()), OpenError::Damaged { .. }));
    assert!(!folder.path().join("engine").exists(), "no empty database takes its place");
    fs::rename(folder.path().join("elsewhere"), folder.path().join("engine")).unwrap();
    assert_eq!(open(folder.path()).snapshot().number(), 1);
}

/// Every prefix of the steps that make a store: a crash there leaves a folder that opens as a new store.
#[test]
fn an_interrupted_creation_starts_over() {
    for steps in 1..=3 {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path());
        fs::write(folder.path().join("creating"), "").unwrap();
        fs::remove_file(folder.path().join("format")).unwrap();
        if steps < 3 {
            fs::remove_file(folder.path().join("witness")).unwrap();
            fs::remove_file(folder.path().join("engine/version")).unwrap();
        }
        if steps < 2 {
            fs::remove_dir_all(folder.path().join("engine")).unwrap();
        }
        let engine = open(folder.path());
        assert_eq!(engine.commit([put("a", "1")]).unwrap(), 1);
        assert!(!folder.path().join("creating").exists());
    }
}

/// The last step but one made the store whole; what is left of the announcement must not endanger it later.
#[test]
fn a_creation_interrupted_at_its_last_step_is_a_store() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).commit([put("a", "1")]).unwrap();
    fs::write(folder.path().join("creating"), "").unwrap();
    assert_eq!(open(folder.path()).snapshot().number(), 1);
    assert!(!folder.path().join("creating").exists());
}
