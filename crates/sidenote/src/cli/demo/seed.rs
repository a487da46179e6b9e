//! Fills the store of a demo: accounts, a group with its members, and messages, of which the last two are polls.
//!
//! It goes through the HTTP API like any other client, and every step looks at what is there already, so that
//! it can be repeated on the folder of an earlier demo, even of one that was interrupted.

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use sidenote_server::clock::{Clock as _, SystemClock};

use crate::client::Client;

/// The group of the published sample requests.
pub(super) const GROUP: &str = "@TGS#1YMVAB3IZ";

/// Number of the message in the published sample requests.
pub(super) const POLL: u64 = 158;

/// Number of the message whose extensions the page of the demo shows.
pub(super) const LIVE_POLL: u64 = POLL + 1;

/// What that poll asks.
pub(super) const LIVE_POLL_TITLE: &str = "What do we do on Friday?";

/// What can be voted for.
pub(super) const LIVE_POLL_OPTIONS: [&str; 3] = ["picnic", "museum", "stay home"];

/// Members of the group; the first owns it.
pub(super) const MEMBERS: [&str; 3] = ["ann", "bob", "carol"];

/// Codes of `import_group` that say that the group is there.
const TAKEN: [i64; 2] = [10_021, 10_025];

/// As many messages as one `import_group_msg` takes.
const MESSAGES_A_CALL: u64 = 7;

/// How long ago the group was made, in seconds, and how far apart its messages are: its history lies before now.
const GROUP_AGE: u64 = 86_400;
const MESSAGE_DISTANCE: u64 = 60;

/// What a demo has to know about its poll to say what will happen.
pub(super) struct Poll {
    /// LatestSeq of its extensions.
    pub(super) latest: u64,
    /// Seq of the pair that is ann's, 0 if there is none.
    pub(super) ann: u64,
}

/// Makes what is not there yet.
pub(super) fn fill(client: &Client, administrator: &str) -> anyhow::Result<Poll> {
    let ask = |command: &str, body: &Value| ask(client, administrator, command, body);
    import_accounts(&ask)?;
    let group = import_group(client, administrator, &ask)?;
    import_members(&ask)?;
    write_messages(&ask, &group)?;
    look_at_poll(&ask)
}

/// Sends a request and insists on success.
fn ask(client: &Client, user: &str, command: &str, body: &Value) -> anyhow::Result<Value> {
    let answer = client.call(user, command, &body.to_string())?;
    if answer.code != 0 {
        bail!("{command} answered {}: {}", answer.code, answer.body["ErrorInfo"]);
    }
    Ok(answer.body)
}

fn import_accounts(ask: &impl Fn(&str, &Value) -> anyhow::Result<Value>) -> anyhow::Result<()> {
    let accounts: Vec<_> = MEMBERS.iter().map(|user| json!({"UserID": user})).collect();
    let answer = ask("im_open_login_svc/multiaccount_import", &json!({"AccountList": accounts}))?;
    match answer["FailAccounts"].as_array() {
        Some(failed) if failed.is_empty() => Ok(()),
        _ => bail!("not all accounts could be imported: {answer}"),
    }
}

/// The group, as `get_group_info` tells it.
fn import_group(
    client: &Client,
    administrator: &str,
    ask: &impl Fn(&str, &Value) -> anyhow::Result<Value>,
) -> anyhow::Result<Value> {
    let created = SystemClock.now_millis() / 1000 - GROUP_AGE;
    let group = json!({
        "GroupId": GROUP, "Type": "Public", "Name": "Lunch", "Owner_Account": MEMBERS[0], "CreateTime": created,
    });
    let command = "group_open_http_svc/import_group";
    let answer = client.call(administrator, command, &group.to_string())?;
    if answer.code != 0 && !TAKEN.contains(&answer.code) {
        bail!("{command} answered {}: {}", answer.code, answer.body["ErrorInfo"]);
    }
    let mut answer = ask("group_open_http_svc/get_group_info", &json!({"GroupIdList": [GROUP]}))?;
    let group = answer["GroupInfo"][0].take();
    if group["ErrorCode"] != 0 {
        bail!("the group {GROUP} is not there: {group}");
    }
    Ok(group)
}

fn import_members(ask: &impl Fn(&str, &Value) -> anyhow::Result<Value>) -> anyhow::Result<()> {
    let members: Vec<_> = MEMBERS[1..].iter().map(|user| json!({"Member_Account": user})).collect();
    let body = json!({"GroupId": GROUP, "MemberList": members});
    let answer = ask("group_open_http_svc/import_group_member", &body)?;
    let results = answer["MemberList"].as_array().context("the answer has no MemberList")?;
    // 1 is added, 2 is a member already.
    if results.len() == members.len()
        && results.iter().all(|member| member["Result"] == 1 || member["Result"] == 2)
    {
        Ok(())
    } else {
        bail!("not all members could be imported: {answer}")
    }
}

/// Imports the messages before the polls, then sends the polls, which alone take extensions.
fn write_messages(ask: &impl Fn(&str, &Value) -> anyhow::Result<Value>, group: &Value) -> anyhow::Result<()> {
    let created = group["CreateTime"].as_u64().context("the group has no CreateTime")?;
    let mut next = group["NextMsgSeq"].as_u64().context("the group has no NextMsgSeq")?;
    while next < POLL {
        let numbers = next..POLL.min(next + MESSAGES_A_CALL);
        let messages = numbers.clone().zip(MEMBERS.iter().cycle()).map(|(number, from)| {
            json!({
                "From_Account": from,
                "SendTime": created + number * MESSAGE_DISTANCE,
                "Random": number,
                "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": format!("message {number}")}}],
            })
        });
        let messages: Vec<_> = messages.collect();
        let answer =
            ask("group_open_http_svc/import_group_msg", &json!({"GroupId": GROUP, "MsgList": messages}))?;
        let results = answer["ImportMsgResult"].as_array().context("the answer has no ImportMsgResult")?;
        if results.len() != messages.len() || results.iter().any(|result| result["Result"] != 0) {
            bail!("not all messages could be imported: {answer}");
        }
        next = numbers.end;
    }
    let polls = [
        (POLL, "Where do we have lunch?", &["noodles", "pizza"][..]),
        (LIVE_POLL, LIVE_POLL_TITLE, &LIVE_POLL_OPTIONS[..]),
    ];
    for (number, title, options) in polls.into_iter().skip_while(|(number, ..)| *number < next) {
        let question = json!({"title": title, "options": options}).to_string();
        let poll = json!({
            "GroupId": GROUP,
            "From_Account": MEMBERS[0],
            "Random": number,
            "SupportMessageExtension": 1,
            "MsgBody": [{"MsgType": "TIMCustomElem", "MsgContent": {"Data": question, "Desc": "poll"}}],
        });
        let answer = ask("group_open_http_svc/send_group_msg", &poll)?;
        if answer["MsgSeq"] != number {
            bail!("this poll was to be message {number}: {answer}");
        }
    }
    Ok(())
}

fn look_at_poll(ask: &impl Fn(&str, &Value) -> anyhow::Result<Value>) -> anyhow::Result<Poll> {
    let (mut start, mut ann) = (0, 0);
    loop {
        let body = json!({"GroupId": GROUP, "MsgSeq": POLL, "StartSeq": start});
        let page = ask("openim_msg_ext_http_svc/group_get_key_values", &body)?;
        let pairs = page["ExtensionList"].as_array().context("the answer has no ExtensionList")?;
        // A pair without a value has been deleted.
        if let Some(pair) = pairs.iter().find(|pair| pair["Key"] == MEMBERS[0] && pair["Value"] != "") {
            ann = pair["Seq"].as_u64().context("a pair has no Seq")?;
        }
        match pairs.last().and_then(|pair| pair["Seq"].as_u64()) {
            Some(last) if page["CompleteFlag"] == 0 => start = last + 1,
            _ => {
                let latest = page["LatestSeq"].as_u64().context("the answer has no LatestSeq")?;
                return Ok(Poll { latest, ann });
            }
        }
    }
}
