//! What is heard through NATS and is not so, or not so any more; and a broker that has to prove who it is.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use sidenote_cluster::message::Message;
use sidenote_core::event::Event;
use sidenote_core::ids::{Conversation, EventNumber, Timestamp};
use sidenote_postgres_for_tests::{Postgres, Settings};
use sidenote_server::clock::{Clock as _, SystemClock};
use sidenote_store::News;
use sidenote_torture::broker::{Broker, Stranger};
use sidenote_torture::cluster::{Cluster, migrate, until};
use sidenote_torture::long::LongClient;

use super::few_connections;
use super::pushes::{cluster, figure, next_message, of, send, wait_until_connected};
use crate::server::{ConfigOptions, Running};

const HEARD: &str = "sidenote_cluster_heard_total";

/// Two servers with a broker, and somebody who is no server.
struct Scene {
    cluster: Cluster,
    stranger: Stranger,
    /// The subject that every server on the database listens to.
    everybody: String,
    _broker: Broker,
}

impl Scene {
    fn start_or_skip(test: &str) -> Option<Self> {
        let broker = Broker::start_or_skip(test)?;
        let cluster = cluster(test, broker.section(500))?;
        for node in &cluster.nodes {
            wait_until_connected(node, true);
        }
        let stranger = Stranger::at(&broker);
        Some(Self { cluster, stranger, everybody: String::new(), _broker: broker })
    }

    /// A message for bob alone, sent by ann through the first server.
    fn write(&self, random: u64) {
        let body = json!({"From_Account": "ann", "To_Account": "bob", "MsgRandom": random,
            "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "psst"}}]});
        of(&self.cluster, 0).ok("openim/sendmsg", &body.to_string());
    }

    /// Bob at the second server, who was told something through the broker, what that was, and when it was sent.
    fn bob_who_hears(&mut self) -> (LongClient, News, Timestamp) {
        let mut bob = LongClient::logged_in(self.cluster.nodes[1].address, "bob");
        let before = SystemClock.now_millis();
        self.write(1);
        assert_eq!(written(&mut bob), 1);
        loop {
            let (subject, bytes) = self.stranger.hear();
            let (message, sent) = Message::decode(&bytes).unwrap();
            let Message::News(news) = message else { panic!("{message:?}") };
            let sent = sent.expect("every message says when it was sent");
            if matches!(news.conversation.conversation, Conversation::Direct(..)) {
                assert!((before..=SystemClock.now_millis()).contains(&sent.millis()), "{sent:?}");
                self.everybody = subject.rsplit_once('.').unwrap().0.to_owned() + ".everybody";
                return (bob, news, sent);
            }
        }
    }

    /// Tells the servers something as if it came from one of them, and waits until the second has heard it.
    fn say(&mut self, news: News, sent: Option<Timestamp>) {
        let heard = figure(&self.cluster.nodes[1], HEARD);
        self.stranger.publish(&self.everybody, &Message::News(news).encode(sent));
        until(|| figure(&self.cluster.nodes[1], HEARD) > heard, "it is not heard");
    }
}

/// The random number of the message for one account that is pushed next, with nothing before it.
fn written(bob: &mut LongClient) -> u64 {
    let event = bob.event();
    event["C2cMsgArray"][0]["MsgRandom"].as_u64().unwrap_or_else(|| panic!("{event}"))
}

/// The same event under another number.
fn again(news: &News, number: u64) -> News {
    let number = EventNumber::new(number);
    let events = vec![Event { number, ..Event::clone(&news.events[0]) }.into()];
    News { first: number, last: number, events, ..news.clone() }
}

#[test]
fn what_was_held_up_on_the_way_is_not_pushed() {
    let test = "what_was_held_up_on_the_way_is_not_pushed";
    let Some(mut scene) = Scene::start_or_skip(test) else { return };
    let (mut bob, news, sent) = scene.bob_who_hears();
    // As if nobody remembered it any more: under a number that was not told.
    let earlier = Timestamp::from_millis(sent.millis() - 60_000);
    scene.say(again(&news, 2), Some(earlier));
    scene.cluster.nodes[1].wait_for("came too late to be pushed");
    // What is pushed next is something else, and news goes on.
    send(&of(&scene.cluster, 0), 10);
    let event = bob.event();
    assert!(event["GroupMsgArray"][0]["MsgSeq"].is_u64(), "{event}");
    scene.write(2);
    assert_eq!(written(&mut bob), 2);
    // The same from a server of the version before, which does not say when it sent it, would have been pushed.
    scene.say(again(&news, 3), None);
    assert_eq!(written(&mut bob), 1);
}

#[test]
fn a_number_that_nobody_committed_hides_nothing_for_long() {
    let test = "a_number_that_nobody_committed_hides_nothing_for_long";
    let Some(mut scene) = Scene::start_or_skip(test) else { return };
    let (mut bob, news, sent) = scene.bob_who_hears();
    let last = EventNumber::new(1000);
    scene.say(News { first: last, last, events: Vec::new(), ..news.clone() }, Some(sent));
    let began = SystemClock.now_millis();
    scene.write(2);
    assert_eq!(written(&mut bob), 2);
    // Some looks, and not the minutes for which is remembered what was told.
    let millis = SystemClock.now_millis() - began;
    assert!(millis < 20_000, "{millis}");
    scene.write(3);
    assert_eq!(written(&mut bob), 3);
    // One that brings an event is pushed, for whoever can publish can push. Whoever was told that has to look at the state.
    scene.say(again(&news, 4), Some(sent));
    assert_eq!(written(&mut bob), 1);
    bob.closed();
    scene.cluster.nodes[1].wait_for("events were told that the log does not have");
    let mut bob = LongClient::logged_in(scene.cluster.nodes[1].address, "bob");
    for random in 4..7 {
        scene.write(random);
        assert_eq!(written(&mut bob), random);
    }
    send(&of(&scene.cluster, 0), 10);
    assert_eq!(next_message(&mut bob), 2);
}

#[test]
fn a_broker_that_encrypts_proves_who_it_is() {
    let test = "a_broker_that_encrypts_proves_who_it_is";
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let [ours, others] = [(); 2].map(|()| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    });
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &ours).unwrap();
    let tls = [file("server.pem", &certificate.pem()), file("server.key", &key.serialize_pem())];
    let Some(broker) = Broker::start_with_tls_or_skip(test, tls) else { return };
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let url = postgres.new_database();
    migrate(&url);
    let start = |scheme: &str, authority: &str| {
        let more = broker.section(500).replace("nats://", scheme);
        let (store, database) = (few_connections(), Some(url.clone()));
        let options = ConfigOptions { store, more, database, ..ConfigOptions::default() };
        let authority = folder.path().join(authority);
        Running::start_with(&options, vec![("SSL_CERT_FILE".into(), authority.into())])
    };
    file("ours.pem", &ours.pem());
    file("others.pem", &others.pem());
    let trusting = start("tls://", "ours.pem");
    wait_until_connected(&trusting, true);
    // One that does not trust it says so, as far as the client does, and works without.
    let doubting = start("tls://", "others.pem");
    doubting.wait_for("NATS is away");
    wait_until_connected(&doubting, false);
    // Where the address does not ask for it the broker does, and has to prove itself all the same.
    let plain = start("nats://", "others.pem");
    plain.wait_for("NATS is away");
    wait_until_connected(&plain, false);
}
