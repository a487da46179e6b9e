//! The same over several servers that share a database: whichever of them is asked, there is one order of all requests.
//!
//! In each round something fails under load: a server is killed, or cut off from the database for a while; the database is
//! killed with all its processes and started again; the primary of a Patroni cluster fails in one of several ways; NATS is
//! killed or stopped; or nothing. Clients of a server that fails stop at their first request without an answer; the others
//! go on.

use std::fmt;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;
use sidenote_postgres_for_tests::Postgres;

use super::{CLIENTS, History, Tally, clients, furnish, observe, options};
use crate::broker::Broker;
use crate::cluster::{Cluster, Database, until_within};
use crate::model::Set;
use crate::patroni::Patroni;
use crate::server::PATIENCE;

/// What a run does.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Decides everything that the run may choose.
    pub seed: u64,
    /// Histories.
    pub rounds: usize,
    /// Servers, at least two.
    pub nodes: usize,
    /// Whether the database is a Patroni cluster, whose primary fails.
    pub patroni: bool,
    /// Whether the servers hear of each other over NATS, which fails too.
    pub nats: bool,
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
    /// A standby is made the primary on purpose.
    SwitchOver,
    /// The primary's machine stops, and stays so when the round is over: another one is the primary by then.
    Sleep,
    /// It goes on, and takes itself for the primary.
    Wake,
    /// The primary's machine is killed, and started again when the round is over.
    Machine,
    /// The first process of the primary's PostgreSQL is killed.
    Server,
    /// NATS is killed, and started again when the round is over.
    Broker,
    /// NATS is stopped, and goes on when the round is over.
    SilentBroker,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("nothing fails"),
            Self::Node(node) => write!(f, "server {node} is killed"),
            Self::CutOff(node, time) => write!(f, "server {node} is cut off for {time:?}"),
            Self::Database => f.write_str("the database is killed"),
            Self::SwitchOver => f.write_str("another becomes the primary"),
            Self::Sleep => f.write_str("the primary's machine stops"),
            Self::Wake => f.write_str("a machine wakes up that was the primary's"),
            Self::Machine => f.write_str("the primary's machine is killed"),
            Self::Server => f.write_str("the primary's PostgreSQL is killed"),
            Self::Broker => f.write_str("NATS is killed"),
            Self::SilentBroker => f.write_str("NATS is stopped"),
        }
    }
}

impl Fault {
    /// Each kind comes in its turn; which server it meets is chance.
    fn choose(round: usize, plan: Plan, rng: &mut StdRng) -> Self {
        let node = rng.random_range(0..plan.nodes);
        let mut kinds =
            vec![Self::Node(node), Self::CutOff(node, Duration::from_millis(rng.random_range(100..6000)))];
        if plan.patroni {
            // Those of the database come first, so that a short run has them.
            kinds.splice(0..0, [Self::SwitchOver, Self::Sleep, Self::Wake, Self::Machine, Self::Server]);
        } else {
            kinds.push(Self::Database);
        }
        if plan.nats {
            kinds.extend([Self::Broker, Self::SilentBroker]);
        }
        kinds.push(Self::None);
        kinds[(round - 1) % kinds.len()]
    }
}

/// Lives the plan, and panics if a history is not linearizable. `None` if what it takes is not on this machine.
pub fn run(plan: Plan, tell: &mut dyn FnMut(&str)) -> Option<Tally> {
    let test = "linear over nodes";
    let broker = if plan.nats { Some(Broker::start_or_skip(test)?) } else { None };
    let mut options = options();
    if let Some(broker) = &broker {
        options.more = broker.section(1000);
    }
    Some(if plan.patroni {
        let cluster = Cluster::on_patroni_or_skip(test, plan.nodes, &options)?;
        Run { plan, cluster, broker, asleep: None, killed: None }.live(tell)
    } else {
        let cluster = Cluster::start_or_skip(test, plan.nodes, &options)?;
        Run { plan, cluster, broker, asleep: None, killed: None }.live(tell)
    })
}

struct Run<D> {
    plan: Plan,
    cluster: Cluster<D>,
    broker: Option<Broker>,
    /// The member of the database that was stopped.
    asleep: Option<usize>,
    /// The member of the database that was killed.
    killed: Option<usize>,
}

impl<D: Breakable> Run<D> {
    fn live(mut self, tell: &mut dyn FnMut(&str)) -> Tally {
        let plan = self.plan;
        let mut rng = StdRng::seed_from_u64(plan.seed);
        let first = self.cluster.addresses()[0];
        furnish(first);
        let (mut tally, mut before) = (Tally::default(), observe(first));
        for round in 1..=plan.rounds {
            let fault = Fault::choose(round, plan, &mut rng);
            let answers = rng.random_range(CLIENTS..CLIENTS * clients::REQUESTS);
            let servers = self.cluster.addresses();
            let seed = rng.random();
            let history = record(&servers, &before, seed, answers, || self.fail(fault));
            self.mend(fault);
            let after = look(&self.cluster.addresses(), &mut rng);
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
        tally
    }

    /// Lets it happen, and ends what ends by itself.
    fn fail(&mut self, fault: Fault) {
        match fault {
            Fault::None => {}
            Fault::Node(node) => self.cluster.nodes[node].kill9(),
            Fault::CutOff(node, time) => {
                self.cluster.proxies[node].hold();
                thread::sleep(time);
                self.cluster.proxies[node].release();
            }
            Fault::Broker => self.broker.as_mut().unwrap().kill(),
            Fault::SilentBroker => self.broker.as_ref().unwrap().signal(Signal::STOP),
            of_it => D::fail(self, of_it),
        }
    }

    /// Brings everything up again, and waits until nothing of the failure is under way any more.
    fn mend(&mut self, fault: Fault) {
        match fault {
            Fault::Node(node) => {
                self.cluster.wait_until_forgotten(node);
                self.cluster.nodes[node].restart();
            }
            Fault::CutOff(node, _) => self.cluster.settle(node),
            Fault::Broker => self.broker.as_mut().unwrap().start(),
            Fault::SilentBroker => self.broker.as_ref().unwrap().signal(Signal::CONT),
            _ => {}
        }
        D::mend(self, fault);
        for node in &self.cluster.nodes {
            // Patroni takes half a minute to find another primary, and longer on a busy machine.
            let is_ready = until_within(PATIENCE * 3, || node.probe("/readyz").0 == 200);
            assert!(is_ready, "the server does not become ready: {}", node.log());
        }
    }
}

/// What can go wrong with a database.
trait Breakable: Database + Sized {
    fn fail(run: &mut Run<Self>, fault: Fault);
    fn mend(run: &mut Run<Self>, fault: Fault);
}

impl Breakable for Postgres {
    fn fail(run: &mut Run<Self>, fault: Fault) {
        assert_eq!(fault, Fault::Database, "the others are those of a cluster");
        run.cluster.database.kill();
        run.cluster.database.start();
    }

    fn mend(_: &mut Run<Self>, _: Fault) {}
}

impl Breakable for Patroni {
    fn fail(run: &mut Run<Self>, fault: Fault) {
        let database = &mut run.cluster.database;
        match fault {
            Fault::SwitchOver => database.switch_over(),
            Fault::Sleep => {
                let primary = database.primary();
                database.stop(primary);
                run.asleep = Some(primary);
            }
            Fault::Wake => database.wake(run.asleep.take().unwrap()),
            Fault::Machine => {
                let primary = database.primary();
                database.kill_machine(primary);
                run.killed = Some(primary);
            }
            Fault::Server => database.kill_server(database.primary()),
            _ => unreachable!("{fault} is no fault of a cluster"),
        }
    }

    fn mend(run: &mut Run<Self>, _: Fault) {
        if let Some(killed) = run.killed.take() {
            // Not before another is the primary: it would take up where it was.
            let database = &run.cluster.database;
            let is_over = || database.has_primary_beside(killed);
            assert!(until_within(PATIENCE * 3, is_over), "nobody becomes the primary: {}", database.log());
            run.cluster.database.start(killed);
        }
        if let Some(asleep) = run.asleep {
            let database = &run.cluster.database;
            let is_over = || database.has_primary_beside(asleep);
            assert!(until_within(PATIENCE * 3, is_over), "nobody becomes the primary: {}", database.log());
        } else {
            run.cluster.database.wait_until_whole();
        }
        run.cluster.wait_until_settled();
    }
}

/// What is there, as any of the servers sees it: all of them see the same.
pub(super) fn look(servers: &[SocketAddr], rng: &mut StdRng) -> Vec<Set> {
    let first = rng.random_range(0..servers.len());
    let seen = observe(servers[first]);
    for server in servers {
        assert_eq!(observe(*server), seen, "two servers see different states while nobody writes");
    }
    seen
}

pub(super) fn record(
    servers: &[SocketAddr],
    before: &[Set],
    seed: u64,
    answers: usize,
    fail: impl FnOnce(),
) -> History {
    History { moments: clients::contend(servers, before, seed, answers, fail) }
}
