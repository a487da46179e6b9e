//! The names that types, roles and options of groups have on the wire (groups-and-messages.md sections 2.1, 2.4
//! and 3.1).

use sidenote_core::group::{ApplyJoin, GroupType, InviteJoin, Role};

/// Types as requests name them; Work and Meeting are newer names of the same thing.
pub(super) const GROUP_TYPES: &[(&str, GroupType)] = &[
    ("Private", GroupType::Private),
    ("Public", GroupType::Public),
    ("ChatRoom", GroupType::ChatRoom),
    ("AVChatRoom", GroupType::AvChatRoom),
    ("Community", GroupType::Community),
    ("Work", GroupType::Private),
    ("Meeting", GroupType::ChatRoom),
];

pub(super) const APPLY_JOIN_OPTIONS: &[(&str, ApplyJoin)] = &[
    ("FreeAccess", ApplyJoin::FreeAccess),
    ("NeedPermission", ApplyJoin::NeedPermission),
    ("DisableApply", ApplyJoin::DisableApply),
];

pub(super) const INVITE_JOIN_OPTIONS: &[(&str, InviteJoin)] = &[
    ("FreeAccess", InviteJoin::FreeAccess),
    ("NeedPermission", InviteJoin::NeedPermission),
    ("DisableInvite", InviteJoin::DisableInvite),
];

/// Roles that members have.
pub(super) const ROLES: &[(&str, Role)] =
    &[("Owner", Role::Owner), ("Admin", Role::Admin), ("Member", Role::Member)];

/// Roles that a request can give to a new member.
pub(super) const GIVEN_ROLES: &[(&str, Role)] = &[("Admin", Role::Admin)];

pub(super) const SWITCHES: &[(&str, bool)] = &[("On", true), ("Off", false)];

/// The name of a type as answers and webhooks give it.
pub(crate) fn group_type_name(kind: GroupType) -> &'static str {
    name_of(GROUP_TYPES, &kind)
}

/// The first name of a meaning in one of these tables, which is the one that answers use.
pub(super) fn name_of<T: PartialEq>(table: &[(&'static str, T)], meaning: &T) -> &'static str {
    let row = table.iter().find(|(_, of)| of == meaning);
    row.map(|(name, _)| *name)
        .expect("every meaning that is stored was read from its table or is a row of it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_use_the_rest_names() {
        let names = GROUP_TYPES.iter().map(|(_, kind)| name_of(GROUP_TYPES, kind));
        let expected = ["Private", "Public", "ChatRoom", "AVChatRoom", "Community", "Private", "ChatRoom"];
        assert_eq!(names.collect::<Vec<_>>(), expected);
    }
}
