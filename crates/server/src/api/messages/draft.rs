//! A message on its way from a request to the store.

use sha2::{Digest, Sha256};
use sidenote_core::account::Account;
use sidenote_core::command::NewMessage;
use sidenote_core::ids::{Timestamp, UserId};
use sidenote_core::message::{Fingerprint, MessageBody, Priority};

use crate::api::Call;

/// A message that is sound in itself. Whether its sender exists has yet to be asked.
pub(super) struct Draft {
    pub(super) sender: UserId,
    pub(super) random: u32,
    /// When a client made it, Unix seconds; `None`: when the server takes it.
    pub(super) client_time: Option<u64>,
    /// When it was sent, for an import; `None`: now.
    pub(super) sent_at: Option<Timestamp>,
    pub(super) priority: Priority,
    pub(super) supports_extension: bool,
    pub(super) online_only: bool,
    pub(super) body: MessageBody,
}

impl Draft {
    /// The message, now that its sender was found.
    pub(super) fn by(self, call: &Call, sender: &Account) -> NewMessage {
        NewMessage {
            sender_tiny_id: sender.tiny_id,
            // On the long connection it is a member like the others (docs/decisions/0016-long-connection.md).
            sender_is_administrator: call.names_administrator(&self.sender) && !call.is_connected(),
            fingerprint: fingerprint(&self.sender, self.random.to_be_bytes(), &self.body.elements),
            sender: self.sender,
            random: self.random,
            client_time: self.client_time,
            sent_at: self.sent_at,
            priority: self.priority,
            supports_extension: self.supports_extension,
            online_only: self.online_only,
            body: self.body,
        }
    }
}

/// What makes two sends of one conversation the same one (groups-and-messages.md section 4.1): 128 bits of SHA-256
/// over the sender's length and name, the message's numbers and the body. Each part ends where the part before says
/// or has a fixed length, so no two messages run together to the same text.
pub(in crate::api) fn fingerprint<const N: usize>(
    sender: &UserId,
    numbers: [u8; N],
    elements: &str,
) -> Fingerprint {
    let name = sender.as_str().as_bytes();
    let length = u8::try_from(name.len()).expect("a UserID has at most 32 bytes");
    let hash = Sha256::new()
        .chain_update([length])
        .chain_update(name)
        .chain_update(numbers)
        .chain_update(elements)
        .finalize();
    let mut fingerprint = [0; 16];
    fingerprint.copy_from_slice(&hash[..16]);
    Fingerprint(fingerprint)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::testing::user;

    #[test]
    fn a_fingerprint_tells_sender_random_number_and_body_apart() {
        let sends = [
            ("ann", 1, "[{}]"),
            ("ann", 2, "[{}]"),
            ("bob", 1, "[{}]"),
            ("ann", 1, "[{} ]"),
            // The same bytes in a row, cut at other places.
            ("a", u32::from_be_bytes(*b"bcde"), "fghij"),
            ("ab", u32::from_be_bytes(*b"cdef"), "ghij"),
            ("abc", u32::from_be_bytes(*b"defg"), "hij"),
        ];
        let of = |(sender, random, elements): (&str, u32, &str)| {
            fingerprint(&user(sender), random.to_be_bytes(), elements)
        };
        let all: BTreeSet<_> = sends.into_iter().map(of).collect();
        assert_eq!(all.len(), sends.len());
        assert_eq!(of(sends[0]), of(sends[0]));
    }
}
