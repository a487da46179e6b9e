//! Names of things. Each type has one constructor that checks; holding a value is the proof that it is sound.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::Malformed;

/// The largest integer that survives a trip through a JSON number in every client: 2^53 - 1.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// An application (SDKAppID). Applications in one server never see each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppId(u32);

impl AppId {
    /// Names the application with this SDKAppID.
    pub const fn new(sdk_app_id: u32) -> Self {
        Self(sdk_app_id)
    }

    /// The SDKAppID as a number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A UserID: 1 to 32 bytes of UTF-8 without control characters (usersig.md section 2,
/// groups-and-messages.md section 1.1). Control characters are refused because a line feed in a name could
/// forge a line of the text that a signature covers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Arc<str>);

impl UserId {
    /// Longest UserID in bytes.
    pub const MAX_BYTES: usize = 32;

    /// Checks and takes a UserID.
    pub fn new(raw: &str) -> Result<Self, Malformed> {
        match raw.len() {
            0 => Err(Malformed::Empty),
            bytes if bytes > Self::MAX_BYTES => Err(Malformed::TooLong { bytes, limit: Self::MAX_BYTES }),
            _ if raw.chars().any(char::is_control) => Err(Malformed::ControlCharacter),
            _ => Ok(Self(raw.into())),
        }
    }

    /// The UserID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The numeric twin of an account, random and never changed. An account that is deleted and imported again has
/// another one, so that nothing of the old account can pass for the new one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TinyId(u64);

impl TinyId {
    /// Takes 64 random bits; the top bit is dropped so that the number also fits a signed integer.
    pub const fn from_random(bits: u64) -> Self {
        Self(bits & (u64::MAX >> 1))
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// A GroupId: 1 to 48 bytes of printable ASCII, 0x20 to 0x7e (groups-and-messages.md section 2.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(Arc<str>);

impl GroupId {
    /// Longest GroupId in bytes.
    pub const MAX_BYTES: usize = 48;

    /// Checks and takes a GroupId.
    pub fn new(raw: &str) -> Result<Self, Malformed> {
        match raw.len() {
            0 => Err(Malformed::Empty),
            bytes if bytes > Self::MAX_BYTES => Err(Malformed::TooLong { bytes, limit: Self::MAX_BYTES }),
            _ if raw.bytes().any(|byte| !(0x20..=0x7e).contains(&byte)) => Err(Malformed::NotPrintableAscii),
            _ => Ok(Self(raw.into())),
        }
    }

    /// The GroupId as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where messages live: a group, or the pair of accounts of a one-to-one conversation.
///
/// A pair is kept in one order (the smaller UserID first), so that both sides name the same conversation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Conversation {
    /// A group.
    Group(GroupId),
    /// Two accounts, in ascending order.
    Direct(UserId, UserId),
}

impl Conversation {
    /// The conversation of two accounts, whichever is named first.
    pub fn between(one: UserId, other: UserId) -> Self {
        if one <= other { Self::Direct(one, other) } else { Self::Direct(other, one) }
    }
}

/// The home of commands about messages, groups and extensions: one conversation of one application.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversationId {
    /// The application.
    pub app: AppId,
    /// The conversation in it.
    pub conversation: Conversation,
}

impl ConversationId {
    /// The conversation of two accounts, whichever is named first.
    pub fn direct(app: AppId, one: UserId, other: UserId) -> Self {
        Self { app, conversation: Conversation::between(one, other) }
    }

    /// The conversation of a group.
    pub const fn group(app: AppId, group: GroupId) -> Self {
        Self { app, conversation: Conversation::Group(group) }
    }
}

/// The home of commands about an account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId {
    /// The application.
    pub app: AppId,
    /// The account's name in it.
    pub user: UserId,
}

/// One life of a conversation. A group that is destroyed and made again under its old id is a new incarnation;
/// everything but the group's own row is stored under this number, so nothing of the old one can show through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(u64);

impl Incarnation {
    /// Takes 64 random bits drawn for one new conversation.
    pub const fn from_random(bits: u64) -> Self {
        Self(bits)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The number of a message in its group, from 1 to 2^53 - 1, strictly rising (groups-and-messages.md section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MsgSeq(u64);

impl MsgSeq {
    /// Checks and takes a message number.
    pub const fn new(raw: u64) -> Result<Self, Malformed> {
        if raw == 0 || raw > MAX_SAFE_INTEGER { Err(Malformed::OutOfRange) } else { Ok(Self(raw)) }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The key of a one-to-one message, `<MsgSeq>_<MsgRandom>_<MsgTime>` on the wire (message-extensions.md section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MsgKey {
    /// The client's sequence number.
    pub seq: u32,
    /// The client's random number.
    pub random: u32,
    /// When it was sent, Unix seconds.
    pub time: u64,
}

impl MsgKey {
    /// Takes a key apart. There is one spelling of each: no signs, no spaces, no zeros in front.
    pub fn parse(raw: &str) -> Result<Self, Malformed> {
        let mut parts = raw.split('_');
        let mut next = || parts.next();
        let key = (|| {
            let key = Self { seq: digits(next()?)?, random: digits(next()?)?, time: digits(next()?)? };
            next().is_none().then_some(key)
        })();
        key.ok_or(Malformed::NotAMsgKey)
    }
}

impl fmt::Display for MsgKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}_{}", self.seq, self.random, self.time)
    }
}

/// A number in its only spelling.
fn digits<T: std::str::FromStr + ToString>(raw: &str) -> Option<T> {
    raw.parse::<T>().ok().filter(|number| number.to_string() == raw)
}

/// The place of a message in the history of a one-to-one conversation: by time, then by number and random number
/// (groups-and-messages.md section 6.1). The newest comes first, because that is how history is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Recency(MsgKey);

impl Recency {
    /// The place of the message of this name, whether there is one or not.
    pub const fn of(key: MsgKey) -> Self {
        Self(key)
    }

    /// The place right before all messages of this second: between them and those of the next.
    pub const fn before_second(time: u64) -> Self {
        Self(MsgKey { seq: 0, random: 0, time: time.saturating_add(1) })
    }

    /// The name of the message at this place.
    pub const fn key(self) -> MsgKey {
        self.0
    }

    const fn rank(self) -> (u64, u32, u32) {
        (self.0.time, self.0.seq, self.0.random)
    }
}

impl Ord for Recency {
    fn cmp(&self, other: &Self) -> Ordering {
        other.rank().cmp(&self.rank())
    }
}

impl PartialOrd for Recency {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A message's name in its conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageName {
    /// In a group: its number.
    Seq(MsgSeq),
    /// Between two accounts: its key.
    Key(MsgKey),
}

/// The number of an event in one incarnation of a conversation: from 1, without gaps, in commit order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventNumber(u64);

impl EventNumber {
    /// Before the first event.
    pub const START: Self = Self(0);

    /// Takes a number read from a cursor or a store.
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number that follows.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A moment, in milliseconds since 1970-01-01 UTC. `core` has no clock: every command carries its moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From milliseconds since the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// From whole seconds since the epoch.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since the epoch.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch.
    pub const fn secs(self) -> u64 {
        self.0 / 1000
    }

    /// This moment and so many milliseconds.
    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_ids_are_1_to_32_bytes_without_control_characters() {
        assert!(UserId::new("a").is_ok());
        assert!(UserId::new(&"x".repeat(32)).is_ok());
        assert!(UserId::new("测试用户").is_ok());
        assert_eq!(UserId::new(""), Err(Malformed::Empty));
        assert_eq!(UserId::new(&"x".repeat(33)), Err(Malformed::TooLong { bytes: 33, limit: 32 }));
        assert_eq!(UserId::new("a\nTLS.sdkappid:1"), Err(Malformed::ControlCharacter));
        assert_eq!(UserId::new("a\0"), Err(Malformed::ControlCharacter));
    }

    #[test]
    fn group_ids_are_1_to_48_bytes_of_printable_ascii() {
        assert!(GroupId::new("@TGS#1YMVAB3IZ").is_ok());
        assert!(GroupId::new(&"g".repeat(48)).is_ok());
        assert_eq!(GroupId::new(""), Err(Malformed::Empty));
        assert_eq!(GroupId::new(&"g".repeat(49)), Err(Malformed::TooLong { bytes: 49, limit: 48 }));
        assert_eq!(GroupId::new("gruppe-ü"), Err(Malformed::NotPrintableAscii));
        assert_eq!(GroupId::new("tab\t"), Err(Malformed::NotPrintableAscii));
    }

    #[test]
    fn a_pair_of_accounts_is_one_conversation_from_both_sides() {
        let (ann, bob) = (UserId::new("ann").unwrap(), UserId::new("bob").unwrap());
        assert_eq!(Conversation::between(ann.clone(), bob.clone()), Conversation::between(bob, ann));
    }

    #[test]
    fn the_key_of_a_message_has_one_spelling() {
        let key = MsgKey { seq: 44_739_199, random: 12, time: 1_665_388_280 };
        assert_eq!(MsgKey::parse("44739199_12_1665388280"), Ok(key));
        assert_eq!(key.to_string(), "44739199_12_1665388280");
        assert!(MsgKey::parse("0_4294967295_18446744073709551615").is_ok());
        for wrong in [
            "",
            "_",
            "__",
            "1_2",
            "1_2_",
            "1_2_3_",
            "1_2_3_4",
            "01_2_3",
            "+1_2_3",
            "-1_2_3",
            "1_ 2_3",
            "1_2_3\n",
            "4294967296_2_3",
            "1_4294967296_3",
            "1_2_18446744073709551616",
            "1-2-3",
            "a_b_c",
            "１_2_3",
        ] {
            assert_eq!(MsgKey::parse(wrong), Err(Malformed::NotAMsgKey), "{wrong:?}");
        }
    }

    #[test]
    fn the_newest_message_comes_first() {
        let at = |seq, random, time| Recency::of(MsgKey { seq, random, time });
        let mut places =
            [at(1, 9, 10), at(9, 9, 9), at(2, 1, 10), at(2, 2, 10), at(1, 1, 11), Recency::before_second(10)];
        places.sort();
        let in_order =
            [at(1, 1, 11), Recency::before_second(10), at(2, 2, 10), at(2, 1, 10), at(1, 9, 10), at(9, 9, 9)];
        assert_eq!(places, in_order);
        assert!(
            Recency::before_second(10) > at(0, 1, 11)
                && Recency::before_second(10) < at(u32::MAX, u32::MAX, 10)
        );
    }

    #[test]
    fn message_numbers_fit_a_json_number() {
        assert!(MsgSeq::new(0).is_err());
        assert!(MsgSeq::new(MAX_SAFE_INTEGER).is_ok());
        assert!(MsgSeq::new(MAX_SAFE_INTEGER + 1).is_err());
    }
}
