//! Messages for some members of a group only (`To_Account`, groups-and-messages.md section 4.1), and one-to-one messages
//! for their recipient only (`SyncOtherMachine`, section 6.1).

use sidenote_core::ids::UserId;
use sidenote_core::message::MessageBody;

use crate::wire::json::{Document, Value};

/// Whom a message of a group is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// It names nobody.
    All,
    /// Those whom it names.
    Some(Vec<String>),
}

impl Audience {
    /// Reads what the message says.
    pub(crate) fn of(body: &MessageBody) -> Self {
        // Hardly any message names anybody, and reading JSON for the others would be a waste.
        if !body.further.contains("\"To_Account\"") {
            return Self::All;
        }
        let nobody = Self::Some(Vec::new());
        let Ok(further) = Document::parse(body.further.as_bytes()) else { return nobody };
        let Some(names) = further.root().get("To_Account") else { return Self::All };
        let Some(names) = names.as_array() else { return nobody };
        if names.is_empty() {
            return Self::All;
        }
        Self::Some(names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// May this account read the message? Its sender may, too.
    pub(crate) fn includes(&self, sender: &UserId, user: &UserId) -> bool {
        match self {
            Self::All => true,
            Self::Some(names) => sender == user || names.iter().any(|name| name == user.as_str()),
        }
    }
}

/// Is the sender of a one-to-one message told of it too, on its connections? Not where `SyncOtherMachine` is 2.
pub(crate) fn is_for_its_sender(body: &MessageBody) -> bool {
    if !body.further.contains("\"SyncOtherMachine\"") {
        return true;
    }
    let Ok(further) = Document::parse(body.further.as_bytes()) else { return true };
    !matches!(further.root().optional_integer("SyncOtherMachine", 1..=2_u32), Ok(Some(2)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::user;

    #[test]
    fn a_sender_is_told_of_its_own_message_unless_it_says_otherwise() {
        for (further, is_told) in [
            ("", true),
            (r#"{"SyncOtherMachine":1}"#, true),
            (r#"{"SyncOtherMachine":2}"#, false),
            (r#"{"OfflinePushInfo":{"SyncOtherMachine":2}}"#, true),
        ] {
            let body = MessageBody { further: further.to_owned(), ..MessageBody::default() };
            assert_eq!(is_for_its_sender(&body), is_told, "{further}");
        }
    }

    #[test]
    fn a_message_with_names_is_for_these_and_its_sender() {
        let body = |further: &str| MessageBody { further: further.to_owned(), ..MessageBody::default() };
        for (further, ann, bob, eve) in [
            ("", true, true, true),
            (r#"{"GroupAtInfo":[]}"#, true, true, true),
            (r#"{"To_Account":["bob"]}"#, true, true, false),
            (r#"{"To_Account":["b\u006fb","cid"]}"#, true, true, false),
            (r#"{"To_Account":[]}"#, true, true, true),
            (r#"{"GroupAtInfo":[{"To_Account":1}]}"#, true, true, true),
            (r#"{"OfflinePushInfo":{"Ext":"\"To_Account\""},"To_Account":["eve"]}"#, true, false, true),
        ] {
            let reads = |name: &str| Audience::of(&body(further)).includes(&user("ann"), &user(name));
            assert_eq!((reads("ann"), reads("bob"), reads("eve")), (ann, bob, eve), "{further}");
        }
    }
}
