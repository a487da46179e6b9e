//! Of all that sixteen members do at once there is one order, also where the server dies in between;
//! `sidenote-torture` does the same for as long as one likes.

use sidenote_torture::linear::{Plan, run};

#[test]
fn histories_that_end_with_kill_9_are_linearizable() {
    let plan = Plan { seed: rand::random(), rounds: 12, power: false };
    println!("sidenote-torture linear --seed {} --rounds {}", plan.seed, plan.rounds);
    let tally = run(plan, &mut |line| println!("{line}"));
    assert_eq!(tally.rounds, plan.rounds);
    assert!(tally.answered > 0 && tally.open > 0, "{tally:?}");
}
