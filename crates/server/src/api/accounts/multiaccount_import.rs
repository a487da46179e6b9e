//! `POST multiaccount_import` (groups-and-messages.md section 1.2).

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use serde::Serialize;
use sidenote_core::ids::UserId;

use crate::api::accounts::{Texts, import, list};
use crate::api::{Call, Fault};
use crate::wire::envelope;
use crate::wire::error_code::ErrorCode;
use crate::wire::json::{Object, Value};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Reply<'a> {
    fail_accounts: Vec<&'a str>,
}

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let request = parse(body)?;

    // All at once, so that they share commits.
    try_join_all(request.sound.iter().map(|(user, texts)| import(call, user, texts.clone()))).await?;

    Ok(envelope::success(&Reply { fail_accounts: request.unsound }))
}

struct Request<'a> {
    /// The accounts to import. Of an account that is named twice, the later entry counts.
    sound: BTreeMap<UserId, Texts>,
    /// Names that cannot be imported, in the order of the request: they fail alone.
    unsound: Vec<&'a str>,
}

fn parse(body: Object<'_>) -> Result<Request<'_>, Fault> {
    let mut request = Request { sound: BTreeMap::new(), unsound: Vec::new() };
    if body.optional("AccountList").is_some() {
        for item in list(body, "AccountList")?.objects() {
            let item = item?;
            request.take(item.required("UserID")?, Texts::parse(item)?)?;
        }
    } else {
        // The body of old clients, which knows nothing but names.
        for name in list(body, "Accounts")? {
            request.take(name, Texts::default())?;
        }
    }
    Ok(request)
}

impl<'a> Request<'a> {
    fn take(&mut self, name: Value<'a>, texts: Texts) -> Result<(), Fault> {
        let Some(raw) = name.as_str() else {
            let info = format!("{} must be a string", name.path());
            return Err(Fault::Code(ErrorCode::AccountNotAString, info));
        };
        match UserId::new(raw) {
            Ok(user) if texts.require_length().is_ok() => drop(self.sound.insert(user, texts)),
            _ => self.unsound.push(raw),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::api::testing::World;

    #[tokio::test]
    async fn both_bodies_import_and_name_what_failed() {
        let world = World::new().await;
        let answer = world.ok("multiaccount_import", r#"{"Accounts":["test1","test2"]}"#).await;
        assert_eq!(answer, json!({"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"FailAccounts":[]}));

        let long = "x".repeat(501);
        let body = format!(
            r#"{{"AccountList":[{{"UserID":"test3","Nick":"n","FaceUrl":"f"}},{{"UserID":""}},
                {{"UserID":"test4","Nick":"{long}"}},{{"UserID":"test5"}}]}}"#
        );
        let answer = world.ok("multiaccount_import", &body).await;
        assert_eq!(answer["FailAccounts"], json!(["", "test4"]));

        let items: Vec<_> = (1..=5).map(|number| json!({"UserID": format!("test{number}")})).collect();
        let answer = world.ok("account_check", &json!({ "CheckItem": items }).to_string()).await;
        let statuses: Vec<_> = answer["ResultItem"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["AccountStatus"].clone())
            .collect();
        assert_eq!(statuses, ["Imported", "Imported", "Imported", "NotImported", "Imported"]);
    }

    #[tokio::test]
    async fn it_takes_1_to_100_accounts() {
        let world = World::new().await;
        let names = |count: u32| json!({"Accounts": (0..count).map(|n| n.to_string()).collect::<Vec<_>>()});
        assert_eq!(world.code("multiaccount_import", &names(0).to_string()).await, 70_402);
        assert_eq!(world.code("multiaccount_import", &names(101).to_string()).await, 70_402);
        world.ok("multiaccount_import", &names(100).to_string()).await;
    }

    #[tokio::test]
    async fn bad_bodies_import_nothing() {
        let world = World::new().await;
        for (code, body) in [
            (70_402, "{}"),
            (70_402, r#"{"Accounts":"a"}"#),
            (70_402, r#"{"AccountList":[]}"#),
            (70_402, r#"{"AccountList":[{"UserID":"a"},"b"]}"#),
            (70_402, r#"{"AccountList":[{"UserID":"a"},{"Nick":"b"}]}"#),
            (70_402, r#"{"AccountList":[{"UserID":"a","Nick":1}]}"#),
            (60_015, r#"{"AccountList":[{"UserID":"a"},{"UserID":2}]}"#),
            (60_015, r#"{"Accounts":["a",null]}"#),
        ] {
            assert_eq!(world.code("multiaccount_import", body).await, code, "{body}");
        }
        let answer = world.ok("account_check", r#"{"CheckItem":[{"UserID":"a"}]}"#).await;
        assert_eq!(answer["ResultItem"][0]["AccountStatus"], "NotImported");
    }
}
