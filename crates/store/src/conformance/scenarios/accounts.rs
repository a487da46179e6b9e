//! Accounts.

use futures_util::future::join_all;
use sidenote_core::command::{AccountAction, Action, Extend, GroupAction};
use sidenote_core::ids::TinyId;
use sidenote_core::query::Accounts;
use sidenote_core::{Outcome, Refusal};

use crate::conformance::world::{World, caller};

pub(super) async fn import_makes_an_account_and_changes_only_what_is_given(world: World) {
    let import = |number, nick: Option<&str>, face_url: Option<&str>| AccountAction::Import {
        tiny_id: TinyId::from_random(number),
        nick: nick.map(str::to_owned),
        face_url: face_url.map(str::to_owned),
    };
    let rows = [
        (import(1, Some("Ann"), Some("http://a")), ("Ann", "http://a")),
        (import(2, None, None), ("Ann", "http://a")),
        (import(3, Some(""), None), ("", "http://a")),
        (import(4, None, Some("http://b")), ("", "http://b")),
    ];
    let start = world.now();
    for (action, (nick, face_url)) in rows {
        let done = world.act(Action::Account(world.account_id("ann"), action)).await;
        assert_eq!(done, Ok(Outcome::Done));
        world.wait(1000);
        let ids = vec![world.account_id("nobody"), world.account_id("ann")];
        let accounts = world.store.ask(Accounts { ids }).await.expect("the store works");
        assert!(accounts[0].is_none());
        let ann = accounts[1].as_ref().expect("ann was imported");
        assert_eq!((ann.nick.as_str(), ann.face_url.as_str()), (nick, face_url));
        assert_eq!((ann.tiny_id, ann.imported_at), (TinyId::from_random(1), start), "these never change");
    }
}

pub(super) async fn an_account_deleted_and_imported_again_is_another_person(world: World) {
    let delete = || world.act(Action::Account(world.account_id("ann"), AccountAction::Delete));
    assert_eq!(delete().await, Err(Refusal::NoSuchAccount));
    let first = world.import("ann").await;
    world.create("room", &["ann", "bob"]).await;
    let poll = world.send("room", true).await;
    assert!(world.extend(caller("ann", first), "room", poll, Extend::Clear).await.is_ok());

    let mut follower = world.store.news();
    assert_eq!(delete().await, Ok(Outcome::Done));
    assert_eq!(delete().await, Err(Refusal::NoSuchAccount));
    assert_eq!(
        follower.take().deleted,
        [(world.account_id("ann"), first)],
        "whoever follows is told at once"
    );
    assert_eq!(world.tiny_id("ann").await, None);
    let second = world.import("ann").await;
    assert_ne!(first, second);
    let refused = world.extend(caller("ann", second), "room", poll, Extend::Clear).await;
    assert_eq!(refused, Err(Refusal::NotAMember));
    assert_eq!(world.joined("ann", 10).await, [""; 0]);

    assert!(world.add("room", "ann").await.is_ok());
    assert!(world.extend(caller("ann", second), "room", poll, Extend::Clear).await.is_ok());
    let refused = world.extend(caller("ann", first), "room", poll, Extend::Clear).await;
    assert_eq!(refused, Err(Refusal::NotAMember), "the old account does not come back with the new one");
}

pub(super) async fn a_deleted_account_leaves_all_of_its_groups(world: World) {
    world.import("ann").await;
    world.import("bob").await;
    // More groups than one page of the list holds.
    let names: Vec<_> = (0..105).map(|number| format!("room-{number:03}")).collect();
    join_all(names.iter().map(|name| world.create(name, &["ann", "bob"]))).await;
    let new = world.creation(Some("ann"), &["bob"]).await;
    assert_eq!(world.act_on("owned", GroupAction::Create(Box::new(new))).await, Ok(Outcome::Done));
    assert_eq!(world.joined("ann", 50).await.len(), 106);

    world.delete_account("ann").await;
    for name in names.iter().map(String::as_str).chain(["owned"]) {
        assert_eq!(world.members(name).await, Ok(vec!["bob".to_owned()]), "{name}");
    }
    let owned = world.describe("owned").await.expect("a group outlives its owner");
    assert_eq!(owned.group.owner, None);
    assert_eq!(world.lines("ann").await, 0);
    assert_eq!(world.joined("bob", 50).await.len(), 106);
}
