//! `POST account_check` (groups-and-messages.md section 1.3).

use serde::Serialize;

use crate::api::accounts::named_accounts;
use crate::api::{Call, Fault};
use crate::wire::envelope;
use crate::wire::json::Object;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Reply<'a> {
    result_item: Vec<Item<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item<'a> {
    #[serde(rename = "UserID")]
    user_id: &'a str,
    result_code: u32,
    result_info: &'static str,
    account_status: &'static str,
}

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let users = named_accounts(body, "CheckItem")?;

    let accounts = call.accounts(&users).await?;

    let items = users.iter().zip(accounts).map(|(user, account)| Item {
        user_id: user.as_str(),
        result_code: 0,
        result_info: "",
        account_status: if account.is_some() { "Imported" } else { "NotImported" },
    });
    Ok(envelope::success(&Reply { result_item: items.collect() }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::api::testing::World;

    #[tokio::test]
    async fn every_account_has_its_status() {
        let world = World::new().await;
        world.ok("account_import", r#"{"UserID":"UserID_1"}"#).await;
        let body =
            r#"{"CheckItem":[{"UserID":"UserID_1"},{"UserID":"UserID_2"},{"UserID":"administrator"}]}"#;
        let answer = world.ok("account_check", body).await;
        assert_eq!(
            answer["ResultItem"],
            json!([
                {"UserID":"UserID_1","ResultCode":0,"ResultInfo":"","AccountStatus":"Imported"},
                {"UserID":"UserID_2","ResultCode":0,"ResultInfo":"","AccountStatus":"NotImported"},
                {"UserID":"administrator","ResultCode":0,"ResultInfo":"","AccountStatus":"Imported"},
            ])
        );
    }

    #[tokio::test]
    async fn bad_requests_have_their_codes() {
        let world = World::new().await;
        let items = |count| json!({"CheckItem": vec![json!({"UserID":"a"}); count]}).to_string();
        for (code, body) in [
            (0, items(100)),
            (70_402, items(101)),
            (70_402, items(0)),
            (70_402, "{}".to_owned()),
            (70_402, r#"{"CheckItem":{"UserID":"a"}}"#.to_owned()),
            (70_402, r#"{"CheckItem":["a"]}"#.to_owned()),
            (70_402, r#"{"CheckItem":[{}]}"#.to_owned()),
            (70_402, r#"{"CheckItem":[{"UserID":""}]}"#.to_owned()),
            (60_015, r#"{"CheckItem":[{"UserID":1}]}"#.to_owned()),
        ] {
            assert_eq!(world.code("account_check", &body).await, code, "{body}");
        }
    }
}
