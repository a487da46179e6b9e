//! The connection to NATS, which comes and goes by itself. Nothing waits for it for long. A client that ends is replaced.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectError, ConnectOptions, Event, ServerAddr, Subscriber};
use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::subject::Subject;

/// How long anything may wait to be written to the broker. A broker that takes nothing is as good as none.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often a broker that says nothing is asked whether it is there. After three questions without an answer it is not.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long a client that has ended stays away, and the next one if it can't begin.
const REBUILD_PAUSE: Duration = Duration::from_secs(1);

/// Messages that wait for one subject; more are dropped, and the tables looked at.
const MOST_WAITING: usize = 4096;

/// Addresses of the broker can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// One makes no sense.
    #[error("address {} of the broker can't be used; write it like nats://host:4222 or tls://host:4222", .0 + 1)]
    Senseless(usize),
    /// Servers of one broker know the same users.
    #[error(
        "address {} of the broker has another user or password than the first; write the same in all of them", .0 + 1
    )]
    OtherLogin(usize),
    /// Who listens on the way could wait for the connection that is not encrypted.
    #[error("address {} of the broker is encrypted and the first is not, or the other way; write tls:// in all of them or in none", .0 + 1)]
    OtherScheme(usize),
}

/// The servers of a broker, and how to log in.
#[derive(Clone)]
pub(crate) struct Servers {
    /// Without users and passwords: the client sends none of those, and writes addresses to the log.
    addresses: Vec<ServerAddr>,
    login: Login,
    is_encrypted: bool,
}

#[derive(Clone, PartialEq, Eq)]
enum Login {
    Nobody,
    Token(String),
    User(String, String),
}

pub(crate) struct Broker {
    servers: Servers,
    /// The number of the database, which stands in every subject.
    database: u64,
    line: watch::Sender<Line>,
    /// The connection came or went, or messages were dropped.
    pub(crate) upset: Arc<Notify>,
    /// What was wrong last, for the log.
    trouble: Arc<Mutex<Option<String>>>,
}

/// One client, for as long as it lives.
#[derive(Clone)]
struct Line {
    client: Client,
    /// Its task is gone, for whatever reason: it takes nothing any more, and says nothing of it.
    has_ended: CancellationToken,
}

/// The broker did not take it in time, or is not there.
#[derive(Debug)]
pub(crate) struct Away;

/// Takes addresses apart. What is wrong is told without them, for they may hold passwords.
pub(crate) fn parse(addresses: &[String]) -> Result<Option<Servers>, BadAddress> {
    let mut servers: Option<Servers> = None;
    for (place, address) in addresses.iter().enumerate() {
        let (address, login) = take_apart(address).ok_or(BadAddress::Senseless(place))?;
        let is_encrypted = address.tls_required();
        match &mut servers {
            None => servers = Some(Servers { addresses: vec![address], login, is_encrypted }),
            Some(servers) if servers.login != login => return Err(BadAddress::OtherLogin(place)),
            Some(servers) if servers.is_encrypted != is_encrypted => {
                return Err(BadAddress::OtherScheme(place));
            }
            Some(servers) => servers.addresses.push(address),
        }
    }
    Ok(servers)
}

/// An address without the user and the password in it, and those.
fn take_apart(address: &str) -> Option<(ServerAddr, Login)> {
    let address: ServerAddr = address.parse().ok()?;
    if !["nats", "tls"].contains(&address.scheme()) {
        return None;
    }
    let login = match (address.username(), address.password()) {
        (None, None) => Login::Nobody,
        (Some(token), None) => Login::Token(decoded(token)?),
        (user, Some(password)) => Login::User(decoded(user.unwrap_or_default())?, decoded(password)?),
    };
    let mut url = address.into_inner();
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    Some((ServerAddr::from_url(url).ok()?, login))
}

/// A part of an address, in which `%40` stands for `@`.
fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

impl Broker {
    /// Begins to connect, and goes on by itself until it succeeds; whenever the connection is lost, again.
    pub(crate) async fn connect(servers: Servers, database: u64) -> Option<Self> {
        let (upset, trouble) = (Arc::<Notify>::default(), Arc::<Mutex<Option<String>>>::default());
        match open(servers.clone(), &upset, &trouble).await {
            Ok(line) => {
                let line = watch::Sender::new(line);
                Some(Self { servers, database, line, upset, trouble })
            }
            Err(error) => {
                // It would try for ever, so this is not about the broker being away.
                tracing::error!(%error, "there is no way to NATS; what other nodes commit is found by looking");
                None
            }
        }
    }

    /// Puts another client into the place of one that ends, for ever. It should not end by itself, whatever the broker does.
    pub(crate) async fn keep(&self) {
        loop {
            let has_ended = self.line.borrow().has_ended.clone();
            has_ended.cancelled().await;
            tracing::error!(
                "the NATS client has ended; what other nodes commit is found by looking until another one is connected"
            );
            // Until then there is no broker.
            self.upset.notify_one();
            loop {
                tokio::time::sleep(REBUILD_PAUSE).await;
                match open(self.servers.clone(), &self.upset, &self.trouble).await {
                    Ok(line) => {
                        self.line.send_replace(line);
                        break;
                    }
                    Err(error) => tracing::error!(%error, "there is no way to NATS"),
                }
            }
        }
    }

    /// Changes whenever another client takes the place of one that has ended: then nobody listens to anything any more.
    pub(crate) fn renewals(&self) -> Renewals {
        Renewals(self.line.subscribe())
    }

    /// Ends the client as a fault of its own would.
    #[cfg(test)]
    pub(crate) async fn end_client(&self) {
        self.client().drain().await.unwrap();
    }

    fn client(&self) -> Client {
        self.line.borrow().client.clone()
    }

    pub(crate) fn is_connected(&self) -> bool {
        let Line { client, has_ended } = &*self.line.borrow();
        client.connection_state() == State::Connected && !has_ended.is_cancelled()
    }

    /// What was wrong since this was asked last.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The longest message that it takes, in bytes.
    pub(crate) fn max_payload(&self) -> usize {
        self.line.borrow().client.max_payload()
    }

    pub(crate) async fn publish(&self, subjects: &BTreeSet<Subject>, bytes: Vec<u8>) -> Result<(), Away> {
        if !self.is_connected() {
            return Err(Away);
        }
        let (client, bytes) = (self.client(), Bytes::from(bytes));
        for subject in subjects {
            let published = client.publish(subject.name(self.database), bytes.clone());
            timeout(PATIENCE, published).await.map_err(|_| Away)?.map_err(|_| Away)?;
        }
        Ok(())
    }

    pub(crate) async fn subscribe(&self, subject: Subject) -> Result<Subscriber, Away> {
        let client = self.client();
        let subscribed = client.subscribe(subject.name(self.database));
        timeout(PATIENCE, subscribed).await.map_err(|_| Away)?.map_err(|_| Away)
    }

    /// Waits until what was asked for has left this machine.
    pub(crate) async fn flush(&self) -> Result<(), Away> {
        let client = self.client();
        timeout(PATIENCE, client.flush()).await.map_err(|_| Away)?.map_err(|_| Away)
    }
}

/// Says when another client has taken the place of the one before.
pub(crate) struct Renewals(watch::Receiver<Line>);

impl Renewals {
    /// Waits for the next time, or for ever where there is no broker any more.
    pub(crate) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A client that begins to connect.
async fn open(
    servers: Servers,
    upset: &Arc<Notify>,
    trouble: &Arc<Mutex<Option<String>>>,
) -> Result<Line, ConnectError> {
    let Servers { addresses, login, is_encrypted } = servers;
    let (bell, note) = (Arc::clone(upset), Arc::clone(trouble));
    let has_ended = CancellationToken::new();
    // The client keeps the callback for as long as its task may call it, so it is dropped however that ends.
    let end = has_ended.clone().drop_guard();
    let options = match login {
        Login::Nobody => ConnectOptions::new(),
        Login::Token(token) => ConnectOptions::with_token(token),
        Login::User(user, password) => ConnectOptions::with_user_and_password(user, password),
    };
    let options = options
        .require_tls(is_encrypted)
        // Whoever names further servers may name some that are not encrypted, or not of this cluster.
        .ignore_discovered_servers()
        .name("sidenote")
        .retry_on_initial_connect()
        .no_echo()
        .ping_interval(PING_INTERVAL)
        .connection_timeout(CONNECT_TIMEOUT)
        .subscription_capacity(MOST_WAITING)
        .reconnect_delay_callback(|attempts| {
            let doubled = Duration::from_millis(50)
                * 2_u32.saturating_pow(u32::try_from(attempts).unwrap_or(u32::MAX).min(8));
            doubled.min(LONGEST_PAUSE)
        })
        .event_callback(move |event| {
            let _keep = &end;
            match &event {
                Event::Connected | Event::Disconnected | Event::SlowConsumer(_) => bell.notify_one(),
                Event::ServerError(_) | Event::ClientError(_) | Event::Closed => {
                    *note.lock().unwrap_or_else(PoisonError::into_inner) = Some(event.to_string());
                }
                _ => {}
            }
            std::future::ready(())
        });
    let client = options.connect(addresses).await?;
    Ok(Line { client, has_ended })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(addresses: &[&str]) -> Result<Servers, BadAddress> {
        let addresses: Vec<_> = addresses.iter().map(|address| (*address).to_owned()).collect();
        parse(&addresses).map(Option::unwrap)
    }

    #[test]
    fn addresses_are_taken_apart_and_never_repeated() {
        let good = ["nats://nats1:4222", "nats2", "nats://127.0.0.1:1"];
        assert_eq!(parsed(&good).unwrap().addresses.len(), 3);
        assert!(parse(&[]).unwrap().is_none());
        for bad in ["nats://user:hunter2@host:port", "wss://user:hunter2@host", "nats://user:hunter2%4@host"]
        {
            let error = parsed(&["nats://nats1:4222", bad]).err().unwrap();
            assert_eq!(error, BadAddress::Senseless(1), "{bad}");
            let error = error.to_string();
            assert!(error.contains("address 2") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn users_passwords_and_tokens_leave_the_addresses() {
        let both = ["tls://us%40r:p%3Ass@nats1", "tls://us%40r:p%3Ass@nats2:4223"];
        let Servers { addresses, login, is_encrypted } = parsed(&both).unwrap();
        assert!(login == Login::User("us@r".to_owned(), "p:ss".to_owned()) && is_encrypted);
        let left: Vec<_> = addresses.iter().map(ServerAddr::as_url_str).collect();
        assert_eq!(left, ["tls://nats1", "tls://nats2:4223"]);
        assert!(parsed(&["nats://t0ken@nats1"]).unwrap().login == Login::Token("t0ken".to_owned()));
    }

    #[test]
    fn servers_of_one_broker_are_reached_in_the_same_way() {
        let other = parsed(&["nats://a:b@nats1", "nats://a:b@nats2", "nats://a:c@nats3"]);
        assert_eq!(other.err(), Some(BadAddress::OtherLogin(2)));
        let other = parsed(&["tls://nats1", "nats://nats2"]);
        assert_eq!(other.err(), Some(BadAddress::OtherScheme(1)));
    }
}
