//! What a demo prints: one `curl` line for each thing worth seeing, and what to expect from it.

use std::fmt::Write as _;

use crate::client::Client;

use super::live_poll;
use super::seed::{GROUP, MEMBERS, POLL, Poll};

/// How long the printed tickets are valid, in seconds: a day.
pub(super) const TICKET_SECONDS: u64 = 86_400;

const SET: &str = "openim_msg_ext_http_svc/group_set_key_values";
const GET: &str = "openim_msg_ext_http_svc/group_get_key_values";

/// The published sample requests as they are printed, the first one with the comma before the bracket.
const SAMPLE_SET: &str = r#"{"GroupId": "@TGS#1YMVAB3IZ","MsgSeq": 158,"OperateType": 1,"ExtensionList": [{"Key": "key1", "Value": "value1", "Seq": 0},{"Key": "key2", "Value": "value2", "Seq": 0},]}"#;
const SAMPLE_DELETE: &str = r#"{"GroupId": "@TGS#1YMVAB3IZ","MsgSeq": 158,"OperateType": 2,"ExtensionList": [{"Key": "key1", "Value": "", "Seq": 1}]}"#;
const SAMPLE_CLEAR: &str = r#"{"GroupId": "@TGS#1YMVAB3IZ","MsgSeq": 158,"OperateType": 3}"#;

/// The whole text. The numbers in it hold if the lines are run once each, in their order.
pub(super) fn text(client: &Client, administrator: &str, poll: &Poll) -> String {
    let &Poll { latest, ann: known } = poll;
    let (sampled, voted, overruled, deleted, cleared) =
        (latest + 1, latest + 2, latest + 3, latest + 4, latest + 5);
    let vote = |value: &str, seq: u64| {
        format!(
            r#"{{"GroupId":"{GROUP}","MsgSeq":{POLL},"OperateType":1,"ExtensionList":[{{"Key":"ann","Value":"{value}","Seq":{seq}}}]}}"#
        )
    };
    let whole = format!(r#"{{"GroupId":"{GROUP}","MsgSeq":{POLL}}}"#);
    let line = |user: &str, command: &str, body: &str| {
        let url = client.url(user, command, TICKET_SECONDS);
        debug_assert!(!body.contains('\'') && !url.contains('\''), "it stands between single quotes");
        format!("curl -sS -w '\\n' -d '{body}' '{url}'")
    };
    let [ann, bob, _] = MEMBERS;
    let steps = [
        ("Is the server ready? Expect: ready".to_owned(), format!("curl -sS '{}/readyz'", client.base())),
        (
            format!(
                "{administrator} sends the published sample, stray comma included. \
                 Expect: both keys written, with Seq {sampled}"
            ),
            line(administrator, SET, SAMPLE_SET),
        ),
        (
            format!("{administrator} pulls. Expect: key1 and key2, LatestSeq {sampled}"),
            line(administrator, GET, &whole),
        ),
        (
            format!(
                "ann, a member, votes; Seq {known} says {}. Expect: ErrorCode 0 and Seq {voted} for her key",
                if known == 0 { "\"there is no such pair yet\"" } else { "which pair she has seen" }
            ),
            line(ann, SET, &vote("noodles", known)),
        ),
        (
            format!(
                "bob changes ann's key and has not seen her vote. \
                 Expect: refused with 23001, and told the current value (noodles) and Seq ({voted})"
            ),
            line(bob, SET, &vote("pizza", known)),
        ),
        (
            format!("bob tries again with the Seq he was told. Expect: ErrorCode 0 and Seq {overruled}"),
            line(bob, SET, &vote("pizza", voted)),
        ),
        (
            format!(
                "{administrator} deletes key1, the second sample. Expect: an empty Value with Seq {deleted}"
            ),
            line(administrator, SET, SAMPLE_DELETE),
        ),
        (
            format!(
                "{administrator} clears the message, the third sample. Expect: an empty list and Seq {cleared}"
            ),
            line(administrator, SET, SAMPLE_CLEAR),
        ),
    ];

    let mut text = format!(
        "Sidenote answers on {}\n\n\
         A live poll is on {}{}: open it in a browser, vote in one window and watch the other.\n\n\
         There is a group {GROUP} with the members {}; its message {POLL} is a poll that takes\n\
         extensions. Paste these lines into another terminal, in their order. They are valid for a day.\n",
        client.base(),
        client.base(),
        live_poll::PATH,
        MEMBERS.join(", "),
    );
    for (number, (expect, line)) in (1..).zip(steps) {
        write!(text, "\n# {number}. {expect}\n{line}\n").expect("a String takes whatever is written to it");
    }
    text
}
