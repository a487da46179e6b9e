//! What is left to tell by webhook, in stores whose app 1 is told.

use sidenote_core::Outcome;
use sidenote_core::command::{Action, GroupAction, OutboxAction};
use sidenote_core::ids::{
    AppId, Conversation, ConversationId, EventNumber, Incarnation, MessageName, MsgSeq,
};
use sidenote_core::outbox::DeadLetter;
use sidenote_core::query::{DeadLetters, FindMessage, Outboxes};

use crate::conformance::world::World;

/// Group, last event told, whether it is gone; of one conversation or all.
async fn left(world: &World, of: Option<&str>) -> Vec<(String, u64, bool)> {
    let conversation = of.map(|group| world.group_id(group).conversation);
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let question = Outboxes { app: world.app, conversation: conversation.clone(), after, limit: 2 };
        let page = world.store.ask(question).await.expect("the store works");
        found.extend(page.iter().map(|(id, _, outbox)| match &id.conversation {
            Conversation::Group(group) => (group.to_string(), outbox.after.get(), outbox.gone.is_some()),
            Conversation::Direct(..) => panic!("there are only groups"),
        }));
        match page.into_iter().nth(1) {
            Some((id, incarnation, _)) => after = Some((id, incarnation)),
            None => return found,
        }
    }
}

async fn settle(
    world: &World,
    group: &str,
    incarnation: Incarnation,
    through: u64,
    dead: Vec<(EventNumber, DeadLetter)>,
) -> bool {
    let action = OutboxAction::Settle { through: EventNumber::new(through), dead };
    match world.act(Action::Outbox(world.group_id(group), incarnation, action)).await {
        Ok(Outcome::Settled { empty, .. }) => empty,
        other => panic!("{other:?}"),
    }
}

pub(super) async fn what_is_left_to_tell_is_found_until_it_was_told(world: World) {
    for group in ["c", "a", "b"] {
        world.create(group, &[]).await;
    }
    world.other_app().create("a", &[]).await;
    let all = |told: u64| ["a", "b", "c"].map(|group| (group.to_owned(), told, false)).to_vec();
    assert_eq!(left(&world, None).await, all(0));
    assert_eq!(left(&world.other_app(), None).await, [], "only app 1 is told");
    let poll = world.send("b", true).await;
    world.set("b", poll, "k", "v").await.expect("it may carry pairs");
    assert_eq!(left(&world, None).await, all(0), "the first event alone leaves a row");

    let b = world.incarnation("b").await;
    assert!(!settle(&world, "b", b, 2, Vec::new()).await);
    assert_eq!(left(&world, Some("b")).await, [("b".to_owned(), 2, false)]);
    assert!(settle(&world, "b", b, 3, Vec::new()).await);
    assert_eq!(left(&world, Some("b")).await, []);
    assert_eq!(left(&world, None).await.len(), 2);
    world.set("b", poll, "k", "w").await.expect("it may carry pairs");
    assert_eq!(left(&world, Some("b")).await, [("b".to_owned(), 3, false)]);
}

pub(super) async fn a_group_that_is_gone_is_told_to_its_end(world: World) {
    world.create("room", &["ann"]).await;
    let first = world.incarnation("room").await;
    settle(&world, "room", first, 2, Vec::new()).await;
    world.act_on("room", GroupAction::Destroy).await.expect("it is there");
    world.settle().await;
    world.create("room", &[]).await;
    let mut found = left(&world, Some("room")).await;
    found.sort_unstable();
    assert_eq!(found, [("room".to_owned(), 0, false), ("room".to_owned(), 2, true)]);
    assert_eq!(world.events(first, 2).await.len(), 1);
    assert!(settle(&world, "room", first, 3, Vec::new()).await);
    assert_eq!(left(&world, Some("room")).await, [("room".to_owned(), 0, false)]);
}

pub(super) async fn dead_letters_are_kept_in_order_until_they_are_discarded(world: World) {
    let letter = |number: u64| DeadLetter {
        first: EventNumber::new(number),
        happened_at: world.now(),
        given_up_at: world.now(),
        tries: 3,
        reason: "why".to_owned(),
        request: None,
    };
    let kept = async |app: u32| {
        let question = DeadLetters { app: AppId::new(app), after: None, limit: 10 };
        let letters = world.store.ask(question).await.expect("the store works");
        letters.iter().map(|at| (at.number.get(), at.letter.first.get())).collect::<Vec<_>>()
    };
    world.create("room", &[]).await;
    let of = world.incarnation("room").await;
    for number in 1..=3 {
        let poll = world.send("room", false).await;
        let seq = MsgSeq::new(poll).expect("messages count from 1");
        let (id, name) = (world.group_id("room"), MessageName::Seq(seq));
        let body = FindMessage { id, incarnation: of, name };
        let found = world.store.ask(body).await.expect("the store works").expect("it was sent");
        assert!(found.body.is_some() && poll == number);
        settle(&world, "room", of, number, vec![(EventNumber::new(number), letter(number))]).await;
    }
    // Two are kept in this store.
    assert_eq!((kept(1).await, kept(2).await), (vec![(2, 2), (3, 3)], vec![]));
    let id: ConversationId = world.group_id("room");
    let discard = OutboxAction::Discard(EventNumber::new(2));
    world.act(Action::Outbox(id, of, discard)).await.expect("nothing refuses it");
    assert_eq!(kept(1).await, [(3, 3)]);
}
