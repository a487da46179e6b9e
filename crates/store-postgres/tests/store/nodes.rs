//! Two nodes on one database: what one commits the other finds, and both together keep the rules.

use std::sync::Arc;

use sidenote_core::Refusal;
use sidenote_core::command::Command;
use sidenote_core::ids::{EventNumber, Incarnation, Timestamp};
use sidenote_postgres_for_tests::{Postgres, Settings};
use sidenote_store::{Store, StoreError};
use sidenote_store_postgres::{Looked, PostgresOptions, PostgresStore, Recent};

use crate::scene::{
    command, commit, create, events_are_whole, found, group, latest, latest_of, open, options, send, set,
};

async fn two(postgres: &Postgres) -> [Arc<PostgresStore>; 2] {
    let options = PostgresOptions { connections: 3, ..options(&postgres.new_schema()) };
    [Arc::new(open(options.clone()).await), Arc::new(open(options).await)]
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hot_message_through_two_nodes_loses_and_doubles_nothing() {
    let test = "one_hot_message_through_two_nodes_loses_and_doubles_nothing";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let nodes = two(&postgres).await;
    found(&*nodes[0], "room").await;
    let before = latest(&*nodes[1], "room").await;
    let writers = (0..16_u64).map(|writer| {
        let node = Arc::clone(&nodes[usize::from(writer % 2 == 1)]);
        async move {
            let mut seqs = Vec::new();
            for number in 0..10 {
                let value = format!("{writer}-{number}");
                seqs.push(latest_of(&commit(&*node, set("room", &[("a", &*value)])).await.unwrap()));
            }
            assert!(seqs.is_sorted());
            seqs
        }
    });
    let mut seqs: Vec<u64> = futures_util::future::join_all(writers).await.concat();
    seqs.sort_unstable();
    assert_eq!(seqs, (before + 1..=before + 160).collect::<Vec<_>>());
    assert_eq!(events_are_whole(&*nodes[0], "room").await, events_are_whole(&*nodes[1], "room").await);
    for node in nodes {
        node.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_made_once_whichever_node_is_asked() {
    let test = "a_group_is_made_once_whichever_node_is_asked";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let nodes = two(&postgres).await;
    for round in 0..20_u64 {
        let name = format!("room-{round}");
        let [one, other] = [(0, 1), (1, 2)].map(|(node, life)| {
            let incarnation = round * 10 + life;
            nodes[node].commit(command(create(&name, incarnation)))
        });
        let (one, other) = tokio::join!(one, other);
        let made = [one, other].map(|committed| committed.unwrap().verdict);
        assert_eq!(made.iter().filter(|verdict| verdict.is_ok()).count(), 1, "{made:?}");
        assert!(made.contains(&Err(Refusal::GroupIdTaken)), "{made:?}");
        assert_eq!(events_are_whole(&*nodes[0], &name).await, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_lately_is_found_and_whether_anybody_joined_by_it() {
    let test = "what_happened_lately_is_found_and_whether_anybody_joined_by_it";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let [here, there] = two(&postgres).await;
    // All of it years ago.
    found(&*here, "room").await;
    for back in [Recent::MOMENT, Recent::LONG] {
        assert_eq!(here.recent_news(back).await, Ok(Looked { found: Vec::new(), back }));
    }
    // By a clock that is ahead.
    for action in [send("room", 2), send("room", 3), create("other", 78)] {
        let at = Timestamp::from_millis(4_000_000_000_000);
        there.commit(Command { at, ..command(action) }).await.unwrap().verdict.unwrap();
    }
    let Looked { found, back } = here.recent_news(Recent::MOMENT).await.unwrap();
    let mut found: Vec<_> = found
        .iter()
        .map(|(news, joins)| (news.incarnation.get(), news.first.get(), news.last.get(), *joins))
        .collect();
    found.sort_unstable();
    assert_eq!((found, back), (vec![(77, 6, 7, false), (78, 1, 2, true)], Recent::MOMENT));
    for node in [here, there] {
        node.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_lately_is_found_without_reading_what_happened_before() {
    let test = "what_happened_lately_is_found_without_reading_what_happened_before";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let url = postgres.new_schema();
    let store = open(options(&url)).await;
    let schema = url.rsplit("search_path%3D").next().unwrap();
    // A few hundred conversations with many events each, of which some had one just now.
    let fill = "INSERT INTO conversations SELECT c, 7, 'g' || c, c, '', 'group' FROM generate_series(1, 300) AS c; \
         INSERT INTO events SELECT c, c, n, repeat('x', 60)::bytea, n, 'sent' \
         FROM generate_series(1, 500) AS n, generate_series(1, 300) AS c; \
         INSERT INTO events SELECT c, c, 501, '', (extract(epoch FROM now()) * 1000)::bigint, 'sent' \
         FROM generate_series(1, 40) AS c; \
         ANALYZE";
    postgres.psql("postgres", &format!("SET search_path = {schema}; {fill}"));
    postgres.psql("postgres", &format!("VACUUM {schema}.events"));
    let looked = store.recent_news(Recent::MOMENT).await.unwrap();
    assert_eq!(looked.found.len(), 40);
    let statements = store.statement_texts();
    let look = statements.iter().find(|text| text.contains("bool_or")).unwrap();
    // The tables are small enough to be read as a whole.
    let settings = format!("SET search_path = {schema}; SET enable_seqscan = off");
    let plan = postgres.psql("postgres", &format!("{settings}; EXPLAIN (COSTS off) {look}"));
    assert!(plan.contains("events_by_time") && !plan.contains("events_pkey"), "{plan}");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_node_committed_is_followed_once_it_is_heard_of() {
    let test = "what_another_node_committed_is_followed_once_it_is_heard_of";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let [here, there] = two(&postgres).await;
    found(&*here, "room").await;
    let life = Incarnation::from_random(77);
    let (mut own, mut all, mut told) = (here.own_commits(), here.news(), there.own_commits());
    commit(&*there, send("room", 2)).await.unwrap();
    assert!(all.take().news.is_empty(), "nobody has told it yet");
    let news = told.take().news;
    assert_eq!((news.len(), news[0].events.len()), (1, 1));

    for _ in 0..2 {
        here.hear(&news[0].conversation, news[0].incarnation, news[0].last);
    }
    let heard = all.take().news;
    assert_eq!((heard.len(), heard[0].last, heard[0].events.len()), (1, news[0].last, 0));
    assert!(own.take().news.is_empty(), "what is heard is not told on");
    assert_eq!(
        here.last_events(&[(group("room"), life), (group("none"), life)]).await,
        Ok(vec![news[0].last, EventNumber::START])
    );

    // Late news of what was told already takes nothing away.
    commit(&*here, send("room", 3)).await.unwrap();
    here.hear(&group("room"), life, news[0].last);
    let heard = all.take().news;
    assert_eq!((heard[0].events.len(), heard[0].last.get()), (1, news[0].last.get() + 1));
    here.close().await;
    assert_eq!(commit(&*here, send("room", 4)).await, Err(StoreError::Closed));
    there.close().await;
}
