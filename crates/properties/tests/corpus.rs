//! Everything in `fuzz/corpus` keeps its property: seeds made by hand, and what fuzzing has found.

use std::collections::BTreeSet;
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

/// What stores have written is what they must go on reading, and a good place for fuzzing to begin.
#[test]
fn a_row_of_every_kind_and_format_is_among_the_records() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/record");
    let records: BTreeSet<Vec<u8>> = fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| fs::read(entry.expect("it can be read").path()).expect("and so can its files"))
        .collect();
    let written = include_str!("../../store-embedded/tests/old_formats.txt");
    let mut count = 0;
    for line in written.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<_> = line.split(" | ").collect();
        let [kind, key, row] = fields[..] else { panic!("{line:?} has other fields") };
        let (key, row) = (bytes(key), bytes(row));
        let length = u8::try_from(key.len()).expect("keys in that file are short");
        assert!(records.contains(&[&[length][..], &key, &row].concat()), "no record is {kind}");
        count += 1;
    }
    assert!(count >= 40, "only {count} rows were found");
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits: Vec<_> =
        hexadecimal.chars().map(|digit| digit.to_digit(16).expect("a hexadecimal digit")).collect();
    let byte = |pair: &[u32]| u8::try_from(pair[0] * 16 + pair[1]).expect("two digits make a byte");
    digits.chunks_exact(2).map(byte).collect()
}
