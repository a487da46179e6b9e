use std::collections::BTreeSet;

use sidenote_core::command::{AccountAction, GroupAction};
use sidenote_core::event::{ChangedPair, ExtensionChange, Operation, Operator};
use sidenote_core::extension::{Key, Seq, Value};
use sidenote_core::ids::{AccountId, AppId, GroupId, MessageName, MsgSeq, Timestamp, TinyId, UserId};

use super::*;

fn group(name: &str) -> ConversationId {
    ConversationId::group(AppId::new(1), GroupId::new(name).unwrap())
}

fn command(action: Action) -> Command {
    let operator = Operator::server(UserId::new("ann").unwrap());
    Command { operator, at: Timestamp::from_millis(1), action }
}

/// A change of one pair with a value of so many bytes.
fn change(incarnation: u64, number: u64, value_bytes: usize) -> Change {
    let pair = ChangedPair {
        key: Key::new("k").unwrap(),
        value: Some(Value::new(&"v".repeat(value_bytes)).unwrap()),
        seq: Seq::new(number).unwrap(),
        previous: None,
    };
    let what = Happening::Extension(ExtensionChange {
        message: MessageName::Seq(MsgSeq::new(1).unwrap()),
        sender_tiny_id: TinyId::from_random(1),
        client_time: 1,
        random: 1,
        operation: Operation::Set,
        compaction: false,
        pairs: vec![pair],
        latest: Seq::new(number).unwrap(),
        clear: Seq::NEVER,
    });
    let number = EventNumber::new(number);
    let operator = Operator::server(UserId::new("ann").unwrap());
    let event = Event { number, at: Timestamp::from_millis(1), operator, what };
    let key = RowKey::Event(Incarnation::from_random(incarnation), number);
    Change { key, row: Some(Row::Event(Arc::new(event))) }
}

fn numbers(news: &News) -> Vec<u64> {
    news.events.iter().map(|event| event.number.get()).collect()
}

fn ends(news: &News) -> (u64, u64) {
    (news.first.get(), news.last.get())
}

/// A commit that changes a conversation, by its number and name.
fn tell(newsroom: &Newsroom, changes: &[(u64, &str, u64, usize)]) {
    let mut gathered = Gathered::default();
    for (incarnation, name, number, bytes) in changes {
        let command = command(Action::Group(group(name), GroupAction::Destroy));
        gathered.add(&command, &[change(*incarnation, *number, *bytes)]);
    }
    newsroom.tell(&gathered);
}

#[tokio::test]
async fn the_events_of_a_commit_are_told_by_conversation_in_their_order() {
    let newsroom = Newsroom::default();
    let mut follower = newsroom.follow();
    tell(&newsroom, &[(1, "a", 7, 10), (1, "a", 8, 10), (2, "b", 1, 10), (1, "a", 9, 10)]);
    let told = follower.next().await.news;
    let [first, second] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&first.conversation, ends(first), numbers(first)), (&group("a"), (7, 9), vec![7, 8, 9]));
    assert_eq!((&second.conversation, ends(second), numbers(second)), (&group("b"), (1, 1), vec![1]));
    assert_eq!(follower.take().news, []);
    drop(follower);
    assert!(lock(&newsroom.0.0).desks.is_empty());
}

#[test]
fn what_falls_out_of_the_retention_and_a_commit_without_events_are_no_news() {
    let newsroom = Newsroom::default();
    let mut follower = newsroom.follow();
    let account = AccountId { app: AppId::new(1), user: UserId::new("ann").unwrap() };
    let mut gathered = Gathered::default();
    gathered.add(&command(Action::Account(account, AccountAction::Delete)), &[]);
    let old = Change { key: RowKey::Event(Incarnation::from_random(1), EventNumber::new(1)), row: None };
    gathered.add(&command(Action::Group(group("a"), GroupAction::Destroy)), &[old]);
    newsroom.tell(&gathered);
    assert_eq!(follower.take().news, []);
}

#[test]
fn news_that_waits_becomes_one_piece_for_each_conversation() {
    let newsroom = Newsroom::default();
    let mut followers = [newsroom.follow(), newsroom.follow()];
    tell(&newsroom, &[(1, "a", 1, 10)]);
    tell(&newsroom, &[(1, "a", 2, 10), (2, "b", 5, 10)]);
    tell(&newsroom, &[(1, "a", 3, 10)]);
    for follower in &mut followers {
        let told = follower.take().news;
        assert_eq!(told.iter().map(ends).collect::<Vec<_>>(), [(1, 3), (5, 5)]);
        assert_eq!((numbers(&told[0]), numbers(&told[1])), (vec![1, 2, 3], vec![5]));
    }
    // A conversation that was made again is another one.
    tell(&newsroom, &[(1, "a", 4, 10), (3, "a", 1, 10)]);
    assert_eq!(followers[0].take().news.iter().map(ends).collect::<Vec<_>>(), [(4, 4), (1, 1)]);
}

#[test]
fn events_that_are_too_large_to_wait_are_told_by_their_numbers_and_all_of_a_piece_or_none() {
    let newsroom = Newsroom::default();
    let mut follower = newsroom.follow();
    let many = WAITING_EVENT_BYTES as u64 / 10_000 + 1;
    tell(&newsroom, &[(2, "b", 1, 10)]);
    for number in 1..=many {
        tell(&newsroom, &[(1, "a", number, 10_000)]);
    }
    tell(&newsroom, &[(2, "b", 2, 10)]);
    let told = follower.take().news;
    assert_eq!(told.iter().map(ends).collect::<Vec<_>>(), [(1, 2), (1, many)]);
    assert_eq!((numbers(&told[0]), numbers(&told[1])), (vec![1, 2], vec![]));
    // What was taken makes room.
    tell(&newsroom, &[(1, "a", many + 1, 10_000)]);
    assert_eq!(numbers(&follower.take().news[0]), [many + 1]);
}

#[tokio::test]
async fn an_account_that_was_deleted_is_told_with_its_number() {
    let newsroom = Newsroom::default();
    let mut follower = newsroom.follow();
    let account = AccountId { app: AppId::new(1), user: UserId::new("ann").unwrap() };
    let owed = |task| Change {
        key: RowKey::Debt(Debt { due: Timestamp::from_millis(1), task }),
        row: Some(Row::Debt),
    };
    let mut gathered = Gathered::default();
    let forsake = Task::Forsake(account.clone(), TinyId::from_random(7));
    gathered.add(&command(Action::Account(account.clone(), AccountAction::Delete)), &[owed(forsake)]);
    newsroom.tell(&gathered);
    let told = follower.next().await;
    assert_eq!((told.news, told.deleted), (Vec::new(), vec![(account, TinyId::from_random(7))]));
}

/// News that came from elsewhere, without events.
fn hear(newsroom: &Newsroom, first: u64, last: u64) -> bool {
    let (first, last) = (EventNumber::new(first), EventNumber::new(last));
    let incarnation = Incarnation::from_random(1);
    let heard = News { conversation: group("a"), incarnation, first, last, events: Vec::new() };
    let mut gathered = Gathered::default();
    gathered.add_heard(&heard);
    newsroom.tell(&gathered)
}

#[test]
fn what_is_heard_again_is_told_once_and_what_is_heard_late_or_not_at_all_is_made_up_for() {
    let newsroom = Newsroom::remembering();
    let mut follower = newsroom.follow();
    let mut told = || follower.take().news.iter().map(|news| (ends(news), numbers(news))).collect::<Vec<_>>();
    tell(&newsroom, &[(1, "a", 7, 10)]);
    assert_eq!(told(), [((7, 7), vec![7])]);
    assert!(!hear(&newsroom, 7, 7));
    assert_eq!(told(), []);
    // Number 6 is another node's, and was committed before.
    assert!(hear(&newsroom, 6, 6));
    assert_eq!(told(), [((6, 6), vec![])]);
    assert!(!hear(&newsroom, 6, 7));
    // Told again to whoever says that it does not know it.
    let [first, last] = [6, 7].map(EventNumber::new);
    let (conversation, incarnation) = (group("a"), Incarnation::from_random(1));
    let mut gathered = Gathered::default();
    gathered.add_missed(&News { conversation, incarnation, first, last, events: Vec::new() });
    assert!(!newsroom.tell(&gathered));
    assert_eq!(told(), [((6, 7), vec![])]);
    // Nobody told of 8 and 9.
    tell(&newsroom, &[(1, "a", 10, 10)]);
    assert_eq!(told(), [((8, 10), vec![])]);
    assert!(!hear(&newsroom, 8, 9));
    // Of a piece that is known in part the rest is told.
    let mut gathered = Gathered::default();
    for number in 10..=12 {
        gathered.add(&command(Action::Group(group("a"), GroupAction::Destroy)), &[change(1, number, 10)]);
    }
    assert!(newsroom.tell(&gathered));
    assert_eq!(told(), [((11, 12), vec![11, 12])]);
    // What waits and what comes late become one piece.
    tell(&newsroom, &[(2, "b", 5, 10)]);
    tell(&newsroom, &[(2, "b", 4, 10)]);
    assert_eq!(told(), [((4, 5), vec![])]);
}

#[test]
fn what_reaches_back_before_what_waits_is_told_with_it() {
    let newsroom = Newsroom::remembering();
    let mut follower = newsroom.follow();
    tell(&newsroom, &[(1, "a", 7, 10)]);
    assert_eq!(find(&newsroom, &mut follower, 5, 9), [(5, 9)]);
}

#[test]
fn events_that_are_not_all_that_were_left_out_are_not_taken_for_it() {
    let newsroom = Newsroom::remembering();
    let mut follower = newsroom.follow();
    tell(&newsroom, &[(1, "a", 7, 10)]);
    follower.take();
    // 4, 5 and 6 were left out, too.
    let mut gathered = Gathered::default();
    gathered.add_heard(&News { events: events(2, 3), ..heard(2, 3) });
    newsroom.tell(&gathered);
    let told = follower.take().news;
    assert_eq!(told.iter().map(|news| (ends(news), numbers(news))).collect::<Vec<_>>(), [((2, 6), vec![])]);
}

#[test]
fn what_was_told_long_ago_is_no_longer_known_and_what_was_told_lately_is_old_for_whoever_comes() {
    let newsroom = Newsroom::remembering();
    assert!(!hear(&newsroom, 1, 1), "nobody follows");
    let mut follower = newsroom.follow();
    assert!(!hear(&newsroom, 1, 1), "it was told before");
    assert!(hear(&newsroom, 2, 2));
    newsroom.forget_old();
    assert!(!hear(&newsroom, 1, 2));
    newsroom.forget_old();
    newsroom.forget_old();
    assert!(hear(&newsroom, 2, 2));
    assert_eq!(follower.take().news.iter().map(ends).collect::<Vec<_>>(), [(2, 2)]);
    // Of what this node has committed itself, too.
    drop(follower);
    tell(&newsroom, &[(1, "a", 3, 10)]);
    let mut later = newsroom.follow();
    assert!(!hear(&newsroom, 2, 3));
    assert!(hear(&newsroom, 2, 4));
    assert_eq!(later.take().news.iter().map(ends).collect::<Vec<_>>(), [(4, 4)]);
}

#[test]
fn whoever_says_very_much_fills_no_memory_and_hides_nothing() {
    let newsroom = Newsroom::remembering();
    let mut follower = newsroom.follow();
    let of = |life: u64| News { incarnation: Incarnation::from_random(life), ..heard(1, 1) };
    let most = MOST_HEARD as u64;
    let hear = |life| {
        let mut gathered = Gathered::default();
        gathered.add_heard(&of(life));
        newsroom.tell(&gathered)
    };
    assert!((1..=most).all(hear));
    assert!(!(most + 1..=most + 10).any(hear));
    let account = AccountId { app: AppId::new(1), user: UserId::new("ann").unwrap() };
    let mut gathered = Gathered::default();
    gathered.add_heard_deleted(account, TinyId::from_random(7));
    assert!(!newsroom.tell(&gathered));
    // What is committed here, or found, is told all the same, also of what was not listened to.
    tell(&newsroom, &[(most + 11, "a", 1, 10)]);
    let mut gathered = Gathered::default();
    gathered.add_found(&of(most + 1));
    assert!(newsroom.tell(&gathered));
    let told = follower.take();
    assert_eq!((told.news.len() as u64, told.deleted.len()), (most + 2, 0));
    assert!(hear(most + 2));
    assert_eq!(follower.take().news.len(), 1);
}

#[test]
fn what_concerns_nobody_is_told_to_nobody_and_remembered() {
    let newsroom = Newsroom::remembering();
    let mut follower = newsroom.follow();
    let mut gathered = Gathered::default();
    let (conversation, incarnation) = (group("a"), Incarnation::from_random(1));
    let [first, last] = [1, 4].map(EventNumber::new);
    gathered.add_heard(&News { conversation, incarnation, first, last, events: Vec::new() });
    newsroom.pass_over(&gathered);
    assert!(!hear(&newsroom, 4, 4));
    assert!(hear(&newsroom, 4, 5));
    assert_eq!(follower.take().news.iter().map(ends).collect::<Vec<_>>(), [(5, 5)]);
}

#[test]
fn numbers_told_in_any_order_are_each_told_once() {
    // Every order of five pieces, some of which overlap; whoever follows must learn of each number, and of none twice.
    let pieces = [(1, 2), (3, 3), (2, 4), (5, 5), (4, 6)];
    let mut order = [0, 1, 2, 3, 4];
    permute(&mut order, 0, &mut |order| {
        let mut memory = Memory::default();
        let mut told = Vec::new();
        for place in order {
            let (first, last) = pieces[*place];
            let untold = memory.untold(&heard(first, last), *place % 2 == 0);
            told.extend(untold.into_iter().flat_map(|(first, last)| first.get()..=last.get()));
        }
        told.sort_unstable();
        let whole: Vec<u64> = (told[0]..=6).collect();
        let mut distinct = told.clone();
        distinct.dedup();
        assert_eq!(distinct, whole, "{order:?}");
        assert_eq!(told[0], 1, "{order:?}");
    });
}

#[test]
fn whoever_looks_now_and_then_learns_of_each_number_in_whichever_order_pieces_come() {
    let pieces = [(1, 2), (3, 3), (2, 4), (5, 5), (4, 6)];
    let mut order = [0, 1, 2, 3, 4];
    permute(&mut order, 0, &mut |order| {
        // Each bit stands for a look after a piece.
        for looks in 0..1_u32 << order.len() {
            let newsroom = Newsroom::remembering();
            let mut follower = newsroom.follow();
            let mut told = BTreeSet::new();
            for (at, place) in order.iter().enumerate() {
                let (first, last) = pieces[*place];
                let mut gathered = Gathered::default();
                gathered.add_heard(&News { events: events(first, last), ..heard(first, last) });
                newsroom.tell(&gathered);
                if looks >> at & 1 == 0 && at < order.len() - 1 {
                    continue;
                }
                for news in follower.take().news {
                    let (first, last) = ends(&news);
                    told.extend(first..=last);
                    let is_whole = numbers(&news).into_iter().eq(first..=last);
                    assert!(is_whole || news.events.is_empty(), "{order:?} {looks:b} {news:?}");
                }
            }
            assert!(told.into_iter().eq(1..=6), "{order:?} {looks:b}");
        }
    });
}

/// Events with these numbers.
fn events(first: u64, last: u64) -> Vec<Arc<Event>> {
    let event = |number| match change(1, number, 10).row {
        Some(Row::Event(event)) => event,
        other => panic!("{other:?}"),
    };
    (first..=last).map(event).collect()
}

fn heard(first: u64, last: u64) -> News {
    let (conversation, incarnation) = (group("a"), Incarnation::from_random(1));
    let [first, last] = [first, last].map(EventNumber::new);
    News { conversation, incarnation, first, last, events: Vec::new() }
}

/// Tells what was found in the log, and what others are told of it.
fn find(newsroom: &Newsroom, follower: &mut Follower, first: u64, last: u64) -> Vec<(u64, u64)> {
    let mut gathered = Gathered::default();
    gathered.add_found(&heard(first, last));
    newsroom.tell(&gathered);
    follower.take().news.iter().map(ends).collect()
}

fn doubts(newsroom: &Newsroom) -> Vec<u64> {
    newsroom.doubts(10).iter().map(|doubt| doubt.heard.get()).collect()
}

fn settle(newsroom: &Newsroom, last: u64) -> bool {
    let doubt = newsroom.doubts(1).pop().unwrap();
    newsroom.settle(&doubt, EventNumber::new(last))
}

#[test]
fn what_the_log_confirms_is_in_doubt_no_more() {
    let newsroom = Newsroom::remembering();
    let mut follower = newsroom.follow();
    assert!(hear(&newsroom, 1, 2));
    assert_eq!(doubts(&newsroom), [2]);
    // What is found reaches as far, or further.
    find(&newsroom, &mut follower, 1, 2);
    assert!(doubts(&newsroom).is_empty());
    hear(&newsroom, 3, 3);
    assert_eq!(find(&newsroom, &mut follower, 2, 4), [(3, 4)]);
    assert!(doubts(&newsroom).is_empty() && !hear(&newsroom, 4, 4) && doubts(&newsroom).is_empty());
    // Where the log was asked, and where another one is heard of while it is.
    hear(&newsroom, 5, 5);
    assert!(!settle(&newsroom, 6) && doubts(&newsroom).is_empty());
    hear(&newsroom, 6, 6);
    hear(&newsroom, 7, 7);
    let doubt = newsroom.doubts(1).pop().unwrap();
    hear(&newsroom, 8, 8);
    assert!(!newsroom.settle(&doubt, EventNumber::new(7)));
    assert_eq!(doubts(&newsroom), [8]);
    // Own commits are durable, and all before them with them.
    tell(&newsroom, &[(1, "a", 9, 10)]);
    assert!(doubts(&newsroom).is_empty());
    hear(&newsroom, 10, 10);
    for _ in 0..2 {
        newsroom.forget_old();
    }
    assert!(doubts(&newsroom).is_empty(), "nothing is taken for old because of it");
}

#[test]
fn a_number_that_the_log_does_not_have_hides_nothing_once_the_log_was_asked() {
    let newsroom = Newsroom::remembering();
    let mut follower = newsroom.follow();
    assert_eq!(find(&newsroom, &mut follower, 1, 4), [(1, 4)]);
    hear(&newsroom, 1000, 1000);
    assert_eq!(find(&newsroom, &mut follower, 5, 5), [(5, 1000)]);
    // What is committed then is taken for old, until the log was asked.
    hear(&newsroom, 6, 6);
    assert!(follower.take().news.is_empty());
    // Also what a look finds then.
    assert!(find(&newsroom, &mut follower, 5, 6).is_empty());
    assert!(settle(&newsroom, 6));
    assert_eq!(follower.take().news.iter().map(ends).collect::<Vec<_>>(), [(5, 6)]);
    assert!(doubts(&newsroom).is_empty());
    assert_eq!(find(&newsroom, &mut follower, 6, 7), [(7, 7)]);
    // The same where it was the first that was heard of.
    for _ in 0..2 {
        newsroom.forget_old();
    }
    hear(&newsroom, 1000, 1001);
    follower.take();
    assert_eq!(find(&newsroom, &mut follower, 8, 8), [(8, 999)]);
    // Rather twice: whoever hands it out knows what it has handed out.
    assert!(settle(&newsroom, 8));
    assert_eq!(follower.take().news.iter().map(ends).collect::<Vec<_>>(), [(8, 8)]);
    assert_eq!(find(&newsroom, &mut follower, 8, 9), [(9, 9)]);
    // And where nothing else was heard of, or there is no such conversation.
    for _ in 0..2 {
        newsroom.forget_old();
    }
    hear(&newsroom, 1000, 1001);
    follower.take();
    assert!(settle(&newsroom, 0) && follower.take().news.is_empty() && doubts(&newsroom).is_empty());
    assert_eq!(find(&newsroom, &mut follower, 10, 10), [(10, 10)]);
}

fn permute(order: &mut [usize; 5], from: usize, see: &mut impl FnMut(&[usize; 5])) {
    if from == order.len() {
        return see(order);
    }
    for other in from..order.len() {
        order.swap(from, other);
        permute(order, from + 1, see);
        order.swap(from, other);
    }
}

#[tokio::test]
async fn whoever_waits_is_woken() {
    let newsroom = Newsroom::default();
    let mut follower = newsroom.follow();
    let told = tokio::join!(follower.next(), async { tell(&newsroom, &[(1, "a", 1, 10)]) }).0;
    assert_eq!(told.news.len(), 1);
}
