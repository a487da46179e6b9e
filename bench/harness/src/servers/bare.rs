//! The bare server: the product's requests and answers, and nothing behind them.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::Result;

use super::Server;
use super::product::{Head, check_envelope, write_body};
use crate::dialect::{Dialect, Learned, write_post};
use crate::process::{Process, answers_on, free_port};
use crate::workload::{Action, Request, Source, Versions};

/// Pairs of an ordinary message, for which the bare server has a path of its own.
const FEW: u32 = 20;

pub(super) fn start(bin: &Path, folder: &Path) -> Result<Server> {
    let port = free_port()?;
    let mut process = Process::start("bare", folder, Command::new(bin.join("bare")).arg(port.to_string()))?;
    process.wait_until(|| answers_on(port))?;
    let head = |path| Head::padded(path, port);
    let dialect = Bare { set: head("/set"), pull: head("/pull"), wide_pull: head("/wide-pull") };
    Ok(Server::http("bare", vec![process], Arc::new(dialect), port, false))
}

/// Bodies as for the product. It keeps nothing, so versions mean nothing to it.
struct Bare {
    set: Head,
    pull: Head,
    wide_pull: Head,
}

impl Dialect for Bare {
    fn write(&self, request: Request, versions: &Versions, source: &mut Source, out: &mut Vec<u8>) {
        let head = match request.action {
            Action::Set { .. } => &self.set,
            Action::Pull { pairs: ..=FEW } => &self.pull,
            Action::Pull { .. } => &self.wide_pull,
        };
        let mut body = Vec::with_capacity(256);
        write_body(request, versions, source, &mut body);
        write_post(&head.0, &body, out);
    }

    fn check(&self, request: Request, body: &[u8], thorough: bool) -> Result<Learned, String> {
        check_envelope(request, body, thorough).map(|_| Learned::Nothing)
    }
}
