//! Health, metrics, and what happens when the store fails.

use std::sync::Arc;

use sidenote_server::clock::TestClock;
use sidenote_server::config::Config;
use sidenote_server::{Server, rule_limits};
use sidenote_store::Store;
use sidenote_store::faulty::{Fault, FaultyStore};
use sidenote_store::memory::MemoryStore;

use crate::world::{APP, KEY, NOW, World};

#[tokio::test]
async fn head_on_any_path_is_200_and_probes_ask_for_no_signature() {
    let world = World::new().await;
    for path in ["/", "/v4/anything", "/nowhere"] {
        assert_eq!(world.request("HEAD", path, "", b"").await.status, 200, "{path}");
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(world.request("GET", path, "", b"").await.status, 200, "{path}");
    }
    let elsewhere = world.request("GET", "/nowhere", "", b"").await;
    assert_eq!(elsewhere.status, 404);
    assert_eq!(elsewhere.json()["ErrorCode"], 60_009);
    world.stop().await;
}

#[tokio::test]
async fn metrics_count_by_command_and_code_and_made_up_names_make_no_series() {
    let world = World::new().await;
    world.call("administrator", "im_open_login_svc/account_check", "{}").await;
    world.call("administrator", "im_open_login_svc/made_up", "{}").await;
    let text = world.request("GET", "/metrics", "", b"").await.body;
    assert!(text.contains(r#"sidenote_requests_total{command="account_check",code="70402"} 1"#), "{text}");
    assert!(text.contains(r#"sidenote_requests_total{command="unknown",code="60009"} 1"#), "{text}");
    assert!(!text.contains("made_up"));
    world.stop().await;
}

#[tokio::test]
async fn a_store_that_fails_is_10002_or_70500_and_the_server_lives() {
    let config = format!("listen = \"127.0.0.1:0\"\n[[apps]]\nsdk_app_id = {APP}\nsecret_key = \"{KEY}\"\n");
    let config = Config::from_toml(&config).unwrap();
    let inner = Arc::new(MemoryStore::new(rule_limits(&config)));
    // The first commit makes the administrator's account.
    let schedule = [Fault::None, Fault::Before, Fault::After, Fault::None];
    let store: Arc<dyn Store> = Arc::new(FaultyStore::new(inner.clone(), schedule));
    let clock = Arc::new(TestClock::at(NOW * 1000));
    let server = Server::start(&config, store, clock.clone()).await.unwrap();
    let world = World::around(server, inner, clock);

    let import = r#"{"UserID":"ann"}"#;
    let failed = world.call("administrator", "im_open_login_svc/account_import", import).await;
    assert_eq!(failed.code(), 70_500);
    assert!(!failed.body.contains("schedule"), "what went wrong inside is not for callers: {}", failed.body);
    let create = r#"{"GroupId":"g","Type":"Public","Name":"g"}"#;
    let failed = world.call("administrator", "group_open_http_svc/create_group", create).await;
    assert_eq!(failed.code(), 10_002);
    // That one had happened, and its caller was not told that it had not.
    assert_eq!(world.call("administrator", "group_open_http_svc/create_group", create).await.code(), 10_021);
    world.stop().await;
}

#[tokio::test]
async fn a_store_that_fails_is_91000_for_messages_of_two_and_20004_for_their_extensions() {
    let config = format!("listen = \"127.0.0.1:0\"\n[[apps]]\nsdk_app_id = {APP}\nsecret_key = \"{KEY}\"\n");
    let config = Config::from_toml(&config).unwrap();
    let inner = Arc::new(MemoryStore::new(rule_limits(&config)));
    // The administrator's account, Ann's, a message; then one message and one pair that fail.
    let schedule = [Fault::None, Fault::None, Fault::None, Fault::Before, Fault::Before];
    let store: Arc<dyn Store> = Arc::new(FaultyStore::new(inner.clone(), schedule));
    let clock = Arc::new(TestClock::at(NOW * 1000));
    let server = Server::start(&config, store, clock.clone()).await.unwrap();
    let world = World::around(server, inner, clock);

    world.ok("im_open_login_svc/account_import", r#"{"UserID":"ann"}"#).await;
    let send = r#"{"To_Account":"ann","MsgRandom":1,"SupportMessageExtension":1,
        "MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]}"#;
    let key = world.ok("openim/sendmsg", send).await["MsgKey"].clone();
    let failed = world.call("administrator", "openim/sendmsg", send).await;
    assert_eq!(failed.code(), 91_000);
    assert!(!failed.body.contains("schedule"), "what went wrong inside is not for callers: {}", failed.body);
    let set = format!(r#"{{"To_Account":"ann","MsgKey":{key},"OperateType":3}}"#);
    let failed = world.call("administrator", "openim_msg_ext_http_svc/set_key_values", &set).await;
    assert_eq!(failed.code(), 20_004);
    assert!(!failed.body.contains("schedule"), "{}", failed.body);
    assert_eq!(
        world.ok("openim_msg_ext_http_svc/set_key_values", &set).await["Seq"],
        1,
        "the next one works"
    );
    world.stop().await;
}
