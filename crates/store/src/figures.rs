//! What an operator wants to see, counted where it happens.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::Statistics;

/// Upper bounds of batch sizes, in commands.
const SIZES: [u64; 12] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, u64::MAX];

/// Upper bounds of commit times, in microseconds. Syncs take from a tenth of a millisecond to seconds.
const MICROS: [u64; 14] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    u64::MAX,
];

/// Counts what a backend commits. One for each store.
#[derive(Debug, Default)]
pub struct Figures {
    commits: AtomicU64,
    commands: AtomicU64,
    sizes: [AtomicU64; SIZES.len()],
    times: [AtomicU64; MICROS.len()],
    time_total_micros: AtomicU64,
    fetches: AtomicU64,
    disk_bytes: AtomicU64,
}

impl Figures {
    /// A batch of so many commands was made durable in that time.
    pub fn committed(&self, commands: u64, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.commands.fetch_add(commands, Ordering::Relaxed);
        self.sizes[SIZES.partition_point(|bound| *bound < commands)].fetch_add(1, Ordering::Relaxed);
        self.times[MICROS.partition_point(|bound| *bound < micros)].fetch_add(1, Ordering::Relaxed);
        self.time_total_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// A command was sent to fetch rows.
    pub fn fetch(&self) {
        self.fetches.fetch_add(1, Ordering::Relaxed);
    }

    /// The files take so much room.
    pub fn disk_bytes(&self, bytes: u64) {
        self.disk_bytes.store(bytes, Ordering::Relaxed);
    }

    /// All of it; what is counted elsewhere is 0.
    pub fn read(&self) -> Statistics {
        let get = |it: &AtomicU64| it.load(Ordering::Relaxed);
        Statistics {
            commits: get(&self.commits),
            commands: get(&self.commands),
            batch_sizes: SIZES.into_iter().zip(self.sizes.iter().map(get)).collect(),
            commit_times: MICROS
                .into_iter()
                .map(|bound| if bound == u64::MAX { Duration::MAX } else { Duration::from_micros(bound) })
                .zip(self.times.iter().map(get))
                .collect(),
            commit_time_total: Duration::from_micros(get(&self.time_total_micros)),
            fetches: get(&self.fetches),
            disk_bytes: get(&self.disk_bytes),
            ..Statistics::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_batch_falls_under_the_first_bound_that_holds_it() {
        let figures = Figures::default();
        for (commands, millis) in [(1, 1), (2, 2), (3, 3), (256, 100_000), (5000, 1)] {
            figures.committed(commands, Duration::from_millis(millis));
        }
        let read = figures.read();
        let sizes: Vec<_> = read.batch_sizes.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(sizes, [(1, 1), (2, 1), (4, 1), (256, 1), (u64::MAX, 1)]);
        let times: Vec<_> = read.commit_times.into_iter().filter(|(_, count)| *count > 0).collect();
        let millis = |millis, count| (Duration::from_micros(millis), count);
        assert_eq!(times, [millis(1000, 2), millis(2500, 1), millis(5000, 1), (Duration::MAX, 1)]);
        assert_eq!((read.commits, read.commands), (5, 5262));
        assert_eq!(read.commit_time_total, Duration::from_millis(100_007));
    }
}
