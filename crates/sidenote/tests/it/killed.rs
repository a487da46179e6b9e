//! A server that is killed with `kill -9` right behind an answer, or a moment later, wherever it is then: now and then
//! between a commit and its push. Whoever follows the group comes out of that with everything that was answered.

use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use crate::caller::{Caller, Change, Pair};
use crate::server::{APP, Running};

/// How often a test kills its server. Some of the deaths then fall between a commit and its push.
pub(crate) const ROUNDS: u32 = 16;

/// Who writes at the same time, so that pushes have a way to go, and how often; all of it fits into one message.
const WRITERS: u32 = 4;
const CHANGES_EACH: u32 = 4;

/// Lets ann set pairs of message 1 of the group `g` from several devices, each pair with a key of its own, and kills
/// the server meanwhile. What was answered, by `Seq`.
pub(crate) fn change_until_killed(server: &mut Running, round: u32) -> Vec<Pair> {
    let (answers, answered) = sync_channel((WRITERS * CHANGES_EACH) as usize);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (ann, answers) = (Caller::new(server.address, APP, "ann"), answers.clone());
            scope.spawn(move || {
                for number in 0..CHANGES_EACH {
                    let key = format!("{round}-{writer}-{number}");
                    let change = Change::set([(key.as_str(), "v", Some(0))]);
                    // The server is dead.
                    let Ok(changed) = ann.change("g", 1, &change) else { return };
                    let (code, pair) = changed.items.into_iter().next().unwrap();
                    assert_eq!(code, 0, "{pair:?}");
                    answers.send(pair).unwrap();
                }
            });
        }
        drop(answers);
        let mut pairs: Vec<Pair> = answered.iter().take(1 + round as usize % 8).collect();
        if round % 2 == 1 {
            thread::sleep(Duration::from_micros(u64::from(round) * 97 % 1000));
        }
        server.kill9();
        pairs.extend(answered);
        assert!(!pairs.is_empty(), "nothing was answered");
        pairs.sort_by_key(|pair| pair.seq);
        pairs
    })
}
