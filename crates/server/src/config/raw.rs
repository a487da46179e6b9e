//! What the user wrote: names, spelling and defaults of the options, nothing more.

use bytesize::ByteSize;
use serde::Deserialize;

/// The whole file. It prints nowhere, because it holds secrets.
#[derive(Clone, Deserialize)]
#[cfg_attr(test, derive(Debug, PartialEq, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    pub(super) listen: String,
    pub(super) store: Store,
    pub(super) cluster: Cluster,
    pub(super) apps: Vec<App>,
    pub(super) limits: Limits,
    pub(super) events: Events,
    pub(super) http: Http,
    pub(super) long_connection: LongConnection,
    pub(super) tls: Tls,
    pub(super) log: Log,
    pub(super) groups: Groups,
}

#[derive(Clone, Deserialize)]
#[cfg_attr(test, derive(Debug, PartialEq, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(super) struct Store {
    pub(super) engine: String,
    pub(super) path: String,
    pub(super) block_cache_bytes: ByteSize,
    pub(super) state_cache_bytes: ByteSize,
    pub(super) queue_length: u64,
    pub(super) batch_commands: u64,
    pub(super) reader_threads: u64,
    pub(super) url: Option<String>,
    pub(super) url_file: Option<String>,
    pub(super) connections: u64,
    pub(super) transaction_commands: u64,
    pub(super) statement_timeout_ms: u64,
    pub(super) lock_timeout_ms: u64,
    pub(super) ca: Option<String>,
}

#[derive(Clone, Deserialize)]
#[cfg_attr(test, derive(Debug, PartialEq, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(super) struct Cluster {
    pub(super) nats: Vec<String>,
    pub(super) poll_ms: u64,
    pub(super) lease_ms: u64,
}

#[derive(Clone, Deserialize)]
#[cfg_attr(test, derive(Debug, PartialEq, serde::Serialize))]
#[serde(deny_unknown_fields)]
pub(super) struct App {
    pub(super) sdk_app_id: u64,
    pub(super) secret_key: Option<String>,
    pub(super) secret_key_file: Option<String>,
    #[serde(default)]
    pub(super) previous_secret_keys: Vec<String>,
    #[serde(default = "default_admins")]
    pub(super) admins: Vec<String>,
    #[serde(default = "default_plan")]
    pub(super) plan: String,
    #[serde(default)]
    pub(super) webhook: Webhook,
}

#[derive(Clone, Deserialize, PartialEq)]
#[cfg_attr(test, derive(Debug, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(super) struct Webhook {
    pub(super) url: Option<String>,
    pub(super) token: Option<String>,
    pub(super) token_file: Option<String>,
    pub(super) commands: Option<Vec<String>>,
    pub(super) details: bool,
    pub(super) allow_networks: Vec<String>,
    pub(super) ca_file: Option<String>,
    pub(super) timeout_ms: u64,
    pub(super) parallel: u64,
    pub(super) retry_first_ms: u64,
    pub(super) retry_longest_ms: u64,
    pub(super) give_up_tries: u64,
    pub(super) give_up_hours: u64,
    pub(super) before_failure: String,
}

#[derive(Clone, Deserialize)]
#[cfg_attr(test, derive(Debug, PartialEq, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) pairs_per_request: u64,
    pub(super) pairs_per_message: u64,
    pub(super) key_bytes: u64,
    pub(super) value_bytes: u64,
    pub(super) pairs_per_pull: u64,
    pub(super) tombstones_per_message: u64,
    pub(super) attempts_per_minute: u64,
    pub(super) calls_per_second: u64,
    pub(super) members_per_group: u64,
    pub(super) message_body_bytes: ByteSize,
    pub(super) group_name_bytes: u64,
    pub(super) introduction_bytes: u64,
    pub(super) notification_bytes: u64,
    pub(super) face_url_bytes: u64,
    pub(super) name_card_bytes: u64,
}

#[derive(Clone, Deserialize)]
#[cfg_attr(test, derive(Debug, PartialEq, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_field_names, reason = "they are named as in the file")]
pub(super) struct Events {
    pub(super) keep_per_conversation: u64,
    pub(super) keep_hours: u64,
    pub(super) keep_untold_per_conversation: u64,
    pub(super) keep_dead_letters_per_conversation: u64,
}

#[derive(Clone, Deserialize)]
#[cfg_attr(test, derive(Debug, PartialEq, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(super) struct Http {
    pub(super) body_bytes: ByteSize,
    pub(super) header_timeout_ms: u64,
    pub(super) body_timeout_ms: u64,
    pub(super) idle_timeout_ms: u64,
    pub(super) max_connections: u64,
    pub(super) drain_timeout_ms: u64,
    pub(super) signature_cache: u64,
}

#[derive(Clone, Deserialize)]
#[cfg_attr(test, derive(Debug, PartialEq, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(super) struct LongConnection {
    pub(super) frame_bytes: ByteSize,
    pub(super) login_timeout_ms: u64,
    pub(super) idle_timeout_ms: u64,
    pub(super) write_timeout_ms: u64,
    pub(super) logins_per_account: u64,
    pub(super) refused_logins: u64,
    pub(super) session_hours: u64,
}

#[derive(Clone, Default, Deserialize)]
#[cfg_attr(test, derive(Debug, PartialEq, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tls {
    pub(super) certificate: Option<String>,
    pub(super) key: Option<String>,
}

#[derive(Clone, Deserialize)]
#[cfg_attr(test, derive(Debug, PartialEq, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub(super) format: String,
    pub(super) level: String,
}

#[derive(Clone, Default, Deserialize)]
#[cfg_attr(test, derive(Debug, PartialEq, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(super) struct Groups {
    pub(super) community_extensions: bool,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7780".to_owned(),
            store: Store::default(),
            cluster: Cluster::default(),
            apps: Vec::new(),
            limits: Limits::default(),
            events: Events::default(),
            http: Http::default(),
            long_connection: LongConnection::default(),
            tls: Tls::default(),
            log: Log::default(),
            groups: Groups::default(),
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            engine: "embedded".to_owned(),
            path: "./sidenote-data".to_owned(),
            block_cache_bytes: ByteSize::mib(64),
            state_cache_bytes: ByteSize::mib(256),
            queue_length: 4096,
            batch_commands: 1024,
            reader_threads: 2,
            url: None,
            url_file: None,
            connections: 16,
            transaction_commands: 128,
            statement_timeout_ms: 5000,
            lock_timeout_ms: 3000,
            ca: None,
        }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self { nats: Vec::new(), poll_ms: 1000, lease_ms: 10_000 }
    }
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            url: None,
            token: None,
            token_file: None,
            commands: None,
            details: false,
            allow_networks: Vec::new(),
            ca_file: None,
            timeout_ms: 2000,
            parallel: 8,
            retry_first_ms: 500,
            retry_longest_ms: 300_000,
            give_up_tries: 50,
            give_up_hours: 24,
            before_failure: "go on".to_owned(),
        }
    }
}

fn default_admins() -> Vec<String> {
    vec!["administrator".to_owned()]
}

fn default_plan() -> String {
    "ultimate".to_owned()
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pairs_per_request: 20,
            pairs_per_message: 300,
            key_bytes: 100,
            value_bytes: 1000,
            pairs_per_pull: 200,
            tombstones_per_message: 1000,
            attempts_per_minute: 200,
            calls_per_second: 0,
            members_per_group: 6000,
            message_body_bytes: ByteSize::kib(12),
            group_name_bytes: 30,
            introduction_bytes: 240,
            notification_bytes: 300,
            face_url_bytes: 100,
            name_card_bytes: 50,
        }
    }
}

impl Default for Events {
    fn default() -> Self {
        Self {
            keep_per_conversation: 10_000,
            keep_hours: 168,
            keep_untold_per_conversation: 100_000,
            keep_dead_letters_per_conversation: 1000,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            body_bytes: ByteSize::mib(1),
            header_timeout_ms: 10_000,
            body_timeout_ms: 10_000,
            idle_timeout_ms: 75_000,
            max_connections: 16_384,
            drain_timeout_ms: 10_000,
            signature_cache: 65_536,
        }
    }
}

impl Default for LongConnection {
    fn default() -> Self {
        Self {
            frame_bytes: ByteSize::kib(256),
            login_timeout_ms: 30_000,
            idle_timeout_ms: 120_000,
            write_timeout_ms: 10_000,
            logins_per_account: 10,
            refused_logins: 5,
            session_hours: 168,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: "human".to_owned(), level: "info,fjall=warn,lsm_tree=warn,async_nats=off".to_owned() }
    }
}
