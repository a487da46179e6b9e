//! The same over several servers that share a database: whichever of them is asked, there is one order of all requests.
//!
//! In each round something fails under load: a server is killed, or cut off from the database for a while, or the
//! database is killed with all its processes and started again, or nothing. Clients of a server that fails stop at their
//! first request without an answer; the others go on.

use std::fmt;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::{CLIENTS, History, Tally, clients, furnish, observe, options};
use crate::cluster::{Cluster, wait_until_ready};
use crate::model::Set;

/// What a run does.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Decides everything that the run may choose.
    pub seed: u64,
    /// Histories.
    pub rounds: usize,
    /// Servers, at least two.
    pub nodes: usize,
}

/// What happens in the middle of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// A server is killed, and started again when the round is over.
    Node(usize),
    /// A server hears nothing from the database for a while.
    CutOff(usize, Duration),
    /// The database is killed and started again.
    Database,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("nothing fails"),
            Self::Node(node) => write!(f, "server {node} is killed"),
            Self::CutOff(node, time) => write!(f, "server {node} is cut off for {time:?}"),
            Self::Database => f.write_str("the database is killed"),
        }
    }
}

impl Fault {
    /// Each kind comes in every four rounds; which server it meets is chance.
    fn choose(round: usize, nodes: usize, rng: &mut StdRng) -> Self {
        let node = rng.random_range(0..nodes);
        match round % 4 {
            1 => Self::Node(node),
            2 => Self::CutOff(node, Duration::from_millis(rng.random_range(100..6000))),
            3 => Self::Database,
            _ => Self::None,
        }
    }
}

/// Lives the plan, and panics if a history is not linearizable. `None` if there is no PostgreSQL on this machine.
pub fn run(plan: Plan, tell: &mut dyn FnMut(&str)) -> Option<Tally> {
    let mut rng = StdRng::seed_from_u64(plan.seed);
    let mut cluster = Cluster::start_or_skip("linear over nodes", plan.nodes, &options())?;
    let servers = cluster.addresses();
    furnish(servers[0]);
    let (mut tally, mut before) = (Tally::default(), observe(servers[0]));
    for round in 1..=plan.rounds {
        let fault = Fault::choose(round, plan.nodes, &mut rng);
        let answers = rng.random_range(CLIENTS..CLIENTS * clients::REQUESTS);
        let servers = cluster.addresses();
        let seed = rng.random();
        let history = record(&servers, &before, seed, answers, || cluster.fail(fault));
        cluster.mend(fault);
        let after = look(&cluster, &mut rng);
        if let Err(objection) = history.judge(&before, &after) {
            panic!("round {round}, {fault}: {objection}");
        }
        before = after;
        let (answered, open) = history.count();
        let total = plan.rounds;
        tell(&format!(
            "round {round} of {total}, {fault}: {answered} answers and {open} open requests are linearizable"
        ));
        tally.rounds += 1;
        tally.answered += answered;
        tally.open += open;
    }
    Some(tally)
}

/// What is there, as any of the servers sees it: all of them see the same.
fn look(cluster: &Cluster, rng: &mut StdRng) -> Vec<Set> {
    let servers = cluster.addresses();
    let first = rng.random_range(0..servers.len());
    let seen = observe(servers[first]);
    for server in servers {
        assert_eq!(observe(server), seen, "two servers see different states while nobody writes");
    }
    seen
}

fn record(servers: &[SocketAddr], before: &[Set], seed: u64, answers: usize, fail: impl FnOnce()) -> History {
    History { moments: clients::contend(servers, before, seed, answers, fail) }
}

impl Cluster {
    /// Lets it happen, and ends what ends by itself.
    fn fail(&mut self, fault: Fault) {
        match fault {
            Fault::None => {}
            Fault::Node(node) => self.nodes[node].kill9(),
            Fault::CutOff(node, time) => {
                self.proxies[node].hold();
                thread::sleep(time);
                self.proxies[node].release();
            }
            Fault::Database => {
                self.database.kill();
                self.database.start();
            }
        }
    }

    /// Brings everything up again, and waits until nothing of the failure is under way any more.
    fn mend(&mut self, fault: Fault) {
        if let Fault::Node(node) = fault {
            self.wait_until_forgotten(node);
            self.nodes[node].restart();
        }
        if let Fault::CutOff(node, _) = fault {
            self.settle(node);
        }
        for node in &self.nodes {
            wait_until_ready(node);
        }
    }
}
