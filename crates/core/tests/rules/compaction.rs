//! Rule 3.7, its second half: tombstones are bounded too.

use sidenote_core::Limits;

use crate::world::{World, table_within};

const TWO: Limits = Limits {
    pairs_per_message: 300,
    tombstones_per_message: 2,
    pairs_per_pull: 200,
    attempts_per_minute: 200,
    community_extensions: false,
    events_kept: 10_000,
    events_kept_millis: 1_000_000,
    webhook_apps: &[],
    untold_events_kept: 10_000,
    dead_letters_kept: 10,
};

#[test]
fn rule_3_7_a_set_with_too_many_tombstones_is_compacted_and_the_answer_says_so() {
    table_within(
        &TWO,
        &[
            // As many as allowed: nothing happens.
            ("4/0 -a@3 b=x@4", "ann: delete b@4", "5: ok -b@5", "5/0 -a@3 -b@5"),
            // One more: delete 6, clear 7, the live pair again as 8; the tombstones are forgotten, so their Seq is 0.
            ("5/0 -a@3 -b@4 c=x@2 d=y@5", "ann: delete c@2", "8: ok -c@0", "8/7 d=y@8"),
            // Nothing lives any more: the clear is the last.
            ("5/0 -a@3 -b@4 c=x@2", "ann: delete c@2", "7: ok -c@0", "7/7"),
            // Refused pairs are shown as they are afterwards, too.
            (
                "5/0 -a@3 -b@4 c=x@2 d=y@5",
                "ann: delete c@2 d@1 a@3 e@0",
                "8: ok -c@0, 23001 d=y@8, 23004 -a@0, 23004 -e@0",
                "8/7 d=y@8",
            ),
            // A set compacts as well, where the limit was lowered.
            ("5/0 -a@3 -b@4 -c@5 d=x@2", "ann: set d=y@2 e=z@0", "8: ok d=y@8, ok e=z@8", "8/7 d=y@8 e=z@8"),
            // A request that changes nothing compacts nothing.
            ("5/0 -a@3 -b@4 -c@5 d=x@2", "ann: set d=y@1", "5: 23001 d=x@2", "5/0 -a@3 -b@4 -c@5 d=x@2"),
            // Writing a deleted key again makes a tombstone fewer.
            ("5/0 -a@3 -b@4 -c@5", "ann: set a=x@3", "6: ok a=x@6", "6/0 a=x@6 -b@4 -c@5"),
            ("5/0 -a@3 -b@4 -c@5", "ann: clear", "6:", "6/6"),
        ],
    );
}

#[test]
fn rule_3_7_subscribers_are_told_a_clear_and_the_sets() {
    let mut world = World::new();
    world.limits = TWO;
    world.given("5/0 -a@3 -b@4 c=x@2 d=y@5");
    world.say("ann: delete c@2");
    assert_eq!(
        world.told(),
        ["6/0 delete -c@6 (x@2)", "7/7 compaction clear", "8/7 compaction set d=y@8 (y@5)"]
    );
}

#[test]
fn rule_3_7_compaction_gives_one_number_to_at_most_200_pairs() {
    let mut world = World::new();
    world.limits.tombstones_per_message = 0;
    let pairs: Vec<_> = (0..251).map(|number| format!("k{number:03}=v@1")).collect();
    world.given(&format!("1/0 {}", pairs.join(" ")));
    assert_eq!(world.say("ann: delete k000@1"), "5: ok -k000@0");
    let with = |number| world.entries().iter().filter(|pair| pair.seq.get() == number).count();
    assert_eq!((with(4), with(5), world.entries().len()), (200, 50, 250));
    assert_eq!(world.told().len(), 4);
}

#[test]
fn rule_3_7_compaction_gives_no_number_more_pairs_than_a_pull_may_hold() {
    let limits = Limits { tombstones_per_message: 0, pairs_per_pull: 2, ..TWO };
    let given = "1/0 a=x@1 b=x@1 c=x@1 d=x@1";
    table_within(&limits, &[(given, "ann: delete a@1", "5: ok -a@0", "5/3 b=x@4 c=x@4 d=x@5")]);
    // The smallest pull that a careless caller could ask for does not divide by nothing.
    let limits = Limits { pairs_per_pull: 0, ..limits };
    let given = "1/0 a=x@1 b=x@1 c=x@1";
    table_within(&limits, &[(given, "ann: delete a@1", "5: ok -a@0", "5/3 b=x@4 c=x@5")]);
}

#[test]
fn rule_3_7_a_writer_from_before_a_compaction_meets_a_conflict_and_goes_on() {
    let mut world = World::new();
    world.limits = TWO;
    world.given("5/0 -a@3 -b@4 c=x@2 d=y@5");
    world.say("bob: delete c@2");
    assert_eq!(world.say("ann: set d=z@5 a=z@3 c=z@6"), "8: 23001 d=y@8, 23001 -a@0, 23001 -c@0");
    assert_eq!(world.say("ann: set d=z@8 a=z@0 c=z@0"), "9: ok d=z@9, ok a=z@9, ok c=z@9");
}
