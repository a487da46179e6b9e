//! How the tables write things down.
//!
//! * `a=x@3`: a live pair with its Seq; `-a@3`: a tombstone; `-a@0`: nothing;
//! * `3/2 a=x@3`: a set with LatestSeq 3, ClearSeq 2 and one pair;
//! * `ann: set a=x@0 b=y@0`, `bob: delete a@1`, `admin: clear`: commands; without `@` no Seq is sent;
//! * `3: ok a=x@3, 23001 b=z@2`: an answer with Seq 3 and what became of each pair;
//! * `3/0 set a=x@3 (y@1)`: an event with LatestSeq and ClearSeq and, in brackets, what the set held before.

use sidenote_core::command::{Claim, Extend, Items};
use sidenote_core::decide::{Extended, ItemOutcome, ItemVerdict};
use sidenote_core::event::{ChangedPair, ExtensionChange, Operation};
use sidenote_core::extension::{Entry, Key, Pair, Seq, Value};
use sidenote_core::query::PullPage;

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

pub(crate) fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

/// LatestSeq, ClearSeq and what is stored.
pub(crate) fn read_state(text: &str) -> (Seq, Seq, Vec<(Key, Entry)>) {
    let mut words = text.split_whitespace();
    let (latest, clear) = words.next().unwrap().split_once('/').unwrap();
    let entries = words.map(|word| {
        let (name, number) = word.rsplit_once('@').unwrap();
        let seq = seq(number.parse().unwrap());
        if let Some(name) = name.strip_prefix('-') {
            return (key(name), Entry::Deleted { seq });
        }
        let (name, value) = name.split_once('=').unwrap();
        (key(name), Entry::Live { value: Value::new(value).unwrap(), seq })
    });
    (seq(latest.parse().unwrap()), seq(clear.parse().unwrap()), entries.collect())
}

/// Who, and what.
pub(crate) fn read_command(text: &str) -> (&str, Extend) {
    let (who, rest) = text.split_once(": ").unwrap();
    let mut words = rest.split_whitespace();
    let extend = match words.next().unwrap() {
        "set" => Extend::Set(
            Items::new(
                words
                    .map(|word| {
                        let (word, claim) = read_claim(word);
                        let (name, value) = word.split_once('=').unwrap();
                        ((key(name), Value::new(value).unwrap()), claim)
                    })
                    .collect(),
            )
            .unwrap(),
        ),
        "delete" => Extend::Delete(
            Items::new(
                words
                    .map(|word| {
                        let (word, claim) = read_claim(word);
                        (key(word), claim)
                    })
                    .collect(),
            )
            .unwrap(),
        ),
        "clear" => Extend::Clear,
        other => panic!("unknown command {other}"),
    };
    (who, extend)
}

fn read_claim(word: &str) -> (&str, Claim) {
    match word.rsplit_once('@') {
        Some((word, number)) => (word, Claim::Saw(seq(number.parse().unwrap()))),
        None => (word, Claim::Unchecked),
    }
}

pub(crate) fn write_state(latest: Seq, clear: Seq, pairs: &[Pair]) -> String {
    let mut words = vec![format!("{latest}/{clear}")];
    words.extend(pairs.iter().map(write_pair));
    words.join(" ")
}

pub(crate) fn write_pair(pair: &Pair) -> String {
    match &pair.value {
        Some(value) => format!("{}={}@{}", pair.key.as_str(), value.as_str(), pair.seq),
        None => format!("-{}@{}", pair.key.as_str(), pair.seq),
    }
}

pub(crate) fn write_answer(answer: &Extended) -> String {
    let items: Vec<_> = answer.items.iter().map(write_item).collect();
    format!("{}: {}", answer.latest, items.join(", ")).trim_end().to_owned()
}

fn write_item(item: &ItemOutcome) -> String {
    let verdict = match item.verdict {
        ItemVerdict::Accepted => "ok",
        ItemVerdict::Conflict => "23001",
        ItemVerdict::NoSuchPair => "23004",
        ItemVerdict::Full => "10004",
    };
    format!("{verdict} {}", write_pair(&item.pair))
}

pub(crate) fn write_event(change: &ExtensionChange) -> String {
    let operation = match change.operation {
        Operation::Set => "set",
        Operation::Delete => "delete",
        Operation::Clear => "clear",
    };
    let why = if change.compaction { "compaction " } else { "" };
    let mut words = vec![format!("{}/{} {why}{operation}", change.latest, change.clear)];
    words.extend(change.pairs.iter().map(write_change));
    words.join(" ")
}

fn write_change(changed: &ChangedPair) -> String {
    let now = write_pair(&changed.pair());
    match &changed.previous {
        None => now,
        Some(previous) => match &previous.value {
            Some(value) => format!("{now} ({}@{})", value.as_str(), previous.seq),
            None => format!("{now} (-@{})", previous.seq),
        },
    }
}

/// A page as `latest/clear pairs`, with an ellipsis where more is left.
pub(crate) fn write_page(page: &PullPage) -> String {
    let more = if page.complete { "" } else { " …" };
    format!("{}{more}", write_state(page.latest, page.clear, &page.pairs))
}
