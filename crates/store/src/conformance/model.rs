//! A second, slower telling of rules 3.1 to 3.10 in `docs/protocol.md`: plain maps of text and numbers.
//!
//! It shares no code with the rules of `sidenote-core`, on purpose: both would be wrong together. Where core keeps
//! counts the model counts, where core sorts and cuts a page the model lays groups of one Seq on it, and so on.

use std::collections::BTreeMap;

/// The numbers that the rules depend on; small ones make limits and compactions happen often.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Live pairs of a message.
    pub pairs: usize,
    /// Tombstones of a message.
    pub tombstones: usize,
    /// Pairs of a page.
    pub page: usize,
    /// Attempts in 60 seconds; 0: no limit.
    pub attempts: usize,
}

/// The messages of one group, or of two accounts: the rules are the same but for one code.
#[derive(Clone, Debug)]
pub struct Model {
    bounds: Bounds,
    /// What a stranger is told.
    stranger: Code,
    messages: BTreeMap<u64, Message>,
}

#[derive(Clone, Debug, Default)]
struct Message {
    extensible: bool,
    recalled: bool,
    latest: u64,
    clear: u64,
    cells: BTreeMap<String, Cell>,
    /// When the attempts of the current window came.
    attempts: Vec<u64>,
}

/// A pair; without a value it is a tombstone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// Empty for a tombstone.
    pub value: String,
    /// Its version.
    pub seq: u64,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// An administrator of the app.
    Administrator,
    /// A member of the group.
    Member,
    /// Somebody else.
    Stranger,
}

/// A change of a set. Pairs are key, value and the Seq that the caller sent.
#[derive(Clone, Debug)]
pub enum Change {
    /// OperateType 1.
    Set(Vec<(String, String, u64)>),
    /// OperateType 2.
    Delete(Vec<(String, u64)>),
    /// OperateType 3.
    Clear,
}

/// The answer to a change: `LatestSeq`, then code, key, value and Seq of each pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `LatestSeq` afterwards.
    pub latest: u64,
    /// What became of each pair; code 0: written.
    pub items: Vec<(u32, String, Cell)>,
}

/// The answer to a pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The pairs.
    pub pairs: Vec<(String, Cell)>,
    /// Nothing is left.
    pub complete: bool,
    /// `LatestSeq`.
    pub latest: u64,
    /// `ClearSeq`.
    pub clear: u64,
}

/// Why a whole request is refused, as its code on the wire (rules 3.11 and 3.12).
pub type Code = u32;

impl Model {
    /// A group without messages.
    pub fn of_a_group(bounds: Bounds) -> Self {
        Self { bounds, stranger: 10_007, messages: BTreeMap::new() }
    }

    /// Two accounts that have not written to each other; both of them are members.
    pub fn of_two(bounds: Bounds) -> Self {
        Self { bounds, stranger: 20_003, messages: BTreeMap::new() }
    }

    /// A message was sent.
    pub fn send(&mut self, seq: u64, extensible: bool) {
        self.messages.insert(seq, Message { extensible, ..Message::default() });
    }

    /// A message was recalled.
    pub fn recall(&mut self, seq: u64) {
        if let Some(message) = self.messages.get_mut(&seq) {
            message.recalled = true;
        }
    }

    /// Somebody changes the set of a message.
    pub fn change(&mut self, now: u64, caller: Caller, seq: u64, change: &Change) -> Result<Answer, Code> {
        self.admit(caller, seq)?;
        let bounds = self.bounds;
        let message = self.messages.get_mut(&seq).expect("only an existing message lets anybody in");
        message.attempt(now, bounds.attempts)?;
        let is_free = caller == Caller::Administrator;
        let verdicts = match change {
            Change::Clear => {
                message.latest += 1;
                message.clear = message.latest;
                message.cells.clear();
                Vec::new()
            }
            Change::Set(pairs) => {
                let wanted = pairs.iter().map(|(key, value, seen)| (key, value.as_str(), *seen)).collect();
                message.write(bounds, is_free, wanted)
            }
            Change::Delete(keys) => {
                let wanted = keys.iter().map(|(key, seen)| (key, "", *seen)).collect();
                message.write(bounds, is_free, wanted)
            }
        };
        let now_holds = |key: &String| message.cells.get(key).cloned().unwrap_or_default();
        let items = verdicts.into_iter().map(|(code, key)| (code, key.clone(), now_holds(key))).collect();
        Ok(Answer { latest: message.latest, items })
    }

    /// Somebody pulls.
    pub fn pull(&self, caller: Caller, seq: u64, start: u64, tombstones: bool) -> Result<Page, Code> {
        self.admit(caller, seq)?;
        let message = &self.messages[&seq];
        let mut by_seq: BTreeMap<u64, Vec<(String, Cell)>> = BTreeMap::new();
        for (key, cell) in &message.cells {
            if cell.seq >= start && (tombstones || !cell.value.is_empty()) {
                by_seq.entry(cell.seq).or_default().push((key.clone(), cell.clone()));
            }
        }
        let (mut pairs, mut complete) = (Vec::new(), true);
        for of_one_seq in by_seq.into_values() {
            if !pairs.is_empty() && pairs.len() + of_one_seq.len() > self.bounds.page {
                complete = false;
                break;
            }
            pairs.extend(of_one_seq);
        }
        Ok(Page { pairs, complete, latest: message.latest, clear: message.clear })
    }

    /// What a message holds, tombstones included; nothing once it was recalled.
    pub fn cells(&self, seq: u64) -> Option<&BTreeMap<String, Cell>> {
        self.messages.get(&seq).filter(|message| !message.recalled).map(|message| &message.cells)
    }

    fn admit(&self, caller: Caller, seq: u64) -> Result<(), Code> {
        if caller == Caller::Stranger {
            return Err(self.stranger);
        }
        match self.messages.get(&seq) {
            Some(message) if !message.recalled && message.extensible => Ok(()),
            Some(message) if !message.recalled => Err(23_002),
            _ => Err(23_004),
        }
    }
}

impl Message {
    /// Rule 3.10.
    fn attempt(&mut self, now: u64, allowed: usize) -> Result<(), Code> {
        if self.attempts.first().is_some_and(|first| now - first >= 60_000) {
            self.attempts.clear();
        }
        if allowed > 0 && self.attempts.len() == allowed {
            return Err(23_003);
        }
        self.attempts.push(now);
        Ok(())
    }

    fn live(&self) -> usize {
        self.cells.values().filter(|cell| !cell.value.is_empty()).count()
    }

    /// Rules 3.2 to 3.7. Writing an empty value is deleting.
    fn write<'k>(
        &mut self,
        bounds: Bounds,
        is_free: bool,
        wanted: Vec<(&'k String, &str, u64)>,
    ) -> Vec<(u32, &'k String)> {
        let before = self.cells.clone();
        let number = self.latest + 1;
        let mut verdicts = Vec::new();
        for (key, value, seen) in wanted {
            let held = before.get(key).cloned().unwrap_or_default();
            let lives = !held.value.is_empty();
            let was_seen = seen == held.seq || (seen == 0 && !lives);
            let code = if value.is_empty() && !lives {
                23_004
            } else if !is_free && !was_seen {
                23_001
            } else if !value.is_empty() && !lives && self.live() >= bounds.pairs {
                10_004
            } else {
                self.cells.insert(key.clone(), Cell { value: value.to_owned(), seq: number });
                self.latest = number;
                0
            };
            verdicts.push((code, key));
        }
        if self.latest == number && self.cells.len() - self.live() > bounds.tombstones {
            self.compact(bounds.page);
        }
        verdicts
    }

    /// Rule 3.7: a clear, then the live pairs again, a few at a time.
    fn compact(&mut self, pairs_per_number: usize) {
        self.latest += 1;
        self.clear = self.latest;
        self.cells.retain(|_, cell| !cell.value.is_empty());
        let mut room = 0;
        for cell in self.cells.values_mut() {
            if room == 0 {
                self.latest += 1;
                room = pairs_per_number;
            }
            cell.seq = self.latest;
            room -= 1;
        }
    }
}
