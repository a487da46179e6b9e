//! An event as the stream tells it: one JSON object, the same in both forms of the stream, and its frame.

use axum::body::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use sidenote_core::event::{CallerKind, ChangedPair, Event, Happening, Operation, Platform};
use sidenote_core::extension::Value;
use sidenote_core::ids::{Conversation, EventNumber, Incarnation, MessageName, UserId};
use sidenote_core::message::{Message, MessageBody};

use crate::live::Delivery;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Told<'a> {
    event_id: &'a str,
    /// Of a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    group_id: Option<&'a str>,
    /// Of a one-to-one conversation: its two accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    accounts: Option<[&'a str; 2]>,
    number: u64,
    /// Milliseconds since 1970.
    event_time: u64,
    operator: Operator<'a>,
    #[serde(flatten)]
    what: What<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Operator<'a> {
    #[serde(rename = "UserID")]
    user_id: &'a str,
    kind: &'static str,
    platform: &'static str,
}

#[derive(Serialize)]
#[serde(tag = "Type", rename_all_fields = "PascalCase")]
enum What<'a> {
    GroupCreated {
        imported: bool,
    },
    GroupChanged,
    GroupDestroyed,
    OwnerChanged {
        #[serde(rename = "OldOwner_Account")]
        from: &'a str,
        #[serde(rename = "NewOwner_Account")]
        to: &'a str,
    },
    MembersJoined {
        member_list: Vec<&'a str>,
        imported: bool,
    },
    MembersLeft {
        member_list: Vec<&'a str>,
        reason: &'a str,
    },
    MessageSent(Sent<'a>),
    MessagesRecalled {
        msg_seq_list: Vec<u64>,
        reason: &'a str,
    },
    MessageRecalled {
        msg_key: String,
    },
    ExtensionChanged {
        #[serde(flatten)]
        message: Name,
        operate_type: u8,
        compaction: bool,
        extension_list: Vec<Pair<'a>>,
        latest_seq: u64,
        clear_seq: u64,
    },
}

/// What a message is called: by a number in a group, by a key between two accounts.
#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Name {
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_key: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Sent<'a> {
    /// Empty for a message that is only for those who are online.
    #[serde(flatten)]
    name: Name,
    #[serde(rename = "From_Account")]
    from_account: &'a str,
    msg_random: u32,
    msg_client_time: u64,
    msg_time: u64,
    support_message_extension: u8,
    imported: bool,
    /// Absent where the message was recalled before it could be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_body: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cloud_custom_data: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Pair<'a> {
    key: &'a str,
    /// Empty where the pair was deleted or cleared.
    value: &'a str,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<Previous<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Previous<'a> {
    value: &'a str,
    seq: u64,
}

/// An event as Server-Sent Events frame it.
pub(super) fn frame(delivery: &Delivery) -> Bytes {
    let id = id((delivery.incarnation(), delivery.event().number));
    let json = json(delivery, &id);
    format!("id: {id}\ndata: {json}\n\n").into()
}

/// The JSON alone out of such a frame. The two share their memory.
pub(super) fn object(frame: &Bytes) -> Bytes {
    let begin = frame.iter().position(|byte| *byte == b'{').unwrap_or(0);
    frame.slice(begin..frame.len().saturating_sub("\n\n".len()))
}

/// Something that is said about the stream itself, in an object of the same kind.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Notice<'a> {
    /// Where the stream goes on, if it can be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) event_id: Option<String>,
    #[serde(rename = "Type")]
    pub(super) kind: &'a str,
    pub(super) reason: &'a str,
    pub(super) info: &'a str,
}

impl Notice<'_> {
    /// As one JSON object.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).expect("texts are always JSON")
    }

    /// As Server-Sent Events frame it, under a name by which a browser hands it out.
    pub(super) fn frame(&self, name: &str) -> String {
        let id = self.event_id.as_ref().map(|id| format!("id: {id}\n")).unwrap_or_default();
        format!("event: {name}\n{id}data: {}\n\n", self.json())
    }
}

/// The life of a conversation, and the number of an event in it.
pub(super) type Cursor = (Incarnation, EventNumber);

/// The name of an event, which is a cursor.
pub(super) fn id((incarnation, number): Cursor) -> String {
    format!("{:016x}-{}", incarnation.get(), number.get())
}

/// Reads such a name.
pub(super) fn read_id(text: &str) -> Option<Cursor> {
    let (incarnation, number) = text.split_once('-')?;
    let is_hex = incarnation.len() == 16 && incarnation.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_decimal = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    if !is_hex || !is_decimal {
        return None;
    }
    let incarnation = u64::from_str_radix(incarnation, 16).ok()?;
    Some((Incarnation::from_random(incarnation), EventNumber::new(number.parse().ok()?)))
}

fn json(delivery: &Delivery, event_id: &str) -> String {
    let (group_id, accounts) = match &delivery.conversation().conversation {
        Conversation::Group(group) => (Some(group.as_str()), None),
        Conversation::Direct(one, other) => (None, Some([one.as_str(), other.as_str()])),
    };
    let event = delivery.event();
    let told = Told {
        event_id,
        group_id,
        accounts,
        number: event.number.get(),
        event_time: event.at.millis(),
        operator: Operator {
            user_id: event.operator.user.as_str(),
            kind: kind(event.operator.kind),
            platform: platform(event.operator.platform),
        },
        what: what(event, delivery.body()),
    };
    let json = serde_json::to_string(&told).expect("texts, numbers and a body are always JSON");
    // The body of a message stands there as it was sent, and may hold line breaks between its parts (inside of
    // texts JSON allows none). A frame must not.
    if json.contains(['\n', '\r']) { json.replace(['\n', '\r'], " ") } else { json }
}

fn what<'a>(event: &'a Event, body: Option<&'a MessageBody>) -> What<'a> {
    let names = |users: &'a [UserId]| users.iter().map(UserId::as_str).collect();
    match &event.what {
        Happening::GroupCreated { imported } => What::GroupCreated { imported: *imported },
        Happening::GroupChanged => What::GroupChanged,
        Happening::GroupDestroyed => What::GroupDestroyed,
        Happening::OwnerChanged { from, to } => {
            What::OwnerChanged { from: from.as_ref().map_or("", UserId::as_str), to: to.as_str() }
        }
        Happening::MembersJoined { users, imported } => {
            What::MembersJoined { member_list: names(users), imported: *imported }
        }
        Happening::MembersLeft { users, reason } => What::MembersLeft { member_list: names(users), reason },
        Happening::MessageSent { seq, message } => {
            What::MessageSent(sent(Name::of(MessageName::Seq(*seq)), message, body))
        }
        Happening::DirectSent { key, message } => {
            What::MessageSent(sent(Name::of(MessageName::Key(*key)), message, body))
        }
        Happening::TransientMessage { message, .. } | Happening::DirectTransient { message, .. } => {
            What::MessageSent(sent(Name::default(), message, body))
        }
        Happening::DirectRecalled { key } => What::MessageRecalled { msg_key: key.to_string() },
        Happening::MessagesRecalled { seqs, reason } => {
            What::MessagesRecalled { msg_seq_list: seqs.iter().map(|seq| seq.get()).collect(), reason }
        }
        Happening::Extension(change) => What::ExtensionChanged {
            message: Name::of(change.message),
            operate_type: match change.operation {
                Operation::Set => 1,
                Operation::Delete => 2,
                Operation::Clear => 3,
            },
            compaction: change.compaction,
            extension_list: change.pairs.iter().map(pair).collect(),
            latest_seq: change.latest.get(),
            clear_seq: change.clear.get(),
        },
    }
}

impl Name {
    fn of(message: MessageName) -> Self {
        match message {
            MessageName::Seq(seq) => Self { msg_seq: Some(seq.get()), msg_key: None },
            MessageName::Key(key) => Self { msg_seq: None, msg_key: Some(key.to_string()) },
        }
    }
}

fn sent<'a>(name: Name, message: &'a Message, body: Option<&'a MessageBody>) -> Sent<'a> {
    // A body is kept as the JSON that it was read from. One that another node sends along with its event is not looked at
    // before, and may come from whoever else can publish on the broker.
    let elements = body.and_then(|body| serde_json::from_str(&body.elements).ok());
    Sent {
        name,
        from_account: message.sender.as_str(),
        msg_random: message.random,
        msg_client_time: message.client_time,
        msg_time: message.sent_at.secs(),
        support_message_extension: u8::from(message.supports_extension),
        imported: message.imported,
        msg_body: elements,
        cloud_custom_data: body.map(|body| body.cloud_custom_data.as_str()).filter(|data| !data.is_empty()),
    }
}

fn pair(pair: &ChangedPair) -> Pair<'_> {
    Pair {
        key: pair.key.as_str(),
        value: pair.value.as_ref().map_or("", Value::as_str),
        seq: pair.seq.get(),
        previous: pair.previous.as_ref().map(|previous| Previous {
            value: previous.value.as_ref().map_or("", Value::as_str),
            seq: previous.seq.get(),
        }),
    }
}

const fn kind(kind: CallerKind) -> &'static str {
    match kind {
        CallerKind::Administrator => "Administrator",
        CallerKind::Member => "Member",
        CallerKind::Connected => "Connected",
        CallerKind::Server => "Server",
    }
}

/// As `OptPlatform` has it (webhooks.md section 1).
const fn platform(platform: Platform) -> &'static str {
    match platform {
        Platform::RestApi => "RESTAPI",
        Platform::Web => "Web",
        Platform::Android => "Android",
        Platform::Ios => "iOS",
        Platform::Windows => "Windows",
        Platform::Mac => "Mac",
        Platform::Ipad => "iPad",
        Platform::Unknown => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use sidenote_core::event::Operator as By;
    use sidenote_core::ids::{Timestamp, TinyId};
    use sidenote_core::message::Priority;

    use super::*;

    #[test]
    fn an_id_is_read_as_it_was_written_and_nothing_else_is() {
        for (incarnation, number) in [(0, 0), (u64::MAX, u64::MAX), (0x0123_4567_89ab_cdef, 42)] {
            let cursor = (Incarnation::from_random(incarnation), EventNumber::new(number));
            assert_eq!(read_id(&id(cursor)), Some(cursor));
        }
        for wrong in [
            "",
            "-",
            "1-1",
            "0123456789abcdef",
            "0123456789abcdef-",
            "0123456789abcdef-+1",
            "0123456789abcdeg-1",
            "0123456789abcdef-1 ",
            "+123456789abcdef-1",
            "0123456789abcdef-18446744073709551616",
        ] {
            assert_eq!(read_id(wrong), None, "{wrong:?}");
        }
    }
    #[test]
    fn the_object_is_what_stands_in_the_frame() {
        let frame = Bytes::from("id: 0123456789abcdef-1\ndata: {\"Type\":\"GroupChanged\"}\n\n");
        assert_eq!(object(&frame), "{\"Type\":\"GroupChanged\"}");
    }

    #[test]
    fn a_body_that_is_none_is_left_out() {
        let ann = UserId::new("ann").unwrap();
        let message = Message {
            sender: ann.clone(),
            sender_tiny_id: TinyId::from_random(1),
            random: 2,
            client_time: 3,
            sent_at: Timestamp::from_secs(4),
            priority: Priority::Normal,
            supports_extension: true,
            imported: false,
            recalled: false,
        };
        // Somebody on the broker who is no server says that it happened.
        let body = MessageBody { elements: "[{".to_owned(), ..MessageBody::default() };
        let event = Event {
            number: EventNumber::new(1),
            at: Timestamp::from_secs(4),
            operator: By::server(ann),
            what: Happening::TransientMessage { message, body: body.clone() },
        };
        let told = serde_json::to_value(what(&event, Some(&body))).unwrap();
        assert_eq!((&told["MsgTime"], told.get("MsgBody")), (&serde_json::json!(4), None));
    }

    #[test]
    fn a_notice_is_one_line_in_its_frame() {
        let notice =
            Notice { event_id: Some("7-1".to_owned()), kind: "StartOver", reason: "cursor", info: "a\nb" };
        assert_eq!(
            notice.frame("start_over"),
            "event: start_over\nid: 7-1\ndata: {\"EventId\":\"7-1\",\"Type\":\"StartOver\",\"Reason\":\"cursor\",\
             \"Info\":\"a\\nb\"}\n\n"
        );
    }
}
