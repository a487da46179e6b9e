//! The server dies, and its clients come back.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sidenote_torture::long::{LongClient, command};

use super::{administrate, message, set, world};
use crate::killed::{ROUNDS, change_until_killed};
use crate::server::ConfigOptions;

#[test]
fn whoever_comes_back_after_kill_9_has_every_change_that_was_answered() {
    let limits = "attempts_per_minute = 0".to_owned();
    let mut server = world(&ConfigOptions { limits, ..ConfigOptions::default() });
    let mut poll = message(1);
    poll["From_Account"] = json!("ann");
    assert_eq!(administrate(&server, "group_open_http_svc/send_group_msg", &poll)["MsgSeq"], 1);
    let mut bob = LongClient::logged_in(server.address, "bob");

    let (mut known, mut latest) = (BTreeMap::new(), 0);
    let (mut answered, mut missed) = (0, 0);
    for round in 0..ROUNDS {
        let pairs = change_until_killed(&mut server, round);
        // What he was told before the connection broke, in order.
        let mut told = latest;
        while let Ok(frame) = bob.frame() {
            let seq = number(&frame["body"]["EventArray"][0]["MsgExtensionNotify"]["MsgLastSeq"]);
            assert!(seq <= told + 1, "{seq} after {told}");
            told = told.max(seq);
        }
        answered += pairs.len();

        server.restart();
        let (a2, tiny_id) = bob.a2();
        bob = LongClient::open(server.address);
        assert_eq!(bob.log_in_again(&a2, &tiny_id)["ErrorCode"], 0);
        let since = json!({"GroupId": "g", "MsgSeq": 1, "startSeq": latest + 1});
        let page = bob.ok(command::PULL, &since);
        assert_eq!(page["CompleteFlag"], 1, "{page}");
        for pair in page["ExtensionList"].as_array().unwrap() {
            known.insert(pair["Key"].as_str().unwrap().to_owned(), number(&pair["Seq"]));
        }
        latest = number(&page["LatestSeq"]);
        assert!(latest >= told, "he was told of change {told}, and {latest} is the last");
        missed += latest - told;
        for pair in pairs {
            assert_eq!(known.get(&pair.key), Some(&pair.seq), "{pair:?} was answered in round {round}");
        }
    }
    println!("{answered} changes were answered, {missed} were made and not pushed");
    // He is told of what comes next.
    let body = set(1, &[("last", "v", 0)]).to_string();
    assert_eq!(server.post("ann", "openim_msg_ext_http_svc/group_set_key_values", &body)["Seq"], latest + 1);
    assert_eq!(bob.event()["MsgExtensionNotify"]["MsgLastSeq"], latest + 1);
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}
