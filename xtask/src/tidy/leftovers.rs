//! Nothing unfinished, nothing of one person's machine, and plain white space in what is tracked.

use super::{Files, Finding};

/// What must not be tracked, and what to do about it. The words are put together from halves so that this
/// file passes its own check.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("TO", "DO"), "finish it, or open an issue"),
    (concat!("FIX", "ME"), "finish it, or open an issue"),
    (concat!("todo", "!("), "finish it, or open an issue"),
    (concat!("unimplemented", "!("), "finish it, or open an issue"),
    (concat!("/ho", "me/"), "a path of one machine: make it relative"),
    (concat!("/ro", "ot/"), "a path of one machine: make it relative"),
    (concat!("/wo", "rk/"), "a path of one machine: make it relative"),
    (concat!("/Us", "ers/"), "a path of one machine: make it relative"),
];

/// Objects to forbidden words everywhere and, outside `verbatim`, to careless white space.
pub(super) fn check(files: &Files, verbatim: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in files {
        for (index, line) in text.lines().enumerate() {
            for (word, advice) in FORBIDDEN.iter().filter(|(word, _)| contains(line, word)) {
                findings.push(Finding::new(path, index + 1, format!("\"{word}\": {advice}")));
            }
        }
        if !is_verbatim(path, verbatim) {
            findings.extend(white_space(path, text));
        }
    }
    findings
}

fn white_space(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        if line.ends_with([' ', '\t', '\r']) {
            findings.push(Finding::new(path, index + 1, "white space at the end of the line"));
        }
    }
    let last = text.lines().count().max(1);
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push(Finding::new(path, last, "no newline at the end of the file"));
    } else if text.ends_with("\n\n") {
        findings.push(Finding::new(path, last, "empty lines at the end of the file"));
    }
    findings
}

/// Does `line` hold `word` where no longer word or path surrounds it? A web address with such a part, or
/// a relative path, is therefore fine.
fn contains(line: &str, word: &str) -> bool {
    let continues = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let open_before = if word.starts_with('/') {
            before.is_some_and(|c| continues(c) || matches!(c, '.' | '-' | '/' | '}' | ')' | '*'))
        } else {
            before.is_some_and(continues)
        };
        let open_after = word.ends_with(char::is_alphanumeric) && after.is_some_and(continues);
        !open_before && !open_after
    })
}

fn is_verbatim(path: &str, verbatim: &[&str]) -> bool {
    verbatim.iter().any(|entry| path == *entry || (entry.ends_with('/') && path.starts_with(entry)))
}

#[cfg(test)]
mod tests {
    use super::super::files;
    use super::*;

    fn lines_of(text: &str) -> Vec<usize> {
        check(&files(&[("a.md", text)]), &[]).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn every_forbidden_word_is_found_with_its_line() {
        for (word, _) in FORBIDDEN {
            assert_eq!(lines_of(&format!("fine\nsee \"{word}x\" ({word}\n")), [2], "{word}");
        }
    }

    #[test]
    fn longer_words_addresses_and_relative_paths_are_not_meant() {
        let (later, path) = (FORBIDDEN[0].0, FORBIDDEN[4].0);
        assert_eq!(lines_of(&format!("{later}S_LIST MAS{later}N to-do\n")), [0; 0]);
        assert_eq!(lines_of(&format!("https://example.org{path}x ..{path}x $dir}}{path}\n")), [0; 0]);
    }

    #[test]
    fn white_space_is_plain() {
        assert_eq!(lines_of("a\nb \nc\t\nd\r\ne\n"), [2, 3, 4]);
        assert_eq!(lines_of("a\nb"), [2]);
        assert_eq!(lines_of("a\n\n"), [2]);
        assert_eq!(lines_of(""), [0; 0]);
    }

    #[test]
    fn verbatim_files_keep_their_white_space_but_not_leftovers() {
        let text = format!("published \n{}", FORBIDDEN[0].0);
        let findings = check(&files(&[("samples/a.json", &text), ("samplesb", "x")]), &["samples/"]);
        let places: Vec<_> = findings.iter().map(|finding| (finding.path.as_str(), finding.line)).collect();
        assert_eq!(places, [("samples/a.json", 2), ("samplesb", 1)]);
    }
}
