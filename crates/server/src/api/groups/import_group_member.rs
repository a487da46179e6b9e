//! `POST import_group_member` (groups-and-messages.md section 5.3).

use sidenote_core::MAX_SAFE_INTEGER;
use sidenote_core::command::MAX_MEMBERS_PER_COMMAND;
use sidenote_core::ids::Timestamp;

use crate::api::groups::find_group_with_members;
use crate::api::groups::members::{Candidate, Item, Reply, add, bounded, enlist};
use crate::api::groups::types::GIVEN_ROLES;
use crate::api::parameters::group_id;
use crate::api::{Call, Fault};
use crate::wire::envelope;
use crate::wire::json::Object;

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let raw_group_id = body.string("GroupId")?;
    let list = bounded(body.array("MemberList")?, MAX_MEMBERS_PER_COMMAND)?;
    let candidates = list.objects().map(|item| candidate(item?)).collect::<Result<Vec<_>, _>>()?;
    let group = group_id(raw_group_id)?;

    let view = find_group_with_members(call, &group).await?;
    // Nobody joined before there was a group, nor will have joined tomorrow: that account fails by itself.
    let possible = view.group.created_at.secs()..=call.at.secs();
    let fits = |candidate: &Candidate| candidate.joined_at.is_none_or(|at| possible.contains(&at.secs()));
    let verdicts: Vec<_> =
        candidates.iter().map(|candidate| (candidate.user.clone(), fits(candidate))).collect();
    let mut members = enlist(call, candidates).await?;
    let mut fitting = verdicts.iter().map(|(_, fits)| *fits);
    members.retain(|_| fitting.next() == Some(true));
    let added = if members.is_empty() { Vec::new() } else { add(call, &group, members, true).await? };

    let mut added = added.into_iter().map(|(_, added)| Item::result_of(added));
    let items = verdicts.iter().map(|(user, fits)| Item {
        user: user.as_str(),
        result: if *fits { added.next().unwrap_or(Item::FAILED) } else { Item::FAILED },
    });
    Ok(envelope::success(&Reply { member_list: items.collect() }))
}

fn candidate(item: Object<'_>) -> Result<Candidate, Fault> {
    let mut candidate = Candidate::parse(item)?;
    if let Some(role) = item.optional_one_of("Role", GIVEN_ROLES)? {
        candidate.role = role;
    }
    let joined = item.optional_integer("JoinTime", 0..=MAX_SAFE_INTEGER)?;
    candidate.joined_at = joined.map(Timestamp::from_secs);
    candidate.unread = item.optional_integer("UnreadMsgNum", 0..=MAX_SAFE_INTEGER)?.unwrap_or(0);
    Ok(candidate)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::api::testing::World;

    async fn world() -> World {
        let world = World::new().await;
        world.ok("multiaccount_import", r#"{"Accounts":["tommy","jared","peter"]}"#).await;
        let body = r#"{"Type":"Public","Name":"n","GroupId":"g","CreateTime":1448357837,"MaxMemberCount":2}"#;
        world.ok("import_group", body).await;
        world.ok("create_group", r#"{"Type":"AVChatRoom","Name":"n","GroupId":"live"}"#).await;
        world
    }

    #[tokio::test]
    async fn the_documented_request_imports_members_as_they_were() {
        let world = world().await;
        let body = r#"{"GroupId":"g","MemberList":[
            {"Member_Account":"tommy","Role":"Admin","JoinTime":1448357837,"UnreadMsgNum":5},
            {"Member_Account":"jared","JoinTime":1448357857},{"Member_Account":"tommy"}]}"#;
        let answer = world.ok("import_group_member", body).await;
        assert_eq!(
            answer,
            json!({"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"MemberList":[
                {"Member_Account":"tommy","Result":1},{"Member_Account":"jared","Result":1},
                {"Member_Account":"tommy","Result":2}]})
        );
        let body = r#"{"GroupId":"g","MemberInfoFilter":["Role","JoinTime"]}"#;
        let answer = world.ok("get_group_member_info", body).await;
        assert_eq!(
            answer["MemberList"],
            json!([{"Member_Account":"tommy","Role":"Admin","JoinTime":1_448_357_837},
                {"Member_Account":"jared","Role":"Member","JoinTime":1_448_357_857}])
        );
    }

    #[tokio::test]
    async fn a_time_that_cannot_be_fails_that_account_alone() {
        let world = world().await;
        let body = json!({"GroupId":"g","MemberList":[
            {"Member_Account":"tommy","JoinTime":1_448_357_836},{"Member_Account":"jared","JoinTime":world.now},
            {"Member_Account":"peter","JoinTime":world.now + 1}]});
        let answer = world.ok("import_group_member", &body.to_string()).await;
        assert_eq!(
            answer["MemberList"],
            json!([{"Member_Account":"tommy","Result":0},{"Member_Account":"jared","Result":1},
                {"Member_Account":"peter","Result":0}])
        );
        let body = r#"{"GroupId":"g","MemberList":[{"Member_Account":"tommy","JoinTime":0}]}"#;
        let answer = world.ok("import_group_member", body).await;
        assert_eq!(answer["MemberList"], json!([{"Member_Account":"tommy","Result":0}]));
    }

    #[tokio::test]
    async fn bad_requests_have_their_codes_and_import_nobody() {
        let world = world().await;
        let tommy = json!({"Member_Account":"tommy"});
        let second = |second: serde_json::Value| json!({"GroupId":"g","MemberList":[tommy, second]});
        for (code, body) in [
            (10_004, json!({"MemberList":[tommy]})),
            (10_004, json!({"GroupId":"g"})),
            (10_004, json!({"GroupId":"g","MemberList":[]})),
            (10_005, json!({"GroupId":"g","MemberList":vec![tommy.clone(); 301]})),
            (10_004, second(json!("jared"))),
            (10_004, second(json!({"Role":"Admin"}))),
            (60_015, second(json!({"Member_Account":1}))),
            (10_004, second(json!({"Member_Account":"jared","Role":"Owner"}))),
            (10_004, second(json!({"Member_Account":"jared","JoinTime":-1}))),
            (10_004, second(json!({"Member_Account":"jared","JoinTime":"now"}))),
            (10_004, second(json!({"Member_Account":"jared","UnreadMsgNum":-1}))),
            (10_019, second(json!({"Member_Account":"nobody"}))),
            (
                10_014,
                json!({"GroupId":"g","MemberList":[tommy,{"Member_Account":"jared"},{"Member_Account":"peter"}]}),
            ),
            (10_015, json!({"GroupId":"","MemberList":[tommy]})),
            (10_010, json!({"GroupId":"gone","MemberList":[tommy]})),
            (10_007, json!({"GroupId":"live","MemberList":[tommy]})),
        ] {
            assert_eq!(world.code("import_group_member", &body.to_string()).await, code, "{body}");
        }
        let answer = world.ok("get_group_member_info", r#"{"GroupId":"g"}"#).await;
        assert_eq!(answer["MemberNum"], 0);
        let body = json!({"GroupId":"g","MemberList":vec![tommy; 300]}).to_string();
        world.ok("import_group_member", &body).await;
    }
}
