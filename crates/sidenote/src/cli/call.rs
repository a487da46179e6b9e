//! `sidenote call`: signs a request, sends it, prints the answer.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::client::{Client, local_url};
use crate::credentials::{CredentialArgs, Credentials, user_id};
use crate::failure::Usage;

/// Sign a request, send it to a server, and print the answer
#[derive(Args)]
#[command(after_help = "\
Example: sidenote call group_get_key_values --config sidenote.toml '{\"GroupId\":\"poll\",\"MsgSeq\":1}'

Exit code 1 if the ErrorCode of the answer is not 0. Pairs have an ErrorCode of their own, see docs/protocol.md.")]
pub(crate) struct Call {
    /// What to call: SERVICE/COMMAND, or the command alone
    #[arg(value_name = "COMMAND")]
    command: String,
    /// JSON body, @FILE to read it from a file, or - to read it from standard input
    #[arg(value_name = "BODY", default_value = "{}")]
    body: String,
    #[command(flatten)]
    credentials: CredentialArgs,
    /// Server to call; by default the address in --config on this machine, else `http://127.0.0.1:7780`
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// PEM file of certificates to trust, for https
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// UserID to call as; by default the first administrator
    #[arg(long, value_name = "U", value_parser = user_id)]
    user: Option<String>,
}

/// More than any server accepts.
const MAX_BODY_BYTES: u64 = 64 * 1024 * 1024;

impl Call {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let command = full_name(&self.command)?;
        let credentials = self.credentials.resolve()?;
        let body = body(&self.body)?;
        let user = self.user.unwrap_or_else(|| credentials.administrator());
        let Credentials { app, key, config } = credentials;
        let server = self.server.unwrap_or_else(|| match config {
            Some(config) => local_url(config.listen, config.tls.is_some()),
            None => "http://127.0.0.1:7780".to_owned(),
        });
        let answer = Client::new(&server, app, key, self.ca.as_deref())?.call(&user, &command, &body)?;

        let mut output = io::stdout().lock();
        writeln!(output, "{}", answer.text.trim_end())?;
        output.flush()?;
        Ok(if answer.code == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// `service/command` for either of the two ways to name a command. A service that this release does not know
/// may be named in full, because the server may be a newer one.
fn full_name(name: &str) -> anyhow::Result<String> {
    let is_word = |word: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
        !word.is_empty() && word.chars().all(allowed)
    };
    if let Some((service, command)) = name.split_once('/') {
        if is_word(service) && is_word(command) {
            return Ok(name.to_owned());
        }
        return Err(Usage::error(format!(
            "{name:?} is no command; write <service>/<command>, such as openim_msg_ext_http_svc/group_get_key_values"
        )));
    }
    let mut services = sidenote_server::commands().filter(|(_, command)| *command == name);
    match (services.next(), services.next()) {
        (Some((service, command)), None) => Ok(format!("{service}/{command}")),
        (Some(_), Some(_)) => {
            Err(Usage::error(format!("more than one service has a command {name}; write <service>/{name}")))
        }
        (None, _) => {
            let known: Vec<_> = sidenote_server::commands().map(|(_, command)| command).collect();
            Err(Usage::error(format!(
                "there is no command {name:?}; there are {}, and any other is written <service>/<command>",
                known.join(", ")
            )))
        }
    }
}

fn body(argument: &str) -> anyhow::Result<String> {
    if argument == "-" {
        return read(io::stdin().lock(), "standard input");
    }
    let Some(path) = argument.strip_prefix('@') else { return Ok(argument.to_owned()) };
    let file = File::open(path)
        .map_err(|error| Usage::error(error.to_string()))
        .with_context(|| format!("cannot read the body from {path}"))?;
    read(file, path)
}

fn read(source: impl Read, name: &str) -> anyhow::Result<String> {
    let unreadable = || format!("cannot read the body from {name}");
    let mut text = String::new();
    source.take(MAX_BODY_BYTES + 1).read_to_string(&mut text).with_context(unreadable)?;
    if text.len() as u64 > MAX_BODY_BYTES {
        return Err(Usage::error(format!("it is longer than {MAX_BODY_BYTES} bytes")))
            .with_context(unreadable);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_found_by_its_name_alone() {
        assert_eq!(
            full_name("group_get_key_values").unwrap(),
            "openim_msg_ext_http_svc/group_get_key_values"
        );
        assert_eq!(full_name("openim/sendmsg").unwrap(), "openim/sendmsg");
        for wrong in ["", "group_get", "a/b/c", "../healthz", "a/", "/b", "a/b?x=1", "é/b"] {
            assert!(full_name(wrong).is_err(), "{wrong}");
        }
    }
}
