//! Rust files stay short enough to be read in one sitting.

use super::{Files, Finding};

/// Most lines that a Rust file may have without an entry in the list of exceptions.
pub(super) const MAX_LINES: usize = 600;

/// Objects to long Rust files, and to exceptions that are no longer needed.
pub(super) fn check(files: &Files, exceptions: &[(&str, &str)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| is_rust(path)) {
        let lines = text.lines().count();
        let excepted = exceptions.iter().any(|(exception, _)| exception == path);
        if lines > MAX_LINES && !excepted {
            let message = format!(
                "{lines} lines, {MAX_LINES} at most: split it, or name it in LONG_FILES with a reason"
            );
            findings.push(Finding::new(path, MAX_LINES + 1, message));
        } else if lines <= MAX_LINES && excepted {
            findings.push(Finding::new(path, 1, "short enough now: take it out of LONG_FILES"));
        }
    }
    for (exception, _) in exceptions.iter().filter(|(exception, _)| !files.contains_key(*exception)) {
        findings.push(Finding::new(exception, 1, "no such file: take it out of LONG_FILES"));
    }
    findings
}

fn is_rust(path: &str) -> bool {
    std::path::Path::new(path).extension().is_some_and(|extension| extension == "rs")
}

#[cfg(test)]
mod tests {
    use super::super::files;
    use super::*;

    #[test]
    fn six_hundred_lines_are_fine_and_one_more_is_not() {
        let (fits, long) = ("x\n".repeat(600), "x\n".repeat(601));
        let findings = check(&files(&[("fits.rs", &fits), ("long.rs", &long), ("long.txt", &long)]), &[]);
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].path.as_str(), findings[0].line), ("long.rs", 601));
        assert!(findings[0].message.contains("601 lines"), "{}", findings[0].message);
    }

    #[test]
    fn an_exception_silences_one_file_and_must_be_needed() {
        let long = "x\n".repeat(601);
        let tree = files(&[("long.rs", &long), ("short.rs", "x\n")]);
        assert_eq!(check(&tree, &[("long.rs", "generated table")]), []);

        let stale = check(&tree, &[("long.rs", "r"), ("short.rs", "r"), ("gone.rs", "r")]);
        let paths: Vec<_> = stale.iter().map(|finding| finding.path.as_str()).collect();
        assert_eq!(paths, ["short.rs", "gone.rs"]);
    }
}
