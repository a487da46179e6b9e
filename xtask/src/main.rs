//! Chores of this repository, run as `cargo xtask <chore>`.
//!
//! * `tidy` checks what compiler and linter do not: file sizes and names, error codes against their
//!   document, links, leftovers, the direction of the arrows between crates.
//! * `bench-report RUNS OUT` turns the lines that `bench/run.sh` collected into a table and a result file.

mod bench_report;
mod tidy;

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask tidy
       cargo xtask bench-report RUNS.jsonl OUT.json";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["tidy"] => tidy::run(&repository_root()?),
        ["bench-report", runs, out] => bench_report::run(Path::new(runs), Path::new(out)),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("no such chore\n{USAGE}"),
    }
}

/// The folder that holds the workspace, wherever in it the chore was started.
fn repository_root() -> Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = package.parent().context("the xtask package does not lie in a workspace")?;
    Ok(root.to_path_buf())
}
