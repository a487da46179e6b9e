use proptest::prelude::*;
use sidenote_core::ids::Timestamp;
use sidenote_core::rows::{MessagePart, Part, RowKey, Span};
use sidenote_store::StoreError;
use sidenote_store_embedded::engine::{MAX_KEY_BYTES, RESERVED_PREFIX};
use sidenote_store_embedded::schema::{decode_key, encode_key, span_bounds};

use crate::arbitrary::{incarnation, key, message_name, time};
use crate::is_unreadable;

/// The spans that a key could belong to.
fn spans_around(key: &RowKey) -> Vec<Span> {
    match key {
        RowKey::Account(account) | RowKey::Membership(account, ..) => {
            vec![Span::Memberships(account.clone())]
        }
        RowKey::Within(of, part) => {
            let mut spans = vec![Span::Within(*of), Span::Members(*of), Span::Recent(*of), Span::Events(*of)];
            if let Part::Message(name, _) = part {
                spans.push(Span::Pairs(*of, *name));
            }
            spans
        }
        RowKey::Event(of, _) => vec![Span::Events(*of), Span::Within(*of)],
        RowKey::Debt(debt) => [debt.due.millis(), debt.due.millis().wrapping_sub(1), u64::MAX]
            .map(|by| Span::Debts(Timestamp::from_millis(by)))
            .into(),
        RowKey::Conversation(id) => vec![
            Span::Debts(Timestamp::from_millis(u64::MAX)),
            Span::Outboxes(id.app),
            Span::DeadLetters(id.app),
        ],
        RowKey::Outbox(id, of) | RowKey::DeadLetter(id, of, _) => vec![
            Span::Outboxes(id.app),
            Span::OutboxesOf(id.clone()),
            Span::DeadLetters(id.app),
            Span::DeadLettersOf(id.clone(), *of),
            Span::Debts(Timestamp::from_millis(u64::MAX)),
        ],
    }
}

fn lies_within(span: &Span, key: &RowKey) -> bool {
    let (start, end) = span_bounds(span);
    let bytes = encode_key(key);
    start <= bytes && bytes < end
}

proptest! {
    #[test]
    fn a_key_is_read_back(key in key()) {
        let bytes = encode_key(&key);
        prop_assert!(bytes.len() <= MAX_KEY_BYTES && bytes[0] != RESERVED_PREFIX);
        prop_assert_eq!(decode_key(&bytes), Ok(key));
    }

    #[test]
    fn bytes_sort_as_keys_do(one in key(), other in key()) {
        prop_assert_eq!(encode_key(&one).cmp(&encode_key(&other)), one.cmp(&other));
    }

    #[test]
    fn a_span_is_one_stretch_of_bytes(one in key(), other in key()) {
        for span in spans_around(&one).iter().chain(&spans_around(&other)) {
            for key in [&one, &other] {
                prop_assert_eq!(lies_within(span, key), span.contains(key), "{:?} in {:?}", key, span);
            }
        }
    }

    #[test]
    fn a_span_of_a_stranger_holds_nothing_of_this_message(
        of in incarnation(), name in message_name(), other in message_name(), by in time(), key in key(),
    ) {
        for span in [Span::Pairs(of, name), Span::Pairs(of, other), Span::Debts(by)] {
            prop_assert_eq!(lies_within(&span, &key), span.contains(&key));
        }
        let header = RowKey::Within(of, Part::Message(name, MessagePart::Header));
        prop_assert!(!lies_within(&Span::Pairs(of, name), &header));
        prop_assert!(lies_within(&Span::Within(of), &header));
    }

    #[test]
    fn any_bytes_are_a_key_or_unreadable(kind in 0..10_u8, mut bytes in any::<Vec<u8>>()) {
        bytes.insert(0, kind);
        match decode_key(&bytes) {
            Ok(key) => prop_assert_eq!(encode_key(&key), bytes),
            Err(error) => prop_assert!(is_unreadable(&error)),
        }
    }

    #[test]
    fn a_damaged_key_is_another_key_or_unreadable(key in key(), at in any::<usize>(), to in any::<u8>()) {
        let mut bytes = encode_key(&key);
        let at = at % bytes.len();
        bytes[at] = to;
        if let Ok(key) = decode_key(&bytes) {
            prop_assert_eq!(encode_key(&key), bytes.clone());
        }
        bytes.truncate(at);
        if let Ok(key) = decode_key(&bytes) {
            prop_assert_eq!(encode_key(&key), bytes);
        }
    }
}

#[test]
fn an_unreadable_key_names_its_kind() {
    let reason = |bytes: &[u8]| match decode_key(bytes) {
        Err(StoreError::Unreadable { reason }) => reason,
        other => panic!("{bytes:?} gave {other:?}"),
    };
    assert_eq!(reason(b""), "a key: it is empty");
    assert_eq!(reason(b"\x09x"), "a key: no kind of key has the number 9");
    assert_eq!(reason(b"\x05short"), "the key of an event: its bytes make no such key");
    assert_eq!(reason(b"\x01\0\0\0\x01\x01\0"), "the key of an account: its bytes make no such key");
}
