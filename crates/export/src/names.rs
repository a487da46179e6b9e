//! Names and numbers as JSON: what does not fit a number of JavaScript is a text.

use std::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sidenote_core::Malformed;
use sidenote_core::ids::{Conversation, GroupId, Incarnation, MessageName, MsgKey, MsgSeq, TinyId, UserId};
use sidenote_core::message::Fingerprint;

/// What a line says of a value that none can have.
pub(crate) type Read<T> = Result<T, String>;

/// For `map_err`: names the member of the line that is unfit.
pub(crate) fn unfit(name: &'static str) -> impl Fn(Malformed) -> String {
    move |malformed| format!("`{name}` {malformed}")
}

pub(crate) fn user(raw: &str) -> Read<UserId> {
    UserId::new(raw).map_err(unfit("user"))
}

/// A type that is written by its [`fmt::Display`] and read by a function from text.
macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident($inner:ty), $expected:literal, $write:expr, $read:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $name(pub(crate) $inner);

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                let write: fn(&$inner) -> String = $write;
                to.serialize_str(&write(&self.0))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: de::Error>(self, raw: &str) -> Result<$name, E> {
                        let read: fn(&str) -> Option<$inner> = $read;
                        read(raw).map($name).ok_or_else(|| E::custom(concat!("expected ", $expected)))
                    }
                }
                from.deserialize_str(Text)
            }
        }
    )*};
}

texts! {
    /// 64 bits.
    IncarnationText(Incarnation), "a text of 1 to 20 digits",
        |it| it.get().to_string(), |raw| digits(raw).map(Incarnation::from_random);
    /// 63 bits.
    TinyIdText(TinyId), "a text of 1 to 19 digits",
        |it| it.get().to_string(),
        |raw| digits(raw).map(|bits| (bits, TinyId::from_random(bits))).filter(|(bits, it)| it.get() == *bits)
            .map(|(_, it)| it);
    /// 16 bytes.
    FingerprintText(Fingerprint), "a text of 32 hexadecimal digits",
        |it| format!("{:032x}", u128::from_be_bytes(it.0)),
        |raw| {
            let sound = raw.len() == 32 && raw.bytes().all(|byte| byte.is_ascii_hexdigit());
            let bits = u128::from_str_radix(raw, 16).ok().filter(|_| sound)?;
            Some(Fingerprint(bits.to_be_bytes()))
        };
}

/// A number in its only spelling.
fn digits<T: std::str::FromStr + ToString>(raw: &str) -> Option<T> {
    raw.parse::<T>().ok().filter(|number| number.to_string() == raw)
}

/// A message: a number in a group, `<seq>_<random>_<time>` between two accounts.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum NameText {
    Seq(u64),
    Key(String),
}

// By hand, as serde would first take whatever is there apart, lists of any length included.
impl<'de> Deserialize<'de> for NameText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = NameText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the number of a message, or a text of three numbers like 1_2_3")
            }

            fn visit_u64<E: de::Error>(self, seq: u64) -> Result<NameText, E> {
                Ok(NameText::Seq(seq))
            }

            fn visit_str<E: de::Error>(self, key: &str) -> Result<NameText, E> {
                Ok(NameText::Key(key.to_owned()))
            }
        }
        from.deserialize_any(Name)
    }
}

impl From<MessageName> for NameText {
    fn from(it: MessageName) -> Self {
        match it {
            MessageName::Seq(seq) => Self::Seq(seq.get()),
            MessageName::Key(key) => Self::Key(key.to_string()),
        }
    }
}

impl NameText {
    pub(crate) fn read(&self) -> Read<MessageName> {
        match self {
            Self::Seq(seq) => msg_seq(*seq).map(MessageName::Seq),
            Self::Key(text) => MsgKey::parse(text).map(MessageName::Key).map_err(unfit("message")),
        }
    }

    /// The name of a one-to-one message.
    pub(crate) fn read_key(&self) -> Read<MsgKey> {
        match self {
            Self::Seq(_) => Err(unfit("message")(Malformed::NotAMsgKey)),
            Self::Key(text) => MsgKey::parse(text).map_err(unfit("message")),
        }
    }
}

pub(crate) fn msg_seq(raw: u64) -> Read<MsgSeq> {
    MsgSeq::new(raw).map_err(unfit("message"))
}

/// A conversation: the id of a group, or two accounts.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum ConversationText {
    Group(String),
    Direct(String, String),
}

impl<'de> Deserialize<'de> for ConversationText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Id;
        impl<'de> Visitor<'de> for Id {
            type Value = ConversationText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the id of a group, or a list of two accounts")
            }

            fn visit_str<E: de::Error>(self, group: &str) -> Result<ConversationText, E> {
                Ok(ConversationText::Group(group.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut users: A) -> Result<ConversationText, A::Error> {
                let (one, other) = (users.next_element()?, users.next_element()?);
                let more = match (one, other) {
                    (Some(one), Some(other)) => match users.next_element::<de::IgnoredAny>()? {
                        None => return Ok(ConversationText::Direct(one, other)),
                        Some(_) => 3,
                    },
                    (one, _) => usize::from(one.is_some()),
                };
                Err(de::Error::invalid_length(more, &self))
            }
        }
        from.deserialize_any(Id)
    }
}

impl From<&Conversation> for ConversationText {
    fn from(it: &Conversation) -> Self {
        match it {
            Conversation::Group(group) => Self::Group(group.as_str().to_owned()),
            Conversation::Direct(one, other) => {
                Self::Direct(one.as_str().to_owned(), other.as_str().to_owned())
            }
        }
    }
}

impl ConversationText {
    pub(crate) fn read(&self) -> Read<Conversation> {
        match self {
            Self::Group(group) => GroupId::new(group).map(Conversation::Group).map_err(unfit("group")),
            Self::Direct(one, other) => {
                let (one, other) = (user(one)?, user(other)?);
                if one > other {
                    return Err("the two accounts of a conversation must be in ascending order".to_owned());
                }
                Ok(Conversation::Direct(one, other))
            }
        }
    }
}

/// Enums that are one word.
macro_rules! words {
    ($($mirror:ident of $core:ident { $($name:ident),* $(,)? })*) => {$(
        #[derive(Clone, Copy, Debug, Serialize, Deserialize)]
        pub(crate) enum $mirror { $($name,)* }

        impl From<$core> for $mirror {
            fn from(it: $core) -> Self {
                match it { $($core::$name => Self::$name,)* }
            }
        }

        impl From<$mirror> for $core {
            fn from(it: $mirror) -> Self {
                match it { $($mirror::$name => Self::$name,)* }
            }
        }
    )*};
}
pub(crate) use words;
