//! Conversations of two accounts.

use futures_util::future::join_all;
use sidenote_core::command::{Claim, DirectAction, Extend, NewDirectMessage};
use sidenote_core::debt::Task;
use sidenote_core::decide::ItemVerdict;
use sidenote_core::{Limits, Outcome, Refusal};
use tokio::task::JoinSet;

use crate::conformance::world::{World, administrator, caller, saw, set};

pub(super) async fn both_sides_change_the_pairs_of_a_message(world: World) {
    let peers = world.peers("ann", "bob").await;
    let (ann, bob) = (caller("ann", peers.from.tiny_id), caller("bob", peers.to.tiny_id));
    let eve = caller("eve", world.import("eve").await);
    let poll = world.write(&peers, world.letter("ann", 1, 1, "?")).await.expect("they may");
    for (writer, seq) in [(&bob, 0), (&ann, 1), (&bob, 2)] {
        let extended = world.extend_between(writer.clone(), &peers, poll, set("a", "x", saw(seq))).await;
        assert_eq!(extended.expect("they may").latest.get(), seq + 1);
    }
    let late = world.extend_between(ann.clone(), &peers, poll, set("a", "y", saw(1))).await.expect("she may");
    assert_eq!((late.items[0].verdict, late.items[0].pair.seq.get()), (ItemVerdict::Conflict, 3));
    for stranger in [eve, caller("ann", peers.to.tiny_id)] {
        let refused = world.extend_between(stranger.clone(), &peers, poll, Extend::Clear).await;
        assert_eq!(refused, Err(Refusal::NotAParty));
        assert_eq!(world.pull_between(stranger, &peers, poll, 0, true).await.err(), Some(Refusal::NotAParty));
    }
    let page = world.pull_between(ann, &peers, poll, 0, false).await.expect("she may");
    assert_eq!((page.pairs.len(), page.latest.get()), (1, 3));
}

pub(super) async fn conversations_of_two_see_nothing_of_each_other(world: World) {
    let other_app = world.other_app();
    let (to_bob, to_cat) = (world.peers("ann", "bob").await, world.peers("ann", "cat").await);
    let elsewhere = other_app.peers("ann", "bob").await;
    let key = world.write(&to_bob, world.letter("ann", 1, 1, "?")).await.expect("they may");
    let refused = world.extend_between(administrator(), &to_cat, key, Extend::Clear).await;
    assert_eq!(refused, Err(Refusal::NoSuchMessage));
    let refused = other_app.extend_between(administrator(), &elsewhere, key, Extend::Clear).await;
    assert_eq!(refused, Err(Refusal::NoSuchMessage));
    // The same message in each of them is a message of its own.
    for (world, peers) in [(&world, &to_cat), (&other_app, &elsewhere)] {
        assert_eq!(world.write(peers, world.letter("ann", 1, 1, "?")).await, Ok(key));
        let page = world.pull_between(administrator(), peers, key, 0, true).await.expect("it is there");
        assert_eq!(page.latest.get(), 0);
    }
    assert!(world.extend_between(administrator(), &to_bob, key, Extend::Clear).await.is_ok());
    assert_eq!(world.letters(&to_cat, (0, u64::MAX), None, 9).await.messages.len(), 1);
}

pub(super) async fn a_recalled_letter_is_gone_with_its_pairs(world: World) {
    let peers = world.peers("ann", "bob").await;
    let first = world.write(&peers, world.letter("ann", 1, 1, "?")).await.expect("they may");
    let second = world.write(&peers, world.letter("ann", 2, 1, "?")).await.expect("they may");
    for key in [first, second] {
        let put = set("a", "x", Claim::Unchecked);
        world.extend_between(administrator(), &peers, key, put).await.expect("it may carry pairs");
    }
    let recall = || world.act_between(&peers, DirectAction::Recall(first));
    assert_eq!(recall().await, Ok(Outcome::Done));
    for _ in 0..2 {
        assert_eq!(recall().await, Err(Refusal::AlreadyRecalled));
        let refused = world.extend_between(administrator(), &peers, first, Extend::Clear).await;
        assert_eq!(refused, Err(Refusal::NoSuchMessage));
        let pulled = world.pull_between(administrator(), &peers, first, 0, true).await;
        assert_eq!(pulled.err(), Some(Refusal::NoSuchMessage));
        let page = world.letters(&peers, (0, u64::MAX), None, 9).await;
        let bodies: Vec<_> = page.messages.iter().map(|it| (it.key, it.body.is_some())).collect();
        assert_eq!(bodies, [(second, true), (first, false)]);
        let page = world.pull_between(administrator(), &peers, second, 0, true).await.expect("unharmed");
        assert_eq!(page.pairs.len(), 1);
        world.settle().await;
    }
    assert!(!world.owed().await.iter().any(|debt| matches!(debt.task, Task::Strip(..))));
}

pub(super) async fn two_accounts_begin_anew_when_one_of_them_is_another_person(world: World) {
    let before = world.peers("ann", "bob").await;
    let key = world.write(&before, world.letter("ann", 1, 1, "?")).await.expect("they may");
    for written in join_all((2..400).map(|seq| world.write(&before, world.letter("ann", seq, 1, "?")))).await
    {
        written.expect("they may");
    }
    let old = world.describe_between(&before).await.expect("they wrote").direct.incarnation;
    world.delete_account("ann").await;
    let now = world.peers("ann", "bob").await;
    assert!(world.letters(&now, (0, u64::MAX), None, 9).await.messages.is_empty());
    assert_eq!(world.write(&now, world.letter("ann", 1, 1, "?")).await, Ok(key));
    for _ in 0..2 {
        assert_eq!(world.letters(&now, (0, u64::MAX), None, 9).await.messages.len(), 1);
        assert!(world.letters(&before, (0, u64::MAX), None, 9).await.messages.is_empty());
        let new = world.describe_between(&now).await.expect("they wrote").direct.incarnation;
        assert_ne!(new, old);
        assert_eq!(world.events(new, 0).await.len(), 1);
        world.settle().await;
    }
    world.wait(Limits::default().events_kept_millis);
    world.settle().await;
    assert!(world.events(old, 0).await.is_empty());
    let owed = world.owed().await;
    assert!(matches!(&owed[..], [debt] if matches!(debt.task, Task::TrimEvents(..))), "{owed:?}");
}

pub(super) async fn letters_of_many_at_once_have_keys_of_their_own(world: World) {
    let (forth, back) = (world.peers("ann", "bob").await, world.peers("bob", "ann").await);
    let mut tasks = JoinSet::new();
    for task in 0..10_u32 {
        let (world, peers) = (world.clone(), if task % 2 == 0 { forth.clone() } else { back.clone() });
        tasks.spawn(async move {
            let letter = world.letter(peers.from.user.as_str(), 1, 1, &format!("text {task}"));
            // Whoever sends it twice at once gets the same answer twice.
            let again = NewDirectMessage { incarnation: letter.incarnation, ..letter.clone() };
            let (one, other) = tokio::join!(world.write(&peers, letter), world.write(&peers, again));
            assert_eq!(one, other);
            one.expect("ten seconds hold ten letters")
        });
    }
    let mut seconds: Vec<_> = tasks.join_all().await.into_iter().map(|key| key.time).collect();
    seconds.sort_unstable();
    let now = world.now().secs();
    assert_eq!(seconds, (now..now + 10).collect::<Vec<_>>());
    let view = world.describe_between(&forth).await.expect("they wrote");
    assert_eq!((view.counters.last_msg_seq, view.counters.last_event.get()), (10, 10));
}
