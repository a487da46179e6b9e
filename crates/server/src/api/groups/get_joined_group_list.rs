//! `POST get_joined_group_list` (groups-and-messages.md section 3.8).

use serde::Serialize;
use sidenote_core::Refusal;
use sidenote_core::group::{GroupType, GroupView, Member};
use sidenote_core::ids::GroupId;
use sidenote_core::query::JoinedGroups;

use crate::api::groups::answer_size::require_size;
use crate::api::groups::filter::Filter;
use crate::api::groups::types::GROUP_TYPES;
use crate::api::groups::wire_group::WireGroup;
use crate::api::groups::wire_member::WirePlace;
use crate::api::parameters::user_id;
use crate::api::{Call, Fault};
use crate::wire::envelope;
use crate::wire::fields::FieldError;
use crate::wire::json::Object;

/// Lines of the list that are looked at in one go.
const LINES_AT_A_TIME: usize = 500;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Reply<'a> {
    /// Before paging.
    total_count: usize,
    group_id_list: Vec<Item<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item<'a> {
    group_id: &'a str,
    #[serde(flatten)]
    group: Option<WireGroup<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    self_info: Option<WirePlace>,
}

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Vec<u8>, Fault> {
    let user = user_id(body, "Member_Account")?;
    call.require_self("Member_Account", &user)?;
    let mut wanted = Wanted::parse(body)?;
    // Who looks at the list of its own groups wants to see also those where nobody has said anything yet.
    wanted.without_messages |= call.is_connected();
    let fields = Fields::parse(body)?;
    if call.find_account(&user).await?.is_none() {
        return Err(Fault::Refused(Refusal::NoSuchAccount));
    }

    let mut total_count = 0;
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let question = JoinedGroups { account: call.account(&user), after, limit: LINES_AT_A_TIME };
        let page = call.ask(question).await?;
        for found in page.groups.into_iter().filter(|(_, view, _)| wanted.includes(view)) {
            if total_count >= wanted.offset && listed.len() < wanted.limit {
                listed.push(found);
            }
            total_count += 1;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }

    let items = listed.iter().map(|(group, view, member)| fields.item(call, group, view, member));
    require_size(envelope::success(&Reply { total_count, group_id_list: items.collect() }))
}

/// Which groups, and which part of their list.
struct Wanted {
    live_rooms: bool,
    without_messages: bool,
    kind: Option<GroupType>,
    limit: usize,
    offset: usize,
}

impl Wanted {
    fn parse(body: Object<'_>) -> Result<Self, FieldError> {
        // No group has topics, so there is nothing that this could choose.
        body.optional_flag("SupportTopic")?;
        let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(Self {
            live_rooms: body.optional_flag("WithHugeGroups")?.unwrap_or(false),
            without_messages: body.optional_flag("WithNoActiveGroups")?.unwrap_or(false),
            kind: body.optional_one_of("GroupType", GROUP_TYPES)?,
            limit: body.optional_integer("Limit", 1..=u32::MAX)?.map_or(usize::MAX, size),
            offset: body.optional_integer("Offset", 0..=u32::MAX)?.map_or(0, size),
        })
    }

    fn includes(&self, view: &GroupView) -> bool {
        let kind = view.group.kind;
        let listed = match kind {
            GroupType::AvChatRoom => self.live_rooms,
            GroupType::Private => self.without_messages || view.last_message().is_some(),
            GroupType::Public | GroupType::ChatRoom | GroupType::Community => true,
        };
        listed && self.kind.is_none_or(|wanted| wanted == kind)
    }
}

/// What is told of each group; without a filter only its id.
struct Fields<'a> {
    group: Option<Filter<'a>>,
    place: Option<Filter<'a>>,
}

impl<'a> Fields<'a> {
    fn parse(body: Object<'a>) -> Result<Self, FieldError> {
        let Some(filters) = body.optional_object("ResponseFilter")? else {
            return Ok(Self { group: None, place: None });
        };
        Ok(Self {
            group: Filter::parse(filters, "GroupBaseInfoFilter")?,
            place: Filter::parse(filters, "SelfInfoFilter")?,
        })
    }

    fn item<'b>(&self, call: &Call, group: &'b GroupId, view: &'b GroupView, member: &Member) -> Item<'b> {
        Item {
            group_id: group.as_str(),
            group: self.group.as_ref().map(|filter| WireGroup::of(call, view, filter)),
            self_info: self.place.as_ref().map(|filter| WirePlace::of(member, filter)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::api::testing::World;

    /// leckie owns one group of each type.
    async fn world() -> World {
        let world = World::new().await;
        world.ok("account_import", r#"{"UserID":"leckie"}"#).await;
        for (group, kind) in [
            ("a", "Public"),
            ("b", "Private"),
            ("c", "AVChatRoom"),
            ("d", "ChatRoom"),
            ("@TGS#_e", "Community"),
        ] {
            let body = json!({"Owner_Account":"leckie","Type":kind,"Name":"n","GroupId":group}).to_string();
            world.ok("create_group", &body).await;
        }
        world
    }

    /// `TotalCount` and the ids.
    async fn list(world: &World, asked: Value) -> (u64, Vec<String>) {
        let mut body = asked;
        body["Member_Account"] = json!("leckie");
        let answer = world.ok("get_joined_group_list", &body.to_string()).await;
        let items = answer["GroupIdList"].as_array().unwrap();
        let names = items.iter().map(|item| item["GroupId"].as_str().unwrap().to_owned());
        (answer["TotalCount"].as_u64().unwrap(), names.collect())
    }

    #[tokio::test]
    async fn the_request_says_which_groups() {
        let world = world().await;
        for (asked, total, names) in [
            (json!({}), 3, vec!["@TGS#_e", "a", "d"]),
            (json!({"WithHugeGroups":1}), 4, vec!["@TGS#_e", "a", "c", "d"]),
            (json!({"WithNoActiveGroups":1}), 4, vec!["@TGS#_e", "a", "b", "d"]),
            (
                json!({"WithHugeGroups":0,"WithNoActiveGroups":0,"SupportTopic":1}),
                3,
                vec!["@TGS#_e", "a", "d"],
            ),
            (json!({"GroupType":"Meeting"}), 1, vec!["d"]),
            (json!({"GroupType":"AVChatRoom"}), 0, vec![]),
            (json!({"GroupType":"AVChatRoom","WithHugeGroups":1}), 1, vec!["c"]),
            (json!({"GroupType":"Work","WithNoActiveGroups":1}), 1, vec!["b"]),
            (json!({"Limit":1}), 3, vec!["@TGS#_e"]),
            (json!({"Limit":1,"Offset":2}), 3, vec!["d"]),
            (json!({"Offset":1}), 3, vec!["a", "d"]),
            (json!({"Limit":10,"Offset":3}), 3, vec![]),
        ] {
            let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            assert_eq!(list(&world, asked.clone()).await, (total, names), "{asked}");
        }
    }

    #[tokio::test]
    async fn filters_say_what_is_told_of_each_group() {
        let world = world().await;
        let body = r#"{"Member_Account":"leckie","GroupType":"Public","ResponseFilter":{
            "GroupBaseInfoFilter":["Type","Name","MemberNum"],
            "SelfInfoFilter":["Role","JoinTime","MsgFlag","MsgSeq"]}}"#;
        let answer = world.ok("get_joined_group_list", body).await;
        assert_eq!(
            answer,
            json!({"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"TotalCount":1,"GroupIdList":[
                {"GroupId":"a","Type":"Public","Name":"n","MemberNum":1,"SelfInfo":{"Role":"Owner",
                    "JoinTime":world.now,"MsgFlag":"AcceptAndNotify","MsgSeq":0}}]})
        );
        let body = r#"{"Member_Account":"leckie","GroupType":"Public","ResponseFilter":{}}"#;
        let answer = world.ok("get_joined_group_list", body).await;
        assert_eq!(answer["GroupIdList"], json!([{"GroupId":"a"}]));
    }

    #[tokio::test]
    async fn a_private_group_is_active_from_its_first_message() {
        let world = world().await;
        let body = r#"{"GroupId":"b","Random":1,"MsgBody":[
            {"MsgType":"TIMTextElem","MsgContent":{"Text":"t"}}]}"#;
        world.ok("send_group_msg", body).await;
        assert_eq!(list(&world, json!({"GroupType":"Private"})).await, (1, vec!["b".to_owned()]));
        let answer = world.ok("get_group_info", r#"{"GroupIdList":["b"]}"#).await;
        let info = &answer["GroupInfo"][0];
        assert_eq!((&info["NextMsgSeq"], &info["LastMsgTime"]), (&json!(2), &json!(world.now)));
    }

    #[tokio::test]
    async fn a_list_of_more_than_one_look_is_whole() {
        let world = world().await;
        for number in 0..super::LINES_AT_A_TIME {
            let body = json!({"Owner_Account":"leckie","Type":"Public","Name":"n",
                "GroupId":format!("x{number:04}")});
            world.ok("create_group", &body.to_string()).await;
        }
        let (total, names) = list(&world, json!({"Offset":501})).await;
        assert_eq!((total, names), (503, vec!["x0498".to_owned(), "x0499".to_owned()]));
    }

    #[tokio::test]
    async fn bad_requests_have_their_codes() {
        let world = world().await;
        for (code, body) in [
            (10_004, json!({})),
            (10_004, json!({"Member_Account":""})),
            (60_015, json!({"Member_Account":7})),
            (10_019, json!({"Member_Account":"nobody"})),
            (10_004, json!({"Member_Account":"leckie","WithHugeGroups":2})),
            (10_004, json!({"Member_Account":"leckie","WithNoActiveGroups":true})),
            (10_004, json!({"Member_Account":"leckie","SupportTopic":"1"})),
            (10_004, json!({"Member_Account":"leckie","GroupType":"Club"})),
            (10_004, json!({"Member_Account":"leckie","Limit":0})),
            (10_004, json!({"Member_Account":"leckie","Limit":1.5})),
            (10_004, json!({"Member_Account":"leckie","Offset":-1})),
            (10_004, json!({"Member_Account":"leckie","ResponseFilter":"all"})),
            (10_004, json!({"Member_Account":"leckie","ResponseFilter":{"SelfInfoFilter":[1]}})),
        ] {
            assert_eq!(world.code("get_joined_group_list", &body.to_string()).await, code, "{body}");
        }
    }
}
