//! Rule 3.7, its first half, and rule 3.10.

use sidenote_core::extension::{Key, Value};
use sidenote_core::{Limits, Malformed};

use crate::world::{POLL, World, table_within};

const THREE: fn() -> Limits = || Limits { pairs_per_message: 3, ..Limits::default() };

#[test]
fn rule_3_7_the_301st_pair_is_refused_by_itself() {
    let mut world = World::new();
    let pairs: Vec<_> = (0..299).map(|number| format!("k{number:03}=v@1")).collect();
    world.given(&format!("1/0 {}", pairs.join(" ")));
    assert_eq!(
        world.say("ann: set new1=v@0 new2=v@0 k000=w@1 k001=w@7"),
        "2: ok new1=v@2, 10004 -new2@0, ok k000=w@2, 23001 k001=v@1"
    );
    assert_eq!(world.entries().len(), 300);
    assert_eq!(world.say("admin: set new2=v"), "2: 10004 -new2@0");
}

#[test]
fn rule_3_7_the_limit_counts_live_pairs_only() {
    table_within(
        &THREE(),
        &[
            (
                "5/0 a=x@1 b=x@1 -c@2 -d@3 -e@4",
                "ann: set f=x@0",
                "6: ok f=x@6",
                "6/0 a=x@1 b=x@1 -c@2 -d@3 -e@4 f=x@6",
            ),
            ("5/0 a=x@1 b=x@1 c=x@1 -d@5", "ann: set d=x@5", "5: 10004 -d@5", "5/0 a=x@1 b=x@1 c=x@1 -d@5"),
            ("5/0 a=x@1 b=x@1 c=x@1", "ann: set a=y@1", "6: ok a=y@6", "6/0 a=y@6 b=x@1 c=x@1"),
            // The wrong Seq is told first.
            ("5/0 a=x@1 b=x@1 c=x@1 -d@5", "ann: set d=x@4", "5: 23001 -d@5", "5/0 a=x@1 b=x@1 c=x@1 -d@5"),
            // More than the limit, after it was lowered: what is there can be changed and deleted.
            (
                "5/0 a=x@1 b=x@1 c=x@1 d=x@1",
                "ann: set a=y@1 e=y@0",
                "6: ok a=y@6, 10004 -e@0",
                "6/0 a=y@6 b=x@1 c=x@1 d=x@1",
            ),
            ("5/0 a=x@1 b=x@1 c=x@1 d=x@1", "ann: delete a@1", "6: ok -a@6", "6/0 -a@6 b=x@1 c=x@1 d=x@1"),
        ],
    );
}

#[test]
fn rule_3_7_keys_and_values_have_hard_limits_in_bytes() {
    assert_eq!(Key::new(""), Err(Malformed::Empty));
    assert_eq!(Value::new(""), Err(Malformed::Empty));
    assert!(Key::new(&"é".repeat(256)).is_ok());
    assert_eq!(Key::new(&"é".repeat(257)), Err(Malformed::TooLong { bytes: 514, limit: 512 }));
    assert!(Value::new(&"é".repeat(8192)).is_ok());
    assert_eq!(Value::new(&"é".repeat(8193)), Err(Malformed::TooLong { bytes: 16_386, limit: 16_384 }));
}

#[test]
fn rule_3_10_the_201st_attempt_of_a_minute_is_refused_and_changes_nothing() {
    let mut world = World::new();
    assert_eq!(world.say("admin: set a=x"), "1: ok a=x@1");
    let commands = ["ann: set a=y@9", "admin: set a=x", "bob: delete gone@0", "bob: clear", "ann: set a=x@0"];
    for number in 1..200 {
        world.now = world.now.plus_millis(100);
        assert_ne!(world.say(commands[number % commands.len()]), "TooManyAttempts", "attempt {}", number + 1);
    }
    let before = (world.rows.0.clone(), world.events().len());
    for command in ["ann: set a=y@0", "admin: clear", "bob: delete a@1"] {
        assert_eq!(world.say(command), "TooManyAttempts");
    }
    assert_eq!((world.rows.0.clone(), world.events().len()), before);
}

#[test]
fn rule_3_10_the_window_starts_with_its_first_attempt() {
    let mut world = World::new();
    world.limits.attempts_per_minute = 2;
    let start = world.now;
    let rows = [
        (0, "1: ok a=x@1"),
        (59_000, "2: ok a=x@2"),
        (59_999, "TooManyAttempts"),
        // The next window starts here, 60 seconds after the first attempt of the one before.
        (60_000, "3: ok a=x@3"),
        (119_998, "4: ok a=x@4"),
        (119_999, "TooManyAttempts"),
        (150_000, "5: ok a=x@5"),
        (180_000, "6: ok a=x@6"),
        (209_999, "TooManyAttempts"),
        (210_000, "7: ok a=x@7"),
    ];
    for (millis, answer) in rows {
        world.now = start.plus_millis(millis);
        assert_eq!(world.say("admin: set a=x"), answer, "after {millis} ms");
    }
}

#[test]
fn rule_3_10_attempts_that_change_nothing_count() {
    let mut world = World::new();
    world.limits.attempts_per_minute = 3;
    assert_eq!(world.say("ann: set a=x@5"), "0: 23001 -a@0");
    assert_eq!(world.say("ann: delete a@0"), "0: 23004 -a@0");
    assert_eq!(world.say("ann: clear"), "1:");
    assert_eq!(world.say("ann: clear"), "TooManyAttempts");
}

#[test]
fn rule_3_10_pulls_and_requests_that_never_came_so_far_do_not_count() {
    let mut world = World::new();
    world.limits.attempts_per_minute = 1;
    for _ in 0..5 {
        assert_eq!(world.say("eve: clear"), "NotAMember");
        world.pull(0);
    }
    assert_eq!(world.say("ann: clear"), "1:");
    // That the window is full is told after all that comes before it (rule 3.12).
    assert_eq!(world.say("eve: clear"), "NotAMember");
}

#[test]
fn rule_3_10_every_message_has_a_window_of_its_own() {
    let mut world = World::new();
    world.limits.attempts_per_minute = 1;
    let other = world.message("bob", true);
    world.act(sidenote_core::command::GroupAction::Send(Box::new(other)));
    let clear = || sidenote_core::command::Extend::Clear;
    assert_eq!(world.extend("ann", POLL, clear()), Ok("1:".to_owned()));
    assert_eq!(world.extend("ann", 3, clear()), Ok("1:".to_owned()));
    assert!(world.extend("ann", POLL, clear()).is_err());
}

#[test]
fn rule_3_10_zero_switches_the_limit_off() {
    let mut world = World::new();
    world.limits.attempts_per_minute = 0;
    for number in 1..=500 {
        assert_eq!(world.say("ann: clear"), format!("{number}:"));
    }
    let rows = world.rows.0.len();
    assert_eq!(world.say("ann: delete a@0"), "500: 23004 -a@0");
    assert_eq!(world.rows.0.len(), rows);
}
