//! Ctrl-C and SIGTERM: no server and no data may stay behind.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::process;

/// The exit code of a process that was interrupted, by convention.
const INTERRUPTED: i32 = 130;

/// From now on the first of these signals ends all servers, removes `folder` and ends this process.
pub(crate) fn clean_up_on_signals(folder: &Path) -> Result<()> {
    let folder = folder.to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot wait for signals")?;
    let signals = runtime.block_on(async {
        Ok::<_, std::io::Error>((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
    });
    let (mut interrupt, mut terminate) = signals.context("cannot wait for signals")?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        eprintln!("bench: interrupted; ending the servers and removing the data");
        process::kill_all();
        // What cannot be removed now is in the build folder and named like it.
        drop(fs::remove_dir_all(&folder));
        std::process::exit(INTERRUPTED);
    });
    Ok(())
}
