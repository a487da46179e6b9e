//! Requests that are already valid. Each has one home: an account or a conversation.

use std::collections::BTreeSet;

use crate::Malformed;
use crate::debt::Debt;
use crate::direct::Peers;
use crate::event::Operator;
use crate::extension::{Key, Seq, Value};
use crate::group::{CustomField, GroupProfile, GroupType, Role};
use crate::ids::{
    AccountId, ConversationId, EventNumber, GroupId, Incarnation, MsgKey, MsgSeq, Timestamp, TinyId, UserId,
};
use crate::message::{Fingerprint, MessageBody, Priority};
use crate::outbox::DeadLetter;

/// A request to change something: who, when, where, what.
#[derive(Clone, Debug)]
pub struct Command {
    /// Who asks.
    pub operator: Operator,
    /// When it reached the server.
    pub at: Timestamp,
    /// Where and what.
    pub action: Action,
}

/// What a command does, by its home.
#[derive(Clone, Debug)]
pub enum Action {
    /// To one account.
    Account(AccountId, AccountAction),
    /// To one group.
    Group(ConversationId, GroupAction),
    /// To the conversation of two accounts.
    Direct(Box<Peers>, DirectAction),
    /// To whatever home owes this debt: pay the next bounded part of it. Of a conversation that is being reaped, only those
    /// members are removed whose accounts were told, and who that is whoever pays says here; of other debts, nobody.
    Pay(Debt, Vec<UserId>),
    /// To what one conversation has told by webhook.
    Outbox(ConversationId, Incarnation, OutboxAction),
}

/// Changes to an account and to the list of its groups.
#[derive(Clone, Debug)]
pub enum AccountAction {
    /// Create it, or update what is given.
    Import {
        /// The number that it gets if it is new.
        tiny_id: TinyId,
        /// Nickname; `None` leaves it alone.
        nick: Option<String>,
        /// Picture; `None` leaves it alone.
        face_url: Option<String>,
    },
    /// Remove it.
    Delete,
    /// It joined a group: what the group's event of that number says.
    Joined(GroupId, Incarnation, EventNumber),
    /// It left a group: what the group's event of that number says.
    Left(GroupId, Incarnation, EventNumber),
}

/// Changes to what is told by webhook.
#[derive(Clone, Debug)]
pub enum OutboxAction {
    /// Every event up to `through` was told, needs no telling, or is among the dead letters, which come with the
    /// number of the last event that each stands for.
    Settle {
        /// The last of them.
        through: EventNumber,
        /// Those that were given up.
        dead: Vec<(EventNumber, DeadLetter)>,
    },
    /// Forget this dead letter: it was told after all, or nobody wants it told.
    Discard(EventNumber),
}

/// Changes to a group.
#[derive(Clone, Debug)]
pub enum GroupAction {
    /// Make it.
    Create(Box<NewGroup>),
    /// Change its description.
    Modify(Box<GroupPatch>),
    /// Remove it and, in time, everything in it.
    Destroy,
    /// Give it another owner, who must be a member.
    ChangeOwner(UserId),
    /// Add members.
    AddMembers {
        /// Whom; at most [`MAX_MEMBERS_PER_COMMAND`].
        members: Vec<NewMember>,
        /// True for an import, which is silent.
        imported: bool,
    },
    /// Remove members. Accounts that are no members are passed over.
    RemoveMembers {
        /// Whom.
        users: Vec<UserId>,
        /// Why, or empty.
        reason: String,
    },
    /// Remove one member whose account is gone, unless another account of that name has joined since.
    Forget(UserId, TinyId),
    /// Store a message.
    Send(Box<NewMessage>),
    /// Store messages of the past.
    Import(Vec<NewMessage>),
    /// Recall messages.
    Recall {
        /// Which; at most 10 (groups-and-messages.md section 4.3).
        seqs: Vec<MsgSeq>,
        /// Why, or empty.
        reason: String,
    },
    /// Change the extension set of a message.
    Extend(MsgSeq, Extend),
}

/// Changes to the conversation of two accounts. The first of the two is who sent the message.
#[derive(Clone, Debug)]
pub enum DirectAction {
    /// Store a message. The first one begins the conversation.
    Send(Box<NewDirectMessage>),
    /// Recall a message.
    Recall(MsgKey),
    /// Change the extension set of a message.
    Extend(MsgKey, Extend),
}

/// Members that one command may add (groups-and-messages.md section 3.5).
pub const MAX_MEMBERS_PER_COMMAND: usize = 300;

/// A group to be made.
#[derive(Clone, Debug)]
pub struct NewGroup {
    /// Drawn at random for it.
    pub incarnation: Incarnation,
    /// Its type.
    pub kind: GroupType,
    /// Its owner, who becomes a member.
    pub owner: Option<NewMember>,
    /// Its description.
    pub profile: GroupProfile,
    /// Its first members besides the owner.
    pub members: Vec<NewMember>,
    /// When it was created.
    pub created_at: Timestamp,
    /// True for an import, which is silent.
    pub imported: bool,
}

/// A member to be added; the edge has looked the account up.
#[derive(Clone, Debug)]
pub struct NewMember {
    /// The account.
    pub user: UserId,
    /// Its number.
    pub tiny_id: TinyId,
    /// Its role.
    pub role: Role,
    /// When it joined, if that is not now.
    pub joined_at: Option<Timestamp>,
    /// How many of the group's messages it has not read yet.
    pub unread: u64,
    /// Fields of the application's own.
    pub custom: Vec<CustomField>,
}

/// Changes to a group's description; `None` leaves a field alone.
#[derive(Clone, Debug, Default)]
pub struct GroupPatch {
    /// Name.
    pub name: Option<String>,
    /// Introduction.
    pub introduction: Option<String>,
    /// Notification.
    pub notification: Option<String>,
    /// Picture.
    pub face_url: Option<String>,
    /// Capacity.
    pub max_members: Option<u32>,
    /// Who may apply.
    pub apply_join: Option<crate::group::ApplyJoin>,
    /// Who may be invited.
    pub invite_join: Option<crate::group::InviteJoin>,
    /// Whether only the owner and administrators may speak.
    pub mute_all: Option<bool>,
    /// Whether history from before joining may be read.
    pub history_before_join: Option<bool>,
    /// Fields to set; an empty value removes the field.
    pub custom: Vec<CustomField>,
}

/// A message to be stored.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Who sends it.
    pub sender: UserId,
    /// The sender's number.
    pub sender_tiny_id: TinyId,
    /// True for an administrator of the app, who can't be muted.
    pub sender_is_administrator: bool,
    /// The client's random number.
    pub random: u32,
    /// When the client made it, seconds; `None`: when the server takes it.
    pub client_time: Option<u64>,
    /// When it was sent, for an import; `None`: now.
    pub sent_at: Option<Timestamp>,
    /// Priority.
    pub priority: Priority,
    /// Whether it may carry key-value pairs.
    pub supports_extension: bool,
    /// Not to be stored.
    pub online_only: bool,
    /// What it says.
    pub body: MessageBody,
    /// Identity for the duplicate check.
    pub fingerprint: Fingerprint,
}

/// A one-to-one message to be stored.
#[derive(Clone, Debug)]
pub struct NewDirectMessage {
    /// Drawn at random for the conversation, should this be its first message.
    pub incarnation: Incarnation,
    /// The client's number, or one drawn for it.
    pub seq: u32,
    /// The client's random number.
    pub random: u32,
    /// When the client made it, seconds; `None`: when the server takes it.
    pub client_time: Option<u64>,
    /// Whether it may carry key-value pairs.
    pub supports_extension: bool,
    /// Not to be stored.
    pub online_only: bool,
    /// What it says.
    pub body: MessageBody,
    /// Identity for the duplicate check.
    pub fingerprint: Fingerprint,
}

/// A change of an extension set: rule 3.6.
#[derive(Clone, Debug)]
pub enum Extend {
    /// OperateType 1.
    Set(Items<(Key, Value)>),
    /// OperateType 2.
    Delete(Items<Key>),
    /// OperateType 3.
    Clear,
}

/// What a caller says it knows of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing: no Seq was sent, which only an administrator may do (rule 3.3).
    Unchecked,
    /// This is the version that a member last saw (rule 3.4).
    Saw(Seq),
}

/// The pairs of one request: at least one, a bounded number, no key twice (rules 3.5 and 3.7).
#[derive(Clone, Debug)]
pub struct Items<T>(Vec<(T, Claim)>);

/// Something that has an extension key.
pub trait Keyed {
    /// The key.
    fn key(&self) -> &Key;
}

impl Keyed for Key {
    fn key(&self) -> &Key {
        self
    }
}

impl Keyed for (Key, Value) {
    fn key(&self) -> &Key {
        &self.0
    }
}

impl<T: Keyed> Items<T> {
    /// No configuration can allow more pairs in one request.
    pub const MAX: usize = 200;

    /// Checks and takes the pairs of a request.
    pub fn new(items: Vec<(T, Claim)>) -> Result<Self, Malformed> {
        if items.is_empty() {
            return Err(Malformed::Empty);
        }
        if items.len() > Self::MAX {
            return Err(Malformed::TooMany { count: items.len(), limit: Self::MAX });
        }
        let keys: BTreeSet<&str> = items.iter().map(|(item, _)| item.key().as_str()).collect();
        if keys.len() < items.len() {
            return Err(Malformed::RepeatedKey);
        }
        Ok(Self(items))
    }

    /// The pairs in the order of the request.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &(T, Claim)> {
        self.0.iter()
    }
}
