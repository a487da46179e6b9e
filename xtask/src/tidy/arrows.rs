//! Arrows between crates point one way: `core` names nobody, `server` names no backend.

use super::{Files, Finding};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::Path;

/// Which crates of this workspace a crate may name, in any kind of dependency. `None`: whichever it needs.
/// A new crate needs a row here, so that its place in the picture is decided and not just found.
const ARROWS: &[(&str, Option<&[&str]>)] = &[
    ("sidenote-core", Some(&[])),
    ("sidenote-store", Some(&["sidenote-core"])),
    ("sidenote-export", Some(&["sidenote-core", "sidenote-store"])),
    ("sidenote-row-codec", Some(&["sidenote-core", "sidenote-store"])),
    (
        "sidenote-store-embedded",
        Some(&["sidenote-core", "sidenote-store", "sidenote-row-codec", "sidenote-export"]),
    ),
    (
        "sidenote-store-postgres",
        Some(&["sidenote-core", "sidenote-store", "sidenote-row-codec", "sidenote-postgres-for-tests"]),
    ),
    (
        "sidenote-cluster",
        Some(&[
            "sidenote-core",
            "sidenote-store",
            "sidenote-row-codec",
            "sidenote-store-postgres",
            "sidenote-postgres-for-tests",
        ]),
    ),
    ("sidenote-postgres-for-tests", Some(&[])),
    ("sidenote-server", Some(&["sidenote-core", "sidenote-store"])),
    ("sidenote-properties", Some(&["sidenote-server", "sidenote-store", "sidenote-store-embedded"])),
    ("sidenote", None),
    ("sidenote-torture", None),
    ("xtask", Some(&[])),
    ("bare", Some(&[])),
    (
        "harness",
        Some(&[
            "sidenote-core",
            "sidenote-server",
            "sidenote-store",
            "sidenote-store-embedded",
            "sidenote-store-postgres",
        ]),
    ),
];

/// Crates that would bring JSON, an async runtime or sockets into the rules. Tests of the core may use them.
/// A name with `*` at its end means every crate whose name begins so.
const NOT_IN_CORE: &[&str] =
    &["serde", "serde_*", "tokio", "tokio-*", "axum", "axum-*", "hyper", "hyper-*", "async-*", "futures*"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// Absent for an ordinary dependency, else "dev" or "build".
    kind: Option<String>,
    /// The folder, for a dependency inside the workspace.
    path: Option<String>,
}

/// Objects to dependencies that go against [`ARROWS`]. `metadata` is what `cargo metadata --no-deps`
/// printed, `files` serves to find the line in the manifest.
pub(super) fn check(metadata: &str, root: &Path, files: &Files) -> Result<Vec<Finding>> {
    let metadata: Metadata =
        serde_json::from_str(metadata).context("cannot read what cargo metadata printed")?;
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let manifest = relative(&package.manifest_path, root);
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
            let message = format!("{} has no row in ARROWS in xtask/src/tidy/arrows.rs", package.name);
            findings.push(Finding::new(&manifest, 1, message));
            continue;
        };
        for dependency in &package.dependencies {
            if let Some(reason) = objection(package, dependency, *allowed) {
                let line = files.get(&manifest).map_or(1, |text| line_naming(text, &dependency.name));
                findings.push(Finding::new(&manifest, line, reason));
            }
        }
    }
    Ok(findings)
}

fn objection(package: &Package, dependency: &Dependency, allowed: Option<&[&str]>) -> Option<String> {
    let (from, to) = (&package.name, &dependency.name);
    // A crate may name itself among its dev-dependencies to switch on a feature for its own tests.
    let inside = dependency.path.is_some() && to != from;
    if inside && allowed.is_some_and(|allowed| !allowed.contains(&to.as_str())) {
        return Some(match allowed {
            None | Some([]) => format!("{from} may name no crate of this workspace, but names {to}"),
            Some(allowed) => format!("{from} may name only {}, but names {to}", allowed.join(" and ")),
        });
    }
    let in_tests_only = dependency.kind.as_deref() == Some("dev");
    if from == "sidenote-core" && !in_tests_only && NOT_IN_CORE.iter().any(|pattern| matches(pattern, to)) {
        return Some(format!("{from} holds rules only (no JSON, no async, no sockets), but names {to}"));
    }
    None
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

fn relative(manifest: &str, root: &Path) -> String {
    let path = Path::new(manifest);
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

/// The line of a manifest whose key is `name`, or the first line.
fn line_naming(manifest: &str, name: &str) -> usize {
    let named = |line: &str| {
        line.trim_start().strip_prefix(name).is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
    };
    manifest.lines().position(named).map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::super::files;
    use super::*;

    /// Runs the check on one package of this name with these (name, kind, is in the workspace) dependencies.
    fn messages(package: &str, dependencies: &[(&str, Option<&str>, bool)]) -> Vec<String> {
        let dependencies: Vec<_> = dependencies
            .iter()
            .map(|(name, kind, inside)| {
                serde_json::json!({"name": name, "kind": kind, "path": inside.then(|| format!("/r/crates/{name}"))})
            })
            .collect();
        let metadata = serde_json::json!({"packages": [
            {"name": package, "manifest_path": "/r/crates/x/Cargo.toml", "dependencies": dependencies}
        ]});
        let manifest = "[package]\n\n[dependencies]\nserde_json = \"1\"\nserde.workspace = true\nsidenote-core = { path = \"\" }\n";
        let files = files(&[("crates/x/Cargo.toml", manifest)]);
        check(&metadata.to_string(), Path::new("/r"), &files)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn the_arrows_of_the_picture_pass() {
        assert_eq!(
            messages("sidenote-core", &[("thiserror", None, false), ("serde_json", Some("dev"), false)]),
            [""; 0]
        );
        assert_eq!(
            messages("sidenote-store", &[("sidenote-core", None, true), ("tokio", None, false)]),
            [""; 0]
        );
        assert_eq!(messages("sidenote-store", &[("sidenote-store", Some("dev"), true)]), [""; 0]);
        assert_eq!(messages("sidenote", &[("sidenote-store-embedded", None, true)]), [""; 0]);
    }

    #[test]
    fn core_names_nobody_and_knows_no_json() {
        let found = messages(
            "sidenote-core",
            &[("serde", None, false), ("serde_json", Some("build"), false), ("tokio-util", None, false)],
        );
        assert_eq!(found.len(), 3);
        assert!(
            found[0].starts_with("crates/x/Cargo.toml:5: sidenote-core holds rules only"),
            "{}",
            found[0]
        );
        assert!(found[1].starts_with("crates/x/Cargo.toml:4: "), "{}", found[1]);
        assert_eq!(messages("sidenote-core", &[("sidenote-store", Some("dev"), true)]).len(), 1);
    }

    #[test]
    fn server_names_no_backend_not_even_in_its_tests() {
        for kind in [None, Some("dev")] {
            let found = messages("sidenote-server", &[("sidenote-store-embedded", kind, true)]);
            assert_eq!(found.len(), 1, "{kind:?}");
            assert!(found[0].contains("may name only sidenote-core and sidenote-store"), "{}", found[0]);
        }
    }

    #[test]
    fn store_names_only_the_core() {
        assert_eq!(messages("sidenote-store", &[("sidenote-server", None, true)]).len(), 1);
    }

    #[test]
    fn a_new_crate_needs_a_row_and_nonsense_is_an_error() {
        assert!(messages("sidenote-new", &[])[0].contains("has no row in ARROWS"));
        check("not json", Path::new("/r"), &Files::new()).unwrap_err();
    }
}
