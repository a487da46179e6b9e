//! Rules 3.3, 3.11 and the part of 3.12 that needs the state: who may change or read which set, in which order it
//! is refused.

use sidenote_core::Refusal;
use sidenote_core::command::{AccountAction, Action, Extend, GroupAction};
use sidenote_core::group::GroupType;
use sidenote_core::ids::{MsgSeq, TinyId};

use crate::world::{PLAIN, POLL, World, group, member, operator, user};

/// What a clear and a pull answer; they must agree.
fn verdict(world: &mut World, who: &str, message: u64) -> Result<(), Refusal> {
    let pulled = world.try_pull(who, message, 0, false).map(|_| ());
    let cleared = world.extend(who, message, Extend::Clear).map(|_| ());
    assert_eq!(pulled, cleared, "a pull and a clear by {who} of message {message}");
    cleared
}

#[test]
fn rule_3_11_some_types_of_groups_have_extensions() {
    let rows = [
        (GroupType::Private, Ok(())),
        (GroupType::Public, Ok(())),
        (GroupType::ChatRoom, Ok(())),
        (GroupType::AvChatRoom, Err(Refusal::NoExtensions)),
        (GroupType::Community, Err(Refusal::NoExtensions)),
    ];
    for (kind, expected) in rows {
        let mut world = World::empty();
        world.found(kind);
        assert_eq!(verdict(&mut world, "ann", POLL), expected, "{kind:?}");
        assert_eq!(verdict(&mut world, "admin", POLL), expected, "{kind:?}");
    }
}

#[test]
fn rule_3_11_a_switch_lets_communities_in_but_never_live_rooms() {
    for (kind, expected) in
        [(GroupType::Community, Ok(())), (GroupType::AvChatRoom, Err(Refusal::NoExtensions))]
    {
        let mut world = World::empty();
        world.found(kind);
        world.limits.community_extensions = true;
        assert_eq!(verdict(&mut world, "ann", POLL), expected, "{kind:?}");
    }
}

#[test]
fn rule_3_11_a_recalled_message_does_not_exist() {
    let mut world = World::new();
    world.say("ann: set a=x@0");
    let recall = || GroupAction::Recall { seqs: vec![MsgSeq::new(POLL).unwrap()], reason: String::new() };
    world.act(recall());
    assert_eq!(verdict(&mut world, "ann", POLL), Err(Refusal::NoSuchMessage));
    assert_eq!(verdict(&mut world, "admin", POLL), Err(Refusal::NoSuchMessage));
    // Not even that it had no flag is told of a recalled message.
    world.act(GroupAction::Recall { seqs: vec![MsgSeq::new(PLAIN).unwrap()], reason: String::new() });
    assert_eq!(verdict(&mut world, "ann", PLAIN), Err(Refusal::NoSuchMessage));
}

#[test]
fn rule_3_12_the_order_of_refusals() {
    let mut world = World::empty();
    assert_eq!(verdict(&mut world, "eve", 99), Err(Refusal::NoSuchGroup));
    assert_eq!(verdict(&mut world, "admin", 99), Err(Refusal::NoSuchGroup));

    world.found(GroupType::AvChatRoom);
    assert_eq!(verdict(&mut world, "eve", 99), Err(Refusal::NoExtensions), "the type before the membership");

    let mut world = World::new();
    world.limits.attempts_per_minute = 1;
    world.say("ann: clear");
    assert_eq!(verdict(&mut world, "eve", 99), Err(Refusal::NotAMember), "the membership before the message");
    assert_eq!(verdict(&mut world, "ann", 99), Err(Refusal::NoSuchMessage), "the message before its flag");
    assert_eq!(verdict(&mut world, "ann", PLAIN), Err(Refusal::NoExtensions), "the flag before the attempts");
    assert_eq!(world.say("ann: set a=x@7"), "TooManyAttempts", "the attempts before the pairs");
}

#[test]
fn rule_3_3_administrators_and_the_server_need_no_membership() {
    for who in ["ann", "connected bob", "admin", "server"] {
        assert_eq!(verdict(&mut World::new(), who, POLL), Ok(()), "{who}");
    }
    for who in ["eve", "connected eve"] {
        assert_eq!(verdict(&mut World::new(), who, POLL), Err(Refusal::NotAMember), "{who}");
    }
}

#[test]
fn rule_3_3_an_account_that_left_may_neither_write_nor_read() {
    let mut world = World::new();
    world.act(GroupAction::RemoveMembers { users: vec![user("ann")], reason: String::new() });
    assert_eq!(verdict(&mut world, "ann", POLL), Err(Refusal::NotAMember));
    world.act(GroupAction::AddMembers { members: vec![member("ann")], imported: false });
    assert_eq!(verdict(&mut world, "ann", POLL), Ok(()));
}

#[test]
fn rule_3_3_a_deleted_account_and_its_namesake_are_two() {
    let mut world = World::new();
    world.act_on_account("ann", import(1));
    world.act_on_account("ann", AccountAction::Delete);
    world.act_on_account("ann", import(2));
    let namesake =
        sidenote_core::event::Operator { tiny_id: Some(TinyId::from_random(2)), ..operator("ann") };
    let clear = GroupAction::Extend(MsgSeq::new(POLL).unwrap(), Extend::Clear);
    let refused = world.run(namesake.clone(), Action::Group(group(), clear.clone()));
    assert_eq!((refused.verdict, refused.changes), (Err(Refusal::NotAMember), vec![]));
    // Nor does a caller whose number nobody looked up pass for the member.
    let numberless = sidenote_core::event::Operator { tiny_id: None, ..namesake };
    assert!(world.run(numberless, Action::Group(group(), clear)).verdict.is_err());
}

fn import(number: u64) -> AccountAction {
    AccountAction::Import { tiny_id: TinyId::from_random(number), nick: None, face_url: None }
}
