//! etcd through its JSON gateway: a transaction that compares the version of each key before it puts.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Server;
use crate::client::is_fine;
use crate::dialect::{Dialect, Learned, any_value, excerpt, key_name, post_head, write_post};
use crate::process::{Process, free_port};
use crate::workload::{Action, Request, Source, Versions};

pub(super) fn start(folder: &Path) -> Result<Server> {
    let (port, peer_port) = (free_port()?, free_port()?);
    let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
    let mut command = Command::new("etcd");
    command.arg("--data-dir").arg(folder.join("data"));
    command.args(["--name", "bench", "--log-level", "error"]);
    command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args(["--initial-cluster", &format!("bench={peer}")]);
    // Every version of every key is kept; the default of 2 GiB might not last for a long benchmark.
    command.args(["--quota-backend-bytes", "8589934592"]);
    let mut process = Process::start("etcd", folder, &mut command)?;
    process.wait_until(|| is_fine(port, "/health"))?;
    let head = |target| post_head(target, port, "application/json");
    let dialect = Gateway { txn: head("/v3/kv/txn"), range: head("/v3/kv/range") };
    Ok(Server::http("etcd", vec![process], Arc::new(dialect), port, false))
}

struct Gateway {
    txn: Vec<u8>,
    range: Vec<u8>,
}

impl Dialect for Gateway {
    fn write(&self, request: Request, versions: &Versions, source: &mut Source, out: &mut Vec<u8>) {
        let message = request.message;
        let (mut body, mut puts) = (Vec::with_capacity(512), Vec::with_capacity(256));
        let mut put = |text: std::fmt::Arguments<'_>| body.write_fmt(text).expect("memory takes all bytes");
        match request.action {
            Action::Set { key: first, pairs, .. } => {
                put(format_args!("{{\"compare\":["));
                for key in first..first + pairs {
                    let comma = if key == first { "" } else { "," };
                    let name = STANDARD.encode(format!("m{message}/{}", key_name(key)));
                    let (version, value) = (versions.of(message, key), STANDARD.encode(any_value(source)));
                    put(format_args!(
                        "{comma}{{\"key\":\"{name}\",\"target\":\"VERSION\",\"result\":\"EQUAL\",\"version\":\"{version}\"}}"
                    ));
                    write!(puts, "{comma}{{\"request_put\":{{\"key\":\"{name}\",\"value\":\"{value}\"}}}}")
                        .expect("memory takes all bytes");
                }
                put(format_args!("],\"success\":["));
                body.extend_from_slice(&puts);
                body.extend_from_slice(b"]}");
                write_post(&self.txn, &body, out);
            }
            Action::Pull { .. } => {
                // '0' is the character after '/', so this is all that begins with the message's number and a slash.
                let (from, to) =
                    (STANDARD.encode(format!("m{message}/")), STANDARD.encode(format!("m{message}0")));
                put(format_args!("{{\"key\":\"{from}\",\"range_end\":\"{to}\"}}"));
                write_post(&self.range, &body, out);
            }
        }
    }

    fn check(&self, request: Request, body: &[u8], thorough: bool) -> Result<Learned, String> {
        let has = |text: &str| memchr::memmem::find(body, text.as_bytes()).is_some();
        match request.action {
            // A false "succeeded" is left out of the answer altogether.
            Action::Set { .. } if has("\"succeeded\":true") => Ok(Learned::OneMore),
            Action::Pull { pairs } if !thorough && pairs > 0 && has("\"kvs\":[") => Ok(Learned::Nothing),
            Action::Pull { pairs } if thorough && has(&format!("\"count\":\"{pairs}\"")) => {
                Ok(Learned::Nothing)
            }
            _ => Err(excerpt(body)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Mix, Range, Workload};
    use serde_json::Value;

    #[test]
    fn a_set_compares_and_puts_each_pair_in_one_transaction() {
        let range = Range { first: 5, messages: 1, stored_pairs: 20, keys: Some(20) };
        let gateway = Gateway { txn: post_head("/txn", 1, "x"), range: post_head("/range", 1, "x") };
        let mut source = Source::new(Workload { range, mix: Mix::Sets(3) }, None, 0, 1, 1);
        let mut out = Vec::new();
        let request = Request { action: Action::Set { key: 3, pairs: 3, compares: true }, message: 5 };
        gateway.write(request, &Versions::stored(range), &mut source, &mut out);
        let text = String::from_utf8(out).unwrap();
        let body: Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
        for (at, compare) in body["compare"].as_array().unwrap().iter().enumerate() {
            let name = STANDARD.encode(format!("m5/attr00{}key", at + 3));
            assert_eq!(
                (compare["key"].as_str(), compare["version"].as_str()),
                (Some(name.as_str()), Some("1"))
            );
            assert_eq!(body["success"][at]["request_put"]["key"], name.as_str());
        }
        assert_eq!(body["success"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn a_comparison_that_failed_is_no_success() {
        let gateway = Gateway { txn: Vec::new(), range: Vec::new() };
        let set = Request { action: Action::Set { key: 0, pairs: 1, compares: true }, message: 1 };
        assert_eq!(gateway.check(set, b"{\"header\":{},\"succeeded\":true}", false), Ok(Learned::OneMore));
        gateway.check(set, b"{\"header\":{}}", false).unwrap_err();
        let pull = Request { action: Action::Pull { pairs: 20 }, message: 1 };
        gateway.check(pull, b"{\"kvs\":[{}],\"count\":\"20\"}", true).unwrap();
        gateway.check(pull, b"{\"kvs\":[{}],\"count\":\"19\"}", true).unwrap_err();
        gateway.check(pull, b"{\"header\":{}}", false).unwrap_err();
    }
}
