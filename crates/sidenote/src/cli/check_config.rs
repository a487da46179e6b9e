//! `sidenote check-config`: would the server start with this file?

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use sidenote_server::config::{Config, Overrides, Postgres, Store};
use sidenote_server::listener::Tls;

use crate::credentials;
use crate::storage;

/// Read a configuration as `serve` would, and say what is wrong with it or what it means
#[derive(Args)]
#[command(after_help = "\
Example: sidenote check-config sidenote.toml

Variables SIDENOTE_… of the environment count as they do for serve. Secrets are never shown.")]
pub(crate) struct CheckConfig {
    /// Configuration file; docs/config.md lists its options
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl CheckConfig {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let config = Config::load(Some(&self.file), Overrides::default())?;
        if let Some(files) = &config.tls {
            Tls::load(files)?;
        }
        if let Store::Postgres(options) = &config.store {
            storage::postgres::check(options, &config.cluster)?;
        }
        let mut output = std::io::stdout().lock();
        write!(output, "{} is fine\n{}", self.file.display(), summary(&config))?;
        output.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}

fn summary(config: &Config) -> String {
    let mut lines = String::new();
    let mut line =
        |text: String| writeln!(lines, "  {text}").expect("a String takes whatever is written to it");
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    line(format!("listens on {scheme}://{}", config.listen));
    match &config.store {
        Store::Embedded(embedded) => line(format!("keeps its data in {}", embedded.path.display())),
        Store::Postgres(Postgres { connections, .. }) => line(format!(
            "keeps its data in a PostgreSQL database, over {connections} connections at most; \
             `sidenote migrate --check` says whether that can be reached"
        )),
    }
    for app in &config.apps {
        let plan = if app.ultimate { "" } else { ", plan without extensions" };
        let keys = app.keys.len();
        let keys = format!("{keys} secret key{}", if keys == 1 { "" } else { "s" });
        line(format!("app {}: {keys}, administered by {}{plan}", app.sdk_app_id, app.admins.join(", ")));
    }
    for variable in config.ignored_variables.iter().filter(|name| *name != credentials::VARIABLE) {
        line(format!("the environment variable {variable} is no option and is ignored"));
    }
    for path in &config.exposed_files {
        line(format!("warning: everybody on this machine may read {0}; chmod o= {0}", path.display()));
    }
    lines
}
