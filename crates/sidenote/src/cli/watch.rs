//! `sidenote watch`: prints what happens, as it happens.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;

use crate::client::{Client, local_url};
use crate::credentials::{CredentialArgs, Credentials, user_id};

/// Print the events of a group, or of a whole app, one JSON object on each line, until Ctrl-C
#[derive(Args)]
#[command(after_help = "\
Example: sidenote watch --config sidenote.toml --group poll

Connects again after a server that went away. A group goes on where it was; of a whole app, what happens meanwhile is \
not printed. What is said about the stream itself goes to standard error. docs/event-stream.md describes the events.")]
pub(crate) struct Watch {
    /// The group to watch; all groups of the app without it
    #[arg(long, value_name = "GroupId")]
    group: Option<String>,
    /// Go on after the event with this `EventId`, instead of with what happens from now on
    #[arg(long, value_name = "EventId", requires = "group")]
    after: Option<String>,
    #[command(flatten)]
    credentials: CredentialArgs,
    /// Server to ask; by default the address in --config on this machine, else `http://127.0.0.1:7780`
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// PEM file of certificates to trust, for https
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// UserID to ask as; by default the first administrator
    #[arg(long, value_name = "U", value_parser = user_id)]
    user: Option<String>,
}

/// How long to wait before connecting again.
const PAUSE: Duration = Duration::from_secs(1);

/// How one connection ended.
enum Ended {
    /// The server said that there will be no more.
    ForGood,
    /// It went away.
    Lost,
}

impl Watch {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let credentials = self.credentials.resolve()?;
        let user = self.user.clone().unwrap_or_else(|| credentials.administrator());
        let Credentials { app, key, config } = credentials;
        let server = self.server.clone().unwrap_or_else(|| match config {
            Some(config) => local_url(config.listen, config.tls.is_some()),
            None => "http://127.0.0.1:7780".to_owned(),
        });
        let client = Client::new(&server, app, key, self.ca.as_deref())?;
        let mut cursor = self.after.clone();
        let mut was_connected = false;
        let went_away = if self.group.is_some() {
            "the server went away; connecting again"
        } else {
            "the server went away; connecting again, and what happens meanwhile is missing"
        };
        loop {
            match client.events(&user, self.group.as_deref(), cursor.as_deref()) {
                Ok(stream) => {
                    was_connected = true;
                    if let Ended::ForGood = print(stream, &mut cursor, self.group.is_some())? {
                        return Ok(ExitCode::FAILURE);
                    }
                    eprintln!("{went_away}");
                }
                Err(error) if !was_connected || error.is::<crate::client::Refused>() => return Err(error),
                Err(_) => {}
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Prints events until the connection ends.
fn print(stream: impl io::Read, cursor: &mut Option<String>, goes_on: bool) -> anyhow::Result<Ended> {
    let mut output = io::stdout().lock();
    let mut frame = Frame::default();
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return Ok(Ended::Lost) };
        match line.split_once(": ") {
            Some(("event", name)) => name.clone_into(&mut frame.event),
            Some(("id", id)) => frame.id = Some(id.to_owned()),
            Some(("data", data)) => frame.data = Some(data.to_owned()),
            // The empty line is the end of a frame. One that was cut off before it comes again.
            _ if line.is_empty() => {
                let Frame { event, id, data } = std::mem::take(&mut frame);
                if id.is_some() && goes_on {
                    *cursor = id;
                }
                match data {
                    Some(data) if event.is_empty() => {
                        writeln!(output, "{data}")?;
                        output.flush()?;
                    }
                    Some(data) => {
                        eprintln!("{event}: {data}");
                        if event == "end" && is_for_good(&data) {
                            return Ok(Ended::ForGood);
                        }
                    }
                    None => {}
                }
            }
            _ if line.starts_with(':') || line.starts_with("retry") => {}
            _ => bail!("{line:?} is no line of an event stream; is it the address of a Sidenote server?"),
        }
    }
    Ok(Ended::Lost)
}

/// What stands between two empty lines.
#[derive(Default)]
struct Frame {
    /// Empty for an event; the name of what is said about the stream itself.
    event: String,
    /// Where to go on after it. A whole app has no such place.
    id: Option<String>,
    data: Option<String>,
}

/// Whether connecting again would only be refused.
fn is_for_good(notice: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(notice).is_ok_and(|notice| notice["Reason"] == "removed")
}
