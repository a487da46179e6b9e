//! Members who want the same pair at the same time, and who try again as the protocol says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;

use serde_json::json;

use crate::caller::Caller;
use crate::server::{ADMINISTRATOR, APP, ConfigOptions, Running};

const MEMBERS: usize = 16;

/// How often each of them has to succeed.
const WRITES: usize = 8;

/// A write that succeeded: the Seq that was claimed, and the value.
struct Won {
    claim: u64,
    value: String,
}

/// What a member saw: its successes by Seq, and the pairs that it was shown when it lost.
#[derive(Default)]
struct Seen {
    won: BTreeMap<u64, Won>,
    shown: Vec<(u64, String)>,
}

/// Rule 3.4: sets the key until it has succeeded so often, each time with the Seq that it saw last.
fn race(caller: &Caller, member: usize) -> Seen {
    let (mut seen, mut claim) = (Seen::default(), 0);
    while seen.won.len() < WRITES {
        let value = format!("{member}.{}", seen.won.len());
        let (code, pair) = caller.set_one("g", 1, "chair", &value, Some(claim));
        match code {
            0 => {
                assert_eq!(pair.value, value);
                assert!(pair.seq > claim);
                assert!(seen.won.insert(pair.seq, Won { claim, value }).is_none(), "a Seq twice");
            }
            23_001 => {
                assert_ne!(pair.seq, claim, "the claim was right and was refused");
                seen.shown.push((pair.seq, pair.value));
            }
            other => panic!("{other}"),
        }
        claim = pair.seq;
    }
    seen
}

#[test]
fn of_all_who_saw_the_same_version_one_wins() {
    let limits = "attempts_per_minute = 0".to_owned();
    let server = Running::start(&ConfigOptions { limits, ..ConfigOptions::default() });
    race_through(&[server.address]);
}

/// Members race, spread over servers that share a store without limits on attempts.
pub(crate) fn race_through(servers: &[SocketAddr]) {
    let administrator = Caller::new(servers[0], APP, ADMINISTRATOR);
    let users: Vec<_> = (0..MEMBERS).map(|member| format!("member{member}")).collect();
    administrator.ok("im_open_login_svc/multiaccount_import", &json!({"Accounts": users}).to_string());
    let members: Vec<_> = users.iter().map(|user| json!({"Member_Account": user})).collect();
    let group = json!({"GroupId": "g", "Type": "Public", "Name": "g", "MemberList": members});
    administrator.ok("group_open_http_svc/create_group", &group.to_string());
    let message = r#"{"GroupId":"g","Random":1,"SupportMessageExtension":1,
        "MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"who takes the chair?"}}]}"#;
    administrator.ok("group_open_http_svc/send_group_msg", message);

    let start = Barrier::new(MEMBERS);
    let seen: Vec<Seen> = thread::scope(|scope| {
        let racers: Vec<_> = users
            .iter()
            .enumerate()
            .map(|(member, user)| {
                let (start, address) = (&start, servers[member % servers.len()]);
                scope.spawn(move || {
                    let caller = Caller::new(address, APP, user);
                    start.wait();
                    race(&caller, member)
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });

    // Each number was given out once, and each was a success (rule 3.2).
    let (mut won, mut shown) = (BTreeMap::new(), Vec::new());
    for seen in seen {
        for (seq, win) in seen.won {
            assert!(won.insert(seq, win).is_none(), "{seq} was given out twice");
        }
        shown.extend(seen.shown);
    }
    let numbers: Vec<u64> = won.keys().copied().collect();
    assert_eq!(numbers, (1..=(MEMBERS * WRITES) as u64).collect::<Vec<_>>());
    let page = administrator.page("g", 1, 0);
    assert_eq!(page.latest, (MEMBERS * WRITES) as u64);
    assert_eq!(page.pairs[0].seq, page.latest);
    assert_eq!(page.pairs[0].value, won[&page.latest].value);

    // Who won had seen the success just before, so that no stale writer ever won.
    for (seq, win) in &won {
        assert_eq!(win.claim, seq - 1);
    }
    // Who lost was shown what somebody had written, and there were losers.
    assert!(!shown.is_empty());
    for (seq, value) in shown {
        assert_eq!(won[&seq].value, value);
    }
}
