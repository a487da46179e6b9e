//! `POST get_group_info` (groups-and-messages.md section 3.2).

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use sidenote_core::group::{GroupType, GroupView};
use sidenote_core::ids::UserId;
use sidenote_core::query::ListMembers;

use crate::api::groups::answer_size::{MAX_ANSWER_BYTES, require_size};
use crate::api::groups::custom_fields::{self, WireField};
use crate::api::groups::filter::Filter;
use crate::api::groups::find_group;
use crate::api::groups::wire_group::WireGroup;
use crate::api::groups::wire_member::{MemberFilter, WireMember};
use crate::api::parameters::group_id;
use crate::api::{Call, Fault, Service};
use crate::wire::envelope;
use crate::wire::error_code::ErrorCode;
use crate::wire::fields::FieldError;
use crate::wire::json::Object;

/// Groups that one request may ask for.
const MAX_GROUPS: usize = 50;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Reply {
    group_info: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item<'a> {
    group_id: &'a str,
    error_code: u32,
    error_info: String,
    #[serde(flatten)]
    found: Option<Found<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Found<'a> {
    #[serde(flatten)]
    group: WireGroup<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_defined_data: Option<Vec<WireField<'a>>>,
    /// A live room has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    member_list: Option<Vec<WireMember<'a>>>,
}

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let list = body.array("GroupIdList")?.not_empty()?.at_most(MAX_GROUPS)?;
    let raw_group_ids = list.strings().collect::<Result<Vec<_>, _>>()?;
    let filters = Filters::parse(body)?;

    let mut group_info = Vec::with_capacity(raw_group_ids.len());
    let mut bytes = 0;
    for raw_group_id in raw_group_ids {
        let item = describe(call, raw_group_id, &filters).await?;
        // Groups can be large: what will not fit is not gathered first.
        bytes += item.get().len();
        if bytes > MAX_ANSWER_BYTES {
            return Err(Fault::Plain(ErrorCode::AnswerTooLarge));
        }
        group_info.push(item);
    }

    require_size(envelope::success(&Reply { group_info }))
}

struct Filters<'a> {
    group: Filter<'a>,
    /// Custom fields come only when asked for.
    custom: Option<Filter<'a>>,
    member: MemberFilter<'a>,
}

impl<'a> Filters<'a> {
    fn parse(body: Object<'a>) -> Result<Self, FieldError> {
        let Some(filters) = body.optional_object("ResponseFilter")? else {
            return Ok(Self { group: Filter::Everything, custom: None, member: MemberFilter::everything() });
        };
        Ok(Self {
            group: Filter::parse(filters, "GroupBaseInfoFilter")?.unwrap_or(Filter::Everything),
            custom: Filter::parse(filters, "AppDefinedDataFilter_Group")?,
            member: MemberFilter::parse(filters)?,
        })
    }
}

/// One group, or why it cannot be described: the verdict of each is its own. Only faults of ours fail the request.
async fn describe(call: &Call, raw_group_id: &str, filters: &Filters<'_>) -> Result<Box<RawValue>, Fault> {
    let item = match look_up(call, raw_group_id).await {
        Ok((view, members)) => raw(&Item {
            group_id: raw_group_id,
            error_code: 0,
            error_info: String::new(),
            found: Some(Found {
                group: WireGroup::of(call, &view, &filters.group),
                app_defined_data: custom_fields::asked(&view.group.profile.custom, filters.custom.as_ref()),
                member_list: members.as_ref().map(|members| {
                    let members = members.iter();
                    members.map(|(user, it)| WireMember::of(user, it, call.at, &filters.member)).collect()
                }),
            }),
        }),
        Err(fault @ Fault::Store(_)) => return Err(fault),
        Err(fault) => raw(&Item {
            group_id: raw_group_id,
            error_code: fault.code(Service::Groups).code(),
            error_info: fault.info(Service::Groups),
            found: None,
        }),
    };
    Ok(item)
}

/// Members in the order in which all lists have them.
type Members = Vec<(UserId, std::sync::Arc<sidenote_core::group::Member>)>;

async fn look_up(call: &Call, raw_group_id: &str) -> Result<(GroupView, Option<Members>), Fault> {
    let group = group_id(raw_group_id)?;
    let view = find_group(call, &group).await?;
    if view.group.kind == GroupType::AvChatRoom {
        return Ok((view, None));
    }
    let mut members = call.ask(ListMembers { id: call.group(&group) }).await??;
    members.sort_by(|(one, a), (other, b)| (a.joined_at, one).cmp(&(b.joined_at, other)));
    Ok((view, Some(members)))
}

fn raw(item: &Item<'_>) -> Box<RawValue> {
    to_raw_value(item).expect("an item has members with string names and is written to memory")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::api::testing::World;

    async fn world() -> World {
        let world = World::new().await;
        world.ok("multiaccount_import", r#"{"Accounts":["leckie","bob"]}"#).await;
        let body = r#"{"Owner_Account":"leckie","Type":"Public","Name":"MyFirstGroup","GroupId":"g",
            "AppDefinedData":[{"Key":"a","Value":"1"},{"Key":"b","Value":"2"}],
            "MemberList":[{"Member_Account":"bob","AppMemberDefinedData":[{"Key":"m","Value":"3"}]}]}"#;
        world.ok("create_group", body).await;
        let body = r#"{"Owner_Account":"bob","Type":"AVChatRoom","Name":"live","GroupId":"live"}"#;
        world.ok("create_group", body).await;
        world
    }

    async fn info(world: &World, filter: &Value) -> Value {
        let body = json!({"GroupIdList":["g"],"ResponseFilter":filter}).to_string();
        world.ok("get_group_info", &body).await["GroupInfo"][0].clone()
    }

    #[tokio::test]
    async fn every_group_has_a_verdict_of_its_own() {
        let world = world().await;
        let body = json!({"GroupIdList":["g","gone","ü","","g".repeat(49),"live"]}).to_string();
        let answer = world.ok("get_group_info", &body).await;
        let items = answer["GroupInfo"].as_array().unwrap();
        let codes: Vec<_> = items.iter().map(|item| item["ErrorCode"].as_u64().unwrap()).collect();
        assert_eq!(codes, [0, 10_010, 10_015, 10_015, 10_015, 0]);
        assert_eq!(
            items[1],
            json!({"GroupId":"gone","ErrorCode":10_010,"ErrorInfo":"the group does not exist or was dissolved"})
        );
        assert_eq!(items[0]["MemberList"].as_array().unwrap().len(), 2);
        // A live room has no list of members over REST (section 2.5).
        assert_eq!((&items[5]["Name"], &items[5]["MemberList"]), (&json!("live"), &Value::Null));
    }

    #[tokio::test]
    async fn filters_name_what_is_answered() {
        let world = world().await;
        let filter = json!({"GroupBaseInfoFilter":["Type","Owner_Account","ShutUpAllMember","NoSuchField"],
            "MemberInfoFilter":["Account","Role","ShutUpUntil"],"AppDefinedDataFilter_Group":["b","c"],
            "AppDefinedDataFilter_GroupMember":["m"]});
        assert_eq!(
            info(&world, &filter).await,
            json!({"GroupId":"g","ErrorCode":0,"ErrorInfo":"","Type":"Public","Owner_Account":"leckie",
                "MuteAllMember":"Off","AppDefinedData":[{"Key":"b","Value":"2"}],"MemberList":[
                {"Member_Account":"bob","Role":"Member","MuteUntil":0,
                    "AppMemberDefinedData":[{"Key":"m","Value":"3"}]},
                {"Member_Account":"leckie","Role":"Owner","MuteUntil":0,"AppMemberDefinedData":[]}]})
        );
        // A filter with nothing in it asks for nothing; a section without a filter comes whole.
        let item = info(&world, &json!({"GroupBaseInfoFilter":[]})).await;
        assert_eq!((&item["Name"], &item["MemberList"][0]["Role"]), (&Value::Null, &json!("Member")));
        // Custom fields come only when asked for.
        assert_eq!(
            (&item["AppDefinedData"], &item["MemberList"][0]["AppMemberDefinedData"]),
            (&Value::Null, &Value::Null)
        );
    }

    #[tokio::test]
    async fn bad_requests_have_their_codes() {
        let world = world().await;
        for (code, body) in [
            (0, json!({"GroupIdList":vec!["g"; 50]})),
            (10_004, json!({"GroupIdList":vec!["g"; 51]})),
            (10_004, json!({"GroupIdList":[]})),
            (10_004, json!({})),
            (10_004, json!({"GroupIdList":"g"})),
            (10_004, json!({"GroupIdList":[7]})),
            (10_004, json!({"GroupIdList":["g"],"ResponseFilter":[]})),
            (10_004, json!({"GroupIdList":["g"],"ResponseFilter":{"GroupBaseInfoFilter":"Type"}})),
            (10_004, json!({"GroupIdList":["g"],"ResponseFilter":{"MemberInfoFilter":[1]}})),
            (10_004, json!({"GroupIdList":["g"],"ResponseFilter":{"AppDefinedDataFilter_Group":{}}})),
            (10_004, json!({"GroupIdList":["g"],"ResponseFilter":{"AppDefinedDataFilter_GroupMember":1}})),
        ] {
            assert_eq!(world.code("get_group_info", &body.to_string()).await, code, "{body}");
        }
    }

    #[tokio::test]
    async fn an_answer_of_more_than_a_mebibyte_is_refused() {
        let world = world().await;
        for page in 0..20 {
            let names: Vec<_> = (0..100).map(|n| format!("{page:016}{n:016}")).collect();
            world.ok("multiaccount_import", &json!({ "Accounts": names }).to_string()).await;
            let members: Vec<_> = names.iter().map(|name| json!({"Member_Account":name})).collect();
            let body = json!({"GroupId":"g","MemberList":members}).to_string();
            world.ok("add_group_member", &body).await;
        }
        // One such group has less than half a mebibyte.
        assert_eq!(world.code("get_group_info", r#"{"GroupIdList":["g"]}"#).await, 0);
        let body = json!({"GroupIdList":["g","g","g","g","g"]}).to_string();
        assert_eq!(world.code("get_group_info", &body).await, 10_018);
    }
}
