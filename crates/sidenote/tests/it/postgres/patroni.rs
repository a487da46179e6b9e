//! Three servers on a Patroni cluster in strict synchronous mode, whose primary fails under load in every way that there
//! is. Prints how long no write was answered.

use std::sync::atomic::Ordering;
use std::thread;

use sidenote_server::clock::{Clock as _, SystemClock};
use sidenote_torture::cluster::{Cluster, until, until_within, wait_until_ready};
use sidenote_torture::patroni::Patroni;
use sidenote_torture::server::PATIENCE;

use super::load::{Load, MESSAGES, verify};
use super::nodes::{furnish, without_attempts};
use crate::caller::Caller;
use crate::server::{ADMINISTRATOR, APP};

/// How a primary ends.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// On purpose.
    SwitchOver,
    /// The first process of PostgreSQL is killed.
    Server,
    /// Patroni and PostgreSQL are killed.
    Machine,
    /// Patroni and PostgreSQL are stopped, and go on when another is the primary.
    Sleep,
    /// Both standbys are killed, so that nothing may be acknowledged, and started again.
    Standbys,
}

use Fault::{Machine, Server, Sleep, Standbys, SwitchOver};

/// How often each of them happens.
fn rounds() -> usize {
    #[expect(clippy::disallowed_methods, reason = "tests are told by the environment how long they may take")]
    let long = std::env::var("SIDENOTE_SOAK").is_ok();
    if long { 5 } else { 1 }
}

#[test]
fn whatever_becomes_of_the_primary_nothing_answered_is_lost_and_nothing_old_is_read() {
    let test = "whatever_becomes_of_the_primary_nothing_answered_is_lost_and_nothing_old_is_read";
    let Some(mut cluster) = Cluster::on_patroni_or_skip(test, 3, &without_attempts()) else { return };
    let administrators = |cluster: &Cluster<Patroni>| -> Vec<_> {
        let caller = |node| Caller::new(node, APP, ADMINISTRATOR);
        cluster.addresses().into_iter().map(caller).collect()
    };
    furnish(&administrators(&cluster)[0], MESSAGES);
    let load = Load::default();
    let writers: Vec<_> = thread::scope(|scope| {
        let servers = cluster.addresses();
        let writers = load.begin(scope, &servers);
        let writing = load.until_dropped();
        load.compare(scope, &servers);
        for round in 1..=rounds() {
            for fault in [SwitchOver, Server, Sleep, Machine, Standbys] {
                cluster.wait_for(&load, 60);
                load.longest_gap();
                let began = SystemClock.now_millis();
                cluster.suffer(fault, &load);
                let gap = load.longest_gap();
                let whole = SystemClock.now_millis() - began;
                println!("round {round}, {fault:?}: {gap} ms without a write, whole again after {whole} ms");
            }
        }
        cluster.wait_for(&load, 60);
        drop(writing);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::SeqCst);
    println!(
        "{} writes answered, {} refused, {} reads compared, the longest wait was {} ms",
        count(&load.acknowledged),
        count(&load.refused),
        count(&load.compared),
        count(&load.longest)
    );
    assert_eq!(count(&load.broken), 0, "a node answered nothing at all");
    for administrator in administrators(&cluster) {
        verify(&administrator, &writers);
    }
}

trait Suffer {
    /// Waits until so many more writes were acknowledged, however long that takes with a database that fails over.
    fn wait_for(&self, load: &Load, more: u64);

    /// Lets it happen, and waits until writes are taken by every server and the database is whole again.
    fn suffer(&mut self, fault: Fault, load: &Load);
}

impl Suffer for Cluster<Patroni> {
    fn wait_for(&self, load: &Load, more: u64) {
        let until_then = load.acknowledged.load(Ordering::SeqCst) + more;
        if !until_within(PATIENCE * 2, || load.acknowledged.load(Ordering::SeqCst) >= until_then) {
            let said: Vec<_> = self.nodes.iter().map(|node| (node.probe("/readyz"), node.log())).collect();
            panic!("no writes are acknowledged: {said:#?}\n{}", self.database.log());
        }
    }

    fn suffer(&mut self, fault: Fault, load: &Load) {
        let primary = self.database.primary();
        match fault {
            SwitchOver => self.database.switch_over(),
            Server => self.database.kill_server(primary),
            Machine => {
                self.database.kill_machine(primary);
                self.wait_for(load, 60);
                self.database.start(primary);
            }
            Sleep => {
                self.database.stop(primary);
                self.wait_for(load, 60);
                // It wakes up and takes itself for the primary while all servers write to another.
                self.database.wake(primary);
            }
            Standbys => {
                let standbys: Vec<_> = (0..3).filter(|member| *member != primary).collect();
                for standby in &standbys {
                    self.database.kill_machine(*standby);
                }
                // Pulls are answered, sets are not, and the servers say so.
                for node in &self.nodes {
                    let unready = || node.probe("/readyz").0 == 503;
                    until(unready, "a server thinks that it is ready while no commit gets through");
                    let said = node.probe("/readyz").1;
                    assert!(said.contains("takes no commits"), "{said}");
                }
                let compared = load.compared.load(Ordering::SeqCst);
                until(|| load.compared.load(Ordering::SeqCst) > compared + 30, "pulls are not answered");
                for standby in standbys {
                    self.database.start(standby);
                }
            }
        }
        self.wait_for(load, 60);
        self.database.wait_until_whole();
        for node in &self.nodes {
            wait_until_ready(node);
        }
        self.wait_for(load, 60);
    }
}
