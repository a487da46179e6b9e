//! `POST account_import` (groups-and-messages.md section 1.1).

use crate::api::accounts::{Texts, import};
use crate::api::parameters::user_id;
use crate::api::{Call, Fault};
use crate::wire::envelope;
use crate::wire::json::Object;

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    // Old clients name the field Identifier.
    let user = user_id(body, ["UserID", "Identifier"])?;
    let texts = Texts::parse(body)?;
    texts.require_length()?;

    import(call, &user, texts).await?;

    Ok(envelope::plain_success())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::api::testing::{World, user};

    #[tokio::test]
    async fn an_account_is_imported_and_imported_again() {
        let world = World::new().await;
        let answer =
            world.ok("account_import", r#"{"UserID":"test","Nick":"test","FaceUrl":"http://f"}"#).await;
        assert_eq!(answer, json!({"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}));
        let first = world.call("administrator").find_account(&user("test")).await.unwrap().unwrap();
        assert_eq!((first.nick.as_str(), first.face_url.as_str()), ("test", "http://f"));

        // What is not given stays, and the account stays the same one.
        world.ok("account_import", r#"{"Identifier":"test","Nick":"","FaceUrl":null}"#).await;
        let again = world.call("administrator").find_account(&user("test")).await.unwrap().unwrap();
        assert_eq!((again.nick.as_str(), again.face_url.as_str()), ("", "http://f"));
        assert_eq!(again.tiny_id, first.tiny_id);
    }

    #[tokio::test]
    async fn bad_accounts_have_their_codes() {
        let world = World::new().await;
        let (longest, too_long) = ("x".repeat(500), "x".repeat(501));
        for (code, body) in [
            (70_402, "{}".to_owned()),
            (70_402, r#"{"UserID":null}"#.to_owned()),
            (70_402, r#"{"UserID":""}"#.to_owned()),
            (70_402, format!(r#"{{"UserID":"{}"}}"#, "u".repeat(33))),
            (70_402, r#"{"UserID":"a\nb"}"#.to_owned()),
            (70_402, r#"{"UserID":"a","Nick":7}"#.to_owned()),
            (70_402, r#"{"UserID":"a","FaceUrl":[]}"#.to_owned()),
            (60_015, r#"{"UserID":17}"#.to_owned()),
            (60_015, r#"{"UserID":["a"]}"#.to_owned()),
            (40_601, format!(r#"{{"UserID":"a","Nick":"{too_long}"}}"#)),
            (40_601, format!(r#"{{"UserID":"a","FaceUrl":"{too_long}"}}"#)),
        ] {
            assert_eq!(world.code("account_import", &body).await, code, "{body}");
        }
        assert_eq!(world.call("administrator").find_account(&user("a")).await.unwrap(), None);
        let body = format!(r#"{{"UserID":"{}","Nick":"{longest}","FaceUrl":"{longest}"}}"#, "u".repeat(32));
        world.ok("account_import", &body).await;
    }
}
