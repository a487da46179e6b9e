//! Groups that end, events that are lost, and stores that fail, while somebody is being told.

use std::future::Future as _;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use async_trait::async_trait;
use sidenote_core::ids::Timestamp;
use sidenote_core::query::{Answer, Query};
use sidenote_store::decorator::Decorator;
use sidenote_store::faulty::{Fault, FaultyStore};
use sidenote_store::{StoreError, debts};
use tokio_util::sync::CancellationToken;

use super::*;

#[tokio::test]
async fn a_group_destroyed_while_its_first_event_is_retried_is_told_as_it_was() {
    let up = Arc::new(AtomicBool::new(false));
    let is_up = Arc::clone(&up);
    let rule = move |_: &Got, _| if is_up.load(Ordering::SeqCst) { Reply::Ok } else { Reply::Status(500) };
    let script = Script::new(rule).await;
    let scene = Scene::new(&script, "").await;
    scene.world.import_accounts(&["ann", "bob"]).await;
    let create = json!({
        "GroupId":"room","Type":"Public","Name":"Room","Owner_Account":"ann","MemberList":[{"Member_Account":"bob"}]
    });
    scene.world.ok("create_group", &create.to_string()).await;
    until("it was tried", async || script.got().len() >= 2).await;
    scene.world.ok("destroy_group", r#"{"GroupId":"room"}"#).await;
    up.store(true, Ordering::SeqCst);
    until("all is settled", async || scene.outboxes().await == 0).await;
    scene.stop().await;
    let told: Vec<_> = script.got().into_iter().filter(|got| got.accepted).map(|got| got.body).collect();
    let commands: Vec<_> = told.iter().map(|body| body["CallbackCommand"].as_str().unwrap()).collect();
    assert_eq!(commands, ["Group.CallbackAfterCreateGroup", "Group.CallbackAfterGroupDestroyed"]);
    for body in &told {
        let of = |name: &str| body[name].as_str().unwrap().to_owned();
        assert_eq!(
            (of("Type"), of("Name"), of("Owner_Account")),
            ("Public".into(), "Room".into(), "ann".into())
        );
    }
}

#[tokio::test]
async fn an_event_whose_letter_could_not_be_written_is_told_again() {
    let scene = Scene::new(&Script::ok().await, "").await;
    scene.stop().await;
    scene.poll("room").await;
    scene.set_often("room", 3).await;
    let script =
        Script::new(|got, _| if got.body["Seq"] == 2 { Reply::Status(500) } else { Reply::Ok }).await;
    // The first commit makes the administrator, the next one is that of the letter.
    let faulty = FaultyStore::new(Arc::clone(&scene.store), [Fault::None, Fault::Before]);
    let config = config(&script.url(), &format!("{LOOPBACK}\ngive_up_tries = 1"));
    let again = Scene::over(Arc::new(faulty), config).await;
    until("all is settled", async || again.outboxes().await == 0).await;
    again.stop().await;
    assert_eq!(seqs(&script.got(), "room"), [1, 3]);
    assert_eq!(script.got().iter().filter(|got| got.body["Seq"] == 2).count(), 2);
    let page = again.letters().page(APP, None, 10).await.unwrap();
    let [letter] = &page[..] else { panic!("{page:?}") };
    assert_eq!((letter.number.get(), letter.letter.first), (4, letter.number));
}

/// A store in which the app has had no receiver yet.
async fn untold(limits: Limits) -> (Arc<MemoryStore>, Scene) {
    let store = Arc::new(MemoryStore::new(limits));
    let scene = Scene::over(store.clone(), config("http://127.0.0.1:9", LOOPBACK)).await;
    scene.stop().await;
    (store, scene)
}

#[tokio::test]
async fn a_gap_in_the_middle_of_what_is_left_leaves_a_letter() {
    let (store, scene) = untold(Limits { events_kept: 10, untold_events_kept: 100, ..limits() }).await;
    scene.poll("room").await;
    scene.set_often("room", 30).await;
    // From now on only 20 are kept, and each new event takes one old one away: 13 to 17 of the 37.
    let fewer = store.copy_with(Limits { events_kept: 10, untold_events_kept: 20, ..limits() });
    let script = Script::ok().await;
    let scene = Scene::over(Arc::new(fewer), config(&script.url(), LOOPBACK)).await;
    scene.stop().await;
    scene.set_often("room", 5).await;

    let up = Script::ok().await;
    let again = Scene::over(Arc::clone(&scene.store), config(&up.url(), LOOPBACK)).await;
    until("all is settled", async || again.outboxes().await == 0).await;
    again.stop().await;
    let told = [script.got(), up.got()].concat();
    assert_eq!(seqs(&told, "room"), (1..=10).chain(16..=35).collect::<Vec<_>>());
    let page = again.letters().page(APP, None, 10).await.unwrap();
    let [letter] = &page[..] else { panic!("{page:?}") };
    assert_eq!((letter.letter.first.get(), letter.number.get()), (13, 17));
}

#[tokio::test]
async fn a_conversation_whose_events_are_all_gone_leaves_a_letter() {
    let (store, scene) = untold(limits()).await;
    scene.world.import_accounts(&["ann", "bob"]).await;
    let letter = json!({
        "From_Account":"ann","To_Account":"bob","MsgRandom":7,
        "MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]
    });
    scene.world.ok("sendmsg", &letter.to_string()).await;
    for group in ["ended", "room"] {
        scene.poll(group).await;
    }
    scene.world.ok("destroy_group", r#"{"GroupId":"ended"}"#).await;
    assert_eq!(scene.outboxes().await, 3);
    // The webhook was taken out for so long that the events went.
    let without = store.copy_with(Limits { webhook_apps: &[], ..limits() });
    let later = Timestamp::from_millis(clock().now_millis() + 10 * limits().events_kept_millis);
    debts::pay_due(&without, later, None, 100).await.unwrap();

    let script = Script::ok().await;
    let back = Arc::new(without.copy_with(limits()));
    let again = Scene::over(back, config(&script.url(), LOOPBACK)).await;
    until("all is settled", async || again.outboxes().await == 0).await;
    again.stop().await;
    let page = again.letters().page(APP, None, 10).await.unwrap();
    let mut events: Vec<_> =
        page.iter().map(|letter| (letter.letter.first.get(), letter.number.get())).collect();
    events.sort_unstable();
    assert_eq!(events, [(1, 1), (1, 2), (1, 3)]);
    assert!(script.got().is_empty());
}

/// A store that never says which conversations have something to tell, only whether one has.
struct Unsearchable(Arc<dyn Store>);

#[async_trait]
impl Decorator for Unsearchable {
    fn inner(&self) -> &dyn Store {
        &*self.0
    }

    async fn answer(&self, query: Query) -> Result<Answer, StoreError> {
        if matches!(&query, Query::Outboxes(Outboxes { conversation: None, .. })) {
            std::future::pending::<()>().await;
        }
        self.0.answer(query).await
    }
}

#[tokio::test]
async fn events_are_told_while_the_store_is_searched() {
    let script = Script::ok().await;
    let store = Arc::new(Unsearchable(Arc::new(MemoryStore::new(limits()))));
    let scene = Scene::over(store, config(&script.url(), LOOPBACK)).await;
    scene.poll("room").await;
    until("it is told", async || script.got().len() == 2).await;
    scene.stop().await;
}

#[tokio::test]
async fn nothing_turns_in_circles_while_all_places_are_taken() {
    let script = Script::new(|got, _| match got.body["GroupId"].as_str() {
        Some("bad") => Reply::Status(500),
        _ => Reply::Hang,
    })
    .await;
    let (store, scene) = untold(limits()).await;
    for group in ["bad", "slow"] {
        scene.poll(group).await;
    }
    let config = config(&script.url(), &format!("{LOOPBACK}\nparallel = 1"));
    let store: Arc<dyn Store> = store;
    let webhooks = Webhooks::new(&config, &store, &clock()).unwrap();
    // The slow one takes the only place for 300 ms; the bad one is due after 20 of them.
    let (stop, mut polls) = (CancellationToken::new(), 0);
    let mut run = pin!(webhooks.tellers[0].run(&stop));
    let counted = std::future::poll_fn(|context| {
        polls += 1;
        match run.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }
    });
    let failed_thrice = until("both failed", async || webhooks.statistics()[0].failed >= 3);
    tokio::select! {
        () = counted => panic!("it was not stopped"),
        () = failed_thrice => {}
    }
    assert!(polls < 1000, "{polls}");
}
