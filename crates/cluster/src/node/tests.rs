//! Nodes on a real database with a real broker. What is pushed through them is in the tests of the binary.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};

use futures_util::StreamExt as _;
use sidenote_core::Limits;
use sidenote_core::ids::{AccountId, EventNumber, Timestamp, TinyId, UserId};
use sidenote_postgres_for_tests::processes::{bound, spawn};
use sidenote_postgres_for_tests::{Postgres, Settings};
use sidenote_store::audience::Followed;
use sidenote_store_postgres::{PostgresOptions, schema};

use super::*;
use crate::message::Message;
use crate::subject::Subject;

/// Whatever is waited for takes no longer.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where packages put the server.
const PLACES: [&str; 3] = ["/usr/sbin/nats-server", "/usr/bin/nats-server", "/usr/local/bin/nats-server"];

/// Where nodes tell something.
const OWN: Subject = Subject::Shard(9);

/// A server of NATS on the loopback interface. It ends when this is dropped.
struct Nats {
    server: Child,
    address: String,
}

impl Nats {
    fn start_or_skip(test: &str) -> Option<Self> {
        let Some(program) = PLACES.iter().map(Path::new).find(|place| place.is_file()) else {
            #[expect(
                clippy::disallowed_methods,
                reason = "tests are told what must be there by the environment"
            )]
            let required = std::env::var("SIDENOTE_REQUIRE_NATS").is_ok();
            assert!(!required, "{test}: NATS is not installed (apt install nats-server)");
            println!("{test}: skipped, because NATS is not installed (apt install nats-server)");
            return None;
        };
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut command = bound(program, "KILL", None);
        command.args(["--addr", "127.0.0.1", "--port", &port.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = spawn(command).unwrap();
        let began = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(began.elapsed() < PATIENCE, "NATS does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { server, address: format!("nats://127.0.0.1:{port}") })
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

/// Somebody who follows everything, so that a node listens to all there is.
struct Everything(watch::Sender<u64>);

impl Audience for Everything {
    fn followed(&self) -> Followed {
        Followed { has_apps: true, ..Followed::default() }
    }

    fn may_want(&self, _: &ConversationId, _: bool) -> bool {
        true
    }

    fn ends_here(&self, _: &ConversationId, _: Incarnation, _: EventNumber) {}

    fn is_gone(&self, _: &ConversationId, _: Incarnation) {}

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// A node, and who follows there.
struct Scene {
    node: Node,
    _everything: Arc<Everything>,
}

async fn node(dsn: &str, nats: &Nats) -> Scene {
    let options = PostgresOptions { connections: 2, ..PostgresOptions::new(dsn) };
    schema::migrate(&options).await.unwrap();
    let store = Arc::new(PostgresStore::open(options, Limits::default()).await.unwrap());
    let nats = vec![nats.address.clone()];
    let options = ClusterOptions { nats, poll: Duration::from_hours(1), lease: Duration::from_secs(10) };
    let node = Node::start(store, &options).await.unwrap();
    let everything = Arc::new(Everything(watch::Sender::new(0)));
    let audience: Weak<Everything> = Arc::downgrade(&everything);
    node.attend(audience);
    Scene { node, _everything: everything }
}

impl Scene {
    fn heard(&self) -> u64 {
        self.node.statistics().cluster.unwrap().heard
    }

    fn is_connected(&self) -> bool {
        self.node.statistics().cluster.unwrap().connected.unwrap()
    }

    /// Tells the others something, where nobody else does.
    async fn tell(&self) -> bool {
        let broker = self.node.broker.as_ref().unwrap();
        broker.publish(&BTreeSet::from([OWN]), news()).await.is_ok()
    }
}

fn news() -> Vec<u8> {
    let account = AccountId { app: AppId::new(7), user: UserId::new("ann").unwrap() };
    Message::Deleted(account, TinyId::from_random(1)).encode(Some(Timestamp::from_millis(1)))
}

/// Looks again and again, with something done before each time.
async fn until(mut is_so: impl AsyncFnMut() -> bool, otherwise: &str) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "{otherwise}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_hear_those_on_their_own_database_and_nobody_else_on_the_broker() {
    let test = "nodes_hear_those_on_their_own_database_and_nobody_else_on_the_broker";
    let Some(nats) = Nats::start_or_skip(test) else { return };
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    // Made in the same second, and with the same apps: both are for all apps.
    let [ours, others] = [postgres.new_schema(), postgres.new_database()];
    let nodes = [node(&ours, &nats).await, node(&ours, &nats).await, node(&others, &nats).await];
    let [here, there, other] = &nodes;
    let number = |scene: &Scene| scene.node.store.database();
    assert_eq!(number(here), number(there));
    assert_ne!(number(here), number(other));
    // The others listen, to what is theirs.
    let client = async_nats::connect(&nats.address).await.unwrap();
    let tell_others = async || {
        client.publish(Subject::Everybody.name(number(other)), news().into()).await.unwrap();
        other.heard() > 0
    };
    until(tell_others, "the others hear nothing").await;
    until(async || here.tell().await && there.heard() > 0, "nothing is heard").await;
    let (before, told) = (there.heard(), other.heard());
    for _ in 0..100 {
        assert!(here.tell().await);
    }
    until(async || there.heard() >= before + 100, "not all is heard").await;
    // What was told to them until then came before that, or is one of those that were still on the way.
    client.publish(Subject::Shard(7).name(number(other)), news().into()).await.unwrap();
    client.flush().await.unwrap();
    until(async || other.heard() > told, "the others hear nothing any more").await;
    assert!(other.heard() < told + 100, "{} of another database were heard", other.heard() - told);
    assert_eq!(there.node.statistics().cluster.unwrap().refused, 0);
    for scene in nodes {
        scene.node.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_ends_is_replaced_by_one_that_hears_and_is_heard() {
    let test = "a_client_that_ends_is_replaced_by_one_that_hears_and_is_heard";
    let Some(nats) = Nats::start_or_skip(test) else { return };
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let scene = node(&postgres.new_schema(), &nats).await;
    let client = async_nats::connect(&nats.address).await.unwrap();
    let subject = Subject::Everybody.name(scene.node.store.database());
    let is_heard = async |before: u64| {
        client.publish(subject.clone(), news().into()).await.unwrap();
        scene.heard() > before
    };
    until(async || is_heard(0).await, "nothing is heard").await;
    let mut told = client.subscribe(OWN.name(scene.node.store.database())).await.unwrap();
    client.flush().await.unwrap();
    for _ in 0..2 {
        // It says goodbye and takes nothing any more.
        scene.node.broker.as_ref().unwrap().end_client().await;
        until(async || !scene.is_connected(), "a client that has ended counts as connected").await;
        assert!(!scene.tell().await);
        until(async || scene.is_connected(), "no other client takes its place").await;
        let before = scene.heard();
        until(async || is_heard(before).await, "nothing is heard any more").await;
        assert!(scene.tell().await);
    }
    for _ in 0..2 {
        tokio::time::timeout(PATIENCE, told.next()).await.unwrap().unwrap();
    }
    assert_eq!(scene.node.statistics().cluster.unwrap().refused, 0);
    scene.node.close().await;
}
