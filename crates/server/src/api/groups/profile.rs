//! The description of a group as requests write it (groups-and-messages.md sections 2.2, 3.1 and 3.4).

use std::ops::RangeInclusive;

use sidenote_core::command::GroupPatch;
use sidenote_core::group::{ApplyJoin, GroupProfile, GroupType, InviteJoin};

use crate::api::groups::custom_fields;
use crate::api::groups::types::{APPLY_JOIN_OPTIONS, INVITE_JOIN_OPTIONS, SWITCHES};
use crate::config::Limits;
use crate::wire::fields::{FieldError, Names, Problem};
use crate::wire::json::{Object, Value};

/// Reads the description of a new group.
pub(super) fn parse_new(
    body: Object<'_>,
    kind: GroupType,
    limits: &Limits,
) -> Result<GroupProfile, FieldError> {
    let name = group_name(body.required("Name")?, limits)?;
    let texts = Texts::parse(body, limits)?;
    let max_members = body.optional_integer("MaxMemberCount", capacities(limits))?;
    let apply_join = body.optional_one_of("ApplyJoinOption", APPLY_JOIN_OPTIONS)?;
    let invite_join = body.optional_one_of("InviteJoinOption", INVITE_JOIN_OPTIONS)?;
    let custom = custom_fields::parse_initial(body, "AppDefinedData", custom_fields::OF_GROUP)?;
    refuse_topics(body)?;
    Ok(GroupProfile {
        name,
        introduction: texts.introduction.unwrap_or_default(),
        notification: texts.notification.unwrap_or_default(),
        face_url: texts.face_url.unwrap_or_default(),
        // A live room takes any number.
        max_members: (kind != GroupType::AvChatRoom).then(|| max_members.unwrap_or(limits.members_per_group)),
        apply_join: apply_join.unwrap_or(ApplyJoin::NeedPermission),
        invite_join: invite_join.unwrap_or(match kind {
            // Members of a Private group are invited by their friends (section 2.1).
            GroupType::Private | GroupType::Community => InviteJoin::FreeAccess,
            GroupType::Public | GroupType::ChatRoom | GroupType::AvChatRoom => InviteJoin::DisableInvite,
        }),
        mute_all: false,
        history_before_join: true,
        custom,
    })
}

/// Reads what is to change.
pub(super) fn parse_patch(body: Object<'_>, limits: &Limits) -> Result<GroupPatch, FieldError> {
    let texts = Texts::parse(body, limits)?;
    check_permissions(body)?;
    Ok(GroupPatch {
        name: body.optional("Name").map(|name| group_name(name, limits)).transpose()?,
        introduction: texts.introduction,
        notification: texts.notification,
        face_url: texts.face_url,
        max_members: body.optional_integer("MaxMemberNum", capacities(limits))?,
        apply_join: body.optional_one_of("ApplyJoinOption", APPLY_JOIN_OPTIONS)?,
        invite_join: body.optional_one_of("InviteJoinOption", INVITE_JOIN_OPTIONS)?,
        mute_all: body.optional_one_of(["MuteAllMember", "ShutUpAllMember"], SWITCHES)?,
        history_before_join: body.optional_one_of("HistoryMsgBeforeJoin", SWITCHES)?,
        custom: custom_fields::parse(body, "AppDefinedData", custom_fields::OF_GROUP)?,
    })
}

/// The texts that may be absent and may be empty.
struct Texts {
    introduction: Option<String>,
    notification: Option<String>,
    face_url: Option<String>,
}

impl Texts {
    fn parse(body: Object<'_>, limits: &Limits) -> Result<Self, FieldError> {
        let text = |name: &'static str, limit: u32| -> Result<Option<String>, FieldError> {
            Ok(body.optional_string_within(name, bytes(limit))?.map(str::to_owned))
        };
        Ok(Self {
            introduction: text("Introduction", limits.introduction_bytes)?,
            notification: text("Notification", limits.notification_bytes)?,
            face_url: text("FaceUrl", limits.face_url_bytes)?,
        })
    }
}

fn group_name(value: Value<'_>, limits: &Limits) -> Result<String, FieldError> {
    let name = value.string_within(bytes(limits.group_name_bytes))?;
    if name.is_empty() { Err(value.refuse(Problem::Empty)) } else { Ok(name.to_owned()) }
}

fn capacities(limits: &Limits) -> RangeInclusive<u32> {
    1..=limits.members_per_group
}

fn bytes(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Topics are not kept, so a group that is to have some cannot be made.
fn refuse_topics(body: Object<'_>) -> Result<(), FieldError> {
    check_permissions(body)?;
    match body.optional("SupportTopic") {
        Some(topics) if topics.flag()? => {
            Err(topics.refuse(Problem::Other("asks for topics, which are not supported".into())))
        }
        _ => Ok(()),
    }
}

/// Permission groups of a Community are not kept either; what a request says of them must at least be sound.
fn check_permissions(body: Object<'_>) -> Result<(), FieldError> {
    integer(body, "EnablePermission")?;
    integer(body, "DefaultPermission")
}

fn integer(body: Object<'_>, name: impl Names) -> Result<(), FieldError> {
    body.optional_integer(name, 0..=u64::MAX).map(|_| ())
}
