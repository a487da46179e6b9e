//! `sidenote`: the server and what one needs around it, in one binary.

mod cli;

mod client;
mod control;
mod credentials;
mod failure;
mod letters;
mod progress;
mod signals;
mod storage;

use std::process::ExitCode;

use clap::Parser as _;

// A request's memory is taken by the thread that reads it and given back by the one that commits it. The system's
// allocator guards that with locks; without them a set took 62 us of processor time in place of 87
// (docs/performance.md, "What was tried").
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}
