//! Where options come from: the file and the environment, merged, and for every mistake the place it was
//! made in.
//!
//! The file is parsed on its own first, because a mistake in it has a line. The variables are merged in one
//! by one, so that the one which does not fit is the one that is named.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use figment::providers::Serialized;
use figment::value::Value;
use figment::{Figment, error::Kind};
use toml::de::{DeTable, DeValue};

use super::raw::Raw;

/// What is wrong with the configuration, where, and what to do about it. It never holds a secret: values that
/// are texts are not repeated.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ConfigError {
    place: Place,
    problem: String,
}

/// Every variable of ours begins so; what follows is the key, with two underscores between its parts.
const PREFIX: &str = "SIDENOTE_";

/// A second name of `SIDENOTE_STORE__URL`, as databases are named where programs run in containers.
const STORE_URL: &str = "SIDENOTE_STORE_URL";

/// More than any configuration needs, and little enough to read a wrong file (a device, say) without harm.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What the user wrote, and where.
pub(super) struct Sources {
    pub(super) raw: Raw,
    pub(super) ignored_variables: Vec<String>,
    file: Option<(PathBuf, String)>,
    /// Variables that were used, with the key that each stands for.
    variables: Vec<(String, String)>,
    /// What file and variables say, without defaults.
    said: Figment,
}

#[derive(Debug)]
enum Place {
    File(PathBuf, Option<usize>),
    Variable(String),
    /// Neither says anything about it.
    Nowhere,
}

impl Sources {
    /// Reads the file and takes the variables that are ours.
    pub(super) fn read(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let file = match path {
            None => None,
            Some(path) => {
                let text = read_text(path).map_err(|error| ConfigError {
                    place: Place::File(path.to_owned(), None),
                    problem: format!("cannot read the configuration: {error}"),
                })?;
                Some((path, text))
            }
        };
        Self::new(file, environment)
    }

    /// The same for a file that has been read. A variable whose key has parts, or names a section or option
    /// at the top, is ours and must fit; others that begin so are listed as ignored.
    pub(super) fn new(
        file: Option<(&Path, String)>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut sources = Self {
            raw: Raw::default(),
            ignored_variables: Vec::new(),
            file: file.map(|(path, text)| (path.to_owned(), text)),
            variables: Vec::new(),
            said: Figment::new(),
        };
        let mut merged = sources.parse_file()?;

        let mut environment: Vec<_> = environment
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value)))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        environment.sort();
        for (name, value) in environment {
            let key = match name.as_str() {
                STORE_URL => "store.url".to_owned(),
                name => name[PREFIX.len()..].to_ascii_lowercase().replace("__", "."),
            };
            if !key.contains('.') && !TOP.contains(&key.as_str()) {
                sources.ignored_variables.push(name);
                continue;
            }
            let Ok(value) = value.into_string() else {
                return Err(ConfigError {
                    place: Place::Variable(name),
                    problem: "the value is not UTF-8".to_owned(),
                });
            };
            // Any text is a value: what does not parse as a number, list or table is a text.
            let value: Value = value.parse().unwrap_or_else(|never| match never {});
            merged = merged.merge(Serialized::default(&key, value));
            match merged.extract() {
                Ok(raw) => sources.raw = raw,
                Err(error) => {
                    return Err(ConfigError {
                        place: Place::Variable(name),
                        problem: problem_of_variable(&key, &error),
                    });
                }
            }
            sources.variables.push((name, key));
        }
        sources.said = merged;
        Ok(sources)
    }

    /// Whether file or environment say anything about `key`, also if it is what holds without it.
    pub(super) fn say(&self, key: &str) -> bool {
        self.said.contains(key)
    }

    /// Whether a variable of the environment stands for exactly this key.
    pub(super) fn environment_says(&self, key: &str) -> bool {
        self.variables.iter().any(|(_, of)| of == key)
    }

    /// An error about the value of `key`, which is written like `limits.key_bytes` or `apps[1].admins`.
    pub(super) fn wrong(&self, key: &str, problem: impl fmt::Display) -> ConfigError {
        ConfigError { place: self.place_of(key), problem: format!("{key}: {problem}") }
    }

    fn parse_file(&mut self) -> Result<Figment, ConfigError> {
        let Some((path, text)) = &self.file else { return Ok(Figment::new()) };
        let at = |span: Option<std::ops::Range<usize>>| {
            Place::File(path.clone(), span.map(|span| line_at(text, span.start)))
        };
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError {
            place: at(error.span()),
            problem: format!("not TOML: {}", in_one_line(error.message())),
        })?;
        let parsed = toml::Deserializer::parse(text).map_err(|error| ConfigError {
            place: at(error.span()),
            problem: format!("not TOML: {}", in_one_line(error.message())),
        })?;
        self.raw = serde_path_to_error::deserialize(parsed).map_err(|error| {
            let key = error.path().to_string();
            let error = error.into_inner();
            let problem = rephrase(error.message());
            let problem = if key == "." { problem } else { format!("{key}: {problem}") };
            ConfigError { place: at(error.span()), problem }
        })?;
        Ok(Figment::from(Serialized::defaults(table)))
    }

    fn place_of(&self, key: &str) -> Place {
        let covers = |outer: &str| {
            key.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        if let Some((name, _)) = self.variables.iter().rev().find(|(_, outer)| covers(outer)) {
            return Place::Variable(name.clone());
        }
        match &self.file {
            Some((path, text)) => Place::File(path.clone(), line_of(text, key)),
            None => Place::Nowhere,
        }
    }
}

/// Sections and options at the top.
const TOP: &[&str] = &[
    "listen",
    "store",
    "cluster",
    "apps",
    "limits",
    "events",
    "http",
    "long_connection",
    "tls",
    "log",
    "groups",
];

/// Reads a text file of a size that a configuration or a key may have.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("the file is longer than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Self::File(path, None) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Nowhere => f.write_str("configuration"),
        }
    }
}

/// The one-based line of the key, or of the innermost table around it that the file has.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut line = None;
    let mut value = DeValue::Table(document.into_inner());
    for part in key.split(['.', '[', ']']).filter(|part| !part.is_empty()) {
        let found = match value {
            DeValue::Table(table) => table
                .into_iter()
                .find(|(name, _)| name.get_ref() == part)
                .map(|(name, value)| (name.span().start, value.into_inner())),
            DeValue::Array(array) => part.parse().ok().and_then(|index| {
                array.into_iter().nth(index).map(|value| (value.span().start, value.into_inner()))
            }),
            _ => None,
        };
        let Some((start, inner)) = found else { break };
        line = Some(line_at(text, start));
        value = inner;
    }
    line
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

fn problem_of_variable(key: &str, error: &figment::Error) -> String {
    let problem = match &error.kind {
        Kind::UnknownField(_, known) => format!("unknown key; known here: {}", known.join(", ")),
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            let problem = mismatch(&found.to_string(), expected);
            if expected == "a string" {
                format!("{problem}; put it between double quotes if it is meant as a text")
            } else {
                problem
            }
        }
        kind => rephrase(&kind.to_string()),
    };
    // The variable names its own key; a place inside of its value has to be told.
    match error.path.get(key.split('.').count()..) {
        Some(inside @ [_, ..]) => format!("at {}: {problem}", inside.join(".")),
        _ => problem,
    }
}

/// Says what serde says in words of the file's author, and without the value: it may be a secret that has
/// slipped into a wrong place.
fn rephrase(message: &str) -> String {
    let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once("`, expected "));
    if let Some((_, known)) = unknown {
        return format!("unknown key; known here: {}", known.trim_start_matches("one of ").replace('`', ""));
    }
    if let Some(name) = message.strip_prefix("missing field ") {
        return format!("{name} is missing");
    }
    let invalid = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    match invalid.and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((found, expected)) => mismatch(found, expected),
        None => in_one_line(message),
    }
}

/// `found` begins with the kind of the value, and the value itself may follow.
fn mismatch(found: &str, expected: &str) -> String {
    let found = match (found.split(' ').next().unwrap_or_default(), expected) {
        // A whole number is refused by these only if it has a sign.
        ("integer" | "signed", "u64" | "integer overflow") => "a negative one",
        (kind, _) => in_words(kind),
    };
    format!("expected {}, found {found}", in_words(expected))
}

/// What serde calls a kind of value, as TOML calls it.
fn in_words(kind: &str) -> &str {
    match kind {
        "a string" | "string" => "a text",
        "a sequence" | "sequence" => "a list",
        "map" => "a table",
        "u64" | "integer" | "unsigned" | "signed" => "a whole number",
        "float" | "floating" => "a number with a fraction",
        "a boolean" | "boolean" | "bool" => "true or false",
        "an integer or string" | "integer overflow" | "parsable string" => {
            "a number of bytes or a text such as \"64MiB\""
        }
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}

fn in_one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}
