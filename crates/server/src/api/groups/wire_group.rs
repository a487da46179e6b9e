//! A group on the wire (groups-and-messages.md section 3.2, `GroupBaseInfoFilter`).

use serde::Serialize;
use sidenote_core::group::GroupView;

use crate::api::Call;
use crate::api::groups::filter::Filter;
use crate::api::groups::types::{APPLY_JOIN_OPTIONS, GROUP_TYPES, INVITE_JOIN_OPTIONS, SWITCHES, name_of};

/// The fields of a group that are asked for. Times are Unix seconds, 0 for what never happened.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WireGroup<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    appid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    introduction: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notification: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    face_url: Option<&'a str>,
    /// Empty for a group without an owner.
    #[serde(rename = "Owner_Account", skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    create_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info_seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_info_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_msg_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_msg_seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    member_num: Option<u32>,
    /// 0 for a live room, which has no such limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_member_num: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    apply_join_option: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invite_join_option: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mute_all_member: Option<&'static str>,
}

impl<'a> WireGroup<'a> {
    pub(super) fn of(call: &Call, view: &'a GroupView, filter: &Filter<'_>) -> Self {
        let (group, counters) = (&view.group, &view.counters);
        let profile = &group.profile;
        Self {
            r#type: filter.pick("Type", name_of(GROUP_TYPES, &group.kind)),
            name: filter.pick("Name", &profile.name),
            appid: filter.pick("Appid", call.app_id().get()),
            introduction: filter.pick("Introduction", &profile.introduction),
            notification: filter.pick("Notification", &profile.notification),
            face_url: filter.pick("FaceUrl", &profile.face_url),
            owner: filter.pick("Owner_Account", group.owner.as_ref().map_or("", |owner| owner.as_str())),
            create_time: filter.pick("CreateTime", group.created_at.secs()),
            info_seq: filter.pick("InfoSeq", group.info_seq),
            last_info_time: filter.pick("LastInfoTime", group.info_changed_at.secs()),
            last_msg_time: filter.pick("LastMsgTime", counters.last_msg_at.secs()),
            next_msg_seq: filter.pick("NextMsgSeq", view.next_msg_seq()),
            member_num: filter.pick("MemberNum", counters.members),
            max_member_num: filter.pick("MaxMemberNum", profile.max_members.unwrap_or(0)),
            apply_join_option: filter
                .pick("ApplyJoinOption", name_of(APPLY_JOIN_OPTIONS, &profile.apply_join)),
            invite_join_option: filter
                .pick("InviteJoinOption", name_of(INVITE_JOIN_OPTIONS, &profile.invite_join)),
            mute_all_member: filter
                .pick(["MuteAllMember", "ShutUpAllMember"], name_of(SWITCHES, &profile.mute_all)),
        }
    }
}
