//! The connection to NATS, which comes and goes by itself. Nothing waits for it for long.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, ServerAddr, Subscriber};
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::subject::Subject;

/// How long anything may wait to be written to the broker. A broker that takes nothing is as good as none.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often a broker that says nothing is asked whether it is there. After three questions without an answer it is not.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Messages that wait for one subject; more are dropped, and the tables looked at.
const MOST_WAITING: usize = 4096;

/// An address of the broker makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("address {} of the broker can't be used; write it like nats://host:4222", .0 + 1)]
pub struct BadAddress(usize);

pub(crate) struct Broker {
    client: Client,
    /// The connection came or went, or messages were dropped.
    pub(crate) upset: Arc<Notify>,
}

/// The broker did not take it in time, or is not there.
#[derive(Debug)]
pub(crate) struct Away;

/// Takes addresses apart. What is wrong is told without them, for they may hold passwords.
pub(crate) fn parse(addresses: &[String]) -> Result<Vec<ServerAddr>, BadAddress> {
    let parsed = addresses
        .iter()
        .enumerate()
        .map(|(place, address)| address.parse::<ServerAddr>().map_err(|_| BadAddress(place)));
    parsed.collect()
}

impl Broker {
    /// Begins to connect, and goes on by itself until it succeeds; whenever the connection is lost, again.
    pub(crate) async fn connect(servers: Vec<ServerAddr>) -> Option<Self> {
        let upset = Arc::<Notify>::default();
        let bell = Arc::clone(&upset);
        let options = ConnectOptions::new()
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
                let bell = Arc::clone(&bell);
                async move {
                    if matches!(event, Event::Connected | Event::Disconnected | Event::SlowConsumer(_)) {
                        bell.notify_one();
                    }
                }
            });
        match options.connect(servers).await {
            Ok(client) => Some(Self { client, upset }),
            Err(error) => {
                // It would try for ever, so this is not about the broker being away.
                tracing::error!(%error, "there is no way to NATS; what other nodes commit is found by looking");
                None
            }
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    pub(crate) async fn publish(&self, subjects: &BTreeSet<Subject>, bytes: Vec<u8>) -> Result<(), Away> {
        if !self.is_connected() {
            return Err(Away);
        }
        let bytes = Bytes::from(bytes);
        for subject in subjects {
            let published = self.client.publish(subject.to_string(), bytes.clone());
            timeout(PATIENCE, published).await.map_err(|_| Away)?.map_err(|_| Away)?;
        }
        Ok(())
    }

    pub(crate) async fn subscribe(&self, subject: Subject) -> Result<Subscriber, Away> {
        let subscribed = self.client.subscribe(subject.to_string());
        timeout(PATIENCE, subscribed).await.map_err(|_| Away)?.map_err(|_| Away)
    }

    /// Waits until what was asked for has left this machine.
    pub(crate) async fn flush(&self) -> Result<(), Away> {
        timeout(PATIENCE, self.client.flush()).await.map_err(|_| Away)?.map_err(|_| Away)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_and_never_repeated() {
        let good = ["nats://nats1:4222", "tls://user:pass@nats2:4222", "nats://127.0.0.1:1"];
        assert_eq!(parse(&good.map(str::to_owned)).unwrap().len(), 3);
        let bad = ["nats://nats1:4222", "nats://user:hunter2@host:port"].map(str::to_owned);
        let error = parse(&bad).unwrap_err().to_string();
        assert!(error.contains("address 2") && !error.contains("hunter2"), "{error}");
    }
}
