//! Nodes on one database, and what they may believe of themselves.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking, and so may the functions it calls")]

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use sidenote_cluster::{ClusterOptions, Node};
use sidenote_core::Limits;
use sidenote_core::command::{AccountAction, Action, Command, GroupAction, NewGroup};
use sidenote_core::event::{CallerKind, Operator, Platform};
use sidenote_core::group::{ApplyJoin, GroupProfile, GroupType, InviteJoin};
use sidenote_core::ids::{
    AccountId, AppId, ConversationId, EventNumber, GroupId, Incarnation, Timestamp, TinyId, UserId,
};
use sidenote_postgres_for_tests::{Postgres, Settings};
use sidenote_store::Store;
use sidenote_store::audience::{Audience, Followed};
use sidenote_store::shared::{Claim, Claimed, Leave, Login, LoginNumber, Logins, Shared};
use sidenote_store_postgres::{PostgresOptions, PostgresStore, schema};
use tokio::sync::watch;

const APP: AppId = AppId::new(1_400_000_001);

const DATABASE: &str = "test0";

/// Long enough that no node misses it on a slow machine.
const LEASE: Duration = Duration::from_secs(4);

/// A transaction that waits for a lock.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";

/// The connections of a node's clients.
#[derive(Default)]
struct Connections(Mutex<Vec<Login>>);

impl Logins for Connections {
    fn all(&self) -> Vec<Login> {
        self.0.lock().unwrap().clone()
    }

    fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    fn leave(&self, _: &AccountId, number: LoginNumber, _: Leave) -> bool {
        let mut all = self.0.lock().unwrap();
        let before = all.len();
        all.retain(|login| login.number != number);
        all.len() < before
    }
}

struct Scene {
    postgres: Postgres,
    dsn: String,
}

impl Scene {
    async fn start_or_skip(test: &str) -> Option<Self> {
        let postgres = Postgres::start_or_skip(test, Settings::default())?;
        let dsn = postgres.new_database();
        schema::migrate(&PostgresOptions::new(&*dsn)).await.unwrap();
        Some(Self { postgres, dsn })
    }

    /// A node that lives, whose statements wait so long for a lock.
    async fn node(&self, lock_timeout: Duration) -> (Node, Arc<Connections>) {
        let statement_timeout = lock_timeout * 2;
        let options = PostgresOptions { lock_timeout, statement_timeout, ..PostgresOptions::new(&*self.dsn) };
        let limits = Limits { webhook_apps: vec![APP].leak(), ..Limits::default() };
        let store = Arc::new(PostgresStore::open(options, limits).await.unwrap());
        let options = ClusterOptions { nats: Vec::new(), poll: Duration::from_millis(100), lease: LEASE };
        let node = Node::start(store, &options).await.unwrap();
        let connections = Arc::<Connections>::default();
        let logins: Arc<dyn Logins> = Arc::clone(&connections) as Arc<dyn Logins>;
        assert!(!node.lives());
        node.join(Arc::downgrade(&logins));
        until("the node lives", || node.lives()).await;
        (node, connections)
    }

    fn psql(&self, sql: &str) -> String {
        self.postgres.psql(DATABASE, sql).trim().to_owned()
    }

    fn alive_until(&self) -> String {
        self.psql("SELECT max(alive_until) FROM nodes")
    }
}

/// Waits until this holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(LEASE * 4, wait).await.is_ok(), "it took too long: {what}");
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn ann() -> AccountId {
    AccountId { app: APP, user: user("ann") }
}

fn login(number: u64) -> Login {
    Login { account: ann(), number: LoginNumber::from_random(number << 1), instance: 1 }
}

async fn commit(store: &dyn Store, action: Action) {
    let (user, platform) = (user("admin"), Platform::RestApi);
    let operator = Operator { user, tiny_id: None, kind: CallerKind::Administrator, platform, address: None };
    let command = Command { operator, at: Timestamp::from_millis(1_700_000_000_000), action };
    store.commit(command).await.unwrap().verdict.unwrap();
}

async fn import_ann(store: &dyn Store) {
    let import = AccountAction::Import { tiny_id: TinyId::from_random(1), nick: None, face_url: None };
    commit(store, Action::Account(ann(), import)).await;
}

/// Makes a group, of which there is something to tell.
async fn found(store: &dyn Store) -> ConversationId {
    let profile = GroupProfile {
        name: "lunch".to_owned(),
        introduction: String::new(),
        notification: String::new(),
        face_url: String::new(),
        max_members: None,
        apply_join: ApplyJoin::FreeAccess,
        invite_join: InviteJoin::FreeAccess,
        mute_all: false,
        history_before_join: true,
        custom: Vec::new(),
    };
    let new = NewGroup {
        incarnation: Incarnation::from_random(77),
        kind: GroupType::Public,
        owner: None,
        profile,
        members: Vec::new(),
        created_at: Timestamp::from_millis(1_700_000_000_000),
        imported: false,
    };
    let id = ConversationId::group(APP, GroupId::new("room").unwrap());
    commit(store, Action::Group(id.clone(), GroupAction::Create(Box::new(new)))).await;
    id
}

/// Claims what there is to tell, as soon as it can be had.
async fn claim(node: &Node, id: &ConversationId) -> Claim {
    let claiming = async {
        loop {
            if let Claimed::Mine(claim, _) = node.claim(id).await.unwrap() {
                return claim;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LEASE * 4, claiming).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_dead_by_the_clock_of_the_database_alone_notices() {
    let test = "a_node_that_was_dead_by_the_clock_of_the_database_alone_notices";
    let Some(scene) = Scene::start_or_skip(test).await else { return };
    let second = Duration::from_secs(1);
    let ((here, _here), (there, _there)) = (scene.node(second).await, scene.node(second).await);
    let room = found(&here).await;
    let before = claim(&here, &room).await;
    assert!(here.holds_until(before).is_some());
    // What a clock does that is set forward, or that of a standby which is made the primary: this node is dead for the one
    // that asks then, and knows nothing of it.
    scene.psql(
        "UPDATE nodes SET alive_until = now() FROM outboxes WHERE node = claimed_by; \
         UPDATE outboxes SET claimed_by = node, claim = 1 FROM nodes WHERE node <> claimed_by",
    );
    until("it notices", || here.holds_until(before).is_none()).await;
    assert_eq!(here.claim(&room).await, Ok(Claimed::Others));
    let after = claim(&there, &room).await;
    here.close().await;
    assert!(!here.lives() && there.holds_until(after).is_some());
    there.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_can_not_be_removed_keeps_no_node_from_living() {
    let test = "a_login_that_can_not_be_removed_keeps_no_node_from_living";
    let Some(scene) = Scene::start_or_skip(test).await else { return };
    let (node, connections) = scene.node(LEASE * 8).await;
    import_ann(&node).await;
    connections.0.lock().unwrap().push(login(1));
    node.enter(&login(1), 9).await.unwrap();
    let mut locker = scene.postgres.session(DATABASE);
    locker.run("BEGIN; SELECT login FROM logins FOR UPDATE;");
    connections.0.lock().unwrap().clear();
    node.left(login(1));
    until("the lock is waited for", || scene.psql(WAITING) == "1").await;
    for _ in 0..2 {
        let before = scene.alive_until();
        until("the node says that it lives", || scene.alive_until() != before).await;
    }
    assert_eq!(scene.psql(WAITING), "1");
    locker.run("ROLLBACK;");
    until("the login is removed", || scene.psql("SELECT count(*) FROM logins") == "0").await;
    node.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_that_were_cleared_away_are_written_down_again_however_often_that_fails() {
    let test = "logins_that_were_cleared_away_are_written_down_again_however_often_that_fails";
    let Some(scene) = Scene::start_or_skip(test).await else { return };
    let (node, connections) = scene.node(Duration::from_millis(50)).await;
    import_ann(&node).await;
    connections.0.lock().unwrap().extend((1..200).map(login));
    let count = || scene.psql("SELECT count(*) FROM logins");
    // The server writes each statement that fails to its log.
    scene.psql("ALTER TABLE logins RENAME TO away");
    scene.psql("UPDATE nodes SET alive_until = now() - interval '1 second'");
    let failed = || scene.postgres.log().matches("INSERT INTO logins").count();
    until("it was tried twice", || failed() >= 2).await;
    scene.psql("ALTER TABLE away RENAME TO logins");
    until("all are written down", || count() == "199").await;
    node.close().await;
    assert_eq!(scene.psql("SELECT (SELECT count(*) FROM logins), (SELECT count(*) FROM nodes)"), "0|0");
}

/// Somebody who follows and can't say what.
struct Broken(watch::Sender<u64>);

impl Audience for Broken {
    fn followed(&self) -> Followed {
        panic!("on purpose")
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

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_background_work_panicked_is_not_well() {
    let test = "a_node_whose_background_work_panicked_is_not_well";
    let Some(scene) = Scene::start_or_skip(test).await else { return };
    let (node, _connections) = scene.node(Duration::from_secs(1)).await;
    assert_eq!(node.health(), Ok(()));
    let broken = Arc::new(Broken(watch::Sender::new(0)));
    let audience: Weak<Broken> = Arc::downgrade(&broken);
    node.attend(audience);
    until("it says so", || node.health().is_err_and(|error| error.to_string().contains("panicked"))).await;
    node.close().await;
}
