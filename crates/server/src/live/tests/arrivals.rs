//! Whoever comes while something happens: the news of it is on its way, or was passed on a moment ago.

use futures_util::FutureExt as _;
use sidenote_core::event::Event;

use super::super::followers::{Followers, HandedOut};
use super::super::mailbox::Mailbox;
use super::*;

const FIRST_LIFE: Incarnation = Incarnation::from_random(1);

fn event(number: u64, what: Happening) -> Delivery {
    let operator = Operator::server(user("ann"));
    let number = EventNumber::new(number);
    let event = Arc::new(Event { number, at: Timestamp::from_millis(1), operator, what });
    Delivery::new(group("a"), FIRST_LIFE, event, None, Vec::new())
}

fn changed(number: u64) -> Delivery {
    event(number, Happening::GroupChanged)
}

fn open(followers: &mut Followers, place: impl FnOnce(&mut Followers, Mailbox)) -> Inbox {
    let (mailbox, inbox) = Mailbox::open(followers.new_id(), std::sync::Weak::new(), None);
    place(followers, mailbox);
    inbox
}

fn numbers(inbox: &mut Inbox) -> Vec<u64> {
    std::iter::from_fn(|| Some(inbox.next().now_or_never()?.ok()?.event().number.get())).collect()
}

#[tokio::test]
async fn a_login_that_knows_what_others_were_not_told_yet_takes_nothing_from_them() {
    let scene = Scene::new(Limits::default());
    for name in ["ann", "bob"] {
        scene.import(name).await;
    }
    let mut bob = scene.connect("bob").await;
    let mut everything = scene.hub.follow_app(APP).await;
    // The task that hands events out runs when this test waits, and not before.
    scene.create("a", 1, &["ann", "bob"]).await;
    let mut ann = scene.connect("ann").await;
    scene.send("a", 1).await;
    assert_eq!((next(&mut bob).await.1, next(&mut bob).await.1), (2, 3));
    for expected in 1..=3 {
        assert_eq!(next(&mut everything).await, ("a".to_owned(), expected));
    }
    while next(&mut ann).await.1 < 3 {}
}

#[tokio::test]
async fn a_reader_that_has_read_what_others_were_not_told_yet_takes_nothing_from_them() {
    let scene = Scene::new(Limits::default());
    scene.import("ann").await;
    scene.create("a", 1, &["ann"]).await;
    let mut everything = scene.hub.follow_app(APP).await;
    scene.send("a", 1).await;
    let mut follow = scene.follow("a", None, Some((1, 0))).await.unwrap();
    for expected in 1..=3 {
        assert_eq!(number(&mut follow).await, Ok(expected));
    }
    assert!(follow.next().now_or_never().is_none());
    assert_eq!(next(&mut everything).await, ("a".to_owned(), 3));
    scene.send("a", 2).await;
    assert_eq!((number(&mut follow).await, next(&mut everything).await.1), (Ok(4), 4));
}

#[test]
fn a_member_that_may_have_left_unnoticed_hears_nothing_until_that_is_cleared_up() {
    for (member_at, expected) in [(None, vec![]), (Some(EventNumber::new(8)), vec![9])] {
        let mut followers = Followers::default();
        let mut ann = open(&mut followers, |followers, mailbox| {
            followers.add_account(&account("ann"), tiny_id("ann"), mailbox);
        });
        // It was a member at 5. The next event, which nobody followed, may be that it left.
        let group = group("a");
        let group = (&group, FIRST_LIFE);
        let doubt = followers.attach(&account("ann"), tiny_id("ann"), group, EventNumber::new(5)).unwrap();
        followers.hand_out(&[changed(7)]);
        followers.settle(&account("ann"), group, doubt, member_at);
        followers.hand_out(&[changed(8), changed(9)]);
        assert_eq!(numbers(&mut ann), expected);
        // Once the channel is open there is nothing to doubt.
        if member_at.is_some() {
            let (bob, last) = (account("bob"), EventNumber::new(9));
            let mut bobs = open(&mut followers, |followers, mailbox| {
                followers.add_account(&bob, tiny_id("bob"), mailbox);
            });
            assert_eq!(followers.attach(&bob, tiny_id("bob"), group, last), None);
            followers.hand_out(&[changed(10)]);
            assert_eq!((numbers(&mut bobs), numbers(&mut ann)), (vec![10], vec![10]));
        }
    }
}

#[test]
fn a_gap_is_noticed_before_anybody_is_told_what_comes_after_it() {
    let mut followers = Followers::default();
    let mut everything = open(&mut followers, |followers, mailbox| followers.add_app(APP, mailbox));
    let mut reader = open(&mut followers, |followers, mailbox| {
        followers.add_reader(&group("a"), FIRST_LIFE, mailbox);
    });
    let handed_out = followers.hand_out(&[changed(5), changed(6)]);
    assert_eq!(handed_out, HandedOut::Events { count: 2, is_crowded: false });
    assert_eq!(followers.hand_out(&[changed(8)]), HandedOut::Gap);
    // What was told is not told again, also after the last reader has gone.
    followers.hand_out(&[changed(6), changed(7)]);
    assert_eq!(numbers(&mut reader), [5, 6, 7]);
    followers.remove(2);
    assert_eq!(followers.hand_out(&[changed(9)]), HandedOut::Gap);
    followers.hand_out(&[changed(7), changed(8)]);
    assert_eq!(numbers(&mut everything), [5, 6, 7, 8]);
}

#[test]
fn whoever_follows_an_app_learns_that_events_were_lost() {
    let mut followers = Followers::default();
    let mut everything = open(&mut followers, |followers, mailbox| followers.add_app(APP, mailbox));
    followers.hand_out(&[changed(5)]);
    followers.lose_events(&group("a"), FIRST_LIFE);
    assert_eq!(numbers(&mut everything), [5]);
    assert_eq!(everything.next().now_or_never().unwrap().unwrap_err(), Ended::Lost);
}

#[tokio::test]
async fn a_burst_of_events_leaves_receivers_time_to_take_them() {
    let scene = Scene::new(Limits::default());
    for name in ["ann", "bob"] {
        scene.import(name).await;
    }
    scene.create("a", 1, &["ann", "bob"]).await;
    let poll = scene.send("a", 1).await;
    let mut everything = scene.hub.follow_app(APP).await;
    let mut ann = scene.connect("ann").await;
    let slow = scene.connect("bob").await;
    // One piece of news, because nobody else runs meanwhile.
    let burst = 4 * CAPACITY as u64;
    for _ in 0..burst {
        scene.vote("a", poll, "x").await;
    }
    for number in 4..4 + burst {
        assert_eq!((next(&mut ann).await.1, next(&mut everything).await.1), (number, number));
    }
    drop(slow);
}

#[test]
fn a_mailbox_holds_so_many_bytes_or_one_event() {
    let message = |number, bytes: usize| {
        let what = Happening::MembersLeft { users: Vec::new(), reason: "x".repeat(bytes) };
        event(number, what)
    };
    let mut followers = Followers::default();
    let mut inbox = open(&mut followers, |followers, mailbox| followers.add_app(APP, mailbox));
    let mib = 1024 * 1024;
    followers.hand_out(&[message(1, 5 * mib)]);
    assert_eq!(numbers(&mut inbox), [1]);
    followers.hand_out(&[message(2, mib), message(3, mib)]);
    assert_eq!(numbers(&mut inbox), [2, 3]);
    let crowded = followers.hand_out(&[message(4, mib), message(5, mib), message(6, mib)]);
    assert_eq!(crowded, HandedOut::Events { count: 3, is_crowded: true });
    followers.hand_out(&[message(7, mib)]);
    assert_eq!(inbox.next().now_or_never().unwrap().unwrap_err(), Ended::Overrun);
}

#[tokio::test]
async fn a_reader_with_much_to_read_ends_when_the_server_stops() {
    let scene = Scene::new(Limits::default());
    scene.import("ann").await;
    scene.create("a", 1, &["ann"]).await;
    let mut follow = scene.follow("a", None, Some((1, 0))).await.unwrap();
    assert_eq!(number(&mut follow).await, Ok(1));
    scene.stop.cancel();
    while !scene.hub.is_closed() {
        tokio::task::yield_now().await;
    }
    assert_eq!(follow.next().await.unwrap().unwrap_err(), Ended::Closing);
}
