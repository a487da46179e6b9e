//! As much as a message may hold, pages while others write, two apps with the same names, and the limit of
//! attempts, all with the limits that the server has by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rand::RngExt as _;
use serde_json::json;

use crate::caller::{Caller, Change, Operate, Page, Wish};
use crate::server::{ADMINISTRATOR, APP, ConfigOptions, OTHER_APP, PATIENCE, Running, query};

const SET: &str = "openim_msg_ext_http_svc/group_set_key_values";

/// A caller with a group `g` whose first message may carry pairs, and a member `ann`.
fn furnished(server: &Running, app: u32) -> Caller {
    let administrator = Caller::new(server.address, app, ADMINISTRATOR);
    administrator.ok("im_open_login_svc/account_import", r#"{"UserID":"ann"}"#);
    let group = r#"{"GroupId":"g","Type":"Public","Name":"g","MemberList":[{"Member_Account":"ann"}]}"#;
    administrator.ok("group_open_http_svc/create_group", group);
    assert_eq!(send(&administrator), 1);
    administrator
}

/// Sends a message that may carry pairs; its number.
fn send(administrator: &Caller) -> u64 {
    let message = json!({
        "GroupId": "g", "Random": rand::random::<u32>(), "SupportMessageExtension": 1,
        "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "who comes?"}}],
    });
    let answer = administrator.ok("group_open_http_svc/send_group_msg", &message.to_string());
    answer["MsgSeq"].as_u64().unwrap()
}

fn key(number: usize) -> String {
    format!("key {number:03}")
}

/// Sets these keys to one value, or deletes them, as an administrator; the number that the change got.
fn write(caller: &Caller, operate: Operate, keys: impl IntoIterator<Item = usize>, value: &str) -> u64 {
    let wishes =
        keys.into_iter().map(|number| Wish { key: key(number), value: value.to_owned(), claim: None });
    let changed = caller.change("g", 1, &Change { operate, wishes: wishes.collect() }).unwrap();
    assert!(changed.items.iter().all(|(code, _)| *code == 0), "{changed:?}");
    changed.seq
}

#[test]
fn a_message_holds_300_pairs_and_the_301st_is_refused_alone() {
    let server = Running::start(&ConfigOptions::default());
    let administrator = furnished(&server, APP);
    for request in 0..15 {
        let seq = write(&administrator, Operate::Set, request * 20..(request + 1) * 20, "first");
        assert_eq!(seq, request as u64 + 1);
    }

    // As an administrator and as a member, the new key before the other and behind it.
    let ann = Caller::new(server.address, APP, "ann");
    let (new, held) = (key(300), key(7));
    let pairs = [(new.as_str(), "new", None), (held.as_str(), "second", None)];
    let changed = administrator.change("g", 1, &Change::set(pairs)).unwrap();
    assert_eq!(changed.seq, 16);
    let verdicts: Vec<_> =
        changed.items.iter().map(|(code, pair)| (*code, pair.value.as_str(), pair.seq)).collect();
    assert_eq!(verdicts, [(10_004, "", 0), (0, "second", 16)]);
    let pairs = [(held.as_str(), "third", Some(16)), (new.as_str(), "new", Some(0))];
    let changed = ann.change("g", 1, &Change::set(pairs)).unwrap();
    let verdicts: Vec<_> =
        changed.items.iter().map(|(code, pair)| (*code, pair.value.as_str(), pair.seq)).collect();
    assert_eq!(verdicts, [(0, "third", 17), (10_004, "", 0)]);
    // Alone, it changes nothing.
    assert_eq!(administrator.set_one("g", 1, &new, "new", None).0, 10_004);

    let pages = administrator.walk("g", 1, 0);
    let found: BTreeMap<_, _> = pages
        .iter()
        .flat_map(|page| &page.pairs)
        .map(|pair| (pair.key.clone(), pair.value.as_str()))
        .collect();
    let mut expected: BTreeMap<_, _> = (0..300).map(|number| (key(number), "first")).collect();
    expected.insert(held.clone(), "third");
    assert_eq!(found, expected);
    assert!(pages.iter().all(|page| page.latest == 17));

    // Where one is deleted there is room for another.
    write(&administrator, Operate::Delete, [8], "");
    assert_eq!(ann.set_one("g", 1, &new, "new", Some(0)).0, 0);
    assert_eq!(administrator.set_one("g", 1, &key(8), "again", None).0, 10_004);
}

/// Rule 3.9, for the pages of a walk: at most 200 pairs, in ascending order, none empty but the last.
fn assert_well_formed(pages: &[Page]) {
    let mut last = (0, String::new());
    for (number, page) in pages.iter().enumerate() {
        assert!(page.pairs.len() <= 200);
        assert_eq!(page.complete, number + 1 == pages.len());
        for pair in &page.pairs {
            let place = (pair.seq, pair.key.clone());
            assert!(place > last, "{place:?} comes after {last:?}");
            assert!(pair.seq <= page.latest);
            last = place;
        }
    }
}

/// 300 pairs in requests of unequal size, so that the 200th pair of a page mostly stands in the middle of a Seq.
fn fill(administrator: &Caller) {
    let sizes = [19, 13, 17, 20, 11, 18, 7];
    let mut next = 0;
    for size in sizes.into_iter().cycle() {
        write(administrator, Operate::Set, next..(next + size).min(300), "first");
        next += size;
        if next >= 300 {
            return;
        }
    }
}

#[test]
fn a_page_ends_where_a_seq_ends() {
    let server = Running::start(&ConfigOptions::default());
    let administrator = furnished(&server, APP);
    fill(&administrator);
    let pages = administrator.walk("g", 1, 0);
    assert_well_formed(&pages);
    assert_eq!(pages.len(), 2);
    // One more Seq would not have fitted.
    let next = pages[1].pairs.iter().take_while(|pair| pair.seq == pages[1].pairs[0].seq).count();
    assert!(pages[0].pairs.len() < 200 && pages[0].pairs.len() + next > 200);
    let of = |page: &Page| page.pairs.iter().map(|pair| pair.seq).collect::<BTreeSet<_>>();
    assert!(of(&pages[0]).is_disjoint(&of(&pages[1])));
    assert_eq!(pages.iter().map(|page| page.pairs.len()).sum::<usize>(), 300);

    // From a Seq on, and from behind the last: an empty page is complete.
    let from = pages[1].pairs[0].seq;
    assert_eq!(administrator.walk("g", 1, from), [pages[1].clone()]);
    let nothing = administrator.page("g", 1, pages[0].latest + 1);
    assert!(nothing.complete && nothing.pairs.is_empty() && nothing.latest == pages[0].latest);
}

/// Keys that are deleted and set again while others read. All others live for the whole time.
const FLICKERING: usize = 30;

#[test]
fn a_walk_while_others_write_misses_no_pair_that_lives_all_the_time() {
    let limits = "attempts_per_minute = 0".to_owned();
    let server = Running::start(&ConfigOptions { limits, ..ConfigOptions::default() });
    let administrator = furnished(&server, APP);
    fill(&administrator);
    let filled = administrator.page("g", 1, 0).latest;

    let stop = AtomicBool::new(false);
    let (walks, written) = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let caller = Caller::new(server.address, APP, ADMINISTRATOR);
            let mut rng = rand::rng();
            let mut written = BTreeMap::new();
            while !stop.load(Ordering::Relaxed) {
                let value = format!("write {}", written.len());
                let first = rng.random_range(FLICKERING..300);
                let keys = (first..300).take(rng.random_range(1..=20));
                written.insert(write(&caller, Operate::Set, keys, &value), value);
                let flickering = 0..rng.random_range(1..=20);
                write(&caller, Operate::Delete, flickering.clone(), "");
                written.insert(write(&caller, Operate::Set, flickering, "back"), "back".to_owned());
            }
            written
        });
        let walks = disturbed_walks(&administrator);
        stop.store(true, Ordering::Relaxed);
        (walks, writer.join().unwrap())
    });

    let steady: BTreeSet<String> = (FLICKERING..300).map(key).collect();
    for pages in &walks {
        assert_well_formed(pages);
        assert!(pages.len() >= 2);
        let pairs = || pages.iter().flat_map(|page| &page.pairs);
        let live: BTreeSet<_> =
            pairs().filter(|pair| !pair.value.is_empty()).map(|pair| pair.key.clone()).collect();
        let missed: Vec<_> = steady.difference(&live).collect();
        assert!(missed.is_empty(), "a walk missed {missed:?}");
        // What was read under a number is what was written under it.
        for pair in pairs().filter(|pair| pair.seq > filled && !pair.value.is_empty()) {
            assert_eq!(written.get(&pair.seq), Some(&pair.value), "{pair:?}");
        }
    }
}

/// Walks over the pages until there are 20 in which the message changed between the first page and the last.
fn disturbed_walks(reader: &Caller) -> Vec<Vec<Page>> {
    let mut walks = Vec::new();
    let begun = tokio::time::Instant::now();
    while walks.len() < 20 {
        assert!(begun.elapsed() < PATIENCE, "nobody writes between two pages");
        let pages = reader.walk("g", 1, 0);
        if pages[0].latest < pages.last().unwrap().latest {
            walks.push(pages);
        }
    }
    walks
}

#[test]
fn two_apps_with_the_same_names_share_nothing() {
    let server = Running::start(&ConfigOptions::default());
    let (one, other) = (furnished(&server, APP), furnished(&server, OTHER_APP));
    let ann = Caller::new(server.address, OTHER_APP, "ann");
    assert_eq!(one.set_one("g", 1, "place", "here", None).1.seq, 1);
    // The first write of the other message is its first, and to it nothing was there.
    let (code, pair) = ann.set_one("g", 1, "place", "there", Some(0));
    assert_eq!((code, pair.seq), (0, 1));
    assert_eq!(other.set_one("g", 1, "place", "elsewhere", None).1.seq, 2);
    assert_eq!(one.page("g", 1, 0).pairs[0].value, "here");
    assert_eq!(one.page("g", 1, 0).latest, 1);
    assert_eq!(other.page("g", 1, 0).pairs[0].value, "elsewhere");

    // Numbers of messages are each app's own.
    assert_eq!((send(&one), send(&one), send(&other)), (2, 3, 2));
    // What one destroys stays with the other, accounts and groups alike.
    one.ok("im_open_login_svc/account_delete", r#"{"DeleteItem":[{"UserID":"ann"}]}"#);
    one.ok("group_open_http_svc/destroy_group", r#"{"GroupId":"g"}"#);
    assert_eq!(ann.set_one("g", 1, "place", "still there", Some(2)).0, 0);
    let gone = one.call(SET, r#"{"GroupId":"g","MsgSeq":1,"OperateType":3}"#).unwrap();
    assert_eq!(gone["ErrorCode"], 10_010);
    // A signature of one app opens nothing in the other.
    let crossed = query(OTHER_APP, ADMINISTRATOR).replace(&OTHER_APP.to_string(), &APP.to_string());
    let stranger = server.post_with_query(&crossed, SET, r#"{"GroupId":"g","MsgSeq":1,"OperateType":3}"#);
    assert_eq!(stranger["ErrorCode"], 70_014);
}

#[test]
fn a_message_takes_200_attempts_a_minute() {
    let server = Running::start(&ConfigOptions::default());
    let administrator = furnished(&server, APP);
    let ann = Caller::new(server.address, APP, "ann");
    // Of both callers, those that are refused included; pulls are none.
    for _ in 0..100 {
        assert_eq!(administrator.set_one("g", 1, "a", "b", None).0, 0);
        assert_eq!(ann.set_one("g", 1, "a", "c", Some(0)).0, 23_001);
        administrator.page("g", 1, 0);
    }
    let body = r#"{"GroupId":"g","MsgSeq":1,"OperateType":3}"#;
    for caller in [&ann, &administrator] {
        assert_eq!(caller.call(SET, body).unwrap()["ErrorCode"], 23_003);
    }
    let page = administrator.page("g", 1, 0);
    assert_eq!((page.latest, page.clear, page.pairs.len()), (100, 0, 1));
    // Another message has attempts of its own.
    let next = send(&administrator);
    assert_eq!(ann.set_one("g", next, "a", "b", Some(0)).0, 0);
}
