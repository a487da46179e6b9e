//! The signals that ask a process to end.

use std::process;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT (Ctrl-C), SIGTERM and, for a process that belongs to its terminal, SIGHUP.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Option<Signal>,
}

impl Signals {
    /// Takes the signals over, so that from now on none of them ends the process by itself. A process that
    /// should outlive its terminal leaves SIGHUP as it is.
    pub(crate) fn listen(ends_with_terminal: bool) -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: ends_with_terminal.then(|| listen(SignalKind::hangup())).transpose()?,
        })
    }

    /// Waits for the next one and gives its name.
    pub(crate) async fn next(&mut self) -> &'static str {
        let hang_up = async {
            match &mut self.hang_up {
                Some(hang_up) => hang_up.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = hang_up => "SIGHUP",
        }
    }

    /// Waits until `work` is done. Another signal means that somebody has no patience: `leave` runs, and the
    /// process ends at once with code 1.
    pub(crate) async fn unless_pressed<T>(
        &mut self,
        work: impl Future<Output = T>,
        leave: impl FnOnce(),
    ) -> T {
        tokio::select! {
            done = work => done,
            name = self.next() => {
                eprintln!("sidenote: {name} again, leaving at once");
                leave();
                process::exit(1)
            }
        }
    }
}
