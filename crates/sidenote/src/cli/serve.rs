//! `sidenote serve`: the server, until it is told to stop.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use sidenote_server::clock::SystemClock;
use sidenote_server::config::{Config, Overrides};
use sidenote_server::webhooks::DeadLetters;
use sidenote_server::{Drained, Server, StartError, telemetry};
use sidenote_store::Store;
use tokio::runtime::Handle;

use crate::control::Control;
use crate::credentials;
use crate::signals::Signals;
use crate::storage::{self, Opened};

/// Serve the API until SIGTERM or Ctrl-C, which lets running requests finish
#[derive(Args)]
#[command(after_help = "\
Example: sidenote serve --config sidenote.toml --listen 0.0.0.0:7780

Log lines go to standard error; the one that says \"listening on\" comes when requests are answered.
A second signal while running requests finish ends the server at once.")]
pub(crate) struct Serve {
    /// Configuration file; docs/config.md lists its options
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// IP address and port to listen on, instead of `listen` in the file; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Folder of the data, instead of `store.path` in the file; only for the embedded store
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let Self { config, listen, data } = self;
        let config = Config::load(Some(&config), Overrides { listen, data })?;
        telemetry::init(&config.log)?;
        for variable in config.ignored_variables.iter().filter(|name| *name != credentials::VARIABLE) {
            tracing::warn!(variable, "this environment variable is no option and was ignored");
        }
        for path in &config.exposed_files {
            tracing::warn!(path = %path.display(), "everybody on this machine may read this secret; take that away with chmod o=");
        }
        runtime()?.block_on(serve(&config))
    }
}

/// The runtime that a server runs on.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start worker threads")
}

/// Why the server did not start, and what to do about it where the port is not to be had.
pub(super) fn explain(error: StartError) -> anyhow::Error {
    match advice(&error) {
        // The outermost text is shown first, and this one names the address.
        Some(advice) => {
            let sentence = format!("{error}; {advice}");
            anyhow::Error::new(error).context(sentence)
        }
        None => error.into(),
    }
}

async fn serve(config: &Config) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen(false)?;
    let Opened { store, files } = storage::open(config).await?;
    let server = match Server::start(config, Arc::clone(&store), Arc::new(SystemClock)).await {
        Ok(server) => server,
        Err(error) => {
            store.close().await;
            return Err(explain(error));
        }
    };
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let control = files.map(|files| control(config, &store, files)).transpose()?.flatten();
    tracing::info!("listening on {scheme}://{}", server.local_addr());

    let signal = signals.next().await;
    tracing::info!(signal, "stopping: running requests are finished");
    if let Some(control) = control {
        control.stop();
    }
    let Drained { cut } = signals.unless_pressed(server.stop(), || {}).await;
    tracing::info!(cut, "stopped");
    Ok(ExitCode::SUCCESS)
}

/// A server that cannot be backed up while it runs is still a server.
fn control(
    config: &Config,
    store: &Arc<dyn Store>,
    storage::Files { folder, snapshots }: storage::Files,
) -> anyhow::Result<Option<Control>> {
    let letters = DeadLetters::new(config, Arc::clone(store), Arc::new(SystemClock))?;
    Ok(match Control::listen(&folder, snapshots, letters, Handle::current()) {
        Ok(control) => Some(control),
        Err(error) => {
            tracing::warn!(
                error = format!("{error:#}"),
                "no backup can be taken while this server runs, because its control socket could not be made"
            );
            None
        }
    })
}

fn advice(error: &StartError) -> Option<&'static str> {
    let StartError::Listen(refused) = error else { return None };
    match refused.source.kind() {
        io::ErrorKind::AddrInUse => {
            Some("another program has the port: stop it, or choose another one with --listen")
        }
        io::ErrorKind::AddrNotAvailable => {
            Some("this machine does not have the address: choose one of its own with --listen")
        }
        io::ErrorKind::PermissionDenied => Some("choose a port above 1023 with --listen"),
        _ => None,
    }
}
