//! Redis with an append-only file, behind webdis, which puts HTTP and JSON in front of it.
//!
//! A message is a hash; a field holds the version and the value of a pair. A script compares all versions that a
//! request names and writes its pairs, which is what a careful user of Redis would do.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::Server;
use crate::dialect::{Dialect, Learned, any_value, excerpt, key_name, number_after, post_head, write_post};
use crate::process::{Process, answers_on, free_port};
use crate::workload::{Action, Request, Source, Versions};

/// Named with a message and, for each pair, its key, the version to compare with and the value. Answers the version
/// that the pairs have now, or -1 if one of the versions was wrong, and then writes nothing.
const COMPARE_AND_SET: &str = "
for i = 1, #ARGV, 3 do
  local stored = redis.call('HGET', KEYS[1], ARGV[i])
  local version = stored and string.match(stored, '^%d+') or '0'
  if version ~= ARGV[i + 1] then return -1 end
end
local latest = redis.call('HINCRBY', KEYS[1], 'latest', 1)
for i = 1, #ARGV, 3 do
  redis.call('HSET', KEYS[1], ARGV[i], latest .. ' ' .. ARGV[i + 2])
end
return latest
";

pub(super) fn start(name: &str, appendfsync: &str, folder: &Path) -> Result<Server> {
    let (redis_port, port) = (free_port()?, free_port()?);
    let mut command = Command::new("redis-server");
    command.args(["--port", &redis_port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command
        .args(["--appendonly", "yes", "--appendfsync", appendfsync, "--daemonize", "no", "--dir"])
        .arg(folder);
    let mut redis = Process::start("redis", folder, &mut command)?;
    redis.wait_until(|| answers_on(redis_port))?;
    let script = load_script(redis_port)?;

    let config = folder.join("webdis.json");
    let settings = json!({
        "redis_host": "127.0.0.1", "redis_port": redis_port, "redis_auth": null,
        "http_host": "127.0.0.1", "http_port": port, "threads": 2, "pool_size": 20,
        "daemonize": false, "websockets": false, "database": 0, "verbosity": 0,
        "logfile": folder.join("webdis-messages.log"),
    });
    fs::write(&config, settings.to_string()).with_context(|| format!("cannot write {}", config.display()))?;
    let mut webdis = Process::start("webdis", folder, Command::new("webdis").arg(&config))?;
    webdis.wait_until(|| answers_on(port))?;
    // Commands travel in the body, as a URL would have them.
    let dialect = Webdis { script, head: post_head("/", port, "application/x-www-form-urlencoded") };
    Ok(Server::http(name, vec![redis, webdis], Arc::new(dialect), port, false))
}

/// Gives the script to Redis, in its own protocol, and returns the name under which it is called.
fn load_script(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("cannot reach Redis")?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).context("cannot set a time-out")?;
    let length = COMPARE_AND_SET.len();
    write!(stream, "*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n${length}\r\n{COMPARE_AND_SET}\r\n")
        .context("cannot send a script to Redis")?;
    // "$40", the forty digits of the hash, and two line ends.
    let mut answer = [0; 47];
    stream.read_exact(&mut answer).context("Redis did not take the script")?;
    let answer = String::from_utf8_lossy(&answer);
    match answer.strip_prefix("$40\r\n") {
        Some(hash) => Ok(hash.trim().to_owned()),
        None => bail!("Redis answered the script with {answer}"),
    }
}

struct Webdis {
    script: String,
    head: Vec<u8>,
}

impl Dialect for Webdis {
    fn write(&self, request: Request, versions: &Versions, source: &mut Source, out: &mut Vec<u8>) {
        let message = request.message;
        let mut body = Vec::with_capacity(256);
        let mut put = |text: std::fmt::Arguments<'_>| body.write_fmt(text).expect("memory takes all bytes");
        match request.action {
            Action::Set { key: first, pairs, .. } => {
                put(format_args!("EVALSHA/{}/1/m{message}", self.script));
                for key in first..first + pairs {
                    let (name, value, version) =
                        (key_name(key), any_value(source), versions.of(message, key));
                    put(format_args!("/{name}/{version}/{value}"));
                }
            }
            Action::Pull { .. } => put(format_args!("HGETALL/m{message}")),
        }
        write_post(&self.head, &body, out);
    }

    fn check(&self, request: Request, body: &[u8], thorough: bool) -> Result<Learned, String> {
        let answer = match request.action {
            // -1 is no number to this reader, and neither is what an error looks like.
            Action::Set { .. } => number_after(body, b"{\"EVALSHA\":").map(Learned::All),
            Action::Pull { pairs } => {
                let whole = body.starts_with(b"{\"HGETALL\":{")
                    && (!thorough || memchr::memmem::find_iter(body, b"key\":\"").count() == pairs as usize);
                whole.then_some(Learned::Nothing)
            }
        };
        answer.ok_or_else(|| excerpt(body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_and_errors_are_no_success() {
        let webdis = Webdis { script: String::new(), head: Vec::new() };
        let set = Request { action: Action::Set { key: 0, pairs: 1, compares: true }, message: 1 };
        assert_eq!(webdis.check(set, b"{\"EVALSHA\":7}", false), Ok(Learned::All(7)));
        for bad in ["{\"EVALSHA\":-1}", "{\"EVALSHA\":[false,\"NOSCRIPT\"]}", ""] {
            webdis.check(set, bad.as_bytes(), false).unwrap_err();
        }
        let pull = Request { action: Action::Pull { pairs: 1 }, message: 1 };
        webdis.check(pull, b"{\"HGETALL\":{\"latest\":\"1\",\"attr000key\":\"1 v\"}}", true).unwrap();
        webdis.check(pull, b"{\"HGETALL\":{}}", true).unwrap_err();
    }
}
