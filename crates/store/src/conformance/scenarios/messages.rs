//! Messages.

use sidenote_core::Refusal;
use sidenote_core::command::{GroupAction, NewMessage};
use sidenote_core::debt::Task;
use sidenote_core::message::{MessageBody, StoredMessage};
use sidenote_core::query::History;

use crate::conformance::world::{World, administrator};

async fn history(world: &World, up_to: Option<u64>, count: u64) -> Vec<StoredMessage> {
    let question = History { id: world.group_id("room"), up_to, count };
    world.store.ask(question).await.expect("the store works").expect("the group exists").messages
}

fn numbers(messages: &[StoredMessage]) -> Vec<u64> {
    messages.iter().map(|message| message.seq.get()).collect()
}

pub(super) async fn messages_are_numbered_and_kept(world: World) {
    world.create("room", &["ann"]).await;
    assert!(history(&world, None, 20).await.is_empty());
    for number in 1..=12 {
        assert_eq!(world.send("room", number % 2 == 0).await, number);
        world.wait(1000);
    }
    assert_eq!(numbers(&history(&world, None, 3).await), [12, 11, 10], "newest first");
    assert_eq!(numbers(&history(&world, Some(2), 20).await), [2, 1]);
    assert_eq!(numbers(&history(&world, Some(99), 1).await), [12]);
    let messages = history(&world, None, 20).await;
    assert!(messages.iter().all(|it| it.message.supports_extension == (it.seq.get() % 2 == 0)));
    assert!(
        messages
            .iter()
            .all(|it| it.message.sent_at.millis() == 1_700_000_000_000 + (it.seq.get() - 1) * 1000)
    );
    let view = world.describe("room").await.expect("the group exists");
    assert_eq!((view.next_msg_seq(), view.counters.last_msg_at), (13, messages[0].message.sent_at));
}

pub(super) async fn a_body_comes_back_as_it_was_sent(world: World) {
    world.create("room", &[]).await;
    let body = MessageBody {
        elements: "[\"\0\u{1f600}\\\"\u{ffff}\"]".repeat(800),
        cloud_custom_data: "\r\n\t".to_owned(),
        further: "{}".to_owned(),
    };
    let message = NewMessage { body: body.clone(), ..world.message("ann", true) };
    world.send_this("room", message.clone()).await;
    let stored = &history(&world, None, 1).await[0];
    assert_eq!(stored.body.as_deref(), Some(&body));
    assert_eq!((stored.message.random, &stored.message.sender), (message.random, &message.sender));
    assert_eq!(stored.message.sender_tiny_id, message.sender_tiny_id);
    assert_eq!(stored.message.client_time, 1_700_000_000);
}

pub(super) async fn the_same_message_twice_is_one_for_five_minutes(world: World) {
    world.create("room", &[]).await;
    let message = world.message("ann", true);
    assert_eq!(world.send_this("room", message.clone()).await, Some(1));
    assert_eq!(world.send_this("room", message.clone()).await, Some(1));
    world.wait(299_999);
    world.settle().await;
    assert_eq!(world.send_this("room", message.clone()).await, Some(1));
    world.wait(1);
    assert_eq!(world.send_this("room", message.clone()).await, Some(2));
    world.settle().await;
    assert_eq!(world.send_this("room", message.clone()).await, Some(2), "the first's debt spares the second");
    world.wait(300_000);
    world.settle().await;
    let remembered =
        world.owed().await.iter().filter(|debt| matches!(debt.task, Task::ForgetSend(..))).count();
    assert_eq!(remembered, 0);
    assert_eq!(world.send_this("room", message).await, Some(3));
}

pub(super) async fn a_message_for_those_online_has_no_number(world: World) {
    world.create("room", &[]).await;
    let message = || NewMessage { online_only: true, ..world.message("ann", true) };
    assert_eq!(world.send_this("room", message()).await, None);
    assert!(history(&world, None, 20).await.is_empty());
    assert_eq!(world.send("room", true).await, 1);
    assert_eq!(world.events(world.incarnation("room").await, 0).await.len(), 3, "but it was told");
}

pub(super) async fn a_recalled_message_is_gone_with_its_pairs(world: World) {
    world.create("room", &[]).await;
    let poll = world.send("room", true).await;
    let other = world.send("room", true).await;
    for message in [poll, other] {
        world.set("room", message, "a", "x").await.expect("it may carry pairs");
    }
    assert!(!world.recall("room", 99).await);
    assert!(world.recall("room", poll).await);
    assert!(!world.recall("room", poll).await, "only once");
    for _ in 0..2 {
        assert_eq!(world.set("room", poll, "a", "y").await, Err(Refusal::NoSuchMessage));
        let pulled = world.pull(administrator(), "room", poll, 0, true).await;
        assert_eq!(pulled.err(), Some(Refusal::NoSuchMessage));
        let messages = history(&world, None, 20).await;
        assert_eq!(numbers(&messages), [2, 1]);
        assert_eq!((messages[0].body.is_some(), messages[1].body.is_some()), (true, false));
        assert!(messages[1].message.recalled);
        assert_eq!(world.pairs("room", other).await.len(), 1, "its neighbour is unharmed");
        world.settle().await;
    }
    assert!(!world.owed().await.iter().any(|debt| matches!(debt.task, Task::Strip(..))));
    let muted = GroupAction::Recall { seqs: Vec::new(), reason: String::new() };
    let nothing = world.act_on("room", muted).await;
    assert_eq!(nothing, Ok(sidenote_core::Outcome::Recalled(Vec::new())));
}
