//! What one home owes another: nothing is lost, nothing is done twice.

use std::sync::Arc;

use futures_util::future::join_all;
use sidenote_core::Outcome;
use sidenote_core::command::{AccountAction, Action, GroupAction};
use sidenote_core::debt::{Debt, Task};

use sidenote_core::query::{DueDebts, NextReaped};

use crate::conformance::world::{World, user};
use crate::debts::{pay, pay_due};
use crate::faulty::{Fault, FaultyStore};

pub(super) async fn what_is_owed_is_kept_until_it_is_paid(world: World) {
    world.import("ann").await;
    world.create("room", &[]).await;
    let members = vec![world.member("ann").await];
    let committed = world.only_commit("room", GroupAction::AddMembers { members, imported: false }).await;
    assert_eq!(committed.prompt_debts.len(), 1, "the caller is told what it should wait for");
    assert!(world.owed().await.contains(&committed.prompt_debts[0]));
    assert_eq!(world.members("room").await, Ok(vec!["ann".to_owned()]), "the group knows at once");
    assert_eq!(world.joined("ann", 10).await, [""; 0], "the account has not heard of it");
    world.settle().await;
    assert_eq!(world.joined("ann", 10).await, ["room"]);
    assert!(!world.owed().await.contains(&committed.prompt_debts[0]));
}

/// Leaves one debt of every kind behind, due or not.
async fn run_up(world: &World) -> Vec<Debt> {
    for name in ["ann", "bob"] {
        world.import(name).await;
    }
    for group in ["room", "doomed"] {
        world.create(group, &["ann", "bob"]).await;
        let poll = world.send(group, true).await;
        world.set(group, poll, "a", "x").await.expect("it may carry pairs");
    }
    world.wait(600_000);
    assert!(world.recall("room", 1).await);
    world.act_on("doomed", GroupAction::Destroy).await.expect("it is there");
    let removal = GroupAction::RemoveMembers { users: vec![user("bob")], reason: String::new() };
    world.only_commit("room", removal).await;
    let deletion = Action::Account(world.account_id("ann"), AccountAction::Delete);
    world.store.commit(world.command(deletion)).await.expect("the store works");
    let owed = world.owed().await;
    let kinds: [fn(&Task) -> bool; 6] = [
        |task| matches!(task, Task::Announce(..)),
        |task| matches!(task, Task::Forsake(..)),
        |task| matches!(task, Task::Reap(..)),
        |task| matches!(task, Task::Strip(..)),
        |task| matches!(task, Task::ForgetSend(..)),
        |task| matches!(task, Task::TrimEvents(..)),
    ];
    for is_kind in kinds {
        assert!(owed.iter().any(|debt| is_kind(&debt.task)), "one of each kind: {owed:?}");
    }
    owed
}

async fn check(world: &World) {
    assert_eq!(world.members("room").await, Ok(Vec::new()));
    assert_eq!((world.lines("ann").await, world.lines("bob").await), (0, 0));
    assert!(world.describe("doomed").await.is_none());
    // What is left is the trimming of each group's events, once.
    let owed = world.owed().await;
    let trims: Vec<_> = owed.iter().filter(|debt| matches!(debt.task, Task::TrimEvents(..))).collect();
    assert_eq!((owed.len(), trims.len()), (2, 2), "{owed:?}");
    // Nothing of this harms whoever comes later under the old names.
    world.import("ann").await;
    assert!(matches!(world.add("room", "ann").await, Ok(Outcome::MembersAdded(_))));
    assert_eq!(world.joined("ann", 10).await, ["room"]);
}

pub(super) async fn debts_paid_twice_do_no_harm(world: World) {
    let owed = run_up(&world).await;
    for _ in 0..3 {
        for debt in &owed {
            pay(&*world.store, debt, world.now()).await.expect("the store works");
        }
        world.settle().await;
        world.wait(1000);
    }
    check(&world).await;
    for debt in owed.iter().rev() {
        pay(&*world.store, debt, world.now()).await.expect("the store works");
    }
    assert_eq!(world.joined("ann", 10).await, ["room"]);
    assert_eq!(world.members("room").await, Ok(vec!["ann".to_owned()]));
}

pub(super) async fn debts_paid_side_by_side_do_no_harm(world: World) {
    let owed = run_up(&world).await;
    let payers = owed.iter().chain(owed.iter().rev()).map(|debt| pay(&*world.store, debt, world.now()));
    for paid in join_all(payers).await {
        paid.expect("the store works");
    }
    world.settle().await;
    check(&world).await;
}

/// More members than one part of the reaping removes. Two payers ask who is next, both tell, and the second one pays for what
/// the first one has removed already.
pub(super) async fn a_large_group_reaped_side_by_side_leaves_nobodys_list_as_it_was(world: World) {
    let names: Vec<_> = (0..300).map(|number| format!("guest-{number}")).collect();
    let mut members = Vec::new();
    for name in &names {
        members.push(world.member(name).await);
    }
    world.create("room", &[]).await;
    let add = GroupAction::AddMembers { members, imported: false };
    world.act_on("room", add).await.expect("a group of 6000 takes 300");
    let (id, incarnation) = (world.group_id("room"), world.incarnation("room").await);
    world.act_on("room", GroupAction::Destroy).await.expect("it is there");
    let is_reap = |debt: &Debt| matches!(debt.task, Task::Reap(..));
    let debt = world.owed().await.into_iter().find(is_reap).expect("it is owed");

    let next = || async {
        world.store.ask(NextReaped { id: id.clone(), incarnation }).await.expect("the store works")
    };
    let told = next().await;
    assert!(told.len() > 200 && told.len() < 300, "{} members in the first part", told.len());
    let paid = world.act(Action::Pay(debt.clone(), told.clone())).await;
    assert_eq!(paid, Ok(Outcome::Paid { more: true }));
    let left = next().await;
    assert_eq!(left.len(), 300 - told.len());
    let paid = world.act(Action::Pay(debt, told.clone())).await;
    assert_eq!(paid, Ok(Outcome::Paid { more: true }));
    assert_eq!(next().await, left, "their accounts were not told yet");

    world.settle().await;
    assert_eq!(next().await, []);
    for name in &names {
        // Those of the first part were told by nobody here.
        assert_eq!(world.lines(name).await, usize::from(told.contains(&user(name))), "{name}");
    }
}

/// Whoever adds a member looks the account up first, and much can happen before the member is added.
pub(super) async fn a_member_whose_account_was_deleted_meanwhile_does_not_stay(world: World) {
    world.import("ann").await;
    world.create("room", &["bob"]).await;
    let members = vec![world.member("ann").await];
    let late = GroupAction::AddMembers { members, imported: false };
    world.delete_account("ann").await;
    world.act_on("room", late.clone()).await.expect("the group is there");
    assert_eq!(world.members("room").await, Ok(vec!["bob".to_owned()]));
    assert_eq!(world.lines("ann").await, 0);

    // Nor if there is another account of that name by then.
    world.import("ann").await;
    world.act_on("room", late).await.expect("the group is there");
    assert_eq!(world.members("room").await, Ok(vec!["bob".to_owned()]));
    assert_eq!(world.lines("ann").await, 0);
    world.settle().await;
    assert_eq!(world.joined("bob", 10).await, ["room"]);
}

pub(super) async fn news_of_joining_that_comes_late_leaves_no_line_behind(world: World) {
    world.import("ann").await;
    world.create("room", &[]).await;
    let members = vec![world.member("ann").await];
    let join = GroupAction::AddMembers { members, imported: false };
    let only_join = async || world.only_commit("room", join.clone()).await.prompt_debts.swap_remove(0);

    let news = only_join().await;
    world.remove("room", "ann").await.expect("she is a member");
    pay(&*world.store, &news, world.now()).await.expect("the store works");
    assert_eq!(world.lines("ann").await, 0, "she left before her account heard that she joined");

    let news = only_join().await;
    world.act_on("room", GroupAction::Destroy).await.expect("it is there");
    let is_reap = |debt: &Debt| matches!(debt.task, Task::Reap(..));
    let reap = world.owed().await.into_iter().find(is_reap).expect("the group is reaped");
    pay(&*world.store, &reap, world.now()).await.expect("the store works");
    pay(&*world.store, &news, world.now()).await.expect("the store works");
    assert_eq!(world.lines("ann").await, 0, "the group was gone before her account heard that she joined");
}

pub(super) async fn a_debt_that_cannot_be_paid_stands_in_nobodys_way(world: World) {
    world.create("room", &[]).await;
    let due = async || {
        let question = DueDebts { by: world.now(), after: None, limit: 10 };
        world.store.ask(question).await.expect("the store works")
    };
    for _ in 0..3 {
        world.send("room", false).await;
    }
    world.wait(600_000);
    let first = due().await.swap_remove(0);
    let fails_first = || FaultyStore::new(Arc::clone(&world.store), [Fault::Before]);
    let round = pay_due(&fails_first(), world.now(), None, 10).await.expect("debts can be read");
    assert_eq!((round.paid, round.failure.is_some(), round.next), (2, true, None));
    assert_eq!(due().await, std::slice::from_ref(&first));

    // Nor if a round holds no other debt.
    world.send("room", false).await;
    world.wait(600_000);
    let faulty = fails_first();
    let round = pay_due(&faulty, world.now(), None, 1).await.expect("debts can be read");
    assert_eq!((round.paid, round.next.as_ref()), (0, Some(&first)));
    let round = pay_due(&faulty, world.now(), round.next, 1).await.expect("debts can be read");
    assert_eq!((round.paid, round.failure), (1, None));
    assert_eq!(due().await, [first]);
    world.settle().await;
    assert_eq!(due().await, []);
}
