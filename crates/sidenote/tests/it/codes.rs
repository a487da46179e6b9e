//! Every code of `docs/errors.md` is caused here, from outside, or it is said who causes it.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use sidenote_server::auth::user_sig;
use sidenote_server::clock::{Clock as _, SystemClock};
use sidenote_server::config::Secret;

use crate::server::{ADMINISTRATOR, APP, ConfigOptions, OTHER_APP, Running, key_of};

const ACCOUNTS: &str = "im_open_login_svc";
const GROUPS: &str = "group_open_http_svc";
const EXTENSIONS: &str = "openim_msg_ext_http_svc";
const OPENIM: &str = "openim";

/// Codes that no request can cause, the tests that cause them instead, and how they are written there.
const CAUSED_ELSEWHERE: &[(u32, &str, &str)] = &[
    // The store has to fail for these.
    (10_002, "crates/server/tests/gateway/operations.rs", "10_002"),
    (70_500, "crates/server/tests/gateway/operations.rs", "70_500"),
    (20_004, "crates/server/tests/gateway/operations.rs", "20_004"),
    (91_000, "crates/server/tests/gateway/operations.rs", "91_000"),
    (20_005, "crates/server/src/api/fault.rs", "20_005"),
    // An app has to listen and say no.
    (10_016, "crates/server/src/webhooks/tests/questions.rs", "10_016"),
    (20_006, "crates/server/src/webhooks/tests/questions.rs", "20_006"),
    (80_003, "crates/server/src/webhooks/tests/questions.rs", "80_003"),
    // A configuration that names no key for an app is refused, so that a running server always has one. The code
    // stays, because signatures are checked by a function that can be called without a key and has to say so.
    (70_016, "crates/server/src/auth/user_sig/tests.rs", "UserSigError::NoKey"),
];

/// A server with the things that the rows speak of.
struct World {
    server: Running,
    /// The same without the Ultimate plan, and with one call a second.
    modest: Running,
}

impl World {
    fn new() -> Self {
        let server = Running::start(&ConfigOptions {
            limits: "attempts_per_minute = 3\nmessage_body_bytes = 1048576".to_owned(),
            http: "body_bytes = 2097152".to_owned(),
            ..ConfigOptions::default()
        });
        let limits = "calls_per_second = 1".to_owned();
        let modest = Running::start(&ConfigOptions { limits, plan: Some("pro"), ..ConfigOptions::default() });
        let world = Self { server, modest };
        world.ok(ACCOUNTS, "multiaccount_import", &json!({"Accounts": ["ann", "bob", "eve"]}));
        let members = json!([{"Member_Account": "bob"}]);
        let group = |id: &str| json!({"GroupId": id, "Type": "Public", "Name": id, "Owner_Account": "ann"});
        for id in ["g", "muted"] {
            let mut group = group(id);
            group["MemberList"] = members.clone();
            world.ok(GROUPS, "create_group", &group);
        }
        world.ok(GROUPS, "modify_group_base_info", &json!({"GroupId": "muted", "MuteAllMember": "On"}));
        let mut full = group("full");
        full["MaxMemberCount"] = json!(1);
        world.ok(GROUPS, "create_group", &full);
        // Messages 1 to 4 of the group: with pairs, without, busy, and one that fills an answer.
        for (flag, text) in [(1, "poll"), (0, "plain"), (1, "busy"), (0, &*"x".repeat(1_048_400))] {
            world.ok(GROUPS, "send_group_msg", &message("g", flag, text));
        }
        world
    }

    fn post(&self, user: &str, service: &str, command: &str, body: &str) -> Value {
        self.server.post(user, &format!("{service}/{command}"), body)
    }

    fn ok(&self, service: &str, command: &str, body: &Value) -> Value {
        let answer = self.post(ADMINISTRATOR, service, command, &body.to_string());
        assert_eq!(answer["ErrorCode"], 0, "{command}: {answer}");
        answer
    }

    /// The code that an administrator's request gets.
    fn code(&self, service: &str, command: &str, body: &Value) -> u32 {
        code(&self.post(ADMINISTRATOR, service, command, &body.to_string()))
    }

    /// The code of a request of a user who is no administrator.
    fn code_for(&self, user: &str, service: &str, command: &str, body: &Value) -> u32 {
        code(&self.post(user, service, command, &body.to_string()))
    }

    /// The code of a request with this query, whose body would be right.
    fn query(&self, query: &str) -> u32 {
        let command = format!("{ACCOUNTS}/account_check");
        code(&self.server.post_with_query(query, &command, r#"{"CheckItem":[{"UserID":"ann"}]}"#))
    }

    /// Clears the pairs of a message as an administrator.
    fn clear(&self, group: &str, number: u64) -> u32 {
        let body = json!({"GroupId": group, "MsgSeq": number, "OperateType": 3});
        self.code(EXTENSIONS, "group_set_key_values", &body)
    }

    /// Sends a message from Ann to Bob with one more member, or another value of one.
    fn letter(&self, member: &str, value: Value) -> u32 {
        self.code(OPENIM, "sendmsg", &letter(member, value))
    }

    /// Creates a group with these members more.
    fn create(&self, more: &Value) -> u32 {
        let mut group = json!({"Type": "Public", "Name": "new"});
        for (name, value) in more.as_object().unwrap() {
            group[name] = value.clone();
        }
        self.code(GROUPS, "create_group", &group)
    }
}

fn code(answer: &Value) -> u32 {
    answer["ErrorCode"].as_u64().unwrap_or_else(|| panic!("no code in {answer}")).try_into().unwrap()
}

fn message(group: &str, flag: u8, text: &str) -> Value {
    json!({
        "GroupId": group, "Random": rand::random::<u32>(), "SupportMessageExtension": flag,
        "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": text}}],
    })
}

/// A message from Ann to Bob with one more member, or another value of one.
fn letter(member: &str, value: Value) -> Value {
    let mut letter = json!({
        "From_Account": "ann", "To_Account": "bob", "MsgSeq": rand::random::<u32>(), "MsgRandom": 1,
        "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "hi"}}],
    });
    letter[member] = value;
    letter
}

/// Accounts that need not exist, as members.
fn crowd(count: usize) -> Vec<Value> {
    (0..count).map(|number| json!({"Member_Account": format!("user{number}")})).collect()
}

/// The query for an administrator of [`APP`] with a signature for other things.
fn query_with(signed_app: u32, key: &str, signed_user: &str, issued_at: u64) -> String {
    let key = Secret::new(key.to_owned()).unwrap();
    let ticket = user_sig::sign(signed_app, &key, signed_user, issued_at, 3600, None);
    format!("sdkappid={APP}&identifier={ADMINISTRATOR}&usersig={ticket}")
}

/// Asks for something that is answered with the code.
type Cause = fn(&World) -> u32;

const CAUSES: &[(u32, Cause)] = &[
    (10_003, |world| world.code(GROUPS, "no_such_command", &json!({}))),
    (10_004, |world| world.code(EXTENSIONS, "group_set_key_values", &json!({"GroupId": "g"}))),
    (10_005, |world| {
        world.code(GROUPS, "add_group_member", &json!({"GroupId": "g", "MemberList": crowd(301)}))
    }),
    (10_007, |world| {
        let body = json!({"GroupId": "g", "MsgSeq": 1});
        world.code_for("eve", EXTENSIONS, "group_get_key_values", &body)
    }),
    (10_008, |world| {
        let command = format!("{EXTENSIONS}/group_get_key_values");
        code(&world.modest.post(ADMINISTRATOR, &command, r#"{"GroupId":"g","MsgSeq":1}"#))
    }),
    (10_010, |world| world.clear("no such group", 1)),
    (10_014, |world| {
        let body = json!({"GroupId": "full", "MemberList": [{"Member_Account": "bob"}]});
        world.code(GROUPS, "add_group_member", &body)
    }),
    (10_015, |world| world.clear("", 1)),
    (10_017, |world| {
        let mut message = message("muted", 0, "may I?");
        message["From_Account"] = json!("bob");
        world.code(GROUPS, "send_group_msg", &message)
    }),
    (10_018, |world| {
        world.code(
            GROUPS,
            "group_msg_get_simple",
            &json!({"GroupId": "g", "ReqMsgSeq": 4, "ReqMsgNumber": 1}),
        )
    }),
    (10_019, |world| world.create(&json!({"Owner_Account": "nobody"}))),
    (10_021, |world| world.create(&json!({"GroupId": "g", "Owner_Account": "bob"}))),
    (10_025, |world| world.create(&json!({"GroupId": "g", "Owner_Account": "ann"}))),
    (10_030, |world| {
        let answer =
            world.ok(GROUPS, "group_msg_recall", &json!({"GroupId": "g", "MsgSeqList": [{"MsgSeq": 99}]}));
        answer["RecallRetList"][0]["RetCode"].as_u64().unwrap().try_into().unwrap()
    }),
    (10_038, |world| {
        let members = json!([{"Member_Account": "ann"}, {"Member_Account": "bob"}]);
        world.create(&json!({"MaxMemberCount": 1, "MemberList": members}))
    }),
    (20_003, |world| {
        let body = json!({"From_Account": "ann", "To_Account": "bob", "MsgKey": "1_2_3"});
        world.code_for("eve", EXTENSIONS, "get_key_values", &body)
    }),
    (20_022, |world| {
        let body = json!({"From_Account": "ann", "To_Account": "bob", "MsgKey": "1_2_3"});
        world.code(OPENIM, "admin_msgwithdraw", &body)
    }),
    (20_023, |world| {
        let sent = world.ok(OPENIM, "sendmsg", &letter("MsgRandom", json!(2)));
        let body = json!({"From_Account": "ann", "To_Account": "bob", "MsgKey": sent["MsgKey"]});
        world.ok(OPENIM, "admin_msgwithdraw", &body);
        world.code(OPENIM, "admin_msgwithdraw", &body)
    }),
    (23_001, |world| {
        let body = json!({
            "GroupId": "g", "MsgSeq": 1, "OperateType": 1,
            "ExtensionList": [{"Key": "a", "Value": "b", "Seq": 77}],
        });
        let answer = world.post("bob", EXTENSIONS, "group_set_key_values", &body.to_string());
        code(&answer["ExtensionList"][0])
    }),
    (23_002, |world| world.clear("g", 2)),
    (23_003, |world| {
        assert_eq!([(); 3].map(|()| world.clear("g", 3)), [0; 3]);
        world.clear("g", 3)
    }),
    (23_004, |world| world.clear("g", 99)),
    (40_601, |world| {
        world.code(ACCOUNTS, "account_import", &json!({"UserID": "ann", "Nick": "n".repeat(501)}))
    }),
    (60_002, |world| {
        code(&serde_json::from_str(&world.server.get(&format!("/v4/{ACCOUNTS}/account_check"))).unwrap())
    }),
    (60_003, |world| code(&world.post(ADMINISTRATOR, ACCOUNTS, "account_check", "[]"))),
    (60_007, |world| {
        let call = || code(&world.modest.post(ADMINISTRATOR, &format!("{ACCOUNTS}/account_check"), "{}"));
        // Two calls are not always within one second.
        (0..100).map(|_| call()).find(|code| *code != 70_402).unwrap()
    }),
    (60_009, |world| world.code("no_such_service", "account_check", &json!({}))),
    (60_010, |world| world.code_for("ann", GROUPS, "get_group_info", &json!({"GroupIdList": ["g"]}))),
    (60_012, |world| world.query("identifier=administrator")),
    (60_015, |world| world.code(ACCOUNTS, "account_import", &json!({"UserID": 7}))),
    (60_025, |world| world.query("sdkappid=seven")),
    (70_001, |world| world.query(&query_with(APP, &key_of(APP), ADMINISTRATOR, 1_500_000_000))),
    (70_003, |world| world.query(&format!("sdkappid={APP}&identifier={ADMINISTRATOR}&usersig=nonsense"))),
    (70_009, |world| world.query(&query_with(APP, "another key", ADMINISTRATOR, now()))),
    (70_013, |world| world.query(&query_with(APP, &key_of(APP), "ann", now()))),
    (70_014, |world| world.query(&query_with(OTHER_APP, &key_of(OTHER_APP), ADMINISTRATOR, now()))),
    (70_020, |world| world.query("sdkappid=7")),
    (70_107, |world| {
        let body = json!({"GroupId": "g", "MsgSeq": 1});
        world.code_for("nobody", EXTENSIONS, "group_get_key_values", &body)
    }),
    (70_402, |world| world.code(ACCOUNTS, "account_import", &json!({}))),
    (80_002, |world| world.code(GROUPS, "send_group_msg", &message("g", 0, &"x".repeat(1_048_576)))),
    (90_001, |world| code(&world.post(ADMINISTRATOR, OPENIM, "sendmsg", "[]"))),
    (90_002, |world| world.letter("MsgBody", json!([]))),
    (90_003, |world| world.letter("To_Account", json!(7))),
    (90_005, |world| world.letter("MsgRandom", json!("1"))),
    (90_006, |world| world.letter("MsgTimeStamp", json!("now"))),
    (90_007, |world| world.letter("MsgBody", json!("hi"))),
    (90_008, |world| world.letter("From_Account", json!("nobody"))),
    (90_010, |world| world.letter("MsgBody", json!([{"MsgType": "Text", "MsgContent": {}}]))),
    (90_012, |world| world.letter("To_Account", json!("nobody"))),
    (90_026, |world| world.letter("MsgLifeTime", json!(604_801))),
    (90_031, |world| world.letter("SyncOtherMachine", json!(3))),
    (90_043, |world| world.letter("OfflinePushInfo", json!("hi"))),
    (90_044, |world| world.letter("MsgLifeTime", json!("a week"))),
    (90_054, |world| {
        let body = json!({"From_Account": "ann", "To_Account": "bob", "MsgKey": 158});
        world.code(OPENIM, "admin_msgwithdraw", &body)
    }),
    (93_000, |world| world.letter("CloudCustomData", json!("x".repeat(1_048_576)))),
];

fn now() -> u64 {
    SystemClock.now_millis() / 1000
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// The codes that are told to callers: rows whose first cell has five digits.
fn documented() -> Vec<u32> {
    let text = std::fs::read_to_string(repository().join("docs/errors.md")).unwrap();
    let first_cells = text.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next());
    first_cells.filter_map(|cell| cell.trim().parse().ok()).filter(|code| *code >= 10_000).collect()
}

#[test]
fn every_code_is_caused() {
    let world = World::new();
    for (expected, cause) in CAUSES {
        assert_eq!(cause(&world), *expected);
    }
}

#[test]
fn the_rows_here_are_the_rows_of_the_documentation() {
    let elsewhere = CAUSED_ELSEWHERE.iter().map(|(code, _, _)| *code);
    let here: Vec<_> = CAUSES.iter().map(|(code, _)| *code).chain(elsewhere).collect();
    let documented = documented();
    assert!(documented.len() > 30, "the table has changed its shape");
    assert_eq!(BTreeSet::from_iter(&here).len(), here.len(), "a code is here twice");
    assert_eq!(BTreeSet::from_iter(here), BTreeSet::from_iter(documented));
}

#[test]
fn what_is_caused_elsewhere_is_mentioned_there() {
    for (code, path, mention) in CAUSED_ELSEWHERE {
        let text = std::fs::read_to_string(repository().join(path)).unwrap();
        assert!(text.contains(mention), "{code} is not in {path}");
    }
}
