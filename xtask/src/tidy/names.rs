//! A file is named after what it holds; names that hold anything are refused.

use super::{Files, Finding};
use std::path::Path;

const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc"];

/// Objects to files, folders and inline modules with a name out of `EMPTY_NAMES`.
pub(super) fn check(tracked: &[String], files: &Files) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in tracked {
        let stem = Path::new(path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let folders =
            Path::new(path).parent().into_iter().flat_map(Path::iter).filter_map(|part| part.to_str());
        if let Some(name) = folders.chain([stem]).find(|name| says_nothing(name)) {
            findings.push(Finding::new(
                path,
                1,
                format!("\"{name}\" says nothing: name it after what it holds"),
            ));
        }
    }
    for (path, text) in
        files.iter().filter(|(path, _)| Path::new(path).extension().is_some_and(|e| e == "rs"))
    {
        for (index, line) in text.lines().enumerate() {
            if let Some(name) = declared_module(line).filter(|name| says_nothing(name)) {
                let message = format!("module \"{name}\" says nothing: name it after what it holds");
                findings.push(Finding::new(path, index + 1, message));
            }
        }
    }
    findings
}

fn says_nothing(name: &str) -> bool {
    EMPTY_NAMES.iter().any(|empty| name.eq_ignore_ascii_case(empty))
}

/// The name of the module that this line declares, inline or in a file of its own.
fn declared_module(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let mut word = words.next()?;
    if word == "pub" || word.starts_with("pub(") {
        // `pub(in some::path)` has a blank inside.
        while !word.ends_with(')') && word != "pub" {
            word = words.next()?;
        }
        word = words.next()?;
    }
    (word == "mod").then(|| words.next())?.map(|name| name.trim_end_matches([';', '{', '}']))
}

#[cfg(test)]
mod tests {
    use super::super::files;
    use super::*;

    #[test]
    fn files_and_folders_need_a_telling_name() {
        let tracked =
            ["src/utils.rs", "tests/common/mod.rs", "tools/Helpers.sh", "src/commons.rs", "docs/misc.md"];
        let findings = check(&tracked.map(str::to_owned), &Files::new());
        let paths: Vec<_> = findings.iter().map(|finding| finding.path.as_str()).collect();
        assert_eq!(paths, ["src/utils.rs", "tests/common/mod.rs", "tools/Helpers.sh", "docs/misc.md"]);
    }

    #[test]
    fn so_do_modules_however_they_are_declared() {
        let text = "mod fine;\n    mod helpers {\npub mod utils;\npub(crate) mod misc{}\npub(in crate::a) mod common;\nmodel();\n";
        let lines: Vec<_> =
            check(&[], &files(&[("a.rs", text)])).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [2, 3, 4, 5]);
    }
}
