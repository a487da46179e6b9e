//! A proxy between store and database: it counts round trips, and cuts or holds connections at a point that is named.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Before anything of what the client sends.
    Before,
    /// In the middle of what it sends.
    Within,
    /// When the answer begins to come.
    Answering,
    /// When the last answer has come, with which the transaction is over. So the server has carried it out.
    Ended,
}

#[derive(Debug, Default)]
struct State {
    /// How often a client began to send after it had been answered.
    turns: AtomicUsize,
    /// How many more times a client may begin to send until it is cut, and how.
    cut: Mutex<Option<(usize, Cut)>>,
    /// Nothing passes.
    holds: AtomicBool,
    released: Notify,
}

#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    state: Arc<State>,
    port: u16,
}

impl Proxy {
    pub(crate) async fn before(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = Self { state: Arc::default(), port: listener.local_addr().unwrap().port() };
        let state = Arc::clone(&proxy.state);
        spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                spawn(async move { serve(&state, client, (Ipv4Addr::LOCALHOST, port).into()).await });
            }
        });
        proxy
    }

    /// The same database, through the proxy.
    pub(crate) fn dsn(&self, dsn: &str, port: u16) -> String {
        dsn.replace(&format!(":{port}/"), &format!(":{}/", self.port))
    }

    pub(crate) fn turns(&self) -> usize {
        self.state.turns.load(Ordering::SeqCst)
    }

    /// Cuts the connection at the `nth` time from now that a client begins to send, counted from 1.
    pub(crate) fn cut(&self, nth: usize, cut: Cut) {
        *self.state.cut.lock().unwrap() = Some((nth, cut));
    }

    /// Whether the cut is still to come.
    pub(crate) fn is_armed(&self) -> bool {
        self.state.cut.lock().unwrap().is_some()
    }

    /// Lets nothing pass, without a word, as a broken network does.
    pub(crate) fn hold(&self) {
        self.state.holds.store(true, Ordering::SeqCst);
    }

    pub(crate) fn release(&self) {
        self.state.holds.store(false, Ordering::SeqCst);
        self.state.released.notify_waiters();
    }
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    #[expect(clippy::disallowed_methods, reason = "a proxy that panics makes its test fail by silence")]
    drop(tokio::spawn(task));
}

impl State {
    /// The client begins to send. Says whether and how it is cut here.
    fn turn(&self) -> Option<Cut> {
        self.turns.fetch_add(1, Ordering::SeqCst);
        let mut cut = self.cut.lock().unwrap();
        match &mut *cut {
            Some((1, how)) => {
                let how = *how;
                *cut = None;
                Some(how)
            }
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        }
    }

    async fn pass(&self) {
        loop {
            let released = self.released.notified();
            if !self.holds.load(Ordering::SeqCst) {
                return;
            }
            released.await;
        }
    }
}

async fn serve(state: &State, mut client: TcpStream, server: SocketAddr) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (mut of_client, mut of_server) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut was_answered = true;
    let mut silent = None;
    loop {
        tokio::select! {
            read = client.read(&mut of_client) => {
                let Ok(count @ 1..) = read else { return };
                state.pass().await;
                let sent = &of_client[..count];
                if std::mem::take(&mut was_answered) {
                    match state.turn() {
                        Some(Cut::Before) => return,
                        Some(Cut::Within) => {
                            server.write_all(&sent[..count / 2]).await.ok();
                            return;
                        }
                        Some(cut) => silent = Some(cut),
                        None => {}
                    }
                }
                if server.write_all(sent).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut of_server) => {
                let Ok(count @ 1..) = read else { return };
                state.pass().await;
                match silent {
                    Some(Cut::Answering) => return,
                    // "Ready for query", idle: no transaction is open.
                    Some(_) if of_server[..count].ends_with(&[b'Z', 0, 0, 0, 5, b'I']) => return,
                    Some(_) => continue,
                    None => {}
                }
                was_answered = true;
                if client.write_all(&of_server[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}
