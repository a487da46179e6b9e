//! The bare server: the product's requests and answers, and nothing behind them.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::Result;

use super::Server;
use super::product::{Head, check_envelope, write_body};
use crate::dialect::{Dialect, Learned, excerpt, post_head, write_post};
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

/// Publishes to everybody who listens, one message for each request.
pub(crate) struct Publish {
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Publish {
    /// Messages of so many bytes.
    pub(crate) fn new(port: u16, bytes: usize) -> Self {
        let head = post_head("/publish", port, "application/json");
        Self { head, body: vec![b'x'; bytes] }
    }
}

impl Dialect for Publish {
    fn write(&self, _: Request, _: &Versions, _: &mut Source, out: &mut Vec<u8>) {
        write_post(&self.head, &self.body, out);
    }

    fn check(&self, _: Request, body: &[u8], _: bool) -> Result<Learned, String> {
        let is_fine = memchr::memmem::find(body, b"\"ErrorCode\":0").is_some();
        if is_fine { Ok(Learned::Nothing) } else { Err(excerpt(body)) }
    }
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
