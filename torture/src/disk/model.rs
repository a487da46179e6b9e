//! What may be left of a folder when the power goes.
//!
//! The rules are those of the manual pages of fsync(2) and rename(2), which promise less than most file systems
//! keep: a file's bytes and length are there if they were synced through any of its descriptors, its name if the
//! folder was synced. What was not synced may be there or not, in any mixture; blocks that the file had no data
//! in before may also be there as zeros. A rename is there wholly or not at all. What a sync that failed should
//! have written is not written by a later one that succeeds.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::history::Event;

/// Blocks of a file system; what has data is known in these.
const BLOCK: u64 = 4096;

/// What a disk writes in one piece.
const SECTOR: u64 = 512;

/// What becomes of writes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// All are lost.
    Lost,
    /// All are there, as after a kill.
    Kept,
    /// Each is there or not.
    Each,
    /// Of each, some sectors of 512 bytes are there.
    TornSectors,
    /// Of each, some blocks of 4,096 bytes are there.
    TornBlocks,
    /// The file is as long as it was, but blocks that had no data are zeros.
    Zeroed,
    /// Each has one of these fates.
    Mixed,
}

/// What becomes of names that were given, changed or taken away without a sync of the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// The folders are as they were synced last.
    Lost,
    /// All are there, as after a kill.
    Kept,
    /// All up to some moment, as file systems with a journal of names have it.
    Prefix,
    /// Each is there or not.
    Each,
}

/// One way to lose power.
#[derive(Clone, Debug)]
pub struct Loss {
    /// Bytes and lengths of files.
    pub writes: Writes,
    /// Entries of folders.
    pub names: Names,
    /// Decides what the two leave open.
    pub seed: u64,
}

impl Loss {
    /// One of all ways. Loss without a trace, the strictest of them, is as likely as all others together.
    pub fn any(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let ways = [
            Writes::Kept,
            Writes::Each,
            Writes::TornSectors,
            Writes::TornBlocks,
            Writes::Zeroed,
            Writes::Mixed,
        ];
        let writes = if rng.random_bool(0.5) { Writes::Lost } else { ways[rng.random_range(0..ways.len())] };
        let ways = [Names::Kept, Names::Prefix];
        let names = if rng.random_bool(0.5) { Names::Lost } else { ways[rng.random_range(0..ways.len())] };
        Self { writes, names, seed }
    }
}

/// What a loss of power took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Writes and changes of length that were not synced and are not there, or not wholly.
    pub writes: usize,
    /// Those that are there all the same.
    pub kept: usize,
    /// Changes of names that are undone.
    pub names: usize,
}

type NodeId = usize;
/// Place of an event in the history.
type Moment = usize;

const ROOT: NodeId = 0;

/// The disk as its programs see it and as it would be without power.
#[derive(Debug)]
pub(super) struct Model {
    nodes: Vec<Node>,
    handles: HashMap<u32, NodeId>,
    syncs: HashMap<u64, (NodeId, Moment)>,
    now: Moment,
}

#[derive(Debug)]
enum Node {
    File(File),
    Folder(Folder),
}

#[derive(Debug, Default)]
struct File {
    durable: Content,
    pending: Vec<Pending>,
}

#[derive(Debug)]
struct Pending {
    moment: Moment,
    change: Change,
    /// A sync of it failed; no later one helps.
    abandoned: bool,
}

#[derive(Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

/// Bytes of a file. The length may be greater than the number of bytes: the rest is zeros.
#[derive(Clone, Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    length: u64,
    /// Blocks that have data.
    allocated: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct Folder {
    seen: BTreeMap<String, NodeId>,
    durable: BTreeMap<String, NodeId>,
    pending: Vec<(Moment, String, Option<NodeId>)>,
}

impl Default for Model {
    fn default() -> Self {
        let nodes = vec![Node::Folder(Folder::default())];
        Self { nodes, handles: HashMap::new(), syncs: HashMap::new(), now: 0 }
    }
}

impl Content {
    fn set_length(&mut self, length: u64) {
        self.length = length;
        self.bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        drop(self.allocated.split_off(&length.div_ceil(BLOCK)));
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let end = offset + data.len() as u64;
        let (from, to) = (usize::try_from(offset).unwrap(), usize::try_from(end).unwrap());
        if self.bytes.len() < to {
            self.bytes.resize(to, 0);
        }
        self.bytes[from..to].copy_from_slice(data);
        self.length = self.length.max(end);
        self.allocated.extend(offset / BLOCK..end.div_ceil(BLOCK));
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write(offset, data) => self.write(*offset, data),
            Change::Length(length) => self.set_length(*length),
        }
    }

    /// Does the part of a write that `keep` says of each piece, and answers whether that is all of it.
    fn write_pieces(
        &mut self,
        offset: u64,
        data: &[u8],
        piece: u64,
        mut keep: impl FnMut(&Self, u64) -> Fate,
    ) -> bool {
        let (mut at, end, mut whole) = (offset, offset + data.len() as u64, true);
        while at < end {
            let next = ((at / piece + 1) * piece).min(end);
            let bytes = &data[usize::try_from(at - offset).unwrap()..usize::try_from(next - offset).unwrap()];
            match keep(self, at) {
                Fate::There => self.write(at, bytes),
                Fate::Zeros => {
                    self.length = self.length.max(next);
                    whole = false;
                }
                Fate::Gone => whole = false,
            }
            at = next;
        }
        whole
    }

    /// Does what is left of a change, and answers whether that is all of it.
    fn survive(&mut self, change: &Change, writes: Writes, rng: &mut StdRng) -> bool {
        let writes = if writes == Writes::Mixed {
            [Writes::Lost, Writes::Kept, Writes::TornSectors, Writes::TornBlocks, Writes::Zeroed]
                [rng.random_range(0..5)]
        } else {
            writes
        };
        let torn = |_: &Self, _| if rng.random_bool(0.5) { Fate::There } else { Fate::Gone };
        match (writes, change) {
            (Writes::Lost, _) => false,
            (Writes::Kept, change) | (Writes::Zeroed, change @ Change::Length(_)) => {
                self.apply(change);
                true
            }
            (Writes::Each | Writes::Mixed, _)
            | (Writes::TornSectors | Writes::TornBlocks, Change::Length(_)) => {
                let kept = rng.random_bool(0.5);
                if kept {
                    self.apply(change);
                }
                kept
            }
            (Writes::TornSectors, Change::Write(offset, data)) => {
                self.write_pieces(*offset, data, SECTOR, torn)
            }
            (Writes::TornBlocks, Change::Write(offset, data)) => {
                self.write_pieces(*offset, data, BLOCK, torn)
            }
            (Writes::Zeroed, Change::Write(offset, data)) => {
                self.write_pieces(*offset, data, BLOCK, |content, at| {
                    if content.allocated.contains(&(at / BLOCK)) { Fate::Gone } else { Fate::Zeros }
                })
            }
        }
    }
}

/// What becomes of a piece of a write.
enum Fate {
    There,
    /// The length is there, the bytes are not.
    Zeros,
    Gone,
}

impl Model {
    /// All that is in a folder, as durable.
    pub(super) fn read_from(root: &Path) -> Self {
        let mut model = Self::default();
        model.read_folder(ROOT, root);
        model
    }

    fn read_folder(&mut self, id: NodeId, path: &Path) {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let node = if entry.file_type().unwrap().is_dir() {
                let node = self.add(Node::Folder(Folder::default()));
                self.read_folder(node, &entry.path());
                node
            } else {
                let mut durable = Content::default();
                let bytes = fs::read(entry.path()).unwrap();
                // Zeros at the end are as good as none, but for the length, and journals have millions of them.
                let data = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                durable.write(0, &bytes[..data]);
                durable.length = bytes.len() as u64;
                self.add(Node::File(File { durable, pending: Vec::new() }))
            };
            let name = entry.file_name().into_string().unwrap();
            let folder = self.folder(id);
            folder.seen.insert(name.clone(), node);
            folder.durable.insert(name, node);
        }
    }

    /// Writes out what is durable, into a folder that is not there.
    pub(super) fn write_durable_to(&self, root: &Path) {
        self.write_node(ROOT, root, true);
    }

    /// Writes out what programs see, likewise.
    pub(super) fn write_seen_to(&self, root: &Path) {
        self.write_node(ROOT, root, false);
    }

    fn write_node(&self, id: NodeId, path: &Path, durable: bool) {
        match &self.nodes[id] {
            Node::File(file) => {
                let mut content = Cow::Borrowed(&file.durable);
                for Pending { change, .. } in file.pending.iter().filter(|_| !durable) {
                    content.to_mut().apply(change);
                }
                let to = fs::File::create(path).unwrap();
                to.write_all_at(&content.bytes, 0).unwrap();
                to.set_len(content.length).unwrap();
            }
            Node::Folder(folder) => {
                fs::create_dir(path).unwrap();
                let entries = if durable { &folder.durable } else { &folder.seen };
                for (name, id) in entries {
                    self.write_node(*id, &path.join(name), durable);
                }
            }
        }
    }

    /// Takes notice of what was done to the disk.
    pub(super) fn follow(&mut self, event: Event) {
        self.now += 1;
        let now = self.now;
        match event {
            Event::Start { .. } => {
                self.handles.clear();
                self.syncs.clear();
            }
            Event::Open { handle, path, created, emptied } => {
                let node = if created {
                    let node = self.add(Node::File(File::default()));
                    self.name(&path, Some(node));
                    node
                } else {
                    self.resolve(&path)
                };
                self.handles.insert(handle, node);
                if emptied {
                    self.change(handle, Change::Length(0));
                }
            }
            Event::Write { handle, offset, data } => self.change(handle, Change::Write(offset, data)),
            Event::Truncate { handle, length } => self.change(handle, Change::Length(length)),
            Event::SyncBegin { handle, sync } => {
                self.syncs.insert(sync, (self.handles[&handle], now));
            }
            Event::SyncEnd { sync, succeeded } => {
                let (node, begun) = self.syncs.remove(&sync).expect("a sync begins before it ends");
                self.sync(node, begun, succeeded);
            }
            Event::Rename { from, to } => {
                let node = self.resolve(&from);
                self.name(&from, None);
                self.name(&to, Some(node));
            }
            Event::Unlink { path } => self.name(&path, None),
            Event::MakeFolder { path } => {
                let node = self.add(Node::Folder(Folder::default()));
                self.name(&path, Some(node));
            }
            Event::Link { from, to } => {
                let node = self.resolve(&from);
                self.name(&to, Some(node));
            }
            Event::Fault { .. } => {}
            Event::Unsupported { path, call } => {
                panic!("the model of the disk knows nothing of {call}, which was called for {path:?}")
            }
        }
    }

    /// Leaves only what could be there after a loss of power, which is durable from then on.
    pub(super) fn lose_power(&mut self, way: &Loss) -> Lost {
        let mut rng = StdRng::seed_from_u64(way.seed);
        let mut lost = Lost::default();
        let kept = self.kept_names(way.names, &mut rng, &mut lost);
        for node in &mut self.nodes {
            match node {
                Node::File(file) => {
                    for Pending { change, .. } in std::mem::take(&mut file.pending) {
                        if file.durable.survive(&change, way.writes, &mut rng) {
                            lost.kept += 1;
                        } else {
                            lost.writes += 1;
                        }
                    }
                }
                Node::Folder(folder) => {
                    for (moment, name, node) in std::mem::take(&mut folder.pending) {
                        if kept.contains(&moment) {
                            put(&mut folder.durable, name, node);
                        }
                    }
                    folder.seen.clone_from(&folder.durable);
                }
            }
        }
        self.handles.clear();
        self.syncs.clear();
        self.drop_unreachable();
        lost
    }

    /// The moments whose changes of names are kept.
    fn kept_names(&self, names: Names, rng: &mut StdRng, lost: &mut Lost) -> BTreeSet<Moment> {
        let folders = self.nodes.iter().filter_map(|node| match node {
            Node::Folder(folder) => Some(folder),
            Node::File(_) => None,
        });
        let pending: BTreeSet<Moment> =
            folders.flat_map(|folder| folder.pending.iter().map(|(moment, ..)| *moment)).collect();
        let prefix = rng.random_range(0..=pending.len());
        let kept: BTreeSet<Moment> = match names {
            Names::Lost => BTreeSet::new(),
            Names::Kept => pending.clone(),
            Names::Prefix => pending.iter().copied().take(prefix).collect(),
            Names::Each => pending.iter().copied().filter(|_| rng.random_bool(0.5)).collect(),
        };
        lost.names += pending.len() - kept.len();
        kept
    }

    /// Memory for what nobody can see any more would grow with every loss.
    fn drop_unreachable(&mut self) {
        let mut fresh = Self { nodes: Vec::new(), now: self.now, ..Self::default() };
        self.move_node(ROOT, &mut fresh);
        *self = fresh;
    }

    fn move_node(&mut self, id: NodeId, fresh: &mut Self) -> NodeId {
        match std::mem::replace(&mut self.nodes[id], Node::Folder(Folder::default())) {
            Node::File(file) => fresh.add(Node::File(file)),
            Node::Folder(folder) => {
                let new = fresh.add(Node::Folder(Folder::default()));
                for (name, child) in folder.durable {
                    let child = self.move_node(child, fresh);
                    let folder = fresh.folder(new);
                    folder.seen.insert(name.clone(), child);
                    folder.durable.insert(name, child);
                }
                new
            }
        }
    }

    fn change(&mut self, handle: u32, change: Change) {
        let pending = Pending { moment: self.now, change, abandoned: false };
        match &mut self.nodes[self.handles[&handle]] {
            Node::File(file) => file.pending.push(pending),
            Node::Folder(_) => panic!("a folder was written to"),
        }
    }

    fn sync(&mut self, node: NodeId, begun: Moment, succeeded: bool) {
        match &mut self.nodes[node] {
            Node::File(file) => {
                for mut pending in std::mem::take(&mut file.pending) {
                    let synced = pending.moment < begun && !pending.abandoned;
                    if synced && succeeded {
                        file.durable.apply(&pending.change);
                    } else {
                        pending.abandoned |= synced;
                        file.pending.push(pending);
                    }
                }
            }
            Node::Folder(folder) if succeeded => {
                let synced: BTreeSet<_> =
                    folder.pending.iter().map(|(moment, ..)| *moment).filter(|at| *at < begun).collect();
                // A rename from one folder to another is in both, and there wholly or not at all.
                for node in &mut self.nodes {
                    let Node::Folder(folder) = node else { continue };
                    for (moment, name, node) in std::mem::take(&mut folder.pending) {
                        if synced.contains(&moment) {
                            put(&mut folder.durable, name, node);
                        } else {
                            folder.pending.push((moment, name, node));
                        }
                    }
                }
            }
            Node::Folder(_) => {}
        }
    }

    /// Gives a path to a node, or takes it away.
    fn name(&mut self, path: &str, node: Option<NodeId>) {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let (parent, now) = (self.resolve(parent), self.now);
        let folder = self.folder(parent);
        put(&mut folder.seen, name.to_owned(), node);
        folder.pending.push((now, name.to_owned(), node));
    }

    fn resolve(&self, path: &str) -> NodeId {
        path.split('/').filter(|part| !part.is_empty()).fold(ROOT, |id, part| match &self.nodes[id] {
            Node::Folder(folder) => {
                *folder.seen.get(part).unwrap_or_else(|| panic!("{path:?} was opened, but never made"))
            }
            Node::File(_) => panic!("{path:?} leads through a file"),
        })
    }

    fn folder(&mut self, id: NodeId) -> &mut Folder {
        match &mut self.nodes[id] {
            Node::Folder(folder) => folder,
            Node::File(_) => panic!("a file was used as a folder"),
        }
    }

    fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        self.nodes.len() - 1
    }
}

fn put(entries: &mut BTreeMap<String, NodeId>, name: String, node: Option<NodeId>) {
    match node {
        Some(node) => drop(entries.insert(name, node)),
        None => drop(entries.remove(&name)),
    }
}
