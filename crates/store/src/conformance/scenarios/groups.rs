//! Groups, members and the lists of an account's groups.

use sidenote_core::command::{Extend, GroupAction, GroupPatch, NewMember};
use sidenote_core::debt::Task;
use sidenote_core::decide::Added;
use sidenote_core::group::Role;
use sidenote_core::ids::TinyId;
use sidenote_core::query::{FindMembers, NextReaped};
use sidenote_core::{Outcome, Refusal};

use crate::conformance::world::{World, administrator, caller, user};

pub(super) async fn a_group_is_made_once_and_described(world: World) {
    assert!(world.describe("room").await.is_none());
    world.import("ann").await;
    let new = || async { GroupAction::Create(Box::new(world.creation(Some("ann"), &["bob"]).await)) };
    assert_eq!(world.act_on("room", new().await).await, Ok(Outcome::Done));
    assert_eq!(world.act_on("room", new().await).await, Err(Refusal::GroupIdTakenByOwner));
    let by_nobody = GroupAction::Create(Box::new(world.creation(None, &[]).await));
    assert_eq!(world.act_on("room", by_nobody).await, Err(Refusal::GroupIdTaken));

    world.wait(5000);
    let patch = GroupPatch { name: Some("dinner".to_owned()), ..GroupPatch::default() };
    assert_eq!(world.act_on("room", GroupAction::Modify(Box::new(patch))).await, Ok(Outcome::Done));
    let view = world.describe("room").await.expect("it was made");
    assert_eq!(view.group.profile.name, "dinner");
    assert_eq!((view.group.info_seq, view.group.info_changed_at), (2, world.now()));
    assert_eq!((view.group.owner.clone(), view.next_msg_seq()), (Some(user("ann")), 1));
    assert_eq!(world.members("room").await, Ok(vec!["ann".to_owned(), "bob".to_owned()]));
}

pub(super) async fn members_see_their_groups_as_soon_as_they_joined(world: World) {
    world.import("ann").await;
    world.create("b", &["ann"]).await;
    world.create("a", &[]).await;
    assert_eq!(world.joined("ann", 10).await, ["b"]);
    assert_eq!(world.add("a", "ann").await, Ok(Outcome::MembersAdded(vec![(user("ann"), Added::Now)])));
    assert_eq!(world.add("a", "ann").await, Ok(Outcome::MembersAdded(vec![(user("ann"), Added::Already)])));
    assert_eq!(world.joined("ann", 10).await, ["a", "b"]);
    assert_eq!(world.joined("ann", 1).await, ["a", "b"], "a page at a time");
    assert_eq!(world.remove("b", "ann").await, Ok(Outcome::Done));
    assert_eq!(world.remove("b", "ann").await, Ok(Outcome::Done), "who is no member is passed over");
    assert_eq!(world.joined("ann", 10).await, ["a"]);
    assert_eq!(world.lines("ann").await, 1);
    world.add("b", "ann").await.expect("she may come back");
    assert_eq!(world.joined("ann", 10).await, ["a", "b"]);
    let question = FindMembers { id: world.group_id("a"), users: vec![user("bob"), user("ann")] };
    let found = world.store.ask(question).await.expect("the store works").expect("the group exists");
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true]);
}

pub(super) async fn a_refused_command_changes_nothing(world: World) {
    world.create("room", &["ann", "bob"]).await;
    let patch = GroupPatch { max_members: Some(2), ..GroupPatch::default() };
    world.act_on("room", GroupAction::Modify(Box::new(patch))).await.expect("two fit");
    let events = world.events(world.incarnation("room").await, 0).await.len();
    assert_eq!(world.add("room", "cat").await, Err(Refusal::GroupFull));
    let patch = GroupPatch { max_members: Some(1), ..GroupPatch::default() };
    let refused = world.act_on("room", GroupAction::Modify(Box::new(patch))).await;
    assert_eq!(refused, Err(Refusal::BelowMemberCount));
    assert_eq!(world.members("room").await, Ok(vec!["ann".to_owned(), "bob".to_owned()]));
    assert_eq!(world.events(world.incarnation("room").await, 0).await.len(), events);

    let mut too_many = world.creation(None, &["ann", "bob"]).await;
    too_many.profile.max_members = Some(1);
    let refused = world.act_on("small", GroupAction::Create(Box::new(too_many))).await;
    assert_eq!(refused, Err(Refusal::GroupFull));
    assert!(world.describe("small").await.is_none());
}

pub(super) async fn ownership_moves_to_a_member(world: World) {
    let new = world.creation(Some("ann"), &["bob"]).await;
    world.act_on("room", GroupAction::Create(Box::new(new))).await.expect("a new group");
    assert_eq!(world.remove("room", "ann").await, Err(Refusal::OwnerStays));
    let to = |name| world.act_on("room", GroupAction::ChangeOwner(user(name)));
    assert_eq!(to("eve").await, Err(Refusal::NewOwnerNotAMember));
    assert_eq!(to("bob").await, Ok(Outcome::Done));
    let question = FindMembers { id: world.group_id("room"), users: vec![user("ann"), user("bob")] };
    let found = world.store.ask(question).await.expect("the store works").expect("the group exists");
    let roles: Vec<_> = found.iter().map(|member| member.as_ref().map(|member| member.role)).collect();
    assert_eq!(roles, [Some(Role::Member), Some(Role::Owner)]);
    assert_eq!(world.remove("room", "ann").await, Ok(Outcome::Done));
}

pub(super) async fn a_destroyed_group_is_gone_at_once_and_its_rows_soon(world: World) {
    world.import("ann").await;
    world.create("room", &["ann"]).await;
    // More members than one commit removes.
    let mut members: Vec<NewMember> = Vec::new();
    for number in 0..300 {
        members.push(world.member(&format!("guest-{number}")).await);
    }
    world
        .act_on("room", GroupAction::AddMembers { members, imported: true })
        .await
        .expect("a group of 6000 takes 300");
    let poll = world.send("room", true).await;
    world.set("room", poll, "a", "x").await.expect("it may carry pairs");
    let incarnation = world.incarnation("room").await;

    assert_eq!(world.act_on("room", GroupAction::Destroy).await, Ok(Outcome::Done));
    assert!(world.describe("room").await.is_none());
    assert_eq!(world.members("room").await, Err(Refusal::NoSuchGroup));
    assert_eq!(world.set("room", poll, "a", "y").await, Err(Refusal::NoSuchGroup));
    let pulled = world.pull(administrator(), "room", poll, 0, false).await;
    assert_eq!(pulled.err(), Some(Refusal::NoSuchGroup));
    assert_eq!(world.joined("ann", 10).await, [""; 0]);
    assert_eq!(world.act_on("room", GroupAction::Destroy).await, Err(Refusal::NoSuchGroup));

    world.settle().await;
    let left = world
        .store
        .ask(NextReaped { id: world.group_id("room"), incarnation })
        .await
        .expect("the store works");
    assert_eq!(left, []);
    assert_eq!((world.lines("ann").await, world.lines("guest-299").await), (0, 0));
    assert!(!world.owed().await.iter().any(|debt| matches!(debt.task, Task::Reap(..))));
    assert_eq!(world.events(incarnation, 0).await.len(), 6, "its events outlive it for a while");
}

pub(super) async fn a_group_made_again_shows_nothing_of_the_old_one(world: World) {
    let ann = world.import("ann").await;
    world.create("room", &["ann", "bob"]).await;
    let poll = world.send("room", true).await;
    world.set("room", poll, "a", "x").await.expect("it may carry pairs");
    let old = world.incarnation("room").await;
    world.act_on("room", GroupAction::Destroy).await.expect("it is there");
    // Before the rows of the old one are removed, which may take a while.
    world.create("room", &["bob"]).await;
    assert_ne!(world.incarnation("room").await, old);
    assert_eq!(world.members("room").await, Ok(vec!["bob".to_owned()]));
    assert_eq!(world.joined("ann", 10).await, [""; 0]);
    assert_eq!(world.set("room", poll, "a", "y").await, Err(Refusal::NoSuchMessage));
    assert_eq!(world.send("room", true).await, poll, "numbers start again");
    assert_eq!(world.pairs("room", poll).await, []);
    let refused = world.extend(caller("ann", ann), "room", poll, Extend::Clear).await;
    assert_eq!(refused, Err(Refusal::NotAMember));
    assert_eq!(world.set("room", poll, "a", "y").await, Ok(1));
    assert_eq!(world.events(world.incarnation("room").await, 0).await[0].number.get(), 1);

    world.settle().await;
    assert_eq!(world.pairs("room", poll).await, [("a".to_owned(), "y".to_owned(), 1)]);
    assert_eq!(world.members("room").await, Ok(vec!["bob".to_owned()]));
}

pub(super) async fn two_apps_with_equal_names_see_nothing_of_each_other(world: World) {
    let other = world.other_app();
    let here = world.import("ann").await;
    assert_eq!(other.tiny_id("ann").await, None);
    let there = other.import("ann").await;
    assert_ne!(here, there);
    world.create("room", &["ann"]).await;
    assert!(other.describe("room").await.is_none());
    assert_eq!(other.joined("ann", 10).await, [""; 0]);
    other.create("room", &["ann"]).await;
    let (poll, other_poll) = (world.send("room", true).await, other.send("room", true).await);
    assert_eq!(poll, other_poll);
    world.set("room", poll, "a", "here").await.expect("it may carry pairs");
    assert_eq!(other.pairs("room", poll).await, []);
    other.set("room", poll, "a", "there").await.expect("it may carry pairs");
    assert_eq!(world.pairs("room", poll).await, [("a".to_owned(), "here".to_owned(), 1)]);
    let refused = world.extend(caller("ann", there), "room", poll, Extend::Clear).await;
    assert_eq!(refused, Err(Refusal::NotAMember), "another app's ann is nobody here");
    other.delete_account("ann").await;
    other.act_on("room", GroupAction::Destroy).await.expect("it is there");
    other.settle().await;
    assert_eq!(world.joined("ann", 10).await, ["room"]);
    assert_eq!(world.tiny_id("ann").await, Some(here));
    assert_eq!(world.pairs("room", poll).await, [("a".to_owned(), "here".to_owned(), 1)]);
    assert_ne!(here, TinyId::from_random(0));
}
