//! Receivers that do not what they should.

use super::*;
use crate::webhooks::{LetterId, NotReplayed};

/// The first five requests meet this fault, the others are answered.
async fn after_five(fault: Reply) -> Script {
    Script::new(move |_, before| if before < 5 { fault.clone() } else { Reply::Ok }).await
}

#[tokio::test]
async fn order_is_kept_whatever_goes_wrong() {
    let elsewhere = Script::ok().await;
    for fault in [
        Reply::Status(500),
        Reply::Status(404),
        Reply::Status(204),
        Reply::Redirect(elsewhere.url()),
        Reply::CloseHalfway,
        Reply::Hang,
        Reply::Drip,
        Reply::Long(10 * 1024 * 1024),
        Reply::With("<html>".to_owned()),
        Reply::With(String::new()),
    ] {
        let is_json_missing = matches!(fault, Reply::With(_));
        let script = after_five(fault.clone()).await;
        let scene = Scene::new(&script, "").await;
        scene.poll("room").await;
        scene.set_often("room", 20).await;
        until("all is settled", async || scene.outboxes().await == 0).await;
        scene.stop().await;
        let mut told = seqs(&script.got(), "room");
        if is_json_missing {
            // The script counts what it meant as an answer.
            told.dedup();
        }
        assert_eq!(told, (1..=20).collect::<Vec<_>>(), "{fault:?}");
        assert_eq!(scene.webhooks.statistics()[0].failed, 5, "{fault:?}");
    }
    assert_eq!(elsewhere.connections(), 0, "a redirect was followed");
}

#[tokio::test]
async fn a_conversation_that_fails_does_not_hold_up_others() {
    let script =
        Script::new(|got, _| if got.body["GroupId"] == "bad" { Reply::Status(500) } else { Reply::Ok }).await;
    let scene = Scene::new(&script, "parallel = 1").await;
    for group in ["bad", "good"] {
        scene.poll(group).await;
        scene.set_often(group, 50).await;
    }
    until("the good ones are told", async || seqs(&script.got(), "good").len() >= 50).await;
    assert_eq!(seqs(&script.got(), "good"), (1..=50).collect::<Vec<_>>());
    let failing = || script.got().into_iter().filter(|got| got.body["GroupId"] == "bad");
    until("the bad one is tried again", async || failing().count() > 1).await;
    assert!(failing().all(|got| got.body["CallbackCommand"] == "Group.CallbackAfterCreateGroup"));
    scene.stop().await;
}

#[tokio::test]
async fn an_event_that_fails_too_often_is_given_up_and_can_be_sent_again() {
    let script = Script::new(|got, _| {
        if got.body["Seq"] == 2 && got.headers.contains_key("x-sidenote-event") {
            Reply::Status(500)
        } else {
            Reply::Ok
        }
    })
    .await;
    let scene = Scene::new(&script, "give_up_tries = 3").await;
    scene.poll("room").await;
    scene.set_often("room", 4).await;
    until("all is settled", async || scene.outboxes().await == 0).await;
    assert_eq!(seqs(&script.got(), "room"), [1, 3, 4]);
    assert_eq!(script.got().iter().filter(|got| got.body["Seq"] == 2).count(), 3);
    let figures = &scene.webhooks.statistics()[0];
    assert_eq!((figures.given_up, figures.lost, figures.told), (1, 0, 5));

    let letters = scene.letters();
    let page = letters.page(APP, None, 10).await.unwrap();
    let [letter] = &page[..] else { panic!("{page:?}") };
    assert_eq!((letter.letter.tries, letter.letter.first), (3, letter.number));
    assert!(letter.letter.reason.contains("status 500"), "{}", letter.letter.reason);
    let request = letter.letter.request.as_ref().unwrap();
    assert_eq!(request.command, "Group.CallbackAfterGroupMsgExtension");
    assert_eq!(serde_json::from_str::<Value>(&request.body).unwrap()["Seq"], 2);
    assert_eq!(LetterId::of(letter).to_string().parse(), Ok(LetterId::of(letter)));

    // It fails once more and is still there; another receiver takes it, and it is gone.
    assert!(
        matches!(letters.replay(letter).await, Err(NotReplayed::Failed(reason)) if reason.contains("500"))
    );
    assert_eq!(letters.page(APP, None, 10).await.unwrap().len(), 1);
    let other = Script::ok().await;
    let elsewhere = config(&other.url(), LOOPBACK);
    let letters = DeadLetters::new(&elsewhere, Arc::clone(&scene.store), clock()).unwrap();
    letters.replay(letter).await.unwrap();
    assert_eq!(seqs(&other.got(), "room"), [2]);
    assert!(letters.page(APP, None, 10).await.unwrap().is_empty());
    scene.stop().await;
}

#[tokio::test]
async fn letters_can_be_discarded_and_need_a_receiver_to_be_sent() {
    let script = Script::new(|_, _| Reply::Status(500)).await;
    let scene = Scene::new(&script, "give_up_tries = 1").await;
    scene.poll("room").await;
    until("both are given up", async || scene.letters().page(APP, None, 10).await.unwrap().len() == 2).await;
    scene.stop().await;
    let minimal = format!("[[apps]]\nsdk_app_id = {APP}\nsecret_key = \"k\"\n");
    let without = Config::from_toml(&minimal).unwrap();
    let letters = DeadLetters::new(&without, Arc::clone(&scene.store), clock()).unwrap();
    let page = letters.page(APP, None, 10).await.unwrap();
    assert!(matches!(letters.replay(&page[0]).await, Err(NotReplayed::NoReceiver)));
    letters.discard(&page[0]).await.unwrap();
    letters.discard(&page[0]).await.unwrap();
    assert_eq!(letters.page(APP, None, 10).await.unwrap(), page[1..]);
    assert_eq!(letters.page(APP, Some(&page[1]), 10).await.unwrap(), []);
    assert_eq!(letters.page(APP + 1, None, 10).await.unwrap(), []);
}

#[tokio::test]
async fn events_that_fell_out_of_the_log_leave_a_letter_that_says_so() {
    let limits = Limits { events_kept: 10, untold_events_kept: 20, ..limits() };
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(limits));
    let down = Script::new(|_, _| Reply::Hang).await;
    let scene = Scene::over(store, config(&down.url(), LOOPBACK)).await;
    scene.stop().await;
    scene.poll("room").await;
    scene.set_often("room", 50).await;

    let up = Script::ok().await;
    let again = Scene::over(Arc::clone(&scene.store), config(&up.url(), LOOPBACK)).await;
    until("all is settled", async || again.outboxes().await == 0).await;
    again.stop().await;
    assert_eq!(seqs(&up.got(), "room"), (31..=50).collect::<Vec<_>>());
    let page = again.letters().page(APP, None, 10).await.unwrap();
    let [letter] = &page[..] else { panic!("{page:?}") };
    assert_eq!((letter.letter.first.get(), letter.number.get(), letter.letter.tries), (1, 32, 0));
    assert!(letter.letter.reason.contains("events.keep_untold_per_conversation"));
    assert!(matches!(again.letters().replay(letter).await, Err(NotReplayed::Empty)));
    assert_eq!(again.webhooks.statistics()[0].given_up, 32);
}

#[tokio::test]
async fn addresses_that_nobody_allowed_are_not_connected_to() {
    let script = Script::ok().await;
    let port = script.url().rsplit_once(':').unwrap().1.to_owned();
    for (host, more) in [
        ("127.0.0.1", ""),
        ("localhost", ""),
        ("[::ffff:127.0.0.1]", ""),
        ("127.0.0.1", "allow_networks = [\"10.0.0.0/8\", \"::1\", \"127.0.0.2\"]"),
    ] {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(limits()));
        let text = format!("{more}\ngive_up_tries = 1");
        let scene = Scene::over(store, config(&format!("http://{host}:{port}"), &text)).await;
        scene.poll("room").await;
        until("it is given up", async || !scene.letters().page(APP, None, 1).await.unwrap().is_empty()).await;
        let reason = scene.letters().page(APP, None, 1).await.unwrap()[0].letter.reason.clone();
        assert!(reason.contains("is not public and not allowed; webhook.allow_networks"), "{host}: {reason}");
        scene.stop().await;
    }
    assert_eq!(script.connections(), 0);
}

#[tokio::test]
async fn a_receiver_that_closes_connections_between_requests_misses_nothing() {
    let script = Script::new(|_, _| Reply::Ok).await;
    let scene = Scene::new(&script, "").await;
    scene.poll("room").await;
    until("it is told", async || script.got().len() == 2).await;
    scene.stop().await;
    assert_eq!(scene.webhooks.statistics()[0].failed, 0);
}
