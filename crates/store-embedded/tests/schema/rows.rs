use proptest::prelude::*;
use sidenote_core::extension::Key;
use sidenote_core::ids::{Incarnation, MessageName, MsgSeq};
use sidenote_core::rows::{MessagePart, Part, RowKey};
use sidenote_store::StoreError;
use sidenote_store_embedded::schema::{decode_row, encode_row};

use crate::arbitrary::{an_event, key_and_row};
use crate::is_unreadable;

proptest! {
    #[test]
    fn a_row_is_read_back((key, row) in key_and_row()) {
        prop_assert_eq!(decode_row(&key, &encode_row(&row)), Ok(row));
    }

    #[test]
    fn every_event_is_read_back((key, row) in an_event()) {
        prop_assert_eq!(decode_row(&key, &encode_row(&row)), Ok(row));
    }

    #[test]
    fn any_bytes_are_a_row_or_unreadable((key, _) in key_and_row(), bytes in any::<Vec<u8>>()) {
        if let Err(error) = decode_row(&key, &bytes) {
            prop_assert!(is_unreadable(&error));
        }
    }

    #[test]
    fn a_damaged_row_is_another_row_or_unreadable(
        (key, row) in key_and_row(), at in any::<usize>(), to in any::<u8>(),
    ) {
        let mut bytes = encode_row(&row);
        let at = at % bytes.len();
        bytes[at] = to;
        drop(decode_row(&key, &bytes));
        bytes.truncate(at);
        prop_assert!(decode_row(&key, &bytes).is_err_and(|error| is_unreadable(&error)));
    }

    #[test]
    fn bytes_behind_a_row_are_damage((key, row) in key_and_row()) {
        let mut bytes = encode_row(&row);
        bytes.push(0);
        prop_assert!(decode_row(&key, &bytes).is_err_and(|error| is_unreadable(&error)));
    }
}

#[test]
fn an_unreadable_row_names_its_kind() {
    let name = MessageName::Seq(MsgSeq::new(1).unwrap());
    let pair = MessagePart::Pair(Key::new("k").unwrap());
    let key = RowKey::Within(Incarnation::from_random(1), Part::Message(name, pair));
    let reason = |bytes: &[u8]| match decode_row(&key, bytes) {
        Err(StoreError::Unreadable { reason }) => reason,
        other => panic!("{bytes:?} gave {other:?}"),
    };
    assert!(reason(b"").starts_with("a pair: "));
    // An empty value, and a version that no pair can have.
    assert_eq!(reason(&[0x82, 0x60, 0x01]), "a pair: it holds a value that none can have");
    let beyond = [&[0x82, 0xf6, 0x1b][..], &u64::MAX.to_be_bytes()].concat();
    assert_eq!(reason(&beyond), "a pair: it holds a value that none can have");
}
