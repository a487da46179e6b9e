//! A disk that is full, read-only or broken: the server stops acknowledging at once and says why, goes on showing
//! what was answered, has lost nothing, and serves again after a restart with the fault gone.

use sidenote_torture::disk::{CHANGES, Call, Errno, NEEDS_SPACE, Rule};
use sidenote_torture::server::PATIENCE;
use tokio::time::Instant;

use crate::bench::{ALL_THAT_WAS_NOT_SYNCED, Bench};

/// Writes until the fault has been met, and looks at everything that is promised then.
fn meet(what: &str, rule: Rule) {
    let mut bench = Bench::furnished();
    bench.disk.set_rules(&[rule]);
    let administrator = bench.administrator();
    let begun = Instant::now();
    let code = loop {
        match bench.set_much(&administrator).expect("the server lives") {
            0 => assert!(begun.elapsed() < PATIENCE, "{what}: the fault is never met"),
            code => break code,
        }
    };
    assert!(bench.disk.fired(0) > 0, "{what}");
    assert_eq!(code, 10_002, "{what}");
    stopped(&mut bench, what);

    // The fault goes away by itself, which is no reason to trust the files that are open.
    bench.disk.set_rules(&[]);
    stopped(&mut bench, what);

    bench.kill();
    recovers(bench, what);
}

/// Nothing is written any more, and the server says so; what was answered is shown.
fn stopped(bench: &mut Bench, what: &str) {
    let administrator = bench.administrator();
    let acknowledged = bench.acknowledged().clone();
    assert_eq!(bench.set(&administrator), Some(10_002), "{what}");
    assert_eq!(bench.pairs(), acknowledged, "{what}");
    let ready = bench.ready();
    assert!(ready.starts_with("HTTP/1.1 503 "), "{what}: {ready}");
    assert!(ready.contains("the store takes no more writes since one failed: "), "{what}: {ready}");
    assert!(ready.contains("restart the server once the cause is gone"), "{what}: {ready}");
    let log = bench.server.log();
    let told =
        |line: &&str| line.contains("ERROR") && line.contains("restart the server once the cause is gone");
    assert!(log.lines().any(|line| told(&line)), "{what}:\n{log}");
    assert!(!log.contains("panicked"), "{what}:\n{log}");
}

/// All is there after a restart, and is still there if the power is lost right after it.
fn recovers(mut bench: Bench, what: &str) {
    bench.server.restart();
    bench.verify().unwrap_or_else(|objection| panic!("{what}: {objection}"));
    let shown = bench.pairs();
    bench.lose_power(&ALL_THAT_WAS_NOT_SYNCED);
    bench.server.restart();
    assert_eq!(bench.pairs(), shown, "{what}");
    let administrator = bench.administrator();
    assert_eq!(bench.set(&administrator), Some(0), "{what}");
    assert!(bench.ready().starts_with("HTTP/1.1 200 "), "{what}");
    bench.verify().unwrap();
}

#[test]
fn the_journal_cannot_be_written() {
    let journal = |call: Call| Rule::on(&[call], "*.jnl").skip(9);
    meet("full", Rule::on(NEEDS_SPACE, "data/*").skip(9).falls_short(Errno::NoSpace));
    meet("broken", journal(Call::Write).fails(Errno::Io));
    meet("broken once", journal(Call::Write).count(1).fails(Errno::Io));
    meet("read-only", Rule::on(CHANGES, "data/*").skip(9).fails(Errno::ReadOnly));
}

#[test]
fn the_journal_cannot_be_synced() {
    let journal = |call: Call| Rule::on(&[call], "*.jnl").skip(9);
    meet("broken", journal(Call::Sync).fails(Errno::Io));
    meet("broken once", journal(Call::Sync).count(1).fails(Errno::Io));
    meet("full", journal(Call::Sync).fails(Errno::NoSpace));
}

#[test]
fn the_witness_cannot_be_written() {
    meet("broken", Rule::on(&[Call::Write], "*/witness").skip(9).count(1).fails(Errno::Io));
    meet("full", Rule::on(&[Call::Write], "*/witness").skip(9).falls_short(Errno::NoSpace));
}

#[test]
fn a_new_journal_cannot_be_made() {
    meet("full", Rule::on(&[Call::Create], "*.jnl").fails(Errno::NoSpace));
    meet("no space for its bytes", Rule::on(&[Call::Truncate], "*.jnl").fails(Errno::NoSpace));
    meet("its name is not synced", Rule::on(&[Call::Sync], "data/engine").fails(Errno::Io));
}

#[test]
fn rows_cannot_be_flushed() {
    meet("no table", Rule::on(&[Call::Create], "*/tables/*").fails(Errno::NoSpace));
    meet("full", Rule::on(&[Call::Write], "*/tables/*").skip(5).falls_short(Errno::NoSpace));
    meet("sync", Rule::on(&[Call::Sync], "*/tables/*").fails(Errno::Io));
}

#[test]
fn the_list_of_tables_cannot_be_written() {
    meet("broken", Rule::on(&[Call::Write], "*/keyspaces/1/v*").fails(Errno::Io));
    meet("no new name", Rule::on(&[Call::Rename], "*/keyspaces/1/current").fails(Errno::ReadOnly));
    meet("names not synced", Rule::on(&[Call::Sync], "*/keyspaces/1").fails(Errno::Io));
}

#[test]
fn a_failure_behind_the_back_of_an_idle_server_is_noticed() {
    let mut bench = Bench::furnished();
    // The flush begins when enough was written, and its sync takes its time to fail.
    let sync = || Rule::on(&[Call::Sync], "*/tables/*");
    bench.disk.set_rules(&[sync().fails(Errno::Io)]);
    let administrator = bench.administrator();
    while bench.disk.fired(0) == 0 {
        match bench.set_much(&administrator) {
            Some(0) => {}
            // The flush failed while this one was under way.
            other => assert_eq!((other, bench.disk.fired(0)), (Some(10_002), 1)),
        }
    }
    let begun = Instant::now();
    while bench.ready().starts_with("HTTP/1.1 200 ") {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    println!("noticed after {:?}: {}\n{}", begun.elapsed(), bench.ready(), bench.server.log());
    stopped(&mut bench, "flush");
    bench.kill();
    bench.disk.set_rules(&[]);
    recovers(bench, "flush");
}

#[test]
fn a_server_that_cannot_write_ends_when_told() {
    let mut bench = Bench::furnished();
    bench.disk.set_rules(&[Rule::on(CHANGES, "data/*").fails(Errno::ReadOnly)]);
    let administrator = bench.administrator();
    assert_eq!(bench.set(&administrator), Some(10_002));
    assert!(bench.server.terminate().success(), "{}", bench.server.log());
    bench.disk.set_rules(&[]);
    recovers(bench, "terminated");
}

#[test]
fn a_slow_disk_is_slow_and_nothing_else() {
    let mut bench = Bench::furnished();
    bench.disk.set_rules(&[Rule::on(&[Call::Sync], "*").takes(50_000)]);
    let administrator = bench.administrator();
    let begun = Instant::now();
    for _ in 0..10 {
        assert_eq!(bench.set(&administrator), Some(0));
    }
    // Each waited for its sync.
    assert!(begun.elapsed().as_millis() >= 500);
    bench.lose_power(&ALL_THAT_WAS_NOT_SYNCED);
    bench.disk.set_rules(&[]);
    recovers(bench, "slow");
}

/// A start that must fail, in a sentence, and leave all as it was.
fn refused(bench: &mut Bench, rule: Rule, sentence: &str) {
    bench.disk.set_rules(&[rule]);
    let refusal = bench.server.refused().unwrap_or_else(|| panic!("a start that should not be: {sentence}"));
    assert!(bench.disk.fired(0) > 0, "{refusal}");
    assert!(refusal.contains(sentence), "{refusal}");
    assert!(
        refusal.contains("check that the path is right") || refusal.contains("restore the folder"),
        "{refusal}"
    );
    bench.disk.set_rules(&[]);
}

#[test]
fn a_start_that_the_disk_refuses_says_so_and_does_no_harm() {
    let mut bench = Bench::furnished();
    let administrator = bench.administrator();
    for _ in 0..5 {
        assert_eq!(bench.set(&administrator), Some(0));
    }
    bench.kill();
    let on = |call: Call, pattern: &str| Rule::on(&[call], pattern);
    refused(&mut bench, Rule::on(CHANGES, "data/*").fails(Errno::ReadOnly), "Read-only file system");
    refused(&mut bench, on(Call::OpenToWrite, "data/lock").fails(Errno::Access), "Permission denied");
    refused(&mut bench, on(Call::Open, "data/format").fails(Errno::Access), "Permission denied");
    refused(&mut bench, on(Call::Read, "data/witness").fails(Errno::Io), "Input/output error");
    refused(&mut bench, on(Call::Read, "*.jnl").fails(Errno::Io), "Input/output error");
    refused(&mut bench, on(Call::Sync, "*.jnl").fails(Errno::Io), "Input/output error");
    refused(&mut bench, on(Call::Sync, "data/engine").fails(Errno::Io), "Input/output error");
    refused(&mut bench, on(Call::Write, "data/witness").fails(Errno::NoSpace), "No space left on device");
    refused(&mut bench, on(Call::Sync, "data/witness").fails(Errno::Io), "Input/output error");
    recovers(bench, "start");
}

#[test]
fn a_first_start_that_the_disk_refuses_can_be_repeated() {
    let mut bench = Bench::bare();
    for at in [0, 5, 20] {
        let full = Rule::on(NEEDS_SPACE, "data/*").skip(at).falls_short(Errno::NoSpace);
        refused(&mut bench, full, "No space left on device");
        let broken = Rule::on(&[Call::Sync], "data*").skip(at).fails(Errno::Io);
        refused(&mut bench, broken, "Input/output error");
    }
    let nowhere = Rule::on(&[Call::MakeFolder], "data/*").fails(Errno::Access);
    refused(&mut bench, nowhere, "Permission denied");
    bench.server.restart();
    bench.furnish();
    bench.kill();
    recovers(bench, "first start");
}
