//! The same while servers of the version before become servers of this one, one after the other: their schema is brought up to
//! date underneath, both serve side by side, and no request has no answer.

use std::path::PathBuf;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::nodes::{look, record};
use super::{Tally, furnish, observe, options};
use crate::cluster::{Cluster, migrate, wait_until_ready};
use crate::model::Set;
use crate::server::ConfigOptions;

/// What a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides everything that the run may choose.
    pub seed: u64,
    /// Histories while both versions serve.
    pub rounds: usize,
    /// The program of the version before.
    pub previous: PathBuf,
}

/// Servers of each version.
const NODES: usize = 3;

/// Lives the plan, and panics if a history is not linearizable or a request has no answer. `None` if there is no PostgreSQL on
/// this machine.
pub fn run(plan: &Plan, tell: &mut dyn FnMut(&str)) -> Option<Tally> {
    let mut rng = StdRng::seed_from_u64(plan.seed);
    let old = ConfigOptions { program: Some(plan.previous.clone()), ..options() };
    let mut cluster = Cluster::start_or_skip("neighbours", NODES, &old)?;
    let first = cluster.addresses()[0];
    furnish(first);
    let (mut tally, mut before) = (Tally::default(), observe(first));
    let mut judge = |cluster: &Cluster, what: &str, meanwhile: &mut dyn FnMut()| {
        let servers = cluster.addresses();
        let answers = rng.random_range(super::CLIENTS..super::CLIENTS * 6);
        let history = record(&servers, &before, rng.random(), answers, meanwhile);
        let after: Vec<Set> = look(&servers, &mut rng);
        if let Err(objection) = history.judge(&before, &after) {
            panic!("{what}: {objection}");
        }
        before = after;
        let (answered, open) = history.count();
        assert_eq!(open, 0, "{what}: a request has no answer");
        tell(&format!("{what}: {answered} answers are linearizable"));
        tally.rounds += 1;
        tally.answered += answered;
    };
    judge(&cluster, "the version before serves alone", &mut || {});
    let mut said = String::new();
    judge(&cluster, "the schema is changed underneath", &mut || said = migrate(&cluster.url));
    judge(&cluster, &said, &mut || {});
    for node in 0..NODES {
        assert!(cluster.nodes[node].terminate().success());
        cluster.nodes[node].change_program(None);
        cluster.nodes[node].restart();
        wait_until_ready(&cluster.nodes[node]);
        for round in 1..=plan.rounds {
            let what = format!("{} of {NODES} servers are of this version, round {round}", node + 1);
            judge(&cluster, &what, &mut || {});
        }
    }
    // And back, as whoever finds a fault in this version does.
    assert!(cluster.nodes[0].terminate().success());
    cluster.nodes[0].change_program(Some(plan.previous.clone()));
    cluster.nodes[0].restart();
    wait_until_ready(&cluster.nodes[0]);
    judge(&cluster, "one went back", &mut || {});
    Some(tally)
}
