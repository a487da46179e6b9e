//! The schema of the version that comes next is made underneath servers of this one, while they serve.

use std::sync::atomic::Ordering;
use std::thread;

use sidenote_torture::cluster::{Cluster, until, wait_until_ready};

use super::load::{Load, MESSAGES, verify};
use super::nodes::{furnish, without_attempts};
use crate::caller::Caller;
use crate::server::{ADMINISTRATOR, APP};

/// The database of the cluster.
const DATABASE: &str = "test0";

#[test]
fn servers_go_on_while_the_schema_of_the_next_version_is_made_underneath() {
    let test = "servers_go_on_while_the_schema_of_the_next_version_is_made_underneath";
    let Some(mut cluster) = Cluster::start_or_skip(test, 2, &without_attempts()) else { return };
    let administrator =
        |cluster: &Cluster, node: usize| Caller::new(cluster.nodes[node].address, APP, ADMINISTRATOR);
    furnish(&administrator(&cluster, 0), MESSAGES);
    let load = Load::default();
    let wait_for = |more: u64| {
        let until_then = load.acknowledged.load(Ordering::SeqCst) + more;
        until(|| load.acknowledged.load(Ordering::SeqCst) >= until_then, "no writes are acknowledged");
    };
    let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::SeqCst);
    let writers: Vec<_> = thread::scope(|scope| {
        let writers = load.begin(scope, &cluster.addresses());
        let writing = load.until_dropped();
        load.compare(scope, &cluster.addresses());
        wait_for(100);
        let known: u32 = {
            let sql = "SELECT max(version) FROM schema_version";
            cluster.database.psql(DATABASE, sql).trim().parse().unwrap()
        };
        let next = known + 1;
        // What expanding migrations do. Each is a transaction that changes one table in use: requests take those locks in
        // an order of their own, and with two of them could wait for each other.
        for (version, change) in (next..).zip([
            "ALTER TABLE pairs ADD COLUMN of_the_next text",
            "ALTER TABLE messages ADD COLUMN of_the_next bigint",
            "ALTER TABLE conversations ADD COLUMN of_the_next bytea",
            "ALTER TABLE events ADD COLUMN of_the_next text",
            "CREATE TABLE of_the_next (gkey bigint NOT NULL, name text NOT NULL, PRIMARY KEY (gkey, name))",
        ]) {
            let step = format!(
                "LOCK TABLE schema_version IN EXCLUSIVE MODE; {change};
                 INSERT INTO schema_version (version, oldest_program) VALUES ({version}, {known})"
            );
            cluster.database.psql(DATABASE, &step);
        }
        let next = next + 4;
        wait_for(200);
        let compared = count(&load.compared);
        until(|| count(&load.compared) > compared + 20, "nothing is read");
        // Nobody noticed: statements that were prepared before are good for both.
        assert_eq!((count(&load.refused), count(&load.broken)), (0, 0));
        for node in &cluster.nodes {
            assert_eq!(node.probe("/readyz").0, 200);
        }
        // A server of this version that is started on the schema of the next prepares its statements anew.
        assert!(cluster.nodes[1].terminate().success());
        cluster.nodes[1].restart();
        wait_until_ready(&cluster.nodes[1]);
        let [here, there] = [0, 1].map(|node| administrator(&cluster, node).page("g", 1, 0).latest);
        assert!(there >= here, "{there} is older than {here}");
        // Once everybody is of the next version, the one after that may take away what this one needs.
        let contract = format!("UPDATE schema_version SET oldest_program = {next} WHERE version = {next}");
        cluster.database.psql(DATABASE, &contract);
        assert!(cluster.nodes[1].terminate().success());
        let said = cluster.nodes[1].refused().expect("it does not start");
        assert!(said.contains(&format!("holds schema {next}")), "{said}");
        assert!(said.contains("install the newer version"), "{said}");
        // The other one was let in before.
        wait_for(60);
        let relent = format!("UPDATE schema_version SET oldest_program = {known} WHERE version = {next}");
        cluster.database.psql(DATABASE, &relent);
        cluster.nodes[1].restart();
        wait_until_ready(&cluster.nodes[1]);
        wait_for(60);
        drop(writing);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    assert_eq!(count(&load.refused), 0);
    for node in 0..2 {
        verify(&administrator(&cluster, node), &writers);
    }
}
