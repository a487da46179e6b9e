//! NATS without persistence: a message is handed to whoever has subscribed, and forgotten.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Server, Way};
use crate::process::{Process, answers_on, free_port};

pub(super) fn start(folder: &Path) -> Result<Server> {
    let port = free_port()?;
    let mut command = Command::new("nats-server");
    command.args(["--addr", "127.0.0.1", "--port", &port.to_string()]);
    let mut process = Process::start("nats", folder, &mut command)?;
    process.wait_until(|| answers_on(port))?;
    Ok(Server {
        name: "nats".to_owned(),
        processes: vec![process],
        way: Way::Nats(port),
        stored: false,
        versions: HashMap::new(),
        gate: None,
    })
}
