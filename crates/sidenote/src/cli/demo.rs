//! `sidenote demo`: a server with something in it, a live poll for browsers, and `curl` lines to paste.

mod folder;
mod live_poll;
mod seed;
mod transcript;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use sidenote_server::clock::SystemClock;
use sidenote_server::config::Config;
use sidenote_server::{Server, StartError, telemetry};
use sidenote_store::Store;

use super::serve::{explain, runtime};
use crate::client::{Client, local_url};
use crate::signals::Signals;
use crate::storage;

use folder::Folder;

/// Start a server with a group and a live poll in it, and print its address and curl lines that work when pasted
#[derive(Args)]
#[command(after_help = "\
Example: sidenote demo

Ctrl-C ends it. What it keeps is thrown away then, unless --data names a folder for it; the next demo on that
folder goes on where this one ended.")]
pub(crate) struct Demo {
    /// Folder to keep, instead of a throw-away one
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// IP address and port to listen on; by default port 7780, or a free one where that is taken
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

impl Demo {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let folder = Folder::open(self.data)?;
        let mut config = folder.config()?;
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        telemetry::init(&config.log)?;
        // The runtime is gone before the folder is, so that nothing can be written there any more.
        runtime()?.block_on(demonstrate(config, self.listen.is_none(), &folder))?;
        folder.leave()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Serves until a signal comes. With `any_port` a port that is taken is replaced by a free one.
async fn demonstrate(config: Config, any_port: bool, folder: &Folder) -> anyhow::Result<()> {
    let mut signals = Signals::listen(true)?;
    let store = storage::open(&config).await?.store;
    let server = match start(&config, any_port, &store).await {
        Ok(server) => server,
        Err(error) => {
            store.close().await;
            return Err(error);
        }
    };
    // `true`: everything was told, and now it is up to the user to end the demo.
    let told = tokio::select! {
        told = tell(&config, any_port, &server, folder) => told.map(|()| true),
        _ = signals.next() => Ok(false),
    };
    if matches!(told, Ok(true)) {
        signals.next().await;
    }
    signals.unless_pressed(server.stop(), || folder.leave_at_once()).await;
    told.map(|_| ())
}

/// Starts the server; with `any_port` on a free port if the configured one is taken.
async fn start(config: &Config, any_port: bool, store: &Arc<dyn Store>) -> anyhow::Result<Server> {
    let start = async |config: &Config| {
        let pages = config.apps.first().map(live_poll::pages).unwrap_or_default();
        Server::start_with_pages(config, Arc::clone(store), Arc::new(SystemClock), pages).await
    };
    let mut config = config.clone();
    match start(&config).await {
        Err(StartError::Listen(refused)) if any_port && refused.source.kind() == io::ErrorKind::AddrInUse => {
            config.listen.set_port(0);
            start(&config).await
        }
        started => started,
    }
    .map_err(explain)
}

/// Fills the store through the server's own door and prints what can be done with it.
async fn tell(config: &Config, any_port: bool, server: &Server, folder: &Folder) -> anyhow::Result<()> {
    let address = server.local_addr();
    let app = config.apps.first().context("a configuration has at least one app")?;
    let administrator = app.admins.first().context("an app has at least one administrator")?.clone();
    let client = Client::new(&local_url(address, false), app.sdk_app_id, app.keys[0].clone(), None)?;
    let filling = tokio::task::spawn_blocking(move || {
        let poll = seed::fill(&client, &administrator)?;
        Ok::<_, anyhow::Error>(transcript::text(&client, &administrator, &poll))
    });
    let transcript = filling.await.context("filling the store panicked")?.context("cannot fill the demo")?;

    let mut output = io::stdout().lock();
    if any_port && address.port() != config.listen.port() {
        writeln!(
            output,
            "Port {} is taken by another program, so this demo listens on port {}.\n",
            config.listen.port(),
            address.port()
        )?;
    }
    writeln!(output, "{transcript}\n{}", folder.farewell())?;
    output.flush()?;
    Ok(())
}
