//! What is answered without asking anybody: commands of things that this server does not have, such as friends and lists
//! of conversations. Each gets an honest empty answer, with the members without which a client asks again at once, for
//! ever (long-connection.md section 5).

use serde::Serialize;

use crate::api::App;
use crate::wire::envelope;
use crate::wire::json::{Object, Value};

/// How long a client may keep what it was told about functions and configuration, in seconds. A client that is told 0
/// asks every second.
const KEPT_SECONDS: u32 = 24 * 60 * 60;

/// The bit that says "messages have extensions", counted from the right.
const EXTENSIONS_BIT: usize = 13;

/// Longest list of accounts that is answered one by one.
const MAX_PROFILES: usize = 100;

/// The command by which clients send statistics, which are dropped unread.
pub(super) const STATISTICS: &str = "imopenstat.tim_web_report_v2";

/// Says which functions the server has: extensions, if the app's plan includes them, and nothing else. Of up to 64
/// digits, one for each function, the last is number 0.
pub(super) fn functions(app: &App) -> &'static str {
    const EXTENSIONS: &str = "10000000000000";
    const { assert!(EXTENSIONS.len() == EXTENSIONS_BIT + 1, "the first digit is that of the extensions") };
    if app.ultimate { EXTENSIONS } else { "0" }
}

/// The answer to a command of class B or C; `None` for all others.
pub(super) fn known(servcmd: &str, app: &App, body: Object<'_>) -> Option<Vec<u8>> {
    let number = |name: &str| body.get(name).and_then(Value::as_integer).and_then(|n| u64::try_from(n).ok());
    Some(match servcmd {
        "im_sdk_config_mgr.fetch_imsdk_purchase_bitsv2" => envelope::success(&Functions {
            int32_error_code: 0,
            str_purchase_bits: functions(app),
            uint32_expired_time: KEPT_SECONDS,
        }),
        "im_sdk_config_mgr.fetch_config" => envelope::success(&Configuration {
            int32_error_code: 0,
            str_json_config: "{}",
            uint32_expired_time: KEPT_SECONDS,
            uint64_version: number("uint64_version").unwrap_or(0),
        }),
        "million_group_open_http_svc.get_joined_group_list" => {
            envelope::success(&Groups { total_count: 0, group_id_list: [] })
        }
        "openim.getmsg" => envelope::success(&Unread {
            cookie: body.get("Cookie").and_then(Value::as_str).filter(|text| !text.is_empty()).unwrap_or("0"),
            sync_flag: 2,
            msg_list: [],
            event_array: [],
        }),
        "recentcontact.page_get" => envelope::success(&Conversations {
            complete_flag: 1,
            session_item: [],
            time_stamp: number("TimeStamp").unwrap_or(0),
            start_index: number("StartIndex").unwrap_or(0),
            top_time_stamp: number("TopTimeStamp").unwrap_or(0),
            top_start_index: number("TopStartIndex").unwrap_or(0),
        }),
        "recentcontact.get_contact_group" | "recentcontact.search_contact_group" => {
            envelope::success(&ConversationGroups { complete_flag: 1, group_item: [] })
        }
        "profile.portrait_get_all" => envelope::success(&Profiles { user_profile_item: profiles(body) }),
        "sns.black_list_get" => envelope::success(&BlackList { black_list_item: [], start_index: 0 }),
        "sns.friend_get" | "sns.group_get" | "sns.pendency_get" => {
            envelope::success(&Complete { complete_flag: 1 })
        }
        "im_open_status.wshello" | STATISTICS => envelope::plain_success(),
        _ => return None,
    })
}

#[derive(Serialize)]
struct Functions {
    int32_error_code: u32,
    str_purchase_bits: &'static str,
    uint32_expired_time: u32,
}

#[derive(Serialize)]
struct Configuration {
    int32_error_code: u32,
    /// An object as a text.
    str_json_config: &'static str,
    uint32_expired_time: u32,
    uint64_version: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Groups {
    total_count: u32,
    group_id_list: [(); 0],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Unread<'a> {
    /// Where the next request goes on; never empty.
    cookie: &'a str,
    /// 2: this was all.
    sync_flag: u8,
    msg_list: [(); 0],
    event_array: [(); 0],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Conversations {
    /// 1: this was all.
    complete_flag: u8,
    session_item: [(); 0],
    time_stamp: u64,
    start_index: u64,
    top_time_stamp: u64,
    top_start_index: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConversationGroups {
    complete_flag: u8,
    group_item: [(); 0],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct BlackList {
    black_list_item: [(); 0],
    /// 0: this was all.
    start_index: u8,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Complete {
    complete_flag: u8,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Profiles<'a> {
    user_profile_item: Vec<Profile<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Profile<'a> {
    #[serde(rename = "To_Account")]
    to_account: &'a str,
    #[serde(rename = "ProfileItem")]
    items: [(); 0],
    result_code: u8,
}

/// An empty profile for everybody who is asked about.
fn profiles(body: Object<'_>) -> Vec<Profile<'_>> {
    let Some(asked) = body.get("UserItem").and_then(Value::as_array) else { return Vec::new() };
    let profile = |to_account| Profile { to_account, items: [], result_code: 0 };
    asked.iter().filter_map(asked_about).take(MAX_PROFILES).map(profile).collect()
}

fn asked_about(item: Value<'_>) -> Option<&str> {
    item.as_object()?.get("To_Account")?.as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sidenote_core::ids::AppId;

    use super::*;
    use crate::wire::json::Document;

    fn app(ultimate: bool) -> App {
        App { id: AppId::new(1), keys: Vec::new(), administrators: Vec::new(), ultimate }
    }

    fn answer(servcmd: &str, body: &str) -> serde_json::Value {
        let document = Document::parse(body.as_bytes()).unwrap();
        let answer = known(servcmd, &app(true), document.root()).unwrap();
        serde_json::from_slice(&answer).unwrap()
    }

    #[test]
    fn no_empty_answer_makes_a_client_ask_again() {
        for (servcmd, member, value) in [
            ("recentcontact.page_get", "CompleteFlag", json!(1)),
            ("recentcontact.get_contact_group", "CompleteFlag", json!(1)),
            ("sns.friend_get", "CompleteFlag", json!(1)),
            ("sns.black_list_get", "StartIndex", json!(0)),
            ("openim.getmsg", "SyncFlag", json!(2)),
            ("openim.getmsg", "Cookie", json!("0")),
            ("million_group_open_http_svc.get_joined_group_list", "TotalCount", json!(0)),
            ("im_sdk_config_mgr.fetch_config", "int32_error_code", json!(0)),
            ("im_sdk_config_mgr.fetch_imsdk_purchase_bitsv2", "uint32_expired_time", json!(86_400)),
        ] {
            let answer = answer(servcmd, "{}");
            assert_eq!(answer["ErrorCode"], 0, "{servcmd}");
            assert_eq!(answer[member], value, "{servcmd}");
        }
        assert_eq!(answer("openim.getmsg", r#"{"Cookie":"abc"}"#)["Cookie"], "abc");
        // Statistics are answered without a look at them.
        let statistics = answer(STATISTICS, r#"{"table":1}"#);
        assert_eq!(statistics, json!({"ActionStatus": "OK", "ErrorInfo": "", "ErrorCode": 0}));
    }

    #[test]
    fn everybody_who_is_asked_about_has_an_empty_profile() {
        let body = r#"{"UserItem":[{"To_Account":"ann"},{"To_Account":7},{},[],{"To_Account":"bob"}]}"#;
        let profile = |name: &str| json!({"To_Account": name, "ProfileItem": [], "ResultCode": 0});
        let answered = answer("profile.portrait_get_all", body);
        assert_eq!(answered["UserProfileItem"], json!([profile("ann"), profile("bob")]));
        assert_eq!(answer("profile.portrait_get_all", r#"{"UserItem":7}"#)["UserProfileItem"], json!([]));
    }

    #[test]
    fn the_functions_are_those_that_the_plan_has() {
        assert_eq!(functions(&app(true)).chars().rev().nth(EXTENSIONS_BIT), Some('1'));
        assert_eq!(functions(&app(true)).matches('1').count(), 1);
        assert_eq!(functions(&app(false)), "0");
    }

    #[test]
    fn everything_else_is_unknown_here() {
        let document = Document::parse(b"{}").unwrap();
        for servcmd in ["", ".", "openim", "openim.sendmsg", "sns.friend_add", "OPENIM.GETMSG"] {
            assert_eq!(known(servcmd, &app(true), document.root()), None, "{servcmd}");
        }
    }
}
