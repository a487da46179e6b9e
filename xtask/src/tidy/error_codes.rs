//! `docs/errors.md` and the table of error codes in the source say the same.
//!
//! In the source a row is a call `row(23_001, "text", ...)`; in the document it is a table row
//! `| 23001 | text | ... |`. One code may have several rows with different texts; both sides must then
//! show each of them.

use super::Finding;
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::collections::BTreeMap;

/// Smallest number in a first column that is taken for an error code. HTTP statuses, which the document
/// may list in a table of their own, are below it.
const SMALLEST_CODE: u64 = 1_000;

/// Where each (code, text) stands.
type Rows = BTreeMap<(u64, String), usize>;

/// Objects to rows that only one side has. Each side is a path and its text.
pub(super) fn check(source: (&str, &str), document: (&str, &str)) -> Vec<Finding> {
    let (in_source, mut findings) = rows_of_source(source.0, source.1);
    let (in_document, of_document) = rows_of_document(document.0, document.1);
    findings.extend(of_document);
    if in_source.is_empty() && findings.is_empty() {
        findings.push(Finding::new(
            source.0,
            1,
            "no row(code, \"text\", ...) found; has the table changed its shape?",
        ));
    }
    findings.extend(missing(&in_source, source.0, &in_document, document.0));
    findings.extend(missing(&in_document, document.0, &in_source, source.0));
    findings
}

fn missing(here: &Rows, path: &str, there: &Rows, other: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for ((code, text), line) in here.iter().filter(|(row, _)| !there.contains_key(*row)) {
        let texts: Vec<_> =
            there.keys().filter(|(c, _)| c == code).map(|(_, text)| format!("\"{text}\"")).collect();
        let message = match texts.as_slice() {
            [] => format!("{code} \"{text}\" has no row in {other}"),
            texts => format!("{code} \"{text}\" differs from {other}, which says {}", texts.join(" and ")),
        };
        findings.push(Finding::new(path, *line, message));
    }
    findings
}

fn rows_of_source(path: &str, text: &str) -> (Rows, Vec<Finding>) {
    let (mut rows, mut findings) = (Rows::new(), Vec::new());
    match text.parse::<TokenStream>() {
        Ok(tokens) => collect(path, tokens, &mut rows, &mut findings),
        Err(error) => findings.push(Finding::new(path, error.span().start().line, error.to_string())),
    }
    (rows, findings)
}

/// Walks tokens and not text, so that comments and strings which look like a row are not taken for one.
fn collect(path: &str, tokens: TokenStream, rows: &mut Rows, findings: &mut Vec<Finding>) {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    for (index, tree) in trees.iter().enumerate() {
        let TokenTree::Group(group) = tree else { continue };
        let called = |word: &str, back| index >= back && is_word(&trees[index - back], word);
        if group.delimiter() == Delimiter::Parenthesis && called("row", 1) && !called("fn", 2) {
            let line = trees[index - 1].span().start().line;
            match arguments(group.stream()) {
                Some(row) if rows.contains_key(&row) => {
                    findings.push(Finding::new(
                        path,
                        line,
                        format!("{} stands here twice with the same text", row.0),
                    ));
                }
                Some(row) => drop(rows.insert(row, line)),
                None => findings.push(Finding::new(
                    path,
                    line,
                    "write row() with a literal number and a literal text, so that it can be compared",
                )),
            }
        } else {
            collect(path, group.stream(), rows, findings);
        }
    }
}

fn is_word(tree: &TokenTree, word: &str) -> bool {
    matches!(tree, TokenTree::Ident(ident) if ident == word)
}

fn arguments(stream: TokenStream) -> Option<(u64, String)> {
    let mut trees = stream.into_iter();
    let (Some(TokenTree::Literal(code)), Some(TokenTree::Punct(comma)), Some(TokenTree::Literal(text))) =
        (trees.next(), trees.next(), trees.next())
    else {
        return None;
    };
    let code = syn::parse_str::<syn::LitInt>(&code.to_string()).ok()?.base10_parse().ok()?;
    let text = syn::parse_str::<syn::LitStr>(&text.to_string()).ok()?.value();
    (comma.as_char() == ',').then_some((code, text))
}

fn rows_of_document(path: &str, text: &str) -> (Rows, Vec<Finding>) {
    let (mut rows, mut findings) = (Rows::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let cells = cells(line);
        let Some(code) =
            cells.first().and_then(|cell| cell.parse().ok()).filter(|code| *code >= SMALLEST_CODE)
        else {
            continue;
        };
        match cells.get(1) {
            None => findings.push(Finding::new(path, index + 1, format!("the row of {code} has no text"))),
            Some(text) => {
                if rows.insert((code, text.clone()), index + 1).is_some() {
                    findings.push(Finding::new(
                        path,
                        index + 1,
                        format!("{code} stands here twice with the same text"),
                    ));
                }
            }
        }
    }
    (rows, findings)
}

/// The cells of a table row, without the escape that a vertical bar needs inside a cell. Empty for a line
/// that is no table row.
fn cells(line: &str) -> Vec<String> {
    let Some(inner) = line.trim().strip_prefix('|') else { return Vec::new() };
    let mut cells = vec![String::new()];
    let mut characters = inner.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.peek() == Some(&'|') => {
                cells.last_mut().expect("never empty").extend(characters.next());
            }
            '|' => cells.push(String::new()),
            other => cells.last_mut().expect("never empty").push(other),
        }
    }
    // What follows the closing bar is no cell.
    if cells.last().is_some_and(|cell| cell.trim().is_empty()) {
        cells.pop();
    }
    cells.iter().map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
const fn row(code: u32, text: &'static str, blame: Blame) -> Row { Row { code, text, blame } }
// A comment such as row(1, "x") is no row.
match self {
    Self::SeqConflict => row(23_001, "the \"pair\" has changed", Blame::Caller),
    Self::Internal => row(
        10_002,
        "internal error | \
         try again",
        Blame::Us,
    ),
}
"#;

    const DOCUMENT: &str = r#"
| Code | Text | When |
| --- | --- | --- |
| 23001 | the "pair" has changed | the Seq is old |
| 10002 | internal error \| try again | never on purpose |
| 413 | an HTTP status, in a table of its own |
"#;

    fn messages(source: &str, document: &str) -> Vec<String> {
        check(("s.rs", source), ("d.md", document)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn equal_tables_pass() {
        assert_eq!(messages(SOURCE, DOCUMENT), [""; 0]);
    }

    #[test]
    fn a_row_missing_on_either_side_is_named_with_its_line() {
        let shorter = DOCUMENT.replace("| 10002 |", "no row: ");
        assert_eq!(
            messages(SOURCE, &shorter),
            [r#"s.rs:6: 10002 "internal error | try again" has no row in d.md"#]
        );

        let longer = format!("{DOCUMENT}| 23004 | no such message |\n");
        assert_eq!(messages(SOURCE, &longer), [r#"d.md:7: 23004 "no such message" has no row in s.rs"#]);
    }

    #[test]
    fn a_text_that_differs_is_shown_from_both_sides() {
        let other = DOCUMENT.replace("has changed", "is stale");
        let found = messages(SOURCE, &other);
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with("s.rs:5: 23001") && found[0].contains("is stale"), "{}", found[0]);
        assert!(found[1].starts_with("d.md:4: 23001") && found[1].contains("has changed"), "{}", found[1]);
    }

    #[test]
    fn a_code_may_have_two_texts_but_no_row_twice() {
        let (source, document) = (
            "a => row(10_004, \"one\", B), b => row(10_004, \"two\", B),",
            "| 10004 | one |\n| 10004 | two |\n",
        );
        assert_eq!(messages(source, document), [""; 0]);
        assert_eq!(messages(source, &format!("{document}{document}")).len(), 2);
        assert_eq!(messages(&format!("{source}{source}"), document).len(), 2);
    }

    #[test]
    fn rows_that_cannot_be_compared_are_refused() {
        assert!(messages("row(CODE, \"x\", B)", "")[0].contains("literal number"));
        assert!(messages("fn nothing() {}", "")[0].contains("changed its shape"));
        assert!(messages("row(10_004, \"x\", B", "")[0].starts_with("s.rs:1:"));
        assert!(messages("row(10_004, \"x\")", "| 10004 |")[0].contains("no text"));
    }
}
