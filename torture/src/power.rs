//! A server whose disk loses what was not synced, and what was taken from it.

use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::disk::{Call, Disk, Loss, Lost, Rule};
use crate::server::Running;

/// The disk of a server, and what was taken from it.
pub(crate) struct Power {
    disk: Disk,
    pub(crate) lost: Lost,
}

impl Power {
    /// Starts the server anew on a watched disk.
    pub(crate) fn begin(server: &mut Running) -> Self {
        assert!(server.terminate().success());
        let disk = Disk::watching(server.config().parent().unwrap());
        server.environment = disk.environment();
        server.restart();
        Self { disk, lost: Lost::default() }
    }

    /// Has the server die at a named point of its work, if it gets there; answers which.
    pub(crate) fn arm(&mut self, rng: &mut StdRng) -> String {
        let points = [
            (Call::Write, "*.jnl", 400),
            (Call::Sync, "*.jnl", 200),
            (Call::Write, "*witness", 200),
            (Call::Create, "*.jnl", 1),
            (Call::Sync, "data/engine", 1),
            (Call::Create, "*/tables/*", 2),
            (Call::Write, "*/tables/*", 150),
            (Call::Sync, "*/tables*", 4),
            (Call::Write, "*/keyspaces/1/v*", 20),
            (Call::Rename, "*/current", 2),
            (Call::Sync, "*/keyspaces/1", 4),
            (Call::Unlink, "*", 4),
        ];
        self.kill_at(points[rng.random_range(0..points.len())], rng)
    }

    /// The same for a start.
    pub(crate) fn arm_start(&mut self, rng: &mut StdRng) -> String {
        let points = [
            (Call::Read, "*.jnl", 40),
            (Call::Open, "*.jnl", 4),
            (Call::OpenToWrite, "*", 6),
            (Call::Truncate, "*.jnl", 1),
            (Call::Write, "*", 8),
            (Call::Sync, "*", 14),
            (Call::Rename, "*", 1),
            (Call::Unlink, "*", 4),
        ];
        self.kill_at(points[rng.random_range(0..points.len())], rng)
    }

    fn kill_at(&mut self, (call, pattern, within): (Call, &str, u64), rng: &mut StdRng) -> String {
        let number = rng.random_range(0..within);
        let rule = Rule::on(&[call], pattern).skip(number);
        let (rule, when) = match rng.random_range(0..3) {
            0 => (rule.kills_before(), "before"),
            1 => (rule.kills_halfway(), "halfway through"),
            _ => (rule.kills_after(), "after"),
        };
        self.disk.set_rules(&[rule]);
        format!("{when} {call:?} {} of {pattern}", number + 1)
    }

    /// Whether the point was reached.
    pub(crate) fn has_struck(&self) -> bool {
        self.disk.fired(0) > 0
    }

    pub(crate) fn disarm(&mut self) {
        self.disk.set_rules(&[]);
    }

    /// To be called when the server was killed from outside, and starts again with the power on.
    pub(crate) fn reconcile(&mut self) {
        self.disk.reconcile();
    }

    /// Takes the power from a dead server, in one of all ways; answers which.
    pub(crate) fn lose(&mut self, rng: &mut StdRng) -> String {
        let way = Loss::any(rng.random());
        let lost = self.disk.lose_power(&way);
        self.lost.writes += lost.writes;
        self.lost.kept += lost.kept;
        self.lost.names += lost.names;
        format!(
            "power lost, writes {:?} and names {:?} ({} writes and {} names are gone, {} writes are there)",
            way.writes, way.names, lost.writes, lost.names, lost.kept
        )
    }
}
