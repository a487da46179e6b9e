//! Messages for some members of a group only (`To_Account`, groups-and-messages.md section 4.1).

use sidenote_core::ids::UserId;
use sidenote_core::message::MessageBody;

use crate::wire::json::Document;

/// May this account read the message? Its sender may, and so may everybody if it names nobody.
pub(crate) fn is_meant_for(body: &MessageBody, sender: &UserId, user: &UserId) -> bool {
    // Hardly any message has them, and reading JSON for every receiver of the others would be a waste.
    if sender == user || !body.further.contains("\"To_Account\"") {
        return true;
    }
    let Ok(further) = Document::parse(body.further.as_bytes()) else { return false };
    let Some(names) = further.root().get("To_Account") else { return true };
    let Some(names) = names.as_array() else { return false };
    names.is_empty() || names.iter().any(|name| name.as_str() == Some(user.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::user;

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
            let reads = |name: &str| is_meant_for(&body(further), &user("ann"), &user(name));
            assert_eq!((reads("ann"), reads("bob"), reads("eve")), (ann, bob, eve), "{further}");
        }
    }
}
