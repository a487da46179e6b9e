//! `POST get_group_member_info` (groups-and-messages.md section 3.3).

use serde::Serialize;
use sidenote_core::group::{GroupType, Role};
use sidenote_core::ids::{Timestamp, UserId};
use sidenote_core::query::ListMembers;

use crate::api::fault::problem;
use crate::api::groups::answer_size::require_size;
use crate::api::groups::find_group_with_members;
use crate::api::groups::types::ROLES;
use crate::api::groups::wire_member::{MemberFilter, WireMember};
use crate::api::parameters::group_id;
use crate::api::{Call, Fault};
use crate::wire::envelope;
use crate::wire::fields::{FieldError, Problem};
use crate::wire::json::{Object, Value};

/// Members on one page.
const MAX_MEMBERS: u32 = 6000;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Reply<'a> {
    /// All members, whatever was asked for.
    member_num: u32,
    member_list: Vec<WireMember<'a>>,
    /// Where to go on; only a Community has it, empty at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let raw_group_id = body.string("GroupId")?;
    let page = Page::parse(body)?;
    let filter = MemberFilter::parse(body)?;
    let group = group_id(raw_group_id)?;

    let view = find_group_with_members(call, &group).await?;
    let mut members = call.ask(ListMembers { id: call.group(&group) }).await??;
    members.retain(|(_, member)| page.roles.as_ref().is_none_or(|roles| roles.contains(&member.role)));
    members.sort_by(|(one, a), (other, b)| (a.joined_at, one).cmp(&(b.joined_at, other)));

    let by_cursor = view.group.kind == GroupType::Community;
    let start = match &page.after {
        Some((at, after)) if by_cursor => {
            members.partition_point(|(user, member)| (member.joined_at, user) <= (*at, after))
        }
        _ => 0,
    };
    let start = start.saturating_add(page.offset).min(members.len());
    let end = start.saturating_add(page.limit).min(members.len());
    let last = members[start..end].last().filter(|_| end < members.len());
    let listed = members[start..end].iter();
    require_size(envelope::success(&Reply {
        member_num: view.counters.members,
        member_list: listed.map(|(user, member)| WireMember::of(user, member, call.at, &filter)).collect(),
        next: by_cursor.then(|| last.map_or(String::new(), |(user, member)| cursor(member.joined_at, user))),
    }))
}

/// Which members of the list, that is ordered by time of joining and name.
struct Page {
    roles: Option<Vec<Role>>,
    limit: usize,
    offset: usize,
    after: Option<(Timestamp, UserId)>,
}

impl Page {
    fn parse(body: Object<'_>) -> Result<Self, FieldError> {
        let roles = body.optional_array("MemberRoleFilter")?;
        let roles =
            roles.map(|list| list.at_most(ROLES.len())?.iter().map(|role| role.one_of(ROLES)).collect());
        let limit = body.optional_integer("Limit", 1..=MAX_MEMBERS)?.unwrap_or(MAX_MEMBERS);
        let offset = body.optional_integer("Offset", 0..=u32::MAX)?.unwrap_or(0);
        let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(Self {
            roles: roles.transpose()?,
            limit: size(limit),
            offset: size(offset),
            after: body.optional("Next").map(parse_cursor).transpose()?.flatten(),
        })
    }
}

/// The place of a member in the list: it stays right when others join and leave. Callers hand it back as it is.
fn cursor(joined_at: Timestamp, user: &UserId) -> String {
    format!("{}_{user}", joined_at.millis())
}

fn parse_cursor(value: Value<'_>) -> Result<Option<(Timestamp, UserId)>, FieldError> {
    let text = value.string()?;
    if text.is_empty() {
        return Ok(None);
    }
    let cursor = text.split_once('_').and_then(|(millis, user)| Some((millis.parse().ok()?, user)));
    let Some((millis, user)) = cursor else {
        return Err(value.refuse(Problem::Other("is not what an answer gave as Next".into())));
    };
    let user = UserId::new(user).map_err(|malformed| value.refuse(problem(malformed)))?;
    Ok(Some((Timestamp::from_millis(millis), user)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::api::testing::World;

    /// The owner o joins first, then c, then b and a at the same time.
    async fn world(kind: &str, group: &str) -> World {
        let mut world = World::new().await;
        world.ok("multiaccount_import", r#"{"Accounts":["a","b","c","o"]}"#).await;
        let body = json!({"Owner_Account":"o","Type":kind,"Name":"n","GroupId":group}).to_string();
        world.ok("create_group", &body).await;
        for members in
            [json!([{"Member_Account":"c"}]), json!([{"Member_Account":"b"},{"Member_Account":"a"}])]
        {
            world.now += 1;
            let body = json!({"GroupId":group,"MemberList":members}).to_string();
            world.ok("add_group_member", &body).await;
        }
        world
    }

    fn names(answer: &Value) -> Vec<&str> {
        let list = answer["MemberList"].as_array().unwrap();
        list.iter().map(|member| member["Member_Account"].as_str().unwrap()).collect()
    }

    #[tokio::test]
    async fn members_come_in_the_order_in_which_they_joined() {
        let world = world("Public", "g").await;
        let answer = world.ok("get_group_member_info", r#"{"GroupId":"g"}"#).await;
        assert_eq!((names(&answer), &answer["MemberNum"]), (vec!["o", "c", "a", "b"], &json!(4)));
        assert_eq!(answer["Next"], Value::Null);
        assert_eq!(
            answer["MemberList"][1],
            json!({"Member_Account":"c","Role":"Member","JoinTime":world.now - 1,"MsgSeq":0,
                "MsgFlag":"AcceptAndNotify","LastSendMsgTime":0,"MuteUntil":0,"NameCard":""})
        );
        for (limit, offset, expected) in [
            (2, 0, vec!["o", "c"]),
            (2, 1, vec!["c", "a"]),
            (6000, 3, vec!["b"]),
            (1, 4, vec![]),
            (1, u32::MAX, vec![]),
        ] {
            let body = json!({"GroupId":"g","Limit":limit,"Offset":offset}).to_string();
            let answer = world.ok("get_group_member_info", &body).await;
            assert_eq!((names(&answer), &answer["MemberNum"]), (expected, &json!(4)));
        }
    }

    #[tokio::test]
    async fn filters_choose_members_and_what_is_told_of_them() {
        let world = world("Public", "g").await;
        let body = r#"{"GroupId":"g","MemberRoleFilter":["Owner","Admin"],"MemberInfoFilter":["Role"],
            "AppDefinedDataFilter_GroupMember":["x"]}"#;
        let answer = world.ok("get_group_member_info", body).await;
        assert_eq!(
            answer["MemberList"],
            json!([{"Member_Account":"o","Role":"Owner","AppMemberDefinedData":[]}])
        );
        let body = r#"{"GroupId":"g","MemberRoleFilter":["Admin"]}"#;
        assert!(names(&world.ok("get_group_member_info", body).await).is_empty());
    }

    #[tokio::test]
    async fn a_community_is_walked_by_cursor_while_members_leave() {
        let world = world("Community", "@TGS#_c").await;
        let page = async |next: &Value| {
            let body = json!({"GroupId":"@TGS#_c","Limit":2,"Next":next}).to_string();
            world.ok("get_group_member_info", &body).await
        };
        let first = page(&json!("")).await;
        assert_eq!(names(&first), ["o", "c"]);
        let body = r#"{"GroupId":"@TGS#_c","MemberToDel_Account":["c"]}"#;
        world.ok("delete_group_member", body).await;
        let second = page(&first["Next"]).await;
        assert_eq!((names(&second), &second["Next"]), (vec!["a", "b"], &json!("")));
    }

    #[tokio::test]
    async fn an_answer_of_more_than_a_mebibyte_is_refused() {
        let world = world("Public", "g").await;
        for page in 0..6 {
            let members = async |from: u32, to: u32| {
                // Names of control-free characters that JSON has to escape make the answer large.
                let names: Vec<_> = (from..to).map(|n| format!("{}{page}{n:04}", "\"".repeat(27))).collect();
                for names in names.chunks(100) {
                    world.ok("multiaccount_import", &json!({ "Accounts": names }).to_string()).await;
                }
                let members: Vec<_> = names.iter().map(|name| json!({"Member_Account":name})).collect();
                let body = json!({"GroupId":"g","MemberList":members}).to_string();
                world.ok("add_group_member", &body).await;
            };
            members(0, 300).await;
            members(300, 600).await;
            members(600, 900).await;
        }
        assert_eq!(world.code("get_group_member_info", r#"{"GroupId":"g"}"#).await, 10_018);
        assert_eq!(world.code("get_group_member_info", r#"{"GroupId":"g","Limit":1000}"#).await, 0);
    }

    #[tokio::test]
    async fn bad_requests_have_their_codes() {
        let world = world("Public", "g").await;
        world.ok("create_group", r#"{"Type":"AVChatRoom","Name":"n","GroupId":"live"}"#).await;
        for (code, body) in [
            (10_004, json!({})),
            (10_004, json!({"GroupId":7})),
            (10_015, json!({"GroupId":""})),
            (10_010, json!({"GroupId":"gone"})),
            (10_007, json!({"GroupId":"live"})),
            (0, json!({"GroupId":"g","Limit":6000})),
            (10_004, json!({"GroupId":"g","Limit":6001})),
            (10_004, json!({"GroupId":"g","Limit":0})),
            (10_004, json!({"GroupId":"g","Limit":"5"})),
            (10_004, json!({"GroupId":"g","Offset":-1})),
            (10_004, json!({"GroupId":"g","MemberRoleFilter":["NotMember"]})),
            (10_004, json!({"GroupId":"g","MemberRoleFilter":"Owner"})),
            (10_004, json!({"GroupId":"g","MemberInfoFilter":[1]})),
            (10_004, json!({"GroupId":"g","AppDefinedDataFilter_GroupMember":"a"})),
            (10_004, json!({"GroupId":"g","Next":7})),
            (10_004, json!({"GroupId":"g","Next":"somewhere"})),
            (10_004, json!({"GroupId":"g","Next":"1_"})),
            (10_004, json!({"GroupId":"","Limit":0})),
        ] {
            assert_eq!(world.code("get_group_member_info", &body.to_string()).await, code, "{body}");
        }
    }
}
