//! Who signs: an app and its secret key, from flags, a file, the environment or the server's configuration.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use sidenote_core::ids::UserId;
use sidenote_server::config::{Config, Overrides, Secret};

use crate::failure::Usage;

/// The variable that holds a secret key for those who want it neither on the command line nor in a file.
pub(crate) const VARIABLE: &str = "SIDENOTE_SECRET_KEY";

/// More than any key needs, and little enough to read a wrong file (a device, say) without harm.
const MAX_KEY_FILE_BYTES: u64 = 64 * 1024;

/// How an app is named and how its key is found.
#[derive(Args)]
pub(crate) struct CredentialArgs {
    /// SDKAppID; with --config only needed where the file has several apps
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    app: Option<u32>,
    /// Secret key of the app. Other users of this machine can see it while the command runs; --key-file,
    /// --config and the environment variable `SIDENOTE_SECRET_KEY` do not show it
    #[arg(long, value_name = "K", conflicts_with_all = ["key_file", "config"])]
    key: Option<String>,
    /// File with the secret key; a line end after it is not part of the key
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    key_file: Option<PathBuf>,
    /// Configuration of the server, for the app and its key
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// An app, the key it signs with, and the configuration it was taken from, if it was.
pub(crate) struct Credentials {
    pub(crate) app: u32,
    pub(crate) key: Secret,
    pub(crate) config: Option<Config>,
}

impl CredentialArgs {
    /// Finds the app and its key.
    pub(crate) fn resolve(self) -> anyhow::Result<Credentials> {
        if let Some(path) = &self.config {
            return from_config(path, self.app);
        }
        let Some(app) = self.app else {
            return Err(Usage::error(
                "which app signs? give --app N with --key-file FILE (or --key K, or the environment variable \
                 SIDENOTE_SECRET_KEY), or --config FILE",
            ));
        };
        let key = match (self.key, &self.key_file) {
            (Some(key), _) => secret(key, "--key")?,
            (None, Some(path)) => from_file(path)?,
            (None, None) => from_environment(std::env::var_os(VARIABLE))?,
        };
        Ok(Credentials { app, key, config: None })
    }
}

impl Credentials {
    /// The user that a call is made as if none is named: the first administrator.
    pub(crate) fn administrator(&self) -> String {
        let configured =
            self.config.iter().flat_map(|config| &config.apps).find(|app| app.sdk_app_id == self.app);
        configured
            .and_then(|app| app.admins.first())
            .map_or_else(|| "administrator".to_owned(), String::clone)
    }
}

/// For clap: a UserID that the server can accept.
pub(crate) fn user_id(raw: &str) -> Result<String, String> {
    match UserId::new(raw) {
        Ok(user) => Ok(user.as_str().to_owned()),
        Err(_) => Err(format!("a UserID has 1 to {} bytes and no control characters", UserId::MAX_BYTES)),
    }
}

fn from_config(path: &Path, app: Option<u32>) -> anyhow::Result<Credentials> {
    let config = Config::load(Some(path), Overrides::default())?;
    let known = || config.apps.iter().map(|app| app.sdk_app_id.to_string()).collect::<Vec<_>>().join(", ");
    let found = match (app, config.apps.as_slice()) {
        (None, [only]) => only,
        (None, _) => {
            let sentence = format!("{} has several apps; choose one with --app: {}", path.display(), known());
            return Err(Usage::error(sentence));
        }
        (Some(app), apps) => {
            apps.iter().find(|configured| configured.sdk_app_id == app).ok_or_else(|| {
                Usage::error(format!("{} has no app {app}; it has {}", path.display(), known()))
            })?
        }
    };
    // The first key is the current one; those it replaced are only there to verify.
    let (app, key) = (found.sdk_app_id, found.keys[0].clone());
    Ok(Credentials { app, key, config: Some(config) })
}

fn from_file(path: &Path) -> anyhow::Result<Secret> {
    let unreadable = || format!("cannot read the secret key from {}", path.display());
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_KEY_FILE_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| Usage::error(error.to_string()))
        .with_context(unreadable)?;
    if text.len() as u64 > MAX_KEY_FILE_BYTES {
        let sentence = format!("the file is longer than {MAX_KEY_FILE_BYTES} bytes, which no key is");
        return Err(Usage::error(sentence)).with_context(unreadable);
    }
    // The same end of line as the server takes off a `secret_key_file`.
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    secret(text, &path.display().to_string())
}

fn from_environment(value: Option<OsString>) -> anyhow::Result<Secret> {
    let Some(value) = value else {
        return Err(Usage::error(format!(
            "which key signs? give --key-file FILE, --config FILE or --key K, or set {VARIABLE}"
        )));
    };
    let text = value
        .into_string()
        .map_err(|_| Usage::error(format!("the environment variable {VARIABLE} is not UTF-8")))?;
    secret(text, VARIABLE)
}

fn secret(text: String, from: &str) -> anyhow::Result<Secret> {
    Secret::new(text).map_err(|empty| Usage::error(format!("{from}: {empty}")))
}
