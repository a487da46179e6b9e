//! Links between the documents lead somewhere: to a tracked file or folder and, with `#`, to a heading.

use super::{Files, Finding, line_at};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Objects to links in Markdown files that lead nowhere. Addresses with a scheme are not followed.
pub(super) fn check(tracked: &[String], files: &Files) -> Vec<Finding> {
    let documents: BTreeMap<&str, Document> = files
        .iter()
        .filter(|(path, _)| Path::new(path).extension().is_some_and(|extension| extension == "md"))
        .map(|(path, text)| (path.as_str(), Document::parse(text)))
        .collect();
    let places = places(tracked);

    let mut findings = Vec::new();
    for (path, document) in &documents {
        for link in document.links.iter().filter(|link| !has_scheme(&link.target)) {
            let (file, anchor) = link.target.split_once('#').unwrap_or((&link.target, ""));
            let Some(file) = resolve(path, file) else {
                findings.push(Finding::new(
                    path,
                    link.line,
                    format!("\"{}\" leads out of the repository", link.target),
                ));
                continue;
            };
            if !places.contains(file.as_str()) {
                findings.push(Finding::new(
                    path,
                    link.line,
                    format!("\"{}\": no tracked file {file}", link.target),
                ));
            } else if !anchor.is_empty()
                && documents.get(file.as_str()).is_some_and(|target| !target.anchors.contains(anchor))
            {
                findings.push(Finding::new(
                    path,
                    link.line,
                    format!("\"{}\": no heading #{anchor} in {file}", link.target),
                ));
            }
        }
    }
    findings
}

struct Document {
    links: Vec<Link>,
    anchors: BTreeSet<String>,
}

struct Link {
    line: usize,
    target: String,
}

impl Document {
    fn parse(text: &str) -> Self {
        let (mut links, mut anchors) = (Vec::new(), BTreeSet::new());
        let mut heading: Option<String> = None;
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    links.push(Link { line: line_at(text, range.start), target: dest_url.into_string() });
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    insert_unique(&mut anchors, &slug(&heading.take().unwrap_or_default()));
                }
                Event::Text(words) | Event::Code(words) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&words);
                    }
                }
                Event::Html(html) | Event::InlineHtml(html) => anchors.extend(named_anchors(&html)),
                _ => {}
            }
        }
        Self { links, anchors }
    }
}

/// The anchor that common hosts give a heading: lower case, blanks become hyphens, punctuation goes.
fn slug(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The second heading of one name gets `-1`, the third `-2`.
fn insert_unique(anchors: &mut BTreeSet<String>, slug: &str) {
    let mut name = slug.to_owned();
    let mut number = 0_usize;
    while anchors.contains(&name) {
        number += 1;
        name = format!("{slug}-{number}");
    }
    anchors.insert(name);
}

/// Values of `id="..."` and `name="..."` in a piece of HTML.
fn named_anchors(html: &str) -> Vec<String> {
    let after = |attribute| html.split(attribute).skip(1).filter_map(|rest: &str| rest.split('"').next());
    after(" id=\"").chain(after(" name=\"")).map(str::to_owned).collect()
}

fn has_scheme(target: &str) -> bool {
    target.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    })
}

/// The path that `target` means in the file `from`; nothing if it climbs above the root. A target that
/// begins with a slash counts from the root, and the root itself is the empty path.
fn resolve(from: &str, target: &str) -> Option<String> {
    if target.is_empty() {
        return Some(from.to_owned());
    }
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> =
        if target.starts_with('/') || folder.is_empty() { Vec::new() } else { folder.split('/').collect() };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// Tracked files and every folder above them, the root included.
fn places(tracked: &[String]) -> BTreeSet<&str> {
    let mut places = BTreeSet::from([""]);
    for path in tracked {
        places.insert(path);
        places.extend(path.match_indices('/').map(|(at, _)| &path[..at]));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::super::files;
    use super::*;

    fn messages(pairs: &[(&str, &str)]) -> Vec<String> {
        let files = files(pairs);
        let tracked: Vec<String> = files.keys().cloned().collect();
        check(&tracked, &files).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn links_that_lead_somewhere_pass() {
        let readme = "# Hello, *World*: `go_on`\n\n[a](docs/a.md) [b](docs/a.md#two-words) [c](#hello-world-go_on)\n\
                      [d](docs/) [e](/docs/a.md) [f](https://example.org/x#y) [g](mailto:a@example.org)\n";
        let a = "## Two words\n\n[up](../README.md) [root](..) [ref] [name](#place)\n\n<a id=\"place\"></a>\n\n[ref]: ../README.md\n";
        assert_eq!(messages(&[("README.md", readme), ("docs/a.md", a)]), [""; 0]);
    }

    #[test]
    fn links_that_lead_nowhere_are_named_with_their_line() {
        let text = "# One\n\n[gone](gone.md)\n![picture](img/x.png)\n[heading](#two)\n[out](../../x.md)\n\n[ref]\n\n[ref]: docs\n";
        assert_eq!(
            messages(&[("a.md", text)]),
            [
                "a.md:3: \"gone.md\": no tracked file gone.md",
                "a.md:4: \"img/x.png\": no tracked file img/x.png",
                "a.md:5: \"#two\": no heading #two in a.md",
                "a.md:6: \"../../x.md\" leads out of the repository",
                "a.md:8: \"docs\": no tracked file docs",
            ]
        );
    }

    #[test]
    fn code_is_not_searched_for_links() {
        assert_eq!(messages(&[("a.md", "`[x](gone.md)`\n\n```text\n[y](gone.md)\n```\n")]), [""; 0]);
    }

    #[test]
    fn headings_of_one_name_are_numbered() {
        let text = "# Same\n\n# Same\n\n[first](#same) [second](#same-1) [third](#same-2)\n";
        assert_eq!(messages(&[("a.md", text)]), ["a.md:5: \"#same-2\": no heading #same-2 in a.md"]);
    }
}
