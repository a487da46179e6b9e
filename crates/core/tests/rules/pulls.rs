//! Rules 3.8 and 3.9: what a reader gets. Every answer is `LatestSeq/ClearSeq pairs`, `…` means that more is left.

use crate::world::World;

fn holding(state: &str, pairs_per_pull: usize) -> World {
    let mut world = World::new();
    world.limits.pairs_per_pull = pairs_per_pull;
    world.given(state);
    world
}

#[test]
fn rule_3_8_pairs_come_by_seq_then_key_with_both_counters() {
    let world = holding("9/2 a=x@9 b=y@4 d=z@4 c=w@4 e=v@3", 200);
    assert_eq!(world.pull(0), "9/2 e=v@3 b=y@4 c=w@4 d=z@4 a=x@9");
    assert_eq!(world.pull(4), "9/2 b=y@4 c=w@4 d=z@4 a=x@9");
    assert_eq!(world.pull(5), "9/2 a=x@9");
    // A start in the future, or at or below the last clear, is nothing special.
    assert_eq!(world.pull(10), "9/2");
    assert_eq!(world.pull(1), "9/2 e=v@3 b=y@4 c=w@4 d=z@4 a=x@9");
}

#[test]
fn rule_3_8_tombstones_come_to_whoever_goes_on_and_over_the_long_connection() {
    let world = holding("5/0 a=x@1 -b@3 -c@5", 200);
    assert_eq!(world.pull(0), "5/0 a=x@1");
    assert_eq!(world.pull(2), "5/0 -b@3 -c@5");
    assert_eq!(world.pull_connected(0), "5/0 a=x@1 -b@3 -c@5");
}

#[test]
fn rule_3_8_a_set_of_tombstones_alone_looks_empty_at_first() {
    let world = holding("5/0 -b@3 -c@5", 1);
    assert_eq!(world.pull(0), "5/0");
    assert_eq!(world.pull(1), "5/0 -b@3 …");
}

#[test]
fn rule_3_9_a_page_ends_where_a_seq_ends() {
    let world = holding("4/0 a=x@1 b=x@2 c=x@2 d=x@3 e=x@4", 2);
    assert_eq!(world.pull(0), "4/0 a=x@1 …");
    assert_eq!(world.pull(2), "4/0 b=x@2 c=x@2 …");
    assert_eq!(world.pull(3), "4/0 d=x@3 e=x@4");
}

#[test]
fn rule_3_9_tombstones_fill_a_page_like_pairs() {
    let world = holding("4/0 a=x@1 -b@2 -c@2 d=x@3", 2);
    assert_eq!(world.pull_connected(0), "4/0 a=x@1 …");
    assert_eq!(world.pull_connected(2), "4/0 -b@2 -c@2 …");
    assert_eq!(world.pull(0), "4/0 a=x@1 d=x@3");
}

#[test]
fn rule_3_9_a_seq_larger_than_a_page_goes_whole() {
    let world = holding("2/0 a=x@1 b=x@1 c=x@1 d=x@2", 2);
    assert_eq!(world.pull(0), "2/0 a=x@1 b=x@1 c=x@1 …");
    assert_eq!(world.pull(2), "2/0 d=x@2");
    assert_eq!(holding("1/0 a=x@1 b=x@1 c=x@1", 2).pull(0), "1/0 a=x@1 b=x@1 c=x@1");
}

#[test]
fn rule_3_9_pages_of_200() {
    let pairs: Vec<_> = (0..300).map(|number| format!("k{number:03}=v@{}", 1 + number / 20)).collect();
    let world = holding(&format!("15/0 {}", pairs.join(" ")), 200);
    let first = world.try_pull("ann", 1, 0, false).unwrap();
    assert_eq!((first.pairs.len(), first.complete), (200, false));
    let rest = world.try_pull("ann", 1, 11, true).unwrap();
    assert_eq!((rest.pairs.len(), rest.complete), (100, true));
}

#[test]
fn rule_3_9_a_walk_misses_no_pair_that_lived_all_the_while() {
    let mut world = holding("4/0 a=x@1 b=x@2 c=x@3 d=x@4", 2);
    world.limits.tombstones_per_message = 1;
    assert_eq!(world.pull(0), "4/0 a=x@1 b=x@2 …");
    // The next page is changed, deleted and compacted under the reader's feet.
    world.say("bob: set c=y@3");
    world.say("bob: delete a@1");
    assert_eq!(world.say("bob: delete b@2"), "9: ok -b@0");
    assert_eq!(world.pull(3), "9/8 c=y@9 d=x@9");
}
