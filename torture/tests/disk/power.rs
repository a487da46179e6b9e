//! What was answered, and what was shown, survives a loss of power.

use sidenote_torture::disk::{Call, Errno, Rule};
use sidenote_torture::{crash, linear};

use crate::bench::{ALL_THAT_WAS_NOT_SYNCED, Bench, NOTHING};

#[test]
fn what_was_answered_is_on_the_disk() {
    let mut bench = Bench::furnished();
    let administrator = bench.administrator();
    for _ in 0..20 {
        assert_eq!(bench.set(&administrator), Some(0));
    }
    let lost = bench.lose_power(&ALL_THAT_WAS_NOT_SYNCED);
    // The witness, for one, is never synced.
    assert!(lost.writes > 0, "{lost:?}");
    bench.server.restart();
    bench.verify().unwrap();
}

#[test]
fn a_disk_that_lies_about_syncs_is_found_out() {
    let mut bench = Bench::furnished();
    bench.disk.set_rules(&[Rule::on(&[Call::Sync], "*.jnl").lies()]);
    let administrator = bench.administrator();
    for _ in 0..20 {
        assert_eq!(bench.set(&administrator), Some(0));
    }
    assert!(bench.disk.fired(0) >= 20);
    bench.lose_power(&ALL_THAT_WAS_NOT_SYNCED);
    bench.server.restart();
    bench.verify().unwrap_err();
}

#[test]
fn what_was_read_after_a_kill_survives_a_loss_of_power() {
    let mut bench = Bench::furnished();
    // The batch is in the journal and whole, but not synced.
    bench.disk.set_rules(&[Rule::on(&[Call::Sync], "*.jnl").skip(3).kills_before()]);
    bench.set_until_it_dies();
    assert_eq!(bench.disk.fired(0), 1);
    bench.disk.set_rules(&[]);
    bench.server.restart();
    let read = bench.pairs();
    bench.verify().unwrap();
    bench.lose_power(&ALL_THAT_WAS_NOT_SYNCED);
    bench.server.restart();
    assert_eq!(bench.pairs(), read);
}

/// Linux takes pages whose sync failed for clean: the memory of the system shows them for as long as it likes, and no
/// later sync writes them.
#[test]
fn what_a_failed_sync_left_in_memory_is_on_the_disk_once_it_is_shown() {
    let mut bench = Bench::furnished();
    let administrator = bench.administrator();
    bench.disk.set_rules(&[Rule::on(&[Call::Sync], "*.jnl").skip(3).count(1).fails(Errno::Io)]);
    while bench.set_much(&administrator) == Some(0) {}
    bench.kill();
    bench.server.restart();
    bench.verify().unwrap();
    // It reads on its own, and carries what is answered afterwards.
    let shown = bench.pairs();
    bench.lose_power(&ALL_THAT_WAS_NOT_SYNCED);
    bench.server.restart();
    assert_eq!(bench.pairs(), shown);
    let administrator = bench.administrator();
    assert_eq!(bench.set(&administrator), Some(0));
    bench.lose_power(&ALL_THAT_WAS_NOT_SYNCED);
    bench.server.restart();
    bench.verify().unwrap();
}

#[test]
fn a_store_is_whole_from_its_first_answer_on() {
    let mut bench = Bench::furnished();
    bench.lose_power(&ALL_THAT_WAS_NOT_SYNCED);
    bench.server.restart();
    bench.verify().unwrap();
    let administrator = bench.administrator();
    assert_eq!(bench.set(&administrator), Some(0));
}

#[test]
fn a_new_journal_that_a_kill_left_nameless_is_named_at_the_next_start() {
    let mut bench = Bench::furnished();
    // A journal is rotated: the new one is there, and what the folder says of it is not synced.
    bench.disk.set_rules(&[Rule::on(&[Call::Sync], "data/engine").kills_before()]);
    bench.set_until_it_dies();
    bench.disk.set_rules(&[]);
    bench.server.restart();
    bench.verify().unwrap();
    let administrator = bench.administrator();
    for _ in 0..5 {
        assert_eq!(bench.set(&administrator), Some(0));
    }
    bench.lose_power(&ALL_THAT_WAS_NOT_SYNCED);
    bench.server.restart();
    bench.verify().unwrap();
}

#[test]
fn a_kill_alone_loses_nothing_in_this_model() {
    let mut bench = Bench::furnished();
    let administrator = bench.administrator();
    for _ in 0..5 {
        assert_eq!(bench.set(&administrator), Some(0));
    }
    let lost = bench.lose_power(&NOTHING);
    assert_eq!((lost.writes, lost.names), (0, 0));
    bench.server.restart();
    bench.verify().unwrap();
}

/// Rounds of load, each ended at a named point or after some answers, with a loss of power and sometimes more of both
/// during the starts that follow.
fn rounds() {
    let plan = crash::Plan { seed: rand::random(), rounds: 8, power: true };
    println!("sidenote-torture power --seed {} --rounds {}", plan.seed, plan.rounds);
    let tally = crash::run(plan, &mut |line| println!("{line}"));
    assert!(tally.answered > 0 && tally.lost > 0, "{tally:?}");
}

#[test]
fn what_was_answered_under_load_survives_eight_losses_of_power() {
    rounds();
}

#[test]
fn what_was_answered_under_load_survives_eight_more() {
    rounds();
}

#[test]
fn histories_that_end_with_a_loss_of_power_are_linearizable() {
    let plan = linear::Plan { seed: rand::random(), rounds: 8, power: true };
    println!("sidenote-torture linear-power --seed {} --rounds {}", plan.seed, plan.rounds);
    let tally = linear::run(plan, &mut |line| println!("{line}"));
    assert!(tally.answered > 0 && tally.open > 0, "{tally:?}");
}
