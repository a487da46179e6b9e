//! The command line: one file for each subcommand.

mod backup;
mod call;
mod check;
mod check_config;
mod demo;
mod export;
mod import;
mod migrate;
mod origin;
mod restore;
mod serve;
mod usersig;
mod watch;
mod webhooks;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Self-hosted server for message extensions: versioned key-value pairs on chat messages.
#[derive(Parser)]
#[command(
    name = "sidenote",
    version,
    arg_required_else_help = true,
    after_help = "Example: sidenote demo\n\nExit codes: 0 done, 1 it did not work, 2 wrong usage or configuration."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Demo),
    Serve(serve::Serve),
    Usersig(usersig::UserSig),
    Call(call::Call),
    Watch(watch::Watch),
    CheckConfig(check_config::CheckConfig),
    Backup(backup::Backup),
    Restore(restore::Restore),
    Check(check::Check),
    Export(export::Export),
    Import(import::Import),
    Webhooks(webhooks::Webhooks),
    Migrate(migrate::Migrate),
}

impl Cli {
    /// Does what was asked for. The code is that of an answer; what went wrong is an error.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Demo(demo) => demo.run(),
            Command::Serve(serve) => serve.run(),
            Command::Usersig(usersig) => usersig.run(),
            Command::Call(call) => call.run(),
            Command::Watch(watch) => watch.run(),
            Command::CheckConfig(check) => check.run(),
            Command::Backup(backup) => backup.run(),
            Command::Restore(restore) => restore.run(),
            Command::Check(check) => check.run(),
            Command::Export(export) => export.run(),
            Command::Import(import) => import.run(),
            Command::Webhooks(webhooks) => webhooks.run(),
            Command::Migrate(migrate) => migrate.run(),
        }
    }
}
