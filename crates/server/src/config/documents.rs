//! What the documentation says about the configuration is what the program does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::raw::Raw;
use super::{Config, Overrides, resolve};

const APP: &str = "[[apps]]\nsdk_app_id = 1400000001\n";

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// Every option, written as in `limits.key_bytes` and, for those of an app, `apps.plan`.
fn options() -> BTreeSet<String> {
    fn walk(at: &str, value: &serde_json::Value, options: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::Object(members) => {
                for (name, value) in members {
                    walk(&format!("{at}.{name}"), value, options);
                }
            }
            serde_json::Value::Array(items) if items.iter().any(serde_json::Value::is_object) => {
                walk(at, &items[0], options);
            }
            _ => assert!(options.insert(at.trim_start_matches('.').to_owned())),
        }
    }
    let raw: Raw = toml::from_str(APP).unwrap();
    let mut options = BTreeSet::new();
    walk("", &serde_json::to_value(&raw).unwrap(), &mut options);
    options
}

/// The rows of the tables in `config.md`: the option, and its default if it has one.
fn rows(document: &str) -> Vec<(String, Option<String>)> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let option = cells.next()?.strip_prefix('`')?.strip_suffix('`')?.to_owned();
        let default = cells.next()?.strip_prefix('`').and_then(|default| default.strip_suffix('`'));
        Some((option, default.map(str::to_owned)))
    };
    document.lines().filter_map(row).collect()
}

#[test]
fn the_list_of_options_is_complete_and_its_defaults_are_true() {
    let document = std::fs::read_to_string(docs().join("config.md")).unwrap();
    let rows = rows(&document);
    let listed: BTreeSet<String> = rows.iter().map(|(option, _)| option.clone()).collect();
    assert_eq!(listed.len(), rows.len(), "an option is listed twice");
    assert_eq!(listed, options());

    // A file that says nothing but the documented defaults is the same as one that says nothing.
    let (of_app, others): (Vec<_>, Vec<_>) = rows
        .iter()
        .filter_map(|(option, default)| Some(format!("{option} = {}", default.as_ref()?)))
        .partition(|line| line.starts_with("apps."));
    let of_app: Vec<_> = of_app.iter().filter_map(|line| line.strip_prefix("apps.")).collect();
    let explicit: Raw =
        toml::from_str(&format!("{}\n{APP}{}", others.join("\n"), of_app.join("\n"))).unwrap();
    assert_eq!(explicit, toml::from_str(APP).unwrap());
    assert!(others.len() > 30 && of_app.len() == 12, "the tables have lost their shape");
}

#[test]
fn the_example_shows_every_option_with_its_default() {
    let example = std::fs::read_to_string(docs().join("sidenote.example.toml")).unwrap();
    let mut shown = BTreeSet::new();
    let mut section = String::new();
    for line in example.lines() {
        // An option that has no default stands there as a comment without a space after the sign.
        let line = line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line);
        if line.starts_with('[') {
            section = format!("{}.", line.trim_matches(['[', ']']));
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            shown.insert(format!("{section}{name}"));
        }
    }
    assert_eq!(shown, options());

    let mut raw: Raw = toml::from_str(&example).unwrap();
    assert_eq!(raw.apps.len(), 1);
    raw.apps.clear();
    assert_eq!(raw, Raw::default());
}

#[test]
fn every_sample_in_the_documentation_is_a_sound_configuration() {
    let mut samples = Vec::new();
    let mut folders = vec![docs()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if path.is_dir() {
                folders.push(path);
            } else if extension == Some("toml") {
                samples.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
            } else if extension == Some("md") {
                let text = std::fs::read_to_string(&path).unwrap();
                for block in text.split("```toml\n").skip(1) {
                    samples.push((path.clone(), block.split("```").next().unwrap().to_owned()));
                }
            }
        }
    }
    assert!(samples.len() >= 3, "the samples have gone");
    for (path, text) in samples {
        // A key file of a sample is not on this machine, so its line is made one that needs none.
        let text = text.replace("\nsecret_key_file = ", "\nsecret_key = ");
        let text = text.replace("\ntoken_file = ", "\ntoken = ");
        let result = Config::from_toml(&text);
        assert!(result.is_ok(), "{}: {}", path.display(), result.unwrap_err());
    }
}

#[test]
fn the_variables_in_the_documentation_are_ours_and_fit() {
    let document = std::fs::read_to_string(docs().join("config.md")).unwrap();
    let variables: Vec<_> = document
        .lines()
        .filter_map(|line| line.strip_prefix("SIDENOTE_")?.split_once('='))
        .map(|(name, value)| (format!("SIDENOTE_{name}").into(), value.trim_matches('\'').into()))
        .collect();
    assert!(variables.len() >= 3);
    let sources = super::Sources::new(None, variables).unwrap();
    let config = resolve::resolve(&sources, Overrides::default()).unwrap();
    assert_eq!(config.ignored_variables, [""; 0]);
}
