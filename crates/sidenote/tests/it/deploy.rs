//! What stands in `deploy/` and `docs/operations.md` is what the program does: options, commands, flags and figures.
//! `deploy/check.sh` asks the tools that read these files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::server::{ConfigOptions, Running, sidenote};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text_of(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Has the configuration checked by the real binary, with files of the test's own in place of the secrets.
fn check(name: &str) {
    let folder = TempDir::new().unwrap();
    let text = text_of(&format!("deploy/{name}"));
    let lines = text.lines().map(|line| match line.split_once(" = ") {
        Some((key, _)) if key.ends_with("_file") => {
            let secret = folder.path().join(key);
            std::fs::write(&secret, "postgres://sidenote:hunter2@127.0.0.1:1/sidenote?sslmode=disable")
                .unwrap();
            format!("{key} = {:?}\n", secret.to_str().unwrap())
        }
        _ => format!("{line}\n"),
    });
    let file = folder.path().join(name);
    std::fs::write(&file, lines.collect::<String>()).unwrap();
    let output = sidenote().arg("check-config").arg(&file).output().unwrap();
    assert!(output.status.success(), "deploy/{name}: {output:?}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("hunter2"), "{output:?}");
}

#[test]
fn the_configuration_of_one_server_is_sound() {
    check("sidenote.toml");
}

#[test]
fn the_configuration_of_a_node_is_sound() {
    check("node.toml");
}

#[test]
fn every_configuration_is_checked_here() {
    let paths = std::fs::read_dir(root().join("deploy")).unwrap().map(|entry| entry.unwrap().path());
    let configurations = paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    let names: BTreeSet<_> =
        configurations.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(names, BTreeSet::from(["node.toml".to_owned(), "sidenote.toml".to_owned()]));
}

/// Whether the subcommand is there and knows the flags.
fn check_command(place: &str, words: &[&str]) {
    let [subcommand, rest @ ..] = words else { panic!("{place}: no subcommand") };
    let output = sidenote().args([subcommand, "--help"]).output().unwrap();
    assert!(output.status.success(), "{place}: there is no subcommand {subcommand}");
    let help = String::from_utf8(output.stdout).unwrap();
    for flag in rest.iter().filter(|word| word.starts_with("--")) {
        assert!(help.contains(&format!("{flag} ")), "{place}: {subcommand} has no {flag}:\n{help}");
    }
}

/// The words of a list such as `[serve, --config, "a b"]`.
fn words_of(list: &str) -> Vec<&str> {
    list.trim().trim_matches(['[', ']']).split(',').map(|word| word.trim().trim_matches('"')).collect()
}

const UNITS: [&str; 2] = ["deploy/systemd/sidenote.service", "deploy/systemd/sidenote@.service"];

#[test]
fn units_and_image_name_commands_and_flags_that_there_are() {
    for unit in UNITS {
        let text = text_of(unit);
        let commands: Vec<_> =
            text.lines().filter_map(|line| line.strip_prefix("Exec")?.split_once('=')).collect();
        assert!(!commands.is_empty(), "{unit}");
        for (_, command) in commands {
            let words: Vec<_> = command.split_whitespace().collect();
            assert_eq!(words[0], "/usr/bin/sidenote", "{unit}");
            check_command(unit, &words[1..]);
        }
    }
    let dockerfile = text_of("deploy/Dockerfile");
    let command = dockerfile.lines().find_map(|line| line.strip_prefix("CMD ")).unwrap();
    check_command("deploy/Dockerfile", &words_of(command));
}

#[test]
fn the_compose_file_names_commands_and_flags_that_there_are() {
    let text = text_of("deploy/compose.yaml");
    let commands = text.lines().filter_map(|line| line.trim().strip_prefix("command: "));
    let ours: Vec<_> =
        commands.map(words_of).filter(|words| words.contains(&"/etc/sidenote/node.toml")).collect();
    let subcommands: BTreeSet<_> = ours.iter().map(|words| words[0]).collect();
    assert_eq!(subcommands, BTreeSet::from(["migrate", "serve"]));
    for words in ours {
        check_command("deploy/compose.yaml", &words);
    }
}

#[test]
fn units_leave_time_to_drain_and_descriptors_for_all_connections() {
    let defaults = text_of("docs/sidenote.example.toml");
    let number = |text: &str, key: &str| -> u64 {
        let value =
            text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("no {key}"));
        value.parse().unwrap()
    };
    let drain = number(&defaults, "drain_timeout_ms = ").div_ceil(1000);
    let connections = number(&defaults, "max_connections = ");
    for unit in UNITS {
        let text = text_of(unit);
        assert!(number(&text, "TimeoutStopSec=") > 2 * drain, "{unit}");
        assert!(number(&text, "LimitNOFILE=") > 2 * connections, "{unit}");
    }
    let compose = text_of("deploy/compose.yaml");
    let grace =
        compose.lines().find_map(|line| line.strip_prefix("  stop_grace_period: ")?.strip_suffix('s'));
    assert!(grace.unwrap().parse::<u64>().unwrap() > 2 * drain);
}

#[test]
fn the_image_is_built_from_the_whole_workspace_with_its_compiler() {
    let manifest = text_of("Cargo.toml");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ")).unwrap();
    let ignored = text_of("deploy/Dockerfile.dockerignore");
    let kept: BTreeSet<_> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    for member in words_of(members) {
        let folder = member.trim_end_matches("/*");
        assert!(kept.contains(folder), "the image is built without {folder}, which cargo asks for");
    }
    let compiler = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap();
    let dockerfile = text_of("deploy/Dockerfile");
    let used = dockerfile.lines().find_map(|line| line.strip_prefix("ARG RUST_VERSION=")).unwrap();
    assert_eq!(used, compiler.trim_matches('"'));
}

/// The names of all samples that a server exposes, each with its labels.
fn samples() -> BTreeMap<String, BTreeSet<String>> {
    let webhook = "[apps.webhook]\nurl = \"http://127.0.0.1:9/\"\nallow_networks = [\"127.0.0.0/8\"]";
    let server = Running::start(&ConfigOptions { more: webhook.to_owned(), ..ConfigOptions::default() });
    // There are no samples of requests before the first one.
    server.post("administrator", "im_open_login_svc/account_check", "{}");
    let text = server.get("/metrics");
    let mut samples = BTreeMap::<String, BTreeSet<String>>::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
        samples.entry(name.to_owned()).or_default().extend(labels.map(|(label, _)| label.to_owned()));
    }
    assert!(samples.len() > 20, "{text}");
    // Only where NATS is configured, which needs PostgreSQL; `postgres::pushes` reads it.
    assert_eq!(samples.insert("sidenote_cluster_nats_connected".to_owned(), BTreeSet::new()), None);
    samples
}

/// Every series that a text names, with the labels in the braces behind it.
fn series_in(text: &str) -> Vec<(&str, Vec<&str>)> {
    let is_in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = text.match_indices("sidenote_").map(|(at, _)| at);
    let starts = starts.filter(|at| !text[..*at].ends_with(|c: char| is_in_name(c) || c == '/'));
    let series = starts.map(|at| {
        let rest = &text[at..];
        let end = rest.find(|c: char| !is_in_name(c)).unwrap_or(rest.len());
        let braces = rest[end..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let matchers = braces.map_or("", |(inside, _)| inside).split(',');
        let labels = matchers
            .filter_map(|matcher| matcher.split_once('='))
            .map(|(label, _)| label.trim().trim_end_matches('!'));
        (&rest[..end], labels.collect())
    });
    series.collect()
}

#[test]
fn dashboard_alerts_and_documents_name_figures_that_there_are() {
    let samples = samples();
    for place in [
        "deploy/prometheus/alerts.yml",
        "deploy/prometheus/alerts.test.yml",
        "deploy/grafana/sidenote.json",
        "docs/scaling.md",
    ] {
        let text = text_of(place);
        let series = series_in(&text);
        for (name, labels) in &series {
            let known = samples.get(*name).unwrap_or_else(|| panic!("{place}: there is no figure {name}"));
            for label in labels {
                // These two are given by whoever scrapes.
                let is_known = known.contains(*label) || ["instance", "job"].contains(label);
                assert!(is_known, "{place}: {name} has no label {label:?} but {known:?}");
            }
        }
        assert!(place.starts_with("docs/") || series.len() > 10, "{place} names no figures any more");
    }
}

#[test]
fn the_dashboard_shows_every_figure() {
    let dashboard = text_of("deploy/grafana/sidenote.json");
    let shown: BTreeSet<_> = series_in(&dashboard).into_iter().map(|(name, _)| family_of(name)).collect();
    for name in samples().keys() {
        assert!(shown.contains(family_of(name)), "no panel shows {name}");
    }
}

/// The name of a figure: the three series of a histogram stand under that of the histogram.
fn family_of(name: &str) -> &str {
    ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

#[test]
fn the_table_of_figures_is_complete() {
    let document = text_of("docs/operations.md");
    let (_, rest) = document.split_once("\n## Figures\n").unwrap();
    let (section, _) = rest.split_once("\n## ").unwrap();
    let listed: BTreeSet<_> = series_in(section).into_iter().map(|(name, _)| name).collect();
    let samples = samples();
    let exposed: BTreeSet<_> = samples.keys().map(|name| family_of(name)).collect();
    assert_eq!(listed, exposed);
}

#[test]
fn every_alert_is_explained() {
    let rules = text_of("deploy/prometheus/alerts.yml");
    let alerts: BTreeSet<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let document = text_of("docs/operations.md");
    let explained: BTreeSet<_> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `Sidenote")?.split_once('`'))
        .map(|(name, _)| format!("Sidenote{name}"))
        .collect();
    assert!(alerts.len() > 10);
    assert_eq!(alerts, explained.iter().map(String::as_str).collect());
    let tests = text_of("deploy/prometheus/alerts.test.yml");
    for alert in alerts {
        assert!(tests.contains(&format!("alertname: {alert}\n")), "no test makes {alert} fire");
    }
}
