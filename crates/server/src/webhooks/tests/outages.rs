//! Receivers that answer nobody for a while, or never answer one conversation.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Pauses that no test waits for.
const LONG_PAUSES: &str = "retry_first_ms = 3600000\nretry_longest_ms = 3600000";

/// A receiver that answers 503 until it is switched on.
async fn switched() -> (Script, Arc<AtomicBool>) {
    let up = Arc::new(AtomicBool::new(false));
    let is_up = Arc::clone(&up);
    let rule = move |_: &Got, _| if is_up.load(Ordering::SeqCst) { Reply::Ok } else { Reply::Status(503) };
    (Script::new(rule).await, up)
}

fn of_group(script: &Script, group: &str) -> usize {
    script.got().iter().filter(|got| got.body["GroupId"] == group).count()
}

#[tokio::test]
async fn a_conversation_that_always_fails_keeps_its_pauses_while_others_are_told() {
    let script =
        Script::new(|got, _| if got.body["GroupId"] == "bad" { Reply::Status(500) } else { Reply::Ok }).await;
    let scene = Scene::new(&script, &format!("{LONG_PAUSES}\ngive_up_tries = 3")).await;
    scene.poll("bad").await;
    until("it was tried", async || of_group(&script, "bad") == 1).await;
    scene.poll("good").await;
    for number in 1..=20 {
        scene.set_often("good", 1).await;
        until("it is told", async || seqs(&script.got(), "good").len() == number).await;
    }
    scene.stop().await;
    assert_eq!(of_group(&script, "bad"), 1);
    assert!(scene.letters().page(APP, None, 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_waits_is_told_at_once_when_the_receiver_answers_again() {
    let (script, up) = switched().await;
    let told = "Group.CallbackAfterCreateGroup\", \"Group.CallbackAfterGroupMsgExtension";
    let commands = format!("commands = [\"Group.CallbackBeforeSendMsg\", \"{told}\"]");
    let scene = Scene::new(&script, &format!("{LONG_PAUSES}\n{commands}")).await;
    for group in ["a", "b", "c"] {
        scene.poll(group).await;
    }
    // A question about a message, and the first event, of each.
    until("all failed", async || scene.webhooks.statistics()[0].failed == 6).await;
    assert!(scene.webhooks.statistics()[0].failing);
    up.store(true, Ordering::SeqCst);
    // It is enough that it answers a question.
    let sent = json!({
        "GroupId":"a","Random":2,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"!"}}]
    });
    scene.world.ok("send_group_msg", &sent.to_string()).await;
    until("all is settled", async || scene.outboxes().await == 0).await;
    scene.stop().await;
}

#[tokio::test]
async fn an_outage_uses_up_no_tries() {
    let (script, up) = switched().await;
    let scene = Scene::new(&script, "give_up_tries = 4").await;
    scene.poll("room").await;
    scene.set_often("room", 3).await;
    until("it was tried often", async || script.got().len() >= 12).await;
    up.store(true, Ordering::SeqCst);
    until("all is settled", async || scene.outboxes().await == 0).await;
    assert_eq!(seqs(&script.got(), "room"), [1, 2, 3]);
    assert!(scene.letters().page(APP, None, 1).await.unwrap().is_empty());
    scene.stop().await;
}

#[tokio::test]
async fn old_events_are_not_given_up_in_a_rush_while_nobody_is_answered() {
    let (script, _) = switched().await;
    let mut scene = Scene::new(&script, &format!("{LONG_PAUSES}\ngive_up_hours = 1")).await;
    scene.stop().await;
    scene.world.now -= 2 * 3600;
    scene.poll("room").await;
    scene.set_often("room", 20).await;
    let again = Scene::over(Arc::clone(&scene.store), scene.config.clone()).await;
    let letters = async || again.letters().page(APP, None, 30).await.unwrap().len();
    until("some are given up", async || letters().await >= 3).await;
    again.stop().await;
    assert_eq!((letters().await, script.got().len()), (3, 3));
}

#[tokio::test]
async fn what_was_told_before_a_failure_is_settled_before_the_pause() {
    let script =
        Script::new(|got, _| if got.body["Seq"] == 2 { Reply::Status(500) } else { Reply::Ok }).await;
    let scene = Scene::new(&script, LONG_PAUSES).await;
    scene.poll("room").await;
    scene.set_often("room", 3).await;
    // The group, the message, the first set.
    until("the first three are settled", async || scene.told("room").await == 3).await;
    scene.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_does_not_wait_long_for_an_answer() {
    let script = Script::new(|got, _| if got.body["Seq"] == 2 { Reply::Hang } else { Reply::Ok }).await;
    let scene = Scene::new(&script, "timeout_ms = 3600000").await;
    scene.poll("room").await;
    scene.set_often("room", 2).await;
    until("it waits for an answer", async || script.got().len() == 4).await;
    let began = tokio::time::Instant::now();
    scene.stop().await;
    assert!(began.elapsed() < Duration::from_secs(4));
    assert_eq!(scene.told("room").await, 3);
}
