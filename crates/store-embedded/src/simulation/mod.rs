//! A simulation of the store: real code from the front to the engine's door, with neither threads nor files, and
//! every decision taken from one seed.
//!
//! Whoever is a thread in production (the writer, the readers) or a task (clients, somebody who closes the store) is
//! here somebody whom `world` lets make a step. While one is in the midst of a step, at every look into memory and
//! at every call of the engine, others may go on. The seed also decides which commits and reads fail, when the
//! machine crashes and what is left then, how large memory and queues are, and who goes away without waiting for
//! the answer. `judge` knows what everybody may be told.
//!
//! What it cannot show: what happens within the real engine, whose threads follow no seed (tests with real files
//! and crashes are there for that); races inside of a lock or between two instructions, for a step pauses at the
//! named places only; and two steps that overlap without one lying within the other.
//!
//! `SIDENOTE_SIMULATION_SEEDS` says how many seeds are run, `SIDENOTE_SIMULATION_SEED` names one to run again.

mod engine;
mod judge;
mod random;
mod workload;
mod world;

pub(crate) use world::{is_broken, pause};

/// What can be broken on purpose, to see that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// The writer answers before it commits.
    AnswersBeforeCommit,
    /// The writer shows a batch before it commits it.
    ShowsBeforeCommit,
    /// Memory takes rows that were read before they changed.
    FillsWithStaleRows,
    /// Readers of memory take rows of batches that are being applied.
    TakesRowsTooEarly,
    /// Readers read files as of a batch that memory does not show yet.
    ReadsUnshownFiles,
    /// The writer decides without what the batch holds already.
    IgnoresStagedChanges,
    /// The writer takes what was fetched for what is.
    IgnoresRecentChanges,
}

const SEEDS: u64 = 50;

fn seeds() -> u64 {
    let given = std::env::var_os("SIDENOTE_SIMULATION_SEEDS");
    given.map_or(SEEDS, |count| {
        count.to_str().and_then(|count| count.parse().ok()).expect("a number of seeds")
    })
}

#[test]
fn nobody_is_told_what_is_not_so() {
    if let Some(seed) = std::env::var_os("SIDENOTE_SIMULATION_SEED") {
        let seed = seed.to_str().and_then(|seed| seed.parse().ok()).expect("the number of a seed");
        let run = world::run(seed, None);
        println!("{}", run.story.join("\n"));
        assert_eq!(run.wrong, None);
        return;
    }
    for seed in 0..seeds() {
        if let Some(wrong) = world::run(seed, None).wrong {
            panic!(
                "seed {seed}: {wrong}\n\nto see it again:\nSIDENOTE_SIMULATION_SEED={seed} \
                 cargo test -p sidenote-store-embedded --lib simulation::nobody -- --nocapture\n"
            );
        }
    }
}

#[test]
fn a_seed_is_the_same_story_each_time() {
    for seed in 0..3 {
        assert_eq!(world::run(seed, None).story, world::run(seed, None).story);
    }
}

#[test]
fn seeds_meet_everything_that_they_are_for() {
    let stories: Vec<_> = (0..SEEDS).map(|seed| world::run(seed, None).story).collect();
    for what in [
        "crash",
        "crash, and the batch that failed is there",
        "close",
        "a commit fails before",
        "a commit fails after",
        "a read fails",
        "fetch",
        "cold",
        "goes away",
        "poisoned",
        "told Ok(Sent(Sent { name: Some(Key(",
        "told Ok(Settled",
        "cold DirectPull",
        "cold DirectHistory",
        "told DirectPull(Ok(",
        "told DirectPull(Err(NoSuchMessage",
        "told DeadLetters([DeadLetterAt",
    ] {
        let count = stories.iter().flatten().filter(|line| line.contains(what)).count();
        assert!(count >= 3, "{what} came {count} times");
    }
}

#[test]
fn every_defect_is_noticed() {
    for defect in [
        Defect::AnswersBeforeCommit,
        Defect::ShowsBeforeCommit,
        Defect::FillsWithStaleRows,
        Defect::TakesRowsTooEarly,
        Defect::ReadsUnshownFiles,
        Defect::IgnoresStagedChanges,
        Defect::IgnoresRecentChanges,
    ] {
        let noticed = (0..SEEDS).find(|seed| world::run(*seed, Some(defect)).wrong.is_some());
        assert!(noticed.is_some(), "{defect:?} was not noticed within {SEEDS} seeds");
    }
}
