//! What the disk can do by itself, and making it do it: figures of the product are judged against these.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::{Advice, fadvise, statvfs};
use serde::Serialize;

use crate::load::{micros, now};

/// Appends and reads of each probe.
const SYNCS: usize = 1000;
const READS: u64 = 500;

/// A block that is appended and synced; a batch of the product is about as large.
const BLOCK: usize = 8 * 1024;

/// Size of the file that is read at random.
const FILE_BYTES: usize = 256 * 1024 * 1024;

/// What one thread gets from the disk.
#[derive(Clone, Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "in the records each figure names its unit")]
pub(crate) struct Disk {
    /// Appending 8 KiB and syncing it: median and 99th percentile, in microseconds.
    pub(crate) sync_p50_us: u64,
    pub(crate) sync_p99_us: u64,
    /// Reading 4 KiB that no cache of this machine holds, likewise.
    pub(crate) read_p50_us: u64,
    pub(crate) read_p99_us: u64,
}

/// Measures a disk by a file in `folder`.
pub(crate) fn probe(folder: &Path) -> Result<Disk> {
    let path = folder.join("probe");
    let failed = |what| move || format!("{what} {}", folder.display());
    let mut file = File::create(&path).with_context(failed("cannot create a file in"))?;
    let block = vec![7; BLOCK];
    let mut syncs = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begin = now();
        file.write_all(&block).and_then(|()| file.sync_data()).with_context(failed("cannot write to"))?;
        syncs.push(begin.elapsed());
    }
    let mut random = fastrand::Rng::with_seed(1);
    let mut chunk = vec![0; 1024 * 1024];
    for _ in 0..FILE_BYTES / chunk.len() {
        // Random bytes, so that nothing below can compress or recognise them.
        random.fill(&mut chunk);
        file.write_all(&chunk).with_context(failed("cannot write to"))?;
    }
    forget(&file).with_context(failed("cannot sync to"))?;
    drop(file);
    let file = File::open(&path).with_context(failed("cannot read from"))?;
    // Otherwise a read fetches its neighbours too, and the probe would find the cache that it means to avoid.
    fadvise(&file, 0, None, Advice::Random).with_context(failed("cannot advise the system on"))?;
    let mut reads = Vec::new();
    let mut page = [0; 4096];
    for _ in 0..READS {
        let offset = random.u64(0..FILE_BYTES as u64 / 4096) * 4096;
        let begin = now();
        file.read_exact_at(&mut page, offset).with_context(failed("cannot read from"))?;
        reads.push(begin.elapsed());
    }
    fs::remove_file(&path).with_context(failed("cannot remove a file from"))?;
    let ((sync_p50_us, sync_p99_us), (read_p50_us, read_p99_us)) = (quantiles(syncs), quantiles(reads));
    Ok(Disk { sync_p50_us, sync_p99_us, read_p50_us, read_p99_us })
}

fn quantiles(mut times: Vec<Duration>) -> (u64, u64) {
    times.sort();
    (micros(times[times.len() / 2]), micros(times[times.len() * 99 / 100]))
}

/// Drops from the memory of this machine what it holds of the files in a folder, so that the next read of each part
/// goes to the disk. This needs no privilege. What lies below this machine may still have a cache of its own.
pub(crate) fn evict(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        if path.is_dir() {
            evict(&path)?;
            continue;
        }
        // The store may remove a file under our hands; then there is nothing left to drop.
        if let Ok(file) = OpenOptions::new().read(true).open(&path) {
            forget(&file).with_context(|| format!("cannot sync {}", path.display()))?;
        }
    }
    Ok(())
}

/// Only pages that are on disk can be dropped, so the file is synced first.
fn forget(file: &File) -> Result<()> {
    file.sync_data().context("a sync failed")?;
    fadvise(file, 0, None, Advice::DontNeed).context("the system takes no advice")
}

/// An error unless the disk of a folder has room for so many bytes.
pub(crate) fn require_room(folder: &Path, bytes: u64) -> Result<()> {
    let disk = statvfs(folder).with_context(|| format!("cannot look at the disk of {}", folder.display()))?;
    let room = disk.f_bavail.saturating_mul(disk.f_frsize);
    if room < bytes {
        let (needed, room) = (bytes.div_ceil(1 << 30), room >> 30);
        bail!(
            "the disk of {} has room for {room} GiB, but {needed} are needed; set BENCH_DIR, or BENCH_STORED to less",
            folder.display()
        );
    }
    Ok(())
}

/// What the files of a folder take.
pub(crate) fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        bytes += if path.is_dir() {
            folder_bytes(&path)?
        } else {
            fs::metadata(&path).map_or(0, |metadata| metadata.len())
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_measured_and_evicted_with_what_is_below() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("below")).unwrap();
        fs::write(folder.path().join("a"), [1; 1000]).unwrap();
        fs::write(folder.path().join("below/b"), [1; 2000]).unwrap();
        assert_eq!(folder_bytes(folder.path()).unwrap(), 3000);
        evict(folder.path()).unwrap();
        assert_eq!(fs::read(folder.path().join("below/b")).unwrap(), [1; 2000]);
        evict(&folder.path().join("nowhere")).unwrap_err();
    }

    #[test]
    fn too_little_room_is_told_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        require_room(folder.path(), 1).unwrap();
        let error = require_room(folder.path(), u64::MAX).unwrap_err().to_string();
        assert!(error.contains("BENCH_DIR"), "{error}");
    }

    #[test]
    fn the_median_is_below_the_last_percent() {
        let times = (1..=100).rev().map(Duration::from_micros).collect();
        assert_eq!(quantiles(times), (51, 100));
    }
}
