//! One request at a time, for what is not timed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::dialect::{post_head, write_post};
use crate::load::parse;

const PATIENCE: Duration = Duration::from_secs(30);

/// Sends a whole request and returns status and body of the answer.
pub(crate) fn exchange(port: u16, request: &[u8]) -> Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .with_context(|| format!("nobody answers on port {port}"))?;
    stream.set_read_timeout(Some(PATIENCE)).context("cannot set a time-out")?;
    stream.write_all(request).context("cannot send a request")?;
    let (mut received, mut piece) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let bytes = stream.read(&mut piece).context("cannot read an answer")?;
        received.extend_from_slice(&piece[..bytes]);
        match parse(&received) {
            Ok(Some(answer)) => return Ok((answer.status, answer.body.into_owned())),
            Ok(None) if bytes > 0 => {}
            Ok(None) => bail!("the server closed the connection before its answer was whole"),
            Err(problem) => bail!("{problem}"),
        }
    }
}

/// Posts a JSON text and returns the body of the answer, which must have status 200.
pub(crate) fn post_json(port: u16, target: &str, body: &str) -> Result<String> {
    let mut request = Vec::new();
    write_post(&post_head(target, port, "application/json"), body.as_bytes(), &mut request);
    let (status, answer) = exchange(port, &request)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    if status != 200 {
        bail!("a request was answered with status {status}: {answer}");
    }
    Ok(answer)
}

/// Whether a GET of this path is answered with status 200.
pub(crate) fn is_fine(port: u16, path: &str) -> bool {
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    matches!(exchange(port, request.as_bytes()), Ok((200, _)))
}
