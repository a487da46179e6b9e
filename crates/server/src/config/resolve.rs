//! From what the user wrote to what the program means. Every limit of an option stands here.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::secret::is_exposed;
use super::sources::{ConfigError, Sources, read_text};
use super::{
    App, Config, Events, Groups, Http, Limits, Log, LogFormat, LongConnection, Overrides, Secret, Tls, raw,
    store, webhook,
};

pub(super) fn resolve(sources: &Sources, overrides: Overrides) -> Result<Config, ConfigError> {
    let raw = &sources.raw;
    Ok(Config {
        listen: match overrides.listen {
            Some(listen) => listen,
            None => listen(sources)?,
        },
        store: store::resolve(sources, overrides.data)?,
        cluster: store::cluster(sources)?,
        apps: apps(sources)?,
        limits: limits(sources)?,
        events: events(sources)?,
        http: http(sources)?,
        long_connection: long_connection(sources)?,
        tls: tls(sources)?,
        log: log(sources)?,
        groups: Groups { community_extensions: raw.groups.community_extensions },
        ignored_variables: sources.ignored_variables.clone(),
        exposed_files: exposed_files(raw),
    })
}

/// Whatever is named as a file that holds a secret.
fn exposed_files(raw: &raw::Raw) -> Vec<PathBuf> {
    let of_apps = raw.apps.iter().flat_map(|app| [&app.secret_key_file, &app.webhook.token_file]);
    let all = of_apps.chain([&raw.store.url_file, &raw.tls.key]).flatten().map(PathBuf::from);
    let exposed: BTreeSet<_> = all.filter(|path| is_exposed(path)).collect();
    exposed.into_iter().collect()
}

/// A ticket is tried with every key, so their number bounds what a wrong one costs.
const MAX_PREVIOUS_KEYS: usize = 8;

/// usersig.md section 2.
const MAX_USER_ID_BYTES: usize = 32;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
pub(super) const GIB: u64 = 1024 * MIB;
pub(super) const MAX_TIMEOUT_MS: u64 = 3_600_000;

fn listen(sources: &Sources) -> Result<SocketAddr, ConfigError> {
    let text = &sources.raw.listen;
    text.parse().map_err(|_| {
        sources.wrong(
            "listen",
            format!("{text:?} is not an address; write an IP address and a port, such as 127.0.0.1:7780"),
        )
    })
}

fn apps(sources: &Sources) -> Result<Vec<App>, ConfigError> {
    if sources.raw.apps.is_empty() {
        return Err(sources.wrong(
            "apps",
            "no app is configured; add [[apps]] with sdk_app_id and secret_key or secret_key_file",
        ));
    }
    let mut seen = BTreeSet::new();
    let mut apps = Vec::new();
    for (index, raw) in sources.raw.apps.iter().enumerate() {
        let app = app(sources, &format!("apps[{index}]"), raw)?;
        if !seen.insert(app.sdk_app_id) {
            return Err(sources.wrong(
                &format!("apps[{index}].sdk_app_id"),
                format!("{} is configured twice; give all its keys and admins in one place", app.sdk_app_id),
            ));
        }
        apps.push(app);
    }
    Ok(apps)
}

fn app(sources: &Sources, at: &str, raw: &raw::App) -> Result<App, ConfigError> {
    let sdk_app_id = number(sources, &format!("{at}.sdk_app_id"), raw.sdk_app_id, 1..=u32::MAX.into())?;
    let mut keys = vec![current_key(sources, at, raw)?];
    let previous = format!("{at}.previous_secret_keys");
    if raw.previous_secret_keys.len() > MAX_PREVIOUS_KEYS {
        return Err(sources.wrong(
            &previous,
            format!("more than {MAX_PREVIOUS_KEYS} keys; drop those whose tickets have expired"),
        ));
    }
    for (index, key) in raw.previous_secret_keys.iter().enumerate() {
        keys.push(secret(sources, &format!("{previous}[{index}]"), key.clone())?);
    }
    if raw.admins.is_empty() {
        return Err(sources.wrong(&format!("{at}.admins"), "the list is empty; name at least one UserID"));
    }
    for (index, admin) in raw.admins.iter().enumerate() {
        if admin.is_empty() || admin.len() > MAX_USER_ID_BYTES || admin.contains(char::is_control) {
            return Err(sources.wrong(
                &format!("{at}.admins[{index}]"),
                format!("a UserID has 1 to {MAX_USER_ID_BYTES} bytes and no control characters"),
            ));
        }
    }
    let ultimate = raw.plan.eq_ignore_ascii_case("ultimate");
    let webhook = webhook::resolve(sources, &format!("{at}.webhook"), &raw.webhook)?;
    Ok(App { sdk_app_id, keys, admins: raw.admins.clone(), ultimate, webhook })
}

fn current_key(sources: &Sources, at: &str, raw: &raw::App) -> Result<Secret, ConfigError> {
    match (&raw.secret_key, &raw.secret_key_file) {
        (Some(text), None) => secret(sources, &format!("{at}.secret_key"), text.clone()),
        (None, Some(path)) => secret_of_file(sources, &format!("{at}.secret_key_file"), path),
        (Some(_), Some(_)) => {
            Err(sources
                .wrong(&format!("{at}.secret_key_file"), "secret_key is given too; keep one of the two"))
        }
        (None, None) => Err(sources.wrong(at, "there is no secret_key; give secret_key or secret_key_file")),
    }
}

pub(super) fn secret_of_file(sources: &Sources, key: &str, path: &str) -> Result<Secret, ConfigError> {
    let mut text = read_text(Path::new(path))
        .map_err(|error| sources.wrong(key, format!("cannot read {path}: {error}")))?;
    // Editors and `echo` end a file with a line feed that nobody means as a part of the key.
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    secret(sources, key, text)
}

pub(super) fn secret(sources: &Sources, key: &str, text: String) -> Result<Secret, ConfigError> {
    Secret::new(text).map_err(|error| sources.wrong(key, error))
}

fn limits(sources: &Sources) -> Result<Limits, ConfigError> {
    let raw = &sources.raw.limits;
    let limit = |name: &str, value, range| number(sources, &format!("limits.{name}"), value, range);
    let text = 1..=65_535;
    let limits = Limits {
        pairs_per_request: limit("pairs_per_request", raw.pairs_per_request, 1..=200)?,
        pairs_per_message: limit("pairs_per_message", raw.pairs_per_message, 1..=10_000)?,
        key_bytes: limit("key_bytes", raw.key_bytes, 1..=512)?,
        value_bytes: limit("value_bytes", raw.value_bytes, 1..=16_384)?,
        pairs_per_pull: limit("pairs_per_pull", raw.pairs_per_pull, 1..=1000)?,
        tombstones_per_message: limit("tombstones_per_message", raw.tombstones_per_message, 1..=100_000)?,
        attempts_per_minute: or_off(limit("attempts_per_minute", raw.attempts_per_minute, 0..=10_000_000)?),
        calls_per_second: or_off(limit("calls_per_second", raw.calls_per_second, 0..=10_000_000)?),
        members_per_group: limit("members_per_group", raw.members_per_group, 1..=100_000)?,
        message_body_bytes: limit("message_body_bytes", raw.message_body_bytes.0, 1..=MIB)?,
        group_name_bytes: limit("group_name_bytes", raw.group_name_bytes, text.clone())?,
        introduction_bytes: limit("introduction_bytes", raw.introduction_bytes, text.clone())?,
        notification_bytes: limit("notification_bytes", raw.notification_bytes, text.clone())?,
        face_url_bytes: limit("face_url_bytes", raw.face_url_bytes, text.clone())?,
        name_card_bytes: limit("name_card_bytes", raw.name_card_bytes, text)?,
    };
    if limits.pairs_per_request > limits.pairs_per_pull {
        return Err(sources.wrong(
            "limits.pairs_per_request",
            format!(
                "{} is more than limits.pairs_per_pull ({}); what one request writes must fit on one page (rule 3.7)",
                limits.pairs_per_request, limits.pairs_per_pull
            ),
        ));
    }
    let most = most_in_one_commit(&limits);
    if most > COMMIT_BYTES {
        return Err(sources.wrong(
            "limits.pairs_per_message",
            format!(
                "a message may come to {most} bytes in one commit where {COMMIT_BYTES} are possible (rule 3.7, \
                 compaction); lower limits.pairs_per_message, value_bytes, key_bytes, tombstones_per_message or \
                 pairs_per_request"
            ),
        ));
    }
    Ok(limits)
}

/// The most that a store takes in one commit.
const COMMIT_BYTES: u64 = 32 * 1024 * 1024;

/// What the largest commit of one message may come to, in bytes: compaction writes every pair again and tells of
/// it with the value before, which is the same one; it removes every tombstone; and the request that caused it is
/// told too. Where that did not fit, the message could not be changed any more.
fn most_in_one_commit(limits: &Limits) -> u64 {
    let [key, value] = [limits.key_bytes, limits.value_bytes].map(u64::from);
    let pairs = u64::from(limits.pairs_per_message) * (2 * key + 3 * value + 600);
    let tombstones = u64::from(limits.tombstones_per_message) * (key + 200);
    let told = u64::from(limits.pairs_per_request) * (2 * key + 2 * value + 600);
    pairs + tombstones + told
}

fn events(sources: &Sources) -> Result<Events, ConfigError> {
    let raw = &sources.raw.events;
    let hours: u64 = number(sources, "events.keep_hours", raw.keep_hours, 1..=876_000)?;
    Ok(Events {
        keep_per_conversation: number(
            sources,
            "events.keep_per_conversation",
            raw.keep_per_conversation,
            // Debts refer to events, which must not be gone before a moment of load is over.
            1000..=10_000_000,
        )?,
        keep: Duration::from_secs(hours * 3600),
        keep_untold_per_conversation: number(
            sources,
            "events.keep_untold_per_conversation",
            raw.keep_untold_per_conversation,
            1000..=100_000_000,
        )?,
        keep_dead_letters_per_conversation: number(
            sources,
            "events.keep_dead_letters_per_conversation",
            raw.keep_dead_letters_per_conversation,
            1..=100_000,
        )?,
    })
}

fn http(sources: &Sources) -> Result<Http, ConfigError> {
    let raw = &sources.raw.http;
    let timeout = |name: &str, value| {
        number(sources, &format!("http.{name}"), value, 1..=MAX_TIMEOUT_MS).map(Duration::from_millis)
    };
    Ok(Http {
        body_bytes: number(sources, "http.body_bytes", raw.body_bytes.0, KIB..=64 * MIB)?,
        header_timeout: timeout("header_timeout_ms", raw.header_timeout_ms)?,
        body_timeout: timeout("body_timeout_ms", raw.body_timeout_ms)?,
        idle_timeout: timeout("idle_timeout_ms", raw.idle_timeout_ms)?,
        max_connections: number(sources, "http.max_connections", raw.max_connections, 1..=1_000_000)?,
        drain_timeout: timeout("drain_timeout_ms", raw.drain_timeout_ms)?,
        signature_cache: number(sources, "http.signature_cache", raw.signature_cache, 0..=100_000_000)?,
    })
}

fn long_connection(sources: &Sources) -> Result<LongConnection, ConfigError> {
    let raw = &sources.raw.long_connection;
    let option = |name: &str| format!("long_connection.{name}");
    let timeout = |name: &str, value| {
        number(sources, &option(name), value, 1..=MAX_TIMEOUT_MS).map(Duration::from_millis)
    };
    let hours: u64 = number(sources, &option("session_hours"), raw.session_hours, 1..=876_000)?;
    Ok(LongConnection {
        frame_bytes: number(sources, &option("frame_bytes"), raw.frame_bytes.0, KIB..=64 * MIB)?,
        login_timeout: timeout("login_timeout_ms", raw.login_timeout_ms)?,
        idle_timeout: timeout("idle_timeout_ms", raw.idle_timeout_ms)?,
        write_timeout: timeout("write_timeout_ms", raw.write_timeout_ms)?,
        logins_per_account: number(sources, &option("logins_per_account"), raw.logins_per_account, 1..=1000)?,
        refused_logins: number(sources, &option("refused_logins"), raw.refused_logins, 1..=1000)?,
        session: Duration::from_secs(hours * 3600),
    })
}

fn tls(sources: &Sources) -> Result<Option<Tls>, ConfigError> {
    let raw = &sources.raw.tls;
    match (&raw.certificate, &raw.key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(Tls { certificate: certificate.into(), key: key.into() })),
        (Some(_), None) => Err(sources.wrong("tls.certificate", "tls.key is missing; give both or none")),
        (None, Some(_)) => Err(sources.wrong("tls.key", "tls.certificate is missing; give both or none")),
    }
}

fn log(sources: &Sources) -> Result<Log, ConfigError> {
    let raw = &sources.raw.log;
    let format = match raw.format.as_str() {
        "human" => LogFormat::Human,
        "json" => LogFormat::Json,
        other => {
            return Err(sources.wrong(
                "log.format",
                format!("there is no format called {other:?}; use \"human\" or \"json\""),
            ));
        }
    };
    EnvFilter::builder().parse(&raw.level).map_err(|error| {
        sources.wrong(
            "log.level",
            format!("{error}; write a level such as \"info\" or \"info,sidenote_server=debug\""),
        )
    })?;
    Ok(Log { format, level: raw.level.clone() })
}

/// The number as the type that the program uses, which holds all of `range`.
pub(super) fn number<T>(
    sources: &Sources,
    key: &str,
    value: u64,
    range: RangeInclusive<u64>,
) -> Result<T, ConfigError>
where
    T: TryFrom<u64, Error: fmt::Debug>,
{
    let (least, most) = (range.start(), range.end());
    if value < *least {
        return Err(sources.wrong(key, format!("{value} is too small; the least is {least}")));
    }
    if value > *most {
        return Err(sources.wrong(key, format!("{value} is too large; the most is {most}")));
    }
    Ok(T::try_from(value).expect("every range fits the type of its option"))
}

pub(super) fn or_off(limit: u32) -> Option<u32> {
    (limit > 0).then_some(limit)
}
