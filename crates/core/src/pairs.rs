//! All pairs and tombstones of one extension set, and the pages that readers get of them.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::extension::{Entry, ExtensionState, Key, Pair, Seq};
use crate::rows::{MessagePart, Part, Row, RowKey};

/// The pairs and tombstones of one extension set, by key.
///
/// A sorted list and no tree: a set holds a few hundred entries (rule 3.7), so that a change moves some kilobytes
/// at most, and reading all of them, which is what readers do, touches memory in order.
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    entries: Vec<(Key, Entry)>,
    /// Bytes of the texts in it.
    text_bytes: usize,
    /// The page that nearly every reader asks for. It hangs on what it was made from and is dropped with the first
    /// change, so it cannot be stale.
    first_page: OnceLock<PullPage>,
}

impl PartialEq for Pairs {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Eq for Pairs {}

impl FromIterator<(Key, Entry)> for Pairs {
    /// Of a key that comes twice, the later entry counts.
    fn from_iter<I: IntoIterator<Item = (Key, Entry)>>(entries: I) -> Self {
        let mut pairs = Self::default();
        for (key, entry) in entries {
            pairs.put(key, Some(entry));
        }
        pairs
    }
}

impl Pairs {
    /// The set that these rows make; rows that are no pairs do not belong to it.
    pub fn of_rows(rows: Vec<(RowKey, Row)>) -> Self {
        let entries = rows.into_iter().filter_map(|(key, row)| match (key, row) {
            (RowKey::Within(_, Part::Message(_, MessagePart::Pair(key))), Row::Pair(entry)) => {
                Some((key, entry))
            }
            _ => None,
        });
        entries.collect()
    }

    /// What the set holds under a key.
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.find(key).ok().map(|at| &self.entries[at].1)
    }

    /// Puts an entry in place; `None` takes it away.
    pub fn put(&mut self, key: Key, entry: Option<Entry>) {
        self.first_page.take();
        // Whoever builds a set brings the keys in order.
        let is_last = self.entries.last().is_none_or(|(last, _)| *last < key);
        let place = if is_last { Err(self.entries.len()) } else { self.find(&key) };
        if let Ok(at) = place {
            self.text_bytes -= text_bytes(&self.entries[at]);
        }
        match (place, entry) {
            (Ok(at), Some(entry)) => {
                self.entries[at].1 = entry;
                self.text_bytes += text_bytes(&self.entries[at]);
            }
            (Err(at), Some(entry)) => {
                self.entries.insert(at, (key, entry));
                self.text_bytes += text_bytes(&self.entries[at]);
            }
            (Ok(at), None) => drop(self.entries.remove(at)),
            (Err(_), None) => {}
        }
    }

    /// Keys and entries, by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &(Key, Entry)> {
        self.entries.iter()
    }

    /// How many entries there are, tombstones included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all keys and values together.
    pub fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    /// Whether the first page is kept, which takes memory of its own.
    pub fn keeps_first_page(&self) -> bool {
        self.first_page.get().is_some()
    }

    /// The page of entries from `start` on, with tombstones or without, of a set in this state (rules 3.8 and 3.9).
    /// Live pairs from the start on are what nearly every reader asks for; that page is kept. A store must use one
    /// `limit` for all pages.
    pub fn page(&self, state: &ExtensionState, start: Seq, tombstones: bool, limit: usize) -> PullPage {
        let make = || {
            let (pairs, complete) = self.select(start, tombstones, limit);
            let ExtensionState { latest, clear, .. } = *state;
            PullPage { pairs, complete, latest, clear, rendering: Rendering::default() }
        };
        if start != Seq::NEVER || tombstones {
            return make();
        }
        let page = self.first_page.get_or_init(make);
        // A clear of an empty set changes its state and no pair.
        if (page.latest, page.clear) == (state.latest, state.clear) { page.clone() } else { make() }
    }

    /// Rule 3.9: a page never splits one Seq. It ends where a Seq ends and holds at most `limit` pairs, but a Seq
    /// that alone holds more goes whole. The flag says that nothing is left.
    fn select(&self, start: Seq, tombstones: bool, limit: usize) -> (Arc<[Pair]>, bool) {
        let wanted = |entry: &Entry| entry.seq() >= start && (tombstones || entry.value().is_some());
        let mut entries: Vec<_> = self.entries.iter().filter(|(_, entry)| wanted(entry)).collect();
        // The keys are in order already, and a stable sort leaves those of one Seq so.
        entries.sort_by_key(|(_, entry)| entry.seq());
        let mut end = entries.len();
        if end > limit {
            let cut_off = entries[limit].1.seq();
            let of_earlier = entries[..limit].iter().rposition(|(_, entry)| entry.seq() < cut_off);
            end = of_earlier.map_or_else(
                || entries.iter().position(|(_, entry)| entry.seq() > cut_off).unwrap_or(end),
                |last| last + 1,
            );
        }
        let pairs = entries[..end].iter().map(|(key, entry)| Pair::of(key.clone(), Some(entry)));
        (pairs.collect(), end == entries.len())
    }

    fn find(&self, key: &Key) -> Result<usize, usize> {
        self.entries.binary_search_by(|(held, _)| held.cmp(key))
    }
}

fn text_bytes((key, entry): &(Key, Entry)) -> usize {
    key.as_str().len() + entry.value().map_or(0, |value| value.as_str().len())
}

/// A page of pairs. Clones share all that is large, so that a store can keep pages and hand them out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullPage {
    /// By Seq, then key.
    pub pairs: Arc<[Pair]>,
    /// Nothing is left.
    pub complete: bool,
    /// `LatestSeq`.
    pub latest: Seq,
    /// `ClearSeq`.
    pub clear: Seq,
    /// What whoever sends the page has made of it.
    pub rendering: Rendering,
}

impl PullPage {
    /// The most bytes that may be kept in [`rendering`](Self::rendering). A store that keeps the page counts them
    /// with it.
    pub fn rendering_limit(&self) -> usize {
        let pair =
            |pair: &Pair| 64 + pair.key.as_str().len() + pair.value.as_ref().map_or(0, |v| v.as_str().len());
        256 + self.pairs.iter().map(pair).sum::<usize>()
    }
}

/// A place beside an answer that never changes, for the form in which it is sent. Whoever sends it makes that form
/// once and finds it again for as long as the answer itself is kept; there is nothing to invalidate. The rules
/// neither fill nor read it, and clones share it.
#[derive(Clone, Default)]
pub struct Rendering(Arc<OnceLock<Box<dyn Any + Send + Sync>>>);

impl Rendering {
    /// What was kept before, if it is of this type.
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.get()?.downcast_ref()
    }

    /// Keeps a form. Only the first one is kept.
    pub fn keep<T: Any + Send + Sync>(&self, form: T) {
        // Whoever comes second made the same of the same.
        drop(self.0.set(Box::new(form)));
    }
}

/// Answers are compared by what they say.
impl PartialEq for Rendering {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Rendering {}

impl fmt::Debug for Rendering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "Rendering(kept)" } else { "Rendering(none)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extension::Value;

    fn key(key: &str) -> Key {
        Key::new(key).unwrap()
    }

    fn live(seq: u64) -> Entry {
        Entry::Live { value: Value::new("v").unwrap(), seq: Seq::new(seq).unwrap() }
    }

    fn pairs(of: &[(&str, u64)]) -> Pairs {
        of.iter().map(|(name, seq)| (key(name), live(*seq))).collect()
    }

    fn seq(seq: u64) -> Seq {
        Seq::new(seq).unwrap()
    }

    /// The keys of a page, and whether it is the last.
    fn names(pairs: &Pairs, start: u64, tombstones: bool, limit: usize) -> (String, bool) {
        let page = pairs.page(&ExtensionState::default(), seq(start), tombstones, limit);
        (page.pairs.iter().map(|pair| pair.key.as_str()).collect(), page.complete)
    }

    #[test]
    fn rule_3_9_a_page_ends_where_a_seq_ends() {
        let pairs = pairs(&[("a", 1), ("b", 1), ("c", 2), ("d", 2), ("e", 3)]);
        assert_eq!(names(&pairs, 0, true, 5), ("abcde".into(), true));
        assert_eq!(names(&pairs, 0, true, 4), ("abcd".into(), false));
        assert_eq!(names(&pairs, 0, true, 3), ("ab".into(), false));
        // A Seq that alone holds more than a page goes whole.
        assert_eq!(names(&pairs, 0, true, 1), ("ab".into(), false));
        assert_eq!(names(&pairs, 3, true, 1), ("e".into(), true));
    }

    #[test]
    fn rule_3_9_a_page_without_the_flag_is_never_empty() {
        let pairs = pairs(&[("a", 7), ("b", 7), ("c", 7)]);
        assert_eq!(names(&pairs, 0, true, 2), ("abc".into(), true));
    }

    #[test]
    fn rule_3_8_pairs_come_by_seq_then_key_and_tombstones_only_where_asked_for() {
        let mut pairs = pairs(&[("d", 2), ("c", 1), ("b", 2), ("a", 3)]);
        pairs.put(key("b"), Some(Entry::Deleted { seq: seq(4) }));
        assert_eq!(names(&pairs, 0, false, 9).0, "cda");
        assert_eq!(names(&pairs, 0, true, 9).0, "cdab");
    }

    #[test]
    fn the_first_page_is_made_once_until_something_changes() {
        let mut pairs = pairs(&[("a", 1), ("b", 2)]);
        let at =
            |latest, clear| ExtensionState { latest: seq(latest), clear: seq(clear), ..Default::default() };
        let page = |pairs: &Pairs, state| pairs.page(&state, Seq::NEVER, false, 9);
        let first = page(&pairs, at(2, 0));
        first.rendering.keep("made of the first");
        assert_eq!(page(&pairs, at(2, 0)).rendering.get(), Some(&"made of the first"));
        let cleared = page(&pairs, at(3, 3));
        assert_eq!((cleared.latest, cleared.clear), (seq(3), seq(3)), "another state is told as it is");
        assert_eq!(cleared.rendering.get::<&str>(), None);

        let before = pairs.clone();
        pairs.put(key("c"), Some(live(3)));
        assert!(before.keeps_first_page() && !pairs.keeps_first_page());
        let second = page(&pairs, at(3, 0));
        assert_eq!((second.pairs.len(), second.rendering.get::<&str>()), (3, None));
        assert_eq!(page(&before, at(2, 0)).rendering.get(), Some(&"made of the first"));
    }

    #[test]
    fn clones_of_a_page_share_one_rendering() {
        let rendering = Rendering::default();
        let clone = rendering.clone();
        assert_eq!(clone.get::<&str>(), None);
        rendering.keep("first");
        clone.keep("second");
        assert_eq!((rendering.get(), clone.get()), (Some(&"first"), Some(&"first")));
        assert_eq!(clone.get::<u8>(), None);
    }

    #[test]
    fn entries_are_put_replaced_and_taken_away_and_their_bytes_counted() {
        let mut pairs = pairs(&[("b", 1), ("a", 2), ("bb", 3)]);
        assert_eq!(pairs.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["a", "b", "bb"]);
        assert_eq!((pairs.len(), pairs.text_bytes()), (3, 4 + 3));
        pairs.put(key("b"), Some(Entry::Deleted { seq: Seq::new(4).unwrap() }));
        pairs.put(key("a"), None);
        pairs.put(key("zz"), None);
        assert_eq!((pairs.len(), pairs.text_bytes()), (2, 3 + 1));
        assert_eq!(pairs.get(&key("a")), None);
        assert_eq!(pairs.get(&key("bb")), Some(&live(3)));
        assert_eq!(pairs.get(&key("b")).map(Entry::value), Some(None));
    }
}
