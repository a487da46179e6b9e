//! A member on the wire (groups-and-messages.md section 3.2, `MemberInfoFilter`).

use serde::Serialize;
use sidenote_core::group::Member;
use sidenote_core::ids::{Timestamp, UserId};

use crate::api::groups::custom_fields::{self, WireField};
use crate::api::groups::filter::Filter;
use crate::api::groups::types::{ROLES, name_of};
use crate::wire::fields::FieldError;
use crate::wire::json::Object;

/// What a caller wants to know of members.
pub(super) struct MemberFilter<'a> {
    info: Filter<'a>,
    /// Custom fields come only when asked for.
    custom: Option<Filter<'a>>,
}

impl<'a> MemberFilter<'a> {
    /// Reads the filters about members from the object that holds them.
    pub(super) fn parse(filters: Object<'a>) -> Result<Self, FieldError> {
        Ok(Self {
            info: Filter::parse(filters, "MemberInfoFilter")?.unwrap_or(Filter::Everything),
            custom: Filter::parse(filters, "AppDefinedDataFilter_GroupMember")?,
        })
    }

    /// Everything but custom fields.
    pub(super) const fn everything() -> Self {
        Self { info: Filter::Everything, custom: None }
    }
}

/// The fields of a member that are asked for. Times are Unix seconds, 0 for what never happened.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WireMember<'a> {
    #[serde(rename = "Member_Account")]
    user: &'a str,
    #[serde(flatten)]
    place: WirePlace,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_send_msg_time: Option<u64>,
    /// 0 for a member that may speak.
    #[serde(skip_serializing_if = "Option::is_none")]
    mute_until: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_card: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_member_defined_data: Option<Vec<WireField<'a>>>,
}

impl<'a> WireMember<'a> {
    pub(super) fn of(
        user: &'a UserId,
        member: &'a Member,
        now: Timestamp,
        filter: &MemberFilter<'_>,
    ) -> Self {
        let info = &filter.info;
        let muted_until = if member.muted_until > now { member.muted_until } else { Timestamp::default() };
        Self {
            user: user.as_str(),
            place: WirePlace::of(member, info),
            last_send_msg_time: info.pick("LastSendMsgTime", member.last_sent_at.secs()),
            mute_until: info.pick(["MuteUntil", "ShutUpUntil"], muted_until.secs()),
            name_card: info.pick("NameCard", &member.name_card),
            app_member_defined_data: custom_fields::asked(&member.custom, filter.custom.as_ref()),
        }
    }
}

/// The part that an account sees of its own place in a group too (section 3.8, `SelfInfoFilter`).
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WirePlace {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    join_time: Option<u64>,
    /// The last message that it has read.
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_seq: Option<u64>,
    /// Nobody can choose another one yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_flag: Option<&'static str>,
}

impl WirePlace {
    pub(super) fn of(member: &Member, filter: &Filter<'_>) -> Self {
        Self {
            role: filter.pick("Role", name_of(ROLES, &member.role)),
            join_time: filter.pick("JoinTime", member.joined_at.secs()),
            msg_seq: filter.pick("MsgSeq", member.read_seq),
            msg_flag: filter.pick("MsgFlag", "AcceptAndNotify"),
        }
    }
}
