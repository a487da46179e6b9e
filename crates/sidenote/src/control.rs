//! The socket by which an operator reaches a running server: `control/socket` in the data folder.
//!
//! The client sends a line, and the server answers: with a walk over one snapshot, for a backup, or with lines of text,
//! for what is done with dead letters. Who may connect is decided by the file system: the folder `control` is for the
//! owner of the data alone (mode 0700), and so is the socket. Nothing of it can be reached through the network.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, bail};
use sidenote_server::clock::{Clock as _, SystemClock};
use sidenote_server::webhooks::DeadLetters;
use tokio::runtime::Handle;

use crate::letters::{Request, carry_out};
use crate::storage::{Header, Snapshots, Writer};

const FOLDER: &str = "control";
const SOCKET: &str = "socket";

/// How a client asks for a backup.
const REQUEST: &str = "backup 1\n";

/// How a client's request about dead letters begins.
const ABOUT_LETTERS: &str = "webhooks 1 ";

/// Longest request, in bytes: the names of as many dead letters as one can hold.
const MAX_REQUEST_BYTES: u64 = 64 * 1024;

/// Clients at a time. Each backup keeps what its snapshot sees on disk.
const MOST_CLIENTS: usize = 2;

/// How long a client may take to send its line.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);

/// How long a client may take nothing, or a server give nothing, before the other end gives up.
const STREAM_PATIENCE: Duration = Duration::from_mins(2);

/// How long to wait when a connection could not be accepted, as when there are too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Longest address of a socket that every system takes, in bytes.
const MAX_ADDRESS_BYTES: usize = 90;

/// The server's end, as long as it listens.
pub(crate) struct Control {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    path: PathBuf,
}

struct Shared {
    snapshots: Snapshots,
    letters: DeadLetters,
    /// Where what dead letters need is done.
    runtime: Handle,
    stops: AtomicBool,
    /// Connections under way, so that they can be cut.
    clients: Mutex<HashMap<u64, UnixStream>>,
}

impl Control {
    /// Listens in the data folder, which this process holds alone.
    pub(crate) fn listen(
        data: &Path,
        snapshots: Snapshots,
        letters: DeadLetters,
        runtime: Handle,
    ) -> anyhow::Result<Self> {
        let folder = data.join(FOLDER);
        let unusable = || format!("cannot listen in {}", folder.display());
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(unusable);
            }
            _ => fs::set_permissions(&folder, Permissions::from_mode(0o700)).with_context(unusable)?,
        }
        let path = folder.join(SOCKET);
        // Left behind by a process that was killed: nobody else can hold the data folder.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).with_context(unusable),
            _ => {}
        }
        let (address, _open) = address(&folder).with_context(unusable)?;
        let listener = UnixListener::bind(&address).with_context(unusable)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600)).with_context(unusable)?;
        let shared = Arc::new(Shared {
            snapshots,
            letters,
            runtime,
            stops: AtomicBool::new(false),
            clients: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || accepting.accept(&listener))
            .with_context(unusable)?;
        Ok(Self { shared, thread, path })
    }

    /// Cuts what is under way and removes the socket.
    pub(crate) fn stop(self) {
        self.shared.stops.store(true, Ordering::Release);
        // Wakes the thread up, which is waiting for a connection. If somebody has taken the socket away nothing can,
        // and the thread ends with the process.
        let is_awake = self.path.parent().is_some_and(|folder| connect_in(folder).is_ok());
        for client in self.shared.clients().values() {
            drop(client.shutdown(Shutdown::Both));
        }
        if is_awake && self.thread.join().is_err() {
            tracing::error!("the thread of the control socket panicked");
        }
        drop(fs::remove_file(&self.path));
    }
}

impl Shared {
    fn clients(&self) -> MutexGuard<'_, HashMap<u64, UnixStream>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: &Arc<Self>, listener: &UnixListener) {
        let mut threads: Vec<JoinHandle<()>> = Vec::new();
        let mut number = 0;
        loop {
            let accepted = listener.accept();
            if self.stops.load(Ordering::Acquire) {
                break;
            }
            threads.retain(|thread| !thread.is_finished());
            let client = match accepted {
                Ok((client, _)) => client,
                Err(error) => {
                    tracing::warn!(%error, "the control socket could not accept a connection");
                    thread::sleep(ACCEPT_PAUSE);
                    continue;
                }
            };
            if threads.len() >= MOST_CLIENTS {
                let reason = format!("{MOST_CLIENTS} operators are served already; try again later");
                drop(Writer::refuse(&client, &reason));
                continue;
            }
            let Ok(to_cut) = client.try_clone() else { continue };
            number += 1;
            self.clients().insert(number, to_cut);
            let shared = Arc::clone(self);
            let spawned = thread::Builder::new().name("backup".to_owned()).spawn(move || {
                if let Err(error) = shared.answer(&client) {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "an operator's request could not be carried out");
                }
                shared.clients().remove(&number);
            });
            match spawned {
                Ok(thread) => threads.push(thread),
                Err(error) => tracing::warn!(%error, "no thread for a backup"),
            }
        }
        for thread in threads {
            drop(thread.join());
        }
    }

    fn answer(&self, client: &UnixStream) -> anyhow::Result<()> {
        client.set_read_timeout(Some(REQUEST_PATIENCE))?;
        client.set_write_timeout(Some(STREAM_PATIENCE))?;
        let mut line = String::new();
        BufReader::new(client.take(MAX_REQUEST_BYTES)).read_line(&mut line).context("no request came")?;
        let about_letters = line.strip_prefix(ABOUT_LETTERS).and_then(|rest| rest.strip_suffix('\n'));
        if let Some(Ok(request)) = about_letters.map(str::parse) {
            return self.on_letters(client, &request);
        }
        if line != REQUEST {
            Writer::refuse(client, "the request is unknown; use the binary of the same release")?;
            bail!("the request is unknown");
        }
        let totals = self.hand_out(client)?;
        tracing::info!(rows = totals.rows, bytes = totals.bytes, "the rows of a snapshot were handed out");
        Ok(())
    }

    /// Does something with dead letters. Each line of the answer begins with a mark; the last one says how it went.
    fn on_letters(&self, client: &UnixStream, request: &Request) -> anyhow::Result<()> {
        tracing::info!(%request, "an operator asks about dead letters");
        let mut out = Marked(BufWriter::new(client));
        match carry_out(request, &self.letters, &self.runtime, &mut out) {
            Ok(worked) => {
                out.0.write_all(if worked { &b"= done\n"[..] } else { b"= failed\n" })?;
                out.0.flush()?;
                Ok(())
            }
            Err(error) => {
                let problem = format!("{error:#}").replace(char::is_control, " ");
                writeln!(out.0, "! {problem}")?;
                out.0.flush()?;
                Err(error)
            }
        }
    }

    fn hand_out(&self, client: &UnixStream) -> anyhow::Result<crate::storage::Totals> {
        let Some(mut walk) = self.snapshots.walk() else {
            Writer::refuse(client, "the server is stopping")?;
            bail!("the server is stopping");
        };
        let header = Header::of(&walk, SystemClock.now_millis());
        tracing::info!(batch = header.batch, "handing out the rows of a snapshot");
        let mut writer = Writer::begin(BufWriter::new(client), &header)?;
        loop {
            if self.stops.load(Ordering::Acquire) {
                drop(writer.fail("the server is stopping"));
                bail!("the server is stopping");
            }
            match walk.next_row() {
                Ok(Some(row)) => writer.row(&row).context("the client took no more")?,
                Ok(None) => return Ok(writer.finish().context("the client took no more")?.1),
                Err(error) => {
                    let error = anyhow::Error::new(error).context("the store could not be read");
                    drop(writer.fail(&format!("{error:#}")));
                    return Err(error);
                }
            }
        }
    }
}

/// Puts a mark before every line. It is only ever given whole lines.
struct Marked<W>(W);

impl<W: Write> Write for Marked<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn write_fmt(&mut self, line: fmt::Arguments<'_>) -> io::Result<()> {
        self.0.write_all(b"| ")?;
        self.0.write_fmt(line)?;
        // What was done is told at once, and a client that has gone ends it.
        self.0.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// What the server that has this store open says to a request about dead letters; `None` if no server listens there.
pub(crate) fn letters_of(data: &Path, request: &Request) -> anyhow::Result<Option<impl BufRead>> {
    let Some(mut stream) = reach(data)? else { return Ok(None) };
    stream.set_read_timeout(Some(STREAM_PATIENCE))?;
    stream.write_all(format!("{ABOUT_LETTERS}{request}\n").as_bytes()).context("cannot ask the server")?;
    Ok(Some(BufReader::new(stream)))
}

/// A backup of the store that a server has open in this folder; `None` if no server listens there.
pub(crate) fn backup_of(data: &Path) -> anyhow::Result<Option<Box<dyn Read>>> {
    let Some(mut stream) = reach(data)? else { return Ok(None) };
    stream.set_read_timeout(Some(STREAM_PATIENCE))?;
    stream.write_all(REQUEST.as_bytes()).context("cannot ask the server for a backup")?;
    Ok(Some(Box::new(BufReader::with_capacity(256 * 1024, stream))))
}

/// A connection to the server that has the store in this folder open; `None` if there is none.
fn reach(data: &Path) -> anyhow::Result<Option<UnixStream>> {
    let folder = data.join(FOLDER);
    match connect_in(&folder) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(error).with_context(|| {
            format!("cannot ask the server at {}; run this as the user that owns the data", folder.display())
        }),
        Err(error) => Err(error).with_context(|| format!("cannot ask the server at {}", folder.display())),
    }
}

fn connect_in(folder: &Path) -> io::Result<UnixStream> {
    let (address, _open) = address(folder)?;
    UnixStream::connect(address)
}

/// The socket's address. A path that is too long for one is reached through an open handle of its folder, which is to
/// be kept for so long.
fn address(folder: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let path = folder.join(SOCKET);
    if path.as_os_str().len() <= MAX_ADDRESS_BYTES {
        return Ok((path, None));
    }
    let open = File::open(folder)?;
    let through = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd())).join(SOCKET);
    Ok((through, Some(open)))
}
