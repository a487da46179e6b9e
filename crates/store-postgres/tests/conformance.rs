//! The PostgreSQL store passes the suite of every backend, alone and as two nodes on one database, on a server of its
//! own. Every statement that it needs on the way finds its rows by the key of a home.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking, and so may the functions it calls")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sidenote_core::Limits;
use sidenote_core::command::{Action, Command, OutboxAction};
use sidenote_core::event::Operator;
use sidenote_core::ids::{
    AccountId, AppId, ConversationId, EventNumber, GroupId, Incarnation, Timestamp, UserId,
};
use sidenote_core::query::{Answer, Query};
use sidenote_postgres_for_tests::{Postgres, Settings};
use sidenote_store::news::Follower;
use sidenote_store::shared::{Login, LoginNumber};
use sidenote_store::{Committed, Statistics, Store, StoreError, conformance};
use sidenote_store_postgres::{PostgresOptions, PostgresStore, schema};

/// One store, or two on the same database as two nodes are.
struct Nodes {
    all: Vec<PostgresStore>,
    /// Whether commands go to all nodes in turns. If not, the first one takes them, and the last one answers.
    mixes: bool,
    turns: AtomicUsize,
    texts: Arc<Mutex<BTreeSet<String>>>,
}

impl Nodes {
    /// Each in a schema of its own in one database.
    async fn open(postgres: &Postgres, count: usize, mixes: bool, limits: Limits) -> Self {
        let options = PostgresOptions { connections: 4, ..PostgresOptions::new(postgres.new_schema()) };
        Self::open_on(&options, count, mixes, limits).await
    }

    async fn open_on(options: &PostgresOptions, count: usize, mixes: bool, limits: Limits) -> Self {
        schema::migrate(options).await.unwrap();
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(PostgresStore::open(options.clone(), limits).await.unwrap());
        }
        Self { all: nodes, mixes, turns: AtomicUsize::new(0), texts: Arc::default() }
    }

    fn next(&self) -> &PostgresStore {
        &self.all[self.turns.fetch_add(1, Ordering::Relaxed) % self.all.len()]
    }
}

#[async_trait]
impl Store for Nodes {
    async fn commit(&self, command: Command) -> Result<Committed, StoreError> {
        let node = if self.mixes { self.next() } else { &self.all[0] };
        node.commit(command).await
    }

    async fn answer(&self, query: Query) -> Result<Answer, StoreError> {
        let node = if self.mixes { self.next() } else { self.all.last().unwrap() };
        node.answer(query).await
    }

    fn news(&self) -> Follower {
        self.all[0].news()
    }

    fn health(&self) -> Result<(), StoreError> {
        self.all.iter().try_for_each(Store::health)
    }

    fn statistics(&self) -> Statistics {
        self.all[0].statistics()
    }

    async fn close(&self) {
        for node in &self.all {
            node.close().await;
            self.texts.lock().unwrap().extend(node.statement_texts());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_scenario_with_statements_that_stay_on_one_shard() {
    let test = "every_scenario_with_statements_that_stay_on_one_shard";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    postgres.psql("postgres", "CREATE SCHEMA plans");
    let dsn = format!("{}&options=-csearch_path%3Dplans", postgres.dsn("postgres"));
    schema::migrate(&PostgresOptions::new(dsn)).await.unwrap();
    let texts = Arc::<Mutex<BTreeSet<String>>>::default();
    conformance::run(async |limits| {
        let mut nodes = Nodes::open(&postgres, 1, false, limits).await;
        nodes.texts = Arc::clone(&texts);
        Arc::new(nodes) as Arc<dyn Store>
    })
    .await;
    let texts = texts.lock().unwrap();
    assert!(texts.len() > 40, "only {} statements", texts.len());
    for text in &*texts {
        assert!(stays_on_one_shard(text) || is_no_request(text), "{text}");
        assert!(looks_up_whole_keys(&postgres, text), "{text}");
    }
    // Each kind of exception is there, so none of them is an exception for nothing.
    for exception in NO_REQUESTS {
        assert!(texts.iter().any(|text| text.contains(exception)), "{exception}");
    }
}

/// What jobs ask for that look after all homes, and accounts, of which each is a home.
const NO_REQUESTS: [&str; 4] = [
    "FROM debts WHERE debt > $1 AND debt < $2",
    "FROM outboxes WHERE app = $1 AND (name, incarnation) > ($2, $3) ORDER BY",
    "FROM dead_letters WHERE app = $1 AND (name, incarnation, number) > ($2, $3, $4) ORDER BY",
    "FROM accounts WHERE akey = ANY($1)",
];

fn is_no_request(text: &str) -> bool {
    NO_REQUESTS.iter().any(|exception| text.contains(exception))
}

/// Whether every table that a statement names is bound by the key of one home.
fn stays_on_one_shard(text: &str) -> bool {
    if let Some(insert) = text.strip_prefix("INSERT INTO ") {
        let (_, rest) = insert.split_once(' ').unwrap();
        let (_, values) = rest.split_once(" VALUES ").unwrap();
        let values = values.split(" ON CONFLICT ").next().unwrap();
        let rows = values.matches("($").count();
        return (rest.starts_with("(gkey, ") || rest.starts_with("(akey, "))
            && values.matches("($1, ").count() == rows;
    }
    // Of the nodes every shard knows all; "own" is what the statement itself has read of the conversation before.
    let others = [" FROM (", " FROM unnest(", " FROM nodes ", " FROM own"];
    let others: usize = others.iter().map(|other| text.matches(other).count()).sum();
    let tables = text.matches(" FROM ").count() + usize::from(text.starts_with("UPDATE ")) - others;
    let bound = text.matches("gkey = $1 ").count() + text.matches("akey = $1 ").count();
    // Of the outboxes and dead letters of one conversation the key is not the first parameter.
    let later = usize::from(bound == 0 && text.contains(" AND gkey = $"));
    tables > 0 && tables == bound + later
}

/// Whether the plan goes straight to the rows: nothing is read only to be thrown away. Tables are empty here, so that the
/// planner thinks everything to be cheap.
fn looks_up_whole_keys(postgres: &Postgres, text: &str) -> bool {
    if text.contains("FROM accounts WHERE akey = ANY($1)") {
        // The key of a home alone leads to one account, and the filter behind it is for two with one key.
        return true;
    }
    let count = (1..=300).rev().find(|at| text.contains(&format!("${at}"))).unwrap_or(0);
    let nulls = vec!["NULL"; count].join(", ");
    let plan = postgres.psql(
        "postgres",
        &format!(
            "SET search_path = plans; SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; \
             PREPARE it AS {text}; EXPLAIN (COSTS off) EXECUTE it({nulls})"
        ),
    );
    // Of the pairs of one message there are some hundreds, of the lives of a conversation and the logins of an account a
    // few. An index by name, or by due time, names the home too.
    let allowed = |line: &str| {
        [
            "(key = ANY ($4))",
            "Filter: (seq >= $",
            "Filter: (gkey = $",
            "((claimed_by IS NULL) OR",
            "Filter: (outboxes.incarnation = found.free)",
            "Filter: ((alive_until > now()) AND (alive_until < (now() + '00:02:00'::interval)))",
            "Filter: (leave = 0)",
        ]
        .iter()
        .any(|filter| line.contains(filter))
    };
    let goes_straight =
        !plan.contains("Seq Scan") && plan.lines().filter(|line| line.contains("Filter:")).all(allowed);
    if !goes_straight {
        println!("{plan}");
    }
    goes_straight
}

/// What nodes ask for who look for work, or for what they have to end.
const NO_REQUESTS_OF_NODES: [&str; 2] = [
    "FROM outboxes WHERE app = $1 AND (name, incarnation) > ($2, $3) AND (claimed_by",
    "FROM logins WHERE node = $1 AND leave > 0",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_nodes_agree_on_stays_on_one_shard() {
    let test = "what_nodes_agree_on_stays_on_one_shard";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    postgres.psql("postgres", "CREATE SCHEMA plans");
    let dsn = format!("{}&options=-csearch_path%3Dplans", postgres.dsn("postgres"));
    let options = PostgresOptions::new(dsn);
    schema::migrate(&options).await.unwrap();
    let store = PostgresStore::open(options, Limits::default()).await.unwrap();
    let (app, name) = (AppId::new(7), UserId::new("ann").unwrap());
    let room = ConversationId::group(app, GroupId::new("room").unwrap());
    store.claim(&room, 1, 1).await.unwrap();
    store.unclaimed(app, None, 9, 1).await.unwrap();
    let settle = OutboxAction::Settle { through: EventNumber::new(1), dead: Vec::new() };
    let action = Action::Outbox(room, Incarnation::from_random(1), settle);
    let (operator, at) = (Operator::server(name.clone()), Timestamp::from_millis(1));
    store.commit_claimed(1, Command { operator, at, action }).await.unwrap();
    let account = AccountId { app, user: name };
    // The second one sends the first away, and the third finds it dead.
    postgres.psql("postgres", "INSERT INTO plans.nodes VALUES (1, now() + interval '1 minute')");
    for (number, node) in [(2, 1), (4, 2), (6, 1)] {
        let login = Login { account: account.clone(), number: LoginNumber::from_random(number), instance: 1 };
        store.enter_login(&login, 1, node).await.unwrap();
    }
    store.departures(1).await.unwrap();
    store.close().await;
    let texts = store.statement_texts();
    assert!(texts.len() > 9, "only {} statements", texts.len());
    for text in &texts {
        let asks_all = NO_REQUESTS_OF_NODES.iter().any(|exception| text.contains(exception));
        assert!(stays_on_one_shard(text) || asks_all, "{text}");
        assert!(looks_up_whole_keys(&postgres, text), "{text}");
    }
    for exception in NO_REQUESTS_OF_NODES {
        assert!(texts.iter().any(|text| text.contains(exception)), "{exception}");
    }
}

#[test]
fn a_statement_that_forgets_the_key_is_noticed() {
    for wrong in [
        "SELECT data FROM members WHERE incarnation = $2",
        "SELECT 1 FROM members WHERE gkey = $1 AND a = $2 UNION ALL SELECT 1 FROM pairs WHERE incarnation = $2",
        "INSERT INTO pairs (incarnation, key) VALUES ($1, $2)",
        "INSERT INTO pairs (gkey, key) VALUES ($1, $2), ($3, $4)",
        "DELETE FROM events WHERE number = ANY($1)",
        "UPDATE logins SET leave = $1 WHERE login = $2",
    ] {
        assert!(!stays_on_one_shard(wrong) && !is_no_request(wrong), "{wrong}");
    }
    assert!(stays_on_one_shard(
        "INSERT INTO pairs (gkey, key) VALUES ($1, $2), ($1, $3) ON CONFLICT DO NOTHING"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_scenario_with_another_node_answering() {
    let test = "every_scenario_with_another_node_answering";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    conformance::run(async |limits| {
        Arc::new(Nodes::open(&postgres, 2, false, limits).await) as Arc<dyn Store>
    })
    .await;
}

#[test]
fn random_requests_to_two_nodes_agree_with_the_model() {
    let test = "random_requests_to_two_nodes_agree_with_the_model";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let open = async |limits| Arc::new(Nodes::open(&postgres, 2, true, limits).await) as Arc<dyn Store>;
    conformance::check_property(open, 12);
}

#[test]
fn random_letters_through_two_nodes_agree_with_a_list_of_them() {
    let test = "random_letters_through_two_nodes_agree_with_a_list_of_them";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let open = async |limits| Arc::new(Nodes::open(&postgres, 2, true, limits).await) as Arc<dyn Store>;
    conformance::check_letters(open, 12);
}

#[test]
fn two_nodes_agree_with_the_plain_store() {
    let test = "two_nodes_agree_with_the_plain_store";
    let Some(postgres) = Postgres::start_or_skip(test, Settings::default()) else { return };
    let new_place = || {
        let options = PostgresOptions { connections: 2, ..PostgresOptions::new(postgres.new_schema()) };
        async move |limits| Arc::new(Nodes::open_on(&options, 2, true, limits).await) as Arc<dyn Store>
    };
    conformance::check_agreement(new_place, 6);
}
