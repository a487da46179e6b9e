//! A disk that loses what was not synced, and that breaks on demand.
//!
//! A server that is started with [`Disk::environment`] does its work on real files, watched by a layer between it and
//! the C library (`disk/shim.c`). From the log of that layer [`Disk::lose_power`] rebuilds the folder as a loss of
//! power could have left it, and [`Disk::set_rules`] makes calls fail, come late, or be the last one.
//!
//! What the model can show, and what it cannot, is in docs/reliability.md.

mod history;
mod model;
mod rules;
mod shim;

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

pub use history::Event;
pub use model::{Loss, Lost, Names, Writes};
pub use rules::{CHANGES, Call, Errno, NEEDS_SPACE, Rule};

use model::Model;

/// A folder under watch. Its log and its rules lie elsewhere.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    beside: TempDir,
    model: Model,
    generation: u64,
}

impl Disk {
    /// A disk that holds what is in this folder now, durably. No program may run on it.
    pub fn watching(root: &Path) -> Self {
        let beside = tempfile::tempdir().unwrap();
        let root = root.canonicalize().unwrap();
        let disk = Self { model: Model::read_from(&root), root, beside, generation: 0 };
        fs::write(disk.log(), []).unwrap();
        fs::write(disk.control(), [0; rules::CONTROL_BYTES]).unwrap();
        disk
    }

    /// What the disk holds; all below it is watched.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Variables for a program whose calls are to be watched. It must be linked with the C library in the usual way,
    /// and must not start other programs.
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        let variables = [
            ("LD_PRELOAD", shim::library().to_owned()),
            ("TORTURE_DISK_ROOT", self.root.clone()),
            ("TORTURE_DISK_LOG", self.log()),
            ("TORTURE_DISK_CONTROL", self.control()),
        ];
        variables.into_iter().map(|(name, path)| (name.into(), path.into())).collect()
    }

    /// From now on these rules hold, for programs that run too; counting begins anew, as it
    /// does in each program.
    pub fn set_rules(&mut self, rules: &[Rule]) {
        let control = OpenOptions::new().write(true).open(self.control()).unwrap();
        let text = rules::text(rules);
        control.write_all_at(&[0; rules::MAX_RULES * 8], rules::COUNTS_AT).unwrap();
        control.write_all_at(&text, rules::TEXT_AT).unwrap();
        // Last, for it says that the rest is whole.
        self.generation += 1;
        control.write_all_at(&self.generation.to_ne_bytes(), 0).unwrap();
    }

    /// How often the rule with this index was obeyed.
    pub fn fired(&self, rule: usize) -> u64 {
        let mut count = [0; 8];
        let at = rules::COUNTS_AT + 8 * u64::try_from(rule).unwrap();
        fs::File::open(self.control()).unwrap().read_exact_at(&mut count, at).unwrap();
        u64::from_ne_bytes(count)
    }

    /// What was done to the disk since the power was lost last, or since [`Disk::adopt`].
    pub fn history(&self) -> Vec<Event> {
        history::read(&fs::read(self.log()).unwrap())
    }

    /// Puts the folder into the state that the log tells of, without a loss of power. To be called when a program was
    /// killed from outside and another one is to go on: the kill may have come between a call and its record.
    pub fn reconcile(&mut self) {
        self.follow();
        self.rebuild(Model::write_seen_to);
    }

    /// Puts the folder into a state that it could be in after a loss of power right now. No program may run on it.
    pub fn lose_power(&mut self, way: &Loss) -> Lost {
        self.follow();
        let lost = self.model.lose_power(way);
        self.rebuild(Model::write_durable_to);
        lost
    }

    fn follow(&mut self) {
        for event in self.history() {
            self.model.follow(event);
        }
        fs::write(self.log(), []).unwrap();
    }

    fn rebuild(&self, write: impl Fn(&Model, &Path)) {
        fs::remove_dir_all(&self.root).unwrap();
        write(&self.model, &self.root);
    }

    /// Takes the folder as it is for durable, for instance after a program that was not watched has used it.
    pub fn adopt(&mut self) {
        self.model = Model::read_from(&self.root);
        fs::write(self.log(), []).unwrap();
    }

    fn log(&self) -> PathBuf {
        self.beside.path().join("log")
    }

    fn control(&self) -> PathBuf {
        self.beside.path().join("control")
    }
}
