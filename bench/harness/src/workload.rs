//! What is asked for, in terms that every server understands: sets and pulls of numbered messages.
//!
//! A set is a compare-and-set, so whoever sends it has to know the version of each pair that it names. The slots
//! of a range are dealt out to the connections, and a connection has one request in flight. So no two requests
//! race for a pair, every comparison holds, and a refusal is always a fault.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Keys of an ordinary message.
pub(crate) const KEYS: u32 = 20;

/// Pairs that one request may name (rule 3.7).
pub(crate) const PAIRS_PER_SET: u32 = 20;

/// Some messages of the data, with what they hold at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Range {
    /// The first of them.
    pub(crate) first: u64,
    /// How many there are.
    pub(crate) messages: u64,
    /// Pairs that each carries at the start, with the keys 0 and up, stored 20 at a time.
    pub(crate) stored_pairs: u32,
    /// Keys that a set chooses from. `None`: one for each message, its number modulo [`KEYS`], so that the
    /// versions of ten million messages fit into memory.
    pub(crate) keys: Option<u32>,
}

impl Range {
    /// What can be set independently when a request sets `pairs` pairs: groups of neighbouring keys.
    fn slots(&self, pairs: u32) -> u64 {
        self.messages * u64::from(self.keys.map_or(1, |keys| keys / pairs))
    }

    fn slot(&self, slot: u64, pairs: u32) -> (u64, u32) {
        let Some(keys) = self.keys else {
            let message = self.first + slot;
            return (message, narrow(message % u64::from(KEYS)));
        };
        let groups = u64::from(keys / pairs);
        (self.first + slot / groups, narrow(slot % groups) * pairs)
    }
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// What it does.
    pub(crate) action: Action,
    /// To which message.
    pub(crate) message: u64,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Sets the pairs of `keys..keys + pairs`.
    Set {
        /// The first key.
        key: u32,
        /// How many pairs.
        pairs: u32,
        /// Whether each is set only if it has the version that the sender knows.
        compares: bool,
    },
    /// Asks for all pairs; `pairs` are there, or as many as a page holds.
    Pull {
        /// Pairs that the message holds.
        pairs: u32,
    },
}

/// How requests are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Workload {
    /// From which messages.
    pub(crate) range: Range,
    /// What they do.
    pub(crate) mix: Mix,
}

/// What the requests of a workload do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mix {
    /// Compare-and-sets of so many pairs, on a random slot.
    Sets(u32),
    /// Pulls of random messages.
    Pulls,
    /// Nine pulls for each set of one pair, messages chosen by a Zipf law with exponent 0.99. Popular messages
    /// are written through many connections at once, so these sets do not compare.
    Zipf,
    /// Each message of the range once, in turn: a compare-and-set of its first pairs. Fills a reference.
    FillOnce(u32),
}

/// What one connection draws its requests from.
pub(crate) struct Source {
    workload: Workload,
    random: fastrand::Rng,
    zipf: Option<Arc<Zipf>>,
    connection: u64,
    connections: u64,
    drawn: u64,
}

impl Source {
    /// For one of `connections`; the same seed gives the same requests.
    pub(crate) fn new(
        workload: Workload,
        zipf: Option<Arc<Zipf>>,
        connection: u64,
        connections: u64,
        seed: u64,
    ) -> Self {
        let random = fastrand::Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ connection);
        Self { workload, random, zipf, connection, connections, drawn: 0 }
    }

    /// The next request; `None` when a fill is done.
    pub(crate) fn draw(&mut self) -> Option<Request> {
        let range = self.workload.range;
        Some(match self.workload.mix {
            Mix::Sets(pairs) => {
                let slot = self.own_slot(range.slots(pairs))?;
                let (message, key) = range.slot(slot, pairs);
                Request { action: Action::Set { key, pairs, compares: true }, message }
            }
            Mix::Pulls => {
                let message = range.first + self.random.u64(0..range.messages);
                Request { action: Action::Pull { pairs: range.stored_pairs }, message }
            }
            Mix::Zipf => {
                let rank = self.zipf.as_ref().map_or(0, |zipf| zipf.rank(self.random.f64()));
                // Neighbours in rank should not be neighbours on disk; a prime step visits every message once.
                let message = range.first + rank * 7919 % range.messages;
                let action = if self.random.u32(0..10) == 0 {
                    Action::Set { key: self.random.u32(0..range.stored_pairs), pairs: 1, compares: false }
                } else {
                    Action::Pull { pairs: range.stored_pairs }
                };
                Request { action, message }
            }
            Mix::FillOnce(pairs) => {
                let offset = self.connection + self.drawn * self.connections;
                self.drawn += 1;
                if offset >= range.messages {
                    return None;
                }
                Request {
                    action: Action::Set { key: 0, pairs, compares: true },
                    message: range.first + offset,
                }
            }
        })
    }

    /// A random slot of those that are this connection's alone: congruent to its number.
    fn own_slot(&mut self, slots: u64) -> Option<u64> {
        let own = slots.saturating_sub(self.connection).div_ceil(self.connections);
        (own > 0).then(|| self.connection + self.random.u64(0..own) * self.connections)
    }

    /// A number below `bound` for what does not matter to the meaning, such as the choice of a value.
    pub(crate) fn any(&mut self, bound: usize) -> usize {
        self.random.usize(0..bound)
    }
}

/// Whether every connection has at least one slot of its own.
pub(crate) fn enough_slots(workload: &Workload, connections: u32) -> bool {
    match workload.mix {
        Mix::Sets(pairs) => workload.range.slots(pairs) >= u64::from(connections),
        _ => true,
    }
}

/// Ranks with probabilities falling as a power of the rank, from a table made beforehand.
pub(crate) struct Zipf(Vec<f64>);

impl Zipf {
    const EXPONENT: f64 = 0.99;

    /// For ranks 0 to `ranks` - 1.
    pub(crate) fn new(ranks: u64) -> Self {
        let mut sum = 0.0;
        let mut cumulated: Vec<f64> = (1..=ranks)
            .map(|rank| {
                sum += float(rank).powf(-Self::EXPONENT);
                sum
            })
            .collect();
        for value in &mut cumulated {
            *value /= sum;
        }
        Self(cumulated)
    }

    /// The rank for a uniform number from 0 up to, not including, 1.
    fn rank(&self, uniform: f64) -> u64 {
        let last = self.0.len().saturating_sub(1);
        self.0.partition_point(|bound| *bound <= uniform).min(last) as u64
    }
}

/// The version of each pair of a range, as one server last told it.
pub(crate) struct Versions {
    range: Range,
    versions: Vec<AtomicU32>,
}

impl Versions {
    /// As they are after the data were stored, 20 pairs a request, each request one version further.
    pub(crate) fn stored(range: Range) -> Self {
        Self::from_keys(range, |key| if key < range.stored_pairs { key / PAIRS_PER_SET + 1 } else { 0 })
    }

    /// Of a server that holds nothing yet.
    pub(crate) fn none(range: Range) -> Self {
        Self::from_keys(range, |_| 0)
    }

    fn from_keys(range: Range, version: impl Fn(u32) -> u32) -> Self {
        let keys = range.keys.unwrap_or(1);
        let versions =
            (0..range.messages).flat_map(|_| (0..keys).map(|key| AtomicU32::new(version(key)))).collect();
        Self { range, versions }
    }

    /// The messages and keys that this is about.
    pub(crate) fn range(&self) -> Range {
        self.range
    }

    /// Copies what is known of the same messages before there were more of them.
    pub(crate) fn take_over(&self, earlier: &Self) {
        for (version, known) in self.versions.iter().zip(&earlier.versions) {
            version.store(known.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// The version of a pair of one of the range's messages.
    pub(crate) fn of(&self, message: u64, key: u32) -> u32 {
        self.versions[self.index(message, key)].load(Ordering::Relaxed)
    }

    /// Remembers what an answer told.
    pub(crate) fn learn(&self, message: u64, key: u32, version: u32) {
        self.versions[self.index(message, key)].store(version, Ordering::Relaxed);
    }

    fn index(&self, message: u64, key: u32) -> usize {
        let offset = message - self.range.first;
        let slot = self.range.keys.map_or(offset, |keys| offset * u64::from(keys) + u64::from(key));
        usize::try_from(slot).expect("the table was allocated, so its indexes fit")
    }
}

fn narrow(small: u64) -> u32 {
    u32::try_from(small).expect("numbers of keys are small")
}

/// A count as a floating-point number, for figures.
#[expect(clippy::cast_precision_loss, reason = "counts of one benchmark are far below 2^52")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    const RANGE: Range = Range { first: 100, messages: 50, stored_pairs: 20, keys: Some(KEYS) };

    fn sources(mix: Mix, range: Range, connections: u64) -> Vec<Source> {
        let zipf = (mix == Mix::Zipf).then(|| Arc::new(Zipf::new(range.messages)));
        (0..connections)
            .map(|number| Source::new(Workload { range, mix }, zipf.clone(), number, connections, 1))
            .collect()
    }

    #[test]
    fn no_two_connections_ever_set_the_same_pair() {
        for pairs in [1, 3] {
            let mut owner = HashMap::new();
            for (number, source) in sources(Mix::Sets(pairs), RANGE, 64).iter_mut().enumerate() {
                for _ in 0..500 {
                    let request = source.draw().unwrap();
                    let Action::Set { key, pairs: count, compares: true } = request.action else { panic!() };
                    assert_eq!(count, pairs);
                    assert!((100..150).contains(&request.message) && key + count <= KEYS);
                    for key in key..key + count {
                        assert_eq!(*owner.entry((request.message, key)).or_insert(number), number);
                    }
                }
            }
            assert!(owner.len() > 800, "the pairs are spread: {}", owner.len());
        }
    }

    #[test]
    fn with_one_key_a_message_the_key_follows_from_the_number() {
        let range = Range { keys: None, ..RANGE };
        let request = sources(Mix::Sets(1), range, 7)[3].draw().unwrap();
        let Action::Set { key, .. } = request.action else { panic!() };
        assert_eq!(u64::from(key), request.message % 20);
        let versions = Versions::stored(range);
        assert_eq!(versions.of(request.message, key), 1);
    }

    #[test]
    fn a_fill_names_each_message_once_and_ends() {
        let mut seen = HashSet::new();
        for source in &mut sources(Mix::FillOnce(20), RANGE, 8) {
            while let Some(request) = source.draw() {
                assert!(seen.insert(request.message));
            }
        }
        assert_eq!(seen.len(), 50);
    }

    #[test]
    fn a_tenth_of_the_mix_sets_and_the_first_rank_is_the_most_popular() {
        let source = &mut sources(Mix::Zipf, RANGE, 1)[0];
        let (mut sets, mut counts) = (0, HashMap::new());
        for _ in 0..10_000 {
            let request = source.draw().unwrap();
            sets += u32::from(matches!(request.action, Action::Set { compares: false, .. }));
            *counts.entry(request.message).or_insert(0) += 1;
        }
        assert!((900..1100).contains(&sets), "{sets}");
        assert_eq!(counts.len(), 50);
        let most = counts.iter().max_by_key(|(_, count)| **count).unwrap();
        assert_eq!(*most.0, 100);
        // 1 / (1 + 2^-0.99 + ... + 50^-0.99) is 0.22.
        assert!((2000..2450).contains(most.1), "{most:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_requests() {
        let draw = || sources(Mix::Sets(1), RANGE, 2)[1].draw();
        assert_eq!(draw(), draw());
    }

    #[test]
    fn versions_start_where_the_stored_data_left_them() {
        let wide = Range { first: 1, messages: 2, stored_pairs: 300, keys: Some(300) };
        let versions = Versions::stored(wide);
        assert_eq!(
            (versions.of(2, 0), versions.of(2, 19), versions.of(2, 20), versions.of(1, 299)),
            (1, 1, 2, 15)
        );
        versions.learn(2, 299, 77);
        assert_eq!((versions.of(2, 299), versions.of(2, 298)), (77, 15));
        assert_eq!(Versions::none(wide).of(1, 5), 0);
        let grown = Versions::stored(Range { messages: 3, ..wide });
        grown.take_over(&versions);
        assert_eq!((grown.of(2, 299), grown.of(2, 298), grown.of(3, 299)), (77, 15, 15));
    }

    #[test]
    fn too_few_slots_are_noticed() {
        let one = Range { first: 1, messages: 1, stored_pairs: 0, keys: Some(10) };
        let workload = Workload { range: one, mix: Mix::Sets(1) };
        assert!(enough_slots(&workload, 10));
        assert!(!enough_slots(&workload, 11));
    }
}
