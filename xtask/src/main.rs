//! Chores of this repository, run as `cargo xtask <chore>`.
//!
//! * `tidy` checks what compiler and linter do not: file sizes and names, error codes against their
//!   document, links, leftovers, the direction of the arrows between crates.
//! * `bench-report RECORDS FOLDER` turns what `bench/run.sh` recorded into tables, a result file and pictures.

mod bench_report;
mod tidy;

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask tidy
       cargo xtask bench-report RECORDS.jsonl FOLDER";

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
        ["bench-report", records, folder] => bench_report::run(Path::new(records), Path::new(folder)),
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
