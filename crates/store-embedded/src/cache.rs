//! Rows in memory, bounded by bytes, shared by the writer and every reader.
//!
//! # Why an answer from memory is an answer of one instant
//!
//! Every entry carries `as_of`, the number of a batch. One promise holds at all times:
//!
//! > An entry's value is what its key held after batch `as_of`, and after every later batch that has been applied
//! > to the key.
//!
//! Two things write entries, both under the lock of the key's stripe:
//!
//! * The writer *applies* batch N once it is durable. For every key that the batch changed it stamps the key's slot
//!   with N and puts the new value in place, `as_of` N, or takes the entry away. Only when that is done for all of
//!   them does it set `published` to N.
//! * A reader that loaded a value from a snapshot of batch S *fills* it in, `as_of` S. It does so only if the
//!   slot's stamp is at most S. A later stamp says that the key, or another one of the same slot, has changed
//!   since, and the value may be stale. If the stamp comes after the fill, so does the writer's own value.
//!
//! Slots are far fewer than keys. Two keys that share one can only cost a fill that was not needed to be refused:
//! entries that are in place do not suffer from it.
//!
//! A reader first takes B, the published number, and then uses only entries with `as_of` up to B; any other counts
//! as missing. All batches up to B have been applied before B was published, so by the promise each entry that is
//! used holds the value after batch B, whether or not a later batch is being applied meanwhile. Hence all of them
//! together are the state after B, which is durable, and not older than anything that was answered before.
//! Whoever reads files takes the published number first, too, and a snapshot that shows no later batch: so all
//! answers, from here and from files, follow the one number, and nobody who has seen a batch sees the state before it.
//!
//! # Whole sets
//!
//! All pairs of a message may be kept as one entry, from which the writer learns that a key has no pair, too, and
//! readers a whole page at once. One begins where a reader loaded all of them, or with the first write to a set that
//! is known to be empty. The writer then changes it in place as it applies a batch: by the promise above a reader
//! who may not see that batch yet takes the entry for missing. A pair that is part of a whole set has no row of its
//! own here.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quick_cache::sync::{Cache as QuickCache, DefaultLifecycle, EntryAction, EntryResult};
use quick_cache::{Equivalent, Weighter};
use sidenote_core::extension::Key;
use sidenote_core::ids::{Incarnation, MessageName};
use sidenote_core::pairs::Pairs;
use sidenote_core::rows::{MessagePart, Missing, Part, Row, RowKey};

#[cfg(test)]
use crate::simulation::{Defect, is_broken, pause};
use crate::weight::{key_bytes, row_bytes};

/// How keys are hashed.
#[cfg(not(test))]
pub(crate) type Hashing = quick_cache::DefaultHashBuilder;

/// How keys are hashed: alike in every run, so that a simulation can be run again.
#[cfg(test)]
pub(crate) type Hashing = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

/// Rows that changed, by key; `None` is a row that was removed.
pub(crate) type Changes = HashMap<RowKey, Option<Row>, Hashing>;

/// A message of one life of a conversation.
pub(crate) type MessageId = (Incarnation, MessageName);

const STRIPES: usize = 1024;
const SLOTS_PER_STRIPE: usize = 64;

/// What an entry takes beside its key and rows.
const ENTRY_BYTES: usize = 96;

/// What an entry of a whole set takes in the list, beside its texts.
const PAIR_BYTES: usize = 112;

/// What it takes besides in the first page, once that was made: in the page itself, and written out.
const PAGE_PAIR_BYTES: usize = 112;

/// A first guess of how large entries are; the cache sizes its inner tables by it.
const USUAL_ENTRY_BYTES: u64 = 320;

#[derive(Clone, Debug, PartialEq, Eq)]
enum CacheKey {
    Row(RowKey),
    Pairs(MessageId),
}

impl Hash for CacheKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            // As a `Wanted` does.
            Self::Row(key) => key.hash(state),
            Self::Pairs(message) => message.hash(state),
        }
    }
}

/// A row's key while it is looked up, without a copy.
#[derive(Hash)]
struct Wanted<'a>(&'a RowKey);

impl Equivalent<CacheKey> for Wanted<'_> {
    fn equivalent(&self, key: &CacheKey) -> bool {
        matches!(key, CacheKey::Row(key) if key == self.0)
    }
}

#[derive(Clone)]
struct Entry {
    as_of: u64,
    bytes: u64,
    value: Value,
}

#[derive(Clone)]
enum Value {
    /// `None`: it is known that there is no such row.
    Row(Option<Row>),
    Pairs(Arc<Pairs>),
}

#[derive(Clone)]
struct Weight;

impl Weighter<CacheKey, Entry> for Weight {
    fn weight(&self, _: &CacheKey, entry: &Entry) -> u64 {
        entry.bytes
    }
}

/// A whole set in a reader's hands.
pub(crate) struct Lent {
    of: MessageId,
    pub(crate) pairs: Arc<Pairs>,
    /// What it is counted as.
    bytes: u64,
}

pub(crate) struct Cache {
    entries: QuickCache<CacheKey, Entry, Weight, Hashing>,
    stripes: Box<[Mutex<[u64; SLOTS_PER_STRIPE]>]>,
    slots: Hashing,
    published: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Cache {
    /// An empty cache of at most so many bytes, beside files that end with batch `published`.
    pub(crate) fn new(bytes: u64, published: u64) -> Self {
        let usual_entries = usize::try_from(bytes / USUAL_ENTRY_BYTES).unwrap_or(usize::MAX).max(1);
        let (hashing, lifecycle) = (Hashing::default(), DefaultLifecycle::default());
        Self {
            entries: QuickCache::with(usual_entries, bytes, Weight, hashing, lifecycle),
            stripes: (0..STRIPES).map(|_| Mutex::new([0; SLOTS_PER_STRIPE])).collect(),
            slots: Hashing::default(),
            published: AtomicU64::new(published),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// The last batch that readers may see.
    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// Whether rows under this key are kept at all. Events, debts and dead letters are read in ranges only.
    pub(crate) const fn keeps(key: &RowKey) -> bool {
        !matches!(key, RowKey::Event(..) | RowKey::Debt(_) | RowKey::DeadLetter(..))
    }

    /// A row as of batch `by`, which was published before; see the module's head.
    pub(crate) fn row(&self, key: &RowKey, by: u64) -> Result<Option<Row>, Missing> {
        if let Some((message, key)) = pair(key)
            && let Ok(pairs) = self.pairs(message, by)
        {
            return Ok(pairs.get(key).cloned().map(Row::Pair));
        }
        #[cfg(test)]
        pause();
        match self.entries.get(&Wanted(key)) {
            Some(Entry { as_of, value: Value::Row(row), .. }) if as_of <= by => Ok(row),
            _ => Err(Missing),
        }
    }

    /// All pairs of a message as of batch `by`.
    pub(crate) fn pairs(&self, of: MessageId, by: u64) -> Result<Arc<Pairs>, Missing> {
        self.lend_pairs(of, by).map(|lent| Arc::clone(&lent.pairs))
    }

    /// The same for a reader, who may have the set make its first page.
    pub(crate) fn lend_pairs(&self, of: MessageId, by: u64) -> Result<Lent, Missing> {
        #[cfg(test)]
        pause();
        match self.entries.get(&CacheKey::Pairs(of)) {
            Some(Entry { as_of, value: Value::Pairs(pairs), bytes }) if as_of <= by => {
                Ok(Lent { of, pairs, bytes })
            }
            _ => Err(Missing),
        }
    }

    /// Counts the memory of the first page of a set, if it was made while the set was lent. A set that nobody pulls
    /// has none, and then twice as many sets find room.
    pub(crate) fn take_back(&self, Lent { of, pairs, bytes }: Lent) {
        let (key, now) = (CacheKey::Pairs(of), set_bytes(&pairs));
        if now == bytes || !self.entries.contains_key(&key) {
            return;
        }
        // Under the lock of the stripe, as everything that changes an entry.
        let (stripe, _) = self.slot(&key);
        // As in `apply_pair`, a place that is empty by now is given back with the result.
        let result = self.entries.entry(&key, None, |_, kept| {
            if matches!(&kept.value, Value::Pairs(held) if Arc::ptr_eq(held, &pairs)) {
                kept.bytes = now;
            }
            EntryAction::Retain(())
        });
        drop(result);
        drop(stripe);
    }

    /// Keeps a row that was read from a snapshot of batch `as_of`, unless it may be stale.
    pub(crate) fn fill_row(&self, key: &RowKey, row: Option<Row>, as_of: u64) {
        if Self::keeps(key) {
            let bytes = entry_bytes(key, row.as_ref());
            self.fill(CacheKey::Row(key.clone()), Entry { as_of, bytes, value: Value::Row(row) });
        }
    }

    /// Keeps all pairs of a message, likewise.
    pub(crate) fn fill_pairs(&self, of: MessageId, pairs: Arc<Pairs>, as_of: u64) -> Lent {
        let bytes = set_bytes(&pairs);
        let entry = Entry { as_of, bytes, value: Value::Pairs(Arc::clone(&pairs)) };
        self.fill(CacheKey::Pairs(of), entry);
        Lent { of, pairs, bytes }
    }

    /// Applies a durable batch and publishes it. Only the writer calls this, batch by batch.
    pub(crate) fn publish(&self, number: u64, changes: &Changes) {
        // First the sets that begin with this batch, for their pairs are among the changes below.
        for key in changes.keys() {
            if let RowKey::Within(incarnation, Part::Message(message, MessagePart::Extension)) = key
                && self.is_known_to_be_empty(key)
            {
                let pairs = Arc::<Pairs>::default();
                let entry = Entry { as_of: number, bytes: set_bytes(&pairs), value: Value::Pairs(pairs) };
                self.apply(CacheKey::Pairs((*incarnation, *message)), Some(entry), number);
            }
        }
        for (key, row) in changes {
            #[cfg(test)]
            pause();
            let is_part_of_a_set =
                pair(key).is_some_and(|(of, key)| self.apply_pair(of, key, row.as_ref(), number));
            if is_part_of_a_set {
                self.apply(CacheKey::Row(key.clone()), None, number);
            } else if Self::keeps(key) {
                let bytes = entry_bytes(key, row.as_ref());
                let entry = Entry { as_of: number, bytes, value: Value::Row(row.clone()) };
                self.apply(CacheKey::Row(key.clone()), Some(entry), number);
            }
        }
        self.published.store(number, Ordering::Release);
    }

    /// Whether the row of a set's state, as the last batch left it, says that the set has neither pairs nor
    /// tombstones.
    fn is_known_to_be_empty(&self, state: &RowKey) -> bool {
        match self.entries.get(&Wanted(state)) {
            Some(Entry { value: Value::Row(None), .. }) => true,
            Some(Entry { value: Value::Row(Some(Row::Extension(state))), .. }) => {
                state.live == 0 && state.tombstones == 0
            }
            _ => false,
        }
    }

    /// Changes a pair of a set that is kept whole. False if it is not.
    fn apply_pair(&self, of: MessageId, key: &Key, row: Option<&Row>, number: u64) -> bool {
        let cache_key = CacheKey::Pairs(of);
        let (mut stripe, slot) = self.slot(&cache_key);
        stripe[slot] = number;
        if !self.entries.contains_key(&cache_key) {
            return false;
        }
        let entry = match row {
            Some(Row::Pair(entry)) => Some(entry.clone()),
            _ => None,
        };
        // An entry that was pushed out a moment ago leaves an empty place, which is given back with the result.
        let result = self.entries.entry(&cache_key, None, |_, kept| {
            if let Value::Pairs(pairs) = &mut kept.value {
                // Copies the list only while a reader holds it.
                Arc::make_mut(pairs).put(key.clone(), entry);
                kept.bytes = set_bytes(pairs);
                kept.as_of = number;
            }
            EntryAction::Retain(())
        });
        let is_kept = matches!(result, EntryResult::Retained(()));
        drop(result);
        drop(stripe);
        is_kept
    }

    /// Counts what an evaluation found and did not find in memory.
    pub(crate) fn count(&self, hits: u64, misses: u64) {
        self.hits.fetch_add(hits, Ordering::Relaxed);
        if misses > 0 {
            self.misses.fetch_add(misses, Ordering::Relaxed);
        }
    }

    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    pub(crate) fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.entries.weight()
    }

    fn fill(&self, key: CacheKey, entry: Entry) {
        let (stripe, slot) = self.slot(&key);
        let is_stale = stripe[slot] > entry.as_of;
        #[cfg(test)]
        let is_stale = is_stale && !is_broken(Defect::FillsWithStaleRows);
        if !is_stale {
            self.entries.insert(key, entry);
        }
        drop(stripe);
    }

    fn apply(&self, key: CacheKey, entry: Option<Entry>, number: u64) {
        let (mut stripe, slot) = self.slot(&key);
        stripe[slot] = number;
        match entry {
            // A row that is gone is worth remembering only where somebody knew it: reaping a large group would
            // otherwise push everything else out. The entry is taken away if it is not replaced.
            Some(Entry { value: Value::Row(None), .. }) if !self.entries.contains_key(&key) => {}
            Some(entry) => self.entries.insert(key, entry),
            None => drop(self.entries.remove(&key)),
        }
        drop(stripe);
    }

    fn slot(&self, key: &CacheKey) -> (MutexGuard<'_, [u64; SLOTS_PER_STRIPE]>, usize) {
        let [low, high, slot, ..] = self.slots.hash_one(key).to_le_bytes();
        let stripe = usize::from(u16::from_le_bytes([low, high])) % STRIPES;
        let slot = usize::from(slot) % SLOTS_PER_STRIPE;
        (self.stripes[stripe].lock().unwrap_or_else(PoisonError::into_inner), slot)
    }
}

fn entry_bytes(key: &RowKey, row: Option<&Row>) -> u64 {
    (ENTRY_BYTES + key_bytes(key) + row.map_or(0, row_bytes)) as u64
}

/// What a whole set takes: its entries and, if it was made, the page of them, as it is and as it is written out.
fn set_bytes(pairs: &Pairs) -> u64 {
    let list = 2 * ENTRY_BYTES + pairs.len() * PAIR_BYTES + pairs.text_bytes();
    let page = 4 * ENTRY_BYTES + pairs.len() * PAGE_PAIR_BYTES + pairs.text_bytes();
    (list + if pairs.keeps_first_page() { page } else { 0 }) as u64
}

/// The message and the key of a pair's row.
const fn pair(key: &RowKey) -> Option<(MessageId, &Key)> {
    match key {
        RowKey::Within(incarnation, Part::Message(message, MessagePart::Pair(key))) => {
            Some(((*incarnation, *message), key))
        }
        _ => None,
    }
}
