//! Which pushes tell an account what it has just done itself, on this very connection.
//!
//! The answer has told it already, so the push goes to all other connections only, those of the same account included. A
//! clear is told to this one too, because clients drop what they hold only when a push says so.
//! Events do not say which connection they come from; the answer does, by the number that the change got.

use std::collections::VecDeque;

use sidenote_core::event::{CallerKind, Event, ExtensionChange, Happening};
use sidenote_core::ids::{Conversation, GroupId, MessageName, MsgKey, MsgSeq, TinyId, UserId};

use crate::wire::json::{Document, Object, Value};

/// Changes of which the pushes are still awaited: as many as there are events in a mailbox that is full. More than that
/// only wait if events come late, and then the oldest are told like everybody else's, which does no harm.
const MAX_AWAITED: usize = 512;

/// A change as its answer tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    conversation: Conversation,
    message: MessageName,
    /// LatestSeq after a change of pairs; `None`: the message was sent.
    latest: Option<u64>,
}

impl Mark {
    /// What a request of `user` that was answered has changed; `None` if nothing.
    pub(super) fn of(servcmd: &str, user: &UserId, body: Object<'_>, answer: &[u8]) -> Option<Self> {
        let conversation = may_change(servcmd, user, body)?;
        let answer = Document::parse(answer).ok()?;
        let answer = answer.root();
        let number = |object: Object<'_>, name| u64::try_from(object.get(name)?.as_integer()?).ok();
        if number(answer, "ErrorCode") != Some(0) {
            return None;
        }
        let is_direct = is_direct(servcmd);
        let message = |object: Object<'_>| {
            Some(if is_direct {
                MessageName::Key(MsgKey::parse(object.get("MsgKey")?.as_str()?).ok()?)
            } else {
                MessageName::Seq(MsgSeq::new(number(object, "MsgSeq")?).ok()?)
            })
        };
        if [SEND, DIRECT_SEND].contains(&servcmd) {
            return Some(Self { conversation, message: message(answer)?, latest: None });
        }
        // The answer to a clear does not make the client drop what it holds, only the push does.
        if number(body, "OperateType") == Some(3) {
            return None;
        }
        // Where every pair was refused, the number is that of somebody else's change.
        let accepted = |item: Value<'_>| number(item.as_object()?, "ErrorCode").filter(|code| *code == 0);
        if !answer.get("ExtensionList")?.as_array()?.iter().any(|item| accepted(item).is_some()) {
            return None;
        }
        Some(Self { conversation, message: message(body)?, latest: number(answer, "Seq") })
    }

    fn is_told_by(&self, conversation: &Conversation, event: &Event) -> bool {
        *conversation == self.conversation
            && match &event.what {
                Happening::MessageSent { seq, .. } => {
                    self.latest.is_none() && self.message == MessageName::Seq(*seq)
                }
                Happening::DirectSent { key, .. } | Happening::DirectTransient { key, .. } => {
                    self.latest.is_none() && self.message == MessageName::Key(*key)
                }
                // A compaction goes beyond what the request did, so it is told to everybody.
                Happening::Extension(ExtensionChange { message, latest, compaction: false, .. }) => {
                    self.latest == Some(latest.get()) && self.message == *message
                }
                _ => false,
            }
    }
}

const SEND: &str = "group_open_http_svc.send_group_msg";
const SET: &str = "openim_msg_ext_http_svc.group_set_key_values";
const DIRECT_SEND: &str = "openim.sendmsg";
const DIRECT_SET: &str = "openim_msg_ext_http_svc.set_key_values";

fn is_direct(servcmd: &str) -> bool {
    [DIRECT_SEND, DIRECT_SET].contains(&servcmd)
}

/// Where a request of `user` may change something. Its answer has to be awaited before an event of the same account is
/// told from there.
pub(super) fn may_change(servcmd: &str, user: &UserId, body: Object<'_>) -> Option<Conversation> {
    if is_direct(servcmd) {
        let account = |name| UserId::new(body.get(name)?.as_str()?).ok();
        let from = account("From_Account").unwrap_or_else(|| user.clone());
        Some(Conversation::between(from, account("To_Account")?))
    } else if [SEND, SET].contains(&servcmd) {
        Some(Conversation::Group(GroupId::new(body.get("GroupId")?.as_str()?).ok()?))
    } else {
        None
    }
}

/// Whether an account on the long connection has caused an event.
pub(super) fn is_by(tiny_id: TinyId, event: &Event) -> bool {
    event.operator.kind == CallerKind::Connected && event.operator.tiny_id == Some(tiny_id)
}

/// The marks of one connection.
#[derive(Debug, Default)]
pub(super) struct Echoes(VecDeque<Mark>);

impl Echoes {
    /// An answer is on its way.
    pub(super) fn expect(&mut self, mark: Mark) {
        if self.0.len() >= MAX_AWAITED {
            self.0.pop_front();
        }
        self.0.push_back(mark);
    }

    /// Whether the event tells what was answered here. Each mark is for one event.
    pub(super) fn takes(&mut self, conversation: &Conversation, event: &Event) -> bool {
        let place = self.0.iter().position(|mark| mark.is_told_by(conversation, event));
        let is_own = place.is_some_and(|place| self.0.remove(place).is_some());
        if self.0.is_empty() {
            // An idle connection keeps no room for marks.
            self.0 = VecDeque::new();
        }
        is_own
    }
}

#[cfg(test)]
mod tests {
    use sidenote_core::event::Operator;
    use sidenote_core::ids::{EventNumber, Timestamp};
    use sidenote_core::message::{Message, Priority};

    use super::*;

    fn ann() -> UserId {
        UserId::new("ann").unwrap()
    }

    fn mark(servcmd: &str, body: &str, answer: &str) -> Option<(String, u64, Option<u64>)> {
        let document = Document::parse(body.as_bytes()).unwrap();
        let mark = Mark::of(servcmd, &ann(), document.root(), answer.as_bytes())?;
        let (Conversation::Group(group), MessageName::Seq(message)) = (mark.conversation, mark.message)
        else {
            panic!("it is a group's")
        };
        Some((group.to_string(), message.get(), mark.latest))
    }

    #[test]
    fn a_change_is_known_by_the_number_in_its_answer() {
        let sent = mark(SEND, r#"{"GroupId":"g"}"#, r#"{"ErrorCode":0,"MsgTime":1,"MsgSeq":7}"#);
        assert_eq!(sent, Some(("g".to_owned(), 7, None)));
        let one_of_two = r#"{"ErrorCode":0,"Seq":5,"ExtensionList":[{"ErrorCode":23001},{"ErrorCode":0}]}"#;
        let body = r#"{"GroupId":"g","MsgSeq":7,"OperateType":1}"#;
        assert_eq!(mark(SET, body, one_of_two), Some(("g".to_owned(), 7, Some(5))));
    }

    /// message-extensions.md section 5: a client empties its cache on the push, and not on the answer to its own clear.
    #[test]
    fn a_clear_is_told_to_whoever_made_it_too() {
        let clear = r#"{"GroupId":"g","MsgSeq":7,"OperateType":3}"#;
        let cleared = r#"{"ErrorCode":0,"Seq":6,"ExtensionList":[]}"#;
        assert_eq!(mark(SET, clear, cleared), None);
    }

    #[test]
    fn a_change_between_two_is_known_by_the_key_of_its_message() {
        let mark = |servcmd, body: &str, answer: &str| {
            let document = Document::parse(body.as_bytes()).unwrap();
            Mark::of(servcmd, &ann(), document.root(), answer.as_bytes())
        };
        let expected = |latest| Mark {
            conversation: Conversation::between(UserId::new("zoe").unwrap(), ann()),
            message: MessageName::Key(MsgKey { seq: 1, random: 2, time: 3 }),
            latest,
        };
        for body in [r#"{"To_Account":"zoe"}"#, r#"{"From_Account":"ann","To_Account":"zoe"}"#] {
            let sent = mark(DIRECT_SEND, body, r#"{"ErrorCode":0,"MsgTime":3,"MsgKey":"1_2_3"}"#);
            assert_eq!(sent, Some(expected(None)), "{body}");
        }
        let body = r#"{"From_Account":"zoe","To_Account":"ann","MsgKey":"1_2_3","OperateType":1}"#;
        let set = mark(DIRECT_SET, body, r#"{"ErrorCode":0,"Seq":6,"ExtensionList":[{"ErrorCode":0}]}"#);
        assert_eq!(set, Some(expected(Some(6))));
        assert_eq!(mark(DIRECT_SET, body, r#"{"ErrorCode":20003}"#), None);
    }

    fn sent(seq: u64) -> Event {
        let message = Message {
            sender: ann(),
            sender_tiny_id: TinyId::from_random(1),
            random: 1,
            client_time: 1,
            sent_at: Timestamp::from_secs(1),
            priority: Priority::Normal,
            supports_extension: true,
            imported: false,
            recalled: false,
        };
        let what = Happening::MessageSent { seq: MsgSeq::new(seq).unwrap(), message };
        let number = EventNumber::new(seq);
        Event { number, at: Timestamp::from_secs(1), operator: Operator::server(ann()), what }
    }

    /// A client that sends without a pause on a busy machine gets many answers before the first event comes.
    #[test]
    fn events_that_come_long_after_their_answers_are_still_known() {
        let group = Conversation::Group(GroupId::new("g").unwrap());
        let mut echoes = Echoes::default();
        for seq in 1..=80 {
            let answer = format!(r#"{{"ErrorCode":0,"MsgTime":1,"MsgSeq":{seq}}}"#);
            let body = Document::parse(br#"{"GroupId":"g"}"#).unwrap();
            echoes.expect(Mark::of(SEND, &ann(), body.root(), answer.as_bytes()).unwrap());
        }
        for seq in 1..=80 {
            assert!(echoes.takes(&group, &sent(seq)), "{seq} is its own");
            assert!(!echoes.takes(&group, &sent(seq)), "{seq} is its own once");
        }
    }

    #[test]
    fn what_was_refused_has_no_push_of_its_own() {
        let body = r#"{"GroupId":"g","MsgSeq":7,"OperateType":1}"#;
        let refused = r#"{"ErrorCode":0,"Seq":5,"ExtensionList":[{"ErrorCode":23001}]}"#;
        assert_eq!(mark(SET, body, refused), None);
        assert_eq!(mark(SET, body, r#"{"ErrorCode":10007}"#), None);
        // A message for those who are online has no number.
        assert_eq!(mark(SEND, r#"{"GroupId":"g"}"#, r#"{"ErrorCode":0,"MsgSeq":0}"#), None);
        let pulled = r#"{"ErrorCode":0,"ExtensionList":[],"LatestSeq":5}"#;
        assert_eq!(mark("openim_msg_ext_http_svc.group_get_key_values", body, pulled), None);
    }
}
