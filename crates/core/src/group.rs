//! Groups and their members.

use crate::ids::{EventNumber, Incarnation, MsgSeq, Timestamp, TinyId, UserId};

/// Types of groups by their REST names (groups-and-messages.md section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupType {
    /// Work: friends invite friends.
    Private,
    /// Joined on approval.
    Public,
    /// Meeting: joined freely.
    ChatRoom,
    /// Live room: no history and no member list over REST.
    AvChatRoom,
    /// Very large, with topics.
    Community,
}

/// Who may join by applying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyJoin {
    /// Everyone.
    FreeAccess,
    /// After approval.
    NeedPermission,
    /// Nobody.
    DisableApply,
}

/// Who may join by invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InviteJoin {
    /// Everyone who is invited.
    FreeAccess,
    /// After approval.
    NeedPermission,
    /// Nobody.
    DisableInvite,
}

/// A field that the application defines itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomField {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// Fields of its own that an application can give to one group (groups-and-messages.md section 2.2).
pub const MAX_CUSTOM_FIELDS: usize = 10;

/// What describes a group and changes rarely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Under which number everything else of the group is stored.
    pub incarnation: Incarnation,
    /// The group's type.
    pub kind: GroupType,
    /// Its owner, if it has one.
    pub owner: Option<UserId>,
    /// Texts and switches that `modify_group_base_info` may change.
    pub profile: GroupProfile,
    /// When it was created.
    pub created_at: Timestamp,
    /// How often its description changed, from 1.
    pub info_seq: u64,
    /// When its description changed last.
    pub info_changed_at: Timestamp,
}

/// The changeable description of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupProfile {
    /// Name.
    pub name: String,
    /// Introduction.
    pub introduction: String,
    /// Notification.
    pub notification: String,
    /// Address of its picture.
    pub face_url: String,
    /// How many members it takes; `None` for a live room, which takes any number.
    pub max_members: Option<u32>,
    /// Who may apply.
    pub apply_join: ApplyJoin,
    /// Who may be invited.
    pub invite_join: InviteJoin,
    /// Only the owner and group administrators may speak.
    pub mute_all: bool,
    /// May members read messages from before they joined?
    pub history_before_join: bool,
    /// Fields of the application's own.
    pub custom: Vec<CustomField>,
}

/// Numbers of a conversation that change with every message or event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Number of the last message; 0 before the first.
    pub last_msg_seq: u64,
    /// When the last message was sent.
    pub last_msg_at: Timestamp,
    /// Members now.
    pub members: u32,
    /// Number of the last event.
    pub last_event: EventNumber,
}

/// A member's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The owner.
    Owner,
    /// A group administrator.
    Admin,
    /// Everyone else.
    Member,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The account that joined. An account of the same name with another number is somebody else.
    pub tiny_id: TinyId,
    /// Its role.
    pub role: Role,
    /// When it joined.
    pub joined_at: Timestamp,
    /// Last message number that it is taken to have read.
    pub read_seq: u64,
    /// When it last sent a message; 0 if never.
    pub last_sent_at: Timestamp,
    /// Until when it may not speak; 0 if it may.
    pub muted_until: Timestamp,
    /// Name card, or empty.
    pub name_card: String,
    /// Fields of the application's own.
    pub custom: Vec<CustomField>,
}

/// A group with its counters, as of one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// Its description.
    pub group: std::sync::Arc<Group>,
    /// Its counters.
    pub counters: Counters,
}

impl GroupView {
    /// The number that the next message will get.
    pub const fn next_msg_seq(&self) -> u64 {
        self.counters.last_msg_seq + 1
    }

    /// The newest message, if there is one.
    pub fn last_message(&self) -> Option<MsgSeq> {
        MsgSeq::new(self.counters.last_msg_seq).ok()
    }
}
