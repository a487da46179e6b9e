//! However much is stored, the process takes what its configuration says (docs/operations.md).

use std::thread;

use serde_json::json;

use crate::caller::Caller;
use crate::hostile::{SLACK, peak_memory, pid_of, scale};
use crate::server::{ADMINISTRATOR, APP, ConfigOptions, Running};

const MIB: usize = 1024 * 1024;

/// Each of the two caches.
const CACHE: usize = 8 * MIB;

/// Rows that the engine has not flushed.
const UNFLUSHED: usize = 80 * MIB;

/// Pairs of each message and bytes of each value.
const PAIRS: usize = 20;
const VALUE_BYTES: usize = 1000;

/// Clients side by side.
const CLIENTS: usize = 4;

#[test]
fn memory_does_not_grow_with_what_is_stored() {
    let messages = scale(2400, 24_000);
    let store = format!("block_cache_bytes = {CACHE}\nstate_cache_bytes = {CACHE}");
    let limits = "attempts_per_minute = 0".to_owned();
    let server = Running::start(&ConfigOptions { store, limits, ..Default::default() });
    let administrator = Caller::new(server.address, APP, ADMINISTRATOR);
    let group = json!({"GroupId": "g", "Type": "Public", "Name": "g"}).to_string();
    administrator.ok("group_open_http_svc/create_group", &group);
    let pid = pid_of(&server);
    let before = peak_memory(pid);

    // The second time every pair is written over, and its event holds what it was.
    let stored = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let caller = Caller::new(server.address, APP, ADMINISTRATOR);
                scope.spawn(move || write(&caller, client, messages / CLIENTS))
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum::<usize>()
    });
    for message in 1..=messages as u64 / 10 {
        let page = administrator.page("g", message * 10, 0);
        assert_eq!((page.pairs.len(), page.complete), (PAIRS, true), "message {message}");
    }

    let (peak, bound) = (peak_memory(pid), before + 2 * CACHE + UNFLUSHED + SLACK);
    eprintln!(
        "{} MiB stored; memory {} MiB before, {} at the peak, bound {}",
        stored / MIB,
        before / MIB,
        peak / MIB,
        bound / MIB
    );
    assert!(stored > bound, "so little would fit into memory: {stored} bytes, bound {bound}");
    assert!(peak <= bound, "{peak} bytes of memory, {bound} are the bound");
}

/// Sends so many messages, each with all its pairs, twice. Bytes of the values that were stored, in pairs and events.
fn write(caller: &Caller, client: usize, messages: usize) -> usize {
    // Values are pieces of it: texts that differ all over, so that compression saves little.
    let text: String = (0..64 * VALUE_BYTES).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect();
    let mut stored = 0;
    for number in 0..messages {
        let sent = caller.ok(
            "group_open_http_svc/send_group_msg",
            &json!({
                "GroupId": "g", "Random": client * 1_000_000 + number, "SupportMessageExtension": 1,
                "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "who comes?"}}],
            })
            .to_string(),
        );
        for round in 0..2 {
            let value = || {
                let start = rand::random_range(0..=text.len() - VALUE_BYTES);
                &text[start..start + VALUE_BYTES]
            };
            let pairs: Vec<_> = (0..PAIRS)
                .map(|pair| json!({"Key": format!("k{pair}"), "Value": value(), "Seq": 0}))
                .collect();
            caller.ok(
                "openim_msg_ext_http_svc/group_set_key_values",
                &json!({
                    "GroupId": "g", "MsgSeq": sent["MsgSeq"], "OperateType": 1, "ExtensionList": pairs,
                })
                .to_string(),
            );
            stored += (2 + round) * PAIRS * VALUE_BYTES;
        }
        // The first values of the pairs were replaced.
        stored -= PAIRS * VALUE_BYTES;
    }
    stored
}
