//! `sidenote webhooks`: what could not be told by webhook.

use std::io::{BufRead as _, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use sidenote_server::clock::SystemClock;
use sidenote_server::config::{Config, Overrides};
use sidenote_server::webhooks::{DeadLetters, LetterId};

use super::serve::runtime;
use crate::control;
use crate::failure::Usage;
use crate::letters::{Deed, MAX_NAMED, Request, carry_out};
use crate::storage;

/// Longest line that a server says: a dead letter's body, in one line.
const MAX_LINE_BYTES: u64 = 64 * 1024 * 1024;

/// Look at, send again or forget what could not be told by webhook
#[derive(Args)]
#[command(after_help = "\
Example: sidenote webhooks list --config sidenote.toml

A running server is asked; run this as the user that it runs as. Without one the store is opened; one in PostgreSQL is
opened in any case. docs/webhooks.md says
what becomes a dead letter and when.")]
pub(crate) struct Webhooks {
    #[command(subcommand)]
    deed: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the dead letters of an app, those of a conversation in the order of their events
    List(All),
    /// Show dead letters with what would be sent
    Show(These),
    /// Send dead letters again; each that is taken is gone
    Replay(These),
    /// Forget dead letters
    Discard(These),
}

#[derive(Args)]
struct All {
    /// Configuration of the server
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Folder of the data, instead of `store.path` in the file
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// SDKAppID; may be left out if the configuration has one app
    #[arg(long, value_name = "N")]
    app: Option<u32>,
}

#[derive(Args)]
struct These {
    #[command(flatten)]
    of: All,
    /// Names of dead letters, as `sidenote webhooks list` shows them
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<LetterId>,
    /// All dead letters of the app
    #[arg(long)]
    all: bool,
}

impl Webhooks {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let (deed, of, named) = match self.deed {
            Command::List(of) => (Deed::List, of, None),
            Command::Show(these) => (Deed::Show, these.of, Some((these.ids, these.all))),
            Command::Replay(these) => (Deed::Replay, these.of, Some((these.ids, these.all))),
            Command::Discard(these) => (Deed::Discard, these.of, Some((these.ids, these.all))),
        };
        if named.as_ref().is_some_and(|(ids, _)| ids.len() > MAX_NAMED) {
            return Err(Usage::error(format!("more than {MAX_NAMED} dead letters are named; use --all")));
        }
        let letters = named.filter(|(_, all)| !all).map(|(ids, _)| ids.into_iter().collect());
        let config = Config::load(Some(&of.config), Overrides { listen: None, data: of.data })?;
        let request = Request { deed, app: app(&config, of.app)?, letters };
        let mut output = std::io::stdout().lock();
        let server = match config.store.folder() {
            Some(folder) => control::letters_of(folder, &request)?,
            None => None,
        };
        let worked = match server {
            Some(lines) => relay(lines, &mut output)?,
            None => on_store(&config, &request, &mut output)?,
        };
        output.flush()?;
        Ok(if worked { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn app(config: &Config, named: Option<u32>) -> anyhow::Result<u32> {
    match (named, &config.apps[..]) {
        (Some(app), apps) if apps.iter().any(|of| of.sdk_app_id == app) => Ok(app),
        (Some(app), _) => Err(Usage::error(format!("the configuration has no app {app}"))),
        (None, [only]) => Ok(only.sdk_app_id),
        (None, _) => Err(Usage::error("the configuration has several apps; name one with --app")),
    }
}

/// Passes on what a server says. Its last line says how it went.
fn relay(mut lines: impl std::io::BufRead, output: &mut impl std::io::Write) -> anyhow::Result<bool> {
    let mut line = String::new();
    loop {
        line.clear();
        lines
            .by_ref()
            .take(MAX_LINE_BYTES)
            .read_line(&mut line)
            .context("the server gave no answer in time")?;
        match line.split_at_checked(2) {
            Some(("| ", text)) => output.write_all(text.as_bytes())?,
            Some(("= ", "done\n")) => return Ok(true),
            Some(("= ", "failed\n")) => return Ok(false),
            Some(("! ", problem)) => bail!("{}", problem.trim_end()),
            _ => bail!("the server is busy with other operators or stopping; try again later"),
        }
    }
}

/// Does it on a store in a folder that no server uses, or in a database, which any number of processes may use.
fn on_store(config: &Config, request: &Request, output: &mut impl std::io::Write) -> anyhow::Result<bool> {
    if let Some(folder) = config.store.folder().filter(|folder| storage::is_vacant(folder)) {
        return Err(Usage::error(format!("there is no store in {}", folder.display())));
    }
    let runtime = runtime()?;
    let store = runtime.block_on(storage::open(config))?.store;
    let letters = DeadLetters::new(config, Arc::clone(&store), Arc::new(SystemClock))?;
    let outcome = carry_out(request, &letters, runtime.handle(), output);
    runtime.block_on(store.close());
    outcome
}
