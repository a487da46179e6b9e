//! `sidenote`: the server and what one needs around it, in one binary.

mod cli;

mod client;
mod control;
mod credentials;
mod failure;
mod progress;
mod signals;
mod storage;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}
