//! Everything in `fuzz/corpus` keeps its property: seeds made by hand, and what fuzzing has found.

use std::fs;
use std::path::Path;

use sidenote_properties::ALL;

#[test]
fn every_file_of_the_corpus_keeps_its_property() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut folders: Vec<_> = fs::read_dir(&corpus)
        .expect("fuzz/corpus is a folder")
        .map(|entry| entry.expect("it can be read").file_name().into_string().expect("a plain name"))
        .collect();
    folders.sort_unstable();
    let mut named: Vec<_> = ALL.iter().map(|(name, _)| *name).collect();
    named.sort_unstable();
    assert_eq!(folders, named, "a property and a folder for each other");

    for (name, property) in ALL {
        let mut files: Vec<_> = fs::read_dir(corpus.join(name))
            .expect("the folder was listed")
            .map(|entry| entry.expect("it can be read").path())
            .collect();
        files.sort_unstable();
        assert!(files.len() >= 10, "{name} has no more than {} files", files.len());
        for file in files {
            // The name of the file shows on a line of its own if the property fails.
            eprintln!("{}", file.display());
            property(&fs::read(&file).expect("a file of the corpus can be read"));
        }
    }
}

#[test]
fn no_property_needs_bytes() {
    for (_, property) in ALL {
        property(b"");
    }
}
