//! `POST destroy_group` (groups-and-messages.md section 3.7).

use sidenote_core::Outcome;
use sidenote_core::command::GroupAction;

use crate::api::parameters::required_group_id;
use crate::api::{Call, Fault, unexpected};
use crate::wire::envelope;
use crate::wire::json::Object;

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let group = required_group_id(body)?;

    match call.change_group(&group, GroupAction::Destroy).await? {
        Outcome::Done => Ok(envelope::plain_success()),
        other => unexpected(&other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::api::testing::World;

    #[tokio::test]
    async fn a_destroyed_group_is_unknown_and_its_id_is_free() {
        let world = World::new().await;
        world.ok("account_import", r#"{"UserID":"leckie"}"#).await;
        let with_owner = r#"{"Owner_Account":"leckie","Type":"Public","Name":"n","GroupId":"g"}"#;
        world.ok("create_group", with_owner).await;
        let answer = world.ok("destroy_group", r#"{"GroupId":"g"}"#).await;
        assert_eq!(answer, json!({"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}));
        assert_eq!(world.code("destroy_group", r#"{"GroupId":"g"}"#).await, 10_010);
        assert_eq!(world.code("get_group_member_info", r#"{"GroupId":"g"}"#).await, 10_010);

        // Nothing of the old group shows through.
        world.ok("create_group", r#"{"Type":"Public","Name":"n","GroupId":"g"}"#).await;
        let answer = world.ok("get_group_member_info", r#"{"GroupId":"g"}"#).await;
        assert_eq!((&answer["MemberNum"], &answer["MemberList"]), (&json!(0), &json!([])));
    }

    #[tokio::test]
    async fn bad_requests_have_their_codes() {
        let world = World::new().await;
        for (code, body) in [
            (10_004, r"{}"),
            (10_004, r#"{"GroupId":null}"#),
            (10_004, r#"{"GroupId":5}"#),
            (10_015, r#"{"GroupId":""}"#),
            (10_015, r#"{"GroupId":"a\nb"}"#),
            (10_010, r#"{"GroupId":"gone"}"#),
        ] {
            assert_eq!(world.code("destroy_group", body).await, code, "{body}");
        }
    }
}
