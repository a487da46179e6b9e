//! From the name of a receiver to a connection: looking it up, leaving out what is not allowed, and going from one
//! address to the next within the time that there is.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{FutureExt as _, Shared};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::webhooks::networks::{Network, is_public};
use crate::webhooks::receiver::Failure;
use crate::webhooks::url::ReceiverUrl;

/// How long the addresses of a name are used before it is looked up again.
const FRESH: Duration = Duration::from_secs(5);

/// The same where it could not be looked up.
const FRESH_FAILURE: Duration = Duration::from_secs(1);

/// The addresses of a receiver.
pub(super) struct Addresses {
    host: String,
    port: u16,
    /// The host itself, if it is no name.
    literal: Option<IpAddr>,
    networks: Vec<Network>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lookup: Option<Shared<Lookup>>,
    /// The address that a connection was made to last.
    good: Option<SocketAddr>,
}

type Lookup = Pin<Box<dyn Future<Output = Found> + Send>>;

/// What came of a look-up, and when.
#[derive(Clone, Debug)]
struct Found {
    at: Instant,
    addresses: Result<Vec<SocketAddr>, Arc<io::Error>>,
}

impl Addresses {
    pub(super) fn new(url: &ReceiverUrl, networks: Vec<Network>) -> Self {
        Self {
            host: url.host().to_owned(),
            port: url.port(),
            literal: url.address(),
            networks,
            state: Mutex::default(),
        }
    }

    /// A connection to the first address that is allowed and answers. None of them may use up the time of the others.
    pub(super) async fn connect(&self, until: Instant) -> Result<TcpStream, Failure> {
        let addresses = match self.literal {
            Some(address) => vec![SocketAddr::new(address, self.port)],
            None => self.look_up().await.map_err(Failure::Unknown)?,
        };
        let (mut allowed, forbidden): (Vec<_>, Vec<_>) =
            addresses.into_iter().partition(|address| self.allows(address.ip()));
        let forbidden = match forbidden.first() {
            Some(address) => Failure::Forbidden(address.ip()),
            None => Failure::Unknown(io::Error::other("the name has no address")),
        };
        let good = self.state().good;
        // A stable sort: the others stay in the order in which they were found.
        allowed.sort_by_key(|address| Some(*address) != good);
        let (stream, address) =
            first_that_answers(&allowed, until).await.map_err(|it| it.unwrap_or(forbidden))?;
        self.state().good = Some(address);
        Ok(stream)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn allows(&self, address: IpAddr) -> bool {
        is_public(address) || self.networks.iter().any(|network| network.contains(address))
    }

    /// Looks the name up, or takes what was found a moment ago. There is one look-up at a time, whoever waits for it:
    /// one that takes long occupies a thread even when nobody waits any more.
    async fn look_up(&self) -> Result<Vec<SocketAddr>, io::Error> {
        let lookup = {
            let mut state = self.state();
            let known = state.lookup.as_ref().filter(|lookup| lookup.peek().is_none_or(Found::is_fresh));
            let lookup =
                known.cloned().unwrap_or_else(|| look_up(self.host.clone(), self.port).boxed().shared());
            state.lookup = Some(lookup.clone());
            lookup
        };
        lookup.await.addresses.map_err(|error| io::Error::new(error.kind(), error.to_string()))
    }
}

impl Found {
    fn is_fresh(&self) -> bool {
        self.at.elapsed() < if self.addresses.is_ok() { FRESH } else { FRESH_FAILURE }
    }
}

async fn look_up(host: String, port: u16) -> Found {
    let addresses = tokio::net::lookup_host((host, port)).await;
    Found { at: Instant::now(), addresses: addresses.map(Iterator::collect).map_err(Arc::new) }
}

/// Tries one after the other, each for an equal part of what is left of the time. `None`: there is no address.
async fn first_that_answers(
    addresses: &[SocketAddr],
    until: Instant,
) -> Result<(TcpStream, SocketAddr), Option<Failure>> {
    let mut failure = None;
    for (left, address) in (1..=u32::try_from(addresses.len()).unwrap_or(u32::MAX)).rev().zip(addresses) {
        let part = until.saturating_duration_since(Instant::now()) / left;
        match timeout(part, TcpStream::connect(*address)).await {
            Ok(Ok(stream)) => return Ok((stream, *address)),
            Ok(Err(error)) => failure = Some(Failure::Connect(*address, error)),
            Err(_) => failure = Some(Failure::Connect(*address, io::ErrorKind::TimedOut.into())),
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// An address that takes no connection and refuses none: nobody accepts, and the queue is full.
    async fn silent() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            waiting.push(stream.unwrap());
            assert!(waiting.len() < 100, "the queue is never full");
        }
        (address, listener, waiting)
    }

    fn addresses(host: &str) -> Addresses {
        let networks = vec!["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
        Addresses::new(&format!("http://{host}/").parse().unwrap(), networks)
    }

    #[tokio::test]
    async fn an_address_that_is_silent_leaves_time_for_the_next_one() {
        let (silent, _listener, _waiting) = silent().await;
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let listening = TcpListener::bind(good).await.unwrap();
        let until = || Instant::now() + Duration::from_secs(2);
        let (_, reached) = first_that_answers(&[silent, good], until()).await.unwrap();
        assert_eq!(reached, good);
        drop(listening);
        let soon = Instant::now() + Duration::from_millis(50);
        let failure = first_that_answers(&[good, silent], soon).await.unwrap_err();
        assert!(matches!(failure, Some(Failure::Connect(address, _)) if address == silent));
        assert!(matches!(first_that_answers(&[], until()).await, Err(None)));
    }

    #[tokio::test]
    async fn the_address_that_was_good_is_tried_first() {
        let (silent, _listener, _waiting) = silent().await;
        let listening = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listening.local_addr().unwrap();
        let of = addresses("example.invalid");
        let found = Found { at: Instant::now(), addresses: Ok(vec![silent, good]) };
        of.state().lookup = Some(async { found }.boxed().shared());
        // Half of two seconds goes to the silent one.
        let began = Instant::now();
        of.connect(began + Duration::from_secs(2)).await.unwrap();
        assert!(began.elapsed() >= Duration::from_millis(900));
        let again = Instant::now();
        of.connect(again + Duration::from_secs(2)).await.unwrap();
        assert!(again.elapsed() < Duration::from_millis(900));
    }

    #[tokio::test]
    async fn those_who_want_the_same_name_share_one_look_up() {
        let of = addresses("example.invalid");
        let (found, lookup) = tokio::sync::oneshot::channel();
        of.state().lookup = Some(async { lookup.await.unwrap() }.boxed().shared());
        // Somebody who does not wait for its end leaves it to others.
        assert!(of.look_up().now_or_never().is_none());
        let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let (at, addresses) = (Instant::now(), Ok(vec![address]));
        assert!(found.send(Found { at, addresses }).is_ok());
        assert_eq!(of.look_up().await.unwrap(), [address]);
        assert_eq!(of.look_up().await.unwrap(), [address]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_looked_up_again_after_a_while() {
        let now = Instant::now();
        let found = Found { at: now, addresses: Ok(Vec::new()) };
        let failed = Found { at: now, addresses: Err(Arc::new(io::ErrorKind::NotFound.into())) };
        assert!(found.is_fresh() && failed.is_fresh());
        tokio::time::advance(FRESH_FAILURE).await;
        assert!(found.is_fresh() && !failed.is_fresh());
        tokio::time::advance(FRESH).await;
        assert!(!found.is_fresh());
    }
}
