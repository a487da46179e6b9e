//! The fuzz targets are a workspace of their own, so nothing else notices when their lock file falls behind the crates
//! that they are made of.

use super::Finding;
use anyhow::{Context, Result};
use serde::Deserialize;

const COMMAND: &str = "cargo metadata --manifest-path fuzz/Cargo.toml --format-version 1 >/dev/null";

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// Absent for an ordinary dependency, else "dev" or "build".
    kind: Option<String>,
    optional: bool,
    /// Such a one is only used on the system that it names.
    target: Option<String>,
}

/// Objects to crates of this workspace that need more than the lock file `text` at `path` says. `metadata` is what
/// `cargo metadata --no-deps` printed.
pub(super) fn check(metadata: &str, (path, text): (&str, &str)) -> Result<Vec<Finding>> {
    let metadata: Metadata =
        serde_json::from_str(metadata).context("cannot read what cargo metadata printed")?;
    let mut findings = Vec::new();
    for (line, block) in blocks(text) {
        let Some(package) = metadata.packages.iter().find(|package| is_of(block, &package.name)) else {
            continue;
        };
        for Dependency { name, .. } in package.dependencies.iter().filter(|dependency| is_always(dependency))
        {
            if !names(block, name) {
                let message = format!("{} needs {name} and has it not here; run `{COMMAND}`", package.name);
                findings.push(Finding::new(path, line, message));
            }
        }
    }
    Ok(findings)
}

/// The packages of a lock file, each with its first line.
fn blocks(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut line = 1;
    text.split("\n\n").map(move |block| {
        let begin = line;
        line += block.matches('\n').count() + 2;
        (begin, block)
    })
}

/// Whether a block is that of a package of this workspace: others have a source.
fn is_of(block: &str, name: &str) -> bool {
    block.lines().any(|line| line == format!("name = \"{name}\""))
        && !block.lines().any(|line| line.starts_with("source = "))
}

fn is_always(dependency: &Dependency) -> bool {
    dependency.kind.is_none() && !dependency.optional && dependency.target.is_none()
}

/// A dependency stands there by its name, with the version after it where there are several.
fn names(block: &str, name: &str) -> bool {
    let named = |line: &str| {
        line.trim_start().strip_prefix('"').and_then(|rest| rest.split(['"', ' ']).next()) == Some(name)
    };
    block.lines().any(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"{"packages":[{"name":"ours","dependencies":[
        {"name":"plain","kind":null,"optional":false,"target":null},
        {"name":"double","kind":null,"optional":false,"target":null},
        {"name":"for-tests","kind":"dev","optional":false,"target":null},
        {"name":"perhaps","kind":null,"optional":true,"target":null},
        {"name":"elsewhere","kind":null,"optional":false,"target":"cfg(windows)"}]}]}"#;

    fn messages(dependencies: &str) -> Vec<(usize, String)> {
        let lock = format!(
            "version = 4\n\n[[package]]\nname = \"ours\"\nversion = \"1.0.0\"\nsource = \"registry\"\n\n\
             [[package]]\nname = \"ours\"\nversion = \"0.1.0\"\ndependencies = [\n{dependencies}]\n"
        );
        let findings = check(METADATA, ("fuzz/Cargo.lock", &lock)).unwrap();
        findings.into_iter().map(|finding| (finding.line, finding.message)).collect()
    }

    #[test]
    fn what_is_needed_has_to_be_there() {
        assert_eq!(messages(" \"double 2.0.0\",\n \"plain\",\n"), []);
        let missing = messages(" \"double 2.0.0\",\n \"plain-and-more\",\n");
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0].0, 8);
        assert!(missing[0].1.starts_with("ours needs plain and has it not here"), "{}", missing[0].1);
    }
}
