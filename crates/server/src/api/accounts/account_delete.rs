//! `POST account_delete` (groups-and-messages.md section 1.4).

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join_all;
use serde::Serialize;
use sidenote_core::command::AccountAction;
use sidenote_core::ids::UserId;
use sidenote_core::{Outcome, Refusal};

use crate::api::accounts::named_accounts;
use crate::api::{Call, Fault, unexpected};
use crate::wire::envelope;
use crate::wire::error_code::ErrorCode;
use crate::wire::json::Object;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Reply<'a> {
    result_item: Vec<Item<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item<'a> {
    result_code: u32,
    result_info: &'static str,
    #[serde(rename = "UserID")]
    user_id: &'a str,
}

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let users = named_accounts(body, "DeleteItem")?;

    // Each account once, all at once so that they share commits.
    let distinct: BTreeSet<&UserId> = users.iter().collect();
    let results = try_join_all(distinct.into_iter().map(|user| delete(call, user))).await?;
    let results: BTreeMap<_, _> = results.into_iter().collect();

    let items = users.iter().map(|user| {
        let (result_code, result_info) = results[user];
        Item { result_code, result_info, user_id: user.as_str() }
    });
    Ok(envelope::success(&Reply { result_item: items.collect() }))
}

/// Deletes an account: its code and text.
async fn delete<'a>(call: &Call, user: &'a UserId) -> Result<(&'a UserId, (u32, &'static str)), Fault> {
    if call.names_administrator(user) {
        let text = "a configured administrator of the app cannot be deleted";
        return Ok((user, (ErrorCode::BadAccountParameter.code(), text)));
    }
    let result = match call.change_account(user, AccountAction::Delete).await {
        Ok(Outcome::Done) => (0, ""),
        Ok(other) => unexpected(&other),
        Err(Fault::Refused(Refusal::NoSuchAccount)) => {
            (ErrorCode::CallerUnknown.code(), "Err_TLS_PT_Open_Login_Account_Not_Exist")
        }
        Err(fault) => return Err(fault),
    };
    Ok((user, result))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::api::testing::World;

    #[tokio::test]
    async fn every_account_has_its_result() {
        let world = World::new().await;
        world.ok("account_import", r#"{"UserID":"UserID_1"}"#).await;
        let body = r#"{"DeleteItem":[{"UserID":"UserID_1"},{"UserID":"nobody"},{"UserID":"administrator"}]}"#;
        let answer = world.ok("account_delete", body).await;
        assert_eq!(
            answer["ResultItem"],
            json!([
                {"ResultCode":0,"ResultInfo":"","UserID":"UserID_1"},
                {"ResultCode":70107,"ResultInfo":"Err_TLS_PT_Open_Login_Account_Not_Exist","UserID":"nobody"},
                {"ResultCode":70402,"ResultInfo":"a configured administrator of the app cannot be deleted",
                    "UserID":"administrator"},
            ])
        );
        let body = r#"{"CheckItem":[{"UserID":"UserID_1"},{"UserID":"administrator"}]}"#;
        let answer = world.ok("account_check", body).await;
        assert_eq!(answer["ResultItem"][0]["AccountStatus"], "NotImported");
        assert_eq!(answer["ResultItem"][1]["AccountStatus"], "Imported");
    }

    #[tokio::test]
    async fn a_deleted_account_leaves_its_groups_at_once() {
        let world = World::new().await;
        world.ok("multiaccount_import", r#"{"Accounts":["leckie","tommy"]}"#).await;
        let body = r#"{"Owner_Account":"tommy","Type":"Public","Name":"n","GroupId":"g",
            "MemberList":[{"Member_Account":"leckie"}]}"#;
        world.ok("create_group", body).await;
        world.ok("account_delete", r#"{"DeleteItem":[{"UserID":"tommy"}]}"#).await;
        let answer =
            world.ok("get_role_in_group", r#"{"GroupId":"g","User_Account":["tommy","leckie"]}"#).await;
        assert_eq!(answer["UserIdList"][0]["Role"], "NotMember");
        assert_eq!(answer["UserIdList"][1]["Role"], "Member");
        let answer = world.ok("get_group_info", r#"{"GroupIdList":["g"]}"#).await;
        assert_eq!(answer["GroupInfo"][0]["Owner_Account"], "");
        assert_eq!(answer["GroupInfo"][0]["MemberNum"], 1);
        assert_eq!(world.code("get_joined_group_list", r#"{"Member_Account":"tommy"}"#).await, 10_019);

        // Whoever comes under the old name is somebody else.
        world.ok("account_import", r#"{"UserID":"tommy"}"#).await;
        let answer = world.ok("get_joined_group_list", r#"{"Member_Account":"tommy"}"#).await;
        assert_eq!((&answer["TotalCount"], &answer["GroupIdList"]), (&json!(0), &json!([])));
    }

    #[tokio::test]
    async fn bad_requests_have_their_codes_and_delete_nothing() {
        let world = World::new().await;
        world.ok("account_import", r#"{"UserID":"a"}"#).await;
        let items = |count| json!({"DeleteItem": vec![json!({"UserID":"a"}); count]}).to_string();
        for (code, body) in [
            (70_402, items(101)),
            (70_402, items(0)),
            (70_402, "{}".to_owned()),
            (70_402, r#"{"DeleteItem":[{"UserID":"a"},"b"]}"#.to_owned()),
            (70_402, r#"{"DeleteItem":[{"UserID":"a"},{"UserID":"a\u0000"}]}"#.to_owned()),
            (60_015, r#"{"DeleteItem":[{"UserID":"a"},{"UserID":7}]}"#.to_owned()),
        ] {
            assert_eq!(world.code("account_delete", &body).await, code, "{body}");
        }
        let answer = world.ok("account_delete", &items(100)).await;
        assert!(answer["ResultItem"].as_array().unwrap().iter().all(|item| item["ResultCode"] == 0));
        let answer = world.ok("account_delete", &items(1)).await;
        assert_eq!(answer["ResultItem"][0]["ResultCode"], 70_107);
    }
}
