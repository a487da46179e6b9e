//! The disk itself is tried with programs whose calls everybody knows: `dd` writes, `sync` syncs, `mv` renames.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sidenote_torture::disk::{Call, Disk, Errno, Loss, Names, Rule, Writes};
use tempfile::TempDir;

struct World {
    disk: Disk,
    _folder: TempDir,
}

impl World {
    /// A disk with two files and a folder.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("old"), [b'o'; 8192]).unwrap();
        fs::write(folder.path().join("other"), "other").unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        Self { disk: Disk::watching(folder.path()), _folder: folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.disk.root().join(name)
    }

    fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.envs(self.disk.environment()).current_dir(self.disk.root());
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> bool {
        self.program(program).args(arguments).stderr(Stdio::null()).status().unwrap().success()
    }

    /// Writes bytes to a place of a file, which is made if need be.
    fn write(&self, name: &str, at: usize, bytes: &[u8]) {
        let mut dd = self.program("dd");
        dd.args(["bs=1M", "iflag=fullblock", "oflag=seek_bytes", "conv=notrunc", "status=none"]);
        let mut dd =
            dd.arg(format!("seek={at}")).arg(format!("of={name}")).stdin(Stdio::piped()).spawn().unwrap();
        dd.stdin.take().unwrap().write_all(bytes).unwrap();
        assert!(dd.wait().unwrap().success());
    }

    fn sync(&self, name: &str) -> bool {
        self.run("sync", &[name])
    }

    fn lose(&mut self, writes: Writes, names: Names, seed: u64) {
        self.disk.lose_power(&Loss { writes, names, seed });
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        let path: &Path = &self.path(name);
        path.exists().then(|| fs::read(path).unwrap())
    }
}

#[test]
fn a_file_needs_a_sync_and_its_name_another() {
    let mut world = World::new();
    world.write("bytes and name", 0, b"1");
    assert!(world.sync("bytes and name"));
    world.write("name", 0, b"1");
    assert!(world.sync("."));
    world.write("bytes", 0, b"1");
    assert!(world.sync("bytes"));
    world.write("neither", 0, b"1");
    world.write("other", 1, b"late");
    world.lose(Writes::Lost, Names::Lost, 0);
    assert_eq!(world.read("bytes and name").unwrap(), b"1");
    assert_eq!(world.read("name").unwrap(), b"");
    assert_eq!(world.read("bytes"), None);
    assert_eq!(world.read("neither"), None);
    assert_eq!(world.read("other").unwrap(), b"other");
    // What was found is durable now.
    world.lose(Writes::Lost, Names::Lost, 0);
    assert_eq!(world.read("bytes and name").unwrap(), b"1");
    assert_eq!(world.read("old").unwrap(), [b'o'; 8192]);
}

#[test]
fn a_kill_takes_nothing() {
    let mut world = World::new();
    world.write("new", 0, b"1");
    world.write("old", 4, b"new");
    assert!(world.run("mv", &["other", "inner/other"]));
    assert!(world.run("mkdir", &["folder"]));
    world.lose(Writes::Kept, Names::Kept, 0);
    assert_eq!(world.read("new").unwrap(), b"1");
    assert_eq!(world.read("old").unwrap()[..8], *b"oooonewo");
    assert_eq!(world.read("inner/other").unwrap(), b"other");
    assert!(world.read("other").is_none() && world.path("folder").is_dir());
}

#[test]
fn what_a_kill_left_behind_is_not_durable_by_that() {
    let mut world = World::new();
    world.write("new", 0, b"1");
    world.write("old", 0, b"new");
    // As if the kill had come before the record of it.
    fs::write(world.path("unrecorded"), "1").unwrap();
    world.disk.reconcile();
    assert_eq!(world.read("new").unwrap(), b"1");
    assert_eq!(world.read("old").unwrap()[..4], *b"newo");
    assert_eq!(world.read("unrecorded"), None);
    assert!(world.sync("new"));
    world.lose(Writes::Lost, Names::Kept, 0);
    assert_eq!(world.read("new").unwrap(), b"1");
    assert_eq!(world.read("old").unwrap()[..4], *b"oooo");
}

#[test]
fn a_name_is_the_old_one_until_its_folder_is_synced() {
    for (synced, expected) in [(false, &b"other"[..]), (true, b"draft")] {
        let mut world = World::new();
        world.write("draft", 0, b"draft");
        assert!(world.sync("draft"));
        assert!(world.run("mv", &["draft", "other"]));
        assert!(world.run("rm", &["old"]));
        assert!(!synced || world.sync("."));
        world.lose(Writes::Lost, Names::Lost, 0);
        assert_eq!(world.read("other").unwrap(), expected);
        assert_eq!(world.read("draft"), None);
        assert_eq!(world.read("old").is_none(), synced);
    }
}

#[test]
fn a_name_that_changes_its_folder_is_in_one_of_them() {
    for seed in 0..20 {
        let mut world = World::new();
        assert!(world.run("mv", &["other", "inner/other"]));
        if seed % 2 == 0 {
            assert!(world.sync("inner"));
        }
        world.lose(Writes::Lost, Names::Each, seed);
        let (before, after) = (world.read("other").is_some(), world.read("inner/other").is_some());
        assert!(before != after && (seed % 2 != 0 || after));
    }
}

#[test]
fn names_are_kept_up_to_a_moment() {
    let mut counts = Vec::new();
    for seed in 0..20 {
        let mut world = World::new();
        for name in ["1", "2", "3"] {
            assert!(world.run("mkdir", &[name]));
        }
        world.lose(Writes::Lost, Names::Prefix, seed);
        let there: Vec<bool> = ["1", "2", "3"].iter().map(|name| world.path(name).is_dir()).collect();
        assert!(there.is_sorted_by(|one, next| one >= next), "{there:?}");
        counts.push(there.iter().filter(|is| **is).count());
    }
    assert!((0..=3).all(|count| counts.contains(&count)), "{counts:?}");
}

#[test]
fn a_write_is_torn_between_sectors_and_nowhere_else() {
    for (writes, piece) in [(Writes::TornSectors, 512), (Writes::TornBlocks, 4096)] {
        let (mut old, mut new) = (0, 0);
        for seed in 0..8 {
            let mut world = World::new();
            world.write("old", 0, &[b'n'; 8192]);
            world.lose(writes, Names::Lost, seed);
            for part in world.read("old").unwrap().chunks(piece) {
                let first = part[0];
                assert!(part.iter().all(|byte| *byte == first));
                *(if first == b'o' { &mut old } else { &mut new }) += 1;
            }
        }
        assert!(old > 0 && new > 0, "{old} old and {new} new");
    }
}

#[test]
fn the_end_of_a_file_may_be_there_as_zeros() {
    let mut world = World::new();
    world.write("old", 4000, &[b'n'; 8000]);
    world.lose(Writes::Zeroed, Names::Lost, 0);
    let found = world.read("old").unwrap();
    assert_eq!(found.len(), 12_000);
    assert!(found[..8192].iter().all(|byte| *byte == b'o'));
    assert!(found[8192..].iter().all(|byte| *byte == 0));
}

#[test]
fn what_a_failed_sync_forgot_is_not_written_by_the_next() {
    let mut world = World::new();
    world.write("old", 0, b"forgotten");
    world.disk.set_rules(&[Rule::on(&[Call::Sync], "old").fails(Errno::Io)]);
    assert!(!world.sync("old"));
    assert_eq!(world.disk.fired(0), 1);
    world.disk.set_rules(&[]);
    assert!(world.sync("old"));
    // It is still in memory.
    assert_eq!(world.read("old").unwrap()[..9], *b"forgotten");
    world.write("old", 4096, b"later");
    assert!(world.sync("old"));
    world.lose(Writes::Lost, Names::Lost, 0);
    let found = world.read("old").unwrap();
    assert_eq!((&found[..9], &found[4096..4101]), (&b"ooooooooo"[..], &b"later"[..]));
}

#[test]
fn a_full_disk_takes_half_a_write_and_then_nothing() {
    let world = &mut World::new();
    world.disk.set_rules(&[Rule::on(&[Call::Write], "full*").falls_short(Errno::NoSpace)]);
    fs::write(world.path("source"), [b's'; 1000]).unwrap();
    assert!(!world.run("dd", &["if=source", "of=full", "bs=1000"]));
    assert_eq!(world.read("full").unwrap(), [b's'; 500]);
    assert!(!world.run("dd", &["if=source", "of=full too", "bs=1000"]) && world.disk.fired(0) >= 2);
}
