//! What was answered survives the death of the process; `sidenote-torture` does the same for as long as one likes.

use sidenote_torture::crash::{Plan, first_starts, run};

/// As `sidenote-torture crash --seed` takes it. A failing test prints it.
fn seed() -> u64 {
    let seed = rand::random();
    println!("seed {seed}");
    seed
}

/// Twenty rounds of load, failure and start, on two folders.
fn ten_rounds() {
    let plan = Plan { seed: seed(), rounds: 10, power: false };
    println!("sidenote-torture crash --seed {} --rounds {}", plan.seed, plan.rounds);
    let tally = run(plan, &mut |line| println!("{line}"));
    assert_eq!(tally.rounds, plan.rounds);
    assert!(tally.answered > 0 && tally.open > 0 && tally.events > 0, "{tally:?}");
}

#[test]
fn what_was_answered_survives_ten_failures_under_load() {
    ten_rounds();
}

#[test]
fn what_was_answered_survives_ten_more() {
    ten_rounds();
}

#[test]
fn a_first_start_that_was_killed_is_no_obstacle_to_the_next() {
    first_starts(seed(), 6);
}
