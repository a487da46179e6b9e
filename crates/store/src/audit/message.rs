//! One message: its header, body, extension set and pairs.

use std::collections::HashMap;

use sidenote_core::extension::{Entry, ExtensionState, Key, Seq};
use sidenote_core::ids::MessageName;
use sidenote_core::message::Message;

use super::events::{Story, entry_digest};
use super::{MAX_LIVE_PAIRS, MAX_TOMBSTONES};

/// Pairs that one number can have been given (rules 3.7 and 3.9): as many as a request may name, and as compaction
/// puts on one.
const MAX_PAIRS_PER_SEQ: u32 = 200;

/// The rows of one message so far.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) name: MessageName,
    header: Option<Header>,
    has_body: bool,
    state: Option<ExtensionState>,
    live: u32,
    tombstones: u32,
    /// How many pairs have each number.
    per_seq: HashMap<Seq, u32>,
    /// What the events tell of it.
    story: Option<Story>,
    /// Found, with the key of the pair where it is about one.
    pub(super) wrong: Vec<(Option<Key>, String)>,
}

#[derive(Clone, Copy, Debug)]
struct Header {
    supports_extension: bool,
    recalled: bool,
}

impl Rows {
    pub(super) fn new(name: MessageName, story: Option<Story>) -> Self {
        Self {
            name,
            header: None,
            has_body: false,
            state: None,
            live: 0,
            tombstones: 0,
            per_seq: HashMap::new(),
            story,
            wrong: Vec::new(),
        }
    }

    pub(super) fn header(&mut self, message: &Message) {
        self.header =
            Some(Header { supports_extension: message.supports_extension, recalled: message.recalled });
    }

    pub(super) fn body(&mut self) {
        self.has_body = true;
        match self.header {
            None => self.object("has a body but no header"),
            Some(Header { recalled: true, .. }) => self.object("is recalled but has a body"),
            Some(_) => {}
        }
    }

    pub(super) fn state(&mut self, state: &ExtensionState) {
        self.state = Some(*state);
        match self.header {
            None => self.object("has an extension set but no header"),
            Some(Header { recalled: true, .. }) => self.object("is recalled but has an extension set"),
            Some(Header { supports_extension: false, .. }) => {
                self.object("has an extension set but does not support extensions");
            }
            Some(_) => {}
        }
        if state.clear > state.latest {
            self.object(format!("has ClearSeq {} above LatestSeq {}", state.clear, state.latest));
        }
        if state.live > MAX_LIVE_PAIRS || state.tombstones > MAX_TOMBSTONES {
            self.object(format!(
                "counts {} live pairs and {} tombstones, more than any configuration allows (rule 3.7)",
                state.live, state.tombstones
            ));
        }
        if let Some((latest, clear)) = self.story.as_ref().map(|story| (story.latest, story.clear))
            && (latest, clear) != (state.latest, state.clear)
        {
            self.object(format!(
                "has LatestSeq {} and ClearSeq {}, but the last event of its set tells {latest} and {clear}",
                state.latest, state.clear
            ));
        }
    }

    pub(super) fn pair(&mut self, key: &Key, entry: &Entry) {
        if entry.value().is_some() {
            self.live = self.live.saturating_add(1);
        } else {
            self.tombstones = self.tombstones.saturating_add(1);
        }
        if self.header.is_some_and(|header| header.recalled) {
            // Whether that is in order is asked once, at the end.
            return;
        }
        let seq = entry.seq();
        if let Some(state) = self.state {
            if seq > state.latest {
                self.object_to(key, format!("has Seq {seq} above LatestSeq {}", state.latest));
            } else if seq <= state.clear {
                self.object_to(
                    key,
                    format!("has Seq {seq}, which the clear of Seq {} dropped (rule 3.6)", state.clear),
                );
            }
        }
        let same = self.per_seq.entry(seq).or_default();
        *same += 1;
        if *same == MAX_PAIRS_PER_SEQ + 1 {
            self.object(format!("has more than {MAX_PAIRS_PER_SEQ} pairs with Seq {seq} (rule 3.9)"));
        }
        if let Some(story) = &mut self.story {
            match story.entries.remove(key) {
                Some(told) if told != entry_digest(entry) => {
                    self.object_to(key, "is not what the last event about it tells");
                }
                None if story.is_whole => {
                    self.object_to(key, "is there although no event since the last clear tells of it");
                }
                _ => {}
            }
        }
    }

    /// After the last row. `strips`: a debt says that its pairs are to be removed.
    pub(super) fn finish(mut self, strips: bool) -> Vec<(Option<Key>, String)> {
        let Some(header) = self.header else {
            if !self.has_body && self.state.is_none() {
                self.object("has pairs but no header");
            }
            return self.wrong;
        };
        if header.recalled {
            if self.live + self.tombstones > 0 && !strips {
                self.object("is recalled, but has pairs and no debt that removes them");
            }
            return self.wrong;
        }
        if strips {
            self.object("is not recalled, but a debt would remove its pairs");
        }
        if !self.has_body {
            self.object("has no body");
        }
        match self.state {
            None if self.live + self.tombstones > 0 => self.object("has pairs but no LatestSeq"),
            None if self.story.is_some() => {
                self.object("has no LatestSeq, but events tell of changes of its set");
            }
            None => {}
            Some(state) => {
                if (state.live, state.tombstones) != (self.live, self.tombstones) {
                    self.object(format!(
                        "counts {} live pairs and {} tombstones, but holds {} and {}",
                        state.live, state.tombstones, self.live, self.tombstones
                    ));
                }
                let missing = self.story.as_ref().and_then(|story| story.entries.keys().min().cloned());
                if let Some(key) = missing {
                    self.object_to(&key, "is missing, but the last event about it tells what it holds");
                }
            }
        }
        self.wrong
    }

    fn object(&mut self, what: impl Into<String>) {
        self.wrong.push((None, what.into()));
    }

    fn object_to(&mut self, key: &Key, what: impl Into<String>) {
        self.wrong.push((Some(key.clone()), what.into()));
    }
}
