//! What the server is told at start: one TOML file, overridden by the environment, overridden by flags.
//!
//! `raw` is what the user wrote, [`Config`] what the program means: numbers checked against their limits,
//! secrets read from their files, durations and sizes as types. Nothing else reads the environment.
//! `docs/config.md` lists every option.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod raw;
mod resolve;
mod secret;
mod sources;
mod store;
mod webhook;

pub use secret::{EmptySecret, Secret};
pub use sources::ConfigError;
use sources::Sources;
pub use store::{Cluster, Embedded, Postgres, Store};

use crate::webhooks::{Callback, Network, ReceiverUrl};

/// Everything that can be configured.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen. Port 0 lets the system choose one.
    pub listen: SocketAddr,
    /// Where the data is kept.
    pub store: Store,
    /// What nodes tell each other; only with a store that they share.
    pub cluster: Cluster,
    /// The apps that are served; at least one, each SDKAppID once.
    pub apps: Vec<App>,
    /// What one request, message or group may hold.
    pub limits: Limits,
    /// How long events are kept.
    pub events: Events,
    /// Limits below the API.
    pub http: Http,
    /// Limits of long connections.
    pub long_connection: LongConnection,
    /// Certificate and key; plain HTTP without them.
    pub tls: Option<Tls>,
    /// What is logged, and how.
    pub log: Log,
    /// Switches about groups.
    pub groups: Groups,
    /// Environment variables that begin as ours do and are not ours, such as those an orchestrator sets for a
    /// service called "sidenote". They are worth a line in the log: one of them may be a slip.
    pub ignored_variables: Vec<String>,
    /// Files with secrets that everybody on this machine may read, by their mode. They are worth a line in the log too.
    pub exposed_files: Vec<PathBuf>,
}

/// One of `[[apps]]`.
#[derive(Clone, Debug)]
pub struct App {
    /// The SDKAppID, never 0.
    pub sdk_app_id: u32,
    /// Keys that a ticket may be signed with: the current one, then those it replaced. Never empty.
    pub keys: Vec<Secret>,
    /// Who may do everything: at least one `UserID`, each of 1 to 32 bytes without control characters.
    pub admins: Vec<String>,
    /// Whether the plan is Ultimate; with any other the extension commands answer 10008 (rule 3.11).
    pub ultimate: bool,
    /// Whom it tells what happens; `None`: nobody.
    pub webhook: Option<Webhook>,
}

/// `[apps.webhook]`: where and how an app is told what happens (webhooks.md).
#[derive(Clone, Debug)]
pub struct Webhook {
    /// The receiver.
    pub url: ReceiverUrl,
    /// What requests are signed with.
    pub token: Option<Secret>,
    /// What is told and asked; never empty.
    pub commands: Vec<Callback>,
    /// Whether the operator and previous values are told, beyond the documented bodies.
    pub details: bool,
    /// Addresses that may be connected to although they are not public.
    pub allow_networks: Vec<Network>,
    /// Certificates that vouch for the receiver, instead of those of the machine.
    pub ca_file: Option<PathBuf>,
    /// For one request, from looking up the host to the end of the answer.
    pub timeout: Duration,
    /// Requests at a time, each of another conversation.
    pub parallel: usize,
    /// Before the second try.
    pub retry_first: Duration,
    /// Between two tries; the pause doubles until it is so long.
    pub retry_longest: Duration,
    /// Tries after which an event is given up; `None` is without limit.
    pub give_up_tries: Option<u32>,
    /// Age at which an event is given up if it fails once more.
    pub give_up: Duration,
    /// Whether what could not be asked about is refused (80003) rather than done.
    pub refuses_unasked: bool,
}

/// `[limits]`: rules 3.7 and 3.10, and the limits of groups and messages (groups-and-messages.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pairs that one request may name; never more than `pairs_per_pull`.
    pub pairs_per_request: u32,
    /// Live pairs that one message may hold.
    pub pairs_per_message: u32,
    /// Bytes of a key.
    pub key_bytes: u32,
    /// Bytes of a value.
    pub value_bytes: u32,
    /// Pairs on one page of a pull.
    pub pairs_per_pull: u32,
    /// Tombstones that a message may hold before it is compacted.
    pub tombstones_per_message: u32,
    /// Attempts on one message in a minute; `None` is without limit.
    pub attempts_per_minute: Option<u32>,
    /// Calls of one command by one app in a second; `None` is without limit.
    pub calls_per_second: Option<u32>,
    /// Members of a group.
    pub members_per_group: u32,
    /// Bytes of a message's body.
    pub message_body_bytes: u32,
    /// Bytes of a group's name.
    pub group_name_bytes: u32,
    /// Bytes of a group's introduction.
    pub introduction_bytes: u32,
    /// Bytes of a group's notification.
    pub notification_bytes: u32,
    /// Bytes of a group's face URL.
    pub face_url_bytes: u32,
    /// Bytes of a member's name card.
    pub name_card_bytes: u32,
}

/// `[events]`: an event is forgotten when either bound says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events {
    /// How many events one conversation keeps.
    pub keep_per_conversation: u64,
    /// How long an event is kept.
    pub keep: Duration,
    /// How many events one conversation keeps, whatever their age, until they are told by webhook.
    pub keep_untold_per_conversation: u64,
    /// How many dead letters one conversation keeps.
    pub keep_dead_letters_per_conversation: usize,
}

/// `[http]`: limits of connections and requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http {
    /// Bytes of a request body; more is answered with 413.
    pub body_bytes: usize,
    /// From the first byte of a request (of a connection: from its start) to the end of its head.
    pub header_timeout: Duration,
    /// From the end of the head to the end of the body.
    pub body_timeout: Duration,
    /// How long a connection may do nothing between two requests, or refuse to take an answer.
    pub idle_timeout: Duration,
    /// Connections at a time; more wait to be accepted.
    pub max_connections: usize,
    /// How long running requests may take after the signal to stop.
    pub drain_timeout: Duration,
    /// How many verified signatures are remembered; 0 is none.
    pub signature_cache: usize,
}

/// `[long_connection]`: limits of long connections, beside those of `[http]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongConnection {
    /// Bytes of a frame; more closes the connection with 1009.
    pub frame_bytes: usize,
    /// From the handshake to a login that succeeds.
    pub login_timeout: Duration,
    /// How long a client may send nothing at all. Published clients send a heartbeat every 10 seconds.
    pub idle_timeout: Duration,
    /// How long a client may take to accept what it is sent.
    pub write_timeout: Duration,
    /// Connections of one account that are logged in; one more kicks the oldest.
    pub logins_per_account: usize,
    /// Logins in a row that are refused before the connection is closed.
    pub refused_logins: u32,
    /// The longest that a login lasts without a new UserSig.
    pub session: Duration,
}

/// `[tls]`: PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, followed by the certificates that vouch for it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// For whom.
    pub format: LogFormat,
    /// A filter such as `info` or `info,sidenote_server=debug`; it has been parsed once.
    pub level: String,
}

/// For whom log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people, coloured on a terminal.
    Human,
    /// One JSON object on each line.
    Json,
}

/// `[groups]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Allows extensions in Community groups, which rule 3.11 refuses (message-extensions.md section 1).
    pub community_extensions: bool,
}

/// What flags of the command line say; they win over file and environment.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Instead of `listen`.
    pub listen: Option<SocketAddr>,
    /// Instead of `store.path`; refused where the store is no folder.
    pub data: Option<PathBuf>,
}

impl Config {
    /// Reads the file, if one is given, and the variables `SIDENOTE_…` of the environment.
    pub fn load(path: Option<&Path>, overrides: Overrides) -> Result<Self, ConfigError> {
        let sources = Sources::read(path, std::env::vars_os())?;
        resolve::resolve(&sources, overrides)
    }

    /// Takes the text for that of a file, and looks at no environment.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let sources = Sources::new(Some((Path::new("the configuration"), text.to_owned())), [])?;
        resolve::resolve(&sources, Overrides::default())
    }
}

#[cfg(test)]
mod documents;
#[cfg(test)]
mod tests;
