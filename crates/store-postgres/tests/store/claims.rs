//! What nodes agree on: who lives and leads, who tells which conversation, who is logged in where.

use std::time::Duration;

use sidenote_core::command::{Action, GroupAction, OutboxAction};
use sidenote_core::ids::{AccountId, EventNumber, Incarnation, Timestamp};
use sidenote_core::outbox::{DeadLetter, Outbox};
use sidenote_core::query::DeadLetters;
use sidenote_core::{Limits, Outcome};
use sidenote_postgres_for_tests::{Postgres, Settings};
use sidenote_store::shared::{Leave, Login, LoginNumber};
use sidenote_store::{Committed, Store, StoreError};
use sidenote_store_postgres::{Beat, Heart, Outboxes, PostgresOptions, PostgresStore, schema};

use crate::scene::{APP, command, commit, create, found, group, import, options, send, unlimited, user};

/// The number of the life of the group that [`found`] makes.
const LIFE: Incarnation = Incarnation::from_random(77);

const DATABASE: &str = "test0";

/// Two nodes whose app is told by webhook, and the hearts by which they say that they live.
async fn two(postgres: &Postgres) -> ([PostgresStore; 2], [Heart; 2]) {
    let options = PostgresOptions { connections: 2, ..options(&postgres.new_database()) };
    schema::migrate(&options).await.unwrap();
    let limits = Limits { webhook_apps: vec![APP].leak(), ..unlimited() };
    let one = PostgresStore::open(options.clone(), limits).await.unwrap();
    let other = PostgresStore::open(options, limits).await.unwrap();
    ([one, other], [1, 2].map(|node| Heart::new(node, Duration::from_mins(1))))
}

fn kill(postgres: &Postgres, node: i64) {
    postgres.psql(DATABASE, &format!("UPDATE nodes SET alive_until = now() WHERE node = {node}"));
}

fn settle(through: u64, dead: Vec<(EventNumber, DeadLetter)>) -> Action {
    let through = EventNumber::new(through);
    Action::Outbox(group("room"), LIFE, OutboxAction::Settle { through, dead })
}

fn letter() -> DeadLetter {
    let at = Timestamp::from_millis(1);
    let (first, reason) = (EventNumber::new(1), "why".to_owned());
    DeadLetter { first, happened_at: at, given_up_at: at, tries: 1, reason, request: None }
}

/// Whether it was settled, and then whether nothing is left.
fn settled(committed: Result<Option<Committed>, StoreError>) -> Option<bool> {
    match committed.unwrap()?.verdict.unwrap() {
        Outcome::Settled { empty, .. } => Some(empty),
        other => panic!("{other:?}"),
    }
}

fn mine(outboxes: Outboxes) -> Vec<(Incarnation, Outbox)> {
    match outboxes {
        Outboxes::Mine(lives) => lives,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_told_by_one_node_that_lives() {
    let test = "a_conversation_is_told_by_one_node_that_lives";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let ([here, there], mut hearts) = two(&postgres).await;
    found(&here, "room").await;
    let room = group("room");
    assert_eq!(here.claim(&group("none"), 1, 10).await, Ok(Outboxes::None));

    // A node that has never said that it lives holds nobody up.
    assert_eq!(mine(there.claim(&room, 2, 20).await.unwrap()).len(), 1);
    for (heart, store) in hearts.iter_mut().zip([&here, &there]) {
        heart.beat(store).await.unwrap();
    }
    assert_eq!(here.claim(&room, 1, 11).await, Ok(Outboxes::Others));
    kill(&postgres, 2);
    let lives = mine(here.claim(&room, 1, 11).await.unwrap());
    assert_eq!((lives.len(), lives[0].0, lives[0].1.after), (1, LIFE, EventNumber::START));
    hearts[1].beat(&there).await.unwrap();
    assert_eq!(there.claim(&room, 2, 21).await, Ok(Outboxes::Others));
    assert_eq!(there.unclaimed(APP, None, 9, 2).await, Ok(vec![]));
    assert_eq!(here.unclaimed(APP, None, 9, 1).await, Ok(vec![(room.clone(), LIFE)]));
    assert_eq!(here.unclaimed(APP, Some(&(room.clone(), LIFE)), 9, 1).await, Ok(vec![]));

    // Only under the number of the claim that stands anything is written down.
    for claim in [20, 10, 0] {
        let command = command(settle(2, vec![(EventNumber::new(2), letter())]));
        assert_eq!(settled(there.commit_claimed(claim, command).await), None);
    }
    let reader: &dyn Store = &here;
    let kept = reader.ask(DeadLetters { app: APP, after: None, limit: 9 }).await.unwrap();
    assert_eq!(kept, []);
    assert_eq!(settled(here.commit_claimed(11, command(settle(2, Vec::new()))).await), Some(false));

    // Whoever is dead loses it, with what it has not written down.
    kill(&postgres, 1);
    assert_eq!(there.unclaimed(APP, None, 9, 2).await, Ok(vec![(room.clone(), LIFE)]));
    let lives = mine(there.claim(&room, 2, 22).await.unwrap());
    assert_eq!(lives[0].1.after, EventNumber::new(2));
    hearts[0].beat(&here).await.unwrap();
    assert_eq!(settled(here.commit_claimed(11, command(settle(3, Vec::new()))).await), None);
    assert_eq!(here.claim(&room, 1, 12).await, Ok(Outboxes::Others));
    // Claimed anew by the same node, the number before is worth nothing either.
    assert_eq!(mine(there.claim(&room, 2, 23).await.unwrap())[0].1.after, EventNumber::new(2));
    assert_eq!(settled(there.commit_claimed(22, command(settle(3, Vec::new()))).await), None);

    // What was told is gone, and the claim with it. What is new is anybody's.
    assert_eq!(settled(there.commit_claimed(23, command(settle(1000, Vec::new()))).await), Some(true));
    assert_eq!(settled(there.commit_claimed(23, command(settle(1000, Vec::new()))).await), None);
    assert_eq!(there.claim(&room, 2, 24).await, Ok(Outboxes::None));
    commit(&there, send("room", 2)).await.unwrap();
    assert_eq!(mine(here.claim(&room, 1, 13).await.unwrap()).len(), 1);

    // A life that is over comes first, and whoever has that has the others.
    commit(&there, Action::Group(room.clone(), GroupAction::Destroy)).await.unwrap();
    commit(&there, create("room", 78)).await.unwrap();
    assert_eq!(there.claim(&room, 2, 25).await, Ok(Outboxes::Locked));
    let lives = mine(here.claim(&room, 1, 14).await.unwrap());
    assert_eq!(lives.iter().map(|(life, _)| life.get()).collect::<Vec<_>>(), [77, 78]);
    for store in [here, there] {
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_an_outbox_that_is_locked() {
    let test = "nobody_waits_for_an_outbox_that_is_locked";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let ([here, _there], _) = two(&postgres).await;
    found(&here, "room").await;
    let mut locker = postgres.session(DATABASE);
    locker.run("BEGIN; SELECT name FROM outboxes FOR UPDATE;");
    assert_eq!(here.claim(&group("room"), 1, 10).await, Ok(Outboxes::Locked));
    locker.run("ROLLBACK;");
    assert_eq!(mine(here.claim(&group("room"), 1, 11).await.unwrap()).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_leads_until_it_ends_or_is_not_heard_of() {
    let test = "one_node_leads_until_it_ends_or_is_not_heard_of";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let ([here, there], [mut one, mut other]) = two(&postgres).await;
    let beat = |leads, alive: &[i64]| Beat { was_dead: false, leads, alive: alive.to_vec() };
    let anew = |beat| Beat { was_dead: true, ..beat };
    let sorted = |mut beat: Beat| {
        beat.alive.sort_unstable();
        beat
    };
    assert_eq!(one.beat(&here).await, Ok(anew(beat(true, &[1]))));
    assert_eq!(other.beat(&there).await.map(sorted), Ok(anew(beat(false, &[1, 2]))));
    assert_eq!(one.beat(&here).await.map(sorted), Ok(beat(true, &[1, 2])));
    // It was not heard of for as long as its lease.
    postgres.psql(DATABASE, "UPDATE leases SET until = now()");
    assert_eq!(other.beat(&there).await.map(sorted), Ok(beat(true, &[1, 2])));
    assert_eq!(one.beat(&here).await.map(sorted), Ok(beat(false, &[1, 2])));
    other.end(&there).await.unwrap();
    assert_eq!(one.beat(&here).await, Ok(beat(true, &[1])));

    // What a dead node leaves behind is cleared away.
    postgres.psql(
        DATABASE,
        "INSERT INTO nodes VALUES (7, now() - interval '11 minutes'), (8, now() - interval '9 minutes'); \
         INSERT INTO logins VALUES (1, 1, 'ann', 1, 1, 7, now(), 0), (1, 1, 'ann', 2, 2, 8, now(), 0)",
    );
    here.sweep().await.unwrap();
    assert_eq!(postgres.psql(DATABASE, "SELECT node FROM nodes ORDER BY node").trim(), "1\n8");
    assert_eq!(postgres.psql(DATABASE, "SELECT node FROM logins").trim(), "8");
}

/// Waits until this holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), wait).await.is_ok(), "it took too long: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_makes_nobody_immortal_and_no_claim_hold_unnoticed() {
    let test = "a_clock_that_is_set_makes_nobody_immortal_and_no_claim_hold_unnoticed";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let ([here, there], [mut one, mut other]) = two(&postgres).await;
    found(&here, "room").await;
    let room = group("room");
    one.beat(&here).await.unwrap();
    other.beat(&there).await.unwrap();
    mine(here.claim(&room, 1, 10).await.unwrap());
    // Set forward past its lease, and it says that it lives before anybody else looks: it has to know.
    kill(&postgres, 1);
    assert!(one.beat(&here).await.unwrap().was_dead);
    assert!(!one.beat(&here).await.unwrap().was_dead);

    // Set back by an hour. Whoever died just before is dead all the same, and whoever lives says so once more.
    postgres.psql(
        DATABASE,
        "UPDATE nodes SET alive_until = alive_until + interval '1 hour'; \
         UPDATE leases SET until = until + interval '1 hour'",
    );
    let beat = other.beat(&there).await.unwrap();
    assert_eq!(beat, Beat { was_dead: true, leads: true, alive: vec![2] });
    assert_eq!(there.unclaimed(APP, None, 9, 2).await, Ok(vec![(room.clone(), LIFE)]));
    assert_eq!(mine(there.claim(&room, 2, 20).await.unwrap()).len(), 1);
    assert_eq!(here.claim(&room, 1, 11).await, Ok(Outboxes::Others));
    for store in [here, there] {
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_in_doubt_is_removed_behind_whoever_enters_it() {
    let test = "a_login_in_doubt_is_removed_behind_whoever_enters_it";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let ([here, _there], [mut one, _]) = two(&postgres).await;
    commit(&here, import("ann")).await.unwrap();
    one.beat(&here).await.unwrap();
    here.enter_login(&login(1, 1), 9, 1).await.unwrap();
    // A connection that was given up, and whose transaction goes on.
    let mut given_up = postgres.session(DATABASE);
    given_up.run(
        "BEGIN; SELECT tiny_id FROM accounts FOR UPDATE; \
         INSERT INTO logins SELECT akey, app, user_id, 2, 2, node, since, 0 FROM logins;",
    );
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    let in_doubt = login(2, 2);
    let (removed, ()) = tokio::join!(here.remove_login_in_doubt(&in_doubt), async {
        until("it is waited for", || postgres.psql(DATABASE, waits).trim() == "1").await;
        given_up.run("COMMIT;");
    });
    removed.unwrap();
    assert_eq!(postgres.psql(DATABASE, "SELECT login FROM logins").trim(), "1");
    here.close().await;
}

fn login(number: u64, instance: u32) -> Login {
    let account = AccountId { app: APP, user: user("ann") };
    Login { account, number: LoginNumber::from_random(number << 1), instance }
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_counted_over_all_nodes_that_live() {
    let test = "logins_are_counted_over_all_nodes_that_live";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let ([here, there], [mut one, mut other]) = two(&postgres).await;
    commit(&here, import("ann")).await.unwrap();
    one.beat(&here).await.unwrap();
    other.beat(&there).await.unwrap();
    let stores = [&here, &there];
    let enter = async |node: usize, number, instance| {
        let gone = stores[node].enter_login(&login(number, instance), 2, [1, 2][node]).await.unwrap();
        gone.into_iter().map(|gone| (gone.number.get(), gone.why)).collect::<Vec<_>>()
    };
    let told = async |node: usize| {
        let mut told: Vec<_> = stores[node].departures([1, 2][node]).await.unwrap();
        told.sort_by_key(|told| told.number);
        told.into_iter().map(|told| (told.number.get(), told.why)).collect::<Vec<_>>()
    };
    assert_eq!((enter(0, 1, 1).await, enter(1, 2, 2).await), (vec![], vec![]));
    assert_eq!(enter(1, 3, 3).await, [(1, Leave::Kicked)]);
    // The same instance elsewhere takes the place of its own.
    assert_eq!(enter(0, 4, 3).await, [(3, Leave::Replaced)]);
    assert_eq!((told(0).await, told(1).await), (vec![(1, Leave::Kicked)], vec![(3, Leave::Replaced)]));
    here.remove_logins(&[login(1, 1)]).await.unwrap();
    assert_eq!(told(0).await, []);

    // Those of a node that is dead take nobody's place, and come back only if the node does.
    kill(&postgres, 2);
    assert_eq!(enter(0, 5, 5).await, []);
    assert_eq!(
        postgres.psql(DATABASE, "SELECT login FROM logins WHERE leave = 0 ORDER BY login").trim(),
        "4\n5"
    );
    there.keep_logins(&[login(2, 2)], 2).await.unwrap();
    other.beat(&there).await.unwrap();
    assert_eq!(enter(0, 6, 6).await, [(4, Leave::Kicked), (5, Leave::Kicked)]);

    // All at once, through both: two are left.
    let all = (10..30_u32).map(|number| enter(usize::from(number % 2 == 0), number.into(), number));
    futures_util::future::join_all(all).await;
    assert_eq!(postgres.psql(DATABASE, "SELECT count(*) FROM logins WHERE leave = 0").trim(), "2");
    one.end(&here).await.unwrap();
    assert_eq!(postgres.psql(DATABASE, "SELECT count(*) FROM logins WHERE node = 1").trim(), "0");
    here.close().await;
    there.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_statements_were_forgotten_says_again_that_it_lives() {
    let test = "a_node_whose_statements_were_forgotten_says_again_that_it_lives";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let ([one, other], [mut heart, _]) = two(&postgres).await;
    // As a pooler does that puts another server in place.
    postgres.psql(
        DATABASE,
        "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         EXECUTE 'DEALLOCATE ALL'; RETURN NEW; END $$; \
         CREATE TRIGGER forgets BEFORE INSERT ON nodes FOR EACH ROW EXECUTE FUNCTION forget()",
    );
    heart.beat(&one).await.unwrap_err();
    postgres.psql(DATABASE, "DROP TRIGGER forgets ON nodes");
    assert_eq!(heart.beat(&one).await, Ok(Beat { was_dead: false, leads: true, alive: vec![1] }));
    one.close().await;
    other.close().await;
}
