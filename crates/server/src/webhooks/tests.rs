//! Apps that are told by a receiver that does what the test says, over a volatile store.

mod ends;
mod faults;
mod order;
mod outages;
mod questions;
pub(in crate::webhooks) mod script;
mod shared;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sidenote_core::Limits;
use sidenote_core::ids::{AppId, Conversation, GroupId};
use sidenote_core::query::Outboxes;
use sidenote_store::Store;
use sidenote_store::memory::MemoryStore;

use crate::api::testing::World;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::tasks::Tasks;
use crate::webhooks::{DeadLetters, Webhooks};
use script::{Got, Reply, Script};

const APP: u32 = 1_400_000_001;

/// A store, an app over it, and the webhooks of the app as long as they run.
struct Scene {
    /// What lies below the webhooks and outlives them.
    store: Arc<dyn Store>,
    world: World,
    config: Config,
    webhooks: Arc<Webhooks>,
    tasks: Tasks,
}

/// Limits of a store whose app is told.
fn limits() -> Limits {
    Limits { webhook_apps: vec![AppId::new(APP)].leak(), attempts_per_minute: 0, ..Limits::default() }
}

/// A configuration whose requests and retries are quick unless it says otherwise.
pub(in crate::webhooks) fn config(url: &str, more: &str) -> Config {
    let quick = [("timeout_ms", 300), ("retry_first_ms", 10), ("retry_longest_ms", 20)];
    let quick = quick.iter().filter(|(name, _)| !more.contains(name));
    let quick: Vec<_> = quick.map(|(name, millis)| format!("{name} = {millis}")).collect();
    Config::from_toml(&format!(
        "[[apps]]\nsdk_app_id = {APP}\nsecret_key = \"k\"\n[apps.webhook]\nurl = \"{url}\"\n{}\n{more}\n",
        quick.join("\n")
    ))
    .unwrap()
}

pub(in crate::webhooks) const LOOPBACK: &str = "allow_networks = [\"127.0.0.0/8\"]";

impl Scene {
    /// Tells the receiver of this script.
    async fn new(script: &Script, more: &str) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(limits()));
        Self::over(store, config(&script.url(), &format!("{LOOPBACK}\n{more}"))).await
    }

    async fn over(store: Arc<dyn Store>, config: Config) -> Self {
        let webhooks = Arc::new(Webhooks::new(&config, &store, &clock()).unwrap());
        let mut world = World::over(Arc::clone(&store)).await;
        world.before = webhooks.before();
        world.now = now_secs();
        let tasks = Tasks::new();
        webhooks.start(&tasks).unwrap();
        Self { store, world, config, webhooks, tasks }
    }

    /// Ends the webhooks as a server that is stopped does.
    async fn stop(&self) {
        assert!(self.tasks.stop(Duration::from_secs(20)).await);
        assert_eq!(self.tasks.failed(), None);
    }

    /// Makes a group with a message that takes pairs.
    async fn poll(&self, group: &str) {
        let create = json!({"GroupId":group,"Type":"Public","Name":group}).to_string();
        self.world.ok("create_group", &create).await;
        let sent = json!({
            "GroupId":group,"Random":1,"SupportMessageExtension":1,
            "MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"?"}}]
        });
        self.world.ok("send_group_msg", &sent.to_string()).await;
    }

    async fn set(&self, group: &str, key: &str, value: &str) -> Value {
        let set = json!({
            "GroupId":group,"MsgSeq":1,"OperateType":1,"ExtensionList":[{"Key":key,"Value":value}]
        });
        self.world.post("group_set_key_values", &set.to_string()).await
    }

    async fn set_often(&self, group: &str, times: usize) {
        for _ in 0..times {
            assert_eq!(self.set(group, "k", "v").await["ErrorCode"], 0);
        }
    }

    async fn outboxes(&self) -> usize {
        let question = Outboxes { app: AppId::new(APP), conversation: None, after: None, limit: 1000 };
        self.store.ask(question).await.unwrap().len()
    }

    /// The last event of this group that the store knows to be told, as long as others are left.
    async fn told(&self, group: &str) -> u64 {
        let conversation = Conversation::Group(GroupId::new(group).unwrap());
        let question =
            Outboxes { app: AppId::new(APP), conversation: Some(conversation), after: None, limit: 9 };
        self.store.ask(question).await.unwrap()[0].2.after.get()
    }

    fn letters(&self) -> DeadLetters {
        DeadLetters::new(&self.config, Arc::clone(&self.store), clock()).unwrap()
    }
}

fn clock() -> Arc<dyn crate::clock::Clock> {
    Arc::new(SystemClock)
}

fn now_secs() -> u64 {
    clock().now_millis() / 1000
}

/// Waits until something holds, and fails if it takes too long.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), wait).await.is_ok(), "it took too long: {what}");
}

/// The `Seq` of the pairs that were told of this group, in the order in which the receiver took them.
fn seqs(got: &[Got], group: &str) -> Vec<u64> {
    let of_group = got.iter().filter(|got| got.accepted && got.body["GroupId"] == group);
    of_group.filter_map(|got| got.body["Seq"].as_u64()).collect()
}
