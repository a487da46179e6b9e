//! `cargo xtask tidy`: what a reviewer should not have to look for.
//!
//! Every check is a plain function from file contents to findings, so that each has tests that need no
//! repository. This file gathers the contents and prints what was found.

mod arrows;
mod error_codes;
mod fuzz_lock;
mod leftovers;
mod links;
mod names;
mod size;

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Command;

/// Rust files that may be longer than [`size::MAX_LINES`], each with the reason why it is still one room.
const LONG_FILES: &[(&str, &str)] = &[];

/// Files kept byte for byte as somebody else published them, so the rules on white space and final
/// newlines do not apply. An entry is a path or, with a slash at its end, a folder.
const VERBATIM: &[&str] = &["fuzz/corpus/"];

const ERROR_CODES: &str = "crates/server/src/wire/error_code.rs";
const ERROR_DOCUMENT: &str = "docs/errors.md";
const FUZZ_LOCK: &str = "fuzz/Cargo.lock";

/// Tracked text files by path relative to the root, with `/` between the parts.
type Files = BTreeMap<String, String>;

/// Something that a check objects to, shown as `path:line: message`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// Runs every check on the repository at `root`; an error if any of them objects to anything.
pub(crate) fn run(root: &Path) -> Result<()> {
    let tracked = tracked_paths(root)?;
    let files = text_files(root, &tracked)?;

    let mut findings = Vec::new();
    findings.extend(size::check(&files, LONG_FILES));
    findings.extend(names::check(&tracked, &files));
    match (files.get(ERROR_CODES), files.get(ERROR_DOCUMENT)) {
        (Some(source), document) => {
            findings.extend(error_codes::check(
                (ERROR_CODES, source),
                (ERROR_DOCUMENT, document.map_or("", |text| text)),
            ));
        }
        (None, _) => println!("tidy: {ERROR_CODES} is not there yet, so error codes were not compared"),
    }
    findings.extend(links::check(&tracked, &files));
    findings.extend(leftovers::check(&files, VERBATIM));
    let metadata = cargo_metadata(root)?;
    findings.extend(arrows::check(&metadata, root, &files)?);
    if let Some(lock) = files.get(FUZZ_LOCK) {
        findings.extend(fuzz_lock::check(&metadata, (FUZZ_LOCK, lock))?);
    }

    findings.sort();
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => {
            println!("tidy: {} tracked files, nothing to object to", tracked.len());
            Ok(())
        }
        1 => bail!("tidy: 1 finding"),
        count => bail!("tidy: {count} findings"),
    }
}

/// Paths that git tracks and that are still in the work tree.
fn tracked_paths(root: &Path) -> Result<Vec<String>> {
    let listing = output_of(Command::new("git").args(["ls-files", "-z"]).current_dir(root))?;
    let paths = listing.split('\0').filter(|path| !path.is_empty() && root.join(path).is_file());
    Ok(paths.map(str::to_owned).collect())
}

fn text_files(root: &Path, tracked: &[String]) -> Result<Files> {
    let mut files = Files::new();
    for path in tracked {
        let bytes = std::fs::read(root.join(path)).with_context(|| format!("cannot read {path}"))?;
        // A file with a NUL or without valid UTF-8 is data, not text; none of the checks is about it.
        if !bytes.contains(&0)
            && let Ok(text) = String::from_utf8(bytes)
        {
            files.insert(path.clone(), text);
        }
    }
    Ok(files)
}

fn cargo_metadata(root: &Path) -> Result<String> {
    output_of(Command::new("cargo").args(["metadata", "--format-version=1", "--no-deps"]).current_dir(root))
}

fn output_of(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("{command:?} printed something that is not UTF-8"))
}

/// One-based line number of byte `offset` in `text`.
fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).fold(1, |line, byte| line + usize::from(byte == b'\n'))
}

/// Builds [`Files`] from pairs, for the tests of the checks.
#[cfg(test)]
fn files(pairs: &[(&str, &str)]) -> Files {
    pairs.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_as_a_place_that_editors_can_jump_to() {
        assert_eq!(Finding::new("a/b.rs", 7, "too long").to_string(), "a/b.rs:7: too long");
    }

    #[test]
    fn lines_are_counted_from_one() {
        assert_eq!(line_at("a\nb\nc", 0), 1);
        assert_eq!(line_at("a\nb\nc", 2), 2);
        assert_eq!(line_at("a\nb\nc", 99), 3);
    }
}
