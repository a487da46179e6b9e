//! All pairs and tombstones of one extension set, and the pages that readers get of them.

use std::sync::{Arc, OnceLock};

use crate::extension::{Entry, Key, Pair, Seq};
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
    /// The page that nearly every reader asks for, with the limit that it was made for. It hangs on what it was
    /// made from and is dropped with the first change, so it cannot be stale.
    first_page: OnceLock<(usize, Arc<Page>)>,
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

    /// The page of entries from `start` on, with tombstones or without (rules 3.8 and 3.9).
    pub fn page(&self, start: Seq, tombstones: bool, limit: usize) -> Arc<Page> {
        if start != Seq::NEVER || tombstones {
            return Arc::new(self.make_page(start, tombstones, limit));
        }
        let (made_for, page) =
            self.first_page.get_or_init(|| (limit, Arc::new(self.make_page(start, tombstones, limit))));
        if *made_for == limit { Arc::clone(page) } else { Arc::new(self.make_page(start, tombstones, limit)) }
    }

    /// Rule 3.9: a page never splits one Seq. It ends where a Seq ends and holds at most `limit` pairs, but a Seq
    /// that alone holds more goes whole.
    fn make_page(&self, start: Seq, tombstones: bool, limit: usize) -> Page {
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
        Page { pairs: pairs.collect(), complete: end == entries.len(), rendered: OnceLock::new() }
    }

    fn find(&self, key: &Key) -> Result<usize, usize> {
        self.entries.binary_search_by(|(held, _)| held.cmp(key))
    }
}

fn text_bytes((key, entry): &(Key, Entry)) -> usize {
    key.as_str().len() + entry.value().map_or(0, |value| value.as_str().len())
}

/// A page of pairs.
#[derive(Debug, Default)]
pub struct Page {
    /// By Seq, then key.
    pub pairs: Vec<Pair>,
    /// Nothing is left.
    pub complete: bool,
    rendered: OnceLock<Box<[u8]>>,
}

impl PartialEq for Page {
    fn eq(&self, other: &Self) -> bool {
        (&self.pairs, self.complete) == (&other.pairs, other.complete)
    }
}

impl Eq for Page {}

impl Page {
    /// The pairs as they go over the wire: written by the first who asks and kept with the page, so that a message
    /// which many read is written out once. There is room for one form; every caller must pass the same `write`.
    pub fn rendered(&self, write: impl FnOnce(&[Pair]) -> Vec<u8>) -> &[u8] {
        self.rendered.get_or_init(|| write(&self.pairs).into())
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

    fn names(page: &Page) -> (String, bool) {
        (page.pairs.iter().map(|pair| pair.key.as_str()).collect(), page.complete)
    }

    #[test]
    fn rule_3_9_a_page_ends_where_a_seq_ends() {
        let pairs = pairs(&[("a", 1), ("b", 1), ("c", 2), ("d", 2), ("e", 3)]);
        let page = |start, limit| names(&pairs.page(Seq::new(start).unwrap(), true, limit));
        assert_eq!(page(0, 5), ("abcde".into(), true));
        assert_eq!(page(0, 4), ("abcd".into(), false));
        assert_eq!(page(0, 3), ("ab".into(), false));
        // A Seq that alone holds more than a page goes whole.
        assert_eq!(page(0, 1), ("ab".into(), false));
        assert_eq!(page(3, 1), ("e".into(), true));
    }

    #[test]
    fn rule_3_9_a_page_without_the_flag_is_never_empty() {
        let pairs = pairs(&[("a", 7), ("b", 7), ("c", 7)]);
        assert_eq!(names(&pairs.page(Seq::NEVER, true, 2)), ("abc".into(), true));
    }

    #[test]
    fn rule_3_8_pairs_come_by_seq_then_key_and_tombstones_only_where_asked_for() {
        let mut pairs = pairs(&[("d", 2), ("c", 1), ("b", 2), ("a", 3)]);
        pairs.put(key("b"), Some(Entry::Deleted { seq: Seq::new(4).unwrap() }));
        assert_eq!(names(&pairs.page(Seq::NEVER, false, 9)).0, "cda");
        assert_eq!(names(&pairs.page(Seq::NEVER, true, 9)).0, "cdab");
    }

    #[test]
    fn the_first_page_is_made_once_until_something_changes() {
        let mut pairs = pairs(&[("a", 1), ("b", 2)]);
        let first = pairs.page(Seq::NEVER, false, 9);
        assert_eq!(first.rendered(|pairs| vec![u8::try_from(pairs.len()).unwrap()]), [2]);
        assert!(Arc::ptr_eq(&first, &pairs.page(Seq::NEVER, false, 9)));
        assert_eq!(
            names(&pairs.page(Seq::NEVER, false, 1)),
            ("a".into(), false),
            "another limit is honoured"
        );

        let before = pairs.clone();
        pairs.put(key("c"), Some(live(3)));
        let second = pairs.page(Seq::NEVER, false, 9);
        assert_eq!(names(&second), ("abc".into(), true));
        assert_eq!(second.rendered(|_| vec![7]), [7]);
        assert!(Arc::ptr_eq(&first, &before.page(Seq::NEVER, false, 9)), "a copy keeps what still holds");
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
