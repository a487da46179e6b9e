//! Rules 3.1 to 3.6: one scale of versions, who may change what, and what the three operations do.

use sidenote_core::Malformed;
use sidenote_core::command::{Claim, Items};

use crate::notation::key;
use crate::world::{World, table};

#[test]
fn rule_3_1_a_set_starts_empty_at_zero() {
    assert_eq!(World::new().state(), "0/0");
    assert_eq!(World::new().pull(0), "0/0");
    assert_eq!(World::new().pull_connected(0), "0/0");
}

#[test]
fn rule_3_2_a_request_that_changes_something_takes_exactly_one_number() {
    table(&[
        ("0/0", "ann: set a=x@0", "1: ok a=x@1", "1/0 a=x@1"),
        ("0/0", "ann: set a=x@0 b=y@0", "1: ok a=x@1, ok b=y@1", "1/0 a=x@1 b=y@1"),
        ("1/0 a=x@1 b=y@1", "ann: set c=z@0", "2: ok c=z@2", "2/0 a=x@1 b=y@1 c=z@2"),
        ("7/2 a=x@3 b=y@7", "ann: delete a@3 b@7", "8: ok -a@8, ok -b@8", "8/2 -a@8 -b@8"),
        // Part of it is enough.
        ("4/0 a=x@4", "ann: set a=y@3 b=z@0", "5: 23001 a=x@4, ok b=z@5", "5/0 a=x@4 b=z@5"),
        // The same value again is a change too.
        ("4/0 a=x@4", "ann: set a=x@4", "5: ok a=x@5", "5/0 a=x@5"),
        // A clear always takes one, even of nothing.
        ("4/0 a=x@4", "ann: clear", "5:", "5/5"),
        ("0/0", "ann: clear", "1:", "1/1"),
        ("5/5", "ann: clear", "6:", "6/6"),
    ]);
}

#[test]
fn rule_3_2_a_request_that_changes_nothing_takes_no_number() {
    table(&[
        ("4/0 a=x@4", "ann: set a=y@3", "4: 23001 a=x@4", "4/0 a=x@4"),
        ("4/1 a=x@4", "ann: delete b@0", "4: 23004 -b@0", "4/1 a=x@4"),
        ("0/0", "ann: delete b@0", "0: 23004 -b@0", "0/0"),
    ]);
}

#[test]
fn rule_3_3_the_seq_of_an_administrator_is_not_looked_at() {
    table(&[
        ("4/0 a=x@4", "admin: set a=y", "5: ok a=y@5", "5/0 a=y@5"),
        ("4/0 a=x@4", "admin: set a=y@1", "5: ok a=y@5", "5/0 a=y@5"),
        ("4/0 -a@4", "admin: set a=y@1", "5: ok a=y@5", "5/0 a=y@5"),
        ("4/0 a=x@4", "admin: delete a", "5: ok -a@5", "5/0 -a@5"),
        ("4/0 a=x@4", "admin: delete a@2", "5: ok -a@5", "5/0 -a@5"),
    ]);
}

#[test]
fn rule_3_3_nobody_else_writes_without_a_seq() {
    // The edge refuses such a request (10004); should it ever let one through, nothing is overwritten.
    table(&[
        ("4/0 a=x@4", "ann: set a=y", "4: 23001 a=x@4", "4/0 a=x@4"),
        ("4/0 a=x@4", "connected ann: set b=y", "4: 23001 -b@0", "4/0 a=x@4"),
        ("4/0 a=x@4", "ann: delete a", "4: 23001 a=x@4", "4/0 a=x@4"),
    ]);
}

#[test]
fn rule_3_4_a_live_pair_is_changed_only_by_who_saw_it() {
    table(&[
        ("4/0 a=x@3 b=y@4", "ann: set a=z@3", "5: ok a=z@5", "5/0 a=z@5 b=y@4"),
        ("4/0 a=x@3 b=y@4", "connected ann: set a=z@3", "5: ok a=z@5", "5/0 a=z@5 b=y@4"),
        ("4/0 a=x@3", "ann: set a=z@2", "4: 23001 a=x@3", "4/0 a=x@3"),
        ("4/0 a=x@3", "ann: set a=z@4", "4: 23001 a=x@3", "4/0 a=x@3"),
        ("4/0 a=x@3", "ann: set a=z@0", "4: 23001 a=x@3", "4/0 a=x@3"),
        ("4/0 a=x@3", "ann: set a=z@9007199254740991", "4: 23001 a=x@3", "4/0 a=x@3"),
        ("4/0 a=x@3", "ann: delete a@3", "5: ok -a@5", "5/0 -a@5"),
        ("4/0 a=x@3", "ann: delete a@2", "4: 23001 a=x@3", "4/0 a=x@3"),
        ("4/0 a=x@3", "ann: delete a@0", "4: 23001 a=x@3", "4/0 a=x@3"),
    ]);
}

#[test]
fn rule_3_4_where_no_pair_lives_zero_is_right_and_so_is_the_tombstone() {
    table(&[
        ("4/0", "ann: set a=z@0", "5: ok a=z@5", "5/0 a=z@5"),
        ("4/0", "ann: set a=z@3", "4: 23001 -a@0", "4/0"),
        ("4/0 -a@4", "ann: set a=z@0", "5: ok a=z@5", "5/0 a=z@5"),
        ("4/0 -a@4", "ann: set a=z@4", "5: ok a=z@5", "5/0 a=z@5"),
        ("4/0 -a@4", "ann: set a=z@3", "4: 23001 -a@4", "4/0 -a@4"),
        // After a clear nothing is known of the key, so an old number is wrong.
        ("5/5", "ann: set a=z@4", "5: 23001 -a@0", "5/5"),
    ]);
}

#[test]
fn rule_3_4_keys_are_compared_byte_by_byte() {
    table(&[
        ("1/0 a=x@1", "ann: set A=y@0", "2: ok A=y@2", "2/0 A=y@2 a=x@1"),
        // One letter, composed and decomposed: two keys.
        ("1/0 \u{e9}=x@1", "ann: set e\u{301}=y@0", "2: ok e\u{301}=y@2", "2/0 e\u{301}=y@2 \u{e9}=x@1"),
    ]);
}

#[test]
fn rule_3_4_a_writer_that_saw_an_older_version_never_wins() {
    let mut world = World::new();
    assert_eq!(world.say("ann: set a=x@0"), "1: ok a=x@1");
    for (between, state) in [
        ("bob: set a=y@1", "2: 23001 a=y@2"),
        ("bob: delete a@2", "3: 23001 -a@3"),
        ("bob: set a=x@0", "4: 23001 a=x@4"),
        ("bob: clear", "5: 23001 -a@0"),
        ("bob: set a=x@0", "6: 23001 a=x@6"),
    ] {
        world.say(between);
        assert_eq!(world.say("ann: set a=mine@1"), state, "ann saw version 1, then {between}");
    }
}

#[test]
fn rule_3_5_pairs_are_judged_one_by_one() {
    table(&[
        (
            "4/0 a=x@3 -b@4 c=y@2",
            "ann: set a=1@3 b=2@3 c=3@1 d=4@0",
            "5: ok a=1@5, 23001 -b@4, 23001 c=y@2, ok d=4@5",
            "5/0 a=1@5 -b@4 c=y@2 d=4@5",
        ),
        (
            "4/0 a=x@3 -b@4 c=y@2",
            "ann: delete a@3 b@4 c@1 d@0",
            "5: ok -a@5, 23004 -b@4, 23001 c=y@2, 23004 -d@0",
            "5/0 -a@5 -b@4 c=y@2",
        ),
    ]);
}

#[test]
fn rule_3_5_pairs_are_judged_against_the_state_before_the_request() {
    table(&[
        // The number that a gets here does not make the claim on b right.
        ("4/0 a=x@3 b=y@4", "ann: set a=1@3 b=2@5", "5: ok a=1@5, 23001 b=y@4", "5/0 a=1@5 b=y@4"),
        ("4/0", "ann: set a=1@0 b=2@5", "5: ok a=1@5, 23001 -b@0", "5/0 a=1@5"),
    ]);
}

#[test]
fn rule_3_5_a_request_names_no_key_twice_and_at_least_one() {
    let once = |name: &str| (key(name), Claim::Unchecked);
    assert_eq!(Items::new(vec![once("a"), once("b"), once("a")]).unwrap_err(), Malformed::RepeatedKey);
    assert_eq!(Items::<sidenote_core::extension::Key>::new(vec![]).unwrap_err(), Malformed::Empty);
    let most: Vec<_> = (0..=200).map(|number| once(&format!("k{number}"))).collect();
    assert_eq!(Items::new(most).unwrap_err(), Malformed::TooMany { count: 201, limit: 200 });
}

#[test]
fn rule_3_6_deleting_what_does_not_live_is_told_before_a_wrong_seq() {
    table(&[
        ("4/0 -a@4", "ann: delete a@4", "4: 23004 -a@4", "4/0 -a@4"),
        ("4/0 -a@4", "ann: delete a@1", "4: 23004 -a@4", "4/0 -a@4"),
        ("4/0", "ann: delete a@3", "4: 23004 -a@0", "4/0"),
        ("4/0 -a@4", "admin: delete a", "4: 23004 -a@4", "4/0 -a@4"),
    ]);
}

#[test]
fn rule_3_6_a_clear_drops_pairs_and_tombstones() {
    table(&[
        ("4/0 a=x@3 -b@4", "ann: clear", "5:", "5/5"),
        ("4/2 a=x@3 -b@4", "admin: clear", "5:", "5/5"),
        ("5/5", "ann: set a=x@0", "6: ok a=x@6", "6/5 a=x@6"),
    ]);
}
