//! What is read, what wins, and what is said about mistakes.

use std::ffi::OsString;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

const APP: &str = "[[apps]]\nsdk_app_id = 1400000001\nsecret_key = \"hunter2\"\n";

fn from_file(text: &str) -> Result<Config, ConfigError> {
    with_environment(text, &[], Overrides::default())
}

fn with_environment(
    text: &str,
    environment: &[(&str, &str)],
    overrides: Overrides,
) -> Result<Config, ConfigError> {
    let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let sources = Sources::new(Some((Path::new("sidenote.toml"), text.to_owned())), environment)?;
    resolve::resolve(&sources, overrides)
}

/// What is said about the text, which must be wrong. No message may repeat the secret.
fn said(text: &str) -> String {
    let message = from_file(text).unwrap_err().to_string();
    assert!(!message.contains("hunter2") && !message.contains('\n'), "{message}");
    message
}

#[test]
fn an_app_is_all_that_has_to_be_configured() {
    let config = from_file(APP).unwrap();
    assert_eq!(config.listen, "127.0.0.1:7780".parse().unwrap());
    assert_eq!(config.store.folder(), Some(Path::new("./sidenote-data")));
    assert_eq!(config.limits.pairs_per_message, 300);
    assert_eq!(config.limits.attempts_per_minute, Some(200));
    assert_eq!(config.limits.calls_per_second, None);
    assert_eq!(config.events.keep, Duration::from_hours(168));
    assert_eq!(config.http.body_bytes, 1024 * 1024);
    assert_eq!(config.tls, None);
    assert_eq!(config.log.format, LogFormat::Human);
    assert!(!config.groups.community_extensions);
    let [app] = config.apps.as_slice() else { panic!("one app") };
    assert_eq!(
        (app.sdk_app_id, app.admins.as_slice(), app.ultimate),
        (1_400_000_001, &["administrator".to_owned()][..], true)
    );
    assert_eq!(app.keys.iter().map(Secret::expose).collect::<Vec<_>>(), [b"hunter2"]);
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let text = format!("listen = \"127.0.0.1:1\"\n[limits]\nkey_bytes = 10\nvalue_bytes = 20\n{APP}");
    let environment = [
        ("SIDENOTE_LISTEN", "127.0.0.1:2"),
        ("SIDENOTE_LIMITS__KEY_BYTES", "30"),
        ("SIDENOTE_STORE__BLOCK_CACHE_BYTES", "8MiB"),
        ("SIDENOTE_STORE__PATH", "/from/environment"),
        ("SIDENOTE_LOG__LEVEL", "info,sidenote_server=debug"),
        ("SIDENOTE_GROUPS__COMMUNITY_EXTENSIONS", "true"),
        ("HOME", "/root"),
    ];
    let config = with_environment(&text, &environment, Overrides::default()).unwrap();
    assert_eq!(config.listen.port(), 2);
    assert_eq!((config.limits.key_bytes, config.limits.value_bytes), (30, 20));
    let Store::Embedded(embedded) = &config.store else { panic!("{:?}", config.store) };
    assert_eq!(embedded.block_cache_bytes, 8 * 1024 * 1024);
    assert_eq!(embedded.path, PathBuf::from("/from/environment"));
    assert_eq!(config.log.level, "info,sidenote_server=debug");
    assert!(config.groups.community_extensions);

    let overrides =
        Overrides { listen: Some("127.0.0.1:3".parse().unwrap()), data: Some("/from/flag".into()) };
    let config = with_environment(&text, &environment, overrides).unwrap();
    assert_eq!((config.listen.port(), config.store.folder()), (3, Some(Path::new("/from/flag"))));
}

#[test]
fn the_environment_alone_is_enough() {
    let environment = [(
        OsString::from("SIDENOTE_APPS"),
        OsString::from(
            "[{sdk_app_id=7, secret_key=\"hunter2\", previous_secret_keys=[\"older\"], plan=\"pro\"}]",
        ),
    )];
    let sources = Sources::new(None, environment).unwrap();
    let config = resolve::resolve(&sources, Overrides::default()).unwrap();
    assert_eq!((config.apps[0].sdk_app_id, config.apps[0].ultimate), (7, false));
    assert_eq!(
        config.apps[0].keys.iter().map(Secret::expose).collect::<Vec<_>>(),
        [&b"hunter2"[..], b"older"]
    );
}

#[test]
fn a_variable_that_is_not_ours_is_listed_and_one_of_ours_must_fit() {
    let ignored = [("SIDENOTE_PORT", "tcp://10.0.0.1:7780"), ("SIDENOTE_SERVICE_HOST", "10.0.0.1")];
    let config = with_environment(APP, &ignored, Overrides::default()).unwrap();
    assert_eq!(config.ignored_variables, ["SIDENOTE_PORT", "SIDENOTE_SERVICE_HOST"]);

    for (name, value, message) in [
        (
            "SIDENOTE_LIMITS__KEY_BITES",
            "5",
            "unknown key; known here: pairs_per_request, pairs_per_message, key_bytes, value_bytes, \
             pairs_per_pull, tombstones_per_message, attempts_per_minute, calls_per_second, members_per_group, \
             message_body_bytes, group_name_bytes, introduction_bytes, notification_bytes, face_url_bytes, \
             name_card_bytes",
        ),
        ("SIDENOTE_LIMITS__KEY_BYTES", "many", "expected a whole number, found a text"),
        ("SIDENOTE_LIMITS__KEY_BYTES", "-1", "expected a whole number, found a negative one"),
        ("SIDENOTE_LIMITS__KEY_BYTES", "513", "limits.key_bytes: 513 is too large; the most is 512"),
        (
            "SIDENOTE_STORE__PATH",
            "2024",
            "expected a text, found a whole number; put it between double quotes if it is meant as a text",
        ),
        // Without the comma the parser takes all that follows for one text.
        (
            "SIDENOTE_APPS",
            "[{sdk_app_id=7 secret_key=\"hunter2\"}]",
            "at 0.sdk_app_id: expected a whole number, found a text",
        ),
        ("SIDENOTE_APPS", "hunter2", "expected a list, found a text"),
        ("SIDENOTE_APPS", "[hunter2]", "at 0: expected a table, found a text"),
        (
            "SIDENOTE_APPS",
            "[{sdk_app_id=7, key=\"hunter2\"}]",
            "at 0.key: unknown key; known here: sdk_app_id, secret_key, secret_key_file, previous_secret_keys, \
             admins, plan, webhook",
        ),
        ("SIDENOTE_APPS", "[{secret_key=\"hunter2\"}]", "at 0: `sdk_app_id` is missing"),
        (
            "SIDENOTE_APPS",
            "[]",
            "apps: no app is configured; add [[apps]] with sdk_app_id and secret_key or secret_key_file",
        ),
        (
            "SIDENOTE_LISTEN",
            "localhost",
            "listen: \"localhost\" is not an address; write an IP address and a port, such as 127.0.0.1:7780",
        ),
    ] {
        let error = with_environment(APP, &[(name, value)], Overrides::default()).unwrap_err().to_string();
        assert_eq!(error, format!("environment variable {name}: {message}"));
    }
    for odd in ["SIDENOTE___X", "SIDENOTE_LIMITS__", "SIDENOTE_LIMITS", "SIDENOTE_X__Y"] {
        let error = with_environment(APP, &[(odd, "hunter2")], Overrides::default()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("environment variable {odd}: ")), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf8_is_refused_by_name() {
    use std::os::unix::ffi::OsStringExt as _;
    let environment = [(OsString::from("SIDENOTE_LISTEN"), OsString::from_vec(vec![0xff]))];
    let error = Sources::new(None, environment).err().unwrap();
    assert_eq!(error.to_string(), "environment variable SIDENOTE_LISTEN: the value is not UTF-8");
}

#[test]
fn a_mistake_in_the_file_is_told_with_its_line() {
    let app = "[[apps]]\nsdk_app_id = 1\n";
    for (text, message) in [
        (
            "listen = \"127.0.0.1:1\"\nlisen = 3\n",
            ":2: lisen: unknown key; known here: listen, store, cluster, apps, limits, events, http, long_connection, tls, log, groups",
        ),
        (
            "[limits]\n\npairs = 3\n",
            ":3: limits.pairs: unknown key; known here: pairs_per_request, pairs_per_message, key_bytes, value_bytes, pairs_per_pull, tombstones_per_message, attempts_per_minute, calls_per_second, members_per_group, message_body_bytes, group_name_bytes, introduction_bytes, notification_bytes, face_url_bytes, name_card_bytes",
        ),
        (
            "[limit]\n",
            ":1: limit: unknown key; known here: listen, store, cluster, apps, limits, events, http, long_connection, tls, log, groups",
        ),
        ("[limits]\nkey_bytes = \"100\"\n", ":2: limits.key_bytes: expected a whole number, found a text"),
        ("[limits]\nkey_bytes = -1\n", ":2: limits.key_bytes: expected a whole number, found a negative one"),
        (
            "[limits]\nkey_bytes = 1.5\n",
            ":2: limits.key_bytes: expected a whole number, found a number with a fraction",
        ),
        ("[log]\nformat = true\n", ":2: log.format: expected a text, found true or false"),
        (
            "[groups]\ncommunity_extensions = 1\n",
            ":2: groups.community_extensions: expected true or false, found a whole number",
        ),
        (
            "[store]\nblock_cache_bytes = \"64 apples\"\n",
            ":2: store.block_cache_bytes: expected a number of bytes or a text such as \"64MiB\", found a text",
        ),
        (
            "[store]\nblock_cache_bytes = -5\n",
            ":2: store.block_cache_bytes: expected a number of bytes or a text such as \"64MiB\", found a negative one",
        ),
        ("store = 5\n", ":1: store: expected a table, found a whole number"),
        ("[[apps]]\nsecret_key = \"hunter2\"\n", ":1: apps[0]: `sdk_app_id` is missing"),
        (
            "[[apps]]\nsdk_app_id = 1\nsecret_kye = \"hunter2\"\n",
            ":3: apps[0].secret_kye: unknown key; known here: sdk_app_id, secret_key, secret_key_file, previous_secret_keys, admins, plan, webhook",
        ),
        (
            "[[apps]]\nsdk_app_id = 1\nsecret_key = [\"hunter2\"]\n",
            ":3: apps[0].secret_key: expected a text, found a list",
        ),
        (
            "[[apps]]\nsdk_app_id = 1\nprevious_secret_keys = \"hunter2\"\n",
            ":3: apps[0].previous_secret_keys: expected a list, found a text",
        ),
        ("apps = \"hunter2\"\n", ":1: apps: expected a list, found a text"),
        ("apps = [\"hunter2\"]\n", ":1: apps[0]: expected a table, found a text"),
        (app, ":1: apps[0]: there is no secret_key; give secret_key or secret_key_file"),
        (
            "[[apps]]\nsdk_app_id = 1\nsecret_key = \"\"\n",
            ":3: apps[0].secret_key: the secret is empty; give at least one character",
        ),
        (
            "[[apps]]\nsdk_app_id = 1\nsecret_key = \"hunter2\"\nsecret_key_file = \"k\"\n",
            ":4: apps[0].secret_key_file: secret_key is given too; keep one of the two",
        ),
        (
            "[[apps]]\nsdk_app_id = 0\nsecret_key = \"hunter2\"\n",
            ":2: apps[0].sdk_app_id: 0 is too small; the least is 1",
        ),
        (
            "[[apps]]\nsdk_app_id = 4294967296\nsecret_key = \"hunter2\"\n",
            ":2: apps[0].sdk_app_id: 4294967296 is too large; the most is 4294967295",
        ),
        (
            "[[apps]]\nsdk_app_id = 1\nsecret_key = \"hunter2\"\n[[apps]]\nsecret_key = \"x\"\nsdk_app_id = 1\n",
            ":6: apps[1].sdk_app_id: 1 is configured twice; give all its keys and admins in one place",
        ),
        (
            "[[apps]]\nsdk_app_id = 1\nsecret_key = \"hunter2\"\nadmins = []\n",
            ":4: apps[0].admins: the list is empty; name at least one UserID",
        ),
        (
            "[[apps]]\nsdk_app_id = 1\nsecret_key = \"hunter2\"\nadmins = [\"a\",\n \"\"]\n",
            ":5: apps[0].admins[1]: a UserID has 1 to 32 bytes and no control characters",
        ),
        (
            "[[apps]]\nsdk_app_id = 1\nsecret_key = \"hunter2\"\nadmins = [\"a\\n\"]\n",
            ":4: apps[0].admins[0]: a UserID has 1 to 32 bytes and no control characters",
        ),
        (
            "[[apps]]\nsdk_app_id = 1\nsecret_key = \"hunter2\"\nprevious_secret_keys = [\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\"]\n",
            ":4: apps[0].previous_secret_keys: more than 8 keys; drop those whose tickets have expired",
        ),
        ("", ": apps: no app is configured; add [[apps]] with sdk_app_id and secret_key or secret_key_file"),
    ] {
        assert_eq!(said(text), format!("sidenote.toml{message}"), "{text}");
    }
    // The words are those of the TOML parser; the place is ours.
    assert!(said("\n\nlisten = \"hunter2\n").starts_with("sidenote.toml:3: not TOML: "));
    assert!(said("\n[[apps]\n").starts_with("sidenote.toml:2: not TOML: "));
    assert!(said("[log]\nlevel = \"info\"\nlevel = \"info\"\n").starts_with("sidenote.toml:3: not TOML: "));
}

#[test]
fn a_value_out_of_range_is_told_with_its_line_and_its_limit() {
    for (text, message) in [
        (
            "listen = \"7780\"",
            "1: listen: \"7780\" is not an address; write an IP address and a port, such as 127.0.0.1:7780",
        ),
        (
            "[store]\nengine = \"sqlite\"",
            "2: store.engine: there is no store engine called \"sqlite\"; use \"embedded\" or \"postgres\"",
        ),
        ("[store]\npath = \"\"", "2: store.path: the path is empty; name the folder for the data"),
        ("[store]\nqueue_length = 0", "2: store.queue_length: 0 is too small; the least is 1"),
        ("[limits]\npairs_per_request = 0", "2: limits.pairs_per_request: 0 is too small; the least is 1"),
        (
            "[limits]\npairs_per_request = 201",
            "2: limits.pairs_per_request: 201 is too large; the most is 200",
        ),
        ("[limits]\npairs_per_pull = 1001", "2: limits.pairs_per_pull: 1001 is too large; the most is 1000"),
        (
            "[limits]\npairs_per_message = 10001",
            "2: limits.pairs_per_message: 10001 is too large; the most is 10000",
        ),
        ("[limits]\nvalue_bytes = 16385", "2: limits.value_bytes: 16385 is too large; the most is 16384"),
        (
            "[limits]\npairs_per_pull = 19",
            "1: limits.pairs_per_request: 20 is more than limits.pairs_per_pull (19); what one request writes must fit on one page (rule 3.7)",
        ),
        (
            "[limits]\npairs_per_message = 10000",
            "2: limits.pairs_per_message: a message may come to 38356000 bytes in one commit where 33554432 are possible (rule 3.7, compaction); lower limits.pairs_per_message, value_bytes, key_bytes, tombstones_per_message or pairs_per_request",
        ),
        ("[http]\nbody_bytes = 1023", "2: http.body_bytes: 1023 is too small; the least is 1024"),
        ("[http]\nheader_timeout_ms = 0", "2: http.header_timeout_ms: 0 is too small; the least is 1"),
        ("[events]\nkeep_hours = 0", "2: events.keep_hours: 0 is too small; the least is 1"),
        (
            "[events]\nkeep_per_conversation = 999",
            "2: events.keep_per_conversation: 999 is too small; the least is 1000",
        ),
        ("[tls]\ncertificate = \"c.pem\"", "2: tls.certificate: tls.key is missing; give both or none"),
        ("[tls]\nkey = \"k.pem\"", "2: tls.key: tls.certificate is missing; give both or none"),
        (
            "[log]\nformat = \"xml\"",
            "2: log.format: there is no format called \"xml\"; use \"human\" or \"json\"",
        ),
    ] {
        assert_eq!(said(&format!("{text}\n{APP}")), format!("sidenote.toml:{message}"));
    }
    assert!(said(&format!("[log]\nlevel = \"a=b=c\"\n{APP}")).starts_with("sidenote.toml:2: log.level: "));
}

#[test]
fn a_key_file_gives_its_text_without_the_line_feed_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let text = format!("[[apps]]\nsdk_app_id = 1\nsecret_key_file = {path:?}\n");
    for (content, key) in [
        ("hunter2\n", "hunter2"),
        ("hunter2\r\n", "hunter2"),
        (" hunter2 \n\n", " hunter2 \n"),
        ("hunter2", "hunter2"),
    ] {
        std::fs::write(&path, content).unwrap();
        assert_eq!(from_file(&text).unwrap().apps[0].keys[0].expose(), key.as_bytes());
    }
    for (content, problem) in [
        (&b"\n"[..], "the secret is empty"),
        (b"\xff\n", "cannot read"),
        (&vec![b'x'; 1024 * 1024 + 1], "cannot read"),
    ] {
        std::fs::write(&path, content).unwrap();
        let message = said(&text);
        assert!(
            message.starts_with("sidenote.toml:3: apps[0].secret_key_file: ") && message.contains(problem),
            "{message}"
        );
    }
    std::fs::remove_file(&path).unwrap();
    let message = said(&text);
    assert!(message.contains(path.to_str().unwrap()) && message.contains("No such file"), "{message}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.toml");
    let error = Config::load(Some(&path), Overrides::default()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: cannot read the configuration: ", path.display())), "{error}");

    std::fs::write(&path, APP).unwrap();
    assert_eq!(Config::load(Some(&path), Overrides::default()).unwrap().apps.len(), 1);
}

#[test]
fn a_configuration_prints_without_its_secrets() {
    let text = format!("{APP}previous_secret_keys = [\"hunter2-older\"]\n");
    let printed = format!("{:?}", Config::from_toml(&text).unwrap());
    assert!(printed.contains("Secret(****)") && !printed.contains("hunter2"), "{printed}");
}

#[test]
fn every_file_with_a_secret_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, mode| {
        let path = folder.path().join(name);
        std::fs::write(&path, "postgres://db").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    };
    let names = ["a-key", "b-token", "c-url", "d-tls"];
    for mode in [0o600, 0o644] {
        let [key, token, url, tls] = names.map(|name| file(name, mode));
        let config = from_file(&format!(
            "[store]\nengine = \"postgres\"\nurl_file = {url:?}\n[tls]\ncertificate = \"c.pem\"\nkey = {tls:?}\n\
             [[apps]]\nsdk_app_id = 1\nsecret_key_file = {key:?}\n\
             [apps.webhook]\nurl = \"https://example.com\"\ntoken_file = {token:?}\n"
        ));
        let exposed = if mode == 0o644 { vec![key, token, url, tls] } else { Vec::new() };
        assert_eq!(config.unwrap().exposed_files, exposed);
    }
}
